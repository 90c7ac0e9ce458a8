//! The device as the library's `Transport`, and as its table of C functions.

use crate::device::{Device, Shared};
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use vfiomig::error::{Errno, Error, ErrorKind};
use vfiomig::ffi::device::VFIOMIG_OPS_F_REPORT_ADDS_BITS;
use vfiomig::transport::ops::Ops;
use vfiomig::transport::{DataFd, Feature, Mapped, PrecopyInfo, Returned, Transport};

impl Device {
    /// A transport to the device. It keeps the device alive.
    pub fn transport(&self) -> Box<dyn Transport> {
        self.0.opened();
        Box::new(Direct(Arc::clone(&self.0)))
    }

    /// The device as C functions, and what they are called with. The pointer is good as long as a clone of the device lives.
    pub fn ops(&self) -> (Ops, *mut c_void) {
        let real = self.0.real_fd;
        let ops = Ops {
            argsz: size_of::<Ops>() as u32,
            flags: if self.0.report_adds_bits { VFIOMIG_OPS_F_REPORT_ADDS_BITS } else { 0 },
            device_info: Some(device_info),
            device_feature: Some(device_feature),
            region_info: Some(region_info),
            region_read: Some(region_read),
            region_write: Some(region_write),
            region_map: Some(region_map),
            region_unmap: Some(region_unmap),
            reset: Some(reset),
            data_read: if real { None } else { Some(data_read) },
            data_write: if real { None } else { Some(data_write) },
            data_precopy_info: if real { None } else { Some(data_precopy_info) },
            data_close: if real { None } else { Some(data_close) },
        };
        (ops, Arc::as_ptr(&self.0).cast_mut().cast())
    }
}

struct Direct(Arc<Shared>);

impl Drop for Direct {
    fn drop(&mut self) {
        self.0.closed();
    }
}

fn errno<T>(result: Result<T, i32>) -> Result<T, Errno> {
    result.map_err(Errno::new)
}

impl Transport for Direct {
    fn report_adds_bits(&self) -> bool {
        self.0.report_adds_bits
    }
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        errno(self.0.device_info(info))
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        errno(self.0.feature(feature.request_mut()))?;
        if self.0.real_fd {
            // SAFETY: the device made the descriptor for the client that now takes it, and nobody else has its number.
            unsafe { feature.returns_fd() };
        }
        Ok(())
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        errno(self.0.region_info(info))
    }
    fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        errno(self.0.region_read(index, offset, buf))
    }
    fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        errno(self.0.region_write(index, offset, buf))
    }
    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        let memory = errno(self.0.region_map(index, offset, len))?;
        let device = Arc::clone(&self.0);
        // SAFETY: the device has mapped so much for this client, and keeps it until it is unmapped.
        Ok(unsafe { Mapped::new(memory, len, move |memory, len| device.region_unmap(index, memory, len)) })
    }
    fn reset(&self) -> Result<(), Errno> {
        errno(self.0.reset())
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        match data_fd {
            Some(Returned::Owned(fd)) => return Ok(Box::new(RealData(fd.into()))),
            Some(Returned::Number(_)) if !self.0.real_fd => {}
            _ => return Err(Error::new(ErrorKind::Protocol, libc::EPROTO, "the state change brought no data fd")),
        }
        let poll = self.0.machine.lock().poll_fd();
        Ok(Box::new(Data { device: Arc::clone(&self.0), session: self.0.session_number(), poll }))
    }
}

struct Data {
    device: Arc<Shared>,
    session: u64,
    poll: Option<Arc<OwnedFd>>,
}

impl DataFd for Data {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        errno(self.device.data_read(Some(self.session), buf))
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        errno(self.device.data_write(Some(self.session), buf))
    }
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        errno(self.device.precopy_info(Some(self.session), info.request_mut()))
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.poll.is_some() {
            self.device.machine.lock().update_poll();
        }
        self.poll.as_ref().map(|fd| fd.as_fd())
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.device.data_close();
    }
}

struct RealData(File);

fn os(error: std::io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
}

impl DataFd for RealData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.0.read(buf).map_err(os)
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        self.0.write(buf).map_err(os)
    }
    fn precopy_info(&mut self, _info: &mut PrecopyInfo) -> Result<(), Errno> {
        Err(Errno::new(libc::ENOTTY))
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
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

unsafe extern "C" fn data_close(opaque: *mut c_void) -> c_int {
    // SAFETY: the table's contract.
    unsafe { shared(opaque) }.data_close();
    0
}
