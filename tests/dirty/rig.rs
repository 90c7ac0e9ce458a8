//! A small virtual machine for the trackers: RAM and its copy at the destination, an address space, devices that write through
//! it, one log of a kind, and the tracker over it.

use simdev::{Config, DmaLog, DraftForm, Iommufd, IommufdConfig, Kernel, Ram, Space, Type1, Type1Config, Writers};
use std::collections::BTreeSet;
use std::ops::Range as Pages;
use std::sync::Arc;
use vfiomig::device::{Device, OnFailure};
use vfiomig::dialect::{DialectKind, State};
use vfiomig::error::Errno;
use vfiomig::tracker::{Harvest, IovaRange, Mapping, Request, Tracker, TrackerOptions, Unmap};
use vfiomig::transport::tracker_ops::LogFunctions;

pub const P: u64 = 4096;

/// The log of a rig.
#[derive(Clone, Copy, Debug)]
pub enum Log {
    Dma(DmaLog),
    /// Devices of two kinds in turn.
    Mixed([DmaLog; 2]),
    Type1(Type1Config),
    /// Most pages of an entry of a page table.
    Hwpt(u64, Kernel),
    Draft(DraftForm),
    /// Functions in front of a device's DMA log.
    Functions(DmaLog),
    Everything,
}

impl Log {
    /// The plain one of each kind.
    pub fn all() -> Vec<Log> {
        vec![
            Log::Dma(DmaLog::default()),
            Log::Dma(DmaLog { overwrites: true, ..DmaLog::default() }),
            Log::Type1(Type1Config::default()),
            Log::Hwpt(1, Kernel::V6_12),
            Log::Draft(DraftForm::Sticky),
            Log::Draft(DraftForm::Rewrite),
            Log::Functions(DmaLog::default()),
            Log::Everything,
        ]
    }

    /// Whether it tells what was written and nothing else.
    pub fn is_exact(&self) -> bool {
        match self {
            Log::Everything | Log::Mixed(_) => false,
            Log::Dma(log) | Log::Functions(log) => log.page_size == P,
            Log::Type1(config) => !config.perpetual,
            Log::Hwpt(entry, _) => *entry == 1,
            Log::Draft(_) => true,
        }
    }
}

pub struct Rig {
    pub log: Log,
    pub ram: Ram,
    pub space: Space,
    pub devices: Vec<simdev::Device>,
    pub handles: Vec<Arc<Device>>,
    pub type1: Option<Type1>,
    pub iommufd: Option<Iommufd>,
    pub tracker: Tracker,
}

/// What was reported.
#[derive(Debug)]
pub struct Reported {
    pub harvest: Harvest,
    /// By address.
    pub pages: BTreeSet<u64>,
}

impl Reported {
    pub fn list(&self) -> Vec<u64> {
        self.pages.iter().copied().collect()
    }
}

pub fn range(first: u64, pages: u64) -> IovaRange {
    IovaRange { iova: first * P, size: pages * P }
}

fn config(log: Log, device: usize) -> Config {
    let dma_log = match log {
        Log::Mixed(logs) => Some(logs[device % 2]),
        Log::Dma(log) | Log::Functions(log) => Some(log),
        _ => None,
    };
    let base = if let Log::Draft(form) = log { Config::draft(form) } else { Config::default() };
    Config { dma_log, abort_allowed: true, state_size: 4096, ..base }
}

impl Rig {
    pub fn new(log: Log, devices: usize) -> Rig {
        Rig::with(log, devices, &Ram::new(), |_| {})
    }

