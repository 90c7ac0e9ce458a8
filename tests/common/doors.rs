//! The same calls through the Rust API and through the C API.

use super::fake::{Fake, FakeTransport};
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{null, null_mut};
use vfiomig::device::{Device, DeviceOptions, DevicePending, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::ErrorKind;
use vfiomig::ffi;
use vfiomig::transport::Feature;
use vfiomig::transport::ops::Ops;

/// An error as both doors tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: u32,
    pub errno: i32,
    pub message: String,
    /// (from, to, found, action, errno) per device.
    pub results: Vec<(u32, u32, u32, u32, i32)>,
}

impl Failure {
    pub fn is(&self, kind: ErrorKind) -> bool {
        self.code == kind as u32
    }
}

pub type Outcome<T> = Result<T, Failure>;

pub const EMPTY: u32 = 1;
pub const END: u32 = 2;

/// A device behind one of the doors.
pub trait Door: Sized + Sync {
    fn open_with(fake: &Fake, name: &str, buffer_size: usize) -> Outcome<Self>;
    fn open(fake: &Fake) -> Self {
        Self::open_with(fake, "vf0", 4096).unwrap()
    }
    fn state(&self) -> State;
    /// (dialect, caps, session, saved, loaded, session_open, reason)
    fn info(&self) -> (u32, u32, u64, u64, u64, bool, String);
    fn set_state_with(&self, to: State, on_failure: OnFailure, raw: bool) -> Outcome<()>;
    fn set_state(&self, to: State) -> Outcome<()> {
        self.set_state_with(to, OnFailure::Keep, false)
    }
    fn reset(&self) -> Outcome<()>;
    fn reprobe(&self) -> Outcome<()>;
    fn pending(&self, exact: bool) -> Outcome<DevicePending>;
    fn restart_stream(&self) -> Outcome<()>;
    /// Copies the chunk's bytes; the chunk stays out.
    fn peek(&self, max: usize) -> Outcome<(Vec<u8>, u32)>;
    fn consume(&self, len: usize) -> Outcome<()>;
    fn read(&self, buf: &mut [u8]) -> Outcome<(usize, u32)>;
    /// Reserves room and puts as much of `bytes` there as fits; nothing is committed.
    fn reserve(&self, bytes: &[u8]) -> Outcome<usize>;
    fn commit(&self, len: usize) -> Outcome<()>;
    fn write(&self, bytes: &[u8]) -> Outcome<()>;
    fn finish(&self, total: Option<u64>) -> Outcome<()>;
    fn free(self);
}

/// The Rust API.
pub struct RustDoor(Device);

pub fn failure(error: vfiomig::Error) -> Failure {
    let result = |r: &vfiomig::error::DeviceResult| (r.from, r.to, r.found, r.action as u32, r.errno);
    Failure {
        code: error.kind() as u32,
        errno: error.errno(),
        message: error.to_string(),
        results: error.results().iter().map(result).collect(),
    }
}

impl Door for RustDoor {
    fn open_with(fake: &Fake, name: &str, buffer_size: usize) -> Outcome<Self> {
        let options = DeviceOptions { name: name.into(), buffer_size: Some(buffer_size), ..DeviceOptions::default() };
        Device::new(Box::new(FakeTransport(fake.clone())), options).map(RustDoor).map_err(failure)
    }
    fn state(&self) -> State {
        self.0.state()
    }
    fn info(&self) -> (u32, u32, u64, u64, u64, bool, String) {
        let info = self.0.info();
        let reason = info.reason.map(|r| r.to_string()).unwrap_or_default();
        let dialect = info.dialect.map_or(0, |k| k as u32);
        (dialect, info.caps.bits(), info.session, info.saved_bytes, info.loaded_bytes, info.session_open, reason)
    }
    fn set_state_with(&self, to: State, on_failure: OnFailure, raw: bool) -> Outcome<()> {
        self.0.set_state(to, on_failure, raw).map_err(failure)
    }
    fn reset(&self) -> Outcome<()> {
        self.0.reset().map_err(failure)
    }
    fn reprobe(&self) -> Outcome<()> {
        self.0.reprobe().map_err(failure)
    }
    fn pending(&self, exact: bool) -> Outcome<DevicePending> {
        if exact { self.0.pending_exact().map_err(failure) } else { Ok(self.0.pending()) }
    }
    fn restart_stream(&self) -> Outcome<()> {
        self.0.restart_stream().map_err(failure)
    }
    fn peek(&self, max: usize) -> Outcome<(Vec<u8>, u32)> {
        let chunk = self.0.peek_raw(max).map_err(failure)?;
        Ok((copy(chunk.data, chunk.len), chunk.flags))
    }
    fn consume(&self, len: usize) -> Outcome<()> {
        self.0.consume_raw(len).map_err(failure)
    }
    fn read(&self, buf: &mut [u8]) -> Outcome<(usize, u32)> {
        self.0.read(buf).map(|(len, flags)| (len, flags.bits())).map_err(failure)
    }
    fn reserve(&self, bytes: &[u8]) -> Outcome<usize> {
        let room = self.0.reserve_raw(u64::MAX).map_err(failure)?;
        Ok(fill(room.data, room.len, bytes))
    }
    fn commit(&self, len: usize) -> Outcome<()> {
        self.0.commit_raw(len, false).map_err(failure)
    }
    fn write(&self, bytes: &[u8]) -> Outcome<()> {
        self.0.write(bytes, false).map_err(failure)
    }
    fn finish(&self, total: Option<u64>) -> Outcome<()> {
        self.0.finish(total).map_err(failure)
    }
    fn free(self) {
        self.0.close().unwrap();
    }
}

