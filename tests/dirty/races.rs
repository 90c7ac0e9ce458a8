//! Other threads at the wrong moment, and callbacks that do not come back: no page is lost.

use crate::memory::{MemoryLog, mapping, runs};
use crate::rig::{Log, P, Rig, range};
use simdev::{Access, DmaLog, Effect, Fault, Kernel};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use vfiomig::dialect::State;
use vfiomig::error::ErrorKind;
use vfiomig::tracker::{Dest, IovaRange, Request, Unmap};

/// A hole that is not known yet hides no page of the last harvest, and of none once it is known that holes come first.
#[test]
fn an_unmapping_that_is_reported_after_a_harvest() {
    for before in [false, true] {
        let rig = Rig::new(Log::Hwpt(1, Kernel::V6_12), 1);
        rig.map_all(&[(0, 40), (40, 40), (80, 40), (120, 40)]);
        rig.start();
        let done = |first: u64, final_one: bool| {
            rig.write(&[first + 50]);
            if final_one {
                rig.tracker.begin_final().unwrap();
            }
            rig.space.unmap(first * P, 40 * P).unwrap();
            let reported = rig.take(false);
            assert!(reported.pages.contains(&(first + 50)), "{:?}", reported);
            assert_eq!(rig.tracker.final_missing().unwrap(), None);
            rig.tracker.unmap(range(first, 40), Unmap::Done, false, &mut Request::default()).unwrap();
        };
        if before {
            rig.space.unmap(120 * P, 40 * P).unwrap();
            rig.tracker.unmap(range(120, 40), Unmap::Done, false, &mut Request::default()).unwrap();
            done(0, false);
        }
        done(40, true);
        rig.assert_clean();
    }
}

/// Only mappings whose unmapping failed are read apart, and only until it succeeds.
#[test]
fn what_may_be_gone_is_read_apart_until_it_is_known() {
    let rig = Rig::new(Log::Hwpt(1, Kernel::V6_12), 1);
    rig.map_all(&[(0, 40), (40, 40), (80, 40), (1000, 40), (1040, 40), (1080, 40)]);
    rig.start();
    let watch = rig.iommufd.as_ref().unwrap().watch();
    let reads = |watch: &simdev::Watch| {
        let begun = watch.count(Access::HwptGetDirty);
        rig.harvest();
        watch.count(Access::HwptGetDirty) - begun
    };
    assert_eq!(reads(watch), 2);
    watch.inject(Fault::at(Access::IoasUnmap, 0, Effect::Errno(libc::EBUSY)));
    assert!(rig.try_unmap(0, 40).is_none());
    assert_eq!(reads(watch), 4, "an area with a doubtful mapping, and one without");
    rig.unmap(0, 40);
    assert_eq!(reads(watch), 2);
    // The last harvest of a VMM that unmaps by itself, in the call, needs no such care.
    rig.tracker.begin_final().unwrap();
    assert_eq!(reads(watch), 2);
    rig.assert_clean();
}

/// A device that begins to run while its log is started anew, also if it stands still again at the end.
#[test]
fn a_device_that_runs_while_its_log_is_started_anew() {
    for stops_again in [false, true] {
        let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
        rig.map_all(&[(0, 10)]);
        rig.start();
        rig.set_state(State::Stop);
        let nth = rig.devices[0].count(Access::DmaLogStop);
        let fault = Fault::at(Access::DmaLogStop, nth, Effect::Delay(Duration::from_millis(400)));
        rig.devices[0].inject(fault);
        std::thread::scope(|scope| {
            let rig = &rig;
            scope.spawn(move || rig.map(1 << 30, 1, 500));
            while rig.devices[0].count(Access::DmaLogStop) == nth {
                std::thread::yield_now();
            }
            rig.set_state(State::Running);
            rig.write(&[5]);
            if stops_again {
                rig.set_state(State::Stop);
            }
        });
        rig.harvest();
        rig.finish();
        rig.assert_clean();
    }
}

/// One that stands still all the time makes nothing dirty.
#[test]
fn a_device_that_stands_still_makes_nothing_dirty() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&[(0, 10)]);
    rig.start();
    rig.write(&[5]);
    rig.set_state(State::Stop);
    rig.map(1 << 30, 1, 500);
    assert_eq!(rig.harvest().list(), [5, 1 << 30]);
    rig.assert_clean();
}

/// A callback that panics has taken nothing, and what was not reported yet is reported later.
#[test]
fn a_callback_that_panics() {
    for (how, at) in (0..4).flat_map(|how| (0..3).map(move |at| (how, at))) {
        let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
        rig.map_all(&[(0, 100), (100, 100)]);
        rig.start();
        let written = [5, 6, 50, 150];
        rig.write(&written);
        let mut reported = Vec::new();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut calls = 0;
            let mut run = |_: u64, run: IovaRange| {
                assert!(calls < at, "callback");
                calls += 1;
                reported.extend(run.iova / P..(run.iova + run.size) / P);
                true
            };
            let mut words = |_: &Dest<'_>, _: u64, _: &[u64]| -> bool { panic!("callback") };
            let dest =
                |first, pages| Dest { range: range(first, pages), page_size: P, first_bit: 0, bitmap: None, token: 0 };
            let dests = [dest(0, 120), dest(120, 80)];
            let mut request = Request { run: Some(&mut run), ..Request::default() };
            match how {
                0 => {}
                1 => request.dests = &dests,
                2 => {
                    request = Request { dests: &dests, words: Some(&mut words), ..Request::default() };
                }
                _ => {
                    rig.tracker.unmap(range(0, 200), Unmap::Done, false, &mut request).unwrap();
                    return;
                }
            }
            rig.tracker.harvest(&mut request).unwrap();
        }));
        let text = panicked.unwrap_err().downcast_ref::<&str>().map(ToString::to_string);
        assert_eq!(text.as_deref(), Some("callback"), "{how} {at}");
        if how == 3 {
            let mut later = Vec::new();
            let mut run = |_: u64, run: IovaRange| {
                later.extend(run.iova / P..(run.iova + run.size) / P);
                true
            };
            rig.tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
            reported.extend(later);
        } else {
            reported.extend(rig.take(false).list());
        }
        reported.sort_unstable();
        assert_eq!(reported, written, "{how} {at}");
        rig.assert_clean();
    }
}

/// A function of the VMM that panics while it reports is a log that failed, and the panic goes on when all is kept. One that
/// panics while a log is started leaves a tracker that says that it knows nothing.
#[test]
fn a_function_of_a_log_that_panics() {
    for at in ["report", "start", "stop"] {
        let log = MemoryLog::new(P);
        let t = log.tracker(0);
        t.map(&[mapping(0, 10 * P, 1)]).unwrap();
        t.start().unwrap();
        log.write(5 * P);
        log.state().panics = Some(at);
        let panicked = catch_unwind(AssertUnwindSafe(|| match at {
            "report" => t.harvest(&mut Request::default()).map(drop),
            // Starts the log anew.
            _ => t.map(&[mapping(64 << 30, P, 2)]),
        }));
        assert!(panicked.is_err(), "{at}");
        log.state().panics = None;
        if at == "report" {
            assert_eq!(runs(&t, false), [(1, 0, 10)]);
            log.write(6 * P);
            assert_eq!(runs(&t, false), [(1, 6, 1)], "it works again");
        } else {
            assert_eq!(t.harvest(&mut Request::default()).unwrap_err().kind(), ErrorKind::Panic, "{at}");
            assert!(t.final_missing().is_err());
        }
    }
}
