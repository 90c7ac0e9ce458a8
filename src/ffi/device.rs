//! Device handles: make, describe, change state, free.

use super::error_object::vfiomig_error;
use super::guard::guard;
pub use super::handle::vfiomig_device;
use super::handle::{free, new, on, value_of};
use super::library::{VFIOMIG_STATE_ERROR, VFIOMIG_UNKNOWN};
use super::sized::{ExtensibleStruct, check_out, copy_in, copy_out};
use crate::device::{CapFlags, Device, DeviceOptions, OnFailure};
use crate::dialect::{Cursor, DialectKind, State};
use crate::error::{Error, Result};
use crate::transport::Transport;
use crate::transport::kernel::Kernel;
use crate::transport::ops::{Ops, OpsTransport};
use crate::window::Quirks;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, RawFd};

/// As option: look for every dialect.
pub const VFIOMIG_DIALECT_AUTO: u32 = 0;
/// As information: the device is not migratable, and `reason` says why.
pub const VFIOMIG_DIALECT_NONE: u32 = 0;
/// The 2019 proposal of the migration region. A draft device that uses v1's region id is taken for
/// v1 unless the options name DRAFT.
pub const VFIOMIG_DIALECT_DRAFT: u32 = 1;
/// Migration region, Linux 5.8 to 5.17, with or without NDMA.
pub const VFIOMIG_DIALECT_V1: u32 = 2;
/// Device feature and data fd, Linux 5.18.
pub const VFIOMIG_DIALECT_V2: u32 = 3;

const _: () =
    assert!(DialectKind::Draft as u32 == VFIOMIG_DIALECT_DRAFT && DialectKind::V1 as u32 == VFIOMIG_DIALECT_V1);
const _: () = assert!(DialectKind::V2 as u32 == VFIOMIG_DIALECT_V2);

/// draft_cursor: the client writes the range once, and the device remembers how much of the bitmap
/// was read. Default for region type 2.
pub const VFIOMIG_DRAFT_CURSOR_STICKY: u32 = 1;
/// draft_cursor: the client writes the rest of the range for each part. Default for region type 3.
pub const VFIOMIG_DRAFT_CURSOR_REWRITE: u32 = 2;

/// Never map the migration region: trapped access only, so that no device can raise SIGBUS in the
/// VMM.
pub const VFIOMIG_DEVICE_F_NO_MMAP: u32 = 0x1;
/// For devices whose data_size may read 0: the length of the segment is then min(pending_bytes, the
/// area). Seen on a vendor's vGPU.
pub const VFIOMIG_DEVICE_F_ZERO_DATA_SIZE: u32 = 0x2;
/// Load a segment that is larger than the device's window in parts, as QEMU does; the protocol
/// forbids it.
pub const VFIOMIG_DEVICE_F_SPLIT_SEGMENTS: u32 = 0x4;
/// Move trapped data 8, 4, 2 or 1 bytes at a time, naturally aligned, for drivers that refuse other
/// accesses.
pub const VFIOMIG_DEVICE_F_ALIGNED_ACCESS: u32 = 0x8;
/// Calls of the class *device* that would wait for another call on the handle return -EBUSY at once.
/// Calls that the library makes itself, within functions of a group or migration, wait all the same.
pub const VFIOMIG_DEVICE_F_NO_WAIT: u32 = 0x10;

const DEVICE_FLAGS: u32 = VFIOMIG_DEVICE_F_NO_MMAP
    | VFIOMIG_DEVICE_F_ZERO_DATA_SIZE
    | VFIOMIG_DEVICE_F_SPLIT_SEGMENTS
    | VFIOMIG_DEVICE_F_ALIGNED_ACCESS
    | VFIOMIG_DEVICE_F_NO_WAIT;

/// The device has PRE_COPY.
pub const VFIOMIG_CAP_PRE_COPY: u32 = 0x1;
/// The device has RUNNING_P2P, and PRE_COPY_P2P if it has PRE_COPY.
pub const VFIOMIG_CAP_P2P: u32 = 0x2;
/// The device says that it can be reset, or that it can in another state (libvfio-user). Some
/// devices without this bit can be reset, too (mtty).
pub const VFIOMIG_CAP_RESET: u32 = 0x4;
/// The device reports when it begins again with initial data; reinit_count counts it.
pub const VFIOMIG_CAP_REINIT: u32 = 0x8;
/// Chunks and lent buffers are device memory, not copies (v1, draft). Known from the first session
/// on.
pub const VFIOMIG_CAP_MAPPED: u32 = 0x10;
/// In vfiomig_device_pending.flags: the sizes are those of the last query. A segment was read in
/// part, and asking the device would have acknowledged it (v1, draft).
pub const VFIOMIG_PENDING_CACHED: u32 = 0x1;

