//! The device as a test holds it: the requests of a client on one side, eyes and hands of the test on the other.

use crate::config::Config;
use crate::faults::{Access, Effect, Fault, FaultId};
use crate::habits::hurt;
use crate::info::{BAR, BAR_SIZE, MIGRATION_REGION};
use crate::judge::Violation;
use crate::level::Level;
use crate::machine::{Busy, Machine, Transition};
use crate::space::Space;
use crate::{registers, v2};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vfiomig::dialect::State;

pub(crate) struct Shared {
    pub machine: Mutex<Machine>,
    pub v2: bool,
    pub draft: bool,
    pub real_fd: bool,
    pub report_adds_bits: bool,
    /// Clients that have it open.
    pub transports: AtomicUsize,
    /// The last one has closed it.
    pub fd_closed: AtomicBool,
}

/// A software device; clones are the same device.
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Shared>);

impl Device {
    /// A device in RUNNING.
    ///
    /// # Panics
    /// If the parts of `config` do not fit together.
    pub fn new(config: Config) -> Self {
        Device(Arc::new(Shared {
            v2: config.is_v2(),
            draft: config.is_draft(),
            real_fd: config.data == crate::config::DataPath::RealFd,
            report_adds_bits: config.dma_log.is_some_and(|log| !log.overwrites),
            transports: AtomicUsize::new(0),
            fd_closed: AtomicBool::new(false),
            machine: Mutex::new(Machine::new(config)),
        }))
    }
}

impl Shared {
    pub fn begin(&self, access: Access) -> Result<(Busy<'_>, Option<Effect>), i32> {
        Busy::begin(self.machine.lock(), access)
    }

    pub fn device_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.begin(Access::DeviceInfo)?.0.device_info(info)
    }

    pub fn region_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.begin(Access::RegionInfo)?.0.region_info(info)
    }

    pub fn feature(&self, bytes: &mut [u8]) -> Result<(), i32> {
        v2::feature(self, bytes)
    }

    fn bar(&self, offset: u64, len: usize) -> Result<usize, i32> {
        let mut m = self.begin(Access::BarAccess)?.0;
        if !m.level.running() {
            let text = format!("BAR touched in {}", m.level.state());
            // N13: it need not answer.
            let rule = if self.v2 { "V2-8" } else { "W1" };
            m.judge.record(rule, text);
        }
        if m.level.state() == State::StopCopy {
            m.check_shows()?;
        }
        if offset.checked_add(len as u64).is_some_and(|end| end <= BAR_SIZE) { Ok(len) } else { Err(libc::EINVAL) }
    }

    pub fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, i32> {
        match index {
            BAR => self.bar(offset, buf.len()).inspect(|_| buf.fill(0)),
            MIGRATION_REGION if !self.v2 => registers::read(self, offset, buf),
            _ => Err(libc::EINVAL),
        }
    }

    pub fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, i32> {
        match index {
            BAR => self.bar(offset, buf.len()),
            MIGRATION_REGION if !self.v2 => registers::write(self, offset, buf),
            _ => Err(libc::EINVAL),
        }
    }

    pub fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<NonNull<u8>, i32> {
        let mut m = self.begin(Access::RegionMap)?.0;
        let region = m.region.as_mut().filter(|_| index == MIGRATION_REGION).ok_or(libc::EINVAL)?;
        region.map(offset, len).map_err(|(errno, wrong)| {
            if wrong {
                m.judge.record("2.1", format!("mapping of {len:#x} bytes at {offset:#x} is in no area"));
            }
            errno
        })
    }

    pub fn region_unmap(&self, index: u32, memory: NonNull<u8>, len: usize) {
        let mut m = self.machine.lock();
        let known = index == MIGRATION_REGION && m.region.as_mut().is_some_and(|region| region.unmap(memory, len));
        if !known {
            m.judge.record("2.1", format!("unmap of {len:#x} bytes that are not mapped"));
        }
    }

    pub fn reset(&self) -> Result<(), i32> {
        let mut m = self.begin(Access::Reset)?.0;
        if !m.config.can_reset {
            return Err(libc::EINVAL);
        }
        m.reset()
    }

    pub fn data_read(&self, session: Option<u64>, buf: &mut [u8]) -> Result<usize, i32> {
        self.check_open();
        let (mut m, effect) = self.begin(Access::DataRead).inspect_err(|&errno| {
            self.machine.lock().read_failed(session, buf.len(), errno);
        })?;
        m.wait_for_data()?;
        m.session_read(session, buf, effect)
    }

    pub fn data_write(&self, session: Option<u64>, buf: &[u8]) -> Result<usize, i32> {
        self.check_open();
        let (mut m, effect) = self.begin(Access::DataWrite)?;
        m.session_write(session, buf, effect)
    }

    pub fn precopy_info(&self, session: Option<u64>, info: &mut [u8]) -> Result<(), i32> {
        self.check_open();
        let (mut m, effect) = self.begin(Access::PrecopyInfo).inspect_err(|&errno| {
            let mut m = self.machine.lock();
            if m.config.habits.info_kills {
                m.read_failed(session, 0, errno);
            }
        })?;
        m.precopy_info(session, info, effect)
    }

    pub fn data_close(&self) {
        self.machine.lock().sessions.closed += 1;
    }

    pub fn session_number(&self) -> u64 {
        self.machine.lock().sessions.opened
    }

    /// The data fd holds no reference to the device: once its fd is closed, the driver touches freed memory.
    fn check_open(&self) {
        if self.fd_closed.load(Ordering::Relaxed) {
            hurt("a call on a data fd after the device fd was closed");
        }
    }

    /// open().
    pub fn opened(&self) {
        if self.transports.fetch_add(1, Ordering::Relaxed) == 0 && self.fd_closed.swap(false, Ordering::Relaxed) {
            self.machine.lock().open_again();
        }
    }

    /// close().
    pub fn closed(&self) {
        if self.transports.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.fd_closed.store(true, Ordering::Relaxed);
        }
    }
}

