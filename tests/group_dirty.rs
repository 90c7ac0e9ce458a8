//! A migration and its dirty logs together: whatever a device writes to RAM, in whatever phase, a harvest tells it, and the
//! final one leaves nothing out (P12).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Rig, Stream};
use simdev::{Config, DmaLog, DraftForm};
use std::collections::BTreeSet;
use std::sync::Arc;
use vfiomig::dialect::{Caps, State};
use vfiomig::migration::{AbortTo, Phase};
use vfiomig::tracker::{self, LogKind, Tracker};

const PAGES: u64 = 4096;

/// v2 devices with DMA logs in one address space, drafts with their own window in another.
fn rig(max_workers: usize) -> (Rig, [Arc<Tracker>; 2]) {
    let v2 = |caps, stops_itself| {
        let log = DmaLog { stops_itself, ..DmaLog::default() };
        Config { dma_log: Some(log), ..Config::v2(caps).state_size(3000) }
    };
    let configs = [
        v2(Caps { p2p: true, pre_copy: true }, false),
        v2(Caps { p2p: true, pre_copy: false }, true),
        Config::draft(DraftForm::Rewrite).state_size(3000),
        Config::draft(DraftForm::Sticky).state_size(3000),
    ];
    let rig = Rig::source(&configs, max_workers);
    rig.group.remove_tracker(&rig.tracker).unwrap();
    let trackers = [&rig.devices[..2], &rig.devices[2..]].map(|devices| {
        let options = tracker::TrackerOptions {
            name: "ram".into(),
            devices: devices.to_vec(),
            ..tracker::TrackerOptions::default()
        };
        let tracker = Arc::new(Tracker::new(options).unwrap());
        tracker
            .map(&[tracker::Mapping { range: tracker::IovaRange { iova: 0, size: PAGES * 4096 }, cookie: 0 }])
            .unwrap();
        rig.group.add_tracker(Arc::clone(&tracker)).unwrap();
        tracker
    });
    (rig, trackers)
}

/// Each device writes a page of its own, where it still can; the pages that were written.
fn write(rig: &Rig, first: u64) -> BTreeSet<u64> {
    let written =
        |(i, fake): (usize, &simdev::Device)| fake.dma_write(first + i as u64).ok().map(|()| first + i as u64);
    rig.fakes.iter().enumerate().filter_map(written).collect()
}

#[test]
fn every_page_that_was_written_is_told() {
    for max_workers in [1, 0] {
        let (rig, trackers) = rig(max_workers);
        let save = rig.save();
        save.advance(Phase::SaveTracking).unwrap();
        assert_eq!(trackers.clone().map(|tracker| tracker.info().kind), [LogKind::DmaLog, LogKind::Draft]);
        let mut told = BTreeSet::new();
        let mut written = write(&rig, 0);
        assert_eq!(written.len(), 4, "tracked from before any RAM is sent");
        save.advance(Phase::SavePreCopy).unwrap();
        written.extend(write(&rig, 100));
        told.extend(rig.harvest());
        assert_eq!(told, written);
        let mut streams = vec![Stream::default(); 4];
        rig.drain_all(&mut streams).unwrap();
        written.extend(write(&rig, 200));
        told.extend(rig.harvest());
        save.advance(Phase::SaveP2pGrace).unwrap();
        // v2's P2P states, and devices without any, still write to RAM: the final harvest comes after STOP_COPY began.
        let late = write(&rig, 300);
        assert_eq!(late.len(), 4);
        told.extend(rig.harvest());
        let last = write(&rig, 400);
        written.extend(late.into_iter().chain(last));
        save.advance(Phase::SaveStopCopy).unwrap();
        assert!(write(&rig, 500).is_empty());
        assert!(save.advance(Phase::SaveHalted).is_err());
        rig.drain_all(&mut streams).unwrap();
        told.extend(rig.harvest());
        save.advance(Phase::SaveHalted).unwrap();
        assert_eq!(told, written, "not a page less; and these logs are exact");
        assert!(trackers.iter().all(|tracker| tracker.info().starts == 0));
        assert!(!rig.fakes[0].dma_logging());
        rig.assert_clean("dirty");
    }
}

