//! A VMM that asks section by section reads each log once for a pass, and loses nothing by it, counted at the tracker.

use crate::rig::{Log, P, Rig, range};
use simdev::{DmaLog, Kernel};
use std::collections::BTreeSet;
use vfiomig::error::ErrorKind;
use vfiomig::tracker::{Dest, Harvest, IovaRange, Request};

/// Far apart, so that no log reads two of them together.
const FAR: u64 = 1 << 30;
const PLACES: [(u64, u64); 3] = [(0, 100), (FAR, 100), (2 * FAR, 100)];

/// One section, as a part of a pass; what it reports is copied.
fn section(
    rig: &Rig,
    pass: u64,
    (first, pages): (u64, u64),
    edit: impl FnOnce(&mut Request<'_>),
) -> (BTreeSet<u64>, Harvest) {
    let mut found = BTreeSet::new();
    let mut run = |cookie: u64, run: IovaRange| {
        for page in run.iova / P..(run.iova + run.size) / P {
            rig.ram.copy(page.wrapping_add(cookie / P));
            found.insert(page);
        }
        true
    };
    let dests = [Dest { range: range(first, pages), page_size: P, first_bit: 0, bitmap: None, token: 0 }];
    let mut request = Request { dests: &dests, run: Some(&mut run), pass, ..Request::default() };
    edit(&mut request);
    let harvest = rig.tracker.harvest(&mut request).unwrap();
    (found, harvest)
}

fn logs() -> Vec<Log> {
    let mut logs = Log::all();
    logs.extend([Log::Dma(DmaLog { page_size: 16 * P, ..DmaLog::default() }), Log::Hwpt(16, Kernel::V7_3)]);
    logs
}

#[test]
fn a_pass_reads_once_and_reports_all_sections() {
    for log in logs() {
        let rig = Rig::new(log, 1);
        rig.map_all(&PLACES);
        rig.start();
        rig.harvest();
        for pass in 1..4 {
            let wrote = [3, 4, 60, FAR + 3, 2 * FAR + 99];
            rig.write(&wrote);
            // Sections of halves of mappings, with holes in front and behind.
            let sections = [(0, 50), (50, 70), (FAR - 20, 70), (FAR + 50, 50), (2 * FAR, 100)];
            let mut all = BTreeSet::new();
            for (n, &at) in sections.iter().enumerate() {
                let (found, harvest) = section(&rig, pass, at, |_| {});
                let reads = matches!(log, Log::Everything) || (harvest.reads > 0) == (n == 0);
                assert!(reads, "{log:?}: section {n}: {} reads", harvest.reads);
                assert!(found.iter().all(|page| (at.0..at.0 + at.1).contains(page)), "{log:?}");
                all.extend(found);
            }
            assert!(wrote.iter().all(|page| all.contains(page)), "{log:?}: {all:?}");
            if log.is_exact() {
                assert_eq!(all.len(), wrote.len(), "{log:?}: {all:?}");
            }
        }
        rig.finish();
        rig.assert_clean();
    }
}

/// A display asks for its section out of turn: it is read by itself, and the pass is as it was.
#[test]
fn a_section_that_is_asked_for_again_is_read_by_itself() {
    for log in logs().into_iter().filter(|log| !matches!(log, Log::Everything)) {
        let rig = Rig::new(log, 1);
        rig.map_all(&PLACES);
        rig.start();
        rig.harvest();
        rig.write(&[3, FAR + 3, 2 * FAR + 3]);
        assert!(section(&rig, 9, PLACES[0], |_| {}).0.contains(&3), "{log:?}");
        rig.write(&[5, FAR + 5]);
        let (found, harvest) = section(&rig, 9, PLACES[0], |_| {});
        assert!(found.contains(&5) && harvest.reads == 1, "{log:?}: {found:?} {harvest:?}");
        // Not read again, so what was written since waits in its log.
        let (found, harvest) = section(&rig, 9, PLACES[1], |_| {});
        assert!(found.contains(&(FAR + 3)) && harvest.reads == 0, "{log:?}: {found:?} {harvest:?}");
        assert!(!log.is_exact() || !found.contains(&(FAR + 5)), "{log:?}: {found:?}");
        let (found, _) = section(&rig, 10, PLACES[1], |_| {});
        assert!(found.contains(&(FAR + 5)), "{log:?}: {found:?}");
        rig.finish();
        rig.assert_clean();
    }
}

#[test]
fn what_is_mapped_anew_in_a_pass_is_read() {
    for log in logs() {
        let rig = Rig::new(log, 1);
        rig.map_all(&PLACES);
        rig.start();
        rig.harvest();
        section(&rig, 1, PLACES[0], |_| {});
        rig.unmap(FAR, 100);
        rig.map(FAR, 100, FAR);
        section(&rig, 1, PLACES[1], |_| {});
        rig.write(&[FAR + 7]);
        let (found, _) = section(&rig, 1, PLACES[1], |_| {});
        assert!(found.contains(&(FAR + 7)), "{log:?}: {found:?}");
        rig.map(3 * FAR, 10, 3 * FAR);
        // A new mapping is dirty once, whatever its log says.
        assert_eq!(section(&rig, 1, (3 * FAR, 10), |_| {}).0.len(), 10, "{log:?}");
        rig.finish();
        rig.assert_clean();
    }
}

#[test]
fn a_final_harvest_is_a_pass_of_its_own() {
    for log in Log::all() {
        let rig = Rig::new(log, 1);
        rig.map_all(&PLACES);
        rig.start();
        section(&rig, 5, PLACES[0], |_| {});
        rig.write(&[2 * FAR + 1]);
        rig.tracker.begin_final().unwrap();
        let missing = || rig.tracker.final_missing().unwrap();
        // The number of a pass that was begun before.
        for place in PLACES {
            assert!(missing().is_some(), "{log:?}");
            section(&rig, 5, place, |_| {});
        }
        assert_eq!(missing(), None, "{log:?}");
        rig.assert_clean();
    }
}

#[test]
fn a_stop_ends_the_pass() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&PLACES);
    rig.start();
    section(&rig, 5, PLACES[0], |_| {});
    rig.tracker.stop().unwrap();
    rig.tracker.start().unwrap();
    rig.write(&[FAR + 1]);
    let (found, harvest) = section(&rig, 5, PLACES[1], |_| {});
    assert!(found.contains(&(FAR + 1)) && harvest.reads == 3, "{found:?} {harvest:?}");
}

