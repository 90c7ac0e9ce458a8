//! A tracker over a log in memory: what is written is reported, once, to the harvest that asks.

use super::*;
use crate::bitmap::Words;
use crate::error::Errno;
use crate::transport::tracker_ops::LogFunctions;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A log of 4 KiB units with pages of `page` bytes.
#[derive(Default)]
struct TestLog {
    page: u64,
    started: Vec<(u64, u64)>,
    dirty: BTreeSet<u64>,
    fail_next: Option<i32>,
    starts: u32,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<TestLog>>);

impl Shared {
    fn new(page: u64) -> Self {
        Shared(Arc::new(Mutex::new(TestLog { page, ..TestLog::default() })))
    }
    fn write(&self, unit: u64) {
        let mut log = self.0.lock();
        let at = unit * UNIT;
        if log.started.iter().any(|&(iova, size)| (iova..iova + size).contains(&at)) {
            let page = log.page;
            log.dirty.insert(at / page);
        }
    }
}

impl LogFunctions for Shared {
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        let mut log = self.0.lock();
        assert!(log.started.is_empty(), "START twice (L1)");
        log.page = log.page.max(page_size);
        log.started = ranges.iter().map(|&[iova, size]| (iova, size)).collect();
        log.dirty.clear();
        log.starts += 1;
        Ok(log.page)
    }
    fn report(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        let mut log = self.0.lock();
        let inside = |&(first, bytes): &(u64, u64)| {
            let skip = iova.checked_sub(first).filter(|_| size <= bytes - (iova - first));
            skip.is_some_and(|skip| skip % (64 * page_size) == 0)
        };
        assert!(log.started.iter().any(inside), "not a part of a started range, or not of whole words (L7)");
        assert_eq!(page_size, log.page);
        if let Some(errno) = log.fail_next.take() {
            return Err(Errno::new(errno));
        }
        let pages = iova / page_size..(iova + size) / page_size;
        for page in log.dirty.range(pages.clone()) {
            let bit = page - pages.start;
            bitmap[bit as usize / 64] |= 1 << (bit % 64);
        }
        // Past the end, as kernels do (I6).
        *bitmap.last_mut().unwrap() |= u64::from(bitmap.len() as u64 * 64 > pages.end - pages.start + 64) << 63;
        log.dirty.retain(|page| !pages.contains(page));
        Ok(())
    }
    fn stop(&self) -> Result<(), Errno> {
        self.0.lock().started.clear();
        Ok(())
    }
}

fn tracker(log: &Shared) -> Tracker {
    let functions: Option<Box<dyn LogFunctions>> = Some(Box::new(log.clone()));
    Tracker::new(TrackerOptions { name: "t".into(), functions, ..TrackerOptions::default() }).unwrap()
}

fn range(unit: u64, units: u64) -> IovaRange {
    IovaRange { iova: unit * UNIT, size: units * UNIT }
}

fn mapping(unit: u64, units: u64, cookie: u64) -> Mapping {
    Mapping { range: range(unit, units), cookie }
}

/// All that a bitmap has, as units of the IOVA from which it speaks.
fn units(words: &[Cell<u64>], dest: &Dest<'_>) -> BTreeSet<u64> {
    let per_page = dest.page_size / UNIT;
    let first = dest.range.iova / UNIT;
    let end = first + dest.range.size / UNIT;
    let bits = words.len() as u64 * 64;
    (0..bits)
        .filter(|&bit| words[bit as usize / 64].get() >> (bit % 64) & 1 == 1)
        .flat_map(|bit| {
            assert!(bit >= dest.first_bit, "a bit before the destination's first");
            let page = first + (bit - dest.first_bit) * per_page;
            assert!(page < end, "a bit after the destination's last");
            page..(page + per_page).min(end)
        })
        .collect()
}

