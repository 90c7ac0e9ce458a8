//! Lifetime of handles: counted, so that a call in progress outlives `_free`; marked, so that misuse is noticed.

use super::error_object::vfiomig_error;
use super::guard::{ReturnToC, guard_status, guard_value};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::log::log;
use crate::migration::Migration;
use crate::tracker::Tracker;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const FREED: u32 = 0x6465_6164;

/// What a handle of C stands for.
pub(super) trait Object: Sized {
    /// Of a live handle; no two kinds of handle share one.
    const MARK: u32;
    /// For messages.
    const WHAT: &'static str;
    /// For messages.
    const FREE: &'static str;
    /// The end of its use.
    fn close(&self) -> Result<()>;
}

/// What every pointer of C points to.
pub(super) struct Handle<T> {
    marker: AtomicU32,
    poisoned: AtomicBool,
    object: Arc<T>,
}

/// A type that C knows by name only.
pub(super) trait Opaque {
    type Object: Object;
    fn wrap(handle: Handle<Self::Object>) -> Self;
    fn handle(&self) -> &Handle<Self::Object>;
}

macro_rules! opaque {
    ($name:ident, $object:ident, $mark:expr, $what:expr, $free:expr) => {
        impl Object for $object {
            const MARK: u32 = $mark;
            const WHAT: &'static str = $what;
            const FREE: &'static str = $free;
            fn close(&self) -> Result<()> {
                $object::close(self)
            }
        }
        impl Opaque for $name {
            type Object = $object;
            fn wrap(handle: Handle<$object>) -> Self {
                $name { handle }
            }
            fn handle(&self) -> &Handle<$object> {
                &self.handle
            }
        }
    };
}

/// One migratable VFIO device. Made by `vfiomig_device_new_*`, freed by vfiomig_device_free().
pub struct vfiomig_device {
    handle: Handle<Device>,
}
opaque!(vfiomig_device, Device, 0x7666_6d64, "device", "vfiomig_device_free");

/// The dirty log of one address space. Made by `vfiomig_tracker_new*`, freed by
/// vfiomig_tracker_free().
pub struct vfiomig_tracker {
    handle: Handle<Tracker>,
}
opaque!(vfiomig_tracker, Tracker, 0x7666_6d74, "tracker", "vfiomig_tracker_free");

/// The devices and trackers of one VM. Not a VFIO (IOMMU) group. Made by vfiomig_group_new(), freed
/// by vfiomig_group_free().
pub struct vfiomig_group {
    handle: Handle<Group>,
}
opaque!(vfiomig_group, Group, 0x7666_6d67, "group", "vfiomig_group_free");

/// One save or one load of a group. Made by vfiomig_migration_new(), freed by
/// vfiomig_migration_free().
pub struct vfiomig_migration {
    handle: Handle<Migration>,
}
opaque!(vfiomig_migration, Migration, 0x7666_6d6d, "migration", "vfiomig_migration_free");

pub(super) fn new<H: Opaque>(object: H::Object) -> *mut H {
    let handle =
        Handle { marker: AtomicU32::new(H::Object::MARK), poisoned: AtomicBool::new(false), object: Arc::new(object) };
    Arc::into_raw(Arc::new(H::wrap(handle))).cast_mut()
}

/// The handle, kept alive for the length of a call.
///
/// # Safety
/// `h` is NULL or came from [`new`] and was not freed.
unsafe fn borrow<H: Opaque>(h: *const H) -> Result<Arc<H>> {
    if h.is_null() {
        return Err(no_handle(H::Object::WHAT, true));
    }
    // SAFETY: not NULL, so by the contract it points to a live handle.
    let marker = unsafe { &*h }.handle().marker.load(Ordering::Acquire);
    // The marker only makes it likely that a breach of the contract is noticed.
    if marker != H::Object::MARK {
        return Err(no_handle(H::Object::WHAT, false));
    }
    // SAFETY: made by Arc::into_raw and not freed, so its count is at least one.
    unsafe { Arc::increment_strong_count(h) };
    // SAFETY: takes over the count of the line above.
    Ok(unsafe { Arc::from_raw(h) })
}

#[cold]
#[inline(never)]
fn for_function(name: &str, error: &Error) -> Error {
    Error::argument(format!("{name}: {error}"))
}

#[cold]
#[inline(never)]
fn no_handle(what: &str, null: bool) -> Error {
    Error::argument(if null { format!("the {what} handle is NULL") } else { format!("not a live {what} handle") })
}

