//! Software devices in a group, with a tracker whose calls are written down.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use parking_lot::Mutex;
use simdev::{Config, DraftForm, Window};
use std::sync::Arc;
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::{Caps, DialectKind, Direction, State};
use vfiomig::error::{Errno, Result};
use vfiomig::group::{self, Group};
use vfiomig::migration::{Migration, Phase};
use vfiomig::tracker::{self, Tracker};
use vfiomig::transport::tracker_ops::LogFunctions;
use vfiomig::transport::{DataFd, Feature, PrecopyInfo, Returned, Transport};
use vfiomig::window::StreamFlags;

const EMPTY: StreamFlags = StreamFlags::EMPTY;
const END: StreamFlags = StreamFlags::END;
const SEGMENT_END: StreamFlags = StreamFlags::SEGMENT_END;

/// One of every kind of device.
pub fn kinds() -> Vec<Config> {
    let v2 = Caps::ALL.map(Config::v2);
    let region = [Config::v1(Window::Trapped), Config::v1_ndma(Window::Trapped), Config::draft(DraftForm::Rewrite)];
    v2.into_iter().chain(region).map(|config| config.state_size(3000)).collect()
}

/// All multisets of up to `max` of `items`, but the empty one.
pub fn mixes<T: Clone>(items: &[T], max: usize) -> Vec<Vec<T>> {
    let mut all = vec![(0, Vec::new())];
    let mut at = 0;
    while at < all.len() {
        let (first, chosen): (usize, Vec<T>) = all[at].clone();
        at += 1;
        if chosen.len() < max {
            for (i, item) in items.iter().enumerate().skip(first) {
                let more = chosen.iter().cloned().chain([item.clone()]).collect();
                all.push((i, more));
            }
        }
    }
    all.into_iter().map(|(_, mix)| mix).filter(|mix| !mix.is_empty()).collect()
}

pub fn caps(config: &Config) -> Caps {
    match config.dialect {
        simdev::Dialect::V2 { p2p, pre_copy } => Caps { p2p, pre_copy },
        simdev::Dialect::V1 { ndma } => Caps { p2p: ndma, pre_copy: true },
        simdev::Dialect::Draft { .. } => Caps { p2p: false, pre_copy: true },
    }
}

pub fn kind(config: &Config) -> DialectKind {
    match config.dialect {
        simdev::Dialect::V2 { .. } => DialectKind::V2,
        simdev::Dialect::V1 { .. } => DialectKind::V1,
        simdev::Dialect::Draft { .. } => DialectKind::Draft,
    }
}

/// A dirty log that remembers what it was asked; pages that were written are in `dirty`.
#[derive(Default)]
pub struct Log {
    pub calls: Mutex<Vec<&'static str>>,
    pub started: Mutex<i32>,
    pub dirty: Mutex<Vec<u64>>,
    /// The call that fails, from 0.
    pub fails_at: Mutex<Option<usize>>,
}

impl Log {
    fn call(&self, what: &'static str) -> Answer<()> {
        let mut calls = self.calls.lock();
        calls.push(what);
        if *self.fails_at.lock() == Some(calls.len() - 1) { Err(Errno::new(libc::EIO)) } else { Ok(()) }
    }
}

struct Functions(Arc<Log>);

impl LogFunctions for Functions {
    fn start(&self, page_size: u64, _ranges: &[[u64; 2]]) -> std::result::Result<u64, Errno> {
        self.0.call("start")?;
        *self.0.started.lock() += 1;
        Ok(page_size)
    }
    fn report(&self, iova: u64, _size: u64, page_size: u64, bitmap: &mut [u64]) -> std::result::Result<(), Errno> {
        self.0.call("report")?;
        for page in self.0.dirty.lock().drain(..) {
            let bit = (page * 4096 - iova) / page_size;
            bitmap[bit as usize / 64] |= 1 << (bit % 64);
        }
        Ok(())
    }
    fn stop(&self) -> std::result::Result<(), Errno> {
        self.0.call("stop")?;
        *self.0.started.lock() -= 1;
        Ok(())
    }
}

impl Log {
    /// A tracker of 64 pages with this log.
    pub fn tracker(self: &Arc<Self>, devices: &[Arc<Device>]) -> Arc<Tracker> {
        let options = tracker::TrackerOptions {
            name: "ram".into(),
            devices: devices.to_vec(),
            functions: Some(Box::new(Functions(Arc::clone(self)))),
            ..tracker::TrackerOptions::default()
        };
        let tracker = Tracker::new(options).unwrap();
        tracker.map(&[tracker::Mapping { range: tracker::IovaRange { iova: 0, size: 64 * 4096 }, cookie: 7 }]).unwrap();
        Arc::new(tracker)
    }
}

/// A group of software devices.
pub struct Rig {
    pub configs: Vec<Config>,
    pub fakes: Vec<simdev::Device>,
    pub devices: Vec<Arc<Device>>,
    pub log: Arc<Log>,
    pub tracker: Arc<Tracker>,
    pub group: Arc<Group>,
}

