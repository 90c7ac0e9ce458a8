//! What is against the format is refused, in words that say what and where.

use super::sample::{
    Kept, Raw, RawDevice, RawWord, beginning, entry, preamble, read, refusal, said, table, table_payload,
};
use vfiomig::dialect::DialectKind;
use vfiomig::error::ErrorKind;
use vfiomig::wire::{DeviceEntry, MAX_PAYLOAD, Output, Table, WireOptions, Word};

const DATA: u16 = 2;
const END: u16 = 3;
const VOID: u16 = 4;
const VMM: u16 = 5;
const FINISH: u16 = 6;
const FAIL: u16 = 7;
const SEGMENT_END: u16 = 1;

/// After the table, which has nic0 (v2) and gpu0 (v1).
fn after_table(records: &[Vec<u8>]) -> Vec<u8> {
    [beginning(table()), records.concat()].concat()
}

fn data(device: u32, number: u64, position: u64, flags: u16) -> Vec<u8> {
    Raw { flags, device, position, ..Raw::of(DATA, number) }.record(b"abc")
}

fn end(device: u32, number: u64, position: u64) -> Vec<u8> {
    Raw { device, position, ..Raw::of(END, number) }.record(b"")
}

/// (records behind the table, what the refusal says)
fn bad_records() -> Vec<(Vec<Vec<u8>>, &'static str)> {
    let of = |device: u32, raw: Raw| Raw { device, ..raw };
    vec![
        (vec![data(0, 1, 1, 0)], "record 1 at offset 146 (DATA of nic0): position in the stream: expected 0, found 1"),
        (vec![data(0, 1, 0, 0), data(0, 2, 2, 0)], "(DATA of nic0): position in the stream: expected 3, found 2"),
        (vec![data(2, 1, 0, 0)], "device 2 of a table of 2"),
        (vec![data(u32::MAX, 1, 0, 0)], "DATA names no device"),
        (vec![data(0, 1, 0, SEGMENT_END)], "SEGMENT_END in a stream of v2"),
        (vec![data(0, 1, 0, 2)], "DATA: flags 0x2 are not known"),
        (vec![of(0, Raw::of(DATA, 1)).record(b"")], "DATA: a payload of 0 bytes, not 1 to 1048576"),
        (vec![end(0, 1, 4)], "(END of nic0): length of the stream: expected 0, found 4"),
        (vec![end(0, 1, 0), end(0, 2, 0)], "the stream has its END already"),
        (vec![end(0, 1, 0), data(0, 2, 0, 0)], "DATA behind the END of its stream"),
        (vec![data(1, 1, 0, 0), end(1, 2, 3)], "(END of gpu0): END in the middle of a segment"),
        (vec![of(0, Raw::of(END, 1)).record(b"x")], "END: a payload of 1 byte, not 0 to 0"),
        (
            vec![of(0, Raw { position: 1, ..Raw::of(VOID, 1) }).record(b"")],
            "bytes of the void stream: expected 0, found 1",
        ),
        (vec![of(9, Raw::of(VMM, 1)).record(b"")], "device 9 of a table of 2"),
        (vec![Raw::of(FINISH, 1).record(b"")], "nic0 has 0 bytes of its stream, and no END"),
        (vec![of(0, Raw::of(FINISH, 1)).record(b"")], "FINISH names device 0, but belongs to none"),
        (
            vec![end(0, 1, 0), end(1, 2, 0), Raw::of(FINISH, 3).record(b"")],
            "number of devices of the channel: expected 2, found 0",
        ),
        (vec![Raw::of(1, 1).record(b"\0\0\0\0")], "type of the record: expected any but TABLE, found TABLE"),
        (vec![Raw::of(0, 1).record(b"")], "records of type 0 are required"),
        (vec![Raw::of(63, 1).record(b"")], "records of type 63 are required"),
        (vec![Raw::of(64, 1).record(b"\x04zstd...")], "records of type 64 (\"zstd\") are required"),
        (vec![Raw::of(64, 1).record(b"")], "records of type 64 (without a name) are required"),
        (vec![Raw::of(64, 1).record(b"\xffshort")], "records of type 64 (without a name) are required"),
    ]
}

#[test]
fn records_against_the_format_are_refused() {
    for (records, wanted) in bad_records() {
        let error = refusal(&after_table(&records));
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
        assert!(error.to_string().starts_with("wire: channel 0: record "), "{error}");
        assert!([ErrorKind::Protocol, ErrorKind::Unsupported].contains(&error.kind()), "{error:?}");
    }
}

