//! What is left of a migration, and for how long its guest would be stopped.

use super::device_data::VFIOMIG_PENDING_F_EXACT;
use super::error_object::vfiomig_error;
use super::handle::on;
pub use super::handle::vfiomig_migration;
use super::library::VFIOMIG_UNKNOWN;
use super::report::{give, vfiomig_report};
use super::sized::{ExtensibleStruct, check_out, copy_in, copy_out};
use crate::error::Error;
use crate::migration::{EstimateInput, Lacks, Migration};
use std::ffi::c_int;
use std::time::Duration;

/// What is left of all devices. Sizes are estimates in bytes. A sum is VFIOMIG_UNKNOWN, which is the
/// largest number, if one device does not know its part; vfiomig_migration_get_estimate() gives the
/// sum of the others.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_migration_pending {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// Initial data, which is to be sent before the guest stops.
    pub initial_bytes: u64,
    /// Data that changed since it was read; some devices never bring it to 0.
    pub dirty_bytes: u64,
    /// All that is left to the ends of the streams. It includes the two above; do not add them. Once
    /// devices are in STOP_COPY it goes down with what is read, to 0.
    pub stop_copy_bytes: u64,
    /// Bytes consumed so far.
    pub saved_bytes: u64,
    /// 1: no device needs more pre-copy. 0: a device has initial data left, or does not say how much
    /// it has and was not EMPTY yet.
    pub ready: u32,
    /// How often devices began again with initial data.
    pub reinit_count: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_migration_pending {
    const NAME: &'static str = "vfiomig_migration_pending";
    const FLAGS: u32 = 0;
}

/// What the caller of vfiomig_migration_get_estimate() knows better than the library. Set up with
/// VFIOMIG_INIT. NULL: nothing.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_migration_estimate_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// Rate of the channel; 0: as measured by the library's own drains.
    pub bytes_per_second: u64,
    /// Time of all state changes after the guest stops; 0: as measured before.
    pub transition_ns: u64,
    /// Other bytes that go over the channel while the guest is stopped.
    pub other_bytes: u64,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_migration_estimate_options {
    const NAME: &'static str = "vfiomig_migration_estimate_options";
    const FLAGS: u32 = 0;
}

/// In vfiomig_migration_estimate.unknown: how long some state changes take.
pub const VFIOMIG_ESTIMATE_TRANSITION: u32 = 0x1;
/// In vfiomig_migration_estimate.unknown: how much some devices have left.
pub const VFIOMIG_ESTIMATE_BYTES: u32 = 0x2;
/// In vfiomig_migration_estimate.unknown: the rate of the channel.
pub const VFIOMIG_ESTIMATE_RATE: u32 = 0x4;

const _: () = assert!(VFIOMIG_ESTIMATE_TRANSITION == Lacks::TRANSITION.bits());
const _: () = assert!(VFIOMIG_ESTIMATE_BYTES == Lacks::BYTES.bits() && VFIOMIG_ESTIMATE_RATE == Lacks::RATE.bits());

/// For how long the guest would be stopped, by part. A part of which nothing is known is
/// VFIOMIG_UNKNOWN. If a part is known in part only, it is a lower bound, its bit in `unknown` is
/// set, and downtime_ns is a lower bound, too.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_migration_estimate {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// The sum of the parts that are known.
    pub downtime_ns: u64,
    /// Time of the state changes: at each barrier, that of the slowest device.
    pub transition_ns: u64,
    /// Time to transfer what is left.
    pub transfer_ns: u64,
    /// What is left: of each device stop_copy_bytes, which includes what pre-copy would read; where
    /// that is not known, what pre-copy would read.
    pub bytes: u64,
    /// Bytes per second that were used.
    pub bytes_per_second: u64,
    /// VFIOMIG_ESTIMATE_*: what is not known, or not for all devices. 0: all is known.
    pub unknown: u32,
    /// Number of devices that do not know their part; `reasons` names them.
    pub unknown_devices: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_migration_estimate {
    const NAME: &'static str = "vfiomig_migration_estimate";
    const FLAGS: u32 = 0;
}

const _: () =
    assert!(size_of::<vfiomig_migration_pending>() == 48 && size_of::<vfiomig_migration_estimate_options>() == 32);
