//! The handle: how a program gets one, why it gets none, and how it gives it back.

use super::options::{Options, config};
use crate::config::Config;
use crate::device::Device;
use crate::peers::Peer;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};

/// `struct simdev`.
pub struct Simdev {
    pub(super) device: Device,
    /// Texts that were handed out; they live as long as the handle.
    pub(super) texts: parking_lot::Mutex<Vec<CString>>,
}

/// # Safety
/// `d` is NULL or a handle that lives.
pub(super) unsafe fn handle<'a>(d: *const Simdev) -> Option<&'a Simdev> {
    // SAFETY: the function's contract.
    unsafe { d.as_ref() }
}

pub(super) fn status(result: Result<(), i32>) -> c_int {
    result.map_or_else(|errno| -errno, |()| 0)
}

thread_local! {
    /// Why this thread's last attempt made no device.
    static WHY_NOT: RefCell<CString> = RefCell::default();
}

/// A handle, or NULL and the reason.
fn give(config: Result<Config, String>) -> *mut Simdev {
    let (handle, text) = match config {
        Ok(config) => {
            let simdev = Simdev { device: Device::new(config), texts: Default::default() };
            (Box::into_raw(Box::new(simdev)), String::new())
        }
        Err(text) => (std::ptr::null_mut(), text),
    };
    WHY_NOT.set(CString::new(text).unwrap_or_default());
    handle
}

/// Why the calling thread's last `simdev_new()` or `simdev_new_peer()` returned NULL; "" if it did not.
#[unsafe(no_mangle)]
pub extern "C" fn simdev_why_not() -> *const c_char {
    WHY_NOT.with_borrow(|text| text.as_ptr())
}

/// A device, or NULL if the options make none.
///
/// # Safety
/// `o` is NULL or `struct simdev_options` of `argsz` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_new(o: *const Options) -> *mut Simdev {
    let mut options = Options::default();
    if !o.is_null() {
        // SAFETY: the function's contract: argsz, the first field, is there at least.
        let argsz = unsafe { o.cast::<u32>().read() } as usize;
        if argsz < 4 || argsz > size_of::<Options>() {
            return give(Err(format!("argsz: {argsz} is not from 4 to {}", size_of::<Options>())));
        }
        // SAFETY: `argsz` bytes are readable at `o`, and fit into `options`, for which every bit pattern is legal.
        unsafe { std::ptr::copy_nonoverlapping(o.cast::<u8>(), (&raw mut options).cast::<u8>(), argsz) };
    }
    give(config(&options))
}

/// A device that behaves as the driver or server of that name, or NULL if there is none.
///
/// # Safety
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_new_peer(name: *const c_char, seed: u64) -> *mut Simdev {
    if name.is_null() {
        return give(Err("name is NULL".to_string()));
    }
    // SAFETY: the function's contract; it is not NULL.
    let name = unsafe { CStr::from_ptr(name) };
    let peer = name.to_str().ok().and_then(Peer::from_name);
    let config = peer.map(|peer| Config { seed: (seed != 0).then_some(seed), ..peer.config() });
    give(config.ok_or_else(|| format!("name: {} is no peer", name.to_string_lossy())))
}

/// Frees the handle. No client may use its table any more; texts that it gave are gone.
///
/// # Safety
/// `d` is NULL or a handle that lives; it does not afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_free(d: *mut Simdev) {
    if !d.is_null() {
        // SAFETY: `simdev_new` made it, and by contract this is its end.
        drop(unsafe { Box::from_raw(d) });
    }
}
