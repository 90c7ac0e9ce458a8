//! What a call costs follows from what it has to do, not from how much is mapped.

use crate::memory::{MemoryLog, mapping, runs};
use crate::rig::{P, range};
use std::time::{Duration, Instant};
use vfiomig::tracker::{IovaRange, Mapping, Request, Unmap};

/// The best time of an unmapping beside so many mappings, which asks for everything by run, or for nothing.
fn unmapping(mappings: u64, asks: bool) -> Duration {
    let log = MemoryLog::new(P);
    let t = log.tracker(0);
    let list: Vec<Mapping> = (0..mappings).map(|n| mapping(n * 4 * P, P, n)).collect();
    t.map(&list).unwrap();
    t.start().unwrap();
    runs(&t, false);
    let mut best = Duration::MAX;
    for n in 0..60 {
        let page = (n * 7919 % mappings) * 4;
        log.write(page * P);
        let mut reported = 0;
        let mut run = |_: u64, run: IovaRange| {
            reported += run.size / P;
            true
        };
        let mut request = Request { run: if asks { Some(&mut run) } else { None }, ..Request::default() };
        let begun = Instant::now();
        t.unmap(range(page, 1), Unmap::Done, false, &mut request).unwrap();
        best = best.min(begun.elapsed());
        assert_eq!(reported, u64::from(asks));
    }
    best
}

/// 100 times as many mappings made it 100 times as slow.
#[test]
fn an_unmapping_does_not_walk_all_mappings() {
    for asks in [true, false] {
        let (few, many) = (unmapping(300, asks), unmapping(30_000, asks));
        assert!(many < few * 12 + Duration::from_micros(100), "{asks}: {few:?} and {many:?}");
    }
}
