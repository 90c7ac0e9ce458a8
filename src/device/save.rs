//! State bytes out of the device: peek and consume, and read and send on top of them (docs/design.md, "The data window").
//!
//! Rules: F2 and P3 (0 is the end only in STOP_COPY, and the state is read to be sure), F3 and K11 (EMPTY), F4 (pre-copy
//! info before reading on after EMPTY), V1-8 (the same for pending_bytes 0).

use super::asked::Open;
use super::cache::Cache;
use super::callers_fd::not_moved;
use super::session::Session;
use super::{Device, DeviceInner, DeviceRequest};
use crate::dialect::{Direction, State};
use crate::error::{Errno, Error, Result};
use crate::transport::{caller_patience, is_nonblocking, wait_ready};
#[cfg(feature = "capi")]
use crate::window::raw::RawChunk;
use crate::window::{Access, Chunk, Lend, StreamFlags, Trouble, Window, WindowResult};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

const READING: &str = "reading the stream";

/// What is left of a stream that is void.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VoidRemains {
    /// Its session has ended; the caller may not have noticed.
    Stream,
    /// Its session is open, and gives the rest of it.
    Session,
}

impl Device {
    /// The caller begins a stream from nothing and has thrown away what it has of an earlier one. *device.*
    ///
    /// Needed after a save session that was begun ended by anything but STOP after its END, by callers without a migration;
    /// refused while bytes of the open session were consumed, also up to its END: it gives none of them again.
    pub fn restart_stream(&self) -> Result<()> {
        let mut inner = self.enter()?;
        if let Some(session) = inner.session.as_ref().filter(|session| session.direction == Direction::Save) {
            let refusal = match session {
                session if session.hole().is_some() => Some("the open session is broken: leave it first"),
                Session { moved: 1.., .. } => Some("bytes of the open session were consumed: its stream has begun"),
                _ => None,
            };
            if let Some(text) = refusal {
                return Err(self.named(Error::order(text)));
            }
        }
        inner.set_void(&self.cache, false);
        Ok(())
    }

    /// As [`restart_stream`](Self::restart_stream), by a migration that has sent nothing that counts. What an open
    /// session has given already is of the stream that was begun.
    pub(crate) fn begin_stream(&self) {
        // Freed: then there is nothing to begin.
        if let Ok(mut inner) = self.enter_whole() {
            let given = inner.session.as_ref().is_some_and(Session::was_begun);
            let void = inner.stream_void && given;
            inner.set_void(&self.cache, void);
        }
    }

    /// What is to be done before a stream can begin that counts; `None`: nothing. `anew`: whatever was sent before is void.
    pub(crate) fn void_remains(&self, anew: bool) -> Option<VoidRemains> {
        let inner = self.enter_whole().ok()?;
        let begun = |session: &Session| session.direction == Direction::Save && session.was_begun();
        let open = inner.session.as_ref().is_some_and(begun);
        match (open, anew) {
            (true, _) => (anew || inner.stream_void).then_some(VoidRemains::Session),
            (false, true) => None,
            (false, false) => inner.stream_void.then_some(VoidRemains::Stream),
        }
    }

    /// What was sent of the open session is void, also where it is whole: an abort ends it.
    pub(crate) fn void_stream(&self) {
        if let Ok(mut inner) = self.enter_whole() {
            inner.void_session(&self.cache);
        }
    }

    /// Whether what was sent of its stream is void. *any.*
    pub(crate) fn has_void_stream(&self) -> bool {
        !self.is_closed() && self.cache.stream_void.load(Ordering::Relaxed)
    }

    /// Lends the next bytes of the stream, up to `max` (0: no bound). *device; may block in the kernel.*
    ///
    /// One chunk is lent at a time, until [`consume`](Self::consume) or until it is dropped; it stays valid from PRE_COPY into
    /// STOP_COPY. Device memory, which a device may change at any time, is lent as a copy;
    /// [`send`](Self::send) makes none. A chunk without bytes has [`EMPTY`](StreamFlags::EMPTY) or [`END`](StreamFlags::END).
    pub fn peek(&self, max: usize) -> Result<Chunk> {
        let mut inner = self.enter()?;
        let lend = |window: &mut dyn Window, access: &Access<'_>| window.lend(access, bound(max));
        inner.lend(&self.cache, &self.name, lend).map_err(|error| self.at_name(error))
    }

