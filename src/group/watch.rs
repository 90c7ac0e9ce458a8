//! What a VMM is told of devices on their way, and what it can ask for: the types of its callback.

use crate::device::DeviceProgress;
use std::time::Duration;

/// Why a progress callback is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A device has done what it was asked for, or has failed; its result comes with the call.
    Arrived,
    /// The interval has gone by.
    Waiting,
}

/// What a progress callback is told.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Why now.
    pub why: Why,
    /// The one that has arrived; or, of those that have not, the one that was asked first.
    pub device: &'a DeviceProgress,
    /// How many devices are done with this step.
    pub arrived: usize,
    /// How many take part in it.
    pub asked: usize,
    /// Since the step began.
    pub elapsed: Duration,
}

/// What a progress callback wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    GoOn,
    /// As [`Migration::cancel`](crate::migration::Migration::cancel) of the group's migration; nothing where there is none.
    Cancel,
}

/// Who of the VMM wants to hear.
pub(crate) struct Listener {
    pub interval: Duration,
    pub call: Box<dyn Fn(&Event<'_>) -> Wish + Send + Sync>,
}
