//! Threads (docs/threading.md): *whole* calls wait for the data call in progress and go first, *device* calls wait for each other
//! and for *whole* calls unless the device was made with `no_wait`, getters never block. `make check-race` runs this file under ThreadSanitizer.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error, ErrorKind};
use vfiomig::transport::{DataFd, Feature, PrecopyInfo, Returned, Transport};

/// A device whose reads stop at a gate that the test opens, so that "in progress" is a fact and not a sleep.
#[derive(Default)]
struct Stage {
    state: Mutex<u32>,
    gate: Mutex<Gate>,
    moved: Condvar,
    reads: AtomicUsize,
    sets: AtomicUsize,
    /// Called from inside a request, for the re-entry test.
    inside: Mutex<Option<Box<dyn Fn() + Send>>>,
}

#[derive(Default)]
struct Gate {
    shut: bool,
    waiting: usize,
}

impl Stage {
    fn pass(&self) {
        let mut gate = self.gate.lock().unwrap();
        gate.waiting += 1;
        self.moved.notify_all();
        while gate.shut {
            gate = self.moved.wait(gate).unwrap();
        }
        gate.waiting -= 1;
    }

    fn shut(&self) {
        self.gate.lock().unwrap().shut = true;
    }

    fn open(&self) {
        self.gate.lock().unwrap().shut = false;
        self.moved.notify_all();
    }

    fn wait_for_one(&self) {
        let mut gate = self.gate.lock().unwrap();
        while gate.waiting == 0 {
            gate = self.moved.wait(gate).unwrap();
        }
    }

    fn call_inside(&self) {
        if let Some(inside) = &*self.inside.lock().unwrap() {
            inside();
        }
    }
}

struct StageTransport(Arc<Stage>);
struct StageData(Arc<Stage>);

impl Transport for StageTransport {
    fn device_info(&self, _info: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        self.0.call_inside();
        let mut state = self.0.state.lock().unwrap();
        match feature.flags() {
            0x1_0001 => feature.put_u64(8, 7),
            0x1_0002 => feature.put_u32(8, *state),
            0x2_0002 => {
                let saving = |state: u32| matches!(state, 3 | 6 | 7);
                let opens = !saving(*state) && (saving(feature.u32_at(8)) || feature.u32_at(8) == 4);
                *state = feature.u32_at(8);
                self.0.sets.fetch_add(1, Ordering::SeqCst);
                feature.put_u32(12, if opens { 1 } else { u32::MAX });
            }
            0x1_0009 => feature.put_u64(8, 42),
            _ => return Err(Errno::new(libc::ENOTTY)),
        }
        Ok(())
    }
    fn reset(&self) -> Result<(), Errno> {
        *self.0.state.lock().unwrap() = 2;
        Ok(())
    }
    fn open_data(&self, _fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        Ok(Box::new(StageData(Arc::clone(&self.0))))
    }
}

impl DataFd for StageData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.0.call_inside();
        self.0.pass();
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        buf.fill(7);
        Ok(buf.len().min(64))
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        Ok(buf.len())
    }
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        info.answer(0, 5, 6);
        Ok(())
    }
    fn wait_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

fn device() -> (Arc<Stage>, Arc<Device>) {
    device_with(false)
}

fn device_with(no_wait: bool) -> (Arc<Stage>, Arc<Device>) {
    let stage = Arc::new(Stage::default());
    *stage.state.lock().unwrap() = State::Running.number();
    let transport = Box::new(StageTransport(Arc::clone(&stage)));
    let options = DeviceOptions { name: "vf0".into(), buffer_size: Some(4096), no_wait, ..DeviceOptions::default() };
    (stage, Arc::new(Device::new(transport, options).unwrap()))
}

fn set(device: &Device, to: State) -> Result<(), Error> {
    device.set_state(to, OnFailure::Keep, false)
}

