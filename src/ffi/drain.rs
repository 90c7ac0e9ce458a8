//! Whole parts of a migration for VMMs without a loop of their own: streams of all devices, side by side.

use super::device::borrow_fd;
use super::error_object::vfiomig_error;
use super::handle::{on, vfiomig_migration};
use super::library::VFIOMIG_UNKNOWN;
use super::save::VFIOMIG_CHUNK_SEGMENT_END;
use super::tracker::slice;
use crate::error::{Errno, Error, Result};
use crate::migration::{Budget, Fed, Inlet, Migration, Outlet, Piece, Round};
use crate::window::StreamFlags;
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// `fd` of a vfiomig_channel is given.
pub const VFIOMIG_CHANNEL_F_FD: u32 = 0x1;
/// To load, with VFIOMIG_CHANNEL_F_FD: `total` of a vfiomig_channel is given.
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
    /// is read. Without it `fd` is read to its end, and a connection that broke looks like one.
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
/// that called the library. `device_index` is as of vfiomig_put_fn. Returns the number of
/// bytes, at most `len`, and sets VFIOMIG_CHUNK_SEGMENT_END in `*flags`, which is 0 before, if a
/// segment ends with them. Returns 0 at the end of the stream, and then must set `*total` to the
/// stream's length as the source side counted it, or to VFIOMIG_UNKNOWN if the VMM's format does not
/// carry it: then a stream that was cut off is not noticed. `*total` is read only then, and an end
/// without it is refused (-EINVAL), as are more bytes than `len`. On failure returns -errno. In it a
/// call on the group or the migration that is not of the class any gets -EDEADLK.
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

/// The descriptor of one device, with its stream's length where that is given; `None`: the call's function.
type ChannelFd<'a> = Option<(BorrowedFd<'a>, Option<u64>)>;

/// # Safety
/// `channels` is NULL or readable for `count` elements, whose descriptors stay open as long as the result is used.
unsafe fn read_channels<'a>(
    channels: *const vfiomig_channel,
    count: usize,
    function_is_there: bool,
) -> Result<Vec<ChannelFd<'a>>> {
    const FD_TOTAL: u32 = VFIOMIG_CHANNEL_F_FD | VFIOMIG_CHANNEL_F_TOTAL;
    let mut read = Vec::new();
    // SAFETY: the contract of this function.
    for channel in unsafe { slice("channels", channels, count) }? {
        read.push(match channel.flags {
            0 => None,
            VFIOMIG_CHANNEL_F_FD | FD_TOTAL => {
                // SAFETY: the contract of this function.
                let fd = unsafe { borrow_fd("channels", channel.fd) }?;
                Some((fd, Some(channel.total).filter(|_| channel.flags == FD_TOTAL)))
            }
            other => return Err(Error::argument(format!("channels: flags {other:#x} are not known"))),
        });
    }
    if !function_is_there && (read.is_empty() || read.iter().any(Option::is_none)) {
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
        Some(1) => Error::transport(known, format!("{what} failed: it returned -1, which is -EPERM: {known}")),
        Some(_) => Error::transport(known, format!("{what} failed: {known}")),
        None => {
            let allowed = if what == "put" { "0 or -errno" } else { "bytes, 0 or -errno" };
            Error::transport(known, format!("{what} returned {result}, which is not {allowed}: taken for a failure"))
        }
    }
}

/// The end of a stream as `get` told it.
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

/// The rest of a save's arguments.
struct Save {
    channels: *const vfiomig_channel,
    channel_count: usize,
    put: vfiomig_put_fn,
    opaque: *mut c_void,
    moved: *mut vfiomig_drain_result,
    moved_count: usize,
}

