//! A VMM with a few devices of simdev in a group, a tracker over their own logs, and at most one migration; written twice,
//! over the Rust API and over the C API.

use crate::common::doors::{Outcome, failure, outcome};
use std::ffi::{CString, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;
use vfiomig::device::{Device, DeviceOptions, DevicePending, OnFailure};
use vfiomig::dialect::{DialectKind, Direction, State};
use vfiomig::ffi;
use vfiomig::group::{self, Group};
use vfiomig::migration::{AbortTo, Budget, Fed, Migration, Phase};
use vfiomig::tracker::{self, Tracker};

/// Pages of RAM that the tracker knows.
pub const PAGES: u64 = 64;

/// One device's stream: pieces, and whether a segment ends with each.
pub type Stream = Vec<(Vec<u8>, bool)>;

pub fn length(stream: &Stream) -> u64 {
    stream.iter().map(|(bytes, _)| bytes.len() as u64).sum()
}

pub trait Vmm: Sized {
    fn new(devices: &[simdev::Device]) -> Self;
    fn state(&self, i: usize) -> State;
    fn set_state(&self, i: usize, to: State) -> Outcome<()>;
    fn reset(&self, i: usize) -> Outcome<()>;
    fn pending(&self, i: usize) -> Outcome<DevicePending>;
    fn read(&self, i: usize, buf: &mut [u8]) -> Outcome<(usize, u32)>;
    fn write(&self, i: usize, bytes: &[u8], segment_end: bool) -> Outcome<()>;
    fn finish(&self, i: usize, total: u64) -> Outcome<()>;
    fn pause(&self) -> Outcome<()>;
    fn resume(&self) -> Outcome<()>;
    /// Dirty pages, and whether a log could not be read.
    fn harvest(&self) -> Outcome<(Vec<u64>, bool)>;
    fn begin(&mut self, direction: Direction) -> Outcome<()>;
    fn advance(&self, to: Phase) -> Outcome<()>;
    /// One round, or everything; the flags by device.
    fn save(&self, all: bool, streams: &mut [Stream]) -> Outcome<Vec<u32>>;
    fn load(&self, streams: &[Stream]) -> Outcome<()>;
    fn abort(&self, to: AbortTo) -> Outcome<()>;
    fn report(&self) -> String;
    /// The migration's handle is freed.
    fn end(&mut self);
}

fn is_draft(fake: &simdev::Device) -> bool {
    fake.config().dialect == (simdev::Dialect::Draft { form: simdev::DraftForm::Rewrite, region_type: 3 })
}

const BUDGET: Budget = Budget { bytes: 1 << 30, time: Duration::from_secs(5) };
const BUFFER: usize = 4096;

pub struct RustVmm {
    devices: Vec<Arc<Device>>,
    group: Arc<Group>,
    migration: Option<Migration>,
}

impl RustVmm {
    fn migration(&self) -> &Migration {
        self.migration.as_ref().unwrap()
    }
}

impl Vmm for RustVmm {
    fn new(fakes: &[simdev::Device]) -> Self {
        let group = Arc::new(Group::new(group::GroupOptions::default()));
        let open = |(i, fake): (usize, &simdev::Device)| {
            let dialect = is_draft(fake).then_some(DialectKind::Draft);
            let options =
                DeviceOptions { name: format!("d{i}"), dialect, buffer_size: Some(BUFFER), ..DeviceOptions::default() };
            Arc::new(Device::new(fake.transport(), options).unwrap())
        };
        let devices: Vec<_> = fakes.iter().enumerate().map(open).collect();
        for device in &devices {
            group.add_device(Arc::clone(device)).unwrap();
        }
        let options = tracker::TrackerOptions {
            name: "ram".into(),
            devices: devices.clone(),
            ..tracker::TrackerOptions::default()
        };
        let tracker = Tracker::new(options).unwrap();
        tracker
            .map(&[tracker::Mapping { range: tracker::IovaRange { iova: 0, size: PAGES * 4096 }, cookie: 7 }])
            .unwrap();
        group.add_tracker(Arc::new(tracker)).unwrap();
        RustVmm { devices, group, migration: None }
    }
    fn state(&self, i: usize) -> State {
        self.devices[i].state()
    }
    fn set_state(&self, i: usize, to: State) -> Outcome<()> {
        self.devices[i].set_state(to, OnFailure::Keep, false).map_err(failure)
    }
    fn reset(&self, i: usize) -> Outcome<()> {
        self.devices[i].reset().map_err(failure)
    }
    fn pending(&self, i: usize) -> Outcome<DevicePending> {
        self.devices[i].pending_exact().map_err(failure)
    }
    fn read(&self, i: usize, buf: &mut [u8]) -> Outcome<(usize, u32)> {
        self.devices[i].read(buf).map(|(len, flags)| (len, flags.bits())).map_err(failure)
    }
    fn write(&self, i: usize, bytes: &[u8], segment_end: bool) -> Outcome<()> {
        self.devices[i].write(bytes, segment_end).map(drop).map_err(failure)
    }
    fn finish(&self, i: usize, total: u64) -> Outcome<()> {
        self.devices[i].finish(Some(total)).map_err(failure)
    }
    fn pause(&self) -> Outcome<()> {
        self.group.pause().map_err(failure)
    }
    fn resume(&self) -> Outcome<()> {
        self.group.resume().map_err(failure)
    }
    fn harvest(&self) -> Outcome<(Vec<u64>, bool)> {
        let mut pages = Vec::new();
        let run = &mut |_: u64, range: tracker::IovaRange| {
            pages.extend(range.iova / 4096..(range.iova + range.size) / 4096);
            true
        };
        let result = self.group.harvest(&mut tracker::Request { run: Some(run), ..tracker::Request::default() });
        result.map(|harvest| (pages, harvest.failed_reads > 0)).map_err(failure)
    }
    fn begin(&mut self, direction: Direction) -> Outcome<()> {
        self.migration = Some(Migration::new(Arc::clone(&self.group), direction).map_err(failure)?);
        Ok(())
    }
    fn advance(&self, to: Phase) -> Outcome<()> {
        self.migration().advance(to).map_err(failure)
    }
    fn save(&self, all: bool, streams: &mut [Stream]) -> Outcome<Vec<u32>> {
        let put = &mut |piece: vfiomig::migration::Piece<'_>| {
            streams[piece.device].push((piece.bytes.to_vec(), piece.segment_end));
            Ok(())
        };
        let migration = self.migration();
        let round = if all { migration.save_complete(&[], put) } else { migration.save_iterate(BUDGET, &[], put) };
        round.map(|round| round.flags.iter().map(|flags| flags.bits()).collect()).map_err(failure)
    }
    fn load(&self, streams: &[Stream]) -> Outcome<()> {
        let mut at = vec![(0, 0); streams.len()];
        let get = &mut |i: usize, buf: &mut [u8]| {
            let (len, segment_end) = next(&streams[i], &mut at[i], buf);
            Ok(if len == 0 { Fed::End { total: Some(length(&streams[i])) } } else { Fed::Bytes { len, segment_end } })
        };
        self.migration().load_complete(&[], get).map(drop).map_err(failure)
    }
    fn abort(&self, to: AbortTo) -> Outcome<()> {
        self.migration().abort(to).map_err(failure)
    }
    fn report(&self) -> String {
        self.migration().report().unwrap().to_string()
    }
    fn end(&mut self) {
        self.migration = None;
    }
}