/// The requests of a client, as a kernel driver gets them; errors are positive errno values.
impl Device {
    /// VFIO_DEVICE_GET_INFO.
    pub fn device_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.0.device_info(info)
    }

    /// VFIO_DEVICE_GET_REGION_INFO.
    pub fn region_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.0.region_info(info)
    }

    /// VFIO_DEVICE_FEATURE, header and payload.
    pub fn feature(&self, bytes: &mut [u8]) -> Result<(), i32> {
        self.0.feature(bytes)
    }

    /// pread().
    pub fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, i32> {
        self.0.region_read(index, offset, buf)
    }

    /// pwrite().
    pub fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, i32> {
        self.0.region_write(index, offset, buf)
    }

    /// mmap(). The memory stays valid until it is unmapped, also after the device is gone.
    pub fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<NonNull<u8>, i32> {
        self.0.region_map(index, offset, len)
    }

    /// munmap().
    pub fn region_unmap(&self, index: u32, memory: NonNull<u8>, len: usize) {
        self.0.region_unmap(index, memory, len);
    }

    /// VFIO_DEVICE_RESET.
    pub fn reset(&self) -> Result<(), i32> {
        self.0.reset()
    }

    /// read() of the data fd, where it is served by functions.
    pub fn data_read(&self, buf: &mut [u8]) -> Result<usize, i32> {
        self.0.data_read(None, buf)
    }

    /// write() of the data fd.
    pub fn data_write(&self, buf: &[u8]) -> Result<usize, i32> {
        self.0.data_write(None, buf)
    }

    /// VFIO_MIG_GET_PRECOPY_INFO.
    pub fn precopy_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.0.precopy_info(None, info)
    }

    /// close() of the data fd.
    pub fn data_close(&self) {
        self.0.data_close();
    }
}

