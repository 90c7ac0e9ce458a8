//! The group itself: its places, and who may change them.

use super::outcome::{DeviceOutcome, results};
use super::plan::Rest;
use super::switch::{Switch, SwitchAction};
use super::watch::Listener;
use crate::cancel::Hurry;
use crate::device::Device;
use crate::dialect::{Direction, State};
use crate::error::{DeviceResult, Error, Result};
use crate::gate::{Driver, Gate, GateLevel, GateToken, Pass, Promise};
use crate::tracker::Tracker;
use parking_lot::RwLock;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// How a group works.
///
/// ```
/// use std::sync::Arc;
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::dialect::Caps;
/// use vfiomig::group::{Group, GroupOptions};
///
/// let hardware = simdev::Device::new(simdev::Config::v2(Caps { p2p: false, pre_copy: true }));
/// let device = Arc::new(Device::new(hardware.transport(), DeviceOptions::default())?);
/// let may_map_for_peers = |foreign_initiators| {
///     let group = Group::new(GroupOptions { foreign_initiators, ..GroupOptions::default() });
///     group.add_device(Arc::clone(&device))?;
///     group.abilities().map(|abilities| abilities.p2p)
/// };
/// assert!(may_map_for_peers(0)?, "it has no peer");
/// assert!(!may_map_for_peers(1)?);
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupOptions {
    /// Most threads of one call; 0: one per device, within reason; 1: none, devices are served one after another.
    pub max_workers: usize,
    /// Devices of the VM that can start DMA to others and that are not in the group.
    pub foreign_initiators: u32,
}

/// The devices and trackers of one VM.
///
/// Methods are of the class *whole*, they wait for each other and for the calls in progress on the devices, unless their text
/// says *any*; [`harvest`](Self::harvest) goes beside all of them.
///
/// ```
/// use std::sync::Arc;
/// use vfiomig::device::{self, Device};
/// use vfiomig::dialect::State;
/// use vfiomig::group::{Group, GroupOptions};
///
/// let hardware = [1, 2].map(|_| simdev::Device::new(simdev::Config::v2(vfiomig::dialect::Caps { p2p: true, pre_copy: true })));
/// let group = Group::new(GroupOptions::default());
/// for (number, hardware) in hardware.iter().enumerate() {
///     let options = device::DeviceOptions { name: format!("nic{number}"), ..device::DeviceOptions::default() };
///     group.add_device(Arc::new(Device::new(hardware.transport(), options)?))?;
/// }
/// group.pause()?;
/// assert!(hardware.iter().all(|device| device.state() == State::Stop));
/// group.resume()?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub struct Group {
    pub(super) options: GroupOptions,
    gate: Arc<Gate<GroupInner>>,
    /// As in `GroupInner`, for harvests, which go beside everything else.
    pub(super) trackers: RwLock<Vec<Arc<Tracker>>>,
    /// The members' devices, for getters, which wait for no call. Held for a copy only, as the next one is.
    pub(super) devices: RwLock<Vec<Arc<Device>>>,
    shown: Arc<LastResults>,
    /// As in `GroupInner`, for harvests.
    pub(super) listener: RwLock<Option<Arc<Listener>>>,
    /// The same, for calls that end what they would wait for.
    pub(super) underway: RwLock<Option<Arc<dyn Underway>>>,
}

/// What a call has for itself while it is in progress.
pub(crate) struct GroupInner {
    pub members: Vec<Member>,
    pub trackers: Vec<Arc<Tracker>>,
    pub max_workers: usize,
    /// A migration of the group exists: its members stay.
    pub migration: Option<Direction>,
    /// What the migration has to say to a pause or resume.
    pub underway: Option<Arc<dyn Underway>>,
    /// Why pause and resume are not allowed now.
    pub frozen: Option<&'static str>,
    /// One per member, of the last call that moved devices.
    shown: Arc<LastResults>,
    /// Who hears of devices that arrive, or do not.
    pub listener: Option<Arc<Listener>>,
}

/// The results of the last call that moved devices, for any thread to see. Held for a copy only.
#[derive(Default)]
struct LastResults(RwLock<Vec<DeviceResult>>);

