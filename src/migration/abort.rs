//! The way back from every phase and every failure.
//!
//! Rules: V2-9 and N28 (a save goes back by way of the P2P states; a load only by resets: N10), N16.

use super::course::Course;
use super::sequence::Phase;
use super::{Migration, Run};
use crate::device::{CapFlags, Device, OnFailure};
use crate::dialect::{DialectKind, Direction, State};
use crate::error::{Action, DeviceResult, Error, ErrorKind, Result};
use crate::group::GroupInner;
use crate::group::outcome::{DeviceOutcome, results, verdict_led_by};
use crate::group::pause::Barrier;
use crate::group::plan::{Rest, STEPS};
use crate::log::{log, patience};
use std::time::Instant;

/// Where an abort brings the devices.
///
/// ```
/// use vfiomig::dialect::{Direction, State};
/// use vfiomig::migration::{AbortTo, Migration, Phase};
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
/// save.advance(Phase::SaveStopCopy)?;
/// save.abort(AbortTo::Running)?;
/// assert_eq!((save.phase(), hardware.state()), (Phase::Idle, State::Running));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortTo {
    /// RUNNING: the guest continues.
    Running,
    /// STOP: the devices stand still, and vCPUs have to.
    Stop,
    /// To the VM's run state: STOP if the last of pause and resume was a pause, before the migration or in it, else RUNNING.
    RunState,
}

impl Migration {
    /// Brings the devices back; the migration is IDLE again, and may begin anew. *whole; blocks in the kernel.*
    ///
    /// Save: sessions end, what was sent is void; refused once HALTED was begun, see
    /// [`abort_without_second_guest`](Self::abort_without_second_guest). vCPUs stay stopped until it returns. Load:
    /// devices that were touched are reset; refused once all run. A device that cannot be brought back is named by
    /// the error, and abort may be called again, after a reset of it by the caller: the library resets no device that
    /// holds a guest's state. One that does not answer to a read of its stream for 5 s (ETIMEDOUT) holds the others up no longer;
    /// abort is called again when it has.
    ///
    /// What waits for a device of the migration in other threads is canceled; a cancel during an abort does not outlive it.
    pub fn abort(&self, to: AbortTo) -> Result<()> {
        self.abort_with(to, false)
    }

    /// As [`abort`](Self::abort); the caller states that the guest does not run elsewhere and never will. Also after HALTED, when
    /// only the caller knows what the destination side did.
    pub fn abort_without_second_guest(&self, to: AbortTo) -> Result<()> {
        self.abort_with(to, true)
    }

    fn abort_with(&self, to: AbortTo, no_second_guest: bool) -> Result<()> {
        let (mut inner, mut run) = self.enter_for_abort()?;
        self.course.abort(&mut inner, &mut run, to, no_second_guest)
    }
}

impl Course {
    pub(super) fn abort(
        &self,
        inner: &mut GroupInner,
        run: &mut Run,
        to: AbortTo,
        no_second_guest: bool,
    ) -> Result<()> {
        if self.direction == Direction::Load && self.phase() == Phase::LoadRunning {
            return Err(Error::order(
                "abort is refused: all devices run, and a reset would destroy the guest. If the guest is to be given up, free the \
                 migration and reset the devices",
            ));
        }
        if no_second_guest {
            inner.members.iter().for_each(|member| member.device.hand_over(false));
        } else if run.halted {
            return Err(Error::order(
                "abort is refused: HALTED was begun, so the guest may run elsewhere; VFIOMIG_ABORT_F_NO_SECOND_GUEST says that it \
                 does not",
            ));
        }
        // Data calls of other threads that wait for their device end by it, so that the device is free. A cancel that
        // comes meanwhile was for the attempt that ends here, so it ends too.
        self.cancel.ask();
        run.ahead.stop();
        let done = self.bring_back(inner, run, to);
        run.ahead.end(self.devices(), patience().0);
        self.cancel.clear();
        done
    }

    fn bring_back(&self, inner: &mut GroupInner, run: &mut Run, to: AbortTo) -> Result<()> {
        let begun = Instant::now();
        inner.members.iter().for_each(|member| member.device.abandon_load());
        self.gather_for_abort(inner, run);
        run.attempt = run.attempt.wrapping_add(1);
        let nothing_begun = run.entered == Phase::Idle && run.partial.is_none() && !run.shown.error.is_some();
        let lost = match self.direction {
            Direction::Save => look_again(inner),
            Direction::Load => reset_touched(inner, run),
        };
        let mut rests = run.rests(to);
        for (rest, lost) in rests.iter_mut().zip(&lost) {
            // What was loaded is no state to run from, and a device that is silent is not asked for more.
            *rest = rest.filter(|_| !lost.as_ref().is_some_and(DeviceOutcome::failed));
        }
        let mut outcomes = inner.settle(&rests, STEPS, Barrier::BringBack);
        for (outcome, lost) in outcomes.iter_mut().zip(lost) {
            // A device that could not be read or reset explains more than that it was not moved.
            match lost {
                Some(lost) if lost.failed() => *outcome = lost,
                Some(lost) => *outcome = lost.then(outcome.clone()),
                None => {}
            }
        }
        inner.members.iter().for_each(|member| member.device.join_load());
        let notes = run.stop_trackers(Some(inner));
        let failed = outcomes.iter().any(DeviceOutcome::failed);
        if !nothing_begun || failed {
            run.shown.recorder.add(Phase::Idle, begun, failed, results(&outcomes), notes);
            inner.keep("abort", &mut outcomes);
        }
        run.partial = None;
        run.entered = Phase::Idle;
        run.halted = false;
        // The caller has to know that it can be called again, whatever else there is to say.
        match verdict_led_by("abort", &outcomes, is_for_again) {
            Ok(()) => {
                run.shown.error.clear();
                self.count_sessions();
                run.touched.iter_mut().for_each(|touched| *touched = false);
                self.set_phase(inner, Phase::Idle);
                log!(Info, "migration: aborted in {:?}", begun.elapsed());
                Ok(())
            }
            Err(mut error) => {
                error.tell("migration failed");
                run.shown.error.set(&error);
                self.set_phase(inner, Phase::Failed);
                Err(error)
            }
        }
    }
}

