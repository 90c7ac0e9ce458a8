//! The migration region, v1 and draft, against the strict software devices of simdev: every window kind, every way to move
//! bytes, every register a liar, every access a failure. Rules: families V1 and D.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "region/bounds.rs"]
mod bounds;
#[path = "region/faults.rs"]
mod faults;
#[path = "region/fence.rs"]
mod fence;
#[path = "region/found.rs"]
mod found;
#[path = "region/lent.rs"]
mod lent;
#[path = "region/log.rs"]
mod log;
#[path = "region/particular.rs"]
mod particular;
#[path = "region/server.rs"]
mod server;
#[path = "region/unseen.rs"]
mod unseen;
#[path = "region/windows.rs"]
mod windows;

use proptest::prelude::*;
use simdev::{Access, Config, DraftForm, Effect, Fault, Precopy, Trapped, Window};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::{DialectKind, PfnRange, Pfns, State};
use vfiomig::error::{Error, ErrorKind};
use vfiomig::transport::Transport;
use vfiomig::window::raw::DEVICE_MEM;
use vfiomig::window::{Quirks, StreamFlags};

const EMPTY: StreamFlags = StreamFlags::EMPTY;
const END: StreamFlags = StreamFlags::END;
const SEGMENT_END: StreamFlags = StreamFlags::SEGMENT_END;

/// A draft with v1's region id must be named (D16); the others are found.
fn open_as(sim: &simdev::Device, name: &str, draft: bool, quirks: Quirks) -> Result<Device, Error> {
    let dialect = draft.then_some(DialectKind::Draft);
    let options =
        DeviceOptions { name: name.into(), dialect, quirks, buffer_size: Some(8192), ..DeviceOptions::default() };
    Device::new(sim.transport(), options)
}

fn open_on(transport: Box<dyn Transport>, quirks: Quirks) -> Device {
    let options = DeviceOptions { name: "vf0".into(), quirks, buffer_size: Some(8192), ..DeviceOptions::default() };
    Device::new(transport, options).unwrap()
}

fn open_with(sim: &simdev::Device, name: &str, quirks: Quirks) -> Result<Device, Error> {
    open_as(sim, name, false, quirks)
}

fn open(sim: &simdev::Device, name: &str) -> Device {
    open_with(sim, name, Quirks::default()).unwrap()
}

fn open_draft(form: DraftForm) -> (simdev::Device, Device) {
    draft_of(Config::draft(form))
}

fn draft_of(config: Config) -> (simdev::Device, Device) {
    let sim = simdev::Device::new(config);
    let device = open_as(&sim, "vf0", true, Quirks::default()).unwrap();
    assert_eq!(device.info().dialect, Some(DialectKind::Draft));
    (sim, device)
}

fn set(device: &Device, to: State) -> Result<(), Error> {
    device.set_state(to, OnFailure::Keep, false)
}

/// A transport whose mappings lie between guard pages.
mod guard {
    use std::ptr::NonNull;
    use vfiomig::error::{Errno, Error};
    use vfiomig::transport::{DataFd, Feature, Mapped, Returned, Transport};

    const PAGE: usize = 4096;

    pub struct Guarded {
        inner: Box<dyn Transport>,
    }

    impl Guarded {
        pub fn new(inner: Box<dyn Transport>) -> Self {
            Guarded { inner }
        }
    }

    /// A second mapping of the same pages at `to`; with an old size of 0 the first one stays where it is.
    fn duplicate(from: usize, to: usize, len: usize) {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: `from` is a shared mapping of `len` bytes, `to` is reserved for the new one.
        let at = unsafe { libc::mremap(from as *mut _, 0, len, flags, to as *mut libc::c_void) };
        assert_eq!(at as usize, to, "mremap: {}", std::io::Error::last_os_error());
    }

    fn reserve(len: usize) -> usize {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        at as usize
    }

