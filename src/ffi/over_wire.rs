//! Whole saves and loads over wires (docs/wire.md).

use super::error_object::vfiomig_error;
use super::handle::{object_of, on};
pub use super::handle::{vfiomig_migration, vfiomig_reader, vfiomig_writer};
use super::input::slice;
use super::sized::{ExtensibleStruct, copy_in};
use super::wire_object::{WireReader, WireWriter};
use super::wire_table::{devices_of, vfiomig_wire_device};
use crate::error::{Errno, Error, Result};
use crate::migration::{
    Budget, LoadStep, LoadWire, Migration, Put, ROUND, SaveNext, SaveOptions, SaveStep, SaveWire, TakeRecord, put_on,
};
use crate::transport::wait_any;
use crate::wire::{Table, WireOptions, WireRecord};
use crate::workers::turns::Turn;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

/// vfiomig_save_to_request: rounds while the guest runs, until `step` says that there were enough.
pub const VFIOMIG_SAVE_TO_F_ROUNDS: u32 = 0x1;

/// vfiomig_wire_step_fn: something was moved; about ten times a second. Only functions of the class
/// any may be called.
pub const VFIOMIG_STEP_PROGRESS: u32 = 1;
/// vfiomig_wire_step_fn, save: a round has ended. The VMM sends its RAM, in the first round all of
/// it, later what became dirty, and returns 1 for another round, or 0.
pub const VFIOMIG_STEP_ROUND: u32 = 2;
/// vfiomig_wire_step_fn, save: vCPUs and everything of the VMM that emulates stop now.
pub const VFIOMIG_STEP_STOP_VM: u32 = 3;
/// vfiomig_wire_step_fn, save: the devices are in SAVE_P2P_GRACE. The VMM saves what the kernel
/// owns, such as the configuration space.
pub const VFIOMIG_STEP_GRACE: u32 = 4;
/// vfiomig_wire_step_fn, save: the devices are in SAVE_STOP_COPY. Final harvest and last RAM.
pub const VFIOMIG_STEP_STOPPED: u32 = 5;
/// vfiomig_wire_step_fn, save: every stream is on the wire. The VMM's last records.
pub const VFIOMIG_STEP_LAST: u32 = 6;
/// vfiomig_wire_step_fn, load: the table came and is that of the group; no device was touched.
pub const VFIOMIG_STEP_TABLE: u32 = 7;

/// How far a save or a load over a wire is. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_wire_progress {
    /// Bytes of devices that this call has moved.
    pub bytes: u64,
    /// VFIOMIG_STEP_ROUND: the number of the round, from 1; else 0.
    pub round: u32,
    /// VFIOMIG_STEP_ROUND: 1 if no device is known to have initial data left; else 0.
    pub ready: u32,
}

/// Hears of each VFIOMIG_STEP_*, on the thread that called the library. Returns 0 to continue; 1 for
/// another round, after VFIOMIG_STEP_ROUND only; -errno to end the call with that error. Between the
/// drains, so in all steps but VFIOMIG_STEP_PROGRESS, the VMM may call the group, its own writers
/// and the trackers, and in VFIOMIG_STEP_STOP_VM enter SAVE_VIOMMU_GRACE.
pub type vfiomig_wire_step_fn =
    Option<unsafe extern "C" fn(opaque: *mut c_void, step: u32, progress: *const vfiomig_wire_progress) -> c_int>;

/// Gets a record of the VMM, on the thread that called the library. `device_index` is the number of
/// a device in the group, or SIZE_MAX. `kind` is the number that the source side gave. Returns 0, or
/// -errno to end the load with that error.
pub type vfiomig_wire_record_fn = Option<
    unsafe extern "C" fn(opaque: *mut c_void, device_index: usize, kind: u64, data: *const c_void, len: usize) -> c_int,
>;

/// What vfiomig_migration_save_to() shall do. Set up with VFIOMIG_INIT. NULL stands for all
/// defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_save_to_request {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_SAVE_TO_F_*.
    pub flags: u32,
    /// With rounds: largest number of bytes of devices of a round. 0: 64 MiB.
    pub round_bytes: u64,
    /// With rounds: no read is begun after so many nanoseconds of a round. 0: a second.
    pub round_ns: u64,
    /// May be NULL: then rounds end when the devices are ready, or after 64.
    pub step: vfiomig_wire_step_fn,
    /// Passed to `step`.
    pub opaque: *mut c_void,
}

