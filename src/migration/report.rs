//! What was done and how long it took, so that an operator sees where downtime went.

mod json;
mod recorder;

use super::sequence::Phase;
use crate::dialect::{Direction, State};
use crate::error::{Action, DeviceResult};
#[cfg(feature = "capi")]
pub(crate) use json::{lines_to_json, results_to_json};
pub(super) use recorder::Recorder;
use std::fmt;
use std::time::Duration;

/// What a migration did, in order.
///
/// ```
/// use vfiomig::dialect::Direction;
/// use vfiomig::migration::{AbortTo, Migration, Phase};
/// # use std::sync::Arc;
/// # let hardware = simdev::Device::new(simdev::Config::default());
/// # let options = vfiomig::device::DeviceOptions { name: "nic0".into(), ..Default::default() };
/// # let device = Arc::new(vfiomig::Device::new(hardware.transport(), options)?);
/// # let options = vfiomig::tracker::TrackerOptions { devices: vec![device.clone()], everything: true, ..Default::default() };
/// # let tracker = vfiomig::tracker::Tracker::new(options)?;
/// # let group = Arc::new(vfiomig::group::Group::new(Default::default()));
/// # group.add_device(device)?;
/// # group.add_tracker(Arc::new(tracker))?;
///
/// let save = Migration::new(Arc::clone(&group), Direction::Save)?;
/// save.advance(Phase::SaveStopCopy)?;
/// let report = save.report()?;
/// let last = report.phases.last().unwrap();
/// assert!(last.phase == Phase::SaveStopCopy && !last.failed && last.devices[0].device == "nic0");
/// print!("{report}"); // a table for people
/// # save.abort(AbortTo::Running)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    /// Which way the data flow.
    pub direction: Direction,
    /// One entry per phase that was entered, or tried.
    pub phases: Vec<PhaseReport>,
    /// What was done in them and between them, in the order in which it was begun: drains, harvests, and failures that are no
    /// device's. With the phases it has all time that a call of the library took.
    pub entries: Vec<Entry>,
    /// What each device has moved since the attempt began, by drains and by the caller's own data calls.
    pub devices: Vec<DevicePart>,
    /// What was done more than once, or was not as it should be.
    pub counters: Counters,
}

/// What an entry is of.
///
/// Example: [`Report`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// `save_iterate`: rounds.
    Rounds,
    /// `save_complete`: the streams to their ends.
    SaveComplete,
    /// `load_complete`.
    LoadComplete,
    /// A device that went to LOADED by itself, beside the streams of others.
    Loaded,
    /// Harvests of trackers that the migration has started.
    Harvest,
    /// Something failed that is no device's state change.
    Failure,
    /// Streams that were read ahead of the caller.
    ReadAhead,
}

impl EntryKind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            EntryKind::Rounds => "rounds",
            EntryKind::SaveComplete => "save_complete",
            EntryKind::LoadComplete => "load_complete",
            EntryKind::Loaded => "loaded",
            EntryKind::Harvest => "harvest",
            EntryKind::Failure => "failure",
            EntryKind::ReadAhead => "read_ahead",
        }
    }
}

/// Work of one kind in one phase.
///
/// Example: [`Report`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was done.
    pub work: EntryKind,
    /// The phase that was entered last when it was done.
    pub phase: Phase,
    /// When the first of it was begun, counted as in [`PhaseReport`].
    pub begun: Duration,
    /// How long it took in all: what came between the calls is not in it.
    pub duration: Duration,
    /// Number of calls, or how often the failure was met.
    pub calls: u64,
    /// Bytes that devices gave or took.
    pub bytes: u64,
    /// Pages that were given as dirty.
    pub pages: u64,
    /// Reads or writes of devices' streams; requests to logs.
    pub reads: u64,
    /// The calls failed: what failed has an entry of its own.
    pub failed: bool,
    /// By device, for drains and for what was read ahead. Of a device that went to LOADED by itself, that one, and what it took
    /// before.
    pub devices: Vec<DevicePart>,
    /// Of a failure: what and why.
    pub text: String,
}

impl Entry {
    fn new(work: EntryKind, phase: Phase, begun: Duration, duration: Duration) -> Self {
        let (devices, text) = (Vec::new(), String::new());
        Entry { work, phase, begun, duration, calls: 1, bytes: 0, pages: 0, reads: 0, failed: false, devices, text }
    }

    /// More of the same.
    fn join(&mut self, more: Entry) {
        self.duration = self.duration.saturating_add(more.duration);
        self.calls = self.calls.saturating_add(more.calls);
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.pages = self.pages.saturating_add(more.pages);
        self.reads = self.reads.saturating_add(more.reads);
        for (part, more) in self.devices.iter_mut().zip(more.devices) {
            part.bytes = part.bytes.saturating_add(more.bytes);
            part.calls = part.calls.saturating_add(more.calls);
            part.time = part.time.saturating_add(more.time);
            part.waits = part.waits.saturating_add(more.waits);
            part.retries = part.retries.saturating_add(more.retries);
        }
    }
}

/// One device's part.
///
/// Example: [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePart {
    /// Its name.
    pub device: String,
    /// Bytes that it gave or took.
    pub bytes: u64,
    /// Reads or writes of its stream.
    pub calls: u64,
    /// How long those took, one after another.
    pub time: Duration,
    /// How often one had to wait because the device was not ready.
    pub waits: u64,
    /// Requests that were made once more.
    pub retries: u64,
}

