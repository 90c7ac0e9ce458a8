//! What one call, and one device, may cost: bytes of a data call, mappings of the process, parts of a draft's dirty log.

use super::server::Server;
use super::*;
use std::ptr::NonNull;
use std::time::{Duration, Instant};
use vfiomig::error::Errno;
use vfiomig::group::{self, Group};
use vfiomig::migration::Migration;
use vfiomig::tracker;
use vfiomig::transport::{DataFd, Mapped, Returned, Transport};

/// A call moves at most one buffer, also where a window is mapped, so that a state change never waits long for it.
#[test]
fn a_data_call_moves_at_most_one_buffer() {
    const BUFFER: usize = 4096;
    for window in [Window::Trapped, Window::Area] {
        let config = Config { window_size: 1 << 20, judge_content: false, ..Config::v1(window) }.state_size(300_000);
        let config = Config { segment_size: 200_000, window_size: 1 << 20, ..config };
        let sim = simdev::Device::new(config.seeded(1));
        sim.allow_abort(true);
        let options = DeviceOptions { name: "vf0".into(), buffer_size: Some(BUFFER), ..DeviceOptions::default() };
        let device = Device::new(sim.transport(), options).unwrap();
        set(&device, State::StopCopy).unwrap();
        let mut file = tempfile();
        assert_eq!(device.send(file.as_fd(), 0).unwrap().0, BUFFER);
        assert_eq!(device.read(&mut vec![0; 100_000]).unwrap().0, BUFFER);
        device.reset().unwrap();
        set(&device, State::Resuming).unwrap();
        file.write_all(&[3; 50_000]).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0)).unwrap();
        assert_eq!(device.receive(file.as_fd(), 50_000, true).unwrap(), BUFFER);
        device.close().unwrap();
    }
}

/// A long write is one of buffers, between which others have their turn.
#[test]
fn a_long_write_lets_others_in() {
    const BUFFER: usize = 4096;
    for config in [Config::v1(Window::Trapped), Config::v2(vfiomig::dialect::Caps { p2p: true, pre_copy: true })] {
        let config = Config { precopy: Precopy::Nothing, ..config }.segments(60_000).state_size(50_000);
        let source = simdev::Device::new(config.clone().seeded(7));
        let from = open(&source, "source");
        set(&from, State::StopCopy).unwrap();
        let is_v1 = from.info().dialect == Some(DialectKind::V1);
        let mut segments = vec![Vec::new()];
        let mut buf = vec![0; 10_000];
        while let (n @ 1.., flags) = from.read(&mut buf).unwrap() {
            segments.last_mut().unwrap().extend(&buf[..n]);
            if flags.contains(SEGMENT_END) {
                segments.push(Vec::new());
            }
        }
        let (stream, others) = segments.split_first().unwrap();
        let (len, total) = (stream.len(), from.info().saved_bytes);
        assert!(len > 40_000);
        for reset in [false, true] {
            let target = simdev::Device::new(config.clone());
            let options =
                DeviceOptions { name: "target".into(), buffer_size: Some(BUFFER), ..DeviceOptions::default() };
            let to = Device::new(target.transport(), options).unwrap();
            set(&to, State::Resuming).unwrap();
            let pieces = len.div_ceil(BUFFER) as u64;
            target.inject(Fault::from(Access::DataWrite, 0, Effect::Delay(Duration::from_millis(30))));
            std::thread::scope(|scope| {
                let writer = scope.spawn(|| to.write(stream, is_v1));
                while target.count(Access::DataWrite) < 2 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                // A call that waits for the device.
                if reset {
                    to.reset().unwrap()
                } else {
                    let _ = to.observe().unwrap();
                }
                let writes = target.count(Access::DataWrite);
                assert!(writes < pieces, "it waited for {writes} of {pieces} pieces");
                let outcome = writer.join().unwrap();
                if !reset {
                    outcome.unwrap();
                    return;
                }
                let error = outcome.unwrap_err();
                let taken = format!("{} of {len} bytes were taken", writes as usize * BUFFER);
                assert!(error.to_string().contains(&taken), "{error}");
            });
            if !reset {
                others.iter().for_each(|segment| to.write(segment, is_v1).unwrap());
                to.finish(Some(total)).unwrap();
                set(&to, State::Running).unwrap();
                assert!(source.same_content(&target));
            }
        }
        // What does not fit is refused before any piece of it moves.
        if is_v1 {
            let target = simdev::Device::new(config.clone());
            let options =
                DeviceOptions { name: "target".into(), buffer_size: Some(BUFFER), ..DeviceOptions::default() };
            let to = Device::new(target.transport(), options).unwrap();
            set(&to, State::Resuming).unwrap();
            assert_eq!(to.write(&vec![0; 70_000], true).unwrap_err().errno(), libc::EMSGSIZE);
            assert_eq!(target.count(Access::DataWrite), 0);
            to.finish(Some(0)).unwrap();
        }
    }
}

