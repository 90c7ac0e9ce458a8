//! Probing through C: whatever a device says of itself ends in a device or in a named error.

use crate::clock::{asked, call};
use crate::feed::Feed;
use parking_lot::Mutex;
use std::ffi::{c_int, c_void};
use vfiomig::ffi::device::*;
use vfiomig::ffi::device_data::*;
use vfiomig::ffi::device_new::*;
use vfiomig::ffi::error::*;
use vfiomig::transport::ops::Ops;

/// Answers are bytes of the input.
struct Raw {
    feed: Mutex<Feed>,
    num_regions: u32,
    first_size: u64,
}

unsafe fn raw<'a>(o: *mut c_void) -> &'a Raw {
    unsafe { &*o.cast::<Raw>() }
}
unsafe fn bytes<'a>(at: *mut c_void, len: u32) -> &'a mut [u8] {
    unsafe { std::slice::from_raw_parts_mut(at.cast(), len as usize) }
}

unsafe extern "C" fn device_info(o: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    asked();
    let (raw, info) = unsafe { (raw(o), bytes(info, argsz)) };
    let mut f = raw.feed.lock();
    if f.lies() {
        return [f.refusal(), i32::MIN, 7][f.u8() as usize % 3];
    }
    info[4..8].copy_from_slice(&f.u32().to_ne_bytes());
    info[8..12].copy_from_slice(&raw.num_regions.to_ne_bytes());
    0
}

unsafe extern "C" fn feature(o: *mut c_void, arg: *mut c_void, argsz: u32) -> c_int {
    asked();
    let (raw, arg) = unsafe { (raw(o), bytes(arg, argsz)) };
    let mut f = raw.feed.lock();
    match f.u8() % 4 {
        0 => -libc::ENOTTY,
        1 => f.refusal(),
        _ => {
            let all = f.lies();
            let from = if all { 0 } else { 8 };
            for byte in arg.iter_mut().skip(from) {
                *byte = f.u8();
            }
            0
        }
    }
}

unsafe extern "C" fn region_info(o: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    asked();
    let (raw, info) = unsafe { (raw(o), bytes(info, argsz)) };
    let mut f = raw.feed.lock();
    if f.lies() {
        return f.refusal();
    }
    if f.bool() {
        // Structured, then broken in places.
        let index = u32::from_ne_bytes(info[8..12].try_into().unwrap());
        let (v1, ndma) = (f.bool(), f.bool());
        let (mut blob, _) = crate::hostile::describe(&mut f, index, v1, ndma);
        for _ in 0..f.u8() % 4 {
            let at = f.u8() as usize % blob.len();
            blob[at] = f.u8();
        }
        let n = info.len().min(blob.len());
        info[..n].copy_from_slice(&blob[..n]);
    } else {
        let argsz = f.u16();
        for byte in info.iter_mut().skip(4) {
            *byte = f.u8();
        }
        let argsz = if f.lies() { f.u32() } else { u32::from(argsz % 256) };
        info[..4].copy_from_slice(&argsz.to_ne_bytes());
        if f.bool() {
            info[16..24].copy_from_slice(&raw.first_size.to_ne_bytes());
        }
    }
    0
}

unsafe extern "C" fn region_read(o: *mut c_void, _: u32, _: u64, buf: *mut c_void, len: usize) -> i64 {
    asked();
    let (raw, buf) = unsafe { (raw(o), bytes(buf, len as u32)) };
    let mut f = raw.feed.lock();
    match f.u8() % 8 {
        0 => -i64::from(f.errno()),
        1 => [i64::MAX, i64::MIN, len as i64 + 1, 0, -1, -5000][f.u8() as usize % 6],
        _ => {
            buf.iter_mut().for_each(|byte| *byte = f.u8());
            len as i64
        }
    }
}

