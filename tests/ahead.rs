//! A save that reads ahead of its caller: the same bytes, order, segments and sizes as without; errors where they happened; memory within
//! its bound; and no thread, and no read, behind whatever ends it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "ahead/beside.rs"]
mod beside;
#[path = "common/rig.rs"]
mod rig;
#[path = "ahead/troubles.rs"]
mod troubles;

use rig::{Pinned, Rig, Stream, kinds};
use simdev::{Access, Config, Effect, Fault, Window};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};
use vfiomig::device::{Device, OnFailure};
use vfiomig::dialect::{Caps, DialectKind, Direction, State};
use vfiomig::error::{Errno, ErrorKind};
use vfiomig::internals::refuse_threads_beyond;
use vfiomig::migration::{AbortTo, EntryKind, Migration, MigrationOptions, Phase};
use vfiomig::transport::{DataFd, Feature, PrecopyInfo, Returned, Transport};
use vfiomig::window::StreamFlags;

const END: StreamFlags = StreamFlags::END;
const SEGMENT_END: StreamFlags = StreamFlags::SEGMENT_END;
const LEAST: usize = 16 << 10;
/// Beyond it something waits that should not.
const LONG: Duration = Duration::from_secs(20);

fn save_ahead(rig: &Rig, queue_bytes: usize) -> Migration {
    Migration::with_options(Arc::clone(&rig.group), Direction::Save, MigrationOptions { queue_bytes }).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a test sees and does of a device's data.
#[derive(Default)]
struct Tap {
    /// Bytes that were read of the device in this session.
    read: AtomicUsize,
    /// Reads that have begun, and those of them that are in progress.
    reads: AtomicUsize,
    inside: AtomicUsize,
    /// Fails once so many bytes were read.
    fails_at: Mutex<Option<(usize, i32)>>,
    /// A read waits here.
    hangs: Mutex<bool>,
    let_go: Condvar,
    /// Time for each KiB.
    per_kib: Duration,
    /// The stream is so many zeros, and costs no processor.
    zeros: Option<usize>,
}

impl Tap {
    fn hang(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.let_go.notify_all();
    }
}

/// A v2 device with a tap.
struct Tapped {
    inner: Box<dyn Transport>,
    tap: Arc<Tap>,
}

struct TappedData {
    inner: Box<dyn DataFd>,
    tap: Arc<Tap>,
}

impl Transport for Tapped {
    fn any_thread(&self) -> bool {
        true
    }
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.inner.device_info(info)
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        self.inner.device_feature(feature)
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.inner.region_info(info)
    }
    fn reset(&self) -> Result<(), Errno> {
        self.inner.reset()
    }
    fn open_data(&self, data_fd: Option<Returned>) -> vfiomig::Result<Box<dyn DataFd>> {
        self.tap.read.store(0, Ordering::SeqCst);
        Ok(Box::new(TappedData { inner: self.inner.open_data(data_fd)?, tap: Arc::clone(&self.tap) }))
    }
}

impl DataFd for TappedData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.tap.reads.fetch_add(1, Ordering::SeqCst);
        self.tap.inside.fetch_add(1, Ordering::SeqCst);
        let done = self.read_it(buf);
        self.tap.inside.fetch_sub(1, Ordering::SeqCst);
        done
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        self.inner.write(buf)
    }
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        self.inner.precopy_info(info)
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wait_fd()
    }
}

impl TappedData {
    fn read_it(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut hangs = self.tap.hangs.lock().unwrap();
        while *hangs {
            hangs = self.tap.let_go.wait(hangs).unwrap();
        }
        drop(hangs);
        let before = self.tap.read.load(Ordering::SeqCst);
        let mut most = buf.len();
        let mut fails_at = self.tap.fails_at.lock().unwrap();
        match *fails_at {
            Some((at, errno)) if at <= before => {
                *fails_at = None;
                return Err(Errno::new(errno));
            }
            Some((at, _)) => most = most.min(at - before),
            None => {}
        }
        drop(fails_at);
        let len = match self.tap.zeros {
            Some(all) => most.min(all - before),
            None => self.inner.read(&mut buf[..most])?,
        };
        self.tap.read.fetch_add(len, Ordering::SeqCst);
        std::thread::sleep(self.tap.per_kib * len as u32 / 1024);
        Ok(len)
    }
}

