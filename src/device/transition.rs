//! State changes, and what is done after a failed one.
//!
//! Rules: V2-1 (check before the kernel sees it), V2-3 (read the state after a failure), V2-4 and P17 (keep the data
//! fd unless the state says that its session has ended), V2-5 (moved without a descriptor), V2-9 (only a reset aborts
//! RESUMING), F7 (never leave RESUMING with a stream whose length was not stated), N14 and P18 (no request from
//! ERROR), N13 and P5 (whatever can be checked is, before the kernel sees a request).

use super::cache::Cache;
use super::observe::dead_or_none;
use super::reset::ResetFailed;
use super::{Device, DeviceInner, DeviceRequest};
use crate::dialect::registers::Fault;
use crate::dialect::{Answer, State, answer, arcs::session_survives, path};
use crate::error::{Action, DeviceResult, Error, ErrorKind, Result};
use crate::log::log;
use crate::transport::DataNumber;
use crate::transport::one_call::WithinCall;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What to do with a device whose state change failed.
///
/// ```
/// use simdev::{Access, Effect, Fault};
/// use vfiomig::device::{Device, DeviceOptions, OnFailure};
/// use vfiomig::dialect::{Caps, State};
///
/// let hardware = simdev::Device::new(simdev::Config::v2(Caps { p2p: true, pre_copy: false }));
/// let device = Device::new(hardware.transport(), DeviceOptions::default())?;
/// for (on_failure, found) in
///     [(OnFailure::Keep, State::RunningP2p), (OnFailure::ReturnTo(State::Running), State::Running)]
/// {
///     // On the way to STOP_COPY the device gets no further than RUNNING_P2P.
///     hardware.inject(Fault::from(Access::Enter(State::Stop), 0, Effect::Errno(libc::EIO)));
///     device.set_state(State::StopCopy, on_failure, false).unwrap_err();
///     assert_eq!(device.state(), found);
///     hardware.clear_faults();
///     device.set_state(State::Running, OnFailure::Keep, false)?;
/// }
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// Leave it where it is found.
    Keep,
    /// Ask for this state, if the table allows it from where the device is found.
    ReturnTo(State),
    /// Reset it: the device's state is lost.
    Reset,
}

/// A failed step: the error, and the state read after it (`None`: not readable).
pub(super) struct Failed {
    pub error: Error,
    pub found: Option<State>,
}

impl Device {
    /// Brings the device to `to`. *whole; blocks in the kernel for as long as the device takes* (W5; K9: 20 s and more).
    ///
    /// `raw` also takes arcs that the table calls never used. Success without a request if the device is there already.
    /// STALE if the device is found in another state than the last known one: it was changed outside of this library, nothing was
    /// requested, and the next call starts from the state found.
    ///
    /// EDEADLK from a callback of a call on the device's group or on a migration of it: that call counts on where devices stand.
    pub fn set_state(&self, to: State, on_failure: OnFailure, raw: bool) -> Result<()> {
        self.check_not_driven()?;
        self.change_state(to, on_failure, raw, &mut String::new())
    }

    /// As [`set_state`](Self::set_state), for the call on the group itself; `note` gets what was done besides, for reports.
    pub(crate) fn change_state(&self, to: State, on_failure: OnFailure, raw: bool, note: &mut String) -> Result<()> {
        self.wait_load()?;
        let mut inner = self.enter_whole()?;
        let _call = WithinCall::with_one_deadline();
        inner.stop_reading().map_err(|error| self.named(error))?;
        let from = inner.check_request(&self.cache, to, raw).map_err(|error| self.named(error))?;
        if from == to && !(to == State::Running && self.only_says_running()) {
            inner.start_reading(&self.cache, &self.name);
            return Ok(());
        }
        let begun = Instant::now();
        match inner.go(&self.cache, &self.name, to, note) {
            Ok(()) => {
                log!(Debug, "{}: {from} -> {to} in {:?}", self.name, begun.elapsed());
                inner.start_reading(&self.cache, &self.name);
                Ok(())
            }
            Err(failed) => Err(self.recover(&mut inner, from, to, failed, on_failure, begun)),
        }
    }

