//! What the functions of a device take and give: constants and structs.

use super::sized::ExtensibleStruct;
use crate::device::CapFlags;
use crate::dialect::DialectKind;
use crate::transport::ops::Ops;
use std::ffi::c_char;

/// As option: look for every dialect.
pub const VFIOMIG_DIALECT_AUTO: u32 = 0;
/// As information: the device is not migratable, and `reason` says why.
pub const VFIOMIG_DIALECT_NONE: u32 = 0;
/// The 2019 proposal of the migration region. A draft device that uses v1's region id is taken for
/// v1 unless the options name DRAFT.
pub const VFIOMIG_DIALECT_DRAFT: u32 = 1;
/// Migration region, Linux 5.8 to 5.17, with or without NDMA.
pub const VFIOMIG_DIALECT_V1: u32 = 2;
/// Device feature and data fd, Linux 5.18.
pub const VFIOMIG_DIALECT_V2: u32 = 3;

const _: () =
    assert!(DialectKind::Draft as u32 == VFIOMIG_DIALECT_DRAFT && DialectKind::V1 as u32 == VFIOMIG_DIALECT_V1);
const _: () = assert!(DialectKind::V2 as u32 == VFIOMIG_DIALECT_V2);

/// draft_cursor: the client writes the range once, and the device remembers how much of the bitmap
/// was read. Default for region type 2.
pub const VFIOMIG_DRAFT_CURSOR_STICKY: u32 = 1;
/// draft_cursor: the client writes the rest of the range for each part. Default for region type 3.
pub const VFIOMIG_DRAFT_CURSOR_REWRITE: u32 = 2;

/// Never map the migration region: trapped access only, so that no device can raise SIGBUS in the
/// VMM.
pub const VFIOMIG_DEVICE_F_NO_MMAP: u32 = 0x1;
/// For devices whose data_size may read 0: the length of the segment is then min(pending_bytes, the
/// area). Seen on a vendor's vGPU.
pub const VFIOMIG_DEVICE_F_ZERO_DATA_SIZE: u32 = 0x2;
/// Load a segment that is larger than the device's window in parts, as QEMU does; the protocol
/// forbids it.
pub const VFIOMIG_DEVICE_F_SPLIT_SEGMENTS: u32 = 0x4;
/// Move trapped data 8, 4, 2 or 1 bytes at a time, naturally aligned, for drivers that refuse other
/// accesses.
pub const VFIOMIG_DEVICE_F_ALIGNED_ACCESS: u32 = 0x8;
/// Calls of the class *device* that would wait for another call on the handle return -EBUSY at once.
/// Calls that the library makes itself, within functions of a group or migration, wait all the same.
pub const VFIOMIG_DEVICE_F_NO_WAIT: u32 = 0x10;
/// No tracker uses the log of written pages that the device keeps itself: a tracker with this device
/// uses page tables, the container's log, or none.
pub const VFIOMIG_DEVICE_F_NO_LOG: u32 = 0x20;

const DEVICE_FLAGS: u32 = VFIOMIG_DEVICE_F_NO_MMAP
    | VFIOMIG_DEVICE_F_ZERO_DATA_SIZE
    | VFIOMIG_DEVICE_F_SPLIT_SEGMENTS
    | VFIOMIG_DEVICE_F_ALIGNED_ACCESS
    | VFIOMIG_DEVICE_F_NO_WAIT
    | VFIOMIG_DEVICE_F_NO_LOG;

/// The device has PRE_COPY.
pub const VFIOMIG_CAP_PRE_COPY: u32 = 0x1;
/// The device has RUNNING_P2P, and PRE_COPY_P2P if it has PRE_COPY.
pub const VFIOMIG_CAP_P2P: u32 = 0x2;
/// The device says that it can be reset, or that it can in another state (libvfio-user). Some
/// devices without this bit can be reset, too (mtty).
pub const VFIOMIG_CAP_RESET: u32 = 0x4;
/// The device reports when it begins again with initial data; reinit_count counts it.
pub const VFIOMIG_CAP_REINIT: u32 = 0x8;
/// Chunks and lent buffers are device memory, not copies (v1, draft). Known from the first session
/// on.
pub const VFIOMIG_CAP_MAPPED: u32 = 0x10;
/// In vfiomig_device_pending.flags: the sizes are those of the last query. A segment was read in
/// part, and asking the device would have acknowledged it (v1, draft).
pub const VFIOMIG_PENDING_CACHED: u32 = 0x1;

const _: () = assert!(CapFlags::PRE_COPY.bits() == VFIOMIG_CAP_PRE_COPY && CapFlags::P2P.bits() == VFIOMIG_CAP_P2P);
const _: () = assert!(CapFlags::RESET.bits() == VFIOMIG_CAP_RESET && CapFlags::REINIT.bits() == VFIOMIG_CAP_REINIT);
const _: () = assert!(CapFlags::MAPPED.bits() == VFIOMIG_CAP_MAPPED);

/// The functions may be called from threads that the library makes within a call, for different
/// devices or trackers at once, one call at a time for each. Without it they are called only from
/// the thread that called the library.
pub const VFIOMIG_OPS_F_ANY_THREAD: u32 = 0x1;

/// vfiomig_device_ops: a report of the DMA log (VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT) only sets
/// bits, and leaves the other bits of the bitmap as they are. The kernel does that, so set it where
/// device_feature passes the request on to the kernel. Reports of several devices then go into one
/// buffer. Without it each gets a buffer that is all zero.
pub const VFIOMIG_OPS_F_REPORT_ADDS_BITS: u32 = 0x2;

