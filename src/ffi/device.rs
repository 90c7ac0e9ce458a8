//! Device handles: describe, change state, free.

use super::device_data::{
    VFIOMIG_DIALECT_NONE, VFIOMIG_ON_FAILURE_KEEP, VFIOMIG_ON_FAILURE_RESET, VFIOMIG_PENDING_CACHED,
    VFIOMIG_PENDING_F_EXACT, VFIOMIG_REASON_SIZE, VFIOMIG_SET_STATE_F_RAW, vfiomig_device_info, vfiomig_device_pending,
};
use super::error_object::vfiomig_error;
pub use super::handle::vfiomig_device;
use super::handle::{fact_of, free, on};
use super::library::{VFIOMIG_STATE_ERROR, VFIOMIG_UNKNOWN};
use super::sized::{check_out, copy_out};
use crate::device::{Device, OnFailure};
use crate::dialect::State;
use crate::error::{Error, Result};
use std::ffi::{c_char, c_int};

/// VFIOMIG_ON_FAILURE_RETURN_TO(state) is this plus the state.
const RETURN_TO: u32 = 0x100;

/// Frees a device handle; NULL is legal. Waits for the call in progress, closes the data fd, and
/// leaves the device in its state. Afterwards the library never uses the device fd, the ops or their
/// `opaque` again, and memory that was lent is gone. A group forgets the device at its next call, or
/// fails its migration (vfiomig_group_add_device()); a tracker takes it for unplugged
/// (vfiomig_tracker_new()). Called from one of the handle's own callbacks it frees nothing and logs
/// an error.
///
/// States: any.
/// Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in
/// progress returns, and a request that hangs in the kernel, also of a thread that reads ahead.
/// Since: 0.1
// Safety: `d` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_free(d: *mut vfiomig_device) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_device_free", d) };
}

/// What is known of a device without asking it.
///
/// Returns: 0 or -errno.
/// Errors: those of every function.
/// States: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `d` is NULL or a live handle; `info` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_get_info(
    d: *const vfiomig_device,
    info: *mut vfiomig_device_info,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(info) }?;
        let known = device.info();
        let mut ours = vfiomig_device_info {
            argsz: 0,
            flags: 0,
            dialect: known.dialect.map_or(VFIOMIG_DIALECT_NONE, |kind| kind as u32),
            caps: known.caps.bits(),
            state: known.state.number(),
            session_open: u32::from(known.session_open),
            session: known.session,
            saved_bytes: known.saved_bytes,
            loaded_bytes: known.loaded_bytes,
            reason: [0; VFIOMIG_REASON_SIZE],
        };
        let reason = known.reason.map(|reason| reason.to_string()).unwrap_or_default();
        for (to, from) in ours.reason.iter_mut().zip(reason.bytes().take(VFIOMIG_REASON_SIZE.saturating_sub(1))) {
            *to = c_char::from_ne_bytes([from]);
        }
        // SAFETY: `size` is what check_out returned for `info`.
        unsafe { copy_out(info, size, &ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_get_info", d, errp, body) }
}

/// The last known state.
///
/// Returns: VFIOMIG_STATE_*; VFIOMIG_STATE_ERROR for NULL and for a device that is not migratable.
/// States: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `d` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_get_state(d: *const vfiomig_device) -> u32 {
    // SAFETY: the contract of this function.
    unsafe { fact_of("vfiomig_device_get_state", d, VFIOMIG_STATE_ERROR) }
}

/// Brings the device to `state`. The request is checked against the table of arcs before the kernel
/// sees it (docs/states.md). Returns 0 without a request if the device is in the state already.
/// After a failure the state is read, and `on_failure` is done: VFIOMIG_ON_FAILURE_KEEP,
/// VFIOMIG_ON_FAILURE_RESET or VFIOMIG_ON_FAILURE_RETURN_TO(state); the error has one result that
/// says what was found and done. RESUMING is left only after vfiomig_device_finish() has succeeded,
/// unless a reset has left the device there. `flags` is 0 or VFIOMIG_SET_STATE_F_RAW. Allowed while
/// a chunk or buffer is lent.
///
/// Some drivers need more than the request, and get it (docs/faults.md). After a failed step,
/// RUNNING is reached by one more state and back. STOP_COPY of a device with P2P and without
/// PRE_COPY is left only after the end of its stream, which the library reads and throws away, for
/// at most 5 s (-ETIMEDOUT: call again). A second RESUMING begins with a reset.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`state`, `on_failure`, `flags`; a RETURN_TO of ERROR), BUSY (-EDEADLK: from a
/// callback of the device, of its group or of its migration), ORDER (the table refuses the arc, as
/// it does for ERROR; or only a reset is left), STALE (the device was changed outside of this
/// library: nothing was requested, and the state that was found is known now), UNSUPPORTED (not
/// migratable), DEVICE (the kernel's errno; -ETIMEDOUT: the stream has no end yet), PROTOCOL (no
/// data fd came, or one too many), SYSTEM (-ENOMEM).
/// States: those from which the table of arcs leads to `state` (docs/states.md).
/// Threads: whole. Blocks: in the kernel, for seconds on some devices. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_set_state(
    d: *mut vfiomig_device,
    state: u32,
    on_failure: u32,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| {
        let to = State::from_number(state).ok_or_else(|| Error::argument(format!("state: {state} is no state")))?;
        let on_failure = read_on_failure(on_failure)?;
        if flags & !VFIOMIG_SET_STATE_F_RAW != 0 {
            return Err(Error::argument(format!("flags: {flags:#x} has unknown bits")));
        }
        device.set_state(to, on_failure, flags & VFIOMIG_SET_STATE_F_RAW != 0)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_set_state", d, errp, body) }
}

