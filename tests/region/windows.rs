//! Windows that are trapped, mapped, or broken, and the quirks of servers.

use super::*;

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
