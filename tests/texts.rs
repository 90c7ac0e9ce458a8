//! Texts that tell a user what was asked, what was found and what to do: whole, as they are read.

#![allow(clippy::incompatible_msrv, reason = "std::io::pipe: tests are built by the newest toolchain")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Hooked, Rig, Stream};
use simdev::{Access, Config, Effect, Fault, Window};
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vfiomig::device::OnFailure;
use vfiomig::dialect::{Caps, State};
use vfiomig::migration::{AbortTo, Phase};
use vfiomig::{Device, Result};

fn v2(p2p: bool, pre_copy: bool) -> Config {
    Config::v2(Caps { p2p, pre_copy }).state_size(3000)
}

fn rig(configs: &[Config]) -> Rig {
    let rig = Rig::source(configs, 1);
    rig.allow_abort();
    rig
}

fn set(device: &Device, to: State) -> Result<()> {
    device.set_state(to, OnFailure::Keep, false)
}

fn assert_text<T>(result: Result<T>, wanted: impl Display) {
    let error = result.err().unwrap_or_else(|| panic!("no error: {wanted}"));
    assert_eq!(error.to_string(), wanted.to_string());
}

/// A text about the caller's descriptor says which call it was, which descriptor, and what is lost.
#[test]
fn a_descriptor_that_fails_is_named() {
    for (config, segments) in
        [(v2(true, true), false), (Config::v1(Window::Trapped), true), (Config::v1(Window::Area), true)]
    {
        let (source, target) = (rig(std::slice::from_ref(&config)), rig(std::slice::from_ref(&config)));
        let (from, to) = (&source.devices[0], &target.devices[0]);
        set(from, State::StopCopy).unwrap();
        set(to, State::Resuming).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let fd = near.as_raw_fd();
        let wait = format!("d0: the caller's fd {fd} is not ready: nothing was moved, call again");
        assert_text(to.receive(near.as_fd(), 100, segments), &wait);
        drop(far);
        let text = format!("d0: sending the stream: the caller's fd {fd} failed: Broken pipe; nothing was moved");
        assert_text(from.send(near.as_fd(), 0), text);
        let (_reader, writer) = std::io::pipe().unwrap();
        let fd = writer.as_raw_fd();
        let text =
            format!("d0: receiving the stream: the caller's fd {fd} failed: Bad file descriptor; nothing was moved");
        assert_text(to.receive(writer.as_fd(), 100, segments), text);
    }
}

/// State changes that are refused before the device sees them.
#[test]
fn a_state_change_that_is_refused_says_why() {
    let plain = rig(&[v2(false, false)]);
    let device = &plain.devices[0];
    for (to, why) in [
        (State::RunningP2p, "the device has no RUNNING_P2P"),
        (State::PreCopy, "the device has no PRE_COPY"),
        (State::Error, "ERROR cannot be asked for"),
    ] {
        assert_text(set(device, to), format!("d0: RUNNING -> {to} is refused: {why}"));
    }
    plain.fakes[0].inject(Fault::at(Access::StateWrite, 0, Effect::ToError(libc::EIO)));
    let failed = set(device, State::Stop).unwrap_err().to_string();
    assert!(failed.ends_with("(the device is in ERROR: only a reset helps); found in ERROR"), "{failed}");
    assert_text(set(device, State::Running), "d0: ERROR -> RUNNING is refused: only a reset leaves ERROR");

    let full = rig(&[v2(true, true)]);
    let device = &full.devices[0];
    set(device, State::Stop).unwrap();
    assert_text(
        set(device, State::PreCopy),
        "d0: STOP -> PRE_COPY leads through RUNNING_P2P and throws away what the device holds; ask for the steps one by one, or use \
         the raw flag",
    );
    set(device, State::StopCopy).unwrap();
    assert_text(
        set(device, State::PreCopy),
        "d0: STOP_COPY -> PRE_COPY is refused: the kernel blocks this arc, some kernels hang on it",
    );
    set(device, State::Stop).unwrap();
    set(device, State::Resuming).unwrap();
    assert_text(set(device, State::Stop), "d0: leaving RESUMING needs finish first: the stream may be incomplete");
    full.fakes[0].inject(Fault::at(Access::DataWrite, 0, Effect::Errno(libc::EIO)));
    device.write(&[0; 100], false).unwrap_err();
    assert_text(set(device, State::Stop), "d0: the device refused a part of the stream: only a reset leaves RESUMING");
}

