//! How long the last change from each state to each other took. What a device does depends on both: RESUMING -> STOP judges a
//! stream, RUNNING -> STOP does not. For any thread to see.

use super::Device;
use crate::dialect::State;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STATES: usize = State::ALL.len();

/// Where a time is not known.
const UNKNOWN_TIME: u64 = u64::MAX;

/// Nanoseconds, by the numbers of both states.
#[derive(Debug)]
pub(super) struct Times([[AtomicU64; STATES]; STATES]);

impl Times {
    pub fn new() -> Self {
        Times(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(UNKNOWN_TIME))))
    }

    fn place(&self, from: State, to: State) -> Option<&AtomicU64> {
        self.0.get(from.number() as usize)?.get(to.number() as usize)
    }
}

impl Device {
    /// How long the change took the last time, or what [`set_transition_time`](Self::set_transition_time) has said since.
    /// `None`: it is not known. *any.*
    pub fn transition_time(&self, from: State, to: State) -> Option<Duration> {
        let nanos = self.cache.times.place(from, to)?.load(Ordering::Relaxed);
        (nanos != UNKNOWN_TIME).then(|| Duration::from_nanos(nanos))
    }

    /// States how long the change takes in a save or a pause, until one of these measures it. *any.*
    pub fn set_transition_time(&self, from: State, to: State, time: Duration) {
        if let Some(place) = self.cache.times.place(from, to) {
            place.store(u64::try_from(time.as_nanos()).unwrap_or(UNKNOWN_TIME), Ordering::Relaxed);
        }
    }
}