const _: () = assert!(CapFlags::PRE_COPY.bits() == VFIOMIG_CAP_PRE_COPY && CapFlags::P2P.bits() == VFIOMIG_CAP_P2P);
const _: () = assert!(CapFlags::RESET.bits() == VFIOMIG_CAP_RESET && CapFlags::REINIT.bits() == VFIOMIG_CAP_REINIT);
const _: () = assert!(CapFlags::MAPPED.bits() == VFIOMIG_CAP_MAPPED);

/// The functions may be called from threads that the library makes within a call, for different
/// devices or trackers at once, one call at a time for each. Without it they are called only from
/// the thread that called the library.
pub const VFIOMIG_OPS_F_ANY_THREAD: u32 = 0x1;

/// vfiomig_device_ops: a report of the DMA log (VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT) only sets
/// bits, and leaves the other bits of the bitmap as they are. The kernel does that, so set it where
/// device_feature passes the request on to the kernel. Reports of several devices then go into one
/// buffer. Without it each gets a buffer that is all zero.
pub const VFIOMIG_OPS_F_REPORT_ADDS_BITS: u32 = 0x2;

const _: () = assert!(crate::transport::ops::ANY_THREAD == VFIOMIG_OPS_F_ANY_THREAD);
const _: () = assert!(crate::transport::ops::REPORT_ADDS_BITS == VFIOMIG_OPS_F_REPORT_ADDS_BITS);

/// After a failed state change, leave the device in the state in which it is found.
pub const VFIOMIG_ON_FAILURE_KEEP: u32 = 0;
/// After a failed state change, reset the device: its state is lost.
pub const VFIOMIG_ON_FAILURE_RESET: u32 = 1;

/// VFIOMIG_ON_FAILURE_RETURN_TO(state) is this plus the state.
const RETURN_TO: u32 = 0x100;

/// Also take arcs that are legal for the kernel but throw away what the device holds
/// (docs/states.md).
pub const VFIOMIG_SET_STATE_F_RAW: u32 = 0x1;

/// Ask the device. Without it the last known sizes are returned.
pub const VFIOMIG_PENDING_F_EXACT: u32 = 0x1;

/// Largest size of a device's name in bytes, with the terminating NUL.
pub const VFIOMIG_NAME_SIZE: usize = 256;
const _: () = assert!(VFIOMIG_NAME_SIZE == crate::device::MAX_NAME + 1);

/// Size of every `reason` in bytes, with the terminating NUL. A longer text is cut, possibly in the
/// middle of a UTF-8 character.
pub const VFIOMIG_REASON_SIZE: usize = 256;

/// How a device is made. Set up with VFIOMIG_INIT. NULL stands for all defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_device_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_DEVICE_F_*.
    pub flags: u32,
    /// For messages; at most 255 bytes, copied; unique within a group. UTF-8; other bytes read as "?".
    /// NULL: "device".
    pub name: *const c_char,
    /// Size of the library's buffer in bytes, 4096 to 2^30; 0: 1 MiB.
    pub buffer_size: u64,
    /// VFIOMIG_DIALECT_*.
    pub dialect: u32,
    /// VFIOMIG_DRAFT_CURSOR_*; 0: by the region's type. The drafts disagree on how a dirty bitmap is
    /// read in parts.
    pub draft_cursor: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_device_options {
    const NAME: &'static str = "vfiomig_device_options";
    const FLAGS: u32 = DEVICE_FLAGS;
}

// SAFETY: repr(C) with argsz and flags first, then pointers without padding; zeros are NULL pointers.
unsafe impl ExtensibleStruct for Ops {
    const NAME: &'static str = "vfiomig_device_ops";
    const FLAGS: u32 = VFIOMIG_OPS_F_ANY_THREAD | VFIOMIG_OPS_F_REPORT_ADDS_BITS;
}