    /// Gives the chunk back; its first `len` bytes are the caller's, the rest is lent again. *device; on v1 and the draft the
    /// last byte of a segment acknowledges it, which may block in the kernel.*
    pub fn consume(&self, chunk: Chunk, len: usize) -> Result<()> {
        if chunk.is_empty() && len == 0 {
            return Ok(());
        }
        let mut inner = self.enter()?;
        let guard = chunk.guard();
        // Before the device is free for another call, so that the next read finds the buffer unused.
        drop(chunk);
        inner.consume(&self.cache, &self.name, len, Some(guard)).map_err(|error| self.named(error))
    }

    /// As [`peek`](Self::peek), by pointer and without a copy of device memory.
    #[cfg(feature = "capi")]
    #[doc(hidden)]
    pub fn peek_raw(&self, max: usize) -> Result<RawChunk> {
        let mut inner = self.enter()?;
        let lend = |window: &mut dyn Window, access: &Access<'_>| window.lend_raw(access, bound(max));
        inner.lend(&self.cache, &self.name, lend).map_err(|error| self.at_name(error))
    }

    /// As [`consume`](Self::consume), of what [`peek_raw`](Self::peek_raw) has lent.
    #[cfg(feature = "capi")]
    #[doc(hidden)]
    pub fn consume_raw(&self, len: usize) -> Result<()> {
        let mut inner = self.enter()?;
        inner.consume(&self.cache, &self.name, len, None).map_err(|error| self.named(error))
    }

    /// Copies the next bytes of the stream into `buf`, at most one read of the device, and never beyond the end of a segment;
    /// 0 bytes come with [`EMPTY`](StreamFlags::EMPTY) or [`END`](StreamFlags::END). *device; may block in the kernel.*
    pub fn read(&self, buf: &mut [u8]) -> Result<(usize, StreamFlags)> {
        if buf.is_empty() {
            return Err(self.named(Error::argument("len: 0 bytes to read")));
        }
        let mut inner = self.enter()?;
        inner.read(&self.cache, &self.name, buf).map_err(|error| self.at_name(error))
    }

    /// Writes the next bytes of the stream to `fd`, at most `max` (0: no bound), at most one buffer, and never beyond
    /// the end of a segment. What `fd` did not take stays in the stream. 0 bytes come with
    /// [`EMPTY`](StreamFlags::EMPTY) or [`END`](StreamFlags::END). *device; may block in the kernel and on `fd`.*
    ///
    /// EAGAIN (SYSTEM) if `fd` takes nothing: at once if it is in non-blocking mode, else after 60 s. A cancel of the device's
    /// migration ends the wait, and state changes do not wait for it.
    pub fn send(&self, fd: BorrowedFd<'_>, max: usize) -> Result<(usize, StreamFlags)> {
        self.wait_for_caller(fd, true, || self.send_now(fd, max))
    }

    /// As [`send`](Self::send), but never waits for `fd`; `None`: it takes nothing now.
    pub(crate) fn send_now(&self, fd: BorrowedFd<'_>, max: usize) -> Result<Option<(usize, StreamFlags)>> {
        let mut inner = self.enter()?;
        inner.send(&self.cache, &self.name, fd, max).map_err(|error| self.at_name(error))
    }

