//! What a VMM is told of devices on their way, and what it can ask for: the types of its callback.

use crate::device::DeviceProgress;
use std::time::Duration;

/// Why a progress callback is called.
///
/// Example: [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A device has done what it was asked for, or has failed; its result comes with the call.
    Arrived,
    /// The interval has gone by.
    Waiting,
}

/// What a progress callback is told.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::group::{Group, GroupOptions, Why, Wish};
///
/// let hardware = simdev::Device::new(simdev::Config::default());
/// let options = DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() };
/// let group = Group::new(GroupOptions::default());
/// group.add_device(Arc::new(Device::new(hardware.transport(), options)?))?;
/// let arrived = Arc::new(Mutex::new(Vec::new()));
/// let seen = Arc::clone(&arrived);
/// group.on_progress(Duration::from_secs(1), move |event| {
///     match event.why {
///         Why::Arrived => seen.lock().unwrap().push(event.device.device.clone()),
///         Why::Waiting => println!("{} of {} after {:?}", event.arrived, event.asked, event.elapsed),
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
    pub device: &'a DeviceProgress,
    /// How many devices are done with this step.
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
    pub call: Box<dyn Fn(&Event<'_>) -> Wish + Send + Sync>,
}
