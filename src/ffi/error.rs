//! Error objects.

pub use super::error_object::{vfiomig_device_result, vfiomig_error};
use super::guard::guard_value;
use crate::error::ErrorKind;
use std::ffi::{c_char, c_int};

/// A parameter is wrong; nothing was done.
pub const VFIOMIG_ERR_ARGUMENT: u32 = 1;
/// A chunk or room is out, or another call is in progress on a handle that does not wait (-EBUSY); the call came from a callback
/// and would wait for what cannot end before (-EDEADLK).
pub const VFIOMIG_ERR_BUSY: u32 = 2;
/// Not allowed in this state; nothing was done.
pub const VFIOMIG_ERR_ORDER: u32 = 3;
/// The device, its driver or this library cannot do it.
pub const VFIOMIG_ERR_UNSUPPORTED: u32 = 4;
/// The device or its driver refused or failed a request; the errno is the kernel's.
pub const VFIOMIG_ERR_DEVICE: u32 = 5;
/// The device broke the protocol.
pub const VFIOMIG_ERR_PROTOCOL: u32 = 6;
/// A descriptor of the caller, or memory, failed; the errno is the kernel's.
pub const VFIOMIG_ERR_SYSTEM: u32 = 7;
/// A stream is shorter or longer than its saver said.
pub const VFIOMIG_ERR_INCOMPLETE: u32 = 8;
/// The session to which the call belongs has ended, or others changed the device.
pub const VFIOMIG_ERR_STALE: u32 = 9;
/// A cancel was asked for.
pub const VFIOMIG_ERR_CANCELED: u32 = 10;
/// A bug in the library was caught; the handle accepts only _free.
pub const VFIOMIG_ERR_PANIC: u32 = 11;

/// The device stays in the state that `found` names.
pub const VFIOMIG_ACTION_NONE: u32 = 0;
/// The device was brought to the state that the caller named for this case.
pub const VFIOMIG_ACTION_RECOVERED: u32 = 1;
/// The device was reset: its former state is gone.
pub const VFIOMIG_ACTION_RESET: u32 = 2;
/// The state of the device cannot be read: only vfiomig_device_reset(), vfiomig_device_reprobe() or giving it up are left.
pub const VFIOMIG_ACTION_DEAD: u32 = 3;

const _: () = assert!(ErrorKind::Argument as u32 == VFIOMIG_ERR_ARGUMENT && ErrorKind::Busy as u32 == VFIOMIG_ERR_BUSY);
const _: () =
    assert!(ErrorKind::Order as u32 == VFIOMIG_ERR_ORDER && ErrorKind::Unsupported as u32 == VFIOMIG_ERR_UNSUPPORTED);
const _: () =
    assert!(ErrorKind::Device as u32 == VFIOMIG_ERR_DEVICE && ErrorKind::Protocol as u32 == VFIOMIG_ERR_PROTOCOL);
const _: () =
    assert!(ErrorKind::Transport as u32 == VFIOMIG_ERR_SYSTEM && ErrorKind::Stale as u32 == VFIOMIG_ERR_STALE);
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

/// What kind of error it is; callers decide by this.
///
/// Returns: VFIOMIG_ERR_*; 0 for NULL. Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_code(e: *const vfiomig_error) -> u32 {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_code", e, 0, |error| error.kind as u32) }
}

/// The errno of the failed call, positive as in <errno.h> and as in vfiomig_device_result.saved_errno; the call itself returned its
/// negative.
///
/// Returns: an errno; 0 for NULL. Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_errno(e: *const vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_errno", e, 0, |error| error.errno) }
}

/// One line for people: device, states, errno. Its words may change at any time.
///
/// Returns: a text that lives until vfiomig_error_free(); "no error" for NULL. Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_message(e: *const vfiomig_error) -> *const c_char {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_message", e, c"no error".as_ptr(), |error| error.message.as_ptr()) }
}

/// How many devices the error speaks of.
///
/// Returns: a count; 0 for NULL and for errors that no device caused. Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_result_count(e: *const vfiomig_error) -> usize {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_result_count", e, 0, |error| error.results.len()) }
}

/// The result of one device.
///
/// Returns: a struct that lives until vfiomig_error_free(); NULL past the end. Threads: any. Blocks: never. Since: 0.1
// Safety: `e` is NULL or a live error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_error_result(e: *const vfiomig_error, index: usize) -> *const vfiomig_device_result {
    let result = |error: &'static vfiomig_error| error.results.get(index).map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_error_result", e, std::ptr::null(), result) }
}

/// Frees an error and everything that was borrowed from it. NULL is legal.
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
