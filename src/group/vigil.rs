//! Devices that hang are seen: while others work for it, the calling thread tells the VMM who has arrived and who has not, and
//! the log of what takes long. No thread is made for it, so where the calling thread does the work itself both hear between
//! requests.

use super::members::{Group, GroupInner, Underway};
use super::watch::{Event, Listener, Who, Why, Wish};
use crate::device::{Asked, Device, DeviceProgress, DeviceRequest};
use crate::error::Result;
use crate::log::{Level, is_heard, log, patience, set_patience};
use crate::tracker::{LogAsked, LogEar, LogsWait, Tracker, side_by_side};
use crate::workers::{self, Watch};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Callbacks are not called more often than this, whatever was asked for.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

/// For tests: calls from this thread warn of requests that take so long, and again after so much longer.
pub fn set_warnings(long: Duration, again: Duration) {
    set_patience(long, again);
}

impl Group {
    /// `call` hears of each device that has arrived where a call on the group or its migration has sent it, and at the interval
    /// while one has not, while a log of a tracker does not answer to a start, a read or a stop, or while a drain is in progress.
    /// *whole.* It takes the place of an earlier one.
    ///
    /// It is called on the thread that made the call, with no lock held, and may call all that is of the class *any*; other calls
    /// on the group or its devices are refused, for they would wait for themselves (EDEADLK). While that thread does the work
    /// itself it can be called between requests only: with `max_workers` 1, for devices that must be asked on it, and where no
    /// thread could be had.
    pub fn on_progress(
        &self,
        interval: Duration,
        call: impl Fn(&Event<'_>) -> Wish + Send + Sync + 'static,
    ) -> Result<()> {
        let listener = Arc::new(Listener::new(interval.max(LEAST_INTERVAL), Box::new(call)));
        let mut inner = self.enter()?;
        *self.listener.write() = Some(Arc::clone(&listener));
        inner.listener = Some(listener);
        Ok(())
    }

    /// What each device of the group is doing now, in the order in which they were added. *any: asks no device and waits for no
    /// call, also during every other call.*
    pub fn progress(&self) -> Vec<DeviceProgress> {
        let devices = self.devices.read().clone();
        devices.iter().map(|device| device.progress()).collect()
    }

    /// Logs of its trackers that are being asked, for each tracker the one that was asked first. *any*, as
    /// [`progress`](Self::progress).
    pub fn asked_logs(&self) -> Vec<LogAsked> {
        let trackers = self.trackers.read().clone();
        trackers.iter().filter_map(|tracker| tracker.asked()).collect()
    }
}

/// One step, or one drain, that is watched.
pub(crate) struct Vigil<'a> {
    devices: Vec<&'a Device>,
    there: Vec<bool>,
    /// By device: the request that the log has, and when it is logged again.
    logged: Vec<Option<(Asked, Instant)>>,
    listener: Option<Arc<Listener>>,
    underway: Option<Arc<dyn Underway>>,
    /// Devices are sent somewhere, and the VMM hears of those that arrive.
    moves: bool,
    warns: bool,
    begun: Instant,
    call_at: Option<Instant>,
    warn_at: Option<Instant>,
}

impl GroupInner {
    /// A watch over these devices, all of them members. `moves`: what they are asked for is to go somewhere.
    pub fn vigil<'a>(&self, devices: impl IntoIterator<Item = &'a Device>, moves: bool) -> Vigil<'a> {
        let devices: Vec<&Device> = devices.into_iter().collect();
        let begun = Instant::now();
        let warns = is_heard(Level::Warning);
        let listener = self.listener.clone();
        Vigil {
            there: vec![false; devices.len()],
            logged: vec![None; devices.len()],
            call_at: listener.as_ref().and_then(|listener| begun.checked_add(listener.interval)),
            warn_at: begun.checked_add(patience().0).filter(|_| warns),
            underway: self.underway.clone(),
            devices,
            listener,
            moves,
            warns,
            begun,
        }
    }

    /// Something of trackers side by side, watched; results in their order.
    pub fn trackers_side_by_side(
        &self,
        trackers: &[Arc<Tracker>],
        job: impl Fn(&Tracker) -> Result<()> + Sync,
    ) -> Vec<Result<()>> {
        let hear = |wait: &LogsWait<'_>| {
            let Some(listener) = &self.listener else { return };
            if listener.hear(&event_of(wait)) == Wish::Cancel {
                self.underway.iter().for_each(|underway| underway.cancel());
            }
        };
        let ear = self.listener.as_ref().map(|listener| LogEar { interval: listener.interval, hear: &hear });
        side_by_side(trackers, self.max_workers, ear, job)
    }

    /// Something of some members side by side, watched; results in their order.
    pub fn side_by_side<T: Send>(&self, devices: &[&Device], moves: bool, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let any_thread: Vec<bool> = devices.iter().map(|device| device.any_thread()).collect();
        let mut results: Vec<Option<T>> = devices.iter().map(|_| None).collect();
        let mut vigil = self.vigil(devices.iter().copied(), moves);
        workers::run_watched(self.max_workers, &any_thread, job, &mut vigil, |vigil, item, result| {
            if let Some(place) = results.get_mut(item) {
                *place = Some(result);
            }
            vigil.arrived(item);
        });
        // One result came for each item, or a job has panicked, and so has this function.
        results.into_iter().flatten().collect()
    }
}