impl Save {
    /// # Safety
    /// As for vfiomig_migration_save_iterate().
    unsafe fn run(self, migration: &Migration, budget: Option<Budget>) -> Result<usize> {
        // SAFETY: the contract of this function.
        let channels = unsafe { read_channels(self.channels, self.channel_count, self.put.is_some()) }?;
        let outlet = |channel: &Option<(_, _)>| channel.map_or(Outlet::Call, |(fd, _)| Outlet::Fd(fd));
        let outlets: Vec<Outlet<'_>> = channels.iter().map(outlet).collect();
        let mut put = |piece: Piece<'_>| {
            let Some(function) = self.put else { return Err(Error::argument("put is NULL")) };
            let flags = if piece.segment_end { VFIOMIG_CHUNK_SEGMENT_END } else { 0 };
            let (data, len) = (piece.bytes.as_ptr().cast(), piece.bytes.len());
            // SAFETY: `data` is readable for `len` bytes; the rest is the caller's contract for its function.
            match unsafe { function(self.opaque, piece.device, data, len, flags) } {
                0 => Ok(()),
                failed => Err(caller_failed("put", i64::from(failed))),
            }
        };
        let Round { bytes, flags } = match budget {
            Some(budget) => migration.save_iterate(budget, &outlets, &mut put)?,
            None => migration.save_complete(&outlets, &mut put)?,
        };
        if !self.moved.is_null() {
            for (index, (&bytes, &flags)) in bytes.iter().zip(&flags).take(self.moved_count).enumerate() {
                // SAFETY: writable for moved_count elements by the contract of this function.
                unsafe {
                    self.moved.wrapping_add(index).write(vfiomig_drain_result {
                        bytes,
                        flags: flags.bits(),
                        reserved: 0,
                    })
                };
            }
        }
        let sum = bytes.iter().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
        Ok(usize::try_from(sum).unwrap_or(usize::MAX))
    }
}

/// Moves bytes of all open streams, at most `budget_bytes`, for about `budget_ns`; each device until
/// EMPTY, END or its share. The bytes are shared evenly, and what one device leaves goes to the
/// others. No read is begun after `budget_ns`. The next round starts after the device that was last.
/// After the round in pre-copy the sizes are read; if that fails the call fails although bytes were
/// passed to `put`. `channels` has one element per device, in the order in which they were added, or
/// `channel_count` is 0: then `put` gets all bytes. `put` may be NULL if every device has a
/// descriptor. `moved` is NULL, or an array of `moved_count` elements: on success the first ones are
/// written, one per device. Bytes of one device come in their order. Buffers in use: one per thread.
///
/// A descriptor that takes nothing ends its device's part of the round, at once in non-blocking
/// mode, else with `budget_ns`; what it did not take stays in the stream.
///
/// A device whose session in this migration has ended or is broken (STALE), that is in ERROR
/// (DEVICE) or was freed (ARGUMENT, -ENODEV) fails the migration in the first call that meets it.
/// After vfiomig_group_resume() of a group that was held in pre-copy it is -ESTALE and the migration
/// is not FAILED: SAVE_PRE_COPY can be entered again.
///
/// Returns: bytes moved, or -errno.
/// Errors: ARGUMENT (`channel_count` is neither 0 nor the number of devices; `put` NULL; flags of a
/// channel; -EBADF; -ENODEV), BUSY (a chunk of a device is lent), CANCELED, ORDER (a load), STALE,
/// DEVICE, PROTOCOL, SYSTEM (`put` or a descriptor failed; -ENOMEM), UNSUPPORTED (a descriptor for a
/// device with segments); in FAILED the first error again.
/// Phases: any of a save. Streams are open from SAVE_PRE_COPY to SAVE_STOP_COPY, of draft devices
/// from SAVE_TRACKING on; else each device is VFIOMIG_CHUNK_NO_STREAM.
/// Threads: whole. Blocks: in the kernel, in `put`, and on descriptors, which are polled: a cancel
/// ends that wait, as does an abort. Since: 0.1
// Safety: `m` is NULL or a live handle; pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "each is of one kind; a struct of them would be filled for one call")]
pub unsafe extern "C" fn vfiomig_migration_save_iterate(
    m: *mut vfiomig_migration,
    budget_bytes: u64,
    budget_ns: u64,
    channels: *const vfiomig_channel,
    channel_count: usize,
    put: vfiomig_put_fn,
    opaque: *mut c_void,
    moved: *mut vfiomig_drain_result,
    moved_count: usize,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let save = Save { channels, channel_count, put, opaque, moved, moved_count };
    let budget = Budget { bytes: budget_bytes, time: Duration::from_nanos(budget_ns) };
    // SAFETY: the contract of this function.
    let body = |migration: &Migration| unsafe { save.run(migration, Some(budget)) };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_save_iterate", m, errp, body) }
}

