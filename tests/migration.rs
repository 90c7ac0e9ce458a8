//! Migrations of groups: phases, order, streams, cancel, abort, figures, report. Faults are in tests/campaign and group_faults.rs.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "migration/ends.rs"]
mod ends;
#[path = "migration/estimates.rs"]
mod estimates;
#[path = "common/rig.rs"]
mod rig;
#[path = "migration/trackers.rs"]
mod trackers;

use rig::{Rig, Stream, caps, kind, kinds, mixes};
use simdev::{Access, Config, Effect, Fault, Precopy, PrecopyEnd, Window};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfiomig::device::{self, Device};
use vfiomig::dialect::{Caps, DialectKind, State};
use vfiomig::error::{Action, ErrorKind};
use vfiomig::migration::{AbortTo, Budget, EstimateInput, Lacks, Migration, Phase};
use vfiomig::tracker;

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true })
}

fn refused(result: vfiomig::Result<()>, texts: &[&str]) {
    let failure = result.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Order, "{failure}");
    assert!(texts.iter().all(|text| failure.to_string().contains(text)), "{failure}");
}

#[test]
fn every_mix_of_devices_migrates_behind_barriers() {
    let pairs = mixes(&kinds(), 2);
    for mix in pairs.iter().chain([&kinds()]) {
        for max_workers in [1, 0] {
            let what = format!("{:?}", mix.iter().map(|config| config.dialect).collect::<Vec<_>>());
            let source = Rig::source(mix, max_workers);
            let target = Rig::target(mix, max_workers);
            let save = source.save();
            let streams = source.save_all(&save).unwrap();
            assert_eq!(save.phase(), Phase::SaveHalted);
            let load = target.load();
            target.load_all(&load, &streams).unwrap();
            assert_eq!(load.phase(), Phase::LoadRunning);
            for (from, to) in source.fakes.iter().zip(&target.fakes) {
                assert!(from.same_content(to), "{what}");
            }
            assert!(
                source.states().iter().all(|&s| s == State::Stop)
                    && target.states().iter().all(|&s| s == State::Running)
            );
            for rig in [&source, &target] {
                rig.assert_clean(&what);
                rig::assert_barriers(&rig.fakes);
            }
            assert_eq!(*source.log.calls.lock(), ["start", "report", "report", "stop"]);
            assert!(target.log.calls.lock().is_empty());
            // The target is an ordinary source afterwards.
            drop(load);
            let again = target.save();
            target.save_all(&again).unwrap();
        }
    }
}

#[test]
fn a_paused_vm_migrates_and_its_devices_never_run() {
    for max_workers in [1, 0] {
        let source = Rig::source(&kinds(), max_workers);
        source.group.pause().unwrap();
        let before: Vec<usize> = source.fakes.iter().map(|fake| fake.transitions().len()).collect();
        let save = source.save();
        let streams = source.save_all(&save).unwrap();
        for (fake, before) in source.fakes.iter().zip(before) {
            let since: Vec<State> = fake.transitions()[before..].iter().map(|t| t.to.state()).collect();
            assert_eq!(since, [State::StopCopy, State::Stop]);
        }
        save.abort_without_second_guest(AbortTo::RunState).unwrap();
        assert!(source.states().iter().all(|&s| s == State::Stop), "it was paused");
        let target = Rig::target(&kinds(), max_workers);
        target.load_all(&target.load(), &streams).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    }
}

#[test]
fn advance_passes_through_what_needs_no_hand() {
    let source = Rig::source(&kinds(), 0);
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    for (fake, config) in source.fakes.iter().zip(kinds()) {
        let entered: Vec<State> = fake.transitions().iter().map(|t| t.to.state()).collect();
        let is_draft = kind(&config) == DialectKind::Draft;
        assert_eq!(entered.contains(&State::PreCopy), is_draft, "pre-copy is left out, but for the draft's log");
        assert_eq!(entered.contains(&State::RunningP2p), caps(&config).p2p, "grace is not");
    }
    let mut streams = vec![Stream::default(); 7];
    source.drain_all(&mut streams).unwrap();
    source.harvest();
    save.advance(Phase::SaveHalted).unwrap();
    rig::assert_barriers(&source.fakes);
    let target = Rig::target(&kinds(), 0);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    target.write_all(&streams).unwrap();
    load.advance(Phase::LoadRunning).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    rig::assert_barriers(&target.fakes);
}

