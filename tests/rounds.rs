//! What rounds and drains promise: an end that is an end, failures that are told, fairness by bytes and by time, and that nobody
//! waits for ever.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Pinned, Rig, Stream};
use simdev::{Access, Config, Effect, Fault, Precopy};
use std::collections::HashSet;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::{Error, ErrorKind};
use vfiomig::internals::set_caller_patience;
use vfiomig::migration::{AbortTo, Budget, Fed, Inlet, Migration, Outlet, Phase, Piece};
use vfiomig::window::StreamFlags;

const EMPTY: StreamFlags = StreamFlags::EMPTY;
const END: StreamFlags = StreamFlags::END;
const NO_STREAM: StreamFlags = StreamFlags::NO_STREAM;

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true })
}

/// All of the state can be sent in pre-copy, in small reads.
fn chatty(size: usize) -> Config {
    Config { precopy: Precopy::Everything, max_io: 1000, ..both().state_size(size) }
}

const PLENTY: Budget = Budget { bytes: u64::MAX, time: Duration::from_secs(60) };

fn swallow(_: Piece<'_>) -> vfiomig::Result<()> {
    Ok(())
}

/// A source in that phase, which may be aborted.
fn at(phase: Phase, configs: &[Config], max_workers: usize) -> (Rig, Migration) {
    let source = Rig::source(configs, max_workers);
    source.allow_abort();
    let save = source.save();
    save.advance(phase).unwrap();
    (source, save)
}

fn slow(rig: &Rig, access: Access, time: Duration) {
    for fake in &rig.fakes {
        let nth = fake.count(access);
        fake.inject(Fault::from(access, nth, Effect::Delay(time)));
    }
}

/// A session that ended is told in the first round, by sizes too, and is no device that is ready.
#[test]
fn a_round_after_a_resume_says_that_the_stream_is_void() {
    for max_workers in [1, 0] {
        let (source, save) = at(Phase::SavePreCopy, &[both(), both()], max_workers);
        save.save_iterate(PLENTY, &[], &mut swallow).unwrap();
        source.group.pause().unwrap();
        assert_eq!(save.save_iterate(PLENTY, &[], &mut swallow).unwrap().flags, [END; 2], "held, not over");
        source.group.resume().unwrap();
        assert_eq!(save.check_sessions().unwrap_err().kind(), ErrorKind::Stale);
        assert!(!save.pending().ready);
        assert_eq!(save.pending_exact().unwrap_err().kind(), ErrorKind::Stale);
        let failure = save.save_iterate(PLENTY, &[], &mut swallow).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Stale, "{failure}");
        assert!(failure.to_string().contains("d0") && failure.to_string().contains("void"), "{failure}");
        save.abort(AbortTo::Running).unwrap();
        save.check_sessions().unwrap();
        assert!(save.pending_exact().is_ok());
    }
}

/// A getter beside the phases hears of no lost session in a save that succeeds, while sessions begin and end; of one whose device
/// fails in HALTED it does.
#[test]
fn a_getter_beside_the_phases_hears_of_no_lost_session() {
    for max_workers in [1, 0] {
        for turn in 0..10 {
            let fails = turn == 9;
            let (source, save) = at(Phase::SaveTracking, &[both(), both()], max_workers);
            let over = AtomicBool::new(false);
            let (halted, heard) = std::thread::scope(|scope| {
                let listener = scope.spawn(|| {
                    let mut heard = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let phase = save.phase();
                        heard.extend(save.check_sessions().err().map(|failure| format!("{phase}: {failure}")));
                        std::thread::yield_now();
                    }
                    heard
                });
                save.advance(Phase::SavePreCopy).unwrap();
                save.advance(Phase::SaveStopCopy).unwrap();
                save.save_complete(&[], &mut swallow).unwrap();
                source.harvest();
                // The first is in STOP for a while when the second gets there.
                let (fake, access) = (&source.fakes[1], Access::StateWrite);
                let effect = if fails { Effect::ToError(libc::EIO) } else { Effect::Delay(Duration::from_millis(10)) };
                fake.inject(Fault { access, nth: fake.count(access), times: 1, effect });
                let halted = save.advance(Phase::SaveHalted);
                over.store(true, Ordering::Relaxed);
                (halted, listener.join().unwrap())
            });
            assert_eq!(halted.is_err(), fails, "{halted:?}");
            assert!(heard.is_empty() || fails, "{} times: {}", heard.len(), heard[0]);
            assert_eq!(save.check_sessions().is_err(), fails);
        }
    }
}

