//! The bytes of one channel, judged in order (docs/wire.md). Pure: the caller reads them, and never more than are asked for.

use super::checks::{check_features, check_header, check_later, check_preamble, check_row, refuse_later};
use super::fault::WireFault;
use super::frame::{HEADER_LEN, Header, Kind, NO_DEVICE, PREAMBLE_LEN, Preamble, SEGMENT_END, crc};
use super::ledger::Ledger;
use super::table::Table;
use crate::error::{Error, Result};

/// What a channel brings. Devices are numbers of the [`Table`].
///
/// Example: [`Input`](super::Input).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireRecord<'a> {
    /// The devices, before everything else: [`Reader::table`] has them.
    Table,
    /// The next bytes of a device's stream.
    Data {
        /// The number of the device.
        device: usize,
        /// How many bytes of the stream came before these.
        position: u64,
        /// At least one byte.
        bytes: &'a [u8],
        /// A segment ends with these bytes (v1, draft).
        segment_end: bool,
    },
    /// A device's stream is whole.
    End {
        /// The number of the device.
        device: usize,
        /// The length of the stream.
        total: u64,
    },
    /// A device's stream begins anew: what came of it is thrown away.
    Void {
        /// The number of the device.
        device: usize,
        /// How many bytes are thrown away.
        bytes: u64,
    },
    /// A record of the VMM.
    Vmm {
        /// The device that it belongs to, if it belongs to one.
        device: Option<usize>,
        /// The VMM's own number for the kind of record.
        kind: u64,
        /// What the VMM wrote; it may be empty.
        bytes: &'a [u8],
    },
    /// The channel is whole, and nothing more of it follows.
    Finish,
}

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Preamble,
    Names,
    Header,
    Payload(Header),
    Finished,
}

/// A record whose payload was judged, without the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Table,
    Data { device: usize, position: u64, segment_end: bool },
    End { device: usize, total: u64 },
    Void { device: usize, bytes: u64 },
    Vmm { device: Option<usize>, kind: u64 },
    Finish,
}

/// Judges the bytes of one channel. [`Input`](super::Input) reads them, too.
///
/// It needs memory for one payload and the table, whatever it is given. Behind an error each call gives the same one again.
///
/// ```
/// use vfiomig::dialect::DialectKind;
/// use vfiomig::wire::{DeviceEntry, PREAMBLE_LEN, Reader, WireRecord, Table, WireOptions, Writer};
///
/// let table = Table::new(vec![])?;
/// let mut writer = Writer::new(WireOptions::default(), table)?;
/// let mut wire = writer.beginning();
/// wire.extend(writer.vmm(None, 7, b"ram")?);
/// wire.extend(b"ram");
///
/// let mut reader = Reader::new();
/// let mut rest = &wire[..];
/// while !rest.is_empty() {
///     let place = reader.place();
///     let len = place.len().min(rest.len());
///     place[..len].copy_from_slice(&rest[..len]);
///     rest = &rest[len..];
///     if let Some(record) = reader.filled(len)? {
///         println!("{record:?}");
///     }
/// }
/// // The wire was cut: there is no FINISH.
/// assert!(reader.ended().is_err());
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    stage: Stage,
    buf: Vec<u8>,
    /// How many bytes of `buf` have come.
    have: usize,
    /// How many bytes of `buf` the next step needs.
    want: usize,
    /// The record that came last, and how many bytes its payload has.
    last: Option<Judged>,
    shown: usize,
    /// Where in the channel the first byte of the buffer was.
    offset: u64,
    preamble: Preamble,
    table: Option<(Table, Ledger)>,
    number: u64,
    failed: Option<Error>,
}

impl Default for Reader {
    fn default() -> Self {
        Reader::new()
    }
}

impl Reader {
    /// A reader for a channel of which nothing was read yet.
    pub fn new() -> Reader {
        Reader {
            stage: Stage::Preamble,
            buf: vec![0; PREAMBLE_LEN],
            have: 0,
            want: PREAMBLE_LEN,
            last: None,
            shown: 0,
            offset: 0,
            preamble: Preamble { channels: 0, channel: 0, names_len: 0, required: 0, wire: 0, names_crc: 0 },
            table: None,
            number: 0,
            failed: None,
        }
    }

    /// The buffer for the next bytes. It is empty where nothing more is to be read: behind FINISH, and after an error.
    pub fn place(&mut self) -> &mut [u8] {
        if self.stage == Stage::Finished || self.failed.is_some() {
            return &mut [];
        }
        self.buf.get_mut(self.have..self.want).unwrap_or_default()
    }

