//! What a device has been through since its last reset, and what drivers make of it: states that are not true, steps that must
//! not be asked for, streams that have to be read to their end, loads that are judged by what an earlier one left.
//!
//! None of it is in the uAPI's text; each is what a driver of the kernel does: K1, K3, K6, K17, K21.

use super::cache::Cache;
use super::transition::Failed;
use super::{Device, DeviceInner, DeviceRequest};
use crate::cancel::Follower;
use crate::dialect::{DialectKind, Direction, State};
use crate::error::{Errno, Error, Result};
use crate::log::log;
use crate::window::{Access, Moved};
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a stream is read and thrown away, so that STOP_COPY can be left.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of one read of it.
const DRAIN_READ: usize = 1 << 20;

/// Since the last reset. That it stands still is in the cache, for group calls to see.
#[derive(Default)]
pub(super) struct Past {
    /// Another request could crash the host.
    only_reset: bool,
    saves: u32,
    loads: u32,
}

const ONLY_RESET: &str = "nothing but a reset may be asked of it: ending its pre-copy failed with EIO, behind which drivers (mlx5) \
    crash the host at the next request";

/// How far a state is from running.
fn depth(state: State) -> u32 {
    match state {
        State::Running | State::PreCopy => 0,
        State::RunningP2p | State::PreCopyP2p => 1,
        _ => 2,
    }
}

impl Device {
    /// Whether its state says that it runs although a step that failed has left it standing still.
    pub(crate) fn only_says_running(&self) -> bool {
        self.cache.only_says_running.load(Ordering::Relaxed)
    }
}

impl DeviceInner {
    /// A request, and what drivers want before and after it. `note` gets what was done besides.
    pub(super) fn go(
        &mut self,
        cache: &Cache,
        name: &str,
        to: State,
        note: &mut String,
    ) -> std::result::Result<(), Failed> {
        if to == State::Resuming {
            self.begin_afresh(cache, name, note)?;
        }
        let from = cache.state();
        let saves = |state: State| state.session() == Some(Direction::Save);
        let begins_save = !saves(from) && saves(to);
        let drained = self.must_drain(from, to);
        if drained {
            let ended = self.drain(cache, name, note).map_err(|error| Failed { error, found: Some(from) })?;
            if !ended {
                self.check_still_there(cache, from)?;
            }
        }
        if from != to {
            let mut done = self.request_noting(cache, from, to);
            if let Err(failed) = &done {
                // A driver that did not say so before wants its stream read.
                let early = failed.found == Some(State::StopCopy) && self.is_unread(from, to) && !drained;
                if early && failed.error.errno() == libc::EIO && self.drain(cache, name, note).is_ok_and(|ended| ended)
                {
                    done = self.request_noting(cache, from, to);
                }
            }
            done?;
            self.count_session(from, to, begins_save, note);
        }
        if to == State::Running && cache.only_says_running.load(Ordering::Relaxed) {
            self.wake(cache, name, from != to, note)?;
        }
        Ok(())
    }

    /// V2-1: nothing is asked of a device that has gone elsewhere, to ERROR above all.
    fn check_still_there(&mut self, cache: &Cache, from: State) -> std::result::Result<(), Failed> {
        let found = self.look(cache).map_err(|error| Failed { error, found: None })?;
        if found == from {
            return Ok(());
        }
        let text = format!("while its stream was read to its end it went from {from} to {found}");
        Err(Failed { error: Error::device(Errno::new(libc::EIO), text), found: Some(found) })
    }

    pub(super) fn check_past(&self) -> Result<()> {
        if self.past.only_reset { Err(Error::order(ONLY_RESET)) } else { Ok(()) }
    }

    /// As [`check_past`](Self::check_past), by a call that comes after a reset done by others, and looks whether it
    /// was. To read the state does no harm.
    pub(super) fn check_past_again(&mut self) -> Result<()> {
        if self.past.only_reset {
            self.past.only_reset = self.dialect()?.read_state(&*self.transport)?.is_precopy();
        }
        self.check_past()
    }

    /// A reset was done.
    pub(super) fn forget_past(&mut self, cache: &Cache) {
        self.past = Past::default();
        cache.only_says_running.store(false, Ordering::Relaxed);
        cache.may_hold_load.store(false, Ordering::Relaxed);
    }

    /// It was read to be in `state`: the pre-copy whose end failed has ended where it is in another one.
    pub(super) fn note_found(&mut self, state: State) {
        self.past.only_reset &= state.is_precopy();
    }