/// A caller that asked for it is turned away instead of waiting.
#[test]
fn no_wait_is_busy_and_whole_goes_first() {
    let (stage, device) = device_with(true);
    set(&device, State::PreCopy).unwrap();
    stage.shut();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| device.read(&mut [0; 64]));
        stage.wait_for_one();
        let sets = stage.sets.load(Ordering::SeqCst);
        let changer = scope.spawn(|| set(&device, State::Running));

        // A second data call does not wait: -EBUSY. Getters answer at once. (No join before the gate opens: a hang shows.)
        let busy = device.read(&mut [0; 64]).unwrap_err();
        assert_eq!((busy.kind(), busy.errno()), (ErrorKind::Busy, libc::EBUSY));
        assert_eq!(device.state(), State::PreCopy);
        assert!(device.info().session_open);
        assert_eq!(device.pending().initial_bytes, None);
        assert!(device.pending_exact().is_err_and(|e| e.kind() == ErrorKind::Busy));
        assert!(device.consume_raw(0).is_err_and(|e| e.kind() == ErrorKind::Busy));
        assert!(device.finish(None).is_err_and(|e| e.kind() == ErrorKind::Busy));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(stage.sets.load(Ordering::SeqCst), sets, "the change waits for the read");

        stage.open();
        assert_eq!(
            reader.join().unwrap().unwrap(),
            (64, vfiomig::window::StreamFlags::empty()),
            "the call in progress ends well"
        );
        changer.join().unwrap().unwrap();
    });
    assert_eq!(device.state(), State::Running);
    assert!(device.read(&mut [0; 64]).is_err_and(|e| e.errno() == libc::ESTALE));
}

/// A data call waits for another one, and for a state change, which goes first.
#[test]
fn device_calls_wait() {
    let (stage, device) = device();
    set(&device, State::PreCopy).unwrap();
    stage.shut();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| device.read(&mut [0; 64]));
        stage.wait_for_one();
        let sizes = scope.spawn(|| device.pending_exact());
        std::thread::sleep(Duration::from_millis(20));
        let second = scope.spawn(|| device.read(&mut [0; 64]));
        std::thread::sleep(Duration::from_millis(20));
        let changer = scope.spawn(|| set(&device, State::PreCopyP2p));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!sizes.is_finished() && !second.is_finished() && !changer.is_finished());
        assert_eq!(device.state(), State::PreCopy, "getters do not wait");

        stage.open();
        assert_eq!(reader.join().unwrap().unwrap(), (64, vfiomig::window::StreamFlags::empty()));
        changer.join().unwrap().unwrap();
        assert_eq!(sizes.join().unwrap().unwrap().stop_copy_bytes, Some(42));
        assert_eq!(second.join().unwrap().unwrap(), (64, vfiomig::window::StreamFlags::empty()));
    });
    assert_eq!(device.state(), State::PreCopyP2p);
}

#[test]
fn a_reader_that_never_stops_does_not_starve_a_change() {
    let (stage, device) = device();
    set(&device, State::PreCopy).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match device.read(&mut [0; 64]) {
                        Ok(_) => {}
                        // What a data call may meet: a session that is over or not yet begun.
                        Err(error) => {
                            assert!(
                                matches!(error.kind(), ErrorKind::Stale | ErrorKind::Order),
                                "{error}: {:?}",
                                error.kind()
                            )
                        }
                    }
                }
            });
        }
        // The readers are at work before the first change comes.
        while stage.reads.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        for round in 0..200 {
            set(&device, if round % 2 == 0 { State::Running } else { State::PreCopy }).unwrap();
            // The stream of the session before is void; a second one begins only when the caller says so.
            match device.restart_stream() {
                Ok(()) => {}
                // A reader that waited was let in before.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Order, "{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn whole_calls_wait_for_each_other() {
    let (_stage, device) = device();
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for to in [State::PreCopy, State::Stop, State::StopCopy, State::Running] {
            let (device, barrier) = (&device, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..100 {
                    // Some of these are arcs that the table refuses; none may be busy.
                    if let Err(error) = set(device, to) {
                        assert_eq!(error.kind(), ErrorKind::Order, "{error}");
                    }
                }
            });
        }
    });
}