#[test]
fn a_source_that_gives_up_says_why() {
    let error = refusal(&after_table(&[Raw::of(FAIL, 1).record(b"no \x1b[31mroom")]));
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Incomplete, libc::ECONNABORTED));
    assert!(error.to_string().contains("the source side gave up: no \\u{1b}[31mroom"), "{error}");
    let mut out = Output::new(Vec::new(), WireOptions::default(), table()).unwrap();
    out.fail(&"\u{e9}".repeat(600)).unwrap();
    assert!(said(out.finish()).contains("the channel has had its last record"));
    let error = refusal(&out.into_inner()).to_string();
    assert_eq!(error.matches('\u{e9}').count(), 512, "{error}");
}

/// A later version adds what this one may skip, or cannot.
#[test]
fn a_later_version_is_skipped_or_refused_by_name() {
    let news = Raw { flags: 0xff00, ..Raw::of(0x8000 | 99, 1) }.record(b"whatever");
    let known = Raw { flags: 0x8000, position: 4, ..Raw::of(VMM, 2) }.record(b"x");
    let (records, error) = read(&after_table(&[news, known]));
    assert_eq!(records[1..], [Kept::Vmm(None, 4, b"x".to_vec())]);
    assert_eq!(error.unwrap().kind(), ErrorKind::Incomplete);
    // One that may be skipped is judged all the same.
    let mut changed = Raw::of(0x8000 | 99, 1).record(b"whatever");
    *changed.last_mut().unwrap() ^= 1;
    let error = refusal(&after_table(&[changed]));
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Protocol, libc::EBADMSG));

    let names = b"\x05\x04zstd\x28\x03aes";
    for (required, wanted) in
        [(1 << 5, "feature 5 (\"zstd\")"), (1 << 40, "feature 40 (\"aes\")"), (2, "feature 1 (without")]
    {
        let error = refusal(&preamble(1, 1, 0, required, 0, names));
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(wanted), "{error}");
    }
    let optional = [preamble(1, 1, 0, 0, 1 << 5, names), Raw::of(1, 0).record(&table_payload(&[]))].concat();
    assert_eq!(read(&optional).0, [Kept::Table(Table::new(vec![]).unwrap())]);
    let error = refusal(&preamble(2, 1, 0, 0, 0, b""));
    assert!(error.to_string().contains("version 2: this side knows version 1"), "{error}");
}

#[test]
fn a_preamble_that_is_none_is_refused() {
    let text = refusal(&[b'G'; 48]).to_string();
    assert!(text.contains("preamble at offset 0: not a wire: it begins with [47, 47"), "{text}");
    for (channels, channel) in [(0, 0), (65, 0), (2, 2)] {
        let error = refusal(&preamble(1, channels, channel, 0, 0, b""));
        assert!(error.to_string().contains(&format!("channel {channel} of {channels}")), "{error}");
    }
    let text = refusal(&preamble(1, 1, 0, 0, 0, &[0; 4097])).to_string();
    assert!(text.contains("feature names of 4097 bytes, more than 4096"), "{text}");
    let mut changed = preamble(1, 1, 0, 0, 0, b"\x05\x04zstd");
    *changed.last_mut().unwrap() ^= 1;
    assert!(refusal(&changed).to_string().contains("checksum of the feature names"));
    // The first one is the table, and of a type that could be skipped, too.
    for kind in [VMM, 99, 0x8001] {
        let first = [preamble(1, 1, 0, 0, 0, b""), Raw::of(kind, 0).record(b"")].concat();
        assert!(refusal(&first).to_string().contains("expected TABLE"), "{kind}: {}", refusal(&first));
    }
}

#[test]
fn tables_against_the_format_are_refused() {
    fn nic<'a>(words: &'a [RawWord<'a>]) -> RawDevice<'a> {
        (0, 3, b"nic0", words)
    }
    let twice: &[RawWord<'_>] = &[(b"a", b"1"), (b"a", b"2")];
    let payload = table_payload;
    let whole = payload(&[nic(&[])]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"\x01\0\0".to_vec(), "TABLE: a payload of 3 bytes"),
        (payload(&[])[..].iter().copied().chain([0]).collect(), "1 byte behind the last device"),
        (whole[..whole.len() - 1].to_vec(), "4 bytes of the table should follow, and 3 do"),
        (u32::MAX.to_le_bytes().to_vec(), "the table has 4 bytes, too few for 4294967295 devices"),
        (payload(&[nic(&[]), nic(&[])]), "two devices have the name \"nic0\""),
        (payload(&[nic(twice)]), "nic0: two words have the key \"a\""),
        (payload(&[(0, 4, b"nic0", &[])]), "dialect 4 is not known"),
        (payload(&[(1, 3, b"nic0", &[])]), "nic0: channel 1 of a wire of 1"),
        (payload(&[(0, 3, b"", &[])]), "a name of 0 bytes"),
        (payload(&[(0, 3, b"n\xff", &[])]), "a text is not UTF-8"),
        (payload(&[(0, 3, b"n\0", &[])]), "a name with a NUL"),
        (payload(&[nic(&[(b"", b"1")])]), "a key of 0 bytes"),
        (payload(&[nic(&[(b"a", b"\xff")])]), "a text is not UTF-8"),
    ];
    for (payload, wanted) in cases {
        let error = refusal(&[preamble(1, 1, 0, 0, 0, b""), Raw::of(1, 0).record(&payload)].concat());
        assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains(wanted), "{wanted}: {error}");
    }
    let many: Vec<(Vec<u8>, &[u8])> = (0..255u16).map(|i| (i.to_string().into_bytes(), &b""[..])).collect();
    let many: Vec<RawWord<'_>> = many.iter().map(|(key, value)| (&key[..], *value)).collect();
    let names: Vec<String> = (0..17).map(|i| format!("d{i}")).collect();
    let devices: Vec<RawDevice<'_>> = names.iter().map(|name| (0, 3, name.as_bytes(), &many[..])).collect();
    let error = refusal(&[preamble(1, 1, 0, 0, 0, b""), Raw::of(1, 0).record(&table_payload(&devices))].concat());
    assert!(error.to_string().contains("4335 words, more than 4096"), "{error}");
}

