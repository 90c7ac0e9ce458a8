//! A channel of a wire: what the writer makes comes back; whatever else comes is refused or is what the format says, with bounded memory
//! and the same in pieces of any size.

use crate::feed::Feed;
use vfiomig::dialect::DialectKind;
use vfiomig::error::{Error, ErrorKind};
use vfiomig::wire::{
    DeviceEntry, HEADER_LEN, MAX_PAYLOAD, PREAMBLE_LEN, Reader, Table, WireOptions, WireRecord, Word, Writer,
};

/// A record with its own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Table(Table),
    Data(usize, u64, Vec<u8>, bool),
    End(usize, u64),
    Void(usize, u64),
    Vmm(Option<usize>, u64, Vec<u8>),
    Finish,
}

fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    }) ^ !0
}

fn table(f: &mut Feed, channels: u16) -> Table {
    let count = 1 + f.below(3);
    let kinds = [DialectKind::V2, DialectKind::V1, DialectKind::Draft];
    let entry = |i: usize| DeviceEntry {
        channel: f.u16() % channels,
        words: (0..f.below(3)).map(|n| Word { key: format!("k{n}"), value: "v".repeat(f.below(5)) }).collect(),
        ..DeviceEntry::new(format!("d{i}"), kinds[f.below(3)])
    };
    Table::new((0..count).map(entry).collect()).unwrap()
}

