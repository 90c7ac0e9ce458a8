//! What the functions of a tracker take and give: constants and structs.

use super::device_data::{VFIOMIG_OPS_F_ANY_THREAD, VFIOMIG_REASON_SIZE};
use super::handle::vfiomig_device;
use super::sized::ExtensibleStruct;
use crate::tracker::LogKind;
use crate::transport::tracker_ops::{LogOps, LogRange};
use std::ffi::c_char;

/// container_fd is given.
pub const VFIOMIG_TRACKER_F_TYPE1: u32 = 0x1;
/// iommufd is given, and hwpt_ids if there are page tables already.
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
    /// device has one. Devices may come and go later: vfiomig_tracker_add_device(), _add_foreign(). A
    /// device that is named twice counts once.
    pub devices: *const *mut vfiomig_device,
    /// Number of `devices`.
    pub device_count: usize,
    /// Ids of the hardware page tables to which the devices are attached, as for
    /// vfiomig_tracker_add_hwpt(), which adds later ones.
    pub hwpt_ids: *const u32,
    /// Number of `hwpt_ids`.
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
