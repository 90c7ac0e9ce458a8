//! Group handles: the devices and trackers of one VM.

use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{free, new, object_of, on};
pub use super::handle::{vfiomig_device, vfiomig_group, vfiomig_tracker};
use super::harvest::{HarvestFlags, ServedBy, vfiomig_harvest_request, vfiomig_harvest_result, with_request};
use super::progress::{listen, vfiomig_progress_fn};
use super::report::{give, vfiomig_report};
use super::sized::{ExtensibleStruct, check_out, copy_in, copy_out};
use crate::error::{Error, Result};
use crate::group::{Group, GroupOptions};
use crate::tracker::Request;
use std::ffi::{c_int, c_void};

/// vfiomig_group_abilities: a save can begin.
pub const VFIOMIG_ABILITY_MIGRATABLE: u32 = 0x1;
/// vfiomig_group_abilities: all devices have PRE_COPY.
pub const VFIOMIG_ABILITY_PRE_COPY: u32 = 0x2;
/// vfiomig_group_abilities: device memory may be mapped for DMA by other devices.
pub const VFIOMIG_ABILITY_P2P: u32 = 0x4;
/// vfiomig_group_abilities: devices may be set up for page requests, which a vCPU has to answer.
pub const VFIOMIG_ABILITY_PAGE_REQUESTS: u32 = 0x8;

/// How a group works. Set up with VFIOMIG_INIT. NULL stands for all defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_group_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// Largest number of threads within a call. 0: one per device, at most 64 where data is moved. 1:
    /// no threads are created, and devices are served one after another.
    pub max_workers: u32,
    /// Number of other devices of the VM that can do DMA and are not in the group.
    pub foreign_initiators: u32,
    /// Called when a device has arrived where a call has sent it, and at an interval while one has
    /// not. NULL: nothing is called. It is called on the threads that call the group and its
    /// migration, never two at a time, and not after vfiomig_group_free() has returned.
    pub progress: vfiomig_progress_fn,
    /// Passed to `progress`.
    pub opaque: *mut c_void,
    /// The interval in nanoseconds. 0: one second. Less than 1 ms counts as 1 ms. Needs `progress`.
    pub progress_interval_ns: u64,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below); zeros are a value, NULL pointers.
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
    pub abilities: u32,
    /// Number of lines of `reasons`: why abilities are missing.
    pub reason_count: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_group_abilities {
    const NAME: &'static str = "vfiomig_group_abilities";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_group_options>() == 40 && size_of::<vfiomig_group_abilities>() == 16);

/// Makes an empty group, for the lifetime of a VM.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL, options).
/// Threads: any. Blocks: never. Since: 0.1
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
        let given = unsafe { copy_in(o) }?;
        if let Some(given) = given {
            options.max_workers = given.max_workers as usize;
            options.foreign_initiators = given.foreign_initiators;
        }
        let group = Group::new(options);
        if let Some(given) = given {
            listen(&group, given.progress, given.opaque, given.progress_interval_ns)?;
        }
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { out.write(new(group)) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_group_new", errp, || (), body) }
}

/// Frees a group; NULL is legal. Waits for the call in progress. Its devices and trackers are not
/// freed and not changed. A migration of the group returns -ENODEV from then on. Called from a
/// callback of one of its own calls it frees nothing and logs an error.
///
/// Phases: any.
/// Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in
/// progress returns. Since: 0.1
// Safety: `g` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_free(g: *mut vfiomig_group) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_group_free", g) };
}

/// Adds a device, also one that cannot be migrated. The group does not free it. If the device is
/// freed while it is a member, the group forgets it at its next call, and its name may be added
/// again; during a migration it stays a member, and the migration fails with -ENODEV.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`d` NULL; a member has the same name, as the same device has; -ENODEV: it was
/// freed), ORDER (a migration of the group exists).
/// Phases: none: no migration of the group may exist.
/// Threads: whole. Blocks: for calls in progress. Since: 0.1
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

/// Removes a device. One that was freed need not be removed.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`d` NULL, or not in the group), ORDER (a migration of the group exists).
/// Phases: none: no migration of the group may exist.
/// Threads: whole. Blocks: for calls in progress. Since: 0.1
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

