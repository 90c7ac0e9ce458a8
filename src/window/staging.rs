//! The pooled buffer of a device: bytes on their way between device and caller where neither can reach the other's memory.

use super::lent::{Chunk, Home, Room, StreamFlags};
#[cfg(feature = "capi")]
use super::raw::RawRoom;
use super::{Cause, Trouble, WindowResult};
use std::sync::Arc;

/// Chosen by measurement: docs/performance.md, "size of the buffer".
pub(crate) const DEFAULT_BUFFER: usize = 1 << 20;
pub(crate) const MIN_BUFFER: usize = 4 << 10;
pub(crate) const MAX_BUFFER: usize = 1 << 30;

/// The buffer and what of it is unread. It is allocated when it is first used, and stays where it is, so that lent pointers stay
/// readable.
pub(super) struct Staging {
    /// Written to only while no chunk refers to it (`Arc::get_mut`): one that outlives its session keeps it, and another takes
    /// its place here.
    buffer: Arc<Vec<u8>>,
    size: usize,
    unread: std::ops::Range<usize>,
    /// Where the buffer comes back to that is lent as a [`Room`].
    home: Arc<Home>,
    /// The buffer of a session that ended while a part of it was lent: it is not written to any more.
    retired: Arc<Vec<u8>>,
}

impl Staging {
    pub fn new(size: usize) -> Self {
        Staging { buffer: Arc::default(), size, unread: 0..0, home: Arc::default(), retired: Arc::default() }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// The whole buffer, to be filled; nothing may be unread.
    pub fn buffer(&mut self) -> WindowResult<&mut [u8]> {
        self.vec().map(Vec::as_mut_slice)
    }

    fn vec(&mut self) -> WindowResult<&mut Vec<u8>> {
        if Arc::get_mut(&mut self.buffer).is_none() {
            self.buffer = Arc::default();
        }
        // A new one has no other owner, so no copy is made.
        let buffer = Arc::make_mut(&mut self.buffer);
        if buffer.is_empty() {
            *buffer = std::mem::take(&mut *self.home.lock());
        }
        if buffer.is_empty() {
            let reserved = buffer.try_reserve_exact(self.size);
            reserved.map_err(|_| Trouble::before(Cause::Memory(self.size)))?;
            buffer.resize(self.size, 0);
        }
        Ok(buffer)
    }

    /// The first `len` bytes of the buffer hold new data.
    pub fn filled(&mut self, len: usize) {
        self.unread = 0..len.min(self.buffer.len());
    }

    /// Bytes read ahead and not taken.
    pub fn unread(&self) -> &[u8] {
        self.buffer.get(self.unread.clone()).unwrap_or(&[])
    }

    /// Copies unread bytes out and takes them.
    pub fn copy_out(&mut self, buf: &mut [u8]) -> usize {
        let len = self.unread().len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), self.unread().get(..len)) {
            to.copy_from_slice(from);
        }
        self.take(len);
        len
    }

    /// The first `len` unread bytes are the caller's now.
    pub fn take(&mut self, len: usize) {
        self.unread.start = self.unread.start.saturating_add(len).min(self.unread.end);
    }

    /// Unread bytes are dropped; the memory stays.
    pub fn discard(&mut self) {
        self.unread = 0..0;
    }

    /// The session has ended. What is lent stays as it is until [`release`](Self::release); the next session has another buffer.
    pub fn end(&mut self, lent: bool) {
        self.discard();
        if Arc::strong_count(&self.home) > 1 {
            self.home = Arc::default();
        }
        if lent {
            self.retired = std::mem::take(&mut self.buffer);
        }
    }

    /// Nothing is lent any more that belongs to a session that has ended.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = std::mem::take(&mut self.retired);
        }
        if !self.retired.is_empty() {
            self.retired = Arc::default();
        }
    }

    /// Whether a guard has a part of the buffer, or all of it. Those of earlier sessions have others.
    pub fn is_guarded(&self) -> bool {
        Arc::strong_count(&self.buffer) > 1 || Arc::strong_count(&self.home) > 1
    }

    /// Lends the first `len` unread bytes.
    pub fn chunk(&self, len: usize, segment_left: u64, flags: StreamFlags) -> Chunk {
        let end = self.unread.start.saturating_add(len).min(self.unread.end);
        Chunk::new(&self.buffer, self.unread.start..end, segment_left, flags)
    }

    /// Lends the first `len` bytes of the buffer, which hold a copy of what is still elsewhere.
    pub fn copy(&self, len: usize, segment_left: u64, flags: StreamFlags) -> Chunk {
        Chunk::new(&self.buffer, 0..len.min(self.buffer.len()), segment_left, flags)
    }

    /// Lends the buffer for up to `max` bytes of a stream.
    pub fn room(&mut self, max: usize) -> WindowResult<Room> {
        self.discard();
        let bytes = std::mem::take(self.vec()?);
        Ok(Room::new(bytes, max, &self.home))
    }

    /// As [`room`](Self::room), for C.
    #[cfg(feature = "capi")]
    pub fn raw_room(&mut self, max: usize) -> WindowResult<RawRoom> {
        self.discard();
        let buffer = self.buffer()?;
        Ok(RawRoom { data: buffer.as_mut_ptr(), len: buffer.len().min(max) })
    }

    /// The first `len` bytes of the buffer.
    pub fn first(&self, len: usize) -> &[u8] {
        self.buffer.get(..len).unwrap_or(&[])
    }
}