fn copy(data: *const u8, len: usize) -> Vec<u8> {
    if len == 0 {
        return Vec::new();
    }
    // SAFETY: the library lends `len` bytes at `data` until they are consumed.
    unsafe { std::slice::from_raw_parts(data, len) }.to_vec()
}

fn fill(data: *mut u8, len: usize, bytes: &[u8]) -> usize {
    let len = len.min(bytes.len());
    // SAFETY: the library lends room for at least `len` bytes at `data`.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data, len) };
    len
}

/// The C API, by its functions.
pub struct CDoor {
    device: *mut ffi::device::vfiomig_device,
    /// What `opaque` points to; freed after the handle.
    fake: *mut Fake,
}

// SAFETY: the C API may be called from any thread, and Fake is shared by a mutex.
unsafe impl Sync for CDoor {}
// SAFETY: as above.
unsafe impl Send for CDoor {}

pub fn outcome(ret: i64, error: *mut ffi::error::vfiomig_error) -> Outcome<i64> {
    if ret >= 0 {
        assert!(error.is_null(), "an error was set although the call succeeded");
        return Ok(ret);
    }
    assert!(!error.is_null(), "no error was set although the call failed");
    let text = |text: *const std::ffi::c_char| {
        // SAFETY: a C string of the error object.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_string()
    };
    // SAFETY: a live error object, freed at the end, and what is borrowed from it is copied before.
    unsafe {
        let count = ffi::error::vfiomig_error_result_count(error);
        let results = (0..count).map(|i| {
            let r = &*ffi::error::vfiomig_error_result(error, i);
            (r.from, r.to, r.found, r.action, r.saved_errno)
        });
        let failure = Failure {
            code: ffi::error::vfiomig_error_code(error),
            errno: ffi::error::vfiomig_error_errno(error),
            message: text(ffi::error::vfiomig_error_message(error)),
            results: results.collect(),
        };
        assert!(ffi::error::vfiomig_error_result(error, count).is_null());
        assert_eq!(i64::from(-failure.errno), ret, "{failure:?}");
        ffi::error::vfiomig_error_free(error);
        Err(failure)
    }
}

fn reply<T>(result: Result<T, i32>) -> Result<T, i64> {
    result.map_err(|errno| -i64::from(errno))
}

/// # Safety
/// `opaque` is the Fake of a CDoor, buffers are as the ops table says.
unsafe fn fake_of<'a>(opaque: *mut c_void) -> &'a Fake {
    // SAFETY: the contract of this function.
    unsafe { &*opaque.cast::<Fake>() }
}

unsafe extern "C" fn c_device_info(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    // SAFETY: the library gives `argsz` writable bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(info.cast::<u8>(), argsz as usize) };
    // SAFETY: `opaque` is this door's.
    reply(unsafe { fake_of(opaque) }.device_info(bytes)).map_or_else(|e| e as c_int, |()| 0)
}

unsafe extern "C" fn c_feature(opaque: *mut c_void, feature: *mut c_void, argsz: u32) -> c_int {
    assert!((8..=40).contains(&argsz) && feature.addr() % 8 == 0);
    // SAFETY: the library's own buffer of at least argsz bytes; Feature is what it is made of.
    let feature = unsafe { &mut *feature.cast::<Feature>() };
    // SAFETY: `opaque` is this door's.
    reply(unsafe { fake_of(opaque) }.feature(feature)).map_or_else(|e| e as c_int, |()| 0)
}

unsafe extern "C" fn c_region_info(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    // SAFETY: the library gives `argsz` writable bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(info.cast::<u8>(), argsz as usize) };
    // SAFETY: `opaque` is this door's.
    reply(unsafe { fake_of(opaque) }.region_info(bytes)).map_or_else(|e| e as c_int, |()| 0)
}