/// What is known of a device without asking it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_device_info {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// VFIOMIG_DIALECT_*; VFIOMIG_DIALECT_NONE: not migratable, `reason` says why.
    pub dialect: u32,
    /// VFIOMIG_CAP_*; of a device that is not migratable, VFIOMIG_CAP_RESET or 0.
    pub caps: u32,
    /// VFIOMIG_STATE_* as last known; VFIOMIG_STATE_ERROR for a device that is not migratable.
    pub state: u32,
    /// 1 while a session is open (a data fd, or a stay in SAVING or RESUMING), else 0.
    pub session_open: u32,
    /// Sessions that this handle has opened: the number of the current or last one; 0 before the
    /// first.
    pub session: u64,
    /// Bytes consumed in the current or last save session; the stream's length once END was reached.
    pub saved_bytes: u64,
    /// Bytes that the device took in the current or last load session.
    pub loaded_bytes: u64,
    /// Why the device is not migratable, in words; empty if it is.
    pub reason: [c_char; VFIOMIG_REASON_SIZE],
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_device_info {
    const NAME: &'static str = "vfiomig_device_info";
    const FLAGS: u32 = 0;
}

/// What is left to be saved. All sizes are estimates in bytes. VFIOMIG_UNKNOWN is the largest
/// number: test for it before adding sizes up.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_device_pending {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0 or VFIOMIG_PENDING_CACHED.
    pub flags: u32,
    /// Initial data that is left. Entering STOP_COPY before it is 0 makes downtime longer. Known in
    /// PRE_COPY states only.
    pub initial_bytes: u64,
    /// Data that changed since it was read; some devices never bring it to 0. Known in PRE_COPY states
    /// only. v1 and draft: pending_bytes.
    pub dirty_bytes: u64,
    /// All that is left to the end of the stream. It includes the two above; do not add them. In
    /// STOP_COPY it goes down with what is read, and is 0 from VFIOMIG_CHUNK_END on. v1 and draft:
    /// pending_bytes, known in STOP_COPY only.
    pub stop_copy_bytes: u64,
    /// How often the device began again with initial data.
    pub reinit_count: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_device_pending {
    const NAME: &'static str = "vfiomig_device_pending";
    const FLAGS: u32 = 0;
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<vfiomig_device_options>() == 32 && size_of::<Ops>() == 8 + 12 * 8);
    assert!(std::mem::offset_of!(vfiomig_device_options, buffer_size) == 16);
};
const _: () =
    assert!(size_of::<vfiomig_device_info>() == 48 + VFIOMIG_REASON_SIZE && size_of::<vfiomig_device_pending>() == 40);
const _: () = assert!(std::mem::offset_of!(vfiomig_device_info, reason) == 48);
const _: () = assert!(std::mem::offset_of!(vfiomig_device_pending, reinit_count) == 32);

/// A name. Bytes that are no UTF-8 become a character of one byte, so that its length stays what C counts.
pub(super) fn text_of(text: &CStr) -> String {
    text.to_string_lossy().replace(char::REPLACEMENT_CHARACTER, "?")
}

/// # Safety
/// `o` is NULL or readable for its argsz, and its `name` is NULL or a C string.
unsafe fn read_options(o: *const vfiomig_device_options) -> Result<DeviceOptions> {
    // SAFETY: the contract of this function.
    let given = unsafe { copy_in(o) }?;
    let mut options = DeviceOptions { name: "device".to_string(), ..DeviceOptions::default() };
    let Some(given) = given else { return Ok(options) };
    if !given.name.is_null() {
        // SAFETY: a C string by the contract of this function.
        options.name = text_of(unsafe { CStr::from_ptr(given.name) });
    }
    let has = |flag| given.flags & flag != 0;
    options.quirks = Quirks {
        no_mmap: has(VFIOMIG_DEVICE_F_NO_MMAP),
        zero_data_size: has(VFIOMIG_DEVICE_F_ZERO_DATA_SIZE),
        split_segments: has(VFIOMIG_DEVICE_F_SPLIT_SEGMENTS),
        aligned_access: has(VFIOMIG_DEVICE_F_ALIGNED_ACCESS),
    };
    options.no_wait = has(VFIOMIG_DEVICE_F_NO_WAIT);
    options.dialect = match DialectKind::from_number(given.dialect) {
        None if given.dialect != VFIOMIG_DIALECT_AUTO => {
            return Err(Error::unsupported(format!("dialect: {} is not spoken by this version", given.dialect)));
        }
        wanted => wanted,
    };
    if given.buffer_size != 0 {
        options.buffer_size = Some(usize::try_from(given.buffer_size).unwrap_or(usize::MAX));
    }
    options.draft_cursor = match given.draft_cursor {
        0 => None,
        VFIOMIG_DRAFT_CURSOR_STICKY => Some(Cursor::Sticky),
        VFIOMIG_DRAFT_CURSOR_REWRITE => Some(Cursor::Rewrite),
        other => return Err(Error::argument(format!("draft_cursor: {other} is none of VFIOMIG_DRAFT_CURSOR_*"))),
    };
    Ok(options)
}

