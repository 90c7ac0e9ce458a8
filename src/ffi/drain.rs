//! Whole parts of a migration for VMMs without a loop of their own: streams of all devices, side by side.

use super::error_object::vfiomig_error;
use super::handle::{on, vfiomig_migration};
use super::input::{borrow_fd, slice};
use super::library::VFIOMIG_UNKNOWN;
use super::save::VFIOMIG_CHUNK_SEGMENT_END;
use super::sized::{ExtensibleStruct, copy_in};
use crate::error::{Errno, Error, Result};
use crate::migration::{Budget, Fed, Inlet, Migration, Outlet, Piece, Round};
use crate::window::StreamFlags;
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// `fd` of a vfiomig_channel is given.
pub const VFIOMIG_CHANNEL_F_FD: u32 = 0x1;
/// `total` of a vfiomig_channel is given: to load, always with VFIOMIG_CHANNEL_F_FD; to save, never.
pub const VFIOMIG_CHANNEL_F_TOTAL: u32 = 0x2;

/// Where the bytes of one device go to or come from: through the call's function on the calling
/// thread, or, with VFIOMIG_CHANNEL_F_FD, through a descriptor of its own on any thread of the call.
/// A descriptor keeps no segments, so it is for v2 devices only. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_channel {
    /// With VFIOMIG_CHANNEL_F_FD: the descriptor.
    pub fd: i32,
    /// VFIOMIG_CHANNEL_F_*.
    pub flags: u32,
    /// With VFIOMIG_CHANNEL_F_TOTAL: the length of the stream as the source side counted it; no more
    /// is read. Or VFIOMIG_UNKNOWN: then `fd` is read to its end, and a connection that broke looks
    /// like one.
    pub total: u64,
}

/// In vfiomig_drain_result.flags: the device has no open stream in this phase. A device without
/// PRE_COPY has one in STOP_COPY.
pub const VFIOMIG_CHUNK_NO_STREAM: u32 = 0x10;

/// What a drain moved of one device. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_drain_result {
    /// Bytes moved.
    pub bytes: u64,
    /// VFIOMIG_CHUNK_EMPTY, _END or _NO_STREAM; 0: more bytes can be read.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<vfiomig_channel>() == 16 && size_of::<vfiomig_drain_result>() == 16);
const _: () = assert!(VFIOMIG_CHUNK_NO_STREAM == StreamFlags::NO_STREAM.bits());

/// Takes a run of one device's bytes, on the thread that called the library. `device_index` is
/// the number of the device in the group, from 0, in the order in which they were added; it changes
/// when a device before it is removed, which is refused while a migration exists. `len` is at most 1
/// MiB. `flags` is 0 or VFIOMIG_CHUNK_SEGMENT_END, which the VMM's format must carry. Returns 0 or
/// -errno; a positive value is a failure, too (EIO). A failure loses bytes for good, and the
/// migration is FAILED. In it a call on the group or the migration that is not of the class any gets
/// -EDEADLK.
pub type vfiomig_put_fn = Option<
    unsafe extern "C" fn(
        opaque: *mut c_void,
        device_index: usize,
        data: *const c_void,
        len: usize,
        flags: u32,
    ) -> c_int,
>;

/// Reads up to `len` bytes, at most 1 MiB, of the stream of one device into `buf`, on the thread
/// that called the library. `device_index` is as of vfiomig_put_fn. Returns the number of bytes, at
/// most `len`, and sets VFIOMIG_CHUNK_SEGMENT_END in `*flags`, which is 0 before, if a segment ends
/// with them. Returns 0 at the end of the stream, and then must set `*total` to the stream's length
/// as the source side counted it, or to VFIOMIG_UNKNOWN if the VMM's format does not carry it: then
/// a stream that was cut off is not noticed. `*total` is read only then, and an end without it is
/// refused (-EINVAL), as are more bytes than `len` and other bits in `*flags`. On failure returns
/// -errno. In it a call on the group or the migration that is not of the class any gets -EDEADLK.
pub type vfiomig_get_fn = Option<
    unsafe extern "C" fn(
        opaque: *mut c_void,
        device_index: usize,
        buf: *mut c_void,
        len: usize,
        flags: *mut u32,
        total: *mut u64,
    ) -> i64,
