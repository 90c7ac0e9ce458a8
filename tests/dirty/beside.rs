//! Harvests beside the device's own thread, which streams its state at the same time.

use crate::rig::{Log, Rig};
use simdev::{DmaLog, DraftForm};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vfiomig::device::{Device, OnFailure};
use vfiomig::dialect::State;

/// Reads what there is, by pieces that end in the middle of a segment.
fn drain(device: &Device) -> usize {
    let mut buffer = [0; 700];
    let mut all = 0;
    loop {
        match device.read(&mut buffer) {
            Ok((0, _)) => return all,
            Ok((n, _)) => all += n,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Stops a thread.
struct End<'s>(&'s AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// D5: a draft shows one thing at a time in its window; v2 reports its log beside anything else (P2).
#[test]
fn harvests_while_the_state_is_streamed() {
    for log in [Log::Draft(DraftForm::Sticky), Log::Draft(DraftForm::Rewrite), Log::Dma(DmaLog::default())] {
        let rig = Rig::new(log, 1);
        rig.map_all(&[(0, 200), (1000, 40)]);
        rig.start();
        rig.set_state(State::PreCopy);
        let writers = rig.writers(&[0..200, 1000..1040], 5);
        let (model, device, stop) = (&rig.devices[0], &rig.handles[0], &AtomicBool::new(false));
        let streamed = &AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    model.redirty(round).unwrap();
                    streamed.fetch_add(drain(device) as u64, Ordering::Relaxed);
                }
            });
            // Also when a harvest panics, or the thread would never end.
            let end = End(stop);
            let mut read = 0;
            for _ in 0..8 {
                writers.wait(30);
                let reported = rig.harvest();
                // On a busy machine it may miss the moments between two segments; then all is dirty.
                let errno = reported.harvest.first_errno.map(|e| e.get());
                assert!(
                    errno.is_none() || errno == Some(libc::EBUSY) && matches!(log, Log::Draft(_)),
                    "{log:?}: {errno:?}"
                );
                read += u32::from(errno.is_none());
            }
            assert!(read > 0, "{log:?}");
            // On a busy machine the harvests may be over before much of the state was.
            let begun = Instant::now();
            while streamed.load(Ordering::Relaxed) <= 4096 {
                assert!(begun.elapsed() < Duration::from_secs(20), "{log:?}: hardly anything was streamed");
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(end);
        });
        device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
        assert!(drain(device) > 0);
        rig.finish();
        writers.stop();
        rig.assert_clean();
    }
}

/// A segment that this very thread has lent out would never end by waiting, so what the log knows cannot be had.
#[test]
fn a_draft_whose_window_is_in_use_is_dirty() {
    let rig = Rig::new(Log::Draft(DraftForm::Sticky), 1);
    rig.map_all(&[(0, 20)]);
    rig.start();
    rig.write(&[7]);
    rig.devices[0].redirty(1).unwrap();
    let mut buffer = [0; 100];
    assert!(rig.handles[0].read(&mut buffer).unwrap().0 > 0);
    let reported = rig.harvest();
    assert_eq!(reported.list(), (0..20).collect::<Vec<_>>());
    assert_eq!(reported.harvest.first_errno.map(|e| e.get()), Some(libc::EBUSY));
    drain(&rig.handles[0]);
    rig.write(&[8]);
    assert_eq!(rig.harvest().list(), [7, 8], "the log was not touched");
    rig.finish();
    rig.assert_clean();
}

/// The same with workers: they read for a thread that has segments under way, so there is nothing to wait for.
#[test]
fn workers_do_not_wait_for_the_thread_that_harvests() {
    let rig = Rig::new(Log::Draft(DraftForm::Sticky), 2);
    rig.map_all(&[(0, 20)]);
    rig.start();
    for (model, device) in rig.devices.iter().zip(&rig.handles) {
        model.redirty(1).unwrap();
        assert!(device.read(&mut [0; 100]).unwrap().0 > 0);
    }
    let begun = Instant::now();
    let reported = rig.harvest();
    let took = begun.elapsed();
    assert_eq!((reported.harvest.failed_reads, reported.harvest.first_errno.map(|e| e.get())), (2, Some(libc::EBUSY)));
    assert!(took < Duration::from_millis(900), "{took:?}");
    rig.handles.iter().for_each(|device| assert!(drain(device) > 0));
    rig.finish();
    rig.assert_clean();
}

