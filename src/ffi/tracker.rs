//! Tracker handles: make, describe, add mappings, start and stop.

use super::device_data::{VFIOMIG_OPS_F_ANY_THREAD, VFIOMIG_REASON_SIZE};
use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{free, new, object_of, on};
pub use super::handle::{vfiomig_device, vfiomig_tracker};
use super::input::{borrow_fd, slice, text_of};
use super::sized::{check_out, copy_in, copy_out};
use super::tracker_data::{
    VFIOMIG_TRACKER_F_EVERYTHING, VFIOMIG_TRACKER_F_HWPT, VFIOMIG_TRACKER_F_IOAS, VFIOMIG_TRACKER_F_NO_DEVICE_LOG,
    VFIOMIG_TRACKER_F_TYPE1, VFIOMIG_TRACKER_PERPETUAL, vfiomig_mapping, vfiomig_tracker_info, vfiomig_tracker_options,
};
use crate::error::{Error, Result};
use crate::tracker::{IovaRange, Mapping, Tracker, TrackerOptions};
use crate::transport::Transport;
use crate::transport::iommufd::{Iommufd, KernelIommufd};
use crate::transport::kernel::Kernel;
use crate::transport::tracker_ops::{LogOps, OpsLog};
use crate::transport::type1::{Container, KernelContainer};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

/// # Safety
/// `o` is NULL or readable for its argsz; what it points to is readable, and its fds stay open until the tracker is freed.
unsafe fn read_options(name: &str, o: *const vfiomig_tracker_options) -> Result<TrackerOptions> {
    // SAFETY: the contract of this function.
    let given = unsafe { copy_in(o) }?;
    let mut options = TrackerOptions { name: "tracker".to_string(), ..TrackerOptions::default() };
    let Some(given) = given else { return Ok(options) };
    if !given.name.is_null() {
        // SAFETY: a C string by the contract of this function.
        options.name = text_of(unsafe { CStr::from_ptr(given.name) });
    }
    let has = |flag| given.flags & flag != 0;
    // SAFETY: the contract of this function.
    for &device in unsafe { slice("devices", given.devices, given.device_count) }? {
        // SAFETY: live handles, by the contract of this function.
        options.devices.push(unsafe { object_of(name, device.cast_const()) }?);
    }
    if has(VFIOMIG_TRACKER_F_TYPE1) {
        // SAFETY: the contract of this function.
        let fd = unsafe { borrow_fd("container_fd", given.container_fd) }?;
        options.container = Some(Arc::new(KernelContainer(fd)) as Arc<dyn Container>);
    }
    if has(VFIOMIG_TRACKER_F_HWPT) {
        // SAFETY: the contract of this function.
        let fd = unsafe { borrow_fd("iommufd", given.iommufd) }?;
        // SAFETY: the contract of this function.
        let hwpts = unsafe { slice("hwpt_ids", given.hwpt_ids, given.hwpt_count) }?.to_vec();
        options.hwpts = Some((Arc::new(KernelIommufd(fd)) as Arc<dyn Iommufd>, hwpts));
    }
    if has(VFIOMIG_TRACKER_F_IOAS) {
        if options.hwpts.is_none() {
            return Err(Error::argument("VFIOMIG_TRACKER_F_IOAS needs VFIOMIG_TRACKER_F_HWPT"));
        }
        options.ioas_id = Some(given.ioas_id);
    }
    // SAFETY: the contract of this function.
    let ranges = unsafe { slice("apertures", given.apertures, given.aperture_count) }?;
    options.apertures = ranges.iter().map(|range| IovaRange { iova: range.iova, size: range.size }).collect();
    options.no_device_log = has(VFIOMIG_TRACKER_F_NO_DEVICE_LOG);
    options.everything = has(VFIOMIG_TRACKER_F_EVERYTHING);
    options.page_size = Some(given.page_size).filter(|&size| size != 0);
    options.max_workers = given.max_workers as usize;
    Ok(options)
}

/// # Safety
/// `out` is NULL or points to memory for one pointer.
unsafe fn make(out: *mut *mut vfiomig_tracker, options: impl FnOnce() -> Result<TrackerOptions>) -> Result<()> {
    if out.is_null() {
        return Err(Error::argument("out is NULL"));
    }
    let tracker = Tracker::new(options()?)?;
    // SAFETY: not NULL, so writable by the contract of this function.
    unsafe { out.write(new(tracker)) };
    Ok(())
}

