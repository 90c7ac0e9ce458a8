//! Lifetime of handles: counted, so that a call in progress outlives `_free`; marked, so that misuse is noticed.
//!
//! Their memory is never given back, only used for another handle of the same kind. So a getter of one number need not count,
//! which costs two locked operations: it reads, and then looks whether the handle is still the same.

use super::error_object::vfiomig_error;
use super::guard::{NotCanceled, ReturnToC, guard_fact, guard_status, guard_value};
use super::wire_object::{WireReader, WireWriter};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::log::log;
use crate::migration::Migration;
use crate::tracker::Tracker;
use crate::transport::vfio_user::VfioUserConnection;
use parking_lot::Mutex;
use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const FREED: u32 = 0x6465_6164;

/// What a handle of C stands for.
pub(super) trait Object: Sized {
    /// What marks a live handle of this kind; no two kinds share one.
    const MARK: u32;
    /// The word for this kind of handle, for messages.
    const WHAT: &'static str;
    /// The function that frees it, for messages.
    const FREE: &'static str;
    /// Ends its use, when it is freed.
    fn close(&self) -> Result<()>;
    /// The number that getters read without counting themselves; `None`: the kind has none.
    fn fact(&self) -> Option<&'static AtomicU32>;
}

/// What every pointer of C points to. It is never given back.
pub(super) struct Handle<T> {
    marker: AtomicU32,
    poisoned: AtomicBool,
    /// How many handles were freed that had this memory.
    freed: AtomicU64,
    /// One for C, and one for each call in progress.
    uses: AtomicUsize,
    fact: AtomicPtr<AtomicU32>,
    /// Changes only while there are no uses.
    object: UnsafeCell<Option<Arc<T>>>,
}

// SAFETY: all but `object` is atomic, and that changes only where no other thread looks at it: `uses` says so.
unsafe impl<T: Send + Sync> Sync for Handle<T> {}

impl<T> Handle<T> {
    fn empty() -> Self {
        Handle {
            marker: AtomicU32::new(FREED),
            poisoned: AtomicBool::new(false),
            freed: AtomicU64::new(0),
            uses: AtomicUsize::new(0),
            fact: AtomicPtr::default(),
            object: UnsafeCell::new(None),
        }
    }
}

/// A type that C knows by name only.
pub(super) trait Opaque: Sized + 'static {
    type Object: Object;
    fn wrap(handle: Handle<Self::Object>) -> Self;
    fn handle(&self) -> &Handle<Self::Object>;
    /// Where no handle lives.
    fn spare() -> &'static Mutex<Vec<&'static Self>>;
}