fn check_not_poisoned<T: Object>(name: &str, handle: &Handle<T>) -> Result<()> {
    if handle.poisoned.load(Ordering::Acquire) { Err(poisoned(name, T::FREE)) } else { Ok(()) }
}

#[cold]
#[inline(never)]
fn poisoned(name: &str, free: &str) -> Error {
    let text = format!("{name}: an earlier call hit a bug in the library; the handle accepts only {free}");
    Error::new(ErrorKind::Panic, libc::ENOTRECOVERABLE, text)
}

/// What a handle that is a parameter among others stands for.
///
/// # Safety
/// `h` as for [`borrow`].
pub(super) unsafe fn object_of<H: Opaque>(name: &str, h: *const H) -> Result<Arc<H::Object>> {
    // SAFETY: the contract of this function.
    let handle = unsafe { borrow(h) }?;
    check_not_poisoned(name, handle.handle())?;
    Ok(Arc::clone(&handle.handle().object))
}

/// After a bug the handle accepts only `_free`; one that is none is left alone.
///
/// # Safety
/// `h` as for [`borrow`].
pub(super) unsafe fn poison<H: Opaque>(h: *const H) {
    // SAFETY: the contract of this function.
    if let Ok(handle) = unsafe { borrow(h) } {
        handle.handle().poisoned.store(true, Ordering::Release);
    }
}

/// Runs `body` on what the handle stands for, within the guard.
///
/// # Safety
/// `h` as for [`borrow`], `errp` as for [`guard`](super::guard::guard).
pub(super) unsafe fn on<H: Opaque, T: ReturnToC>(
    name: &'static str,
    h: *const H,
    errp: *mut *mut vfiomig_error,
    body: impl FnOnce(&H::Object) -> Result<T>,
) -> T::C {
    let (mut value, mut body) = (None, Some(body));
    let mut run = |object: &H::Object| {
        value = body.take().map(|body| body(object)).transpose()?;
        Ok(())
    };
    // SAFETY: the contract of this function.
    let status = unsafe { on_object(name, h, errp, &mut run) };
    value.map_or_else(|| status.into(), ReturnToC::success)
}

/// [`on`] but for the type of the result: compiled once for each kind of handle, not for each function. 0 or -errno.
///
/// # Safety
/// As for [`on`].
#[inline(never)]
unsafe fn on_object<H: Opaque>(
    name: &'static str,
    h: *const H,
    errp: *mut *mut vfiomig_error,
    body: &mut dyn FnMut(&H::Object) -> Result<()>,
) -> c_int {
    // SAFETY: the contract of this function.
    let handle = unsafe { borrow(h) };
    let poison = || {
        if let Ok(handle) = &handle {
            handle.handle().poisoned.store(true, Ordering::Release);
        }
    };
    let run = || {
        let handle = handle.as_ref().map_err(|error| for_function(name, error))?;
        check_not_poisoned(name, handle.handle())?;
        body(&handle.handle().object)
    };
    // SAFETY: the contract of this function.
    unsafe { guard_status(name, errp, &poison, run) }
}

/// Reads a value that never fails; `fallback` for a handle that is none.
///
/// # Safety
/// `h` as for [`borrow`].
pub(super) unsafe fn value_of<H: Opaque, T: Copy>(
    name: &'static str,
    h: *const H,
    fallback: T,
    body: impl FnOnce(&H::Object) -> T,
) -> T {
    // SAFETY: the contract of this function.
    let Ok(handle) = (unsafe { borrow(h) }) else { return fallback };
    let handle = handle.handle();
    if handle.poisoned.load(Ordering::Acquire) {
        return fallback;
    }
    guard_value(name, None, || Some(body(&handle.object))).unwrap_or_else(|| {
        handle.poisoned.store(true, Ordering::Release);
        fallback
    })
}

/// # Safety
/// `h` as for [`borrow`]; no call may begin on it afterwards.
pub(super) unsafe fn free<H: Opaque>(name: &'static str, h: *mut H) {
    // SAFETY: the contract of this function.
    let Ok(handle) = (unsafe { borrow(h) }) else {
        if !h.is_null() {
            log!(Error, "{name}: not a live {} handle: nothing is freed", H::Object::WHAT);
        }
        return;
    };
    let closed = guard_value(name, false, || match handle.handle().object.close() {
        Ok(()) => true,
        Err(error) => {
            log!(Error, "{name}: nothing is freed: {error}");
            false
        }
    });
    if closed {
        handle.handle().marker.store(FREED, Ordering::Release);
        // SAFETY: gives back the count that `new` handed to C.
        unsafe { Arc::decrement_strong_count(h.cast_const()) };
    }
}