/// Reports f01 and f02, in each phase with a session: a reset by others, a reset by the guest, a handle that was freed, ERROR.
#[test]
fn a_member_without_its_session_fails_every_call_that_promises_an_end() {
    type Harm = fn(&Rig);
    let harms: [(&str, Harm, ErrorKind, i32); 4] = [
        (
            "reset and reprobed",
            |rig| {
                rig.fakes[1].reset().unwrap();
                rig.devices[1].reprobe().unwrap();
            },
            ErrorKind::Stale,
            libc::ESTALE,
        ),
        ("reset by the guest", |rig| rig.devices[1].reset().unwrap(), ErrorKind::Stale, libc::ESTALE),
        ("freed", |rig| rig.devices[1].close().unwrap(), ErrorKind::Stale, libc::ENODEV),
        (
            "in ERROR",
            |rig| {
                let nth = rig.fakes[1].count(Access::StateWrite);
                rig.fakes[1].inject(Fault::at(Access::StateWrite, nth, Effect::ToError(libc::EIO)));
                rig.devices[1].set_state(State::Stop, vfiomig::device::OnFailure::Keep, true).unwrap_err();
            },
            ErrorKind::Device,
            libc::EIO,
        ),
    ];
    for (what, harm, kind, errno) in harms {
        for phase in [Phase::SavePreCopy, Phase::SaveStopCopy] {
            for call in ["iterate", "complete", "exact", "sessions"] {
                if call == "complete" && phase == Phase::SavePreCopy {
                    continue;
                }
                let (rig, save) = at(phase, &[both(), both()], 0);
                save.save_iterate(Budget { bytes: 2000, ..PLENTY }, &[], &mut swallow).unwrap();
                harm(&rig);
                let failure = match call {
                    "iterate" => save.save_iterate(PLENTY, &[], &mut swallow).map(drop),
                    "complete" => save.save_complete(&[], &mut swallow).map(drop),
                    "exact" => save.pending_exact().map(drop),
                    _ => save.check_sessions(),
                }
                .unwrap_err();
                assert_eq!(failure.errno(), errno, "{what} {phase} {call}: {failure}");
                assert!(errno == libc::ENODEV || failure.kind() == kind, "{what} {phase} {call}: {failure}");
                assert!(failure.to_string().contains("d1"), "{failure}");
                assert!(!save.pending().ready, "{what}: is no reason to stop the guest");
                if ["iterate", "complete"].contains(&call) {
                    assert_eq!(save.phase(), Phase::Failed);
                    assert!(save.advance(Phase::SaveStopCopy).is_err());
                }
            }
        }
    }
}

/// A read that may have lost bytes fails the migration at once, with what the device said; others do not.
#[test]
fn a_broken_session_fails_the_migration_in_the_call_that_broke_it() {
    for (kind, fails) in [(both(), true), (Config::v1(simdev::Window::Trapped), false)] {
        let (source, save) = at(Phase::SaveStopCopy, &[both(), kind], 0);
        let nth = source.fakes[1].count(Access::DataRead);
        source.fakes[1].inject(Fault::at(Access::DataRead, nth + 1, Effect::Errno(libc::EIO)));
        let failure = save.save_complete(&[], &mut swallow).unwrap_err();
        assert_eq!(failure.errno(), libc::EIO, "{failure}");
        assert_eq!(save.phase() == Phase::Failed, fails);
        assert_eq!(save.check_sessions().is_err(), fails);
        let again = save.save_complete(&[], &mut swallow);
        assert_eq!(again.map(|round| round.flags).ok(), if fails { None } else { Some(vec![END; 2]) });
    }
}

