//! Collects what a report tells, for any thread to see: a report waits for no call. The lock is held for a copy or an entry only.

use super::{Counters, DevicePart, Entry, EntryKind, PhaseReport, Report};
use crate::device::{Device, Traffic};
use crate::dialect::Direction;
use crate::error::DeviceResult;
use crate::migration::Phase;
use crate::migration::sequence::READS_AHEAD;
use crate::tracker::{Harvest, Journal, Tracker};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

#[derive(Clone)]
pub(in crate::migration) struct Recorder {
    devices: Arc<[Arc<Device>]>,
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    start: Instant,
    /// What each device had moved when the attempt began.
    before: Vec<Traffic>,
    /// The same of what was read ahead.
    ahead_before: Vec<Traffic>,
    phases: Vec<PhaseReport>,
    /// All but phases.
    entries: Vec<Entry>,
    /// How many of `entries` belong to phases that are over, and are not added to.
    settled: usize,
    /// Trackers of this attempt, and how often their logs had been started anew before it.
    trackers: Vec<(Weak<Tracker>, u64)>,
    degraded: u64,
    failed_reads: u64,
}

impl Kept {
    fn new(start: Instant, devices: &[Arc<Device>]) -> Self {
        Kept {
            start,
            before: devices.iter().map(|device| device.traffic()).collect(),
            ahead_before: devices.iter().map(|device| device.ahead_traffic()).collect(),
            phases: Vec::new(),
            entries: Vec::new(),
            settled: 0,
            trackers: Vec::new(),
            degraded: 0,
            failed_reads: 0,
        }
    }
}

/// What was moved by a drain that is over.
pub(in crate::migration) struct Drained {
    begun: Instant,
    before: Vec<Traffic>,
}

impl Recorder {
    pub fn new(devices: &[Arc<Device>]) -> Self {
        let kept = Arc::new(Mutex::new(Kept::new(Instant::now(), devices)));
        Recorder { devices: devices.into(), kept }
    }

    /// A new attempt began: what an earlier one did is forgotten, so that a report never grows without end.
    pub fn restart(&self, begun: Instant) {
        *self.kept.lock() = Kept::new(begun, &self.devices);
    }

