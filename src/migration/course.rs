//! The part of a migration that a pause or a resume of its group concerns: they may come at any moment of it.

use super::arrivals::Arrivals;
use super::drain::lost_session;
use super::sequence::{DeviceTraits, Phase, target};
use super::{MigrationView, Run};
use crate::cancel::{Cancel, Hurry};
use crate::device::fact::Fact;
use crate::device::{Device, OnFailure};
use crate::dialect::{Direction, State};
use crate::error::{Error, Result};
use crate::gate::{Gate, GateLevel, Pass};
use crate::group::outcome::{DeviceOutcome, results, verdict};
use crate::group::pause::Barrier;
use crate::group::plan::{Rest, STEPS};
use crate::group::step::{Step, never};
use crate::group::{GroupInner, Member};
use crate::group::{Switch, SwitchAction, SwitchTo, Underway};
use crate::log::log;
use crate::tracker::Tracker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Why the group cannot be paused or resumed.
pub(super) const BY_DEVICE: &str = "a phase was begun device by device: end it first";

/// Where a migration stands. The group's gate is always entered before `run`.
pub(super) struct Course {
    pub direction: Direction,
    /// The phase's number.
    phase: Fact,
    pub cancel: Arc<Cancel>,
    pub run: Gate<Run>,
    /// Members of a load that go to LOADED outside of `run`.
    pub arrivals: Arc<Arrivals>,
    /// As in `Run`.
    pub shown: MigrationView,
    devices: Vec<Arc<Device>>,
    /// By member: how many sessions it had had before this attempt.
    sessions: Vec<AtomicU64>,
}

impl Course {
    pub fn new(
        direction: Direction,
        cancel: Arc<Cancel>,
        devices: Vec<Arc<Device>>,
        shown: MigrationView,
        run: Run,
    ) -> Self {
        let sessions = devices.iter().map(|device| AtomicU64::new(device.info().session)).collect();
        let run = Gate::new(GateLevel::Migration, run);
        let (phase, arrivals) = (Fact::new(Phase::Idle.number()), Arc::new(Arrivals::new(devices.len())));
        Course { direction, phase, cancel, run, arrivals, shown, devices, sessions }
    }

    #[cfg(feature = "capi")]
    pub fn phase_fact(&self) -> &'static std::sync::atomic::AtomicU32 {
        self.phase.place()
    }

    pub fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Acquire)).unwrap_or(Phase::Failed)
    }

    pub fn set_phase(&self, inner: &mut GroupInner, phase: Phase) {
        self.phase.store(phase.number(), Ordering::Release);
        inner.frozen = frozen(self.direction, phase);
    }

    pub fn devices(&self) -> &[Arc<Device>] {
        &self.devices
    }

    pub fn enter_run(&self) -> Result<Pass<'_, Run>> {
        self.run.enter_whole().map_err(|denied| denied.of("migration"))
    }

    /// No member's stream is known to be without an end: each that had a session in this attempt has it still, none is in ERROR,
    /// and none is gone.
    pub fn check_sessions(&self) -> Result<()> {
        if self.direction == Direction::Load {
            return Ok(());
        }
        let lost = |(device, before): (&Arc<Device>, &AtomicU64)| lost_session(device, before.load(Ordering::Relaxed));
        self.devices.iter().zip(&self.sessions).find_map(lost).map_or(Ok(()), Err)
    }

    /// From here on a session that ends, or one that is open, is one of this attempt.
    pub fn count_sessions(&self) {
        for (device, before) in self.devices.iter().zip(&self.sessions) {
            let info = device.info();
            before.store(info.session.saturating_sub(u64::from(info.session_open)), Ordering::Relaxed);
        }
    }

    /// Sessions of these members end as they should from here on. Getters look meanwhile.
    pub fn end_sessions(&self, members: &[bool]) -> Vec<Option<u64>> {
        let end = |(before, chosen): (&AtomicU64, &bool)| chosen.then(|| before.swap(u64::MAX, Ordering::Relaxed));
        self.sessions.iter().zip(members).map(end).collect()
    }

    /// Those of members that failed did not.
    pub fn did_not_end(&self, sessions: Vec<Option<u64>>, outcomes: &[DeviceOutcome]) {
        for ((before, was), _) in
            self.sessions.iter().zip(sessions).zip(outcomes).filter(|(_, outcome)| outcome.failed())
        {
            was.into_iter().for_each(|was| before.store(was, Ordering::Relaxed));
        }
    }

    /// What was loaded runs, or waits in its P2P states.
    fn run_loaded(&self, inner: &mut GroupInner, half: bool) -> Result<()> {
        let mut run = self.enter_run()?;
        let to = if half { Phase::LoadP2pGrace } else { Phase::LoadRunning };
        self.advance(inner, &mut run, to, false)
    }

    /// What was loaded stands still: those that wait in their P2P states stop again.
    fn stop_loaded(&self, inner: &mut GroupInner, half: bool) -> Result<()> {
        const WHAT: &str = "pause";
        let mut run = self.enter_run()?;
        if run.partial.is_some() {
            return Err(Error::order(format!("{WHAT} is refused: {BY_DEVICE}")));
        }
        // V2-10: one that was reset meanwhile would come to rest like the others, with nothing in it.
        self.check_members(inner, &mut run, &[])?;
        let begun = Instant::now();
        let rest = |member: &Member| (!half && member.device.state() != State::Resuming).then_some(Rest::Stop);
        let rests: Vec<Option<Rest>> = inner.members.iter().map(rest).collect();
        let mut outcomes = inner.settle(&rests, STEPS, Barrier::Strict);
        inner.keep(WHAT, &mut outcomes);
        if let Err(error) = verdict(WHAT, &outcomes) {
            self.check_members(inner, &mut run, &[])?;
            return Err(error);
        }
        run.origin.fill(State::Stop);
        if !half && run.entered != Phase::LoadLoaded {
            run.shown.recorder.add(Phase::LoadLoaded, begun, false, results(&outcomes), vec!["paused".to_string()]);
            run.entered = Phase::LoadLoaded;
            self.set_phase(inner, Phase::LoadLoaded);
        }
        Ok(())
    }
}

