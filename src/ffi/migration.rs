//! Migration handles: one save or one load of a group.

use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{fact_of, free, new, object_of, on, value_of};
pub use super::handle::{vfiomig_device, vfiomig_group, vfiomig_migration};
use super::report::{give, vfiomig_report};
use super::sized::{ExtensibleStruct, copy_in};
use crate::dialect::Direction;
use crate::error::{Error, Result};
use crate::migration::{AbortTo, Migration, MigrationOptions, Phase};
use std::ffi::{c_char, c_int};

/// The group is saved.
pub const VFIOMIG_DIRECTION_SAVE: u32 = 1;
/// The group is loaded.
pub const VFIOMIG_DIRECTION_LOAD: u32 = 2;

/// Nothing was begun, or everything was aborted.
pub const VFIOMIG_PHASE_IDLE: u32 = 0;
/// Every tracker is started; draft devices are in PRE_COPY.
pub const VFIOMIG_PHASE_SAVE_TRACKING: u32 = 1;
/// Every running device that has PRE_COPY is in it.
pub const VFIOMIG_PHASE_SAVE_PRE_COPY: u32 = 2;
/// v1 devices with NDMA start no DMA, while vCPUs still run to answer page requests. Optional.
pub const VFIOMIG_PHASE_SAVE_VIOMMU_GRACE: u32 = 3;
/// vCPUs are stopped; every device that has a P2P state is in it.
pub const VFIOMIG_PHASE_SAVE_P2P_GRACE: u32 = 4;
/// All devices are in STOP_COPY: the final harvest, and the rest of the streams.
pub const VFIOMIG_PHASE_SAVE_STOP_COPY: u32 = 5;
/// Everything was read; trackers are stopped, devices in STOP.
pub const VFIOMIG_PHASE_SAVE_HALTED: u32 = 6;
/// Devices take their streams.
pub const VFIOMIG_PHASE_LOAD_RESUMING: u32 = 17;
/// The streams are whole; v2 devices have validated them. The guest may stay here, paused.
pub const VFIOMIG_PHASE_LOAD_LOADED: u32 = 18;
/// Every device that has RUNNING_P2P is in it.
pub const VFIOMIG_PHASE_LOAD_P2P_GRACE: u32 = 19;
/// All devices run. Start vCPUs after this was entered.
pub const VFIOMIG_PHASE_LOAD_RUNNING: u32 = 20;
/// A device failed. Only vfiomig_migration_abort(), the getters and vfiomig_migration_free() are
/// allowed.
pub const VFIOMIG_PHASE_FAILED: u32 = 32;

const _: () = assert!(Phase::Idle as u32 == VFIOMIG_PHASE_IDLE && Phase::Failed as u32 == VFIOMIG_PHASE_FAILED);
const _: () = assert!(Phase::SaveTracking as u32 == VFIOMIG_PHASE_SAVE_TRACKING);
const _: () = assert!(Phase::SavePreCopy as u32 == VFIOMIG_PHASE_SAVE_PRE_COPY);
const _: () = assert!(Phase::SaveViommuGrace as u32 == VFIOMIG_PHASE_SAVE_VIOMMU_GRACE);
const _: () = assert!(Phase::SaveP2pGrace as u32 == VFIOMIG_PHASE_SAVE_P2P_GRACE);
const _: () = assert!(Phase::SaveStopCopy as u32 == VFIOMIG_PHASE_SAVE_STOP_COPY);
const _: () = assert!(Phase::SaveHalted as u32 == VFIOMIG_PHASE_SAVE_HALTED);
const _: () = assert!(Phase::LoadResuming as u32 == VFIOMIG_PHASE_LOAD_RESUMING);
const _: () = assert!(Phase::LoadLoaded as u32 == VFIOMIG_PHASE_LOAD_LOADED);
const _: () = assert!(Phase::LoadP2pGrace as u32 == VFIOMIG_PHASE_LOAD_P2P_GRACE);
const _: () = assert!(Phase::LoadRunning as u32 == VFIOMIG_PHASE_LOAD_RUNNING);

/// To HALTED without a final harvest: the caller states that the destination side has all of RAM.
pub const VFIOMIG_ADVANCE_F_NO_HARVEST: u32 = 0x1;

/// vfiomig_migration_abort(): all devices to RUNNING.
pub const VFIOMIG_ABORT_TO_RUNNING: u32 = 0;
/// vfiomig_migration_abort(): all devices to STOP.
pub const VFIOMIG_ABORT_TO_STOP: u32 = 1;
/// vfiomig_migration_abort(): to the VM's run state: STOP if the last of vfiomig_group_pause() and
/// vfiomig_group_resume() was a pause, else RUNNING. A call that failed for a device counts, too,
/// since vCPUs are stopped before a pause, and started after a resume.
pub const VFIOMIG_ABORT_TO_RUN_STATE: u32 = 2;