/// Units grown to pages on the grid that begins at `origin`, within `limit`.
fn grown(set: &BTreeSet<u64>, origin: u64, per_page: u64, limit: std::ops::Range<u64>) -> BTreeSet<u64> {
    let page = |unit: u64| origin + (unit - origin) / per_page * per_page;
    set.iter().flat_map(|&unit| page(unit)..page(unit) + per_page).filter(|unit| limit.contains(unit)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_is_written_is_given_once(
        log_page in 0u32..5,
        dest_page in 0u32..5,
        cut in 1u64..500,
        first_bit in 0u64..130,
        writes in prop::collection::vec(0u64..600, 0..60),
        later in prop::collection::vec(0u64..600, 0..10),
        sections in any::<bool>(),
    ) {
        let log = Shared::new(UNIT << log_page);
        let t = tracker(&log);
        t.map(&[mapping(0, 300, 1), mapping(300, 200, 2)]).unwrap();
        t.start().unwrap();
        let written: BTreeSet<u64> = writes.iter().copied().filter(|&unit| unit < 500).collect();
        written.iter().for_each(|&unit| log.write(unit));
        let per = 1u64 << log_page;
        let dirty = grown(&written, 0, per, 0..500);
        let page_size = UNIT << dest_page;
        let words: Vec<Vec<Cell<u64>>> = (0..2).map(|_| vec![Cell::new(0); 12]).collect();
        let dest = |index: usize, first: u64, count: u64| Dest {
            range: range(first, count), page_size, first_bit, bitmap: Some(Words::Plain(&words[index])), token: 0,
        };
        let both = [dest(0, 0, cut), dest(1, cut, 500 - cut)];
        if sections {
            let first = t.harvest(&mut Request { dests: &both[..1], ..Request::default() }).unwrap();
            prop_assert!(first.reads > 0 && first.failed_reads == 0);
            let second = t.harvest(&mut Request { dests: &both[1..], no_read: true, ..Request::default() }).unwrap();
            prop_assert_eq!(second.reads, 0);
        } else {
            t.harvest(&mut Request { dests: &both, ..Request::default() }).unwrap();
        }
        let per_dest = 1u64 << dest_page;
        for (index, dest) in both.iter().enumerate() {
            let (first, end) = if index == 0 { (0, cut) } else { (cut, 500) };
            let mine: BTreeSet<u64> = dirty.range(first..end).copied().collect();
            prop_assert_eq!(units(&words[index], dest), grown(&mine, first, per_dest, first..end));
        }
        // Nothing twice, and what comes later comes.
        words.iter().flatten().for_each(|word| word.set(0));
        later.iter().filter(|&&unit| unit < 500).for_each(|&unit| log.write(unit));
        let again = t.harvest(&mut Request { dests: &both, ..Request::default() }).unwrap();
        prop_assert_eq!(again.total == 0, later.iter().all(|&unit| unit >= 500));
        t.stop().unwrap();
    }

    #[test]
    fn callbacks_get_all_and_a_stop_loses_nothing(
        log_page in 0u32..5,
        // Also around the end of a callback's window, which may cut a page of the log.
        writes in prop::collection::vec(prop_oneof![0u64..3000, (1u64 << 18) - 200..(1 << 18) + 100], 1..60),
        first_bit in 0u64..130,
        stop_after in 0usize..6,
        as_words in any::<bool>(),
        whole in any::<bool>(),
    ) {
        let log = Shared::new(UNIT << log_page);
        let t = tracker(&log);
        t.map(&[mapping(0, 1000, 7), mapping(1000, 1 << 18, 8)]).unwrap();
        t.start().unwrap();
        writes.iter().for_each(|&unit| log.write(unit));
        let written: BTreeSet<u64> = writes.iter().copied().collect();
        let end = 1000 + (1 << 18);
        let dirty = grown(&written, 0, 1 << log_page, 0..end);
        let dests = [Dest { range: range(0, end), page_size: UNIT, first_bit, bitmap: None, token: 3 }];
        let mut got = BTreeSet::new();
        let mut calls = 0;
        for round in 0..200 {
            let limit = if round == 0 { stop_after } else { usize::MAX };
            calls = 0;
            let mut words = |dest: &Dest<'_>, first: u64, words: &[u64]| {
                assert_eq!((dest.token, first % 64), (3, 0));
                if calls >= limit { return false; }
                calls += 1;
                for (index, word) in words.iter().enumerate() {
                    for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                        assert!(got.insert(first + index as u64 * 64 + bit - first_bit), "twice");
                    }
                }
                true
            };
            let result = if as_words && !whole {
                t.harvest(&mut Request { dests: &dests, words: Some(&mut words), no_read: round > 0, ..Request::default() })
            } else {
                let mut run = |cookie: u64, range: IovaRange| {
                    if calls >= limit { return false; }
                    calls += 1;
                    let first = range.iova / UNIT;
                    assert_eq!(cookie, if first < 1000 { 7 } else { 8 });
                    assert!(first >= 1000 || first + range.size / UNIT <= 1000, "a run over two mappings");
                    for unit in first..first + range.size / UNIT {
                        assert!(got.insert(unit), "twice");
                    }
                    true
                };
                let dests = if whole { &[][..] } else { &dests[..] };
                t.harvest(&mut Request { dests, run: Some(&mut run), no_read: round > 0, ..Request::default() })
            }.unwrap();
            if !result.stopped { break; }
        }
        let _ = calls;
        prop_assert_eq!(got, dirty);
        t.close().unwrap();
    }
}

