//! How much is left, whether it is time to stop the guest, and for how long it would stand still.
//!
//! Rules: C4 (initial data first), C5 (never wait for dirty_bytes to reach zero), C9 (REINIT), P21 (nothing is asked from any
//! thread but the device's), P19 (sizes may be unknown or nonsense: unknown is a value, never zero).

use super::Migration;
use super::sequence::grace;
use crate::device::Device;
use crate::dialect::State;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// What is left over all devices; `None` is unknown, as each sum is of which one device does not know its part.
///
/// ```
/// use vfiomig::dialect::Direction;
/// use vfiomig::migration::{Migration, Phase};
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
/// save.advance(Phase::SavePreCopy)?;
/// let pending = save.pending_exact()?;
/// assert!(!pending.ready && pending.initial_bytes.is_some_and(|bytes| bytes > 0));
/// assert!(pending.reasons[0].contains("nic0"), "{:?}", pending.reasons);
/// # save.abort(vfiomig::migration::AbortTo::Running)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationPending {
    /// Initial data, which is to be sent before the guest stops.
    pub initial_bytes: Option<u64>,
    /// Data that changed since it was sent.
    pub dirty_bytes: Option<u64>,
    /// All that is left up to the ends of the streams, with what pre-copy would still bring.
    pub stop_copy_bytes: Option<u64>,
    /// Bytes consumed so far.
    pub saved_bytes: u64,
    /// How often devices began again with initial data.
    pub reinit_count: u32,
    /// No device has a reason to wait.
    pub ready: bool,
    /// Which devices have one, and which sizes are unknown, in words.
    pub reasons: Vec<String>,
}

/// What the caller knows better than the library.
///
/// Example: [`Estimate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EstimateInput {
    /// The rate of the channel; 0 is refused (ARGUMENT). `None`: as measured by the library's own drains.
    pub bytes_per_second: Option<u64>,
    /// For all state changes from the guest's stop on; `None`: as measured in earlier ones.
    pub transition: Option<Duration>,
    /// What else goes over the channel while the guest stands still.
    pub other_bytes: u64,
}

/// How long the guest would stand still, by part. A part is `None` where nothing of it is known. Where only some of it is, it is
/// the least that it can be, `unknown` has its bit, and so is the sum.
///
/// ```
/// use vfiomig::dialect::Direction;
/// use vfiomig::migration::{EstimateInput, Lacks, Migration, Phase};
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
/// save.advance(Phase::SavePreCopy)?;
/// save.pending_exact()?;
/// let estimate = save.estimate(EstimateInput { bytes_per_second: Some(1 << 30), ..EstimateInput::default() })?;
/// assert!(estimate.transfer.is_some() && !estimate.unknown.contains(Lacks::RATE));
/// // The device was never stopped, so it is not known how long that takes: the sum is the least that it can be.
/// assert!(estimate.unknown.contains(Lacks::TRANSITION) && estimate.unknown_devices == 1);
/// # save.abort(vfiomig::migration::AbortTo::Running)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// All of it: the sum of the parts that are known.
    pub downtime: Option<Duration>,
    /// Devices come to rest: the slowest of each barrier.
    pub transition: Option<Duration>,
    /// The rest goes over the channel.
    pub transfer: Option<Duration>,
    /// That rest. Of each device its stop-copy size, which contains what pre-copy would bring; where it is not known, what
    /// pre-copy would bring.
    pub bytes: Option<u64>,
    /// The rate it was reckoned with.
    pub bytes_per_second: Option<u64>,
    /// Of these something is not known.
    pub unknown: Lacks,
    /// How many devices do not know their part of it.
    pub unknown_devices: usize,
    /// What is unknown, and which devices are not ready, in words.
    pub reasons: Vec<String>,
}

bitflags::bitflags! {
    /// What an estimate lacks.
    ///
    /// Example: [`Estimate`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Lacks: u32 {
        /// How long some state changes take.
        const TRANSITION = 0x1;
        /// How much some devices have left.
        const BYTES = 0x2;
        /// The rate of the channel.
        const RATE = 0x4;
    }
}

impl Migration {
    /// The figures of the last queries. *any: asks no device, never blocks.*
    pub fn pending(&self) -> MigrationPending {
        let mut all = pending(&self.devices);
        if let Err(error) = self.check_sessions() {
            all.ready = false;
            all.reasons.push(format!("not ready: {error}"));
        }
        all
    }

    /// Asks the devices, each from one thread (P21). *whole; blocks in the kernel, and on some devices makes the next data.* A
    /// device that is used by a data call now keeps its last figures.
    pub fn pending_exact(&self) -> Result<MigrationPending> {
        let (inner, _run) = self.enter()?;
        self.check_sessions()?;
        let asks = |device: &Device| match device.pending_exact() {
            Err(error) if error.kind() != ErrorKind::Busy => Some(error),
            _ => None,
        };
        let devices: Vec<&Device> = self.devices.iter().map(|device| &**device).collect();
        let errors = inner.side_by_side(&devices, false, |i| devices.get(i).and_then(|device| asks(device)));
        match errors.into_iter().flatten().next() {
            Some(error) => Err(error),
            // One of them may have turned out to be lost.
            None => self.check_sessions().map(|()| self.pending()),
        }
    }