    fn is_v2(&self) -> bool {
        self.dialect.as_ref().is_ok_and(|dialect| dialect.kind() == DialectKind::V2)
    }

    /// A request, and what is to be remembered of it.
    fn request_noting(&mut self, cache: &Cache, from: State, to: State) -> std::result::Result<(), Failed> {
        let done = self.request(cache, from, to);
        if !self.is_v2() {
            return done;
        }
        let Err(Failed { error, found }) = done else {
            if depth(to) < depth(from) {
                cache.only_says_running.store(false, Ordering::Relaxed);
            }
            return Ok(());
        };
        let Some(at) = found else { return Err(Failed { error, found }) };
        // The step that failed has done its work before its state moved, or a part of it, and nothing was undone.
        if depth(at) < 2 && depth(to) > depth(at) {
            cache.only_says_running.store(true, Ordering::Relaxed);
        }
        let ends_precopy = at.is_precopy() && to.session() != Some(Direction::Save);
        let more = match error.errno() {
            libc::EIO if ends_precopy => {
                self.past.only_reset = true;
                self.end_session(cache);
                ONLY_RESET
            }
            // The step that killed the stream has suspended the device, or a part of it (mlx5).
            libc::ENODEV if at == State::PreCopyP2p && ends_precopy => {
                "its stream has failed: it stands still in PRE_COPY_P2P, and only a reset ends that state"
            }
            libc::ENODEV if ends_precopy => {
                "its stream has failed: the guest can run on with the device in PRE_COPY, and only a reset ends that state"
            }
            libc::EIO if at == State::StopCopy && self.is_left_early(from, to) && self.is_cut() => {
                "its stream was left before its end, and only a reset leads out of that"
            }
            _ => return Err(Failed { error, found }),
        };
        let error = Error::new(error.kind(), error.errno(), format!("{error}: {more}"));
        Err(Failed { error, found })
    }

    fn is_left_early(&self, from: State, to: State) -> bool {
        from == State::StopCopy && to.session() != Some(Direction::Save)
    }

