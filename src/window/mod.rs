//! Where state bytes appear and disappear. This version has the data fd of v2; areas of the migration region follow.
//!
//! May import: dialect, transport, error, log. Knows nothing of states or sessions: `device` decides when a window is open.

pub(crate) mod data_fd;

/// `VFIOMIG_CHUNK_EMPTY`: nothing now; only in PRE_COPY states.
pub const EMPTY: u32 = 0x1;
/// `VFIOMIG_CHUNK_END`: the stream is complete; only in STOP_COPY.
pub const END: u32 = 0x2;

/// The length of a segment where the dialect has none (v2).
pub const NO_SEGMENT: u64 = u64::MAX;

/// A run of a stream's bytes lent to the caller. Plain numbers: the memory is the device handle's, stays where it is until
/// the handle is freed, and is not written before the chunk is consumed.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// First byte; meaningless where `len` is 0.
    pub data: *const u8,
    /// Bytes lent.
    pub len: usize,
    /// Bytes from `data` to the end of its segment; [`NO_SEGMENT`] on v2.
    pub segment_left: u64,
    /// [`EMPTY`] or [`END`], both only with `len` 0.
    pub flags: u32,
}

/// Room for bytes of a stream, lent to the caller; the memory is the device handle's.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// First byte.
    pub data: *mut u8,
    /// Bytes of room.
    pub len: usize,
}
