//! The ends of a migration: of each device's load, and of a save.

use super::error_object::vfiomig_error;
use super::handle::{object_of, on};
pub use super::handle::{vfiomig_device, vfiomig_migration};
use super::library::VFIOMIG_UNKNOWN;
use crate::error::{Error, Result};
use crate::migration::{EndOptions, Migration};
use std::ffi::c_int;

/// vfiomig_migration_end() with `committed` 1: the caller states that the destination side has all
/// of RAM without a final harvest.
pub const VFIOMIG_END_F_NO_HARVEST: u32 = 0x1;
/// vfiomig_migration_end() with `committed` 0: the caller states that the guest does not run
/// elsewhere and never will. Required once SAVE_HALTED was begun.
pub const VFIOMIG_END_F_NO_SECOND_GUEST: u32 = 0x2;

fn options(flags: u32) -> Result<EndOptions> {
    if flags & !(VFIOMIG_END_F_NO_HARVEST | VFIOMIG_END_F_NO_SECOND_GUEST) != 0 {
        return Err(Error::argument(format!("flags: {flags:#x} has unknown bits")));
    }
    Ok(EndOptions {
        waive_harvest: flags & VFIOMIG_END_F_NO_HARVEST != 0,
        no_second_guest: flags & VFIOMIG_END_F_NO_SECOND_GUEST != 0,
    })
}

/// The end of the stream of one device: states its length, as vfiomig_device_finish() does, and
/// takes the device to LOAD_LOADED, where a v2 device validates its stream. v1 and draft devices
/// stay in RESUMING until they run. The phase is entered with the last device of the group. For VMMs
/// that learn of each device's end by itself. Threads may call it at once for their devices, which
/// go side by side, and one of them gets 1; calls for other devices do not wait for it. A VMM with
/// one thread that has all streams before it states an end calls vfiomig_device_finish() for each
/// instead, and vfiomig_migration_advance() takes all devices to LOAD_LOADED side by side. `flags`
/// is 0.
///
/// With `queue_bytes` of the migration's options the device goes to LOAD_LOADED on its own thread,
/// after what is on its way to it, and the call does not wait for that; but the last one waits for
/// all devices. What became of an earlier device is an error of the next call, or of the last, and
/// names it; until 1 was returned nothing is known of the devices but the lengths of their streams.
///
/// If the stream is too short or too long nothing else happens (INCOMPLETE): bytes that are missing
/// may still be written, and the call repeated. If the device does not accept its stream, it is
/// reset and the migration is FAILED, whatever the streams of the others have come to. If
/// LOAD_LOADED was not entered for another reason, vfiomig_migration_advance() enters it.
///
/// Returns: 1: LOAD_LOADED was entered; 0: other devices have no end yet; or -errno.
/// Errors: ARGUMENT (`d` NULL, or not in the group; `flags`), ORDER (the phase; the end of `d` was
/// stated already), INCOMPLETE (both lengths are in the message), BUSY (a buffer is lent), STALE
/// (the session of `d` is broken), CANCELED (also: another thread has aborted meanwhile), and those
/// of vfiomig_migration_advance(); in FAILED the first error again.
/// Phases: LOAD_RESUMING.
/// Threads: whole, but it holds no other call up while the device validates, except those that must
/// wait for the device: vfiomig_migration_advance(), _advance_device(), _load_complete() and
/// _abort().
/// Blocks: for a data call on `d`, and in the kernel for `d`; with `queue_bytes` never, but the last
/// one for all devices: a cancel ends that wait, as does an abort. Since: 0.1
// Safety: `m` and `d` are NULL or live handles; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_load_done(
    m: *mut vfiomig_migration,
    d: *mut vfiomig_device,
    total: u64,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_migration_load_done";
    let body = |migration: &Migration| {
        // SAFETY: the contract of this function.
        let device = unsafe { object_of(NAME, d.cast_const()) }?;
        if flags != 0 {
            return Err(Error::argument(format!("flags: {flags:#x} has unknown bits")));
        }
        migration.load_done(&device, (total != VFIOMIG_UNKNOWN).then_some(total))
    };
    // SAFETY: the contract of this function.
    unsafe { on(NAME, m, errp, body) }
}

/// The end of a save. `committed` 1: the destination side has everything, and its guest runs or may
/// run. `committed` 0: the guest stays here; so does that of a snapshot. vfiomig_migration_free()
/// follows.
///
/// - committed, in SAVE_STOP_COPY: SAVE_HALTED is entered. If the final harvest or the END of a
///   stream is missing, nothing is done (ORDER). If a device fails, no device is brought back.
/// - committed, in SAVE_HALTED: nothing.
/// - committed, in an earlier phase: nothing is done (ORDER). In FAILED: the first error again.
/// - not committed: vfiomig_migration_abort() to VFIOMIG_ABORT_TO_RUN_STATE, in any phase. Once
///   SAVE_HALTED was begun only with VFIOMIG_END_F_NO_SECOND_GUEST, else nothing is done (ORDER).
///
/// Returns: 0 or -errno. vfiomig_migration_get_phase() says SAVE_HALTED or IDLE after success.
/// Errors: ARGUMENT (`committed` is neither 0 nor 1; `flags` unknown or not for this end; a load),
/// ORDER, and those of vfiomig_migration_advance() and vfiomig_migration_abort().
/// Phases: any of a save, as above.
/// Threads: whole. Blocks: in the kernel, as vfiomig_migration_advance() and
/// vfiomig_migration_abort(). Since: 0.1
// Safety: `m` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_end(
    m: *mut vfiomig_migration,
    committed: u32,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |migration: &Migration| match committed {
        0 | 1 => migration.end(committed == 1, options(flags)?),
        other => Err(Error::argument(format!("committed: {other} is neither 0 nor 1"))),
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_end", m, errp, body) }
}