impl Run {
    fn rests(&self, to: AbortTo) -> Vec<Option<Rest>> {
        let rest = |origin: &State| match (to, origin) {
            (AbortTo::Running, _) => Rest::Running,
            (AbortTo::RunState, State::Running) => Rest::Running,
            (AbortTo::Stop | AbortTo::RunState, _) => Rest::Stop,
        };
        self.origin.iter().map(|origin| Some(rest(origin))).collect()
    }
}

/// A read of its stream is not answered, or its stream has no end yet. A driver that answers ETIMEDOUT is another failure.
fn is_for_again(outcome: &DeviceOutcome) -> bool {
    outcome.result.again
}

/// Reads where each device is: after a failure, and after what others did to it (V2-3, V2-10). One that does not answer to a read
/// of its stream stands still, so the others need not wait for it. What was sent of the others' is void, also of one that had
/// reached its END: what comes next is another.
fn look_again(inner: &mut GroupInner) -> Vec<Option<DeviceOutcome>> {
    let most = patience().0;
    side_by_side(inner, &vec![true; inner.members.len()], |device| {
        if let Err(error) = device.void_behind_read(most) {
            return Some(DeviceOutcome::refused(device, State::Running, error));
        }
        // Once more, because what is given up here is a guest's device.
        let error = device.observe().or_else(|_| device.observe()).err()?;
        Some(DeviceOutcome::refused(device, State::Running, error).dead())
    })
}

/// V2-9: only a reset leaves RESUMING, and what was loaded is no state to run from.
fn reset_touched(inner: &mut GroupInner, run: &mut Run) -> Vec<Option<DeviceOutcome>> {
    let outcomes = side_by_side(inner, &run.touched, |device| {
        let begun = Instant::now();
        let from = device.state();
        Some(match make_fresh(device) {
            Ok(action) => {
                let mut outcome = DeviceOutcome::nothing(device);
                let (from, duration) = (from.number(), begun.elapsed());
                outcome.result = DeviceResult { from, duration, action, ..outcome.result };
                outcome
            }
            Err(error) => {
                let unread = device.observe().is_err();
                let outcome = DeviceOutcome::refused(device, State::Running, error);
                if unread { outcome.dead() } else { outcome }
            }
        })
    });
    for (touched, outcome) in run.touched.iter_mut().zip(&outcomes) {
        *touched &= outcome.as_ref().is_none_or(DeviceOutcome::failed);
    }
    outcomes
}

/// A reset. A server may refuse it in STOP: where nothing was loaded nothing is to be undone; else in RESUMING,
/// because entering that discards what was loaded. And it may keep RESUMING over a reset, with nothing in it: then it
/// can be left (libvfio-user).
fn make_fresh(device: &Device) -> Result<Action> {
    let mut reset = device.reset_now();
    let refused = reset.as_ref().err().filter(|error| error.errno() == libc::EINVAL && device.state() == State::Stop);
    if let Some(error) = refused.filter(|_| device.info().caps.contains(CapFlags::RESET)) {
        if !device.may_hold_load() {
            log!(Info, "{error}; nothing was loaded, so it is left as it is");
            return Ok(Action::None);
        }
        device.change_state(State::Resuming, OnFailure::Keep, false, &mut String::new()).map_err(still_loaded)?;
        reset = device.reset_now();
    }
    match reset {
        Err(_) if device.is_emptied() => {
            let out = if device.info().dialect == Some(DialectKind::V2) { State::Stop } else { State::Running };
            match device.change_state(out, OnFailure::Keep, false, &mut String::new()) {
                Err(_) if device.state() == State::Error => device.reset_now(),
                left => left,
            }
        }
        // Reset all the same, and fresh where it stands.
        Err(error) if error.kind() == ErrorKind::Protocol && device.state() != State::Error => Ok(()),
        reset => reset,
    }
    .map(|()| Action::Reset)
}

fn still_loaded(error: Error) -> Error {
    let text = format!(
        "{error}; a reset was refused in STOP too, so what was loaded is still in it: bring it to RUNNING, where what was loaded runs, \
         and reset it there; or close it"
    );
    error.in_words(text)
}

/// Something of each chosen device, at the same time.
fn side_by_side(
    inner: &mut GroupInner,
    chosen: &[bool],
    job: impl Fn(&Device) -> Option<DeviceOutcome> + Sync,
) -> Vec<Option<DeviceOutcome>> {
    let members = &inner.members;
    let devices: Vec<&Device> = members.iter().map(|member| &*member.device).collect();
    let outcomes = inner.side_by_side(&devices, false, |i| {
        let member = members.get(i).filter(|_| chosen.get(i).copied().unwrap_or(false))?;
        job(&member.device)
    });
    for member in &mut inner.members {
        member.expected = Some(member.device.state());
    }
    outcomes
}
