//! Times of state changes, as a text that a VMM keeps.

use super::error_object::vfiomig_error;
use super::handle::{on, vfiomig_group};
use super::report::{give, vfiomig_report};
use crate::error::{Error, Result};
use crate::group::Group;
use std::ffi::{CStr, c_char, c_int};

/// How long state changes of the group's devices take, as far as it is known: from a save or a
/// pause of this process, or from vfiomig_group_set_timings(). `out` receives a report without
/// phases, to be freed, whose text is what vfiomig_group_set_timings() takes. Keep the text with
/// the VM, or with the kind of its devices: then the estimate of a first migration knows them.
///
/// The first line of the text is "vfiomig-timings 1". Each other line is "FROM TO TIME NAME",
/// separated by one space: two states with the names of vfiomig_state_name(); a whole number with
/// one of the units ns, us, ms and s; the device's name up to the end of the line, with \\, \n and
/// \r for a backslash and for line ends. Empty lines, and lines that begin with #, are ignored.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL).
/// Phases: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `g` is NULL or a live handle; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_get_timings(
    g: *mut vfiomig_group,
    out: *mut *mut vfiomig_report,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |group: &Group| -> Result<()> {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { give(out, vfiomig_report::of_text(&group.timings())) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_get_timings", g, errp, body) }
}

/// Sets how long state changes of the group's devices take: what vfiomig_group_get_timings()
/// returned in an earlier process, a measurement, or a vendor's figure. The format is described
/// there. A time holds until the change is measured. vfiomig_migration_get_estimate() uses those of
/// the changes that a save makes while the guest is stopped: PRE_COPY to PRE_COPY_P2P, PRE_COPY_P2P
/// to STOP_COPY, and for devices without P2P or PRE_COPY those that they make instead. Devices are
/// found by their names, so they must have been added before. Lines for other names are left out,
/// which is no error: `unknown` may be NULL; else it receives a report, to be freed, with one such
/// name in each line; it may be empty.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`text` NULL, not UTF-8, of another version, or with a line that is wrong,
/// which the message names by its number; then nothing was set).
/// Phases: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `g` is NULL or a live handle; `text` is NULL or a C string; `unknown` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_set_timings(
    g: *mut vfiomig_group,
    text: *const c_char,
    unknown: *mut *mut vfiomig_report,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |group: &Group| -> Result<()> {
        if text.is_null() {
            return Err(Error::argument("text is NULL"));
        }
        // SAFETY: not NULL, so a C string by the contract of this function.
        let bytes = unsafe { CStr::from_ptr(text) };
        let given = bytes.to_str().map_err(|error| {
            let line = bytes.to_bytes().iter().take(error.valid_up_to()).filter(|&&byte| byte == b'\n').count();
            Error::argument(format!("timings, line {}: it is not UTF-8", line.saturating_add(1)))
        })?;
        let names = group.set_timings(given)?;
        if !unknown.is_null() {
            // SAFETY: not NULL, so writable by the contract of this function.
            unsafe { give(unknown, vfiomig_report::of_text(&names.join("\n"))) };
        }
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_set_timings", g, errp, body) }
}