/// Makes a tracker for one address space, and chooses its log: the devices' own logs if every device
/// has one; else dirty tracking of the page tables; else the container's log; else everything is
/// dirty. vfiomig_tracker_get_info() says which and why. Nothing is started. NULL options:
/// everything is dirty, and the tracker covers no device, so a group needs another tracker. One with
/// VFIOMIG_TRACKER_F_EVERYTHING covers all devices.
///
/// A tracker can live as long as its address space: make it with the container, report every mapping
/// and unmapping as it is made and each device and page table that comes and goes, and add it to the
/// group once. The log is chosen anew, from what is there, when the tracker is started for the first
/// time or again after its last stop (docs/dirty.md, "A tracker for the life of a container").
///
/// The tracker refers to its devices. A device handle that is freed counts as unplugged: everything
/// is dirty once, in a migration at each harvest, and the tracker continues without it.
///
/// Reading a log clears it, so a log has one tracker: a device handle, a page table of an iommufd or
/// a container that another tracker of this process has is refused until that is freed. Descriptors
/// are compared by number: a copy made by dup() is not recognised, and dirty pages would be lost.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL; -1 as fd: -EBADF; options, also a page_size or name out of range,
/// apertures that are not in units of 4096), BUSY (another tracker has a log).
/// Threads: any. Blocks: in the kernel, and in functions of the devices. Since: 0.1
// Safety: fds stay open until the handle is freed; handles are live; pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_new(
    o: *const vfiomig_tracker_options,
    out: *mut *mut vfiomig_tracker,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    let options = || unsafe { read_options("vfiomig_tracker_new", o) };
    // SAFETY: the contract of this function.
    let body = || unsafe { make(out, options) };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_tracker_new", errp, || (), body) }
}

/// Makes a tracker over a log that the VMM keeps itself. The table is copied; `opaque` is passed to
/// each function and not used otherwise. Of the options, `name`, `devices`, `apertures`, `page_size`
/// and `max_workers` are used; those that name another log are refused.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`ops` or `out` NULL; a table without start or report; options), BUSY (another
/// tracker has the same functions with the same `opaque`).
/// Threads: any. Blocks: never. Since: 0.1
// Safety: Until the handle is freed each function may be called as `struct vfiomig_tracker_ops` describes; pointers
// are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_new_ops(
    ops: *const LogOps,
    opaque: *mut c_void,
    o: *const vfiomig_tracker_options,
    out: *mut *mut vfiomig_tracker,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let options = || {
        // SAFETY: the contract of this function.
        let ops = unsafe { copy_in(ops) }?.ok_or_else(|| Error::argument("ops is NULL"))?;
        // SAFETY: the contract of this function.
        let mut options = unsafe { read_options("vfiomig_tracker_new_ops", o) }?;
        if options.container.is_some() || options.hwpts.is_some() || options.everything {
            return Err(Error::argument("options: a tracker over ops takes no other log"));
        }
        // SAFETY: the contract of this function.
        let functions = unsafe { OpsLog::new(ops, opaque, ops.flags & VFIOMIG_OPS_F_ANY_THREAD != 0) }?;
        options.functions = Some(Box::new(functions));
        Ok(options)
    };
    // SAFETY: the contract of this function.
    let body = || unsafe { make(out, options) };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_tracker_new_ops", errp, || (), body) }
}

/// Frees a tracker; NULL is legal. Waits for the call in progress, and stops the log if it is
/// started. Afterwards the library never uses its fds, functions or `opaque` pointers again. A group
/// forgets it at its next call (vfiomig_group_add_tracker()). Called from one of its own callbacks
/// it frees nothing and logs an error.
///
/// States: started or not.
/// Threads: tracker; no call on the handle may begin during or after it. Blocks: until the call in
/// progress returns, and in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_free(t: *mut vfiomig_tracker) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_tracker_free", t) };
}

