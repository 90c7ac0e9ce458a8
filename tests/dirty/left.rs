//! What was read and not asked for: kept for the harvest that asks, given once, never lost.

use crate::rig::{Log, P, Rig, range};
use simdev::{Access, DmaLog};
use std::collections::BTreeSet;
use vfiomig::dialect::State;
use vfiomig::tracker::{Dest, IovaRange, Request};

const SECTIONS: [(u64, u64); 4] = [(0, 64), (64, 100), (1000, 30), (5000, 3)];

/// A section into the copy, as a VMM that asks section by section.
fn section(rig: &Rig, number: usize, no_read: bool) -> BTreeSet<u64> {
    let (first, pages) = SECTIONS[number];
    let mut reported = BTreeSet::new();
    let mut run = |_cookie: u64, run: IovaRange| {
        for page in run.iova / P..(run.iova + run.size) / P {
            rig.ram.copy(page);
            // Each device's log tells its own.
            assert!(reported.insert(page) || rig.devices.len() > 1, "page {page:#x} is told twice");
        }
        true
    };
    let dests = [Dest { range: range(first, pages), page_size: P, first_bit: 0, bitmap: None, token: 0 }];
    rig.tracker.harvest(&mut Request { dests: &dests, run: Some(&mut run), no_read, ..Request::default() }).unwrap();
    reported
}

#[test]
fn section_by_section_with_one_read_a_pass() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 2);
    rig.map_all(&SECTIONS);
    rig.start();
    let ranges: Vec<_> = SECTIONS.iter().map(|&(first, pages)| first..first + pages).collect();
    let writers = rig.writers(&ranges, 3);
    let reports = |rig: &Rig| rig.devices[0].count(Access::DmaLogReport);
    let logged_ranges = rig.tracker.info().logged_ranges;
    for pass in 0..10 {
        writers.wait(100);
        let (owed, before) = (rig.ram.owed(), reports(&rig));
        let mut reported = BTreeSet::new();
        for number in 0..SECTIONS.len() {
            reported.extend(section(&rig, (number + pass) % SECTIONS.len(), number > 0));
        }
        assert_eq!(reports(&rig) - before, logged_ranges, "one read of each range a pass");
        assert!(owed.is_subset(&reported));
    }
    rig.set_state(State::StopCopy);
    for number in 0..SECTIONS.len() {
        section(&rig, number, number > 0);
    }
    rig.ram.assert_same();
    writers.stop();
    rig.assert_clean();
}

#[test]
fn what_is_left_adds_up_and_goes_once() {
    for log in Log::all().into_iter().filter(Log::is_exact) {
        let rig = Rig::new(log, 1);
        rig.map_all(&SECTIONS);
        rig.start();
        rig.write(&[3, 70, 1001]);
        assert_eq!(section(&rig, 3, false).len(), 0);
        rig.write(&[3, 71]);
        assert_eq!(section(&rig, 3, false).len(), 0);
        rig.write(&[72]);
        assert_eq!(section(&rig, 1, true).into_iter().collect::<Vec<_>>(), [70, 71], "{log:?}: 72 was not read");
        assert_eq!(section(&rig, 1, true).len(), 0);
        assert_eq!(section(&rig, 1, false).into_iter().collect::<Vec<_>>(), [72]);
        assert_eq!(rig.take(true).list(), [3, 1001]);
        assert_eq!(rig.take(true).list(), [0u64; 0]);
        rig.finish();
        rig.assert_clean();
    }
}

/// P12: leaving STOP_COPY is refused by the tracker as long as something is owed.
#[test]
fn a_final_harvest_is_owed_until_everything_was_read_and_given() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&SECTIONS);
    rig.start();
    rig.write(&[1, 65, 5001]);
    rig.set_state(State::StopCopy);
    assert_eq!(rig.tracker.final_missing().unwrap(), None);
    rig.tracker.begin_final().unwrap();
    let refused = |text: &str| {
        assert_eq!(rig.tracker.final_missing().unwrap().as_deref(), Some(text));
        let error = rig.tracker.stop().unwrap_err();
        assert_eq!(error.kind(), vfiomig::error::ErrorKind::Order);
        assert_eq!(error.to_string(), format!("rig: the final harvest is owed: {text}"));
        assert!(rig.devices[0].dma_logging());
    };
    refused("it was not harvested since STOP_COPY began");
    section(&rig, 0, true);
    refused("it was not harvested since STOP_COPY began");
    section(&rig, 0, false);
    refused("dirty pages were read that no harvest has asked for");
    section(&rig, 1, true);
    refused("dirty pages were read that no harvest has asked for");
    rig.tracker.start().unwrap();
    rig.tracker.stop().unwrap();
    section(&rig, 3, true);
    assert_eq!(rig.tracker.final_missing().unwrap(), None);
    rig.ram.assert_same();
    rig.tracker.stop().unwrap();
    assert!(!rig.devices[0].dma_logging());
    // An aborted migration owes nothing.
    rig.tracker.start().unwrap();
    rig.tracker.begin_final().unwrap();
    assert!(rig.tracker.stop().is_err());
    rig.tracker.end_final().unwrap();
    rig.tracker.stop().unwrap();
    // One that was stopped before has nothing left to give.
    rig.tracker.begin_final().unwrap();
    assert_eq!(rig.tracker.final_missing().unwrap().unwrap(), "the log was stopped, and what it knew is gone");
    rig.assert_clean();
}

/// What was written to a range that is gone stays under its address, for the destination that asks for it.
#[test]
fn leftovers_of_an_unmapped_range() {
    for log in Log::all().into_iter().filter(Log::is_exact) {
        let rig = Rig::new(log, 1);
        rig.map_all(&SECTIONS);
        rig.start();
        rig.write(&[3, 70, 71]);
        rig.unmap_into(64, 100, &mut Request::default()).unwrap();
        let reported: Vec<u64> = section(&rig, 1, true).into_iter().collect();
        // Page tables are gone with their bits, so all of it is dirty (I9).
        let all: Vec<u64> = (64..164).collect();
        assert_eq!(reported, if matches!(log, Log::Hwpt(..)) { &all[..] } else { &[70, 71] }, "{log:?}");
        rig.finish();
        rig.assert_clean();
    }
}