/// What was done more than once, or was not as it should be, since the attempt began.
///
/// Example: [`Report`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests to devices that were made once more: resets that were put off, ways back that were refused once.
    pub retries: u64,
    /// Waits for devices that were not ready.
    pub waits: u64,
    /// Harvests of which some was dirty only because it could not be read.
    pub degraded: u64,
    /// Requests to logs that failed.
    pub failed_reads: u64,
    /// Logs that were started anew while they should run.
    pub log_restarts: u64,
}

/// One phase; IDLE is an abort.
///
/// Example: [`Report`].
#[derive(Clone, Debug)]
pub struct PhaseReport {
    /// Where it led.
    pub phase: Phase,
    /// It was not entered.
    pub failed: bool,
    /// When it was begun, counted from the first phase of this attempt.
    pub begun: Duration,
    /// How long it took.
    pub duration: Duration,
    /// One per device of the group.
    pub devices: Vec<DeviceResult>,
    /// What else is to be said, a line each.
    pub notes: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries = self.entries.iter().peekable();
        for phase in &self.phases {
            while let Some(entry) = entries.next_if(|entry| entry.begun < phase.begun) {
                write_entry(f, entry)?;
            }
            let name = if phase.phase == Phase::Idle { "ABORT" } else { phase.phase.name() };
            let failed = if phase.failed { "  FAILED" } else { "" };
            writeln!(f, "{name:<18} at {:>12.3?}  took {:>12.3?}{failed}", phase.begun, phase.duration)?;
            for device in &phase.devices {
                write_device(f, device)?;
            }
            for note in &phase.notes {
                writeln!(f, "    {note}")?;
            }
        }
        entries.try_for_each(|entry| write_entry(f, entry))?;
        // Of drains it is there already; what the caller moved by its own data calls is in no entry.
        let beside = [EntryKind::Loaded, EntryKind::ReadAhead];
        let mut drains = self.entries.iter().filter(|entry| !beside.contains(&entry.work));
        if drains.all(|entry| entry.devices.is_empty()) && self.devices.iter().any(|part| part.calls > 0) {
            writeln!(f, "data calls")?;
            self.devices.iter().try_for_each(|part| write_part(f, part))?;
        }
        let Counters { retries, waits, degraded, failed_reads, log_restarts } = self.counters;
        if self.counters != Counters::default() {
            writeln!(
                f,
                "retries {retries}, waits {waits}, degraded harvests {degraded}, failed reads of logs {failed_reads}, \
                 restarts of logs {log_restarts}"
            )?;
        }
        Ok(())
    }
}

fn write_entry(f: &mut fmt::Formatter<'_>, entry: &Entry) -> fmt::Result {
    let Entry { work, begun, duration, calls, bytes, pages, reads, .. } = entry;
    if *work == EntryKind::Failure {
        let times = if *calls > 1 { format!(" ({calls} times)") } else { String::new() };
        return writeln!(f, "{:<18} at {begun:>12.3?}  {}{times}", work.name(), entry.text);
    }
    write!(f, "{:<18} at {begun:>12.3?}  took {duration:>12.3?}", work.name())?;
    if *calls > 1 {
        write!(f, " in {calls} calls")?;
    }
    match work {
        EntryKind::Loaded => {
            let name = entry.devices.first().map_or("", |part| &part.device);
            return writeln!(f, ": {name}, beside the others{}", if entry.failed { "  FAILED" } else { "" });
        }
        EntryKind::Harvest => writeln!(f, ": {pages} pages, {reads} reads of logs")?,
        _ => writeln!(f, ": {bytes} bytes, {reads} reads or writes{}", if entry.failed { "  FAILED" } else { "" })?,
    }
    entry.devices.iter().filter(|part| part.calls > 0).try_for_each(|part| write_part(f, part))
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &DevicePart) -> fmt::Result {
    let DevicePart { device, bytes, calls, time, waits, .. } = part;
    write!(f, "    {device:<16} {bytes} bytes in {calls} reads or writes of {time:.3?} in all")?;
    writeln!(f, "{}", if *waits > 0 { format!(", {waits} waits") } else { String::new() })
}

fn write_device(f: &mut fmt::Formatter<'_>, device: &DeviceResult) -> fmt::Result {
    let state = |number| State::from_number(number).map_or("?", State::name);
    let DeviceResult { device: name, errno, from, to, found, action, again: _, duration, message } = device;
    if *errno == 0 && from == to {
        write!(f, "    {name:<16} stays in {}", state(*from))?;
    } else {
        write!(f, "    {name:<16} {} -> {} in {duration:.3?}", state(*from), state(*to))?;
    }
    if *errno != 0 {
        write!(f, ", errno {errno}, found in {}", state(*found))?;
    }
    match action {
        Action::None => {}
        Action::Recovered => write!(f, ", recovered")?,
        Action::Reset => write!(f, ", reset")?,
        Action::Dead => write!(f, ", its state cannot be read")?,
    }
    if !message.is_empty() {
        write!(f, ": {message}")?;
    }
    writeln!(f)
}
