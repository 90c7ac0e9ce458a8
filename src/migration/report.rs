//! What was done and how long it took, so that an operator sees where downtime went.

use super::sequence::Phase;
use crate::dialect::{Direction, State};
use crate::error::{Action, DeviceResult};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        for phase in &self.phases {
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
        Ok(())
    }
}

fn write_device(f: &mut fmt::Formatter<'_>, device: &DeviceResult) -> fmt::Result {
    let state = |number| State::from_number(number).map_or("?", State::name);
    let DeviceResult { device: name, errno, from, to, found, action, duration, message } = device;
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

/// Collects the entries, for any thread to see: a report waits for no call. The lock is held for a copy or an entry only.
#[derive(Clone)]
pub(super) struct Recorder(Arc<Mutex<Kept>>);

struct Kept {
    start: Instant,
    phases: Vec<PhaseReport>,
}

impl Recorder {
    pub fn new(start: Instant) -> Self {
        Recorder(Arc::new(Mutex::new(Kept { start, phases: Vec::new() })))
    }

    /// A new attempt began: what an earlier one did is forgotten, so that a report never grows without end.
    pub fn restart(&self, begun: Instant) {
        *self.0.lock() = Kept { start: begun, phases: Vec::new() };
    }

    pub fn add(&self, phase: Phase, begun: Instant, failed: bool, devices: Vec<DeviceResult>, notes: Vec<String>) {
        self.0.lock().add(phase, begun, failed, devices, notes);
    }

    /// One more line for the phase that was entered last; what is told again and again is there once.
    pub fn note(&self, text: String) {
        if let Some(last) = self.0.lock().phases.last_mut().filter(|last| last.notes.last() != Some(&text)) {
            last.notes.push(text);
        }
    }

    pub fn report(&self, direction: Direction) -> Report {
        Report { direction, phases: self.0.lock().phases.clone() }
    }
}

impl Kept {
    fn add(&mut self, phase: Phase, begun: Instant, failed: bool, devices: Vec<DeviceResult>, notes: Vec<String>) {
        let (duration, begun) = (begun.elapsed(), begun.saturating_duration_since(self.start));
        // A phase that is entered device by device is one entry.
        if let Some(last) = self.phases.last_mut().filter(|last| last.phase == phase && phase != Phase::Idle) {
            last.failed = failed;
            last.duration = last.duration.saturating_add(duration);
            last.notes.extend(notes);
            for (old, new) in last.devices.iter_mut().zip(devices) {
                if new.from != new.to || new.errno != 0 {
                    *old = new;
                }
            }
            return;
        }
        self.phases.push(PhaseReport { phase, failed, begun, duration, devices, notes });
    }
}
