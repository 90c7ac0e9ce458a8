//! Faults happen where and as often as they were asked for, and each knows.

mod common;

use common::{Client, RESUMING, RUNNING, SAVING, v2};
use simdev::{Access, Config, DataPath, Device, Effect, Fault, Level, MIGRATION_REGION as R, Window};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
use vfiomig::dialect::State;

fn v1() -> (Device, Client) {
    let d = Device::new(Config::v1(Window::Trapped).seeded(1));
    let c = Client::open(&d, false, usize::MAX);
    (d, c)
}

#[test]
fn the_kth_access_of_all() {
    let plain = v1();
    plain.1.state(SAVING).unwrap();
    plain.1.drain();
    let calls = plain.0.calls();
    assert_eq!(calls.len() as u64, plain.0.count(Access::Any));
    for k in 3..calls.len() as u64 {
        let (d, c) = v1();
        let id = d.inject(Fault::at(Access::Any, k, Effect::Errno(libc::ENXIO)));
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (c.state(SAVING).unwrap(), c.drain())));
        assert!(failed.is_err(), "the naive client stops at the first error");
        assert_eq!(d.fault_reached(id), 1, "access {k}");
        assert_eq!(d.calls().last(), calls.get(k as usize));
    }
}

#[test]
fn the_kth_of_a_kind_and_all_from_there() {
    let (d, c) = v1();
    let once = d.inject(Fault::at(Access::StateWrite, 1, Effect::Errno(libc::ENOSPC)));
    let on = d.inject(Fault::from(Access::StateWrite, 3, Effect::Errno(libc::EBUSY)));
    let never = d.inject(Fault::at(Access::Reset, 0, Effect::Errno(libc::EAGAIN)));
    let results: Vec<_> = [SAVING | RUNNING, SAVING, SAVING, RUNNING, RUNNING].map(|s| c.state(s)).into();
    assert_eq!(results, [Ok(()), Err(libc::ENOSPC), Ok(()), Err(libc::EBUSY), Err(libc::EBUSY)]);
    assert_eq!([once, on, never].map(|f| d.fault_reached(f)), [1, 2, 0]);
    assert_eq!(d.state(), State::StopCopy, "a failed request does nothing");
    d.clear_faults();
    c.state(RUNNING).unwrap();
    assert_eq!(d.fault_reached(on), 2);
    d.assert_clean();
}

#[test]
fn into_error_at_a_step() {
    let (d, c) = v1();
    d.inject(Fault::at(Access::Enter(State::StopCopy), 0, Effect::ToError(libc::EIO)));
    assert_eq!(c.state(SAVING), Err(libc::EIO));
    assert_eq!((d.state(), c.get(0)), (State::Error, 6));
    let steps: Vec<u32> = d.transitions().iter().map(|t| t.to.0).collect();
    assert_eq!(steps, [0, 6]);
    d.reset().unwrap();
    d.inject(Fault::at(Access::Enter(State::StopCopy), 1, Effect::Errno(libc::ENOSPC)));
    assert_eq!(c.state(SAVING), Err(libc::ENOSPC));
    assert_eq!(d.state(), State::Running, "N6: the old state");

    let d = Device::new(Config::default());
    d.inject(Fault::at(Access::Enter(State::StopCopy), 0, Effect::Errno(libc::ETIMEDOUT)));
    assert_eq!(v2::set(&d, v2::STOP_COPY), Err(libc::ETIMEDOUT));
    assert_eq!(v2::state(&d), v2::STOP, "V2-3: a step of the path");
    let d = Device::new(Config::default());
    d.inject(Fault::at(Access::StateWrite, 0, Effect::ToError(libc::EIO)));
    assert_eq!((v2::set(&d, v2::STOP), v2::state(&d)), (Err(libc::EIO), 0));
}

