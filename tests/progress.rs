//! A device that hangs is seen: getters answer beside every call, a callback hears of who has arrived and who has not, and the log
//! warns of what takes long.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use parking_lot::Mutex;
use rig::Rig;
use simdev::{Access, Config, DmaLog, Effect, Fault};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use vfiomig::device::{DeviceProgress, DeviceRequest};
use vfiomig::dialect::{Caps, Direction, State};
use vfiomig::error::ErrorKind;
use vfiomig::group::{Event, Who, Why, Wish, set_warnings};
use vfiomig::log::{Level, set_sink};
use vfiomig::migration::{AbortTo, EstimateInput, Migration, MigrationOptions, Phase};
use vfiomig::tracker::{IovaRange, LogAsked, LogRequest, Mapping, Tracker, TrackerOptions};

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(10_000)
}

/// The log is the process's, so the tests of this file go one after another.
static ONE: Mutex<()> = Mutex::new(());

/// The next step of this device into this state takes so long.
fn hang(rig: &Rig, device: usize, state: State, time: Duration) {
    let access = Access::Enter(state);
    let nth = rig.fakes[device].count(access);
    rig.fakes[device].inject(Fault { access, nth, times: 1, effect: Effect::Delay(time) });
}

fn at(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn quick<T>(what: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = what();
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    result
}

/// One of three devices hangs for 4 s, and everybody can see which.
#[test]
fn getters_answer_beside_a_device_that_hangs() {
    let _one = ONE.lock();
    for workers in [0, 1] {
        let rig = Rig::source(&[both(), both(), both()], workers);
        rig.allow_abort();
        let save = rig.save();
        save.advance(Phase::SavePreCopy).unwrap();
        hang(&rig, 1, State::StopCopy, Duration::from_secs(4));
        let begun = Instant::now();
        thread::scope(|scope| {
            let call = scope.spawn(|| save.advance(Phase::SaveStopCopy));
            at(1500);
            let progress = quick(|| rig.group.progress());
            let asked = progress[1].asked.unwrap();
            assert_eq!(
                (asked.request, progress[1].state),
                (DeviceRequest::SetState(State::StopCopy), State::PreCopyP2p)
            );
            assert!(asked.age() > Duration::from_secs(1) && asked.age() < Duration::from_secs(4), "{asked:?}");
            assert_eq!((&*progress[1].device, progress.len()), ("d1", 3));
            assert_eq!((progress[0].asked, progress[0].state), (None, State::StopCopy));
            let last = if workers == 1 { State::PreCopyP2p } else { State::StopCopy };
            assert_eq!((progress[2].asked, progress[2].state), (None, last));
            let report = quick(|| save.report()).unwrap();
            assert_eq!(report.phases.last().unwrap().phase, Phase::SaveP2pGrace);
            quick(|| save.estimate(EstimateInput::default())).unwrap();
            assert!(quick(|| save.error()).unwrap().is_none());
            assert_eq!(quick(|| rig.group.results()).unwrap().len(), 3);
            assert!(begun.elapsed() < Duration::from_secs(4) && !call.is_finished());
            call.join().unwrap().unwrap();
        });
        assert!(begun.elapsed() >= Duration::from_secs(4));
        assert!(rig.group.progress().iter().all(|device| device.asked.is_none()));
        save.abort(AbortTo::Running).unwrap();
        rig.assert_clean("hang");
    }
}

/// What a callback got.
type Reported = Arc<Mutex<Vec<(Why, DeviceProgress, usize, usize)>>>;

fn listen(rig: &Rig, wish: impl Fn(Why) -> Wish + Send + Sync + 'static) -> Reported {
    let reported = Reported::default();
    let kept = Arc::clone(&reported);
    let caller = thread::current().id();
    rig.group
        .on_progress(Duration::from_millis(50), move |event| {
            assert_eq!(thread::current().id(), caller, "called on the calling thread");
            if let Who::Device(device) = event.who {
                kept.lock().push((event.why, device.clone(), event.arrived, event.asked));
            }
            wish(event.why)
        })
        .unwrap();
    reported
}

#[test]
fn a_callback_hears_who_has_arrived_and_who_has_not() {
    let _one = ONE.lock();
    for count in [1, 3] {
        let rig = Rig::source(&vec![both(); count], 0);
        rig.allow_abort();
        let save = rig.save();
        save.advance(Phase::SaveP2pGrace).unwrap();
        let reported = listen(&rig, |_| Wish::GoOn);
        hang(&rig, 0, State::StopCopy, Duration::from_millis(500));
        save.advance(Phase::SaveStopCopy).unwrap();
        let reported = std::mem::take(&mut *reported.lock());
        let waits: Vec<_> = reported.iter().filter(|(why, ..)| *why == Why::Waiting).collect();
        assert!(waits.len() >= 3 && waits.len() <= 10, "{reported:?}");
        for (_, device, arrived, asked) in waits {
            assert_eq!((&*device.device, *asked), ("d0", count));
            assert!(*arrived < count);
            assert_eq!(device.asked.unwrap().request, DeviceRequest::SetState(State::StopCopy));
        }
        let arrivals: Vec<_> = reported.iter().filter(|(why, ..)| *why == Why::Arrived).collect();
        assert_eq!(arrivals.len(), count);
        for (n, (_, device, arrived, asked)) in arrivals.iter().enumerate() {
            assert_eq!((*arrived, *asked, device.state, device.asked), (n + 1, count, State::StopCopy, None));
        }
        assert_eq!(arrivals.last().unwrap().1.device, "d0");
        save.abort(AbortTo::Running).unwrap();
    }
}

/// With all work on the calling thread it hears between requests.
#[test]
fn without_workers_a_callback_hears_between_requests() {
    let _one = ONE.lock();
    let rig = Rig::source(&[both(), both()], 1);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SaveP2pGrace).unwrap();
    let reported = listen(&rig, |_| Wish::GoOn);
    hang(&rig, 0, State::StopCopy, Duration::from_millis(300));
    save.advance(Phase::SaveStopCopy).unwrap();
    let reported: Vec<_> = reported.lock().iter().map(|(why, device, ..)| (*why, device.device.clone())).collect();
    let arrived = |name: &str| (Why::Arrived, name.to_string());
    assert_eq!(reported, [arrived("d0"), (Why::Waiting, "d1".to_string()), arrived("d1")]);
    save.abort(AbortTo::Running).unwrap();
}

