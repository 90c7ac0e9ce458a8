//! How much is left, whether it is time to stop the guest, and for how long it would stand still.
//!
//! Rules: C4 (initial data first), C5 (never wait for dirty_bytes to reach zero), C9 (REINIT), P21 (nothing is asked from any
//! thread but the device's), P19 (sizes may be unknown or nonsense: unknown is a value, never zero).

use super::Migration;
use crate::device::Device;
use crate::dialect::State;
use crate::error::{Error, Kind, Result};
use crate::group::{Inner, Member};
use crate::workers;
use std::sync::Arc;
use std::time::Duration;

/// What is left over all devices; `None` is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Initial data, which is to be sent before the guest stops.
    pub initial_bytes: Option<u64>,
    /// Data that changed since it was sent.
    pub dirty_bytes: Option<u64>,
    /// What comes once the devices are stopped.
    pub stop_copy_bytes: Option<u64>,
    /// Bytes consumed so far.
    pub sent_bytes: u64,
    /// How often devices began again with initial data.
    pub reinit_count: u32,
    /// No device has a reason to wait.
    pub ready: bool,
    /// Which devices have one, and which sizes are unknown, in words.
    pub notes: Vec<String>,
}

/// What the caller knows better than the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Of the channel; `None`: as measured by the library's own drains.
    pub bytes_per_second: Option<u64>,
    /// For all state changes from the guest's stop on; `None`: as measured in earlier ones.
    pub transition: Option<Duration>,
    /// What else goes over the channel while the guest stands still.
    pub other_bytes: u64,
}

/// How long the guest would stand still, by part; `None` is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// All of it.
    pub downtime: Option<Duration>,
    /// Devices come to rest: the slowest of each barrier.
    pub transition: Option<Duration>,
    /// The rest goes over the channel.
    pub transfer: Option<Duration>,
    /// That rest.
    pub bytes: Option<u64>,
    /// The rate it was reckoned with.
    pub bytes_per_second: Option<u64>,
    /// What is unknown, in words.
    pub notes: Vec<String>,
}

impl Migration {
    /// The figures of the last queries. *any: asks no device, never blocks.*
    pub fn pending(&self) -> Pending {
        pending(&self.devices)
    }

    /// Asks the devices, each from one thread (P21). *whole; blocks in the kernel, and on some devices makes the next data.* A
    /// device that is used by a data call now keeps its last figures.
    pub fn pending_exact(&self) -> Result<Pending> {
        let (inner, _run) = self.enter()?;
        let asks = |device: &Device| match device.pending_exact() {
            Err(error) if error.kind() != Kind::Busy => Some(error),
            _ => None,
        };
        let any_thread: Vec<bool> = self.devices.iter().map(|device| device.any_thread()).collect();
        let errors =
            workers::run(inner.max_workers, &any_thread, |i| self.devices.get(i).and_then(|device| asks(device)));
        match errors.into_iter().flatten().next() {
            Some(error) => Err(error),
            None => Ok(self.pending()),
        }
    }

    /// How long the guest would stand still if it were stopped now. Asks no device. *whole.*
    pub fn estimate(&self, given: Given) -> Result<Estimate> {
        if given.bytes_per_second == Some(0) {
            return Err(Error::argument("bytes_per_second: 0; leave it out if it is not known"));
        }
        let (inner, run) = self.enter()?;
        let pending = self.pending();
        let mut notes = pending.notes.clone();
        let left = [pending.initial_bytes, pending.dirty_bytes, pending.stop_copy_bytes, Some(given.other_bytes)];
        let bytes = left.into_iter().try_fold(0u64, |sum, part| Some(sum.saturating_add(part?)));
        let rate = given.bytes_per_second.or_else(|| run.rate.bytes_per_second());
        if rate.is_none() {
            notes.push("bandwidth: not given, and nothing was measured".to_string());
        }
        let transfer = bytes.zip(rate).map(|(bytes, rate)| time_of(bytes, rate));
        let transition = given.transition.or_else(|| transition(&inner, &mut notes));
        let downtime = transition.zip(transfer).map(|(a, b)| a.saturating_add(b));
        Ok(Estimate { downtime, transition, transfer, bytes, bytes_per_second: rate, notes })
    }
}

