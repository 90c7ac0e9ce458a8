//! Tracker handles: make, describe, tell what is mapped, start and stop.

use super::device::{VFIOMIG_OPS_F_ANY_THREAD, borrow_fd, text_of};
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
/// iommufd and hwpts are given.
pub const VFIOMIG_TRACKER_F_HWPT: u32 = 0x2;
/// ioas is given: the library can unmap from it. Only with VFIOMIG_TRACKER_F_HWPT.
pub const VFIOMIG_TRACKER_F_IOAS: u32 = 0x4;
/// Do not use the devices' own logs.
pub const VFIOMIG_TRACKER_F_NO_DEVICE_LOG: u32 = 0x8;
/// Use no log at all: everything that is mapped is dirty at each harvest.
pub const VFIOMIG_TRACKER_F_EVERYTHING: u32 = 0x10;
/// aperture and aperture_count are given.
pub const VFIOMIG_TRACKER_F_APERTURE: u32 = 0x20;

const TRACKER_FLAGS: u32 = VFIOMIG_TRACKER_F_TYPE1
    | VFIOMIG_TRACKER_F_HWPT
    | VFIOMIG_TRACKER_F_IOAS
    | VFIOMIG_TRACKER_F_NO_DEVICE_LOG
    | VFIOMIG_TRACKER_F_EVERYTHING
    | VFIOMIG_TRACKER_F_APERTURE;

/// No log: everything that is mapped is dirty at each harvest.
pub const VFIOMIG_TRACKER_KIND_EVERYTHING: u32 = 1;
/// The container's log.
pub const VFIOMIG_TRACKER_KIND_TYPE1: u32 = 2;
/// The DMA log of each device (v2; some may be draft devices).
pub const VFIOMIG_TRACKER_KIND_DMA_LOG: u32 = 3;
/// Dirty tracking of hardware page tables.
pub const VFIOMIG_TRACKER_KIND_HWPT: u32 = 4;
/// The dirty-page registers of draft devices. They answer only while the device saves: enter PRE_COPY before
/// vfiomig_tracker_start(), or the first harvest in it finds everything dirty.
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

/// vfiomig_tracker_info: everything is dirty at each harvest; waiting for less does not help. Of a container this shows with the
/// first read of something that is mapped: at the start, or at a harvest. It goes when a clean page was seen. Of another log it
/// shows while that cannot be read again and again, and goes when it can; `why` has the reason.
pub const VFIOMIG_TRACKER_PERPETUAL: u32 = 0x1;

/// Bytes of `why`, with its end.
pub const VFIOMIG_WHY_SIZE: usize = 256;

/// One DMA mapping. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_mapping {
    /// First byte; a multiple of 4096.
    pub iova: u64,
    /// Bytes; a multiple of 4096, not 0. iova + size may be 2^64.
    pub size: u64,
    /// Handed to run callbacks, for the caller's own use; also after the mapping is gone, for what is left over of it.
    pub cookie: u64,
}

const _: () = assert!(size_of::<vfiomig_mapping>() == 24);

