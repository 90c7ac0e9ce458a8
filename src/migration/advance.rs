//! From phase to phase: what must be true before, what is done, and what is left when it fails.

use super::course::{BY_DEVICE, Course};
use super::load::say_not_validated;
use super::save::{check_beginnings, say_late_initial_data};
use super::sequence::{self, DeviceTraits, Phase, READS_AHEAD};
use super::{Migration, Partial, Run};
use crate::device::{Device, OnFailure};
use crate::dialect::{Direction, State};
use crate::error::{Action, Error, ErrorKind, Result};
use crate::group::GroupInner;
use crate::group::outcome::{DeviceOutcome, results, verdict};
use crate::group::step::Step;
use crate::log::log;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Phases in which what comes next counts on where the devices stand: the state is read back.
const CONFIRMED: [Phase; 3] = [Phase::SaveViommuGrace, Phase::SaveP2pGrace, Phase::LoadP2pGrace];

/// Once one of these was begun nothing can be canceled.
const LAST: [Phase; 2] = [Phase::SaveHalted, Phase::LoadRunning];

impl Migration {
    /// Brings every device into `to`, through the phases in between, side by side, with a barrier after each. *whole; blocks in
    /// the kernel for as long as the slowest device of each phase takes.*
    ///
    /// Success without effect if the phase is entered already. A wrong order is refused and changes nothing. If a device
    /// fails, the others finish their step, no further step begins, and the migration is FAILED.
    pub fn advance(&self, to: Phase) -> Result<()> {
        self.advance_with(to, false)
    }

    /// As [`advance`](Self::advance) to HALTED, without a final harvest: the caller states that the destination side
    /// has all of RAM.
    pub fn advance_without_harvest(&self) -> Result<()> {
        self.advance_with(Phase::SaveHalted, true)
    }

    fn advance_with(&self, to: Phase, waive_harvest: bool) -> Result<()> {
        let (mut inner, mut run) = self.enter()?;
        self.course.advance(&mut inner, &mut run, to, waive_harvest)
    }

    /// Brings one device into `to`, which must be the next phase; it is entered with the last device. *whole; blocks in the
    /// kernel.*
    pub fn advance_device(&self, device: &Arc<Device>, to: Phase) -> Result<()> {
        self.advance_device_with(device, to, false)
    }

    /// As [`advance_device`](Self::advance_device) to HALTED, without a final harvest: the caller knows that its copy of RAM is
    /// whole.
    pub fn advance_device_without_harvest(&self, device: &Arc<Device>) -> Result<()> {
        self.advance_device_with(device, Phase::SaveHalted, true)
    }

    fn advance_device_with(&self, device: &Arc<Device>, to: Phase, waive_harvest: bool) -> Result<()> {
        let (mut inner, mut run) = self.enter()?;
        let course = &self.course;
        course.gather(&mut inner, &mut run)?;
        let place = inner.members.iter().position(|member| Arc::ptr_eq(&member.device, device));
        let Some(place) = place else {
            return Err(Error::argument(format!("{}: the group has no such device", device.name())));
        };
        let Some(phases) = course.phases_to(&run, to)? else { return Ok(()) };
        if phases.len() > 1 {
            let first = phases.first().copied().unwrap_or(to);
            return Err(Error::order(format!("{to} is not next for a single device: {first} comes before it")));
        }
        course.check_members(&mut inner, &mut run, phases)?;
        let parts = parts(&inner)?;
        let resuming = |part: &DeviceTraits| part.at == State::Resuming;
        let first = || inner.members.iter().zip(&parts).filter(|(_, part)| resuming(part));
        if to == Phase::LoadRunning && first().next().is_some() && !parts.get(place).is_some_and(resuming) {
            let names: Vec<&str> = first().map(|(member, _)| member.device.name()).collect();
            return Err(Error::order(format!(
                "{}: advance those first that can leave RESUMING only by running, where their streams may turn out to be bad: {}",
                device.name(),
                names.join(", ")
            )));
        }
        let chosen: Vec<bool> = (0..inner.members.len()).map(|i| i == place).collect();
        course.enter_phase(&mut inner, &mut run, to, &chosen, waive_harvest)
    }
}

