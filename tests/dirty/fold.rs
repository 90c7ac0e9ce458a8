//! How ranges are folded and reads are split, as the logs see it.

use crate::rig::{Log, P, Rig};
use simdev::{Access, DmaLog, DraftForm, Kernel, Type1Config};

/// Pages of a GiB, to which ranges are rounded out.
const GIB: u64 = (1 << 30) / P;

/// Mappings of one page with gaps of about 1, 2, 3 … GiB.
fn staircase(steps: u64) -> Vec<(u64, u64)> {
    (0..steps).map(|i| (GIB * (i + i * (i + 1) / 2), 1)).collect()
}

fn dma(edit: impl FnOnce(&mut DmaLog)) -> Log {
    let mut log = DmaLog::default();
    edit(&mut log);
    Log::Dma(log)
}

/// L1: fewer ranges, never fewer pages; the smallest gaps are filled.
#[test]
fn ranges_are_folded_until_the_device_takes_them() {
    let maps = staircase(300);
    for max_ranges in [256, 255, 100, 8, 1] {
        let rig = Rig::new(dma(|log| log.max_ranges = max_ranges), 1);
        rig.map_all(&maps);
        rig.start();
        let held = rig.devices[0].dma_ranges();
        let info = rig.tracker.info();
        assert_eq!((info.mapped_ranges, info.logged_ranges), (300, held.len() as u64));
        assert!(held.len() <= max_ranges as usize && held.len() > max_ranges as usize / 2, "{}", held.len());
        assert!(maps.iter().all(|&(page, _)| held.iter().any(|r| (r.0..r.0 + r.1).contains(&(page * P)))));
        // The gaps grow, so what is folded is at the front.
        let folded = 300 - (held.len() as u64 - 1);
        assert_eq!(held[0].1 / P, maps[folded as usize - 1].0 + GIB);
        let pages: Vec<u64> = maps.iter().map(|map| map.0).collect();
        rig.write(&pages);
        assert_eq!(rig.harvest().list(), pages);
        // Folding costs no bitmap: what lies far from what is mapped is not read.
        let reports = rig.devices[0].count(Access::DmaLogReport);
        rig.harvest();
        assert!(rig.devices[0].count(Access::DmaLogReport) - reports >= 296);
        rig.finish();
        rig.assert_clean();
    }
}