#[test]
fn lies() {
    for (access, at) in
        [(Access::StateRead, 0), (Access::PendingRead, 8), (Access::DataOffsetRead, 0x10), (Access::DataSizeRead, 0x18)]
    {
        let (d, c) = v1();
        c.state(SAVING).unwrap();
        let id = d.inject(Fault::from(access, d.count(access) + 1, Effect::Lie(0x77)));
        let mut shown = Vec::new();
        for _ in 0..3 {
            if at > 8 {
                c.pending();
                c.offset();
            }
            shown.push(c.get(at));
        }
        assert!(shown[1] == 0x77 || at == 0x10, "{access:?}");
        assert_eq!(shown[2], 0x77, "{access:?}");
        assert!(d.fault_reached(id) >= 2);
    }
    let d = Device::new(Config::default());
    d.inject(Fault::from(Access::GetMigration, 0, Effect::Lie(0)));
    d.inject(Fault::from(Access::StopCopySize, 0, Effect::Lie(u64::MAX)));
    d.inject(Fault::at(Access::StateRead, 0, Effect::Lie(99)));
    assert_eq!((v2::flags(&d), v2::size(&d)), (Ok(0), Ok(u64::MAX)));
    assert_eq!((v2::state(&d), v2::state(&d)), (99, v2::RUNNING));
}

/// What follows a lie is judged by what was read: only what leaves the region is an offence.
#[test]
fn a_client_is_judged_by_what_it_was_shown() {
    let (d, c) = v1();
    c.state(SAVING).unwrap();
    d.inject(Fault::at(Access::DataOffsetRead, 0, Effect::Lie(5000)));
    c.pending();
    c.segment();
    c.pending();
    d.assert_clean();
    d.inject(Fault::at(Access::DataSizeRead, 1, Effect::Lie(1 << 40)));
    c.offset();
    assert_eq!(c.size(), 1 << 40);
    assert_eq!(d.region_read(R, 4096, &mut vec![0; 1 << 20]), Err(libc::EINVAL));
    assert_eq!(d.violations()[0].rule, "V1-13");
}

#[test]
fn the_window_moves() {
    for window in [Window::Trapped, Window::Area] {
        let config = Config::v1(window);
        let (source, sink) = (Device::new(config.clone().seeded(1)), Device::new(config));
        let (from, to) = (Client::open(&source, true, 100), Client::open(&sink, true, 100));
        from.state(SAVING).unwrap();
        assert!(from.pending() > 0);
        let before = from.offset();
        let id = source.inject(Fault::at(Access::DataOffsetRead, 1, Effect::MoveWindow));
        assert_ne!(from.offset(), before);
        assert_eq!(source.fault_reached(id), 1);
        source.inject(Fault::at(Access::DataOffsetRead, 4, Effect::MoveWindow));
        sink.inject(Fault::at(Access::DataOffsetRead, 2, Effect::MoveWindow));
        let mut stream = vec![from.segment()];
        stream.extend(from.drain());
        from.state(0).unwrap();
        to.load(&stream).unwrap();
        to.state(RUNNING).unwrap();
        source.assert_clean();
        sink.assert_clean();
        assert!(source.same_content(&sink));
    }
}

#[test]
fn short_moves() {
    let (d, c) = v1();
    c.state(SAVING).unwrap();
    d.inject(Fault::at(Access::DataRead, 0, Effect::Short(3)));
    d.inject(Fault::at(Access::PendingRead, 0, Effect::Short(2)));
    assert_eq!(d.region_read(R, 8, &mut [0; 8]), Ok(2));
    c.pending();
    let at = c.offset();
    c.size();
    assert_eq!(d.region_read(R, at, &mut [0; 100]), Ok(3));
    assert_eq!(d.region_read(R, at + 3, &mut [0; 97]), Ok(97));
    d.assert_clean();
    let d = Device::new(Config::default());
    v2::set(&d, v2::STOP_COPY).unwrap();
    d.inject(Fault::at(Access::DataRead, 0, Effect::Short(5)));
    assert_eq!((d.data_read(&mut [0; 64]), d.data_read(&mut [0; 64])), (Ok(5), Ok(64)));
}