#[test]
fn v1_devices_alone_hear_of_the_viommu_grace() {
    let source = Rig::source(&kinds(), 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    save.advance(Phase::SaveViommuGrace).unwrap();
    for (config, state) in kinds().iter().zip(source.states()) {
        let expected = match (kind(config), caps(config)) {
            (DialectKind::V1, Caps { p2p: true, .. }) => State::PreCopyP2p,
            (_, Caps { pre_copy: true, .. }) => State::PreCopy,
            _ => State::Running,
        };
        assert_eq!(state, expected, "{config:?}");
    }
}

#[test]
fn wrong_order_is_refused_with_what_may_be_next_and_changes_nothing() {
    let source = Rig::source(&[both(), both()], 0);
    let save = source.save();
    let calls = || source.fakes.iter().map(|fake| fake.calls().len()).collect::<Vec<_>>();
    let before = calls();
    refused(save.advance(Phase::SaveHalted), &["SAVE_HALTED", "IDLE", "SAVE_TRACKING, SAVE_PRE_COPY"]);
    refused(save.advance(Phase::LoadResuming), &["next may be"]);
    refused(save.advance(Phase::Failed), &[]);
    assert_eq!((calls(), save.phase()), (before, Phase::Idle));
    save.advance(Phase::SavePreCopy).unwrap();
    let before = calls();
    save.advance(Phase::SavePreCopy).unwrap();
    refused(save.advance(Phase::SaveTracking), &["SAVE_TRACKING does not follow SAVE_PRE_COPY"]);
    refused(save.advance(Phase::Idle), &[]);
    assert_eq!((calls(), save.phase()), (before, Phase::SavePreCopy));
    let mut streams = vec![Stream::default(); 2];
    source.drain_all(&mut streams).unwrap();
    save.advance(Phase::SaveStopCopy).unwrap();
    // HALTED: each END, then each log.
    refused(save.advance(Phase::SaveHalted), &["d0: its END was not consumed", "d1: its END"]);
    streams[0].drain(&source.devices[0]).unwrap();
    refused(save.advance(Phase::SaveHalted), &["d1: its END"]);
    streams[1].drain(&source.devices[1]).unwrap();
    refused(save.advance(Phase::SaveHalted), &["the final harvest is missing", "ram"]);
    assert_eq!((save.phase(), source.states()), (Phase::SaveStopCopy, vec![State::StopCopy; 2]));
    save.advance_without_harvest().unwrap();
    assert_eq!(*source.log.started.lock(), 0);
    refused(save.advance(Phase::SaveStopCopy), &["next may be: none"]);
    // LOADED: each finish.
    let target = Rig::target(&[both(), both()], 0);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    streams[0].write(&target.devices[0]).unwrap();
    for phase in [Phase::LoadLoaded, Phase::LoadRunning] {
        refused(load.advance(phase), &["d1: the length of its stream was not stated"]);
    }
    assert_eq!((load.phase(), target.states()), (Phase::LoadResuming, vec![State::Resuming; 2]));
    streams[1].write(&target.devices[1]).unwrap();
    load.advance(Phase::LoadRunning).unwrap();
    refused(load.abort(AbortTo::Running), &["would destroy the guest"]);
    assert_eq!(target.fakes[0].resets(), 0);
}

#[test]
fn a_load_rests_in_loaded() {
    let source = Rig::source(&kinds(), 0);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&kinds(), 0);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    target.write_all(&streams).unwrap();
    load.advance(Phase::LoadLoaded).unwrap();
    let results = target.group.results().unwrap();
    for ((config, state), result) in kinds().iter().zip(target.states()).zip(results) {
        let v2 = kind(config) == DialectKind::V2;
        assert_eq!(state, if v2 { State::Stop } else { State::Resuming });
        assert_eq!(result.message.contains("not validated"), !v2, "{result:?}");
    }
    load.abort(AbortTo::Running).unwrap();
    assert!(target.fakes.iter().all(|fake| fake.resets() == 1 && fake.state() == State::Running));
    assert_eq!(load.phase(), Phase::Idle);
    // And the same migration may begin anew.
    target.load_all(&load, &streams).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
}

