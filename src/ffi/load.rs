//! State bytes into a device.

use super::error_object::vfiomig_error;
use super::handle::{on, vfiomig_device};
use super::input::borrow_fd;
use super::library::VFIOMIG_UNKNOWN;
use super::save::{VFIOMIG_CHUNK_SEGMENT_END, check_len};
use crate::device::Device;
use crate::error::{Error, Result};
use std::ffi::{c_int, c_void};

/// Whether the caller says that a segment ends.
fn segment_end(flags: u32) -> Result<bool> {
    if flags & !VFIOMIG_CHUNK_SEGMENT_END != 0 {
        return Err(Error::argument(format!("flags: {flags:#x} has unknown bits")));
    }
    Ok(flags & VFIOMIG_CHUNK_SEGMENT_END != 0)
}

/// Lends a buffer for the next bytes of the stream. At most one buffer is lent per device.
/// `segment_left` is the length of the rest of the segment that follows (v1, draft), as
/// `segment_left` of the chunk on the source side; 0 is refused there. A segment that does not fit
/// the device's window is refused here, with -EMSGSIZE and both lengths. On v2, which has no
/// segments, it is VFIOMIG_UNKNOWN, as there; 0 is refused. `*len` is the size of the buffer; on v1
/// and the draft it may be device memory (VFIOMIG_CAP_MAPPED). After the session has ended its
/// memory stays valid until the next peek, reserve or free.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`segment_left`), BUSY (also: a buffer is lent), ORDER (state; after finish),
/// STALE (the session has ended or is broken), SYSTEM (-ENOMEM), UNSUPPORTED (not migratable;
/// -EMSGSIZE), DEVICE, PROTOCOL.
/// States: RESUMING.
/// Threads: device. Blocks: in the kernel (v1, draft). Since: 0.1
// Safety: `d` is NULL or a live handle; `ptr`, `len` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_reserve(
    d: *mut vfiomig_device,
    segment_left: u64,
    ptr: *mut *mut c_void,
    len: *mut usize,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| {
        if ptr.is_null() || len.is_null() {
            return Err(Error::argument("ptr or len is NULL"));
        }
        let room = device.reserve_raw(segment_left)?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { ptr.write(room.data.cast()) };
        // SAFETY: as above.
        unsafe { len.write(room.len) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_reserve", d, errp, body) }
}

/// Gives the first `len` bytes of the lent buffer to the device; 0 returns the buffer unused, and no
/// segment is begun. `flags` is VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment, else 0.
/// It may be left out: a segment that has all bytes is handed over. Where it is given, the length is
/// checked.
///
/// If the device may have taken a byte before the failure, the session is broken and only a reset
/// leads out of RESUMING; else the buffer is still lent and the call can be repeated. The message
/// says which.
///
/// In a load with `queue_bytes` the bytes are put into the device's queue, and the call may return
/// before the device has them: what it does not take is an error of the next call for it, the
/// session is broken, and only a reset leads out.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`len` is more than was lent; `flags`), BUSY, ORDER (state; after finish; no
/// buffer is lent), STALE (the session has ended or is broken), DEVICE (the device refused the
/// bytes; -EAGAIN: it was not ready), PROTOCOL, UNSUPPORTED (not migratable; -EMSGSIZE), CANCELED
/// (while the device was not ready, or its queue was full).
/// States: RESUMING.
/// Threads: device. Blocks: in the kernel; with `queue_bytes` while the queue is full. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_commit(
    d: *mut vfiomig_device,
    len: usize,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| segment_end(flags).and_then(|end| device.commit_raw(len, end));
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_commit", d, errp, body) }
}

