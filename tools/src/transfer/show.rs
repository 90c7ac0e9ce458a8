//! `vfiomig show`: what a wire in a file holds, with every sum checked.

use crate::cli::Show;
use crate::exit::Exit;
use crate::host::Trouble;
use crate::output::{Look, Output as Console};
use crate::text;
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use vfiomig::error::ErrorKind;
use vfiomig::wire::{DeviceEntry, Input, WireRecord, Word};

/// What was found of one device.
#[derive(Clone, Default)]
struct Stream {
    bytes: u64,
    records: u64,
    segments: u64,
    voids: u64,
    ended: bool,
}

/// A file, as far as it could be read.
#[derive(Default)]
pub struct Contents {
    devices: Vec<(DeviceEntry, Stream)>,
    channel: Option<(u16, u16, u64)>,
    vmm_records: u64,
    vmm_bytes: u64,
    /// Bytes of the file behind the wire, which are no part of it.
    behind: u64,
    /// Why it is not whole.
    damage: Option<String>,
}

fn stream(contents: &mut Contents, device: usize) -> Option<&mut Stream> {
    contents.devices.get_mut(device).map(|device| &mut device.1)
}

/// Reads a file to its end, or to where it is damaged.
pub fn read(path: &Path) -> std::io::Result<Contents> {
    let file = File::open(path)?;
    // A pipe has the length 0, so that nothing is said of what is behind its wire.
    let len = file.metadata()?.len();
    let mut input = Input::new(BufReader::with_capacity(1 << 20, file));
    let mut contents = Contents::default();
    loop {
        let record = match input.next() {
            Ok(record) => record,
            Err(error) if error.kind() == ErrorKind::System => return Err(error.into()),
            Err(error) => {
                contents.damage = Some(error.to_string());
                return Ok(contents);
            }
        };
        match record {
            WireRecord::Table => {
                contents.channel = input.reader().channel();
                let devices = input.table().map(|table| table.devices().to_vec()).unwrap_or_default();
                contents.devices = devices.into_iter().map(|entry| (entry, Stream::default())).collect();
            }
            WireRecord::Data { device, bytes, segment_end, .. } => {
                if let Some(stream) = stream(&mut contents, device) {
                    stream.bytes = stream.bytes.saturating_add(bytes.len() as u64);
                    stream.records = stream.records.saturating_add(1);
                    stream.segments = stream.segments.saturating_add(u64::from(segment_end));
                }
            }
            WireRecord::End { device, .. } => {
                stream(&mut contents, device).into_iter().for_each(|stream| stream.ended = true);
            }
            WireRecord::Void { device, .. } => {
                if let Some(stream) = stream(&mut contents, device) {
                    *stream = Stream { voids: stream.voids.saturating_add(1), ..Stream::default() };
                }
            }
            WireRecord::Vmm { bytes, .. } => {
                contents.vmm_records = contents.vmm_records.saturating_add(1);
                contents.vmm_bytes = contents.vmm_bytes.saturating_add(bytes.len() as u64);
            }
            WireRecord::Finish => {
                contents.behind = len.saturating_sub(input.reader().offset());
                return Ok(contents);
            }
        }
    }
}

/// Refuses a file that is damaged or not whole, and one that is a channel of several.
pub fn verify(path: &Path) -> Result<(), Trouble> {
    let next = "name a file that vfiomig save has written; vfiomig show says more of it";
    let contents = read(path).map_err(|error| Trouble::new(format!("{}: {error}", path.display()), next))?;
    if let Some(damage) = contents.damage {
        return Err(Trouble::new(format!("{}: {damage}; no device was touched", path.display()), next));
    }
    match contents.channel {
        Some((_, channels, _)) if channels != 1 => {
            Err(Trouble::new(format!("{} is one of {channels} channels of its wire", path.display()), next))
        }
        _ => Ok(()),
    }
}

/// `vfiomig show`.
pub fn show(out: &Console, asked: &Show) -> Exit {
    let contents = match read(&asked.file) {
        Ok(contents) => contents,
        Err(error) => {
            out.trouble(&format!("{}: {error}. Next: name a file that can be read", asked.file.display()));
            return Exit::Failed;
        }
    };
    if asked.json {
        out.json(&json(&contents));
    } else {
        print(out, &asked.file, &contents);
    }
    if contents.damage.is_none() { Exit::Success } else { Exit::No }
}

fn json(contents: &Contents) -> Value {
    let devices = contents.devices.iter().map(|(entry, stream)| {
        let words: serde_json::Map<String, Value> =
            entry.words.iter().map(|word| (word.key.clone(), json!(word.value))).collect();
        json!({
            "name": entry.name, "dialect": entry.dialect.name(), "channel": entry.channel, "words": words,
            "bytes": stream.bytes, "records": stream.records, "segments": stream.segments, "voids": stream.voids,
            "whole": stream.ended,
        })
    });
    json!({
        "version": 1,
        "whole": contents.damage.is_none(),
        "damage": contents.damage,
        "wire": contents.channel.map(|channel| format!("{:016x}", channel.2)),
        "channel": contents.channel.map(|channel| channel.0),
        "channels": contents.channel.map(|channel| channel.1),
        "devices": devices.collect::<Vec<_>>(),
        "bytes_behind": contents.behind,
        "vmm": {"records": contents.vmm_records, "bytes": contents.vmm_bytes},
    })
}

fn print(out: &Console, path: &Path, contents: &Contents) {
    let verdict = match &contents.damage {
        None => out.paint(Look::Good, "whole, every sum is right"),
        Some(damage) => out.paint(Look::Bad, &format!("damaged: {damage}")),
    };
    out.line(format!("{}: {verdict}", out.paint(Look::Bold, &text::path(path))));
    if let Some((channel, channels, wire)) = contents.channel {
        out.line(format!("  channel {channel} of {channels}, wire {wire:016x}"));
    }
    for (entry, stream) in &contents.devices {
        let word = |word: &Word| format!("{} {}", text::plain(&word.key), text::plain(&word.value));
        let words: Vec<String> = entry.words.iter().map(word).collect();
        let segments = match stream.segments {
            0 => String::new(),
            segments => format!(" in {}", text::count(segments, "segment")),
        };
        let whole = if stream.ended { "whole" } else { "without an end" };
        let words = if words.is_empty() { "no words".to_string() } else { words.join(", ") };
        out.line(format!(
            "  {}: {}, {words}; {}{segments}, {whole}",
            text::plain(&entry.name),
            entry.dialect.name(),
            text::bytes(stream.bytes)
        ));
    }
    if contents.behind > 0 {
        out.line(format!("  {} behind the wire, which are no part of it", text::bytes(contents.behind)));
    }
    if contents.vmm_records > 0 {
        let records = text::count(contents.vmm_records, "record");
        out.line(format!("  {records} of a VMM, {}", text::bytes(contents.vmm_bytes)));
    }
}
