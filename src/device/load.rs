//! State bytes into the device: reserve and commit, and write and receive on top of them; finish (docs/design.md,
//! "The data window").
//!
//! Rules: F6 (after a refused write the session is broken), F7 and K5 (the byte count decides whether a stream is whole), V1-9
//! and V1-10 (segments are handed over as one, with their length).

use super::cache::Cache;
use super::callers_fd::not_moved;
use super::{Device, DeviceInner, DeviceRequest};
use crate::dialect::Direction;
use crate::error::{Error, Result};
#[cfg(feature = "capi")]
use crate::window::raw::RawRoom;
use crate::window::{Access, Loan, Moved, NO_SEGMENT, Room, Trouble, Window, WindowResult};
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

const BROKEN: &str = "the device refused a part of the stream: the session is broken, only a reset remains";

impl Device {
    /// Lends a buffer for the next bytes of the stream. *device; on v1 and the draft it asks the device where they go.*
    ///
    /// `segment_left`: bytes from here to the end of their segment (v1, draft), as the chunk at the source had them; `None` on
    /// v2, which has no segments. A segment that does not fit the device's window is refused here (EMSGSIZE). One buffer is
    /// lent at a time, until [`commit`](Self::commit) or until it is dropped.
    pub fn reserve(&self, segment_left: Option<u64>) -> Result<Room> {
        if let Some(queue) = self.load_queue()? {
            return self.lend_room(&queue, segment_left.unwrap_or(NO_SEGMENT));
        }
        let mut inner = self.enter()?;
        let room = |window: &mut dyn Window, access: &Access<'_>| {
            let room = window.room(access, segment_left.unwrap_or(NO_SEGMENT))?;
            let loan = room.loan();
            Ok((room, loan))
        };
        inner.reserve(&self.cache, &self.name, room).map_err(|error| self.at_name(error))
    }

    /// Gives the first `len` bytes of the lent buffer to the device. 0 returns it unused. *device; may block in the kernel.*
    ///
    /// `segment_end` says that a segment ends with them (v1, draft); where its length is known it is checked. The buffer is empty
    /// afterwards. A failure after the device may have taken a byte breaks the session, and only a reset remains; after any other
    /// the buffer is as it was, and the call can be made again. The text says which.
    pub fn commit(&self, room: &mut Room, len: usize, segment_end: bool) -> Result<()> {
        if let Some(queue) = self.load_queue()? {
            return self.put_room(&queue, Some(room), len, segment_end);
        }
        let mut inner = self.enter()?;
        let guard = Some(room.guard());
        let outcome = inner.commit(&self.cache, &self.name, len, guard, |window, access| {
            window.commit(access, room.get(..len).unwrap_or_default(), segment_end)
        });
        if inner.session.as_ref().is_some_and(|session| session.lent.is_none()) {
            room.give_back();
        }
        outcome.map_err(|error| self.at_name(error))
    }

    /// As [`reserve`](Self::reserve), by pointer and of the device's own memory where that is mapped; 0 on v2.
    #[cfg(feature = "capi")]
    #[doc(hidden)]
    pub fn reserve_raw(&self, segment_left: u64) -> Result<RawRoom> {
        while let Some(queue) = self.load_queue()? {
            if let Some(room) = self.lend_raw_room(&queue, segment_left)? {
                return Ok(room);
            }
            // The session has ended meanwhile, or goes on without a queue: which of both, and why, is asked anew.
        }
        let mut inner = self.enter()?;
        let room = |window: &mut dyn Window, access: &Access<'_>| {
            let room = window.raw_room(access, segment_left)?;
            Ok((room, Loan { len: room.len, guard: None }))
        };
        inner.reserve(&self.cache, &self.name, room).map_err(|error| self.at_name(error))
    }

    /// As [`commit`](Self::commit), of what [`reserve_raw`](Self::reserve_raw) has lent.
    #[cfg(feature = "capi")]
    #[doc(hidden)]
    pub fn commit_raw(&self, len: usize, segment_end: bool) -> Result<()> {
        if let Some(queue) = self.load_queue()? {
            return self.put_room(&queue, None, len, segment_end);
        }
        let mut inner = self.enter()?;
        let outcome = inner
            .commit(&self.cache, &self.name, len, None, |window, access| window.commit_raw(access, len, segment_end));
        outcome.map_err(|error| self.at_name(error))
    }

    /// Hands `buf` to the device, without a copy in the library's own memory. *device; may block in the kernel.*
    ///
    /// At most one buffer at a time: a state change, or another call that waits, comes between. If that ends the session the
    /// rest is refused, and the text says how much was taken. `segment_end` as in [`commit`](Self::commit).
    pub fn write(&self, buf: &[u8], segment_end: bool) -> Result<()> {
        match self.load_queue()? {
            Some(queue) => self.put_write(&queue, buf, segment_end),
            None => self.write_pieces(buf, segment_end, KeptBytes::ByCaller),
        }
    }

    /// As [`write`](Self::write), for a caller that cannot give the bytes again: any failure breaks the session. With `keeps` the
    /// caller keeps them while the device is only not ready (EAGAIN, nothing taken), and that failure breaks nothing. *device.*
    pub(crate) fn write_once(&self, buf: &[u8], segment_end: bool, keeps: bool) -> Result<()> {
        self.write_pieces(buf, segment_end, if keeps { KeptBytes::WhileNotReady } else { KeptBytes::ByNobody })
    }

    fn write_pieces(&self, buf: &[u8], segment_end: bool, held: KeptBytes) -> Result<()> {
        let mut inner = self.enter()?;
        let most = inner.buffer_size;
        let session = self.cache.session.load(Ordering::Relaxed);
        let mut before = 0usize;
        loop {
            let rest = buf.get(before..).unwrap_or_default();
            let bytes = rest.get(..most).unwrap_or(rest);
            let after = rest.len().saturating_sub(bytes.len());
            let piece = WritePart { bytes, before, after, segment_end, held };
            inner.write(&self.cache, &self.name, piece).map_err(|error| self.at_name(error))?;
            if after == 0 {
                return Ok(());
            }
            before = before.saturating_add(bytes.len());
            // Who waits goes first.
            drop(inner);
            inner = self.enter_again()?;
            if self.cache.session.load(Ordering::Relaxed) != session {
                let text = format!("another session has begun when {before} of {} bytes were taken", buf.len());
                return Err(self.named(Error::stale(text)));
            }
        }
    }

    /// Whether bytes could be written now. *device.*
    pub(crate) fn check_takes(&self) -> Result<()> {
        self.enter()?.check_open(&self.cache, "receive").map_err(|error| self.named(error))
    }

    /// Reads up to `len` bytes from `fd` (at most one buffer) and hands them to the device; 0 is the end of `fd`. *device;
    /// may block in the kernel and on `fd`.*
    ///
    /// `segment_end` says that a segment ends with the last of `len` bytes; it holds only if all of them came. EAGAIN if `fd` has
    /// nothing, as [`send`](Self::send) says it.
    pub fn receive(&self, fd: BorrowedFd<'_>, len: usize, segment_end: bool) -> Result<usize> {
        if len == 0 {
            return Err(self.named(Error::argument("len: 0 bytes to receive")));
        }
        self.wait_for_caller(fd, false, || self.receive_now(fd, len, segment_end))
    }

    /// As [`receive`](Self::receive), but never waits for `fd`; `None`: it has nothing now.
    pub(crate) fn receive_now(&self, fd: BorrowedFd<'_>, len: usize, segment_end: bool) -> Result<Option<usize>> {
        if let Some(queue) = self.load_queue()? {
            return self.put_received(&queue, fd, len, segment_end);
        }
        let mut inner = self.enter()?;
        inner.receive(&self.cache, &self.name, fd, len, segment_end).map_err(|error| self.at_name(error))
    }

    /// Says how many bytes the stream has; only then may the device leave RESUMING (F7). *device; never blocks.*
    ///
    /// `None`: the caller states that its format does not carry it. INCOMPLETE: so many bytes were not written, or more; if
    /// bytes are missing they may still be written.
    pub fn finish(&self, total: Option<u64>) -> Result<()> {
        match self.load_queue()? {
            Some(queue) => self.put_end(&queue, total),
            None => self.finish_now(total),
        }
    }

    /// As [`finish`](Self::finish), once the device has all that was put before.
    pub(super) fn finish_now(&self, total: Option<u64>) -> Result<()> {
        let mut inner = self.enter()?;
        inner.finish(&self.cache, total).map_err(|error| self.named(error))
    }
}