impl Underway for Course {
    fn switch(&self, inner: &mut GroupInner, switch: Switch) -> Option<(SwitchAction, Result<()>)> {
        self.switch_in(inner, switch)
    }

    fn cancel(&self) {
        self.cancel.ask();
    }

    fn hurries(&self, switch: Switch) -> Option<Hurry> {
        let past =
            matches!(self.phase(), Phase::SaveViommuGrace | Phase::SaveP2pGrace | Phase::SaveStopCopy | Phase::Failed);
        let aborts = past && self.direction == Direction::Save && switch == Switch { to: SwitchTo::Start, half: false };
        // A callback of that drain gets EDEADLK, and the drain continues.
        (aborts && !self.cancel.is_closed() && !self.run.is_mine()).then(|| self.cancel.hurry())
    }

    fn tracker_came(&self, inner: &GroupInner, tracker: &Arc<Tracker>) -> Result<()> {
        let mut run = self.enter_run()?;
        match self.phase() {
            Phase::SaveTracking | Phase::SavePreCopy | Phase::SaveViommuGrace | Phase::SaveP2pGrace => {
                run.tracker_came(inner, tracker)
            }
            // Begun device by device: the others were started with the first.
            Phase::Idle if self.direction == Direction::Save && run.partial.is_some() => {
                run.tracker_came(inner, tracker)
            }
            Phase::SaveStopCopy => Err(Error::order(format!(
                "adding a tracker is refused in {}: RAM that it speaks of was sent, and the VM stands still",
                Phase::SaveStopCopy
            ))),
            // A save begins to track later, or has ended; a load does not.
            _ => Ok(()),
        }
    }

    fn tracker_goes(&self, inner: &GroupInner, tracker: &Arc<Tracker>) -> Result<()> {
        self.enter_run()?.tracker_goes(inner, tracker)
    }

    fn instead(&self, inner: &mut GroupInner, rest: Rest, half: bool) -> Option<Result<()>> {
        let loaded = matches!(self.phase(), Phase::LoadLoaded | Phase::LoadP2pGrace);
        match rest {
            _ if !loaded => None,
            Rest::Running => Some(self.run_loaded(inner, half)),
            Rest::Stop | Rest::Hold => Some(self.stop_loaded(inner, half)),
        }
    }

