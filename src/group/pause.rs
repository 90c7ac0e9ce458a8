//! Pause and resume of a VM's devices, and the steps to rest that an abort takes too.

use super::members::{Group, GroupInner, Member};
use super::outcome::{DeviceOutcome, verdict};
use super::plan::{self, Rest, StepTargets};
use super::step::{Step, never};
use crate::device::{Device, OnFailure};
use crate::dialect::{DialectKind, State};
use crate::error::{Error, Result};
use crate::log::{Level, capture_errors, log, replay, replay_as};
use std::time::Instant;

impl Group {
    /// Stops all devices, by way of their P2P states; those with an open save session are held in STOP_COPY. vCPUs are stopped
    /// by now. *whole; blocks in the kernel for as long as the slowest device takes.*
    ///
    /// If a device fails, none is stopped that was not yet; resume brings them back. Devices that have no migration
    /// states, or whose handle was freed in a migration, take no part; the results say so.
    pub fn pause(&self) -> Result<()> {
        self.rest("pause", Rest::Hold, plan::STEPS)
    }

    /// The first half of `pause`: devices that can go to their P2P states, the others run on. For VMMs that stop in two passes;
    /// `pause` or `resume` follows. *whole; blocks as `pause` does.*
    pub fn pause_begin(&self) -> Result<()> {
        self.rest("pause", Rest::Hold, plan::GRACE)
    }

    /// Lets all devices run again, by way of their P2P states. A save session that was held ends: what was sent of it is void,
    /// and a migration in SAVE_PRE_COPY is in TRACKING again. A load that rests in LOADED is ended by it, through its phases.
    /// vCPUs are started after it returns. *whole; blocks as `pause` does.*
    pub fn resume(&self) -> Result<()> {
        self.rest("resume", Rest::Running, plan::STEPS)
    }

    /// The first half of `resume`: stopped devices that can go to their P2P states, where others may reach them; a save session
    /// that was held ends. `resume` follows, or `pause`. *whole; blocks as `pause` does.*
    pub fn resume_begin(&self) -> Result<()> {
        self.rest("resume", Rest::Running, plan::GRACE)
    }

    fn rest(&self, what: &str, rest: Rest, steps: usize) -> Result<()> {
        self.enter()?.rest(what, rest, steps)
    }
}

impl GroupInner {
    /// A pause or a resume, or the first `steps` of it.
    pub(super) fn rest(&mut self, what: &str, rest: Rest, steps: usize) -> Result<()> {
        let (begun, half) = (Instant::now(), steps < plan::STEPS);
        if let Some(why) = self.frozen {
            return Err(Error::order(format!("{what} is refused: {why}")));
        }
        let underway = self.underway.clone();
        if let Some(done) = underway.as_ref().and_then(|underway| underway.instead(self, rest, half)) {
            return done;
        }
        let loading = |member: &&Member| member.device.state() == State::Resuming && !is_loaded(&member.device);
        if let Some(loading) = self.members.iter().find(loading) {
            return Err(Error::order(format!("{what} is refused: {} is loading", loading.device.name())));
        }
        let absent: Vec<Option<String>> = self.members.iter().map(|member| absence(&member.device)).collect();
        let rests: Vec<Option<Rest>> = absent.iter().map(|absent| absent.is_none().then_some(rest)).collect();
        let mut outcomes = self.settle(&rests, steps, Barrier::Strict);
        for (outcome, absent) in outcomes.iter_mut().zip(absent) {
            outcome.result.message.extend(absent);
        }
        if let Some(underway) = underway {
            underway.rested(self, rest, half, begun, &mut outcomes);
        }
        self.keep(what, &mut outcomes);
        verdict(what, &outcomes)
    }
}

/// A v1 or draft device that only has to run to have been loaded: the length of its stream was stated, and nothing
/// more is to be loaded. v2 devices leave RESUMING to be loaded.
fn is_loaded(device: &Device) -> bool {
    let info = device.info();
    info.complete && info.dialect != Some(DialectKind::V2)
}

/// Why a device takes no part: whoever stops and continues a guest does so with it as without the library.
fn absence(device: &Device) -> Option<String> {
    if device.is_closed() {
        return Some(format!("{}: its handle was freed: it takes no part", device.name()));
    }
    device.ability().err().map(|error| format!("{error}: it has no states and takes no part"))
}

/// What happens after a barrier that a device has missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Barrier {
    /// No further step begins.
    Strict,
    /// The device is asked once more; then the others continue without it, because the guest is to run where it can.
    BringBack,
}