>;

/// What a drain shall do. Set up with VFIOMIG_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_drain_request {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// For vfiomig_migration_save_iterate(), else 0: largest number of bytes of the round. 0: no
    /// bound.
    pub budget_bytes: u64,
    /// For vfiomig_migration_save_iterate(), else 0: no read is begun after so many nanoseconds. 0: no
    /// bound.
    pub budget_ns: u64,
    /// One per device, in the order in which they were added to the group.
    pub channels: *const vfiomig_channel,
    /// Number of `channels`: that of the devices, or 0: then `put` or `get` moves all bytes.
    pub channel_count: usize,
    /// To save, else NULL. May be NULL if every device has a descriptor.
    pub put: vfiomig_put_fn,
    /// To load, else NULL. May be NULL if every device has a descriptor.
    pub get: vfiomig_get_fn,
    /// Passed to `put` and `get`.
    pub opaque: *mut c_void,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_drain_request {
    const NAME: &'static str = "vfiomig_drain_request";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_drain_request>() == 24 + 5 * size_of::<usize>());

/// Which of the three drains.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    Iterate,
    SaveComplete,
    LoadComplete,
}

/// What a drain's caller gave.
struct Call {
    drain: Drain,
    rq: *const vfiomig_drain_request,
    results: *mut vfiomig_drain_result,
    result_count: usize,
}

impl Call {
    /// # Safety
    /// As for vfiomig_migration_save_iterate().
    unsafe fn run(self, migration: &Migration) -> Result<usize> {
        // SAFETY: the contract of this function.
        let rq = unsafe { copy_in(self.rq) }?.ok_or_else(|| Error::argument("rq is NULL"))?;
        let budget = budget_of(&rq, self.drain)?;
        let is_load = self.drain == Drain::LoadComplete;
        if (is_load && rq.put.is_some()) || (!is_load && rq.get.is_some()) {
            return Err(Error::argument("request: put is for saves, get is for loads"));
        }
        // SAFETY: the contract of this function.
        let channels = unsafe { read_channels(&rq, is_load) }?;
        let round = if is_load {
            // SAFETY: the contract of this function.
            unsafe { load(&rq, &channels, migration) }
        } else {
            // SAFETY: the contract of this function.
            unsafe { save(&rq, &channels, budget, migration) }
        }?;
        // SAFETY: the contract of this function.
        Ok(unsafe { self.write(&round) })
    }

    /// What each device did, as far as there is room for it; the sum.
    ///
    /// # Safety
    /// As for vfiomig_migration_save_iterate().
    unsafe fn write(&self, round: &Round) -> usize {
        if !self.results.is_null() {
            for (index, (&bytes, &flags)) in round.bytes.iter().zip(&round.flags).take(self.result_count).enumerate() {
                // SAFETY: writable for result_count elements by the contract of this function.
                unsafe {
                    self.results.wrapping_add(index).write(vfiomig_drain_result {
                        bytes,
                        flags: flags.bits(),
                        reserved: 0,
                    })
                };
            }
        }
        let sum = round.bytes.iter().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
        usize::try_from(sum).unwrap_or(usize::MAX)
    }
}

/// Only a round is bounded, and by something.
fn budget_of(rq: &vfiomig_drain_request, drain: Drain) -> Result<Option<Budget>> {
    match (drain, rq.budget_bytes, rq.budget_ns) {
        (Drain::Iterate, 0, 0) => Err(Error::argument("request: budget_bytes and budget_ns are both 0")),
        (Drain::Iterate, bytes, ns) => Ok(Some(Budget {
            bytes: if bytes == 0 { u64::MAX } else { bytes },
            time: if ns == 0 { Duration::MAX } else { Duration::from_nanos(ns) },
        })),
        (_, 0, 0) => Ok(None),
        _ => Err(Error::argument("request: a budget is for vfiomig_migration_save_iterate() only")),
    }
}

