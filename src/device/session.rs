//! A session is one save or one load of one device: one data fd, or one stay in SAVING or RESUMING. What an earlier one left in
//! the window is gone (N7). It has an identity, and is never glued to another.

use super::DeviceInner;
use super::cache::Cache;
use crate::dialect::{Direction, State};
use crate::error::{Error, Result};
use crate::transport::DataNumber;
use crate::window::{Access, Cause, Loan, Moved, Trouble, Window};
use std::sync::atomic::Ordering;

pub(super) struct Session {
    pub direction: Direction,
    /// Bytes consumed by the caller (save) or taken by the device (load).
    pub moved: u64,
    /// Save: END was reached. Load: `finish` was called with the right count.
    pub complete: bool,
    /// A call failed after bytes may have moved. Load: the resume state is not known, only a reset helps (F6). Save: a hole
    /// may be in the stream, because drivers throw away what they had copied in a read that fails (K7).
    pub broken: bool,
    /// Save: bytes of it were read and thrown away, so that STOP_COPY could be left.
    pub thrown_away: bool,
    /// Save, pre-copy: the last read found nothing, so pre-copy info comes before the next one (F4).
    pub ran_empty: bool,
    /// Save, pre-copy: pre-copy info was asked for. A read that finds nothing before that may only be too early (mlx5).
    pub asked_info: bool,
    /// The chunk or buffer that is lent.
    pub lent: Option<Loan>,
    /// Save: a chunk was dropped, and it is not known what became of its bytes.
    pub shown: bool,
    /// Save: bytes were consumed in STOP_COPY, and are taken off what was left.
    pub counts_down: bool,
}

impl DeviceInner {
    /// Opens the window for a session that a state change has begun; takes its data fd where the dialect has one.
    pub(super) fn open_session(
        &mut self,
        cache: &Cache,
        direction: Direction,
        data_fd: Option<DataNumber>,
    ) -> Result<()> {
        let DeviceInner { name, transport, dialect: Ok(dialect), window, .. } = self else {
            return Err(Error::unsupported("the device is not migratable"));
        };
        let has_region = dialect.registers().is_some();
        let data = if has_region { None } else { Some(transport.open_data(data_fd.and_then(DataNumber::take))?) };
        let (transport, dialect) = (&**transport, &**dialect);
        window.begin(&Access { name, transport, dialect, in_precopy: true, cancel: &cache.cancel }, data);
        cache.set_mapped(window.is_mapped());
        self.session = Some(Session {
            direction,
            moved: 0,
            complete: false,
            broken: false,
            thrown_away: false,
            ran_empty: false,
            asked_info: false,
            lent: None,
            shown: false,
            counts_down: false,
        });
        cache.emptied.store(false, Ordering::Relaxed);
        match direction {
            Direction::Save => cache.saved_bytes.store(0, Ordering::Relaxed),
            Direction::Load => cache.loaded_bytes.store(0, Ordering::Relaxed),
        }
        cache.initial_bytes.set(None);
        cache.dirty_bytes.set(None);
        cache.pending_cached.store(false, Ordering::Relaxed);
        cache.seen_empty.store(false, Ordering::Relaxed);
        cache.initial_gone.store(false, Ordering::Relaxed);
        cache.complete.store(false, Ordering::Relaxed);
        cache.broken.store(false, Ordering::Relaxed);
        // A 0 is what an earlier stream left at its END.
        if has_region || cache.stop_copy_bytes.get() == Some(0) {
            cache.stop_copy_bytes.set(None);
        }
        cache.session_open.store(true, Ordering::Relaxed);
        // Last: whoever sees the number sees an open session, until it has ended.
        cache.session.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The window and what it needs for an access.
    pub(super) fn access<'a>(&'a mut self, cache: &'a Cache) -> Result<(&'a mut dyn Window, Access<'a>)> {
        let DeviceInner { name, transport, dialect: Ok(dialect), window, .. } = self else {
            return Err(Error::unsupported("the device is not migratable"));
        };
        let in_precopy = cache.state().is_precopy();
        let (transport, dialect) = (&**transport, &**dialect);
        Ok((&mut **window, Access { name, transport, dialect, in_precopy, cancel: &cache.cancel }))
    }

    /// An access that the window could not do, as the caller's error.
    pub(super) fn access_failed(&mut self, cache: &Cache, name: &str, what: &str, trouble: Trouble) -> Error {
        if let Some(session) = self.session.as_mut().filter(|_| trouble.moved != Moved::Nothing) {
            session.broken = true;
            cache.broken.store(true, Ordering::Relaxed);
        }
        match trouble.cause {
            Cause::Device(errno) => self.data_failed(cache, name, what, errno),
            Cause::Nonsense(_) => {
                let mut error = Error::protocol(format!("{what}: {}", trouble.cause));
                error.tell(name);
                error
            }
            Cause::Descriptor(errno) => Error::system(errno, format!("{what}: {}", trouble.cause)),
            Cause::Canceled => Error::canceled(format!("{what}: {}", trouble.cause)),
            Cause::Memory(_) => Error::memory(format!("{what}: {}", trouble.cause)),
            Cause::Refused(error) if trouble.moved == Moved::Nothing => error,
            Cause::Refused(error) => error.context(what),
        }
    }