/// A size that cannot be read behind a round is told, and a device in ERROR is not ready.
#[test]
fn a_failure_behind_a_round_is_told() {
    for effect in [Effect::ToError(libc::EIO), Effect::Errno(libc::EIO)] {
        let (source, save) = at(Phase::SavePreCopy, &[both(), both()], 0);
        source.fakes[0].inject(Fault::from(Access::PrecopyInfo, 0, effect));
        let failure = save.save_iterate(PLENTY, &[], &mut swallow).unwrap_err();
        assert!(failure.to_string().contains("d0") && failure.errno() == libc::EIO, "{failure}");
        assert!(save.report().unwrap().to_string().contains("save_iterate: d0"), "{}", save.report().unwrap());
        if source.states()[0] == State::Error {
            assert_eq!(save.phase(), Phase::Failed);
            assert!(!save.pending().ready);
        }
    }
}

/// Rounds that end by time serve every device, one after another, side by side, and beyond the number of
/// workers.
#[test]
fn time_is_shared_too() {
    for (devices, max_workers, round, each) in [(4, 1, 20, 2), (70, 0, 40, 5), (5, 2, 20, 4)] {
        let (source, save) = at(Phase::SavePreCopy, &vec![chatty(1 << 18); devices], max_workers);
        slow(&source, Access::DataRead, Duration::from_millis(each));
        let budget = Budget { bytes: u64::MAX, time: Duration::from_millis(round) };
        let mut sum = vec![0; devices];
        for _ in 0..3 {
            let round = save.save_iterate(budget, &[], &mut swallow).unwrap();
            sum.iter_mut().zip(&round.bytes).for_each(|(sum, bytes)| *sum += bytes);
        }
        assert!(sum.iter().all(|sum| *sum > 0), "{sum:?}");
        // A round too short for all of them goes on where the last one ended.
        let (source, save) = at(Phase::SavePreCopy, &vec![chatty(1 << 18); 6], 1);
        slow(&source, Access::DataRead, Duration::from_millis(10));
        let budget = Budget { bytes: u64::MAX, time: Duration::from_millis(15) };
        let served: HashSet<usize> = (0..12)
            .flat_map(|_| {
                let round = save.save_iterate(budget, &[], &mut swallow).unwrap();
                (0..6).filter(|&i| round.bytes[i] > 0).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(served.len(), 6);
    }
}

/// A budget is never exceeded, what EMPTY devices leave goes to the others, and a small one still moves bytes.
#[test]
fn a_budget_is_strict_and_used() {
    for max_workers in [1, 0] {
        let configs = [both().state_size(500), chatty(1 << 20), chatty(1 << 20)];
        let (_source, save) = at(Phase::SavePreCopy, &configs, max_workers);
        let round = save.save_iterate(Budget { bytes: 262_144, ..PLENTY }, &[], &mut swallow).unwrap();
        let sum: u64 = round.bytes.iter().sum();
        assert!(sum <= 262_144 && sum > 262_144 - 3, "{round:?}");
        assert_eq!(round.flags[0], EMPTY);
        assert!(round.bytes[1].abs_diff(round.bytes[2]) <= 1, "{round:?}");
        for bytes in [1, 2, 3, 5] {
            let mut served = HashSet::new();
            for _ in 0..6 {
                let round = save.save_iterate(Budget { bytes, ..PLENTY }, &[], &mut swallow).unwrap();
                let sum: u64 = round.bytes.iter().sum();
                assert!(sum > 0 && sum <= bytes, "{bytes}: {round:?}");
                served.extend((0..3).filter(|&i| round.bytes[i] > 0));
            }
            assert_eq!(served.len(), 2, "both that have data, in turn");
        }
    }
}

/// An estimate of initial data that never falls does not keep the guest from being stopped, and new initial data does.
#[test]
fn a_stream_that_was_empty_has_no_initial_data_whatever_the_estimate_says() {
    let mut config = Config { opt_in: true, ..both().state_size(20_000) };
    config.habits.initial_stays = true;
    let (source, save) = at(Phase::SavePreCopy, &[config], 1);
    save.pending_exact().unwrap();
    assert!(!save.pending().ready);
    save.save_iterate(Budget { bytes: 5000, ..PLENTY }, &[], &mut swallow).unwrap();
    assert!(!save.pending().ready, "it was not empty yet");
    assert_eq!(save.save_iterate(PLENTY, &[], &mut swallow).unwrap().flags, [EMPTY]);
    let pending = save.pending();
    assert!(pending.ready && pending.initial_bytes != Some(0), "{pending:?}");
    source.fakes[0].reinit();
    save.pending_exact().unwrap();
    assert!(!save.pending().ready, "new initial data was announced (C9)");
    save.save_iterate(PLENTY, &[], &mut swallow).unwrap();
    assert!(save.pending().ready);
}

/// C9: who stops the guest is told which device has initial data again. One that does not report REINIT cannot have any.
#[test]
fn initial_data_that_is_left_when_the_guest_stops_is_told() {
    let said = |prepare: &dyn Fn(&Rig, &Migration)| {
        let reports = Config { opt_in: true, ..both().state_size(500) };
        let (source, save) = at(Phase::SavePreCopy, &[both().state_size(500), reports], 1);
        prepare(&source, &save);
        save.advance(Phase::SaveP2pGrace).unwrap();
        source.group.results().unwrap().into_iter().map(|result| result.message).collect::<Vec<_>>()
    };
    let drain = |save: &Migration| assert_eq!(save.save_iterate(PLENTY, &[], &mut swallow).unwrap().flags, [EMPTY; 2]);

    assert_eq!(said(&|_, save| drain(save)), ["", ""]);
    let left = said(&|_, _| ());
    let new = said(&|source, save| {
        drain(save);
        source.fakes[1].reinit();
    });
    for texts in [left, new] {
        assert_eq!(texts, ["", "not ready: 192 bytes of initial data are left, or are new (REINIT)"]);
    }
    // A size that cannot be read does not keep the guest from being stopped.
    let unread = said(&|source, save| {
        drain(save);
        let nth = source.fakes[1].count(Access::PrecopyInfo);
        source.fakes[1].inject(Fault::from(Access::PrecopyInfo, nth, Effect::Errno(libc::EIO)));
    });
    assert!(unread[0].is_empty() && unread[1].starts_with("d1: "), "{unread:?}");
}

/// Newcomer: 0 does not join "there is more" and "has no stream yet".
#[test]
fn a_device_without_a_stream_says_so() {
    let (_source, save) = at(Phase::SavePreCopy, &[Config::v2(Caps::default()), chatty(1 << 20)], 0);
    let round = save.save_iterate(Budget { bytes: 2000, ..PLENTY }, &[], &mut swallow).unwrap();
    assert_eq!(round.flags, [NO_STREAM, StreamFlags::empty()]);
    // Its share went to the other one.
    assert_eq!(round.bytes, [0, 2000]);
    save.advance(Phase::SaveStopCopy).unwrap();
    assert_eq!(save.save_complete(&[], &mut swallow).unwrap().flags, [END; 2]);
}

/// With one wire for all, what comes after a failure would be taken for something else.
#[test]
fn load_complete_asks_for_nothing_after_a_failure_and_tells_the_first() {
    let configs = vec![both(); 3];
    let streams = {
        let source = Rig::source(&configs, 1);
        source.save_all(&source.save()).unwrap()
    };
    for max_workers in [1, 0] {
        let target = Rig::target(&configs, max_workers);
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        let mut calls = 0;
        let failure = load
            .load_complete(&[], &mut |_, _| {
                calls += 1;
                Err(Error::new(ErrorKind::System, libc::EPIPE + calls, "the wire broke"))
            })
            .unwrap_err();
        assert_eq!((calls, failure.errno()), (1, libc::EPIPE + 1));
        // A failure that is no device's is in the report.
        assert!(load.report().unwrap().to_string().contains("load_complete: the wire broke"));
        // A device that refuses its stream ends it too.
        let nth = target.fakes[1].count(Access::DataWrite);
        target.fakes[1].inject(Fault::at(Access::DataWrite, nth, Effect::Errno(libc::EFAULT)));
        let mut brought = [0; 3];
        let mut next = [0; 3];
        let failure = load
            .load_complete(&[], &mut |device, buf| {
                let Some((bytes, segment_end)) = streams[device].parts.get(next[device]) else {
                    return Ok(Fed::End { total: Some(brought[device]) });
                };
                next[device] += 1;
                brought[device] += bytes.len() as u64;
                buf[..bytes.len()].copy_from_slice(bytes);
                Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
            })
            .unwrap_err();
        assert!(failure.to_string().contains("d1"), "{failure}");
        assert_eq!(next[1], 1);
        // What had come for the others before is with them.
        for (i, device) in target.devices.iter().enumerate() {
            assert!(i == 1 || device.info().loaded_bytes == brought[i]);
        }
        load.abort(AbortTo::Running).unwrap();
    }
}

/// Put and cancel.
#[test]
fn the_report_says_why_a_drain_failed() {
    let (_source, save) = at(Phase::SavePreCopy, &[both()], 0);
    let broken = &mut |_: Piece<'_>| Err(Error::new(ErrorKind::System, libc::EPIPE, "the wire broke"));
    save.save_iterate(PLENTY, &[], broken).unwrap_err();
    let report = save.report().unwrap().to_string();
    assert!(report.contains("save_iterate:") && report.contains("the wire broke"), "{report}");
    assert_eq!(save.phase(), Phase::Failed);
    let (_source, save) = at(Phase::SaveStopCopy, &[both()], 0);
    save.cancel();
    for _ in 0..3 {
        save.save_complete(&[], &mut swallow).unwrap_err();
    }
    let report = save.report().unwrap().to_string();
    assert_eq!(report.matches("save_complete:").count(), 1, "{report}");
}

/// Buffers are as many as threads, not as devices, and the next round has them again.
#[test]
fn memory_grows_with_workers_not_with_devices() {
    let (_source, save) = at(Phase::SavePreCopy, &vec![chatty(20_000); 40], 4);
    let mut buffers = HashSet::new();
    for _ in 0..5 {
        let put = &mut |piece: Piece<'_>| {
            buffers.insert(piece.bytes.as_ptr() as usize);
            Ok(())
        };
        save.save_iterate(Budget { bytes: 40 * 2000, ..PLENTY }, &[], put).unwrap();
    }
    assert!(buffers.len() <= 5, "{} buffers for 4 workers", buffers.len());
}

/// Both sides have one worker, and their groups were filled in different orders.
#[test]
fn descriptors_of_devices_in_different_orders_do_not_wait_for_each_other() {
    let configs = [both().state_size(1 << 20), both().state_size(1 << 20)];
    for blocking in [true, false] {
        for (max_source, max_target) in [(1, 1), (1, 0), (0, 1)] {
            let (source, save) = at(Phase::SaveStopCopy, &configs, max_source);
            let target = Rig::target(&configs, max_target);
            let load = target.load();
            load.advance(Phase::LoadResuming).unwrap();
            let (a, b) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
            for stream in [&a.0, &a.1, &b.0, &b.1] {
                stream.set_nonblocking(!blocking).unwrap();
            }
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let outlets = [Outlet::Fd(a.0.as_fd()), Outlet::Fd(b.0.as_fd())];
                    save.save_complete(&outlets, &mut swallow).unwrap();
                    for stream in [&a.0, &b.0] {
                        stream.shutdown(std::net::Shutdown::Both).unwrap();
                    }
                });
                // The other group's first device is the second one here.
                let inlets = [b.1.as_fd(), a.1.as_fd()].map(|fd| Inlet::Fd { fd, total: None });
                load.load_complete(&inlets, &mut |_, _| unreachable!()).unwrap();
            });
            let sent: Vec<u64> = source.devices.iter().map(|device| device.info().saved_bytes).collect();
            let loaded: Vec<u64> = target.devices.iter().map(|device| device.info().loaded_bytes).collect();
            assert_eq!(loaded, [sent[1], sent[0]]);
            target.allow_abort();
            load.abort(AbortTo::Running).unwrap();
        }
    }
}