/// The descriptor of one device, with its stream's length where that is given; `None`: the call's function.
type ChannelFd<'a> = Option<(BorrowedFd<'a>, Option<u64>)>;

/// # Safety
/// The channels of `rq` are NULL or readable, and their descriptors stay open as long as the result is used.
unsafe fn read_channels<'a>(rq: &vfiomig_drain_request, is_load: bool) -> Result<Vec<ChannelFd<'a>>> {
    const FD_TOTAL: u32 = VFIOMIG_CHANNEL_F_FD | VFIOMIG_CHANNEL_F_TOTAL;
    let mut read = Vec::new();
    // SAFETY: the contract of this function.
    for (index, channel) in unsafe { slice("channels", rq.channels, rq.channel_count) }?.iter().enumerate() {
        read.push(match (channel.flags, is_load) {
            (0, _) => None,
            (VFIOMIG_CHANNEL_F_FD, false) | (FD_TOTAL, true) => {
                // SAFETY: the contract of this function.
                let fd = unsafe { borrow_fd("channels", channel.fd) }?;
                Some((fd, Some(channel.total).filter(|&total| is_load && total != VFIOMIG_UNKNOWN)))
            }
            (VFIOMIG_CHANNEL_F_FD, true) => {
                return Err(Error::argument(format!(
                    "channels[{index}]: to load, VFIOMIG_CHANNEL_F_TOTAL and total are needed: the length as the source side \
                     counted it, or VFIOMIG_UNKNOWN"
                )));
            }
            (FD_TOTAL, false) => {
                return Err(Error::argument(format!("channels[{index}]: VFIOMIG_CHANNEL_F_TOTAL is for loads only")));
            }
            (other, _) => return Err(Error::argument(format!("channels[{index}]: flags {other:#x} are not known"))),
        });
    }
    let has_function = if is_load { rq.get.is_some() } else { rq.put.is_some() };
    if !has_function && (read.is_empty() || read.iter().any(Option::is_none)) {
        return Err(Error::argument("the function is NULL, and not every device has a descriptor"));
    }
    Ok(read)
}

/// What `total` of a vfiomig_get_fn holds before the call: no length that a stream has, and not VFIOMIG_UNKNOWN.
const NOT_STATED: u64 = VFIOMIG_UNKNOWN.wrapping_sub(1);

fn caller_failed(what: &str, result: i64) -> Error {
    let errno = result.checked_neg().and_then(|errno| i32::try_from(errno).ok()).filter(|&errno| errno > 0);
    let known = Errno::new(errno.unwrap_or(libc::EIO));
    match errno {
        // What C programs return where they mean no errno of theirs.
        Some(1) => Error::system(known, format!("{what} failed: it returned -1, which is -EPERM: {known}")),
        Some(_) => Error::system(known, format!("{what} failed: {known}")),
        None => {
            let allowed = if what == "put" { "0 or -errno" } else { "bytes, 0 or -errno" };
            Error::system(known, format!("{what} returned {result}, which is not {allowed}: taken for a failure"))
        }
    }
}

/// The end of a stream as `get` stated it.
fn end_of(device: usize, total: u64) -> Result<Fed> {
    match total {
        NOT_STATED => Err(Error::argument(format!(
            "get ended the stream of device {device} of the group but did not set *total: its length as the saver counted it, or \
             VFIOMIG_UNKNOWN if the format cannot know"
        ))),
        VFIOMIG_UNKNOWN => Ok(Fed::End { total: None }),
        total => Ok(Fed::End { total: Some(total) }),
    }
}

