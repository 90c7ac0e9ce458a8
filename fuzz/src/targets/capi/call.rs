//! A call with its error, and structs of any size.

use crate::clock::call;
use crate::feed::Feed;
use std::ffi::CStr;
use std::ptr::null_mut;
use vfiomig::ffi::error::*;

const MOST: u64 = 4_000_000;

/// A call of the library; its error is looked at from all sides.
pub(super) fn c<R: Into<i64> + Copy>(what: &str, body: impl FnOnce(*mut *mut vfiomig_error) -> R) -> i64 {
    let mut e: *mut vfiomig_error = null_mut();
    let r: i64 = call(what, 60, MOST, || body(&mut e)).into();
    if r >= 0 {
        assert!(e.is_null(), "{what}: an error beside success");
        return r;
    }
    assert!(!e.is_null(), "{what}: {r} without an error");
    unsafe {
        let code = vfiomig_error_code(e);
        assert!((1..=10).contains(&code), "{what}: code {code}");
        assert_eq!(-i64::from(vfiomig_error_errno(e)), r);
        let text = CStr::from_ptr(vfiomig_error_message(e)).to_str().unwrap();
        crate::trace!("  {what}: {text}");
        assert!(!text.is_empty());
        let n = vfiomig_error_result_count(e);
        for i in 0..n {
            let result = &*vfiomig_error_result(e, i);
            assert!(CStr::from_ptr(result.device).to_str().is_ok() && CStr::from_ptr(result.message).to_str().is_ok());
            assert!(
                result.saved_errno >= 0 && result.from < 8 && result.to < 8 && result.found < 8 && result.action < 4
            );
        }
        assert!(vfiomig_error_result(e, n).is_null());
        vfiomig_error_free(e);
    }
    r
}

/// A struct of `argsz` bytes, no more, that begins as VFIOMIG_INIT leaves it.
pub(super) struct StructBytes(Box<[u8]>);

impl StructBytes {
    pub(super) fn new(f: &mut Feed, usual: usize) -> StructBytes {
        let len = if f.lies() { 8 * (1 + f.u8() as usize % 40) } else { usual };
        let mut bytes = vec![0u8; len].into_boxed_slice();
        let says = if f.lies() { f.u8() as u32 % (len as u32 + 1) } else { len as u32 };
        bytes[..4].copy_from_slice(&says.to_ne_bytes());
        StructBytes(bytes)
    }
    pub(super) fn of<T: Copy>(f: &mut Feed, value: &T) -> StructBytes {
        let mut this = StructBytes::new(f, size_of::<T>());
        let from = unsafe { std::slice::from_raw_parts((value as *const T).cast::<u8>(), size_of::<T>()) };
        let n = this.0.len().min(from.len());
        if n > 4 {
            this.0[4..n].copy_from_slice(&from[4..n]);
        }
        this
    }
    pub(super) fn ptr<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}
