//! What devices are doing, for VMMs that have to say who hangs.

use super::device_data::VFIOMIG_NAME_SIZE;
use super::error_object::vfiomig_error;
use super::handle::{on, vfiomig_group};
use super::sized::{ExtensibleStruct, check_out, copy_out};
use crate::device::{Asked, DeviceProgress, DeviceRequest};
use crate::error::{Error, Result};
use crate::group::{Event, Group, Who, Why, Wish};
use crate::tracker::LogAsked;
use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

/// Nothing is asked of the device.
pub const VFIOMIG_REQUEST_NONE: u32 = 0;
/// To go to the state `target`.
pub const VFIOMIG_REQUEST_SET_STATE: u32 = 1;
/// The next bytes of its stream.
pub const VFIOMIG_REQUEST_READ: u32 = 2;
/// To take bytes of its stream.
pub const VFIOMIG_REQUEST_WRITE: u32 = 3;
/// Where it is, what it can do, or how much is left.
pub const VFIOMIG_REQUEST_QUERY: u32 = 4;
/// To reset.
pub const VFIOMIG_REQUEST_RESET: u32 = 5;
/// A request to the draft's log of written pages. Requests to a DMA log are in `log_since_ns`, for
/// they are made beside the others.
pub const VFIOMIG_REQUEST_LOG: u32 = 6;

/// In vfiomig_progress.flags: this is a log of one of the group's trackers, and no device.
pub const VFIOMIG_PROGRESS_TRACKER: u32 = 0x1;

