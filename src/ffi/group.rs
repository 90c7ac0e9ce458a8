//! Group handles: the devices and trackers of one VM.

use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{free, new, object_of, on};
pub use super::handle::{vfiomig_device, vfiomig_group, vfiomig_tracker};
use super::harvest::{HarvestFlags, vfiomig_harvest_request, vfiomig_harvest_result, with_request};
use super::report::{give, vfiomig_report};
use super::sized::{ExtensibleStruct, check_out, copy_in, copy_out};
use crate::error::{Error, Result};
use crate::group::{Group, GroupOptions};
use crate::tracker::Request;
use std::ffi::c_int;

/// vfiomig_group_abilities: a save can begin.
pub const VFIOMIG_ABILITY_MIGRATABLE: u32 = 0x1;
/// vfiomig_group_abilities: all devices have PRE_COPY.
pub const VFIOMIG_ABILITY_PRE_COPY: u32 = 0x2;
/// vfiomig_group_abilities: device memory may be mapped for DMA by other devices.
pub const VFIOMIG_ABILITY_P2P: u32 = 0x4;
/// vfiomig_group_abilities: devices may be set up for page requests, which a vCPU has to answer.
pub const VFIOMIG_ABILITY_PAGE_REQUESTS: u32 = 0x8;

/// How a group works. VFIOMIG_INIT first; NULL in its place is all defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_group_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// Most threads of one call; 0: one per device within reason, 1: none, devices are served one after another.
    pub max_workers: u32,
    /// Devices of the VM that can start DMA to others and are not in the group.
    pub foreign_initiators: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_group_options {
    const NAME: &'static str = "vfiomig_group_options";
    const FLAGS: u32 = 0;
}

/// What can be done with a group.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_group_abilities {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// VFIOMIG_ABILITY_*.
    pub answers: u32,
    /// How many reasons there are against what is not in `answers`.
    pub reason_count: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_group_abilities {
    const NAME: &'static str = "vfiomig_group_abilities";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_group_options>() == 16 && size_of::<vfiomig_group_abilities>() == 16);

/// Makes an empty group, for the lifetime of a VM.
///
/// Returns: 0 or -errno. Errors: ARGUMENT. Threads: any. Blocks: never. Since: 0.1
// Safety: Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_new(
    o: *const vfiomig_group_options,
    out: *mut *mut vfiomig_group,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = || {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        let mut options = GroupOptions::default();
        // SAFETY: the contract of this function.
        if let Some(given) = unsafe { copy_in(o) }? {
            options.max_workers = given.max_workers as usize;
            options.foreign_initiators = given.foreign_initiators;
        }
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { out.write(new(Group::new(options))) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_group_new", errp, || (), body) }
}

/// Frees a group; NULL is legal. Waits for the call in progress. Its devices and trackers stay as they are and are still the
/// caller's; a migration of the group answers -ENODEV from then on.
///
/// Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in progress returns. Since: 0.1
// Safety: `g` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_free(g: *mut vfiomig_group) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_group_free", g) };
}

/// Adds a device. It stays the caller's. Freed while it is in the group, its place goes with the next call on the group, and its
/// name may be added again; during a migration the place stays, and fails that migration with -ENODEV.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, a name that the group has already, -ENODEV: freed), ORDER (a migration of the
/// group exists). Threads: whole. Blocks: for calls in progress. Since: 0.1
// Safety: `g` and `d` are NULL or live handles; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_add_device(
    g: *mut vfiomig_group,
    d: *mut vfiomig_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_group_add_device";
    // SAFETY: the contract of this function.
    let body = |group: &Group| group.add_device(unsafe { object_of(NAME, d.cast_const()) }?);
    // SAFETY: the contract of this function.
    unsafe { on(NAME, g, errp, body) }
}

/// Removes a device. One that is freed needs no removal.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, not in the group), ORDER (a migration of the group exists). Threads: whole.
/// Blocks: for calls in progress. Since: 0.1
// Safety: `g` and `d` are NULL or live handles; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_remove_device(
    g: *mut vfiomig_group,
    d: *mut vfiomig_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_group_remove_device";
    let body = |group: &Group| {
        // SAFETY: the contract of this function.
        let device = unsafe { object_of(NAME, d.cast_const()) }?;
        group.remove_device(&device)
    };
    // SAFETY: the contract of this function.
    unsafe { on(NAME, g, errp, body) }
}

