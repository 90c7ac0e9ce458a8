//! Reports for programs, as JSON: docs/reports.md has the schema.

use super::{DevicePart, Entry, PhaseReport, Report};
use crate::dialect::{Direction, State};
use crate::error::{Action, DeviceResult};
use serde_json::{Value, json};
use std::time::Duration;

/// Of the schema: fields may be added to it, none changes its meaning.
const VERSION: u32 = 1;

impl Report {
    /// The report as one line of JSON; docs/reports.md has the schema.
    pub fn to_json(&self) -> String {
        let direction = match self.direction {
            Direction::Save => "save",
            Direction::Load => "load",
        };
        let mut entries: Vec<(Duration, Value)> = self.phases.iter().map(|p| (p.begun, phase(p))).collect();
        entries.extend(self.entries.iter().map(|entry| (entry.begun, work(entry))));
        entries.sort_by_key(|(begun, _)| *begun);
        json!({
            "version": VERSION,
            "direction": direction,
            "entries": entries.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(),
            "devices": self.devices.iter().map(part).collect::<Vec<_>>(),
            "counters": {
                "retries": self.counters.retries,
                "waits": self.counters.waits,
                "degraded": self.counters.degraded,
                "failed_reads": self.counters.failed_reads,
                "log_restarts": self.counters.log_restarts,
            },
        })
        .to_string()
    }
}

/// The results of a call on a group, as the only phase of a report.
#[cfg(feature = "capi")]
pub(crate) fn results_to_json(results: &[DeviceResult]) -> String {
    json!({ "version": VERSION, "results": results.iter().map(result).collect::<Vec<_>>() }).to_string()
}

/// Lines that are no report of what was done.
#[cfg(feature = "capi")]
pub(crate) fn lines_to_json(text: &str) -> String {
    json!({ "version": VERSION, "lines": text.lines().collect::<Vec<_>>() }).to_string()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn phase(phase: &PhaseReport) -> Value {
    json!({
        "kind": "phase",
        "phase": phase.phase.name(),
        "begun_ns": nanos(phase.begun),
        "duration_ns": nanos(phase.duration),
        "failed": phase.failed,
        "results": phase.devices.iter().map(result).collect::<Vec<_>>(),
        "notes": phase.notes,
    })
}

fn work(entry: &Entry) -> Value {
    json!({
        "kind": entry.work.name(),
        "phase": entry.phase.name(),
        "begun_ns": nanos(entry.begun),
        "duration_ns": nanos(entry.duration),
        "failed": entry.failed,
        "calls": entry.calls,
        "bytes": entry.bytes,
        "pages": entry.pages,
        "reads": entry.reads,
        "devices": entry.devices.iter().map(part).collect::<Vec<_>>(),
        "text": entry.text,
    })
}

fn part(part: &DevicePart) -> Value {
    json!({
        "device": part.device,
        "bytes": part.bytes,
        "reads": part.calls,
        "time_ns": nanos(part.time),
        "waits": part.waits,
        "retries": part.retries,
    })
}

fn result(result: &DeviceResult) -> Value {
    let state = |number| State::from_number(number).map_or("?", State::name);
    let action = match result.action {
        Action::None => "none",
        Action::Recovered => "recovered",
        Action::Reset => "reset",
        Action::Dead => "dead",
    };
    json!({
        "device": result.device,
        "from": state(result.from),
        "to": state(result.to),
        "found": state(result.found),
        "errno": result.errno,
        "action": action,
        "duration_ns": nanos(result.duration),
        "message": result.message,
    })
}