/// A stalled peer ends the round by time, and by cancel, and the abort of another thread gets through.
#[test]
fn a_stalled_sink_ends_the_round_not_the_vm() {
    let pipes = || std::io::pipe().unwrap();
    for max_workers in [1, 0] {
        let (source, save) = at(Phase::SavePreCopy, &vec![chatty(4 << 20); 2], max_workers);
        let (a, (reader, b)) = (UnixStream::pair().unwrap(), pipes());
        let outlets = [Outlet::Fd(a.0.as_fd()), Outlet::Fd(b.as_fd())];
        let budget = Budget { bytes: u64::MAX, time: Duration::from_millis(200) };
        let begun = Instant::now();
        let round = save.save_iterate(budget, &outlets, &mut swallow).unwrap();
        assert!(
            (Duration::from_millis(150)..Duration::from_secs(2)).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        assert!(round.bytes.iter().all(|bytes| *bytes > 0) && round.flags == [StreamFlags::empty(); 2], "{round:?}");
        let again = save.save_iterate(budget, &outlets, &mut swallow).unwrap();
        assert_eq!((again.bytes, again.flags), (vec![0; 2], vec![StreamFlags::empty(); 2]), "told again");
        save.advance(Phase::SaveStopCopy).unwrap();
        std::thread::scope(|scope| {
            let drain = scope.spawn(|| save.save_complete(&outlets, &mut swallow));
            std::thread::sleep(Duration::from_millis(200));
            let begun = Instant::now();
            save.cancel();
            assert_eq!(drain.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
            save.abort(AbortTo::Running).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        });
        assert_eq!(source.states(), [State::Running; 2]);
        drop((reader, a));
    }
}

/// Slow sinks, slow sources: an abort from another thread ends a drain that waits, without a cancel.
#[test]
fn an_abort_gets_through_to_a_drain_that_waits() {
    for max_workers in [1, 0] {
        let configs = vec![chatty(4 << 20); 2];
        let (source, save) = at(Phase::SaveStopCopy, &configs, max_workers);
        let target = Rig::target(&configs, max_workers);
        target.allow_abort();
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        let (a, b) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let outlets = [Outlet::Fd(a.0.as_fd()), Outlet::Fd(b.0.as_fd())];
        let inlets = [a.0.as_fd(), b.0.as_fd()].map(|fd| Inlet::Fd { fd, total: None });
        std::thread::scope(|scope| {
            let out = scope.spawn(|| save.save_complete(&outlets, &mut swallow).map(drop));
            let into = scope.spawn(|| load.load_complete(&inlets, &mut |_, _| unreachable!()).map(drop));
            std::thread::sleep(Duration::from_millis(200));
            let begun = Instant::now();
            save.abort(AbortTo::Running).unwrap();
            load.abort(AbortTo::Running).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            for drain in [out, into] {
                assert_eq!(drain.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
            }
        });
        for rig in [&source, &target] {
            assert_eq!(rig.states(), [State::Running; 2]);
        }
        // It was the abort's, and is over with it.
        save.advance(Phase::SavePreCopy).unwrap();
        source.devices.iter().for_each(|device| device.restart_stream().unwrap());
        save.save_iterate(Budget { bytes: 1000, ..PLENTY }, &[], &mut swallow).unwrap();
        save.abort(AbortTo::Running).unwrap();
    }
}

/// A descriptor in non-blocking mode that is full ends its device's part of a round, and is waited for by save_complete.
#[test]
fn a_full_socket_is_no_failure_of_the_round() {
    for max_workers in [1, 0] {
        let (source, save) = at(Phase::SavePreCopy, &vec![chatty(1 << 20); 2], max_workers);
        let (to, mut from) = UnixStream::pair().unwrap();
        to.set_nonblocking(true).unwrap();
        let file = tempfile::tempfile().unwrap();
        let outlets = [Outlet::Fd(to.as_fd()), Outlet::Fd(file.as_fd())];
        let begun = Instant::now();
        let round = save.save_iterate(PLENTY, &outlets, &mut swallow).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(round.flags, [StreamFlags::empty(), EMPTY], "{round:?}");
        assert!(round.bytes[0] > 0);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            from.read_to_end(&mut all).map(|_| all.len() as u64).unwrap()
        });
        save.advance(Phase::SaveStopCopy).unwrap();
        save.save_complete(&outlets, &mut swallow).unwrap();
        drop(to);
        assert_eq!(reader.join().unwrap(), source.devices[0].info().saved_bytes);
    }
}

/// Nothing moves at all: after the library's patience the call says so, nothing is lost, and it can be made again.
#[test]
fn a_drain_that_moves_nothing_ends() {
    for max_workers in [1, 0] {
        set_caller_patience(Duration::from_millis(300));
        let (source, save) = at(Phase::SaveStopCopy, &vec![both().state_size(2 << 20); 2], max_workers);
        let target = Rig::target(&vec![both().state_size(2 << 20); 2], max_workers);
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        let (a, b) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let outlets = [Outlet::Fd(a.0.as_fd()), Outlet::Fd(b.0.as_fd())];
        let failure = save.save_complete(&outlets, &mut swallow).unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::System, libc::ETIMEDOUT), "{failure}");
        assert_eq!(save.phase(), Phase::SaveStopCopy);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                save.save_complete(&outlets, &mut swallow).unwrap();
            });
            let total = Some(3 << 20);
            let inlets = [a.1.as_fd(), b.1.as_fd()].map(|fd| Inlet::Fd { fd, total });
            let failure = load.load_complete(&inlets, &mut |_, _| unreachable!()).unwrap_err();
            assert_eq!((failure.kind(), failure.errno()), (ErrorKind::System, libc::ETIMEDOUT), "{failure}");
        });
        let ends = [&a.1, &b.1];
        let inlets: Vec<Inlet<'_>> = ends
            .iter()
            .zip(&source.devices)
            .map(|(stream, device)| Inlet::Fd { fd: stream.as_fd(), total: Some(device.info().saved_bytes) })
            .collect();
        load.load_complete(&inlets, &mut |_, _| unreachable!()).unwrap();
        load.advance(Phase::LoadRunning).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
        set_caller_patience(Duration::from_secs(60));
    }
}