    /// Judges `len` more bytes, which are in [`place`](Self::place). `None`: more are needed.
    pub fn filled(&mut self, len: usize) -> Result<Option<WireRecord<'_>>> {
        if self.filled_one(len)? { self.record().map(Some) } else { Ok(None) }
    }

    /// As [`filled`](Self::filled). Whether [`record`](Self::record) has another record now.
    pub(super) fn filled_one(&mut self, len: usize) -> Result<bool> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.stage == Stage::Finished {
            return Ok(true);
        }
        let have = self.have.checked_add(len).filter(|have| *have <= self.want);
        let Some(have) = have else {
            return Err(Error::argument(format!("wire: {len} bytes, more than were asked for")));
        };
        self.have = have;
        if self.have < self.want {
            return Ok(false);
        }
        let stepped = self.step();
        let judged = stepped.map_err(|fault| {
            let error = fault.at(self.here());
            self.failed = Some(error.clone());
            error
        })?;
        self.last = judged.or(self.last);
        Ok(judged.is_some())
    }

    /// The record that came last, again. Refused (ORDER) if none has come.
    pub fn record(&self) -> Result<WireRecord<'_>> {
        match (&self.failed, self.last) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(judged)) => Ok(self.shown(judged)),
            (None, None) => Err(Error::order("wire: no record has come")),
        }
    }

    /// Says that the channel has no more bytes. Refused (INCOMPLETE) unless it is whole.
    pub fn ended(&mut self) -> Result<()> {
        match (&self.failed, self.stage) {
            (Some(error), _) => Err(error.clone()),
            (None, Stage::Finished) => Ok(()),
            (None, _) => {
                let (have, want, missing) = (self.have, self.want, self.missing());
                let text =
                    format!("{}: the wire was cut: {have} of {want} bytes came; missing: {missing}", self.here());
                let error = Error::incomplete(text);
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Whether the channel had its FINISH.
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    /// The devices; `None` until they came.
    pub fn table(&self) -> Option<&Table> {
        self.table.as_ref().map(|(table, _)| table)
    }

    /// Which channel it is, of how many, and the number of the wire; `None` until the table came.
    pub fn channel(&self) -> Option<(u16, u16, u64)> {
        let Preamble { channel, channels, wire, .. } = self.preamble;
        self.table.is_some().then_some((channel, channels, wire))
    }

    /// How many bytes of the channel have come.
    pub fn offset(&self) -> u64 {
        self.offset.saturating_add(self.have as u64)
    }

    /// Bytes that the reader keeps for what comes.
    #[doc(hidden)]
    pub fn memory(&self) -> usize {
        self.buf.len()
    }

    /// Where the channel stands, for a text.
    pub fn here(&self) -> String {
        let at = self.offset;
        match self.stage {
            Stage::Preamble | Stage::Names => format!("wire: preamble at offset {at}"),
            Stage::Header => self.at_record(at, ""),
            Stage::Payload(header) => {
                let name = Kind::row_of(header.kind).map_or("of a later version", |row| row.name);
                let device = self.table().and_then(|table| table.devices().get(header.device as usize));
                let of = device.map_or(String::new(), |device| format!(" of {}", device.label()));
                self.at_record(at.saturating_sub(HEADER_LEN as u64), &format!(" ({name}{of})"))
            }
            Stage::Finished => self.at_record(at, " (behind FINISH)"),
        }
    }

    fn at_record(&self, offset: u64, what: &str) -> String {
        format!("wire: channel {}: record {} at offset {offset}{what}", self.preamble.channel, self.number)
    }

    fn missing(&self) -> String {
        let Some((table, ledger)) = &self.table else { return "the table of devices".to_string() };
        match ledger.missing(table) {
            none if none.is_empty() => "FINISH".to_string(),
            ends => format!("{ends}, FINISH"),
        }
    }

    /// Judges what was asked for, once all of it has come.
    fn step(&mut self) -> std::result::Result<Option<Judged>, WireFault> {
        match self.stage {
            Stage::Preamble => {
                let preamble = Preamble::decode(self.bytes());
                check_preamble(self.bytes(), preamble)?;
                self.preamble = preamble;
                self.next(Stage::Names, usize::from(preamble.names_len));
                if preamble.names_len == 0 { self.step() } else { Ok(None) }
            }
            Stage::Names => {
                check_features(self.preamble, self.bytes())?;
                self.next(Stage::Header, HEADER_LEN);
                Ok(None)
            }
            Stage::Header => {
                let header = Header::decode(self.bytes());
                check_header(self.bytes(), header, self.number)?;
                let len = header.len as usize;
                self.next(Stage::Payload(header), len);
                self.check_record(header)?;
                if len == 0 { self.step() } else { Ok(None) }
            }
            Stage::Payload(header) => {
                let found = crc(self.bytes());
                if found != header.payload_crc {
                    return Err(WireFault::checksum("the payload", (header.payload_crc, found)));
                }
                let judged = self.judge(header)?;
                let len = header.len as usize;
                self.number = self.number.saturating_add(1);
                self.next(if judged == Some(Judged::Finish) { Stage::Finished } else { Stage::Header }, HEADER_LEN);
                // The payload is in the buffer until the next bytes come.
                self.shown = len;
                Ok(judged)
            }
            Stage::Finished => Ok(Some(Judged::Finish)),
        }
    }

    fn bytes(&self) -> &[u8] {
        self.buf.get(..self.have).unwrap_or_default()
    }

    fn next(&mut self, stage: Stage, want: usize) {
        self.offset = self.offset.saturating_add(self.have as u64);
        (self.stage, self.have, self.want) = (stage, 0, want);
        self.grow();
    }

    fn grow(&mut self) {
        if self.buf.len() < self.want {
            self.buf.resize(self.want, 0);
        }
    }

    /// Checks what is known of a record before its payload has come.
    fn check_record(&mut self, header: Header) -> std::result::Result<(), WireFault> {
        let row = Kind::row_of(header.kind);
        if row.is_some_and(|row| row.kind == Kind::Table) != (self.number == 0) {
            let wanted = if self.number == 0 { "TABLE, for it is the first" } else { "any but TABLE" };
            let found = row.map_or_else(|| header.kind.to_string(), |row| row.name.to_string());
            return Err(WireFault::differs("type of the record", wanted, found));
        }
        let Some(row) = row else { return check_later(header) };
        check_row(row, header)?;
        let Some((table, ledger)) = &mut self.table else { return Ok(()) };
        let (device, count) = (header.device as usize, table.devices().len());
        if header.device != NO_DEVICE && device >= count {
            return Err(WireFault::format(format!("device {device} of a table of {count}")));
        }
        if row.kind == Kind::Data {
            ledger.check_data(device, header.position, header.len as usize, header.flags & SEGMENT_END != 0)?;
        }
        Ok(())
    }

    /// Judges a record whose payload has come, with the right checksum.
    fn judge(&mut self, header: Header) -> std::result::Result<Option<Judged>, WireFault> {
        let Some(row) = Kind::row_of(header.kind) else {
            return refuse_later(header, self.bytes()).map(|()| None);
        };
        if row.kind == Kind::Table {
            let table = Table::decode(self.bytes())?;
            table.check_channels(self.preamble.channels)?;
            let ledger = Ledger::new(&table, self.preamble.channel);
            self.table = Some((table, ledger));
            return Ok(Some(Judged::Table));
        }
        if row.kind == Kind::Fail {
            let text = String::from_utf8_lossy(self.bytes());
            return Err(WireFault::given_up(&text.escape_debug().to_string()));
        }
        let Some((table, ledger)) = &mut self.table else {
            return Err(WireFault::format("a record before the TABLE"));
        };
        let (device, position) = (header.device as usize, header.position);
        let judged = match row.kind {
            Kind::Data => {
                let segment_end = header.flags & SEGMENT_END != 0;
                let after = ledger.check_data(device, position, header.len as usize, segment_end)?;
                ledger.data(device, after, segment_end);
                Judged::Data { device, position, segment_end }
            }
            Kind::End => {
                ledger.end(device, position)?;
                Judged::End { device, total: position }
            }
            Kind::Void => {
                ledger.void(device, position)?;
                Judged::Void { device, bytes: position }
            }
            Kind::Vmm => {
                let device = (header.device != NO_DEVICE).then_some(device);
                Judged::Vmm { device, kind: position }
            }
            Kind::Finish => {
                let count = ledger.check_finished(table)?;
                if count != position {
                    return Err(WireFault::differs("number of devices of the channel", count, position));
                }
                Judged::Finish
            }
            Kind::Table | Kind::Fail => return Err(WireFault::format("a record that is judged elsewhere")),
        };
        Ok(Some(judged))
    }

    /// The record, with its bytes from the buffer.
    fn shown(&self, judged: Judged) -> WireRecord<'_> {
        let bytes = self.buf.get(..self.shown).unwrap_or_default();
        match judged {
            Judged::Table => WireRecord::Table,
            Judged::Data { device, position, segment_end } => WireRecord::Data { device, position, bytes, segment_end },
            Judged::End { device, total } => WireRecord::End { device, total },
            Judged::Void { device, bytes } => WireRecord::Void { device, bytes },
            Judged::Vmm { device, kind } => WireRecord::Vmm { device, kind, bytes },
            Judged::Finish => WireRecord::Finish,
        }
    }
}
