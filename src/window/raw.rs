//! What is lent to C: plain pointers, by which the device's own memory can be lent without a copy.

use super::lent::{Lend, Loan, NO_SEGMENT, StreamFlags};

/// `VFIOMIG_CHUNK_DEVICE_MEM`: the bytes are device memory.
pub const DEVICE_MEM: u32 = 0x8;

/// A run of a stream's bytes lent to the caller. Plain numbers: the memory is the device handle's, and is not written by the
/// library before the chunk is consumed. If its session ends before that, the memory stays as it is until something is lent again
/// or the handle is freed; device memory stays mapped.
#[derive(Clone, Copy, Debug)]
pub struct RawChunk {
    /// First byte; NULL where `len` is 0.
    pub data: *const u8,
    /// Bytes lent.
    pub len: usize,
    /// Bytes from `data` to the end of its segment; `u64::MAX` on v2.
    pub segment_left: u64,
    /// [`StreamFlags`], and [`DEVICE_MEM`].
    pub flags: u32,
}

impl Lend for RawChunk {
    fn nothing(flags: StreamFlags) -> Self {
        RawChunk { data: std::ptr::null(), len: 0, segment_left: NO_SEGMENT, flags: flags.bits() }
    }

    fn loan(&self) -> Loan {
        Loan { len: self.len, guard: None }
    }
}

/// A buffer for bytes of a stream, lent to the caller; the memory is the device handle's, or the device's own.
#[derive(Clone, Copy, Debug)]
pub struct RawRoom {
    /// First byte.
    pub data: *mut u8,
    /// Length in bytes.
    pub len: usize,
}