    impl Transport for Guarded {
        fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
            self.inner.device_info(info)
        }
        fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
            self.inner.device_feature(feature)
        }
        fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
            self.inner.region_info(info)
        }
        fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
            self.inner.region_read(index, offset, buf)
        }
        fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
            self.inner.region_write(index, offset, buf)
        }
        fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
            let made = self.inner.region_map(index, offset, len)?;
            let guarded = reserve(len + 2 * PAGE) + PAGE;
            duplicate(made.as_ptr().as_ptr() as usize, guarded, len);
            let unmap = move |memory: NonNull<u8>, len: usize| {
                // SAFETY: the guard pages and what lies between are this transport's reservation.
                unsafe { libc::munmap(memory.as_ptr().sub(PAGE).cast(), len + 2 * PAGE) };
                drop(made);
            };
            // SAFETY: `len` bytes are mapped there, until they are unmapped.
            Ok(unsafe { Mapped::new(NonNull::new(guarded as *mut u8).unwrap(), len, unmap) })
        }
        fn reset(&self) -> Result<(), Errno> {
            self.inner.reset()
        }
        fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
            self.inner.open_data(data_fd)
        }
    }
}

/// How bytes go from one device to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// read and write with a buffer of that size.
    Copy(usize),
    /// peek up to so many bytes, reserve, commit; every third chunk is only partly consumed. Guards.
    Lend(usize),
    /// The same by pointers, as C does it.
    Point(usize),
    /// send and receive through a socket, each segment with its length before it.
    Socket,
}

/// Moves everything that is there now; returns the flags that ended it.
fn pump(from: &Device, to: &Device, way: Way) -> Result<StreamFlags, Error> {
    match way {
        Way::Copy(size) => {
            let mut buf = vec![0; size];
            loop {
                let (n, flags) = from.read(&mut buf)?;
                if n == 0 {
                    return Ok(flags);
                }
                assert_eq!(flags - SEGMENT_END, StreamFlags::empty());
                to.write(&buf[..n], flags.contains(SEGMENT_END))?;
            }
        }
        Way::Lend(max) => {
            let mut step = 0;
            loop {
                let chunk = from.peek(max)?;
                if chunk.is_empty() {
                    return Ok(chunk.flags());
                }
                let whole = |len: usize| Some(len as u64) == chunk.segment_left();
                assert_eq!(chunk.flags().contains(SEGMENT_END), whole(chunk.len()));
                let mut room = to.reserve(chunk.segment_left())?;
                step += 1;
                let mut len = chunk.len().min(room.len());
                if step % 3 == 0 {
                    len = len.div_ceil(2);
                }
                room[..len].copy_from_slice(&chunk[..len]);
                to.commit(&mut room, len, whole(len))?;
                from.consume(chunk, len)?;
            }
        }
        Way::Point(max) => {
            let mut step = 0;
            loop {
                let chunk = from.peek_raw(max)?;
                if chunk.len == 0 {
                    assert!(chunk.data.is_null());
                    return Ok(StreamFlags::from_bits_retain(chunk.flags));
                }
                assert_eq!(chunk.flags & SEGMENT_END.bits() != 0, chunk.len as u64 == chunk.segment_left);
                let room = to.reserve_raw(chunk.segment_left)?;
                step += 1;
                let mut len = chunk.len.min(room.len);
                if step % 3 == 0 {
                    len = len.div_ceil(2);
                }
                // SAFETY: the library lends `chunk.len` bytes and `room.len` bytes of room; they are of different devices.
                unsafe { std::ptr::copy_nonoverlapping(chunk.data, room.data, len) };
                to.commit_raw(len, len as u64 == chunk.segment_left)?;
                from.consume_raw(len)?;
            }
        }
        Way::Socket => loop {
            let chunk = from.peek(0)?;
            let Some(segment) = chunk.segment_left() else { return Ok(chunk.flags()) };
            from.consume(chunk, 0)?;
            let (mut near, mut far) = UnixStream::pair().unwrap();
            near.write_all(&segment.to_ne_bytes()).unwrap();
            let mut length = [0; 8];
            far.read_exact(&mut length).unwrap();
            let mut left = u64::from_ne_bytes(length);
            while left > 0 {
                let (n, flags) = from.send(near.as_fd(), 3000)?;
                let mut rest = n;
                while rest > 0 {
                    // The room of the first reserve checks that the segment fits; then the bytes flow.
                    let got = to.receive(far.as_fd(), rest, left == rest as u64)?;
                    rest -= got;
                    left -= got as u64;
                }
                assert_eq!(flags.contains(SEGMENT_END), left == 0);
            }
        },
    }
}