unsafe extern "C" fn c_reset(opaque: *mut c_void) -> c_int {
    // SAFETY: `opaque` is this door's.
    reply(unsafe { fake_of(opaque) }.reset()).map_or_else(|e| e as c_int, |()| 0)
}

unsafe extern "C" fn c_read(opaque: *mut c_void, buf: *mut c_void, len: usize) -> i64 {
    // SAFETY: the library gives `len` writable bytes.
    let buf = unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
    // SAFETY: `opaque` is this door's.
    reply(unsafe { fake_of(opaque) }.read(buf)).map_or_else(|e| e, |n| n as i64)
}

unsafe extern "C" fn c_write(opaque: *mut c_void, buf: *const c_void, len: usize) -> i64 {
    // SAFETY: the library gives `len` readable bytes.
    let buf = unsafe { std::slice::from_raw_parts(buf.cast::<u8>(), len) };
    // SAFETY: `opaque` is this door's.
    reply(unsafe { fake_of(opaque) }.write(buf)).map_or_else(|e| e, |n| n as i64)
}

unsafe extern "C" fn c_precopy_info(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
    assert_eq!(argsz, 24);
    // SAFETY: `opaque` is this door's.
    match reply(unsafe { fake_of(opaque) }.precopy_info()) {
        Err(errno) => errno as c_int,
        Ok((flags, initial, dirty)) => {
            // SAFETY: 24 writable bytes, aligned to 8: argsz, flags, then the two counts.
            unsafe {
                info.cast::<u32>().add(1).write(flags);
                info.cast::<u64>().add(1).write(initial);
                info.cast::<u64>().add(2).write(dirty);
            }
            0
        }
    }
}

unsafe extern "C" fn c_close(opaque: *mut c_void) {
    // SAFETY: `opaque` is this door's.
    unsafe { fake_of(opaque) }.close();
}

fn to_c(on_failure: OnFailure) -> u32 {
    match on_failure {
        OnFailure::Keep => 0,
        OnFailure::Reset => 1,
        OnFailure::ReturnTo(state) => 0x100 + state.number(),
    }
}

impl CDoor {
    fn status(&self, call: impl FnOnce(*mut *mut ffi::error::vfiomig_error) -> c_int) -> Outcome<()> {
        let mut error = null_mut();
        let ret = call(&mut error);
        outcome(i64::from(ret), error).map(|ret| assert_eq!(ret, 0))
    }
}