/// So many v2 devices with taps.
fn tapped(caps: Caps, size: usize, count: usize, per_kib: Duration) -> (Rig, Vec<Arc<Tap>>) {
    with_taps(caps, size, (0..count).map(|_| Arc::new(Tap { per_kib, ..Tap::default() })).collect())
}

fn with_taps(caps: Caps, size: usize, taps: Vec<Arc<Tap>>) -> (Rig, Vec<Arc<Tap>>) {
    let count = taps.len();
    let configs: Vec<Config> = (0..count).map(|i| Config::v2(caps).state_size(size).seeded(i as u64 + 1)).collect();
    let transport = |fake: &simdev::Device, i: usize| -> Box<dyn Transport> {
        Box::new(Tapped { inner: fake.transport(), tap: Arc::clone(&taps[i]) })
    };
    (Rig::new(&configs, 0, &transport), taps)
}

const P2P: Caps = Caps { p2p: true, pre_copy: false };

/// How a VMM takes a stream.
#[derive(Clone, Copy, Debug)]
enum Take {
    Read(usize),
    /// Consumes so many bytes of each chunk.
    Peek(usize),
    Send,
}

/// To END; bytes, and where segments end.
fn take(device: &Device, how: Take) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    let mut buf = vec![0; 1 << 20];
    let mut file = tempfile::tempfile().unwrap();
    loop {
        let flags = match how {
            Take::Read(most) => {
                let (len, flags) = device.read(&mut buf[..most]).unwrap();
                bytes.extend_from_slice(&buf[..len]);
                flags
            }
            Take::Peek(most) => {
                let chunk = device.peek(0).unwrap();
                let len = chunk.len().min(most);
                bytes.extend_from_slice(&chunk[..len]);
                let (flags, whole, left) = (chunk.flags(), len == chunk.len(), chunk.segment_left());
                assert!(left.is_none_or(
                    |left| left >= chunk.len() as u64 && (left > chunk.len() as u64) != flags.contains(SEGMENT_END)
                ));
                device.consume(chunk, len).unwrap();
                if whole { flags } else { flags - SEGMENT_END }
            }
            Take::Send => device.send(file.as_fd(), 0).unwrap().1,
        };
        if flags.contains(SEGMENT_END) {
            ends.push(bytes.len());
        }
        if flags.contains(END) {
            break;
        }
    }
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(device.info().saved_bytes, bytes.len() as u64);
    (bytes, ends)
}

fn all_kinds() -> Vec<Config> {
    let mapped = Config::v1_ndma(Window::Area).state_size(3000);
    kinds().into_iter().chain([mapped]).enumerate().map(|(i, config)| config.state_size(60_000 + i * 7)).collect()
}

#[test]
fn streams_are_those_of_a_caller_that_reads_for_itself() {
    let configs = all_kinds();
    let lone = Rig::source(&configs, 0);
    let save = lone.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let expected: Vec<_> = lone.devices.iter().map(|device| take(device, Take::Peek(usize::MAX))).collect();
    assert!(expected.iter().any(|(_, ends)| ends.len() > 2));
    for queue_bytes in [LEAST * configs.len(), 64 << 20] {
        for how in
            [Take::Read(37), Take::Read(1000), Take::Read(1 << 20), Take::Peek(700), Take::Peek(usize::MAX), Take::Send]
        {
            let source = Rig::source(&configs, 0);
            let save = save_ahead(&source, queue_bytes);
            save.advance(Phase::SaveStopCopy).unwrap();
            for (i, device) in source.devices.iter().enumerate().rev() {
                if matches!(how, Take::Read(37)) && i % 3 > 0 {
                    continue;
                }
                let (bytes, ends) = take(device, how);
                assert!(bytes == expected[i].0, "{how:?} {queue_bytes} d{i}");
                if !matches!(how, Take::Send) {
                    assert_eq!(ends, expected[i].1, "{how:?} {queue_bytes} d{i}");
                }
                assert_eq!(device.pending_exact().unwrap().stop_copy_bytes, Some(0));
                // It stays the end.
                assert_eq!(device.read(&mut [0; 9]).unwrap(), (0, END));
            }
            if source.devices.iter().all(|device| device.info().complete) {
                source.harvest();
                save.advance(Phase::SaveHalted).unwrap();
            }
            source.assert_clean("read ahead");
        }
    }
}