/// What is known of a tracker.
///
/// Returns: 0 or -errno.
/// Errors: those of every function.
/// States: started or not.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `t` is NULL or a live handle; `info` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_get_info(
    t: *const vfiomig_tracker,
    info: *mut vfiomig_tracker_info,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |tracker: &Tracker| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(info) }?;
        let known = tracker.info();
        let mut ours = vfiomig_tracker_info {
            argsz: 0,
            flags: if known.perpetual { VFIOMIG_TRACKER_PERPETUAL } else { 0 },
            kind: known.kind as u32,
            starts: known.starts,
            failed_logs: known.failed_logs,
            reserved: 0,
            page_size: known.page_size,
            mapped_ranges: known.mapped_ranges,
            logged_ranges: known.logged_ranges,
            reason: [0; VFIOMIG_REASON_SIZE],
        };
        for (to, from) in ours.reason.iter_mut().zip(known.reason.bytes().take(VFIOMIG_REASON_SIZE.saturating_sub(1))) {
            *to = c_char::from_ne_bytes([from]);
        }
        // SAFETY: `size` is what check_out returned for `info`.
        unsafe { copy_out(info, size, &ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_get_info", t, errp, body) }
}

/// Adds DMA mappings, each as it was mapped, after the mapping was made. Either all are added or
/// none; with `count` 0 nothing is done. While the tracker is started a new mapping counts as dirty
/// once. A log whose ranges do not include it is restarted; everything is then dirty once, unless
/// the device is stopped. The ranges of a log are the apertures of the options, else what is mapped,
/// generously rounded out. A log that cannot be restarted or read is replaced by the next best.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`mappings` NULL; not in units of 4096; flags or reserved not 0; -EEXIST:
/// overlaps a mapping, or is one), BUSY (-EDEADLK: from a callback of the tracker).
/// States: started or not.
/// Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `mappings` is readable for `count` elements; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_map(
    t: *mut vfiomig_tracker,
    mappings: *const vfiomig_mapping,
    count: usize,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |tracker: &Tracker| {
        // SAFETY: the contract of this function.
        let given = unsafe { slice("mappings", mappings, count) }?;
        let mapping = |(index, m): (usize, &vfiomig_mapping)| match (m.flags, m.reserved) {
            (0, 0) => Ok(Mapping { range: IovaRange { iova: m.iova, size: m.size }, cookie: m.cookie }),
            (flags, _) => {
                Err(Error::argument(format!("mappings[{index}]: flags {flags:#x} or reserved are not known")))
            }
        };
        tracker.map(&given.iter().enumerate().map(mapping).collect::<Result<Vec<_>>>()?)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_map", t, errp, body) }
}

/// Starts the tracker, before any RAM is sent. Calls are counted: the first one starts a log, and a
/// later one restarts nothing that works. The log is also read once: if that fails, the next best
/// log is used, and vfiomig_tracker_get_info() says so. With nothing mapped, that is done at the
/// first mapping. A later start tries better logs once more; if one works it is used, and everything
/// is dirty once. That no log works is no error: everything is dirty at each harvest.
///
/// Returns: 0 or -errno.
/// Errors: ORDER (2^32 starts), BUSY (-EDEADLK: from a callback of the tracker).
/// States: started or not.
/// Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_start(t: *mut vfiomig_tracker, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_start", t, errp, Tracker::start) }
}

/// Takes back one start. The last one stops the log: what it holds, and what earlier reads left
/// over, is lost. That a device has stopped its log itself is no error. A start that a migration
/// made ends with that migration, at HALTED or abort.
///
/// Returns: 0 or -errno.
/// Errors: ORDER (no start of the VMM is left, or a final harvest is due), BUSY (-EDEADLK: from a
/// callback of the tracker).
/// States: started by the VMM.
/// Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_stop(t: *mut vfiomig_tracker, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_stop", t, errp, Tracker::stop) }
}

/// Adds a device that was plugged into this address space. If the tracker is started, the device's
/// log is started, and everything is dirty once, since earlier writes are not known. If the device
/// has no log, the next best log is used for all devices. A device with a page table of its own
/// needs vfiomig_tracker_add_hwpt() as well, where page tables are used.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`d` NULL; -EEXIST: the tracker has it), BUSY (another tracker has its log;
/// -EDEADLK: from a callback of the tracker).
/// States: started or not.
/// Threads: tracker. Blocks: in the kernel, and in functions of the device. Since: 0.1
// Safety: `t` and `d` are NULL or live handles; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_add_device(
    t: *mut vfiomig_tracker,
    d: *mut vfiomig_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_tracker_add_device";
    // SAFETY: the contract of this function.
    let body = |tracker: &Tracker| tracker.add_device(unsafe { object_of(NAME, d.cast_const()) }?);
    // SAFETY: the contract of this function.
    unsafe { on(NAME, t, errp, body) }
}

/// Removes a device that was unplugged. It must do no DMA any more. What its log holds is read and
/// left over, and the log is stopped; other logs are not touched or restarted. Call it before
/// vfiomig_device_free(): what a freed device wrote last is not known, so everything is dirty once
/// then.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`d` NULL, or not in the tracker), BUSY (-EDEADLK: from a callback of the
/// tracker).
/// States: started or not.
/// Threads: tracker. Blocks: in the kernel, and in functions of the device. Since: 0.1
// Safety: `t` and `d` are NULL or live handles; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_remove_device(
    t: *mut vfiomig_tracker,
    d: *mut vfiomig_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_tracker_remove_device";
    // SAFETY: the contract of this function.
    let body = |tracker: &Tracker| tracker.remove_device(&unsafe { object_of(NAME, d.cast_const()) }?);
    // SAFETY: the contract of this function.
    unsafe { on(NAME, t, errp, body) }
}

