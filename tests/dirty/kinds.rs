//! Every kind of log against its exact reference: with devices that rest during a harvest, and with devices that never do.

use crate::rig::{Log, Rig};
use simdev::{DmaLog, Kernel, Type1Config};
use std::collections::BTreeSet;
use vfiomig::tracker::LogKind;

/// With holes, with neighbours, with a mapping that is not a multiple of 64 pages, and far apart.
const MAPS: [(u64, u64); 6] = [(0, 1), (3, 200), (203, 64), (1 << 20, 1000), ((1 << 20) + 1024, 3), (1 << 30, 129)];

fn pages() -> Vec<u64> {
    MAPS.iter().flat_map(|&(first, pages)| first..first + pages).collect()
}

#[test]
fn what_rests_is_reported_exactly_once() {
    for log in Log::all() {
        let rig = Rig::new(log, 1);
        rig.map_all(&MAPS);
        rig.write(&[5]);
        rig.start();
        let everything: Vec<u64> = pages();
        let some = [0, 3, 202, 203, 266, 1 << 20, (1 << 20) + 999, (1 << 20) + 1026, 1 << 30, (1 << 30) + 128];
        for written in [&some[..], &[], &[64], &[5, 6, 7], &everything] {
            rig.write(written);
            let reported = rig.harvest();
            let expected = if log.is_exact() { written } else { &everything[..] };
            assert_eq!(reported.list(), expected, "{log:?}");
            assert_eq!(
                (reported.harvest.newly, reported.harvest.total),
                (expected.len() as u64, expected.len() as u64)
            );
            assert_eq!(
                (reported.harvest.failed_reads, reported.harvest.degraded_bytes, reported.harvest.stopped),
                (0, 0, false)
            );
            rig.ram.assert_same();
        }
        rig.write(&[4]);
        rig.finish();
        rig.tracker.stop().unwrap();
        rig.assert_clean();
    }
}

/// L10
#[test]
fn the_kind_and_why() {
    let kinds = Log::all().into_iter().map(|log| Rig::new(log, 1).tracker.info());
    let reported: Vec<(LogKind, bool)> = kinds.map(|info| (info.kind, info.perpetual)).collect();
    use LogKind::{DmaLog, Draft, Everything, Hwpt, Ops, Type1};
    assert_eq!(
        reported,
        [
            (DmaLog, false),
            (DmaLog, false),
            (Type1, false),
            (Hwpt, false),
            (Draft, false),
            (Draft, false),
            (Ops, false),
            (Everything, true)
        ]
    );
}

/// Logs of coarse pages tell whole ones, cut to what is mapped.
#[test]
fn coarse_logs_tell_their_own_pages() {
    let coarse = |size: u64, page: u64| -> Vec<u64> {
        let all: BTreeSet<u64> = pages().into_iter().collect();
        (page / size * size..(page / size + 1) * size).filter(|page| all.contains(page)).collect()
    };
    for size in [2, 16, 512] {
        let log = Log::Dma(DmaLog { page_size: size * 4096, ..DmaLog::default() });
        let rig = Rig::new(log, 1);
        rig.map_all(&MAPS);
        rig.start();
        assert_eq!(rig.tracker.info().page_size, size * 4096);
        for page in [0, 3, 100, 202, 203, 266, 1 << 20, (1 << 20) + 1025, (1 << 30) + 128] {
            rig.write(&[page]);
            assert_eq!(rig.harvest().list(), coarse(size, page), "{size}: {page:#x}");
            assert_eq!(rig.harvest().list(), [0u64; 0]);
        }
        rig.finish();
        rig.assert_clean();
    }
}

#[test]
fn large_entries_of_page_tables() {
    for kernel in [Kernel::V6_12, Kernel::V7_3] {
        let rig = Rig::new(Log::Hwpt(512, kernel), 2);
        rig.map_all(&[(512, 1024), (2048, 7), (2055, 1)]);
        rig.start();
        rig.devices[1].dma_write(700).unwrap();
        rig.write(&[700]);
        assert_eq!(rig.harvest().list(), (512..1024).collect::<Vec<_>>());
        rig.devices[1].dma_write(2055).unwrap();
        rig.write(&[2050]);
        assert_eq!(rig.harvest().list(), [2048, 2049, 2050, 2051, 2055], "{kernel:?}: entries never span mappings");
        rig.finish();
        rig.assert_clean();
    }
}

/// Ranges and pages are those of the log while it runs, and else what was asked for.
#[test]
fn what_a_log_holds_is_known_while_it_runs() {
    for log in Log::all() {
        let rig = Rig::new(log, 2);
        rig.map_all(&MAPS);
        let held = || (rig.tracker.info().logged_ranges, rig.tracker.info().page_size);
        assert_eq!(held(), (0, 4096), "{log:?}");
        rig.start();
        let ranges = match log {
            Log::Dma(_) | Log::Functions(_) => rig.devices[0].dma_ranges().len() as u64,
            Log::Type1(_) | Log::Hwpt(..) => 1,
            _ => 0,
        };
        assert_eq!(held(), (ranges, 4096), "{log:?}");
        rig.finish();
        rig.tracker.stop().unwrap();
        assert_eq!(held(), (0, 4096), "{log:?}");
        rig.assert_clean();
    }
}