/// A device that takes nothing for longer than one call waits is asked again by load_complete, and no byte is lost; a cancel
/// ends that, and the session, for the bytes cannot be brought again.
#[test]
fn load_complete_waits_for_a_device_that_takes_its_time() {
    for canceled in [false, true] {
        let source = Rig::source(&[both()], 1);
        let streams = source.save_all(&source.save()).unwrap();
        let target = Rig::target(&[both()], 1);
        target.allow_abort();
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        let nth = target.fakes[0].count(Access::DataWrite) + 1;
        let times = if canceled { u64::MAX } else { 3000 };
        let fault = Fault { access: Access::DataWrite, nth, times, effect: Effect::Errno(libc::EAGAIN) };
        target.fakes[0].inject(fault);
        let mut next = 0;
        std::thread::scope(|scope| {
            if canceled {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(1200));
                    load.cancel();
                });
            }
            let outcome = load.load_complete(&[], &mut |_, buf| {
                let Some((bytes, segment_end)) = streams[0].parts.get(next) else {
                    return Ok(Fed::End { total: Some(Stream::len(&streams[0]) as u64) });
                };
                next += 1;
                buf[..bytes.len()].copy_from_slice(bytes);
                Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
            });
            assert_eq!(outcome.is_err(), canceled, "{outcome:?}");
        });
        if canceled {
            assert_eq!(target.devices[0].write(&[0; 4], false).unwrap_err().kind(), ErrorKind::Stale);
            load.abort(AbortTo::Running).unwrap();
        } else {
            load.advance(Phase::LoadRunning).unwrap();
            assert!(target.fakes[0].same_content(&source.fakes[0]));
        }
    }
}