#[test]
fn holes_are_never_dirty_whoever_asks() {
    let log = Shared::new(16 * UNIT);
    let t = tracker(&log);
    t.map(&[mapping(5, 5, 0), mapping(12, 20, 0), mapping(100, 1, 0)]).unwrap();
    t.start().unwrap();
    log.write(6);
    log.write(100);
    let words = vec![Cell::new(0u64); 4];
    let dests =
        [Dest { range: range(0, 200), page_size: UNIT, first_bit: 0, bitmap: Some(Words::Plain(&words)), token: 0 }];
    t.harvest(&mut Request { dests: &dests, ..Request::default() }).unwrap();
    assert_eq!(units(&words, &dests[0]), (5..10).chain(12..16).chain([100]).collect());
}

/// A page of a destination that reaches beyond a mapping is reported by run as far as it is mapped, and refused so far too.
#[test]
fn runs_of_coarse_pages_end_where_nothing_is_mapped() {
    let log = Shared::new(UNIT);
    let t = tracker(&log);
    t.map(&[mapping(5, 5, 3), mapping(12, 20, 4)]).unwrap();
    t.start().unwrap();
    for (stops, words) in [(false, false), (true, false), (true, true)] {
        log.write(6);
        log.write(20);
        let mut reported = Vec::new();
        let mut run = |cookie: u64, range: IovaRange| {
            reported.push((cookie, range.iova / UNIT, range.size / UNIT));
            !stops
        };
        let mut refuse = |_: &Dest<'_>, _: u64, _: &[u64]| false;
        let dests = [Dest { range: range(0, 200), page_size: 16 * UNIT, first_bit: 0, bitmap: None, token: 0 }];
        let mut request = Request { dests: &dests, ..Request::default() };
        if words {
            request.words = Some(&mut refuse);
        } else {
            request.run = Some(&mut run);
        }
        t.harvest(&mut request).unwrap();
        if words {
            t.harvest(&mut Request { dests: &dests, run: Some(&mut run), ..Request::default() }).unwrap();
        }
        let wanted = [(3, 5, 5), (4, 12, 4), (4, 16, 16)];
        assert!(reported.iter().all(|run| wanted.contains(run) || *run == (4, 12, 20)), "{reported:?}");
        t.begin_final().unwrap();
        let mut all = |_: u64, _: IovaRange| true;
        t.harvest(&mut Request { run: Some(&mut all), ..Request::default() }).unwrap();
        assert_eq!(t.final_missing().unwrap(), None, "nothing is left where nothing is mapped");
        t.end_final().unwrap();
    }
}

#[test]
fn a_failed_read_is_all_dirty_and_the_log_is_started_anew() {
    let log = Shared::new(UNIT);
    let t = tracker(&log);
    t.map(&[mapping(0, 100, 0)]).unwrap();
    t.start().unwrap();
    log.write(5);
    log.0.lock().fail_next = Some(libc::EIO);
    let words = vec![Cell::new(0u64); 4];
    let dests =
        [Dest { range: range(0, 100), page_size: UNIT, first_bit: 0, bitmap: Some(Words::Plain(&words)), token: 0 }];
    let result = t.harvest(&mut Request { dests: &dests, ..Request::default() }).unwrap();
    assert_eq!((result.failed_reads, result.degraded_bytes, result.newly), (1, 100 * UNIT, 100));
    assert_eq!(result.first_errno.map(Errno::get), Some(libc::EIO));
    assert_eq!(log.0.lock().starts, 2);
    let result = t.harvest(&mut Request { dests: &dests, ..Request::default() }).unwrap();
    assert_eq!((result.failed_reads, result.total), (0, 0));
}

/// Units of a GiB, to which ranges are rounded out.
const GIB: u64 = (1 << 30) / UNIT;

#[test]
fn a_mapping_within_a_started_range_needs_no_restart_and_another_makes_all_dirty() {
    let log = Shared::new(64 * UNIT);
    let t = tracker(&log);
    t.map(&[mapping(0, 10, 0)]).unwrap();
    t.start().unwrap();
    t.start().unwrap();
    let starts = log.0.lock().starts;
    t.map(&[mapping(20, 10, 0)]).unwrap();
    assert_eq!(log.0.lock().starts, starts);
    let total = |t: &Tracker| {
        let mut run = |_: u64, _: IovaRange| true;
        t.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap().total
    };
    assert_eq!(total(&t), 10);
    t.map(&[mapping(GIB, 1, 0)]).unwrap();
    assert_eq!(log.0.lock().starts, starts + 1);
    assert_eq!(total(&t), 21);
    assert_eq!(total(&t), 0);
    t.stop().unwrap();
    log.write(3);
    assert_eq!(total(&t), 20, "the first stop of two stops nothing; one page of the log has both mappings");
    t.stop().unwrap();
    assert!(log.0.lock().started.is_empty());
    assert!(t.stop().is_err());
}