#[test]
fn getters_from_any_thread_see_states_only() {
    let (_stage, device) = device();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let info = device.info();
                    assert!(State::ALL.contains(&info.state) && info.saved_bytes % 64 == 0);
                    let _ = device.pending();
                }
            });
        }
        for _ in 0..200 {
            device.restart_stream().unwrap();
            set(&device, State::PreCopy).unwrap();
            device.read(&mut [0; 64]).unwrap();
            device.pending_exact().unwrap();
            set(&device, State::Running).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_call_from_a_callback_is_refused() {
    let (stage, device) = device();
    set(&device, State::PreCopy).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (inner, results) = (Arc::downgrade(&device), Arc::clone(&seen));
    *stage.inside.lock().unwrap() = Some(Box::new(move || {
        let device = inner.upgrade().unwrap();
        let calls = [
            device.read(&mut [0; 8]).err(),
            device.peek(0).err(),
            device.consume_raw(0).err(),
            device.write(&[0], false).err(),
            device.reserve(None).err(),
            device.commit_raw(0, false).err(),
            device.finish(None).err(),
            device.restart_stream().err(),
            device.pending_exact().err(),
            device.reset().err(),
            device.reprobe().err(),
            set(&device, State::Running).err(),
            device.close().err(),
        ];
        results.lock().unwrap().extend(calls.into_iter().map(|e| e.map(|e| (e.kind(), e.errno()))));
        // These are for any thread at any time.
        let _ = (device.state(), device.info(), device.pending());
    }));
    device.read(&mut [0; 64]).unwrap();
    let from_data = seen.lock().unwrap().len();
    set(&device, State::Running).unwrap();
    let seen = seen.lock().unwrap();
    assert!(from_data == 13 && seen.len() > from_data, "from data functions and from requests");
    assert!(seen.iter().all(|e| *e == Some((ErrorKind::Busy, libc::EDEADLK))), "{seen:?}");
    *stage.inside.lock().unwrap() = None;
}

#[test]
fn close_waits_and_is_the_last_touch() {
    let (stage, device) = device();
    set(&device, State::PreCopy).unwrap();
    stage.shut();
    let closed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| device.read(&mut [0; 64]));
        stage.wait_for_one();
        let closer = scope.spawn(|| {
            device.close().unwrap();
            closed.store(true, Ordering::SeqCst);
            // The transport and the data fd are dropped: only the test has the stage.
            Arc::strong_count(&stage)
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!closed.load(Ordering::SeqCst), "close waits for the call in progress");
        stage.open();
        reader.join().unwrap().unwrap();
        assert_eq!(closer.join().unwrap(), 1);
    });
    for error in [device.read(&mut [0; 8]).unwrap_err(), set(&device, State::Running).unwrap_err()] {
        assert_eq!(error.errno(), libc::ENODEV);
    }
    assert!(device.close().is_err_and(|e| e.errno() == libc::ENODEV));
}

#[test]
fn calls_that_wait_for_a_handle_that_is_closed_get_enodev() {
    let (stage, device) = device();
    set(&device, State::PreCopy).unwrap();
    stage.shut();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| device.read(&mut [0; 64]));
        stage.wait_for_one();
        let closers: Vec<_> = (0..3).map(|_| scope.spawn(|| device.close())).collect();
        std::thread::sleep(Duration::from_millis(20));
        stage.open();
        reader.join().unwrap().unwrap();
        let ends: Vec<_> = closers.into_iter().map(|c| c.join().unwrap()).collect();
        assert_eq!(ends.iter().filter(|e| e.is_ok()).count(), 1, "{ends:?}");
        assert!(ends.iter().all(|e| e.as_ref().err().is_none_or(|e| e.errno() == libc::ENODEV)));
    });
}