    /// `edit` has the last word on how the tracker is made.
    pub fn with(log: Log, count: usize, ram: &Ram, edit: impl FnOnce(&mut TrackerOptions)) -> Rig {
        let space = Space::new(ram);
        let devices: Vec<simdev::Device> = (0..count).map(|i| simdev::Device::new(config(log, i))).collect();
        let open = |(i, d): (usize, &simdev::Device)| {
            // A draft with v1's region id must be named.
            let dialect = matches!(log, Log::Draft(_)).then_some(DialectKind::Draft);
            let options = vfiomig::device::DeviceOptions { name: format!("device{i}"), dialect, ..Default::default() };
            d.attach(&space);
            Arc::new(Device::new(d.transport(), options).unwrap())
        };
        let handles: Vec<Arc<Device>> = devices.iter().enumerate().map(open).collect();
        let mut options = TrackerOptions { name: "rig".into(), devices: handles.clone(), ..TrackerOptions::default() };
        let (mut type1, mut iommufd) = (None, None);
        match log {
            Log::Type1(config) => {
                let container = Type1::new(&space, config);
                options.container = Some(Arc::new(container.clone()));
                type1 = Some(container);
            }
            Log::Hwpt(entry, kernel) => {
                let fd = Iommufd::new(IommufdConfig { kernel, ..IommufdConfig::default() });
                let ioas = fd.ioas(&space);
                let attached = devices.iter().map(|device| {
                    let id = fd.hwpt(ioas, entry * P, true);
                    fd.attach(device, id);
                    id
                });
                options.hwpts = Some((Arc::new(fd.clone()), attached.collect()));
                options.ioas_id = Some(ioas);
                iommufd = Some(fd);
            }
            Log::Functions(_) => options.functions = Some(Box::new(LogOf(devices[0].clone()))),
            Log::Everything => options.everything = true,
            Log::Dma(_) | Log::Mixed(_) | Log::Draft(_) => {}
        }
        edit(&mut options);
        let tracker = Tracker::new(options).unwrap();
        Rig { log, ram: ram.clone(), space, devices, handles, type1, iommufd, tracker }
    }

    /// Pages of IOVA to pages of RAM. The cookie is the way from one to the other, in bytes.
    pub fn map(&self, first: u64, pages: u64, ram: u64) {
        let size = pages * P;
        self.space.map(simdev::Mapping { iova: first * P, size, ram: ram * P }).unwrap();
        let cookie = (ram * P).wrapping_sub(first * P);
        self.tracker.map(&[Mapping { range: range(first, pages), cookie }]).unwrap();
    }

    /// One to one.
    pub fn map_all(&self, list: &[(u64, u64)]) {
        list.iter().for_each(|&(first, pages)| self.map(first, pages, first));
    }

    /// Starts to track, then makes the first pass over RAM. A draft's log knows all of it if its save session is open before (D8).
    /// Returns what was
    /// written meanwhile, which the log may know or not.
    pub fn start(&self) -> BTreeSet<u64> {
        self.space.take_written();
        if matches!(self.log, Log::Draft(_)) {
            self.set_state(State::PreCopy);
        }
        self.tracker.start().unwrap();
        self.ram.copy_all();
        self.space.take_written()
    }

    pub fn set_state(&self, state: State) {
        self.handles.iter().for_each(|d| d.set_state(state, OnFailure::Keep, false).unwrap());
    }

    pub fn write(&self, pages: &[u64]) {
        pages.iter().for_each(|&page| self.devices[0].dma_write(page).unwrap());
    }

    pub fn writers(&self, ranges: &[Pages<u64>], seed: u64) -> Writers {
        Writers::start(&self.devices, ranges, seed)
    }

    /// Harvests everything, and copies what is reported.
    pub fn harvest(&self) -> Reported {
        let owed = self.ram.owed();
        let (reported, copied) = self.copying(|request| self.tracker.harvest(request).unwrap());
        let lost: Vec<&u64> = owed.difference(&copied).collect();
        assert!(lost.is_empty(), "{:?}: written before the harvest and not told: {lost:?}", self.log);
        reported
    }

    /// As `harvest`, by a test that knows better what is owed; with `no_read` what earlier reads left over.
    pub fn take(&self, no_read: bool) -> Reported {
        self.copying(|request| {
            request.no_read = no_read;
            self.tracker.harvest(request).unwrap()
        })
        .0
    }

    /// Unmaps, and copies what is reported.
    pub fn unmap(&self, first: u64, pages: u64) -> Reported {
        self.unmap_as(first, pages, |_, request| self.unmap_into(first, pages, request))
    }

    /// Nothing if it fails; what was reported is copied all the same.
    pub fn try_unmap(&self, first: u64, pages: u64) -> Option<Reported> {
        let mut failed = false;
        let (reported, _) = self.copying(|request| {
            let outcome = self.unmap_into(first, pages, request);
            failed = outcome.is_err();
            outcome.unwrap_or_default()
        });
        (!failed).then_some(reported)
    }