    fn recover(
        &self,
        inner: &mut DeviceInner,
        from: State,
        to: State,
        failed: Failed,
        policy: OnFailure,
        begun: Instant,
    ) -> Error {
        let Failed { error, found } = failed;
        let (action, found, text) = match (policy, found) {
            (OnFailure::Reset, found) => match inner.reset(&self.cache, &self.name, &self.cache.cancel) {
                Ok(state) => (Action::Reset, Some(state), format!("; reset, now {state}")),
                Err(ResetFailed { done: true, found: Some(now), error }) => {
                    (Action::Reset, Some(now), format!("; reset, but {error}"))
                }
                Err(ResetFailed { done: true, found: None, error }) => {
                    (Action::Dead, None, format!("; reset, but its state cannot be read: {error}"))
                }
                Err(ResetFailed { done: false, error, .. }) => {
                    (dead_or_none(found), found, format!("; the reset failed too: {error}"))
                }
            },
            (_, None) => (Action::Dead, None, "; its state cannot be read".to_string()),
            (OnFailure::Keep, Some(found)) => (Action::None, Some(found), format!("; found in {found}")),
            (OnFailure::ReturnTo(back), Some(found)) => inner.return_to(&self.cache, &self.name, back, found),
        };
        let is_v2 = inner.dialect.as_ref().is_ok_and(|dialect| dialect.kind() == crate::dialect::DialectKind::V2);
        let hint = match (from, to) {
            // The end of a load is where drivers judge the stream (mtty, hisi_acc).
            (State::Resuming, _) if error.kind() == ErrorKind::Device => {
                "; the driver did not accept the stream: was it saved by a device of another kind or version?"
            }
            // V1-3 has no such arrow, and the public servers take no other.
            (State::Stop, State::Resuming) if !is_v2 && error.errno() == libc::EINVAL => {
                "; servers of this protocol take RESUMING from RUNNING only: bring it there first"
            }
            _ => "",
        };
        let text = format!("{from} -> {to} failed: {error}{hint}{text}");
        let mut error = Error::new(error.kind(), error.errno(), text).for_again(self.is_for_again(&error));
        error.tell(&self.name);
        let error = self.named(error);
        let result = DeviceResult {
            device: self.name.clone(),
            errno: error.errno(),
            from: from.number(),
            to: to.number(),
            found: found.unwrap_or(State::Error).number(),
            action,
            again: error.is_for_again(),
            duration: begun.elapsed(),
            message: error.to_string(),
        };
        error.with_result(result)
    }
}

impl DeviceInner {
    /// Everything that can be said against a request before the kernel sees it; returns where the device is.
    fn check_request(&mut self, cache: &Cache, to: State, raw: bool) -> Result<State> {
        let from = self.read_expected_state(cache)?;
        let dialect = self.dialect()?;
        let caps = dialect.caps();
        match answer(dialect.kind(), dialect.caps(), from, to) {
            Answer::Here => return Ok(from),
            Answer::Via(_) => {}
            Answer::NeverUsed(_) if raw => {}
            Answer::NeverUsed(next) => {
                return Err(Error::order(format!(
                    "{from} -> {to} leads through {next} and throws away what the device holds; ask for the steps one by \
                     one, or use the raw flag"
                )));
            }
            Answer::Refused => return Err(Error::order(refusal(caps.has(to), from, to))),
        }
        self.check_past()?;
        if from == State::Resuming {
            self.check_leaving_resuming(cache)?;
        }
        Ok(from)
    }

    /// Reads the state, because the kernel warns (and may panic) at a request from ERROR, and a device that others have reset
    /// must not be taken for one that was loaded (V2-1, V2-10).
    fn read_expected_state(&mut self, cache: &Cache) -> Result<State> {
        let expected = cache.state();
        let asked = cache.ask(DeviceRequest::Query);
        let found = self.dialect()?.read_state(&*self.transport)?;
        drop(asked);
        if let Some(before) = self.unread_since {
            self.take_over(cache, before, found);
            return Ok(found);
        }
        if found == expected {
            return Ok(found);
        }
        cache.set_state(found);
        self.note_found(found);
        self.end_session(cache);
        Err(Error::stale(format!("the device was left in {expected} and is found in {found}: others changed it")))
    }

    /// F7, and F6 with mtty's trap (K4): after a refused write the driver may count the bytes and accept the stream.
    fn check_leaving_resuming(&mut self, cache: &Cache) -> Result<()> {
        self.settle_lost(cache);
        match &self.session {
            Some(session) if session.broken => {
                Err(Error::order("the device refused a part of the stream: only a reset leaves RESUMING"))
            }
            Some(session) if session.complete => Ok(()),
            Some(_) => Err(Error::order("leaving RESUMING needs finish first: the stream may be incomplete")),
            // V2-9 keeps what is loaded from being taken for whole; here nothing is.
            None if cache.emptied.load(Ordering::Relaxed) => Ok(()),
            None => Err(Error::order("RESUMING without a data fd: only a reset leaves it")),
        }
    }