/// What one device is doing, or a tracker. Times are nanoseconds of CLOCK_MONOTONIC, rounded down to
/// 256 ns.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_progress {
    /// Size of this struct, set by VFIOMIG_INIT. In an array that of the first element holds for
    /// each, and all are set to it.
    pub argsz: u32,
    /// 0 or VFIOMIG_PROGRESS_TRACKER.
    pub flags: u32,
    /// VFIOMIG_REQUEST_*: the request that the device has not answered yet. The driver has it, or
    /// the VMM's functions, or it waits until the device is ready.
    pub request: u32,
    /// VFIOMIG_STATE_*: where the device was found last. While it changes its state this is the old
    /// one.
    pub state: u32,
    /// VFIOMIG_STATE_*: with VFIOMIG_REQUEST_SET_STATE where it was asked to go; else equal to
    /// `state`.
    pub target: u32,
    /// 0.
    pub reserved: u32,
    /// When `request` began; 0 with VFIOMIG_REQUEST_NONE.
    pub since_ns: u64,
    /// When the request to the device's DMA log began that is not answered yet; 0: there is none.
    pub log_since_ns: u64,
    /// Bytes consumed in the current or last save session.
    pub saved_bytes: u64,
    /// Bytes that the device took in the current or last load session.
    pub loaded_bytes: u64,
    /// The device's name, with the terminating NUL; of a tracker its name, ": ", and the log that is
    /// asked, possibly cut. A tracker's `request` is VFIOMIG_REQUEST_LOG, and all but `since_ns` is 0.
    pub name: [c_char; VFIOMIG_NAME_SIZE],
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_progress {
    const NAME: &'static str = "vfiomig_progress";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_progress>() == 56 + VFIOMIG_NAME_SIZE && VFIOMIG_NAME_SIZE % 8 == 0);
const _: () = assert!(std::mem::offset_of!(vfiomig_progress, name) == 56);

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl vfiomig_progress {
    fn of(progress: &DeviceProgress) -> Self {
        let state = progress.state.number();
        let (request, target) = match progress.asked.map(|asked| asked.request) {
            None => (VFIOMIG_REQUEST_NONE, state),
            Some(DeviceRequest::SetState(to)) => (VFIOMIG_REQUEST_SET_STATE, to.number()),
            Some(DeviceRequest::Read) => (VFIOMIG_REQUEST_READ, state),
            Some(DeviceRequest::Write) => (VFIOMIG_REQUEST_WRITE, state),
            Some(DeviceRequest::Query) => (VFIOMIG_REQUEST_QUERY, state),
            Some(DeviceRequest::Reset) => (VFIOMIG_REQUEST_RESET, state),
            Some(DeviceRequest::Log) => (VFIOMIG_REQUEST_LOG, state),
        };
        let since = |asked: Option<Asked>| asked.map_or(0, |asked| nanos(asked.since));
        vfiomig_progress {
            argsz: size_of::<vfiomig_progress>() as u32,
            flags: 0,
            request,
            state,
            target,
            reserved: 0,
            since_ns: since(progress.asked),
            log_since_ns: since(progress.log),
            saved_bytes: progress.saved_bytes,
            loaded_bytes: progress.loaded_bytes,
            name: name_of(&progress.device),
        }
    }

    fn of_log(asked: &LogAsked) -> Self {
        vfiomig_progress {
            argsz: size_of::<vfiomig_progress>() as u32,
            flags: VFIOMIG_PROGRESS_TRACKER,
            request: VFIOMIG_REQUEST_LOG,
            state: 0,
            target: 0,
            reserved: 0,
            since_ns: nanos(asked.since),
            log_since_ns: 0,
            saved_bytes: 0,
            loaded_bytes: 0,
            name: name_of(&asked.log),
        }
    }
}

/// Cut to what there is room for; the last byte stays 0.
fn name_of(text: &str) -> [c_char; VFIOMIG_NAME_SIZE] {
    let mut name = [0; VFIOMIG_NAME_SIZE];
    let bytes = text.bytes().filter(|&byte| byte != 0);
    for (to, from) in name.iter_mut().take(VFIOMIG_NAME_SIZE.saturating_sub(1)).zip(bytes) {
        *to = c_char::from_ne_bytes([from]);
    }
    name
}

/// vfiomig_progress_event.kind: a device is done with its step, or has failed in it.
pub const VFIOMIG_PROGRESS_ARRIVED: u32 = 1;
/// vfiomig_progress_event.kind: the interval has passed.
pub const VFIOMIG_PROGRESS_WAITING: u32 = 2;

/// Passed to a vfiomig_progress_fn, and valid during the call. `argsz` says how long it is; later
/// versions may add fields at its end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_progress_event {
    /// Size of this struct in the library.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// VFIOMIG_PROGRESS_*.
    pub kind: u32,
    /// How many devices take part in this step; trackers where they are started or stopped, logs in a
    /// harvest.
    pub asked: u32,
    /// How many of them are done with it. In a drain and in a harvest this stays 0.
    pub arrived: u32,
    /// 0.
    pub reserved: u32,
    /// How long the step has taken so far, in nanoseconds.
    pub elapsed_ns: u64,
    /// The device that has arrived; or, of those that have not, the one whose request is the
    /// oldest. With VFIOMIG_PROGRESS_TRACKER it is the log of a tracker that has not answered. Its
    /// argsz is that of the library, too.
    pub device: *const vfiomig_progress,
}

const _: () = assert!(size_of::<vfiomig_progress_event>() == 40);

/// Called when a device has arrived where a call on the group or its migration has sent it, and at
/// an interval while one has not arrived, while a tracker that the migration starts or stops has
/// not answered, while a log is read in vfiomig_group_harvest(), or while a drain is in progress.
/// Returns 0, or any other value to ask for what vfiomig_migration_cancel() does to the group's
/// migration. Such a value has no effect without a migration, in vfiomig_migration_abort() and in
/// vfiomig_group_harvest().
///
/// It is called on the thread that made the call, with no lock held. It may call every function of
/// the class *any*; functions that would wait for the call in progress return -EDEADLK. Other
/// threads serve the devices meanwhile. Where the calling thread has to serve them itself, it is
/// called between requests only, and not while one of them hangs: with max_workers 1, for devices
/// without VFIOMIG_OPS_F_ANY_THREAD, in a drain of one device, in a harvest that reads 1 GiB or less
/// for its destinations, and where no thread could be created.
pub type vfiomig_progress_fn =
    Option<unsafe extern "C" fn(opaque: *mut c_void, event: *const vfiomig_progress_event) -> c_int>;

