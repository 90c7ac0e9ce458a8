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
fn every_page_that_was_written_is_reported() {
    for max_workers in [1, 0] {
        let (rig, trackers) = rig(max_workers);
        let save = rig.save();
        save.advance(Phase::SaveTracking).unwrap();
        assert_eq!(trackers.clone().map(|tracker| tracker.info().kind), [LogKind::DmaLog, LogKind::Draft]);
        let mut reported = BTreeSet::new();
        let mut written = write(&rig, 0);
        assert_eq!(written.len(), 4, "tracked from before any RAM is sent");
        save.advance(Phase::SavePreCopy).unwrap();
        written.extend(write(&rig, 100));
        reported.extend(rig.harvest());
        assert_eq!(reported, written);
        let mut streams = vec![Stream::default(); 4];
        rig.drain_all(&mut streams).unwrap();
        written.extend(write(&rig, 200));
        reported.extend(rig.harvest());
        save.advance(Phase::SaveP2pGrace).unwrap();
        // v2's P2P states, and devices without any, still write to RAM: the final harvest comes after STOP_COPY began.
        let late = write(&rig, 300);
        assert_eq!(late.len(), 4);
        reported.extend(rig.harvest());
        let last = write(&rig, 400);
        written.extend(late.into_iter().chain(last));
        save.advance(Phase::SaveStopCopy).unwrap();
        assert!(write(&rig, 500).is_empty());
        assert!(save.advance(Phase::SaveHalted).is_err());
        rig.drain_all(&mut streams).unwrap();
        reported.extend(rig.harvest());
        save.advance(Phase::SaveHalted).unwrap();
        assert_eq!(reported, written, "not a page less; and these logs are exact");
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
    let reported: BTreeSet<u64> = rig.harvest().into_iter().collect();
    // A draft's log is lost with its session: then everything may be dirty, and nothing is called clean.
    assert!(reported.is_superset(&written), "{:?}", written.difference(&reported).collect::<Vec<_>>());
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
    // A log that does not run cannot be whole.
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

/// The tracker of a container is in the group once. Each save starts and stops it, whatever the VMM does with it beside.
#[test]
fn a_tracker_serves_many_migrations() {
    let (rig, trackers) = rig(0);
    rig.allow_abort();
    for round in 0..4 {
        // The VMM starts none of them, one, or all, and stops them when it likes.
        let (by_vmm, early) = (&trackers[..[0, 1, 2, 2][round]], round == 3);
        by_vmm.iter().for_each(|tracker| tracker.start().unwrap());
        let save = rig.save();
        save.advance(Phase::SavePreCopy).unwrap();
        let mut written = write(&rig, 0);
        if early {
            by_vmm.iter().for_each(|tracker| tracker.stop().unwrap());
        }
        assert!(trackers.iter().all(|tracker| tracker.info().starts > 0));
        let mut reported: BTreeSet<u64> = rig.harvest().into_iter().collect();
        written.extend(write(&rig, 100));
        save.advance(Phase::SaveStopCopy).unwrap();
        assert!(save.advance(Phase::SaveHalted).is_err(), "the final harvest is owed by each");
        rig.drain_all(&mut vec![Stream::default(); 4]).unwrap();
        reported.extend(rig.harvest());
        assert!(reported.is_superset(&written), "{:?}", written.difference(&reported).collect::<Vec<_>>());
        save.advance(Phase::SaveHalted).unwrap();
        if !early {
            by_vmm.iter().for_each(|tracker| tracker.stop().unwrap());
        }
        assert!(trackers.iter().all(|tracker| tracker.info().starts == 0 && tracker.stop().is_err()));
        drop(save);
        rig.group.resume().unwrap();
    }
    rig.assert_clean("many");
}

/// An address space without a device of the group, such as a VMM has beside.
fn container(name: &str) -> Arc<Tracker> {
    let options = tracker::TrackerOptions { name: name.into(), ..tracker::TrackerOptions::default() };
    Arc::new(Tracker::new(options).unwrap())
}

fn page(number: u64) -> tracker::IovaRange {
    tracker::IovaRange { iova: number * 4096, size: 4096 }
}

fn map(tracker: &Tracker, number: u64) {
    tracker.map(&[tracker::Mapping { range: page(number), cookie: 0 }]).unwrap();
}

/// A container that goes during a save takes nothing with it if it was emptied before; else dirty pages are lost.
#[test]
fn a_container_goes_during_a_save() {
    for (stopped, emptied, reported) in
        [(false, true, true), (true, true, true), (false, true, false), (true, true, false), (false, false, true)]
    {
        let (rig, _) = rig(0);
        rig.allow_abort();
        let other = container("other");
        map(&other, 9000);
        rig.group.add_tracker(Arc::clone(&other)).unwrap();
        let save = rig.save();
        save.advance(if stopped { Phase::SaveStopCopy } else { Phase::SavePreCopy }).unwrap();
        if emptied {
            let (mut done, mut run) = (|_| Ok(()), |_: u64, _: tracker::IovaRange| true);
            let run: Option<&mut tracker::RunFn<'_>> = if reported { Some(&mut run) } else { None };
            let mut request = tracker::Request { run, ..tracker::Request::default() };
            other.unmap(page(9000), tracker::Unmap::By(&mut done), false, &mut request).unwrap();
        }
        other.close().unwrap();
        // New mappings count as dirty once, so there was something to report.
        let lost = !(emptied && reported);
        let halt = || {
            save.advance(Phase::SaveStopCopy)?;
            rig.drain_all(&mut vec![Stream::default(); 4])?;
            rig.harvest();
            save.advance(Phase::SaveHalted)
        };
        let outcome = halt();
        assert_eq!(outcome.is_err(), lost, "{stopped} {emptied} {reported}: {outcome:?}");
        if let Err(error) = outcome {
            assert!(error.to_string().contains("other"), "{error}");
            save.abort(AbortTo::Running).unwrap();
        }
    }
}

/// A container that comes during a save is tracked from then on, and what it has mapped is dirty once.
#[test]
fn a_container_comes_during_a_save() {
    let (rig, _) = rig(0);
    rig.allow_abort();
    let load_side = Rig::target(&[Config::default()], 0);
    let load = load_side.load();
    load_side.group.add_tracker(container("beside a load")).unwrap();
    drop(load);

    let save = rig.save();
    let [early, late, too_late] = ["early", "late", "too late"].map(container);
    [&early, &late, &too_late].into_iter().zip(9000..).for_each(|(tracker, number)| map(tracker, number));
    rig.group.add_tracker(Arc::clone(&early)).unwrap();
    assert_eq!(early.info().starts, 0);
    save.advance(Phase::SavePreCopy).unwrap();
    rig.group.add_tracker(Arc::clone(&late)).unwrap();
    assert_eq!((early.info().starts, late.info().starts), (1, 1));
    assert!(rig.harvest().contains(&9001));
    save.advance(Phase::SaveStopCopy).unwrap();
    let refused = rig.group.add_tracker(Arc::clone(&too_late)).unwrap_err();
    assert_eq!((refused.kind(), too_late.info().starts), (vfiomig::error::ErrorKind::Order, 0), "{refused}");
    rig.drain_all(&mut vec![Stream::default(); 4]).unwrap();
    assert!(save.advance(Phase::SaveHalted).is_err());
    rig.harvest();
    save.advance(Phase::SaveHalted).unwrap();
    assert_eq!((early.info().starts, late.info().starts), (0, 0));
    rig.group.add_tracker(too_late).unwrap();
}

/// The same while a save begins to track device by device.
#[test]
fn a_container_comes_while_a_save_begins() {
    let (rig, _) = rig(0);
    rig.allow_abort();
    let save = rig.save();
    let late = container("late");
    map(&late, 9000);
    save.advance_device(&rig.devices[0], Phase::SaveTracking).unwrap();
    rig.group.add_tracker(Arc::clone(&late)).unwrap();
    assert_eq!(late.info().starts, 1);
    for device in &rig.devices[1..] {
        save.advance_device(device, Phase::SaveTracking).unwrap();
    }
    assert!(rig.harvest().contains(&9000));
    save.advance(Phase::SaveStopCopy).unwrap();
    rig.drain_all(&mut vec![Stream::default(); 4]).unwrap();
    let missing = save.advance(Phase::SaveHalted).unwrap_err().to_string();
    assert!(missing.contains("late"), "{missing}");
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(late.info().starts, 0);
}

/// One that the VMM has started itself and harvested since, for a rate perhaps: what it took is not known to have been sent.
#[test]
fn a_tracker_that_was_in_use_comes_during_a_save() {
    let (rig, _) = rig(0);
    rig.allow_abort();
    let log = Arc::new(rig::Log::default());
    let used = log.tracker(&[]);
    let dirty = || {
        let mut bytes = 0;
        let mut run = |_: u64, range: tracker::IovaRange| {
            bytes += range.size;
            true
        };
        used.harvest(&mut tracker::Request { run: Some(&mut run), ..tracker::Request::default() }).unwrap();
        bytes / 4096
    };
    used.start().unwrap();
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();
    log.dirty.lock().push(7);
    assert_eq!((dirty(), dirty()), (1, 0));
    rig.group.add_tracker(Arc::clone(&used)).unwrap();
    assert_eq!((dirty(), dirty()), (64, 0));
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(used.info().starts, 1);
}

/// A device that no tracker speaks for any more is found before it stops, not behind the final harvest.
#[test]
fn a_device_that_its_tracker_has_lost() {
    let (rig, trackers) = rig(0);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();
    trackers[0].remove_device(&rig.devices[1]).unwrap();
    let refused = save.advance(Phase::SaveStopCopy).unwrap_err();
    assert!(refused.to_string().contains("d1: no tracker covers its DMA"), "{refused}");
    assert_ne!(rig.states()[0], State::StopCopy);
    trackers[0].add_device(Arc::clone(&rig.devices[1])).unwrap();
    save.advance(Phase::SaveStopCopy).unwrap();
    save.abort(AbortTo::Running).unwrap();
    drop(save);
    // The same at the beginning.
    let save = rig.save();
    trackers[0].remove_device(&rig.devices[0]).unwrap();
    let refused = save.advance(Phase::SaveTracking).unwrap_err();
    assert!(refused.to_string().contains("d0: no tracker covers its DMA"), "{refused}");
    assert!(trackers.iter().all(|tracker| tracker.info().starts == 0));
}

/// Where nothing is mapped there is nothing to harvest, and nobody asks.
#[test]
fn an_empty_address_space_owes_no_harvest() {
    let (rig, _) = rig(0);
    rig.allow_abort();
    let empty = container("empty");
    rig.group.add_tracker(Arc::clone(&empty)).unwrap();
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    assert_eq!(empty.final_missing().unwrap(), None);
    map(&empty, 9000);
    assert!(empty.final_missing().unwrap().is_some());
    save.abort(AbortTo::Running).unwrap();
}
