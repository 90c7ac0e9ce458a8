//! No call waits for ever for anything but a request within the kernel. What a call waits for: a device that is not ready
//! (c-tests/t-waiting.c has data fds too), a descriptor of the caller, the caller's own functions, and another call on the same
//! handle. A cancel ends the wait where it is the library's own, and an abort from another thread comes through.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Hooked, Rig};
use simdev::{Access, Config, Effect, Fault, Habits, Peer, Poll, Ready};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::{Error, ErrorKind};
use vfiomig::internals::set_caller_patience;
use vfiomig::migration::{AbortTo, Budget, Fed, Migration, Phase};
use vfiomig::tracker;

fn config() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(1 << 20)
}

/// What a thread does with its device, or with the migration, until it gets something else than "not ready".
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Read,
    Peek,
    Write,
    Send,
    Receive,
    Put,
    Get,
}

const WAYS: [Way; 7] = [Way::Read, Way::Peek, Way::Write, Way::Send, Way::Receive, Way::Put, Way::Get];

impl Way {
    fn loads(self) -> bool {
        matches!(self, Way::Write | Way::Receive | Way::Get)
    }

    /// It hangs in the VMM's own function, which only the VMM can end.
    fn is_callers(self) -> bool {
        matches!(self, Way::Put | Way::Get)
    }

    fn once(self, rig: &Rig, migration: &Migration, socket: &UnixStream, let_go: &AtomicBool) -> vfiomig::Result<()> {
        let device = &rig.devices[0];
        let wait = || {
            while !let_go.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        match self {
            Way::Read => device.read(&mut [0; 1000]).map(|_| ()),
            Way::Peek => device.peek(0).map(|_| ()),
            Way::Write => device.write(&[0; 1000], false),
            Way::Send => device.send(socket.as_fd(), 0).map(|_| ()),
            Way::Receive => device.receive(socket.as_fd(), 1000, false).map(|_| ()),
            Way::Put => migration
                .save_complete(&[], &mut |_| {
                    wait();
                    Ok(())
                })
                .map(|_| ()),
            Way::Get => migration
                .load_complete(&[], &mut |_, _| {
                    wait();
                    Ok(Fed::Bytes { len: 10, segment_end: false })
                })
                .map(|_| ()),
        }
    }
}

fn course(way: Way, cancels: bool) {
    let rig = if way.loads() { Rig::target(&[config()], 1) } else { Rig::source(&[config()], 1) };
    rig.allow_abort();
    let migration = if way.loads() { rig.load() } else { rig.save() };
    migration.advance(if way.loads() { Phase::LoadResuming } else { Phase::SaveStopCopy }).unwrap();
    if matches!(way, Way::Read | Way::Peek) {
        rig.fakes[0].inject(Fault::from(Access::DataRead, 0, Effect::Errno(libc::EAGAIN)));
    }
    if way == Way::Write {
        rig.fakes[0].inject(Fault::from(Access::DataWrite, 0, Effect::Errno(libc::EAGAIN)));
    }
    let (socket, _other_end) = UnixStream::pair().unwrap();
    let let_go = AtomicBool::new(false);
    let what = format!("{way:?}, {}", if cancels { "cancel" } else { "abort" });
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| -> Error {
            loop {
                match way.once(&rig, &migration, &socket, &let_go) {
                    Err(error) if error.errno() != libc::EAGAIN => break error,
                    _ => {}
                }
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiter.is_finished(), "{what}");
        let begun = Instant::now();
        if cancels {
            migration.cancel();
            let_go.store(true, Ordering::SeqCst);
            let error = waiter.join().unwrap();
            assert_eq!(error.kind(), ErrorKind::Canceled, "{what}: {error}");
            assert!(begun.elapsed() < Duration::from_millis(900), "{what}: {:?}", begun.elapsed());
            migration.abort(AbortTo::Running).unwrap();
        } else {
            let aborter = scope.spawn(|| migration.abort(AbortTo::Running));
            if way.is_callers() {
                std::thread::sleep(Duration::from_millis(50));
                assert!(!aborter.is_finished(), "{what}: the callback is not run over");
                let_go.store(true, Ordering::SeqCst);
                // It is in the hands of the VMM how long its callbacks go on; a cancel is how it ends them early.
                migration.cancel();
            }
            aborter.join().unwrap().unwrap();
            waiter.join().unwrap();
            assert!(begun.elapsed() < Duration::from_secs(4), "{what}: {:?}", begun.elapsed());
        }
    });
    rig.fakes[0].clear_faults();
    assert_eq!(rig.states(), [State::Running], "{what}");
    rig.assert_clean(&what);
}

