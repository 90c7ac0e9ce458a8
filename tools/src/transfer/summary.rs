//! What `send` and `receive` print at their end: what was moved, and where the time went, by the library's own report.

use crate::text;
use serde_json::{Value, json};
use std::time::Duration;
use vfiomig::migration::{Migration, Phase, Report};

/// A move that has succeeded.
pub struct Summary {
    /// The address of the other end.
    pub peer: String,
    pub devices: usize,
    pub channels: u16,
    pub bytes: u64,
    pub time: Duration,
    /// What the source side knows; `None` on the destination side.
    pub source: Option<Source>,
}

/// What only the source side knows.
#[derive(Default)]
pub struct Source {
    pub rounds: u32,
    /// The time from where the VM has to stop to where the other side says that it runs.
    pub still: Duration,
}

impl Summary {
    /// The summary for people: a line, and behind it the library's report, unless `quiet`.
    pub fn text(&self, migration: &Migration, quiet: bool) -> String {
        let report = migration.report().ok();
        let (count, bytes, time) =
            (text::count(self.devices, "device"), text::bytes(self.bytes), text::time(self.time));
        let channels = if self.channels > 1 { format!(" by {} channels", self.channels) } else { String::new() };
        let line = match &self.source {
            Some(Source { rounds, still }) => {
                let devices = report.as_ref().map_or(Duration::ZERO, while_still);
                format!(
                    "{}: {count}, {bytes} in {time}{channels}, {}, stood still for {}, of which {} for what the devices did here; \
                     each runs there",
                    self.peer,
                    text::count(*rounds, "round"),
                    text::time(*still),
                    text::time(devices)
                )
            }
            None => format!("{}: {count}, {bytes} in {time}{channels}; each runs", self.peer),
        };
        match report.filter(|_| !quiet) {
            Some(report) => format!("{line}\n{}", report.to_string().trim_end()),
            None => line,
        }
    }

    /// The summary for programs; docs/reports.md has the schema of the report.
    pub fn json(&self, migration: &Migration) -> Value {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let report = migration.report().ok().and_then(|report| serde_json::from_str(&report.to_json()).ok());
        json!({
            "version": 1, "peer": self.peer, "devices": self.devices, "channels": self.channels, "bytes": self.bytes,
            "us": micros(self.time), "report": report.unwrap_or(Value::Null),
            "rounds": self.source.as_ref().map(|source| source.rounds),
            "stood_still_us": self.source.as_ref().map(|source| micros(source.still)),
        })
    }
}

/// The part of the time for which the devices stood still that calls of the library took (docs/reports.md, "Where did the
/// downtime go?").
fn while_still(report: &Report) -> Duration {
    let begins = report.phases.iter().find(|phase| phase.phase == Phase::SaveP2pGrace).map(|phase| phase.begun);
    let Some(begins) = begins else { return Duration::ZERO };
    let phases = report.phases.iter().map(|phase| (phase.begun, phase.duration));
    let entries = report.entries.iter().map(|entry| (entry.begun, entry.duration));
    phases.chain(entries).filter(|(begun, _)| *begun >= begins).map(|(_, duration)| duration).sum()
}
