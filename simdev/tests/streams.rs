//! Save and load, byte for byte, in every dialect and window kind, by clients written from the protocol alone.

mod common;

use common::{Client, NDMA, RESUMING, RUNNING, SAVING, v2};
use proptest::prelude::*;
use simdev::{Config, DataPath, Device, DraftForm, Level, Precopy, PrecopyEnd, Trapped, Window};
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use vfiomig::dialect::{Caps, State};

/// Pre-copy with a change in between, stop-and-copy, load; NDMA where there is.
fn region_round(config: &Config, other: &Config, map: bool, most: usize) {
    let source = Device::new(config.clone().seeded(7));
    let sink = Device::new(other.clone());
    let (from, to) = (Client::open(&source, map, most), Client::open(&sink, map, most));
    from.state(RUNNING | SAVING).unwrap();
    let mut stream = from.drain();
    source.touch(config.state_size / 3, 100, 1).unwrap();
    if from.pending() > 0 {
        stream.push(from.segment());
    }
    if from.ndma {
        from.state(RUNNING | SAVING | NDMA).unwrap();
        assert_eq!(source.dma_write(1), Err(libc::EBUSY), "N12");
        if from.pending() > 0 {
            stream.push(from.segment());
        }
    }
    from.state(SAVING).unwrap();
    assert_eq!(source.redirty(3), Err(libc::EBUSY), "N12");
    stream.extend(from.drain());
    from.state(0).unwrap();
    to.load(&stream).unwrap();
    if to.ndma {
        to.state(RUNNING | NDMA).unwrap();
    }
    to.state(RUNNING).unwrap();
    source.assert_clean();
    sink.assert_clean();
    assert!(source.same_content(&sink) && source.checksum() == sink.checksum());
    assert!(sink.content().iter().any(|&b| b != 0) || config.state_size == 0);
    assert_eq!(sink.state(), State::Running);
    drop((from, to));
    assert_eq!((source.mappings(), sink.mappings()), (0, 0));
}

fn windows() -> Vec<(Window, bool)> {
    vec![
        (Window::Trapped, true),
        (Window::Whole, true),
        (Window::Whole, false),
        (Window::Area, true),
        (Window::Gap, true),
        (Window::Gap, false),
        (Window::Areas(vec![(8192, 4096)]), true),
    ]
}

#[test]
fn v1_in_every_window() {
    for (window, map) in windows() {
        for ndma in [false, true] {
            for trapped in [Trapped::Any, Trapped::Short(100), Trapped::AtMost(512), Trapped::Word] {
                let most = match trapped {
                    Trapped::Any | Trapped::Short(_) | Trapped::Refused(_) => usize::MAX,
                    Trapped::AtMost(n) => n,
                    Trapped::Word => 8,
                };
                let base = if ndma { Config::v1_ndma(window.clone()) } else { Config::v1(window.clone()) };
                let base = Config { trapped, vary_segments: true, reserved_bits: 0x100, ..base }.state_size(30_000);
                let config = Config { skew: 12, ..base }.segments(10_000);
                region_round(&config, &config, map, most);
            }
        }
    }
}

#[test]
fn v1_where_mmap_is_advertised_but_fails() {
    let config = Config { map_fails: true, ..Config::v1(Window::Gap) };
    region_round(&config, &config, true, usize::MAX);
}

#[test]
fn v1_between_different_windows() {
    let (a, b) = (Config::v1(Window::Gap).skewed(4), Config::v1_ndma(Window::Trapped).skewed(100));
    region_round(&a, &b, true, usize::MAX);
    region_round(&b, &a, true, usize::MAX);
}

#[test]
fn draft_in_every_window_and_both_forms() {
    for (window, map) in windows() {
        for form in [DraftForm::Sticky, DraftForm::Rewrite] {
            let config = Config { window: window.clone(), vary_segments: true, ..Config::draft(form) };
            region_round(&config.clone().skewed(8), &config, map, usize::MAX);
        }
    }
}

#[test]
fn region_ids() {
    let id = |config| Client::open(&Device::new(config), false, 8).region_type;
    assert_eq!(id(Config::v1(Window::Trapped)), (3, 1));
    assert_eq!(id(Config::draft(DraftForm::Sticky)), (2, 1));
    assert_eq!(id(Config::draft(DraftForm::Rewrite)), (3, 1));
}

