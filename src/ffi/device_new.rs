//! Makes device handles, from a descriptor or from functions of the VMM.

use super::device_data::{
    VFIOMIG_DEVICE_F_ALIGNED_ACCESS, VFIOMIG_DEVICE_F_NO_LOG, VFIOMIG_DEVICE_F_NO_MMAP, VFIOMIG_DEVICE_F_NO_WAIT,
    VFIOMIG_DEVICE_F_SPLIT_SEGMENTS, VFIOMIG_DEVICE_F_ZERO_DATA_SIZE, VFIOMIG_DIALECT_AUTO,
    VFIOMIG_DRAFT_CURSOR_REWRITE, VFIOMIG_DRAFT_CURSOR_STICKY, vfiomig_device_options,
};
use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{new, vfiomig_device};
use super::input::{borrow_fd, text_of};
use super::sized::copy_in;
use crate::device::{Device, DeviceOptions};
use crate::dialect::{Cursor, DialectKind};
use crate::error::{Error, Result};
use crate::transport::Transport;
use crate::transport::kernel::Kernel;
use crate::transport::ops::{Ops, OpsTransport};
use crate::window::Quirks;
use std::ffi::{CStr, c_int, c_void};

/// # Safety
/// `o` is NULL or readable for its argsz, and its `name` is NULL or a C string.
unsafe fn read_options(o: *const vfiomig_device_options) -> Result<DeviceOptions> {
    // SAFETY: the contract of this function.
    let given = unsafe { copy_in(o) }?;
    let mut options = DeviceOptions::default();
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
    options.no_log = has(VFIOMIG_DEVICE_F_NO_LOG);
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
pub(super) unsafe fn make(
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