/// Pause and resume of a group while a migration is where they must not be called; what may be done instead.
#[test]
fn a_pause_that_is_refused_says_what_to_do() {
    let rig = rig(&[v2(true, true)]);
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    assert_text(rig.group.resume(), "resume is refused: the migration is past pre-copy: continue, or abort it");
    let mut stream = Stream::default();
    stream.drain(&rig.devices[0]).unwrap();
    rig.harvest();
    save.advance(Phase::SaveHalted).unwrap();
    assert_text(rig.group.pause(), "pause is refused: the guest may run elsewhere: only an abort lets it run here");
    let refused = save.abort(vfiomig::migration::AbortTo::Running).unwrap_err().to_string();
    assert!(
        refused.contains("the guest may run elsewhere") && refused.contains("VFIOMIG_ABORT_F_NO_SECOND_GUEST"),
        "{refused}"
    );
    drop(save);

    let target = Rig::target(&rig.configs, 1);
    target.allow_abort();
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    assert_text(target.group.resume(), "resume is refused: the group is being loaded");

    let failing = self::rig(&[v2(true, true)]);
    let save = failing.save();
    failing.fakes[0].inject(Fault::at(Access::StateWrite, 0, Effect::Errno(libc::EBUSY)));
    save.advance(Phase::SavePreCopy).unwrap_err();
    assert_text(failing.group.pause(), "pause is refused: the migration has failed: abort it");
}

/// Wrong orders of a migration, and of a group's members.
#[test]
fn a_wrong_order_says_what_comes_first() {
    let rig = rig(&[v2(true, true), v2(true, true)]);
    let save = rig.save();
    assert_text(
        save.advance_device(&rig.devices[0], Phase::SavePreCopy),
        "SAVE_PRE_COPY is not next for a single device: SAVE_TRACKING comes before it",
    );
    let other = self::rig(&[v2(true, true)]);
    assert_text(save.advance_device(&other.devices[0], Phase::SaveTracking), "d0: the group has no such device");
    save.advance_device(&rig.devices[0], Phase::SaveTracking).unwrap();
    assert_text(rig.group.pause(), "pause is refused: a phase was begun device by device: end it first");
    assert_text(
        rig.group.remove_device(&rig.devices[0]),
        "removing a device is refused while a migration of the group exists",
    );
    drop(save);
    assert_text(rig.group.remove_device(&other.devices[0]), "d0: the group has no such device");
    assert_text(rig.group.add_tracker(Arc::clone(&rig.tracker)), "ram: the group has this tracker");
    assert_text(rig.group.remove_tracker(&other.tracker), "ram: the group has no such tracker");
    assert_text(rig.group.without_dma(|| ()), "a moment without DMA: d0: v2 in RUNNING may write to RAM at any time");
}

