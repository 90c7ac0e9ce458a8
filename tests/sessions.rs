//! What ends a session and what does not: failed reads, states that cannot be read, others who moved the device, sizes that
//! cannot be had.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Hooked, Rig};
use simdev::{Access, Config, Effect, Fault, Peer, Window};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::ErrorKind;
use vfiomig::migration::{AbortTo, Phase};
use vfiomig::window::StreamFlags;

const END: StreamFlags = StreamFlags::END;

fn v2() -> Config {
    Config { max_io: 1000, ..Config::v2(Caps { p2p: true, pre_copy: true }) }.state_size(10_000)
}

fn open(config: Config) -> (simdev::Device, Device) {
    let sim = simdev::Device::new(config.seeded(5));
    sim.allow_abort(true);
    let options = DeviceOptions { name: "vf0".into(), buffer_size: Some(4096), ..DeviceOptions::default() };
    let device = Device::new(sim.transport(), options).unwrap();
    (sim, device)
}

fn set(device: &Device, to: State) -> vfiomig::Result<()> {
    device.set_state(to, OnFailure::Keep, false)
}

/// The next access of this kind, and so many behind it.
fn fails(sim: &simdev::Device, access: Access, times: u64, effect: Effect) {
    let nth = sim.count(access);
    sim.inject(Fault { access, nth, times, effect });
}

fn rest(device: &Device) -> vfiomig::Result<usize> {
    let (mut buf, mut all) = ([0; 3000], 0);
    loop {
        match device.read(&mut buf)? {
            (0, END) => return Ok(all),
            (len, _) => all += len,
        }
    }
}

/// A read that failed may have dropped bytes, so the stream has a hole that cannot be seen. It gets no END.
#[test]
fn a_failed_read_of_the_data_fd_breaks_the_save() {
    for errno in [libc::EIO, libc::ENODEV, libc::EFAULT, libc::EPROTO, 512] {
        let (sim, device) = open(v2());
        set(&device, State::StopCopy).unwrap();
        device.read(&mut [0; 1000]).unwrap();
        fails(&sim, Access::DataRead, 1, Effect::ErrnoMoved(errno));
        let failure = device.read(&mut [0; 1000]).unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, errno), "{failure}");
        assert_eq!(failure.to_string().contains("ERESTARTSYS"), errno == 512, "{failure}");
        assert!(device.info().broken && !device.info().complete && device.info().session_open);
        let reads = sim.count(Access::DataRead);
        let refused = [
            device.read(&mut [0; 1000]).err(),
            device.peek(0).err(),
            device.pending_exact().err(),
            rest(&device).err(),
        ];
        for failure in refused.map(Option::unwrap) {
            assert_eq!(failure.kind(), ErrorKind::Stale, "{failure}");
        }
        assert_eq!(sim.count(Access::DataRead), reads, "nothing more is asked of it");
        assert_eq!(device.restart_stream().unwrap_err().kind(), ErrorKind::Order, "not in this session");
        // The way on: another session, of a new stream.
        set(&device, State::Running).unwrap();
        set(&device, State::StopCopy).unwrap();
        assert_eq!(device.read(&mut [0; 1000]).unwrap_err().kind(), ErrorKind::Stale, "what was sent is void");
        device.restart_stream().unwrap();
        assert!(!device.info().broken);
        assert!(rest(&device).unwrap() >= 10_000);
    }
}

/// What says that nothing was moved breaks nothing, and segments of a region are read again.
#[test]
fn nothing_moved_is_nothing_lost() {
    let whole = |config: Config| {
        let (_sim, device) = open(config);
        set(&device, State::StopCopy).unwrap();
        rest(&device).unwrap()
    };
    let v1 = || Config::v1(Window::Trapped).segments(512).state_size(10_000);
    for (config, errno) in [(v2(), libc::EINTR), (v2(), libc::EAGAIN), (v1(), libc::EIO), (v1(), libc::EINTR)] {
        let all = whole(config.clone());
        let (sim, device) = open(config);
        set(&device, State::StopCopy).unwrap();
        let (first, _) = device.read(&mut [0; 300]).unwrap();
        fails(&sim, Access::DataRead, 3, Effect::Errno(errno));
        let mut got = Err(vfiomig::Error::new(ErrorKind::Device, errno, ""));
        for _ in 0..4 {
            got = got.or_else(|_| rest(&device));
        }
        assert_eq!(first + got.unwrap(), all, "errno {errno}");
        assert!(!device.info().broken && device.info().complete);
    }
}

