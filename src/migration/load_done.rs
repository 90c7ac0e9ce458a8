//! The end of each device's stream on the destination side, as it comes: its device goes to LOADED at once, beside the streams of
//! the others, and the phase is entered with the last one.
//!
//! Rules: F7 (some drivers accept a stream that was cut, so its length is stated), W7 and N11 (where a stream is judged), N4 (no
//! device waits for the stream of another one before it leaves RESUMING for STOP).

use super::advance::parts;
use super::arrivals::LoadArrival;
use super::course::Course;
use super::load::say_not_validated;
use super::sequence::{DeviceTraits, Phase, target};
use super::{Migration, Run};
use crate::device::{AfterLoad, Device, OnFailure};
use crate::dialect::State;
use crate::error::{Action, Error, Result};
use crate::group::outcome::DeviceOutcome;
use crate::group::step::{Step, move_one};
use crate::group::{GroupInner, Member};
use crate::workers::Watch;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a call that waits for devices looks for a cancel.
const LOOK: Duration = Duration::from_millis(20);

impl Migration {
    /// States the length of a device's stream, as [`Device::finish`] does, and takes the device to LOADED, where a v2 device
    /// validates its stream. The phase is entered with the last device of the group: returns whether this call has entered it.
    /// *whole; blocks in the kernel for this device, and holds up no call for another one.*
    ///
    /// In a load with [`queue_bytes`](super::MigrationOptions::queue_bytes) the device goes there behind what is on its way to
    /// it, and the call does not wait, but the last one waits for all. What became of an earlier device is an error of the next
    /// call, or of the last.
    ///
    /// Of several threads that say it at once one hears that LOADED was entered. What only a device call would refuse, a stream
    /// that is too short for instance, leaves the migration as it was. A device that does not accept its stream fails the
    /// migration.
    pub fn load_done(&self, device: &Arc<Device>, total: Option<u64>) -> Result<bool> {
        const WHAT: &str = "load_done";
        let course = &self.course;
        let (mut inner, mut run) = self.enter()?;
        let Some(place) = inner.members.iter().position(|member| Arc::ptr_eq(&member.device, device)) else {
            return Err(Error::argument(format!("{}: the group has no such device", device.name())));
        };
        let begun = Instant::now();
        course.take_over(&mut inner, &mut run, begun)?;
        run.check_entered(WHAT, Phase::LoadResuming)?;
        self.cancel.check()?;
        course.check_missing(&mut inner, &mut run, begun)?;
        let part = parts(&inner)?.get(place).copied();
        let Some(part) = part.filter(|_| !course.has_ended(&run, place) && !device.has_load_end()) else {
            return Err(Error::order(format!("{}: its stream was stated complete before", device.name())));
        };
        device.finish(total)?;
        if self.goes_alone(device, place, part) {
            return course.wait_for_last(&mut inner, &mut run, begun);
        }
        let set_out = course.arrivals.set_out(place);
        match loaded_state(part) {
            None => set_out.came(DeviceOutcome::nothing(device)),
            Some(to) => {
                let (attempt, max_workers) = (run.attempt, inner.max_workers);
                let vigil = inner.vigil([&**device], true);
                drop(run);
                drop(inner);
                // Later calls on group and migration wait for it where they have to, so none from its own callbacks is let in.
                let promises = (self.group.promise(), course.run.promise());
                if let Some(outcome) = vigil.alone(max_workers, || course.go(device, to)) {
                    set_out.came(outcome);
                }
                drop(promises);
                (inner, run) = self.enter()?;
                if run.attempt != attempt {
                    return Err(Error::canceled(format!("{WHAT}: {}: the load was aborted meanwhile", device.name())));
                }
            }
        }
        let entered = course.take_over(&mut inner, &mut run, begun)?;
        match run.shown.error.get() {
            Some(error) => Err(error),
            None if run.entered == Phase::LoadResuming && !course.has_ended(&run, place) => {
                Err(Error::canceled(format!("{WHAT}: {}: it was not taken to LOADED: canceled", device.name())))
            }
            None => Ok(entered),
        }
    }