    pub fn unmap_as(
        &self,
        first: u64,
        pages: u64,
        unmap: impl FnOnce(IovaRange, &mut Request<'_>) -> vfiomig::Result<Harvest>,
    ) -> Reported {
        // RAM that nothing else maps.
        let last = first + (pages - 1);
        let mut behind: BTreeSet<u64> = (first..=last).filter_map(|page| self.space.ram_page(page)).collect();
        for other in self.space.mappings() {
            if !(first..=last).contains(&(other.iova / P)) {
                let used = other.ram / P..(other.ram + other.size) / P;
                behind.retain(|page| !used.contains(page));
            }
        }
        let before: BTreeSet<u64> = self.ram.owed().intersection(&behind).copied().collect();
        let (reported, copied) = self.copying(|request| unmap(range(first, pages), request).unwrap());
        // What was written until the mapping was gone can be reported by no other log.
        let lost: Vec<&u64> = before.difference(&copied).collect();
        assert!(lost.is_empty(), "{:?}: unmapped and not told: {lost:?}", self.log);
        reported
    }

    pub fn unmap_into(&self, first: u64, pages: u64, request: &mut Request<'_>) -> vfiomig::Result<Harvest> {
        let mut by = |range: IovaRange| self.space.unmap(range.iova, range.size).map(drop).map_err(Errno::new);
        let unmap = match self.log {
            Log::Type1(_) | Log::Hwpt(..) => Unmap::Library,
            _ => Unmap::By(&mut by),
        };
        self.tracker.unmap(range(first, pages), unmap, false, request)
    }

    /// What `harvest` tells, and the pages of RAM that were copied for it.
    fn copying(&self, harvest: impl FnOnce(&mut Request<'_>) -> Harvest) -> (Reported, BTreeSet<u64>) {
        let (mut pages, mut copied) = (BTreeSet::new(), BTreeSet::new());
        let mut run = |cookie: u64, run: IovaRange| {
            assert!(run.size > 0 && (run.iova | run.size) % P == 0, "{run:?}");
            for page in 0..run.size / P {
                let ram = run.iova.wrapping_add(cookie) / P + page;
                self.ram.copy(ram);
                copied.insert(ram);
                // Two devices may have written the same page: each of their logs tells it.
                pages.insert(run.iova / P + page);
            }
            true
        };
        let harvest = harvest(&mut Request { run: Some(&mut run), ..Request::default() });
        (Reported { harvest, pages }, copied)
    }

    /// Stops the devices, and harvests for the last time.
    pub fn finish(&self) -> Reported {
        self.set_state(State::StopCopy);
        let reported = self.harvest();
        self.ram.assert_same();
        reported
    }

    /// No offence was recorded.
    pub fn assert_clean(&self) {
        self.devices.iter().for_each(simdev::Device::assert_clean);
        self.type1.iter().for_each(|c| c.watch().assert_clean());
        self.iommufd.iter().for_each(|fd| fd.watch().assert_clean());
    }
}

/// A device's DMA log as functions of a VMM.
pub struct LogOf(pub simdev::Device);

impl LogOf {
    fn request(&self, flags: u32, payload: &[u64]) -> Result<u64, Errno> {
        let argsz = 8 + payload.len() as u32 * 8;
        let mut bytes: Vec<u8> = [argsz, flags].iter().flat_map(|v| v.to_ne_bytes()).collect();
        bytes.extend(payload.iter().flat_map(|v| v.to_ne_bytes()));
        self.0.feature(&mut bytes).map_err(Errno::new)?;
        Ok(bytes.get(8..16).map_or(0, |b| u64::from_ne_bytes(b.try_into().unwrap())))
    }
}

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;

impl LogFunctions for LogOf {
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        let count = u32::try_from(ranges.len()).unwrap().to_ne_bytes();
        let count = u64::from_ne_bytes([count[0], count[1], count[2], count[3], 0, 0, 0, 0]);
        self.request(6 | SET, &[page_size, count, ranges.as_ptr() as u64])
    }

    fn report(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        self.request(8 | GET, &[iova, size, page_size, bitmap.as_mut_ptr() as u64]).map(drop)
    }

    fn stop(&self) -> Result<(), Errno> {
        self.request(7 | SET, &[]).map(drop)
    }
}
