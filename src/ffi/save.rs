//! State bytes out of a device.

use super::error_object::vfiomig_error;
use super::handle::{on, vfiomig_device};
use super::input::borrow_fd;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::window::{StreamFlags, raw};
use std::ffi::{c_int, c_void};

/// There is nothing now, and more may come. In PRE_COPY and PRE_COPY_P2P only.
pub const VFIOMIG_CHUNK_EMPTY: u32 = 0x1;
/// The stream is whole: nothing follows. Only in STOP_COPY.
pub const VFIOMIG_CHUNK_END: u32 = 0x2;

/// The last byte ends a segment (v1, draft). The destination side needs the same segments in the
/// same order, so the VMM's format must carry this flag.
pub const VFIOMIG_CHUNK_SEGMENT_END: u32 = 0x4;
/// The bytes are device memory: copy them once, never pin them. Reading may raise SIGBUS if the
/// device goes away.
pub const VFIOMIG_CHUNK_DEVICE_MEM: u32 = 0x8;

const _: () = assert!(StreamFlags::EMPTY.bits() == VFIOMIG_CHUNK_EMPTY && StreamFlags::END.bits() == VFIOMIG_CHUNK_END);
const _: () = assert!(StreamFlags::SEGMENT_END.bits() == VFIOMIG_CHUNK_SEGMENT_END);
const _: () = assert!(raw::DEVICE_MEM == VFIOMIG_CHUNK_DEVICE_MEM);

/// A lent run of a stream's bytes. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_chunk {
    /// First byte; NULL where `len` is 0.
    pub data: *const c_void,
    /// Length in bytes; on v2 at most buffer_size of the options.
    pub len: usize,
    /// Bytes from `data` to the end of the segment; VFIOMIG_UNKNOWN on v2, which has no segments.
    pub segment_left: u64,
    /// VFIOMIG_CHUNK_*; EMPTY and END only with `len` 0.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<vfiomig_chunk>() == size_of::<*const c_void>() + size_of::<usize>() + 16);

/// States that what was received of an earlier stream is thrown away, and begins a new one. Needed
/// once after a save session of which bytes were lent or consumed and that did not end by STOP after
/// END (state change, reset, error); until then save calls return -ESTALE. Callers that use
/// migrations do not need it: a migration that has sent nothing begins new streams by itself, and so
/// does entering SAVE_PRE_COPY again after vfiomig_group_resume().
///
/// Returns: 0 or -errno; 0 for a device that is not migratable, too.
/// Errors: BUSY, ORDER (bytes of the open session were consumed, also up to its END, or the session
/// is broken).
/// States: any.
/// Threads: device. Blocks: never. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_restart_stream(d: *mut vfiomig_device, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_restart_stream", d, errp, Device::restart_stream) }
}

/// Lends the next bytes of the stream. At most one chunk is lent per device; it stays valid from
/// PRE_COPY into STOP_COPY. After the session has ended its memory stays readable and unchanged
/// until the next peek, reserve or free, whatever else is done with the device, and
/// vfiomig_device_consume() returns -ESTALE; device memory stays mapped, but the device may change
/// it. `max` bounds the chunk in bytes; 0: no bound but the buffer.
///
/// A failed read of a data fd may have lost bytes, because drivers throw away what they had copied:
/// the session is broken, and every further call returns STALE. -EAGAIN: nothing was moved; the
/// device has more data but was not ready for a second: call again. A cancel of the device's
/// migration ends that wait.
///
/// Returns: 0 or -errno.
/// Errors: BUSY (also: a chunk is lent), ORDER (state), STALE (the session has ended or is broken,
/// or the stream is void), UNSUPPORTED (not migratable), DEVICE (-EAGAIN: not ready, in STOP_COPY
/// only), PROTOCOL, SYSTEM (-ENOMEM: no memory for a buffer), CANCELED (while the device was not
/// ready; nothing is lost).
/// States: PRE_COPY, PRE_COPY_P2P, STOP_COPY.
/// Threads: device. Blocks: in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_peek(
    d: *mut vfiomig_device,
    max: usize,
    out: *mut vfiomig_chunk,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        let chunk = device.peek_raw(max)?;
        let ours = vfiomig_chunk {
            data: chunk.data.cast(),
            len: chunk.len,
            segment_left: chunk.segment_left,
            flags: chunk.flags,
            reserved: 0,
        };
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { out.write(ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_peek", d, errp, body) }
}

/// Gives the chunk back. The caller has taken the first `len` bytes; the rest is lent again by the
/// next peek, with `len` 0 all of it. On v1 and the draft the last byte of a segment acknowledges it
/// to the device; if that fails it is tried again by the next peek, and nothing is lost.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`len` is more than was lent), BUSY, ORDER (state; no chunk is lent), STALE (the
/// session has ended or is broken), UNSUPPORTED (not migratable).
/// States: PRE_COPY, PRE_COPY_P2P, STOP_COPY.
/// Threads: device. Blocks: in the kernel (v1, draft). Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_consume(
    d: *mut vfiomig_device,
    len: usize,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_consume", d, errp, |device| device.consume_raw(len)) }
}