impl Rig {
    /// Devices with a state of their own each.
    pub fn source(configs: &[Config], max_workers: usize) -> Rig {
        let seeded: Vec<Config> =
            configs.iter().enumerate().map(|(i, config)| config.clone().seeded(i as u64 + 1)).collect();
        Rig::new(&seeded, max_workers, &|device, _| device.transport())
    }

    /// Fresh devices.
    pub fn target(configs: &[Config], max_workers: usize) -> Rig {
        Rig::new(configs, max_workers, &|device, _| device.transport())
    }

    pub fn new(
        configs: &[Config],
        max_workers: usize,
        transport: &dyn Fn(&simdev::Device, usize) -> Box<dyn Transport>,
    ) -> Rig {
        let group = Arc::new(Group::new(group::GroupOptions { max_workers, ..group::GroupOptions::default() }));
        let fakes: Vec<simdev::Device> = configs.iter().cloned().map(simdev::Device::new).collect();
        let mut devices = Vec::new();
        for (i, (fake, config)) in fakes.iter().zip(configs).enumerate() {
            let dialect = (kind(config) == DialectKind::Draft).then_some(DialectKind::Draft);
            let options =
                DeviceOptions { name: format!("d{i}"), dialect, buffer_size: Some(4096), ..DeviceOptions::default() };
            let device = Arc::new(Device::new(transport(fake, i), options).unwrap());
            group.add_device(Arc::clone(&device)).unwrap();
            devices.push(device);
        }
        let log = Arc::new(Log::default());
        let tracker = log.tracker(&devices);
        group.add_tracker(Arc::clone(&tracker)).unwrap();
        Rig { configs: configs.to_vec(), fakes, devices, log, tracker, group }
    }

    pub fn save(&self) -> Migration {
        Migration::new(Arc::clone(&self.group), Direction::Save).unwrap()
    }

    pub fn load(&self) -> Migration {
        Migration::new(Arc::clone(&self.group), Direction::Load).unwrap()
    }

    pub fn states(&self) -> Vec<State> {
        self.fakes.iter().map(simdev::Device::state).collect()
    }

    /// What the handles believe is what the devices are.
    pub fn assert_states_known(&self, what: &str) {
        let known: Vec<State> = self.devices.iter().map(|device| device.state()).collect();
        assert_eq!(known, self.states(), "{what}");
    }

    pub fn assert_clean(&self, what: &str) {
        for fake in &self.fakes {
            assert!(fake.violations().is_empty(), "{what}: {:?}", fake.violations());
        }
    }

    /// Streams may be left unread from here on, as an abort does.
    pub fn allow_abort(&self) {
        self.fakes.iter().for_each(|fake| fake.allow_abort(true));
    }

    /// A harvest as a VMM does it; the dirty pages.
    pub fn harvest(&self) -> Vec<u64> {
        let mut pages = Vec::new();
        let run = &mut |_: u64, range: tracker::IovaRange| {
            pages.extend(range.iova / 4096..(range.iova + range.size) / 4096);
            true
        };
        self.group.harvest(&mut tracker::Request { run: Some(run), ..tracker::Request::default() }).unwrap();
        pages
    }

    /// From IDLE to HALTED as a VMM does it; the streams.
    pub fn save_all(&self, migration: &Migration) -> Result<Vec<Stream>> {
        let mut streams = vec![Stream::default(); self.devices.len()];
        migration.advance(Phase::SaveTracking)?;
        migration.advance(Phase::SavePreCopy)?;
        self.drain_all(&mut streams)?;
        migration.advance(Phase::SaveP2pGrace)?;
        migration.advance(Phase::SaveStopCopy)?;
        self.drain_all(&mut streams)?;
        self.harvest();
        migration.advance(Phase::SaveHalted)?;
        Ok(streams)
    }

    /// To EMPTY or END, whatever each device is in.
    pub fn drain_all(&self, streams: &mut [Stream]) -> Result<()> {
        for (device, stream) in self.devices.iter().zip(streams) {
            if device.info().session_open {
                stream.drain(device)?;
            }
        }
        Ok(())
    }

    pub fn load_all(&self, migration: &Migration, streams: &[Stream]) -> Result<()> {
        migration.advance(Phase::LoadResuming)?;
        self.write_all(streams)?;
        migration.advance(Phase::LoadLoaded)?;
        migration.advance(Phase::LoadP2pGrace)?;
        migration.advance(Phase::LoadRunning)
    }

    pub fn write_all(&self, streams: &[Stream]) -> Result<()> {
        self.devices.iter().zip(streams).try_for_each(|(device, stream)| stream.write(device))
    }
}

/// One device's stream, as a VMM keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Bytes, and whether a segment ends with them.
    pub parts: Vec<(Vec<u8>, bool)>,
}

impl Stream {
    pub fn drain(&mut self, device: &Device) -> Result<()> {
        let end = if device.state() == State::StopCopy { END } else { EMPTY };
        let mut buf = vec![0; 1000];
        loop {
            let (len, flags) = device.read(&mut buf)?;
            if len == 0 {
                assert_eq!(flags, end);
                return Ok(());
            }
            self.parts.push((buf[..len].to_vec(), flags.contains(SEGMENT_END)));
        }
    }