/// The next bytes of a stream; `at` is piece and place in it.
fn next(stream: &Stream, at: &mut (usize, usize), buf: &mut [u8]) -> (usize, bool) {
    let Some((bytes, segment_end)) = stream.get(at.0) else { return (0, false) };
    let len = (bytes.len() - at.1).min(buf.len());
    buf[..len].copy_from_slice(&bytes[at.1..at.1 + len]);
    at.1 += len;
    let done = at.1 == bytes.len();
    if done {
        *at = (at.0 + 1, 0);
    }
    (len, done && *segment_end)
}

pub struct CVmm {
    devices: Vec<*mut ffi::device::vfiomig_device>,
    group: *mut c_void,
    tracker: *mut c_void,
    migration: *mut c_void,
    /// What the tables' functions are called with lives as long as these.
    _fakes: Vec<simdev::Device>,
}

// SAFETY: the C API may be called from any thread.
unsafe impl Sync for CVmm {}

type Errp = *mut *mut ffi::error::vfiomig_error;

fn count(call: impl FnOnce(Errp) -> i64) -> Outcome<i64> {
    let mut error = null_mut();
    let ret = call(&mut error);
    outcome(ret, error)
}

fn status(call: impl FnOnce(Errp) -> c_int) -> Outcome<()> {
    count(|errp| i64::from(call(errp))).map(drop)
}