/// A slow device of the calling thread holds the pieces of the others up by little.
#[test]
fn a_slow_pinned_device_does_not_hold_the_others() {
    let home = std::thread::current().id();
    let config = Config { max_io: 4096, ..Config::v2(Caps::default()).state_size(200_000) };
    let seeded: Vec<Config> = (1..4).map(|seed| config.clone().seeded(seed)).collect();
    let measure = || {
        let rig = Rig::new(&seeded, 0, &|fake, i| match i {
            0 => Box::new(Pinned { inner: fake.transport(), home }),
            _ => fake.transport(),
        });
        rig.allow_abort();
        let save = rig.save();
        save.advance(Phase::SaveStopCopy).unwrap();
        let nth = rig.fakes[0].count(Access::DataRead);
        rig.fakes[0].inject(Fault::from(Access::DataRead, nth, Effect::Delay(Duration::from_millis(10))));
        let (mut last, begun) = ([Duration::ZERO; 3], Instant::now());
        save.save_complete(&[], &mut |piece| {
            last[piece.device] = begun.elapsed();
            Ok(())
        })
        .unwrap();
        last
    };
    let last = (0..3).map(|_| measure()).min_by_key(|last| last[1].max(last[2])).unwrap();
    assert!(last[1].max(last[2]) * 3 < last[0], "{last:?}");
}

