//! What is on its way to a device that is loaded: the queue of one session, and what of it callers see before the device has it.
//!
//! Rules: F7 (bytes are counted where they are put, so that a wrong length is found at once), V1-10 (segments keep length and
//! order).

use crate::cancel::Follower;
use crate::device::Device;
use crate::device::load::wrong_length;
use crate::error::{Error, Result};
use crate::gate::this_thread;
use crate::window::{Home, NO_SEGMENT, Room, length_is_needed, no_segment_end, no_segments};
use crate::workers::{BoundedQueue, Claimed, QueuePlace};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a call that waits for a place, or for the device, looks for a cancel.
const LOOK: Duration = Duration::from_millis(20);
/// What an item costs besides its bytes.
const ITEM: usize = 128;
/// Bytes from which on a buffer is kept for later; a smaller one is as quickly made anew.
const WORTH_KEEPING: usize = 64 << 10;

/// Called by the thread that serves the device, when it has all that was put before, or has failed.
pub(crate) type AfterLoad = Box<dyn FnOnce(&Device, Result<()>) + Send>;

pub(in crate::device) enum LoadItem {
    /// The first `len` bytes, of one call; so many of that call came before and come after.
    Bytes {
        bytes: Vec<u8>,
        len: usize,
        before: usize,
        after: usize,
        segment_end: bool,
    },
    /// The first `len` bytes of a lent buffer; so many are missing of their segment (v1, draft).
    Segment {
        bytes: Vec<u8>,
        len: usize,
        left: u64,
        segment_end: bool,
    },
    /// The length of the stream was stated.
    End {
        total: Option<u64>,
    },
    Then(AfterLoad),
}

impl LoadItem {
    pub fn has_bytes(&self) -> bool {
        matches!(self, LoadItem::Bytes { .. } | LoadItem::Segment { .. })
    }
}

/// Why something was not put.
pub(in crate::device) enum NotPut {
    Canceled,
    /// The session has ended, or the device has failed.
    Closed,
    Refused(Error),
}

/// The queue of one session.
pub(in crate::device) struct LoadQueue {
    pub session: u64,
    pub queue: BoundedQueue<LoadItem>,
    /// Most bytes of one item.
    pub piece: usize,
    has_segments: bool,
    /// Where lent buffers come back to.
    home: Arc<Home>,
    state: Mutex<LoadQueueState>,
}

#[derive(Default)]
struct LoadQueueState {
    /// Bytes that were put.
    put: u64,
    ended: bool,
    lent: Option<LentBuffer>,
    failed: Option<Error>,
    /// A call has returned it.
    reported: bool,
    /// Buffers that the device is done with, as they were filled: to write zeros to them again would cost as much as a copy.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
    /// Most of these.
    keeps: usize,
    /// The thread that serves the device.
    server: Option<usize>,
}

struct LentBuffer {
    len: usize,
    left: u64,
    guard: Option<u64>,
    /// Lent by pointer. It stays where it is.
    bytes: Vec<u8>,
}

pub(in crate::device) fn soon() -> Instant {
    let now = Instant::now();
    now.checked_add(LOOK).unwrap_or(now)
}

fn cost(len: usize) -> usize {
    len.saturating_add(ITEM)
}

impl LoadQueue {
    /// For a session that has so many bytes already.
    pub fn new(session: u64, most: usize, piece: usize, has_segments: bool, loaded: u64) -> Self {
        // Buffers that are kept for later are within the bound, too.
        let keeps = if piece < WORTH_KEEPING { 0 } else { piece.max(most / 4) };
        let state = LoadQueueState { put: loaded, keeps, ..LoadQueueState::default() };
        let (queue, home) = (BoundedQueue::new(most.saturating_sub(keeps)), Arc::default());
        LoadQueue { session, queue, piece, has_segments, home, state: Mutex::new(state) }
    }

    /// The stream can take bytes.
    pub fn check(&self, what: &str) -> Result<()> {
        let mut state = self.state.lock();
        self.settle_dropped(&mut state);
        if state.ended {
            return Err(Error::order(format!("{what} after finish")));
        }
        if state.lent.is_some() && what != "commit" {
            return Err(Error::busy("a buffer is lent: commit comes first"));
        }
        Ok(())
    }