    /// Closes the data fd, in the step that leaves its state (K10). A save that was begun leaves a void stream, also one
    /// that had reached its END: what comes next is another one. Only STOP_COPY -> STOP ends a whole stream, which `arrived`
    /// knows. The memory of a lent chunk stays readable.
    pub(super) fn end_session(&mut self, cache: &Cache) {
        let session = self.session.take();
        let lent = session.as_ref().is_some_and(|session| session.lent.is_some());
        if let Some(session) = session {
            if session.counts_down {
                cache.forget_what_is_left();
            }
            let begun = session.was_begun() || session.complete;
            if session.direction == Direction::Save && begun {
                self.set_void(cache, true);
            }
            self.lent_is_stale |= lent;
        }
        self.window.end(lent);
        self.leave_queue(lent);
        cache.initial_bytes.set(None);
        cache.dirty_bytes.set(None);
        cache.seen_empty.store(false, Ordering::Relaxed);
        cache.initial_gone.store(false, Ordering::Relaxed);
        cache.complete.store(false, Ordering::Relaxed);
        cache.broken.store(false, Ordering::Relaxed);
        cache.session_open.store(false, Ordering::Release);
        // Last: from here on none begins.
        self.lent_is_stale |= cache.behind.end();
    }

    /// A guard that was dropped is not lent any more: nothing of it was consumed, or committed.
    pub(super) fn settle_dropped(&mut self) {
        let DeviceInner { session: Some(session), window, .. } = self else { return };
        if session.lent.is_some_and(|lent| lent.guard.is_some()) && !window.is_guarded() {
            session.lent = None;
            match session.direction {
                Direction::Save => session.shown = true,
                Direction::Load => window.drop_room(),
            }
        }
    }

    /// A chunk or buffer that was lent in a session that has ended is not taken back.
    pub(super) fn check_not_stale(&self) -> Result<()> {
        if self.lent_is_stale { Err(Error::stale("the session in which it was lent has ended")) } else { Ok(()) }
    }

    /// The open session of that direction, or why there is none.
    pub(super) fn session(&mut self, direction: Direction, state: State) -> Result<&mut Session> {
        if direction == Direction::Save && self.stream_void {
            return Err(Error::stale(format!(
                "the save session has ended (now {state}): what was sent of its stream is void, and a new one has to be begun: \
                 by a migration that enters SAVE_PRE_COPY, or is aborted and begins again, or by vfiomig_device_restart_stream()"
            )));
        }
        match self.open(direction, state)? {
            session if direction == Direction::Save => session.hole().map_or(Ok(session), Err),
            session => Ok(session),
        }
    }

    /// As [`session`](Self::session), whatever became of the stream.
    pub(super) fn open(&mut self, direction: Direction, state: State) -> Result<&mut Session> {
        self.dialect()?;
        match &mut self.session {
            Some(session) if session.direction == direction => Ok(session),
            _ if state.session() == Some(direction) => {
                Err(Error::stale(format!("{state}: there is no data fd; its session was opened by others or lost")))
            }
            _ => Err(Error::order(format!("not allowed in {state}: {}", needs(direction)))),
        }
    }
}

impl Session {
    /// What is lent, if it is what the caller gives back; `guard`: its number, if it is a guard.
    pub fn out(&self, guard: Option<u64>, none: &str) -> Result<Loan> {
        match self.lent {
            Some(lent) if lent.guard == guard => Ok(lent),
            Some(_) => Err(Error::stale("what is given back was lent in another session, or by another device")),
            None => Err(Error::order(none)),
        }
    }

    /// Bytes of it may be with the other side. What was lent may be on the wire already.
    pub fn was_begun(&self) -> bool {
        self.moved > 0 || self.lent.is_some() || self.shown
    }

    /// Why bytes are missing in a stream that is saved, if any may be.
    pub fn hole(&self) -> Option<Error> {
        let what = match self {
            Session { broken: true, .. } => "a read of the device failed, and bytes of the stream may be lost with it",
            Session { thrown_away: true, .. } => {
                "bytes of the stream were read and thrown away, because STOP_COPY was to be left, and it was not"
            }
            _ => return None,
        };
        Some(Error::stale(format!(
            "{what}: it has no end any more; abort, or leave the session and begin a new stream"
        )))
    }
}

fn needs(direction: Direction) -> &'static str {
    match direction {
        Direction::Save => "saving needs PRE_COPY, PRE_COPY_P2P or STOP_COPY",
        Direction::Load => "loading needs RESUMING",
    }
}
