//! What a VMM hears of devices between two states, and what it can ask for: the types of its callback.

use crate::device::DeviceProgress;
use crate::tracker::LogAsked;
use parking_lot::Mutex;
use std::time::Duration;

/// Why a progress callback is called.
///
/// Example: [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A device has done what it was asked for, or has failed; its result comes with the call.
    Arrived,
    /// The interval has gone by; a device has not arrived, or a log of a tracker has not answered.
    Waiting,
}

/// Who a call of the progress callback is about.
///
/// Example: [`Event`].
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// A device.
    Device(&'a DeviceProgress),
    /// A log of one of the group's trackers that is started, read or stopped.
    Log(&'a LogAsked),
}

/// What a progress callback gets.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::group::{Group, GroupOptions, Who, Why, Wish};
///
/// let hardware = simdev::Device::new(simdev::Config::default());
/// let options = DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() };
/// let group = Group::new(GroupOptions::default());
/// group.add_device(Arc::new(Device::new(hardware.transport(), options)?))?;
/// let arrived = Arc::new(Mutex::new(Vec::new()));
/// let seen = Arc::clone(&arrived);
/// group.on_progress(Duration::from_secs(1), move |event| {
///     match (event.why, event.who) {
///         (Why::Arrived, Who::Device(device)) => seen.lock().unwrap().push(device.device.clone()),
///         (_, Who::Device(device)) => println!("{}: {:?} in {:?}", device.device, device.asked, event.elapsed),
///         (_, Who::Log(log)) => println!("{}: {} since {:?}", log.log, log.request, log.age()),
///     }
///     Wish::GoOn
/// })?;
/// group.pause()?;
/// assert!(arrived.lock().unwrap().iter().any(|name| name == "nic0"));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Why now.
    pub why: Why,
    /// The one that has arrived; or, of those that have not, the one that was asked first.
    pub who: Who<'a>,
    /// How many devices, or logs, are done with this step; 0 in a drain and in a harvest.
    pub arrived: usize,
    /// How many take part in it.
    pub asked: usize,
    /// Since the step began.
    pub elapsed: Duration,
}

/// What a progress callback wants.
///
/// Example: [`Event`].
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
    call: Box<dyn Fn(&Event<'_>) -> Wish + Send + Sync>,
    /// A harvest goes beside other calls on the group, and the callback hears of one after the other.
    calling: Mutex<()>,
}

impl Listener {
    pub fn new(interval: Duration, call: Box<dyn Fn(&Event<'_>) -> Wish + Send + Sync>) -> Self {
        Listener { interval, call, calling: Mutex::new(()) }
    }

    pub fn hear(&self, event: &Event<'_>) -> Wish {
        let _one = self.calling.lock();
        (self.call)(event)
    }
}
