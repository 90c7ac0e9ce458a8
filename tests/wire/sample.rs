//! Wires to be read, as they are written and as nobody should write them.

use vfiomig::dialect::DialectKind;
use vfiomig::error::{Error, Result};
use vfiomig::wire::{DeviceEntry, HEADER_LEN, Input, Output, PREAMBLE_LEN, Table, WireOptions, WireRecord, Word};

/// A record with its own bytes, without the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    Table(Table),
    Data(usize, u64, Vec<u8>, bool),
    End(usize, u64),
    Void(usize, u64),
    Vmm(Option<usize>, u64, Vec<u8>),
    Finish,
}

pub fn entry(name: &str, dialect: DialectKind, words: &[(&str, &str)]) -> DeviceEntry {
    let word = |(key, value): &(&str, &str)| Word { key: (*key).into(), value: (*value).into() };
    DeviceEntry { words: words.iter().map(word).collect(), ..DeviceEntry::new(name, dialect) }
}

pub fn table() -> Table {
    Table::new(vec![
        entry("nic0", DialectKind::V2, &[("vendor", "8086")]),
        entry("gpu0", DialectKind::V1, &[("vendor", "10de"), ("firmware", "2.1")]),
    ])
    .unwrap()
}

/// Everything that a channel can have.
pub fn small() -> Vec<u8> {
    let options = WireOptions { wire: 0x1122_3344_5566_7788, ..WireOptions::default() };
    let mut out = Output::new(Vec::new(), options, table()).unwrap();
    out.vmm(None, 7, b"ram").unwrap();
    out.data(1, b"seg", false).unwrap();
    out.data(0, b"old", false).unwrap();
    out.void(0).unwrap();
    out.data(1, b"ment", true).unwrap();
    out.data(0, b"state", false).unwrap();
    out.vmm(Some(1), 8, b"").unwrap();
    out.end(1).unwrap();
    out.end(0).unwrap();
    out.finish().unwrap();
    out.into_inner()
}

pub fn keep(record: WireRecord<'_>, table: Option<&Table>) -> Kept {
    match record {
        WireRecord::Table => Kept::Table(table.unwrap().clone()),
        WireRecord::Data { device, position, bytes, segment_end } => {
            Kept::Data(device, position, bytes.to_vec(), segment_end)
        }
        WireRecord::End { device, total } => Kept::End(device, total),
        WireRecord::Void { device, bytes } => Kept::Void(device, bytes),
        WireRecord::Vmm { device, kind, bytes } => Kept::Vmm(device, kind, bytes.to_vec()),
        WireRecord::Finish => Kept::Finish,
    }
}

/// What came before an error, or all of it.
pub fn read(bytes: &[u8]) -> (Vec<Kept>, Option<Error>) {
    read_from(&mut Input::new(bytes))
}

pub fn read_from<R: std::io::Read>(input: &mut Input<R>) -> (Vec<Kept>, Option<Error>) {
    let mut kept = Vec::new();
    loop {
        // Twice: the first borrow ends with the record.
        let plain = input.next().map(|record| keep(record, Some(&Table::new(vec![]).unwrap())));
        match plain {
            Ok(Kept::Table(_)) => kept.push(Kept::Table(input.table().unwrap().clone())),
            Ok(Kept::Finish) => {
                kept.push(Kept::Finish);
                return (kept, None);
            }
            Ok(record) => kept.push(record),
            Err(error) => return (kept, Some(error)),
        }
    }
}

pub fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// A header as docs/wire.md has it, by hand.
#[derive(Clone, Copy)]
pub struct Raw {
    pub kind: u16,
    pub flags: u16,
    pub device: u32,
    pub number: u64,
    pub position: u64,
}

impl Raw {
    pub fn of(kind: u16, number: u64) -> Raw {
        Raw { kind, flags: 0, device: u32::MAX, number, position: 0 }
    }

    pub fn record(self, payload: &[u8]) -> Vec<u8> {
        self.sized(payload.len() as u32, payload)
    }

    /// With any length.
    pub fn sized(self, len: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.device.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(crc(payload).to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.position.to_le_bytes());
        bytes.extend(crc(&bytes).to_le_bytes());
        assert_eq!(bytes.len(), HEADER_LEN);
        bytes.extend(payload);
        bytes
    }
}

/// A preamble with any features.
pub fn preamble(version: u16, channels: u16, channel: u16, required: u64, optional: u64, names: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x89VFIOW\r\n".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(channel.to_le_bytes());
    bytes.extend((names.len() as u16).to_le_bytes());
    bytes.extend(required.to_le_bytes());
    bytes.extend(optional.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(crc(names).to_le_bytes());
    bytes.extend(crc(&bytes).to_le_bytes());
    assert_eq!(bytes.len(), PREAMBLE_LEN);
    bytes.extend(names);
    bytes
}

/// The beginning of a wire with these devices.
pub fn beginning(table: Table) -> Vec<u8> {
    let mut out = Output::new(Vec::new(), WireOptions::default(), table).unwrap();
    out.flush().unwrap();
    out.into_inner()
}

/// Key and value.
pub type RawWord<'a> = (&'a [u8], &'a [u8]);
/// Channel, dialect, name, words.
pub type RawDevice<'a> = (u16, u8, &'a [u8], &'a [RawWord<'a>]);

/// A payload of a table, by hand.
pub fn table_payload(devices: &[RawDevice<'_>]) -> Vec<u8> {
    let mut bytes = (devices.len() as u32).to_le_bytes().to_vec();
    for (channel, dialect, name, words) in devices {
        bytes.extend(channel.to_le_bytes());
        bytes.extend([*dialect, words.len() as u8, name.len() as u8]);
        bytes.extend(*name);
        for (key, value) in *words {
            bytes.push(key.len() as u8);
            bytes.extend(*key);
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(*value);
        }
    }
    bytes
}

pub fn refusal(bytes: &[u8]) -> Error {
    read(bytes).1.unwrap()
}

pub fn said<T>(result: Result<T>) -> String {
    result.map(drop).unwrap_err().to_string()
}