/// # Safety
/// As for vfiomig_migration_save_iterate().
unsafe fn save<'a>(
    rq: &vfiomig_drain_request,
    channels: &[ChannelFd<'a>],
    budget: Option<Budget>,
    migration: &Migration,
) -> Result<Round> {
    let outlet = |channel: &ChannelFd<'a>| channel.map_or(Outlet::Call, |(fd, _)| Outlet::Fd(fd));
    let outlets: Vec<Outlet<'a>> = channels.iter().map(outlet).collect();
    let mut put = |piece: Piece<'_>| {
        let Some(function) = rq.put else { return Err(Error::argument("put is NULL")) };
        let flags = if piece.segment_end { VFIOMIG_CHUNK_SEGMENT_END } else { 0 };
        let (data, len) = (piece.bytes.as_ptr().cast(), piece.bytes.len());
        // SAFETY: `data` is readable for `len` bytes; the rest is the caller's contract for its function.
        match unsafe { function(rq.opaque, piece.device, data, len, flags) } {
            0 => Ok(()),
            failed => Err(caller_failed("put", i64::from(failed))),
        }
    };
    match budget {
        Some(budget) => migration.save_iterate(budget, &outlets, &mut put),
        None => migration.save_complete(&outlets, &mut put),
    }
}

/// # Safety
/// As for vfiomig_migration_load_complete().
unsafe fn load<'a>(rq: &vfiomig_drain_request, channels: &[ChannelFd<'a>], migration: &Migration) -> Result<Round> {
    let inlet = |channel: &ChannelFd<'a>| channel.map_or(Inlet::Call, |(fd, total)| Inlet::Fd { fd, total });
    let inlets: Vec<Inlet<'a>> = channels.iter().map(inlet).collect();
    let mut fed = |device: usize, buf: &mut [u8]| {
        let Some(function) = rq.get else { return Err(Error::argument("get is NULL")) };
        let (mut flags, mut total) = (0, NOT_STATED);
        let (data, len) = (buf.as_mut_ptr().cast(), buf.len());
        // SAFETY: `data` is writable for `len` bytes, the others for one number; the rest is the caller's contract.
        let brought = unsafe { function(rq.opaque, device, data, len, &mut flags, &mut total) };
        if brought >= 0 && flags & !VFIOMIG_CHUNK_SEGMENT_END != 0 {
            return Err(Error::argument(format!("get set unknown bits in *flags: {flags:#x}")));
        }
        match usize::try_from(brought) {
            Ok(0) => end_of(device, total),
            Ok(len) => Ok(Fed::Bytes { len, segment_end: flags & VFIOMIG_CHUNK_SEGMENT_END != 0 }),
            Err(_) => Err(caller_failed("get", brought)),
        }
    };
    migration.load_complete(&inlets, &mut fed)
}

/// Moves bytes of all open streams within the budget of `rq`, of which at least one part is not 0;
/// each device until EMPTY, END or its share. The bytes are shared evenly, and what one device
/// leaves goes to the others. No read is begun after the budget's time. The next round starts after
/// the device that was last. After the round in pre-copy the sizes are read; if that fails the call
/// fails although bytes were passed to `put`. `results` is NULL, or an array of `result_count`
/// elements: on success the first ones are written, one per device. Bytes of one device come in
/// their order. Buffers in use: one per thread.
///
/// A descriptor that takes nothing ends its device's part of the round, at once in non-blocking
/// mode, else with the budget's time, or after 60 s; what it did not take stays in the stream.
///
/// A device whose session in this migration has ended or is broken (STALE), that is in ERROR
/// (DEVICE) or was freed (STALE, -ENODEV) fails the migration in the first call that meets it.
/// After vfiomig_group_resume() of a group that was held in pre-copy it is -ESTALE and the migration
/// is not FAILED: SAVE_PRE_COPY can be entered again.
///
/// Returns: bytes moved, or -errno.
/// Errors: ARGUMENT (`rq`: no budget, `get`, `channel_count`, `put` NULL, flags of a channel;
/// -EBADF), BUSY (a chunk of a device is lent), CANCELED, ORDER (a load), STALE, DEVICE, PROTOCOL,
/// SYSTEM (`put` or a descriptor failed; -ENOMEM), UNSUPPORTED (a descriptor for a device with
/// segments); in FAILED the first error again.
/// Phases: any of a save. Streams are open from SAVE_PRE_COPY to SAVE_STOP_COPY, of draft devices
/// from SAVE_TRACKING on; else each device is VFIOMIG_CHUNK_NO_STREAM.
/// Threads: whole. Blocks: in the kernel, in `put`, and on descriptors, which are polled: a cancel
/// ends that wait, as does an abort. Since: 0.1
// Safety: `m` is NULL or a live handle; pointers, also those of the request, are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_save_iterate(
    m: *mut vfiomig_migration,
    rq: *const vfiomig_drain_request,
    results: *mut vfiomig_drain_result,
    result_count: usize,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let call = Call { drain: Drain::Iterate, rq, results, result_count };
    // SAFETY: the contract of this function.
    let body = |migration: &Migration| unsafe { call.run(migration) };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_save_iterate", m, errp, body) }
}