/// Before any device is touched: the same devices, whatever their order, and what this side demands of them.
#[test]
fn devices_are_found_by_name() {
    let wire = table();
    let nic = || entry("nic0", DialectKind::V2, &[]);
    let gpu = |words: &[_]| entry("gpu0", DialectKind::V1, words);
    assert_eq!(wire.places(&[nic(), gpu(&[])]).unwrap(), [0, 1]);
    assert_eq!(wire.places(&[gpu(&[("firmware", "2.1")]), nic()]).unwrap(), [1, 0]);
    let refused = [
        (vec![nic()], "gpu0: this side has no such device, it has nic0"),
        (
            vec![nic(), gpu(&[]), entry("fpga0", DialectKind::V2, &[])],
            "fpga0: the wire has no such device, it has nic0, gpu0",
        ),
        (vec![nic(), entry("gpu0", DialectKind::Draft, &[])], "gpu0: dialect: this side has draft, the wire has v1"),
        (vec![nic(), gpu(&[("firmware", "2.2")])], "gpu0: firmware: this side has \"2.2\", the wire has \"2.1\""),
        (vec![nic(), gpu(&[("serial", "1")])], "gpu0: serial: this side has \"1\", the wire has no such word"),
        (vec![], "nic0: this side has no such device, it has none"),
    ];
    for (ours, wanted) in refused {
        let error = wire.places(&ours).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(wanted), "{wanted}: {error}");
    }
}

/// The writer refuses what a reader would, and goes on.
#[test]
fn a_writer_makes_no_wire_that_is_refused() {
    let mut out = Output::new(Vec::new(), WireOptions::default(), table()).unwrap();
    assert!(said(out.data(2, b"x", false)).contains("DATA: device 2 of a table of 2"));
    assert!(said(out.data(0, b"", false)).contains("DATA of nic0: a payload of 0 bytes"));
    assert!(said(out.data(0, b"x", true)).contains("DATA of nic0: SEGMENT_END in a stream of v2"));
    assert!(said(out.vmm(None, 0, &vec![0; MAX_PAYLOAD + 1])).contains("a payload of 1048577 bytes"));
    assert!(said(out.finish()).contains("FINISH: nic0 has 0 bytes of its stream, and no END"));
    out.data(1, &vec![7; 2 * MAX_PAYLOAD + 1], false).unwrap();
    assert!(said(out.end(1)).contains("END of gpu0: END in the middle of a segment"));
    out.data(1, b"x", true).unwrap();
    out.end(1).unwrap();
    out.end(0).unwrap();
    assert!(said(out.data(0, b"x", false)).contains("DATA behind the END"));
    out.finish().unwrap();
    assert!(said(out.vmm(None, 0, b"")).contains("the channel has had its last record"));
    let (records, error) = read(&out.into_inner());
    assert!(error.is_none(), "{error:?}");
    let total = 2 * MAX_PAYLOAD as u64 + 2;
    assert_eq!((records.len(), &records[5]), (8, &Kept::End(1, total)));

    let word = |len: usize| Word { key: "a".into(), value: "v".repeat(len) };
    let with = |words| Table::new(vec![DeviceEntry { words, ..DeviceEntry::new("nic0", DialectKind::V2) }]);
    assert!(said(with(vec![word(65536)])).contains("a value of 65536 bytes"));
    assert!(with(vec![word(65535)]).is_ok());
    assert!(said(with(vec![word(1), word(2)])).contains("two words have the key \"a\""));
    let long: Vec<DeviceEntry> = (0..17)
        .map(|i| DeviceEntry { words: vec![word(65535)], ..DeviceEntry::new(format!("d{i}"), DialectKind::V2) })
        .collect();
    assert!(said(Table::new(long)).contains("more than 1048576"));
}