    /// Whether the device goes to LOADED behind the calls, once it has what is on its way to it.
    fn goes_alone(&self, device: &Arc<Device>, member: usize, part: DeviceTraits) -> bool {
        if !device.writes_behind() {
            return false;
        }
        let (course, to) = (Arc::clone(&self.course), loaded_state(part));
        let wanted = to.unwrap_or(part.at);
        let ended = Error::stale(format!("{}: its session has ended before it had all of its stream", device.name()));
        let mut set_out = course.arrivals.set_out_alone(member, DeviceOutcome::refused(device, wanted, ended));
        let after: AfterLoad = Box::new(move |device, written| {
            set_out.begins();
            set_out.came(match (written, to) {
                (Err(error), _) => DeviceOutcome::refused(device, wanted, error),
                (Ok(()), Some(to)) => course.go(device, to),
                (Ok(()), None) => DeviceOutcome::nothing(device),
            });
        });
        // The thread has ended, for the device had everything: then nothing is to be waited for.
        device.after_load(after).map_err(|after| after(device, Ok(()))).is_ok()
            || self.course.arrivals.is_under_way(member)
    }
}

/// Where a device goes when its stream is whole; `None`: it is there already (V1-3: v1 and the draft leave RESUMING only to run).
pub(super) fn loaded_state(part: DeviceTraits) -> Option<State> {
    Some(target(Phase::LoadLoaded, part)).filter(|to| *to != part.at)
}

impl Course {
    /// One device to LOADED, on whichever thread.
    pub(super) fn go(&self, device: &Device, to: State) -> DeviceOutcome {
        let canceled = || self.cancel.asked();
        // Nothing of the guest is in it that the source does not have.
        let step = Step { targets: &[], on_failure: OnFailure::Reset, confirm: false, canceled: &canceled };
        move_one(device, to, &step)
    }

    /// All streams have their ends: waits for those that are on their way. Whether LOADED was entered.
    fn wait_for_last(&self, inner: &mut GroupInner, run: &mut Run, begun: Instant) -> Result<bool> {
        let missing = (0..inner.members.len()).any(|member| !self.has_ended(run, member));
        if missing {
            self.take_over(inner, run, begun).map(drop)?
        } else {
            self.gather(inner, run)?
        }
        Ok(run.entered == Phase::LoadLoaded)
    }

    /// Each member whose stream has no end yet can still have one; else the load has failed, and no call waits for that end in
    /// vain.
    fn check_missing(&self, inner: &mut GroupInner, run: &mut Run, begun: Instant) -> Result<()> {
        let look = |(place, member): (usize, &Member)| {
            let (device, at) = (&member.device, member.device.state());
            let name = device.name();
            let error = if self.has_ended(run, place) {
                return DeviceOutcome::nothing(device);
            } else if device.is_closed() {
                Error::unplugged(format!("{name}: the device handle was freed"))
            } else if at != State::Resuming || !device.info().session_open {
                Error::stale(format!("{name}: its load session has ended (now {at}): what it was given is lost"))
            } else {
                return DeviceOutcome::nothing(device);
            };
            DeviceOutcome::refused(device, State::Resuming, error)
        };
        let outcomes: Vec<DeviceOutcome> = inner.members.iter().enumerate().map(look).collect();
        if outcomes.iter().any(DeviceOutcome::failed) {
            self.judge(inner, run, Phase::LoadLoaded, begun, outcomes, Vec::new())?;
        }
        Ok(())
    }

    /// Its stream had its end: the member is in LOADED, or on its way.
    pub(super) fn has_ended(&self, run: &Run, member: usize) -> bool {
        let done = run.partial.as_ref().is_some_and(|partial| partial.done.get(member).copied().unwrap_or(false));
        done || self.arrivals.is_under_way(member)
    }

    /// Waits for members that are on their way, and takes over what came of them. A cancel ends the wait, and so does an abort.
    pub(super) fn gather(&self, inner: &mut GroupInner, run: &mut Run) -> Result<()> {
        let begun = Instant::now();
        if !self.arrivals.wait_until(Some(begun)) {
            let places = self.arrivals.on_their_way();
            let devices =
                places.iter().filter_map(|place| inner.members.get(*place)).map(|member| Arc::clone(&member.device));
            let devices: Vec<Arc<Device>> = devices.collect();
            let mut vigil = inner.vigil(devices.iter().map(|device| &**device), false);
            while !self.arrivals.wait_until(Instant::now().checked_add(LOOK)) {
                self.cancel.check_drain()?;
                vigil.look();
            }
        }
        self.take_over(inner, run, begun).map(drop)
    }