/// P9: pages of two sizes in one address space.
#[test]
fn devices_with_pages_of_their_own() {
    let rig = Rig::new(Log::Mixed([DmaLog::default(), DmaLog { page_size: 16 * 4096, ..DmaLog::default() }]), 2);
    rig.map_all(&MAPS);
    rig.start();
    assert_eq!(rig.tracker.info().page_size, 16 * 4096);
    rig.write(&[3, 100]);
    assert_eq!(rig.harvest().list(), [3, 100]);
    rig.devices[1].dma_write(100).unwrap();
    assert_eq!(rig.harvest().list(), (96..112).collect::<Vec<_>>());
    rig.write(&[96, 112]);
    rig.devices[1].dma_write(3).unwrap();
    assert_eq!(rig.harvest().list(), [0].into_iter().chain(3..16).chain([96, 112]).collect::<Vec<_>>());
    rig.finish();
    rig.assert_clean();
}

/// T5: a physical device makes every mapped page dirty at every read.
#[test]
fn a_container_that_knows_nothing_is_perpetual() {
    let rig = Rig::new(Log::Type1(Type1Config { perpetual: true, ..Type1Config::default() }), 1);
    rig.map_all(&MAPS);
    rig.start();
    let info = rig.tracker.info();
    assert_eq!((info.kind, info.perpetual), (LogKind::Type1, true));
    for _ in 0..2 {
        assert_eq!(rig.harvest().list(), pages());
    }
    rig.tracker.stop().unwrap();
    assert!(!rig.tracker.info().perpetual);
    rig.assert_clean();
}

/// T5: what the devices' scope is shows with the first read of something mapped, and a start may find nothing mapped, or
/// nothing but pages that are pinned.
#[test]
fn the_scope_is_known_when_something_was_read() {
    let perpetual = |rig: &Rig| rig.tracker.info().perpetual;
    for config in [Type1Config { perpetual: true, ..Type1Config::default() }, Type1Config::default()] {
        let rig = Rig::new(Log::Type1(config), 1);
        rig.start();
        assert!(!perpetual(&rig));
        assert_eq!((rig.harvest().list(), perpetual(&rig)), (vec![], false), "nothing was read");
        rig.map_all(&[(0, 10)]);
        rig.harvest();
        assert_eq!(perpetual(&rig), config.perpetual, "a mapping is dirty once, whatever the log tells");
        rig.map_all(&[(50, 1)]);
        rig.harvest();
        assert_eq!(perpetual(&rig), config.perpetual);
        rig.tracker.stop().unwrap();
        assert!(!perpetual(&rig));
        rig.assert_clean();
    }
    let rig = Rig::new(Log::Type1(Type1Config::default()), 1);
    rig.map_all(&[(7, 1)]);
    rig.type1.as_ref().unwrap().pin(7).unwrap();
    rig.start();
    assert!(perpetual(&rig), "so it seems");
    rig.map_all(&[(8, 1)]);
    assert_eq!((rig.harvest().list(), perpetual(&rig)), (vec![7, 8], false));
    for _ in 0..2 {
        rig.write(&[8]);
        assert_eq!((rig.harvest().list(), perpetual(&rig)), (vec![7, 8], false), "it may well be all");
    }
    rig.tracker.stop().unwrap();
    rig.assert_clean();
}

/// T5: pinned pages stay dirty, others do not.
#[test]
fn pinned_pages() {
    let rig = Rig::new(Log::Type1(Type1Config::default()), 1);
    rig.map_all(&MAPS);
    let container = rig.type1.clone().unwrap();
    container.pin(7).unwrap();
    rig.start();
    rig.harvest();
    rig.write(&[7, 8]);
    assert_eq!((rig.harvest().list(), rig.harvest().list()), (vec![7, 8], vec![7]));
    container.unpin(7);
    rig.finish();
    assert_eq!(rig.harvest().list(), [0u64; 0]);
    rig.assert_clean();
}

/// Devices write all the time; the harvests' union is what they wrote, and nothing is lost.
#[test]
fn devices_that_never_rest() {
    let mut logs = Log::all();
    logs.extend([
        Log::Dma(DmaLog { page_size: 16 * 4096, max_ranges: 2, ..DmaLog::default() }),
        Log::Dma(DmaLog { whole_words: true, stops_itself: true, ..DmaLog::default() }),
        Log::Mixed([DmaLog::default(), DmaLog { page_size: 64 << 10, max_ranges: 3, ..DmaLog::default() }]),
        Log::Hwpt(512, Kernel::V6_12),
        Log::Hwpt(64, Kernel::V7_3),
        Log::Type1(Type1Config { max_bitmap: 128, ..Type1Config::default() }),
    ]);
    for (number, log) in logs.into_iter().enumerate() {
        let devices = if matches!(log, Log::Functions(_)) { 1 } else { 2 };
        let rig = Rig::new(log, devices);
        rig.map_all(&MAPS);
        let ranges: Vec<_> = MAPS.iter().map(|&(first, pages)| first..first + pages).collect();
        let writers = rig.writers(&ranges, number as u64);
        writers.wait(200);
        let meanwhile = rig.start();
        let mut union = BTreeSet::new();
        for _ in 0..8 {
            writers.wait(100);
            union.extend(rig.harvest().pages);
        }
        union.extend(rig.finish().pages);
        assert!(writers.stop() > 1000);
        let written = rig.space.take_written();
        assert!(union.is_superset(&written), "{log:?}");
        if log.is_exact() {
            assert!(union.iter().all(|page| written.contains(page) || meanwhile.contains(page)), "{log:?}");
        }
        rig.tracker.stop().unwrap();
        rig.assert_clean();
    }
}