#[test]
fn an_abort_stops_the_logs() {
    let (rig, trackers) = rig(0);
    rig.allow_abort();
    let save = rig.save();
    for phase in [Phase::SavePreCopy, Phase::SaveStopCopy] {
        save.advance(phase).unwrap();
        assert!(rig.fakes[0].dma_logging());
        save.abort(AbortTo::Running).unwrap();
        assert!(!rig.fakes[0].dma_logging() && trackers.iter().all(|tracker| tracker.info().starts == 0));
        assert!(rig.states().iter().all(|&s| s == State::Running));
    }
    rig.assert_clean("abort");
}

#[test]
fn a_pause_in_precopy_loses_no_page() {
    let (rig, _) = rig(0);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let mut written = write(&rig, 0);
    rig.group.pause().unwrap();
    assert!(write(&rig, 50).is_empty());
    rig.group.resume().unwrap();
    written.extend(write(&rig, 100));
    let told: BTreeSet<u64> = rig.harvest().into_iter().collect();
    // A draft's log is lost with its session: then everything may be dirty, and nothing is called clean.
    assert!(told.is_superset(&written), "{:?}", written.difference(&told).collect::<Vec<_>>());
}

/// What a migration tracks is not stopped by somebody else's stop, and the gate of HALTED stays.
#[test]
fn a_stop_without_start_ends_no_migration_s_tracking() {
    let (rig, trackers) = rig(0);
    rig.allow_abort();
    trackers[0].start().unwrap();
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();
    trackers[0].stop().unwrap();
    for tracker in &trackers {
        let error = tracker.stop().unwrap_err();
        assert_eq!((error.kind(), tracker.info().starts), (vfiomig::error::ErrorKind::Order, 1));
        assert!(error.to_string().contains("a migration holds the tracker"), "{error}");
    }
    let written = write(&rig, 7);
    save.advance(Phase::SaveStopCopy).unwrap();
    assert!(trackers[0].stop().is_err());
    rig.drain_all(&mut vec![Stream::default(); 4]).unwrap();
    assert!(save.advance(Phase::SaveHalted).is_err());
    assert_eq!(rig.harvest().into_iter().collect::<BTreeSet<u64>>(), written);
    save.advance(Phase::SaveHalted).unwrap();
    assert!(trackers.iter().all(|tracker| tracker.info().starts == 0 && tracker.stop().is_err()));
    // Nobody can say that a log is whole that does not run.
    trackers[0].begin_final().unwrap();
    assert!(trackers[0].final_missing().unwrap().is_some());
    trackers[0].end_final().unwrap();
    rig.assert_clean("stop");
}

/// A container that goes takes its tracker with it: the group goes on with the other.
#[test]
fn a_freed_tracker_leaves_no_place_behind() {
    let (rig, trackers) = rig(0);
    trackers[1].close().unwrap();
    let refused = rig.group.add_tracker(Arc::clone(&trackers[1])).unwrap_err();
    assert_eq!(refused.errno(), libc::ENODEV);
    rig.group.remove_tracker(&trackers[1]).unwrap();
    let reasons = rig.group.abilities().unwrap().reasons;
    assert!(reasons.iter().any(|reason| reason == "d2: no tracker covers its DMA"), "{reasons:?}");
    for device in &rig.devices[2..] {
        rig.group.remove_device(device).unwrap();
    }
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();

    // During a migration it stays, for what its log knew is lost; and it goes with the migration.
    trackers[0].close().unwrap();
    let refused = save.advance(Phase::SaveStopCopy).unwrap_err();
    assert_eq!(refused.errno(), libc::ENODEV, "{refused}");
    assert!(refused.to_string().contains("ram"), "{refused}");
    save.abort(AbortTo::Running).unwrap();
    drop(save);
    let refused = rig.group.abilities().unwrap().reasons;
    assert!(refused.iter().any(|reason| reason == "d0: no tracker covers its DMA"), "{refused:?}");
}
