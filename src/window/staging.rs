//! The pooled buffer of a device: bytes on their way between device and caller where neither can reach the other's memory.

use super::{Cause, Room, Trouble, WindowResult};

/// Chosen by measurement: docs/performance.md, "size of the buffer".
pub(crate) const DEFAULT_BUFFER: usize = 1 << 20;
pub(crate) const MIN_BUFFER: usize = 4 << 10;
pub(crate) const MAX_BUFFER: usize = 1 << 30;

/// The buffer and what of it is unread. Allocated when first used; then it stays where it is, so lent pointers stay readable.
pub(super) struct Staging {
    buffer: Vec<u8>,
    size: usize,
    unread: std::ops::Range<usize>,
    /// The buffer of a session that ended while a part of it was lent: it is not written to any more.
    retired: Vec<u8>,
}

impl Staging {
    pub fn new(size: usize) -> Self {
        Staging { buffer: Vec::new(), size, unread: 0..0, retired: Vec::new() }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// The whole buffer, to be filled; nothing may be unread.
    pub fn buffer(&mut self) -> WindowResult<&mut [u8]> {
        if self.buffer.is_empty() {
            let reserved = self.buffer.try_reserve_exact(self.size);
            reserved.map_err(|_| Trouble::before(Cause::Memory(self.size)))?;
            self.buffer.resize(self.size, 0);
        }
        Ok(&mut self.buffer)
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
        if lent {
            self.retired = std::mem::take(&mut self.buffer);
        }
    }

    /// Nothing is lent any more that belongs to a session that has ended.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = std::mem::take(&mut self.retired);
        }
        self.retired = Vec::new();
    }

    /// Lends up to `max` bytes as a buffer for a stream.
    pub fn room(&mut self, max: usize) -> WindowResult<Room> {
        self.discard();
        let buffer = self.buffer()?;
        Ok(Room { data: buffer.as_mut_ptr(), len: buffer.len().min(max) })
    }

    /// The first `len` bytes of the lent buffer.
    pub fn room_bytes(&self, len: usize) -> &[u8] {
        self.buffer.get(..len).unwrap_or(&[])
    }
}
