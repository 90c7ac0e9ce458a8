//! The requests of a client, as a kernel driver gets them; errors are positive errno values.

use crate::base::judge::hurt;
use crate::config::{Config, DataPath};
use crate::dialects::{BAR, BAR_SIZE, MIGRATION_REGION, region, v2};
use crate::machine::{Access, Busy, Effect, Machine};
use parking_lot::Mutex;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use vfiomig::dialect::State;

/// The device behind every handle, transport and table.
pub(crate) struct Shared {
    pub machine: Mutex<Machine>,
    pub v2: bool,
    pub real_fd: bool,
    pub report_adds_bits: bool,
    /// Clients that have it open.
    transports: AtomicUsize,
    /// The last one has closed it.
    pub fd_closed: AtomicBool,
}

impl Shared {
    /// In RUNNING.
    pub fn new(config: Config) -> Self {
        Shared {
            v2: config.is_v2(),
            real_fd: config.data == DataPath::RealFd,
            report_adds_bits: config.dma_log.is_some_and(|log| !log.overwrites),
            transports: AtomicUsize::new(0),
            fd_closed: AtomicBool::new(false),
            machine: Mutex::new(Machine::new(config)),
        }
    }

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
        v2::feature(self.machine.lock(), bytes)
    }

    /// An access to a BAR of so many bytes.
    pub fn bar(&self, size: u64, offset: u64, len: usize) -> Result<usize, i32> {
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
        if offset.checked_add(len as u64).is_some_and(|end| end <= size) { Ok(len) } else { Err(libc::EINVAL) }
    }

    pub fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, i32> {
        match index {
            BAR => self.bar(BAR_SIZE, offset, buf.len()).inspect(|_| buf.fill(0)),
            MIGRATION_REGION if !self.v2 => region::read(self.machine.lock(), offset, buf),
            _ => Err(libc::EINVAL),
        }
    }

    pub fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, i32> {
        match index {
            BAR => self.bar(BAR_SIZE, offset, buf.len()),
            MIGRATION_REGION if !self.v2 => region::write(self.machine.lock(), offset, buf),
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