/// Moves all streams to their END. Success means that every stream is whole. Parameters as of
/// vfiomig_migration_save_iterate(). Descriptors are served in the order in which they take bytes.
///
/// Returns: bytes moved, or -errno.
/// Errors: as vfiomig_migration_save_iterate(); ORDER (another phase); DEVICE with -EAGAIN if a
/// device was not ready for 60 s, SYSTEM with -ETIMEDOUT if nothing at all has moved for 60 s
/// because descriptors take nothing: nothing is lost, call again.
/// Phases: SAVE_STOP_COPY.
/// Threads: whole. Blocks: in the kernel, in `put`, and on descriptors, which are polled, whatever
/// their mode: a cancel ends that wait, as does an abort. Since: 0.1
// Safety: As for vfiomig_migration_save_iterate().
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "as vfiomig_migration_save_iterate")]
pub unsafe extern "C" fn vfiomig_migration_save_complete(
    m: *mut vfiomig_migration,
    channels: *const vfiomig_channel,
    channel_count: usize,
    put: vfiomig_put_fn,
    opaque: *mut c_void,
    moved: *mut vfiomig_drain_result,
    moved_count: usize,
    errp: *mut *mut vfiomig_error,
) -> i64 {
    let save = Save { channels, channel_count, put, opaque, moved, moved_count };
    // SAFETY: the contract of this function.
    let body = |migration: &Migration| unsafe { save.run(migration, None) };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_save_complete", m, errp, body) }
}

/// Loads all streams into their devices and calls vfiomig_device_finish() for each. Called again, it
/// continues with those that are not finished. Descriptors are served in the order in which they
/// bring bytes; `get` is called for the device that the library chooses. The first failure is
/// returned, and `get` is not called after it. `get` may be NULL if every device has a descriptor.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`channel_count` is neither 0 nor the number of devices; `get` NULL; flags of a
/// channel; -EBADF; an end of `get` without `*total`), BUSY (a buffer of a device is lent),
/// CANCELED, ORDER (another phase), STALE (a device's session has ended or is broken), INCOMPLETE
/// (not as long as the source side counted), DEVICE, PROTOCOL, SYSTEM (`get` or a descriptor failed;
/// -ETIMEDOUT as of vfiomig_migration_save_complete()), UNSUPPORTED (a descriptor for a device with
/// segments).
/// Phases: LOAD_RESUMING.
/// Threads: whole. Blocks: in the kernel, in `get`, and on descriptors, which are polled, whatever
/// their mode: a cancel ends that wait, as does an abort. Since: 0.1
// Safety: `m` is NULL or a live handle; pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_load_complete(
    m: *mut vfiomig_migration,
    channels: *const vfiomig_channel,
    channel_count: usize,
    get: vfiomig_get_fn,
    opaque: *mut c_void,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |migration: &Migration| {
        // SAFETY: the contract of this function.
        let channels = unsafe { read_channels(channels, channel_count, get.is_some()) }?;
        let inlet = |channel: &Option<(_, _)>| channel.map_or(Inlet::Call, |(fd, total)| Inlet::Fd { fd, total });
        let inlets: Vec<Inlet<'_>> = channels.iter().map(inlet).collect();
        let mut fed = |device: usize, buf: &mut [u8]| {
            let Some(function) = get else { return Err(Error::argument("get is NULL")) };
            let (mut flags, mut total) = (0, NOT_STATED);
            let (data, len) = (buf.as_mut_ptr().cast(), buf.len());
            // SAFETY: `data` is writable for `len` bytes, the others for one number; the rest is the caller's contract.
            match unsafe { function(opaque, device, data, len, &mut flags, &mut total) } {
                0 => end_of(device, total),
                brought => match usize::try_from(brought) {
                    Ok(len) => Ok(Fed::Bytes { len, segment_end: flags & VFIOMIG_CHUNK_SEGMENT_END != 0 }),
                    Err(_) => Err(caller_failed("get", brought)),
                },
            }
        };
        migration.load_complete(&inlets, &mut fed)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_migration_load_complete", m, errp, body) }
}
