//! One barrier: devices are brought to their targets side by side, and the call returns when the slowest is there.

use super::members::{GroupInner, Member};
use super::outcome::{DeviceOutcome, failure, result};
use crate::device::{Device, OnFailure};
use crate::dialect::{Direction, State};
use crate::error::{DeviceResult, Error, ErrorKind};
use std::time::{Duration, Instant};

/// What is asked of the members.
pub(crate) struct Step<'a> {
    /// By member; `None`: the device takes no part.
    pub targets: &'a [Option<State>],
    /// For a device that fails.
    pub on_failure: OnFailure,
    /// The state is read again after the change: barriers are built on it.
    pub confirm: bool,
    /// Asked before each device: nothing new is begun once it says true.
    pub canceled: &'a (dyn Fn() -> bool + Sync),
}

/// A step never asks to be canceled.
pub(crate) fn never() -> bool {
    false
}

impl GroupInner {
    /// One barrier. Every device's step is ended when it returns, whatever became of the others.
    pub fn step(&mut self, step: &Step<'_>) -> Vec<DeviceOutcome> {
        let mut outcomes: Vec<DeviceOutcome> =
            self.members.iter().map(|member| DeviceOutcome::nothing(&member.device)).collect();
        let movers: Vec<(usize, &Member, State)> = self
            .members
            .iter()
            .zip(step.targets)
            .enumerate()
            .filter_map(|(i, (member, target))| Some((i, member, (*target)?)))
            .collect();
        let devices: Vec<&Device> = movers.iter().map(|(_, member, _)| &*member.device).collect();
        let done = self.side_by_side(&devices, true, |n| {
            movers.get(n).map(|&(i, member, to)| (i, move_one(&member.device, to, step)))
        });
        // What a fresh device does to be loaded says nothing of how long a guest's would take.
        let load = self.migration == Some(Direction::Load);
        for (i, outcome) in done.into_iter().flatten() {
            if let Some(member) = self.members.get_mut(i) {
                member.note(&outcome, load);
            }
            if let Some(place) = outcomes.get_mut(i) {
                *place = outcome;
            }
        }
        outcomes
    }

    /// Remembers what became of a member that was moved beside a step.
    pub fn note(&mut self, member: usize, outcome: &DeviceOutcome) {
        let load = self.migration == Some(Direction::Load);
        self.members.get_mut(member).into_iter().for_each(|member| member.note(outcome, load));
    }
}

/// One device, on whichever thread.
pub(crate) fn move_one(device: &Device, to: State, step: &Step<'_>) -> DeviceOutcome {
    let from = device.state();
    if (step.canceled)() {
        let error = Error::canceled(format!("{}: {from} -> {to} was not begun: canceled", device.name()));
        return failure(device, from, to, error, Duration::ZERO);
    }
    let begun = Instant::now();
    let confirm = |_| match step.confirm.then(|| device.observe()).transpose()? {
        Some(found) if found != to => {
            Err(Error::protocol(format!("{}: {from} -> {to} was done, but it is found in {found}", device.name())))
        }
        _ => Ok(()),
    };
    let mut note = String::new();
    match device.change_state(to, step.on_failure, false, &mut note).and_then(confirm) {
        Ok(()) => {
            let result = result(device, from, to, begun.elapsed());
            DeviceOutcome { result: DeviceResult { message: note, ..result }, error: None }
        }
        Err(error) => {
            // A failed request was followed by a look at the device; what failed before one was not.
            let unread = error.results().is_empty() && device.observe().is_err();
            let outcome = failure(device, from, to, error, begun.elapsed());
            if unread { outcome.dead() } else { outcome }
        }
    }
}

impl Member {
    /// Remembers how long it took, and where the device is now.
    fn note(&mut self, outcome: &DeviceOutcome, load: bool) {
        let DeviceResult { from, to, duration, .. } = outcome.result;
        if !load && !outcome.failed() && from != to {
            if let (Some(from), Some(to)) = (State::from_number(from), State::from_number(to)) {
                self.device.set_transition_time(from, to, duration);
            }
        }
        if let Some(expected) = &mut self.expected {
            // V2-10: one that others have moved does not become the one that was saved or loaded by a step of ours.
            let moved =
                expected.number() != from || outcome.error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Stale);
            if !(moved && (load || expected.session().is_some())) {
                *expected = self.device.state();
            }
        }
    }
}