    /// Asks the device, and brings session and cache in line with what became of it.
    pub(super) fn request(&mut self, cache: &Cache, from: State, to: State) -> std::result::Result<(), Failed> {
        let _moving = cache.moving();
        let unreadable = |error| Failed { error, found: None };
        let dialect = self.dialect().map_err(unreadable)?;
        let path = path(dialect.kind(), dialect.caps(), from, to).unwrap_or_default();
        log!(Debug, "{}: {from} -> {to} begins", self.name);
        let _asked = cache.ask(DeviceRequest::SetState(to));
        let requested = dialect.request_state(&*self.transport, from, to);
        self.window.begin_anew();
        match requested {
            Ok(requested) => self.arrived(cache, from, to, &path, requested.data_fd),
            Err(fault) => Err(self.not_arrived(cache, from, &path, fault)),
        }
    }

    fn arrived(
        &mut self,
        cache: &Cache,
        from: State,
        to: State,
        path: &[State],
        data_fd: Option<DataNumber>,
    ) -> std::result::Result<(), Failed> {
        cache.set_state(to);
        let survives = session_survives(from, path, to);
        if !survives {
            // A whole stream is no void one; by every other arc out of SAVING the guest runs on.
            let whole =
                from == State::StopCopy && to == State::Stop && self.session.as_ref().is_some_and(|s| s.complete);
            self.end_session(cache);
            let void = self.stream_void && !whole;
            self.set_void(cache, void);
        }
        let failed = |error| Failed { error, found: Some(to) };
        match to.session() {
            Some(direction) if !survives => self.open_session(cache, direction, data_fd).map_err(failed),
            // -1 says "same fd" or "none" (V2-4). The session's own number says the same. Another one is one too many.
            _ => match data_fd {
                None => Ok(()),
                Some(fd) if self.window.data_fd() == Some(fd.number()) => Ok(()),
                Some(fd) => match fd.discard() {
                    true => Err(failed(Error::protocol("the device returned a data fd although no session began"))),
                    false => Ok(()),
                },
            },
        }
    }

    fn not_arrived(&mut self, cache: &Cache, from: State, path: &[State], fault: Fault) -> Failed {
        let found = self.read_state_again();
        match &found {
            Ok(state) => {
                cache.set_state(*state);
                // EMFILE and its like: the device has moved, but the descriptor is lost (V2-5, P16, K19); not the session of
                // `from` either.
                if !session_survives(from, path, *state) {
                    self.end_session(cache);
                }
            }
            Err(error) => {
                self.lose_sight(cache, from, error);
            }
        }
        let hint = match &found {
            Ok(State::Error) => " (the device is in ERROR: only a reset helps)",
            _ => "",
        };
        let error = match fault {
            Fault::Errno(errno) => Error::device(errno, format!("{errno}{hint}")),
            Fault::Nonsense(text) => Error::protocol(format!("{text}{hint}")),
        };
        Failed { error, found: found.ok() }
    }

    fn return_to(&mut self, cache: &Cache, name: &str, back: State, found: State) -> (Action, Option<State>, String) {
        if back == found && !(back == State::Running && cache.only_says_running.load(Ordering::Relaxed)) {
            return (Action::None, Some(found), format!("; found in {found}"));
        }
        if let Err(error) = self.check_request(cache, back, false) {
            let text = format!("; found in {found}, not returned to {back}: {error}");
            return (Action::None, Some(cache.state()), text);
        }
        match self.go(cache, name, back, &mut String::new()) {
            Ok(()) => (Action::Recovered, Some(back), format!("; found in {found}, returned to {back}")),
            Err(Failed { error, found: now }) => {
                let text = format!("; found in {found}, returning to {back} failed: {error}");
                (dead_or_none(now), now, text)
            }
        }
    }
}

fn refusal(device_has_it: bool, from: State, to: State) -> String {
    match (from, to) {
        (State::Error, _) => format!("{from} -> {to} is refused: only a reset leaves ERROR"),
        (_, State::Error) => format!("{from} -> {to} is refused: ERROR cannot be asked for"),
        _ if !device_has_it => format!("{from} -> {to} is refused: the device has no {to}"),
        _ => format!("{from} -> {to} is refused: the kernel blocks this arc, some kernels hang on it"),
    }
}