/// Threads that wait for a device cost nothing.
#[test]
fn sixty_five_devices_take_as_long_as_sixty_four() {
    let measure = |count: usize| {
        let (source, save) = at(Phase::SavePreCopy, &vec![both().state_size(300); count], 0);
        slow(&source, Access::StateWrite, Duration::from_millis(40));
        let begun = Instant::now();
        save.advance(Phase::SaveP2pGrace).unwrap();
        let took = begun.elapsed();
        drop(source);
        took
    };
    let best = |count| (0..4).map(|_| measure(count)).min().unwrap();
    assert!(best(65) < Duration::from_millis(75), "a second batch of devices waited for the first");
}

/// A drain waits for a call of a statistics thread.
#[test]
fn a_drain_waits_for_a_device_call() {
    let streams = {
        let source = Rig::source(&[both()], 1);
        source.save_all(&source.save()).unwrap()
    };
    let (source, save) = at(Phase::SaveStopCopy, &[both()], 1);
    source.fakes[0].inject(Fault::from(Access::StopCopySize, 0, Effect::Delay(Duration::from_millis(200))));
    let device = Arc::clone(&source.devices[0]);
    std::thread::scope(|scope| {
        scope.spawn(move || device.pending_exact());
        std::thread::sleep(Duration::from_millis(50));
        save.save_complete(&[], &mut swallow).unwrap();
    });
    let target = Rig::target(&[both()], 1);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    target.fakes[0].inject(Fault::from(Access::StopCopySize, 0, Effect::Delay(Duration::from_millis(200))));
    let device = Arc::clone(&target.devices[0]);
    std::thread::scope(|scope| {
        scope.spawn(move || device.pending_exact());
        std::thread::sleep(Duration::from_millis(50));
        let mut fed = streams[0].parts.iter();
        load.load_complete(&[], &mut |_, buf| match fed.next() {
            Some((bytes, segment_end)) => {
                buf[..bytes.len()].copy_from_slice(bytes);
                Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
            }
            None => Ok(Fed::End { total: Some(Stream::len(&streams[0]) as u64) }),
        })
        .unwrap();
    });
}

