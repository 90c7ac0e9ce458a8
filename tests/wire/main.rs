//! The wire (docs/wire.md): what is written comes back, and nothing else is taken for it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod channels;
mod format;
mod page;
mod sample;

use sample::{Kept, keep, read, small, table};
use vfiomig::error::ErrorKind;
use vfiomig::wire::{HEADER_LEN, MAX_PAYLOAD, Reader};

fn whole() -> Vec<Kept> {
    vec![
        Kept::Table(table()),
        Kept::Vmm(None, 7, b"ram".to_vec()),
        Kept::Data(1, 0, b"seg".to_vec(), false),
        Kept::Data(0, 0, b"old".to_vec(), false),
        Kept::Void(0, 3),
        Kept::Data(1, 3, b"ment".to_vec(), true),
        Kept::Data(0, 0, b"state".to_vec(), false),
        Kept::Vmm(Some(1), 8, vec![]),
        Kept::End(1, 7),
        Kept::End(0, 5),
        Kept::Finish,
    ]
}

#[test]
fn what_is_written_comes_back() {
    let (records, error) = read(&small());
    assert!(error.is_none(), "{error:?}");
    assert_eq!(records, whole());
}

/// However the bytes come, the records are the same, and no more bytes are asked for than those of the next step.
#[test]
fn pieces_make_no_difference() {
    let bytes = small();
    for piece in [1, 2, 3, 7, 35, 36, 37, 1000] {
        let (mut reader, mut rest, mut records) = (Reader::new(), &bytes[..], Vec::new());
        while !rest.is_empty() {
            let len = reader.place().len().min(piece).min(rest.len());
            assert!(len > 0, "{} bytes are left", rest.len());
            let (now, later) = rest.split_at(len);
            reader.place()[..len].copy_from_slice(now);
            rest = later;
            let table = table();
            if let Some(record) = reader.filled(len).unwrap() {
                records.push(keep(record, Some(&table)));
            }
        }
        assert_eq!(records, whole(), "{piece}");
        assert!(reader.is_finished() && reader.place().is_empty());
        reader.ended().unwrap();
    }
}

#[test]
fn a_wire_that_was_cut_anywhere_is_not_whole() {
    let bytes = small();
    for cut in 0..bytes.len() {
        let (records, error) = read(&bytes[..cut]);
        let error = error.unwrap_or_else(|| panic!("cut at {cut} is taken for a whole one"));
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Incomplete, libc::ENODATA), "{cut}: {error}");
        assert!(whole().starts_with(&records) && records.len() < whole().len(), "{cut}");
        let text = error.to_string();
        let missing = ["the table of devices", "the END of nic0", "the END of gpu0", "missing: FINISH"];
        assert!(text.contains("the wire was cut") && missing.iter().any(|what| text.contains(what)), "{cut}: {text}");
    }
}

/// Each bit is in a checksum: a record whose bytes changed is never given to anyone, and nothing behind it is.
#[test]
fn a_bit_that_flips_anywhere_is_seen() {
    let bytes = small();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (records, error) = read(&flipped);
        let error = error.unwrap_or_else(|| panic!("bit {bit} is not seen"));
        let known = [ErrorKind::Protocol, ErrorKind::Unsupported];
        assert!(known.contains(&error.kind()), "bit {bit}: {error}");
        assert!(whole().starts_with(&records), "bit {bit}: {records:?}");
        // At the record that has the bit, and not later: the bytes before it came.
        let before = records.len();
        let (full, _) = read(&bytes[..bit / 8]);
        assert_eq!(before, full.len(), "bit {bit}: {error}");
    }
}

/// Records that were lost, doubled or moved.
#[test]
fn a_record_has_its_place() {
    let bytes = small();
    let mut starts = vec![48];
    while let Some(at) = starts.last().copied().filter(|at| *at < bytes.len()) {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        starts.push(at + HEADER_LEN + len);
    }
    let record = |n: usize| &bytes[starts[n]..starts[n + 1]];
    let count = starts.len() - 1;
    assert_eq!(count, whole().len());
    for n in 0..count - 1 {
        let others = |skip: &[usize]| (0..count).filter(|i| !skip.contains(i)).map(record).collect::<Vec<_>>().concat();
        let lost = [&bytes[..48], &others(&[n])].concat();
        let doubled = [&bytes[..starts[n + 1]], &bytes[starts[n]..]].concat();
        let moved = [&bytes[..starts[n]], record(n + 1), record(n), &bytes[starts[n + 2]..]].concat();
        for (what, wire) in [("lost", lost), ("doubled", doubled), ("moved", moved)] {
            let (_, error) = read(&wire);
            let text = error.unwrap_or_else(|| panic!("record {n} {what} is not seen")).to_string();
            assert!(text.contains("number of the record: expected"), "record {n} {what}: {text}");
        }
    }
}

/// What a peer says makes no memory but for one payload.
#[test]
fn memory_is_bounded() {
    let mut bytes = sample::beginning(table());
    bytes.extend(sample::Raw::of(5, 1).sized(u32::MAX, b""));
    let (mut reader, mut rest) = (Reader::new(), &bytes[..]);
    let error = loop {
        let len = reader.place().len().min(rest.len());
        assert!(len > 0, "a payload of 4 GiB is waited for");
        let (now, later) = rest.split_at(len);
        reader.place()[..len].copy_from_slice(now);
        rest = later;
        if let Err(error) = reader.filled(len) {
            break error;
        }
    };
    assert!(error.to_string().contains("a payload of 4294967295 bytes, more than 1048576"), "{error}");
    assert!(reader.memory() <= MAX_PAYLOAD);
    assert!(reader.place().is_empty() && reader.filled(0).is_err());
}
