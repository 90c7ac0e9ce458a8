//! docs/wire.md is enough to read a wire: its example is what the library writes, and tests/wire_reader.py, written from the page
//! alone, reads what the library writes.

use super::sample::{entry, read, small};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use vfiomig::dialect::DialectKind;
use vfiomig::wire::{Output, Table, WireOptions};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// docs/wire.md, "An example".
fn example() -> Vec<u8> {
    let table = Table::new(vec![entry("nic0", DialectKind::V2, &[("vendor", "8086")])]).unwrap();
    let options = WireOptions { wire: 0x1122_3344_5566_7788, ..WireOptions::default() };
    let mut out = Output::new(Vec::new(), options, table).unwrap();
    out.data(0, b"state", false).unwrap();
    out.vmm(None, 7, b"ram").unwrap();
    out.end(0).unwrap();
    out.finish().unwrap();
    out.into_inner()
}

#[test]
fn the_example_of_the_page_is_what_is_written() {
    let page = std::fs::read_to_string(root().join("docs/wire.md")).unwrap();
    let (_, part) = page.split_once("## An example").unwrap();
    let (said, rest) = part.split_once("```\n").unwrap();
    let dump = rest.split_once("```").unwrap().0;
    let ours = example();
    let lines = ours.chunks(16).enumerate().map(|(n, line)| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:04x}  {}\n", n * 16, hex.join(" "))
    });
    assert_eq!(dump, lines.collect::<String>());
    assert!(said.contains(&format!("{} bytes:", ours.len())), "{said}");
}

/// What the other reader says of these bytes: a line for each record, or its error.
fn other_reader(bytes: &[u8]) -> Option<(bool, String)> {
    let mut command = Command::new("python3");
    let command = command.arg(root().join("tests/wire_reader.py")).arg("-");
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "python3: {error}");
            eprintln!("not tried: python3: {error}");
            return None;
        }
    };
    // It may stop reading at a fault.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(if output.status.success() { output.stdout } else { output.stderr }).unwrap();
    Some((output.status.success(), text))
}

#[test]
fn a_reader_made_from_the_page_reads_what_is_written() {
    let Some((ok, text)) = other_reader(&small()) else { return };
    let wanted = "\
channel 0 of 1, wire 0x1122334455667788
TABLE nic0 v2 channel 0 vendor=8086, gpu0 v1 channel 0 vendor=10de firmware=2.1
VMM - kind 7: 72616d
DATA gpu0 at 0: 736567
DATA nic0 at 0: 6f6c64
VOID nic0 3
DATA gpu0 at 3 SEGMENT_END: 6d656e74
DATA nic0 at 0: 7374617465
VMM gpu0 kind 8: 
END gpu0 7
END nic0 5
FINISH
";
    assert!(ok && text == wanted, "{text}");
}

/// Both readers refuse the same wires.
#[test]
fn a_reader_made_from_the_page_refuses_what_is_refused() {
    let bytes = small();
    let mut wires: Vec<Vec<u8>> = (0..bytes.len()).step_by(97).map(|cut| bytes[..cut].to_vec()).collect();
    for bit in (0..bytes.len() * 8).step_by(619) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        wires.push(flipped);
    }
    for wire in wires {
        let Some((ok, text)) = other_reader(&wire) else { return };
        let ours = read(&wire).1.unwrap();
        assert!(!ok && text.starts_with("refused: "), "{ours}: {text}");
    }
}
