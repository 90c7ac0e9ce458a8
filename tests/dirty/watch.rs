//! One user takes, any number of others watch: what a watcher gets is reported again to the one that takes it.

use crate::memory::{MemoryLog, mapping, runs};
use crate::rig::{Log, P, Rig, range};
use std::cell::Cell;
use vfiomig::bitmap::Words;
use vfiomig::tracker::{Dest, Harvest, IovaRange, Request, Tracker, Unmap};

/// What a watcher sees of the first 128 pages: by runs, by words, in a bitmap; and stopped at once.
fn watch(t: &Tracker, how: usize, no_read: bool) -> (Vec<u64>, Harvest) {
    let words: [Cell<u64>; 2] = Default::default();
    let mut seen = Vec::new();
    let mut run = |_: u64, run: IovaRange| {
        seen.extend(run.iova / P..(run.iova + run.size) / P);
        how != 3
    };
    let mut by_words = |_: &Dest<'_>, first: u64, piece: &[u64]| {
        for (index, word) in piece.iter().enumerate() {
            words[first as usize / 64 + index].set(*word);
        }
        true
    };
    let bitmap = (how == 2).then_some(Words::Plain(&words));
    let dests = [Dest { range: range(0, 128), page_size: P, first_bit: 0, bitmap, token: 0 }];
    let mut request = Request { keep: true, no_read, ..Request::default() };
    match how {
        0 | 3 => request.run = Some(&mut run),
        1 => {
            request.dests = &dests;
            request.words = Some(&mut by_words);
        }
        _ => request.dests = &dests,
    }
    let harvest = t.harvest(&mut request).unwrap();
    seen.extend((0..128).filter(|bit| words[*bit as usize / 64].get() >> (bit % 64) & 1 == 1));
    (seen, harvest)
}

/// In every form, of every log, as often as they like.
#[test]
fn what_watchers_see_is_reported_to_the_taker() {
    for log in Log::all().into_iter().filter(Log::is_exact) {
        let rig = Rig::new(log, 1);
        rig.map_all(&[(0, 64), (64, 30)]);
        rig.start();
        rig.write(&[5, 63, 64, 90]);
        for how in [0, 1, 2, 0] {
            let (seen, harvest) = watch(&rig.tracker, how, false);
            assert_eq!((seen, harvest.total), (vec![5, 63, 64, 90], 4), "{log:?} {how}");
        }
        let (seen, harvest) = watch(&rig.tracker, 3, true);
        assert_eq!((seen.first(), harvest.stopped, harvest.total), (Some(&5), true, 0), "{log:?}");
        rig.write(&[6]);
        assert_eq!(rig.harvest().list(), [5, 6, 63, 64, 90], "{log:?}");
        assert_eq!(watch(&rig.tracker, 0, true).0, [0u64; 0], "{log:?}");
        rig.write(&[7]);
        assert_eq!(watch(&rig.tracker, 2, true).0, [0u64; 0], "{log:?}: not read");
        rig.finish();
        rig.assert_clean();
    }
}

/// The last harvest is that of the one who takes.
#[test]
fn a_watcher_does_no_final_harvest() {
    let log = MemoryLog::new(P);
    let t = log.tracker(0);
    t.map(&[mapping(0, 64 * P, 1)]).unwrap();
    t.start().unwrap();
    t.begin_final().unwrap();
    let missing = || t.final_missing().unwrap();
    // Also if there is nothing to tell.
    watch(&t, 0, false);
    assert!(missing().is_some());
    log.write(7 * P);
    watch(&t, 2, false);
    assert!(missing().is_some());
    assert_eq!(runs(&t, false), [(1, 7, 1)]);
    assert_eq!(missing(), None);
    log.write(8 * P);
    watch(&t, 0, false);
    assert!(missing().is_some(), "what was read for a watcher is owed to the other");
    assert_eq!(runs(&t, true), [(1, 8, 1)]);
    assert_eq!(missing(), None);
}

/// A page that is left over as a range and as a bit is shown once; what is unmapped is shown with its name, and stays.
#[test]
fn a_watcher_of_ranges_that_come_and_go() {
    let log = MemoryLog::new(P);
    let t = log.tracker(0);
    t.map(&[mapping(0, 4 * P, 1)]).unwrap();
    t.start().unwrap();
    log.write(P);
    let all = |t: &Tracker| {
        let mut reported = Vec::new();
        let mut run = |cookie: u64, run: IovaRange| {
            reported.push((cookie, run.iova / P, run.size / P));
            true
        };
        let harvest = t.harvest(&mut Request { run: Some(&mut run), keep: true, ..Request::default() }).unwrap();
        reported.sort_unstable();
        (reported, harvest.total)
    };
    let mut seen = 0;
    let mut run = |_: u64, run: IovaRange| {
        seen += run.size / P;
        true
    };
    let mut request = Request { run: Some(&mut run), keep: true, ..Request::default() };
    t.unmap(range(0, 4), Unmap::Done, false, &mut request).unwrap();
    assert_eq!(seen, 1);
    t.map(&[mapping(0, 4 * P, 2)]).unwrap();
    log.write(2 * P);
    for _ in 0..2 {
        assert_eq!(all(&t), (vec![(1, 1, 1), (2, 0, 4)], 5));
    }
    let mut reported = runs(&t, false);
    reported.sort_unstable();
    assert_eq!(reported, [(1, 1, 1), (2, 0, 4)]);
    assert_eq!(all(&t).1, 0);
}
