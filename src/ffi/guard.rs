//! A panic never crosses the boundary: it becomes -ENOTRECOVERABLE, and the handle accepts only `_free`. A thread that is
//! canceled (pthread_cancel) in a call ends at its next cancellation point after it: to unwind out of the middle would end the
//! process.

use super::error_object::{set_error, vfiomig_error};
use crate::error::{Error, ErrorKind, Result};
use std::any::Any;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a result looks in C.
pub(super) trait ReturnToC {
    type C: From<c_int>;
    fn success(self) -> Self::C;
}

impl ReturnToC for () {
    type C = c_int;
    fn success(self) -> c_int {
        0
    }
}

/// 1 is yes.
impl ReturnToC for bool {
    type C = c_int;
    fn success(self) -> c_int {
        c_int::from(self)
    }
}

impl ReturnToC for usize {
    type C = i64;
    fn success(self) -> i64 {
        i64::try_from(self).unwrap_or(i64::MAX)
    }
}

fn negative(errno: c_int) -> c_int {
    errno.checked_neg().filter(|&e| e < 0).unwrap_or(-libc::EIO)
}

/// Runs `body`; on failure sets `*errp`. `panicked` is called after a panic, before the error is set.
///
/// # Safety
/// `errp` is NULL or points to memory for one pointer.
pub(super) unsafe fn guard<T: ReturnToC>(
    name: &'static str,
    errp: *mut *mut vfiomig_error,
    panicked: impl Fn(),
    body: impl FnOnce() -> Result<T>,
) -> T::C {
    let mut value = None;
    let run = || {
        value = Some(body()?);
        Ok(())
    };
    // SAFETY: the contract of this function.
    let status = unsafe { guard_status(name, errp, &panicked, run) };
    value.map_or_else(|| status.into(), ReturnToC::success)
}

/// As [`guard`], for a function that only returns 0 or -errno.
///
/// # Safety
/// As for [`guard`].
#[inline(always)]
pub(super) unsafe fn guard_status(
    name: &'static str,
    errp: *mut *mut vfiomig_error,
    panicked: &dyn Fn(),
    body: impl FnOnce() -> Result<()>,
) -> c_int {
    match caught(name, body) {
        Ok(Ok(())) => 0,
        // SAFETY: the contract of this function.
        outcome => unsafe { failed(name, errp, panicked, outcome) },
    }
}

/// What follows when it did not go well: compiled once, not for each function of the C API.
///
/// # Safety
/// As for [`guard`].
#[cold]
#[inline(never)]
unsafe fn failed(
    name: &'static str,
    errp: *mut *mut vfiomig_error,
    panicked: &dyn Fn(),
    outcome: std::thread::Result<Result<()>>,
) -> c_int {
    let error = match outcome {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(payload) => {
            panicked();
            let text = format!("{name}: a bug in the library was caught: {}", panic_text(&*payload));
            drop_payload(payload);
            Error::new(ErrorKind::Panic, libc::ENOTRECOVERABLE, text)
        }
    };
    let errno = error.errno();
    // SAFETY: the contract of this function.
    unsafe { set_error(errp, error) };
    negative(errno)
}

/// Runs `body` of a function that has no way to fail in C; after a panic it returns `fallback`.
pub(super) fn guard_value<T>(name: &'static str, fallback: T, body: impl FnOnce() -> T) -> T {
    let _not_canceled = NotCanceled::new();
    guard_fact(name, fallback, body)
}

/// As [`guard_value`], for a `body` that only reads memory: it has no cancellation point, and to keep cancels away costs two
/// locked operations, which is more than the rest.
pub(super) fn guard_fact<T>(name: &'static str, fallback: T, body: impl FnOnce() -> T) -> T {
    attempt(name, body).unwrap_or_else(|payload| {
        drop_payload(payload);
        fallback
    })
}

fn caught<T>(name: &'static str, body: impl FnOnce() -> T) -> std::thread::Result<T> {
    let _not_canceled = NotCanceled::new();
    attempt(name, body)
}

fn attempt<T>(name: &'static str, body: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(|| {
        inject_panic(name);
        body()
    }))
}

unsafe extern "C" {
    /// The crate `libc` lacks it for Linux.
    safe fn pthread_setcancelstate(state: c_int, old: Option<&mut c_int>) -> c_int;
}

/// The same number in every C library of Linux.
const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// This thread cannot be canceled while it lives; a cancel that came meanwhile is kept.
pub(super) struct NotCanceled(c_int);

impl NotCanceled {
    pub fn new() -> Self {
        let mut old = 0;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, Some(&mut old));
        NotCanceled(old)
    }
}

impl Drop for NotCanceled {
    fn drop(&mut self) {
        pthread_setcancelstate(self.0, None);
    }
}

/// A payload's own drop may panic; then what it holds is leaked.
#[cold]
#[inline(never)]
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

#[cfg(feature = "inject-panic")]
#[allow(clippy::panic, reason = "test builds only")]
fn inject_panic(name: &str) {
    if std::env::var("VFIOMIG_TEST_PANIC").is_ok_and(|wanted| wanted == name) {
        panic!("injected by a test");
    }
}

#[cfg(not(feature = "inject-panic"))]
fn inject_panic(_name: &str) {}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_string())
}