/// A migration of the group, as far as a pause or a resume concerns it.
pub(crate) trait Underway: Send + Sync {
    /// What it does in place of the group; `None`: the group stops or continues its devices itself. `half`: the first pass of
    /// two.
    fn instead(&self, inner: &mut GroupInner, rest: Rest, half: bool) -> Option<Result<()>>;
    /// The group has done it, or tried to: where the VM is to be now.
    fn rested(&self, inner: &mut GroupInner, rest: Rest, half: bool, begun: Instant, outcomes: &mut [DeviceOutcome]);
    /// What it does where the VM stops or starts; `None`: the group pauses or resumes.
    fn switch(&self, inner: &mut GroupInner, switch: Switch) -> Option<(SwitchAction, Result<()>)>;
    /// As the caller's wish, from within one of its callbacks.
    fn cancel(&self);
    /// The VM starts by an abort: a drain in progress ends for it as long as the result lives.
    fn hurries(&self, switch: Switch) -> Option<Hurry>;
    /// A tracker came: a save that tracks starts it.
    fn tracker_came(&self, inner: &GroupInner, tracker: &Arc<Tracker>) -> Result<()>;
    /// A tracker goes: a save that has started it stops it, and refuses what it would miss.
    fn tracker_goes(&self, inner: &GroupInner, tracker: &Arc<Tracker>) -> Result<()>;
}

/// One place of a group.
pub(crate) struct Member {
    pub device: Arc<Device>,
    /// During a migration: where the last step left the device.
    pub expected: Option<State>,
}

impl Group {
    /// An empty group.
    pub fn new(options: GroupOptions) -> Self {
        let shown = Arc::<LastResults>::default();
        let inner = GroupInner {
            members: Vec::new(),
            trackers: Vec::new(),
            max_workers: options.max_workers,
            migration: None,
            underway: None,
            frozen: None,
            shown: Arc::clone(&shown),
            listener: None,
        };
        let gate = Arc::new(Gate::new(GateLevel::Group, inner));
        let (trackers, devices, listener, underway) = Default::default();
        Group { options, gate, trackers, devices, shown, listener, underway }
    }

    /// Adds a device. Refused for a name that the group has already, and while a migration exists. The place of a device whose
    /// handle was freed goes with the next call on the group, at the latest when the group's migration has ended.
    pub fn add_device(&self, device: Arc<Device>) -> Result<()> {
        let mut inner = self.enter()?;
        inner.check_no_migration("adding a device")?;
        let name = device.name();
        if device.is_closed() {
            return Err(Error::gone(format!("{name}: the device handle was freed")));
        }
        if inner.members.iter().any(|member| member.device.name() == name) {
            return Err(Error::argument(format!("{name}: the group has a device of that name")));
        }
        device.join(Arc::downgrade(&self.gate) as Weak<dyn Driver>);
        inner.members.push(Member { device, expected: None });
        self.show_devices(&inner);
        Ok(())
    }

    /// Removes a device. One whose handle was freed is gone already. Refused while a migration exists.
    pub fn remove_device(&self, device: &Arc<Device>) -> Result<()> {
        let mut inner = self.enter()?;
        inner.check_no_migration("removing a device")?;
        if device.is_closed() {
            return Ok(());
        }
        let before = inner.members.len();
        inner.members.retain(|member| !Arc::ptr_eq(&member.device, device));
        if inner.members.len() == before {
            return Err(Error::argument(format!("{}: the group has no such device", device.name())));
        }
        device.leave(&(Arc::downgrade(&self.gate) as Weak<dyn Driver>));
        inner.shown.0.write().clear();
        self.show_devices(&inner);
        Ok(())
    }

    /// Adds a tracker, for as long as it lives: migrations start and stop it. A save that tracks already starts it now, and all
    /// that it knows is dirty once; one in STOP_COPY refuses it. The place of one whose handle was freed goes as that of a
    /// device does.
    pub fn add_tracker(&self, tracker: Arc<Tracker>) -> Result<()> {
        let mut inner = self.enter()?;
        if tracker.is_closed() {
            return Err(Error::gone(format!("{}: the tracker handle was freed", tracker.name())));
        }
        if inner.trackers.iter().any(|other| Arc::ptr_eq(other, &tracker)) {
            return Err(Error::argument(format!("{}: the group has this tracker", tracker.name())));
        }
        if let Some(underway) = &inner.underway {
            underway.tracker_came(&inner, &tracker)?;
        }
        inner.trackers.push(tracker);
        *self.trackers.write() = inner.trackers.clone();
        Ok(())
    }