#[test]
fn a_callback_can_ask_for_cancel() {
    let _one = ONE.lock();
    let rig = Rig::source(&[both(), both()], 0);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();
    listen(&rig, |why| if why == Why::Waiting { Wish::Cancel } else { Wish::GoOn });
    hang(&rig, 1, State::PreCopyP2p, Duration::from_millis(400));
    let error = save.advance(Phase::SaveStopCopy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
    assert_eq!(save.phase(), Phase::SaveP2pGrace);
    // Nothing stops an abort.
    hang(&rig, 1, State::PreCopy, Duration::from_millis(200));
    hang(&rig, 1, State::RunningP2p, Duration::from_millis(200));
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(rig.states(), [State::Running; 2]);
    // Without a migration there is nothing to cancel.
    drop(save);
    hang(&rig, 0, State::Stop, Duration::from_millis(200));
    rig.group.pause().unwrap();
}

/// The group's other functions get EDEADLK, because they would wait for themselves; getters answer.
#[test]
fn getters_answer_in_a_callback_and_others_do_not_hang() {
    let _one = ONE.lock();
    let rig = Rig::source(&[both(), both()], 0);
    rig.allow_abort();
    let save = Arc::new(rig.save());
    let calls = Arc::new(AtomicUsize::new(0));
    let (group, inner, count) = (Arc::clone(&rig.group), Arc::downgrade(&save), Arc::clone(&calls));
    rig.group
        .on_progress(Duration::from_secs(100), move |_| {
            let save = inner.upgrade().unwrap();
            assert_eq!(group.progress().len(), 2);
            assert!(save.report().is_ok() && save.error().is_ok() && save.estimate(EstimateInput::default()).is_ok());
            assert_eq!(group.pause().unwrap_err().errno(), libc::EDEADLK);
            count.fetch_add(1, SeqCst);
            Wish::GoOn
        })
        .unwrap();
    save.advance(Phase::SavePreCopy).unwrap();
    assert_eq!(calls.load(SeqCst), 2);
    rig.group.close().unwrap();
}

/// Begun, still there, still there, back: with one device too, and also in what an abort tries twice.
#[test]
fn the_log_has_what_takes_long_while_it_does() {
    let _one = ONE.lock();
    set_warnings(Duration::from_millis(200), Duration::from_millis(300));
    for (count, abort) in [(1, false), (3, false), (3, true)] {
        let rig = Rig::source(&vec![both(); count], 0);
        rig.allow_abort();
        let save = rig.save();
        save.advance(Phase::SaveStopCopy).unwrap();
        let to = if abort { State::Stop } else { State::StopCopy };
        if !abort {
            save.abort(AbortTo::Running).unwrap();
            save.advance(Phase::SaveP2pGrace).unwrap();
        }
        hang(&rig, 0, to, Duration::from_millis(1000));
        let lines: Arc<Mutex<Vec<(Level, String, Duration)>>> = Arc::default();
        let (kept, begun) = (Arc::clone(&lines), Instant::now());
        let sink = move |level, text: &str| kept.lock().push((level, text.to_string(), begun.elapsed()));
        set_sink(Some(Arc::new(sink)), Level::Debug);
        if abort { save.abort(AbortTo::Stop) } else { save.advance(Phase::SaveStopCopy) }.unwrap();
        set_sink(None, Level::Error);
        let lines: Vec<_> = lines.lock().iter().filter(|(_, text, _)| text.starts_with("d0: ")).cloned().collect();
        let begins = lines.iter().find(|(_, text, _)| text.ends_with(&format!("-> {to} begins"))).unwrap();
        assert!(begins.0 == Level::Debug && begins.2 < Duration::from_millis(150), "{lines:?}");
        let warnings: Vec<_> = lines.iter().filter(|(level, ..)| *level == Level::Warning).collect();
        let (back, still) = warnings.split_last().unwrap();
        assert_eq!(still.len(), 3, "{lines:?}");
        for ((_, text, when), due) in still.iter().zip([200, 500, 800]) {
            assert!(text.starts_with(&format!("d0: the change to {to} was not answered for ")), "{text}");
            assert!(when.as_millis() >= due && when.as_millis() < due + 200, "{when:?} {text}");
        }
        assert!(back.1.starts_with(&format!("d0: the change to {to} was answered after ")), "{back:?}");
        if !abort {
            save.abort(AbortTo::Running).unwrap();
        }
    }
    set_warnings(Duration::from_secs(5), Duration::from_secs(10));
}

/// A device goes to LOADED behind the calls, and the one that waits for it tells when it is late and when it is back.
#[test]
fn a_late_end_of_a_load_is_told_twice() {
    let _one = ONE.lock();
    let source = Rig::source(&[both(), both()], 1);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&[both(), both()], 0);
    let options = MigrationOptions { queue_bytes: 1 << 20 };
    let load = Migration::with_options(Arc::clone(&target.group), Direction::Load, options).unwrap();
    load.advance(Phase::LoadResuming).unwrap();
    hang(&target, 0, State::Stop, Duration::from_millis(1000));
    set_warnings(Duration::from_millis(200), Duration::from_secs(10));
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&lines);
    set_sink(Some(Arc::new(move |_, text: &str| kept.lock().push(text.to_string()))), Level::Warning);
    for (device, stream) in target.devices.iter().zip(&streams) {
        for (bytes, segment_end) in &stream.parts {
            device.write(bytes, *segment_end).unwrap();
        }
        load.load_done(device, Some(stream.len() as u64)).unwrap();
    }
    set_sink(None, Level::Error);
    set_warnings(Duration::from_secs(5), Duration::from_secs(10));
    assert_eq!(load.phase(), Phase::LoadLoaded);
    let lines = lines.lock();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("d0: the change to STOP was not answered for "), "{lines:?}");
    assert!(lines[1].starts_with("d0: the change to STOP was answered after "), "{lines:?}");
}