/// The patience with another thread's segment is that of the whole harvest, however many ranges and devices it reads.
#[test]
fn a_harvest_waits_once_for_a_segment_that_does_not_end() {
    let rig = Rig::new(Log::Draft(DraftForm::Sticky), 2);
    let ranges: Vec<(u64, u64)> = (0..6).map(|i| (i * 100, 20)).collect();
    rig.map_all(&ranges);
    rig.start();
    rig.write(&[7]);
    let (models, handles) = (&rig.devices, &rig.handles);
    let begin_segments = move || {
        for (model, device) in models.iter().zip(handles) {
            model.redirty(1).unwrap();
            assert!(device.read(&mut [0; 100]).unwrap().0 > 0);
        }
    };
    std::thread::scope(|scope| scope.spawn(begin_segments).join().unwrap());
    let begun = Instant::now();
    let reported = rig.harvest();
    let took = begun.elapsed();
    assert_eq!((reported.harvest.failed_reads, reported.harvest.first_errno.map(|e| e.get())), (12, Some(libc::EBUSY)));
    assert!(took >= Duration::from_millis(900), "{took:?}: it waits for a while");
    assert!(took < Duration::from_secs(4), "{took:?}: 6 ranges of 2 devices are no reason to wait longer");
    rig.handles.iter().for_each(|device| assert!(drain(device) > 0));
    rig.write(&[8]);
    assert_eq!(rig.harvest().list(), [7, 8], "patience is back, and the log was not touched");
    rig.finish();
    rig.assert_clean();
}

/// D8: a draft logs only while it saves.
#[test]
fn a_draft_that_does_not_save_is_dirty() {
    let rig = Rig::new(Log::Draft(DraftForm::Rewrite), 1);
    rig.map_all(&[(0, 20)]);
    rig.tracker.start().unwrap();
    rig.ram.copy_all();
    rig.write(&[7]);
    let reported = rig.harvest();
    assert_eq!((reported.list(), reported.harvest.failed_reads), ((0..20).collect(), 1));
    // Nor does it know what was written before it saved, when it does.
    rig.write(&[9]);
    rig.set_state(State::PreCopy);
    rig.write(&[8]);
    let reported = rig.harvest();
    assert_eq!((reported.list(), reported.harvest.failed_reads), ((0..20).collect(), 1));
    rig.write(&[8]);
    assert_eq!(rig.harvest().list(), [8]);
    // A session ends, and another one begins: what lies between is in no log, whoever asks for which part of it.
    rig.write(&[3]);
    rig.set_state(State::Running);
    rig.write(&[4]);
    rig.set_state(State::PreCopy);
    assert_eq!(rig.harvest().list(), (0..20).collect::<Vec<_>>());
    rig.write(&[5]);
    assert_eq!(rig.harvest().list(), [5]);
    rig.finish();
    rig.assert_clean();
}

/// P14: RAM may be sent as soon as the tracker was started, also without a harvest before the session opens.
#[test]
fn what_is_written_between_the_start_and_the_session_is_reported() {
    for form in [DraftForm::Rewrite, DraftForm::Sticky] {
        let rig = Rig::new(Log::Draft(form), 1);
        rig.map_all(&[(0, 20)]);
        for _ in 0..2 {
            rig.tracker.start().unwrap();
            rig.ram.copy_all();
            rig.write(&[9]);
            rig.set_state(State::PreCopy);
            rig.write(&[8]);
            let reported = rig.harvest();
            assert_eq!((reported.list(), reported.harvest.failed_reads), ((0..20).collect(), 1), "{form:?}");
            rig.write(&[7]);
            assert_eq!(rig.harvest().list(), [7], "{form:?}");
            rig.tracker.stop().unwrap();
            rig.set_state(State::Running);
        }
        rig.set_state(State::PreCopy);
        rig.tracker.start().unwrap();
        rig.ram.copy_all();
        rig.write(&[6]);
        assert!(rig.harvest().list().len() < 20, "the session was open first: {form:?}");
        rig.finish();
        rig.assert_clean();
    }
}
