//! The device as the library's table of C functions.

use super::handle::Device;
use super::requests::Shared;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use vfiomig::transport::ops::{Ops, REPORT_ADDS_BITS};

impl Device {
    /// The device as C functions, and what they are called with. The pointer is good as long as a clone of the device lives.
    pub fn ops(&self) -> (Ops, *mut c_void) {
        let real = self.0.real_fd;
        let ops = Ops {
            argsz: size_of::<Ops>() as u32,
            flags: if self.0.report_adds_bits { REPORT_ADDS_BITS } else { 0 },
            device_info: Some(device_info),
            device_feature: Some(device_feature),
            region_info: Some(region_info),
            region_read: Some(region_read),
            region_write: Some(region_write),
            region_map: Some(region_map),
            region_unmap: Some(region_unmap),
            device_reset: Some(reset),
            data_read: if real { None } else { Some(data_read) },
            data_write: if real { None } else { Some(data_write) },
            data_precopy_info: if real { None } else { Some(data_precopy_info) },
            data_close: if real { None } else { Some(data_close) },
        };
        (ops, Arc::as_ptr(&self.0).cast_mut().cast())
    }
}

/// # Safety
/// `opaque` is the pointer of `Device::ops` of a device that lives.
unsafe fn shared<'a>(opaque: *mut c_void) -> &'a Shared {
    // SAFETY: the function's contract.
    unsafe { &*opaque.cast::<Shared>() }
}

/// # Safety
/// `len` bytes at `memory` are this call's alone, or `len` is 0.
unsafe fn bytes<'a>(memory: *mut c_void, len: usize) -> &'a mut [u8] {
    if len == 0 || memory.is_null() {
        return &mut [];
    }
    // SAFETY: the function's contract.
    unsafe { std::slice::from_raw_parts_mut(memory.cast(), len) }
}

fn status(result: Result<(), i32>) -> c_int {
    result.map_or_else(|errno| -errno, |()| 0)
}

fn count(result: Result<usize, i32>) -> i64 {
    result.map_or_else(|errno| -i64::from(errno), |n| n as i64)
}

// The functions below are called by a client that keeps the table's contract: `opaque` is the one handed out with the
// table, buffers are as long as said. Each SAFETY comment means that.

unsafe extern "C" fn device_info(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    // SAFETY: the table's contract, for the device and the buffer.
    let (device, info) = unsafe { (shared(opaque), bytes(info, argsz as usize)) };
    status(device.device_info(info))
}

unsafe extern "C" fn device_feature(opaque: *mut c_void, feature: *mut c_void, argsz: u32) -> c_int {
    // SAFETY: the table's contract, for the device and the buffer.
    let (device, feature) = unsafe { (shared(opaque), bytes(feature, argsz as usize)) };
    status(device.feature(feature))
}

unsafe extern "C" fn region_info(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    // SAFETY: the table's contract, for the device and the buffer.
    let (device, info) = unsafe { (shared(opaque), bytes(info, argsz as usize)) };
    status(device.region_info(info))
}

unsafe extern "C" fn region_read(opaque: *mut c_void, index: u32, offset: u64, buf: *mut c_void, len: usize) -> i64 {
    // SAFETY: the table's contract, for the device and the buffer.
    let (device, buf) = unsafe { (shared(opaque), bytes(buf, len)) };
    count(device.region_read(index, offset, buf))
}

unsafe extern "C" fn region_write(opaque: *mut c_void, index: u32, offset: u64, buf: *const c_void, len: usize) -> i64 {
    if len == 0 || buf.is_null() {
        return 0;
    }
    // SAFETY: the table's contract, for the device and the buffer, which is only read.
    let (device, buf) = unsafe { (shared(opaque), std::slice::from_raw_parts(buf.cast(), len)) };
    count(device.region_write(index, offset, buf))
}

unsafe extern "C" fn region_map(
    opaque: *mut c_void,
    index: u32,
    offset: u64,
    len: usize,
    ptr: *mut *mut c_void,
) -> c_int {
    // SAFETY: the table's contract.
    let device = unsafe { shared(opaque) };
    status(device.region_map(index, offset, len).map(|memory| {
        // SAFETY: `ptr` is room for one pointer, by the table's contract.
        unsafe { ptr.write(memory.as_ptr().cast()) }
    }))
}

unsafe extern "C" fn region_unmap(opaque: *mut c_void, index: u32, ptr: *mut c_void, len: usize) {
    // SAFETY: the table's contract.
    let device = unsafe { shared(opaque) };
    if let Some(memory) = NonNull::new(ptr.cast()) {
        device.region_unmap(index, memory, len);
    }
}

unsafe extern "C" fn reset(opaque: *mut c_void) -> c_int {
    // SAFETY: the table's contract.
    status(unsafe { shared(opaque) }.reset())
}

unsafe extern "C" fn data_read(opaque: *mut c_void, buf: *mut c_void, len: usize) -> i64 {
    // SAFETY: the table's contract, for the device and the buffer.
    let (device, buf) = unsafe { (shared(opaque), bytes(buf, len)) };
    count(device.data_read(None, buf))
}

unsafe extern "C" fn data_write(opaque: *mut c_void, buf: *const c_void, len: usize) -> i64 {
    if len == 0 || buf.is_null() {
        return 0;
    }
    // SAFETY: the table's contract, for the device and the buffer, which is only read.
    let (device, buf) = unsafe { (shared(opaque), std::slice::from_raw_parts(buf.cast(), len)) };
    count(device.data_write(None, buf))
}

unsafe extern "C" fn data_precopy_info(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    // SAFETY: the table's contract, for the device and the buffer.
    let (device, info) = unsafe { (shared(opaque), bytes(info, argsz as usize)) };
    status(device.precopy_info(None, info))
}

unsafe extern "C" fn data_close(opaque: *mut c_void) {
    // SAFETY: the table's contract.
    unsafe { shared(opaque) }.data_close();
}