/// A whole live migration; both ends are RUNNING afterwards.
fn migrate(from: &Device, to: &Device, way: Way, dirty: impl Fn()) -> Result<(), Error> {
    let ndma = from.info().caps.contains(vfiomig::device::CapFlags::P2P);
    from.restart_stream()?;
    set(to, State::Resuming)?;
    set(from, State::PreCopy)?;
    assert_eq!(pump(from, to, way)?, EMPTY);
    dirty();
    pump(from, to, way)?;
    dirty();
    if ndma {
        set(from, State::PreCopyP2p)?;
    }
    set(from, State::StopCopy)?;
    assert_eq!(pump(from, to, way)?, END);
    assert_eq!(pump(from, to, way)?, END, "END repeats");
    let total = from.info().saved_bytes;
    set(from, State::Stop)?;
    to.finish(Some(total))?;
    if ndma {
        set(to, State::RunningP2p)?;
    }
    set(to, State::Running)?;
    set(from, State::Running)
}

/// A pair of devices of one kind, and the library on both.
struct Pair {
    source: simdev::Device,
    target: simdev::Device,
    from: Device,
    to: Device,
}

impl Pair {
    fn new(config: &Config, quirks: Quirks) -> Self {
        let source = simdev::Device::new(config.clone().seeded(7));
        let target = simdev::Device::new(config.clone());
        let draft = matches!(config.dialect, simdev::Dialect::Draft { .. });
        let from = open_as(&source, "source", draft, quirks).unwrap();
        let to = open_as(&target, "target", draft, quirks).unwrap();
        Pair { source, target, from, to }
    }

    /// As new, but every mapping has pages around it that kill the process when they are touched.
    fn guarded(config: &Config) -> Self {
        let source = simdev::Device::new(config.clone().seeded(7));
        let target = simdev::Device::new(config.clone());
        let open = |sim: &simdev::Device, name: &str| {
            let options = DeviceOptions { name: name.into(), buffer_size: Some(8192), ..DeviceOptions::default() };
            Device::new(Box::new(guard::Guarded::new(sim.transport())), options).unwrap()
        };
        let (from, to) = (open(&source, "source"), open(&target, "target"));
        Pair { source, target, from, to }
    }

    fn finish(self) {
        self.from.close().unwrap();
        self.to.close().unwrap();
        assert_eq!((self.source.mappings(), self.target.mappings()), (0, 0), "a mapping is left");
        self.source.assert_clean();
        self.target.assert_clean();
    }
}

fn kinds(window: Window) -> Vec<Config> {
    let draft = |form| Config { window: window.clone(), ..Config::draft(form) };
    vec![
        Config::v1(window.clone()),
        Config::v1_ndma(window.clone()),
        draft(DraftForm::Sticky),
        draft(DraftForm::Rewrite),
    ]
}

const WINDOWS: [Window; 4] = [Window::Trapped, Window::Whole, Window::Area, Window::Gap];