#[test]
fn device_by_device_a_phase_is_entered_with_the_last() {
    let source = Rig::source(&kinds(), 0);
    let save = source.save();
    let each = |migration: &Migration, rig: &Rig, phase: Phase, before: Phase| {
        for device in &rig.devices {
            assert_eq!(migration.phase(), before);
            migration.advance_device(device, phase).unwrap();
            migration.advance_device(device, phase).unwrap();
        }
        assert_eq!(migration.phase(), phase);
    };
    let device = &source.devices[0];
    refused(save.advance_device(device, Phase::SaveP2pGrace), &["SAVE_TRACKING comes before it"]);
    each(&save, &source, Phase::SaveTracking, Phase::Idle);
    each(&save, &source, Phase::SavePreCopy, Phase::SaveTracking);
    let mut streams = vec![Stream::default(); 7];
    source.drain_all(&mut streams).unwrap();
    save.advance_device(device, Phase::SaveP2pGrace).unwrap();
    // No device goes on before all are there, and none is paused in between.
    refused(save.advance_device(device, Phase::SaveStopCopy), &["SAVE_P2P_GRACE"]);
    refused(save.advance(Phase::SaveViommuGrace), &["next may be: SAVE_P2P_GRACE"]);
    refused(source.group.pause(), &["device by device"]);
    // One call may do the rest, and go on.
    save.advance(Phase::SaveP2pGrace).unwrap();
    each(&save, &source, Phase::SaveStopCopy, Phase::SaveP2pGrace);
    source.drain_all(&mut streams).unwrap();
    refused(save.advance_device(device, Phase::SaveHalted), &["final harvest"]);
    source.harvest();
    each(&save, &source, Phase::SaveHalted, Phase::SaveStopCopy);
    assert_eq!(*source.log.calls.lock(), ["start", "report", "report", "stop"]);
    source.assert_clean("by device");
    rig::assert_barriers(&source.fakes);
    let report = save.report().unwrap();
    assert_eq!(report.phases.len(), 5, "{report}");
    assert!(report.phases.iter().all(|phase| phase.devices.len() == 7));

    let target = Rig::target(&kinds(), 0);
    let load = target.load();
    each(&load, &target, Phase::LoadResuming, Phase::Idle);
    target.write_all(&streams).unwrap();
    each(&load, &target, Phase::LoadLoaded, Phase::LoadResuming);
    each(&load, &target, Phase::LoadP2pGrace, Phase::LoadLoaded);
    // d0 is a v2 device: those that leave RESUMING by running go first.
    refused(load.advance_device(&target.devices[0], Phase::LoadRunning), &["d0", "RESUMING"]);
    for i in [4, 6, 0, 1, 2, 3, 5] {
        load.advance_device(&target.devices[i], Phase::LoadRunning).unwrap();
    }
    assert_eq!(load.phase(), Phase::LoadRunning);
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
}

#[test]
fn p2p_states_are_read_back() {
    // The driver says yes and does nothing: the answer to the GET after the SET is another state.
    let source = Rig::source(&[both(), both()], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let reads = source.fakes[0].count(Access::StateRead);
    // The first read is the one before the change.
    let fault = source.fakes[0].inject(Fault::at(Access::StateRead, reads + 1, Effect::Lie(6)));
    let failure = save.advance(Phase::SaveP2pGrace).unwrap_err();
    assert_eq!(source.fakes[0].fault_reached(fault), 1);
    assert!(failure.to_string().contains("found in PRE_COPY"), "{failure}");
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(source.states(), [State::Running; 2]);
}

#[test]
fn the_report_tells_phases_devices_and_times() {
    let source = Rig::source(&[both(), Config::v2(Caps::default())], 0);
    let delay = Duration::from_millis(15);
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let mut streams = vec![Stream::default(); 2];
    source.drain_all(&mut streams).unwrap();
    save.advance(Phase::SaveP2pGrace).unwrap();
    source.fakes[0].inject(Fault::from(Access::StateWrite, 0, Effect::Delay(delay)));
    save.advance(Phase::SaveStopCopy).unwrap();
    let report = save.report().unwrap();
    let phases: Vec<Phase> = report.phases.iter().map(|phase| phase.phase).collect();
    assert_eq!(phases, [Phase::SaveTracking, Phase::SavePreCopy, Phase::SaveP2pGrace, Phase::SaveStopCopy]);
    let last = &report.phases[3];
    assert!(last.duration >= delay && last.devices[0].duration >= delay && last.devices[1].duration < last.duration);
    assert_eq!((last.devices[0].from, last.devices[0].to), (State::PreCopyP2p.number(), State::StopCopy.number()));
    assert!(report.phases.windows(2).all(|pair| pair[0].begun + pair[0].duration <= pair[1].begun));
    let text = report.to_string();
    for part in ["SAVE_STOP_COPY", "d0", "PRE_COPY_P2P -> STOP_COPY", "stays in RUNNING"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_phase_of_four_slow_devices_costs_one() {
    let delay = Duration::from_millis(50);
    let phases = [Phase::SavePreCopy, Phase::SaveP2pGrace, Phase::SaveStopCopy];
    let measure = |max_workers| {
        let source = Rig::source(&vec![both(); 4], max_workers);
        source.allow_abort();
        for fake in &source.fakes {
            fake.inject(Fault::from(Access::StateWrite, 0, Effect::Delay(delay)));
        }
        let save = source.save();
        phases.map(|phase| {
            let begun = Instant::now();
            save.advance(phase).unwrap();
            begun.elapsed()
        })
    };
    // What else runs on the machine makes a phase longer, never shorter: one that is as short as it must be proves it.
    let mut best = [Duration::MAX; 3];
    for _ in 0..50 {
        let took = measure(0);
        best = [0, 1, 2].map(|phase| best[phase].min(took[phase]));
        if best.iter().all(|&took| took < delay + Duration::from_millis(10)) {
            break;
        }
    }
    assert!(best.iter().all(|&took| took >= delay && took < delay + Duration::from_millis(10)), "{best:?}");
    assert!(measure(1).iter().all(|&took| took >= delay * 4));
}

fn everything() -> tracker::Request<'static> {
    tracker::Request { run: Some(Box::leak(Box::new(|_, _| true))), ..tracker::Request::default() }
}
