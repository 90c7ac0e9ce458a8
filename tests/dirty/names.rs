//! Dirt belongs to the mapping it was written through: what is left over keeps the mapping's cookie, whatever becomes of the range.

use crate::memory::{MemoryLog, mapping, runs};
use crate::rig::{Log, P, range};
use std::cell::Cell;
use std::collections::BTreeSet;
use vfiomig::bitmap::Words;
use vfiomig::error::ErrorKind;
use vfiomig::tracker::{Dest, IovaRange, Request, Tracker, Unmap};

const A: u64 = 0xaaaa;
const B: u64 = 0xbbbb;

/// Pages 0 to 3 through A, page 2 written; pages 16 to 19 through another.
fn written() -> (MemoryLog, Tracker) {
    let log = MemoryLog::new(P);
    let t = log.tracker(0);
    t.map(&[mapping(0, 4 * P, A), mapping(16 * P, 4 * P, 1)]).unwrap();
    t.start().unwrap();
    log.write(2 * P);
    (log, t)
}

/// By a request that asks for nothing; by one whose callback stops at once.
fn unmap(t: &Tracker, stops: bool) {
    let mut run = |_: u64, _: IovaRange| false;
    let mut request = Request { run: if stops { Some(&mut run) } else { None }, ..Request::default() };
    let reported = t.unmap(range(0, 4), Unmap::Done, false, &mut request).unwrap();
    assert_eq!((reported.total, reported.stopped), (0, stops));
}

/// What was written through a mapping that is gone is reported with its cookie, also where another one has its address now.
#[test]
fn an_address_that_is_used_again() {
    for stops in [false, true] {
        let (log, t) = written();
        unmap(&t, stops);
        t.map(&[mapping(0, 4 * P, B)]).unwrap();
        log.write(3 * P);
        let mut reported = runs(&t, false);
        reported.sort_unstable();
        assert_eq!(reported, [(A, 2, 1), (B, 0, 4)], "each by its own cookie");
        assert_eq!(runs(&t, false), []);
    }
}

/// Whatever asks for everything gets it, and a final harvest is owed until it was reported.
#[test]
fn what_is_left_of_an_unmapped_range_is_owed() {
    for (stops, again) in [(false, false), (true, false), (false, true), (true, true)] {
        let (_log, t) = written();
        unmap(&t, stops);
        if again {
            t.map(&[mapping(0, 4 * P, B)]).unwrap();
        }
        t.begin_final().unwrap();
        t.harvest(&mut Request::default()).unwrap();
        let missing = t.final_missing().unwrap().expect("page 2 was not told");
        assert!(missing.contains("unmapped"), "{missing}");
        assert!(t.stop().is_err());
        assert!(runs(&t, true).contains(&(A, 2, 1)));
        assert_eq!(t.final_missing().unwrap(), None);
        t.stop().unwrap();
    }
}

/// A destination names pages by their IOVA as long as it has one meaning; with a run callback by their cookies too.
#[test]
fn destinations_of_addresses_that_are_gone_or_used_again() {
    let words = [Cell::new(0u64)];
    let bitmap = |t: &Tracker| {
        words[0].set(0);
        let bitmap = Some(Words::Plain(&words));
        let dests = [Dest { range: range(0, 8), page_size: P, first_bit: 0, bitmap, token: 0 }];
        t.harvest(&mut Request { dests: &dests, ..Request::default() }).unwrap();
        words[0].get()
    };
    let by_run = |t: &Tracker| {
        let mut reported = Vec::new();
        let mut run = |cookie: u64, run: IovaRange| {
            reported.push((cookie, run.iova / P, run.size / P));
            true
        };
        let dests = [Dest { range: range(1, 2), page_size: P, first_bit: 0, bitmap: None, token: 0 }];
        t.harvest(&mut Request { dests: &dests, run: Some(&mut run), ..Request::default() }).unwrap();
        reported
    };
    // Unmapped: there is one page 2, and it is reported with its cookie.
    let (_log, t) = written();
    unmap(&t, false);
    assert_eq!(bitmap(&t), 1 << 2);
    assert_eq!(runs(&t, false), []);
    let (_log, t) = written();
    unmap(&t, false);
    assert_eq!(by_run(&t), [(A, 2, 1)]);
    assert_eq!(runs(&t, false), []);
    // Mapped anew: a bitmap would tell another page.
    let (_log, t) = written();
    unmap(&t, false);
    t.map(&[mapping(0, P, B), mapping(2 * P, P, B)]).unwrap();
    assert_eq!(bitmap(&t), 1 | 1 << 2, "both are new");
    assert_eq!(bitmap(&t), 0);
    assert_eq!(by_run(&t), [(A, 2, 1)]);
    assert_eq!(runs(&t, false), []);
    // The same cookie: the same memory.
    let (_log, t) = written();
    unmap(&t, false);
    t.map(&[mapping(2 * P, P, A)]).unwrap();
    assert_eq!((bitmap(&t), bitmap(&t)), (1 << 2, 0));
    assert_eq!(runs(&t, false), []);
}

/// Mapped and unmapped again and again, at other cuts: every generation is reported.
#[test]
fn generations_of_one_address() {
    let log = MemoryLog::new(P);
    let t = log.tracker(0);
    t.start().unwrap();
    for generation in 0..4u64 {
        t.map(&[mapping(generation * P, 4 * P, 100 + generation)]).unwrap();
        t.unmap(range(generation, 4), Unmap::Done, false, &mut Request::default()).unwrap();
    }
    t.map(&[mapping(5 * P, P, 7)]).unwrap();
    let reported = runs(&t, false);
    // Of generation 3, pages 3, 4 and 6 are unmapped only, 5 is put aside.
    let mut wanted: Vec<(u64, u64, u64)> = (0..3).map(|generation| (100 + generation, generation, 4)).collect();
    wanted.extend([(103, 3, 2), (103, 5, 1), (103, 6, 1), (7, 5, 1)]);
    let pages = |runs: &[(u64, u64, u64)]| -> BTreeSet<(u64, u64)> {
        runs.iter().flat_map(|&(cookie, first, pages)| (first..first + pages).map(move |page| (cookie, page))).collect()
    };
    assert_eq!(pages(&reported), pages(&wanted));
    assert_eq!(runs(&t, true), []);
    t.stop().unwrap();
    t.start().unwrap();
    assert_eq!(runs(&t, true), [], "a stop forgets");
}

/// A mistake of the caller's, not of the kernel's.
#[test]
fn ranges_of_odd_size_are_refused() {
    for log in [Log::Everything, Log::Type1(simdev::Type1Config::default())] {
        let rig = crate::rig::Rig::new(log, 1);
        rig.map_all(&[(10, 10)]);
        rig.start();
        for (iova, size) in [(10 * P, 10 * P - 1), (10 * P + 1, 10 * P), (10 * P, 0), (u64::MAX - P + 1, 2 * P)] {
            for library in [false, matches!(log, Log::Type1(_))] {
                let how = if library { Unmap::Library } else { Unmap::Done };
                let error =
                    rig.tracker.unmap(IovaRange { iova, size }, how, false, &mut Request::default()).unwrap_err();
                assert_eq!((error.kind(), error.errno()), (ErrorKind::Argument, libc::EINVAL), "{error}");
            }
        }
        rig.assert_clean();
    }
}
