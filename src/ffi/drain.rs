//! Whole parts of a migration for VMMs without a loop of their own: streams of all devices, side by side.

use super::device::borrow_fd;
use super::error_object::vfiomig_error;
use super::handle::{on, vfiomig_migration};
use super::library::VFIOMIG_UNKNOWN;
use super::save::VFIOMIG_CHUNK_SEGMENT_END;
use super::tracker::slice;
use crate::error::{Errno, Error, Result};
use crate::migration::{Budget, Fed, Inlet, Migration, NO_STREAM, Outlet, Piece, Round};
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The descriptor of a vfiomig_channel is given.
pub const VFIOMIG_CHANNEL_F_FD: u32 = 0x1;
/// To load, with VFIOMIG_CHANNEL_F_FD: `total` of a vfiomig_channel is given.
pub const VFIOMIG_CHANNEL_F_TOTAL: u32 = 0x2;

/// Where the bytes of one device go to or come from: through the call's function on the calling thread, or, with
/// VFIOMIG_CHANNEL_F_FD, through a descriptor of its own on whichever thread serves the device. A descriptor keeps no segments, so
/// it is for v2 devices only. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_channel {
    /// With VFIOMIG_CHANNEL_F_FD.
    pub fd: i32,
    /// VFIOMIG_CHANNEL_F_*.
    pub flags: u32,
    /// With VFIOMIG_CHANNEL_F_TOTAL: the length of the stream as its saver counted it; no more is read. Without it `fd` is read to
    /// its end, and that the caller cannot know more is its word: a connection that broke looks like an end.
    pub total: u64,
}

/// In `flags` of a vfiomig_drain_result: the device has no open stream in this phase. Its bytes come later: a device without PRE_COPY has
/// them in STOP_COPY.
pub const VFIOMIG_CHUNK_NO_STREAM: u32 = 0x10;

/// What one device did in a call. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_drain_result {
    /// Bytes moved.
    pub bytes: u64,
    /// VFIOMIG_CHUNK_EMPTY, VFIOMIG_CHUNK_END or VFIOMIG_CHUNK_NO_STREAM; 0: there is more.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<vfiomig_channel>() == 16 && size_of::<vfiomig_drain_result>() == 16);
const _: () = assert!(VFIOMIG_CHUNK_NO_STREAM == NO_STREAM);

/// Takes a run of one device's bytes. `device` counts the group's members in the order in which they were added: where one is
/// removed, those behind it move up by one; it cannot be while a migration exists. `flags`: VFIOMIG_CHUNK_SEGMENT_END, which the
/// destination must be told. Returns 0, or -errno: then bytes are lost that no device can give again, and the migration is FAILED.
pub type vfiomig_put_fn = Option<
    unsafe extern "C" fn(opaque: *mut c_void, device: usize, data: *const c_void, len: usize, flags: u32) -> c_int,
>;

/// Brings the next bytes of one device's stream into `buf`; `device` as of vfiomig_put_fn. Returns how many, and sets
/// VFIOMIG_CHUNK_SEGMENT_END in `*flags` if a segment ends with them. 0: the stream is over, and `*total` must be set to its length
/// as the saver counted it, or to VFIOMIG_UNKNOWN, which is the caller's word that its format cannot know: then a stream that was
/// cut is taken for whole. An end without either is refused (-EINVAL). Else -errno.
pub type vfiomig_get_fn = Option<
    unsafe extern "C" fn(
        opaque: *mut c_void,
        device: usize,
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
                unsafe { self.moved.wrapping_add(index).write(vfiomig_drain_result { bytes, flags, reserved: 0 }) };
            }
        }
        let sum = bytes.iter().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
        Ok(usize::try_from(sum).unwrap_or(usize::MAX))
    }
}

/// One bounded round over all open streams, side by side and fairly by bytes and by time: each device until EMPTY, END or its share
/// of the budget. `budget_bytes` is never exceeded; it is shared evenly, and what one device leaves goes to the others. No read is
/// begun after `budget_ns`; the next round begins behind the device with which this one ended. In pre-copy the sizes are brought up
/// to date behind it; a size that cannot be read is an error, though the bytes were put. `channels` has one element per device, in
/// the order in which they were added, or `channel_count` is 0: then `put` gets all bytes. `moved` is NULL or has room for
/// `moved_count` elements, and gets one per device as far as they go. Each device's bytes come in their order; the pieces that are
/// read ahead are as many as the threads.
///
/// A descriptor that takes nothing ends its device's part of the round, at once in non-blocking mode, else with `budget_ns`; what it
/// did not take stays in the stream.
///
/// A member whose session in this migration has ended (STALE), that is in ERROR (DEVICE) or whose handle was freed (ARGUMENT, -ENODEV)
/// fails the migration in the first call that meets it. After vfiomig_group_resume() of a group that was held in pre-copy it is
/// -ESTALE and not FAILED: VFIOMIG_PHASE_SAVE_PRE_COPY can be entered again.
///
/// Returns: bytes moved or -errno. Errors: ARGUMENT, BUSY (a chunk of a device is out), CANCELED, ORDER (phase), STALE, DEVICE, PROTOCOL,
/// TRANSPORT (`put` or a descriptor failed; -ENOMEM), UNSUPPORTED (a descriptor for a device with segments); after a failure the first
/// error again. Threads: whole. Blocks: in the kernel, in `put`, and
/// on descriptors, which are polled: a cancel ends that wait, as does an abort. Since: 0.1
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

/// Every stream to its END, side by side; success means that each has reached it. Parameters as of
/// vfiomig_migration_save_iterate(). Only in VFIOMIG_PHASE_SAVE_STOP_COPY. Descriptors are served in whatever order they take bytes.
///
/// Returns: bytes moved or -errno. Errors: as vfiomig_migration_save_iterate(); ORDER in another phase; DEVICE with -EAGAIN if a
/// device was not ready for 60 s, TRANSPORT with -ETIMEDOUT if nothing at all has moved for 60 s, for descriptors take nothing: nothing
/// is lost, call again. Threads: whole. Blocks: in the kernel, in `put`, and on descriptors, which are polled, whatever their mode: a
/// cancel ends that wait, as does an abort. Since: 0.1
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

/// Every stream into its device, side by side, and vfiomig_device_finish() for each. Only in VFIOMIG_PHASE_LOAD_RESUMING; called again,
/// it goes on with what is not finished. Descriptors are served in whatever order they bring bytes; with `get` the library chooses
/// whose bytes come next. The first failure is returned, and `get` is not called after it.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (also an end of `get` without `*total`), BUSY (room of a device is out), CANCELED, ORDER
/// (another phase), STALE (a device's session is over or dead), INCOMPLETE (not
/// as long as the saver said), DEVICE, PROTOCOL, TRANSPORT (`get` or a descriptor failed; -ETIMEDOUT as of
/// vfiomig_migration_save_complete()), UNSUPPORTED (a descriptor for a device with segments). Threads: whole. Blocks: in the kernel,
/// in `get`, and on descriptors, which are polled, whatever their mode: a cancel ends that wait, as does an abort. Since: 0.1
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