/// Adds a tracker, once for its life: each save starts it and stops it, whether or not the VMM
/// starts it too. Every device of the group must be covered by one before it can be saved. A save
/// that tracks already starts the tracker now, and everything in it is dirty once.
///
/// The group does not free it. If the tracker is freed while it is in the group, the group forgets
/// it at its next call. A save that has started it continues if nothing is lost with it: all that
/// was mapped was unmapped before, what was written there was reported, and another tracker covers
/// each device that is still there. Otherwise the save is refused SAVE_STOP_COPY, or SAVE_HALTED.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`t` NULL, or in the group already; -ENODEV: it was freed), ORDER (in
/// SAVE_STOP_COPY).
/// Phases: any but SAVE_STOP_COPY.
/// Threads: whole. Blocks: for calls in progress. Since: 0.1
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

/// Removes a tracker, as when its address space goes. One that was freed need not be removed. A save
/// that has started it stops it, and takes it for one that has reported everything: it is refused
/// while the tracker has mappings, or knows of pages that were not reported, and from
/// SAVE_STOP_COPY on until its final harvest.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`t` NULL, or not in the group), ORDER (a save would miss what it knows).
/// Phases: any.
/// Threads: whole. Blocks: for calls in progress; in the kernel, where a log is stopped. Since: 0.1
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

/// What can be done with the group as it is. A group that cannot be migrated is no error:
/// VFIOMIG_ABILITY_MIGRATABLE is missing. `reasons` may be NULL; else it receives a report, to be
/// freed, with one line for each reason why an ability is missing; it may be empty.
///
/// Returns: 0 or -errno.
/// Errors: those of every function.
/// Phases: any; a group whose devices are not in RUNNING or STOP, as during a migration, is not
/// migratable.
/// Threads: whole. Blocks: for calls in progress; no device is asked. Since: 0.1
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
        let known = group.abilities()?;
        let abilities = [
            (known.migratable, VFIOMIG_ABILITY_MIGRATABLE),
            (known.pre_copy, VFIOMIG_ABILITY_PRE_COPY),
            (known.p2p, VFIOMIG_ABILITY_P2P),
            (known.page_requests, VFIOMIG_ABILITY_PAGE_REQUESTS),
        ];
        let ours = vfiomig_group_abilities {
            argsz: 0,
            flags: 0,
            abilities: abilities.iter().filter(|(yes, _)| *yes).fold(0, |all, (_, bit)| all | bit),
            reason_count: u32::try_from(known.reasons.len()).unwrap_or(u32::MAX),
        };
        // SAFETY: `size` is what check_out returned for `out`.
        unsafe { copy_out(out, size, &ours) };
        if !reasons.is_null() {
            // SAFETY: not NULL, so writable by the contract of this function.
            unsafe { give(reasons, vfiomig_report::of_text(&known.reasons.join("\n"))) };
        }
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_get_abilities", g, errp, body) }
}

/// Stops all devices, by way of their P2P states; those with an open save session are held in
/// STOP_COPY. Stop vCPUs before. If a device fails, no further device is stopped, and
/// vfiomig_group_resume() lets all of them run again. The error has one result per device. Devices
/// that cannot be migrated have no states and take no part, nor does one that was freed during a
/// migration; that is no error, and vfiomig_group_get_report() says so. A second pause has no effect
/// on devices that are stopped. A cancel of the migration has no effect on it.
///
/// Returns: 0 or -errno.
/// Errors: BUSY (-EDEADLK: from a callback of the group, of its devices or its migration), ORDER
/// (the phase; a device is loading; only a reset leads out of a device's state), DEVICE (-ETIMEDOUT:
/// the stream has no end yet, call again), PROTOCOL, STALE (a device was changed outside of this
/// library; -ENODEV, of a load: a device was freed), SYSTEM (-ENOMEM).
/// Phases: without a migration; IDLE of a save, SAVE_TRACKING, SAVE_PRE_COPY, LOAD_LOADED,
/// LOAD_P2P_GRACE, LOAD_RUNNING; not while a phase is entered device by device.
/// Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
// Safety: `g` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_pause(g: *mut vfiomig_group, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_pause", g, errp, Group::pause) }
}