/// A struct of zeros with its argsz.
fn sized<T>() -> T {
    // SAFETY: the structs of the API are made of integers, pointers and functions that may be absent.
    let mut made: T = unsafe { std::mem::zeroed() };
    // SAFETY: argsz is the first field of each.
    unsafe { (&raw mut made).cast::<u32>().write(size_of::<T>() as u32) };
    made
}

struct Feed<'a> {
    streams: &'a [Stream],
    at: Vec<(usize, usize)>,
}

unsafe extern "C" fn put(opaque: *mut c_void, device: usize, data: *const c_void, len: usize, flags: u32) -> c_int {
    // SAFETY: `save` hands its streams over, and the library lends `len` bytes.
    let (streams, bytes) =
        unsafe { (&mut *opaque.cast::<&mut [Stream]>(), std::slice::from_raw_parts(data.cast::<u8>(), len)) };
    streams[device].push((bytes.to_vec(), flags & ffi::save::VFIOMIG_CHUNK_SEGMENT_END != 0));
    0
}

unsafe extern "C" fn get(
    opaque: *mut c_void,
    device: usize,
    buf: *mut c_void,
    len: usize,
    flags: *mut u32,
    total: *mut u64,
) -> i64 {
    // SAFETY: `load` hands its feed over, and the library lends `len` bytes.
    let (feed, buf) =
        unsafe { (&mut *opaque.cast::<Feed<'_>>(), std::slice::from_raw_parts_mut(buf.cast::<u8>(), len)) };
    let (len, segment_end) = next(&feed.streams[device], &mut feed.at[device], buf);
    // SAFETY: both are writable, by the function's contract.
    unsafe {
        if segment_end {
            flags.write(ffi::save::VFIOMIG_CHUNK_SEGMENT_END);
        }
        if len == 0 {
            total.write(length(&feed.streams[device]));
        }
    }
    len as i64
}

unsafe extern "C" fn run(opaque: *mut c_void, _cookie: u64, iova: u64, size: u64) -> c_int {
    // SAFETY: `harvest` hands its list over.
    unsafe { &mut *opaque.cast::<Vec<u64>>() }.extend(iova / 4096..(iova + size) / 4096);
    0
}

// All calls of the C API below: handles live until Drop, and every pointer is to a local or to something of `self`.
impl Vmm for CVmm {
    fn new(fakes: &[simdev::Device]) -> Self {
        let mut group = null_mut();
        // SAFETY: see above.
        status(|errp| unsafe { ffi::group::vfiomig_group_new(null(), &mut group, errp) }).unwrap();
        let mut devices = Vec::new();
        for (i, fake) in fakes.iter().enumerate() {
            let (ops, opaque) = fake.ops();
            let name = CString::new(format!("d{i}")).unwrap();
            let mut options: ffi::device_data::vfiomig_device_options = sized();
            options.name = name.as_ptr();
            options.buffer_size = BUFFER as u64;
            options.dialect = if is_draft(fake) { DialectKind::Draft as u32 } else { 0 };
            let mut device = null_mut();
            let new = ffi::device_new::vfiomig_device_new_ops;
            // SAFETY: see above.
            status(|errp| unsafe { new(&ops, opaque, &options, &mut device, errp) }).unwrap();
            // SAFETY: see above.
            status(|errp| unsafe { ffi::group::vfiomig_group_add_device(group, device, errp) }).unwrap();
            devices.push(device);
        }
        let mut options: ffi::tracker_data::vfiomig_tracker_options = sized();
        (options.devices, options.device_count) = (devices.as_ptr(), devices.len());
        let mut tracker = null_mut();
        // SAFETY: see above.
        status(|errp| unsafe { ffi::tracker::vfiomig_tracker_new(&options, &mut tracker, errp) }).unwrap();
        let mapping =
            ffi::tracker_data::vfiomig_mapping { iova: 0, size: PAGES * 4096, cookie: 7, flags: 0, reserved: 0 };
        // SAFETY: see above.
        status(|errp| unsafe { ffi::tracker::vfiomig_tracker_map(tracker, &mapping, 1, errp) }).unwrap();
        // SAFETY: see above.
        status(|errp| unsafe { ffi::group::vfiomig_group_add_tracker(group, tracker, errp) }).unwrap();
        CVmm { devices, group: group.cast(), tracker: tracker.cast(), migration: null_mut(), _fakes: fakes.to_vec() }
    }
    fn state(&self, i: usize) -> State {
        // SAFETY: see above.
        State::from_number(unsafe { ffi::device::vfiomig_device_get_state(self.devices[i]) }).unwrap()
    }
    fn set_state(&self, i: usize, to: State) -> Outcome<()> {
        // SAFETY: see above.
        status(|errp| unsafe { ffi::device::vfiomig_device_set_state(self.devices[i], to.number(), 0, 0, errp) })
    }
    fn reset(&self, i: usize) -> Outcome<()> {
        // SAFETY: see above.
        status(|errp| unsafe { ffi::device::vfiomig_device_reset(self.devices[i], errp) })
    }
    fn pending(&self, i: usize) -> Outcome<DevicePending> {
        let mut out: ffi::device_data::vfiomig_device_pending = sized();
        // SAFETY: see above.
        status(|errp| unsafe { ffi::device::vfiomig_device_get_pending(self.devices[i], 1, &mut out, errp) })?;
        let known = |value: u64| (value != u64::MAX).then_some(value);
        Ok(DevicePending {
            initial_bytes: known(out.initial_bytes),
            dirty_bytes: known(out.dirty_bytes),
            stop_copy_bytes: known(out.stop_copy_bytes),
            reinit_count: out.reinit_count,
            cached: out.flags & 1 != 0,
        })
    }
    fn read(&self, i: usize, buf: &mut [u8]) -> Outcome<(usize, u32)> {
        let (mut flags, data, len) = (0, buf.as_mut_ptr().cast(), buf.len());
        // SAFETY: see above.
        let call = |errp| unsafe { ffi::save::vfiomig_device_read(self.devices[i], data, len, &mut flags, errp) };
        count(call).map(|n| (n as usize, flags))
    }
    fn write(&self, i: usize, bytes: &[u8], segment_end: bool) -> Outcome<()> {
        let flags = if segment_end { ffi::save::VFIOMIG_CHUNK_SEGMENT_END } else { 0 };
        let (data, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: see above.
        count(|errp| unsafe { ffi::load::vfiomig_device_write(self.devices[i], data, len, flags, errp) }).map(drop)
    }
    fn finish(&self, i: usize, total: u64) -> Outcome<()> {
        // SAFETY: see above.
        status(|errp| unsafe { ffi::load::vfiomig_device_finish(self.devices[i], total, errp) })
    }
    fn pause(&self) -> Outcome<()> {
        // SAFETY: see above.
        status(|errp| unsafe { ffi::group::vfiomig_group_pause(self.group.cast(), errp) })
    }
    fn resume(&self) -> Outcome<()> {
        // SAFETY: see above.
        status(|errp| unsafe { ffi::group::vfiomig_group_resume(self.group.cast(), errp) })
    }
    fn harvest(&self) -> Outcome<(Vec<u64>, bool)> {
        let mut pages: Vec<u64> = Vec::new();
        let mut request: ffi::harvest::vfiomig_harvest_request = sized();
        request.run = Some(run);
        request.opaque = (&raw mut pages).cast();
        let mut result: ffi::harvest::vfiomig_harvest_result = sized();
        // SAFETY: see above.
        status(|errp| unsafe { ffi::group::vfiomig_group_harvest(self.group.cast(), &request, &mut result, errp) })?;
        Ok((pages, result.failed_reads > 0))
    }
    fn begin(&mut self, direction: Direction) -> Outcome<()> {
        let (new, number) = (ffi::migration::vfiomig_migration_new, if direction == Direction::Save { 1 } else { 2 });
        // SAFETY: see above.
        status(|errp| unsafe { new(self.group.cast(), number, null(), (&raw mut self.migration).cast(), errp) })
    }
    fn advance(&self, to: Phase) -> Outcome<()> {
        // SAFETY: see above.
        status(|errp| unsafe { ffi::migration::vfiomig_migration_advance(self.migration.cast(), to.number(), 0, errp) })
    }
    fn save(&self, all: bool, mut streams: &mut [Stream]) -> Outcome<Vec<u32>> {
        let none = ffi::drain::vfiomig_drain_result { bytes: 0, flags: 0, reserved: 0 };
        let mut results = vec![none; self.devices.len()];
        let (m, out, n) = (self.migration.cast(), results.as_mut_ptr(), self.devices.len());
        let (iterate, complete) =
            (ffi::drain::vfiomig_migration_save_iterate, ffi::drain::vfiomig_migration_save_complete);
        let mut request: ffi::drain::vfiomig_drain_request = sized();
        request.put = Some(put);
        request.opaque = (&raw mut streams).cast();
        if !all {
            request.budget_bytes = BUDGET.bytes;
            request.budget_ns = BUDGET.time.as_nanos() as u64;
        }
        // SAFETY: see above.
        count(|errp| unsafe {
            if all { complete(m, &request, out, n, errp) } else { iterate(m, &request, out, n, errp) }
        })?;
        Ok(results.iter().map(|result| result.flags).collect())
    }
    fn load(&self, streams: &[Stream]) -> Outcome<()> {
        let mut feed = Feed { streams, at: vec![(0, 0); streams.len()] };
        let complete = ffi::drain::vfiomig_migration_load_complete;
        let mut request: ffi::drain::vfiomig_drain_request = sized();
        request.get = Some(get);
        request.opaque = (&raw mut feed).cast();
        // SAFETY: see above.
        count(|errp| unsafe { complete(self.migration.cast(), &request, null_mut(), 0, errp) }).map(drop)
    }
    fn abort(&self, to: AbortTo) -> Outcome<()> {
        // SAFETY: see above.
        status(|errp| unsafe { ffi::migration::vfiomig_migration_abort(self.migration.cast(), to as u32, 0, errp) })
    }
    fn report(&self) -> String {
        let mut report = null_mut();
        // SAFETY: see above.
        status(|errp| unsafe {
            ffi::migration::vfiomig_migration_get_report(self.migration.cast(), &mut report, errp)
        })
        .unwrap();
        // SAFETY: a C string of the report, which is freed behind.
        unsafe {
            let text = std::ffi::CStr::from_ptr(ffi::report::vfiomig_report_text(report)).to_str().unwrap().to_string();
            ffi::report::vfiomig_report_free(report);
            text
        }
    }
    fn end(&mut self) {
        // SAFETY: NULL, or a migration that is used no more.
        unsafe { ffi::migration::vfiomig_migration_free(std::mem::replace(&mut self.migration, null_mut()).cast()) };
    }
}

impl Drop for CVmm {
    fn drop(&mut self) {
        self.end();
        // SAFETY: each handle is freed once, and not used again.
        unsafe {
            ffi::group::vfiomig_group_free(self.group.cast());
            ffi::tracker::vfiomig_tracker_free(self.tracker.cast());
            self.devices.iter().for_each(|&device| ffi::device::vfiomig_device_free(device));
        }
    }
}

/// One test per API for each generic function.
#[macro_export]
macro_rules! both_vmms {
    ($($(#[$meta:meta])* $name:ident)*) => {
        mod rust_api {
            $($(#[$meta])* #[test] fn $name() { super::$name::<$crate::vmm::RustVmm>(); })*
        }
        mod c_api {
            $($(#[$meta])* #[test] fn $name() { super::$name::<$crate::vmm::CVmm>(); })*
        }
    };
}