/// What happens inside the device.
impl Device {
    /// Changes state bytes, as a guest that uses the device does. EBUSY, counted, while it does not run.
    pub fn touch(&self, offset: usize, len: usize, value: u64) -> Result<(), i32> {
        let mut m = self.0.machine.lock();
        if !m.runs() {
            m.touch_refused += 1;
            return Err(libc::EBUSY);
        }
        m.content.touch(offset, len, value);
        m.feed_real();
        Ok(())
    }

    /// Changes the whole state.
    pub fn redirty(&self, value: u64) -> Result<(), i32> {
        self.touch(0, usize::MAX, value)
    }

    /// The VMM closes the device fd, or opens it again, where the device is reached by functions; a transport does so by
    /// itself. A call on a data fd while it is closed aborts the test.
    pub fn close_fd(&self, closed: bool) {
        if self.0.fd_closed.swap(closed, Ordering::Relaxed) && !closed {
            self.0.machine.lock().open_again();
        }
    }

    /// The device fails by itself: it is in ERROR, and a log that its firmware keeps is gone.
    pub fn fail(&self) {
        let mut m = self.0.machine.lock();
        m.go_to_error();
        m.dma.stop_itself();
    }

    /// A former owner has left DMA logging on, for ranges of {iova, size}.
    pub fn leave_dma_log_on(&self, page_size: u64, ranges: &[(u64, u64)]) {
        let mut m = self.0.machine.lock();
        m.dma.tracker = Some(crate::dma::Tracker::left_over(page_size, ranges));
        m.dma.client_knows = false;
    }

    /// Its DMA goes through `space` from here on.
    pub fn attach(&self, space: &Space) {
        self.attach_through(space.clone(), None);
    }

    pub(crate) fn attach_through(&self, space: Space, hwpt: Option<u32>) {
        self.0.machine.lock().dma.space = Some((space, hwpt));
    }

    /// Writes one page of guest RAM. EBUSY, counted, in states without DMA; EFAULT where its address space maps nothing.
    pub fn dma_write(&self, page: u64) -> Result<(), i32> {
        if page > u64::MAX / crate::dma::PAGE {
            return Err(libc::EINVAL);
        }
        let mut m = self.0.machine.lock();
        if !m.may_dma() {
            m.dma.refused += 1;
            return Err(libc::EBUSY);
        }
        let result = m.dma.write(page);
        // A device that never rests would keep requests waiting.
        MutexGuard::unlock_fair(m);
        result
    }

    /// The device is configured anew in pre-copy: all of its state is initial data again, and REINIT is told (C9).
    pub fn reinit(&self) {
        self.0.machine.lock().reinit();
    }

    /// A thread that changes `len` bytes of the state and writes `pages` to RAM every `period`, until dropped.
    pub fn run(&self, period: Duration, len: usize, pages: std::ops::Range<u64>) -> Runner {
        let (device, stop) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut round, mut done) = (0u64, 0u64);
            while !stopped.load(Ordering::Relaxed) {
                let size = device.state_size().max(1) as u64;
                let at = crate::content::mix(round) % size;
                // Refusals are the device's answer in states where it rests.
                let touched = device.touch(at as usize, len, round).is_ok();
                let wrote =
                    pages.is_empty() || device.dma_write(pages.start + round % (pages.end - pages.start)).is_ok();
                done += u64::from(touched && wrote);
                round += 1;
                std::thread::sleep(period);
            }
            done
        });
        Runner { stop, thread: Some(thread) }
    }
}

/// A running device; dropping it stops the thread.
pub struct Runner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Runner {
    /// Stops; how many rounds were not refused.
    pub fn stop(mut self) -> u64 {
        self.join()
    }

    fn join(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.join();
    }
}

/// What a test sees.
impl Device {
    /// The abstract state.
    pub fn state(&self) -> State {
        self.level().state()
    }

    /// The bits.
    pub fn level(&self) -> Level {
        self.0.machine.lock().level
    }