    /// How long the guest would stand still if it were stopped now. *any: asks no device and waits for no call.*
    pub fn estimate(&self, given: EstimateInput) -> Result<Estimate> {
        if given.bytes_per_second == Some(0) {
            return Err(Error::argument("bytes_per_second: 0; leave it out if it is not known"));
        }
        self.check_open()?;
        let mut reasons = self.pending().reasons;
        let lefts: Vec<Left> = self.devices.iter().map(|device| left(device)).collect();
        let known = given.other_bytes > 0 || lefts.is_empty() || lefts.iter().any(|left| left.bytes.is_some());
        let sum = lefts.iter().filter_map(|left| left.bytes).fold(given.other_bytes, u64::saturating_add);
        let bytes = known.then_some(sum);
        let rate = given.bytes_per_second.or_else(|| self.course.shown.rate.bytes_per_second());
        if rate.is_none() {
            reasons.push("bandwidth: not given, and nothing was measured".to_string());
        }
        let transfer = bytes.zip(rate).map(|(bytes, rate)| time_of(bytes, rate));
        let moves = match given.transition {
            Some(all) => Moves { time: Some(all), unknown: vec![false; self.devices.len()] },
            None => moves(&self.devices, &mut reasons),
        };
        let unknown_devices = lefts.iter().zip(&moves.unknown).filter(|(left, moves)| !left.all || **moves).count();
        let lacking = [
            (moves.unknown.contains(&true), Lacks::TRANSITION),
            (lefts.iter().any(|left| !left.all), Lacks::BYTES),
            (rate.is_none(), Lacks::RATE),
        ];
        Ok(Estimate {
            downtime: [moves.time, transfer].into_iter().flatten().reduce(Duration::saturating_add),
            transition: moves.time,
            transfer,
            bytes,
            bytes_per_second: rate,
            unknown: lacking.iter().filter(|(lacks, _)| *lacks).map(|(_, what)| *what).collect(),
            unknown_devices,
            reasons,
        })
    }
}

/// What one device has left.
struct Left {
    /// At least so much; `None`: nothing is known.
    bytes: Option<u64>,
    /// That is all.
    all: bool,
}

/// The stop-copy size contains what pre-copy would bring, so the two are never added; a driver whose stop-copy size is smaller
/// than what pre-copy would bring is not believed.
fn left(device: &Device) -> Left {
    let DeviceSizes { initial, dirty, stop_copy, has_initial } = parts(device);
    let precopy = [initial, dirty].into_iter().flatten().reduce(u64::saturating_add).filter(|_| has_initial);
    Left { bytes: stop_copy.max(precopy), all: stop_copy.is_some() }
}

/// Beyond so much time what was measured counts half: a channel changes.
const MEMORY: Duration = Duration::from_secs(2);

/// Bytes over time, as the library's own drains have seen it; for any thread to see. Held for a copy only.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate(Arc<Mutex<RateSample>>);

#[derive(Clone, Copy, Debug, Default)]
struct RateSample {
    bytes: u64,
    time: Duration,
}

impl Rate {
    /// `time`: from the beginning to the last byte, for while devices have nothing a channel shows nothing of itself.
    pub fn add(&self, bytes: u64, time: Duration) {
        if bytes > 0 {
            let mut seen = self.0.lock();
            if seen.time > MEMORY {
                *seen = RateSample { bytes: seen.bytes / 2, time: seen.time.checked_div(2).unwrap_or_default() };
            }
            seen.bytes = seen.bytes.saturating_add(bytes);
            seen.time = seen.time.saturating_add(time);
        }
    }

    fn bytes_per_second(&self) -> Option<u64> {
        let RateSample { bytes, time } = *self.0.lock();
        let per_second = u128::from(bytes).checked_mul(1_000_000_000)?.checked_div(time.as_nanos())?;
        u64::try_from(per_second).ok().filter(|&rate| rate > 0)
    }
}