/// Who has the bytes of a write if it fails before the device has taken one.
#[derive(Clone, Copy)]
enum KeptBytes {
    ByCaller,
    /// The caller, if the device was only not ready.
    WhileNotReady,
    ByNobody,
}

/// A part of the bytes of one write.
#[derive(Clone, Copy)]
pub(super) struct WritePart<'a> {
    bytes: &'a [u8],
    /// Bytes of the same call that were taken before.
    before: usize,
    /// Bytes of the same call that follow.
    after: usize,
    segment_end: bool,
    held: KeptBytes,
}

impl<'a> WritePart<'a> {
    /// Bytes that wait for the device.
    pub fn kept(bytes: &'a [u8], before: usize, after: usize, segment_end: bool) -> Self {
        WritePart { bytes, before, after, segment_end, held: KeptBytes::WhileNotReady }
    }

    /// Whether they wait for a device that is only not ready.
    pub fn keep(&mut self, keep: bool) {
        self.held = if keep { KeptBytes::WhileNotReady } else { KeptBytes::ByNobody };
    }

    pub fn is_kept(&self) -> bool {
        matches!(self.held, KeptBytes::WhileNotReady)
    }

    /// The device has so many of them.
    pub fn advance(&mut self, taken: usize) {
        self.bytes = self.bytes.get(taken..).unwrap_or_default();
        self.before = self.before.saturating_add(taken);
    }
}