    pub fn write(&self, device: &Device) -> Result<()> {
        for (bytes, segment_end) in &self.parts {
            device.write(bytes, *segment_end)?;
        }
        device.finish(Some(self.len() as u64))
    }

    pub fn len(&self) -> usize {
        self.parts.iter().map(|(bytes, _)| bytes.len()).sum()
    }
}

/// The rules about several devices, read from their own logs of what happened when.
pub fn assert_barriers(fakes: &[simdev::Device]) {
    let p2p = |state| matches!(state, State::RunningP2p | State::PreCopyP2p);
    let capable: Vec<bool> = fakes.iter().map(|fake| fake.transitions().iter().any(|t| p2p(t.to.state()))).collect();
    // Where each device is at a moment; in the middle of a step it counts as both.
    let at = |fake: &simdev::Device, when: u64| {
        let mut now = vec![State::Running];
        for t in fake.transitions() {
            if t.end_ns <= when {
                now = vec![t.to.state()];
            } else if t.begin_ns <= when {
                now.push(t.to.state());
            }
        }
        now
    };
    for (i, fake) in fakes.iter().enumerate() {
        for t in fake.transitions() {
            let (from, to) = (t.from.state(), t.to.state());
            let others = || fakes.iter().enumerate().filter(|(j, _)| *j != i && capable[*j]);
            let stopped = |s: &State| matches!(s, State::Stop | State::StopCopy | State::Resuming);
            // N5: who leaves grace towards rest finds all others in grace or at rest.
            // Fresh devices of a destination have no guest yet.
            let for_load = || fake.transitions().iter().any(|u| u.request == t.request && u.to.resuming());
            if p2p(from) && stopped(&to) && !for_load() {
                for (j, other) in others() {
                    let now = at(other, t.begin_ns);
                    assert!(
                        now.iter().all(|s| p2p(*s) || stopped(s) || *s == State::Error),
                        "d{i} {from} -> {to} while d{j} is in {now:?}"
                    );
                }
            }
            // And who begins to run finds no other that could not answer it.
            if p2p(from) && to == State::Running {
                for (j, other) in others() {
                    let now = at(other, t.begin_ns);
                    assert!(!now.iter().any(stopped), "d{i} {from} -> {to} while d{j} is in {now:?}");
                }
            }
        }
    }
}

/// A transport whose device wants all its requests on the thread that called the library.
pub struct Pinned {
    pub inner: Box<dyn Transport>,
    pub home: std::thread::ThreadId,
}

/// A transport that calls `before` ahead of each request, data calls too.
pub struct Hooked {
    pub inner: Box<dyn Transport>,
    pub before: Arc<dyn Fn() + Send + Sync>,
}

struct HookedData {
    inner: Box<dyn DataFd>,
    before: Arc<dyn Fn() + Send + Sync>,
}

type Answer<T> = std::result::Result<T, Errno>;

macro_rules! wrapped {
    ($type:ty, $self:ident, $before:block, $any:expr, $wrap:expr) => {
        impl Transport for $type {
            fn any_thread(&$self) -> bool {
                $any
            }
            fn report_adds_bits(&$self) -> bool {
                $self.inner.report_adds_bits()
            }
            fn device_info(&$self, info: &mut [u8]) -> Answer<()> {
                $before
                $self.inner.device_info(info)
            }
            fn device_feature(&$self, feature: &mut Feature) -> Answer<()> {
                $before
                $self.inner.device_feature(feature)
            }
            fn region_info(&$self, info: &mut [u8]) -> Answer<()> {
                $before
                $self.inner.region_info(info)
            }
            fn region_read(&$self, index: u32, offset: u64, buf: &mut [u8]) -> Answer<usize> {
                $before
                $self.inner.region_read(index, offset, buf)
            }
            fn region_write(&$self, index: u32, offset: u64, buf: &[u8]) -> Answer<usize> {
                $before
                $self.inner.region_write(index, offset, buf)
            }
            fn reset(&$self) -> Answer<()> {
                $before
                $self.inner.reset()
            }
            fn open_data(&$self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>> {
                $self.inner.open_data(data_fd).map($wrap)
            }
        }
    };
}

wrapped!(
    Pinned,
    self,
    {
        assert_eq!(std::thread::current().id(), self.home, "a request came on another thread");
    },
    false,
    |data| data
);

wrapped!(Hooked, self, { (self.before)() }, true, |inner| Box::new(HookedData {
    inner,
    before: Arc::clone(&self.before)
}) as Box<dyn DataFd>);

impl DataFd for HookedData {
    fn read(&mut self, buf: &mut [u8]) -> Answer<usize> {
        (self.before)();
        self.inner.read(buf)
    }
    fn write(&mut self, buf: &[u8]) -> Answer<usize> {
        (self.before)();
        self.inner.write(buf)
    }
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Answer<()> {
        (self.before)();
        self.inner.precopy_info(info)
    }
    fn wait_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inner.wait_fd()
    }
}
