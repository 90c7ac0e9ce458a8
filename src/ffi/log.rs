//! The log callback.

use super::guard::guard_value;
use crate::log::{Level, set_sink_up_to};
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;

/// Receives one line, without line end, valid during the call. `level` is one of VFIOMIG_LOG_*. It
/// is called on the thread that called the library, with no lock held. It may call the library, also
/// vfiomig_set_log(), but not for the device that the message is about.
pub type vfiomig_log_fn = Option<unsafe extern "C" fn(opaque: *mut c_void, level: c_int, message: *const c_char)>;

/// Something failed that the library could not mend; the caller gets the same as an error object.
/// Levels are those of syslog.
pub const VFIOMIG_LOG_ERROR: c_int = 3;
/// Something is unusual and was handled.
pub const VFIOMIG_LOG_WARNING: c_int = 4;
/// One line for each step that matters to an operator.
pub const VFIOMIG_LOG_INFO: c_int = 6;
/// One line for each request to a device.
pub const VFIOMIG_LOG_DEBUG: c_int = 7;

const _: () = assert!(Level::Error as c_int == VFIOMIG_LOG_ERROR && Level::Warning as c_int == VFIOMIG_LOG_WARNING);
const _: () = assert!(Level::Info as c_int == VFIOMIG_LOG_INFO && Level::Debug as c_int == VFIOMIG_LOG_DEBUG);

struct Callback {
    function: unsafe extern "C" fn(*mut c_void, c_int, *const c_char),
    opaque: *mut c_void,
}

// SAFETY: `opaque` is never dereferenced here; vfiomig_set_log's contract makes the VMM answer for calls from any thread.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Callback {
    fn call(&self, level: Level, text: &str) {
        let text = CString::new(text.replace(['\0', '\n'], " ")).unwrap_or_default();
        // SAFETY: vfiomig_set_log's contract.
        unsafe { (self.function)(self.opaque, level as c_int, text.as_ptr()) };
    }
}

/// Sets the process's log callback, or removes it (NULL, with any `opaque` and `max_level`).
/// Messages above `max_level` are not made: it is one of VFIOMIG_LOG_*, and below VFIOMIG_LOG_ERROR
/// there are no messages. Without a callback the library is silent. May be called from the callback.
///
/// Threads: any; a call of the old callback may still be in progress in another thread. Blocks:
/// never. Since: 0.1
// Safety: `log` may be called with `opaque` from any thread that calls the library, until another callback is set and calls in
// progress have returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_set_log(log: vfiomig_log_fn, opaque: *mut c_void, max_level: c_int) {
    guard_value("vfiomig_set_log", (), || {
        let callback = log.map(|function| Callback { function, opaque });
        set_sink_up_to(
            callback.map(|callback| Arc::new(move |level: Level, text: &str| callback.call(level, text)) as _),
            max_level,
        );
    });
}
