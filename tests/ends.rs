//! The ends of a migration: of each device's load as it comes, and of a save by one word.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Rig, kinds, mixes};
use simdev::{Access, Config, Effect, Fault};
use std::sync::Arc;
use vfiomig::dialect::{Caps, State};
use vfiomig::error::ErrorKind;
use vfiomig::migration::{EndOptions, Migration, Phase};

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(3000)
}

fn kind_of<T: std::fmt::Debug>(result: vfiomig::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

const NONE: EndOptions = EndOptions { waive_harvest: false, no_second_guest: false };
const NO_HARVEST: EndOptions = EndOptions { waive_harvest: true, no_second_guest: false };
const BY_WORD: EndOptions = EndOptions { waive_harvest: false, no_second_guest: true };

/// Streams of a group, and a load of another one in RESUMING that has all bytes and no end yet.
fn written(mix: &[Config], max_workers: usize) -> (Rig, Migration, Vec<u64>) {
    let source = Rig::source(mix, max_workers);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(mix, max_workers);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    for (device, stream) in target.devices.iter().zip(&streams) {
        stream.parts.iter().for_each(|(bytes, segment_end)| device.write(bytes, *segment_end).unwrap());
    }
    let lengths = streams.iter().map(|stream| stream.len() as u64).collect();
    (target, load, lengths)
}

#[test]
fn loaded_is_entered_with_the_last_device_in_any_order() {
    for mix in mixes(&kinds(), 2).iter().chain([&kinds()]) {
        for backwards in [false, true] {
            let (target, load, lengths) = written(mix, 1);
            let mut order: Vec<usize> = (0..mix.len()).collect();
            if backwards {
                order.reverse();
            }
            for (n, &i) in order.iter().enumerate() {
                assert_eq!(load.phase(), Phase::LoadResuming);
                let last = n + 1 == order.len();
                assert_eq!(load.load_done(&target.devices[i], Some(lengths[i])).unwrap(), last);
            }
            assert_eq!(load.phase(), Phase::LoadLoaded);
            load.advance(Phase::LoadRunning).unwrap();
            assert!(target.states().iter().all(|&state| state == State::Running));
            target.assert_clean("load_done");
        }
    }
}

#[test]
fn of_threads_that_end_their_devices_at_once_one_hears_of_loaded() {
    let mix = vec![both(); 8];
    for _ in 0..20 {
        let (target, load, lengths) = written(&mix, 0);
        let entered = std::thread::scope(|scope| {
            let done = |i: usize| (&load, Arc::clone(&target.devices[i]), lengths[i]);
            let threads: Vec<_> = (0..mix.len())
                .map(|i| {
                    let (load, device, total) = done(i);
                    scope.spawn(move || load.load_done(&device, Some(total)).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| u32::from(thread.join().unwrap())).sum::<u32>()
        });
        assert_eq!((entered, load.phase()), (1, Phase::LoadLoaded));
        target.assert_clean("threads");
    }
}

#[test]
fn what_a_load_done_refuses_changes_nothing() {
    let mix = [both(), both()];
    let (target, load, lengths) = written(&mix, 1);
    let [a, b] = &target.devices[..] else { panic!() };
    let stranger = Rig::target(&mix, 1);
    assert_eq!(kind_of(load.load_done(&stranger.devices[0], Some(0))), ErrorKind::Argument);
    assert_eq!(kind_of(load.load_done(a, Some(lengths[0] + 1))), ErrorKind::Incomplete);
    assert_eq!(kind_of(load.load_done(a, Some(lengths[0] - 1))), ErrorKind::Incomplete);
    assert!(!load.load_done(a, Some(lengths[0])).unwrap());
    assert_eq!(kind_of(load.load_done(a, Some(lengths[0]))), ErrorKind::Order);
    // A length that is not known.
    assert!(load.load_done(b, None).unwrap());
    assert_eq!(kind_of(load.load_done(b, None)), ErrorKind::Order);
    load.advance(Phase::LoadRunning).unwrap();
    assert_eq!(kind_of(load.load_done(b, None)), ErrorKind::Order);
    target.assert_clean("refusals");

    let (target, load, _) = written(&mix, 1);
    load.cancel();
    assert_eq!(kind_of(load.load_done(&target.devices[0], None)), ErrorKind::Canceled);
    assert!(!target.devices[0].info().complete);

    let source = Rig::source(&mix, 1);
    assert_eq!(kind_of(source.save().load_done(&source.devices[0], None)), ErrorKind::Order);
}

#[test]
fn a_stream_that_turns_out_bad_fails_the_load_in_the_call_that_ends_it() {
    let mix = [both(), both()];
    let (target, load, lengths) = written(&mix, 1);
    assert!(!load.load_done(&target.devices[0], Some(lengths[0])).unwrap());
    target.fakes[1].inject(Fault::from(Access::StateWrite, 0, Effect::Errno(libc::EINVAL)));
    let failure = load.load_done(&target.devices[1], Some(lengths[1])).unwrap_err();
    assert_eq!((failure.kind(), load.phase()), (ErrorKind::Device, Phase::Failed));
    assert_eq!(load.load_done(&target.devices[1], None).unwrap_err().to_string(), failure.to_string());
}

/// A save in that phase; in STOP_COPY all is read, but the final harvest is missing.
fn save_in(rig: &Rig, phase: Phase) -> Migration {
    rig.allow_abort();
    let save = rig.save();
    if phase != Phase::Idle {
        save.advance(if phase == Phase::SaveHalted { Phase::SaveStopCopy } else { phase }).unwrap();
    }
    if matches!(phase, Phase::SaveStopCopy | Phase::SaveHalted) {
        save.save_complete(&[], &mut |_| Ok(())).unwrap();
    }
    if phase == Phase::SaveHalted {
        rig.harvest();
        save.advance(phase).unwrap();
    }
    save
}

const SAVES: [Phase; 7] = [
    Phase::Idle,
    Phase::SaveTracking,
    Phase::SavePreCopy,
    Phase::SaveViommuGrace,
    Phase::SaveP2pGrace,
    Phase::SaveStopCopy,
    Phase::SaveHalted,
];

#[test]
fn a_save_that_is_not_committed_ends_where_the_vm_is() {
    for mix in mixes(&kinds(), 1).iter().chain([&kinds()]) {
        for phase in SAVES {
            for paused in [false, true] {
                let rig = Rig::source(mix, 1);
                if paused {
                    rig.group.pause().unwrap();
                }
                let save = save_in(&rig, phase);
                let before = rig.states();
                assert_eq!(kind_of(save.end(false, NO_HARVEST)), ErrorKind::Argument);
                if phase == Phase::SaveHalted {
                    assert_eq!(kind_of(save.end(false, NONE)), ErrorKind::Order);
                    assert_eq!((rig.states(), save.phase()), (before, phase));
                    save.end(false, BY_WORD).unwrap();
                } else {
                    save.end(false, NONE).unwrap();
                }
                let end = if paused { State::Stop } else { State::Running };
                assert_eq!((save.phase(), rig.states()), (Phase::Idle, vec![end; mix.len()]), "{phase} {paused}");
                assert_eq!(*rig.log.started.lock(), 0);
                rig.assert_clean(phase.name());
                rig::assert_barriers(&rig.fakes);
            }
        }
    }
}

#[test]
fn a_committed_save_is_halted_or_refused() {
    for mix in mixes(&kinds(), 1).iter().chain([&kinds()]) {
        for phase in SAVES {
            let rig = Rig::source(mix, 1);
            let save = save_in(&rig, phase);
            let before = rig.states();
            assert_eq!(kind_of(save.end(true, BY_WORD)), ErrorKind::Argument);
            if phase == Phase::SaveHalted {
                save.end(true, NONE).unwrap();
            } else {
                let failure = save.end(true, NONE).unwrap_err();
                assert_eq!(failure.kind(), ErrorKind::Order, "{phase}: {failure}");
            }
            assert_eq!((rig.states(), save.phase()), (before, phase));
            if phase == Phase::SaveStopCopy {
                save.end(true, NO_HARVEST).unwrap();
                save.end(true, NO_HARVEST).unwrap();
                assert_eq!((save.phase(), rig.states()), (Phase::SaveHalted, vec![State::Stop; mix.len()]));
            }
        }
    }
}

#[test]
fn a_committed_save_whose_device_fails_brings_nobody_back() {
    let rig = Rig::source(&[both(), both()], 1);
    let save = save_in(&rig, Phase::SaveStopCopy);
    rig.fakes[0].inject(Fault::from(Access::StateWrite, 0, Effect::Errno(libc::EIO)));
    rig.harvest();
    let failure = save.end(true, NONE).unwrap_err();
    assert_eq!((failure.kind(), save.phase()), (ErrorKind::Device, Phase::Failed));
    assert_eq!(rig.states()[1], State::Stop);
    assert_eq!(save.end(true, NONE).unwrap_err().to_string(), failure.to_string());
    assert_eq!(kind_of(save.end(false, NONE)), ErrorKind::Order);
    rig.fakes[0].clear_faults();
    save.end(false, BY_WORD).unwrap();
    assert_eq!((save.phase(), rig.states()), (Phase::Idle, vec![State::Running; 2]));
}

#[test]
fn a_save_that_failed_before_halted_ends_uncommitted_without_a_word() {
    let rig = Rig::source(&[both(), both()], 1);
    let save = save_in(&rig, Phase::SavePreCopy);
    let nth = rig.fakes[0].count(Access::StateWrite);
    rig.fakes[0].inject(Fault { access: Access::StateWrite, nth, times: 1, effect: Effect::Errno(libc::EIO) });
    assert!(save.advance(Phase::SaveStopCopy).is_err());
    assert_eq!(kind_of(save.end(true, NONE)), ErrorKind::Device);
    save.end(false, NONE).unwrap();
    assert_eq!((save.phase(), rig.states()), (Phase::Idle, vec![State::Running; 2]));
}

#[test]
fn a_load_has_no_such_end() {
    let rig = Rig::target(&[both()], 1);
    assert_eq!(kind_of(rig.load().end(false, NONE)), ErrorKind::Argument);
}

type Loss = fn(&Rig);

/// A load that can have no last device says so in the first call that meets it, and not by a 0 for ever.
#[test]
fn a_member_that_can_have_no_end_is_named_by_the_ends_of_the_others() {
    let losses: [(&str, Loss); 2] = [
        ("its handle was freed", |rig| rig.devices[1].close().unwrap()),
        ("others have reset it", |rig| {
            rig.fakes[1].reset().unwrap();
            rig.devices[1].reprobe().unwrap();
        }),
    ];
    for (loss, lose) in losses {
        let (target, load, lengths) = written(&[both(), both()], 1);
        lose(&target);
        let failure = load.load_done(&target.devices[0], Some(lengths[0])).unwrap_err();
        assert!(failure.to_string().contains("d1"), "{loss}: {failure}");
        assert_eq!(load.phase(), Phase::Failed, "{loss}");
    }
}