/// vfiomig_migration_abort(): the caller states that the guest does not run elsewhere and never
/// will. Required once vfiomig_migration_advance() to HALTED was called.
pub const VFIOMIG_ABORT_F_NO_SECOND_GUEST: u32 = 0x1;

/// How a migration works. Set up with VFIOMIG_INIT. NULL stands for all defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_migration_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// Memory for queues between devices and the caller, in bytes and for all devices together; 0:
    /// none. A load puts what vfiomig_device_write(), _receive(), _commit() and _finish() get into a
    /// queue for each device, and a thread for each, which continues between the calls, gives it to
    /// the device. A save reads ahead: from the moment in which a device is in STOP_COPY, a thread of
    /// the library reads its stream into a queue, from which the data calls on the device take: for
    /// callers that serve one device after another. Bytes, order, segments and sizes stay as they
    /// are, and an error is returned where it happened; at least 16 KiB for each device. The threads
    /// end with their streams, with an abort, and with the migration; a cancel ends them, too.
    /// Devices whose functions have no VFIOMIG_OPS_F_ANY_THREAD, a draft that is saved, and groups
    /// with `max_workers` 1 have no queues.
    pub queue_bytes: u64,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_migration_options {
    const NAME: &'static str = "vfiomig_migration_options";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_migration_options>() == 16);

fn options_of(o: &vfiomig_migration_options) -> MigrationOptions {
    MigrationOptions { queue_bytes: usize::try_from(o.queue_bytes).unwrap_or(usize::MAX) }
}

/// Makes a migration in IDLE. While it exists, no device of the group can be added or removed, and
/// no tracker removed. `direction` is one of VFIOMIG_DIRECTION_*. It is refused, with every reason,
/// unless all devices are migratable and in RUNNING or STOP; a save also unless a tracker covers
/// each device.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL, `direction`, `o`; -ENODEV: the group was freed), ORDER (the group
/// has a migration), UNSUPPORTED (with every reason).
/// Phases: none: no migration of the group may exist.
/// Threads: whole, for the group. Blocks: for calls in progress. Since: 0.1
// Safety: `g` is NULL or a live handle; `o` is NULL or readable for its argsz; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_new(
    g: *mut vfiomig_group,
    direction: u32,
    o: *const vfiomig_migration_options,
    out: *mut *mut vfiomig_migration,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_migration_new";
    let body = || {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        let direction = match direction {
            VFIOMIG_DIRECTION_SAVE => Direction::Save,
            VFIOMIG_DIRECTION_LOAD => Direction::Load,
            other => return Err(Error::argument(format!("direction: {other} is none of VFIOMIG_DIRECTION_*"))),
        };
        // SAFETY: the contract of this function.
        let options = unsafe { copy_in(o) }?.map_or_else(MigrationOptions::default, |o| options_of(&o));
        // SAFETY: the contract of this function.
        let group = unsafe { object_of(NAME, g.cast_const()) }?;
        let migration = Migration::with_options(group, direction, options)?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { out.write(new(migration)) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { guard(NAME, errp, || (), body) }
}

/// Frees a migration; NULL is legal. Waits for the call in progress, stops the trackers that the
/// migration started, and changes no device's state: abort first. Called from a callback of one of
/// its own calls it frees nothing and logs an error.
///
/// Phases: any.
/// Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in
/// progress returns, and the request of a device that hangs in the kernel. Since: 0.1
// Safety: `m` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_free(m: *mut vfiomig_migration) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_migration_free", m) };
}

fn phase_of(number: u32) -> Result<Phase> {
    let phase = Phase::from_number(number).filter(|phase| *phase != Phase::Failed);
    phase.ok_or_else(|| Error::argument(format!("phase: {number} is none that can be entered")))
}

fn waives_harvest(to: Phase, flags: u32) -> Result<bool> {
    match flags {
        0 => Ok(false),
        VFIOMIG_ADVANCE_F_NO_HARVEST if to == Phase::SaveHalted => Ok(true),
        _ => Err(Error::argument(format!("flags: {flags:#x} has unknown bits, or does not go with {to}"))),
    }
}

/// Brings all devices into `phase`, through the phases before it; each is entered by all devices
/// before the next begins. Returns 0 at once if it is entered already. Never backwards. A wrong
/// order is refused with the phases that may be next, and changes nothing. If a device fails, the
/// others finish their step, no further step begins, and the migration is FAILED; the error has one
/// result per device. `flags` is 0, or VFIOMIG_ADVANCE_F_NO_HARVEST with HALTED.
///
/// To SAVE_HALTED: refused until each tracker was harvested over all its ranges since SAVE_STOP_COPY
/// was entered (or with VFIOMIG_ADVANCE_F_NO_HARVEST), and the END of each stream was consumed. To
/// LOAD_LOADED: refused until vfiomig_device_finish() has succeeded for each device. From
/// SAVE_TRACKING: if a stream is void, SAVE_PRE_COPY must be entered first, and no phase while the
/// void stream's session is open (vfiomig_group_resume()). From IDLE: refused while a save session
/// is open from which the caller has read.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`phase` is FAILED or no phase; `flags`), ORDER, CANCELED, DEVICE (-EIO also: a
/// device is in ERROR), PROTOCOL, STALE (a device was changed outside of this library, or its
/// session has ended; -ENODEV: a device was freed), UNSUPPORTED (a device is not migratable any
/// more), SYSTEM (-ENOMEM); in FAILED the first error again.
/// Phases: to the next ones: from IDLE or SAVE_TRACKING to any from there to SAVE_STOP_COPY, from
/// SAVE_STOP_COPY to SAVE_HALTED; from IDLE to LOAD_RESUMING, from there on to any later one.
/// SAVE_PRE_COPY and SAVE_VIOMMU_GRACE are entered only if they are asked for.
/// Threads: whole. Blocks: in the kernel, for the slowest device of each phase. Since: 0.1
// Safety: `m` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_advance(
    m: *mut vfiomig_migration,
    phase: u32,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |migration: &Migration| {
        let to = phase_of(phase)?;
        if waives_harvest(to, flags)? { migration.advance_without_harvest() } else { migration.advance(to) }
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_advance", m, errp, body) }
}

/// Brings one device into the next phase. The phase is entered when all devices are in it. To
/// LOAD_RUNNING, devices that are still in RESUMING (v1, draft) come first. `flags` is as of
/// vfiomig_migration_advance(), in each of these calls.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_migration_advance(), and ARGUMENT (`d` NULL, or not in the group), ORDER
/// (another phase comes before `phase`; other devices come first).
/// Phases: as of vfiomig_migration_advance(), one phase at a time.
/// Threads: whole. Blocks: in the kernel. Since: 0.1
// Safety: `m` and `d` are NULL or live handles; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_advance_device(
    m: *mut vfiomig_migration,
    d: *mut vfiomig_device,
    phase: u32,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_migration_advance_device";
    let body = |migration: &Migration| {
        // SAFETY: the contract of this function.
        let device = unsafe { object_of(NAME, d.cast_const()) }?;
        let to = phase_of(phase)?;
        if waives_harvest(to, flags)? {
            migration.advance_device_without_harvest(&device)
        } else {
            migration.advance_device(&device, to)
        }
    };
    // SAFETY: the contract of this function.
    unsafe { on(NAME, m, errp, body) }
}