const _: () = assert!(crate::transport::ops::ANY_THREAD == VFIOMIG_OPS_F_ANY_THREAD);
const _: () = assert!(crate::transport::ops::REPORT_ADDS_BITS == VFIOMIG_OPS_F_REPORT_ADDS_BITS);

/// After a failed state change, leave the device in the state in which it is found.
pub const VFIOMIG_ON_FAILURE_KEEP: u32 = 0;
/// After a failed state change, reset the device: its state is lost.
pub const VFIOMIG_ON_FAILURE_RESET: u32 = 1;

/// Also take arcs that are legal for the kernel but throw away what the device holds
/// (docs/states.md).
pub const VFIOMIG_SET_STATE_F_RAW: u32 = 0x1;

/// Ask the device. Without it the last known sizes are returned.
pub const VFIOMIG_PENDING_F_EXACT: u32 = 0x1;

/// Largest size of a device's name in bytes, with the terminating NUL.
pub const VFIOMIG_NAME_SIZE: usize = 256;
const _: () = assert!(VFIOMIG_NAME_SIZE == crate::device::MAX_NAME + 1);

/// Size of every `reason` in bytes, with the terminating NUL. A longer text is cut, possibly in the
/// middle of a UTF-8 character.
pub const VFIOMIG_REASON_SIZE: usize = 256;

/// How a device is made. Set up with VFIOMIG_INIT. NULL stands for all defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_device_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_DEVICE_F_*.
    pub flags: u32,
    /// For messages; at most 255 bytes, copied; unique within a group. UTF-8; other bytes read as "?".
    /// NULL or empty: "device"; on a connection "vfio-user" with the path of its socket, or with the
    /// number of the library's descriptor. A wire finds devices by name, the same one at both ends.
    pub name: *const c_char,
    /// Size of the library's buffer in bytes, 4096 to 2^30; 0: 1 MiB.
    pub buffer_size: u64,
    /// VFIOMIG_DIALECT_*.
    pub dialect: u32,
    /// VFIOMIG_DRAFT_CURSOR_*; 0: by the region's type. The drafts disagree on how a dirty bitmap is
    /// read in parts.
    pub draft_cursor: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_device_options {
    const NAME: &'static str = "vfiomig_device_options";
    const FLAGS: u32 = DEVICE_FLAGS;
}

// SAFETY: repr(C) with argsz and flags first, then pointers without padding; zeros are NULL pointers.
unsafe impl ExtensibleStruct for Ops {
    const NAME: &'static str = "vfiomig_device_ops";
    const FLAGS: u32 = VFIOMIG_OPS_F_ANY_THREAD | VFIOMIG_OPS_F_REPORT_ADDS_BITS;
}

/// What is known of a device without asking it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_device_info {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// VFIOMIG_DIALECT_*; VFIOMIG_DIALECT_NONE: not migratable, `reason` says why.
    pub dialect: u32,
    /// VFIOMIG_CAP_*; of a device that is not migratable, VFIOMIG_CAP_RESET or 0.
    pub caps: u32,
    /// VFIOMIG_STATE_* as last known; VFIOMIG_STATE_ERROR for a device that is not migratable.
    pub state: u32,
    /// 1 while a session is open (a data fd, or a stay in SAVING or RESUMING), else 0.
    pub session_open: u32,
    /// Sessions that this handle has opened: the number of the current or last one; 0 before the
    /// first.
    pub session: u64,
    /// Bytes consumed in the current or last save session; the stream's length once END was reached.
    pub saved_bytes: u64,
    /// Bytes that the device took in the current or last load session.
    pub loaded_bytes: u64,
    /// Why the device is not migratable, in words; empty if it is.
    pub reason: [c_char; VFIOMIG_REASON_SIZE],
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_device_info {
    const NAME: &'static str = "vfiomig_device_info";
    const FLAGS: u32 = 0;
}

/// What is left to be saved. All sizes are estimates in bytes. VFIOMIG_UNKNOWN is the largest
/// number: test for it before adding sizes up.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_device_pending {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0 or VFIOMIG_PENDING_CACHED.
    pub flags: u32,
    /// Initial data that is left. Entering STOP_COPY before it is 0 makes downtime longer. Known in
    /// PRE_COPY states only.
    pub initial_bytes: u64,
    /// Data that changed since it was read; some devices never bring it to 0. Known in PRE_COPY states
    /// only. v1 and draft: pending_bytes.
    pub dirty_bytes: u64,
    /// All that is left to the end of the stream. It includes the two above; do not add them. In
    /// STOP_COPY it goes down with what is read, and is 0 from VFIOMIG_CHUNK_END on. v1 and draft:
    /// pending_bytes, known in STOP_COPY only.
    pub stop_copy_bytes: u64,
    /// How often the device began again with initial data.
    pub reinit_count: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_device_pending {
    const NAME: &'static str = "vfiomig_device_pending";
    const FLAGS: u32 = 0;
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<vfiomig_device_options>() == 32 && size_of::<Ops>() == 8 + 12 * 8);
    assert!(std::mem::offset_of!(vfiomig_device_options, buffer_size) == 16);
};
const _: () =
    assert!(size_of::<vfiomig_device_info>() == 48 + VFIOMIG_REASON_SIZE && size_of::<vfiomig_device_pending>() == 40);
const _: () = assert!(std::mem::offset_of!(vfiomig_device_info, reason) == 48);
const _: () = assert!(std::mem::offset_of!(vfiomig_device_pending, reinit_count) == 32);