/// Gives `len` bytes to the device, all of them, without a copy into the library's memory, one
/// buffer at a time; `len` 0 gives nothing. A state change or other calls that wait may run between
/// two buffers; if that ends the session, the message says how many bytes were taken. `flags` is
/// VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment (v1, draft), else 0. After a failure
/// the session is broken, or the call can be repeated, as with vfiomig_device_commit(), which says
/// too what `queue_bytes` changes; then a copy is made.
///
/// Returns: `len`, or -errno.
/// Errors: ARGUMENT (`buf` NULL; `flags`), BUSY (also: a buffer is lent), ORDER (state; after
/// finish), STALE (the session is broken; another one has begun), SYSTEM (-ENOMEM), DEVICE (the
/// device refused the bytes; -EAGAIN: it was not ready), PROTOCOL, UNSUPPORTED (not migratable;
/// -EMSGSIZE), CANCELED (while the device was not ready, or its queue was full).
/// States: RESUMING.
/// Threads: device. Blocks: in the kernel; with `queue_bytes` while the queue is full. Since: 0.1
// Safety: `d` is NULL or a live handle; `buf` is NULL or readable for `len`; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_write(
    d: *mut vfiomig_device,
    buf: *const c_void,
    len: usize,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let body = |device: &Device| {
        let end = segment_end(flags)?;
        if buf.is_null() {
            return Err(Error::argument("buf is NULL"));
        }
        check_len(len)?;
        // SAFETY: not NULL, not longer than isize::MAX, and readable for `len` by the contract of this function.
        let bytes = unsafe { std::slice::from_raw_parts(buf.cast::<u8>(), len) };
        device.write(bytes, end).map(|()| len)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_write", d, errp, body) }
}

/// Reads from `fd` (a socket, a pipe, a file) and gives the bytes to the device: at most `len`
/// bytes, which is not 0, and at most one buffer a call, also of device memory. 0 is the end of
/// `fd`. `flags` is VFIOMIG_CHUNK_SEGMENT_END if a segment ends with the last of `len` bytes (v1,
/// draft), else 0; it is used only if all `len` bytes came.
///
/// Returns: bytes, or -errno.
/// Errors: as vfiomig_device_write(), and ARGUMENT (`len` 0; -1 as fd: -EBADF), CANCELED (also while
/// `fd` was not ready), SYSTEM (`fd` failed; -EAGAIN if it has nothing, at once in non-blocking
/// mode, else after 60 s): nothing is lost then, and the session stays open. Bytes that came from
/// `fd` and that the device did not take are lost, so any other failure after a read breaks the
/// session.
/// States: RESUMING.
/// Threads: device. Blocks: in the kernel, and on `fd`, which is polled: a cancel ends that wait,
/// and state changes do not wait for it. Since: 0.1
// Safety: `d` is NULL or a live handle; `fd` is -1 or open; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_receive(
    d: *mut vfiomig_device,
    fd: c_int,
    len: usize,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let body = |device: &Device| {
        let end = segment_end(flags)?;
        // SAFETY: the contract of this function.
        let fd = unsafe { borrow_fd("fd", fd) }?;
        device.receive(fd, len, end)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_receive", d, errp, body) }
}

/// States the length of the stream in bytes, as the source side counted it. Without it the device
/// cannot leave RESUMING, because some drivers accept a truncated stream silently. VFIOMIG_UNKNOWN:
/// the VMM's format does not carry the length, so a stream that was cut off is not noticed. Bytes
/// that are missing may still be written, and finish be called again; if more bytes were loaded than
/// `total`, only a reset is left. In a load with `queue_bytes` the length is compared with what was
/// put; what the device says of these bytes comes when LOAD_LOADED is entered.
///
/// Returns: 0 or -errno.
/// Errors: BUSY (also: a buffer is lent), ORDER (state), STALE (the session is broken), UNSUPPORTED
/// (not migratable), INCOMPLETE (both lengths are in the message).
/// States: RESUMING.
/// Threads: device. Blocks: never. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_finish(
    d: *mut vfiomig_device,
    total: u64,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let total = (total != VFIOMIG_UNKNOWN).then_some(total);
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_finish", d, errp, |device| device.finish(total)) }
}