/// A log that hangs when it is started, read or stopped: any thread sees which, and the log of messages has it while it hangs where
/// other threads work for the call, else behind it.
#[test]
fn a_log_that_hangs_is_seen() {
    let _one = ONE.lock();
    set_warnings(Duration::from_millis(200), Duration::from_secs(10));
    let config = Config { dma_log: Some(DmaLog::default()), ..both() };
    for count in [1, 2] {
        let rig = Rig::source(&vec![config.clone(); count], 0);
        rig.allow_abort();
        rig.group.remove_tracker(&rig.tracker).unwrap();
        let options = TrackerOptions { name: "ram".into(), devices: rig.devices.clone(), ..TrackerOptions::default() };
        let tracker = Arc::new(Tracker::new(options).unwrap());
        tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 0 }]).unwrap();
        rig.group.add_tracker(Arc::clone(&tracker)).unwrap();
        let save = rig.save();
        let track = || save.advance(Phase::SaveTracking).unwrap();
        let harvest = || {
            rig.harvest();
        };
        let abort = || save.abort(AbortTo::Running).unwrap();
        let calls: [(&dyn Fn(), Access, LogRequest, &str); 3] = [
            (&track, Access::DmaLogStart, LogRequest::Start, "the start was not answered for "),
            (
                &harvest,
                Access::DmaLogReport,
                LogRequest::Read,
                ["a read was answered after ", "a read was not answered for "][count - 1],
            ),
            (&abort, Access::DmaLogStop, LogRequest::Stop, "the stop was not answered for "),
        ];
        for (call, access, request, line) in calls {
            let nth = rig.fakes[0].count(access);
            let effect = Effect::Delay(Duration::from_millis(700));
            rig.fakes[0].inject(Fault { access, nth, times: 1, effect });
            let heard = Arc::new(AtomicBool::new(false));
            let (kept, whole) = (Arc::clone(&heard), format!("ram: DMA log of d0: {line}"));
            let sink = move |_, text: &str| kept.store(kept.load(SeqCst) | text.starts_with(&whole), SeqCst);
            set_sink(Some(Arc::new(sink)), Level::Warning);
            let over = AtomicBool::new(false);
            let seen = thread::scope(|scope| {
                let looks = scope.spawn(|| {
                    let mut seen = Vec::new();
                    while !over.load(SeqCst) {
                        seen.extend(quick(|| rig.group.asked_logs()));
                        at(20);
                    }
                    seen
                });
                call();
                over.store(true, SeqCst);
                looks.join().unwrap()
            });
            set_sink(None, Level::Error);
            assert!(heard.load(SeqCst), "{count} {request}");
            let named = |asked: &&LogAsked| asked.log == "ram: DMA log of d0" && asked.request == request;
            assert!(seen.iter().filter(named).count() >= 5, "{count} {request}: {seen:?}");
            assert!(rig.group.asked_logs().is_empty());
        }
    }
    set_warnings(Duration::from_secs(5), Duration::from_secs(10));
}