#[test]
fn a_gap_is_crossed_and_areas_are_not_sorted() {
    let config = Config::v1(Window::Gap).segments(60_000).state_size(100_000);
    let client = Client::open(&Device::new(config.clone()), true, 8);
    assert_eq!(client.areas.len(), 2);
    assert!(client.areas[0].0 > client.areas[1].0 + client.areas[1].1, "unsorted, with a gap: {:?}", client.areas);
    region_round(&config, &config, true, usize::MAX);
}

#[test]
fn draft_log_and_data_share_the_window() {
    for (form, rewrite) in [(DraftForm::Sticky, false), (DraftForm::Sticky, true), (DraftForm::Rewrite, true)] {
        for window in [Window::Trapped, Window::Area] {
            let config = Config { pfn_buffer: 70, window, ..Config::draft(form) };
            let device = Device::new(config.seeded(1));
            let client = Client::open(&device, true, usize::MAX);
            client.state(RUNNING | SAVING).unwrap();
            for page in [5, 69, 70, 200, 201, 999, 1000] {
                device.dma_write(page).unwrap();
            }
            assert!(client.pending() > 0);
            client.segment();
            assert_eq!(client.dirty(0, 4096, 1000, rewrite), [5, 69, 70, 200, 201, 999]);
            assert_eq!(client.dirty(0, 4096, 1000, rewrite), [0u64; 0], "D14: reporting clears");
            assert!(client.pending() > 0);
            client.segment();
            assert_eq!(client.dirty(500, 8192, 1, rewrite), [500], "pages of 8 KiB");
            device.allow_abort(true);
            client.state(RUNNING).unwrap();
            device.assert_clean();
        }
    }
}