/// # Safety
/// `out` is NULL or points to memory for one pointer; the rest as for [`read_options`].
unsafe fn make(
    o: *const vfiomig_device_options,
    out: *mut *mut vfiomig_device,
    transport: impl FnOnce() -> Result<Box<dyn Transport>>,
) -> Result<()> {
    if out.is_null() {
        return Err(Error::argument("out is NULL"));
    }
    // SAFETY: the contract of this function.
    let options = unsafe { read_options(o) }?;
    let device = Device::new(transport()?, options)?;
    // SAFETY: not NULL, so writable by the contract of this function.
    unsafe { out.write(new(device)) };
    Ok(())
}

/// A descriptor of the caller. `BorrowedFd` must not hold -1, so that is refused here.
///
/// # Safety
/// If `fd` is not negative it stays open as long as the result is used.
pub(super) unsafe fn borrow_fd(what: &str, fd: RawFd) -> Result<BorrowedFd<'static>> {
    if fd < 0 {
        return Err(Error::new(
            crate::error::ErrorKind::Argument,
            libc::EBADF,
            format!("{what}: {fd} is not a descriptor"),
        ));
    }
    // SAFETY: not -1; open by the contract of this function.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Makes a device from a VFIO device fd that the VMM opened, by group or by cdev (bound already).
/// The library uses the fd, by its number, until vfiomig_device_free(), and never closes or
/// duplicates it. Free the handle before the fd is closed: a data fd that outlives it can crash the
/// host, and the number may be given to another file. The device may be in any state, and stays in
/// it. A device that cannot be migrated is no error: vfiomig_device_get_info() says why.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL; -1 as fd: -EBADF; options, also a buffer_size or name out of
/// range), UNSUPPORTED (a dialect that this version does not know), DEVICE (not a VFIO device fd, or
/// a request failed), PROTOCOL (the device reports impossible values).
/// States: any.
/// Threads: any. Blocks: in the kernel. Since: 0.1
// Safety: `device_fd` stays open until the handle is freed; pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_new_kernel(
    device_fd: c_int,
    o: *const vfiomig_device_options,
    out: *mut *mut vfiomig_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = || {
        let transport = || {
            // SAFETY: the contract of this function.
            let fd = unsafe { borrow_fd("device_fd", device_fd) }?;
            Ok(Box::new(Kernel::new(fd)) as Box<dyn Transport>)
        };
        // SAFETY: the contract of this function.
        unsafe { make(o, out, transport) }
    };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_device_new_kernel", errp, || (), body) }
}

/// Makes a device from functions of the VMM. The table is copied; `opaque` is passed to each
/// function and not used otherwise.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`ops` or `out` NULL; a table that lacks functions; options, as of
/// vfiomig_device_new_kernel()), UNSUPPORTED (a dialect that this version does not know), DEVICE (a
/// function failed), PROTOCOL (the device reports impossible values).
/// States: any.
/// Threads: any. Blocks: in your functions. Since: 0.1
// Safety: Until the handle is freed each function may be called as `struct vfiomig_device_ops` describes; pointers are NULL or
// valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_new_ops(
    ops: *const Ops,
    opaque: *mut c_void,
    o: *const vfiomig_device_options,
    out: *mut *mut vfiomig_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = || {
        let transport = || {
            // SAFETY: the contract of this function.
            let ops = unsafe { copy_in(ops) }?.ok_or_else(|| Error::argument("ops is NULL"))?;
            // SAFETY: the contract of this function.
            Ok(Box::new(unsafe { OpsTransport::new(ops, opaque) }?) as Box<dyn Transport>)
        };
        // SAFETY: the contract of this function.
        unsafe { make(o, out, transport) }
    };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_device_new_ops", errp, || (), body) }
}