#[test]
fn a_watcher_has_passes_too_and_takes_nothing() {
    for log in Log::all() {
        let rig = Rig::new(log, 1);
        rig.map_all(&PLACES);
        rig.start();
        rig.harvest();
        rig.write(&[3, FAR + 3]);
        for place in &PLACES[..2] {
            let (found, _) = section(&rig, 2, *place, |request| request.keep = true);
            assert!(found.contains(&(place.0 + 3)), "{log:?}: {found:?}");
        }
        for place in &PLACES[..2] {
            let (found, _) = section(&rig, 3, *place, |_| {});
            assert!(found.contains(&(place.0 + 3)), "{log:?}: {found:?}");
        }
        rig.finish();
        rig.assert_clean();
    }
}

#[test]
fn everything_by_mapping_is_one_section() {
    for log in Log::all() {
        let rig = Rig::new(log, 1);
        rig.map_all(&PLACES);
        rig.start();
        rig.harvest();
        rig.write(&[FAR + 3]);
        // Reads for those who ask later.
        rig.tracker.harvest(&mut Request { pass: 1, ..Request::default() }).unwrap();
        rig.write(&[FAR + 4]);
        let everything = |pass: u64| {
            let mut found = BTreeSet::new();
            let mut run = |_: u64, run: IovaRange| {
                found.extend(run.iova / P..(run.iova + run.size) / P);
                true
            };
            let harvest =
                rig.tracker.harvest(&mut Request { run: Some(&mut run), pass, ..Request::default() }).unwrap();
            (found, harvest.reads)
        };
        let (found, reads) = everything(1);
        assert!(found.contains(&(FAR + 3)) && reads == 0, "{log:?}: {found:?} {reads}");
        let (found, _) = everything(1);
        assert!(found.contains(&(FAR + 4)), "{log:?}: {found:?}");
    }
}

#[test]
fn a_pass_that_reads_nothing_is_misuse() {
    let rig = Rig::new(Log::Everything, 1);
    rig.map_all(&PLACES);
    rig.start();
    let mut request = Request { pass: 1, no_read: true, ..Request::default() };
    assert_eq!(rig.tracker.harvest(&mut request).unwrap_err().kind(), ErrorKind::Argument);
    let mut request = Request { pass: 1, ..Request::default() };
    assert_eq!(rig.unmap_into(0, 100, &mut request).unwrap_err().kind(), ErrorKind::Argument);
}