/// Data calls where there is nothing to move, out of turn, and behind a failure.
#[test]
fn a_data_call_that_is_refused_says_what_it_needs() {
    let rig = rig(&[v2(true, true)]);
    let device = &rig.devices[0];
    assert_text(
        device.read(&mut [0; 10]),
        "d0: not allowed in RUNNING: saving needs PRE_COPY, PRE_COPY_P2P or STOP_COPY",
    );
    assert_text(device.write(&[0; 10], false), "d0: not allowed in RUNNING: loading needs RESUMING");
    set(device, State::StopCopy).unwrap();
    assert_text(device.consume_raw(1), "d0: no chunk is lent: peek comes first");
    device.peek_raw(10).unwrap();
    assert_text(device.read(&mut [0; 10]), "d0: a chunk is lent: consume comes first");
    assert_text(device.consume_raw(11), "d0: len: 11 bytes of a chunk of 10");
    device.consume_raw(10).unwrap();
    set(device, State::Running).unwrap();
    set(device, State::StopCopy).unwrap();
    assert_text(
        device.read(&mut [0; 10]),
        "d0: the save session has ended (now STOP_COPY): what was sent of its stream is void, and a new one has to be begun: by a \
         migration that enters SAVE_PRE_COPY, or is aborted and begins again, or by vfiomig_device_restart_stream()",
    );
    device.restart_stream().unwrap();
    let nth = rig.fakes[0].count(Access::DataRead);
    rig.fakes[0].inject(Fault::at(Access::DataRead, nth, Effect::Errno(libc::EIO)));
    device.read(&mut [0; 10]).unwrap_err();
    assert_text(
        device.read(&mut [0; 10]),
        "d0: a read of the device failed, and bytes of the stream may be lost with it: it has no end any more; abort, or leave the \
         session and begin a new stream",
    );

    let target = Rig::target(&rig.configs, 1);
    target.allow_abort();
    let device = &target.devices[0];
    set(device, State::Resuming).unwrap();
    assert_text(device.commit_raw(1, false), "d0: no buffer is lent: reserve comes first");
    let room = device.reserve_raw(u64::MAX).unwrap();
    assert_text(device.finish(None), "d0: a buffer is lent: commit comes first");
    assert_text(
        device.commit_raw(room.len + 1, false),
        format!("d0: len: {} bytes of a buffer of {}", room.len + 1, room.len),
    );
    device.commit_raw(0, false).unwrap();
    assert_text(device.finish(Some(5)), "d0: the stream is short: 0 of 5 bytes were loaded, 5 are missing");
    let mut stream = Stream::default();
    let source = self::rig(&rig.configs);
    set(&source.devices[0], State::StopCopy).unwrap();
    stream.drain(&source.devices[0]).unwrap();
    device.write(&stream.parts[0].0, false).unwrap();
    let len = stream.parts[0].0.len();
    assert_text(
        device.finish(Some(5)),
        format!("d0: the stream is too long: {len} bytes were loaded, the source side counted 5"),
    );
    device.finish(None).unwrap();
    assert_text(device.write(&[0], false), "d0: write after finish");
    device.close().unwrap();
    assert_text(device.finish(None), "d0: the device handle was freed");
}

/// What is missing before a phase, by device and by tracker.
#[test]
fn a_phase_that_is_refused_says_what_is_missing() {
    let rig = rig(&[v2(true, true), v2(true, true)]);
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let mut stream = Stream::default();
    stream.drain(&rig.devices[1]).unwrap();
    rig.harvest();
    assert_text(save.advance(Phase::SaveHalted), "SAVE_HALTED: d0: its END was not consumed");
    assert_text(
        save.advance(Phase::SavePreCopy),
        "SAVE_PRE_COPY does not follow SAVE_STOP_COPY; next may be: SAVE_HALTED",
    );
    let other = self::rig(&[v2(true, true)]);
    let save = other.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    stream.drain(&other.devices[0]).unwrap();
    let missing = save.advance(Phase::SaveHalted).unwrap_err().to_string();
    assert!(missing.starts_with("SAVE_HALTED: the final harvest is missing: ram: "), "{missing}");
    assert_text(
        save.load_complete(&[], &mut |_, _| unreachable!()),
        "load_complete needs LOAD_RESUMING, not SAVE_STOP_COPY",
    );

    let target = Rig::target(&rig.configs, 1);
    target.allow_abort();
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    target.devices[0].finish(None).unwrap();
    assert_text(load.advance(Phase::LoadLoaded), "LOAD_LOADED: d1: the length of its stream was not stated (finish)");
}