/// The phase of the migration.
///
/// Returns: VFIOMIG_PHASE_*; VFIOMIG_PHASE_FAILED for NULL.
/// Phases: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `m` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_get_phase(m: *const vfiomig_migration) -> u32 {
    // SAFETY: the contract of this function.
    unsafe { fact_of("vfiomig_migration_get_phase", m, VFIOMIG_PHASE_FAILED) }
}

/// The name of a VFIOMIG_PHASE_*, without the prefix.
///
/// Returns: a constant text; "?" for a number that is no phase.
/// Threads: any. Blocks: never. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn vfiomig_phase_name(phase: u32) -> *const c_char {
    super::guard::guard_value("vfiomig_phase_name", c"?".as_ptr(), || {
        let name = match phase {
            VFIOMIG_PHASE_IDLE => c"IDLE",
            VFIOMIG_PHASE_SAVE_TRACKING => c"SAVE_TRACKING",
            VFIOMIG_PHASE_SAVE_PRE_COPY => c"SAVE_PRE_COPY",
            VFIOMIG_PHASE_SAVE_VIOMMU_GRACE => c"SAVE_VIOMMU_GRACE",
            VFIOMIG_PHASE_SAVE_P2P_GRACE => c"SAVE_P2P_GRACE",
            VFIOMIG_PHASE_SAVE_STOP_COPY => c"SAVE_STOP_COPY",
            VFIOMIG_PHASE_SAVE_HALTED => c"SAVE_HALTED",
            VFIOMIG_PHASE_LOAD_RESUMING => c"LOAD_RESUMING",
            VFIOMIG_PHASE_LOAD_LOADED => c"LOAD_LOADED",
            VFIOMIG_PHASE_LOAD_P2P_GRACE => c"LOAD_P2P_GRACE",
            VFIOMIG_PHASE_LOAD_RUNNING => c"LOAD_RUNNING",
            VFIOMIG_PHASE_FAILED => c"FAILED",
            _ => c"?",
        };
        name.as_ptr()
    })
}