/// A memory file.
fn tempfile() -> std::fs::File {
    // SAFETY: the name is a C string; the flag needs nothing more.
    let fd = unsafe { libc::memfd_create(c"bounds".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new and ours.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

/// A list of 4000 areas costs the process 64 mappings, and the rest is trapped.
#[test]
fn a_device_cannot_use_up_the_mappings_of_the_process() {
    // Every other page, and one large area among them: the largest ones are taken.
    let mut areas: Vec<(u64, u64)> = (0..2000).map(|i| (4096 + i * 8192, 4096)).collect();
    areas[1500].1 = 8192;
    let config = Config { window_size: 2000 * 8192, ..Config::v1(Window::Areas(areas)) }.state_size(200_000);
    let config = Config { segment_size: 100_000, ..config };
    let pair = Pair::new(&config, Quirks::default());
    migrate(&pair.from, &pair.to, Way::Lend(0), || ()).unwrap();
    assert_eq!((pair.source.mappings(), pair.target.mappings()), (64, 64));
    assert_eq!(pair.source.count(Access::RegionMap), 64);
    assert!(pair.source.count(Access::DataRead) > 0, "the rest is trapped");
    assert!(pair.source.same_content(&pair.target));
    pair.finish();
}

fn draft(server: &Server) -> Device {
    let device = draft_at_rest(server);
    set(&device, State::PreCopy).unwrap();
    device
}

fn draft_at_rest(server: &Server) -> Device {
    let options = DeviceOptions { name: "vf0".into(), ..DeviceOptions::default() };
    let device = Device::new(Box::new(server.clone()), options).unwrap();
    assert_eq!(device.info().dialect, Some(DialectKind::Draft));
    device
}

/// Pages reported as dirty, and how many of them without a bitmap.
fn harvest(device: &Device, total: u64) -> (Result<(), Error>, u64, u64) {
    let (mut dirty, mut unsaid) = (0, 0);
    let outcome = device.dirty_pfns(PfnRange { start: 0, page_size: 4096, total }, &mut |pfns| match pfns {
        Pfns::All { count, .. } => {
            dirty += count;
            unsaid += count;
        }
        Pfns::Bits { count, bitmap, .. } => {
            assert!(bitmap.len() <= 64 << 10, "a piece of {} bytes", bitmap.len());
            let bits: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
            dirty += bits.min(count);
        }
    });
    (outcome, dirty, unsaid)
}

/// A log that comes a page at a time is given up after a second, and the rest is reported as dirty.
#[test]
fn a_harvest_of_crumbs_ends() {
    let server = Server::new(2, Vec::new(), 16);
    let device = draft(&server);
    server.model().copied = 1;
    // 64 GiB.
    let total = 16 << 20;
    let begun = Instant::now();
    let (outcome, dirty, unsaid) = harvest(&device, total);
    let took = begun.elapsed();
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("vf0") && error.to_string().contains("parts of 1 pages"), "{error}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(dirty, total, "each page was told once");
    assert!(unsaid > 0 && unsaid < total);
    // A log that comes in small parts, but soon, is read to its end.
    assert_eq!(harvest(&device, 2000).0.map_err(|error| error.to_string()), Ok(()));
}

/// The memory of a read does not grow with the range.
#[test]
fn a_large_bitmap_is_read_in_pieces() {
    let server = Server::new(2, Vec::new(), 16);
    server.model().size = 0x8000 + (1 << 20);
    let device = draft(&server);
    // 5 pieces of 64 KiB and a bit.
    let total = 5 * (64 << 10) * 8 + 77;
    server.model().copied = total;
    let (outcome, dirty, unsaid) = harvest(&device, total);
    outcome.unwrap();
    assert_eq!((dirty, unsaid), (total, 0));
    assert_eq!(server.model().log.iter().filter(|name| **name == "bitmap").count(), 6);
}

/// A log can be read in the next migration although what was sent of the stream before is void.
#[test]
fn a_void_stream_does_not_close_the_log() {
    let (sim, device) = open_draft(DraftForm::Sticky);
    sim.allow_abort(true);
    set(&device, State::PreCopy).unwrap();
    device.read(&mut [0; 100]).unwrap();
    set(&device, State::Running).unwrap();
    assert_eq!(dirty_pages(&device, 0, 10).unwrap_err().0.kind(), ErrorKind::Order, "its log answers only in SAVING");
    set(&device, State::PreCopy).unwrap();
    assert_eq!(device.read(&mut [0; 100]).unwrap_err().kind(), ErrorKind::Stale);
    sim.dma_write(20).unwrap();
    assert_eq!(dirty_pages(&device, 0, 300).unwrap(), BTreeSet::from([20]));
}

/// A cancel of the device's migration is looked at between two parts of the log, and what is left is dirty.
#[test]
fn a_cancel_ends_a_harvest() {
    let server = Server::new(2, Vec::new(), 16);
    let device = std::sync::Arc::new(draft_at_rest(&server));
    let group = std::sync::Arc::new(Group::new(group::GroupOptions::default()));
    group.add_device(std::sync::Arc::clone(&device)).unwrap();
    let everything = tracker::TrackerOptions { everything: true, ..tracker::TrackerOptions::default() };
    group.add_tracker(std::sync::Arc::new(tracker::Tracker::new(everything).unwrap())).unwrap();
    let migration = Migration::new(group, vfiomig::dialect::Direction::Save).unwrap();
    set(&device, State::PreCopy).unwrap();
    // A bitmap without a bit: only what is reported without one is dirty.
    (server.model().copied, server.model().bits) = (1000, 0);
    assert_eq!(harvest(&device, 100_000).1, 0);
    migration.cancel();
    let (outcome, dirty, _) = harvest(&device, 100_000);
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
    assert_eq!(dirty, 100_000 - 1000, "the rest is dirty, never clean");
    // One part needs no second question.
    harvest(&device, 1000).0.unwrap();
}

/// Device memory that neither the kernel nor anyone else can read.
struct Gone(Box<dyn Transport>);

impl Transport for Gone {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.0.device_info(info)
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.0.region_info(info)
    }
    fn region_read(&self, index: u32, at: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.0.region_read(index, at, buf)
    }
    fn region_write(&self, index: u32, at: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.0.region_write(index, at, buf)
    }
    fn region_map(&self, _: u32, _: u64, len: usize) -> Result<Mapped, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        let unmap = |memory: NonNull<u8>, len| {
            // SAFETY: the mapping made above.
            unsafe { libc::munmap(memory.as_ptr().cast(), len) };
        };
        // SAFETY: the test reaches it through the kernel only, which finds that it cannot be read.
        Ok(unsafe { Mapped::new(NonNull::new(memory.cast()).unwrap(), len, unmap) })
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        self.0.open_data(data_fd)
    }
    fn reset(&self) -> Result<(), Errno> {
        self.0.reset()
    }
}

/// Device memory that cannot be reached is the device's failure, not the descriptor's.
#[test]
fn memory_that_is_gone_is_the_devices() {
    let sim = simdev::Device::new(Config::v1(Window::Area).seeded(1));
    sim.allow_abort(true);
    let device =
        Device::new(Box::new(Gone(sim.transport())), DeviceOptions { name: "vf0".into(), ..DeviceOptions::default() });
    let device = device.unwrap();
    let (mut near, far) = UnixStream::pair().unwrap();
    set(&device, State::StopCopy).unwrap();
    let error = device.send(near.as_fd(), 0).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Device, libc::EFAULT), "{error}");
    assert!(!error.to_string().contains("caller"), "{error}");
    device.reset().unwrap();
    set(&device, State::Resuming).unwrap();
    near.write_all(&[1; 100]).unwrap();
    let error = device.receive(far.as_fd(), 100, true).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Device, libc::EFAULT), "{error}");
    assert!(!error.to_string().contains("caller"), "{error}");
    device.close().unwrap();
}