/// Wherever a call waits for a device or for the caller's descriptor.
#[test]
fn a_cancel_ends_every_wait() {
    WAYS.into_iter().for_each(|way| course(way, true));
}

#[test]
fn an_abort_comes_through() {
    WAYS.into_iter().for_each(|way| course(way, false));
}

/// The patience of a call is one deadline, and a byte now and then does not begin it anew.
#[test]
fn a_byte_now_and_then_buys_no_time() {
    let source = Rig::source(&[config()], 1);
    let stream: Vec<u8> =
        source.save_all(&source.save()).unwrap().remove(0).parts.into_iter().flat_map(|(bytes, _)| bytes).collect();
    for moved in [0, 1] {
        let target = Rig::target(&[config()], 1);
        target.allow_abort();
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        let mut effects = vec![Effect::Errno(libc::EAGAIN); 20_000];
        if moved == 1 {
            effects.iter_mut().step_by(10).for_each(|effect| *effect = Effect::Short(1));
        }
        for (nth, effect) in effects.into_iter().enumerate() {
            target.fakes[0].inject(Fault::at(Access::DataWrite, nth as u64, effect));
        }
        let begun = Instant::now();
        let failure = target.devices[0].write(&stream[..100_000], false).unwrap_err();
        let took = begun.elapsed();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::EAGAIN), "{failure}");
        assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
        // Nothing taken, nothing lost.
        assert_eq!(target.devices[0].info().broken, moved == 1);
        target.fakes[0].clear_faults();
        assert_eq!(target.devices[0].write(&stream[..10], false).is_ok(), moved == 0);
        load.abort(AbortTo::Running).unwrap();
    }
}

/// Most drivers' data fds poll as ready whatever they say: the wait has an end all the same, and leaves the processor alone.
#[test]
fn a_descriptor_that_is_always_ready_buys_no_time() {
    for (loads, access) in [(false, Access::DataRead), (true, Access::DataWrite)] {
        let habits = Habits { poll: Poll::Always, ..Habits::PLAIN };
        let always = Config { habits, ..config() };
        let rig = if loads { Rig::target(&[always], 1) } else { Rig::source(&[always], 1) };
        rig.allow_abort();
        let migration = if loads { rig.load() } else { rig.save() };
        migration.advance(if loads { Phase::LoadResuming } else { Phase::SaveStopCopy }).unwrap();
        rig.fakes[0].inject(Fault::from(access, 0, Effect::Errno(libc::EAGAIN)));
        let begun = Instant::now();
        let failure = match loads {
            true => rig.devices[0].write(&[0; 1000], false).unwrap_err(),
            false => rig.devices[0].read(&mut [0; 1000]).unwrap_err(),
        };
        let took = begun.elapsed();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::EAGAIN), "{failure}");
        assert!((Duration::from_millis(900)..Duration::from_millis(1300)).contains(&took), "{took:?}");
        assert!(rig.fakes[0].count(access) < 1500, "{} calls", rig.fakes[0].count(access));
        assert!(!rig.devices[0].info().broken);
        rig.fakes[0].clear_faults();
        migration.abort(AbortTo::Running).unwrap();
    }
}

/// F8: a firmware that takes longer to save than one call waits (mlx5): drains ask again, as a VMM's loop does.
#[test]
fn a_drain_waits_for_a_device_that_takes_its_time() {
    set_caller_patience(Duration::from_secs(60));
    for max_workers in [1, 0] {
        let source = Rig::source(&[config(), config()], max_workers);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SaveStopCopy).unwrap();
        let busy = |errno| Fault::from(Access::DataRead, 0, Effect::Errno(errno));
        source.fakes[0].inject(busy(libc::EAGAIN));
        // A round goes on without it.
        let budget = Budget { bytes: u64::MAX, time: Duration::from_secs(60) };
        let round = save.save_iterate(budget, &[], &mut |_| Ok(())).unwrap();
        assert!(
            round.bytes[0] == 0 && round.flags[0].is_empty() && round.flags[1] == vfiomig::window::StreamFlags::END,
            "{round:?}"
        );
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(2500));
                source.fakes[0].clear_faults();
            });
            save.save_complete(&[], &mut |_| Ok(())).unwrap();
        });
        assert!(begun.elapsed() > Duration::from_secs(2));
        source.assert_clean("a slow firmware");
        // There is an end to it.
        save.abort(AbortTo::Running).unwrap();
        source.devices.iter().for_each(|device| drop(device.restart_stream()));
        save.advance(Phase::SaveStopCopy).unwrap();
        let nth = source.fakes[0].count(Access::DataRead);
        source.fakes[0].inject(Fault::from(Access::DataRead, nth, Effect::Errno(libc::EAGAIN)));
        set_caller_patience(Duration::from_millis(1500));
        let failure = save.save_complete(&[], &mut |_| Ok(())).unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::EAGAIN), "{failure}");
        set_caller_patience(Duration::from_secs(60));
        save.abort(AbortTo::Running).unwrap();
    }
}