/// A write that a signal has cut short may have taken bytes (P4), or dropped some (xe): to make it again could send them twice.
#[test]
fn an_interrupted_write_is_never_made_again() {
    let bytes: Vec<u8> = (0..100).collect();
    for interrupted in [0, 1] {
        let (sim, device) = open(v2());
        set(&device, State::Resuming).unwrap();
        if interrupted == 1 {
            fails(&sim, Access::DataWrite, 1, Effect::Short(10));
        }
        sim.inject(Fault::at(Access::DataWrite, interrupted, Effect::Errno(libc::EINTR)));
        let failure = device.write(&bytes, false).unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::EINTR), "{failure}");
        assert!(failure.to_string().contains("only a reset remains"), "{failure}");
        assert_eq!(sim.count(Access::DataWrite), interrupted + 1);
        assert!(device.info().broken);
        assert_eq!(device.info().loaded_bytes, interrupted * 10);
        for failure in [device.write(&bytes, false).unwrap_err(), device.finish(Some(100)).unwrap_err()] {
            assert_eq!(failure.kind(), ErrorKind::Stale, "{failure}");
        }
    }
}

/// A read that says EINTR for ever (xe, behind a signal that made it drop bytes) is no read that moved nothing.
#[test]
fn an_interrupt_that_stays_breaks_the_save() {
    let (sim, device) = open(v2());
    set(&device, State::StopCopy).unwrap();
    sim.inject(Fault::from(Access::DataRead, 0, Effect::Errno(libc::EINTR)));
    let begun = Instant::now();
    let failure = device.read(&mut [0; 1000]).unwrap_err();
    assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::EINTR), "{failure}");
    assert!(device.info().broken && begun.elapsed() < Duration::from_secs(3));
    assert_eq!(device.read(&mut [0; 1000]).unwrap_err().kind(), ErrorKind::Stale);
    // Through a migration.
    let source = Rig::source(&[v2()], 1);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    source.fakes[0].inject(Fault::from(Access::DataRead, 1, Effect::Errno(libc::EINTR)));
    save.save_complete(&[], &mut |_| Ok(())).unwrap_err();
    assert!(source.devices[0].info().broken);
    let reads = source.fakes[0].count(Access::DataRead);
    let again = save.save_complete(&[], &mut |_| Ok(())).unwrap_err();
    assert!(matches!(again.kind(), ErrorKind::Stale | ErrorKind::Device), "{again}");
    assert_eq!(source.fakes[0].count(Access::DataRead), reads, "a drain does not ask again");
    source.fakes[0].clear_faults();
    save.abort(AbortTo::Running).unwrap();
}

/// The same through a migration. Only an abort is left.
#[test]
fn a_broken_stream_is_aborted() {
    let source = Rig::source(&[v2(), v2()], 1);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    source.fakes[1].inject(Fault::at(Access::DataRead, 2, Effect::ErrnoMoved(libc::EIO)));
    let failure = save.save_complete(&[], &mut |_| Ok(())).unwrap_err();
    assert!(failure.to_string().contains("d1"), "{failure}");
    let again = save.save_complete(&[], &mut |_| Ok(())).unwrap_err();
    assert!(matches!(again.kind(), ErrorKind::Stale | ErrorKind::Device), "{again}");
    source.harvest();
    assert!(save.advance(Phase::SaveHalted).is_err(), "END is impossible");
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(source.states(), [State::Running; 2]);
    source.assert_clean("aborted");
}

/// A state that cannot be read is no state that was left. The session goes on once it can be read again.
#[test]
fn a_state_that_cannot_be_read_ends_no_session() {
    for unread in [1, 2, 3] {
        let (sim, device) = open(v2());
        set(&device, State::PreCopy).unwrap();
        device.read(&mut [0; 10]).unwrap();
        let session = device.info().session;
        // The look before the request is answered, the request and the looks behind it are not.
        let nth = sim.count(Access::StateRead) + 1;
        sim.inject(Fault { access: Access::StateRead, nth, times: unread, effect: Effect::Errno(libc::EBUSY) });
        fails(&sim, Access::StateWrite, 1, Effect::Errno(libc::EBUSY));
        let failure = set(&device, State::StopCopy).unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::EBUSY), "{failure}");
        let known = unread == 1;
        assert_eq!(device.state(), if known { State::PreCopy } else { State::Error });
        assert!(device.info().session_open, "its data fd is kept (P17)");
        // The third look fails at the first call below.
        let read = device.read(&mut [0; 10]);
        assert_eq!(read.unwrap().0, 10, "looked again, twice");
        assert_eq!(device.state(), State::PreCopy);
        set(&device, State::StopCopy).unwrap();
        assert!(rest(&device).unwrap() > 0);
        assert_eq!(device.info().session, session);
    }
}

