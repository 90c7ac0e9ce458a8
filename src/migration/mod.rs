//! One save or one load of a group: phases, and what happens when one of them fails.
//!
//! May import: wire, group, tracker, device, window, dialect, workers, transport, cancel, error, gate, log. Start reading at
//! [`Migration`] here, `sequence` (the order of phases and of devices in them, pure) and `advance` (one phase after the other;
//! `arrivals`: devices of a load that go by themselves). `save` and `load` are what is special to them, `abort` leads back,
//! `course` is what a pause or resume of the group has to know, `run_state` what it does where the VM stops or starts; `drain`
//! moves whole streams, `save_to` and `load_from` (`over_wire`, `load_wire`) are a whole save and a whole load in the library's
//! own format, `load_done` and `ending` hear how a load's streams and a save end, `options` are the caller's choices, `ahead`
//! has streams read before they are asked for, `estimate` says how long the guest would stand still, `report` what was done.
//!
//! Follows: docs/design.md, "Phases of a migration"; docs/faults.md.
//!
//! Example: [`Migration`].

mod abort;
mod advance;
mod ahead;
mod arrivals;
mod course;
mod drain;
mod ending;
mod estimate;
mod load;
mod load_done;
mod load_from;
mod load_wire;
mod options;
mod over_wire;
mod report;
mod run_state;
mod save;
mod save_to;
mod sequence;

use crate::cancel::Cancel;
use crate::device::Device;
use crate::dialect::{Direction, State};
use crate::error::{Error, Result};
use crate::gate::Pass;
use crate::group::Underway;
use crate::group::{Group, GroupInner};
use crate::tracker::Tracker;
use ahead::Ahead;
use course::Course;
use estimate::Rate;
use parking_lot::Mutex;
use report::Recorder;
use std::sync::Arc;
use std::time::Duration;

pub use abort::AbortTo;
pub use drain::{Budget, Fed, Inlet, Outlet, Piece, Round};
pub use ending::EndOptions;
pub use estimate::{Estimate, EstimateInput, Lacks, MigrationPending};
#[cfg(feature = "capi")]
pub(crate) use load_wire::{LoadWire, TakeRecord};
pub use options::MigrationOptions;
#[cfg(feature = "capi")]
pub(crate) use over_wire::ROUND;
pub use over_wire::{LoadStep, SaveNext, SaveOptions, SaveStep};
pub use report::{Counters, DevicePart, Entry, EntryKind, PhaseReport, Report};
#[cfg(feature = "capi")]
pub(crate) use report::{lines_to_json, results_to_json};
#[cfg(feature = "capi")]
pub(crate) use save_to::{Put, SaveWire, put_on};
pub use sequence::Phase;

/// One save or one load of a group. While it exists the group's members stay.
///
/// [`phase`](Self::phase), [`direction`](Self::direction), [`cancel`](Self::cancel), [`check_sessions`](Self::check_sessions),
/// [`pending`](Self::pending), [`estimate`](Self::estimate), [`report`](Self::report) and [`error`](Self::error) are for any
/// thread and never block. All other methods are of the class *whole*: they wait for each other, for the group's calls and for
/// those in progress on the devices.
///
/// ```
/// use std::io::Read;
/// use std::sync::Arc;
/// use vfiomig::device::{self, Device};
/// use vfiomig::dialect::Direction;
/// use vfiomig::group::{self, Group};
/// use vfiomig::migration::{Fed, Migration, Phase};
/// use vfiomig::tracker::{self, Mapping, IovaRange, Request, Tracker};
///
/// /// A VM with one device and 16 MiB of RAM, all of which counts as written each time.
/// fn vm(hardware: &simdev::Device) -> vfiomig::Result<Arc<Group>> {
///     let options = device::DeviceOptions { name: "nic0".into(), ..device::DeviceOptions::default() };
///     let device = Arc::new(Device::new(hardware.transport(), options)?);
///     let devices = vec![Arc::clone(&device)];
///     let options = tracker::TrackerOptions { name: "ram".into(), devices, everything: true, ..tracker::TrackerOptions::default() };
///     let tracker = Tracker::new(options)?;
///     tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 16 << 20 }, cookie: 0 }])?;
///     let group = Arc::new(Group::new(group::GroupOptions::default()));
///     group.add_device(device)?;
///     group.add_tracker(Arc::new(tracker))?;
///     Ok(group)
/// }
///
/// let [source, destination] = [1, 2].map(|seed| simdev::Device::new(simdev::Config::default().seeded(seed)));
/// let group = vm(&source)?;
/// let save = Migration::new(Arc::clone(&group), Direction::Save)?;
/// save.advance(Phase::SavePreCopy)?;
/// // Rounds of RAM, `save_iterate` and harvests, until `save.pending().ready`. Then the vCPUs stop.
/// save.advance(Phase::SaveStopCopy)?;
/// let mut dirty = 0;
/// let run = &mut |_cookie: u64, run: IovaRange| {
///     dirty += run.size;
///     true
/// };
/// group.harvest(&mut Request { run: Some(run), ..Request::default() })?;
/// assert_eq!(dirty, 16 << 20);
/// let mut stream = Vec::new();
/// save.save_complete(&[], &mut |piece| {
///     stream.extend_from_slice(piece.bytes);
///     Ok(())
/// })?;
/// save.advance(Phase::SaveHalted)?;
///
/// let load = Migration::new(vm(&destination)?, Direction::Load)?;
/// load.advance(Phase::LoadResuming)?;
/// let mut wire = &stream[..];
/// load.load_complete(&[], &mut |_device, room| {
///     let len = wire.read(room)?;
///     let end = Fed::End { total: Some(stream.len() as u64) };
///     Ok(if len > 0 { Fed::Bytes { len, segment_end: false } } else { end })
/// })?;
/// load.advance(Phase::LoadRunning)?;
/// assert!(source.same_content(&destination));
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub struct Migration {
    group: Arc<Group>,
    /// The group has it too.
    course: Arc<Course>,
    cancel: Arc<Cancel>,
    /// The group's members: they stay as long as the migration.
    devices: Vec<Arc<Device>>,
}