fn time_of(bytes: u64, per_second: u64) -> Duration {
    let nanos =
        u128::from(bytes).saturating_mul(1_000_000_000).checked_div(u128::from(per_second)).unwrap_or(u128::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How long devices take to come to rest.
struct Moves {
    /// At least so long; `None`: nothing is known.
    time: Option<Duration>,
    /// By member: something of it is not known.
    unknown: Vec<bool>,
}

use State::{PreCopy as PC, PreCopyP2p as PP, Running as RU, RunningP2p as RP, Stop as ST, StopCopy as SC};

/// Changes that do the same to a device, the one that it would be asked for first. Those of a load are none of them.
type Like = &'static [(State, State)];

/// Into grace, for devices that have it.
const INTO_GRACE: [(State, Like); 2] = [(PC, &[(PC, PP), (RU, RP)]), (RU, &[(RU, RP), (PC, PP)])];
/// To rest, from where grace has left it.
const TO_REST: [(State, Like); 5] = [
    (PP, &[(PP, SC), (RP, SC), (RP, ST)]),
    (RP, &[(RP, SC), (RP, ST), (PP, SC)]),
    (PC, &[(PC, SC), (RU, SC), (RU, ST)]),
    (RU, &[(RU, SC), (RU, ST), (PC, SC)]),
    (ST, &[(ST, SC)]),
];

/// The slowest device of each barrier, as last measured.
fn moves(devices: &[Arc<Device>], reasons: &mut Vec<String>) -> Moves {
    let (mut times, mut unknown) = ([None; 2], Vec::new());
    for device in devices {
        let at = device.state();
        let has_grace = device.ability().is_ok_and(|(_, caps)| caps.p2p);
        let graced = if has_grace { grace(at) } else { at };
        let steps = [like(&INTO_GRACE, at).filter(|_| graced != at), like(&TO_REST, graced)];
        let mut lacks = false;
        for (slowest, arcs) in times.iter_mut().zip(steps) {
            let Some(arcs) = arcs else { continue };
            let took = arcs.iter().find_map(|&(from, to)| device.transition_time(from, to));
            *slowest = took.max(*slowest);
            lacks |= took.is_none();
        }
        if lacks {
            let name = device.name();
            reasons.push(format!("{name}: how long its state changes take was not given and not measured"));
        }
        unknown.push(lacks);
    }
    let known = times.into_iter().flatten().reduce(Duration::saturating_add);
    // Where no device has to move it takes no time.
    Moves { time: known.or_else(|| (!unknown.contains(&true)).then_some(Duration::ZERO)), unknown }
}

fn like(table: &'static [(State, Like)], from: State) -> Option<Like> {
    table.iter().find(|(state, _)| *state == from).map(|(_, arcs)| *arcs)
}

/// The sizes of one device that count where it is.
struct DeviceSizes {
    initial: Option<u64>,
    dirty: Option<u64>,
    stop_copy: Option<u64>,
    /// It may have initial data.
    has_initial: bool,
}

fn parts(device: &Device) -> DeviceSizes {
    let (now, at) = (device.pending(), device.state());
    // Without PRE_COPY nothing is to be sent while it runs, and a stopped device has no such data any more.
    let has_precopy = device.ability().is_ok_and(|(_, caps)| caps.pre_copy);
    let has_initial = has_precopy && (at.is_precopy() || at == State::Running);
    let (initial, dirty) = if has_initial { (now.initial_bytes, now.dirty_bytes) } else { (Some(0), Some(0)) };
    DeviceSizes { initial, dirty, stop_copy: now.stop_copy_bytes, has_initial }
}

fn pending(devices: &[Arc<Device>]) -> MigrationPending {
    let mut all = MigrationPending {
        initial_bytes: Some(0),
        dirty_bytes: Some(0),
        stop_copy_bytes: Some(0),
        saved_bytes: 0,
        reinit_count: 0,
        ready: true,
        reasons: Vec::new(),
    };
    for device in devices {
        let info = device.info();
        let DeviceSizes { initial, dirty, stop_copy, has_initial } = parts(device);
        let parts = [
            ("initial bytes", initial, &mut all.initial_bytes),
            ("dirty bytes", dirty, &mut all.dirty_bytes),
            ("stop-copy bytes", stop_copy, &mut all.stop_copy_bytes),
        ];
        for (what, part, sum) in parts {
            if part.is_none() {
                all.reasons.push(format!("{}: {what} unknown", device.name()));
            }
            *sum = sum.zip(part).map(|(a, b)| a.saturating_add(b));
        }
        if let Some(why) = blocks(has_initial, initial, device.is_initial_gone()) {
            all.ready = false;
            all.reasons.push(format!("{}: not ready: {why}", device.name()));
        }
        all.saved_bytes = all.saved_bytes.saturating_add(info.saved_bytes);
        all.reinit_count = all.reinit_count.saturating_add(device.pending().reinit_count);
    }
    all
}

/// C4: why the guest should not stop yet. A stream that was empty once after its device was asked has no initial data, whatever
/// the device's estimate says: some estimates never fall. New initial data is announced (C9), and then it counts again.
fn blocks(has_initial: bool, initial: Option<u64>, initial_gone: bool) -> Option<&'static str> {
    match initial {
        _ if !has_initial || initial_gone => None,
        Some(0) => None,
        Some(_) => Some("initial data is left"),
        None => Some("it does not say how much initial data is left, and was never empty yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unknown is never 0: by a rate of 0 an estimate would end behind the end of time.
    #[test]
    fn a_rate_of_less_than_a_byte_per_second_is_unknown() {
        let rate = Rate::default();
        assert_eq!(rate.bytes_per_second(), None);
        rate.add(1, MEMORY);
        assert_eq!(rate.bytes_per_second(), None);
        rate.add(3, MEMORY);
        assert_eq!(rate.bytes_per_second(), Some(1));
    }
}