impl Course {
    pub(super) fn advance(&self, inner: &mut GroupInner, run: &mut Run, to: Phase, waive_harvest: bool) -> Result<()> {
        self.gather(inner, run)?;
        let Some(phases) = self.phases_to(run, to)? else { return Ok(()) };
        self.check_members(inner, run, phases)?;
        for &phase in phases {
            self.cancel.check()?;
            let all = vec![true; inner.members.len()];
            self.enter_phase(inner, run, phase, &all, waive_harvest)?;
        }
        Ok(())
    }

    /// The phases to enter; `None`: `to` is entered already.
    fn phases_to(&self, run: &Run, to: Phase) -> Result<Option<&'static [Phase]>> {
        if let Some(error) = run.shown.error.get() {
            return Err(error);
        }
        if to == run.entered && run.partial.is_none() {
            return Ok(None);
        }
        self.cancel.check()?;
        let phases = sequence::phases_to(self.direction, run.entered, to);
        let begun = run.partial.as_ref().map(|partial| partial.phase);
        match phases {
            Some(phases) if begun.is_none_or(|begun| phases.first() == Some(&begun)) => Ok(Some(phases)),
            _ => {
                let allowed = match begun {
                    Some(begun) => vec![begun],
                    None => sequence::allowed(self.direction, run.entered),
                };
                let names: Vec<&str> = allowed.iter().map(|phase| phase.name()).collect();
                let next = if names.is_empty() { "none".to_string() } else { names.join(", ") };
                Err(Error::order(format!("{to} does not follow {}; next may be: {next}", run.entered)))
            }
        }
    }

    /// No device was moved outside of the library since the last step, and none is gone or in ERROR: else the
    /// migration has failed. After a resume new streams can begin: else nothing is done.
    pub(super) fn check_members(&self, inner: &mut GroupInner, run: &mut Run, phases: &[Phase]) -> Result<()> {
        let loaded = matches!(run.entered, Phase::LoadLoaded | Phase::LoadP2pGrace);
        let look = |member: &crate::group::Member| {
            let (device, at) = (&member.device, member.device.state());
            let name = device.name();
            let expected = member.expected.unwrap_or(at);
            let error = if device.is_closed() {
                Error::unplugged(format!("{name}: the device handle was freed"))
            } else if at == State::Error {
                device.in_error()
            } else if at != expected {
                Error::stale(format!("{name}: the last phase left it in {expected}, and it is found in {at}"))
            } else if loaded && !device.may_hold_load() {
                // However it came back to where it was.
                Error::stale(format!("{name}: it was reset: what it was loaded with is gone"))
            } else if at.session().is_some() && !device.info().session_open {
                // After a reset that kept the state (libvfio-user, K24).
                Error::stale(format!("{name}: it is in {at}, but its session has ended: what was sent of it is void"))
            } else {
                return DeviceOutcome::nothing(device);
            };
            DeviceOutcome::refused(device, expected, error)
        };
        let outcomes: Vec<DeviceOutcome> = inner.members.iter().map(look).collect();
        let next = phases.first().copied().unwrap_or(run.entered);
        if outcomes.iter().any(DeviceOutcome::failed) {
            if next == Phase::SaveHalted {
                // The caller has said that the guest may run elsewhere, whatever keeps its devices from there.
                run.give_away(inner);
            }
            self.judge(inner, run, next, Instant::now(), outcomes, Vec::new())?;
        }
        // In IDLE whatever was sent was of another save.
        let begins = matches!(run.entered, Phase::Idle | Phase::SaveTracking) && run.partial.is_none();
        if self.direction == Direction::Save && begins {
            check_beginnings(inner, next, run.entered == Phase::Idle)?;
        }
        Ok(())
    }

    /// One phase for the chosen members.
    fn enter_phase(
        &self,
        inner: &mut GroupInner,
        run: &mut Run,
        phase: Phase,
        chosen: &[bool],
        waive_harvest: bool,
    ) -> Result<()> {
        let parts = parts(inner)?;
        let (begun, first) = (Instant::now(), run.partial.is_none());
        let done = run.partial.as_ref().map_or_else(|| vec![false; parts.len()], |partial| partial.done.clone());
        let wanted: Vec<bool> = chosen.iter().zip(&done).map(|(chosen, done)| *chosen && !done).collect();
        if phase == Phase::LoadLoaded {
            self.wait_for_bytes(inner, run, &wanted)?;
        }
        run.check_streams(inner, phase, &wanted)?;
        if phase == Phase::SaveHalted && first {
            run.check_harvested(waive_harvest)?;
        }
        if LAST.contains(&phase) {
            self.cancel.close()?;
        }
        if phase == Phase::SaveHalted {
            run.give_away(inner);
        }
        let notes = if first { self.begin_phase(inner, run, phase, &parts, begun)? } else { Vec::new() };
        let ending = if phase == Phase::SaveHalted { self.end_sessions(&wanted) } else { Vec::new() };
        let mut outcomes = self.steps(inner, run, phase, &parts, &wanted);
        if first && phase == Phase::SaveTracking {
            run.nothing_was_sent();
        }
        say_not_validated(phase, &parts, &mut outcomes);
        self.did_not_end(ending, &outcomes);
        if phase == Phase::SaveP2pGrace && !outcomes.iter().any(DeviceOutcome::failed) {
            say_late_initial_data(inner, &wanted, &mut outcomes);
        }
        self.judge(inner, run, phase, begun, outcomes, notes)?;
        let done = done.iter().zip(chosen).map(|(done, chosen)| *done || *chosen).collect();
        self.end_phase(inner, run, phase, done, begun);
        Ok(())
    }

    /// What is done once for a phase, before its first member moves. Returns notes for the report.
    fn begin_phase(
        &self,
        inner: &mut GroupInner,
        run: &mut Run,
        phase: Phase,
        parts: &[DeviceTraits],
        begun: Instant,
    ) -> Result<Vec<String>> {
        if run.entered == Phase::Idle {
            run.shown.recorder.restart(begun);
            run.origin = parts.iter().map(|part| part.at).collect();
        }
        // To begin is to say that nothing was sent that counts. In SAVE_PRE_COPY for the second time, after a resume, too.
        if run.entered == Phase::Idle || phase == Phase::SavePreCopy {
            self.count_sessions();
            inner.members.iter().for_each(|member| member.device.begin_stream());
        }
        match phase {
            Phase::SaveTracking => run.start_trackers(inner)?,
            READS_AHEAD => {
                run.check_trackers(inner)?;
                run.ahead.begin(inner);
            }
            Phase::SaveHalted => return Ok(run.stop_trackers(Some(inner))),
            _ => {}
        }
        Ok(Vec::new())
    }

    /// All steps of a phase, up to the first barrier that a member misses.
    fn steps(
        &self,
        inner: &mut GroupInner,
        run: &mut Run,
        phase: Phase,
        parts: &[DeviceTraits],
        wanted: &[bool],
    ) -> Vec<DeviceOutcome> {
        let mut outcomes: Vec<DeviceOutcome> =
            inner.members.iter().map(|member| DeviceOutcome::nothing(&member.device)).collect();
        for targets in sequence::steps(phase, parts) {
            let moved = self.barrier(inner, run, phase, &targets, wanted);
            let missed = moved.iter().any(DeviceOutcome::failed);
            outcomes = outcomes.into_iter().zip(moved).map(|(before, now)| before.then(now)).collect();
            if missed {
                break;
            }
        }
        outcomes
    }

    /// The members of `done` have reached the phase, which is entered if these are all.
    pub(super) fn end_phase(
        &self,
        inner: &mut GroupInner,
        run: &mut Run,
        phase: Phase,
        done: Vec<bool>,
        begun: Instant,
    ) {
        run.partial = None;
        if done.contains(&false) {
            run.partial = Some(Partial { phase, done });
            inner.frozen = inner.frozen.or(Some(BY_DEVICE));
            return;
        }
        if phase == Phase::SaveStopCopy {
            for tracker in &run.tracking {
                // One that was freed meanwhile has no final harvest, which HALTED will find.
                let _ = tracker.begin_final();
            }
        }
        if phase == Phase::SaveHalted {
            run.ahead.end(self.devices(), Duration::MAX);
        }
        run.entered = phase;
        self.set_phase(inner, phase);
        log!(Info, "migration: {phase} after {:?}", begun.elapsed());
    }

    /// One step of a phase, for those of the wanted members that it moves.
    fn barrier(
        &self,
        inner: &mut GroupInner,
        run: &mut Run,
        phase: Phase,
        targets: &[State],
        wanted: &[bool],
    ) -> Vec<DeviceOutcome> {
        let confirm = CONFIRMED.contains(&phase);
        let is_p2p = |state: State| matches!(state, State::RunningP2p | State::PreCopyP2p);
        let targets: Vec<Option<State>> = inner
            .members
            .iter()
            .zip(targets)
            .zip(wanted)
            .map(|((member, &to), &wanted)| {
                let moves = member.device.state() != to || (confirm && is_p2p(to));
                (wanted && moves).then_some(to)
            })
            .collect();
        for (touched, target) in run.touched.iter_mut().zip(&targets) {
            *touched |= target.is_some();
        }
        let on_failure = match self.direction {
            Direction::Save => OnFailure::Keep,
            // Nothing of the guest is in it that the source does not have.
            Direction::Load => OnFailure::Reset,
        };
        let asked = || self.cancel.asked();
        let outcomes = inner.step(&Step { targets: &targets, on_failure, confirm, canceled: &asked });
        for (touched, outcome) in run.touched.iter_mut().zip(&outcomes) {
            // A device that was reset is fresh again.
            *touched &= outcome.result.action != Action::Reset || outcome.result.found != State::Running.number();
        }
        outcomes
    }

    /// Keeps results; a failure of a device ends the migration, a cancel does not.
    pub(super) fn judge(
        &self,
        inner: &mut GroupInner,
        run: &mut Run,
        phase: Phase,
        begun: Instant,
        mut outcomes: Vec<DeviceOutcome>,
        notes: Vec<String>,
    ) -> Result<()> {
        inner.keep(phase.name(), &mut outcomes);
        let judged = verdict(phase.name(), &outcomes);
        run.shown.recorder.add(phase, begun, judged.is_err(), results(&outcomes), notes);
        let Err(error) = judged else { return Ok(()) };
        let canceled =
            |outcome: &DeviceOutcome| outcome.error.as_ref().is_none_or(|error| error.kind() == ErrorKind::Canceled);
        if !outcomes.iter().all(canceled) {
            // What decides is the failure, not that the other devices were to begin nothing.
            let failed: Vec<DeviceOutcome> = outcomes
                .into_iter()
                .map(|outcome| if canceled(&outcome) { outcome.without_error() } else { outcome })
                .collect();
            let mut error = verdict(phase.name(), &failed).err().unwrap_or(error);
            error.tell("migration failed");
            run.shown.error.set(&error);
            run.ahead.stop();
            self.set_phase(inner, Phase::Failed);
            return Err(error);
        }
        Err(error)
    }
}

/// What decides about each member's place in a phase.
pub(super) fn parts(inner: &GroupInner) -> Result<Vec<DeviceTraits>> {
    let part = |member: &crate::group::Member| {
        let (kind, caps) = member.device.ability()?;
        Ok(DeviceTraits { kind, caps, at: member.device.state() })
    };
    inner.members.iter().map(part).collect()
}