const _: () = assert!(size_of::<vfiomig_migration_estimate>() == 56);

/// How much is left of all devices; meant for a save. Without VFIOMIG_PENDING_F_EXACT the sizes are
/// those of the last queries. With it the devices are asked, which on some prepares more data. For a
/// device in a data call on another thread the last sizes are used.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`flags`); of a save STALE or DEVICE for a device whose session has ended or is
/// broken, that is in ERROR, or that was freed (STALE, -ENODEV), as of
/// vfiomig_migration_save_iterate(); with EXACT also DEVICE, PROTOCOL, UNSUPPORTED, ORDER (only a
/// reset of a device is left).
/// Phases: any.
/// Threads: any; with EXACT whole. Blocks: never; with EXACT in the kernel. Since: 0.1
// Safety: `m` is NULL or a live handle; `out` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_get_pending(
    m: *mut vfiomig_migration,
    flags: u32,
    out: *mut vfiomig_migration_pending,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |migration: &Migration| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(out) }?;
        let pending = match flags {
            0 => migration.check_sessions().map(|()| migration.pending())?,
            VFIOMIG_PENDING_F_EXACT => migration.pending_exact()?,
            _ => return Err(Error::argument(format!("flags: {flags:#x} has unknown bits"))),
        };
        let ours = vfiomig_migration_pending {
            argsz: 0,
            flags: 0,
            initial_bytes: pending.initial_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            dirty_bytes: pending.dirty_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            stop_copy_bytes: pending.stop_copy_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            saved_bytes: pending.saved_bytes,
            ready: u32::from(pending.ready),
            reinit_count: pending.reinit_count,
        };
        // SAFETY: `size` is what check_out returned for `out`.
        unsafe { copy_out(out, size, &ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_get_pending", m, errp, body) }
}

/// For how long the guest would be stopped if it were stopped now; meant for a save. No device is
/// asked. State changes count with the time that each took last, in this process and not in a
/// load, or with what vfiomig_group_set_timings() was given. Without that, a first save knows only
/// those of a pause. `reasons` may be NULL; else it receives a report, to be freed, with one line
/// for each part that is not known and each device that is not ready; it may be empty.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`o`).
/// Phases: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `m` is NULL or a live handle; `o` is NULL or readable for its argsz; `out` is NULL or valid for its argsz;
// `reasons` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_get_estimate(
    m: *mut vfiomig_migration,
    o: *const vfiomig_migration_estimate_options,
    out: *mut vfiomig_migration_estimate,
    reasons: *mut *mut vfiomig_report,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |migration: &Migration| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(out) }?;
        let mut given = EstimateInput::default();
        // SAFETY: the contract of this function.
        if let Some(o) = unsafe { copy_in(o) }? {
            given.bytes_per_second = Some(o.bytes_per_second).filter(|&rate| rate != 0);
            given.transition = Some(o.transition_ns).filter(|&time| time != 0).map(Duration::from_nanos);
            given.other_bytes = o.other_bytes;
        }
        let estimate = migration.estimate(given)?;
        let nanos = |time: Option<Duration>| {
            time.and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(VFIOMIG_UNKNOWN)
        };
        let ours = vfiomig_migration_estimate {
            argsz: 0,
            flags: 0,
            downtime_ns: nanos(estimate.downtime),
            transition_ns: nanos(estimate.transition),
            transfer_ns: nanos(estimate.transfer),
            bytes: estimate.bytes.unwrap_or(VFIOMIG_UNKNOWN),
            bytes_per_second: estimate.bytes_per_second.unwrap_or(VFIOMIG_UNKNOWN),
            unknown: estimate.unknown.bits(),
            unknown_devices: u32::try_from(estimate.unknown_devices).unwrap_or(u32::MAX),
        };
        // SAFETY: `size` is what check_out returned for `out`.
        unsafe { copy_out(out, size, &ours) };
        if !reasons.is_null() {
            // SAFETY: not NULL, so writable by the contract of this function.
            unsafe { give(reasons, vfiomig_report::of_text(&estimate.reasons.join("\n"))) };
        }
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_get_estimate", m, errp, body) }
}