/// Adds a tracker. Every device of the group must be covered by one before it can be saved. It stays the caller's. Freed while it is
/// in the group, its place goes with the next call on the group; during a migration the place stays, and a save cannot be completed, for
/// what the log knew is lost.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, in the group already, -ENODEV: freed), ORDER (a migration of the group exists). Threads:
/// whole. Blocks: for calls in progress. Since: 0.1
// Safety: `g` and `t` are NULL or live handles; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_add_tracker(
    g: *mut vfiomig_group,
    t: *mut vfiomig_tracker,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_group_add_tracker";
    // SAFETY: the contract of this function.
    let body = |group: &Group| group.add_tracker(unsafe { object_of(NAME, t.cast_const()) }?);
    // SAFETY: the contract of this function.
    unsafe { on(NAME, g, errp, body) }
}

/// Removes a tracker. One that is freed needs no removal.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, not in the group), ORDER (a migration of the group exists). Threads: whole.
/// Blocks: for calls in progress. Since: 0.1
// Safety: `g` and `t` are NULL or live handles; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_remove_tracker(
    g: *mut vfiomig_group,
    t: *mut vfiomig_tracker,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_group_remove_tracker";
    let body = |group: &Group| {
        // SAFETY: the contract of this function.
        let tracker = unsafe { object_of(NAME, t.cast_const()) }?;
        group.remove_tracker(&tracker)
    };
    // SAFETY: the contract of this function.
    unsafe { on(NAME, g, errp, body) }
}

/// What can be done with the group as it is. `reasons` may be NULL; else it receives a report, also if there is nothing to say,
/// whose text has a line for each reason against what is not in the answers.
///
/// Returns: 0 or -errno. Errors: ARGUMENT. Threads: whole. Blocks: for calls in progress; asks no device. Since: 0.1
// Safety: `g` is NULL or a live handle; `out` is NULL or valid for its argsz; `reasons` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_get_abilities(
    g: *mut vfiomig_group,
    out: *mut vfiomig_group_abilities,
    reasons: *mut *mut vfiomig_report,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |group: &Group| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(out) }?;
        let policy = group.check()?;
        let answers = [
            (policy.migratable, VFIOMIG_ABILITY_MIGRATABLE),
            (policy.pre_copy, VFIOMIG_ABILITY_PRE_COPY),
            (policy.p2p, VFIOMIG_ABILITY_P2P),
            (policy.page_requests, VFIOMIG_ABILITY_PAGE_REQUESTS),
        ];
        let ours = vfiomig_group_abilities {
            argsz: 0,
            flags: 0,
            answers: answers.iter().filter(|(yes, _)| *yes).fold(0, |all, (_, bit)| all | bit),
            reason_count: u32::try_from(policy.reasons.len()).unwrap_or(u32::MAX),
        };
        // SAFETY: `size` is what check_out returned for `out`.
        unsafe { copy_out(out, size, &ours) };
        if !reasons.is_null() {
            // SAFETY: not NULL, so writable by the contract of this function.
            unsafe { give(reasons, vfiomig_report::of_text(&policy.reasons.join("\n"))) };
        }
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_get_abilities", g, errp, body) }
}

/// Stops all devices, by way of their P2P states and side by side; those with an open save session are held in STOP_COPY. vCPUs
/// are stopped by now. If a device fails, none is stopped that was not yet; vfiomig_group_resume() brings them back. The error
/// has one result per device. Devices that cannot be migrated have no states and take no part, nor does one that was freed during
/// a migration; that is no error, and vfiomig_group_get_report() says so.
///
/// Returns: 0 or -errno. Errors: ORDER (a migration is past pre-copy, has failed, or has begun a phase device by device; a device is loading, or
/// only a reset leads out of where it is), DEVICE (-ETIMEDOUT: its stream has no end yet, call again), PROTOCOL, STALE (others changed a
/// device), TRANSPORT (-ENOMEM). Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
// Safety: `g` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_pause(g: *mut vfiomig_group, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_pause", g, errp, Group::pause) }
}

/// The first half of vfiomig_group_pause(), for VMMs that stop in two passes: devices that can are brought to their P2P states,
/// the others run on. vCPUs are stopped by now. vfiomig_group_pause() or vfiomig_group_resume() follows.
///
/// Returns: 0 or -errno. Errors: as vfiomig_group_pause(). Threads: whole. Blocks: in the kernel, for the slowest device.
/// Since: 0.1
// Safety: `g` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_pause_begin(g: *mut vfiomig_group, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_pause_begin", g, errp, Group::pause_begin) }
}

