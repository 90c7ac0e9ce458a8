//! The migration region, v1 and draft, against the strict software devices of simdev: every window kind, every way to move
//! bytes, every register a liar, every access a failure. Rules: families V1 and D.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "region/bounds.rs"]
mod bounds;
#[path = "region/fence.rs"]
mod fence;
#[path = "region/found.rs"]
mod found;
#[path = "region/lent.rs"]
mod lent;
#[path = "region/particular.rs"]
mod particular;
#[path = "region/server.rs"]
mod server;
#[path = "region/unseen.rs"]
mod unseen;

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
        // A lie of more data than there is would be believed for as long as it is told.
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
fn four_accesses_save_a_segment_and_three_load_it() {
    let config =
        Config { precopy: Precopy::Nothing, ..Config::v1(Window::Trapped) }.segments(8192).state_size(8192 * 20);
    let pair = Pair::new(&config, Quirks::default());
    set(&pair.to, State::Resuming).unwrap();
    set(&pair.from, State::StopCopy).unwrap();
    let (saved, loaded) = (pair.source.count(Access::Any), pair.target.count(Access::Any));
    assert_eq!(pump(&pair.from, &pair.to, Way::Copy(8192)).unwrap(), END);
    let segments = pair.source.count(Access::DataSizeRead);
    // V1-6: data_offset, data_size, the data, pending_bytes; pending_bytes before the first and at END, and the state at END.
    assert_eq!(pair.source.count(Access::Any) - saved, 4 * segments + 3);
    // V1-9: data_offset, the data, data_size.
    assert_eq!(pair.target.count(Access::Any) - loaded, 3 * segments);
    pair.source.allow_abort(true);
    pair.to.reset().unwrap();
    pair.finish();
}

#[test]
fn mapped_chunks_are_device_memory_and_nothing_is_read() {
    let config = Config { precopy: Precopy::Nothing, ..Config::v1(Window::Area) }.state_size(20_000);
    let pair = Pair::new(&config, Quirks::default());
    set(&pair.from, State::StopCopy).unwrap();
    assert!(pair.from.info().caps.contains(vfiomig::device::CapFlags::MAPPED));
    let chunk = pair.from.peek_raw(0).unwrap();
    assert!(chunk.flags & DEVICE_MEM != 0 && chunk.segment_left == chunk.len as u64);
    assert_eq!(pair.source.count(Access::DataRead), 0, "no copy, no read");
    // A chunk that is out outlives an abort for reading, and is not taken back.
    pair.source.allow_abort(true);
    set(&pair.from, State::Running).unwrap();
    // SAFETY: the mapping stays until the handle is freed or the next peek.
    assert_ne!(unsafe { std::slice::from_raw_parts(chunk.data, chunk.len) }.len(), 0);
    assert_eq!(pair.from.consume_raw(chunk.len).unwrap_err().errno(), libc::ESTALE);
    pair.finish();
}

/// P26
#[test]
fn no_mmap_means_none_and_a_mmap_that_fails_is_no_failure() {
    for (config, quirks, maps) in [
        (Config::v1(Window::Gap), Quirks { no_mmap: true, ..Quirks::default() }, 0),
        (Config { map_fails: true, ..Config::v1(Window::Gap) }, Quirks::default(), 2),
        (Config { map_fails: true, ..Config::v1(Window::Whole) }, Quirks::default(), 1),
    ] {
        let pair = Pair::new(&config, quirks);
        migrate(&pair.from, &pair.to, Way::Lend(0), || ()).unwrap();
        assert_eq!(pair.source.count(Access::RegionMap), maps);
        assert!(!pair.from.info().caps.contains(vfiomig::device::CapFlags::MAPPED));
        assert!(pair.source.same_content(&pair.target));
        pair.finish();
    }
}

/// An area list that is broken costs the mapping, not the migration.
#[test]
fn broken_areas_are_trapped() {
    for areas in [vec![(4096, 8192), (8192, 4096)], vec![(4096, 1 << 40)], vec![(u64::MAX, 2)]] {
        for quirks in [Quirks::default(), Quirks { no_mmap: true, ..Quirks::default() }] {
            let pair = Pair::new(&Config::v1(Window::Areas(areas.clone())), quirks);
            migrate(&pair.from, &pair.to, Way::Lend(0), || ()).unwrap();
            assert_eq!(pair.source.count(Access::RegionMap), 0);
            assert!(!pair.from.info().caps.contains(vfiomig::device::CapFlags::MAPPED));
            assert!(pair.source.same_content(&pair.target));
            pair.finish();
        }
    }
}