    fn rested(&self, inner: &mut GroupInner, rest: Rest, half: bool, begun: Instant, outcomes: &mut [DeviceOutcome]) {
        // Freed meanwhile: then no record is left to write to.
        let Ok(mut run) = self.enter_run() else { return };
        match rest {
            Rest::Running if half => {}
            Rest::Running => run.origin.fill(State::Running),
            Rest::Stop | Rest::Hold => run.origin.fill(State::Stop),
        }
        if rest == Rest::Running && run.entered == Phase::SavePreCopy && leaves_precopy(half, outcomes) {
            // Also what is open still: the destination throws away all streams, and each begins with a session.
            inner.members.iter().for_each(|member| member.device.void_stream());
            let note = "resumed: what was sent of the devices' streams is void; SAVE_PRE_COPY begins new ones";
            log!(Info, "migration: {note}");
            let failed = outcomes.iter().any(DeviceOutcome::failed);
            run.shown.recorder.add(Phase::SaveTracking, begun, failed, results(outcomes), vec![note.to_string()]);
            run.entered = Phase::SaveTracking;
            self.set_phase(inner, Phase::SaveTracking);
        }
        let all_run = rest == Rest::Running && !half && !outcomes.iter().any(DeviceOutcome::failed);
        if all_run && run.entered == Phase::SaveTracking {
            save_again(inner, &mut run, outcomes);
        }
    }
}

/// The draft's log of written pages answers only in SAVING, so SAVE_TRACKING has its devices in PRE_COPY, also after a resume.
fn save_again(inner: &mut GroupInner, run: &mut Run, outcomes: &mut [DeviceOutcome]) {
    let begun = Instant::now();
    let target = |member: &Member| {
        let at = member.device.state();
        let (kind, caps) = member.device.ability().ok()?;
        let to = target(Phase::SaveTracking, DeviceTraits { kind, caps, at });
        (to != at).then_some(to)
    };
    let targets: Vec<Option<State>> = inner.members.iter().map(target).collect();
    if targets.iter().all(Option::is_none) {
        return;
    }
    let again = inner.step(&Step { targets: &targets, on_failure: OnFailure::Keep, confirm: false, canceled: &never });
    run.shown.recorder.add(
        Phase::SaveTracking,
        begun,
        again.iter().any(DeviceOutcome::failed),
        results(&again),
        Vec::new(),
    );
    for (outcome, again) in outcomes.iter_mut().zip(again) {
        match &again.error {
            // The guest runs all the same: until SAVE_PRE_COPY, which asks again, every page of such a log is dirty, and once
            // more then.
            Some(error) if again.result.found == State::Running.number() => {
                let note = format!("no log of written pages until SAVE_PRE_COPY: {error}");
                log!(Warning, "migration: {note}");
                run.shown.recorder.note(note);
            }
            // It ran, and does no more.
            Some(_) => *outcome = again,
            // Results say where the devices are when the call returns.
            None => *outcome = outcome.clone().then(again),
        }
    }
}

/// Whether a resume has ended a save session; or it is done, and devices run for which SAVE_PRE_COPY is to be entered.
fn leaves_precopy(half: bool, outcomes: &[DeviceOutcome]) -> bool {
    let done = !half && !outcomes.iter().any(DeviceOutcome::failed);
    let saves = |state: Option<State>| state.and_then(State::session) == Some(Direction::Save);
    outcomes.iter().any(|outcome| {
        let (from, found) = (State::from_number(outcome.result.from), State::from_number(outcome.result.found));
        // Of one that is in ERROR, or cannot be read, the next phase hears.
        let ended = saves(from) && !saves(found) && found != Some(State::Error);
        ended || done && from != found
    })
}

/// Why the group cannot be paused or resumed in this phase.
pub(super) fn frozen(direction: Direction, phase: Phase) -> Option<&'static str> {
    match (direction, phase) {
        (Direction::Save, Phase::Idle | Phase::SaveTracking | Phase::SavePreCopy) => None,
        (Direction::Save, Phase::SaveHalted) => Some("the guest may run elsewhere: only an abort lets it run here"),
        // Those that are loaded do it by their phases.
        (_, Phase::LoadLoaded | Phase::LoadP2pGrace | Phase::LoadRunning) => None,
        (_, Phase::Failed) => Some("the migration has failed: abort it"),
        (Direction::Save, _) => Some("the migration is past pre-copy: continue, or abort it"),
        (Direction::Load, _) => Some("the group is being loaded"),
    }
}