/// Lets all devices run again, by way of their P2P states and side by side. vCPUs are started after it returns.
///
/// During a save in PRECOPY: sessions that were held end, what was sent of the devices' streams is void, and the migration is back
/// in SAVE_TRACKING. Trackers go on and RAM stays sent; entering PRECOPY again begins new streams, and the later phases are refused
/// before that. The destination throws away what it has of the old ones: abort, RESUMING again. If the call fails after the session
/// of one device has ended, all streams are void, and phases are refused until a resume or an abort has ended the other sessions
/// too; if it fails before that, the phase stays PRECOPY and nothing is void. Draft devices, whose log answers only while they save,
/// are in PRE_COPY again behind it, as SAVE_TRACKING has them; one that does not go there is in the report.
///
/// A load that rests in LOADED is ended by it, through LOAD_P2P_GRACE and LOAD_RUNNING, as by vfiomig_migration_advance(). Where
/// its migration was freed in LOADED the devices are let run as well; one whose stream turns out to be bad is then left to the caller.
///
/// While a save is HALTED it is refused: see vfiomig_migration_abort(). Once that migration was freed it is the caller's decision, as
/// for a snapshot in a file: a device that still holds the state of the guest that was handed over is let run with a WARNING in the
/// log and a line in vfiomig_group_get_report(), for if the guest runs elsewhere too, two run now.
///
/// Returns: 0 or -errno. Errors: as vfiomig_group_pause(). Threads: whole. Blocks: in the kernel, for the slowest device.
/// Since: 0.1
// Safety: `g` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_resume(g: *mut vfiomig_group, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_resume", g, errp, Group::resume) }
}

/// The first half of vfiomig_group_resume(), for VMMs that start in two passes: stopped devices that can are brought to their
/// P2P states, where others may reach them. A save session that was held ends, and a load that rests in LOADED enters
/// LOAD_P2P_GRACE. vfiomig_group_resume() follows, or vfiomig_group_pause().
///
/// Returns: 0 or -errno. Errors: as vfiomig_group_resume(). Threads: whole. Blocks: in the kernel, for the slowest device.
/// Since: 0.1
// Safety: `g` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_resume_begin(g: *mut vfiomig_group, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_resume_begin", g, errp, Group::resume_begin) }
}

/// vfiomig_tracker_harvest_many() over all trackers of the group. With VFIOMIG_HARVEST_F_WITHOUT_DMA in a moment without DMA: v1
/// NDMA devices are brought to their P2P states and back, stopped devices stay, so what is read and what is cleared are the same
/// pages, also for logs that cannot do both as one. Refused unless every device is stopped, or a v1 device with NDMA. Stopped
/// devices are the caller's word that its vCPUs are stopped too. If a device does not come back from that moment the call fails
/// after the harvest: `out` is written then, and what was given is to be taken all the same, for nobody is told of it again.
///
/// Returns: 0 or -errno. Errors: as vfiomig_tracker_harvest(); with WITHOUT_DMA also UNSUPPORTED (other devices), DEVICE,
/// PROTOCOL, STALE (others changed a device), ARGUMENT (-ENODEV: a device was freed). Threads: tracker; with WITHOUT_DMA whole. Blocks: in the kernel and in your callbacks. Since: 0.1
// Safety: `g` is NULL or a live handle; the rest as for vfiomig_tracker_harvest().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_harvest(
    g: *mut vfiomig_group,
    rq: *const vfiomig_harvest_request,
    out: *mut vfiomig_harvest_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |group: &Group| {
        let harvest = |request: &mut Request<'_>, flags: HarvestFlags| {
            if flags.without_dma { group.harvest_without_dma(request) } else { group.harvest(request) }
        };
        // SAFETY: the contract of this function.
        unsafe { with_request(rq, out, true, harvest) }
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_harvest", g, errp, body) }
}

/// What the last call that moved the group's devices did to each of them, also after success.
///
/// Returns: 0 or -errno. Errors: ARGUMENT. Threads: whole. Blocks: for calls in progress. Since: 0.1
// Safety: `g` is NULL or a live handle; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_get_report(
    g: *mut vfiomig_group,
    out: *mut *mut vfiomig_report,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |group: &Group| -> Result<()> {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        let report = vfiomig_report::of_results(&group.results()?);
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { give(out, report) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_get_report", g, errp, body) }
}