#[test]
fn reserved_bits_are_preserved() {
    // V1-1: the judge sees a write that clears them.
    for config in [Config::v1(Window::Trapped), Config::v1_ndma(Window::Trapped)] {
        let pair = Pair::new(&Config { reserved_bits: 0x8000_0030, ..config }, Quirks::default());
        migrate(&pair.from, &pair.to, Way::Copy(5000), || ()).unwrap();
        pair.finish();
    }
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
fn a_segment_that_does_not_fit_is_refused_at_reserve() {
    let big = Config::v1(Window::Area).segments(40_000).state_size(100_000);
    let small = Config::v1(Window::Area).segments(4096).state_size(100_000);
    let small_window = small.window_size;
    let source = simdev::Device::new(big.seeded(1));
    let target = simdev::Device::new(small);
    let (from, to) = (open(&source, "source"), open(&target, "target"));
    set(&from, State::StopCopy).unwrap();
    set(&to, State::Resuming).unwrap();
    let chunk = from.peek(0).unwrap();
    let segment_left = chunk.segment_left().unwrap();
    let refused = to.reserve(Some(segment_left)).unwrap_err();
    assert_eq!(refused.errno(), libc::EMSGSIZE);
    for number in [segment_left.to_string(), small_window.to_string()] {
        assert!(refused.to_string().contains(&number), "{refused}");
    }
    assert_eq!(target.count(Access::DataSizeWrite), 0);
    assert_eq!(to.write(&vec![0; small_window as usize + 1], true).unwrap_err().errno(), libc::EMSGSIZE);
    assert_eq!(target.count(Access::DataSizeWrite), 0, "nothing of it reaches the device");
    target.assert_clean();
}

#[test]
fn split_segments_is_a_quirk() {
    let config = Config { judge_content: false, ..Config::v1(Window::Gap) }.segments(8192).state_size(100);
    let window = config.window_size as usize;
    for way in [Way::Lend(0), Way::Copy(50_000)] {
        let sim = simdev::Device::new(config.clone());
        let to = open_with(&sim, "vf0", Quirks { split_segments: true, ..Quirks::default() }).unwrap();
        set(&to, State::Resuming).unwrap();
        let data = vec![3; 20_000];
        // What the device says to the parts is its own business; that they come as parts is ours.
        let outcome = match way {
            Way::Lend(_) => (|| {
                let mut left = data.len();
                while left > 0 {
                    let mut room = to.reserve(Some(left as u64))?;
                    let len = room.len();
                    assert!(len > 0 && len <= window);
                    to.commit(&mut room, len, len == left)?;
                    left -= len;
                }
                Ok::<_, Error>(())
            })(),
            _ => to.write(&data, true),
        };
        let parts = sim.count(Access::DataSizeWrite);
        assert!(parts >= 1, "{outcome:?}");
        assert!(outcome.is_err() || parts == 20_000usize.div_ceil(window) as u64, "{outcome:?} {parts}");
        to.reset().unwrap();
    }
}

#[test]
fn a_cut_segment_is_never_committed() {
    for way in [Way::Lend(0), Way::Copy(1000)] {
        let pair = Pair::new(&Config::v1(Window::Trapped), Quirks::default());
        set(&pair.to, State::Resuming).unwrap();
        if way == Way::Lend(0) {
            let mut room = pair.to.reserve(Some(1000)).unwrap();
            assert!(room.len() >= 500);
            let early = pair.to.commit(&mut room, 500, true).unwrap_err();
            assert_eq!(early.kind(), ErrorKind::Argument, "{early}");
            pair.to.commit(&mut room, 500, false).unwrap();
            assert_eq!(pair.to.reserve(Some(499)).unwrap_err().kind(), ErrorKind::Argument, "500 bytes are missing");
        } else {
            pair.to.write(&[0; 500], false).unwrap();
        }
        let cut = pair.to.finish(Some(500)).unwrap_err();
        assert!(cut.kind() == ErrorKind::Incomplete && cut.to_string().contains("500"), "{cut}");
        assert_eq!(pair.to.finish(None).unwrap_err().kind(), ErrorKind::Incomplete);
        assert_eq!(set(&pair.to, State::Running).unwrap_err().kind(), ErrorKind::Order);
        assert_eq!(pair.target.count(Access::DataSizeWrite), 0);
        pair.to.reset().unwrap();
        pair.finish();
    }
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

#[test]
fn data_size_zero() {
    let stage = |quirk, in_precopy| {
        let pair = Pair::new(
            &Config::v1(Window::Trapped).state_size(3000),
            Quirks { zero_data_size: quirk, ..Quirks::default() },
        );
        set(&pair.from, if in_precopy { State::PreCopy } else { State::StopCopy }).unwrap();
        pair.source.inject(Fault::from(Access::DataSizeRead, 0, Effect::Lie(0)));
        let outcome = pair.from.read(&mut [0; 9000]);
        (pair, outcome)
    };
    // V1-8: while the device runs there is nothing now; when it is stopped that cannot be.
    assert_eq!(stage(false, true).1.unwrap(), (0, EMPTY));
    let (pair, outcome) = stage(false, false);
    let error = outcome.unwrap_err();
    assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains("pending_bytes"), "{error}");
    assert!(pair.source.count(Access::DataSizeRead) > 1, "it was asked again");
    assert_eq!(pair.source.count(Access::PendingRead), 1, "asking again would acknowledge what is there");
    let (_, outcome) = stage(true, false);
    assert!(outcome.unwrap().0 > 0, "the quirk takes pending_bytes for the length");
}

/// Whatever the lengths are, the accesses are words, naturally aligned.
#[test]
fn word_access_is_a_quirk() {
    for (window, way) in [
        (Window::Trapped, Way::Copy(5000)),
        (Window::Trapped, Way::Copy(777)),
        (Window::Trapped, Way::Lend(1001)),
        (Window::Trapped, Way::Socket),
        (Window::Gap, Way::Lend(0)),
        (Window::Gap, Way::Point(0)),
    ] {
        for (segment, state, skew) in [(12_000, 50_000, 0), (12_003, 50_003, 0), (12_001, 50_007, 5)] {
            let config = Config { trapped: Trapped::Word, skew, ..Config::v1(window.clone()) };
            let config = config.segments(segment).state_size(state);
            let pair = Pair::new(&config, Quirks { aligned_access: true, ..Quirks::default() });
            migrate(&pair.from, &pair.to, way, || ()).unwrap_or_else(|e| panic!("{window:?} {way:?} {segment}: {e}"));
            assert!(pair.source.same_content(&pair.target) && pair.source.count(Access::DataRead) > 0);
            pair.finish();

            let pair = Pair::new(&config, Quirks::default());
            let refused = migrate(&pair.from, &pair.to, way, || ()).unwrap_err();
            assert!(refused.kind() == ErrorKind::Device && refused.errno() == libc::EINVAL, "{refused}");
        }
    }
}

/// One failure anywhere between two segments, and the same call again: nothing is lost, whatever is asked in between.
#[test]
fn no_segment_is_lost_by_one_failure() {
    let config = Config { abort_allowed: true, ..Config::v1(Window::Trapped) }.state_size(3000).segments(512);
    let stream_of = |fault: Option<Fault>, ask: bool| {
        let sim = simdev::Device::new(config.clone().seeded(5));
        let device = open(&sim, "vf0");
        let fault = fault.map(|fault| sim.inject(fault));
        set(&device, State::StopCopy).unwrap();
        let (mut stream, mut errors) = (Vec::new(), 0);
        let mut buf = vec![0; 1000];
        loop {
            match device.read(&mut buf) {
                Ok((0, flags)) => break assert_eq!(flags, END),
                Ok((n, _)) => stream.extend_from_slice(&buf[..n]),
                Err(error) => {
                    errors += 1;
                    assert!(errors < 10, "{error}");
                    if ask {
                        let _ = device.pending_exact();
                    }
                }
            }
        }
        assert_eq!(errors, u32::from(fault.is_some_and(|fault| sim.fault_reached(fault) > 0)));
        stream
    };
    let whole = stream_of(None, false);
    for access in [Access::PendingRead, Access::DataOffsetRead, Access::DataSizeRead, Access::DataRead] {
        for effect in [Effect::Errno(libc::EIO), Effect::Errno(libc::EINTR), Effect::Short(0)] {
            for nth in 0..7 {
                // A failed acknowledgement is tried again without a word.
                if access == Access::PendingRead && nth > 0 {
                    continue;
                }
                for ask in [false, true] {
                    let stream = stream_of(Some(Fault::at(access, nth, effect)), ask);
                    assert_eq!(stream.len(), whole.len(), "{access:?} {nth} {effect:?} ask={ask}");
                    assert_eq!(stream, whole);
                }
            }
        }
    }
}

/// A random course: the draft stages the next data with each read of data_offset (D3), so after a data_size that failed only that
/// is asked again. Asked for data_offset too, a driver would present what comes next, and a segment would be lost.
#[test]
fn data_offset_that_is_known_is_not_asked_again() {
    for form in [DraftForm::Sticky, DraftForm::Rewrite] {
        for nth in 0..3 {
            let config = Config { abort_allowed: true, ..Config::draft(form) }.state_size(3000).segments(512);
            let pair = Pair::new(&config, Quirks::default());
            let fault = pair.source.inject(Fault::at(Access::DataSizeRead, nth, Effect::Errno(libc::EIO)));
            set(&pair.from, State::StopCopy).unwrap();
            let (mut errors, mut buf) = (0, [0; 1000]);
            loop {
                match pair.from.read(&mut buf) {
                    Ok((0, flags)) => break assert_eq!(flags, END),
                    Ok(_) => {}
                    Err(error) => {
                        errors += 1;
                        assert!(errors == 1, "{error}");
                    }
                }
            }
            assert_eq!((errors, pair.source.fault_reached(fault)), (1, 1));
            assert!(pair.source.violations().is_empty(), "{form:?} {nth}: {:?}", pair.source.violations());
        }
    }
}

/// V1-6, V1-11: behind a failed access and a state change the registers are asked in their order again. Where data_offset was
/// refused that begins with pending_bytes, for a server that begins its iteration anew refuses data_offset until then. Where its
/// place is known, the segment is still there (N8), and pending_bytes would acknowledge it unread.
#[test]
fn a_state_change_behind_a_failed_access_begins_anew() {
    for config in kinds(Window::Trapped).into_iter().chain(kinds(Window::Area)) {
        for access in [Access::PendingRead, Access::DataOffsetRead, Access::DataSizeRead] {
            for nth in 0..3 {
                let config = Config { precopy: Precopy::Everything, ..config.clone() }.state_size(5000).segments(512);
                let pair = Pair::new(&config, Quirks::default());
                let fault = pair.source.inject(Fault::at(access, nth, Effect::Errno(libc::EIO)));
                set(&pair.from, State::PreCopy).unwrap();
                set(&pair.to, State::Resuming).unwrap();
                let mut buf = [0; 4096];
                let mut load = |stop: bool| -> bool {
                    loop {
                        match pair.from.read(&mut buf) {
                            Ok((0, _)) => break true,
                            Ok((len, flags)) => pair.to.write(&buf[..len], flags.contains(SEGMENT_END)).unwrap(),
                            Err(error) if stop => panic!("{config:?} {access:?} {nth}: {error}"),
                            Err(_) => break false,
                        }
                    }
                };
                // A failed acknowledgement is tried again without a word.
                assert_eq!(load(false), access == Access::PendingRead && nth > 0, "{config:?} {access:?} {nth}");
                assert_eq!(pair.source.fault_reached(fault), 1);
                set(&pair.from, State::StopCopy).unwrap();
                load(true);
                set(&pair.from, State::Stop).unwrap();
                pair.to.finish(Some(pair.from.info().saved_bytes)).unwrap();
                set(&pair.to, State::Running).unwrap();
                assert_eq!(pair.source.violations(), [], "{config:?} {access:?} {nth}");
                assert!(pair.source.same_content(&pair.target), "{config:?} {access:?} {nth}");
                pair.finish();
            }
        }
    }
}

/// A device that has failed since it was looked at is asked for nothing.
#[test]
fn a_device_that_just_failed_is_asked_for_nothing() {
    for config in kinds(Window::Trapped) {
        let pair = Pair::new(&config, Quirks::default());
        let (reads, writes) = (pair.source.count(Access::StateRead), pair.source.count(Access::StateWrite));
        // Read before the request (compared with the last state), then in the read-modify-write.
        pair.source.inject(Fault::at(Access::StateRead, reads + 1, Effect::Lie(0b110)));
        let error = set(&pair.from, State::StopCopy).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("nothing was asked for"), "{error}");
        assert_eq!(pair.source.count(Access::StateWrite), writes);
    }
}