#[test]
fn a_whole_migration_is_what_it_is_without_queues() {
    for max_workers in [0, 1, 2] {
        for threads in [usize::MAX, 0] {
            let configs = all_kinds();
            let source = Rig::source(&configs, max_workers);
            refuse_threads_beyond(threads);
            let save = save_ahead(&source, 4 << 20);
            // Pre-copy before it, whose bytes come first.
            let streams = source.save_all(&save).unwrap();
            let target = Rig::target(&configs, max_workers);
            target.load_all(&target.load(), &streams).unwrap();
            refuse_threads_beyond(usize::MAX);
            assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
            source.assert_clean("read ahead");
            target.assert_clean("read ahead");
        }
    }
}

#[test]
fn drains_of_the_library_take_from_the_queues() {
    let configs = all_kinds();
    let source = Rig::source(&configs, 0);
    let save = save_ahead(&source, 1 << 20);
    save.advance(Phase::SaveStopCopy).unwrap();
    let mut streams = vec![Stream::default(); configs.len()];
    let round = save
        .save_complete(&[], &mut |piece| {
            streams[piece.device].parts.push((piece.bytes.to_vec(), piece.segment_end));
            Ok(())
        })
        .unwrap();
    assert!(streams.iter().zip(&round.bytes).all(|(stream, bytes)| stream.len() as u64 == *bytes));
    source.harvest();
    save.advance(Phase::SaveHalted).unwrap();
    let target = Rig::target(&configs, 0);
    target.load_all(&target.load(), &streams).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    source.assert_clean("drain");
}

/// A chunk that is lent in PRE_COPY is the caller's in STOP_COPY, and what follows it is not read before it comes back.
#[test]
fn a_chunk_of_precopy_goes_into_stop_copy() {
    for config in
        [Config::v2(Caps { p2p: true, pre_copy: true }), Config::v1_ndma(Window::Trapped), Config::v1(Window::Area)]
    {
        let config = config.state_size(60_000);
        let whole = |queue_bytes: usize| {
            let rig = Rig::source(std::slice::from_ref(&config), 0);
            let save = if queue_bytes > 0 { save_ahead(&rig, queue_bytes) } else { rig.save() };
            save.advance(Phase::SavePreCopy).unwrap();
            let device = &rig.devices[0];
            let chunk = device.peek(0).unwrap();
            let half = chunk.len() / 2;
            save.advance(Phase::SaveStopCopy).unwrap();
            let mut bytes = chunk[..half].to_vec();
            device.consume(chunk, half).unwrap();
            let (rest, _) = {
                let mut rest = Vec::new();
                let mut buf = vec![0; 1234];
                loop {
                    let (len, flags) = device.read(&mut buf).unwrap();
                    rest.extend_from_slice(&buf[..len]);
                    if flags.contains(END) {
                        break (rest, flags);
                    }
                }
            };
            bytes.extend(rest);
            rig.assert_clean("chunk");
            bytes
        };
        assert!(whole(1 << 20) == whole(0));
    }
}

/// Sizes go down with what the caller takes, not with what the library reads.
#[test]
fn sizes_are_the_callers() {
    for config in all_kinds() {
        let left = |queue_bytes: usize| {
            let rig = Rig::source(std::slice::from_ref(&config), 0);
            let save = if queue_bytes > 0 { save_ahead(&rig, queue_bytes) } else { rig.save() };
            save.advance(Phase::SaveStopCopy).unwrap();
            if queue_bytes > 0 && rig::kind(&config) != DialectKind::Draft {
                std::thread::sleep(Duration::from_millis(20));
            }
            let mut seen = vec![rig.devices[0].pending_exact().unwrap().stop_copy_bytes];
            let mut taken = 0;
            while taken < 30_000 {
                taken += rig.devices[0].read(&mut vec![0; 30_000 - taken]).unwrap().0;
            }
            seen.push(rig.devices[0].pending().stop_copy_bytes);
            assert_eq!(rig.devices[0].info().saved_bytes, 30_000);
            seen
        };
        assert_eq!(left(1 << 20), left(0), "{config:?}");
    }
}

/// A VM that is handed over by one word is read as well.
#[test]
fn a_stop_that_hands_over_begins_it() {
    let (rig, taps) = tapped(P2P, 64 << 10, 2, Duration::ZERO);
    let _save = save_ahead(&rig, 1 << 20);
    rig.group.stop(true).outcome.unwrap();
    until("both are read", || taps.iter().all(|tap| tap.read.load(Ordering::SeqCst) >= 64 << 10));
    rig.allow_abort();
    let started = rig.group.start();
    started.outcome.unwrap();
    assert!(rig.states().iter().all(|state| *state == State::Running));
}
