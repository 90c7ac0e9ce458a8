//! Lifetime of a device handle: counted, so that a call in progress outlives `_free`; marked, so that misuse is told.

use super::error::vfiomig_error;
use super::guard::{Returned, guard, guard_value};
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::log::log;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const LIVE: u32 = 0x7666_6d64;
const FREED: u32 = 0x6465_6164;

/// One migratable VFIO device. Made by `vfiomig_device_new_*`, freed by vfiomig_device_free().
pub struct vfiomig_device {
    marker: AtomicU32,
    poisoned: AtomicBool,
    device: Device,
}

pub(super) fn new(device: Device) -> *mut vfiomig_device {
    let handle = vfiomig_device { marker: AtomicU32::new(LIVE), poisoned: AtomicBool::new(false), device };
    Arc::into_raw(Arc::new(handle)).cast_mut()
}

/// The handle, kept alive for the length of a call.
///
/// # Safety
/// `d` is NULL or came from [`new`] and was not freed.
unsafe fn borrow(d: *const vfiomig_device) -> Result<Arc<vfiomig_device>> {
    if d.is_null() {
        return Err(Error::argument("the device handle is NULL"));
    }
    // SAFETY: not NULL, so by the contract it points to a live handle. The marker only makes a breach of the contract likely
    // to be told.
    let marker = unsafe { (*d).marker.load(Ordering::Acquire) };
    if marker != LIVE {
        return Err(Error::argument("not a live device handle"));
    }
    // SAFETY: made by Arc::into_raw and not freed, so its count is at least one.
    unsafe { Arc::increment_strong_count(d) };
    // SAFETY: takes over the count of the line above.
    Ok(unsafe { Arc::from_raw(d) })
}

/// Runs `body` on a device, behind the guard.
///
/// # Safety
/// `d` as for [`borrow`], `errp` as for [`guard`].
pub(super) unsafe fn on_device<T: Returned>(
    name: &'static str,
    d: *const vfiomig_device,
    errp: *mut *mut vfiomig_error,
    body: impl FnOnce(&Device) -> Result<T>,
) -> T::C {
    // SAFETY: the contract of this function.
    let handle = unsafe { borrow(d) };
    let poison = || {
        if let Ok(handle) = &handle {
            handle.poisoned.store(true, Ordering::Release);
        }
    };
    let run = || {
        let handle = handle.as_ref().map_err(|error| Error::argument(format!("{name}: {error}")))?;
        if handle.poisoned.load(Ordering::Acquire) {
            let text = format!(
                "{name}: an earlier call hit a bug in the library; the handle accepts only vfiomig_device_free"
            );
            return Err(Error::new(Kind::Panic, libc::ENOTRECOVERABLE, text));
        }
        body(&handle.device)
    };
    // SAFETY: the contract of this function.
    unsafe { guard(name, errp, poison, run) }
}

/// Reads a value that never fails; `fallback` for a handle that is no device.
///
/// # Safety
/// `d` as for [`borrow`].
pub(super) unsafe fn value_of<T: Copy>(
    name: &'static str,
    d: *const vfiomig_device,
    fallback: T,
    body: impl FnOnce(&Device) -> T,
) -> T {
    // SAFETY: the contract of this function.
    let Ok(handle) = (unsafe { borrow(d) }) else { return fallback };
    if handle.poisoned.load(Ordering::Acquire) {
        return fallback;
    }
    guard_value(name, None, || Some(body(&handle.device))).unwrap_or_else(|| {
        handle.poisoned.store(true, Ordering::Release);
        fallback
    })
}

/// # Safety
/// `d` as for [`borrow`]; no call may begin on it afterwards.
pub(super) unsafe fn free(name: &'static str, d: *mut vfiomig_device) {
    // SAFETY: the contract of this function.
    let Ok(handle) = (unsafe { borrow(d) }) else {
        if !d.is_null() {
            log!(Error, "{name}: not a live device handle: nothing is freed");
        }
        return;
    };
    let closed = guard_value(name, false, || match handle.device.close() {
        Ok(()) => true,
        Err(error) => {
            log!(Error, "{name}: nothing is freed: {error}");
            false
        }
    });
    if closed {
        handle.marker.store(FREED, Ordering::Release);
        // SAFETY: gives back the count that `new` handed to C.
        unsafe { Arc::decrement_strong_count(d.cast_const()) };
    }
}