#[test]
fn a_place_that_is_none_is_never_written() {
    for value in [0, 0x1f, 1 << 40, u64::MAX] {
        let pair = Pair::new(&Config::v1(Window::Trapped), Quirks::default());
        set(&pair.to, State::Resuming).unwrap();
        pair.target.inject(Fault::from(Access::DataOffsetRead, 0, Effect::Lie(value)));
        let (state_writes, all) = (pair.target.count(Access::StateWrite), pair.target.count(Access::Any));
        for outcome in [pair.to.write(&[7; 100], true), pair.to.reserve(Some(100)).map(|_| ())] {
            let error = outcome.unwrap_err();
            assert!(error.kind() == ErrorKind::Protocol, "V1-13: {error}");
        }
        assert_eq!(pair.target.count(Access::StateWrite), state_writes);
        assert_eq!(pair.target.count(Access::Any), all + 2, "data_offset is read, nothing else is touched");
    }
}

#[test]
fn a_change_that_did_not_happen_is_no_success() {
    // N6: the write succeeds, but device_state reads otherwise.
    let pair = Pair::new(&Config::v1(Window::Trapped), Quirks::default());
    let reads = pair.source.count(Access::StateRead);
    // Read before the request (compared with the last state), in the read-modify-write, and after it.
    pair.source.inject(Fault::at(Access::StateRead, reads + 2, Effect::Lie(1)));
    let error = set(&pair.from, State::PreCopy).unwrap_err();
    assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains("RUNNING"), "{error}");
    assert_eq!(error.results()[0].found, State::PreCopy.number(), "it was read once more");
}