/// Whoever asks for the next step hears of no others who would have changed the device.
#[test]
fn the_next_step_finds_the_device_again() {
    let (sim, device) = open(v2());
    set(&device, State::PreCopy).unwrap();
    let nth = sim.count(Access::StateRead) + 1;
    sim.inject(Fault { access: Access::StateRead, nth, times: 2, effect: Effect::Errno(libc::EIO) });
    fails(&sim, Access::StateWrite, 1, Effect::Errno(libc::EIO));
    let failure = set(&device, State::StopCopy).unwrap_err();
    assert!(failure.to_string().contains("its state cannot be read"), "{failure}");
    set(&device, State::StopCopy).unwrap();
    assert!(rest(&device).unwrap() >= 10_000);
}

/// There is no way from STOP_COPY into pre-copy within one session; others have opened another one.
#[test]
fn a_session_of_stop_copy_does_not_go_on_in_pre_copy() {
    for config in [Config::v1(Window::Trapped).segments(512).state_size(3000), v2()] {
        for by_reprobe in [true, false] {
            let (sim, device) = open(config.clone());
            set(&device, State::StopCopy).unwrap();
            assert!(device.read(&mut [0; 100]).unwrap().0 > 0);
            let other = Device::new(sim.transport(), DeviceOptions::default()).unwrap();
            set(&other, State::Running).unwrap();
            set(&other, State::PreCopy).unwrap();
            let looked = if by_reprobe { device.reprobe() } else { device.observe().map(|_| ()) };
            looked.unwrap();
            assert_eq!((device.state(), device.info().session_open), (State::PreCopy, false));
            assert_eq!(device.read(&mut [0; 100]).unwrap_err().kind(), ErrorKind::Stale);
        }
    }
}

/// A reset by others ends the session also where a server keeps the state over it (K24): nothing of the next one is glued to it.
#[test]
fn a_reprobe_ends_the_session_in_every_state() {
    let config = || Peer::LibvfioUserV2.config().state_size(1 << 14);
    let (sim, device) = open(config());
    set(&device, State::PreCopy).unwrap();
    let mut begun = [0; 1000];
    device.read(&mut begun).unwrap();
    sim.reset().unwrap();
    device.reprobe().unwrap();
    assert_eq!((device.state(), device.info().session_open), (State::PreCopy, false));
    assert_eq!(device.read(&mut [0; 1000]).unwrap_err().kind(), ErrorKind::Stale);
    set(&device, State::Running).unwrap();
    device.restart_stream().unwrap();
    set(&device, State::StopCopy).unwrap();
    assert!(rest(&device).unwrap() >= 1 << 14);
    // What was loaded is gone, and what comes later is no end of it; then RESUMING can be left.
    let (sim, device) = open(config());
    set(&device, State::Resuming).unwrap();
    device.write(&begun[..500], false).unwrap();
    sim.reset().unwrap();
    device.reprobe().unwrap();
    assert_eq!((device.state(), device.info().session_open), (State::Resuming, false));
    assert_eq!(device.finish(Some(500)).unwrap_err().kind(), ErrorKind::Stale);
    set(&device, State::Stop).unwrap();
    // Also a probe that fails was behind a reset.
    let (sim, device) = open(v2());
    set(&device, State::PreCopy).unwrap();
    device.read(&mut [0; 1000]).unwrap();
    sim.reset().unwrap();
    fails(&sim, Access::Any, 1, Effect::Errno(libc::EIO));
    device.reprobe().unwrap_err();
    assert!(!device.info().session_open);
}