#[test]
fn descriptors_missing_and_too_many() {
    for data in [DataPath::Functions, DataPath::RealFd] {
        let d = Device::new(Config { data, ..Config::default() });
        d.inject(Fault::at(Access::StateWrite, 0, Effect::NoFd));
        d.inject(Fault::at(Access::StateWrite, 1, Effect::UnexpectedFd));
        d.inject(Fault::at(Access::StateWrite, 3, Effect::ErrnoMoved(libc::EMFILE)));
        assert_eq!((v2::set(&d, v2::PRE_COPY), d.state(), d.sessions_opened()), (Ok(-1), State::PreCopy, 0));
        let fd = v2::set(&d, v2::RUNNING).unwrap();
        assert!(fd >= 0);
        if data == DataPath::RealFd {
            // SAFETY: the device made the descriptor for its client.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        assert_eq!(v2::set(&d, v2::STOP), Ok(-1));
        assert_eq!(
            (v2::set(&d, v2::RESUMING), d.state(), d.sessions_opened()),
            (Err(libc::EMFILE), State::Resuming, 0)
        );
    }
}

#[test]
fn delays_and_the_log_of_transitions() {
    let d = Device::new(Config::v1(Window::Trapped).seeded(1));
    let c = Client::open(&d, false, usize::MAX);
    let wait = Duration::from_millis(30);
    d.inject(Fault::at(Access::Enter(State::StopCopy), 0, Effect::Delay(wait)));
    d.inject(Fault::at(Access::DataOffsetRead, 1, Effect::Delay(wait)));
    let begin = Instant::now();
    c.state(SAVING).unwrap();
    let steps = d.transitions();
    assert_eq!(steps.iter().map(|t| t.to).collect::<Vec<_>>(), [Level(0), Level(SAVING)]);
    assert!(steps[1].end_ns - steps[1].begin_ns >= 30_000_000 && steps[0].end_ns <= steps[1].begin_ns);
    c.drain();
    assert!(begin.elapsed() >= 2 * wait);
    c.state(0).unwrap();
    d.assert_clean();
}

#[test]
fn a_test_can_look_while_a_device_takes_its_time() {
    let d = Device::new(Config::default());
    d.inject(Fault::at(Access::Enter(State::PreCopy), 0, Effect::Delay(Duration::from_secs(2))));
    let other = d.clone();
    let thread = std::thread::spawn(move || v2::set(&other, v2::PRE_COPY));
    while d.count(Access::Enter(State::PreCopy)) == 0 {
        std::thread::yield_now();
    }
    let begin = Instant::now();
    assert_eq!(d.state(), State::Running);
    assert!(begin.elapsed() < Duration::from_secs(1));
    thread.join().unwrap().unwrap();
}

#[test]
fn a_fault_excuses_leaving_early_and_a_delay_does_not() {
    for (effect, clean) in [(Effect::Errno(libc::EIO), true), (Effect::Delay(Duration::ZERO), false)] {
        let (d, c) = v1();
        d.inject(Fault::at(Access::StateWrite, 1, effect));
        c.state(SAVING).unwrap();
        let _ = c.state(SAVING);
        c.state(0).unwrap();
        assert_eq!(d.violation_count() == 0, clean);
    }
}

#[test]
fn a_runner_works_and_rests() {
    let d = Device::new(Config::v1_ndma(Window::Trapped).seeded(1));
    let c = Client::open(&d, false, usize::MAX);
    let before = d.checksum();
    let runner = d.run(Duration::from_millis(1), 64, 10..20);
    while d.ram().len() < 5 {
        std::thread::sleep(Duration::from_millis(1));
    }
    c.state(0).unwrap();
    let (stopped, ram) = (d.checksum(), d.ram());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((d.checksum(), d.ram()), (stopped, ram));
    assert!(runner.stop() >= 5 && stopped != before && d.refused().0 > 0);
    assert!(d.take_dma_log().iter().all(|p| (10..20).contains(p)));
    c.state(RESUMING).unwrap();
    d.assert_clean();
}