/// Cancels the migration; NULL is legal. No new step is begun, and waits of the library end within
/// about 100 ms, also in data calls on the migration's devices: for a data fd that is not ready, and
/// for the reset of a device that failed. A request in the kernel is never interrupted.
/// vfiomig_migration_abort() and vfiomig_device_reset() are not affected. The cancel stays in effect
/// until vfiomig_migration_abort() returns.
///
/// Phases: any; no effect once SAVE_HALTED or LOAD_RUNNING was begun.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `m` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_cancel(m: *mut vfiomig_migration) {
    // SAFETY: the contract of this function.
    unsafe { value_of("vfiomig_migration_cancel", m.cast_const(), (), Migration::cancel) };
}

/// Brings the devices back to where `to`, one of VFIOMIG_ABORT_TO_*, says; the migration is in IDLE
/// and may begin again. Save: sessions end, the streams are void, and vCPUs must be stopped until it
/// returns. Load: devices that were asked for anything are reset. A device that cannot be brought
/// back is named by the error, and abort may be called again after the caller has reset it: the
/// library resets no device that holds a guest's state. A device that has not answered to a read of
/// its stream for 5 s is not waited for: the others are back when the call returns -ETIMEDOUT, and
/// abort is called again for that one, which passes STOP then while the vCPUs run, if they were
/// started. In IDLE the devices are brought there, too.
///
/// Once SAVE_HALTED was begun the guest may run on the destination side, and only the caller knows.
/// Then `flags` must have VFIOMIG_ABORT_F_NO_SECOND_GUEST; without it nothing is done, whatever `to`
/// is. The flag is legal at any time. If the migration was freed in SAVE_HALTED,
/// vfiomig_group_resume() lets the devices run, with a warning.
///
/// Drains and data calls on the migration's devices in other threads end with CANCELED. A cancel
/// that is called during the abort has no effect after it.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`to`, `flags`), ORDER (LOAD_RUNNING, or SAVE_HALTED without the flag), DEVICE
/// (-ETIMEDOUT with VFIOMIG_RESULT_AGAIN in the result of a device, and said before other failures:
/// its stream has no end yet, or a read was not answered: call again), PROTOCOL, STALE (a device was
/// changed outside of this library; -ENODEV: a device was freed, and the others are back),
/// UNSUPPORTED (no reset), SYSTEM (-ENOMEM).
/// Phases: any but LOAD_RUNNING, where a reset would destroy the guest.
/// Threads: whole. Blocks: in the kernel, for the slowest device; a reset that the kernel puts off 5
/// s at most, the rest of a stream that must be read likewise. Since: 0.1
// Safety: `m` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_abort(
    m: *mut vfiomig_migration,
    to: u32,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |migration: &Migration| {
        let to = match to {
            VFIOMIG_ABORT_TO_RUNNING => AbortTo::Running,
            VFIOMIG_ABORT_TO_STOP => AbortTo::Stop,
            VFIOMIG_ABORT_TO_RUN_STATE => AbortTo::RunState,
            other => return Err(Error::argument(format!("to: {other} is none of VFIOMIG_ABORT_TO_*"))),
        };
        match flags {
            0 => migration.abort(to),
            VFIOMIG_ABORT_F_NO_SECOND_GUEST => migration.abort_without_second_guest(to),
            _ => Err(Error::argument(format!("flags: {flags:#x} has unknown bits"))),
        }
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_abort", m, errp, body) }
}

/// What the migration did and how long it took, phase by phase and device by device, so that an
/// operator sees where downtime went. It begins with the last departure from IDLE. A call that is in
/// progress is seen in vfiomig_group_get_progress(), and here when it has ended. Free the report.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL).
/// Phases: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `m` is NULL or a live handle; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_get_report(
    m: *mut vfiomig_migration,
    out: *mut *mut vfiomig_report,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |migration: &Migration| {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        let report = vfiomig_report::of_migration(&migration.report()?);
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { give(out, report) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_get_report", m, errp, body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn both_phase_name_tables_agree() {
        for number in 0..64 {
            // SAFETY: a constant C string.
            let name = unsafe { CStr::from_ptr(vfiomig_phase_name(number)) };
            assert_eq!(name.to_str().unwrap(), Phase::from_number(number).map_or("?", Phase::name));
        }
    }
}
