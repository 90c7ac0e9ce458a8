//! Write-behind: bytes of a load go into a queue, from which a thread gives them to the device, so that the caller can go on
//! with the stream of the next one. `load_queue` is what callers see, `server` the thread.
//!
//! A session has a queue if the device's migration allows it, a thread could be had, and all its bytes came this way. The thread
//! ends with the session, with what closes it, and once the stream has its end and the device has all of it.

mod load_queue;
mod server;

use super::Device;
use super::callers_fd::not_moved;
use crate::dialect::{DialectKind, State};
use crate::error::{Error, Result};
use crate::gate::{Denied, GateToken};
use crate::log::{self, Lines};
#[cfg(feature = "capi")]
use crate::window::raw::RawRoom;
use crate::window::{MIN_BUFFER, Room};
use crate::workers::Resident;
pub(crate) use load_queue::AfterLoad;
use load_queue::{LoadQueue, NotPut, soon};
use parking_lot::Mutex;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The write-behind of one device.
#[derive(Default)]
pub(super) struct Behind {
    /// A migration allows it. Looked at before the lock is taken: most devices have no queue, and their calls need no lock.
    allowed: AtomicBool,
    state: Mutex<BehindState>,
    /// The session of which bytes were lost on their way; 0: none.
    lost: AtomicU64,
}

#[derive(Default)]
struct BehindState {
    allowance: Option<Allowance>,
    serving: Option<(Arc<LoadQueue>, Resident)>,
    /// The session of that number takes its bytes without a queue.
    at_once: u64,
    /// Threads that have ended, or are about to.
    old: Vec<Resident>,
    /// Memory that was lent by pointer in a session that has ended.
    retired: Vec<u8>,
    /// What threads have logged, for the next thread that calls.
    lines: Vec<Lines>,
}

/// What a migration allows.
#[derive(Clone)]
struct Allowance {
    device: Weak<Device>,
    bytes: usize,
    calls: Arc<[GateToken]>,
}

impl BehindState {
    /// No call puts anything more. Whether a buffer is lent.
    fn retire(&mut self) -> bool {
        let Some((queue, resident)) = self.serving.take() else { return false };
        self.old.push(resident);
        let lent = queue.take_lent();
        let was_lent = lent.is_some();
        if let Some(bytes) = lent.filter(|bytes| !bytes.is_empty()) {
            self.retired = bytes;
        }
        was_lent
    }
}

impl Behind {
    /// The queue of the open session, if it has one.
    fn queue(&self) -> Option<Arc<LoadQueue>> {
        if !self.allowed.load(Ordering::Acquire) {
            return None;
        }
        self.state.lock().serving.as_ref().map(|(queue, _)| Arc::clone(queue))
    }

    /// The session has ended; whether a buffer of it is lent.
    pub fn end(&self) -> bool {
        let mut state = self.state.lock();
        if let Some((queue, _)) = &state.serving {
            queue.queue.close();
        }
        state.retire()
    }

    /// Lends a buffer of the queue by pointer; `None`: the queue is not in use any more. Its thread, or another one, may end the
    /// session at any moment. Behind that nothing would keep the memory, which is C's as long as it is lent.
    #[cfg(feature = "capi")]
    fn lend_raw(&self, queue: &LoadQueue, left: u64) -> Result<Option<RawRoom>> {
        let room = queue.reserve_raw(left)?;
        let state = self.state.lock();
        let in_use = state.serving.as_ref().is_some_and(|(serving, _)| std::ptr::eq(&**serving, queue));
        Ok(in_use.then_some(room))
    }

    /// From here on bytes of that session go to the device at once: all that was put is there, or nothing will be any more.
    fn write_at_once(&self, queue: &LoadQueue) {
        queue.queue.close();
        let mut state = self.state.lock();
        if state.serving.as_ref().is_some_and(|(serving, _)| serving.session == queue.session) {
            state.at_once = queue.session;
            state.retire();
        }
    }

    fn keep(&self, lines: Lines) {
        if !lines.is_empty() {
            self.state.lock().lines.push(lines);
        }
    }

    fn replay(&self) {
        let lines = std::mem::take(&mut self.state.lock().lines);
        lines.into_iter().for_each(log::replay);
    }

    /// Bytes of that session are lost.
    fn lose(&self, session: u64) {
        self.lost.store(session, Ordering::Release);
    }