/// K1: behind an EIO that ended pre-copy nothing is asked of a device but a reset; once others have done it, everything may be.
#[test]
fn a_reset_by_others_ends_what_only_a_reset_ends() {
    let broken = || {
        let (sim, device) = open(Peer::Mlx5.config().state_size(1 << 16));
        set(&device, State::PreCopy).unwrap();
        fails(&sim, Access::Enter(State::Running), 1, Effect::Errno(libc::EIO));
        set(&device, State::Running).unwrap_err();
        assert_eq!(set(&device, State::Running).unwrap_err().kind(), ErrorKind::Order);
        (sim, device)
    };
    type Tell = fn(&Device);
    let tells: [(&str, Tell); 3] = [
        ("reprobe", |device| device.reprobe().unwrap()),
        ("observe", |device| assert_eq!(device.observe().unwrap(), State::Running)),
        ("stale", |device| assert_eq!(set(device, State::PreCopy).unwrap_err().kind(), ErrorKind::Stale)),
    ];
    for (how, tell) in tells {
        let (sim, device) = broken();
        sim.reset().unwrap();
        tell(&device);
        set(&device, State::PreCopy).unwrap_or_else(|failure| panic!("{how}: {failure}"));
        assert!(sim.violations().is_empty(), "{how}: {:?}", sim.violations());
    }
    // It was not reset, whatever was said: then a reset of the library's own is the way.
    let (sim, device) = broken();
    assert_eq!(device.reprobe().unwrap_err().kind(), ErrorKind::Order);
    assert_eq!(set(&device, State::Running).unwrap_err().kind(), ErrorKind::Order);
    device.reset().unwrap();
    set(&device, State::PreCopy).unwrap();
    assert!(sim.violations().is_empty(), "{:?}", sim.violations());
}

/// What is known only in STOP_COPY is forgotten when that is left.
#[test]
fn sizes_of_stop_copy_are_forgotten_with_it() {
    for config in [Config::v1(Window::Trapped).segments(512).state_size(3000), v2()] {
        let (_sim, device) = open(config);
        set(&device, State::StopCopy).unwrap();
        assert!(device.pending_exact().unwrap().stop_copy_bytes.is_some());
        device.read(&mut [0; 100]).unwrap();
        device.pending_exact().unwrap();
        set(&device, State::Running).unwrap();
        let pending = device.pending();
        assert_eq!((pending.stop_copy_bytes, pending.cached), (None, false));
    }
}

/// The size goes down with what is read, and never up: drivers say at any time how much it was in all, or less than the stream is long.
#[test]
fn what_is_left_of_stop_copy_only_falls() {
    for peer in [Peer::Xe, Peer::Mlx5, Peer::Virtio, Peer::HisiAcc, Peer::Qat, Peer::Pds, Peer::Mtty] {
        let mut config = peer.config().state_size(10_000);
        config.habits.ready = simdev::Ready::AtOnce;
        let (_sim, device) = open(config);
        set(&device, State::StopCopy).unwrap();
        let mut last = device.pending_exact().unwrap().stop_copy_bytes;
        assert!(last.is_some());
        loop {
            let (len, _) = device.read(&mut [0; 100]).unwrap();
            let now = device.pending_exact().unwrap().stop_copy_bytes;
            if len == 0 {
                assert_eq!(now, Some(0), "{peer:?}");
                break;
            }
            assert!(now.is_none_or(|now| last.is_some_and(|last| now < last)), "{peer:?}: {last:?}, then {now:?}");
            last = now;
        }
    }
}

/// After the EIO behind which mlx5 crashes the host nothing but a reset is asked of it, no size and no option either.
#[test]
fn nothing_is_asked_where_only_a_reset_helps() {
    let (sim, device) = open(Peer::Mlx5.config().state_size(10_000));
    set(&device, State::PreCopy).unwrap();
    let nth = sim.count(Access::Enter(State::Running));
    sim.inject(Fault::at(Access::Enter(State::Running), nth, Effect::Errno(libc::EIO)));
    set(&device, State::Running).unwrap_err();
    let before = sim.calls().len();
    let failure = device.pending_exact().unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Order, "{failure}");
    let failure = device.reprobe().unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Order, "{failure}");
    let asked = sim.calls().split_off(before);
    let harmless = [Access::DeviceInfo, Access::GetMigration, Access::StateRead];
    assert!(asked.iter().all(|access| harmless.contains(access)), "{asked:?}");
    device.reset().unwrap();
    device.reprobe().unwrap();
    device.pending_exact().unwrap();
}

