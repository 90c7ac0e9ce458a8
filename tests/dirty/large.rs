//! Pages of a log that several parts share: each part is reported before the bit goes, wherever the bits come from.

use crate::memory::{MemoryLog, mapping, runs};
use crate::rig::{Log, P, Rig, range};
use simdev::{Kernel, Ram};
use vfiomig::tracker::{Dest, IovaRange, Request};

const GIB: u64 = 1 << 30;

/// What was read and not asked for is kept whole, up to the largest page that can be asked for.
#[test]
fn a_page_of_any_size_is_left_over_whole() {
    for page in [1 << 21, 64 << 20, 128 << 20, 256 << 20, 512 << 20, GIB] {
        let log = MemoryLog::new(page);
        let t = log.tracker(page);
        t.map(&[mapping(0, 4 * GIB, 7), mapping(5 * GIB, GIB, 8)]).unwrap();
        t.start().unwrap();
        log.write(300 << 20);
        log.write(5 * GIB);
        t.harvest(&mut Request::default()).unwrap();
        let first = (300 << 20) / page * page;
        let whole = |cookie, first: u64| (cookie, first / P, page / P);
        assert_eq!(runs(&t, true), [whole(7, first), whole(8, 5 * GIB)], "{:#x}", page);
        assert_eq!(runs(&t, true), []);
    }
}

/// A page table of large pages, asked section by section as QEMU does.
#[test]
fn large_pages_of_a_page_table() {
    const PAGES: u64 = GIB / P;
    let rig = Rig::with(Log::Hwpt(PAGES, Kernel::V7_3), 1, &Ram::new(), |o| o.page_size = Some(GIB));
    rig.map_all(&[(0, PAGES), (4 * PAGES, 4 * PAGES)]);
    rig.tracker.start().unwrap();
    let written = 5 * PAGES + 200_000;
    rig.write(&[written]);
    let mut reported = Vec::new();
    for (first, pages, no_read) in [(0, PAGES, false), (4 * PAGES, 4 * PAGES, true)] {
        let mut run = |_: u64, run: IovaRange| {
            reported.push((run.iova / P, run.size / P));
            true
        };
        let dests = [Dest { range: range(first, pages), page_size: P, first_bit: 0, bitmap: None, token: 0 }];
        rig.tracker
            .harvest(&mut Request { dests: &dests, run: Some(&mut run), no_read, ..Request::default() })
            .unwrap();
    }
    assert_eq!(reported, [(5 * PAGES, PAGES)]);
    rig.assert_clean();
}

/// What the check read at the start finds goes to every mapping that shares the page.
#[test]
fn the_check_read_tells_all_who_share_a_page() {
    for (iova, gap) in [(0x1000, 0x4000), (0x3000, 0x1000)] {
        let log = MemoryLog::new(0x10000);
        log.state().at_start = vec![iova + gap];
        let t = log.tracker(0);
        t.map(&[mapping(iova, P, 1), mapping(iova + gap, P, 2)]).unwrap();
        t.start().unwrap();
        assert_eq!(runs(&t, false), [(1, iova / P, 1), (2, (iova + gap) / P, 1)]);
    }
}

/// A page that is new and was written is reported once, and counted once.
#[test]
fn a_page_that_is_left_over_twice_is_reported_once() {
    let rig = Rig::new(Log::Hwpt(1, Kernel::V6_12), 1);
    rig.map_all(&[(0, 4)]);
    rig.start();
    rig.write(&[2]);
    rig.map(10, 4, 10);
    rig.write(&[11]);
    rig.tracker.harvest(&mut Request::default()).unwrap();
    let reported = rig.take(true);
    assert_eq!((reported.list(), reported.harvest.total), (vec![2, 10, 11, 12, 13], 5));
    assert_eq!(rig.take(true).list(), [0u64; 0]);
    rig.finish();
    rig.assert_clean();
}