    fn is_cut(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.complete)
    }

    /// Whether STOP_COPY would be left with bytes in the stream that can still be read.
    fn is_unread(&self, from: State, to: State) -> bool {
        let unread = self.session.as_ref().is_some_and(|session| !session.complete && !session.broken);
        self.is_v2() && unread && self.is_left_early(from, to)
    }

    /// K6: xe refuses to leave STOP_COPY before the end, and then only a reset helps. Nothing in the uAPI
    /// distinguishes it from others, but those that have P2P and no PRE_COPY have little to read, or are like it.
    fn must_drain(&self, from: State, to: State) -> bool {
        let like_xe = self.dialect.as_ref().is_ok_and(|dialect| dialect.caps().p2p && !dialect.caps().pre_copy);
        like_xe && self.is_unread(from, to)
    }

    /// Reads the stream to its end and throws it away; whether the end came. An error: it takes too long, and can be tried again.
    fn drain(&mut self, cache: &Cache, name: &str, note: &mut String) -> Result<bool> {
        let (begun, cancel) = (Instant::now(), Follower::default());
        let _asked = cache.ask(DeviceRequest::Read);
        let mut buf = Vec::new();
        if buf.try_reserve_exact(DRAIN_READ).is_err() {
            return Err(Error::memory(format!(
                "no memory for a buffer of {DRAIN_READ} bytes to read its stream to the end"
            )));
        }
        buf.resize(DRAIN_READ, 0);
        let mut bytes = 0usize;
        loop {
            let DeviceInner { transport, dialect: Ok(dialect), window, .. } = self else { return Ok(false) };
            let (transport, dialect) = (&**transport, &**dialect);
            let access = Access { name, transport, dialect, in_precopy: cache.state().is_precopy(), cancel: &cancel };
            let mut not_ready = "";
            match window.read(&access, &mut buf) {
                Ok(Some((n, _))) => {
                    bytes = bytes.saturating_add(n);
                    // Where STOP_COPY is not left all the same, the rest must not be taken for a whole stream.
                    if let Some(session) = &mut self.session {
                        session.thrown_away = true;
                        cache.broken.store(true, Ordering::Relaxed);
                    }
                }
                Ok(None) => {
                    let text = format!(
                        "{bytes} bytes of its stream were read and thrown away, so that STOP_COPY could be left"
                    );
                    return Ok(tell(name, note, &text));
                }
                // It had the patience of one call; to leave STOP_COPY without the rest would be the end of it.
                Err(trouble) if trouble.is_device_not_ready() => {
                    not_ready = " (the device is not ready with the next ones)";
                }
                Err(trouble) => {
                    log!(Info, "{name}: reading the rest of its stream to leave STOP_COPY failed: {}", trouble.cause);
                    if let Some(session) = self.session.as_mut().filter(|_| trouble.moved != Moved::Nothing) {
                        session.broken = true;
                        cache.broken.store(true, Ordering::Relaxed);
                    }
                    return Ok(false);
                }
            }
            if begun.elapsed() > DRAIN_PATIENCE {
                let text = format!(
                    "after {DRAIN_PATIENCE:?} and {bytes} bytes{not_ready} its stream has no end yet, and before that STOP_COPY cannot \
                     be left: ask again, or reset it"
                );
                return Err(Error::waited_enough(text));
            }
        }
    }

    /// K3: its state says RUNNING, so asking for that does nothing; a step further and back runs what makes it run.
    /// `came`: it was not found there, but has just come there.
    fn wake(&mut self, cache: &Cache, name: &str, came: bool, note: &mut String) -> std::result::Result<(), Failed> {
        let p2p = self.dialect.as_ref().is_ok_and(|dialect| dialect.caps().p2p);
        let further = if p2p { State::RunningP2p } else { State::Stop };
        let there = self.request_noting(cache, State::Running, further);
        let done = there.and_then(|()| self.request_noting(cache, further, State::Running));
        if let Err(Failed { error, found: Some(State::Running) }) = &done {
            if came && error.errno() == libc::EBUSY {
                // It has done a step of its own to get here, and says that it is in use; who wants it to run next asks again.
                cache.only_says_running.store(true, Ordering::Relaxed);
                let text = format!(
                    "it is in RUNNING, but {further} and back, to be sure that it does not stand still, was refused: {error}; if it \
                     does, resume it again, or reset it"
                );
                log!(Warning, "{name}: {text}");
                let _ = write!(note, "{}{text}", separator(note));
                return Ok(());
            }
        }
        done.map_err(|Failed { error, found }| {
            cache.only_says_running.store(true, Ordering::Relaxed);
            let text = format!(
                "a step that failed has left it standing still, and going to {further} and back failed too: {error}: only a reset \
                 brings it back"
            );
            Failed { error: Error::new(error.kind(), error.errno(), text), found }
        })?;
        tell(name, note, &format!("a step that failed had left it standing still: it went to {further} and back"));
        Ok(())
    }

    /// K21: hisi_acc, qat and xe judge a load by what an earlier one left in the driver.
    fn begin_afresh(&mut self, cache: &Cache, name: &str, note: &mut String) -> std::result::Result<(), Failed> {
        if !self.is_v2() || self.past.loads == 0 || cache.state() == State::Resuming {
            return Ok(());
        }
        match self.reset(cache, name, &Follower::default()) {
            Ok(_) => tell(name, note, "it has loaded before, so it was reset first"),
            Err(failed) => {
                let found = self.look(cache).ok();
                if matches!(found, None | Some(State::Error)) {
                    return Err(Failed { error: failed.error, found });
                }
                let text = format!(
                    "it has loaded before, and was not reset first: {}; drivers may judge this load by what that left",
                    failed.error
                );
                tell(name, note, &text)
            }
        };
        Ok(())
    }

    fn count_session(&mut self, from: State, to: State, begins_save: bool, note: &mut String) {
        if !self.is_v2() {
            return;
        }
        if begins_save {
            if self.past.saves > 0 {
                let text = "it saves again without a reset since: some drivers (qat) send what they saw the first time";
                let _ = write!(note, "{}{text}", separator(note));
            }
            self.past.saves = self.past.saves.saturating_add(1);
        }
        if to == State::Resuming && from != to {
            self.past.loads = self.past.loads.saturating_add(1);
        }
    }
}

fn separator(note: &str) -> &'static str {
    if note.is_empty() { "" } else { "; " }
}

/// For the report and the log; true.
fn tell(name: &str, note: &mut String, text: &str) -> bool {
    log!(Info, "{name}: {text}");
    // Writing to a String cannot fail.
    let _ = write!(note, "{}{text}", separator(note));
    true
}