/// Why a stream of so many bytes is not one of that length.
pub(super) fn wrong_length(total: u64, moved: u64) -> Option<Error> {
    if total > moved {
        return Some(Error::incomplete(format!(
            "the stream is short: {moved} of {total} bytes were loaded, {} are missing",
            total.saturating_sub(moved)
        )));
    }
    (total < moved).then(|| {
        Error::incomplete(format!("the stream is too long: {moved} bytes were loaded, the source side counted {total}"))
    })
}

impl DeviceInner {
    /// The stream can take bytes.
    fn check_open(&mut self, cache: &Cache, what: &str) -> Result<()> {
        self.find_again(cache)?;
        self.settle_dropped();
        self.settle_lost(cache);
        let session = self.session(Direction::Load, cache.state())?;
        if session.broken {
            return Err(Error::stale(BROKEN));
        }
        if session.complete {
            return Err(Error::order(format!("{what} after finish")));
        }
        if session.lent.is_some() && what != "commit" {
            return Err(Error::busy("a buffer is lent: commit comes first"));
        }
        Ok(())
    }

    /// Bytes that were on their way are lost.
    pub(super) fn settle_lost(&mut self, cache: &Cache) {
        if cache.behind.has_lost(cache.session.load(Ordering::Relaxed)) {
            self.break_load(cache);
        }
    }