    /// What it was made of.
    pub fn config(&self) -> Config {
        self.0.machine.lock().config.clone()
    }

    /// Whether its state says that it runs although it stands still (K3).
    pub fn stands_still(&self) -> bool {
        self.0.machine.lock().frozen
    }

    /// A copy of the internal state.
    pub fn content(&self) -> Vec<u8> {
        self.0.machine.lock().content.bytes.clone()
    }

    /// A sum over the internal state.
    pub fn checksum(&self) -> u64 {
        self.0.machine.lock().content.checksum()
    }

    /// Bytes of the internal state.
    pub fn state_size(&self) -> usize {
        self.0.machine.lock().content.bytes.len()
    }

    /// Whether two devices have the same state.
    pub fn same_content(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.content() == other.content()
    }

    /// What the client did wrong (at most the first 1000).
    pub fn violations(&self) -> Vec<Violation> {
        self.0.machine.lock().judge.list.clone()
    }

    /// How often it did.
    pub fn violation_count(&self) -> u64 {
        self.0.machine.lock().judge.count
    }

    /// The violations; afterwards there are none.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.0.machine.lock().judge).list
    }

    /// # Panics
    /// If there is a violation.
    pub fn assert_clean(&self) {
        let list: Vec<String> = self.violations().iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "violations:\n{}", list.join("\n"));
    }

    /// Every step so far.
    pub fn transitions(&self) -> Vec<Transition> {
        self.0.machine.lock().transitions.clone()
    }

    /// Every access so far.
    pub fn calls(&self) -> Vec<Access> {
        self.0.machine.lock().faults.calls.clone()
    }

    /// How many accesses of a kind; `Any`: of all.
    pub fn count(&self, access: Access) -> u64 {
        self.0.machine.lock().faults.count(access)
    }

    /// v2: data sessions for which a descriptor was handed out.
    pub fn sessions_opened(&self) -> u64 {
        self.0.machine.lock().sessions.opened
    }

    /// v2: data fds closed; not known with a real descriptor.
    pub fn sessions_closed(&self) -> u64 {
        self.0.machine.lock().sessions.closed
    }

    /// v1, draft: mappings that are not undone.
    pub fn mappings(&self) -> usize {
        self.0.machine.lock().region.as_ref().map_or(0, |region| region.maps.len())
    }

    /// Resets that were done.
    pub fn resets(&self) -> u64 {
        self.0.machine.lock().resets
    }

    /// (touches, DMA writes) refused because of the state.
    pub fn refused(&self) -> (u64, u64) {
        let m = self.0.machine.lock();
        (m.touch_refused, m.dma.refused)
    }

    /// The pages written since this was called last.
    pub fn take_dma_log(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.0.machine.lock().dma.exact)
    }

    /// Guest RAM: page → how often this device wrote it.
    pub fn ram(&self) -> BTreeMap<u64, u64> {
        self.0.machine.lock().dma.ram.clone()
    }

    /// Whether DMA logging is on.
    pub fn dma_logging(&self) -> bool {
        self.0.machine.lock().dma.tracker.is_some()
    }

    /// The ranges {iova, size} that DMA logging was started for.
    pub fn dma_ranges(&self) -> Vec<(u64, u64)> {
        self.0.machine.lock().dma.tracker.as_ref().map_or_else(Vec::new, |tracker| tracker.ranges())
    }

    /// Something goes wrong.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.0.machine.lock().faults.inject(fault)
    }

    /// How often the fault was met.
    pub fn fault_reached(&self, id: FaultId) -> u64 {
        self.0.machine.lock().faults.reached(id)
    }

    /// No fault goes on; what was reached stays known.
    pub fn clear_faults(&self) {
        self.0.machine.lock().faults.clear();
    }

    /// From here on SAVING may be left with data unread.
    pub fn allow_abort(&self, allowed: bool) {
        self.0.machine.lock().config.abort_allowed = allowed;
    }
}