/// A device whose STOP_COPY cannot be left before the end of its stream (xe), and whose firmware takes its time: the abort waits for
/// what it has to read, for as long as it reads. One that takes longer is an error, and the next abort goes on.
#[test]
fn an_abort_waits_for_a_stream_that_takes_its_time() {
    for (ready_after, aborts) in [(2500, 1), (7000, 2)] {
        let xe = Peer::Xe.config();
        let habits = Habits { ready: Ready::Again(Duration::from_millis(ready_after)), ..xe.habits };
        let source = Rig::source(&[Config { habits, ..xe }, config()], 0);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SaveStopCopy).unwrap();
        let begun = Instant::now();
        for abort in 1..aborts {
            let failure = save.abort(AbortTo::Running).unwrap_err();
            assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::ETIMEDOUT), "{abort}: {failure}");
            for part in ["d0", "not ready", "ask again, or reset it"] {
                assert!(failure.to_string().contains(part), "{failure}");
            }
            assert!(failure.results()[0].again, "{failure:?}");
            assert_eq!(source.states(), [State::StopCopy, State::Running]);
            let took = begun.elapsed();
            assert!((Duration::from_secs(4)..Duration::from_millis(6500)).contains(&took), "{took:?}");
        }
        save.abort(AbortTo::Running).unwrap();
        assert_eq!(source.states(), [State::Running; 2]);
        assert!(begun.elapsed() > Duration::from_millis(ready_after - 500));
        let report = save.report().unwrap().to_string();
        assert!(report.contains("of its stream were read and thrown away"), "{report}");
        if aborts == 1 {
            save.advance(Phase::SaveStopCopy).unwrap();
            save.save_complete(&[], &mut |_| Ok(())).unwrap();
        }
    }
}

/// A callback of a device that calls its group, whose call in another thread waits for that device, gets EDEADLK.
#[test]
fn a_callback_does_not_wait_for_who_waits_for_it() {
    type Group = Arc<Mutex<Option<Arc<vfiomig::group::Group>>>>;
    let group: Group = Arc::default();
    let reported: Arc<Mutex<Vec<i32>>> = Arc::default();
    let armed = Arc::new(AtomicBool::new(false));
    let rig = Rig::new(&[config().seeded(1)], 1, &|fake, _| {
        let (group, reported, armed) = (Arc::clone(&group), Arc::clone(&reported), Arc::clone(&armed));
        let before = move || {
            if armed.swap(false, Ordering::SeqCst) {
                // The other thread has come to the device.
                std::thread::sleep(Duration::from_millis(200));
                let group = group.lock().unwrap().clone().unwrap();
                let errno = group.devices().map_or_else(|error| error.errno(), |_| 0);
                reported.lock().unwrap().push(errno);
            }
        };
        Box::new(Hooked { inner: fake.transport(), before: Arc::new(before) })
    });
    rig.allow_abort();
    *group.lock().unwrap() = Some(Arc::clone(&rig.group));
    armed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| rig.devices[0].pending_exact());
        std::thread::sleep(Duration::from_millis(50));
        rig.group.pause().unwrap();
        asks.join().unwrap().unwrap();
    });
    assert_eq!(*reported.lock().unwrap(), [libc::EDEADLK]);
    assert_eq!(rig.states(), [State::Stop]);
    *group.lock().unwrap() = None;
}

/// A harvest's callback that asks the migration, while another thread aborts it and waits for the tracker.
#[test]
fn a_harvest_does_not_wait_for_the_abort_that_waits_for_it() {
    let rig = Rig::source(&[config()], 1);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();
    rig.log.dirty.lock().push(3);
    let inside = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let harvest = scope.spawn(|| {
            let mut reported = Vec::new();
            let run = &mut |_: u64, _: tracker::IovaRange| {
                if !inside.swap(true, Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(200));
                    reported.push(save.pending_exact().err().map(|error| error.errno()));
                }
                true
            };
            rig.tracker.harvest(&mut tracker::Request { run: Some(run), ..tracker::Request::default() }).unwrap();
            reported
        });
        while !inside.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        save.abort(AbortTo::Running).unwrap();
        assert_eq!(harvest.join().unwrap(), [Some(libc::EDEADLK)]);
    });
    assert_eq!(rig.states(), [State::Running]);
}

