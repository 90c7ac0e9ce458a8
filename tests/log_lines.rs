//! What the log has of a failure: one line at the level ERROR, whoever made the call, and names and words in every line.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use parking_lot::Mutex;
use rig::Rig;
use simdev::{Access, Config, DmaLog, Effect, Fault, Ram, Space, Type1, Type1Config, Window};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use vfiomig::device::{self, Device, DeviceOptions, OnFailure};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::{Errno, Error, ErrorKind};
use vfiomig::internals::refuse_threads_beyond;
use vfiomig::log::{Level, set_sink};
use vfiomig::migration::{AbortTo, Budget, Phase};
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions, Unmap};
use vfiomig::transport::tracker_ops::LogFunctions;
use vfiomig::window::StreamFlags;

const SEGMENT_END: StreamFlags = StreamFlags::SEGMENT_END;

const PLENTY: Budget = Budget { bytes: u64::MAX, time: Duration::from_secs(60) };

fn rig(devices: usize) -> Rig {
    let config = Config::v2(Caps { p2p: true, pre_copy: true }).state_size(10_000);
    let rig = Rig::source(&vec![config; devices], 0);
    rig.allow_abort();
    rig
}

/// The next steps into this state fail, `times` of them.
fn refuse(rig: &Rig, device: usize, state: State, times: u64) {
    let access = Access::Enter(state);
    let nth = rig.fakes[device].count(access);
    rig.fakes[device].inject(Fault { access, nth, times, effect: Effect::Errno(libc::EBUSY) });
}

/// What the log gets meanwhile. There is one log, so the tests of this file go one after another.
fn logged<T>(job: impl FnOnce() -> T) -> (T, Vec<(Level, String)>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    let lines: Arc<Mutex<Vec<(Level, String)>>> = Arc::default();
    let kept = Arc::clone(&lines);
    set_sink(Some(Arc::new(move |level, text: &str| kept.lock().push((level, text.to_string())))), Level::Debug);
    let result = job();
    set_sink(None, Level::Error);
    let lines = std::mem::take(&mut *lines.lock());
    for (_, text) in &lines {
        let debug = ["Some(", "None", "Errno(", "os error", "Err(", "Ok("].iter().find(|word| text.contains(**word));
        assert_eq!(debug, None, "{text}");
    }
    (result, lines)
}

fn of_level(lines: &[(Level, String)], wanted: Level) -> Vec<&str> {
    lines.iter().filter(|(level, _)| *level == wanted).map(|(_, text)| &**text).collect()
}

/// The lines at ERROR; `names`: how each of them begins.
fn assert_errors(lines: &[(Level, String)], names: &[&str], what: &str) {
    let errors = of_level(lines, Level::Error);
    assert_eq!(errors.len(), names.len(), "{what}: {lines:#?}");
    for (error, name) in errors.iter().zip(names) {
        assert!(error.starts_with(name), "{what}: {error}");
    }
}

/// What a device is, or why it cannot be migrated, is a line when it is made.
#[test]
fn a_device_that_is_made_says_what_it_is() {
    let v2 = Config::v2(Caps { p2p: true, pre_copy: true });
    for (config, refused, said) in [
        (v2.clone(), false, "d: dialect v2, state RUNNING, caps 0x7"),
        (Config::v1(Window::Trapped), false, "d: dialect v1, state RUNNING, caps 0x5"),
        (v2, true, "d: not migratable: no kernel support: the driver offers neither VFIO_DEVICE_FEATURE_MIGRATION nor"),
    ] {
        let ((), lines) = logged(|| {
            let fake = simdev::Device::new(config.clone());
            if refused {
                fake.inject(Fault::from(Access::GetMigration, 0, Effect::Errno(libc::ENOTTY)));
            }
            let options = device::DeviceOptions { name: "d".into(), ..device::DeviceOptions::default() };
            Device::new(fake.transport(), options).unwrap();
        });
        let reported = of_level(&lines, Level::Info);
        assert!(reported.last().is_some_and(|line| line.starts_with(said)), "{said}: {lines:#?}");
    }
}

