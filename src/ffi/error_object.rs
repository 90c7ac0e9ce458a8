//! What an error object holds, and how a caller gets it.

use crate::error::{DeviceResult, Error, ErrorKind};
use std::ffi::{CString, c_char, c_int};

/// What one step did to one device. Fixed layout, never grows. It lives as long as the error or
/// report that holds it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_device_result {
    /// The device's name.
    pub device: *const c_char,
    /// What happened to the device, in words; may be empty.
    pub message: *const c_char,
    /// How long the step took on this device.
    pub duration_ns: u64,
    /// The device's errno, positive; 0 where the device itself did not fail.
    pub saved_errno: i32,
    /// VFIOMIG_STATE_* before the step.
    pub from: u32,
    /// VFIOMIG_STATE_* that was requested.
    pub to: u32,
    /// VFIOMIG_STATE_* that was read after the step, after `action` was done. VFIOMIG_STATE_ERROR if
    /// `action` is VFIOMIG_ACTION_DEAD.
    pub found: u32,
    /// VFIOMIG_ACTION_*.
    pub action: u32,
    /// VFIOMIG_RESULT_AGAIN, or 0.
    pub flags: u32,
}

/// In vfiomig_device_result.flags: the device was not waited for any longer, or its stream has no
/// end yet; the same call can be made again. -ETIMEDOUT without it is the driver's own.
pub const VFIOMIG_RESULT_AGAIN: u32 = 0x1;

const _: () = assert!(size_of::<vfiomig_device_result>() == 2 * size_of::<*const c_char>() + 32);

/// An error. Made by the library, freed by vfiomig_error_free().
pub struct vfiomig_error {
    pub(super) kind: ErrorKind,
    pub(super) errno: c_int,
    pub(super) message: CString,
    pub(super) results: Vec<vfiomig_device_result>,
    /// What the pointers in `results` point to.
    _texts: Vec<CString>,
}

pub(super) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "?")).unwrap_or_default()
}

/// Results as C reads them; `texts` holds what they point to.
pub(super) fn results_of(results: &[DeviceResult], texts: &mut Vec<CString>) -> Vec<vfiomig_device_result> {
    let mut keep = |text: &str| {
        let text = c_text(text);
        // The heap memory of a CString stays where it is when the CString moves into the vector.
        let pointer = text.as_ptr();
        texts.push(text);
        pointer
    };
    let result = |result: &DeviceResult| vfiomig_device_result {
        device: keep(&result.device),
        message: keep(&result.message),
        duration_ns: u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX),
        saved_errno: result.errno,
        from: result.from,
        to: result.to,
        found: result.found,
        action: result.action as u32,
        flags: if result.again { VFIOMIG_RESULT_AGAIN } else { 0 },
    };
    results.iter().map(result).collect()
}

impl vfiomig_error {
    fn new(error: &Error) -> Self {
        let mut texts = Vec::new();
        let results = results_of(error.results(), &mut texts);
        let errno = if error.errno() > 0 { error.errno() } else { libc::EIO };
        vfiomig_error { kind: error.kind(), errno, message: c_text(&error.to_string()), results, _texts: texts }
    }
}

/// # Safety
/// `errp` is NULL or points to memory for one pointer.
pub(super) unsafe fn set_error(errp: *mut *mut vfiomig_error, error: Error) {
    if !errp.is_null() {
        let object = Box::into_raw(Box::new(vfiomig_error::new(&error)));
        // SAFETY: not NULL, so writable by the contract of this function. What was there is never read.
        unsafe { errp.write(object) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Action;

    #[test]
    fn a_call_that_can_be_made_again_is_told_of_in_the_result() {
        let result = |again| DeviceResult {
            device: "nic0".into(),
            errno: libc::ETIMEDOUT,
            from: 3,
            to: 2,
            found: 3,
            action: Action::None,
            again,
            duration: std::time::Duration::ZERO,
            message: String::new(),
        };
        let results = results_of(&[result(true), result(false)], &mut Vec::new());
        let told: Vec<_> = results.iter().map(|result| (result.saved_errno, result.flags)).collect();
        assert_eq!(told, [(libc::ETIMEDOUT, VFIOMIG_RESULT_AGAIN), (libc::ETIMEDOUT, 0)]);
    }
}
