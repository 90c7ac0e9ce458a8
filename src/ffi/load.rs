//! State bytes into a device.

use super::device::borrow_fd;
use super::error_object::vfiomig_error;
use super::handle::{on, vfiomig_device};
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

/// Lends room for the next bytes of the stream. One room per device is out at a time. `segment_left` is the length of the
/// rest of the segment that follows (v1, draft), as the saver's chunks told it; a segment that does not fit the device's
/// window is refused here with -EMSGSIZE and both lengths. 0 on v2, which has no segments. `*len` is how much fits now; on v1
/// and the draft it may be device memory. When the session ends its memory stays valid until the next peek, reserve or free.
///
/// Returns: 0 or -errno. Errors: ARGUMENT, BUSY (also: room is out), ORDER (state; after finish), STALE (the session is
/// dead), TRANSPORT (-ENOMEM), UNSUPPORTED (not migratable; -EMSGSIZE), DEVICE, PROTOCOL. States: RESUMING. Threads: device.
/// Blocks: in the kernel (v1, draft). Since: 0.1
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
        let room = device.reserve(segment_left)?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { ptr.write(room.data.cast()) };
        // SAFETY: as above.
        unsafe { len.write(room.len) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_reserve", d, errp, body) }
}

/// Hands the first `len` bytes of the room to the device; 0 gives the room back unused, and no segment is begun. `flags` is 0, or
/// VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment: it is checked against the length that reserve was told, and a
/// segment that has all its bytes goes to the device with or without it. After a failure behind which the device may have taken a
/// byte the session is dead, and only a reset leaves RESUMING; after one before that the room is still out, and the call can be
/// made again. The message says which.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (more than was lent), BUSY, ORDER (state; after finish; no room is out), STALE (the session has ended
/// or is dead), DEVICE (the device refused the bytes; -EAGAIN: it was not ready), PROTOCOL, UNSUPPORTED (not migratable; -EMSGSIZE),
/// CANCELED (while the device was not ready). States: RESUMING. Threads: device. Blocks: in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_commit(
    d: *mut vfiomig_device,
    len: usize,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| segment_end(flags).and_then(|end| device.commit(len, end));
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_commit", d, errp, body) }
}

/// Hands `len` bytes to the device, all of them, without a copy into the library's memory, one buffer at a time: a state change or
/// another call that waits comes between; if that ends the session, the message says how much was taken. `flags` is 0, or
/// VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment (v1, draft). After a failure the session is dead, or the call can be
/// made again, as with vfiomig_device_commit().
///
/// Returns: `len`, or -errno. Errors: ARGUMENT, BUSY (also: room is out), ORDER (state; after finish), STALE (the session
/// is dead; another one has begun), TRANSPORT (-ENOMEM), DEVICE (the device refused the bytes; -EAGAIN: it was not ready), PROTOCOL, UNSUPPORTED (not migratable; -EMSGSIZE),
/// CANCELED (while the device was not ready). States: RESUMING. Threads: device. Blocks: in the kernel. Since: 0.1
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

/// Reads up to `len` bytes from `fd` (a socket, a pipe, a file), at most one buffer a call, of device memory too, and hands them to the device.
/// 0 is the end of `fd`. `flags` is 0, or VFIOMIG_CHUNK_SEGMENT_END if a segment ends with the last of `len` bytes (v1, draft);
/// it holds only if all of them came.
///
/// Returns: bytes, or -errno. Errors: as vfiomig_device_write(), ARGUMENT (-EBADF), CANCELED (also while `fd` was not ready), and TRANSPORT (`fd` failed; -EAGAIN if it has nothing: at once in
/// non-blocking mode, else after 60 s): nothing is lost, and the session goes on. Bytes that came from `fd` and that the device did
/// not take are lost, so the session is dead after any other failure behind a read. States: RESUMING. Threads: device. Blocks: in
/// the kernel, and on `fd`, which is polled: a cancel ends that wait, and state changes do not wait for it. Since: 0.1
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

/// Says how many bytes the stream has. Only then may the device leave RESUMING: some drivers accept a truncated stream
/// silently. VFIOMIG_UNKNOWN is the caller's word that its format cannot know. Bytes that are missing may still be written,
/// and finish be called again.
///
/// Returns: 0 or -errno. Errors: BUSY (also: room is out), ORDER (state), STALE (the session is dead), UNSUPPORTED (not
/// migratable), INCOMPLETE (both counts are in the message). States: RESUMING. Threads: device. Blocks: never. Since: 0.1
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