    /// Whether bytes of that session are lost, for the first who asks.
    pub fn has_lost(&self, session: u64) -> bool {
        self.lost.load(Ordering::Relaxed) == session
            && self.lost.compare_exchange(session, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Device {
    /// Loads of this device may have so many bytes on their way, until [`end_write_behind`](Self::end_write_behind). `calls`:
    /// gates of calls that wait for the device.
    pub(crate) fn allow_write_behind(self: &Arc<Self>, bytes: usize, calls: Arc<[GateToken]>) {
        let mut state = self.cache.behind.state.lock();
        state.allowance = Some(Allowance { device: Arc::downgrade(self), bytes, calls });
        self.cache.behind.allowed.store(true, Ordering::Release);
    }

    /// Ends it: what is on its way is lost, and when this returns the thread has ended.
    pub(crate) fn end_write_behind(&self) {
        self.abandon_load();
        self.load_at_once();
        self.cache.behind.state.lock().allowance = None;
        self.join_load();
        self.cache.behind.allowed.store(false, Ordering::Release);
    }

    /// Nothing more is given to the device: what is on its way is lost.
    pub(crate) fn abandon_load(&self) {
        let Some(queue) = self.cache.behind.queue() else { return };
        queue.fail(&self.named(Error::canceled("the load was given up: what was on its way is lost")));
        if queue.queue.close().iter().any(load_queue::LoadItem::has_bytes) {
            self.cache.behind.lose(queue.session);
        }
    }

    /// Waits for threads that are about to end. Not from within a call on the device.
    pub(crate) fn join_load(&self) {
        if self.cache.behind.allowed.load(Ordering::Acquire) {
            let old = std::mem::take(&mut self.cache.behind.state.lock().old);
            drop(old);
            self.cache.behind.replay();
        }
    }

    /// Whether a load has a queue, so that bytes or an end may be on their way.
    pub(crate) fn writes_behind(&self) -> bool {
        self.cache.behind.queue().is_some()
    }

    /// Whether a buffer of its queue is lent.
    pub(crate) fn lends_room(&self) -> bool {
        self.cache.behind.queue().is_some_and(|queue| queue.is_lent())
    }

    /// The end of the stream was stated.
    pub(crate) fn has_load_end(&self) -> bool {
        self.info().complete || self.cache.behind.queue().is_some_and(|queue| queue.has_ended())
    }

    /// Waits until then for what is on its way; whether nothing is. What the device did not take is this call's failure.
    pub(crate) fn wait_load_until(&self, until: Instant) -> Result<bool> {
        let Some(queue) = self.cache.behind.queue().filter(|queue| !queue.is_served_by_me()) else { return Ok(true) };
        let done = queue.queue.wait_done_until(until);
        self.cache.behind.replay();
        let Some(error) = queue.failure() else { return Ok(done) };
        let _ = queue.tell_failure();
        self.cache.behind.write_at_once(&queue);
        Err(error)
    }

    /// The same, until a cancel.
    pub(super) fn wait_load(&self) -> Result<()> {
        // From one of its own callbacks nothing is waited for: what comes next is refused.
        while !self.gate.is_mine() && !self.wait_load_until(soon())? {
            if self.cache.cancel.asked() {
                return Err(self.named(Error::canceled("canceled while bytes were on their way to the device")));
            }
        }
        Ok(())
    }

    /// What is written from here on goes to the device at once, behind what was put before, for which the caller has waited.
    pub(crate) fn load_at_once(&self) {
        self.cache.behind.queue().into_iter().for_each(|queue| self.cache.behind.write_at_once(&queue));
    }

    /// `what` is called on the thread of the load, behind all that was put. It is given back where there is no such thread.
    pub(crate) fn after_load(&self, what: AfterLoad) -> std::result::Result<(), AfterLoad> {
        let Some(queue) = self.cache.behind.queue() else { return Err(what) };
        queue.then(what).or_else(|what| match queue.failure() {
            Some(error) => {
                what(self, Err(error));
                Ok(())
            }
            None => Err(what),
        })
    }

    /// The queue that a data call of the load puts its bytes in; `None`: they go to the device at once.
    pub(super) fn load_queue(&self) -> Result<Option<Arc<LoadQueue>>> {
        let behind = &self.cache.behind;
        if !behind.allowed.load(Ordering::Acquire) || self.cache.state() != State::Resuming {
            return Ok(None);
        }
        // From one of the device's own callbacks: to wait for a place would be to wait for itself.
        if self.gate.is_mine() {
            return Err(self.denied(Denied::Reentry));
        }
        let session = self.cache.session.load(Ordering::Acquire);
        let mut state = behind.state.lock();
        if !self.cache.session_open.load(Ordering::Acquire) || state.at_once == session {
            return Ok(None);
        }
        if let Some((queue, _)) = state.serving.as_ref().filter(|(queue, _)| queue.session == session) {
            let queue = Arc::clone(queue);
            drop(state);
            behind.replay();
            return match queue.failure() {
                // Its thread has ended, for the device had everything.
                None if queue.queue.is_closed() => {
                    behind.write_at_once(&queue);
                    Ok(None)
                }
                None => Ok(Some(queue)),
                Some(_) => {
                    let failure = queue.tell_failure();
                    behind.write_at_once(&queue);
                    failure.map_or(Ok(None), Err)
                }
            };
        }
        let loaded = self.cache.loaded_bytes.load(Ordering::Relaxed);
        let begun = loaded > 0 || self.cache.complete.load(Ordering::Relaxed);
        let Some(allowance) = state.allowance.clone().filter(|_| !begun) else { return Ok(None) };
        let old = std::mem::take(&mut state.old);
        let piece = (allowance.bytes / 4).max(MIN_BUFFER).min(self.buffer_size);
        let has_segments = self.info().dialect != Some(DialectKind::V2);
        let queue = Arc::new(LoadQueue::new(session, allowance.bytes, piece, has_segments, loaded));
        let (of, served, calls) = (allowance.device, Arc::clone(&queue), allowance.calls);
        // No lock is held while the sink of the log is called.
        let (resident, lines) = log::capture(|| Resident::new(&self.name, move || server::serve(&of, &served, &calls)));
        let made = resident.map(|resident| (Arc::clone(&queue), resident));
        if made.is_none() {
            state.at_once = session;
        }
        state.serving = made;
        let made = state.serving.is_some();
        drop(state);
        drop(old);
        log::replay(lines);
        Ok(made.then_some(queue))
    }

    /// Why something was not put, of which `before` bytes of `asked` were.
    fn not_put(&self, queue: &LoadQueue, why: NotPut, before: usize, asked: usize) -> Error {
        let error = match why {
            NotPut::Refused(error) => error,
            NotPut::Canceled => {
                let way_on = if before == 0 { "the call can be made again" } else { "only a reset remains" };
                let what = format!("writing the stream ({before} of {asked} bytes taken; {way_on})");
                if before > 0 {
                    self.abandon_load();
                }
                Error::canceled(format!("{what}: canceled while its queue was full"))
            }
            NotPut::Closed => match queue.tell_failure() {
                // It names the device.
                Some(error) => return error,
                None => Error::stale(format!("the session has ended when {before} of {asked} bytes were taken")),
            },
        };
        self.at_name(error)
    }

    pub(super) fn put_write(&self, queue: &LoadQueue, buf: &[u8], segment_end: bool) -> Result<()> {
        let refused = |error| self.at_name(error);
        queue.check("write").and_then(|()| queue.check_segment_end(segment_end)).map_err(refused)?;
        if buf.is_empty() && !segment_end {
            return Ok(());
        }
        let mut before = 0usize;
        loop {
            let rest = buf.get(before..).unwrap_or_default();
            let bytes = rest.get(..queue.piece).unwrap_or(rest);
            let after = rest.len().saturating_sub(bytes.len());
            let put = queue.put_copy(&self.cache.cancel, bytes, [before, after], segment_end);
            put.map_err(|why| self.not_put(queue, why, before, buf.len()))?;
            if after == 0 {
                return Ok(());
            }
            before = before.saturating_add(bytes.len());
        }
    }

    /// `None`: `fd` has nothing now.
    pub(super) fn put_received(
        &self,
        queue: &LoadQueue,
        fd: BorrowedFd<'_>,
        len: usize,
        segment_end: bool,
    ) -> Result<Option<usize>> {
        let refused = |error| self.at_name(error);
        queue.check("receive").and_then(|()| queue.check_segment_end(segment_end)).map_err(refused)?;
        let read = |buf: &mut [u8]| match crate::transport::read_from(fd, buf) {
            Ok(got) => Ok(Some(got)),
            Err(errno) => not_moved("receiving", fd, errno),
        };
        queue.put_read(&self.cache.cancel, len, segment_end, read).map_err(|why| self.not_put(queue, why, 0, len))
    }

    pub(super) fn lend_room(&self, queue: &LoadQueue, left: u64) -> Result<Room> {
        queue.reserve(left).map_err(|error| self.at_name(error))
    }

    /// `None`: the session has ended since the queue was found, or goes on without it.
    #[cfg(feature = "capi")]
    pub(super) fn lend_raw_room(&self, queue: &LoadQueue, left: u64) -> Result<Option<RawRoom>> {
        self.cache.behind.lend_raw(queue, left).map_err(|error| self.at_name(error))
    }

    /// `room`: `None`: it was lent by pointer.
    pub(super) fn put_room(
        &self,
        queue: &LoadQueue,
        room: Option<&mut Room>,
        len: usize,
        segment_end: bool,
    ) -> Result<()> {
        let put = queue.commit(&self.cache.cancel, room, len, segment_end);
        put.map_err(|why| self.not_put(queue, why, 0, len))
    }

    pub(super) fn put_end(&self, queue: &LoadQueue, total: Option<u64>) -> Result<()> {
        queue.end(total).map_err(|why| self.not_put(queue, why, 0, 0))
    }
}

#[cfg(all(test, feature = "capi"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::window::NO_SEGMENT;

    /// The device refuses bytes on the thread of its load, between the look for the queue and the lending.
    #[test]
    fn nothing_is_lent_by_a_queue_whose_session_has_ended() {
        for ended in [false, true] {
            let behind = Behind::default();
            let queue = Arc::new(LoadQueue::new(1, 1 << 20, 4096, false, 0));
            let resident = Resident::new("d", || {}).unwrap();
            behind.state.lock().serving = Some((Arc::clone(&queue), resident));
            if ended {
                assert!(!behind.end());
            }
            let room = behind.lend_raw(&queue, NO_SEGMENT).unwrap();
            assert_eq!(room.is_none(), ended);
            // What is lent outlives the queue.
            drop(queue);
            assert_eq!(behind.end(), !ended);
            assert_eq!(behind.state.lock().retired.is_empty(), ended);
        }
    }
}
