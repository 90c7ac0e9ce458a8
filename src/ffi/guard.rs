//! A panic never crosses the boundary: it becomes -ENOTRECOVERABLE, and the handle accepts only `_free`.

use super::error::{set_error, vfiomig_error};
use crate::error::{Error, Kind, Result};
use std::any::Any;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a result looks in C.
pub(super) trait Returned {
    type C;
    fn success(self) -> Self::C;
    fn failure(errno: c_int) -> Self::C;
}

impl Returned for () {
    type C = c_int;
    fn success(self) -> c_int {
        0
    }
    fn failure(errno: c_int) -> c_int {
        negative(errno)
    }
}

impl Returned for usize {
    type C = i64;
    fn success(self) -> i64 {
        i64::try_from(self).unwrap_or(i64::MAX)
    }
    fn failure(errno: c_int) -> i64 {
        i64::from(negative(errno))
    }
}

fn negative(errno: c_int) -> c_int {
    errno.checked_neg().filter(|&e| e < 0).unwrap_or(-libc::EIO)
}

/// Runs `body`; on failure sets `*errp`. `panicked` is called after a panic, before the error is set.
///
/// # Safety
/// `errp` is NULL or points to room for one pointer.
pub(super) unsafe fn guard<T: Returned>(
    name: &'static str,
    errp: *mut *mut vfiomig_error,
    panicked: impl FnOnce(),
    body: impl FnOnce() -> Result<T>,
) -> T::C {
    let error = match caught(name, body) {
        Ok(Ok(value)) => return value.success(),
        Ok(Err(error)) => error,
        Err(payload) => {
            panicked();
            let text = format!("{name}: a bug in the library was caught: {}", panic_text(&*payload));
            drop_payload(payload);
            Error::new(Kind::Panic, libc::ENOTRECOVERABLE, text)
        }
    };
    let errno = error.errno();
    // SAFETY: the contract of this function.
    unsafe { set_error(errp, error) };
    T::failure(errno)
}

/// Runs `body` of a function that has no way to fail in C; after a panic it returns `fallback`.
pub(super) fn guard_value<T>(name: &'static str, fallback: T, body: impl FnOnce() -> T) -> T {
    caught(name, body).unwrap_or_else(|payload| {
        drop_payload(payload);
        fallback
    })
}

fn caught<T>(name: &'static str, body: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(|| {
        inject_panic(name);
        body()
    }))
}

/// A payload's own drop may panic; then what it holds is leaked.
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