/// L1, L7: the page size that START answers decides where ranges may begin.
#[test]
fn a_larger_tracking_page_begins_again_with_whole_pages() {
    // A device that takes few bytes gets no more than it must: ranges are whole pages, and not rounded out (L3).
    for size in [2u64, 16, 512] {
        let most = (16 * size * P).next_power_of_two();
        let rig = Rig::new(dma(|log| (log.page_size, log.max_total) = (size * P, most)), 1);
        rig.map_all(&[(size + 1, 1), (size + 3, size), (5 * size, size), (9 * size - 1, 2)]);
        rig.start();
        let held = rig.devices[0].dma_ranges();
        assert!(held.iter().all(|r| (r.0 | r.1) % (size * P) == 0), "{held:x?}");
        assert!(held.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        let d = &rig.devices[0];
        // One is refused for its sum, and one has to be undone for the page that it answers.
        assert_eq!((d.count(Access::DmaLogStart), d.count(Access::DmaLogStop)), (3, 1));
        rig.write(&[size + 1, 9 * size]);
        let reported = rig.harvest();
        assert!(reported.pages.contains(&(size + 1)) && reported.pages.contains(&(9 * size)));
        assert!(reported.pages.iter().all(|&page| rig.space.ram_page(page).is_some()), "only what is mapped");
        rig.finish();
        rig.assert_clean();
    }
}

/// A VMM that wants coarse pages gives the device a hint, and gets them.
#[test]
fn the_page_size_that_the_vmm_wants() {
    for log in
        [dma(|_| {}), Log::Hwpt(1, Kernel::V6_12), Log::Functions(DmaLog::default()), Log::Draft(DraftForm::Sticky)]
    {
        let ram = simdev::Ram::new();
        let rig = Rig::with(log, 1, &ram, |options| options.page_size = Some(64 << 10));
        rig.map_all(&[(0, 64), (100, 28)]);
        rig.start();
        assert_eq!(rig.tracker.info().page_size, 64 << 10, "{log:?}");
        rig.write(&[5, 101]);
        let reported = rig.harvest();
        let coarse: Vec<u64> = (0..16).chain(100..112).collect();
        // A page table cannot be asked in pages by which a mapping is not divided (I3).
        let mixed: Vec<u64> = (0..16).chain(100..104).collect();
        assert_eq!(reported.list(), if matches!(log, Log::Hwpt(..)) { mixed } else { coarse }, "{log:?}");
        rig.finish();
        rig.assert_clean();
    }
}

/// T1, T3: no request asks for more bits than a bitmap may have, and none cuts a mapping. Mappings that do not begin on whole words
/// of a request's bitmap have requests of their own: Linux shifts their bits in its own bitmap, and tells strays later.
#[test]
fn reads_of_a_container_are_split_between_mappings() {
    let maps: Vec<(u64, u64)> = (0..40).map(|i| (i * 64, 50)).collect();
    let last = |i: u64| i * 64 + 49;
    for (max_bitmap, requests) in [(256 << 20, 1), (256, 2), (64, 5), (8, 40)] {
        let rig = Rig::new(Log::Type1(Type1Config { max_bitmap, ..Type1Config::default() }), 1);
        rig.map_all(&maps);
        rig.start();
        let container = rig.type1.as_ref().unwrap();
        let before = container.watch().count(Access::Type1Get);
        let pages: Vec<u64> = (0..40).map(last).collect();
        rig.write(&pages);
        let reported = rig.harvest();
        assert_eq!((reported.list(), reported.harvest.reads), (pages, requests), "{max_bitmap}");
        assert_eq!(container.watch().count(Access::Type1Get) - before, requests);
        rig.finish();
        rig.assert_clean();
    }
    let rig = Rig::new(Log::Type1(Type1Config::default()), 1);
    rig.map_all(&[(0, 5), (64, 5), (100, 5), (128, 5), (164, 5)]);
    rig.start();
    rig.write(&[4, 68, 104, 132, 168]);
    let reported = rig.harvest();
    assert_eq!((reported.list(), reported.harvest.reads), (vec![4, 68, 104, 132, 168], 4));
    rig.finish();
    rig.assert_clean();
}

/// T3: a mapping that no bitmap can hold is dirty at each harvest, and the others are exact.
#[test]
fn a_mapping_that_is_too_large_for_a_bitmap() {
    let rig = Rig::new(Log::Type1(Type1Config { max_bitmap: 8, ..Type1Config::default() }), 1);
    rig.map_all(&[(0, 64), (64, 65), (200, 10)]);
    rig.start();
    for _ in 0..2 {
        rig.write(&[3, 70]);
        let reported = rig.harvest();
        assert_eq!(reported.list(), [3].into_iter().chain(64..129).collect::<Vec<_>>());
        assert_eq!((reported.harvest.failed_reads, reported.harvest.degraded_bytes), (1, 65 * P));
        assert_eq!(reported.harvest.first_errno.map(|e| e.get()), Some(libc::EINVAL));
    }
    rig.finish();
}

/// 1 TiB: bits at both sides of every place where reads are cut.
#[test]
fn a_mapping_of_a_tebibyte() {
    let edges: Vec<u64> = (0..=8).flat_map(|i| [(i * 128 * GIB).saturating_sub(1), i * 128 * GIB]).collect();
    let mut pages: Vec<u64> = edges.into_iter().filter(|&page| page < 1024 * GIB).collect();
    pages.dedup();
    for log in [dma(|_| {}), Log::Type1(Type1Config::default()), Log::Hwpt(1, Kernel::V7_3)] {
        let rig = Rig::new(log, 1);
        rig.map_all(&[(0, 1024 * GIB)]);
        rig.start();
        rig.write(&pages);
        let reported = rig.harvest();
        assert_eq!(reported.list(), pages, "{log:?}");
        assert_eq!(reported.harvest.reads, if matches!(log, Log::Dma(_)) { 8 } else { 1 });
        rig.finish();
        rig.assert_clean();
    }
}
