//! Where state bytes appear and disappear: the data fd of v2, or areas of the migration region of v1 and the draft.
//!
//! May import: dialect, workers, transport, cancel, error, gate, log. Start reading at the trait `Window` here, then at
//! `data_fd` (v2) or `region` (v1 and the draft); `ahead` is one of them that a thread reads ahead of its callers. `lent` is
//! what is lent to callers, `raw` the same for C; `staging` is a buffer between device and caller, `patience` how long a call
//! waits for a device, `trouble` how a call fails.
//!
//! The room knows nothing of states: `device` decides when a window is open. `unsafe` lives in mmap.rs only.
//!
//! Example: [`Chunk`] saves, [`Room`] loads.

#[forbid(unsafe_code)]
mod ahead;
#[forbid(unsafe_code)]
pub(crate) mod data_fd;
#[forbid(unsafe_code)]
mod lent;
pub(crate) mod mmap;
#[forbid(unsafe_code)]
mod patience;
#[cfg(feature = "capi")]
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod raw;
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
pub(crate) use ahead::{AheadWindow, Fetched, MIN_SHARE, QueueBudget, Reading, Share};
pub(crate) use data_fd::{no_segment_end, no_segments};
pub use lent::{Chunk, Room, StreamFlags};
pub(crate) use lent::{Home, Lend, Loan, NO_SEGMENT};
#[doc(hidden)]
pub(crate) use patience::waits_of_this_thread;
#[cfg(feature = "capi")]
use raw::{RawChunk, RawRoom};
pub(crate) use region::length_is_needed;
pub use region::set_unseen_limit;
pub(crate) use staging::{DEFAULT_BUFFER, MAX_BUFFER, MIN_BUFFER};
use std::os::fd::BorrowedFd;
pub(crate) use trouble::{Cause, Moved, Trouble, WindowResult};

/// Ways to get along with devices that break the protocol; all off by default.
///
/// ```
/// use vfiomig::device::{CapFlags, Device, DeviceOptions, OnFailure};
/// use vfiomig::dialect::State;
/// use vfiomig::window::Quirks;
///
/// // A region that could be mapped, and is not.
/// let hardware = simdev::Device::new(simdev::Config::v1(simdev::Window::Area));
/// let quirks = Quirks { no_mmap: true, aligned_access: true, ..Quirks::default() };
/// let device = Device::new(hardware.transport(), DeviceOptions { quirks, ..DeviceOptions::default() })?;
/// device.set_state(State::StopCopy, OnFailure::Keep, false)?;
/// assert!(!device.info().caps.contains(CapFlags::MAPPED) && !device.peek(0)?.is_empty());
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Never map the region: trapped access only, so that no device can raise SIGBUS (P26).
    pub no_mmap: bool,
    /// data_size may read 0: the segment is then min(pending_bytes, the area) long. Seen on a vendor's vGPU.
    pub zero_data_size: bool,
    /// A segment larger than the destination's window is loaded in parts, as QEMU does; V1-10 forbids it.
    pub split_segments: bool,
    /// Trapped data is moved 8, 4, 2 or 1 bytes at a time, naturally aligned (V1-12).
    pub aligned_access: bool,
}

/// What a window needs for an access.
pub(crate) struct Access<'a> {
    /// The device's name, for the log.
    pub name: &'a str,
    pub transport: &'a dyn Transport,
    pub dialect: &'a dyn Dialect,
    /// An end of data is only for now: nothing is waited for.
    pub in_precopy: bool,
    /// The cancel that ends a wait for the device.
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

    /// The window itself, if it is read ahead.
    fn ahead(&mut self) -> Option<&mut AheadWindow> {
        None
    }
    /// Whether calls that take bytes ask the device for nothing.
    fn reads_ahead(&self) -> bool {
        false
    }

    /// Whether a guard is still there that was lent in this session: a chunk or buffer that was dropped comes back.
    fn is_guarded(&self) -> bool;
    /// Lends up to `max` bytes, those of the device's own memory as a copy; `None`: there are none now.
    fn lend(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<Chunk>>;
    /// As [`lend`](Self::lend), by pointer and without a copy.
    #[cfg(feature = "capi")]
    fn lend_raw(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<RawChunk>>;
    /// The first `len` bytes of what was lent are the caller's.
    fn take(&mut self, access: &Access<'_>, len: usize);
    /// Copies the next bytes out, at most one buffer, and takes them; the flags are a chunk's.
    fn read(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<(usize, StreamFlags)>>;
    /// As [`read`](Self::read), straight into `buf` however large that is, with the length of the segment.
    fn fetch(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<Fetched>>;
    /// Writes the next bytes to `fd`, at most one buffer, and takes what it took.
    fn send(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        max: usize,
    ) -> WindowResult<Option<(usize, StreamFlags)>>;
    /// Sizes; on v2 only asked in pre-copy.
    fn figures(&mut self, access: &Access<'_>) -> WindowResult<Figures>;

    /// Lends a buffer for the next bytes of a segment of which `segment_left` bytes are missing (v2: `NO_SEGMENT`).
    fn room(&mut self, access: &Access<'_>, segment_left: u64) -> WindowResult<Room>;
    /// Hands over the bytes of a lent buffer; `segment_end`: the caller says that a segment ends with them.
    fn commit(&mut self, access: &Access<'_>, bytes: &[u8], segment_end: bool) -> WindowResult<()>;
    /// A lent buffer was dropped: a segment of which nothing was handed over is none.
    fn drop_room(&mut self) {}
    /// As [`room`](Self::room), by pointer and of the device's own memory where that is mapped.
    #[cfg(feature = "capi")]
    fn raw_room(&mut self, access: &Access<'_>, segment_left: u64) -> WindowResult<RawRoom>;
    /// As [`commit`](Self::commit), of the first `len` bytes of that buffer.
    #[cfg(feature = "capi")]
    fn commit_raw(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> WindowResult<()>;
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
