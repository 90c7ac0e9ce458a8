//! What rounds and drains promise: an end that is an end, failures that are reported, fairness by bytes and by time, and that no call
//! waits for ever.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;
#[path = "rounds/sessions.rs"]
mod sessions;
#[path = "rounds/waits.rs"]
mod waits;

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

/// C9: who stops the guest gets the name of a device that has initial data again. One that does not report REINIT cannot have any.
#[test]
fn initial_data_that_is_left_when_the_guest_stops_is_reported() {
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

/// 0 does not join "there is more" and "has no stream yet".
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