#[test]
fn both_areas_of_a_window_are_mapped() {
    let config = Config { precopy: Precopy::Nothing, ..Config::v1(Window::Gap) }.segments(4096).state_size(20_000);
    let pair = Pair::new(&config, Quirks::default());
    migrate(&pair.from, &pair.to, Way::Lend(0), || ()).unwrap();
    // The segments lie in the lower area, which the device lists last.
    assert_eq!((pair.source.count(Access::DataRead), pair.target.count(Access::DataWrite)), (0, 0));
    assert!(pair.source.same_content(&pair.target));
    pair.finish();
}

#[test]
fn an_acknowledgement_that_fails_loses_nothing() {
    let pair = Pair::new(&Config::v1(Window::Area).state_size(30_000), Quirks::default());
    set(&pair.to, State::Resuming).unwrap();
    set(&pair.from, State::StopCopy).unwrap();
    // The second read of pending_bytes acknowledges the first segment.
    let fault = pair.source.inject(Fault::at(Access::PendingRead, 1, Effect::Errno(libc::EIO)));
    assert_eq!(pump(&pair.from, &pair.to, Way::Lend(0)).unwrap(), END);
    assert_eq!(pair.source.fault_reached(fault), 1);
    pair.to.finish(Some(pair.from.info().saved_bytes)).unwrap();
    set(&pair.to, State::Running).unwrap();
    assert!(pair.source.same_content(&pair.target));
    pair.finish();
}

