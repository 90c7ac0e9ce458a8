//! A migration and its trackers.

use super::*;

#[test]
fn a_tracker_that_is_gone_is_reported_before_anything_is_done() {
    let source = Rig::source(&kinds(), 0);
    source.allow_abort();
    let other = Arc::new(rig::Log::default()).tracker(&[]);
    source.group.add_tracker(Arc::clone(&other)).unwrap();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    other.close().unwrap();
    let before = source.states();
    let failure = save.advance(Phase::SaveStopCopy).unwrap_err();
    assert_eq!((failure.errno(), save.phase()), (libc::ENODEV, Phase::SaveP2pGrace), "{failure}");
    assert!(source.states().iter().all(|&s| s != State::StopCopy), "{before:?}");
    save.abort(AbortTo::Running).unwrap();
    assert!(save.report().unwrap().to_string().contains("did not stop"));
    assert_eq!(*source.log.started.lock(), 0);
    assert!(source.states().iter().all(|&s| s == State::Running));
    // Gone before the start: its address space has gone with it, and no device needs it.
    save.advance(Phase::SavePreCopy).unwrap();
    assert_eq!((save.phase(), *source.log.started.lock()), (Phase::SavePreCopy, 1));
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(*source.log.started.lock(), 0);
    // Gone when its final harvest is due: it cannot be had any more.
    drop(save);
    source.group.remove_tracker(&other).unwrap();
    let other = Arc::new(rig::Log::default()).tracker(&[]);
    source.group.add_tracker(Arc::clone(&other)).unwrap();
    let save = source.save();
    let mut streams = vec![Stream::default(); 7];
    save.advance(Phase::SaveStopCopy).unwrap();
    source.drain_all(&mut streams).unwrap();
    source.tracker.harvest(&mut everything()).unwrap();
    refused(save.advance(Phase::SaveHalted), &["final harvest", "ram"]);
    other.close().unwrap();
    refused(save.advance(Phase::SaveHalted), &["final harvest", "freed"]);
    save.advance_without_harvest().unwrap();
}

#[test]
fn a_tracker_stays_started_for_others_and_waits_for_its_final_harvest() {
    let source = Rig::source(&[both()], 0);
    source.tracker.start().unwrap();
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let mut streams = vec![Stream::default(); 1];
    source.drain_all(&mut streams).unwrap();
    // Somebody else, who only wants to know the dirty rate, may go; the last one may not.
    source.tracker.stop().unwrap();
    assert_eq!(source.tracker.stop().unwrap_err().kind(), ErrorKind::Order);
    source.log.dirty.lock().extend([3, 4, 60]);
    assert_eq!(source.harvest(), [3, 4, 60]);
    save.advance(Phase::SaveHalted).unwrap();
    assert_eq!(source.tracker.info().starts, 0);
}

#[test]
fn what_a_final_harvest_left_over_is_still_owed() {
    let source = Rig::source(&[both()], 0);
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let mut streams = vec![Stream::default(); 1];
    source.drain_all(&mut streams).unwrap();
    source.log.dirty.lock().extend([3, 60]);
    // Only a part is asked for: the log was read as a whole, and the rest is kept.
    let words = [std::cell::Cell::new(0u64)];
    let range = tracker::IovaRange { iova: 0, size: 32 * 4096 };
    let bitmap = Some(vfiomig::bitmap::Words::Plain(&words));
    let dests = [tracker::Dest { range, page_size: 4096, first_bit: 0, bitmap, token: 0 }];
    source.group.harvest(&mut tracker::Request { dests: &dests, ..tracker::Request::default() }).unwrap();
    assert_eq!(words[0].get(), 1 << 3);
    refused(save.advance(Phase::SaveHalted), &["no harvest has asked for"]);
    assert_eq!(source.harvest(), [60]);
    save.advance(Phase::SaveHalted).unwrap();
}

#[test]
fn harvests_go_beside_drains() {
    let source = Rig::source(&[both(), both()], 0);
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    source.log.dirty.lock().push(9);
    let mut pages = Vec::new();
    save.save_complete(&[], &mut |_| {
        // The drain is in progress; another thread harvests, and is not held up.
        pages.extend(std::thread::scope(|scope| scope.spawn(|| source.harvest()).join().unwrap()));
        Ok(())
    })
    .unwrap();
    assert_eq!(pages, [9]);
    save.advance(Phase::SaveHalted).unwrap();
}

#[test]
fn a_migration_that_is_freed_stops_its_trackers_and_leaves_devices_alone() {
    let source = Rig::source(&[both()], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    save.close().unwrap();
    assert_eq!(save.advance(Phase::SaveHalted).unwrap_err().errno(), libc::ENODEV);
    assert_eq!(*source.log.calls.lock(), ["start", "report", "stop"]);
    assert_eq!(source.states(), [State::StopCopy]);
    source.group.resume().unwrap();
    assert_eq!(source.states(), [State::Running]);
}

/// An address space goes in the middle of a save: its tracker may go with it once it has nothing to say.
#[test]
fn a_tracker_goes_during_a_save_when_nothing_is_lost_with_it() {
    let source = Rig::source(&[both()], 0);
    source.allow_abort();
    let log = Arc::new(rig::Log::default());
    let beside = log.tracker(&[]);
    source.group.add_tracker(Arc::clone(&beside)).unwrap();
    let save = source.save();
    // Nothing is tracked yet.
    source.group.remove_tracker(&beside).unwrap();
    source.group.add_tracker(Arc::clone(&beside)).unwrap();
    save.advance(Phase::SavePreCopy).unwrap();
    assert_eq!(*log.started.lock(), 1);
    refused(source.group.remove_tracker(&beside), &["ram", "unmap with a harvest"]);
    log.dirty.lock().extend([3, 4]);
    let range = tracker::IovaRange { iova: 0, size: 64 * 4096 };
    beside.unmap(range, tracker::Unmap::Done, false, &mut tracker::Request::default()).unwrap();
    // What was written there was read with it, and nobody has asked for it yet.
    refused(source.group.remove_tracker(&beside), &["ram"]);
    source.group.harvest(&mut everything()).unwrap();
    source.group.remove_tracker(&beside).unwrap();
    assert_eq!((*log.started.lock(), beside.info().starts), (0, 0));
    assert_eq!(source.group.remove_tracker(&beside).unwrap_err().kind(), ErrorKind::Argument);
    // The save goes on with the others, and its final harvest misses nothing.
    let mut streams = vec![Stream::default(); 1];
    save.advance(Phase::SaveStopCopy).unwrap();
    refused(source.group.remove_tracker(&source.tracker), &["ram"]);
    source.drain_all(&mut streams).unwrap();
    source.harvest();
    save.advance(Phase::SaveHalted).unwrap();
    // Stopped with the save.
    source.group.remove_tracker(&source.tracker).unwrap();
}
