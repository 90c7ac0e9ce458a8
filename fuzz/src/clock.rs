//! Waiting costs nothing here: sleeps of less than a second go into a clock of their own, and one call may neither wait nor ask
//! for longer than is decent.
//!
//! The C library's functions for time are replaced in the whole program, so that the library needs no seam for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds.
static SLEPT: AtomicU64 = AtomicU64::new(0);
static ASKED: AtomicU64 = AtomicU64::new(0);
static ASKED_BEFORE: AtomicU64 = AtomicU64::new(0);
static MOST_ASKED: AtomicU64 = AtomicU64::new(u64::MAX);

/// The monotonic clock runs ahead by what was slept.
///
/// # Safety
/// As clock_gettime(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(id: libc::clockid_t, ts: *mut libc::timespec) -> i32 {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, id, ts) as i32 };
    if id == libc::CLOCK_MONOTONIC && result == 0 {
        // SAFETY: the kernel has just written it.
        let ts = unsafe { &mut *ts };
        let all = ts.tv_nsec as u64 + SLEPT.load(Relaxed);
        ts.tv_sec += (all / 1_000_000_000) as i64;
        ts.tv_nsec = (all % 1_000_000_000) as i64;
    }
    result
}

/// # Safety
/// As clock_nanosleep(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    _id: libc::clockid_t,
    _flags: i32,
    request: *const libc::timespec,
    _rest: *mut libc::timespec,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { sleep(request) }
}

/// # Safety
/// As nanosleep(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(request: *const libc::timespec, _rest: *mut libc::timespec) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { sleep(request) }
}

/// # Safety
/// `request` is live.
unsafe fn sleep(request: *const libc::timespec) -> i32 {
    // SAFETY: the caller's promise.
    let asked = unsafe { &*request };
    if asked.tv_sec == 0 {
        SLEPT.fetch_add(asked.tv_nsec as u64, Relaxed);
        return 0;
    }
    // libFuzzer's own thread.
    // SAFETY: `request` is live.
    unsafe { libc::syscall(libc::SYS_nanosleep, request, std::ptr::null_mut::<libc::timespec>()) as i32 }
}

/// A device was asked something.
pub fn asked() {
    let all = ASKED.fetch_add(1, Relaxed) + 1;
    let here = all - ASKED_BEFORE.load(Relaxed);
    if here > MOST_ASKED.load(Relaxed) {
        panic!("HANG: one call has asked the device {here} times");
    }
}

/// Runs one call of the library. `seconds`: the longest that it may wait; `most_asked`: how often it may ask devices.
pub fn call<T>(what: &str, seconds: u64, most_asked: u64, call: impl FnOnce() -> T) -> T {
    ASKED_BEFORE.store(ASKED.load(Relaxed), Relaxed);
    MOST_ASKED.store(most_asked, Relaxed);
    let before = SLEPT.load(Relaxed);
    let result = call();
    let slept = SLEPT.load(Relaxed) - before;
    if slept > seconds * 1_000_000_000 {
        panic!("HANG: {what} has slept {} s", slept as f64 / 1e9);
    }
    MOST_ASKED.store(u64::MAX, Relaxed);
    result
}

/// KIT_TRACE in the environment: every request and call is written down.
pub fn tracing() -> bool {
    static ON: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("KIT_TRACE").is_some())
}

#[macro_export]
macro_rules! trace {
    ($($text:tt)*) => { if $crate::clock::tracing() { eprintln!($($text)*); } };
}