/// What a VMM shows who asks why a VM cannot be migrated, or only with less.
#[test]
fn a_policy_names_each_device_that_lacks_something() {
    let group = |configs: &[Config], foreign_initiators| {
        let rig = rig(configs);
        let options = vfiomig::group::GroupOptions { foreign_initiators, ..Default::default() };
        let group = vfiomig::group::Group::new(options);
        rig.devices.iter().for_each(|device| group.add_device(Arc::clone(device)).unwrap());
        group.add_tracker(Arc::clone(&rig.tracker)).unwrap();
        group.abilities().unwrap().reasons
    };
    assert_eq!(group(&[Config::v1_ndma(Window::Trapped)], 0), [""; 0]);
    assert_eq!(group(&[v2(false, false)], 0), ["pre-copy: d0 has no such state", "page requests: d0 has no NDMA"]);
    assert_eq!(
        group(&[v2(true, true), v2(false, true)], 3),
        [
            "peer-to-peer mappings: d1 has no such state",
            "peer-to-peer mappings: 3 DMA initiators are not in the group",
            "page requests: d0 has no NDMA",
            "page requests: d1 has no NDMA"
        ]
    );
}

/// A call that is not let in says which other one is in, and what is left.
#[test]
fn a_call_that_is_not_let_in_says_why() {
    let sim = simdev::Device::new(v2(true, true));
    sim.inject(Fault::at(Access::StateWrite, 0, Effect::Delay(Duration::from_millis(400))));
    let options = vfiomig::device::DeviceOptions { name: "vf0".into(), no_wait: true, ..Default::default() };
    let device = Device::new(sim.transport(), options).unwrap();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| set(&device, State::PreCopy).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        assert_text(
            device.pending_exact(),
            "vf0: another call on this device is in progress, and this one was asked not to wait (VFIOMIG_DEVICE_F_NO_WAIT): call again",
        );
        slow.join().unwrap();
    });

    let armed = Arc::new(AtomicBool::new(false));
    let rig = Rig::new(&[v2(true, true).seeded(1)], 1, &|fake, _| {
        let armed = Arc::clone(&armed);
        let before = move || assert!(!armed.load(Ordering::SeqCst), "a bug");
        Box::new(Hooked { inner: fake.transport(), before: Arc::new(before) })
    });
    rig.allow_abort();
    armed.store(true, Ordering::SeqCst);
    let device = &rig.devices[0];
    std::thread::scope(|scope| scope.spawn(|| set(device, State::PreCopy)).join().unwrap_err());
    armed.store(false, Ordering::SeqCst);
    let text = "an earlier call on this device panicked, and what it left half done is not used any more: only freeing it is left";
    assert_text(set(device, State::Stop), format!("d0: {text}"));
    assert_eq!(set(device, State::Stop).unwrap_err().kind(), vfiomig::error::ErrorKind::Panic);
}

/// The end of a load: which device is next, and what an abort would do.
#[test]
fn the_end_of_a_load_says_what_is_left() {
    let configs =
        [Config::v1(Window::Trapped).state_size(3000), v2(true, true), Config::v1(Window::Trapped).state_size(3000)];
    let source = rig(&configs);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&configs, 1);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    target.write_all(&streams).unwrap();
    load.advance(Phase::LoadP2pGrace).unwrap();
    assert_text(
        load.advance_device(&target.devices[1], Phase::LoadRunning),
        "d1: advance those first that can leave RESUMING only by running, where their streams may turn out to be bad: d0, d2",
    );
    load.advance_device(&target.devices[0], Phase::LoadRunning).unwrap();
    load.advance_device(&target.devices[2], Phase::LoadRunning).unwrap();
    load.advance_device(&target.devices[1], Phase::LoadRunning).unwrap();
    assert_text(
        load.abort(AbortTo::Running),
        "abort is refused: all devices run, and a reset would destroy the guest. If the guest is to be given up, free the migration and \
         reset the devices",
    );
    assert_eq!(target.states(), [State::Running; 3]);
}