/// Which pages of the range are told as written.
fn dirty_pages(device: &Device, start: u64, total: u64) -> Result<BTreeSet<u64>, (Error, BTreeSet<u64>)> {
    let mut pages = BTreeSet::new();
    let outcome = device.dirty_pfns(PfnRange { start, page_size: 4096, total }, &mut |pfns| match pfns {
        Pfns::All { first, count } => pages.extend(first..first + count),
        Pfns::Bits { first, count, bitmap } => {
            assert_eq!(bitmap.len() as u64, count.div_ceil(64) * 8);
            let bit = |n: u64| bitmap[(n / 8) as usize] & (1 << (n % 8)) != 0;
            pages.extend((0..count).filter(|&n| bit(n)).map(|n| first + n));
        }
    });
    match outcome {
        Ok(()) => Ok(pages),
        Err(error) => Err((error, pages)),
    }
}

#[test]
fn the_draft_tells_which_pages_it_wrote() {
    for form in [DraftForm::Sticky, DraftForm::Rewrite] {
        for pfn_buffer in [1, 63, 64, 512, 4096] {
            let config = Config { pfn_buffer, window_size: 16 << 10, ..Config::draft(form) };
            let (sim, device) = draft_of(config);
            assert_eq!(
                dirty_pages(&device, 0, 10).unwrap_err().0.kind(),
                ErrorKind::Order,
                "its log answers only in SAVING"
            );
            set(&device, State::PreCopy).unwrap();
            let written = BTreeSet::from([0, 5, 63, 64, 100, 200, 299]);
            for &page in &written {
                sim.dma_write(page).unwrap();
            }
            assert_eq!(dirty_pages(&device, 0, 300).unwrap(), written, "{form:?} {pfn_buffer}");
            assert_eq!(dirty_pages(&device, 0, 300).unwrap(), BTreeSet::new(), "reading clears (D14)");
            sim.dma_write(250).unwrap();
            assert_eq!(dirty_pages(&device, 240, 20).unwrap(), BTreeSet::from([250]));
            // D5: the window shows one thing at a time.
            device.read(&mut [0; 10]).unwrap();
            assert_eq!(dirty_pages(&device, 0, 300).unwrap_err().0.errno(), libc::EBUSY);
            while !device.read(&mut [0; 9000]).unwrap().1.contains(SEGMENT_END) {}
            sim.dma_write(7).unwrap();
            assert_eq!(dirty_pages(&device, 0, 300).unwrap(), BTreeSet::from([7]));
            sim.assert_clean();
        }
    }
}

