//! The VM stops and starts: what the group and its migration do is the library's table.

use super::error_object::vfiomig_error;
use super::handle::on;
pub use super::handle::vfiomig_group;
use super::sized::{ExtensibleStruct, check_out, copy_out};
use crate::error::{Error, Result};
use crate::group::{Group, SwitchAction, Switched};
use std::ffi::c_int;

/// vfiomig_group_stop_begin(), vfiomig_group_stop(): the VM stops so that its guest is handed over,
/// not for its user.
pub const VFIOMIG_STOP_F_HAND_OVER: u32 = 0x1;

/// In vfiomig_run_state_result.action: the devices are where they have to be.
pub const VFIOMIG_RUN_STATE_ACTION_NOTHING: u32 = 0;
/// In vfiomig_run_state_result.action: devices were stopped; a migration is as it was.
pub const VFIOMIG_RUN_STATE_ACTION_PAUSED: u32 = 1;
/// In vfiomig_run_state_result.action: devices run again.
pub const VFIOMIG_RUN_STATE_ACTION_RESUMED: u32 = 2;
/// In vfiomig_run_state_result.action: the migration entered another phase.
pub const VFIOMIG_RUN_STATE_ACTION_ADVANCED: u32 = 3;
/// In vfiomig_run_state_result.action: the migration was aborted.
pub const VFIOMIG_RUN_STATE_ACTION_ABORTED: u32 = 4;

/// What a stop or a start of the VM did. After a failure it says what was tried.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_run_state_result {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// VFIOMIG_RUN_STATE_ACTION_*.
    pub action: u32,
    /// How many devices have a stream that became void by this call: the destination side throws away
    /// what it has of them.
    pub void_streams: u32,
    /// The first of these devices, counted from 0 in the order of the group; 0 if there is none.
    pub first_void: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_run_state_result {
    const NAME: &'static str = "vfiomig_run_state_result";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_run_state_result>() == 24);

fn result_in_c(switched: &Switched) -> vfiomig_run_state_result {
    let action = match switched.action {
        SwitchAction::Nothing => VFIOMIG_RUN_STATE_ACTION_NOTHING,
        SwitchAction::Paused => VFIOMIG_RUN_STATE_ACTION_PAUSED,
        SwitchAction::Resumed => VFIOMIG_RUN_STATE_ACTION_RESUMED,
        SwitchAction::Advanced => VFIOMIG_RUN_STATE_ACTION_ADVANCED,
        SwitchAction::Aborted => VFIOMIG_RUN_STATE_ACTION_ABORTED,
    };
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    vfiomig_run_state_result {
        argsz: 0,
        flags: 0,
        action,
        void_streams: number(switched.void.len()),
        first_void: switched.void.first().map_or(0, |&index| number(index)),
        reserved: 0,
    }
}

/// # Safety
/// `g` is NULL or a live handle; `out` is NULL or valid for its argsz; `errp` is NULL or valid.
unsafe fn switch(
    name: &'static str,
    g: *mut vfiomig_group,
    (flags, known): (u32, u32),
    out: *mut vfiomig_run_state_result,
    errp: *mut *mut vfiomig_error,
    call: impl FnOnce(&Group) -> Switched,
) -> c_int {
    let body = |group: &Group| -> Result<()> {
        // SAFETY: the contract of this function.
        let size = if out.is_null() { None } else { Some(unsafe { check_out(out) }?) };
        if flags & !known != 0 {
            return Err(Error::argument(format!("flags: {flags:#x} has unknown bits")));
        }
        let switched = call(group);
        if let Some(size) = size {
            // SAFETY: `size` is what check_out returned for `out`.
            unsafe { copy_out(out, size, &result_in_c(&switched)) };
        }
        switched.outcome
    };
    // SAFETY: the contract of this function.
    unsafe { on(name, g, errp, body) }
}

/// The first half of vfiomig_group_stop(), for VMMs that stop in two passes: devices that have P2P
/// states are brought there, the others still run. Stop vCPUs before. vfiomig_group_stop() with the
/// same flags follows, or a start.
///
/// Returns: 0 or -errno; `out`, which may be NULL, is written on failure, too.
/// Errors: as vfiomig_group_stop().
/// Phases: any.
/// Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
// Safety: `g` is NULL or a live handle; `out` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_stop_begin(
    g: *mut vfiomig_group,
    flags: u32,
    out: *mut vfiomig_run_state_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let call = |group: &Group| group.stop_begin(flags & VFIOMIG_STOP_F_HAND_OVER != 0);
    // SAFETY: the contract of this function.
    unsafe { switch("vfiomig_group_stop_begin", g, (flags, VFIOMIG_STOP_F_HAND_OVER), out, errp, call) }
}