/// How a tracker is made. VFIOMIG_INIT first. A container fd, an iommufd or an id counts only with its flag.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_tracker_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_TRACKER_F_*.
    pub flags: u32,
    /// For messages, at most 255 bytes, copied. NULL: "tracker".
    pub name: *const c_char,
    /// Every device behind the address space. A log of their own is used only if each of them has one. More can come and go later:
    /// vfiomig_tracker_add_device().
    pub devices: *const *mut vfiomig_device,
    /// How many.
    pub device_count: usize,
    /// Ids of the hardware page tables to which the devices are attached, made with dirty tracking.
    pub hwpts: *const u32,
    /// How many.
    pub hwpt_count: usize,
    /// Smallest page that the VMM cares about, a power of two from 4 KiB to 1 GiB: a hint to logs that have a choice. 0: 4 KiB.
    pub page_size: u64,
    /// A type1 container. Borrowed until vfiomig_tracker_free().
    pub container_fd: i32,
    /// Borrowed until vfiomig_tracker_free().
    pub iommufd: i32,
    /// The IOAS of the page tables.
    pub ioas: u32,
    /// Threads that work side by side within a call; 0: one per source within reason, 1: none.
    pub max_workers: u32,
    /// Where mappings will be, in units of 4096: logs of devices and of the VMM are started for these ranges, so that no mapping
    /// in them restarts a log. For guests with an IOMMU of their own: its address width as one range. They may overlap; what is
    /// mapped elsewhere is logged as well. Counts only with VFIOMIG_TRACKER_F_APERTURE.
    pub aperture: *const LogRange,
    /// How many.
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
    /// Starts that were not stopped.
    pub users: u32,
    /// Sources that keep no log although they should: what is mapped is dirty at each harvest until a restart helps.
    pub failed_logs: u32,
    /// 0.
    pub reserved: u32,
    /// The largest page of any source while it runs, in bytes; else the option.
    pub page_size: u64,
    /// Mapped ranges, neighbours joined.
    pub mapped_ranges: u64,
    /// Ranges that the source with the fewest holds: less than asked, if it had to fold them; 0 while it does not run.
    pub logged_ranges: u64,
    /// Why this log, in words.
    pub why: [c_char; VFIOMIG_WHY_SIZE],
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_tracker_info {
    const NAME: &'static str = "vfiomig_tracker_info";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_tracker_info>() == 48 + VFIOMIG_WHY_SIZE);
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
        let hwpts = unsafe { slice("hwpts", given.hwpts, given.hwpt_count) }?.to_vec();
        options.hwpts = Some((Arc::new(KernelIommufd(fd)) as Arc<dyn Iommufd>, hwpts));
    }
    if has(VFIOMIG_TRACKER_F_IOAS) {
        if options.hwpts.is_none() {
            return Err(Error::argument("VFIOMIG_TRACKER_F_IOAS needs VFIOMIG_TRACKER_F_HWPT"));
        }
        options.ioas = Some(given.ioas);
    }
    if has(VFIOMIG_TRACKER_F_APERTURE) {
        // SAFETY: the contract of this function.
        let ranges = unsafe { slice("aperture", given.aperture, given.aperture_count) }?;
        if ranges.is_empty() {
            return Err(Error::argument("aperture: VFIOMIG_TRACKER_F_APERTURE without ranges"));
        }
        options.aperture = ranges.iter().map(|range| IovaRange { iova: range.iova, size: range.size }).collect();
    }
    options.no_device_log = has(VFIOMIG_TRACKER_F_NO_DEVICE_LOG);
    options.everything = has(VFIOMIG_TRACKER_F_EVERYTHING);
    options.page_size = Some(given.page_size).filter(|&size| size != 0);
    options.max_workers = given.max_workers as usize;
    Ok(options)
}

/// # Safety
/// `out` is NULL or points to room for one pointer.
unsafe fn make(out: *mut *mut vfiomig_tracker, options: impl FnOnce() -> Result<TrackerOptions>) -> Result<()> {
    if out.is_null() {
        return Err(Error::argument("out is NULL"));
    }
    let tracker = Tracker::new(options()?)?;
    // SAFETY: not NULL, so writable by the contract of this function.
    unsafe { out.write(new(tracker)) };
    Ok(())
}

/// Makes a tracker for one address space, and picks its log: the devices' own logs if every device has one; else dirty tracking
/// of the page tables; else the container's log; else everything is dirty. vfiomig_tracker_get_info() says which and why. Starts
/// nothing. NULL options: everything is dirty; but the tracker speaks for no device of a group, as one with
/// VFIOMIG_TRACKER_F_EVERYTHING does for all.
///
/// The tracker refers to its devices. One that is freed was unplugged: everything is dirty once, as if its log could not be read
/// (-ENODEV), and the tracker goes on without it. While a migration has started the tracker it is so at each harvest.
///
/// Reading a log clears it, so a log has one tracker: a device handle, a page table of an iommufd, or a container that another
/// tracker of this process has is refused until that is freed. Descriptors are known by their number: a copy made by dup() is
/// not recognised, and would lose dirty pages.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, -1: -EBADF, options), BUSY (another tracker has a log). Threads: any. Blocks: in
/// the kernel, and in callbacks of the devices. Since: 0.1
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

/// Makes a tracker over a log that the VMM keeps itself. The table is copied; `opaque` is handed to each function and never
/// touched. Of the options name, devices, aperture, page_size and max_workers count; another log beside it is refused.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, table, options), BUSY (another tracker has the same functions with the same
/// opaque). Threads: any. Blocks: never. Since: 0.1
// Safety: Until the handle is freed each function may be called as `struct vfiomig_tracker_ops` describes; pointers are NULL or valid
// as described.
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

/// Frees a tracker; NULL is legal. Waits for the call in progress, and stops the log if it runs. Afterwards the library never
/// touches its fds, ops or opaque pointers again. Called from one of its own callbacks it frees nothing and logs an error.
///
/// Threads: tracker; no call on the handle may begin during or after it. Blocks: until the call in progress returns, and in the
/// kernel. Since: 0.1
// Safety: `t` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_free(t: *mut vfiomig_tracker) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_tracker_free", t) };
}