#[test]
fn a_log_that_cannot_be_read_is_all_dirty() {
    let all: BTreeSet<u64> = (10..310).collect();
    let cases = [
        (Access::CopiedPfnsRead, Effect::Lie(301), ErrorKind::Protocol),
        (Access::DataOffsetRead, Effect::Lie(0), ErrorKind::Protocol),
        (Access::DataOffsetRead, Effect::Lie(u64::MAX), ErrorKind::Protocol),
        (Access::CopiedPfnsRead, Effect::Errno(libc::EIO), ErrorKind::Device),
        (Access::DataRead, Effect::Errno(libc::EIO), ErrorKind::Device),
        (Access::PfnWrite, Effect::Errno(libc::EIO), ErrorKind::Device),
    ];
    for form in [DraftForm::Sticky, DraftForm::Rewrite] {
        for (access, effect, kind) in cases {
            let (sim, device) = open_draft(form);
            set(&device, State::PreCopy).unwrap();
            sim.dma_write(20).unwrap();
            let nth = sim.count(access);
            sim.inject(Fault::at(access, nth, effect));
            let (error, pages) = dirty_pages(&device, 10, 300).unwrap_err();
            assert_eq!((error.kind(), &pages), (kind, &all), "D14, D15: {access:?} {effect:?}: {error}");
        }
        // D12: all ones is no error.
        let (sim, device) = open_draft(form);
        set(&device, State::PreCopy).unwrap();
        sim.inject(Fault::at(Access::CopiedPfnsRead, 0, Effect::Lie(u64::MAX)));
        assert_eq!(dirty_pages(&device, 10, 300).unwrap(), all);
    }
}