#[test]
fn every_kind_in_every_window_by_every_way() {
    for window in WINDOWS {
        for config in kinds(window) {
            for way in [
                Way::Copy(100_000),
                Way::Copy(777),
                Way::Lend(0),
                Way::Lend(1000),
                Way::Point(0),
                Way::Point(1000),
                Way::Socket,
            ] {
                let config = Config { vary_segments: true, ..config.clone() }.segments(12_000).state_size(100_000);
                let pair = Pair::new(&config, Quirks::default());
                let dirty = || pair.source.touch(500, 4000, 99).unwrap();
                migrate(&pair.from, &pair.to, way, dirty).unwrap_or_else(|e| panic!("{config:?} {way:?}: {e}"));
                assert!(pair.source.same_content(&pair.target), "{config:?} {way:?}");
                pair.finish();
            }
        }
    }
}

fn any_window() -> impl Strategy<Value = Window> {
    prop_oneof![Just(Window::Trapped), Just(Window::Whole), Just(Window::Area), Just(Window::Gap)]
}

fn any_way() -> impl Strategy<Value = Way> {
    prop_oneof![
        (1usize..20_000).prop_map(Way::Copy),
        (1usize..20_000).prop_map(Way::Lend),
        (1usize..20_000).prop_map(Way::Point),
        Just(Way::Socket)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn random_sizes_and_layouts(
        window in any_window(), kind in 0usize..4, way in any_way(), state in 0usize..60_000, segment in 256usize..20_000,
        skew in 0u64..3000, vary in any::<bool>(), precopy in 0usize..60_000, short in prop::option::of(1usize..5000),
    ) {
        let config = kinds(window).swap_remove(kind);
        let trapped = short.map_or(Trapped::Any, |n| Trapped::Short(n.max(8)));
        let config = Config { vary_segments: vary, precopy: Precopy::Bytes(precopy), trapped, ..config };
        let config = config.segments(segment).skewed(skew).state_size(state);
        let pair = Pair::new(&config, Quirks::default());
        migrate(&pair.from, &pair.to, way, || ()).unwrap();
        prop_assert!(pair.source.same_content(&pair.target));
        pair.finish();
    }

    /// A device that lies in a register gets an error, or its nonsense into its own stream; it never gets an access outside
    /// its region, and the library never hangs.
    #[test]
    fn liars_reach_nothing(
        window in any_window(), register in 0usize..4, nth in 0u64..6, forever in any::<bool>(),
        value in prop_oneof![any::<u64>(), 0u64..0x9000, Just(u64::MAX), Just(1u64 << 63), Just(0x1f)], loading in any::<bool>(),
    ) {
        let access = [Access::PendingRead, Access::DataOffsetRead, Access::DataSizeRead, Access::StateRead][register];
        let pair = Pair::guarded(&Config::v1(window).state_size(30_000));
        let victim = if loading { &pair.target } else { &pair.source };
        let fault = if forever { Fault::from(access, nth, Effect::Lie(value)) } else { Fault::at(access, nth, Effect::Lie(value)) };
        victim.inject(fault);
        // A lie of more data than there is would be believed for as long as it is said.
        let outcome = bounded_migration(&pair, 200);
        if let Err(error) = outcome {
            prop_assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Device | ErrorKind::Stale | ErrorKind::Order
                | ErrorKind::Incomplete | ErrorKind::Unsupported), "{error}: {:?}", error.kind());
        }
        for violation in victim.violations() {
            prop_assert!(!violation.text.contains("outside the region"), "{violation}");
        }
        pair.from.close().unwrap();
        pair.to.close().unwrap();
    }
}

/// As [`migrate`] from STOP_COPY, with at most so many reads.
fn bounded_migration(pair: &Pair, most: usize) -> Result<(), Error> {
    set(&pair.to, State::Resuming)?;
    set(&pair.from, State::StopCopy)?;
    let mut buf = vec![0; 9000];
    for _ in 0..most {
        let (n, flags) = pair.from.read(&mut buf)?;
        if flags == END {
            pair.to.finish(Some(pair.from.info().saved_bytes))?;
            return set(&pair.to, State::Running);
        }
        pair.to.write(&buf[..n], flags.contains(SEGMENT_END))?;
    }
    Ok(())
}

