//! Tracker handles: make, describe, add mappings, start and stop.

use super::device::{VFIOMIG_OPS_F_ANY_THREAD, VFIOMIG_REASON_SIZE, borrow_fd, text_of};
use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{free, new, object_of, on};
pub use super::handle::{vfiomig_device, vfiomig_tracker};
use super::sized::{ExtensibleStruct, check_out, copy_in, copy_out};
use crate::error::{Error, Result};
use crate::tracker::{IovaRange, LogKind, Mapping, Tracker, TrackerOptions};
use crate::transport::iommufd::{Iommufd, KernelIommufd};
use crate::transport::tracker_ops::{LogOps, LogRange, OpsLog};
use crate::transport::type1::{Container, KernelContainer};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

/// container_fd is given.
pub const VFIOMIG_TRACKER_F_TYPE1: u32 = 0x1;
/// iommufd and hwpt_ids are given.
pub const VFIOMIG_TRACKER_F_HWPT: u32 = 0x2;
/// ioas_id is given: the library can unmap from it. Only with VFIOMIG_TRACKER_F_HWPT.
pub const VFIOMIG_TRACKER_F_IOAS: u32 = 0x4;
/// Do not use the devices' own logs.
pub const VFIOMIG_TRACKER_F_NO_DEVICE_LOG: u32 = 0x8;
/// Use no log at all: everything that is mapped is dirty at each harvest.
pub const VFIOMIG_TRACKER_F_EVERYTHING: u32 = 0x10;

const TRACKER_FLAGS: u32 = VFIOMIG_TRACKER_F_TYPE1
    | VFIOMIG_TRACKER_F_HWPT
    | VFIOMIG_TRACKER_F_IOAS
    | VFIOMIG_TRACKER_F_NO_DEVICE_LOG
    | VFIOMIG_TRACKER_F_EVERYTHING;

/// No log: everything that is mapped is dirty at each harvest.
pub const VFIOMIG_TRACKER_KIND_EVERYTHING: u32 = 1;
/// The container's log.
pub const VFIOMIG_TRACKER_KIND_TYPE1: u32 = 2;
/// The DMA log of each device (v2; some may be draft devices).
pub const VFIOMIG_TRACKER_KIND_DMA_LOG: u32 = 3;
/// Dirty tracking of hardware page tables.
pub const VFIOMIG_TRACKER_KIND_HWPT: u32 = 4;
/// The dirty-page registers of draft devices. They answer only while the device saves: enter
/// PRE_COPY before vfiomig_tracker_start(), or the first harvest in PRE_COPY finds everything dirty.
pub const VFIOMIG_TRACKER_KIND_DRAFT: u32 = 5;
/// A log that the VMM keeps itself.
pub const VFIOMIG_TRACKER_KIND_OPS: u32 = 6;

const _: () = assert!(
    LogKind::Everything as u32 == VFIOMIG_TRACKER_KIND_EVERYTHING
        && LogKind::Type1 as u32 == VFIOMIG_TRACKER_KIND_TYPE1
);
const _: () = assert!(
    LogKind::DmaLog as u32 == VFIOMIG_TRACKER_KIND_DMA_LOG && LogKind::Hwpt as u32 == VFIOMIG_TRACKER_KIND_HWPT
);
const _: () =
    assert!(LogKind::Draft as u32 == VFIOMIG_TRACKER_KIND_DRAFT && LogKind::Ops as u32 == VFIOMIG_TRACKER_KIND_OPS);

/// In vfiomig_tracker_info.flags: every harvest reports all that is mapped as dirty, so waiting does
/// not help. For a type1 container it is set by the first read of a mapped page, and cleared when a
/// clean page is seen. For other logs it is set while the log cannot be read; `reason` says
/// why.
pub const VFIOMIG_TRACKER_PERPETUAL: u32 = 0x1;

/// One DMA mapping. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_mapping {
    /// First byte; a multiple of 4096.
    pub iova: u64,
    /// Length in bytes; a multiple of 4096, not 0. iova + size may be 2^64.
    pub size: u64,
    /// The VMM's own number: passed to `run`, also for pages left over of a mapping that was unmapped.
    pub cookie: u64,
    /// 0.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<vfiomig_mapping>() == 32);