/// A device that is dropped gives back what it has.
#[test]
fn a_dropped_device_is_closed() {
    let sim = simdev::Device::new(Config::v1(simdev::Window::Area).segments(4096).state_size(10_000).seeded(1));
    sim.allow_abort(true);
    let device = Device::new(sim.transport(), DeviceOptions::default()).unwrap();
    device.set_state(State::PreCopy, vfiomig::device::OnFailure::Keep, false).unwrap();
    device.read(&mut [0; 100]).unwrap();
    assert!(sim.mappings() > 0);
    drop(device);
    assert_eq!(sim.mappings(), 0);
}

type Function = unsafe extern "C" fn(*mut c_void, *mut c_void, u32) -> c_int;

thread_local! {
    static FUNCTION: Cell<Option<Function>> = const { Cell::new(None) };
    static DEVICE: RefCell<Option<Arc<Device>>> = const { RefCell::new(None) };
    static TOLD: RefCell<Vec<Error>> = const { RefCell::new(Vec::new()) };
}

/// A function of the VMM that calls its device while it is asked for the log.
unsafe extern "C" fn calls_its_device(opaque: *mut c_void, feature: *mut c_void, argsz: u32) -> c_int {
    const DMA_LOG_REPORT: u32 = 8;
    // SAFETY: the library hands over {u32 argsz, flags}.
    let flags = unsafe { feature.cast::<u32>().add(1).read() };
    if let (Some(device), DMA_LOG_REPORT) = (DEVICE.take(), flags & 0xffff) {
        let stop = || device.set_state(State::Stop, vfiomig::device::OnFailure::Keep, false).err();
        let reported = [
            device.read(&mut [0; 100]).err(),
            device.write(&[0; 100], false).err(),
            device.pending_exact().err(),
            stop(),
            device.reset().err(),
            device.reprobe().err(),
        ];
        TOLD.set(reported.into_iter().flatten().collect());
    }
    // SAFETY: the function that simdev gave, with what it was to be called with.
    unsafe { FUNCTION.get().unwrap()(opaque, feature, argsz) }
}

/// Reports of the log go beside data calls, so that a device may be free while its functions are not. What comes from within one
/// gets an error before anything is asked, and breaks nothing.
#[test]
fn a_function_that_calls_its_device_breaks_no_session() {
    for state in [State::PreCopy, State::StopCopy, State::Resuming] {
        let fake = simdev::Device::new(Config { dma_log: Some(simdev::DmaLog::default()), ..config() }.seeded(1));
        fake.allow_abort(true);
        let (mut ops, opaque) = fake.ops();
        FUNCTION.set(ops.device_feature.replace(calls_its_device));
        // SAFETY: the table of simdev, for a device that lives; the other function uses this thread's values alone.
        let transport = unsafe { vfiomig::transport::ops::OpsTransport::new(ops, opaque) }.unwrap();
        let device = Arc::new(
            Device::new(Box::new(transport), DeviceOptions { name: "vf0".into(), ..DeviceOptions::default() }).unwrap(),
        );
        let options = tracker::TrackerOptions {
            name: "ram".into(),
            devices: vec![Arc::clone(&device)],
            ..tracker::TrackerOptions::default()
        };
        let ram = tracker::Tracker::new(options).unwrap();
        ram.map(&[tracker::Mapping { range: tracker::IovaRange { iova: 0, size: 1 << 20 }, cookie: 7 }]).unwrap();
        ram.start().unwrap();
        device.set_state(state, vfiomig::device::OnFailure::Keep, false).unwrap();
        DEVICE.set(Some(Arc::clone(&device)));
        ram.harvest(&mut tracker::Request::default()).unwrap();
        let reported = TOLD.take();
        assert_eq!(reported.len(), 6);
        for error in reported {
            assert_eq!((error.kind(), error.errno()), (ErrorKind::Busy, libc::EDEADLK), "{error}");
        }
        let info = device.info();
        assert_eq!((info.state, info.broken, info.session_open), (state, false, true));
        if state == State::Resuming {
            device.finish(Some(0)).unwrap();
        } else {
            assert!(device.read(&mut [0; 100]).unwrap().0 > 0);
        }
        ram.stop().unwrap();
    }
}
