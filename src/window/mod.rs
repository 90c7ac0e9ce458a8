//! Where state bytes appear and disappear: the data fd of v2, or areas of the migration region of v1 and the draft.
//!
//! May import: dialect, transport, cancel, error, log. Knows nothing of states: `device` decides when a window is
//! open. `unsafe` lives in mmap.rs only.

#[forbid(unsafe_code)]
pub(crate) mod data_fd;
pub(crate) mod mmap;
#[forbid(unsafe_code)]
mod patience;
#[forbid(unsafe_code)]
pub(crate) mod region;
#[forbid(unsafe_code)]
mod staging;
#[forbid(unsafe_code)]
mod trouble;

use crate::cancel::Follower;
use crate::dialect::registers::Registers;
use crate::dialect::{Dialect, PrecopyFigures};
use crate::error::Error;
use crate::transport::{DataFd, Transport};
pub use region::set_unseen_limit;
pub(crate) use staging::{DEFAULT_BUFFER, MAX_BUFFER, MIN_BUFFER};
use std::os::fd::BorrowedFd;
pub(crate) use trouble::{Cause, Moved, Trouble, WindowResult};

/// `VFIOMIG_CHUNK_EMPTY`: nothing now; only in PRE_COPY states.
pub const EMPTY: u32 = 0x1;
/// `VFIOMIG_CHUNK_END`: the stream is complete; only in STOP_COPY.
pub const END: u32 = 0x2;
/// `VFIOMIG_CHUNK_SEGMENT_END`: the last byte ends a segment (v1, draft).
pub const SEGMENT_END: u32 = 0x4;
/// `VFIOMIG_CHUNK_DEVICE_MEM`: the bytes are device memory.
pub const DEVICE_MEM: u32 = 0x8;

/// The length of a segment where the dialect has none (v2).
pub const NO_SEGMENT: u64 = u64::MAX;

/// A run of a stream's bytes lent to the caller. Plain numbers: the memory is the device handle's, and is not written by the
/// library before the chunk is consumed. If its session ends before that, the memory stays as it is until something is lent again
/// or the handle is freed; device memory stays mapped.
///
/// Only `unsafe` code can look at it. Safe code has [`Device::read`](crate::Device::read), which into 64 KiB or more
/// makes no copy that this would save, but where the memory is the device's own, and
/// [`Device::send`](crate::Device::send).
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// First byte; NULL where `len` is 0.
    pub data: *const u8,
    /// Bytes lent.
    pub len: usize,
    /// Bytes from `data` to the end of its segment; [`NO_SEGMENT`] on v2.
    pub segment_left: u64,
    /// [`EMPTY`] or [`END`] with `len` 0; [`SEGMENT_END`], [`DEVICE_MEM`].
    pub flags: u32,
}

impl Chunk {
    pub(crate) fn nothing(flags: u32) -> Self {
        Chunk { data: std::ptr::null(), len: 0, segment_left: NO_SEGMENT, flags }
    }
}

/// A buffer for bytes of a stream, lent to the caller; the memory is the device handle's, or the device's own.
///
/// Only `unsafe` code can fill it. Safe code has [`Device::write`](crate::Device::write) and
/// [`Device::receive`](crate::Device::receive).
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// First byte.
    pub data: *mut u8,
    /// Length in bytes.
    pub len: usize,
}

/// Ways to get along with devices that break the protocol; all off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Never map the region: trapped access only, so that no device can raise SIGBUS (P26).
    pub no_mmap: bool,
    /// data_size may read 0: the segment is then min(pending_bytes, the area) long. Seen on a vendor's vGPU.
    pub zero_data_size: bool,
    /// A segment larger than the destination's window is loaded in parts, as QEMU does; V1-10 forbids it.
    pub split_segments: bool,
    /// Trapped data is moved 8, 4, 2 or 1 bytes at a time, naturally aligned (V1-12).
    pub access_8: bool,
}