/// A record with right checksums and, mostly, the right number, whatever else it says.
fn crafted(f: &mut Feed, number: u64) -> Vec<u8> {
    let kind = if f.lies() { f.u16() } else { [2, 3, 4, 5, 6, 7, 1, 64, 0x8040][f.below(9)] };
    let len = f.below(40);
    let payload = f.bytes(len);
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend(if f.lies() { f.u16() } else { f.u16() & 1 }.to_le_bytes());
    bytes.extend(if f.bool() { u32::MAX } else { f.below(4) as u32 }.to_le_bytes());
    bytes.extend(if f.lies() { f.u32() } else { payload.len() as u32 }.to_le_bytes());
    bytes.extend(crc(&payload).to_le_bytes());
    bytes.extend(if f.lies() { f.size() } else { number }.to_le_bytes());
    bytes.extend(if f.bool() { f.size() } else { f.below(64) as u64 }.to_le_bytes());
    bytes.extend(crc(&bytes).to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// One call on the writer: the bytes, and the record that they are.
fn written(f: &mut Feed, writer: &mut Writer, sums: &mut [u64]) -> Option<(Vec<u8>, Kept)> {
    let device = f.below(sums.len());
    let op = f.below(8);
    let len = f.below(30);
    let payload = f.bytes(len);
    let (header, payload, kept) = match op {
        0..=2 => {
            let segment_end = f.bool();
            let header = writer.data(device, &payload, segment_end).ok()?;
            let at = sums[device];
            sums[device] += payload.len() as u64;
            (header, payload.clone(), Kept::Data(device, at, payload, segment_end))
        }
        3 | 4 => (writer.end(device).ok()?, vec![], Kept::End(device, sums[device])),
        5 => {
            let header = writer.void(device).ok()?;
            (header, vec![], Kept::Void(device, std::mem::take(&mut sums[device])))
        }
        6 => {
            let of = f.bool().then_some(device);
            let kind = f.size();
            (writer.vmm(of, kind, &payload).ok()?, payload.clone(), Kept::Vmm(of, kind, payload))
        }
        _ => (writer.finish().ok()?, vec![], Kept::Finish),
    };
    Some(([&header[..], &payload].concat(), kept))
}

fn keep(record: WireRecord<'_>) -> Kept {
    match record {
        // The table is looked at apart: it is the reader's.
        WireRecord::Table => Kept::Finish,
        WireRecord::Data { device, position, bytes, segment_end } => {
            Kept::Data(device, position, bytes.to_vec(), segment_end)
        }
        WireRecord::End { device, total } => Kept::End(device, total),
        WireRecord::Void { device, bytes } => Kept::Void(device, bytes),
        WireRecord::Vmm { device, kind, bytes } => Kept::Vmm(device, kind, bytes.to_vec()),
        WireRecord::Finish => Kept::Finish,
    }
}

/// What a reader says that gets the bytes in pieces of `piece`.
fn read(bytes: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<Kept>, Result<usize, Error>) {
    let (mut reader, mut rest, mut records) = (Reader::new(), bytes, Vec::new());
    loop {
        let place = reader.place();
        assert!(place.len() <= MAX_PAYLOAD.max(PREAMBLE_LEN).max(HEADER_LEN));
        if place.is_empty() {
            assert!(reader.is_finished() && records.last() == Some(&Kept::Finish));
            return (records, Ok(rest.len()));
        }
        let len = place.len().min(piece().max(1)).min(rest.len());
        if len == 0 {
            let error = reader.ended().unwrap_err();
            assert!(error.kind() == ErrorKind::Incomplete && reader.place().is_empty());
            return (records, Err(error));
        }
        let (now, later) = rest.split_at(len);
        place[..len].copy_from_slice(now);
        rest = later;
        match reader.filled(len) {
            Ok(None) => {}
            Ok(Some(WireRecord::Table)) => records.push(Kept::Table(reader.table().unwrap().clone())),
            Ok(Some(record)) => records.push(keep(record)),
            Err(error) => {
                let kinds = [ErrorKind::Protocol, ErrorKind::Unsupported, ErrorKind::Incomplete];
                assert!(kinds.contains(&error.kind()) && error.to_string().starts_with("wire: "), "{error}");
                assert!(reader.place().is_empty() && !reader.is_finished());
                assert_eq!(reader.filled(0).unwrap_err().to_string(), error.to_string());
                return (records, Err(error));
            }
        }
        assert!(reader.memory() <= MAX_PAYLOAD);
        assert_eq!(reader.offset() as usize, bytes.len() - rest.len());
    }
}

/// What may be in a stream of records, by a book of its own.
fn check(records: &[Kept]) {
    let Some((Kept::Table(table), records)) = records.split_first() else {
        assert!(records.is_empty());
        return;
    };
    let mut streams = vec![(0u64, false, false); table.devices().len()];
    for (n, record) in records.iter().enumerate() {
        match record {
            Kept::Data(device, position, bytes, segment_end) => {
                let (sum, within, ended) = &mut streams[*device];
                assert!(position == sum && !*ended && !bytes.is_empty());
                *sum += bytes.len() as u64;
                let segments = table.devices()[*device].dialect != DialectKind::V2;
                assert!(segments || !segment_end);
                *within = segments && !segment_end;
            }
            Kept::End(device, total) => {
                let (sum, within, ended) = &mut streams[*device];
                assert!(total == sum && !*within && !*ended);
                *ended = true;
            }
            Kept::Void(device, bytes) => {
                assert_eq!(streams[*device].0, *bytes);
                streams[*device] = (0, false, false);
            }
            Kept::Vmm(device, _, _) => assert!(device.is_none_or(|device| device < streams.len())),
            Kept::Finish => assert_eq!(n + 1, records.len()),
            Kept::Table(_) => panic!("a second table"),
        }
    }
}

pub fn run(data: &[u8]) {
    let f = &mut Feed::new(data);
    let channels = 1 + f.u16() % 2;
    let options = WireOptions { channel: f.u16() % channels, channels, wire: f.u64() };
    let table = table(f, channels);
    let mut sums = vec![0; table.devices().len()];
    let mut writer = Writer::new(options, table.clone()).unwrap();
    let mut bytes = writer.beginning();
    let (mut wanted, mut honest) = (vec![Kept::Table(table)], true);
    for _ in 0..40 {
        if f.done() {
            break;
        }
        if f.lies() {
            bytes.extend(crafted(f, wanted.len() as u64));
            honest = false;
        } else if let Some((record, kept)) = written(f, &mut writer, &mut sums) {
            bytes.extend(record);
            wanted.push(kept);
        }
    }
    // Damage, seldom.
    while f.lies() {
        let at = f.u16() as usize % bytes.len();
        match f.below(3) {
            0 => bytes[at] ^= 1 << f.below(8),
            1 => bytes.truncate(at.max(1)),
            _ => drop(bytes.remove(at)),
        }
        honest = false;
        if bytes.is_empty() {
            return;
        }
    }
    let (records, outcome) = read(&bytes, || usize::MAX);
    check(&records);
    let sizes: Vec<usize> = (0..4).map(|_| 1 + f.below(50)).collect();
    let mut turn = 0;
    let (again, other) = read(&bytes, || {
        turn += 1;
        sizes[turn % sizes.len()]
    });
    assert_eq!(records, again);
    assert_eq!(outcome.as_ref().map_err(Error::to_string), other.as_ref().map_err(Error::to_string));
    if honest {
        assert_eq!(records, wanted);
        let whole = wanted.last() == Some(&Kept::Finish);
        assert_eq!(outcome.is_ok(), whole, "{outcome:?}");
        assert!(outcome.is_ok_and(|left| left == 0) || !whole);
    }
}
