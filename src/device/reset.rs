//! Reset, which leads out of every state: the device's own is lost.
//!
//! Rules: V2-14, W8 and K20 (a reset is tried again, and the state read after it), K24 (servers keep the migration state over
//! it).

use super::cache::Cache;
use super::{Device, DeviceInner, DeviceRequest};
use crate::cancel::Follower;
use crate::dialect::State;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Denied;
use crate::log::log;
use crate::transport::one_call::WithinCall;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a reset that answers EAGAIN is tried again (the kernel only tries to lock), and the longest pause between.
const RESET_PATIENCE: Duration = Duration::from_secs(5);
const RESET_PAUSE_MAX: Duration = Duration::from_millis(100);

/// A reset that did not end in RUNNING; `done`: the device was reset all the same.
pub(super) struct ResetFailed {
    pub done: bool,
    /// The state read afterwards; `None`: not reset, or not readable.
    pub found: Option<State>,
    pub error: Error,
}

impl Device {
    /// `VFIO_DEVICE_RESET`: the device's state is lost, a session has ended. *whole; blocks in the kernel.*
    ///
    /// It leads out of everything, of a canceled migration too, so no cancel ends its patience.
    ///
    /// PROTOCOL: it was reset, and is in another state than RUNNING all the same. EDEADLK as for [`set_state`](Self::set_state).
    pub fn reset(&self) -> Result<()> {
        self.check_not_driven()?;
        let done = self.reset_it()?;
        done.map(|_| ()).map_err(|ResetFailed { mut error, .. }| {
            error.tell(&self.name);
            self.named(error)
        })
    }

    /// As [`reset`](Self::reset), for the call on the group itself, which knows whether it is a failure.
    pub(crate) fn reset_now(&self) -> Result<()> {
        let done = self.reset_it()?;
        done.map(|_| ()).map_err(|failed| self.named(failed.error))
    }

    fn reset_it(&self) -> Result<std::result::Result<State, ResetFailed>> {
        if self.gate.is_mine() {
            return Err(self.denied(Denied::Reentry));
        }
        let mut inner = self.enter_whole()?;
        let _call = WithinCall::with_one_deadline();
        // What is on its way is not waited for; and it goes on where the reset is refused.
        self.abandon_load();
        let done = inner.reset(&self.cache, &self.name, &Follower::default());
        drop(inner);
        self.join_load();
        Ok(done)
    }
}

impl DeviceInner {
    /// Resets, and reads the state: not every device goes to RUNNING (vfio-user servers).
    pub(super) fn reset(
        &mut self,
        cache: &Cache,
        name: &str,
        cancel: &Follower,
    ) -> std::result::Result<State, ResetFailed> {
        self.stop_reading().map_err(|error| ResetFailed { done: false, found: None, error })?;
        let _moving = cache.moving();
        log!(Debug, "{name}: the reset begins");
        let _asked = cache.ask(DeviceRequest::Reset);
        self.try_reset(cache, cancel).map_err(|error| ResetFailed { done: false, found: None, error })?;
        self.forget_past(cache);
        self.end_session(cache);
        self.unread_since = None;
        if self.dialect.is_err() {
            return Ok(State::Running);
        }
        let state = self.read_state_again().map_err(|error| {
            self.lose_sight(cache, State::Error, &error);
            ResetFailed { done: true, found: None, error }
        })?;
        cache.set_state(state);
        cache.emptied.store(state == State::Resuming, Ordering::Relaxed);
        log!(Info, "{name}: reset, now {state}");
        if state == State::Running {
            Ok(state)
        } else {
            let text = format!("after the reset the device is in {state}, not in RUNNING: {}", after_reset(state));
            Err(ResetFailed { done: true, found: Some(state), error: Error::protocol(text) })
        }
    }

    fn try_reset(&self, cache: &Cache, cancel: &Follower) -> Result<()> {
        let at = cache.state();
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match self.transport.reset() {
                Ok(()) => return Ok(()),
                Err(errno) if errno.get() == libc::EAGAIN && cancel.asked() => {
                    return Err(Error::canceled("the reset was canceled while the device was busy"));
                }
                Err(errno) if errno.get() == libc::EAGAIN && begun.elapsed() < RESET_PATIENCE => {
                    cache.retries.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(pause);
                    pause = pause.saturating_mul(2).min(RESET_PAUSE_MAX);
                }
                Err(errno)
                    if errno.get() == libc::EINVAL && matches!(at, State::Stop | State::StopCopy | State::Error) =>
                {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        errno.get(),
                        format!("the reset was refused in {at}: {errno}; the device has none, or only while it runs"),
                    ));
                }
                Err(errno) if errno.means_absent() => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        errno.get(),
                        format!("the device has no reset: {errno}"),
                    ));
                }
                Err(errno) => return Err(Error::device(errno, format!("the reset failed: {errno}"))),
            }
        }
    }
}

/// K24: what is left to do where a reset was done and the migration state stayed, as newer libvfio-user servers have it.
fn after_reset(state: State) -> &'static str {
    match state {
        State::Resuming => {
            "what it was loaded with is gone; it can be asked for STOP, after which a new load may begin, or RUNNING"
        }
        State::PreCopy | State::PreCopyP2p | State::StopCopy => {
            "what was sent of its stream is void; it can be asked for RUNNING, and a new stream begins from there"
        }
        State::Error => "it may not be usable any more",
        _ => "it can be asked for RUNNING",
    }
}
