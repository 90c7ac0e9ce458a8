//! One barrier: devices are brought to their targets side by side, and the call returns when the slowest is there.

use super::members::{Inner, Member};
use crate::device::{Device, OnFailure};
use crate::dialect::{Direction, State};
use crate::error::{Action, DeviceResult, Error};
use crate::workers;
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

/// One device's part.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub result: DeviceResult,
    pub error: Option<Error>,
}

impl Outcome {
    /// It took no part.
    pub fn nothing(device: &Device) -> Self {
        let at = device.state();
        Outcome { result: result(device, at, at, Duration::ZERO), error: None }
    }

    /// It could not take part.
    pub fn refused(device: &Device, to: State, error: Error) -> Self {
        let outcome = failure(device, device.state(), to, error, Duration::ZERO);
        if device.is_closed() { outcome.dead() } else { outcome }
    }

    /// Its state cannot be read: it is known as one in ERROR, whatever was seen of it last.
    pub fn dead(mut self) -> Self {
        self.result.action = Action::Dead;
        self.result.found = State::Error.number();
        self
    }

    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// The result alone.
    pub fn without_error(self) -> Self {
        Outcome { error: None, ..self }
    }

    /// Puts a later step of the same call behind this one.
    pub fn then(self, later: Outcome) -> Self {
        let moved = self.result.from != self.result.to;
        if self.failed() || (moved && later.result.from == later.result.to && !later.failed()) {
            return self;
        }
        let from = if moved { self.result.from } else { later.result.from };
        let duration = self.result.duration.saturating_add(later.result.duration);
        // What an earlier step had to do besides is told, unless the later one has more to say.
        let mut result = DeviceResult { from, duration, ..later.result };
        if result.message.is_empty() {
            result.message = self.result.message;
        }
        Outcome { result, error: later.error }
    }
}

fn result(device: &Device, from: State, to: State, duration: Duration) -> DeviceResult {
    DeviceResult {
        device: device.name().to_string(),
        errno: 0,
        from: from.number(),
        to: to.number(),
        found: device.state().number(),
        action: Action::None,
        duration,
        message: String::new(),
    }
}

/// What an error says of the device; the error of a state change has all of it already.
fn failure(device: &Device, from: State, to: State, error: Error, duration: Duration) -> Outcome {
    let result = match error.results() {
        [told] => DeviceResult { from: from.number(), to: to.number(), duration, ..told.clone() },
        _ => DeviceResult { errno: error.errno(), message: error.to_string(), ..result(device, from, to, duration) },
    };
    Outcome { result, error: Some(error) }
}

impl Inner {
    /// One barrier. Every device's step is ended when it returns, whatever became of the others.
    pub fn step(&mut self, step: &Step<'_>) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = self.members.iter().map(|member| Outcome::nothing(&member.device)).collect();
        let movers: Vec<(usize, &Member, State)> = self
            .members
            .iter()
            .zip(step.targets)
            .enumerate()
            .filter_map(|(i, (member, target))| Some((i, member, (*target)?)))
            .collect();
        let any_thread: Vec<bool> = movers.iter().map(|(_, member, _)| member.device.any_thread()).collect();
        let done = workers::run(self.max_workers, &any_thread, |n| {
            movers.get(n).map(|&(i, member, to)| (i, move_one(&member.device, to, step)))
        });
        // What a fresh device does to be loaded says nothing of how long a guest's would take.
        let measured = self.migration != Some(Direction::Load);
        for (i, outcome) in done.into_iter().flatten() {
            if let Some(member) = self.members.get_mut(i) {
                member.note(&outcome, measured);
            }
            if let Some(place) = outcomes.get_mut(i) {
                *place = outcome;
            }
        }
        outcomes
    }
}

fn move_one(device: &Device, to: State, step: &Step<'_>) -> Outcome {
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
            Outcome { result: DeviceResult { message: note, ..result }, error: None }
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
    fn note(&mut self, outcome: &Outcome, measured: bool) {
        let DeviceResult { from, to, duration, .. } = outcome.result;
        if measured && !outcome.failed() && from != to {
            self.times.note(from, to, duration);
        }
        if let Some(expected) = &mut self.expected {
            *expected = self.device.state();
        }
    }
}

/// What a call over several devices returns: the first failure in the order of the members, with the results of all.
pub(crate) fn verdict(what: &str, outcomes: &[Outcome]) -> Result<(), Error> {
    let mut failures = outcomes.iter().filter_map(|outcome| outcome.error.as_ref());
    let Some(first) = failures.next() else { return Ok(()) };
    let others = match failures.count() {
        0 => String::new(),
        more => format!("; {more} more of {} devices failed", outcomes.len()),
    };
    let results = outcomes.iter().map(|outcome| outcome.result.clone()).collect();
    Err(first.in_words(format!("{what}: {first}{others}")).with_results(results))
}

pub(crate) fn results(outcomes: &[Outcome]) -> Vec<DeviceResult> {
    outcomes.iter().map(|outcome| outcome.result.clone()).collect()
}