fn read_on_failure(value: u32) -> Result<OnFailure> {
    match value {
        VFIOMIG_ON_FAILURE_KEEP => Ok(OnFailure::Keep),
        VFIOMIG_ON_FAILURE_RESET => Ok(OnFailure::Reset),
        _ => value
            .checked_sub(RETURN_TO)
            .and_then(State::from_number)
            .filter(|&state| state != State::Error)
            .map(OnFailure::ReturnTo)
            .ok_or_else(|| Error::argument(format!("on_failure: {value:#x} is none of VFIOMIG_ON_FAILURE_*"))),
    }
}

/// Resets the device (VFIO_DEVICE_RESET, tried again for 5 s while the kernel says EAGAIN). What it
/// held is lost, its session has ended, and it is in RUNNING. Nothing else leads out of ERROR, nor
/// out of RESUMING with a bad stream. Allowed while a chunk or buffer is lent.
///
/// Device servers may refuse it in STOP and STOP_COPY (UNSUPPORTED, -EINVAL), or do it and stay in
/// the state in which they were (PROTOCOL). The message says which state can be requested next.
/// RESUMING may then be left by vfiomig_device_set_state(), since nothing was loaded.
///
/// Returns: 0 or -errno.
/// Errors: BUSY (-EDEADLK, as of vfiomig_device_set_state()), UNSUPPORTED (no reset, or none in this
/// state), DEVICE (the kernel's errno), PROTOCOL (not in RUNNING afterwards).
/// States: any.
/// Threads: whole. Blocks: in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_reset(d: *mut vfiomig_device, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_reset", d, errp, Device::reset) }
}

/// Probes the device again after a reset that the VMM did without this library, or after the device
/// was replaced: what it held is gone. The session has ended, also where a device server kept its
/// state, and its stream is void. RESUMING may then be left by vfiomig_device_set_state() if the
/// server kept it, since nothing was loaded. If only the state was changed by others, do not call
/// this: the next call returns STALE.
///
/// Returns: 0 or -errno.
/// Errors: BUSY (-EDEADLK, as of vfiomig_device_set_state()), ORDER (the device still needs its
/// reset), DEVICE (the kernel's errno; -ETIMEDOUT: a read of its stream was not answered for 5 s,
/// and nothing was probed; call again), PROTOCOL (the device reports impossible values).
/// States: any.
/// Threads: whole. Blocks: in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_reprobe(d: *mut vfiomig_device, errp: *mut *mut vfiomig_error) -> c_int {
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_reprobe", d, errp, Device::reprobe) }
}

/// How much is left to be saved. Without VFIOMIG_PENDING_F_EXACT the sizes are those of the last
/// query. With it the device is asked, which on some devices prepares more data. A size that is not
/// known in a state reads VFIOMIG_UNKNOWN.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`flags`); with EXACT also BUSY, ORDER (only a reset is left), STALE (the save
/// session is broken), UNSUPPORTED (not migratable), DEVICE, PROTOCOL.
/// States: any.
/// Threads: any; with EXACT device. Blocks: never; with EXACT in the kernel. Since: 0.1
// Safety: `d` is NULL or a live handle; `out` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_get_pending(
    d: *mut vfiomig_device,
    flags: u32,
    out: *mut vfiomig_device_pending,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |device: &Device| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(out) }?;
        let pending = match flags {
            0 => device.pending(),
            VFIOMIG_PENDING_F_EXACT => device.pending_exact()?,
            _ => return Err(Error::argument(format!("flags: {flags:#x} has unknown bits"))),
        };
        let ours = vfiomig_device_pending {
            argsz: 0,
            flags: if pending.cached { VFIOMIG_PENDING_CACHED } else { 0 },
            initial_bytes: pending.initial_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            dirty_bytes: pending.dirty_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            stop_copy_bytes: pending.stop_copy_bytes.unwrap_or(VFIOMIG_UNKNOWN),
            reinit_count: pending.reinit_count,
            reserved: 0,
        };
        // SAFETY: `size` is what check_out returned for `out`.
        unsafe { copy_out(out, size, &ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_device_get_pending", d, errp, body) }
}