/// A call on a device.
#[test]
fn a_device_call_that_fails_is_one_error() {
    let (result, lines) = logged(|| {
        let rig = rig(1);
        refuse(&rig, 0, State::Stop, 1);
        rig.devices[0].set_state(State::Stop, OnFailure::Keep, false)
    });
    let error = result.unwrap_err();
    assert_errors(&lines, &["d0: "], "set_state");
    assert_eq!(of_level(&lines, Level::Error), [error.to_string()], "the log says what the caller is told");

    let (result, lines) = logged(|| {
        let rig = rig(1);
        rig.fakes[0].inject(Fault::at(Access::Reset, 0, Effect::Errno(libc::EIO)));
        rig.devices[0].reset()
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Device);
    assert_errors(&lines, &["d0: "], "reset");

    // What a caller did wrong is an error to the caller only.
    let (result, lines) = logged(|| rig(1).devices[0].finish(None));
    result.unwrap_err();
    assert_errors(&lines, &[], "a wrong order");
}

/// A phase in which one device, or two of three, fail: each device is one line.
#[test]
fn a_step_that_fails_is_one_error_for_each_device_that_failed() {
    for failing in [&[1usize][..], &[0, 2]] {
        let names: Vec<String> = failing.iter().map(|i| format!("d{i}: ")).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let fail = |rig: &Rig, state| failing.iter().for_each(|&i| refuse(rig, i, state, 1));

        let (result, lines) = logged(|| {
            let rig = rig(3);
            fail(&rig, State::Stop);
            rig.group.pause()
        });
        result.unwrap_err();
        assert_errors(&lines, &names, "pause");

        let (result, lines) = logged(|| {
            let rig = rig(3);
            let save = rig.save();
            save.advance(Phase::SaveP2pGrace).unwrap();
            fail(&rig, State::StopCopy);
            let error = save.advance(Phase::SaveStopCopy).unwrap_err();
            // What it gets again is no other failure.
            assert_eq!(save.advance(Phase::SaveStopCopy).unwrap_err().to_string(), error.to_string());
            error
        });
        assert_errors(&lines, &names, "advance");
        let last = format!("migration failed: {result}");
        assert!(of_level(&lines, Level::Info).contains(&&*last), "{lines:#?}");
    }
}

/// A cancel was asked for.
#[test]
fn a_cancel_is_no_error() {
    let (error, lines) = logged(|| {
        let rig = rig(2);
        let save = rig.save();
        save.advance(Phase::SaveTracking).unwrap();
        save.cancel();
        save.advance(Phase::SavePreCopy).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Canceled);
    assert_errors(&lines, &[], "cancel");
}

/// A drain that fails at the caller's function, and at the device.
#[test]
fn a_drain_that_fails_is_one_error() {
    let (error, lines) = logged(|| {
        let rig = rig(2);
        let save = rig.save();
        save.advance(Phase::SavePreCopy).unwrap();
        save.save_iterate(PLENTY, &[], &mut |_| Err(Error::new(ErrorKind::System, libc::EPIPE, "put failed")))
            .unwrap_err()
    });
    assert_errors(&lines, &["migration failed: save_iterate: bytes of a stream were lost: "], "put");
    assert!(of_level(&lines, Level::Error)[0].ends_with(&error.to_string()), "{lines:#?}");

    let (_, lines) = logged(|| {
        let rig = rig(2);
        let save = rig.save();
        save.advance(Phase::SavePreCopy).unwrap();
        rig.fakes[1].inject(Fault::at(Access::DataRead, 0, Effect::Errno(libc::EIO)));
        save.save_iterate(PLENTY, &[], &mut |_| Ok(())).unwrap_err()
    });
    assert_errors(&lines, &["d1: "], "read");
    assert!(
        lines.iter().any(|(level, text)| *level == Level::Info && text.starts_with("migration failed: ")),
        "{lines:#?}"
    );
}

/// An abort asks twice. What the second try mends was no failure; what it does not is one.
#[test]
fn an_abort_that_fails_is_one_error() {
    for (times, result_is_ok) in [(1, true), (2, false)] {
        let (result, lines) = logged(|| {
            let rig = rig(2);
            let save = rig.save();
            save.advance(Phase::SavePreCopy).unwrap();
            save.advance(Phase::SaveP2pGrace).unwrap();
            refuse(&rig, 1, State::Running, times);
            save.abort(AbortTo::Running)
        });
        assert_eq!(result.is_ok(), result_is_ok, "{lines:#?}");
        let names: &[&str] = if result_is_ok { &[] } else { &["d1: "] };
        assert_errors(&lines, names, "abort of a save");
        assert!(of_level(&lines, Level::Warning).iter().any(|text| text.starts_with("d1: ")), "{lines:#?}");
    }

    let (result, lines) = logged(|| {
        let rig = rig(2);
        let load = rig.load();
        load.advance(Phase::LoadResuming).unwrap();
        rig.fakes[0].inject(Fault::from(Access::Reset, 0, Effect::Errno(libc::EIO)));
        load.abort(AbortTo::Running)
    });
    result.unwrap_err();
    assert_errors(&lines, &["abort: d0: "], "abort of a load");
}

/// A state that cannot be read is a line when that begins, and when it is over, not with each call.
#[test]
fn a_condition_that_lasts_is_logged_twice() {
    let ((), lines) = logged(|| {
        let rig = rig(1);
        let device = &rig.devices[0];
        let nth = rig.fakes[0].count(Access::StateRead);
        rig.fakes[0].inject(Fault { access: Access::StateRead, nth, times: 6, effect: Effect::Errno(libc::EIO) });
        for _ in 0..3 {
            device.observe().unwrap_err();
        }
        for _ in 0..3 {
            assert_eq!(device.observe().unwrap(), State::Running);
        }
    });
    let reported: Vec<_> =
        lines.iter().filter(|(level, text)| *level <= Level::Info && text.contains("state")).collect();
    let reported: Vec<_> = reported.iter().filter(|(_, text)| !text.contains("dialect")).collect();
    assert!(reported.len() == 2, "{lines:#?}");
    assert!(
        reported[0].0 == Level::Warning && reported[0].1.starts_with("d0: its state cannot be read: "),
        "{lines:#?}"
    );
    assert_eq!(reported[1].1, "d0: its state can be read again: RUNNING");
}

/// A state change that fails on a device whose state cannot be read afterwards.
#[test]
fn a_device_that_falls_silent_is_one_error() {
    let (error, lines) = logged(|| {
        let rig = rig(1);
        refuse(&rig, 0, State::Stop, 1);
        let nth = rig.fakes[0].count(Access::StateRead) + 1;
        rig.fakes[0].inject(Fault::from(Access::StateRead, nth, Effect::Errno(libc::ENODEV)));
        rig.devices[0].set_state(State::Stop, OnFailure::Keep, false).unwrap_err()
    });
    assert!(error.to_string().ends_with("its state cannot be read"), "{error}");
    assert_errors(&lines, &["d0: "], "silent");
    assert_eq!(of_level(&lines, Level::Warning).len(), 1, "{lines:#?}");
}

/// A log of the VMM that may refuse to start, and to stop.
#[derive(Clone, Default)]
struct Stubborn(Arc<[AtomicBool; 2]>);

impl LogFunctions for Stubborn {
    fn start(&self, page_size: u64, _: &[[u64; 2]]) -> std::result::Result<u64, Errno> {
        if self.0[0].load(Relaxed) { Err(Errno::new(libc::EBUSY)) } else { Ok(page_size) }
    }
    fn report(&self, _: u64, _: u64, _: u64, _: &mut [u64]) -> std::result::Result<(), Errno> {
        Ok(())
    }
    fn stop(&self) -> std::result::Result<(), Errno> {
        if self.0[1].load(Relaxed) { Err(Errno::new(libc::EIO)) } else { Ok(()) }
    }
}

const PAGE: Mapping = Mapping { range: IovaRange { iova: 0, size: 4096 }, cookie: 0 };

/// Of the lines at WARNING and INFO those with one of the words: one of each level, in this order.
fn assert_logged_twice(lines: &[(Level, String)], words: [&str; 2]) {
    let reported: Vec<_> = lines
        .iter()
        .filter(|(level, text)| *level <= Level::Info && words.iter().any(|word| text.contains(word)))
        .map(|(level, text)| (*level, words.iter().position(|word| text.contains(word))))
        .collect();
    assert_eq!(reported, [(Level::Warning, Some(0)), (Level::Info, Some(1))], "{words:?}: {lines:#?}");
}

/// No thread can be had for a while: each call is done by fewer, and only the first one says so.
#[test]
fn missing_threads_are_logged_twice() {
    let ((), lines) = logged(|| {
        let rig = rig(4);
        for available in [usize::MAX, 1, 0, 2, usize::MAX, usize::MAX] {
            refuse_threads_beyond(available);
            rig.group.pause().unwrap();
            rig.group.resume().unwrap();
        }
    });
    assert_logged_twice(&lines, ["threads could be made", "threads can be made again"]);
}

/// A log that cannot be stopped, or not be started, start for start.
#[test]
fn a_stubborn_log_is_logged_twice() {
    let cases = [
        (0, ["OPS is not used", "OPS can be used again"]),
        (1, ["stop: Input/output error", "it can be stopped again"]),
    ];
    for (which, words) in cases {
        let ((), lines) = logged(|| {
            let log = Stubborn::default();
            let options = TrackerOptions {
                functions: Some(Box::new(log.clone())),
                name: "ram".into(),
                ..TrackerOptions::default()
            };
            let tracker = Tracker::new(options).unwrap();
            tracker.map(&[PAGE]).unwrap();
            for fails in [false, true, true, true, false, false] {
                log.0[which].store(fails, Relaxed);
                tracker.start().unwrap();
                tracker.stop().unwrap();
            }
        });
        assert_logged_twice(&lines, words);
    }
}

/// The line has both logs: which one is read now, and which one was.
#[test]
fn a_log_that_takes_the_place_of_another_is_named() {
    let ((), lines) = logged(|| {
        let log = Stubborn::default();
        let options =
            TrackerOptions { functions: Some(Box::new(log.clone())), name: "ram".into(), ..TrackerOptions::default() };
        let tracker = Tracker::new(options).unwrap();
        tracker.map(&[PAGE]).unwrap();
        for fails in [true, true, false, false] {
            log.0[0].store(fails, Relaxed);
            tracker.start().unwrap();
        }
        tracker.stop().unwrap();
    });
    let said: Vec<_> = of_level(&lines, Level::Info).into_iter().filter(|line| line.contains("the place of")).collect();
    assert_eq!(said, ["ram: OPS takes the place of EVERYTHING"], "{lines:#?}");
}

/// Choices are made from who is there at each start and at each change; that a log cannot be read stays known.
#[test]
fn a_log_that_cannot_be_read_is_logged_once() {
    let (reasons, lines) = logged(|| {
        let log = Some(DmaLog { report: false, ..DmaLog::default() });
        let make = |name: &str| {
            let fake = simdev::Device::new(Config { dma_log: log, ..Config::v2(Caps { p2p: true, pre_copy: true }) });
            let options = DeviceOptions { name: name.into(), ..DeviceOptions::default() };
            Arc::new(Device::new(fake.transport(), options).unwrap())
        };
        let (first, second) = (make("first"), make("second"));
        let options =
            TrackerOptions { devices: vec![Arc::clone(&first)], name: "ram".into(), ..TrackerOptions::default() };
        let tracker = Tracker::new(options).unwrap();
        tracker.map(&[PAGE]).unwrap();
        let mut reasons = Vec::new();
        for _ in 0..3 {
            tracker.start().unwrap();
            reasons.push(tracker.info().reason);
            tracker.stop().unwrap();
        }
        tracker.start().unwrap();
        tracker.add_device(Arc::clone(&second)).unwrap();
        reasons.push(tracker.info().reason);
        tracker.remove_device(&second).unwrap();
        reasons.push(tracker.info().reason);
        tracker.stop().unwrap();
        reasons
    });
    assert_eq!(of_level(&lines, Level::Warning).len(), 1, "{lines:#?}");
    assert!(reasons.iter().all(|reason| reason.contains("reading: Operation not supported")), "{reasons:#?}");
}

/// A container that does not unmap with a bitmap, but without.
#[test]
fn unmappings_without_a_bitmap_are_logged_twice() {
    let ((), lines) = logged(|| {
        let space = Space::new(&Ram::new());
        let container = Type1::new(&space, Type1Config::default());
        let options = TrackerOptions { container: Some(Arc::new(container.clone())), ..TrackerOptions::default() };
        let tracker = Tracker::new(options).unwrap();
        tracker.map(&[PAGE]).unwrap();
        tracker.start().unwrap();
        for fails in [false, true, true, true, false, false] {
            let _ = space.map(simdev::Mapping { iova: 0, size: 4096, ram: 0 });
            if fails {
                let nth = container.watch().count(Access::Type1Unmap);
                container.watch().inject(Fault::at(Access::Type1Unmap, nth, Effect::Errno(libc::ENOMEM)));
            }
            tracker.unmap(PAGE.range, Unmap::Library, true, &mut Request::default()).unwrap();
            tracker.map(&[PAGE]).unwrap();
        }
    });
    assert_logged_twice(&lines, ["with its dirty bitmap failed", "with their dirty bitmaps again"]);
}

/// A server that fails each acknowledgement once.
#[test]
fn acknowledgements_that_fail_are_logged_twice() {
    let ((), lines) = logged(|| {
        let config = Config { vary_segments: false, ..Config::v1(Window::Trapped) }.state_size(6000).segments(1000);
        let rig = Rig::source(&[config], 1);
        rig.allow_abort();
        rig.devices[0].set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
        for segment in 0..6 {
            if segment < 3 {
                let nth = rig.fakes[0].count(Access::PendingRead) + 1;
                rig.fakes[0].inject(Fault::at(Access::PendingRead, nth, Effect::Errno(libc::EIO)));
            }
            while !rig.devices[0].read(&mut [0; 5000]).unwrap().1.contains(SEGMENT_END) {}
        }
    });
    assert_logged_twice(&lines, ["acknowledging a segment failed", "segments are acknowledged again"]);
}