/// The callback hears of logs that do not answer, also where there is one only: as they are started, read and stopped.
#[test]
fn a_callback_hears_of_logs_that_do_not_answer() {
    let _one = ONE.lock();
    let config = Config { dma_log: Some(DmaLog::default()), ..both() };
    for count in [1, 2] {
        let rig = Rig::source(&vec![config.clone(); count], 0);
        rig.allow_abort();
        rig.group.remove_tracker(&rig.tracker).unwrap();
        let options = TrackerOptions { name: "ram".into(), devices: rig.devices.clone(), ..TrackerOptions::default() };
        let tracker = Arc::new(Tracker::new(options).unwrap());
        tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 0 }]).unwrap();
        rig.group.add_tracker(Arc::clone(&tracker)).unwrap();
        let save = rig.save();
        let (caller, group) = (thread::current().id(), Arc::clone(&rig.group));
        let heard: Arc<Mutex<Vec<(LogRequest, usize, usize)>>> = Arc::default();
        let kept = Arc::clone(&heard);
        let hear = move |event: &Event<'_>| {
            assert_eq!(thread::current().id(), caller, "called on the calling thread");
            if let (Who::Log(log), Why::Waiting) = (event.who, event.why) {
                assert_eq!(log.log, "ram: DMA log of d0");
                assert!(event.elapsed >= Duration::from_millis(50));
                // A call that would wait for this one is refused, and a getter answers.
                assert_eq!(group.pause().unwrap_err().errno(), libc::EDEADLK);
                assert!(!group.progress().is_empty());
                kept.lock().push((log.request, event.arrived, event.asked));
            }
            Wish::GoOn
        };
        rig.group.on_progress(Duration::from_millis(50), hear).unwrap();
        let track = || save.advance(Phase::SaveTracking).unwrap();
        let harvest = || {
            rig.harvest();
        };
        let abort = || save.abort(AbortTo::Running).unwrap();
        let calls: [(&dyn Fn(), Access, LogRequest, usize); 3] = [
            (&track, Access::DmaLogStart, LogRequest::Start, 1),
            (&harvest, Access::DmaLogReport, LogRequest::Read, count),
            (&abort, Access::DmaLogStop, LogRequest::Stop, 1),
        ];
        for (call, access, request, asked) in calls {
            let nth = rig.fakes[0].count(access);
            rig.fakes[0].inject(Fault { access, nth, times: 1, effect: Effect::Delay(Duration::from_millis(500)) });
            call();
            let heard = std::mem::take(&mut *heard.lock());
            assert!(heard.len() >= 3 && heard.len() <= 10, "{count} {request}: {heard:?}");
            assert!(heard.iter().all(|seen| *seen == (request, 0, asked)), "{count} {request}: {heard:?}");
        }
    }
}