#[test]
fn the_final_harvest_is_owed_until_all_was_asked_for() {
    let log = Shared::new(UNIT);
    let t = tracker(&log);
    t.map(&[mapping(0, 10, 0)]).unwrap();
    t.start().unwrap();
    t.begin_final().unwrap();
    assert!(t.stop().unwrap_err().to_string().contains("final harvest"));
    log.write(3);
    log.write(8);
    let words = vec![Cell::new(0u64); 1];
    let half = |first| {
        [Dest { range: range(first, 5), page_size: UNIT, first_bit: 0, bitmap: Some(Words::Plain(&words)), token: 0 }]
    };
    t.harvest(&mut Request { dests: &half(0), ..Request::default() }).unwrap();
    assert!(t.final_missing().unwrap().is_some());
    t.harvest(&mut Request { dests: &half(5), no_read: true, ..Request::default() }).unwrap();
    assert_eq!(t.final_missing().unwrap(), None);
    t.stop().unwrap();
}

#[test]
fn misuse_is_told_and_changes_nothing() {
    let log = Shared::new(UNIT);
    let t = tracker(&log);
    assert!(t.map(&[mapping(0, 10, 0), mapping(5, 10, 0)]).is_err());
    assert!(t.map(&[Mapping { range: IovaRange { iova: 1, size: UNIT }, cookie: 0 }]).is_err());
    assert!(t.map(&[Mapping { range: IovaRange { iova: 0, size: 0 }, cookie: 0 }]).is_err());
    assert_eq!(t.info().mapped_ranges, 0);
    assert!(t.harvest(&mut Request::default()).is_err(), "harvest without start");
    t.start().unwrap();
    let words = vec![Cell::new(0u64); 1];
    let dest = |first, count, page_size, first_bit| Dest {
        range: range(first, count),
        page_size,
        first_bit,
        bitmap: Some(Words::Plain(&words)),
        token: 0,
    };
    for dests in [
        vec![dest(0, 65, UNIT, 0)],
        vec![dest(0, 1, UNIT, 64)],
        vec![dest(0, 1, UNIT, u64::MAX)],
        vec![dest(0, 1, 2048, 0)],
        vec![dest(0, 1, 3 * UNIT, 0)],
        vec![dest(0, 2, UNIT, 0), dest(1, 2, UNIT, 0)],
        vec![Dest { bitmap: None, ..dest(0, 1, UNIT, 0) }],
    ] {
        assert!(t.harvest(&mut Request { dests: &dests, ..Request::default() }).is_err(), "{dests:?}");
    }
    assert!(harvest(&[&t, &t], &mut Request::default()).is_err());
    let mut reentered = None;
    t.map(&[mapping(0, 1, 0)]).unwrap();
    let mut run = |_: u64, _: IovaRange| {
        reentered = Some(t.stop().unwrap_err().errno());
        true
    };
    t.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    assert_eq!(reentered, Some(libc::EDEADLK));
}

#[test]
fn unmapping_takes_what_was_written_and_cuts_no_mapping() {
    let log = Shared::new(UNIT);
    let t = tracker(&log);
    t.map(&[mapping(0, 10, 4), mapping(10, 10, 5)]).unwrap();
    t.start().unwrap();
    log.write(3);
    let mut unmapped = Vec::new();
    let mut by = |range: IovaRange| {
        log.write(4);
        unmapped.push(range);
        Ok(())
    };
    assert!(t.unmap(range(0, 5), Unmap::Done, false, &mut Request::default()).is_err());
    assert!(t.unmap(range(0, 10), Unmap::Library, false, &mut Request::default()).is_err());
    let mut reported = Vec::new();
    let mut run = |cookie: u64, range: IovaRange| {
        reported.push((cookie, range));
        true
    };
    let request = &mut Request { run: Some(&mut run), ..Request::default() };
    let result = t.unmap(range(0, 10), Unmap::By(&mut by), false, request).unwrap();
    assert_eq!((result.total, unmapped.len()), (2, 1));
    assert_eq!(reported, [(4, range(3, 2))]);
    assert_eq!(t.info().mapped_ranges, 1);
    let mut refuse = |_: IovaRange| Err(Errno::new(libc::EBUSY));
    let failed = t.unmap(range(10, 10), Unmap::By(&mut refuse), false, &mut Request::default()).unwrap_err();
    assert_eq!(failed.errno(), libc::EBUSY);
    assert_eq!(t.info().mapped_ranges, 1);
}
