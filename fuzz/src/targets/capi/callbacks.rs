//! The functions that a VMM gives to the library. They may answer anything.

use crate::clock::asked;
use crate::feed::Feed;
use parking_lot::Mutex;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use vfiomig::transport::tracker_ops::LogRange;

/// A log of writes behind functions.
pub(super) struct Log {
    pub(super) feed: Arc<Mutex<Feed>>,
    pub(super) running: bool,
}

pub(super) unsafe extern "C" fn log_start(o: *mut c_void, ranges: *const LogRange, n: usize, page: *mut u64) -> c_int {
    asked();
    let log = unsafe { &mut *o.cast::<Log>() };
    let ranges = unsafe { std::slice::from_raw_parts(ranges, n) };
    assert!(n > 0 && ranges.iter().all(|r| r.size > 0) && !log.running);
    let mut f = log.feed.lock();
    if f.lies() {
        match f.u8() % 4 {
            0 => return f.refusal(),
            1 => return 1,
            2 => unsafe { *page = f.size() },
            _ => unsafe { *page = 4096 << (f.u8() % 10) },
        }
    }
    log.running = true;
    0
}
pub(super) unsafe extern "C" fn log_report(
    o: *mut c_void,
    _iova: u64,
    size: u64,
    page: u64,
    bitmap: *mut u64,
) -> c_int {
    asked();
    let log = unsafe { &mut *o.cast::<Log>() };
    assert!(log.running && size % page == 0);
    let words = (size / page).div_ceil(64).next_multiple_of(512) as usize;
    let bitmap = unsafe { std::slice::from_raw_parts_mut(bitmap, words) };
    assert!(bitmap.iter().all(|word| *word == 0));
    let mut f = log.feed.lock();
    for _ in 0..f.u8() % 8 {
        let at = f.u16() as usize % bitmap.len();
        bitmap[at] |= f.u64();
    }
    if f.lies() { [f.refusal(), i32::MIN, 3][f.u8() as usize % 3] } else { 0 }
}
pub(super) unsafe extern "C" fn log_stop(o: *mut c_void) -> c_int {
    asked();
    let log = unsafe { &mut *o.cast::<Log>() };
    log.running = false;
    let mut f = log.feed.lock();
    if f.lies() { f.refusal() } else { 0 }
}

/// What callbacks of drains, harvests and unmaps answer.
pub(super) struct Calls {
    pub(super) feed: Arc<Mutex<Feed>>,
}

pub(super) unsafe extern "C" fn put(
    o: *mut c_void,
    device: usize,
    data: *const c_void,
    len: usize,
    flags: u32,
) -> c_int {
    let calls = unsafe { &*o.cast::<Calls>() };
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
    std::hint::black_box(bytes.iter().fold(0u8, |a, b| a ^ b));
    assert!(device < 4 && len > 0 && flags & !4 == 0);
    let mut f = calls.feed.lock();
    if f.lies() { [f.refusal(), 5, i32::MIN][f.u8() as usize % 3] } else { 0 }
}
pub(super) unsafe extern "C" fn get(
    o: *mut c_void,
    _d: usize,
    buf: *mut c_void,
    len: usize,
    flags: *mut u32,
    total: *mut u64,
) -> i64 {
    let calls = unsafe { &*o.cast::<Calls>() };
    let mut f = calls.feed.lock();
    unsafe {
        *flags = if f.lies() { f.u32() } else { 4 * u32::from(f.bool()) };
        if f.bool() {
            *total = f.size();
        }
    }
    if f.lies() {
        return [-i64::from(f.errno()), i64::MIN, i64::MAX, len as i64 + 1][f.u8() as usize % 4];
    }
    let n = (f.u8() as usize).min(len);
    let buf = unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
    buf.fill(1);
    n as i64
}
pub(super) unsafe extern "C" fn words_fn(
    o: *mut c_void,
    _d: *mut c_void,
    bit: u64,
    words: *const u64,
    n: usize,
) -> c_int {
    // A request that ends before its opaque pointer.
    let Some(calls) = (unsafe { o.cast::<Calls>().as_ref() }) else { return 0 };
    let words = unsafe { std::slice::from_raw_parts(words, n) };
    assert!(bit % 64 == 0 && n > 0 && words[0] != 0 && words[n - 1] != 0);
    c_int::from(calls.feed.lock().lies())
}
pub(super) unsafe extern "C" fn run_fn(o: *mut c_void, _cookie: u64, iova: u64, size: u64) -> c_int {
    let Some(calls) = (unsafe { o.cast::<Calls>().as_ref() }) else { return 0 };
    assert!(size > 0 && (iova | size) % 4096 == 0);
    c_int::from(calls.feed.lock().lies())
}
pub(super) unsafe extern "C" fn unmap_fn(o: *mut c_void, range: *const LogRange) -> c_int {
    let calls = unsafe { &*o.cast::<Calls>() };
    assert!(unsafe { (*range).size } > 0);
    let mut f = calls.feed.lock();
    if f.lies() { [f.refusal(), 9, i32::MIN][f.u8() as usize % 3] } else { 0 }
}
