//! What a test does with a device, and what it sees of it.

use super::handle::{Simdev, handle, status};
use std::ffi::{CString, c_char, c_int, c_void};
use vfiomig::transport::ops::Ops;

/// The VMM has closed the device fd (1), or opened it again (0).
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_close_fd(d: *const Simdev, closed: c_int) {
    // SAFETY: the function's contract.
    if let Some(d) = unsafe { handle(d) } {
        d.device.close_fd(closed != 0);
    }
}

/// Whether its state says that it runs although it stands still.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_stands_still(d: *const Simdev) -> c_int {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(0, |d| c_int::from(d.device.stands_still()))
}

/// Fills the table and what its functions are called with.
///
/// # Safety
/// `d` is a handle that lives, `ops` and `opaque` are room for what they point at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_get_ops(d: *const Simdev, ops: *mut Ops, opaque: *mut *mut c_void) -> c_int {
    // SAFETY: the function's contract.
    let Some(d) = (unsafe { handle(d) }) else { return -libc::EINVAL };
    if ops.is_null() || opaque.is_null() {
        return -libc::EINVAL;
    }
    let (table, pointer) = d.device.ops();
    // SAFETY: the function's contract; neither is NULL.
    unsafe { ops.write(table) };
    // SAFETY: as above.
    unsafe { opaque.write(pointer) };
    0
}

/// The abstract state, in the numbers of the library and of v2.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_state(d: *const Simdev) -> u32 {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(0, |d| d.device.state().number())
}

/// A sum over the internal state.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_checksum(d: *const Simdev) -> u64 {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(0, |d| d.device.checksum())
}

/// Changes `len` bytes of the state at `offset`.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_redirty(d: *const Simdev, offset: u64, len: u64, value: u64) -> c_int {
    // SAFETY: the function's contract.
    let Some(d) = (unsafe { handle(d) }) else { return -libc::EINVAL };
    let cut = |v: u64| usize::try_from(v).unwrap_or(usize::MAX);
    status(d.device.touch(cut(offset), cut(len), value))
}

/// Writes a page of guest RAM.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_dma_write(d: *const Simdev, page: u64) -> c_int {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(-libc::EINVAL, |d| status(d.device.dma_write(page)))
}

/// The pages written since the last call: how many; the lowest `max` of them in `pages`. They are in the log no more.
///
/// # Safety
/// `d` is NULL or a handle that lives; `pages` is room for `max` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_take_dma_log(d: *const Simdev, pages: *mut u64, max: usize) -> usize {
    // SAFETY: the function's contract.
    let Some(d) = (unsafe { handle(d) }) else { return 0 };
    let log = d.device.take_dma_log();
    if !pages.is_null() {
        for (i, &page) in log.iter().take(max).enumerate() {
            // SAFETY: `i` is below `max`.
            unsafe { pages.add(i).write(page) };
        }
    }
    log.len()
}

/// How often a client went wrong.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_violations(d: *const Simdev) -> u64 {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(0, |d| d.device.violation_count())
}

/// The text of a violation, or NULL. It lives until `simdev_free`.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_violation_text(d: *const Simdev, index: u64) -> *const c_char {
    // SAFETY: the function's contract.
    let Some(d) = (unsafe { handle(d) }) else { return std::ptr::null() };
    let list = d.device.violations();
    let Some(violation) = usize::try_from(index).ok().and_then(|i| list.get(i)) else { return std::ptr::null() };
    let text = CString::new(violation.to_string()).unwrap_or_default();
    let pointer = text.as_ptr();
    d.texts.lock().push(text);
    pointer
}

/// Whether SAVING may be left with data unread.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_allow_abort(d: *const Simdev, allowed: c_int) {
    // SAFETY: the function's contract.
    if let Some(d) = unsafe { handle(d) } {
        d.device.allow_abort(allowed != 0);
    }
}