    /// Tries until the caller's descriptor was ready. The device is free between the tries.
    pub(super) fn wait_for_caller<T>(
        &self,
        fd: BorrowedFd<'_>,
        for_write: bool,
        mut attempt: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(result) = attempt()? {
                return Ok(result);
            }
            if self.cache.cancel.asked() {
                let text = format!("canceled while the caller's fd {} was not ready", fd.as_raw_fd());
                return Err(self.named(Error::canceled(text)));
            }
            if is_nonblocking(fd) || begun.elapsed() > caller_patience() {
                let text = format!("the caller's fd {} is not ready: nothing was moved, call again", fd.as_raw_fd());
                return Err(self.named(Error::system(Errno::new(libc::EAGAIN), text)));
            }
            wait_ready(Some(fd), for_write);
        }
    }

    /// `data_failed` names the device already.
    pub(super) fn at_name(&self, error: Error) -> Error {
        if error.results().is_empty() { self.named(error) } else { error }
    }
}

/// 0 says "no bound".
fn bound(max: usize) -> usize {
    if max == 0 { usize::MAX } else { max }
}

impl DeviceInner {
    /// For any thread to see, too.
    pub(super) fn set_void(&mut self, cache: &Cache, void: bool) {
        self.stream_void = void;
        cache.stream_void.store(void, Ordering::Relaxed);
    }

    /// What was sent of the open save session is void.
    pub(super) fn void_session(&mut self, cache: &Cache) {
        let Some(session) = self.session.as_mut().filter(|session| session.direction == Direction::Save) else {
            return;
        };
        let begun = session.was_begun() || session.complete;
        session.complete = false;
        let void = self.stream_void || begun;
        self.set_void(cache, void);
    }

