//! Where a device is: read, and taken over from what others did.
//!
//! Rules: V2-3 and V2-10 (read the state after a failure), P17 (a session may be well although the state cannot be read), K2,
//! K15.

use super::cache::Cache;
use super::{Device, DeviceInner, DeviceRequest};
use crate::dialect::State;
use crate::error::{Action, DeviceResult, Errno, Error, ErrorKind, Result};
use crate::log::log;
use crate::transport::one_call::WithinCall;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Device {
    /// Reads the state and takes it over; a session that the device has left has ended. A device whose state cannot be read
    /// is known as one in ERROR from here on. *whole; one request.*
    pub fn observe(&self) -> Result<State> {
        let mut inner = self.enter_whole()?;
        let _call = WithinCall::with_one_deadline();
        inner.stop_reading().map_err(|error| self.named(error))?;
        let found = inner.look(&self.cache).map_err(|error| self.named(error));
        inner.start_reading(&self.cache, &self.name);
        found
    }

    /// Its state could not be read when it was looked at last: it may be well (P17).
    pub(crate) fn is_unread(&self) -> bool {
        self.cache.unread().is_some()
    }

    /// Why a device that is known as in ERROR takes no part. Only one that was seen there wants a reset.
    pub(crate) fn in_error(&self) -> Error {
        let name = self.name();
        match self.cache.unread() {
            Some(errno) => Error::device(errno, format!("{name}: its state cannot be read: {errno}")),
            None => Error::new(ErrorKind::Device, libc::EIO, format!("{name}: it is in ERROR: only a reset helps")),
        }
    }
}

impl DeviceInner {
    /// Reads the state and takes it over; a session that the device has left has ended.
    pub(super) fn look(&mut self, cache: &Cache) -> Result<State> {
        let before = self.unread_since.unwrap_or(cache.state());
        let _asked = cache.ask(DeviceRequest::Query);
        let found = self.read_state_again();
        match &found {
            Ok(now) => self.take_over(cache, before, *now),
            Err(error) => self.lose_sight(cache, before, error),
        }
        found
    }

    /// Learns where the device is, if the last look did not show it.
    pub(super) fn find_again(&mut self, cache: &Cache) -> Result<()> {
        if self.unread_since.is_some() { self.look(cache).map(|_| ()) } else { Ok(()) }
    }

    /// Once more if that fails, for on the answer hangs a session that may be well (P17).
    pub(super) fn read_state_again(&self) -> Result<State> {
        let dialect = self.dialect()?;
        dialect.read_state(&*self.transport).or_else(|_| dialect.read_state(&*self.transport))
    }

    /// Others have reset it in `before`, and it is found in `now`.
    pub(super) fn was_reset(&mut self, cache: &Cache, before: State, now: State) {
        self.forget_past(cache);
        self.take_over(cache, before, now);
        // What a RESUMING holds that others have begun is not known.
        cache.emptied.store(before == State::Resuming && now == State::Resuming, Ordering::Relaxed);
    }

    /// The device was in `before` and is found in `now`.
    pub(super) fn take_over(&mut self, cache: &Cache, before: State, now: State) {
        if self.unread_since.take().is_some() {
            log!(Info, "{}: its state can be read again: {now}", self.name);
        }
        cache.set_state(now);
        self.note_found(now);
        // A stream that has come to STOP_COPY has no way back into pre-copy: that would be another one.
        let went_back = before == State::StopCopy && now.is_precopy();
        if now.session() != before.session() || went_back {
            self.end_session(cache);
        }
    }

    /// The state cannot be read: to everybody the device is in ERROR, but its session is not over for that (P17).
    pub(super) fn lose_sight(&mut self, cache: &Cache, before: State, error: &Error) {
        cache.set_unread(error.errno());
        // It lasts, so it is logged when it begins and when it ends.
        if self.unread_since.replace(before).is_none() {
            log!(Warning, "{}: its state cannot be read: {error}", self.name);
        }
    }

    /// After a failed data call: reads the state and ends the session if the device has left it (V2-10, K2, K15).
    pub(super) fn data_failed(&mut self, cache: &Cache, name: &str, what: &str, errno: Errno) -> Error {
        let before = cache.state();
        let found = self.look(cache).ok();
        let now = found.unwrap_or(State::Error);
        let found_in = match found {
            Some(found) => format!("found in {found}"),
            None => "its state cannot be read".to_string(),
        };
        let mut error = Error::device(errno, format!("{what} failed in {before}: {errno}; {found_in}"));
        error.tell(name);
        let error = error.context(name);
        let result = DeviceResult {
            device: name.to_string(),
            errno: errno.get(),
            from: before.number(),
            to: before.number(),
            found: now.number(),
            action: dead_or_none(found),
            again: false,
            duration: Duration::ZERO,
            message: error.to_string(),
        };
        error.with_result(result)
    }
}

/// What is known to have been done to a device that is found there.
pub(super) fn dead_or_none(found: Option<State>) -> Action {
    if found.is_none() { Action::Dead } else { Action::None }
}