/// The first half of vfiomig_group_pause(), for VMMs that stop in two passes. Devices that have P2P
/// states are brought there; the others still run. Stop vCPUs before. vfiomig_group_pause() or
/// vfiomig_group_resume() follows.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_group_pause().
/// Phases: as of vfiomig_group_pause().
/// Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
// Safety: `g` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_pause_begin(g: *mut vfiomig_group, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_pause_begin", g, errp, Group::pause_begin) }
}

/// Lets all devices run again, by way of their P2P states. Start vCPUs after it returns.
///
/// During SAVE_PRE_COPY the sessions that were held end, the streams are void, and the phase is
/// SAVE_TRACKING again. Trackers stay started, and RAM that was sent stays valid. Entering
/// SAVE_PRE_COPY again begins new streams; later phases are refused before that. The destination
/// side discards the old streams: abort, then LOAD_RESUMING again. If the call fails after the
/// session of one device has ended, all streams are void, and phases are refused until a resume or
/// an abort has ended the other sessions, too; if it fails before that, the phase stays
/// SAVE_PRE_COPY and no stream is void. Draft devices, whose log answers only while they save, are
/// brought to PRE_COPY again, as SAVE_TRACKING has them; a failure of that is in the report.
///
/// In LOAD_LOADED it enters LOAD_P2P_GRACE and LOAD_RUNNING, as vfiomig_migration_advance() does. If
/// the migration was freed in LOADED the devices are let run as well; a device that does not accept
/// its stream then stays as it is, and the caller must reset it.
///
/// In SAVE_HALTED it is refused: see vfiomig_migration_abort(). Once that migration was freed the
/// caller decides, as for a snapshot in a file: a device that still holds the state of the guest
/// that was saved runs again; the log gets a WARNING and vfiomig_group_get_report() a line, because
/// the guest may run on the destination side as well.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_group_pause(), and as vfiomig_migration_advance() for a load.
/// Phases: as of vfiomig_group_pause().
/// Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
// Safety: `g` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_resume(g: *mut vfiomig_group, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_resume", g, errp, Group::resume) }
}

/// The first half of vfiomig_group_resume(), for VMMs that start in two passes. Stopped devices that
/// have P2P states are brought there, where other devices may reach them. A save session that was
/// held ends, and a load in LOAD_LOADED enters LOAD_P2P_GRACE. vfiomig_group_resume() follows, or
/// vfiomig_group_pause().
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_group_resume().
/// Phases: as of vfiomig_group_pause().
/// Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
// Safety: `g` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_resume_begin(g: *mut vfiomig_group, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_resume_begin", g, errp, Group::resume_begin) }
}

/// vfiomig_tracker_harvest_many() over all trackers of the group; `rq` and `out` may be NULL. With
/// VFIOMIG_HARVEST_F_WITHOUT_DMA the devices do no DMA meanwhile, so that logs that read and clear
/// in two steps lose nothing: v1 devices with NDMA are brought to their P2P states and back, stopped
/// ones stay. Refused unless every device is stopped, or is a v1 device with NDMA. If all devices
/// are stopped, vCPUs must be, too. If a device cannot be brought back, the call fails although
/// pages were reported: `out` is written; use these pages, they are not reported again. The final
/// harvest, which HALTED needs, is one in SAVE_STOP_COPY.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_tracker_harvest(); with WITHOUT_DMA also UNSUPPORTED (other devices), DEVICE,
/// PROTOCOL, STALE (a device was changed outside of this library; -ENODEV: a device was freed).
/// Phases: any in which the trackers are started; from SAVE_TRACKING to SAVE_STOP_COPY the migration
/// has started them.
/// Threads: tracker; with WITHOUT_DMA whole. Blocks: in the kernel and in your callbacks. Since: 0.1
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
        unsafe { with_request(rq, out, ServedBy::Group, harvest) }
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_harvest", g, errp, body) }
}

/// What the last call that moved the group's devices did to each of them, also after success; empty
/// before the first. A call that is in progress is seen in vfiomig_group_get_progress(), and here
/// when it has ended. Free the report.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL).
/// Phases: any.
/// Threads: any. Blocks: never. Since: 0.1
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