    fn lend<T: Lend>(
        &mut self,
        cache: &Arc<Cache>,
        name: &str,
        lend: impl FnOnce(&mut dyn Window, &Access<'_>) -> WindowResult<Option<T>>,
    ) -> Result<T> {
        let nothing = self.nothing_now(cache, name)?;
        self.release_lent();
        if let Some(flags) = nothing {
            return Ok(T::nothing(flags));
        }
        let _asked = self.asks(cache, DeviceRequest::Read);
        let (window, access) = self.access(cache)?;
        match lend(window, &access) {
            Ok(Some(chunk)) => {
                if let Some(session) = &mut self.session {
                    session.lent = Some(chunk.loan());
                }
                Ok(chunk)
            }
            Ok(None) => self.no_bytes(cache).map(T::nothing),
            Err(trouble) => Err(self.access_failed(cache, name, READING, trouble)),
        }
    }

    fn consume(&mut self, cache: &Arc<Cache>, name: &str, len: usize, guard: Option<u64>) -> Result<()> {
        self.check_not_stale()?;
        let session = self.session(Direction::Save, cache.state())?;
        let lent = session.out(guard, "no chunk is lent: peek comes first")?.len;
        if len > lent {
            return Err(Error::argument(format!("len: {len} bytes of a chunk of {lent}")));
        }
        session.lent = None;
        self.count(cache, len);
        // It acknowledges a segment where there are some (V1-6); v2 is asked for nothing.
        let asked = self.asks(cache, DeviceRequest::Query);
        let (window, access) = self.access(cache)?;
        window.take(&access, len);
        drop(asked);
        self.start_reading(cache, name);
        Ok(())
    }

    /// A request begins, unless what is asked for is in a queue.
    fn asks<'c>(&self, cache: &'c Cache, request: DeviceRequest) -> Option<Open<'c>> {
        (!self.reads_ahead()).then(|| cache.ask(request))
    }

    fn read(&mut self, cache: &Arc<Cache>, name: &str, buf: &mut [u8]) -> Result<(usize, StreamFlags)> {
        if let Some(flags) = self.nothing_now(cache, name)? {
            return Ok((0, flags));
        }
        let _asked = self.asks(cache, DeviceRequest::Read);
        let (window, access) = self.access(cache)?;
        let outcome = window.read(&access, buf);
        self.moved(cache, name, outcome)
    }

    /// `None`: `fd` takes nothing now.
    fn send(
        &mut self,
        cache: &Arc<Cache>,
        name: &str,
        fd: BorrowedFd<'_>,
        max: usize,
    ) -> Result<Option<(usize, StreamFlags)>> {
        if let Some(flags) = self.nothing_now(cache, name)? {
            return Ok(Some((0, flags)));
        }
        let _asked = self.asks(cache, DeviceRequest::Read);
        let (window, access) = self.access(cache)?;
        let outcome = window.send(&access, fd, bound(max));
        match outcome.as_ref().err().and_then(Trouble::of_descriptor) {
            Some(errno) => not_moved("sending", fd, errno),
            None => self.moved(cache, name, outcome).map(Some),
        }
    }

    /// Counts what a read or send moved.
    fn moved(
        &mut self,
        cache: &Cache,
        name: &str,
        outcome: std::result::Result<Option<(usize, StreamFlags)>, Trouble>,
    ) -> Result<(usize, StreamFlags)> {
        match outcome {
            Ok(Some((len, flags))) => {
                self.count(cache, len);
                Ok((len, flags))
            }
            Ok(None) => self.no_bytes(cache).map(|flags| (0, flags)),
            Err(trouble) => Err(self.access_failed(cache, name, READING, trouble)),
        }
    }

    fn count(&mut self, cache: &Cache, len: usize) {
        if let Some(session) = &mut self.session {
            session.moved = session.moved.saturating_add(len as u64);
            cache.saved_bytes.store(session.moved, Ordering::Relaxed);
            cache.saved_in_all.fetch_add(len as u64, Ordering::Relaxed);
            if cache.state() == State::StopCopy && len > 0 {
                session.counts_down = true;
                cache.stop_copy_bytes.take(len as u64);
            }
        }
    }

    /// Checks that bytes may be asked for; the flags where it is known already that there are none.
    fn nothing_now(&mut self, cache: &Arc<Cache>, name: &str) -> Result<Option<StreamFlags>> {
        self.find_again(cache)?;
        let state = cache.state();
        let unread = self.window.unread();
        self.settle_dropped();
        let session = self.session(Direction::Save, state)?;
        if session.lent.is_some() {
            return Err(Error::busy("a chunk is lent: consume comes first"));
        }
        let (complete, ran_empty) = (session.complete, session.ran_empty);
        if complete {
            return Ok(Some(StreamFlags::END));
        }
        // Behind a failure that can be tried again, or a state change that failed.
        self.start_reading(cache, name);
        // F4: mlx5 and virtio offer new data only after pre-copy info was asked for.
        let asks_first = unread == 0 && ran_empty && state.is_precopy();
        if asks_first && self.update_figures(cache, name)?.says_empty() {
            cache.seen_empty.store(true, Ordering::Relaxed);
            return Ok(Some(StreamFlags::EMPTY));
        }
        Ok(None)
    }

    /// What it means in this state that the window has no bytes.
    fn no_bytes(&mut self, cache: &Cache) -> Result<StreamFlags> {
        if !cache.state().is_precopy() {
            return self.at_end(cache);
        }
        let not_ready = self.window.is_not_ready();
        let has_region = self.dialect()?.registers().is_some();
        if let Some(session) = &mut self.session {
            session.ran_empty = true;
            // C4: mlx5 says EAGAIN, or ENOMSG before it was asked for pre-copy info, while all initial data is still to come.
            if (session.asked_info || has_region) && !not_ready {
                cache.initial_gone.store(true, Ordering::Relaxed);
            }
        }
        if !not_ready {
            cache.seen_empty.store(true, Ordering::Relaxed);
        }
        Ok(StreamFlags::EMPTY)
    }

    /// P3, V1-8: it is the end only if the device really is in STOP_COPY.
    fn at_end(&mut self, cache: &Cache) -> Result<StreamFlags> {
        let found = self.look(cache)?;
        if found != State::StopCopy {
            self.end_session(cache);
            // Whatever was consumed of it, the stream has no end.
            self.set_void(cache, true);
            return Err(Error::stale(format!("the stream ended, but the device is in {found}, not in STOP_COPY")));
        }
        if let Some(session) = &mut self.session {
            session.complete = true;
        }
        cache.stop_copy_bytes.set(Some(0));
        cache.complete.store(true, Ordering::Release);
        Ok(StreamFlags::END)
    }
}