/// One-bit buffer, three pfns: 1, 1, 1 (D10), then 0 (D11).
#[test]
fn copied_pfns_counts_the_chunk() {
    let device = Device::new(Config { pfn_buffer: 1, ..Config::draft(DraftForm::Sticky) });
    let client = Client::open(&device, false, usize::MAX);
    client.state(RUNNING | SAVING).unwrap();
    (10..13).for_each(|page| device.dma_write(page).unwrap());
    for (at, value) in [(0x30, 3), (0x20, 10), (0x28, 4096)] {
        client.put(at, value).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(client.get(0x38), 1);
        let mut word = [0; 8];
        client.read_data(client.offset(), &mut word);
        assert_eq!(word, [1, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(client.get(0x38), 0);
    device.assert_clean();
}

fn v2_round(config: &Config, chunk: usize) {
    let (source, sink) = (Device::new(config.clone().seeded(9)), Device::new(config.clone()));
    let flags = v2::flags(&source).unwrap();
    let (p2p, pre_copy) = (flags & 2 != 0, flags & 4 != 0);
    let offered = match config.precopy {
        Precopy::Nothing => 0,
        Precopy::Half => config.state_size / 2,
        Precopy::Everything => config.state_size,
        Precopy::Bytes(bytes) => bytes.min(config.state_size),
    };
    let mut stream = Vec::new();
    if pre_copy {
        assert!(v2::set(&source, v2::PRE_COPY).unwrap() >= 0);
        for round in 0..3 {
            assert_eq!(v2::drain(&source, chunk, &mut stream), config.precopy_end == PrecopyEnd::NoMessage);
            source.touch(round * 50, 70, 4).unwrap();
            let (_, initial, dirty) = v2::info(&source).unwrap();
            assert!(initial == 0 || config.needs_info, "C3");
            // What was touched may lie behind what is offered while the device runs.
            assert!(dirty > 0 || initial > 0 || offered < 200);
        }
    }
    if p2p {
        let to = if pre_copy { v2::PRE_COPY_P2P } else { v2::RUNNING_P2P };
        assert_eq!(v2::set(&source, to).unwrap(), -1, "V2-4");
        assert_eq!(source.dma_write(3), Ok(()), "v2's P2P may write RAM");
    }
    assert_eq!(v2::set(&source, v2::STOP_COPY).unwrap() >= 0, !pre_copy);
    assert_eq!(v2::set(&source, v2::STOP_COPY).unwrap(), -1);
    assert!(v2::size(&source).unwrap() > 0);
    assert!(!v2::drain(&source, chunk, &mut stream), "F2: 0, not ENOMSG");
    assert_eq!(v2::set(&source, v2::STOP).unwrap(), -1);
    assert_eq!(source.data_read(&mut [0; 8]), Err(libc::ENODEV), "F5");
    source.data_close();
    assert!(v2::set(&sink, v2::RESUMING).unwrap() >= 0);
    v2::write_all(&sink, &stream, chunk).unwrap();
    v2::set(&sink, v2::STOP).unwrap();
    v2::set(&sink, if p2p { v2::RUNNING_P2P } else { v2::RUNNING }).unwrap();
    v2::set(&sink, v2::RUNNING).unwrap();
    source.assert_clean();
    sink.assert_clean();
    assert!(source.same_content(&sink));
    assert_eq!((source.sessions_opened(), source.sessions_closed()), (1, 1));
}

#[test]
fn v2_in_every_capability_set() {
    for caps in Caps::ALL {
        for needs_info in [false, true] {
            for precopy_end in [PrecopyEnd::NoMessage, PrecopyEnd::Zero] {
                let config = Config { needs_info, precopy_end, ..Config::v2(caps) };
                v2_round(&config, 1 << 20);
                v2_round(&Config { max_io: 77, ..config }, 100);
            }
        }
    }
}

#[test]
fn v2_over_a_real_descriptor() {
    for caps in Caps::ALL {
        let config = Config { data: DataPath::RealFd, ..Config::v2(caps) };
        let (source, sink) = (Device::new(config.clone().seeded(3)), Device::new(config));
        // SAFETY: the device made the descriptor for its client.
        let file = |fd: i32| unsafe { std::fs::File::from_raw_fd(fd) };
        let mut stream = Vec::new();
        let mut out = None;
        if caps.pre_copy {
            let mut pre = file(v2::set(&source, v2::PRE_COPY).unwrap());
            pre.read_to_end(&mut stream).unwrap();
            assert!(!stream.is_empty());
            source.touch(0, 10, 8).unwrap();
            pre.read_to_end(&mut stream).unwrap();
            assert!(pre.write(&[1]).is_err(), "O_RDONLY");
            out = Some(pre);
        }
        let fd = v2::set(&source, v2::STOP_COPY).unwrap();
        let mut out = out.unwrap_or_else(|| file(fd));
        out.read_to_end(&mut stream).unwrap();
        v2::set(&source, v2::STOP).unwrap();
        assert_eq!(out.read(&mut [0; 8]).unwrap(), 0);
        let mut load = file(v2::set(&sink, v2::RESUMING).unwrap());
        assert!(load.read(&mut [0; 8]).is_err(), "O_WRONLY");
        load.write_all(&stream).unwrap();
        v2::set(&sink, v2::RUNNING).unwrap();
        source.assert_clean();
        sink.assert_clean();
        assert!(source.same_content(&sink));
    }
}

#[test]
fn v2_truncated_streams() {
    for accept_truncated in [false, true] {
        let config = Config { accept_truncated, ..Config::default() };
        let (source, sink) = (Device::new(config.clone().seeded(3)), Device::new(config));
        v2::set(&source, v2::STOP_COPY).unwrap();
        let mut stream = Vec::new();
        v2::drain(&source, 4096, &mut stream);
        v2::set(&sink, v2::RESUMING).unwrap();
        v2::write_all(&sink, &stream[..stream.len() - 10], 4096).unwrap();
        let left = v2::set(&sink, v2::STOP);
        assert_eq!(left.is_ok(), accept_truncated, "F7");
        assert_eq!(sink.state(), if accept_truncated { State::Stop } else { State::Error });
        assert_eq!(sink.violation_count(), u64::from(!accept_truncated));
    }
}

#[test]
fn reinit_is_reported_once_and_only_to_those_who_asked() {
    for opted in [false, true] {
        let device = Device::new(Config { opt_in: true, ..Config::default() }.seeded(1));
        if opted {
            v2::feature(&device, 12 | v2::SET, &mut []).unwrap();
        }
        v2::set(&device, v2::PRE_COPY).unwrap();
        v2::drain(&device, 4096, &mut Vec::new());
        assert_eq!(v2::info(&device).unwrap(), (0, 0, 0));
        device.reinit();
        let (flags, initial, _) = v2::info(&device).unwrap();
        assert_eq!(flags, u32::from(opted), "C8, C9");
        assert!(initial > 0);
        assert_eq!(v2::info(&device).unwrap().0, 0);
    }
}

/// C7: only one count is assigned; what the client left in the other comes back.
#[test]
fn precopy_info_echoes_what_it_does_not_assign() {
    for (echo_info, want) in [(true, 0xabcd), (false, 0)] {
        let device = Device::new(Config { echo_info, ..Config::default() }.seeded(1));
        v2::set(&device, v2::PRE_COPY).unwrap();
        let mut b = [0u8; 24];
        b[0] = 24;
        b[16..18].copy_from_slice(&0xabcdu16.to_ne_bytes());
        device.precopy_info(&mut b).unwrap();
        assert_eq!(u64::from_ne_bytes(b[16..24].try_into().unwrap()), want);
        assert_eq!(device.violations()[0].rule, "C7");
    }
}

/// N8: a segment that is out when the device stops is carried forward.
#[test]
fn a_segment_survives_the_stop() {
    for window in [Window::Trapped, Window::Area] {
        let config = Config { precopy: Precopy::Everything, ..Config::v1(window) };
        let (source, sink) = (Device::new(config.clone().seeded(2)), Device::new(config));
        let (from, to) = (Client::open(&source, true, 64), Client::open(&sink, true, 64));
        from.state(RUNNING | SAVING).unwrap();
        assert!(from.pending() > 0);
        let (at, len) = (from.offset(), from.size());
        from.state(SAVING).unwrap();
        // The iteration begins anew, but what is in the window can still be read.
        let mut segment = vec![0; len as usize];
        from.read_data(at, &mut segment);
        let mut stream = vec![segment];
        stream.extend(from.drain());
        from.state(0).unwrap();
        to.load(&stream).unwrap();
        to.state(RUNNING).unwrap();
        source.assert_clean();
        sink.assert_clean();
        assert!(source.same_content(&sink));
    }
}

#[test]
fn reset_and_error() {
    let device = Device::new(Config::v1(Window::Area).seeded(1));
    let client = Client::open(&device, true, 8);
    client.load(&[vec![1; 100]]).unwrap_err();
    assert_eq!((device.state(), client.get(0)), (State::Error, 6));
    assert_eq!(device.dma_write(1), Err(libc::EBUSY), "N14");
    device.reset().unwrap();
    assert_eq!((device.level(), device.resets()), (Level(Level::RUNNING), 1), "N16");
    assert!(device.content().iter().all(|&b| b == 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sizes_and_layouts(size in 0usize..40_000, segment in 256usize..9000, skew in 0u64..200, vary: bool, kind in 0usize..7,
                             reserved in 0u32..16, part in 0usize..40_000, ndma: bool, draft: bool, most in 1usize..2000) {
        let (window, map) = windows().swap_remove(kind);
        let base = match (draft, ndma) {
            (true, _) => Config { window, ..Config::draft(DraftForm::Rewrite) },
            (false, false) => Config::v1(window),
            (false, true) => Config::v1_ndma(window),
        };
        let config = Config { skew, vary_segments: vary, reserved_bits: reserved << 8, precopy: Precopy::Bytes(part), ..base };
        let config = config.state_size(size).segments(segment);
        region_round(&config, &config, map, if most == 8 { 9 } else { most });
    }

    #[test]
    fn any_v2_sizes(size in 0usize..40_000, segment in 256usize..9000, vary: bool, part in 0usize..40_000, max_io in 1usize..5000,
                    chunk in 1usize..5000, caps in 0usize..4) {
        let config = Config { vary_segments: vary, precopy: Precopy::Bytes(part), max_io, segment_size: segment, ..Config::v2(Caps::ALL[caps]) };
        let config = Config { needs_info: true, ..config };
        prop_assume!(chunk > 40 || size < 10_000);
        v2_round(&config.state_size(size), chunk);
    }
}

#[test]
fn resuming_twice_begins_anew() {
    let device = Device::new(Config::v1(Window::Trapped));
    let client = Client::open(&device, false, usize::MAX);
    client.state(RESUMING).unwrap();
    client.state(RESUMING).unwrap();
    device.reset().unwrap();
    client.state(RESUMING).unwrap();
    assert_eq!(device.transitions().len(), 2 + 1 + 2);
    device.assert_clean();
}