    /// v2 has no segments that could end.
    pub fn check_segment_end(&self, segment_end: bool) -> Result<()> {
        if self.has_segments { Ok(()) } else { no_segment_end(segment_end) }
    }

    /// A guard that was dropped is not lent any more.
    fn settle_dropped(&self, state: &mut LoadQueueState) {
        if state.lent.as_ref().is_some_and(|lent| lent.guard.is_some()) && Arc::strong_count(&self.home) == 1 {
            state.lent = None;
        }
        let back = std::mem::take(&mut *self.home.lock());
        keep_spare(state, back);
    }

    fn claim(&self, cancel: &Follower, len: usize) -> std::result::Result<QueuePlace<'_, LoadItem>, NotPut> {
        loop {
            match self.queue.claim_until(cost(len), soon()) {
                Claimed::Place(place) => return Ok(place),
                Claimed::Closed => return Err(NotPut::Closed),
                Claimed::Full if cancel.asked() => return Err(NotPut::Canceled),
                Claimed::Full => {}
            }
        }
    }

    /// Memory for so many bytes; what is in it is of no use.
    fn memory(&self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = {
            let mut state = self.state.lock();
            let bytes = state.spare.pop().unwrap_or_default();
            state.spare_bytes = state.spare_bytes.saturating_sub(bytes.capacity());
            bytes
        };
        let reserved = bytes.try_reserve_exact(len.saturating_sub(bytes.len()));
        reserved.map_err(|_| Error::memory(format!("no memory for a buffer of {len} bytes")))?;
        Ok(bytes)
    }

    /// The same, to be written to: `len` bytes at least.
    fn room_of(&self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = self.memory(len)?;
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Ok(bytes)
    }

    /// Bytes that the device has.
    pub fn give_back(&self, bytes: Vec<u8>) {
        keep_spare(&mut self.state.lock(), bytes);
    }

    /// Puts a copy of these bytes, which may have to wait for a place.
    pub fn put_copy(
        &self,
        cancel: &Follower,
        bytes: &[u8],
        [before, after]: [usize; 2],
        segment_end: bool,
    ) -> std::result::Result<(), NotPut> {
        let place = self.claim(cancel, bytes.len())?;
        let len = bytes.len();
        let mut copy = self.memory(len).map_err(NotPut::Refused)?;
        match copy.get_mut(..len) {
            Some(to) => to.copy_from_slice(bytes),
            None => {
                copy.clear();
                copy.extend_from_slice(bytes);
            }
        }
        self.put(place, len, LoadItem::Bytes { bytes: copy, len, before, after, segment_end })
    }

    fn put(&self, place: QueuePlace<'_, LoadItem>, len: usize, item: LoadItem) -> std::result::Result<(), NotPut> {
        // Counted together with what is put, so that a length is compared with all that came before it.
        let mut state = self.state.lock();
        place.put(item).map_err(|_| NotPut::Closed)?;
        state.put = state.put.saturating_add(len as u64);
        Ok(())
    }

    /// Puts what `read` brings, up to `len` bytes; `None`: it has nothing now.
    pub fn put_read(
        &self,
        cancel: &Follower,
        len: usize,
        segment_end: bool,
        read: impl FnOnce(&mut [u8]) -> Result<Option<usize>>,
    ) -> std::result::Result<Option<usize>, NotPut> {
        let most = len.min(self.piece);
        let mut place = self.claim(cancel, most)?;
        let mut bytes = self.room_of(most).map_err(NotPut::Refused)?;
        let got = read(bytes.get_mut(..most).unwrap_or_default()).map_err(NotPut::Refused)?;
        let Some(got) = got.filter(|got| *got > 0) else { return Ok(got) };
        let segment_end = segment_end && got == len;
        place.shrink(cost(got));
        let item = LoadItem::Bytes { bytes, len: got, before: 0, after: 0, segment_end };
        self.put(place, got, item).map(|()| Some(got))
    }

    fn check_length(&self, left: u64) -> Result<usize> {
        self.check("reserve")?;
        match self.has_segments {
            true if left == 0 || left == NO_SEGMENT => return Err(length_is_needed()),
            true => {}
            false => no_segments(left)?,
        }
        Ok(usize::try_from(left).unwrap_or(usize::MAX).min(self.piece))
    }

    /// Lends a buffer.
    pub fn reserve(&self, left: u64) -> Result<Room> {
        let len = self.check_length(left)?;
        let room = Room::new(self.room_of(len)?, len, &self.home);
        let guard = Some(room.guard());
        self.state.lock().lent = Some(LentBuffer { len, left, guard, bytes: Vec::new() });
        Ok(room)
    }

    /// The same by pointer.
    #[cfg(feature = "capi")]
    pub fn reserve_raw(&self, left: u64) -> Result<crate::window::raw::RawRoom> {
        let len = self.check_length(left)?;
        let mut bytes = self.room_of(len)?;
        let room = crate::window::raw::RawRoom { data: bytes.as_mut_ptr(), len };
        self.state.lock().lent = Some(LentBuffer { len, left, guard: None, bytes });
        Ok(room)
    }

    /// What may be said of a lent buffer of which `len` bytes are given.
    fn check_lent(&self, state: &LoadQueueState, guard: Option<u64>, len: usize, segment_end: bool) -> Result<u64> {
        let lent = match &state.lent {
            Some(lent) if lent.guard == guard => lent,
            Some(_) => {
                return Err(Error::stale("what is given back was lent in another session, or by another device"));
            }
            None => return Err(Error::order("no buffer is lent: reserve comes first")),
        };
        if len > lent.len {
            return Err(Error::argument(format!("len: {len} bytes of a buffer of {}", lent.len)));
        }
        self.check_segment_end(segment_end)?;
        match lent.left.saturating_sub(len as u64) {
            missing @ 1.. if segment_end && self.has_segments => {
                Err(Error::argument(format!("flags: the end of a segment, but {missing} bytes of it are missing")))
            }
            _ => Ok(lent.left),
        }
    }

    /// Puts the first `len` bytes of the buffer that is lent. `room`: its guard; `None`: it was lent by pointer.
    pub fn commit(
        &self,
        cancel: &Follower,
        room: Option<&mut Room>,
        len: usize,
        segment_end: bool,
    ) -> std::result::Result<(), NotPut> {
        let guard = room.as_ref().map(|room| room.guard());
        self.check("commit").map_err(NotPut::Refused)?;
        self.check_lent(&self.state.lock(), guard, len, segment_end).map_err(NotPut::Refused)?;
        if len == 0 {
            let lent = self.state.lock().lent.take();
            room.into_iter().for_each(|room| room.give_back());
            lent.into_iter().for_each(|lent| self.give_back(lent.bytes));
            return Ok(());
        }
        let place = self.claim(cancel, len)?;
        self.put_lent(place, room, len, segment_end)
    }

    /// The lent buffer, of which `len` bytes are given.
    fn put_lent(
        &self,
        place: QueuePlace<'_, LoadItem>,
        room: Option<&mut Room>,
        len: usize,
        segment_end: bool,
    ) -> std::result::Result<(), NotPut> {
        let mut state = self.state.lock();
        // Another thread may have come first.
        let guard = room.as_ref().map(|room| room.guard());
        let left = self.check_lent(&state, guard, len, segment_end).map_err(NotPut::Refused)?;
        let mut lent = state.lent.take();
        let bytes = match (room, &mut lent) {
            (Some(room), _) => room.take_bytes(),
            (None, Some(lent)) => std::mem::take(&mut lent.bytes),
            (None, None) => Vec::new(),
        };
        let item = if self.has_segments {
            LoadItem::Segment { bytes, len, left, segment_end }
        } else {
            LoadItem::Bytes { bytes, len, before: 0, after: 0, segment_end: false }
        };
        let Err(item) = place.put(item) else {
            state.put = state.put.saturating_add(len as u64);
            return Ok(());
        };
        // The session has ended meanwhile. What C has a pointer to stays where it is, until something is lent again.
        if let (None, Some(mut lent), LoadItem::Bytes { bytes, .. } | LoadItem::Segment { bytes, .. }) =
            (guard, lent, item)
        {
            lent.bytes = bytes;
            state.lent = Some(lent);
        }
        Err(NotPut::Closed)
    }

    /// The length of the stream, which is that of what was put, or nothing is done.
    pub fn end(&self, total: Option<u64>) -> std::result::Result<(), NotPut> {
        let mut state = self.state.lock();
        self.settle_dropped(&mut state);
        if state.lent.is_some() {
            return Err(NotPut::Refused(Error::busy("a buffer is lent: commit comes first")));
        }
        let wrong = total.and_then(|total| wrong_length(total, state.put));
        let again = std::mem::replace(&mut state.ended, wrong.is_none());
        drop(state);
        // A count that comes later than "cannot know" takes its place, also where it is wrong.
        if wrong.is_none() || again {
            let Claimed::Place(place) = self.queue.claim_until(0, Instant::now()) else { return Err(NotPut::Closed) };
            place.put(LoadItem::End { total }).map_err(|_| NotPut::Closed)?;
        }
        wrong.map_or(Ok(()), |error| Err(NotPut::Refused(error)))
    }

    /// Puts a call of `what` behind all that was put. It is given back if nothing can be put any more.
    pub fn then(&self, what: AfterLoad) -> std::result::Result<(), AfterLoad> {
        let Claimed::Place(place) = self.queue.claim_until(0, Instant::now()) else { return Err(what) };
        place.put(LoadItem::Then(what)).map_err(|item| match item {
            LoadItem::Then(what) => what,
            // It is what was put.
            _ => Box::new(|_: &Device, _: Result<()>| {}),
        })
    }

    pub fn is_lent(&self) -> bool {
        let mut state = self.state.lock();
        self.settle_dropped(&mut state);
        state.lent.is_some()
    }

    pub fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Whether a buffer is lent; the memory of one that C has.
    pub fn take_lent(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        self.settle_dropped(&mut state);
        state.lent.take().map(|lent| lent.bytes)
    }

    pub fn fail(&self, error: &Error) {
        self.state.lock().failed.get_or_insert_with(|| error.clone());
    }

    pub fn failure(&self) -> Option<Error> {
        self.state.lock().failed.clone()
    }

    /// Why it takes nothing any more, for the first call that hears of it.
    pub fn tell_failure(&self) -> Option<Error> {
        let mut state = self.state.lock();
        let first = !std::mem::replace(&mut state.reported, true);
        state.failed.clone().filter(|_| first)
    }

    /// The calling thread serves the device.
    pub fn serve(&self) {
        self.state.lock().server = Some(this_thread());
    }

    pub fn is_served_by_me(&self) -> bool {
        self.state.lock().server == Some(this_thread())
    }
}

