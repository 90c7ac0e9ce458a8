//! A hostile device as a table of C functions; `opaque` is a Shared that lives.

use super::{Answer, Shared};
use crate::clock::asked;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use vfiomig::transport::ops::Ops;

unsafe fn shared<'a>(opaque: *mut c_void) -> &'a Shared {
    unsafe { &*opaque.cast::<Shared>() }
}
unsafe fn bytes<'a>(at: *mut c_void, len: usize) -> &'a mut [u8] {
    unsafe { std::slice::from_raw_parts_mut(at.cast(), len) }
}
fn status(result: Answer<()>) -> c_int {
    result.map_or_else(i32::wrapping_neg, |()| 0)
}
fn count(result: Answer<usize>) -> i64 {
    result.map_or_else(|errno| -i64::from(errno), |n| n as i64)
}

unsafe extern "C" fn c_device_info(o: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    unsafe { status(shared(o).device_info(bytes(info, argsz as usize))) }
}
unsafe extern "C" fn c_feature(o: *mut c_void, feature: *mut c_void, argsz: u32) -> c_int {
    unsafe { status(shared(o).feature(bytes(feature, argsz as usize))) }
}
unsafe extern "C" fn c_region_info(o: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    unsafe { status(shared(o).region_info(bytes(info, argsz as usize))) }
}
unsafe extern "C" fn c_region_read(o: *mut c_void, index: u32, at: u64, buf: *mut c_void, len: usize) -> i64 {
    unsafe { count(shared(o).region_read(index, at, bytes(buf, len))) }
}
unsafe extern "C" fn c_region_write(o: *mut c_void, index: u32, at: u64, buf: *const c_void, len: usize) -> i64 {
    unsafe { count(shared(o).region_write(index, at, bytes(buf.cast_mut(), len))) }
}
unsafe extern "C" fn c_region_map(o: *mut c_void, index: u32, at: u64, len: usize, ptr: *mut *mut c_void) -> c_int {
    unsafe { status(shared(o).region_map(index, at, len).map(|memory| ptr.write(memory.cast()))) }
}
unsafe extern "C" fn c_region_unmap(o: *mut c_void, index: u32, ptr: *mut c_void, len: usize) {
    unsafe { shared(o).region_unmap(index, ptr.cast(), len) }
}
unsafe extern "C" fn c_reset(o: *mut c_void) -> c_int {
    unsafe { status(shared(o).reset()) }
}
unsafe extern "C" fn c_data_read(o: *mut c_void, buf: *mut c_void, len: usize) -> i64 {
    unsafe { count(shared(o).data_read(bytes(buf, len))) }
}
unsafe extern "C" fn c_data_write(o: *mut c_void, buf: *const c_void, len: usize) -> i64 {
    unsafe { count(shared(o).data_write(bytes(buf.cast_mut(), len))) }
}
unsafe extern "C" fn c_precopy_info(o: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    unsafe { status(shared(o).precopy_info(bytes(info, argsz as usize))) }
}
unsafe extern "C" fn c_data_close(_o: *mut c_void) {
    asked();
}

/// The table, some of its functions missing as `without` says.
pub fn ops(shared: &Arc<Shared>, without: u8) -> (Ops, *mut c_void) {
    let flags = u32::from(shared.any_thread) | u32::from(shared.adds) << 1;
    let ops = Ops {
        argsz: size_of::<Ops>() as u32,
        flags,
        device_info: (without & 1 == 0).then_some(c_device_info),
        device_feature: Some(c_feature),
        region_info: (without & 2 == 0).then_some(c_region_info),
        region_read: Some(c_region_read),
        region_write: Some(c_region_write),
        region_map: (without & 4 == 0).then_some(c_region_map),
        region_unmap: (without & 4 == 0).then_some(c_region_unmap),
        device_reset: (without & 8 == 0).then_some(c_reset),
        data_read: Some(c_data_read),
        data_write: Some(c_data_write),
        data_precopy_info: (without & 16 == 0).then_some(c_precopy_info),
        data_close: Some(c_data_close),
    };
    (ops, Arc::as_ptr(shared).cast_mut().cast())
}