/// What a window needs for an access.
pub(crate) struct Access<'a> {
    /// The device's name, for the log.
    pub name: &'a str,
    pub transport: &'a dyn Transport,
    pub dialect: &'a dyn Dialect,
    /// An end of data is only for now: nothing is waited for.
    pub in_precopy: bool,
    /// Ends what is waited for.
    pub cancel: &'a Follower,
}

impl Access<'_> {
    fn registers(&self) -> Result<&Registers, Trouble> {
        self.dialect
            .registers()
            .ok_or_else(|| Trouble::before(Error::unsupported("the dialect has no migration region")))
    }
}

/// Sizes as a window knows them.
pub(crate) struct Figures {
    pub precopy: PrecopyFigures,
    /// Bytes left of the stream, where that is known without asking in a state of its own.
    pub left: Option<u64>,
    /// Not asked: a segment is under way, and asking would acknowledge it (P21).
    pub cached: bool,
}

/// One device's window. Methods come in the order of a session: begin, then save or load, then end.
pub(crate) trait Window: Send {
    /// A session begins; `data` is its data fd where the dialect has one.
    fn begin(&mut self, access: &Access<'_>, data: Option<Box<dyn DataFd>>);
    /// The session has ended. If a chunk or buffer is `lent`, its memory stays as it is until [`release`](Self::release).
    fn end(&mut self, lent: bool);
    /// Memory that was lent in a session that has ended is not looked at any more.
    fn release(&mut self);
    /// The window is not used again: mappings are given back, and lent memory is gone.
    fn close(&mut self) {
        self.end(false);
        self.release();
    }
    /// The number of the session's data fd, where it is a real one.
    fn data_fd(&self) -> Option<i32> {
        None
    }
    /// Whether state bytes are lent as device memory.
    fn is_mapped(&self) -> bool {
        false
    }
    /// Bytes that were read ahead, or announced, and not consumed.
    fn unread(&self) -> usize;
    /// Whether there were no bytes because the device had not made them yet.
    fn is_not_ready(&self) -> bool {
        false
    }
    /// Whether the window shows state bytes, so that nothing else can be asked of it.
    fn in_use(&self) -> bool {
        self.unread() > 0
    }
    /// A state was requested, or the window was asked for something else than state bytes.
    fn begin_anew(&mut self) {}

    /// Lends up to `max` bytes; `None`: there are none now.
    fn lend(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<Chunk>>;
    /// The first `len` bytes of what was lent are the caller's.
    fn take(&mut self, access: &Access<'_>, len: usize);
    /// Copies the next bytes out, at most one buffer, and takes them; the flags are a chunk's.
    fn read(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<(usize, u32)>>;
    /// Writes the next bytes to `fd`, at most one buffer, and takes what it took.
    fn send(&mut self, access: &Access<'_>, fd: BorrowedFd<'_>, max: usize) -> WindowResult<Option<(usize, u32)>>;
    /// Sizes; on v2 only asked in pre-copy.
    fn figures(&mut self, access: &Access<'_>) -> WindowResult<Figures>;

    /// Lends a buffer for the next bytes of a segment of which `segment_left` bytes are missing (v2: 0).
    fn room(&mut self, access: &Access<'_>, segment_left: u64) -> WindowResult<Room>;
    /// Hands over the first `len` bytes of the lent buffer; `segment_end`: the caller says that a segment ends with them.
    fn commit(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> WindowResult<()>;
    /// Hands over `bytes`, which `after` bytes of the same call follow; `segment_end` is about the last of those.
    fn write(&mut self, access: &Access<'_>, bytes: &[u8], after: usize, segment_end: bool) -> WindowResult<()>;
    /// Reads up to `len` bytes from `fd`, at most one buffer, and hands them over. `segment_end` holds if all `len` came.
    fn receive(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        len: usize,
        segment_end: bool,
    ) -> WindowResult<usize>;
    /// What is missing before the stream can be whole, in words.
    fn unfinished(&self) -> Option<String> {
        None
    }
}
