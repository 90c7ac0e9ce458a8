//! Error objects.

pub use super::error_object::{vfiomig_device_result, vfiomig_error};
use super::guard::guard_value;
use crate::error::ErrorKind;
use std::ffi::{c_char, c_int};

/// A parameter is wrong; nothing was done.
pub const VFIOMIG_ERR_ARGUMENT: u32 = 1;
/// A chunk or buffer is still lent; or another call is in progress on a device that does not wait
/// (-EBUSY); or the call comes from a callback and would wait for itself (-EDEADLK).
pub const VFIOMIG_ERR_BUSY: u32 = 2;
/// The call is not allowed in this state or phase; nothing was done.
pub const VFIOMIG_ERR_ORDER: u32 = 3;
/// The device, its driver or this library cannot do it.
pub const VFIOMIG_ERR_UNSUPPORTED: u32 = 4;
/// The device or its driver refused a request, or failed in it. The errno is the kernel's.
pub const VFIOMIG_ERR_DEVICE: u32 = 5;
/// The device broke the protocol.
pub const VFIOMIG_ERR_PROTOCOL: u32 = 6;
/// A descriptor or function of the caller failed, or there is no memory; no device is to blame. The
/// errno is that of the failure.
pub const VFIOMIG_ERR_SYSTEM: u32 = 7;
/// A stream is shorter or longer than the source side counted.
pub const VFIOMIG_ERR_INCOMPLETE: u32 = 8;
/// The session has ended or is broken, the stream is void, or the device was changed outside of this
/// library.
pub const VFIOMIG_ERR_STALE: u32 = 9;
/// vfiomig_migration_cancel() was called, or an abort ended the call.
pub const VFIOMIG_ERR_CANCELED: u32 = 10;
/// A bug in the library was caught. The handle accepts only its _free function.
pub const VFIOMIG_ERR_PANIC: u32 = 11;

/// The device stays in the state that `found` names.
pub const VFIOMIG_ACTION_NONE: u32 = 0;
/// The device was brought to the state that the caller named for this case.
pub const VFIOMIG_ACTION_RECOVERED: u32 = 1;
/// The device was reset: its former state is gone.
pub const VFIOMIG_ACTION_RESET: u32 = 2;
/// The state of the device cannot be read. Only vfiomig_device_reset(), vfiomig_device_reprobe() and
/// vfiomig_device_free() are left.
pub const VFIOMIG_ACTION_DEAD: u32 = 3;

const _: () = assert!(ErrorKind::Argument as u32 == VFIOMIG_ERR_ARGUMENT && ErrorKind::Busy as u32 == VFIOMIG_ERR_BUSY);
const _: () =
    assert!(ErrorKind::Order as u32 == VFIOMIG_ERR_ORDER && ErrorKind::Unsupported as u32 == VFIOMIG_ERR_UNSUPPORTED);
const _: () =
    assert!(ErrorKind::Device as u32 == VFIOMIG_ERR_DEVICE && ErrorKind::Protocol as u32 == VFIOMIG_ERR_PROTOCOL);
const _: () = assert!(ErrorKind::System as u32 == VFIOMIG_ERR_SYSTEM && ErrorKind::Stale as u32 == VFIOMIG_ERR_STALE);
const _: () =
    assert!(ErrorKind::Incomplete as u32 == VFIOMIG_ERR_INCOMPLETE && ErrorKind::Panic as u32 == VFIOMIG_ERR_PANIC);
const _: () = assert!(ErrorKind::Canceled as u32 == VFIOMIG_ERR_CANCELED);

/// # Safety
/// `e` is NULL or a live error object.
unsafe fn read<T>(
    name: &'static str,
    e: *const vfiomig_error,
    none: T,
    body: impl FnOnce(&'static vfiomig_error) -> T,
) -> T {
    // SAFETY: NULL or live by the contract of this function; what `body` returns is documented to live until _free.
    match unsafe { e.as_ref() } {
        Some(error) => guard_value(name, none, || body(error)),
        None => none,
    }
}

/// What kind of error it is. Callers decide by this.
///
/// Returns: VFIOMIG_ERR_*; 0 for NULL.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_code(e: *const vfiomig_error) -> u32 {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_code", e, 0, |error| error.kind as u32) }
}

/// The errno of the failed call, positive as in <errno.h> and as in
/// vfiomig_device_result.saved_errno; the call itself returned its negative.
///
/// Returns: 1 to 4095 (values above 133 come from drivers); 0 for NULL. It is not 0 or -errno.
/// Errors: none.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_errno(e: *const vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_errno", e, 0, |error| error.errno) }
}

/// One line for people: device, states, errno. Its words may change at any time.
///
/// Returns: a text that lives until vfiomig_error_free(); "no error" for NULL.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_message(e: *const vfiomig_error) -> *const c_char {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_message", e, c"no error".as_ptr(), |error| error.message.as_ptr()) }
}

/// How many results the error has. An error of a step has one for each device of the group, in the
/// order in which they were added; an error of a call on one device has one or none.
///
/// Returns: a count; 0 for NULL and for an error that no device caused.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_result_count(e: *const vfiomig_error) -> usize {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_result_count", e, 0, |error| error.results.len()) }
}

/// The result of one device. `index` counts from 0.
///
/// Returns: a struct that lives until vfiomig_error_free(); NULL if there is no such result.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_result(e: *const vfiomig_error, index: usize) -> *const vfiomig_device_result {
    let result = |error: &'static vfiomig_error| error.results.get(index).map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_result", e, std::ptr::null(), result) }
}

/// Frees an error with its texts and results. NULL is legal.
///
/// Threads: any, once. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_free(e: *mut vfiomig_error) {
    if !e.is_null() {
        guard_value("vfiomig_error_free", (), || {
            // SAFETY: made by Box::into_raw in `set_error`, and freed only here, once, by the contract of this function.
            drop(unsafe { Box::from_raw(e) });
        });
    }
}