impl Door for CDoor {
    fn open_with(fake: &Fake, name: &str, buffer_size: usize) -> Outcome<Self> {
        let ops = Ops {
            argsz: size_of::<Ops>() as u32,
            flags: 0,
            device_info: Some(c_device_info),
            device_feature: Some(c_feature),
            region_info: Some(c_region_info),
            region_read: None,
            region_write: None,
            region_map: None,
            region_unmap: None,
            device_reset: Some(c_reset),
            data_read: Some(c_read),
            data_write: Some(c_write),
            data_precopy_info: Some(c_precopy_info),
            data_close: Some(c_close),
        };
        let name = CString::new(name).unwrap();
        let options = ffi::device_data::vfiomig_device_options {
            argsz: size_of::<ffi::device_data::vfiomig_device_options>() as u32,
            flags: 0,
            name: name.as_ptr(),
            buffer_size: buffer_size as u64,
            dialect: 0,
            draft_cursor: 0,
        };
        let fake = Box::into_raw(Box::new(fake.clone()));
        let (mut device, mut error) = (null_mut(), null_mut());
        // SAFETY: all pointers are valid; the ops are served as long as `fake` lives.
        let ret =
            unsafe { ffi::device_new::vfiomig_device_new_ops(&ops, fake.cast(), &options, &mut device, &mut error) };
        match outcome(i64::from(ret), error) {
            Ok(_) => Ok(CDoor { device, fake }),
            Err(failure) => {
                assert!(device.is_null());
                // SAFETY: no device was made, so it has no other owner.
                drop(unsafe { Box::from_raw(fake) });
                Err(failure)
            }
        }
    }
    fn state(&self) -> State {
        // SAFETY: a live handle.
        State::from_number(unsafe { ffi::device::vfiomig_device_get_state(self.device) }).unwrap()
    }
    fn info(&self) -> (u32, u32, u64, u64, u64, bool, String) {
        // SAFETY: integers and characters only.
        let mut info: ffi::device_data::vfiomig_device_info = unsafe { std::mem::zeroed() };
        info.argsz = size_of_val(&info) as u32;
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::device::vfiomig_device_get_info(self.device, &mut info, errp) }).unwrap();
        // SAFETY: the library ends it with a zero.
        let reason = unsafe { CStr::from_ptr(info.reason.as_ptr()) }.to_str().unwrap().to_string();
        (info.dialect, info.caps, info.session, info.saved_bytes, info.loaded_bytes, info.session_open == 1, reason)
    }
    fn set_state_with(&self, to: State, on_failure: OnFailure, raw: bool) -> Outcome<()> {
        let (to, on_failure, raw) = (to.number(), to_c(on_failure), u32::from(raw));
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::device::vfiomig_device_set_state(self.device, to, on_failure, raw, errp) })
    }
    fn reset(&self) -> Outcome<()> {
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::device::vfiomig_device_reset(self.device, errp) })
    }
    fn reprobe(&self) -> Outcome<()> {
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::device::vfiomig_device_reprobe(self.device, errp) })
    }
    fn pending(&self, exact: bool) -> Outcome<DevicePending> {
        // SAFETY: integers only.
        let mut out: ffi::device_data::vfiomig_device_pending = unsafe { std::mem::zeroed() };
        out.argsz = size_of_val(&out) as u32;
        let flags = u32::from(exact);
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::device::vfiomig_device_get_pending(self.device, flags, &mut out, errp) })?;
        let known = |value: u64| (value != u64::MAX).then_some(value);
        Ok(DevicePending {
            initial_bytes: known(out.initial_bytes),
            dirty_bytes: known(out.dirty_bytes),
            stop_copy_bytes: known(out.stop_copy_bytes),
            reinit_count: out.reinit_count,
            cached: out.flags & 1 != 0,
        })
    }
    fn restart_stream(&self) -> Outcome<()> {
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::save::vfiomig_device_restart_stream(self.device, errp) })
    }
    fn peek(&self, max: usize) -> Outcome<(Vec<u8>, u32)> {
        let mut chunk = ffi::save::vfiomig_chunk { data: null(), len: 0, segment_left: 0, flags: 0, reserved: 0 };
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::save::vfiomig_device_peek(self.device, max, &mut chunk, errp) })?;
        assert_eq!(chunk.len == 0, chunk.data.is_null());
        Ok((copy(chunk.data.cast(), chunk.len), chunk.flags))
    }
    fn consume(&self, len: usize) -> Outcome<()> {
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::save::vfiomig_device_consume(self.device, len, errp) })
    }
    fn read(&self, buf: &mut [u8]) -> Outcome<(usize, u32)> {
        let (mut flags, mut error) = (0, null_mut());
        // SAFETY: live handle, valid pointers.
        let ret = unsafe {
            ffi::save::vfiomig_device_read(self.device, buf.as_mut_ptr().cast(), buf.len(), &mut flags, &mut error)
        };
        outcome(ret, error).map(|n| (n as usize, flags))
    }
    fn reserve(&self, bytes: &[u8]) -> Outcome<usize> {
        let (mut data, mut len) = (null_mut(), 0);
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe {
            ffi::load::vfiomig_device_reserve(self.device, u64::MAX, &mut data, &mut len, errp)
        })?;
        Ok(fill(data.cast(), len, bytes))
    }
    fn commit(&self, len: usize) -> Outcome<()> {
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::load::vfiomig_device_commit(self.device, len, 0, errp) })
    }
    fn write(&self, bytes: &[u8]) -> Outcome<()> {
        let mut error = null_mut();
        // SAFETY: live handle, valid pointers.
        let ret =
            unsafe { ffi::load::vfiomig_device_write(self.device, bytes.as_ptr().cast(), bytes.len(), 0, &mut error) };
        outcome(ret, error).map(|n| assert_eq!(n as usize, bytes.len()))
    }
    fn finish(&self, total: Option<u64>) -> Outcome<()> {
        let total = total.unwrap_or(u64::MAX);
        // SAFETY: live handle, valid pointers.
        self.status(|errp| unsafe { ffi::load::vfiomig_device_finish(self.device, total, errp) })
    }
    fn free(self) {}
}

impl Drop for CDoor {
    fn drop(&mut self) {
        // SAFETY: the handle is live and never used again; afterwards the library has no use for the fake.
        unsafe {
            ffi::device::vfiomig_device_free(self.device);
            drop(Box::from_raw(self.fake));
        }
    }
}

/// One test per door for each generic function.
#[macro_export]
macro_rules! both_doors {
    ($($name:ident)*) => {
        mod rust_api {
            $(#[test] fn $name() { super::$name::<$crate::common::doors::RustDoor>(); })*
        }
        mod c_api {
            $(#[test] fn $name() { super::$name::<$crate::common::doors::CDoor>(); })*
        }
    };
}