/// A drain is watched as well.
#[test]
fn a_read_that_hangs_in_a_drain_is_seen() {
    let _one = ONE.lock();
    set_warnings(Duration::from_millis(200), Duration::from_secs(10));
    let rig = Rig::source(&[both(), both()], 0);
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let reported = listen(&rig, |_| Wish::GoOn);
    let warned = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&warned);
    let sink =
        move |_, text: &str| heard.store(heard.load(SeqCst) | text.starts_with("d1: a read of its stream"), SeqCst);
    set_sink(Some(Arc::new(sink)), Level::Warning);
    let nth = rig.fakes[1].count(Access::DataRead);
    let effect = Effect::Delay(Duration::from_millis(600));
    rig.fakes[1].inject(Fault { access: Access::DataRead, nth, times: 1, effect });
    save.save_complete(&[], &mut |_| Ok(())).unwrap();
    set_sink(None, Level::Error);
    set_warnings(Duration::from_secs(5), Duration::from_secs(10));
    assert!(warned.load(SeqCst));
    let reported = reported.lock();
    let read = reported.iter().filter(|(why, device, ..)| {
        *why == Why::Waiting && device.asked.is_some_and(|asked| asked.request == DeviceRequest::Read)
    });
    assert!(read.count() >= 3, "{reported:?}");
}

/// Times belong to the devices, come back as a text, and a measured one takes the place of one that was given.
#[test]
fn times_are_given_kept_and_measured() {
    let _one = ONE.lock();
    let rig = Rig::source(&[both(), both()], 0);
    assert_eq!(rig.group.timings(), "vfiomig-timings 1");
    let text = "vfiomig-timings 1\nPRE_COPY PRE_COPY_P2P 3s d0\nPRE_COPY PRE_COPY_P2P 2s d1\nPRE_COPY_P2P STOP_COPY 1s d0\n\
                PRE_COPY_P2P STOP_COPY 500ms d1\nSTOP RUNNING 1ms other";
    assert_eq!(rig.group.set_timings(text).unwrap(), ["other"]);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let estimate = || save.estimate(EstimateInput::default()).unwrap().transition.unwrap();
    assert_eq!(estimate(), Duration::from_secs(4));
    let kept = rig.group.timings();
    assert!(kept.contains("\nPRE_COPY_P2P STOP_COPY 500000000ns d1"), "{kept}");
    save.advance(Phase::SaveStopCopy).unwrap();
    save.abort(AbortTo::Running).unwrap();
    save.advance(Phase::SavePreCopy).unwrap();
    assert!(estimate() < Duration::from_secs(1));
    assert!(rig.group.set_timings(&kept).unwrap().is_empty());
    assert!(estimate() >= Duration::from_millis(3900), "{:?}", estimate());
    save.abort(AbortTo::Running).unwrap();
}