    /// Bytes of the stream are lost.
    pub(super) fn break_load(&mut self, cache: &Cache) {
        if let Some(session) = self.session.as_mut().filter(|session| session.direction == Direction::Load) {
            session.broken = true;
            cache.broken.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn reserve<T>(
        &mut self,
        cache: &Cache,
        name: &str,
        lend: impl FnOnce(&mut dyn Window, &Access<'_>) -> WindowResult<(T, Loan)>,
    ) -> Result<T> {
        self.check_open(cache, "reserve")?;
        self.release_lent();
        let _asked = cache.ask(DeviceRequest::Write);
        let (window, access) = self.access(cache)?;
        let (room, loan) = match lend(window, &access) {
            Ok(lent) => lent,
            Err(trouble) => return Err(self.access_failed(cache, name, "asking for the place of a segment", trouble)),
        };
        if let Some(session) = &mut self.session {
            session.lent = Some(loan);
        }
        Ok(room)
    }

    pub(super) fn commit(
        &mut self,
        cache: &Cache,
        name: &str,
        len: usize,
        guard: Option<u64>,
        commit: impl FnOnce(&mut dyn Window, &Access<'_>) -> WindowResult<()>,
    ) -> Result<()> {
        self.check_not_stale()?;
        self.check_open(cache, "commit")?;
        let session = self.session(Direction::Load, cache.state())?;
        let lent = session.out(guard, "no buffer is lent: reserve comes first")?.len;
        if len > lent {
            return Err(Error::argument(format!("len: {len} bytes of a buffer of {lent}")));
        }
        let _asked = cache.ask(DeviceRequest::Write);
        let (window, access) = self.access(cache)?;
        let outcome = commit(window, &access);
        // As long as nothing has moved the buffer is lent, and can be committed again.
        if outcome.as_ref().err().is_none_or(|trouble| trouble.moved != Moved::Nothing) {
            if let Some(session) = &mut self.session {
                session.lent = None;
            }
        }
        self.pushed(cache, name, 0, len, outcome.map(|()| len)).map(|_| ())
    }

    pub(super) fn write(&mut self, cache: &Cache, name: &str, piece: WritePart<'_>) -> Result<()> {
        let WritePart { bytes, before, after, segment_end, held } = piece;
        let asked = before.saturating_add(bytes.len()).saturating_add(after);
        if let Err(error) = self.check_open(cache, "write") {
            if !matches!(held, KeptBytes::ByCaller) {
                self.break_load(cache);
            }
            return Err(match before {
                0 => error,
                _ => error.context(format!("{before} of {asked} bytes were taken")),
            });
        }
        let _asked = cache.ask(DeviceRequest::Write);
        let (window, access) = self.access(cache)?;
        let outcome = window.write(&access, bytes, after, segment_end).map(|()| bytes.len());
        let outcome = outcome.map_err(|trouble| match held {
            KeptBytes::ByCaller if before == 0 => trouble,
            KeptBytes::WhileNotReady if trouble.is_device_not_ready() => trouble,
            _ => trouble.with_bytes_lost(),
        });
        self.pushed(cache, name, before, asked, outcome).map(|_| ())
    }

    fn receive(
        &mut self,
        cache: &Cache,
        name: &str,
        fd: BorrowedFd<'_>,
        len: usize,
        segment_end: bool,
    ) -> Result<Option<usize>> {
        self.check_open(cache, "receive")?;
        let _asked = cache.ask(DeviceRequest::Write);
        let (window, access) = self.access(cache)?;
        let outcome = window.receive(&access, fd, len, segment_end);
        match outcome.as_ref().err().and_then(Trouble::of_descriptor) {
            Some(errno) => not_moved("receiving", fd, errno),
            None => self.pushed(cache, name, 0, len, outcome).map(Some),
        }
    }

    /// Counts what the device took of `asked` bytes, of which it has `before`. Whatever fails after it may have taken
    /// a byte breaks the session: what it has is not known (F6). Before that nothing is lost, and the call can be
    /// made again.
    fn pushed(
        &mut self,
        cache: &Cache,
        name: &str,
        before: usize,
        asked: usize,
        outcome: WindowResult<usize>,
    ) -> Result<usize> {
        let (taken, broken) = match outcome.as_ref().map_err(|trouble| trouble.moved) {
            Ok(taken) => (*taken, false),
            Err(Moved::Nothing) => (0, false),
            Err(Moved::AtLeast(taken)) => (taken, true),
        };
        if let Some(session) = &mut self.session {
            session.moved = session.moved.saturating_add(taken as u64);
            cache.loaded_bytes.store(session.moved, Ordering::Relaxed);
            cache.loaded_in_all.fetch_add(taken as u64, Ordering::Relaxed);
            session.broken |= broken;
        }
        outcome.map_err(|trouble| {
            let way_on = if broken { "only a reset remains" } else { "the call can be made again" };
            let taken = taken.saturating_add(before);
            let what = format!("writing the stream ({taken} of {asked} bytes taken; {way_on})");
            self.access_failed(cache, name, &what, trouble)
        })
    }

    fn finish(&mut self, cache: &Cache, total: Option<u64>) -> Result<()> {
        self.settle_dropped();
        self.settle_lost(cache);
        let unfinished = self.window.unfinished();
        let session = self.session(Direction::Load, cache.state())?;
        if session.broken {
            return Err(Error::stale(BROKEN));
        }
        if session.lent.is_some() {
            return Err(Error::busy("a buffer is lent: commit comes first"));
        }
        // A count that comes later than "cannot know" takes its place.
        session.complete = false;
        cache.complete.store(false, Ordering::Relaxed);
        let moved = session.moved;
        match (unfinished, total.and_then(|total| wrong_length(total, moved))) {
            (Some(text), _) => Err(Error::incomplete(format!("the stream is cut: {text}"))),
            (None, Some(error)) => Err(error),
            (None, None) => {
                session.complete = true;
                cache.complete.store(true, Ordering::Release);
                Ok(())
            }
        }
    }
}
