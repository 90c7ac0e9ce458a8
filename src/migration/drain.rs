//! Whole parts of a migration for VMMs without a loop of their own: streams of all devices, side by side, between the devices
//! and the caller.
//!
//! Rules: F3, F4 and V1-8 are the device's (`device/save.rs`); here a round ends at EMPTY, END or its budget (C5, K13), and each
//! device's bytes stay in their order (N2).

mod call;
mod inflow;
mod load;
mod outflow;
mod parcel;

use super::report::EntryKind;
use super::sequence::Phase;
use super::{Migration, Run};
use crate::cancel::Cancel;
use crate::device::Device;
use crate::dialect::{DialectKind, Direction, State};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Pass;
use crate::group::GroupInner;
use crate::transport::{caller_patience, wait_any};
use crate::window::StreamFlags;
use crate::workers::turns::{Crew, run_turns};
pub use call::{Budget, Fed, Inlet, Outlet, Piece, Round};
use outflow::{Flow, Outflow, SaveLane};
pub(super) use parcel::ParcelPool;
pub(super) use parcel::Progress;
use parking_lot::Mutex;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A caller's descriptor is looked at this long before everything else is looked at again.
const LOOK: Duration = Duration::from_millis(20);

impl Migration {
    /// One bounded round over all open streams, side by side and fairly by bytes and by time: each device until EMPTY, END or its
    /// share of the budget. In pre-copy the sizes are read after it; a size that cannot be read is an error of the
    /// round, whose bytes have been put. *whole; blocks in the kernel, on descriptors and in `put`.*
    ///
    /// `outlets`: one per device, or empty: `Call` for all. A descriptor that takes nothing ends its device's part of the
    /// round: at once in non-blocking mode, else with the time of the budget. What it did not take stays in the stream.
    ///
    /// A member whose session in this migration has ended or is broken (STALE), that is in ERROR or whose handle was
    /// freed fails the migration here. After a resume of a group that was held in pre-copy it is STALE, not FAILED:
    /// SAVE_PRE_COPY can be entered again. If `put` fails, bytes are lost that no device can give again: FAILED.
    pub fn save_iterate(
        &self,
        budget: Budget,
        outlets: &[Outlet<'_>],
        put: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Round> {
        if self.direction() != Direction::Save {
            return Err(Error::order("save_iterate is for saves"));
        }
        let (mut inner, mut run) = self.enter()?;
        let drained = run.shown.recorder.drain();
        let result = self.save_round(&inner, &mut run, Some(budget), outlets, put);
        run.shown.recorder.drained(EntryKind::Rounds, drained, result.is_err());
        self.conclude(&mut inner, &mut run, "save_iterate", result)
    }

    /// Every stream to its END; success means just that. Needs STOP_COPY. *whole; blocks as `save_iterate` does.*
    ///
    /// Descriptors are waited for, whatever their mode, until a cancel, or until nothing has moved on any device for
    /// 60 s (SYSTEM, ETIMEDOUT: nothing is lost, the call can be made again).
    pub fn save_complete(&self, outlets: &[Outlet<'_>], put: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<Round> {
        let (mut inner, mut run) = self.enter()?;
        run.check_entered("save_complete", Phase::SaveStopCopy)?;
        let drained = run.shown.recorder.drain();
        let result = self.save_round(&inner, &mut run, None, outlets, put);
        run.shown.recorder.drained(EntryKind::SaveComplete, drained, result.is_err());
        let result = result.and_then(|round| Ok(self.check_ends(round)?));
        // Nothing is saved after it.
        run.parcels = ParcelPool::default();
        self.conclude(&mut inner, &mut run, "save_complete", result)
    }

    fn save_round(
        &self,
        inner: &GroupInner,
        run: &mut Run,
        budget: Option<Budget>,
        outlets: &[Outlet<'_>],
        put: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> std::result::Result<Round, Failure> {
        self.check_round(run, outlets)?;
        let clock = RoundClock::start(budget);
        let mut left = budget.map_or(u64::MAX, |budget| budget.bytes);
        let mut round =
            Round { bytes: vec![0; self.devices.len()], flags: vec![StreamFlags::NO_STREAM; self.devices.len()] };
        let mut open: Vec<usize> = (0..self.devices.len()).filter(|&i| self.device_is_open(i)).collect();
        open.iter().for_each(|&i| round.set(i, 0, StreamFlags::empty()));
        let mut lost = None;
        // What devices that have run empty leave of their shares is the next pass'.
        loop {
            let first = open.iter().position(|&i| i >= run.next).unwrap_or(0);
            let lanes = self.save_lanes(&open, outlets, shares(left, open.len(), first));
            let flow = clock.pass(lanes, &self.cancel, &run.parcels);
            let any_thread: Vec<bool> = flow.lanes.iter().map(|lane| lane.device.any_thread()).collect();
            let crew = Crew { max: inner.max_workers, any_thread: &any_thread, first };
            let mut vigil = inner.vigil(flow.lanes.iter().map(|lane| lane.device), false);
            run_turns(crew, &flow, &mut vigil, &mut |item| flow.hear(item, &mut lost, put));
            let over = flow.is_over();
            if let Some(lane) = flow.lanes.get(flow.last.load(Ordering::Relaxed)) {
                run.next = lane.index.saturating_add(1);
            }
            let (moved, more) = round.add_pass(flow.lanes);
            if let Some(error) = lost {
                return Err(Failure { error: error.context("bytes of a stream were lost"), fatal: true });
            }
            if let Some(error) = flow.failed.into_inner() {
                return Err(error.into());
            }
            left = left.saturating_sub(moved);
            let idle = moved == 0 && more.len() == open.len();
            open = more;
            if over || idle || left == 0 || open.is_empty() {
                break;
            }
        }
        let sum = round.bytes.iter().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
        run.shown.rate.add(sum, Duration::from_nanos(clock.gone.into_inner()));
        Ok(round)
    }

    /// A round may begin, with these outlets.
    fn check_round(&self, run: &Run, outlets: &[Outlet<'_>]) -> Result<()> {
        if let Some(error) = run.shown.error.get() {
            return Err(error);
        }
        self.cancel.check()?;
        self.check_sessions()?;
        let with_fd: Vec<bool> = outlets.iter().map(|outlet| matches!(outlet, Outlet::Fd(_))).collect();
        self.check_channels(&with_fd)
    }

    /// The lanes of open streams, each with its share of the budget.
    fn save_lanes<'a>(&'a self, open: &[usize], outlets: &[Outlet<'a>], shares: Vec<u64>) -> Vec<SaveLane<'a>> {
        let lane = |(&index, share): (&usize, u64)| {
            let fd = match outlets.get(index) {
                Some(Outlet::Fd(fd)) => Some(*fd),
                Some(Outlet::Call) | None => None,
            };
            let device: &Device = self.devices.get(index)?;
            Some(SaveLane { device, index, fd, state: Mutex::new(Flow::of(share)) })
        };
        open.iter().zip(shares).filter_map(lane).collect()
    }

    fn device_is_open(&self, index: usize) -> bool {
        self.devices.get(index).is_some_and(|device| device.info().session_open)
    }

    fn check_ends(&self, round: Round) -> Result<Round> {
        let without = self.devices.iter().zip(&round.flags).find(|(_, flags)| **flags != StreamFlags::END);
        match without {
            Some((device, _)) => Err(Error::stale(format!("{}: its stream has not reached its END", device.name()))),
            None => Ok(round),
        }
    }

    /// No member's stream is known to be without an end: each that had a session in this migration has it still, none is in
    /// ERROR, and none is gone. *any.*
    pub fn check_sessions(&self) -> Result<()> {
        self.course.check_sessions()
    }

    /// As `enter`, for an abort: a drain in progress ends, because what it moves is void, and its descriptors may never be ready.
    pub(super) fn enter_for_abort(&self) -> Result<(Pass<'_, GroupInner>, Pass<'_, Run>)> {
        // A callback of that drain gets EDEADLK, and the drain continues.
        let _hurry = (!self.course.run.is_mine()).then(|| self.course.cancel.hurry());
        self.enter()
    }

    /// What went wrong is in the report, whoever's it was. The migration has failed with it if a stream can have no end any more.
    fn conclude<T>(
        &self,
        inner: &mut GroupInner,
        run: &mut Run,
        what: &str,
        result: std::result::Result<T, Failure>,
    ) -> Result<T> {
        let Failure { mut error, fatal } = match result {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        error = error.of_member();
        if run.shown.error.is_some() {
            return Err(error);
        }
        run.shown.recorder.failure(what, &error.to_string());
        let ended = error.kind() == ErrorKind::Stale || self.check_sessions().is_err();
        // A draft has its session in SAVE_TRACKING already, and keeps it in the next phases.
        if fatal || (SAVING.contains(&run.entered) && ended) {
            error.tell(format_args!("migration failed: {what}"));
            run.shown.error.set(&error);
            self.set_phase(inner, Phase::Failed);
        }
        Err(error)
    }

    /// One per device or none at all, and descriptors only where no segments would be lost.
    fn check_channels(&self, with_fd: &[bool]) -> Result<()> {
        if !with_fd.is_empty() && with_fd.len() != self.devices.len() {
            let (given, count) = (with_fd.len(), self.devices.len());
            return Err(Error::argument(format!("{given} outlets or inlets for {count} devices")));
        }
        let segments = |device: &Device| device.info().dialect != Some(DialectKind::V2);
        match self.devices.iter().zip(with_fd).find(|(device, with_fd)| **with_fd && segments(device)) {
            Some((device, _)) => Err(Error::unsupported(format!(
                "{}: its stream has segments, which a descriptor does not keep",
                device.name()
            ))),
            None => Ok(()),
        }
    }
}

impl Run {
    pub(super) fn check_entered(&self, what: &str, phase: Phase) -> Result<()> {
        match self.shown.error.get() {
            Some(error) => Err(error),
            None if self.entered == phase => Ok(()),
            None => Err(Error::order(format!("{what} needs {phase}, not {}", self.entered))),
        }
    }
}

/// Phases in which devices have save sessions, and a stream that is lost is the migration's end. Before them, after a resume of a
/// group that was held, a new stream can begin.
const SAVING: [Phase; 4] = [Phase::SavePreCopy, Phase::SaveViommuGrace, Phase::SaveP2pGrace, Phase::SaveStopCopy];

/// Why a drain ended early.
struct Failure {
    error: Error,
    /// A stream has a gap.
    fatal: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, fatal: false }
    }
}

/// Why a member's stream can have no end any more, if it cannot; `before`: sessions that it had had when the migration began.
pub(super) fn lost_session(device: &Device, before: u64) -> Option<Error> {
    let (name, info) = (device.name(), device.info());
    if device.is_closed() {
        return Some(Error::unplugged(format!("{name}: the device handle was freed")));
    }
    if info.state == State::Error {
        return Some(device.in_error());
    }
    if info.session > before && info.broken {
        return Some(Error::stale(format!(
            "{name}: a read of its stream failed, and bytes of it may be lost: it is void"
        )));
    }
    let lost = info.session > before && !info.session_open;
    let text =
        || format!("{name}: its save session has ended, it is in {}: what was sent of its stream is void", info.state);
    lost.then(|| Error::stale(text()))
}

/// Which items can continue: all of them if the drain ends, else those whose descriptor is ready.
fn waits<'a>(
    items: &[usize],
    fd_of: impl Fn(usize) -> Option<BorrowedFd<'a>>,
    for_write: bool,
    patient: bool,
    over: impl Fn() -> bool,
) -> Vec<usize> {
    let fds: Vec<(usize, BorrowedFd<'_>)> = items.iter().filter_map(|&item| Some((item, fd_of(item)?))).collect();
    let entries: Vec<(BorrowedFd<'_>, bool)> = fds.iter().map(|(_, fd)| (*fd, for_write)).collect();
    let ready = wait_any(&entries, if patient && !over() { LOOK } else { Duration::ZERO });
    if over() {
        return items.to_vec();
    }
    fds.iter().zip(ready).filter(|(_, ready)| *ready).map(|((item, _), _)| *item).collect()
}

/// Even shares of a budget, which they never exceed; the odd bytes go to the first ones, so that a small budget moves
/// something too.
fn shares(budget: u64, count: usize, first: usize) -> Vec<u64> {
    let each = budget.checked_div(count as u64).unwrap_or(0);
    let odd = budget.checked_rem(count as u64).and_then(|odd| usize::try_from(odd).ok()).unwrap_or(0);
    let mut shares = vec![each; count];
    for item in (0..count).cycle().skip(first).take(odd) {
        shares.get_mut(item).into_iter().for_each(|share| *share = share.saturating_add(1));
    }
    shares
}

/// What all passes of one round have in common.
struct RoundClock {
    begun: Instant,
    /// No read is begun after it.
    until: Option<Instant>,
    bounded: bool,
    /// When the last byte had gone, in nanoseconds: after it the channel shows nothing of itself.
    gone: AtomicU64,
}

impl RoundClock {
    fn start(budget: Option<Budget>) -> Self {
        let begun = Instant::now();
        let until = budget.and_then(|budget| begun.checked_add(budget.time));
        RoundClock { begun, until, bounded: budget.is_some(), gone: AtomicU64::new(0) }
    }

    /// One pass over these lanes.
    fn pass<'a>(&'a self, lanes: Vec<SaveLane<'a>>, cancel: &'a Cancel, pool: &'a ParcelPool) -> Outflow<'a> {
        Outflow {
            lanes,
            begun: self.begun,
            gone: &self.gone,
            until: self.until,
            bounded: self.bounded,
            cancel,
            pool,
            progress: Progress::new(caller_patience()),
            stop: AtomicBool::new(false),
            failed: Mutex::default(),
            last: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Round {
    /// What the lanes of a pass moved: how much in all, and the devices that have more at once.
    fn add_pass(&mut self, lanes: Vec<SaveLane<'_>>) -> (u64, Vec<usize>) {
        let (mut moved, mut more) = (0u64, Vec::new());
        for lane in lanes {
            let state = lane.state.into_inner();
            moved = moved.saturating_add(state.moved);
            self.set(lane.index, state.moved, state.flags);
            if state.flags.is_empty() && !state.full {
                more.push(lane.index);
            }
        }
        (moved, more)
    }

    /// One more pass of a device.
    fn set(&mut self, device: usize, moved: u64, said: StreamFlags) {
        if let (Some(bytes), Some(flags)) = (self.bytes.get_mut(device), self.flags.get_mut(device)) {
            *bytes = bytes.saturating_add(moved);
            *flags = said;
        }
    }
}
