//! The data fd behind one pooled buffer: read large, lend parts, take any number of bytes back (F1, P20).

use super::{Chunk, NO_SEGMENT, Room};
use crate::error::{Errno, Error, Result};
use crate::transport::{DataFd, wait_ready};

/// Chosen by measurement: docs/performance.md, "size of the buffer".
pub(crate) const DEFAULT_BUFFER: usize = 1 << 20;
pub(crate) const MIN_BUFFER: usize = 4 << 10;
pub(crate) const MAX_BUFFER: usize = 1 << 30;

/// A descriptor that is not ready is waited for at most this often, about 100 ms each: data calls stay short, so that a
/// state change never waits long for one.
const MAX_WAITS: u32 = 10;
/// EINTR that a VMM's function returns is tried again this often (P1).
const MAX_INTERRUPTS: u32 = 16;

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes(usize),
    /// `read()` returned 0.
    Zero,
    /// ENOMSG: a temporary end, in words (F3).
    NoMessage,
    /// EAGAIN; only a descriptor in non-blocking mode says so (F8).
    NotReady,
}

/// One read; `wait` says whether EAGAIN is waited for.
pub(crate) fn read(data: &mut dyn DataFd, buf: &mut [u8], wait: bool) -> std::result::Result<Got, Errno> {
    let mut waits = 0;
    let mut interrupts = 0;
    loop {
        match data.read(buf) {
            Ok(0) => return Ok(Got::Zero),
            Ok(n) => return Ok(Got::Bytes(n.min(buf.len()))),
            Err(errno) => match errno.get() {
                libc::ENOMSG => return Ok(Got::NoMessage),
                libc::EAGAIN if !wait || waits == MAX_WAITS => return Ok(Got::NotReady),
                libc::EAGAIN => {
                    waits = waits.saturating_add(1);
                    wait_ready(data.wait_fd(), false);
                }
                libc::EINTR if interrupts < MAX_INTERRUPTS => interrupts = interrupts.saturating_add(1),
                _ => return Err(errno),
            },
        }
    }
}

/// Writes all of `buf`. On failure the count of bytes that the device took comes with the errno (F6, P4).
pub(crate) fn write_all(data: &mut dyn DataFd, buf: &[u8]) -> std::result::Result<(), (usize, Errno)> {
    let mut rest = buf;
    let mut waits = 0;
    let mut interrupts = 0;
    while !rest.is_empty() {
        let taken = buf.len().saturating_sub(rest.len());
        match data.write(rest) {
            // A device that takes nothing and says no error would be asked for ever.
            Ok(0) => return Err((taken, Errno::new(libc::EPROTO))),
            Ok(n) => {
                rest = rest.get(n..).unwrap_or(&[]);
                waits = 0;
            }
            Err(errno) => match errno.get() {
                libc::EAGAIN if waits < MAX_WAITS => {
                    waits = waits.saturating_add(1);
                    wait_ready(data.wait_fd(), true);
                }
                libc::EINTR if interrupts < MAX_INTERRUPTS => interrupts = interrupts.saturating_add(1),
                _ => return Err((taken, errno)),
            },
        }
    }
    Ok(())
}

/// The buffer and what of it is unread or lent.
pub(crate) struct DataWindow {
    /// Empty until first used; then `size` bytes that stay where they are: lent pointers stay readable.
    buffer: Vec<u8>,
    size: usize,
    unread: std::ops::Range<usize>,
}

impl DataWindow {
    pub fn new(size: usize) -> Self {
        DataWindow { buffer: Vec::new(), size, unread: 0..0 }
    }

    /// Bytes read from the device that the caller has not consumed.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// The whole buffer, to be filled; nothing may be unread.
    pub fn buffer(&mut self) -> Result<&mut [u8]> {
        if self.buffer.is_empty() {
            self.buffer
                .try_reserve_exact(self.size)
                .map_err(|_| Error::memory(format!("no memory for a buffer of {} bytes", self.size)))?;
            self.buffer.resize(self.size, 0);
        }
        Ok(&mut self.buffer)
    }

    /// The first `len` bytes of the buffer hold new data.
    pub fn filled(&mut self, len: usize) {
        self.unread = 0..len.min(self.buffer.len());
    }

    /// Lends up to `max` unread bytes; they stay unread until [`take`](Self::take).
    pub fn lend(&self, max: usize) -> Chunk {
        let unread = self.buffer.get(self.unread.clone()).unwrap_or(&[]);
        Chunk { data: unread.as_ptr(), len: unread.len().min(max), segment_left: NO_SEGMENT, flags: 0 }
    }

    /// Copies up to `buf.len()` unread bytes out and takes them.
    pub fn copy_out(&mut self, buf: &mut [u8]) -> usize {
        let unread = self.buffer.get(self.unread.clone()).unwrap_or(&[]);
        let len = unread.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), unread.get(..len)) {
            to.copy_from_slice(from);
        }
        self.take(len);
        len
    }

    /// The first `len` unread bytes are the caller's now.
    pub fn take(&mut self, len: usize) {
        self.unread.start = self.unread.start.saturating_add(len).min(self.unread.end);
    }

    /// Unread bytes of a session that ended are dropped; the memory stays.
    pub fn discard(&mut self) {
        self.unread = 0..0;
    }

    /// Lends the whole buffer as room for a stream.
    pub fn room(&mut self) -> Result<Room> {
        self.discard();
        let buffer = self.buffer()?;
        Ok(Room { data: buffer.as_mut_ptr(), len: buffer.len() })
    }

    /// The first `len` bytes of the room.
    pub fn room_bytes(&self, len: usize) -> &[u8] {
        self.buffer.get(..len).unwrap_or(&[])
    }

    /// The first `len` unread bytes.
    pub fn unread_bytes(&self, len: usize) -> &[u8] {
        let unread = self.buffer.get(self.unread.clone()).unwrap_or(&[]);
        unread.get(..len).unwrap_or(unread)
    }
}