macro_rules! opaque {
    ($name:ident, $object:ident, $mark:expr, $what:expr, $free:expr $(, $fact:expr)?) => {
        impl Object for $object {
            const MARK: u32 = $mark;
            const WHAT: &'static str = $what;
            const FREE: &'static str = $free;
            fn close(&self) -> Result<()> {
                $object::close(self)
            }
            fn fact(&self) -> Option<&'static AtomicU32> {
                let facts: &[fn(&$object) -> &'static AtomicU32] = &[$($fact)?];
                facts.first().map(|fact| fact(self))
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
            fn spare() -> &'static Mutex<Vec<&'static Self>> {
                static SPARE: Mutex<Vec<&$name>> = Mutex::new(Vec::new());
                &SPARE
            }
        }
    };
}

/// One migratable VFIO device. Made by `vfiomig_device_new_*`, freed by vfiomig_device_free().
pub struct vfiomig_device {
    handle: Handle<Device>,
}
opaque!(vfiomig_device, Device, 0x7666_6d64, "device", "vfiomig_device_free", Device::state_fact);

/// A connection of the library's own to a vfio-user server. Made by `vfiomig_vfio_user_connect*`,
/// freed by vfiomig_vfio_user_free().
pub struct vfiomig_vfio_user {
    handle: Handle<VfioUserConnection>,
}
opaque!(vfiomig_vfio_user, VfioUserConnection, 0x7666_6d75, "vfio-user", "vfiomig_vfio_user_free");

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
opaque!(vfiomig_migration, Migration, 0x7666_6d6d, "migration", "vfiomig_migration_free", Migration::phase_fact);

/// One channel of a wire that is written. Made by vfiomig_writer_new(), freed by
/// vfiomig_writer_free().
pub struct vfiomig_writer {
    handle: Handle<WireWriter>,
}
opaque!(vfiomig_writer, WireWriter, 0x7666_6d77, "writer", "vfiomig_writer_free");

/// One channel of a wire that is read. Made by vfiomig_reader_new(), freed by vfiomig_reader_free().
pub struct vfiomig_reader {
    handle: Handle<WireReader>,
}
opaque!(vfiomig_reader, WireReader, 0x7666_6d72, "reader", "vfiomig_reader_free");

pub(super) fn new<H: Opaque>(object: H::Object) -> *mut H {
    let fact = object.fact().map_or(std::ptr::null_mut(), |fact| std::ptr::from_ref(fact).cast_mut());
    let spare = H::spare().lock().pop();
    let home = spare.unwrap_or_else(|| Box::leak(Box::new(H::wrap(Handle::empty()))));
    let handle = home.handle();
    // SAFETY: no handle lives here, so no call is in progress on it.
    unsafe { *handle.object.get() = Some(Arc::new(object)) };
    handle.fact.store(fact, Ordering::Relaxed);
    handle.poisoned.store(false, Ordering::Relaxed);
    handle.uses.store(1, Ordering::Relaxed);
    handle.marker.store(H::Object::MARK, Ordering::Release);
    std::ptr::from_ref(home).cast_mut()
}

/// What a handle stands for, kept alive for the length of a call.
struct KeptAlive<H: Opaque> {
    home: &'static H,
    object: &'static Arc<H::Object>,
}

impl<H: Opaque> KeptAlive<H> {
    fn handle(&self) -> &Handle<H::Object> {
        self.home.handle()
    }
}

impl<H: Opaque> Drop for KeptAlive<H> {
    fn drop(&mut self) {
        release(self.home);
    }
}

fn release<H: Opaque>(home: &'static H) {
    if home.handle().uses.fetch_sub(1, Ordering::AcqRel) == 1 {
        vacate(home);
    }
}

/// The handle was freed, and the last call on it ends.
#[cold]
#[inline(never)]
fn vacate<H: Opaque>(home: &'static H) {
    // What closes descriptors is a cancellation point.
    let _not_canceled = NotCanceled::new();
    // SAFETY: there are no uses, and none begins where no handle lives.
    drop(unsafe { (*home.handle().object.get()).take() });
    H::spare().lock().push(home);
}

/// The handle, kept alive for the length of a call.
///
/// # Safety
/// `h` is NULL or came from [`new`] and was not freed.
unsafe fn borrow<H: Opaque>(h: *const H) -> Result<KeptAlive<H>> {
    if h.is_null() {
        return Err(no_handle(H::Object::WHAT, true));
    }
    // SAFETY: not NULL, so by the contract it came from `new`, whose memory is never given back.
    let home: &'static H = unsafe { &*h };
    let handle = home.handle();
    // The marker only makes it likely that a breach of the contract is noticed.
    if handle.marker.load(Ordering::Acquire) != H::Object::MARK {
        return Err(no_handle(H::Object::WHAT, false));
    }
    handle.uses.fetch_add(1, Ordering::Relaxed);
    // SAFETY: there are uses, C's and the one of the line above, so it does not change.
    match unsafe { &*handle.object.get() } {
        Some(object) => Ok(KeptAlive { home, object }),
        // A breach of the contract; the use that was counted is forgotten when the place is used again.
        None => Err(no_handle(H::Object::WHAT, false)),
    }
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
    Ok(Arc::clone(handle.object))
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

/// As [`on`], but it knows nothing of the type of the result: compiled once for each kind of handle, not for each function. 0
/// or -errno.
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
        body(handle.object)
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
    let Ok(kept) = (unsafe { borrow(h) }) else { return fallback };
    if kept.handle().poisoned.load(Ordering::Acquire) {
        return fallback;
    }
    guard_value(name, None, || Some(body(kept.object))).unwrap_or_else(|| {
        kept.handle().poisoned.store(true, Ordering::Release);
        fallback
    })
}

/// Reads the number that the kind of handle has for getters; `fallback` for a handle that is none, and for one that another
/// thread frees meanwhile.
///
/// # Safety
/// `h` is NULL or came from [`new`]; it may be freed by now.
pub(super) unsafe fn fact_of<H: Opaque>(name: &'static str, h: *const H, fallback: u32) -> u32 {
    if h.is_null() {
        return fallback;
    }
    // SAFETY: not NULL, so by the contract it came from `new`, whose memory is never given back.
    let handle = unsafe { &*h }.handle();
    let fact = guard_fact(name, None, || Some(read_fact(handle)));
    if fact.is_none() {
        handle.poisoned.store(true, Ordering::Release);
    }
    fact.flatten().unwrap_or(fallback)
}

fn read_fact<T: Object>(handle: &Handle<T>) -> Option<u32> {
    let freed = handle.freed.load(Ordering::Acquire);
    let is_live = || handle.marker.load(Ordering::Acquire) == T::MARK && !handle.poisoned.load(Ordering::Relaxed);
    let fact = if is_live() { handle.fact.load(Ordering::Relaxed) } else { std::ptr::null_mut() };
    if fact.is_null() {
        return None;
    }
    // SAFETY: a place of `Fact`, whose memory is never given back.
    let value = unsafe { &*fact }.load(Ordering::Acquire);
    // A value of another handle was stored after `freed` was raised. The load above acquires it, so this one sees that.
    (handle.freed.load(Ordering::Relaxed) == freed && is_live()).then_some(value)
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
    let closed = guard_value(name, false, || match handle.object.close() {
        Ok(()) => true,
        Err(error) => {
            log!(Error, "{name}: nothing is freed: {error}");
            false
        }
    });
    if closed {
        handle.handle().marker.store(FREED, Ordering::Release);
        handle.handle().freed.fetch_add(1, Ordering::AcqRel);
        // C's own use.
        release(handle.home);
    }
}