unsafe extern "C" fn region_write(o: *mut c_void, _: u32, _: u64, _: *const c_void, len: usize) -> i64 {
    asked();
    let raw = unsafe { raw(o) };
    let mut f = raw.feed.lock();
    if f.lies() { -i64::from(f.errno()) } else { len as i64 }
}

pub fn run(data: &[u8]) {
    let mut f = Feed::new(data);
    let (options, missing, dialect, flags, cursor) = (f.u8(), f.u8(), u32::from(f.u8() % 5), f.u8(), f.u8());
    let num_regions = if f.lies() { f.u32() } else { u32::from(f.u8() % 12) };
    let first_size = f.size();
    let raw = Box::new(Raw { feed: Mutex::new(f), num_regions, first_size });
    let ops = Ops {
        argsz: size_of::<Ops>() as u32,
        flags: 0,
        device_info: (missing & 1 == 0).then_some(device_info),
        device_feature: (missing & 2 == 0).then_some(feature),
        region_info: (missing & 4 == 0).then_some(region_info),
        region_read: (missing & 8 == 0).then_some(region_read),
        region_write: (missing & 16 == 0).then_some(region_write),
        region_map: None,
        region_unmap: None,
        device_reset: None,
        data_read: None,
        data_write: None,
        data_precopy_info: None,
        data_close: None,
    };
    // Names with bytes that are no UTF-8 and of every length.
    let mut name = vec![options | 1; options as usize + (missing as usize >> 6) * 10];
    name.push(0);
    let o = vfiomig_device_options {
        argsz: size_of::<vfiomig_device_options>() as u32,
        flags: u32::from(flags),
        name: name.as_ptr().cast(),
        buffer_size: [0, 4096, 1 << 16, first_size][options as usize >> 6],
        dialect,
        draft_cursor: u32::from(cursor % 4),
    };
    let opaque: *const Raw = &*raw;
    let opaque = opaque.cast_mut().cast::<c_void>();
    let (mut d, mut e) = (std::ptr::null_mut(), std::ptr::null_mut());
    let r = call("new", 1, 20_000, || unsafe { vfiomig_device_new_ops(&ops, opaque, &o, &mut d, &mut e) });
    if r != 0 {
        assert!(d.is_null() && !e.is_null() && r < 0);
        unsafe {
            let code = vfiomig_error_code(e);
            assert!((1..=10).contains(&code) && code != VFIOMIG_ERR_PANIC);
            assert_eq!(-vfiomig_error_errno(e), r);
            let text = std::ffi::CStr::from_ptr(vfiomig_error_message(e));
            assert!(!text.is_empty() && text.to_str().is_ok());
            vfiomig_error_free(e);
        }
        return;
    }
    for round in 0..3 {
        // As long as its argsz says, on the heap.
        let argsz = 8 + (first_size as usize).wrapping_add(round * 41) % 200;
        let mut info = vec![0xeeu8; argsz].into_boxed_slice();
        info[..4].copy_from_slice(&(argsz as u32).to_ne_bytes());
        unsafe {
            let r = vfiomig_device_get_info(d, info.as_mut_ptr().cast(), std::ptr::null_mut());
            // A size that cuts a field is refused.
            assert_eq!(r, if argsz % 8 == 0 { 0 } else { -libc::EINVAL });
            if r == 0 && argsz >= 48 + VFIOMIG_REASON_SIZE {
                let reason = std::ffi::CStr::from_bytes_until_nul(&info[48..48 + VFIOMIG_REASON_SIZE]).unwrap();
                assert!(reason.to_str().is_ok());
                let dialect = u32::from_ne_bytes(info[8..12].try_into().unwrap());
                assert_eq!(dialect == VFIOMIG_DIALECT_NONE, !reason.is_empty());
                assert!(dialect <= 3);
            }
            let r = call("reprobe", 1, 20_000, || vfiomig_device_reprobe(d, std::ptr::null_mut()));
            assert!(r <= 0);
            assert!(vfiomig_device_get_state(d) < 8);
        }
    }
    unsafe { vfiomig_device_free(d) };
}
