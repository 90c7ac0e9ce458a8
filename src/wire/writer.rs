//! The bytes of one channel, made in order (docs/wire.md). Pure: the caller writes them. A call that is refused changes nothing.

use super::fault::WireFault;
use super::frame::{
    HEADER_LEN, Header, Kind, MAX_CHANNELS, MAX_PAYLOAD, MAX_TEXT, NO_DEVICE, Preamble, SEGMENT_END, crc,
};
use super::ledger::Ledger;
use super::table::Table;
use crate::error::{Error, Result};

/// Which channel of which wire is written.
///
/// ```
/// use vfiomig::dialect::DialectKind;
/// use vfiomig::wire::{DeviceEntry, Output, Table, WireOptions};
///
/// // Two devices, each with a channel of its own.
/// let entry = |name, channel| DeviceEntry { channel, ..DeviceEntry::new(name, DialectKind::V2) };
/// let table = Table::new(vec![entry("nic0", 0), entry("gpu0", 1)])?;
/// let options = WireOptions { channels: 2, wire: 0x0123_4567_89ab_cdef, ..WireOptions::default() };
/// let first = Output::new(Vec::new(), options, table.clone())?;
/// let second = Output::new(Vec::new(), WireOptions { channel: 1, ..options }, table)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireOptions {
    /// This channel, from 0.
    pub channel: u16,
    /// How many channels the wire has, 1 to 64.
    pub channels: u16,
    /// A number that no other wire has, the same in all channels of this one, so that channels are not exchanged.
    pub wire: u64,
}

impl Default for WireOptions {
    /// The only channel of wire 0.
    fn default() -> Self {
        WireOptions { channel: 0, channels: 1, wire: 0 }
    }
}

/// Makes the bytes of one channel. [`Output`](super::Output) writes them, too.
///
/// Each method of a record gives its header, behind which the caller writes the payload as it is.
///
/// ```
/// use vfiomig::dialect::DialectKind;
/// use vfiomig::wire::{DeviceEntry, Table, WireOptions, Writer};
///
/// let table = Table::new(vec![DeviceEntry::new("nic0", DialectKind::V2)])?;
/// let mut writer = Writer::new(WireOptions::default(), table)?;
/// let mut wire = writer.beginning();
/// for part in [&b"sta"[..], &b"te"[..]] {
///     wire.extend(writer.data(0, part, false)?);
///     wire.extend(part);
/// }
/// wire.extend(writer.end(0)?);
/// wire.extend(writer.finish()?);
/// assert!(writer.data(0, b"more", false).is_err());
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    options: WireOptions,
    table: Table,
    ledger: Ledger,
    number: u64,
    /// FINISH or FAIL was made.
    over: bool,
}

impl Writer {
    /// Refused (ARGUMENT) if the wire has no such channel, or if the table has a device in a channel that the wire does not have.
    pub fn new(options: WireOptions, table: Table) -> Result<Writer> {
        let WireOptions { channel, channels, .. } = options;
        if !(1..=MAX_CHANNELS).contains(&channels) || channel >= channels {
            return Err(Error::argument(format!("channel {channel} of {channels}: a wire has 1 to {MAX_CHANNELS}")));
        }
        let of_caller = |fault: WireFault| Error::argument(fault.at("table of the wire").to_string());
        table.check_channels(channels).map_err(of_caller)?;
        let ledger = Ledger::new(&table, channel);
        // The TABLE is record 0.
        Ok(Writer { options, table, ledger, number: 1, over: false })
    }

    /// The devices, in the order of their numbers.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Which channel of which wire this is.
    pub fn options(&self) -> WireOptions {
        self.options
    }

    /// Bytes of a device's stream so far.
    pub fn position(&self, device: usize) -> u64 {
        self.ledger.position(device)
    }

    /// The preamble and the TABLE, which come before everything else, once.
    pub fn beginning(&self) -> Vec<u8> {
        let WireOptions { channel, channels, wire } = self.options;
        let payload = self.table.encode();
        let mut bytes = Preamble { channels, channel, names_len: 0, required: 0, wire, names_crc: 0 }.encode();
        let header = Header {
            kind: Kind::Table as u16,
            flags: 0,
            device: NO_DEVICE,
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload_crc: crc(&payload),
            number: 0,
            position: 0,
        };
        bytes.extend(header.encode());
        bytes.extend(payload);
        bytes
    }