#[test]
fn asking_for_sizes_never_acknowledges() {
    let pair = Pair::new(&Config::v1(Window::Trapped).state_size(30_000), Quirks::default());
    set(&pair.from, State::PreCopy).unwrap();
    let before = pair.from.pending_exact().unwrap();
    assert!(!before.cached && before.dirty_bytes.is_some_and(|n| n > 0), "{before:?}");
    pair.from.read(&mut [0; 100]).unwrap();
    let asked = pair.source.count(Access::PendingRead);
    // P21: a segment is under way.
    let during = pair.from.pending_exact().unwrap();
    assert!(during.cached && during.dirty_bytes == before.dirty_bytes, "{during:?}");
    assert_eq!(pair.source.count(Access::PendingRead), asked);
    while !pair.from.read(&mut [0; 5000]).unwrap().1.contains(SEGMENT_END) {}
    let after = pair.from.pending_exact().unwrap();
    assert!(!after.cached && after.dirty_bytes < before.dirty_bytes, "{after:?}");
    // Between segments the device itself is asked, not what the acknowledgement left.
    let asked = pair.source.count(Access::PendingRead);
    pair.source.redirty(3).unwrap();
    let dirtied = pair.from.pending_exact().unwrap();
    assert!(dirtied.dirty_bytes > after.dirty_bytes, "{after:?} {dirtied:?}");
    assert_eq!(pair.source.count(Access::PendingRead), asked + 1);
    pair.source.allow_abort(true);
    set(&pair.from, State::StopCopy).unwrap();
    assert!(pair.from.pending_exact().unwrap().stop_copy_bytes >= dirtied.dirty_bytes);
    pair.finish();
}

#[test]
fn a_segment_may_be_loaded_in_mixed_ways() {
    let pair = Pair::new(
        &Config { precopy: Precopy::Nothing, ..Config::v1(Window::Gap) }.segments(12_000).state_size(30_000),
        Quirks::default(),
    );
    set(&pair.to, State::Resuming).unwrap();
    set(&pair.from, State::StopCopy).unwrap();
    let mut buf = vec![0; 12_000];
    loop {
        let mut len = 0;
        loop {
            let (n, flags) = pair.from.read(&mut buf[len..]).unwrap();
            len += n;
            if !flags.is_empty() {
                break;
            }
        }
        if len == 0 {
            break;
        }
        // Half by write, a part by reserve, the rest by write with its end.
        let (half, most) = (len / 2, len * 3 / 4);
        pair.to.write(&buf[..half], false).unwrap();
        let mut room = pair.to.reserve(Some((len - half) as u64)).unwrap();
        let part = room.len().min(most - half);
        room[..part].copy_from_slice(&buf[half..half + part]);
        pair.to.commit(&mut room, part, false).unwrap();
        pair.to.write(&buf[half + part..len], true).unwrap();
    }
    pair.to.finish(Some(pair.from.info().saved_bytes)).unwrap();
    set(&pair.to, State::Running).unwrap();
    assert!(pair.source.same_content(&pair.target));
    pair.finish();
}

/// Which pages of the range are reported as written.
fn dirty_pages(device: &Device, start: u64, total: u64) -> Result<BTreeSet<u64>, (Error, BTreeSet<u64>)> {
    let mut pages = BTreeSet::new();
    let outcome = device.dirty_pfns(PfnRange { start, page_size: 4096, total }, &mut |pfns| match pfns {
        Pfns::All { first, count } => pages.extend(first..first + count),
        Pfns::Bits { first, count, bitmap } => {
            assert_eq!(bitmap.len() as u64, count.div_ceil(64) * 8);
            let word = |n: u64| u64::from_ne_bytes(bitmap[n as usize / 64 * 8..][..8].try_into().unwrap());
            let bit = |n: u64| word(n) >> (n % 64) & 1 != 0;
            pages.extend((0..count).filter(|&n| bit(n)).map(|n| first + n));
        }
    });
    match outcome {
        Ok(()) => Ok(pages),
        Err(error) => Err((error, pages)),
    }
}