/// What a VMM does after a failed save: the guest goes on on the source.
fn back_to_running(device: &Device, sim: &simdev::Device) {
    sim.allow_abort(true);
    for _ in 0..3 {
        let tried = match device.state() {
            State::Error | State::Resuming => device.reset(),
            _ => set(device, State::Running),
        };
        // EIO at the end of a pre-copy: some drivers do not survive another request.
        let tried = match tried {
            Err(failure) if failure.to_string().contains("nothing but a reset") => device.reset(),
            tried => tried,
        };
        if tried.is_ok() {
            break;
        }
    }
    assert_eq!((device.state(), sim.state()), (State::Running, State::Running));
}

/// Gives a save up in the middle, as a VMM does that was told to cancel: the source runs on, the target is reset.
fn abort(from: &Device, to: &Device, way: Way, in_stop_copy: bool) -> Result<(), Error> {
    from.restart_stream()?;
    set(to, State::Resuming)?;
    set(from, State::PreCopy)?;
    pump(from, to, way)?;
    if in_stop_copy {
        set(from, State::StopCopy)?;
        from.read(&mut [0; 700])?;
    }
    set(from, State::Running)?;
    to.reset()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    Migrate,
    AbortPrecopy,
    AbortStopCopy,
}

/// A fault at access k of source or target, for every k: a named outcome, both devices can run again, and the next migration
/// is whole. Over every dialect and window, while migrating and while giving up.
#[test]
fn a_fault_at_every_access() {
    let mut reached = 0;
    for window in WINDOWS {
        let mut all = kinds(window.clone());
        if window == Window::Trapped {
            all.push(Config::v2(vfiomig::dialect::Caps { p2p: true, pre_copy: true }));
        }
        for config in all {
            let config = Config { precopy: Precopy::Bytes(5000), ..config }.segments(4096).state_size(9000);
            for scenario in [Scenario::Migrate, Scenario::AbortPrecopy, Scenario::AbortStopCopy] {
                for on_source in [true, false] {
                    reached += fault_walk(&config, scenario, on_source);
                }
            }
        }
    }
    assert!(reached > 5000, "only {reached} faults were reached");
}

fn fault_walk(config: &Config, scenario: Scenario, on_source: bool) -> u64 {
    // v2 has no segments: its room is reserved without a length, which only `Copy` does here.
    let way = if matches!(config.dialect, simdev::Dialect::V2 { .. }) { Way::Copy(3000) } else { Way::Lend(0) };
    let effects = [Effect::Errno(libc::EIO), Effect::Errno(libc::EINVAL), Effect::ToError(libc::EIO), Effect::Short(3)];
    let mut reached = 0;
    for effect in effects {
        for k in 0.. {
            let pair = Pair::new(config, Quirks::default());
            let victim = if on_source { &pair.source } else { &pair.target };
            pair.source.allow_abort(scenario != Scenario::Migrate);
            let first = victim.count(Access::Any);
            let fault = victim.inject(Fault::at(Access::Any, first + k, effect));
            let outcome = match scenario {
                Scenario::Migrate => migrate(&pair.from, &pair.to, way, || ()),
                _ => abort(&pair.from, &pair.to, way, scenario == Scenario::AbortStopCopy),
            };
            let what = format!("{:?} {scenario:?} source={on_source} {effect:?} at {k}: {outcome:?}", config.dialect);
            if victim.fault_reached(fault) == 0 {
                outcome.unwrap_or_else(|error| panic!("{what}; without a fault: {error}"));
                break;
            }
            reached += 1;
            victim.clear_faults();
            match outcome {
                // A short read of data, or a failed acknowledgement, is no failure.
                Ok(()) => assert!(scenario != Scenario::Migrate || pair.source.same_content(&pair.target), "{what}"),
                Err(error) => {
                    assert!(error.errno() > 0 && error.kind() != ErrorKind::Panic, "{what}");
                    assert!(error.to_string().contains(if on_source { "source" } else { "target" }), "{what}");
                }
            }
            // The judge may complain of what the fault did to the order, but not of the migration after it.
            back_to_running(&pair.from, &pair.source);
            pair.to.reset().unwrap();
            for sim in [&pair.source, &pair.target] {
                sim.take_violations();
                sim.allow_abort(false);
            }
            migrate(&pair.from, &pair.to, way, || ()).unwrap_or_else(|e| panic!("{what}; again: {e}"));
            assert!(pair.source.same_content(&pair.target), "{what}");
            pair.finish();
        }
    }
    reached
}