/// What a call has for itself while it is in progress. The group's gate is always entered first.
struct Run {
    /// The last phase that was entered, also when the migration has failed since.
    entered: Phase,
    /// A phase that was begun device by device.
    partial: Option<Partial>,
    /// What any thread may see.
    shown: MigrationView,
    /// How often an abort has made a new beginning.
    attempt: u64,
    /// Where each device was before anything was begun.
    origin: Vec<State>,
    /// Save: the last phase was begun in this attempt.
    halted: bool,
    /// Load: something was asked of the device since, so its former state is lost.
    touched: Vec<bool>,
    /// Trackers that the migration has started.
    tracking: Vec<Arc<Tracker>>,
    /// Buffers of rounds.
    parcels: drain::ParcelPool,
    /// The member with which the next round begins.
    next: usize,
    /// What is read ahead of the caller.
    ahead: Ahead,
}

/// What getters give, which wait for no call. Each is locked for a copy only.
#[derive(Clone)]
struct MigrationView {
    recorder: Recorder,
    rate: Rate,
    error: FirstError,
}

/// The first failure: abort is left.
#[derive(Clone, Default)]
struct FirstError(Arc<Mutex<Option<Error>>>);

impl FirstError {
    fn get(&self) -> Option<Error> {
        self.0.lock().clone()
    }

    fn is_some(&self) -> bool {
        self.0.lock().is_some()
    }

    /// An earlier one stays.
    fn set(&self, error: &Error) {
        self.0.lock().get_or_insert_with(|| error.clone());
    }

    fn clear(&self) {
        *self.0.lock() = None;
    }
}

struct Partial {
    phase: Phase,
    /// By member.
    done: Vec<bool>,
}

impl Migration {
    /// A migration in IDLE. Refused while the group has another one, and with every reason if it cannot be migrated.
    pub fn new(group: Arc<Group>, direction: Direction) -> Result<Migration> {
        Migration::with_options(group, direction, MigrationOptions::default())
    }