/// What `get` brought and the device's handle refused is lost: the load cannot go on behind the gap as if nothing had been.
#[test]
fn bytes_that_were_brought_and_refused_end_the_load() {
    let source = Rig::source(&[both()], 1);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&[both()], 1);
    target.allow_abort();
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    let mut next = 0;
    let mut get = |_: usize, buf: &mut [u8]| {
        let Some((bytes, segment_end)) = streams[0].parts.get(next) else { return Ok(Fed::End { total: None }) };
        next += 1;
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
    };
    let mut room = target.devices[0].reserve(None).unwrap();
    assert_eq!(load.load_complete(&[], &mut get).unwrap_err().kind(), ErrorKind::Busy);
    target.devices[0].commit(&mut room, 0, false).ok();
    let failure = load.load_complete(&[], &mut get).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Stale, "{failure}");
    load.abort(AbortTo::Running).unwrap();
}

/// The same from a descriptor, and in the middle of what it brought.
#[test]
fn load_complete_from_a_descriptor_waits_for_a_device_that_takes_its_time() {
    let source = Rig::source(&[both()], 1);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&[both()], 1);
    target.allow_abort();
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    let nth = target.fakes[0].count(Access::DataWrite) + 1;
    for nth in [nth, nth + 3000 + 2] {
        let fault = Fault { access: Access::DataWrite, nth, times: 3000, effect: Effect::Errno(libc::EAGAIN) };
        target.fakes[0].inject(fault);
    }
    let (mut near, far) = UnixStream::pair().unwrap();
    let total = streams[0].parts.iter().map(|(bytes, _)| bytes.len() as u64).sum();
    for (bytes, _) in &streams[0].parts {
        std::io::Write::write_all(&mut near, bytes).unwrap();
    }
    load.load_complete(&[Inlet::Fd { fd: far.as_fd(), total: Some(total) }], &mut |_, _| unreachable!()).unwrap();
    load.advance(Phase::LoadRunning).unwrap();
    assert!(target.fakes[0].same_content(&source.fakes[0]));
}