/// What is known of a tracker.
///
/// Returns: 0 or -errno. Errors: ARGUMENT. Threads: any. Blocks: never. Since: 0.1
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
            users: known.users,
            failed_logs: known.failed_logs,
            reserved: 0,
            page_size: known.page_size,
            mapped_ranges: known.mapped_ranges,
            logged_ranges: known.logged_ranges,
            why: [0; VFIOMIG_WHY_SIZE],
        };
        for (to, from) in ours.why.iter_mut().zip(known.why.bytes().take(VFIOMIG_WHY_SIZE.saturating_sub(1))) {
            *to = c_char::from_ne_bytes([from]);
        }
        // SAFETY: `size` is what check_out returned for `info`.
        unsafe { copy_out(info, size, &ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_get_info", t, errp, body) }
}

/// Tells DMA mappings, each as it was mapped, after it was mapped. All or none are taken. While tracking a new one counts as
/// dirty once. A log that does not hold it is started anew, and that makes everything dirty once, unless its device stands still.
/// Logs hold the aperture of the options, and else what is mapped, rounded out generously. A log that cannot be started anew or
/// read makes room for the next one that can.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (not in units of 4096; -EEXIST: overlaps a mapping), BUSY (-EDEADLK: from a callback
/// of the tracker). Threads: tracker. Blocks: in the kernel. Since: 0.1
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
        let mapping =
            |m: &vfiomig_mapping| Mapping { range: IovaRange { iova: m.iova, size: m.size }, cookie: m.cookie };
        tracker.map(&given.iter().map(mapping).collect::<Vec<_>>())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_map", t, errp, body) }
}

/// Starts to track; do so before any RAM is sent. Counted: only the first start begins a log, a later one restarts nothing that
/// works. A log that starts but cannot be read is found out here, and the next one is taken; vfiomig_tracker_get_info() says so. A
/// later start gives the better ones another chance; if one works it is taken, and everything is dirty once.
///
/// Returns: 0 or -errno. Errors: BUSY (-EDEADLK: from a callback of the tracker). Threads: tracker. Blocks: in the kernel.
/// Since: 0.1
// Safety: `t` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_start(t: *mut vfiomig_tracker, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_start", t, errp, Tracker::start) }
}

/// Takes back one start; the last one stops the log, and what it held is gone. A log that a device stopped itself is no error. The
/// start of a migration is taken back by the migration only, at HALTED or when it is aborted.
///
/// Returns: 0 or -errno. Errors: ORDER (no start of the caller's is left, or a final harvest is owed), BUSY (-EDEADLK: from a callback of
/// the tracker). Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_stop(t: *mut vfiomig_tracker, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_stop", t, errp, Tracker::stop) }
}

/// A device was plugged in behind the address space of the tracker. While tracking its log is started, and everything is dirty
/// once: nobody knows what it wrote until then. If it keeps no log of its own the tracker takes the next one for all. A device
/// with a page table of its own needs vfiomig_tracker_add_hwpt() as well, where page tables are used.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL; -EEXIST: it is in the tracker), BUSY (another tracker has its log; -EDEADLK: from
/// a callback of the tracker). Threads: tracker. Blocks: in the kernel, and in callbacks of the device. Since: 0.1
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

/// A device was unplugged, and writes no more. What its log holds is read and kept for the harvest that asks, and the log is
/// stopped; no other log is touched, and none is restarted. Call it before vfiomig_device_free(): what a freed device wrote last
/// is unknown, so everything is dirty once then.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, not in the tracker), BUSY (-EDEADLK: from a callback of the tracker). Threads:
/// tracker. Blocks: in the kernel, and in callbacks of the device. Since: 0.1
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

/// A hardware page table with dirty tracking came, to which a device of the address space is attached. While page tables are read
/// its tracking is switched on, and everything is dirty once.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, no VFIOMIG_TRACKER_F_HWPT; -EEXIST: it is in the tracker), BUSY (another tracker
/// has it; -EDEADLK: from a callback of the tracker). Threads: tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_add_hwpt(
    t: *mut vfiomig_tracker,
    hwpt: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_add_hwpt", t, errp, |tracker| tracker.add_hwpt(hwpt)) }
}

/// A hardware page table goes: no device is attached to it any more. What it holds is read and kept, and its tracking is switched
/// off; nothing else is touched. Call it before it is destroyed. If it was the last one and a device stays, everything is dirty until
/// another one is added.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (NULL, not in the tracker), BUSY (-EDEADLK: from a callback of the tracker). Threads:
/// tracker. Blocks: in the kernel. Since: 0.1
// Safety: `t` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_remove_hwpt(
    t: *mut vfiomig_tracker,
    hwpt: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_remove_hwpt", t, errp, |tracker| tracker.remove_hwpt(hwpt)) }
}