    /// As [`new`](Self::new), with what the caller chooses.
    pub fn with_options(group: Arc<Group>, direction: Direction, options: MigrationOptions) -> Result<Migration> {
        let mut inner = group.enter()?;
        options.check(direction, inner.members.len())?;
        if inner.migration.is_some() {
            return Err(Error::order("the group has a migration already"));
        }
        let reasons = match direction {
            Direction::Save => inner.save_obstacles(),
            Direction::Load => inner.device_obstacles(),
        };
        if !reasons.is_empty() {
            return Err(Error::unsupported(format!("the group cannot be migrated: {}", reasons.join("; "))));
        }
        inner.migration = Some(direction);
        let origin: Vec<State> = inner.members.iter().map(|member| member.device.state()).collect();
        for member in &mut inner.members {
            member.expected = Some(member.device.state());
        }
        let devices: Vec<Arc<Device>> = inner.members.iter().map(|member| Arc::clone(&member.device)).collect();
        let cancel = Arc::new(Cancel::new());
        devices.iter().for_each(|device| device.follow(&cancel));
        let shown =
            MigrationView { recorder: Recorder::new(&devices), rate: Rate::default(), error: FirstError::default() };
        let run = Run {
            entered: Phase::Idle,
            partial: None,
            attempt: 0,
            shown: shown.clone(),
            halted: false,
            touched: vec![false; origin.len()],
            origin,
            tracking: Vec::new(),
            parcels: drain::ParcelPool::default(),
            next: 0,
            ahead: Ahead::new(options.queue_bytes),
        };
        let course = Arc::new(Course::new(direction, Arc::clone(&cancel), devices.clone(), shown, run));
        group.has_underway(&mut inner, Some(Arc::clone(&course) as Arc<dyn Underway>));
        course.set_phase(&mut inner, Phase::Idle);
        if direction == Direction::Load && inner.max_workers != 1 {
            options.allow_write_behind(&devices, &[group.token(), course.run.token()]);
        }
        drop(inner);
        Ok(Migration { group, course, cancel, devices })
    }

    /// Where the number of its phase stands, for ever.
    #[cfg(feature = "capi")]
    pub(crate) fn phase_fact(&self) -> &'static std::sync::atomic::AtomicU32 {
        self.course.phase_fact()
    }

    /// Where the migration stands. *any.*
    pub fn phase(&self) -> Phase {
        self.course.phase()
    }

    /// Which way the data flow.
    pub fn direction(&self) -> Direction {
        self.course.direction
    }

    /// Asks the library to begin nothing new, and to end its own waits, also in calls on the devices; requests in the kernel go
    /// on. *any; never fails.* It lasts until abort. No effect once HALTED or RUNNING of a load was begun.
    pub fn cancel(&self) {
        self.cancel.ask();
    }

    /// The first failure, which every call but abort and getters returns. *any.*
    pub fn error(&self) -> Result<Option<Error>> {
        self.check_open()?;
        Ok(self.course.shown.error.get())
    }

    /// What was done so far, and how long it took; what is in progress comes when it is over. *any.*
    pub fn report(&self) -> Result<Report> {
        self.check_open()?;
        Ok(self.course.shown.recorder.report(self.direction()))
    }

    /// For getters: whether the migration is one that calls can be made on. Never waits.
    fn check_open(&self) -> Result<()> {
        self.course.run.check().map_err(|denied| denied.of("migration"))
    }

    /// Ends the migration: devices stay as they are, trackers that it started are stopped. Later calls answer ENODEV.
    pub fn close(&self) -> Result<()> {
        let mut inner = match self.group.enter() {
            Ok(inner) => Some(inner),
            Err(error) if error.errno() == libc::ENODEV => None,
            Err(error) => return Err(error),
        };
        let run = self.course.run.enter_to_close().map_err(|denied| denied.of("migration"))?;
        let Some(mut run) = run.close() else { return Ok(()) };
        self.cancel.end();
        // All of them first, so that none takes more while another one is waited for.
        self.devices.iter().for_each(|device| device.abandon_load());
        self.devices.iter().for_each(|device| device.end_write_behind());
        run.ahead.end(&self.devices, Duration::MAX);
        run.stop_trackers(inner.as_deref());
        if let Some(inner) = &mut inner {
            inner.migration = None;
            self.group.has_underway(inner, None);
            inner.frozen = None;
            inner.members.iter_mut().for_each(|member| member.expected = None);
        }
        Ok(())
    }

    fn enter_run(&self) -> Result<Pass<'_, Run>> {
        self.course.enter_run()
    }

    /// Group and migration for one call.
    fn enter(&self) -> Result<(Pass<'_, GroupInner>, Pass<'_, Run>)> {
        let inner = self.group.enter()?;
        Ok((inner, self.enter_run()?))
    }

    fn set_phase(&self, inner: &mut GroupInner, phase: Phase) {
        self.course.set_phase(inner, phase);
    }
}

impl Drop for Migration {
    fn drop(&mut self) {
        // Freed twice, or from a callback of its own group: nothing is left to do, or nothing can be done.
        let _ = self.close();
    }
}

impl std::fmt::Debug for Migration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Migration")
            .field("direction", &self.direction())
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}