/// The VM stops; for a VMM that moves its devices from one handler of its run state. Stop vCPUs
/// before. All devices stand still after success, whatever the group's migration does, and the call
/// chooses by its phase:
///
/// - no migration; a save until SAVE_PRE_COPY; a load that is in IDLE or has left LOAD_RESUMING:
///   vfiomig_group_pause(), from where a save may continue.
/// - a save until SAVE_P2P_GRACE with VFIOMIG_STOP_F_HAND_OVER, and one in SAVE_VIOMMU_GRACE or
///   SAVE_P2P_GRACE also without it: SAVE_STOP_COPY is entered, the first half enters
///   SAVE_P2P_GRACE. If the migration was canceled: CANCELED, and without the flag as in FAILED.
/// - SAVE_STOP_COPY, SAVE_HALTED, LOAD_RESUMING: nothing.
/// - FAILED: vfiomig_migration_abort() to STOP. Nothing with VFIOMIG_STOP_F_HAND_OVER, because the
///   VM starts again, nor once SAVE_HALTED was begun.
///
/// With VFIOMIG_STOP_F_HAND_OVER and without a migration it is a pause; a load refuses it (ORDER).
/// VFIOMIG_ABORT_TO_RUN_STATE goes by the last stop without that flag, or start, that was not
/// refused.
///
/// Returns: 0 or -errno; `out`, which may be NULL, is written on failure, too.
/// Errors: ARGUMENT (`flags`, `out`; -ENODEV: a device was freed), ORDER, and those of
/// vfiomig_group_pause(), vfiomig_migration_advance() and vfiomig_migration_abort().
/// Phases: any.
/// Threads: whole. Blocks: in the kernel, for the slowest device; for a drain in progress, which
/// vfiomig_migration_cancel() ends. Since: 0.1
// Safety: `g` is NULL or a live handle; `out` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_stop(
    g: *mut vfiomig_group,
    flags: u32,
    out: *mut vfiomig_run_state_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let call = |group: &Group| group.stop(flags & VFIOMIG_STOP_F_HAND_OVER != 0);
    // SAFETY: the contract of this function.
    unsafe { switch("vfiomig_group_stop", g, (flags, VFIOMIG_STOP_F_HAND_OVER), out, errp, call) }
}

/// The first half of vfiomig_group_start(): stopped devices that have P2P states are brought there.
/// Nothing where vfiomig_group_start() aborts, which has no half. `flags` is 0.
///
/// Returns: 0 or -errno; `out`, which may be NULL, is written on failure, too.
/// Errors: as vfiomig_group_start().
/// Phases: any but SAVE_HALTED and LOAD_RESUMING; FAILED of a save, not of a load.
/// Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
// Safety: `g` is NULL or a live handle; `out` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_start_begin(
    g: *mut vfiomig_group,
    flags: u32,
    out: *mut vfiomig_run_state_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { switch("vfiomig_group_start_begin", g, (flags, 0), out, errp, Group::start_begin) }
}

/// The VM starts: start vCPUs after success. All devices run then, whatever the group's migration
/// does, and the call chooses by its phase. `flags` is 0.
///
/// - no migration; a save until SAVE_PRE_COPY; a load in IDLE or LOAD_RUNNING:
///   vfiomig_group_resume(). A save in SAVE_PRE_COPY is back in SAVE_TRACKING if its streams became
///   void.
/// - a save after SAVE_PRE_COPY, or that has FAILED: vfiomig_migration_abort() to RUNNING. Once
///   SAVE_HALTED was begun it is refused (ORDER).
/// - LOAD_LOADED, LOAD_P2P_GRACE: LOAD_RUNNING is entered, the first half enters LOAD_P2P_GRACE.
/// - LOAD_RESUMING: refused (ORDER), and the message names the devices that have no whole stream.
///   A load that has FAILED: the first error again; a stop aborts it.
///
/// Returns: 0 or -errno; `out`, which may be NULL, is written on failure, too.
/// Errors: ARGUMENT (`flags`, `out`; -ENODEV: a device was freed), ORDER, and those of
/// vfiomig_group_resume(), vfiomig_migration_advance() and vfiomig_migration_abort().
/// Phases: any but SAVE_HALTED and LOAD_RESUMING; FAILED of a save, not of a load.
/// Threads: whole. Blocks: in the kernel, for the slowest device; for a drain in progress, which
/// vfiomig_migration_cancel() ends, and the call itself where it aborts a save. Since: 0.1
// Safety: `g` is NULL or a live handle; `out` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_start(
    g: *mut vfiomig_group,
    flags: u32,
    out: *mut vfiomig_run_state_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { switch("vfiomig_group_start", g, (flags, 0), out, errp, Group::start) }
}