    /// Waits for bytes that are on their way to these members. What a device does not take fails the load, for its caller got
    /// success when it was put. A cancel ends the wait, and so does an abort.
    pub(super) fn wait_for_bytes(&self, inner: &mut GroupInner, run: &mut Run, wanted: &[bool]) -> Result<()> {
        let begun = Instant::now();
        let mut outcomes: Vec<DeviceOutcome> =
            inner.members.iter().map(|member| DeviceOutcome::nothing(&member.device)).collect();
        for ((member, outcome), _) in inner.members.iter().zip(&mut outcomes).zip(wanted).filter(|(_, wanted)| **wanted)
        {
            let device = &member.device;
            loop {
                match device.wait_load_until(begun.checked_add(begun.elapsed().saturating_add(LOOK)).unwrap_or(begun)) {
                    Ok(true) => break,
                    Ok(false) => self.cancel.check_drain()?,
                    Err(error) => {
                        *outcome = DeviceOutcome::refused(device, device.state(), error);
                        break;
                    }
                }
            }
        }
        if outcomes.iter().any(DeviceOutcome::failed) {
            self.judge(inner, run, Phase::LoadLoaded, begun, outcomes, Vec::new())?;
        }
        Ok(())
    }

    /// As [`gather`](Self::gather), for an abort: nothing that a device did is a failure any more.
    pub(super) fn gather_for_abort(&self, inner: &mut GroupInner, run: &mut Run) {
        self.arrivals.wait_until(None);
        self.arrivals.take().iter().for_each(|arrival| note(inner, run, arrival));
    }

    /// What has come of members that were on their way. `begun`: the call in which that is found out. Whether LOADED was entered.
    pub(super) fn take_over(&self, inner: &mut GroupInner, run: &mut Run, begun: Instant) -> Result<bool> {
        let came = self.arrivals.take();
        if came.is_empty() {
            return Ok(false);
        }
        let mut outcomes: Vec<DeviceOutcome> =
            inner.members.iter().map(|member| DeviceOutcome::nothing(&member.device)).collect();
        let mut done = run.partial.as_ref().map_or_else(|| vec![false; outcomes.len()], |partial| partial.done.clone());
        for arrival in came {
            note(inner, run, &arrival);
            let LoadArrival { member, outcome, watched, .. } = arrival;
            if let Some(of) = inner.members.get(member).filter(|_| !watched && outcome.result.from != outcome.result.to)
            {
                inner.vigil([&*of.device], true).arrived(0);
            }
            if let (Some(place), Some(done)) = (outcomes.get_mut(member), done.get_mut(member)) {
                *done |= !outcome.failed();
                *place = outcome;
            }
        }
        say_not_validated(Phase::LoadLoaded, &parts(inner).unwrap_or_default(), &mut outcomes);
        let judged = self.judge(inner, run, Phase::LoadLoaded, begun, outcomes, Vec::new());
        let entered = judged.is_ok() && !done.contains(&false);
        if entered {
            // V2-10: one that came early may have been reset since.
            self.check_members(inner, run, &[Phase::LoadLoaded])?;
        }
        if judged.is_ok() {
            self.end_phase(inner, run, Phase::LoadLoaded, done, begun);
        }
        judged.map(|()| entered)
    }
}

/// Where the member is now, and how long it took.
fn note(inner: &mut GroupInner, run: &mut Run, arrival: &LoadArrival) {
    let LoadArrival { member, begun, took, outcome, .. } = arrival;
    let result = &outcome.result;
    if result.from != result.to {
        run.shown.recorder.loaded(*member, *begun, *took, outcome.failed());
        let fresh = result.action == Action::Reset && result.found == State::Running.number();
        run.touched.get_mut(*member).into_iter().for_each(|touched| *touched = !fresh);
    }
    inner.note(*member, outcome);
}