impl GroupInner {
    /// Brings the members to rest, by the first `steps` of the plan. A device that cannot take part at all, because it is
    /// gone or in ERROR, does not hold the others up.
    pub fn settle(&mut self, rests: &[Option<Rest>], steps: usize, barrier: Barrier) -> Vec<DeviceOutcome> {
        let runs =
            |(member, rest): (&Member, &Option<Rest>)| *rest == Some(Rest::Running) && member.device.is_handed_over();
        let handed_over: Vec<bool> = self.members.iter().zip(rests).map(runs).collect();
        let mut outcomes: Vec<DeviceOutcome> =
            self.members.iter().map(|member| DeviceOutcome::nothing(&member.device)).collect();
        let mut plans: Vec<StepTargets> = Vec::new();
        for ((member, rest), outcome) in self.members.iter().zip(rests).zip(&mut outcomes) {
            let plan = match rest {
                Some(rest) => targets_of(member, *rest),
                None => Ok(StepTargets::default()),
            };
            plans.push(plan.unwrap_or_else(|error| {
                *outcome = DeviceOutcome::refused(&member.device, rest.map_or(member.device.state(), end_of), error);
                StepTargets::default()
            }));
        }
        for step in 0..steps {
            let targets: Vec<_> = plans
                .iter()
                .zip(&outcomes)
                .map(|(plan, outcome)| plan.get(step).copied().flatten().filter(|_| !outcome.failed()))
                .collect();
            let done = match barrier {
                Barrier::Strict => self.ask(&targets),
                Barrier::BringBack => self.ask_twice(&targets),
            };
            let missed = done.iter().any(DeviceOutcome::failed);
            outcomes = outcomes.into_iter().zip(done).map(|(before, now)| before.then(now)).collect();
            if missed && barrier == Barrier::Strict {
                break;
            }
        }
        self.say_second_guest(&handed_over, &mut outcomes);
        outcomes
    }

    /// Devices that hold the state of a guest that was handed over run again, by the caller's will and at its risk:
    /// never in silence.
    fn say_second_guest(&self, handed_over: &[bool], outcomes: &mut [DeviceOutcome]) {
        const TEXT: &str = "a save of it was HALTED, so its guest may run elsewhere: if it does, two run now";
        for ((member, outcome), handed_over) in self.members.iter().zip(outcomes).zip(handed_over) {
            if *handed_over && !member.device.is_handed_over() {
                log!(Warning, "{}: {TEXT}", member.device.name());
                outcome.result.message = format!("{}: {TEXT}", member.device.name());
            }
        }
    }

    /// Once more where it fails; only then it is a failure that the log must have.
    fn ask_twice(&mut self, targets: &[Option<State>]) -> Vec<DeviceOutcome> {
        let (mut done, lines) = capture_errors(|| self.ask(targets));
        if !done.iter().any(DeviceOutcome::failed) {
            replay(lines);
            return done;
        }
        replay_as(Level::Warning, lines);
        // What took too long once is not waited for twice in one call.
        let once_more = |done: &DeviceOutcome| done.failed() && done.result.errno != libc::ETIMEDOUT;
        let again: Vec<_> = targets.iter().zip(&done).map(|(to, done)| to.filter(|_| once_more(done))).collect();
        self.members
            .iter()
            .zip(&again)
            .filter(|(_, to)| to.is_some())
            .for_each(|(member, _)| member.device.count_retry());
        for ((first, second), asked) in done.iter_mut().zip(self.ask(&again)).zip(&again) {
            match &mut first.error {
                Some(_) if asked.is_some() && !second.failed() => *first = second,
                Some(error) => error.logged_as(second.error.as_ref()),
                None => {}
            }
        }
        done
    }

    fn ask(&mut self, targets: &[Option<State>]) -> Vec<DeviceOutcome> {
        if targets.iter().all(Option::is_none) {
            return self.members.iter().map(|member| DeviceOutcome::nothing(&member.device)).collect();
        }
        // P2P is confirmed: what comes after it counts on it.
        let confirm = targets.iter().flatten().any(|to| matches!(to, State::RunningP2p | State::PreCopyP2p));
        self.step(&Step { targets, on_failure: OnFailure::Keep, confirm, canceled: &never })
    }
}

/// The state that a rest names where no session is held.
fn end_of(rest: Rest) -> State {
    match rest {
        Rest::Running => State::Running,
        Rest::Stop | Rest::Hold => State::Stop,
    }
}

fn targets_of(member: &Member, rest: Rest) -> Result<StepTargets> {
    let device = &member.device;
    let name = device.name();
    if device.is_closed() {
        return Err(Error::unplugged(format!("{name}: the device handle was freed")));
    }
    let (kind, caps) = device.ability()?;
    // ERROR was only assumed, and a guest's device is not given up for that (P17).
    let at = if device.is_unread() { device.observe()? } else { device.state() };
    let targets = if at == State::Resuming && !is_loaded(device) { None } else { plan::targets(kind, caps, at, rest) };
    let targets = targets
        .ok_or_else(|| Error::order(format!("{name}: only a reset leads out of {at}, which loses its state")))?;
    Ok(if rest == Rest::Running { awake(device, targets) } else { targets })
}

/// Asking for RUNNING brings back a device that only says that it runs, so it is asked.
fn awake(device: &Device, mut targets: StepTargets) -> StepTargets {
    if let Some(last) = targets.last_mut().filter(|_| device.only_says_running()) {
        *last = Some(State::Running);
    }
    targets
}
