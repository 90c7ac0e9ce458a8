//! A device that does not answer to a read of its stream, and a peer that takes nothing, keep no other device from starting again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::Rig;
use simdev::{Access, Config, Effect, Fault, FaultId};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use vfiomig::dialect::{Caps, Direction, State};
use vfiomig::error::{Error, ErrorKind};
use vfiomig::group::{SwitchAction, set_warnings};
use vfiomig::migration::{AbortTo, Migration, MigrationOptions, Outlet, Phase};

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(1 << 20)
}

/// The next read of this device's stream takes so long.
fn hang(rig: &Rig, device: usize, time: Duration) -> FaultId {
    let (access, fake) = (Access::DataRead, &rig.fakes[device]);
    fake.inject(Fault { access, nth: fake.count(access), times: 1, effect: Effect::Delay(time) })
}

/// A thread reads ahead, and it has come to that read.
fn hangs(rig: &Rig, device: usize, fault: FaultId) {
    while rig.fakes[device].fault_reached(fault) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

fn running_but(rig: &Rig, device: usize) -> bool {
    rig.states().iter().enumerate().all(|(n, &state)| n == device || state == State::Running)
}

/// Three of four start within the patience of the library, though a thread reads the fourth ahead, and a drain waits for it.
#[test]
fn a_read_that_hangs_keeps_no_other_device_from_starting() {
    let rig = Rig::source(&vec![both(); 4], 0);
    rig.allow_abort();
    let options = MigrationOptions { queue_bytes: 1 << 20 };
    let save = Migration::with_options(Arc::clone(&rig.group), Direction::Save, options).unwrap();
    save.advance(Phase::SavePreCopy).unwrap();
    let fault = hang(&rig, 1, Duration::from_secs(4));
    set_warnings(Duration::from_millis(500), Duration::from_secs(10));
    save.advance(Phase::SaveStopCopy).unwrap();
    thread::scope(|scope| {
        let drain = scope.spawn(|| save.save_complete(&[], &mut |_| Ok(())));
        hangs(&rig, 1, fault);
        thread::sleep(Duration::from_millis(100));
        let begun = Instant::now();
        let started = rig.group.start();
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(2000), "{took:?}");
        let failure = started.outcome.unwrap_err();
        assert_eq!((started.action, failure.errno()), (SwitchAction::Aborted, libc::ETIMEDOUT), "{failure}");
        assert!(failure.to_string().contains("d1: a read of its stream was not answered"), "{failure}");
        assert!(running_but(&rig, 1) && rig.fakes[1].state() == State::StopCopy, "{:?}", rig.states());
        assert_eq!(drain.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
        // It answers, and is brought back as the others were.
        assert_eq!(save.abort(AbortTo::Running).unwrap_err().errno(), libc::ETIMEDOUT);
        set_warnings(Duration::from_secs(5), Duration::from_secs(10));
        save.abort(AbortTo::Running).unwrap();
    });
    assert!(running_but(&rig, 4) && save.phase() == Phase::Idle);
    // And what comes next is as if nothing had been.
    rig.save_all(&save).unwrap();
    rig.assert_clean("silent");
}

/// What an abort says of three devices, of which the last hangs in a read, and the first fails its change of state with `errno`.
/// Afterwards all are back.
fn abort_beside_a_silent_device(errno: i32, what: &str) -> Error {
    let rig = Rig::source(&vec![both(); 3], 0);
    rig.allow_abort();
    let options = MigrationOptions { queue_bytes: 1 << 20 };
    let save = Migration::with_options(Arc::clone(&rig.group), Direction::Save, options).unwrap();
    save.advance(Phase::SavePreCopy).unwrap();
    let fault = hang(&rig, 2, Duration::from_secs(3));
    save.advance(Phase::SaveStopCopy).unwrap();
    hangs(&rig, 2, fault);
    set_warnings(Duration::from_millis(200), Duration::from_secs(10));
    rig.fakes[0].inject(Fault::from(Access::StateWrite, 0, Effect::Errno(errno)));
    let failure = save.abort(AbortTo::Running).unwrap_err();
    rig.fakes[0].clear_faults();
    set_warnings(Duration::from_secs(5), Duration::from_secs(10));
    save.abort(AbortTo::Running).unwrap();
    assert!(running_but(&rig, 3));
    rig.assert_clean(what);
    failure
}

/// What the caller can do about it is said first: another device that cannot be brought back does not hide the one that is silent.
#[test]
fn a_read_that_hangs_is_told_before_what_fails_otherwise() {
    let failure = abort_beside_a_silent_device(libc::EIO, "silent beside a failure");
    assert_eq!(failure.errno(), libc::ETIMEDOUT, "{failure}");
    assert!(failure.to_string().contains("d2: a read of its stream was not answered"), "{failure}");
    assert!(failure.to_string().contains("1 more of 3 devices failed"), "{failure}");
    let errnos: Vec<_> = failure.results().iter().map(|result| result.errno).collect();
    assert_eq!(errnos, [libc::EIO, 0, libc::ETIMEDOUT]);
}

/// A driver that answers ETIMEDOUT to a state change is not one that is only to be waited for: the results tell them apart, and which of
/// them can be asked again is said first.
#[test]
fn an_etimedout_of_a_driver_is_told_from_a_read_that_hangs() {
    let failure = abort_beside_a_silent_device(libc::ETIMEDOUT, "silent beside a driver's own ETIMEDOUT");
    assert!(failure.to_string().contains("abort: d2: a read of its stream was not answered"), "{failure}");
    let told: Vec<_> = failure.results().iter().map(|result| (result.errno, result.again)).collect();
    assert_eq!(told, [(libc::ETIMEDOUT, false), (0, false), (libc::ETIMEDOUT, true)]);
}

/// A device is reset by others while a read of it hangs: the library waits for that no longer than elsewhere.
#[test]
fn a_device_whose_read_hangs_is_not_probed_until_it_answers() {
    let rig = Rig::source(&[both()], 0);
    rig.allow_abort();
    let options = MigrationOptions { queue_bytes: 1 << 20 };
    let save = Migration::with_options(Arc::clone(&rig.group), Direction::Save, options).unwrap();
    save.advance(Phase::SavePreCopy).unwrap();
    let fault = hang(&rig, 0, Duration::from_secs(3));
    save.advance(Phase::SaveStopCopy).unwrap();
    hangs(&rig, 0, fault);
    set_warnings(Duration::from_millis(200), Duration::from_secs(10));
    let begun = Instant::now();
    let failure = rig.devices[0].reprobe().unwrap_err();
    assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::ETIMEDOUT), "{failure}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    set_warnings(Duration::from_secs(5), Duration::from_secs(10));
    rig.devices[0].reprobe().unwrap();
    save.abort(AbortTo::Running).unwrap();
    assert!(running_but(&rig, 1));
    rig.assert_clean("silent, then probed");
}