/// Frees a device handle; NULL is legal. Waits for the call in progress, closes the data fd, and
/// leaves the device in its state. Afterwards the library never uses the device fd, the ops or their
/// `opaque` again, and memory that was lent is gone. A group forgets the device at its next call, or
/// fails its migration (vfiomig_group_add_device()); a tracker takes it for unplugged
/// (vfiomig_tracker_new()). Called from one of the handle's own callbacks it frees nothing and logs
/// an error.
///
/// States: any.
/// Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in
/// progress returns. Since: 0.1
// Safety: `d` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_free(d: *mut vfiomig_device) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_device_free", d) };
}

/// What is known of a device without asking it.
///
/// Returns: 0 or -errno.
/// Errors: those of every function.
/// States: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `d` is NULL or a live handle; `info` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_get_info(
    d: *const vfiomig_device,
    info: *mut vfiomig_device_info,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(info) }?;
        let known = device.info();
        let mut ours = vfiomig_device_info {
            argsz: 0,
            flags: 0,
            dialect: known.dialect.map_or(VFIOMIG_DIALECT_NONE, |kind| kind as u32),
            caps: known.caps.bits(),
            state: known.state.number(),
            session_open: u32::from(known.session_open),
            session: known.session,
            saved_bytes: known.saved_bytes,
            loaded_bytes: known.loaded_bytes,
            reason: [0; VFIOMIG_REASON_SIZE],
        };
        let reason = known.reason.map(|reason| reason.to_string()).unwrap_or_default();
        for (to, from) in ours.reason.iter_mut().zip(reason.bytes().take(VFIOMIG_REASON_SIZE.saturating_sub(1))) {
            *to = c_char::from_ne_bytes([from]);
        }
        // SAFETY: `size` is what check_out returned for `info`.
        unsafe { copy_out(info, size, &ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_get_info", d, errp, body) }
}

/// The last known state.
///
/// Returns: VFIOMIG_STATE_*; VFIOMIG_STATE_ERROR for NULL and for a device that is not migratable.
/// States: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `d` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_get_state(d: *const vfiomig_device) -> u32 {
    // SAFETY: the contract of this function.
    unsafe { value_of("vfiomig_device_get_state", d, VFIOMIG_STATE_ERROR, |device| device.state().number()) }
}

/// Brings the device to `state`. The request is checked against the table of arcs before the kernel
/// sees it (docs/states.md). Returns 0 without a request if the device is in the state already.
/// After a failure the state is read, and `on_failure` is done: VFIOMIG_ON_FAILURE_KEEP,
/// VFIOMIG_ON_FAILURE_RESET or VFIOMIG_ON_FAILURE_RETURN_TO(state); the error has one result that
/// says what was found and done. RESUMING is left only after vfiomig_device_finish() has succeeded,
/// unless a reset has left the device there. `flags` is 0 or VFIOMIG_SET_STATE_F_RAW. Allowed while
/// a chunk or buffer is lent.
///
/// Some drivers need more than the request, and get it (docs/faults.md). After a failed step,
/// RUNNING is reached by one more state and back. STOP_COPY of a device with P2P and without
/// PRE_COPY is left only after the end of its stream, which the library reads and throws away, for
/// at most 5 s (-ETIMEDOUT: call again). A second RESUMING begins with a reset.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`state`, `on_failure`, `flags`; a RETURN_TO of ERROR), BUSY (-EDEADLK: from a
/// callback of the device, of its group or of its migration), ORDER (the table refuses the arc, as
/// it does for ERROR; or only a reset is left), STALE (the device was changed outside of this
/// library: nothing was requested, and the state that was found is known now), UNSUPPORTED (not
/// migratable), DEVICE (the kernel's errno; -ETIMEDOUT: the stream has no end yet), PROTOCOL (no
/// data fd came, or one too many), SYSTEM (-ENOMEM).
/// States: as docs/states.md says.
/// Threads: whole. Blocks: in the kernel, for seconds on some devices. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_set_state(
    d: *mut vfiomig_device,
    state: u32,
    on_failure: u32,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| {
        let to = State::from_number(state).ok_or_else(|| Error::argument(format!("state: {state} is no state")))?;
        let on_failure = read_on_failure(on_failure)?;
        if flags & !VFIOMIG_SET_STATE_F_RAW != 0 {
            return Err(Error::argument(format!("flags: {flags:#x} has unknown bits")));
        }
        device.set_state(to, on_failure, flags & VFIOMIG_SET_STATE_F_RAW != 0)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_set_state", d, errp, body) }
}