/// A stream that was to be read to its end, for STOP_COPY to be left, and whose read failed: every fact says that it is broken.
#[test]
fn a_drain_that_fails_breaks_the_save() {
    let source = Rig::source(&[Peer::Xe.config().state_size(10_000)], 1);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    fails(&source.fakes[0], Access::DataRead, 1, Effect::ErrnoMoved(libc::EIO));
    save.abort(AbortTo::Running).unwrap_err();
    assert_eq!(source.states(), [State::StopCopy]);
    assert!(source.devices[0].info().broken);
    assert_eq!(save.check_sessions().unwrap_err().kind(), ErrorKind::Stale);
}

/// What is mapped stays mapped when the device is probed again.
#[test]
fn probing_again_forgets_no_mapping() {
    let (_sim, device) = open(Config::v1(Window::Area).segments(4096).state_size(10_000));
    set(&device, State::PreCopy).unwrap();
    let before = device.info().caps;
    assert!(before.contains(vfiomig::device::CapFlags::MAPPED));
    device.reprobe().unwrap();
    assert_eq!(device.info().caps, before);
}

/// MIG_DATA_SIZE is optional; a driver that cannot answer now (mlx5: ENOTCONN) fails no query of sizes. A device that
/// is in ERROR does.
#[test]
fn a_size_that_cannot_be_had_is_unknown() {
    let (sim, device) = open(v2());
    set(&device, State::PreCopy).unwrap();
    sim.inject(Fault::from(Access::StopCopySize, 0, Effect::Errno(libc::ENOTCONN)));
    let pending = device.pending_exact().unwrap();
    assert!(pending.stop_copy_bytes.is_none() && pending.initial_bytes.is_some(), "{pending:?}");
    sim.clear_faults();
    fails(&sim, Access::StopCopySize, 1, Effect::ToError(libc::EIO));
    let failure = device.pending_exact().unwrap_err();
    assert_eq!((failure.kind(), device.state()), (ErrorKind::Device, State::Error), "{failure}");
}

/// What a panic within a call on a group has left of a device is used no more, by whomever; the others
/// are as they were.
#[test]
fn a_panic_breaks_its_device_alone() {
    let armed = Arc::new(AtomicBool::new(false));
    let rig = Rig::new(&[v2().seeded(1), v2().seeded(2)], 1, &|fake, i| {
        let armed = Arc::clone(&armed);
        let before = move || assert!(i != 1 || !armed.swap(false, Ordering::SeqCst), "a bug");
        Box::new(Hooked { inner: fake.transport(), before: Arc::new(before) })
    });
    rig.allow_abort();
    armed.store(true, Ordering::SeqCst);
    let pause = std::panic::AssertUnwindSafe(|| rig.group.pause());
    assert!(std::panic::catch_unwind(pause).is_err());
    for failure in [rig.devices[1].read(&mut [0; 10]).unwrap_err(), rig.devices[1].reset().unwrap_err()] {
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Panic, libc::ENOTRECOVERABLE), "{failure}");
    }
    let failure = rig.group.pause().unwrap_err();
    assert!(failure.to_string().contains("d1"), "{failure}");
    rig.devices[0].reset().unwrap();
    rig.devices[1].close().unwrap();
}

/// The data fd goes in the step that leaves its state, whatever the next request is.
#[test]
fn the_data_fd_goes_with_its_state() {
    let (sim, device) = open(v2());
    set(&device, State::StopCopy).unwrap();
    let begun = Instant::now();
    set(&device, State::Stop).unwrap();
    assert!(!device.info().session_open && begun.elapsed() < Duration::from_secs(1));
    let reads = sim.count(Access::DataRead);
    assert!(device.read(&mut [0; 10]).is_err());
    assert_eq!(sim.count(Access::DataRead), reads);
}

/// The register is read once more just before it is written, for the bits that are not ours: what others did to the device between
/// the two reads is seen there, so that bytes of a session that they have ended are not joined to those of the next one (V2-10).
#[test]
fn a_device_that_others_move_just_before_the_request_is_asked_for_nothing() {
    let (sim, device) = open(Config::v1_ndma(Window::Trapped).state_size(10_000));
    set(&device, State::PreCopy).unwrap();
    let (writes, running) = (sim.count(Access::StateWrite), 0b0001);
    sim.inject(Fault::at(Access::StateRead, sim.count(Access::StateRead) + 1, Effect::Lie(running)));
    let error = set(&device, State::PreCopyP2p).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Protocol, libc::EPROTO), "{error}");
    assert!(error.to_string().contains("it is in RUNNING just before the request, and was in PRE_COPY"), "{error}");
    assert_eq!(sim.count(Access::StateWrite), writes, "nothing was asked for");
}