/// Bytes over time, as the library's own drains have seen it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    bytes: u64,
    time: Duration,
}

impl Rate {
    /// Drains that moved nothing tell nothing of a channel.
    pub fn add(&mut self, bytes: u64, time: Duration) {
        if bytes > 0 {
            self.bytes = self.bytes.saturating_add(bytes);
            self.time = self.time.saturating_add(time);
        }
    }

    fn bytes_per_second(self) -> Option<u64> {
        let per_second = u128::from(self.bytes).checked_mul(1_000_000_000)?.checked_div(self.time.as_nanos())?;
        u64::try_from(per_second).ok().filter(|&rate| rate > 0)
    }
}

fn time_of(bytes: u64, per_second: u64) -> Duration {
    let nanos =
        u128::from(bytes).saturating_mul(1_000_000_000).checked_div(u128::from(per_second)).unwrap_or(u128::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The slowest device of each barrier, as last measured.
fn transition(inner: &Inner, notes: &mut Vec<String>) -> Option<Duration> {
    let time = |member: &Member, state: State| member.times.get(state.number() as usize).copied().flatten();
    let either = |member: &Member, one, other| time(member, one).or_else(|| time(member, other));
    let (mut grace, mut stop, mut known) = (Duration::ZERO, Duration::ZERO, true);
    for member in &inner.members {
        let device = &member.device;
        let at = device.state();
        let has_grace = device.ability().is_ok_and(|(_, caps)| caps.p2p);
        let runs = matches!(at, State::Running | State::PreCopy);
        if has_grace && runs {
            match either(member, State::PreCopyP2p, State::RunningP2p) {
                Some(took) => grace = grace.max(took),
                None => known = false,
            }
        }
        if at != State::StopCopy {
            match either(member, State::StopCopy, State::Stop) {
                Some(took) => stop = stop.max(took),
                None => known = false,
            }
        }
        if !known {
            notes.push(format!("{}: how long its state changes take was not given and not measured", device.name()));
            return None;
        }
    }
    Some(grace.saturating_add(stop))
}

fn pending(devices: &[Arc<Device>]) -> Pending {
    let mut all = Pending {
        initial_bytes: Some(0),
        dirty_bytes: Some(0),
        stop_copy_bytes: Some(0),
        sent_bytes: 0,
        reinit_count: 0,
        ready: true,
        notes: Vec::new(),
    };
    for device in devices {
        let (now, info) = (device.pending(), device.info());
        // Without PRE_COPY nothing is to be sent while it runs, and a stopped device has no such data any more.
        let has_precopy = device.ability().is_ok_and(|(_, caps)| caps.pre_copy);
        let in_precopy = info.state.is_precopy();
        let before = has_precopy && (in_precopy || info.state == State::Running);
        let (initial, dirty) = if before { (now.initial_bytes, now.dirty_bytes) } else { (Some(0), Some(0)) };
        let parts = [
            ("initial bytes", initial, &mut all.initial_bytes),
            ("dirty bytes", dirty, &mut all.dirty_bytes),
            ("stop-copy bytes", now.stop_copy_bytes, &mut all.stop_copy_bytes),
        ];
        for (what, part, sum) in parts {
            if part.is_none() {
                all.notes.push(format!("{}: {what} unknown", device.name()));
            }
            *sum = sum.zip(part).map(|(a, b)| a.saturating_add(b));
        }
        if blocks(before, initial, info.seen_empty) {
            all.ready = false;
            all.notes.push(format!("{}: not ready: initial data is left", device.name()));
        }
        all.sent_bytes = all.sent_bytes.saturating_add(info.saved_bytes);
        all.reinit_count = all.reinit_count.saturating_add(now.reinit_count);
    }
    all
}

/// C4. Where the device cannot say how much is left, it was once empty.
fn blocks(has_precopy_data: bool, initial: Option<u64>, seen_empty: bool) -> bool {
    has_precopy_data && initial.map_or(!seen_empty, |bytes| bytes > 0)
}