/// Moves all streams to their END. Success means that every stream is whole. `rq` has no budget; the
/// other parameters are those of vfiomig_migration_save_iterate(). Descriptors are served in the
/// order in which they take bytes.
///
/// Returns: bytes moved, or -errno.
/// Errors: as vfiomig_migration_save_iterate(); ARGUMENT (a budget); ORDER (another phase); DEVICE
/// with -EAGAIN if a device was not ready for 60 s, SYSTEM with -ETIMEDOUT if nothing at all has
/// moved for 60 s because descriptors take nothing: nothing is lost, call again.
/// Phases: SAVE_STOP_COPY.
/// Threads: whole. Blocks: in the kernel, in `put`, and on descriptors, which are polled, whatever
/// their mode: a cancel ends that wait, as does an abort. Since: 0.1
// Safety: As for vfiomig_migration_save_iterate().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_save_complete(
    m: *mut vfiomig_migration,
    rq: *const vfiomig_drain_request,
    results: *mut vfiomig_drain_result,
    result_count: usize,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let call = Call { drain: Drain::SaveComplete, rq, results, result_count };
    // SAFETY: the contract of this function.
    let body = |migration: &Migration| unsafe { call.run(migration) };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_save_complete", m, errp, body) }
}

/// Loads all streams into their devices, and takes each device to LOAD_LOADED as soon as its own
/// stream is whole, as vfiomig_migration_load_done() does, beside the streams of the others.
/// LOAD_LOADED is entered with the last device. Called again, it continues with those that are not
/// finished; in LOAD_LOADED nothing is left to do. A device that does not accept its stream fails
/// the migration. Descriptors are served in the order in which they bring bytes; `get` is called for
/// the device that the library chooses. The first failure is returned, and `get` is not called after
/// it. `results` is as of vfiomig_migration_save_iterate(): the bytes that each device took in this
/// call, and VFIOMIG_CHUNK_END.
///
/// Returns: bytes that the devices took in this call, or -errno.
/// Errors: ARGUMENT (`rq`: a budget, `put`, `channel_count`, `get` NULL, flags of a channel; -EBADF;
/// an end of `get` without `*total`, or unknown bits in its `*flags`), BUSY (a buffer of a device is
/// lent), CANCELED, ORDER (another phase), STALE (a device's session has ended or is broken),
/// INCOMPLETE (not as long as the source side counted), DEVICE, PROTOCOL, SYSTEM (`get` or a
/// descriptor failed; -ETIMEDOUT as of vfiomig_migration_save_complete()), UNSUPPORTED (a descriptor
/// for a device with segments); in FAILED the first error again.
/// Phases: LOAD_RESUMING; LOAD_LOADED.
/// Threads: whole. Blocks: in the kernel, in `get`, and on descriptors, which are polled, whatever
/// their mode: a cancel ends that wait, as does an abort. Since: 0.1
// Safety: As for vfiomig_migration_save_iterate().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_load_complete(
    m: *mut vfiomig_migration,
    rq: *const vfiomig_drain_request,
    results: *mut vfiomig_drain_result,
    result_count: usize,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let call = Call { drain: Drain::LoadComplete, rq, results, result_count };
    // SAFETY: the contract of this function.
    let body = |migration: &Migration| unsafe { call.run(migration) };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_load_complete", m, errp, body) }
}