    /// Removes a tracker. One whose handle was freed is gone already. A save that tracks by it stops it now, and refuses that
    /// while it has mappings, or pages that were not reported.
    pub fn remove_tracker(&self, tracker: &Arc<Tracker>) -> Result<()> {
        let mut inner = self.enter()?;
        if tracker.is_closed() {
            return Ok(());
        }
        if !inner.trackers.iter().any(|other| Arc::ptr_eq(other, tracker)) {
            return Err(Error::argument(format!("{}: the group has no such tracker", tracker.name())));
        }
        if let Some(underway) = &inner.underway {
            underway.tracker_goes(&inner, tracker)?;
        }
        inner.trackers.retain(|other| !Arc::ptr_eq(other, tracker));
        *self.trackers.write() = inner.trackers.clone();
        Ok(())
    }

    /// The devices, in the order in which they were added; results have the same order.
    pub fn devices(&self) -> Result<Vec<Arc<Device>>> {
        Ok(self.enter()?.members.iter().map(|member| Arc::clone(&member.device)).collect())
    }

    /// What the last call that moved devices did, one result per device; empty before the first. *any.*
    pub fn results(&self) -> Result<Vec<DeviceResult>> {
        self.check_open()?;
        Ok(self.shown.0.read().clone())
    }

    /// Ends the use of the group: waits for the call in progress. Devices and trackers stay as they are. Later calls, also
    /// those of a migration, answer ENODEV.
    pub fn close(&self) -> Result<()> {
        drop(self.gate.enter_to_close().map_err(|denied| denied.of("group"))?.close());
        self.trackers.write().clear();
        self.devices.write().clear();
        *self.listener.write() = None;
        *self.underway.write() = None;
        Ok(())
    }

    pub(crate) fn enter(&self) -> Result<Pass<'_, GroupInner>> {
        let mut inner = self.gate.enter_whole().map_err(|denied| denied.of("group"))?;
        let before = inner.members.len();
        if inner.drop_freed() {
            *self.trackers.write() = inner.trackers.clone();
        }
        if inner.members.len() != before {
            self.show_devices(&inner);
        }
        Ok(inner)
    }

    /// The group has this migration, or none.
    pub(crate) fn has_underway(&self, inner: &mut GroupInner, underway: Option<Arc<dyn Underway>>) {
        *self.underway.write() = underway.clone();
        inner.underway = underway;
    }

    /// As if a call on the group was in progress, for its part that is done outside of the gate.
    pub(crate) fn promise(&self) -> Promise {
        self.gate.promise()
    }

    /// For a thread that works for calls on the group.
    pub(crate) fn token(&self) -> GateToken {
        self.gate.token()
    }

    fn show_devices(&self, inner: &GroupInner) {
        *self.devices.write() = inner.members.iter().map(|member| Arc::clone(&member.device)).collect();
    }

    /// For getters: whether the group is one that calls can be made on.
    fn check_open(&self) -> Result<()> {
        self.gate.check().map_err(|denied| denied.of("group"))
    }
}

impl GroupInner {
    /// The places of freed devices and trackers: no handle names them any more, so the first call clears them away. A
    /// migration counts its members by their places, so during one they stay. Whether a tracker went.
    fn drop_freed(&mut self) -> bool {
        if self.migration.is_some() {
            return false;
        }
        let freed = |member: &Member| member.device.is_closed();
        if self.members.iter().any(freed) {
            self.members.retain(|member| !freed(member));
            self.shown.0.write().clear();
        }
        let before = self.trackers.len();
        self.trackers.retain(|tracker| !tracker.is_closed());
        self.trackers.len() != before
    }

    fn check_no_migration(&self, what: &str) -> Result<()> {
        if self.migration.is_some() {
            return Err(Error::order(format!("{what} is refused while a migration of the group exists")));
        }
        Ok(())
    }

    /// Keeps the results, and logs what failed.
    pub fn keep(&mut self, what: &str, outcomes: &mut [DeviceOutcome]) {
        outcomes.iter_mut().filter_map(|outcome| outcome.error.as_mut()).for_each(|error| error.tell(what));
        *self.shown.0.write() = results(outcomes);
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("options", &self.options).finish_non_exhaustive()
    }
}