    pub fn add(&self, phase: Phase, begun: Instant, failed: bool, devices: Vec<DeviceResult>, notes: Vec<String>) {
        let mut kept = self.kept.lock();
        kept.settled = kept.entries.len();
        let (duration, begun) = (begun.elapsed(), begun.saturating_duration_since(kept.start));
        // A phase that is entered device by device is one entry.
        if let Some(last) = kept.phases.last_mut().filter(|last| last.phase == phase && phase != Phase::Idle) {
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
        kept.phases.push(PhaseReport { phase, failed, begun, duration, devices, notes });
    }

    /// One more line for the phase that was entered last.
    pub fn note(&self, text: String) {
        if let Some(last) = self.kept.lock().phases.last_mut().filter(|last| last.notes.last() != Some(&text)) {
            last.notes.push(text);
        }
    }

    /// A failure that is no device's state change; what is returned again and again is there once.
    pub fn failure(&self, what: &str, error: &str) {
        let mut kept = self.kept.lock();
        let text = format!("{what}: {error}");
        if kept.entries.last().is_some_and(|last| last.work == EntryKind::Failure && last.text == text) {
            kept.entries.last_mut().into_iter().for_each(|last| last.calls = last.calls.saturating_add(1));
            return;
        }
        let entry = Entry {
            failed: true,
            text,
            ..Entry::new(EntryKind::Failure, kept.phase(), kept.start.elapsed(), Duration::ZERO)
        };
        kept.entries.push(entry);
    }

    /// A drain begins.
    pub fn drain(&self) -> Drained {
        Drained { begun: Instant::now(), before: self.devices.iter().map(|device| device.traffic()).collect() }
    }

    /// It is over.
    pub fn drained(&self, work: EntryKind, drained: Drained, failed: bool) {
        let Drained { begun, before } = drained;
        let parts = parts(&self.devices, &before);
        let mut kept = self.kept.lock();
        let begun_at = begun.saturating_duration_since(kept.start);
        let entry = Entry {
            bytes: parts.iter().fold(0, |sum, part| part.bytes.saturating_add(sum)),
            reads: parts.iter().fold(0, |sum, part| part.calls.saturating_add(sum)),
            failed,
            devices: parts,
            ..Entry::new(work, kept.phase(), begun_at, begun.elapsed())
        };
        kept.put(entry);
    }

    /// A member went to LOADED by itself.
    pub fn loaded(&self, member: usize, begun: Instant, took: Duration, failed: bool) {
        let mut kept = self.kept.lock();
        let devices = self.devices.get(member..).unwrap_or_default().get(..1).unwrap_or_default();
        let parts = parts(devices, kept.before.get(member..).unwrap_or_default());
        let entry = Entry {
            bytes: parts.iter().fold(0, |sum, part| part.bytes.saturating_add(sum)),
            reads: parts.iter().fold(0, |sum, part| part.calls.saturating_add(sum)),
            failed,
            devices: parts,
            ..Entry::new(EntryKind::Loaded, kept.phase(), begun.saturating_duration_since(kept.start), took)
        };
        kept.entries.push(entry);
    }

    /// Harvests of this tracker are the migration's from here on.
    pub fn follow(&self, tracker: &Arc<Tracker>) {
        let journal: Weak<dyn Journal> = Arc::downgrade(&(Arc::clone(&self.kept) as Arc<dyn Journal>));
        tracker.tell(journal);
        self.kept.lock().trackers.push((Arc::downgrade(tracker), tracker.restarts()));
    }

    /// What was read ahead in this attempt: from when the first device was read until the last one was.
    fn read_ahead(&self, kept: &Kept) -> Option<Entry> {
        let spans =
            self.devices.iter().filter_map(|device| device.ahead_span()).filter(|(from, _)| *from >= kept.start);
        let (begun, ended) = spans.reduce(|(a, b), (from, to)| (a.min(from), b.max(to)))?;
        let moved = |(device, before): (&Arc<Device>, &Traffic)| device.ahead_traffic().since(before);
        let moved: Vec<Traffic> = self.devices.iter().zip(&kept.ahead_before).map(moved).collect();
        let devices: Vec<DevicePart> =
            self.devices.iter().zip(&moved).map(|(device, moved)| part(device, moved)).collect();
        Some(Entry {
            bytes: devices.iter().fold(0, |sum, part| part.bytes.saturating_add(sum)),
            reads: devices.iter().fold(0, |sum, part| part.calls.saturating_add(sum)),
            devices,
            ..Entry::new(
                EntryKind::ReadAhead,
                READS_AHEAD,
                begun.saturating_duration_since(kept.start),
                ended.saturating_duration_since(begun),
            )
        })
    }

    pub fn report(&self, direction: Direction) -> Report {
        let kept = self.kept.lock();
        let traffic = |(device, before): (&Arc<Device>, &Traffic)| device.traffic().since(before);
        let moved: Vec<Traffic> = self.devices.iter().zip(&kept.before).map(traffic).collect();
        let restarts = kept
            .trackers
            .iter()
            .filter_map(|(tracker, before)| Some(tracker.upgrade()?.restarts().saturating_sub(*before)));
        let counters = Counters {
            retries: moved.iter().fold(0, |sum, one| one.retries.saturating_add(sum)),
            waits: moved.iter().fold(0, |sum, one| one.waits.saturating_add(sum)),
            degraded: kept.degraded,
            failed_reads: kept.failed_reads,
            log_restarts: restarts.fold(0, u64::saturating_add),
        };
        let mut entries = kept.entries.clone();
        entries.extend(self.read_ahead(&kept));
        entries.sort_by_key(|entry| entry.begun);
        Report {
            direction,
            phases: kept.phases.clone(),
            entries,
            devices: parts(&self.devices, &kept.before),
            counters,
        }
    }
}

impl Kept {
    /// The phase that was entered last, or tried.
    fn phase(&self) -> Phase {
        self.phases.last().map_or(Phase::Idle, |last| last.phase)
    }

    /// What is done again and again in a phase is one entry.
    fn put(&mut self, entry: Entry) {
        let same = |old: &&mut Entry| old.work == entry.work && old.failed == entry.failed;
        match self.entries.get_mut(self.settled..).unwrap_or_default().iter_mut().find(same) {
            Some(old) => old.join(entry),
            None => self.entries.push(entry),
        }
    }
}

impl Journal for Mutex<Kept> {
    fn harvested(&self, begun: Instant, harvest: &Harvest) {
        let mut kept = self.lock();
        let degraded = harvest.degraded_bytes > 0 || harvest.failed_reads > 0;
        kept.degraded = kept.degraded.saturating_add(u64::from(degraded));
        kept.failed_reads = kept.failed_reads.saturating_add(u64::from(harvest.failed_reads));
        let begun_at = begun.saturating_duration_since(kept.start);
        let entry = Entry {
            pages: harvest.total,
            reads: harvest.reads,
            ..Entry::new(EntryKind::Harvest, kept.phase(), begun_at, begun.elapsed())
        };
        kept.put(entry);
    }
}

/// What each device has moved since.
fn parts(devices: &[Arc<Device>], before: &[Traffic]) -> Vec<DevicePart> {
    devices.iter().zip(before).map(|(device, before)| part(device, &device.traffic().since(before))).collect()
}

fn part(device: &Device, moved: &Traffic) -> DevicePart {
    DevicePart {
        device: device.name().to_string(),
        bytes: moved.saved.saturating_add(moved.loaded),
        calls: moved.reads.saturating_add(moved.writes),
        time: moved.read_time.saturating_add(moved.write_time),
        waits: moved.waits,
        retries: moved.retries,
    }
}