/// Adds a device of this address space for which there is no vfiomig_device, because the VMM or
/// another library serves it. `name` is for messages and names it in
/// vfiomig_tracker_remove_foreign(); at most 255 bytes, copied.
///
/// `device_fd` is its VFIO device fd, or -1. With it the tracker may use the DMA log that the device
/// keeps itself, and asks it for nothing else; no other code may use that log meanwhile. The fd is
/// borrowed until the device is removed or the tracker freed. With -1, or if the device keeps no
/// log, the logs of the other devices are not enough, and the tracker uses page tables, the
/// container's log, or none. If the tracker is started, everything is dirty once.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`name` NULL or too long; `device_fd` below -1; -EEXIST: the tracker has a
/// foreign device of that name), BUSY (another tracker has its log; -EDEADLK: from a callback of the
/// tracker).
/// States: started or not.
/// Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `name` is NULL or a C string; `device_fd` is -1 or a descriptor
// that stays open as long as it is borrowed; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_add_foreign(
    t: *mut vfiomig_tracker,
    name: *const c_char,
    device_fd: c_int,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    let body = |tracker: &Tracker| {
        // SAFETY: the contract of this function.
        let log = unsafe { foreign_log(device_fd) }?;
        // SAFETY: the contract of this function.
        tracker.add_foreign(&unsafe { foreign_name(name) }?, log)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_add_foreign", t, errp, body) }
}

/// Removes a foreign device that does no DMA any more, or that is added as a vfiomig_device next.
/// What its log holds is read and left over, and the log is stopped, so its fd must be open still.
/// If the tracker is started, and everything was dirty at each harvest because of that device, a
/// better log is started, and everything is dirty once more. Other logs are not touched.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`name` NULL, or not in the tracker), BUSY (-EDEADLK: from a callback of the
/// tracker).
/// States: started or not.
/// Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `name` is NULL or a C string; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_remove_foreign(
    t: *mut vfiomig_tracker,
    name: *const c_char,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    let body = |tracker: &Tracker| tracker.remove_foreign(&unsafe { foreign_name(name) }?);
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_remove_foreign", t, errp, body) }
}

/// # Safety
/// `device_fd` is -1, or a descriptor that stays open as long as it is borrowed.
unsafe fn foreign_log(device_fd: c_int) -> Result<Option<Arc<dyn Transport>>> {
    if device_fd == -1 {
        return Ok(None);
    }
    // SAFETY: the contract of this function.
    let fd = unsafe { borrow_fd("device_fd", device_fd) }?;
    Ok(Some(Arc::new(Kernel::new(fd))))
}

/// # Safety
/// `name` is NULL or a C string.
unsafe fn foreign_name(name: *const c_char) -> Result<String> {
    if name.is_null() {
        return Err(Error::argument("name is NULL"));
    }
    // SAFETY: a C string by the contract of this function.
    Ok(text_of(unsafe { CStr::from_ptr(name) }))
}

/// Adds the hardware page table to which a device of this address space was attached. Each call
/// counts one attached device, foreign or not. While the tracker is started and reads page tables,
/// the dirty tracking of a new one is switched on, and everything is dirty once. `hwpt_id` may be a
/// page table without dirty tracking, which shows when it is started; 0 stands for anything else to
/// which a device is attached, as for a mediated device. With one of these page tables cannot speak
/// for all devices, and the tracker uses another log.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (made without VFIOMIG_TRACKER_F_HWPT), BUSY (another tracker has it; -EDEADLK:
/// from a callback of the tracker).
/// States: started or not.
/// Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_add_hwpt(
    t: *mut vfiomig_tracker,
    hwpt_id: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_add_hwpt", t, errp, |tracker| tracker.add_hwpt(hwpt_id)) }
}

/// Takes back one vfiomig_tracker_add_hwpt(), for a device that is attached no more. With the last
/// one of a page table, what that holds is read and left over, and its dirty tracking is switched
/// off; other logs are not touched. Call it before the page table is destroyed. If no page table is
/// left and a device stays, everything is dirty until another one is added. If the others can speak
/// for all devices again, their dirty tracking is used as after vfiomig_tracker_remove_foreign().
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (made without VFIOMIG_TRACKER_F_HWPT, or not in the tracker), BUSY (-EDEADLK:
/// from a callback of the tracker).
/// States: started or not.
/// Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_remove_hwpt(
    t: *mut vfiomig_tracker,
    hwpt_id: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_remove_hwpt", t, errp, |tracker| tracker.remove_hwpt(hwpt_id)) }
}