/// A function of the VMM, and what it is called with.
struct ProgressCallback {
    function: unsafe extern "C" fn(*mut c_void, *const vfiomig_progress_event) -> c_int,
    opaque: *mut c_void,
}

// SAFETY: `opaque` is never dereferenced here; vfiomig_group_new's contract makes the VMM answer for calls from any thread.
unsafe impl Send for ProgressCallback {}
// SAFETY: as above.
unsafe impl Sync for ProgressCallback {}

impl ProgressCallback {
    fn call(&self, event: &Event<'_>) -> Wish {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let device = match event.who {
            Who::Device(device) => vfiomig_progress::of(device),
            Who::Log(log) => vfiomig_progress::of_log(log),
        };
        let event_of_c = vfiomig_progress_event {
            argsz: size_of::<vfiomig_progress_event>() as u32,
            flags: 0,
            kind: match event.why {
                Why::Arrived => VFIOMIG_PROGRESS_ARRIVED,
                Why::Waiting => VFIOMIG_PROGRESS_WAITING,
            },
            asked: count(event.asked),
            arrived: count(event.arrived),
            reserved: 0,
            elapsed_ns: nanos(event.elapsed),
            device: &raw const device,
        };
        // SAFETY: vfiomig_group_new's contract; both structs live until the call returns.
        match unsafe { (self.function)(self.opaque, &raw const event_of_c) } {
            0 => Wish::GoOn,
            _ => Wish::Cancel,
        }
    }
}

/// Where the options ask for none.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// Lets the group call `function`.
pub(super) fn listen(
    group: &Group,
    function: vfiomig_progress_fn,
    opaque: *mut c_void,
    interval_ns: u64,
) -> Result<()> {
    match function {
        Some(function) => {
            let callback = ProgressCallback { function, opaque };
            let interval = if interval_ns == 0 { DEFAULT_INTERVAL } else { Duration::from_nanos(interval_ns) };
            group.on_progress(interval, move |event| callback.call(event))
        }
        None if interval_ns != 0 => Err(Error::argument("progress_interval_ns is given, and progress is NULL")),
        None => Ok(()),
    }
}

/// What each device of the group is doing now, in the order in which they were added. The values are
/// those that any thread may read: no device is asked, and no call in progress is waited for, also
/// while a device hangs, and in callbacks. `devices` has `count` elements, and the first of them was
/// set up with VFIOMIG_INIT; it may be NULL if `count` is 0. A device whose handle was freed keeps
/// its place as long as the group's migration exists. Behind the devices comes each tracker of the
/// group that waits for a log, with VFIOMIG_PROGRESS_TRACKER: to start, read or stop it. `*total` is
/// set to the number of all these, which may be more than `count`.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`total` NULL, `devices` NULL or not set up).
/// Phases: any.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `g` is NULL or a live handle; `devices` is NULL or valid for `count` elements of its argsz; `total` and `errp` are
// NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_group_get_progress(
    g: *mut vfiomig_group,
    devices: *mut vfiomig_progress,
    count: usize,
    total: *mut usize,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |group: &Group| {
        if total.is_null() {
            return Err(Error::argument("total is NULL"));
        }
        // SAFETY: the contract of this function.
        let size = if count == 0 { 0 } else { unsafe { check_out(devices) }? };
        let mut progress: Vec<vfiomig_progress> = group.progress().iter().map(vfiomig_progress::of).collect();
        progress.extend(group.asked_logs().iter().map(vfiomig_progress::of_log));
        for (index, one) in progress.iter().take(count).enumerate() {
            let to = devices.cast::<u8>().wrapping_add(index.wrapping_mul(size)).cast::<vfiomig_progress>();
            // SAFETY: within `count` elements of `size` bytes, by the contract of this function.
            unsafe { copy_out(to, size, one) };
            // SAFETY: the first field of the same element.
            unsafe { to.cast::<u32>().write_unaligned(u32::try_from(size).unwrap_or(0)) };
        }
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { total.write(progress.len()) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_group_get_progress", g, errp, body) }
}