fn keep_spare(state: &mut LoadQueueState, bytes: Vec<u8>) {
    let all = state.spare_bytes.saturating_add(bytes.capacity());
    if bytes.capacity() >= WORTH_KEEPING && all <= state.keeps {
        state.spare_bytes = all;
        state.spare.push(bytes);
    }
}

#[cfg(all(test, feature = "capi"))]
mod tests {
    use super::*;

    /// The session ends between the place for what is given and its giving: C still has the pointer.
    #[test]
    fn a_lent_buffer_outlives_a_session_that_ends_within_its_commit() {
        let queue = LoadQueue::new(1, 1 << 20, 4096, false, 0);
        let room = queue.reserve_raw(NO_SEGMENT).unwrap();
        let Claimed::Place(place) = queue.queue.claim_until(cost(100), soon()) else { panic!() };
        queue.queue.close();
        assert!(matches!(queue.put_lent(place, None, 100, false), Err(NotPut::Closed)));
        let kept = queue.take_lent().unwrap();
        assert_eq!(kept.as_ptr(), room.data.cast_const());
    }

    /// What is kept for later counts: all of it together is no more than was allowed.
    #[test]
    fn kept_memory_is_within_the_bound() {
        let (most, piece) = (1 << 20, 256 << 10);
        let queue = LoadQueue::new(1, most, piece, false, 0);
        let bytes = vec![1; piece];
        for _ in 0..8 {
            assert!(queue.put_copy(&Follower::default(), &bytes, [0, 0], false).is_ok());
            let crate::workers::TakenItem::Item(LoadItem::Bytes { bytes, .. }) = queue.queue.take_until(soon()) else {
                panic!()
            };
            queue.give_back(bytes);
            queue.queue.done();
        }
        let mut held = queue.state.lock().spare_bytes;
        while let Claimed::Place(place) = queue.queue.claim_until(cost(piece), Instant::now()) {
            assert!(place.put(LoadItem::End { total: None }).is_ok());
            held += piece;
        }
        assert!(held <= most && held >= most / 2, "{held}");
    }
}