/// Copies the next bytes of the stream to `buf`: at most one read of the device and one buffer,
/// often fewer bytes than `len`, and never beyond the end of a segment. 0 comes with
/// VFIOMIG_CHUNK_EMPTY or VFIOMIG_CHUNK_END in `*flags`; else `*flags` is 0 or
/// VFIOMIG_CHUNK_SEGMENT_END.
///
/// Returns: bytes, or -errno.
/// Errors: as vfiomig_device_peek(), and ARGUMENT (`buf` or `flags` NULL, `len` 0).
/// States: PRE_COPY, PRE_COPY_P2P, STOP_COPY.
/// Threads: device. Blocks: in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `buf` is NULL or writable for `len`; `flags` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_read(
    d: *mut vfiomig_device,
    buf: *mut c_void,
    len: usize,
    flags: *mut u32,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let body = |device: &Device| {
        if buf.is_null() || flags.is_null() {
            return Err(Error::argument("buf or flags is NULL"));
        }
        check_len(len)?;
        // SAFETY: not NULL, not longer than isize::MAX, and writable for `len` by the contract of this function. It is only
        // written; what the caller left in it is never looked at.
        let buf = unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
        let (moved, said) = device.read(buf)?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { flags.write(said.bits()) };
        Ok(moved)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_read", d, errp, body) }
}

/// Writes the next bytes of the stream to `fd` (a socket, a pipe, a file): at most `max` bytes (0:
/// no bound) and at most one buffer a call, also of device memory, and never beyond the end of a
/// segment. What `fd` does not take stays in the stream. 0 comes with VFIOMIG_CHUNK_EMPTY or
/// VFIOMIG_CHUNK_END in `*flags`; else `*flags` is 0 or VFIOMIG_CHUNK_SEGMENT_END. A closed peer is
/// -EPIPE, never SIGPIPE.
///
/// Returns: bytes, or -errno.
/// Errors: as vfiomig_device_peek(), and ARGUMENT (`flags` NULL; -1 as fd: -EBADF), SYSTEM (`fd`
/// failed; -EAGAIN if it takes nothing, at once in non-blocking mode, else after 60 s; nothing is
/// lost), CANCELED (also while `fd` was not ready).
/// States: PRE_COPY, PRE_COPY_P2P, STOP_COPY.
/// Threads: device. Blocks: in the kernel, and on `fd`, which is polled: a cancel ends that wait,
/// and state changes do not wait for it. Since: 0.1
// Safety: `d` is NULL or a live handle; `fd` is -1 or open; `flags` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_send(
    d: *mut vfiomig_device,
    fd: c_int,
    max: usize,
    flags: *mut u32,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let body = |device: &Device| {
        if flags.is_null() {
            return Err(Error::argument("flags is NULL"));
        }
        // SAFETY: the contract of this function.
        let fd = unsafe { borrow_fd("fd", fd) }?;
        let (moved, said) = device.send(fd, max)?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { flags.write(said.bits()) };
        Ok(moved)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_send", d, errp, body) }
}

/// A length for which a slice can be made.
pub(super) fn check_len(len: usize) -> Result<()> {
    if isize::try_from(len).is_err() {
        return Err(Error::argument(format!("len: {len} is longer than any buffer")));
    }
    Ok(())
}