/// The VM starts again: what a drain has for a peer that takes nothing is void, so nobody waits for the peer.
#[test]
fn a_drain_that_waits_for_its_peer_ends_when_the_vm_starts() {
    let rig = Rig::source(&[both(), both()], 0);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let (here, _there) = UnixStream::pair().unwrap();
    let outlets = [Outlet::Fd(here.as_fd()), Outlet::Call];
    thread::scope(|scope| {
        let drain = scope.spawn(|| save.save_complete(&outlets, &mut |_| Ok(())));
        thread::sleep(Duration::from_millis(300));
        assert!(!drain.is_finished());
        let begun = Instant::now();
        // A stop, and the first half of a start, change nothing for it.
        let started = rig.group.start();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        started.outcome.unwrap();
        assert_eq!(started.action, SwitchAction::Aborted);
        assert_eq!(drain.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
    });
    assert!(running_but(&rig, 2) && save.phase() == Phase::Idle);
}

/// A caller that reads the stream to its end in another thread, where each read is answered: an abort goes before the next one.
#[test]
fn an_abort_waits_for_the_read_in_progress_and_for_no_other() {
    let rig = Rig::source(&[both()], 0);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let fake = &rig.fakes[0];
    let slow = Effect::Delay(Duration::from_millis(30));
    fake.inject(Fault::from(Access::DataRead, fake.count(Access::DataRead), slow));
    let device = &rig.devices[0];
    thread::scope(|scope| {
        // 30 s of reads.
        let reader = scope.spawn(|| {
            loop {
                match device.read(&mut [0; 1 << 10]) {
                    Ok((0, _)) => return None,
                    Ok(_) => {}
                    Err(error) => return Some(error.kind()),
                }
            }
        });
        thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        save.abort(AbortTo::Running).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert_eq!(reader.join().unwrap(), Some(ErrorKind::Stale));
    });
    assert_eq!((rig.states(), save.phase()), (vec![State::Running], Phase::Idle));
}

/// As where a thread of the library reads: the read that hangs is one of the VMM's own.
#[test]
fn a_read_of_the_vmm_that_hangs_keeps_no_start_waiting() {
    let rig = Rig::source(&vec![both(); 3], 0);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let fault = hang(&rig, 1, Duration::from_secs(6));
    set_warnings(Duration::from_millis(500), Duration::from_secs(10));
    thread::scope(|scope| {
        let reader = scope.spawn(|| rig.devices[1].read(&mut [0; 4096]));
        hangs(&rig, 1, fault);
        let begun = Instant::now();
        let started = rig.group.start();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
        let failure = started.outcome.unwrap_err();
        assert_eq!((started.action, failure.errno()), (SwitchAction::Aborted, libc::ETIMEDOUT), "{failure}");
        assert!(failure.to_string().contains("d1: a read of its stream was not answered"), "{failure}");
        assert!(running_but(&rig, 1) && rig.fakes[1].state() == State::StopCopy, "{:?}", rig.states());
        reader.join().unwrap().unwrap();
    });
    set_warnings(Duration::from_secs(5), Duration::from_secs(10));
    // What it gave is void.
    assert_eq!(rig.group.start().void, [1]);
    assert!(running_but(&rig, 3) && save.phase() == Phase::Idle);
    rig.save_all(&save).unwrap();
    rig.assert_clean("silent");
}