/// How a tracker is made. Set up with VFIOMIG_INIT. A container fd, an iommufd or an id is used only
/// with its flag.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_tracker_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_TRACKER_F_*.
    pub flags: u32,
    /// For messages; at most 255 bytes, copied. UTF-8; other bytes read as "?". NULL: "tracker".
    pub name: *const c_char,
    /// Every device that does DMA in this address space. The devices' own logs are used only if each
    /// device has one. Devices may come and go later: vfiomig_tracker_add_device(). A device that is
    /// named twice counts once.
    pub devices: *const *mut vfiomig_device,
    /// Number of `devices`.
    pub device_count: usize,
    /// Ids of the hardware page tables to which the devices are attached, made with dirty tracking.
    pub hwpt_ids: *const u32,
    /// Number of `hwpt_ids`; not 0 with VFIOMIG_TRACKER_F_HWPT.
    pub hwpt_count: usize,
    /// Smallest page in bytes that the VMM needs, a power of two from 4096 to 2^30: a hint to logs
    /// that have a choice. 0: 4096.
    pub page_size: u64,
    /// A type1 container. The library uses it until vfiomig_tracker_free().
    pub container_fd: i32,
    /// The library uses it until vfiomig_tracker_free().
    pub iommufd: i32,
    /// The IOAS of the page tables.
    pub ioas_id: u32,
    /// Largest number of threads within a call. 0: one per log, at most 64. 1: no threads are created.
    pub max_workers: u32,
    /// Ranges in which mappings will be, in units of 4096. Logs of devices and of the VMM are started
    /// for all of them, so that a mapping within them does not restart a log. For guests with an IOMMU
    /// of their own: its address width as one range. They may overlap; what is mapped elsewhere is
    /// logged as well.
    pub apertures: *const LogRange,
    /// Number of `apertures`. 0: logs hold what is mapped, rounded out.
    pub aperture_count: usize,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_tracker_options {
    const NAME: &'static str = "vfiomig_tracker_options";
    const FLAGS: u32 = TRACKER_FLAGS;
}

const _: () = assert!(size_of::<vfiomig_tracker_options>() == 8 + 7 * size_of::<usize>() + 24);

// SAFETY: repr(C) with argsz and flags first, then pointers without padding; zeros are NULL pointers.
unsafe impl ExtensibleStruct for LogOps {
    const NAME: &'static str = "vfiomig_tracker_ops";
    const FLAGS: u32 = VFIOMIG_OPS_F_ANY_THREAD;
}

/// What is known of a tracker.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_tracker_info {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0 or VFIOMIG_TRACKER_PERPETUAL.
    pub flags: u32,
    /// VFIOMIG_TRACKER_KIND_*: the log that is read, or that will be tried first.
    pub kind: u32,
    /// Calls of vfiomig_tracker_start(), by VMM and migration, without their stop. The tracker is
    /// started if it is not 0.
    pub starts: u32,
    /// Logs that cannot be started or read: everything mapped is dirty at each harvest until a restart
    /// succeeds.
    pub failed_logs: u32,
    /// 0.
    pub reserved: u32,
    /// Largest page of a log in bytes while the tracker is started; else `page_size` of the options.
    pub page_size: u64,
    /// Mapped ranges, neighbours joined.
    pub mapped_ranges: u64,
    /// Ranges in the log with the fewest: fewer than `mapped_ranges` if the log takes no more. 0 while
    /// not started.
    pub logged_ranges: u64,
    /// Why this log is read, and what is wrong with it, in words.
    pub reason: [c_char; VFIOMIG_REASON_SIZE],
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_tracker_info {
    const NAME: &'static str = "vfiomig_tracker_info";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_tracker_info>() == 48 + VFIOMIG_REASON_SIZE);
const _: () = assert!(std::mem::offset_of!(vfiomig_tracker_info, page_size) == 24);

/// A C array; NULL is legal where it is empty.
///
/// # Safety
/// `first` is NULL or readable for `count` elements, for as long as the result is used.
pub(super) unsafe fn slice<'a, T>(what: &str, first: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(Error::argument(format!("{what} is NULL, but {count} are to be there")));
    }
    if !first.is_aligned() || count.checked_mul(size_of::<T>()).is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(Error::argument(format!("{what}: {count} elements at {first:p} are no array")));
    }
    // SAFETY: not NULL, aligned, of a legal size; readable by the contract of this function.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

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
/// The tracker refers to its devices. A device handle that is freed counts as unplugged: everything
/// is dirty once, in a migration at each harvest, and the tracker continues without it.
///
/// Reading a log clears it, so a log has one tracker: a device handle, a page table of an iommufd or
/// a container that another tracker of this process has is refused until that is freed. Descriptors
/// are compared by number: a copy made by dup() is not recognised, and dirty pages would be lost.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL; -1 as fd: -EBADF; options, also a page_size or name out of range,
/// VFIOMIG_TRACKER_F_HWPT without ids, apertures that are not in units of 4096), BUSY (another
/// tracker has a log).
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

/// Adds a hardware page table with dirty tracking, to which a device of this address space is
/// attached. While the tracker is started and reads page tables, the dirty tracking of the new one
/// is switched on, and everything is dirty once.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (made without VFIOMIG_TRACKER_F_HWPT; -EEXIST: the tracker has it), BUSY
/// (another tracker has it; -EDEADLK: from a callback of the tracker).
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

/// Removes a hardware page table to which no device is attached any more. What it holds is read and
/// left over, and its dirty tracking is switched off; other logs are not touched. Call it before the
/// page table is destroyed. If it was the last one and a device stays, everything is dirty until
/// another one is added.
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