    /// The next bytes of a device's stream: 1 byte to [`MAX_PAYLOAD`]. `segment_end`: a segment ends with them (v1, draft).
    pub fn data(&mut self, device: usize, bytes: &[u8], segment_end: bool) -> Result<[u8; HEADER_LEN]> {
        self.check(Kind::Data, Some(device), bytes, (1, MAX_PAYLOAD))?;
        let position = self.ledger.position(device);
        let after = self.ledger.check_data(device, position, bytes.len(), segment_end);
        let after = after.map_err(|fault| fault.of_caller(self.place(Kind::Data, Some(device))))?;
        self.ledger.data(device, after, segment_end);
        let flags = if segment_end { SEGMENT_END } else { 0 };
        Ok(self.header(Kind::Data, flags, Some(device), bytes, position))
    }

    /// A device's stream is whole.
    pub fn end(&mut self, device: usize) -> Result<[u8; HEADER_LEN]> {
        self.check(Kind::End, Some(device), &[], (0, 0))?;
        let total = self.ledger.position(device);
        let ended = self.ledger.end(device, total);
        ended.map_err(|fault| fault.of_caller(self.place(Kind::End, Some(device))))?;
        Ok(self.header(Kind::End, 0, Some(device), &[], total))
    }

    /// What was written of a device's stream is thrown away, also its END: it begins anew.
    pub fn void(&mut self, device: usize) -> Result<[u8; HEADER_LEN]> {
        self.check(Kind::Void, Some(device), &[], (0, 0))?;
        let position = self.ledger.position(device);
        let voided = self.ledger.void(device, position);
        voided.map_err(|fault| fault.of_caller(self.place(Kind::Void, Some(device))))?;
        Ok(self.header(Kind::Void, 0, Some(device), &[], position))
    }

    /// A record of the VMM, of a device or of none: at most [`MAX_PAYLOAD`] bytes. `kind` is the VMM's own number.
    pub fn vmm(&mut self, device: Option<usize>, kind: u64, bytes: &[u8]) -> Result<[u8; HEADER_LEN]> {
        self.check(Kind::Vmm, device, bytes, (0, MAX_PAYLOAD))?;
        Ok(self.header(Kind::Vmm, 0, device, bytes, kind))
    }

    /// The channel is whole; nothing follows. Refused (ORDER) before the END of each of its devices.
    pub fn finish(&mut self) -> Result<[u8; HEADER_LEN]> {
        self.check(Kind::Finish, None, &[], (0, 0))?;
        let count = self.ledger.check_finished(&self.table);
        let count = count.map_err(|fault| fault.of_caller(self.place(Kind::Finish, None)))?;
        self.over = true;
        Ok(self.header(Kind::Finish, 0, None, &[], count))
    }

    /// The source side gives up; nothing follows. The text, of which 1024 bytes are kept, comes behind the header.
    pub fn fail<'a>(&mut self, text: &'a str) -> Result<([u8; HEADER_LEN], &'a [u8])> {
        let text = text.get(..text.floor_char_boundary_at(MAX_TEXT)).unwrap_or_default().as_bytes();
        self.check(Kind::Fail, None, text, (0, MAX_TEXT))?;
        self.over = true;
        Ok((self.header(Kind::Fail, 0, None, text, 0), text))
    }

    fn place(&self, kind: Kind, device: Option<usize>) -> String {
        let name = Kind::row_of(kind as u16).map_or("?", |row| row.name);
        let of = device.and_then(|device| self.table.devices().get(device));
        let of = of.map_or(String::new(), |device| format!(" of {}", device.label()));
        format!("wire: channel {}: {name}{of}", self.options.channel)
    }

    fn check(&self, kind: Kind, device: Option<usize>, bytes: &[u8], (least, most): (usize, usize)) -> Result<()> {
        let place = || self.place(kind, device);
        let count = self.table.devices().len();
        if let Some(device) = device.filter(|device| *device >= count) {
            return Err(Error::argument(format!("{}: device {device} of a table of {count}", place())));
        }
        if !(least..=most).contains(&bytes.len()) {
            let len = super::fault::bytes(bytes.len());
            return Err(Error::argument(format!("{}: a payload of {len}, not {least} to {most}", place())));
        }
        if self.over { Err(Error::order(format!("{}: the channel has had its last record", place()))) } else { Ok(()) }
    }

    fn header(
        &mut self,
        kind: Kind,
        flags: u16,
        device: Option<usize>,
        payload: &[u8],
        position: u64,
    ) -> [u8; HEADER_LEN] {
        let number = self.number;
        // No machine lives to see 2^64 records.
        self.number = self.number.saturating_add(1);
        let device = device.and_then(|device| u32::try_from(device).ok()).unwrap_or(NO_DEVICE);
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Header { kind: kind as u16, flags, device, len, payload_crc: crc(payload), number, position }.encode()
    }
}

trait CharBoundary {
    /// The last boundary of a character at or before `most`.
    fn floor_char_boundary_at(&self, most: usize) -> usize;
}

impl CharBoundary for str {
    fn floor_char_boundary_at(&self, most: usize) -> usize {
        (0..=most.min(self.len())).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0)
    }
}
