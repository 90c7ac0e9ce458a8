//! What a call did to each of several devices, and what it returns.

use crate::device::Device;
use crate::dialect::State;
use crate::error::{Action, DeviceResult, Error};
use std::time::Duration;

/// One device's part.
#[derive(Clone, Debug)]
pub(crate) struct DeviceOutcome {
    pub result: DeviceResult,
    pub error: Option<Error>,
}

impl DeviceOutcome {
    /// It took no part.
    pub fn nothing(device: &Device) -> Self {
        let at = device.state();
        DeviceOutcome { result: result(device, at, at, Duration::ZERO), error: None }
    }

    /// It could not take part.
    pub fn refused(device: &Device, to: State, error: Error) -> Self {
        let outcome = failure(device, device.state(), to, error, Duration::ZERO);
        if device.is_closed() || device.is_unread() { outcome.dead() } else { outcome }
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
        DeviceOutcome { error: None, ..self }
    }

    /// Puts a later step of the same call after this one.
    pub fn then(self, later: DeviceOutcome) -> Self {
        let moved = self.result.from != self.result.to;
        if self.failed() || (moved && later.result.from == later.result.to && !later.failed()) {
            return self;
        }
        let from = if moved { self.result.from } else { later.result.from };
        let duration = self.result.duration.saturating_add(later.result.duration);
        // What an earlier step had to do besides is reported, unless the later one has more to say.
        let mut result = DeviceResult { from, duration, ..later.result };
        if result.message.is_empty() {
            result.message = self.result.message;
        }
        DeviceOutcome { result, error: later.error }
    }
}

pub(super) fn result(device: &Device, from: State, to: State, duration: Duration) -> DeviceResult {
    DeviceResult {
        device: device.name().to_string(),
        errno: 0,
        from: from.number(),
        to: to.number(),
        found: device.state().number(),
        action: Action::None,
        again: false,
        duration,
        message: String::new(),
    }
}

/// What an error says of the device; the error of a state change has all of it already.
pub(super) fn failure(device: &Device, from: State, to: State, error: Error, duration: Duration) -> DeviceOutcome {
    let error = error.of_member();
    let result = match error.results() {
        [stated] => DeviceResult { from: from.number(), to: to.number(), duration, ..stated.clone() },
        _ => DeviceResult {
            errno: error.errno(),
            message: error.to_string(),
            again: device.is_for_again(&error),
            ..result(device, from, to, duration)
        },
    };
    DeviceOutcome { result, error: Some(error) }
}

/// What a call over several devices returns: the first failure in the order of the members, with the results of all.
pub(crate) fn verdict(what: &str, outcomes: &[DeviceOutcome]) -> Result<(), Error> {
    verdict_led_by(what, outcomes, |_| true)
}

/// The same, but a failure that `leads` comes before the others, wherever its device is among the members.
pub(crate) fn verdict_led_by(
    what: &str,
    outcomes: &[DeviceOutcome],
    leads: impl Fn(&DeviceOutcome) -> bool,
) -> Result<(), Error> {
    let failures = || outcomes.iter().filter(|outcome| outcome.error.is_some());
    let first = failures().find(|outcome| leads(outcome)).or_else(|| failures().next());
    let Some(first) = first.and_then(|outcome| outcome.error.as_ref()) else { return Ok(()) };
    let others = match failures().count().saturating_sub(1) {
        0 => String::new(),
        more => format!("; {more} more of {} devices failed", outcomes.len()),
    };
    let results = outcomes.iter().map(|outcome| outcome.result.clone()).collect();
    Err(first.in_words(format!("{what}: {first}{others}")).with_results(results))
}

pub(crate) fn results(outcomes: &[DeviceOutcome]) -> Vec<DeviceResult> {
    outcomes.iter().map(|outcome| outcome.result.clone()).collect()
}