/// What a callback hears of logs.
pub(super) fn event_of<'a>(wait: &LogsWait<'a>) -> Event<'a> {
    let LogsWait { log, arrived, asked, elapsed } = *wait;
    Event { why: Why::Waiting, who: Who::Log(log), arrived, asked, elapsed }
}

impl Vigil<'_> {
    /// What the only device that is watched is asked for, outside of the group's gate.
    pub fn alone<T: Send>(mut self, max_workers: usize, job: impl Fn() -> T + Sync) -> Option<T> {
        let any_thread: Vec<bool> = self.devices.iter().map(|device| device.any_thread()).collect();
        let mut done = None;
        workers::run_watched(
            max_workers,
            &any_thread,
            |_| job(),
            &mut self,
            |vigil, item, result| {
                done = Some(result);
                vigil.arrived(item);
            },
        );
        done
    }

    /// A device is where it was to go.
    pub fn arrived(&mut self, item: usize) {
        self.there.get_mut(item).into_iter().for_each(|there| *there = true);
        self.tell_back(item, None);
        if self.moves {
            if let Some(device) = self.devices.get(item) {
                self.call(Why::Arrived, &device.progress());
            }
        }
    }

    fn call(&self, why: Why, device: &DeviceProgress) {
        let who = Who::Device(device);
        let Some(listener) = &self.listener else { return };
        let arrived = self.there.iter().filter(|there| **there).count();
        let event = Event { why, who, arrived, asked: self.devices.len(), elapsed: self.begun.elapsed() };
        if listener.hear(&event) == Wish::Cancel {
            self.underway.iter().for_each(|underway| underway.cancel());
        }
    }

    /// Of those that are missing, the one that was asked first.
    fn missing_longest(&self) -> Option<DeviceProgress> {
        let missing = self.devices.iter().zip(&self.there).filter(|(_, there)| !**there);
        missing
            .map(|(device, _)| device.progress())
            .min_by_key(|device| device.asked.map_or(Duration::MAX, |a| a.since))
    }

    /// A request that the log has is over.
    fn tell_back(&mut self, item: usize, now: Option<Asked>) {
        let Some(place) = self.logged.get_mut(item) else { return };
        if let Some((asked, _)) = place.take_if(|(asked, _)| Some(*asked) != now) {
            let name = self.devices.get(item).map_or("", |device| device.name());
            log!(Warning, "{name}: {} was answered after {:.1?}", asked.request, asked.age());
        }
    }

    /// What takes long; when to look again.
    fn warn(&mut self) -> Option<Instant> {
        let (long, again) = patience();
        let now = Instant::now();
        // What begins from here on is not long before that.
        let mut next = now.checked_add(long);
        for item in 0..self.devices.len() {
            let asked = self.devices.get(item).and_then(|device| device.asked());
            self.tell_back(item, asked);
            let (Some(device), Some(place), Some(asked)) = (self.devices.get(item), self.logged.get_mut(item), asked)
            else {
                continue;
            };
            let age = asked.age();
            let due = match *place {
                Some((_, due)) => Some(due),
                None => now.checked_add(long.saturating_sub(age)),
            };
            let due = if due.is_some_and(|due| due <= now) {
                log!(Warning, "{}: {}", device.name(), not_answered(device, asked.request, age));
                let due = now.checked_add(again);
                *place = due.map(|due| (asked, due));
                due
            } else {
                due
            };
            next = [next, due].into_iter().flatten().min();
        }
        next
    }
}

impl Drop for Vigil<'_> {
    /// Whoever only waited, for a device that others had asked, may leave before a look has found the answer.
    fn drop(&mut self) {
        for item in 0..self.devices.len() {
            let asked = self.devices.get(item).and_then(|device| device.asked());
            self.tell_back(item, asked);
        }
    }
}

fn not_answered(device: &Device, request: DeviceRequest, age: Duration) -> String {
    let at = device.state();
    format!("{request} was not answered for {age:.1?}; last found in {at}")
}

impl Watch for Vigil<'_> {
    fn look(&mut self) -> Option<Instant> {
        let due = |at: &Option<Instant>, now: Instant| at.is_some_and(|at| at <= now);
        if self.call_at.is_none() && self.warn_at.is_none() {
            return None;
        }
        let now = Instant::now();
        if due(&self.warn_at, now) {
            self.warn_at = self.warn();
        }
        if due(&self.call_at, now) {
            if let Some(device) = self.missing_longest() {
                self.call(Why::Waiting, &device);
            }
            let interval = self.listener.as_ref().map(|listener| listener.interval);
            self.call_at = interval.and_then(|interval| Instant::now().checked_add(interval));
        }
        [self.call_at, self.warn_at].into_iter().flatten().min()
    }

    fn wants_free_hands(&self) -> bool {
        self.listener.is_some() || self.warns
    }
}