fn read_on_failure(value: u32) -> Result<OnFailure> {
    match value {
        VFIOMIG_ON_FAILURE_KEEP => Ok(OnFailure::Keep),
        VFIOMIG_ON_FAILURE_RESET => Ok(OnFailure::Reset),
        _ => value
            .checked_sub(RETURN_TO)
            .and_then(State::from_number)
            .filter(|&state| state != State::Error)
            .map(OnFailure::ReturnTo)
            .ok_or_else(|| Error::argument(format!("on_failure: {value:#x} is none of VFIOMIG_ON_FAILURE_*"))),
    }
}

/// Resets the device (VFIO_DEVICE_RESET, tried again for 5 s while the kernel says EAGAIN). What it
/// held is lost, its session has ended, and it is in RUNNING. Nothing else leads out of ERROR, nor
/// out of RESUMING with a bad stream. Allowed while a chunk or buffer is lent.
///
/// Device servers may refuse it in STOP and STOP_COPY (UNSUPPORTED, -EINVAL), or do it and stay in
/// the state in which they were (PROTOCOL). The message says which state can be requested next.
/// RESUMING may then be left by vfiomig_device_set_state(), since nothing was loaded.
///
/// Returns: 0 or -errno.
/// Errors: BUSY (-EDEADLK, as of vfiomig_device_set_state()), UNSUPPORTED (no reset, or none in this
/// state), DEVICE (the kernel's errno), PROTOCOL (not in RUNNING afterwards).
/// States: any.
/// Threads: whole. Blocks: in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_reset(d: *mut vfiomig_device, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_reset", d, errp, Device::reset) }
}

/// Probes the device again after a reset that the VMM did without this library, or after the device
/// was replaced: what it held is gone. The session has ended, also where a device server kept its
/// state, and its stream is void. RESUMING may then be left by vfiomig_device_set_state() if the
/// server kept it, since nothing was loaded. If only the state was changed by others, do not call
/// this: the next call returns STALE.
///
/// Returns: 0 or -errno.
/// Errors: BUSY (-EDEADLK, as of vfiomig_device_set_state()), ORDER (the device still needs its
/// reset), DEVICE (the kernel's errno), PROTOCOL (the device reports impossible values).
/// States: any.
/// Threads: whole. Blocks: in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_reprobe(d: *mut vfiomig_device, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_reprobe", d, errp, Device::reprobe) }
}

/// How much is left to be saved. Without VFIOMIG_PENDING_F_EXACT the sizes are those of the last
/// query. With it the device is asked, which on some devices prepares more data. A size that is not
/// known in a state reads VFIOMIG_UNKNOWN.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`flags`); with EXACT also BUSY, ORDER (only a reset is left), STALE (the save
/// session is broken), UNSUPPORTED (not migratable), DEVICE, PROTOCOL.
/// States: any.
/// Threads: any; with EXACT device. Blocks: never; with EXACT in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `out` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_get_pending(
    d: *mut vfiomig_device,
    flags: u32,
    out: *mut vfiomig_device_pending,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(out) }?;
        let pending = match flags {
            0 => device.pending(),
            VFIOMIG_PENDING_F_EXACT => device.pending_exact()?,
            _ => return Err(Error::argument(format!("flags: {flags:#x} has unknown bits"))),
        };
        let ours = vfiomig_device_pending {
            argsz: 0,
            flags: if pending.cached { VFIOMIG_PENDING_CACHED } else { 0 },
            initial_bytes: pending.initial_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            dirty_bytes: pending.dirty_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            stop_copy_bytes: pending.stop_copy_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            reinit_count: pending.reinit_count,
            reserved: 0,
        };
        // SAFETY: `size` is what check_out returned for `out`.
        unsafe { copy_out(out, size, &ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_get_pending", d, errp, body) }
}