/// What vfiomig_migration_load_from() shall do. Set up with VFIOMIG_INIT. NULL stands for all
/// defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_load_from_request {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// 0.
    pub flags: u32,
    /// Devices of the group with words that the wire must have for them, with the same values.
    /// Others may be left out. `dialect` and `channel` are 0.
    pub devices: *const vfiomig_wire_device,
    /// Number of `devices`.
    pub device_count: usize,
    /// NULL: a record of the VMM is refused.
    pub record: vfiomig_wire_record_fn,
    /// May be NULL.
    pub step: vfiomig_wire_step_fn,
    /// Passed to `record` and `step`.
    pub opaque: *mut c_void,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below); zeros are a value, NULL pointers.
unsafe impl ExtensibleStruct for vfiomig_save_to_request {
    const NAME: &'static str = "vfiomig_save_to_request";
    const FLAGS: u32 = VFIOMIG_SAVE_TO_F_ROUNDS;
}

// SAFETY: as above.
unsafe impl ExtensibleStruct for vfiomig_load_from_request {
    const NAME: &'static str = "vfiomig_load_from_request";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_save_to_request>() == 40 && size_of::<vfiomig_load_from_request>() == 48);
const _: () = assert!(size_of::<vfiomig_wire_progress>() == 16);

const MAX_ROUNDS_BY_ITSELF: u32 = 64;

fn failed(what: &str, answer: c_int) -> Error {
    let known = Errno::new(answer.checked_neg().filter(|errno| *errno > 0).unwrap_or(libc::EIO));
    Error::system(known, format!("the {what} function ended the call: {known}"))
}

/// The caller's step function.
struct StepOfC {
    function: vfiomig_wire_step_fn,
    opaque: *mut c_void,
}

impl StepOfC {
    /// 0 or 1.
    fn call(&self, step: u32, progress: vfiomig_wire_progress) -> Result<bool> {
        let Some(function) = self.function else { return Ok(false) };
        // SAFETY: `progress` is readable during the call; the rest is the caller's contract for its function.
        match unsafe { function(self.opaque, step, &progress) } {
            0 => Ok(false),
            1 if step == VFIOMIG_STEP_ROUND => Ok(true),
            other => Err(failed("step", other)),
        }
    }
}

struct WritersOfC {
    writers: Vec<Arc<WireWriter>>,
    step: StepOfC,
}

impl WritersOfC {
    fn writer(&self, place: usize) -> Result<&WireWriter> {
        self.writers.get(place).map(|writer| &**writer).ok_or_else(|| Error::argument("there is no such channel"))
    }
}

impl SaveWire for WritersOfC {
    fn places(&self) -> usize {
        self.writers.len()
    }
    fn channel(&self, place: usize) -> Result<(u16, u16, u64)> {
        let WireOptions { channel, channels, wire } = self.writer(place)?.with(|output| Ok(output.options()))?;
        Ok((channel, channels, wire))
    }
    fn table(&self, place: usize) -> Result<Table> {
        self.writer(place)?.with(|output| Ok(output.table().clone()))
    }
    fn position(&self, place: usize, device: usize) -> Result<u64> {
        self.writer(place)?.with(|output| Ok(output.position(device)))
    }
    fn put(&mut self, place: usize, what: Put<'_>) -> Result<()> {
        self.writer(place)?.with(|output| put_on(output, what))
    }
    fn wait(&mut self, place: usize) {
        if let Ok(writer) = self.writer(place) {
            writer.wait();
        }
    }
    fn step(&mut self, step: SaveStep, bytes: u64) -> Result<SaveNext> {
        let what = match step {
            SaveStep::Progress { .. } => VFIOMIG_STEP_PROGRESS,
            SaveStep::Round { .. } => VFIOMIG_STEP_ROUND,
            SaveStep::StopVm => VFIOMIG_STEP_STOP_VM,
            SaveStep::Grace => VFIOMIG_STEP_GRACE,
            SaveStep::Stopped => VFIOMIG_STEP_STOPPED,
            SaveStep::Last => VFIOMIG_STEP_LAST,
        };
        let (round, ready) = match step {
            SaveStep::Round { number, ready, .. } => (number, u32::from(ready)),
            _ => (0, 0),
        };
        let again = match (step, self.step.function) {
            (SaveStep::Round { number, ready, .. }, None) => !ready && number < MAX_ROUNDS_BY_ITSELF,
            _ => self.step.call(what, vfiomig_wire_progress { bytes, round, ready })?,
        };
        Ok(if again { SaveNext::Again } else { SaveNext::Go })
    }
}

struct ReadersOfC {
    readers: Vec<Arc<WireReader>>,
}

impl ReadersOfC {
    fn reader(&self, place: usize) -> Result<&WireReader> {
        self.readers.get(place).map(|reader| &**reader).ok_or_else(|| Error::argument("there is no such channel"))
    }
}

impl LoadWire for ReadersOfC {
    fn places(&self) -> usize {
        self.readers.len()
    }
    fn any_thread(&self, place: usize) -> bool {
        self.reader(place).is_ok_and(|reader| reader.any_thread())
    }
    fn channel(&self, place: usize) -> Result<(u16, u16, u64)> {
        let channel = self.reader(place)?.with(|input| Ok(input.reader().channel()))?;
        channel.ok_or_else(|| Error::order("wire: its table has not come"))
    }
    fn table(&self, place: usize) -> Result<Option<Table>> {
        self.reader(place)?.with(|input| Ok(input.table().cloned()))
    }
    fn next(&self, place: usize, take: &mut TakeRecord<'_>) -> Result<Turn> {
        self.reader(place)?.with(|input| take(input.next()?))
    }
    fn last(&self, place: usize, take: &mut dyn FnMut(WireRecord<'_>) -> Result<()>) -> Result<()> {
        self.reader(place)?.with(|input| take(input.last()?))
    }
    fn wait(&self, places: &[usize], patient: bool) -> Vec<usize> {
        const LOOK: Duration = Duration::from_millis(20);
        const NAP: Duration = Duration::from_millis(1);
        let fds: Option<Vec<_>> = places.iter().map(|place| self.reader(*place).ok()?.descriptor()).collect();
        let Some(fds) = fds else {
            // Nothing is known of what a function has.
            if patient {
                std::thread::sleep(NAP);
            }
            return places.to_vec();
        };
        let ready = wait_any(&fds, if patient { LOOK } else { Duration::ZERO });
        places.iter().zip(ready).filter(|(_, ready)| *ready).map(|(place, _)| *place).collect()
    }
}

/// Saves all devices over a wire, from wherever the migration stands: rounds if they are asked for,
/// the phases up to SAVE_STOP_COPY, every stream to its END, and the last record of each channel.
/// `writers` are the channels of one wire, each once. The migration stays in SAVE_STOP_COPY until
/// the VMM knows what became of the guest; then vfiomig_migration_end(). A simple VMM whose guest
/// stands still passes NULL as `rq`.
///
/// After a failure the wire is not whole: the other side gets the reason if the channels still work,
/// and vfiomig_migration_abort() is left. In non-blocking mode a writer is waited for, too, 60 s at
/// most. If the group is resumed during the rounds, the streams of a wire of one channel begin anew.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`writers`, their tables, `rq`), BUSY (a writer is in use), CANCELED, ORDER (a
/// load; bytes of a stream were consumed and are not on the wire), STALE, DEVICE, PROTOCOL, SYSTEM
/// (a channel, or `step`, failed; -ETIMEDOUT; -ENOMEM), UNSUPPORTED (the devices of the table are
/// not those of the group); in FAILED the first error again.
/// Phases: any of a save up to SAVE_STOP_COPY.
/// Threads: whole. Blocks: in the kernel, in `step`, and on the channels. Since: 0.1
// Safety: `m` and the writers are NULL or live handles; `writers` is readable for `count`; `rq` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_save_to(
    m: *mut vfiomig_migration,
    writers: *const *mut vfiomig_writer,
    count: usize,
    rq: *const vfiomig_save_to_request,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_migration_save_to";
    let body = |migration: &Migration| {
        // SAFETY: the contract of this function.
        let rq = unsafe { copy_in(rq) }?;
        // SAFETY: the contract of this function.
        let handles = unsafe { slice("writers", writers, count) }?;
        let mut writers = Vec::with_capacity(handles.len());
        for handle in handles {
            // SAFETY: the contract of this function.
            let writer = unsafe { object_of(NAME, handle.cast_const()) }?;
            writer.follow(migration.cancel_of_waits());
            writers.push(writer);
        }
        let rounds = rq.filter(|rq| rq.flags & VFIOMIG_SAVE_TO_F_ROUNDS != 0).map(|rq| Budget {
            bytes: if rq.round_bytes == 0 { ROUND.bytes } else { rq.round_bytes },
            time: if rq.round_ns == 0 { ROUND.time } else { Duration::from_nanos(rq.round_ns) },
        });
        let (function, opaque) = rq.map_or((None, std::ptr::null_mut()), |rq| (rq.step, rq.opaque));
        let mut wire = WritersOfC { writers, step: StepOfC { function, opaque } };
        migration.save_over(&mut wire, SaveOptions { rounds })
    };
    // SAFETY: the contract of this function.
    unsafe { on(NAME, m, errp, body) }
}

/// Loads all devices from a wire, up to LOAD_LOADED. First the tables are read and compared with the
/// group; only then a device is touched. Each device enters LOAD_LOADED after its own END. Success
/// means that every channel was whole. `readers` are the channels of one wire, each once, in any
/// order.
///
/// After a failure vfiomig_migration_abort() is left. The message says which record of which device
/// is wrong, where it is, and what was expected and found. Several channels with descriptors are
/// read at the same time, each on a thread of this call; readers with functions, and with
/// `max_workers` 1 all, are served by the calling thread: then they must not block. A wire of
/// several channels whose streams begin anew is refused.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`readers`, `rq`), BUSY (a reader is in use), CANCELED, ORDER (a save; another
/// phase), INCOMPLETE (the wire was cut; -ECONNABORTED: the source side gave up), PROTOCOL,
/// UNSUPPORTED (other devices, words or dialects; a later version; a record of the VMM without
/// `record`), STALE, DEVICE, SYSTEM (a channel or a function failed; -ETIMEDOUT; -ENOMEM); in FAILED
/// the first error again.
/// Phases: IDLE, LOAD_RESUMING.
/// Threads: whole. Blocks: in the kernel, in the functions, and on the channels. Since: 0.1
// Safety: `m` and the readers are NULL or live handles; `readers` is readable for `count`; `rq` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_migration_load_from(
    m: *mut vfiomig_migration,
    readers: *const *mut vfiomig_reader,
    count: usize,
    rq: *const vfiomig_load_from_request,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_migration_load_from";
    let body = |migration: &Migration| {
        // SAFETY: the contract of this function.
        let rq = unsafe { copy_in(rq) }?;
        let (devices, device_count) = rq.map_or((std::ptr::null(), 0), |rq| (rq.devices, rq.device_count));
        // SAFETY: the contract of this function.
        let demanded = unsafe { devices_of(devices, device_count) }?;
        let demanded: Vec<_> = demanded.into_iter().map(|(device, _)| device).collect();
        // SAFETY: the contract of this function.
        let handles = unsafe { slice("readers", readers, count) }?;
        let mut readers = Vec::with_capacity(handles.len());
        for handle in handles {
            // SAFETY: the contract of this function.
            let reader = unsafe { object_of(NAME, handle.cast_const()) }?;
            reader.follow(migration.cancel_of_waits());
            readers.push(reader);
        }
        let (record, function) = rq.map_or((None, None), |rq| (rq.record, rq.step));
        let opaque = rq.map_or(std::ptr::null_mut(), |rq| rq.opaque);
        let step = StepOfC { function, opaque };
        migration.load_over(&ReadersOfC { readers }, &demanded, &mut |what| match what {
            LoadStep::Table(_) => {
                step.call(VFIOMIG_STEP_TABLE, vfiomig_wire_progress { bytes: 0, round: 0, ready: 0 }).map(drop)
            }
            LoadStep::Progress { bytes } => {
                step.call(VFIOMIG_STEP_PROGRESS, vfiomig_wire_progress { bytes, round: 0, ready: 0 }).map(drop)
            }
            LoadStep::Vmm { device, kind, bytes } => {
                let Some(record) = record else {
                    return Err(Error::unsupported(format!(
                        "wire: a record of the VMM of kind {kind}: record is NULL"
                    )));
                };
                let place = device.unwrap_or(usize::MAX);
                // SAFETY: a slice is readable for its length; the rest is the caller's contract for its function.
                match unsafe { record(opaque, place, kind, bytes.as_ptr().cast(), bytes.len()) } {
                    0 => Ok(()),
                    other => Err(failed("record", other)),
                }
            }
        })
    };
    // SAFETY: the contract of this function.
    unsafe { on(NAME, m, errp, body) }
}
