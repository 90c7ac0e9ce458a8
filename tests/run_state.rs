//! A VMM that only says that its VM stops and starts, in every phase: where the devices are then, what became of the migration and
//! of the streams.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Rig, kinds, mixes};
use simdev::{Access, Config, Effect, Fault};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::ErrorKind;
use vfiomig::group::{SwitchAction, Switched};
use vfiomig::migration::{AbortTo, Migration, Phase};

const SAVES: [Phase; 7] = [
    Phase::Idle,
    Phase::SaveTracking,
    Phase::SavePreCopy,
    Phase::SaveViommuGrace,
    Phase::SaveP2pGrace,
    Phase::SaveStopCopy,
    Phase::SaveHalted,
];
const LOADS: [Phase; 5] =
    [Phase::Idle, Phase::LoadResuming, Phase::LoadLoaded, Phase::LoadP2pGrace, Phase::LoadRunning];

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(3000)
}

/// A save in that phase, with a part of each stream that there is read.
fn save_in(rig: &Rig, phase: Phase) -> Migration {
    rig.allow_abort();
    let save = rig.save();
    let mut way = SAVES.into_iter().filter(|at| *at <= phase && *at != Phase::Idle);
    // VIOMMU_GRACE is for those who ask.
    let mut next = || way.find(|at| *at != Phase::SaveViommuGrace || phase == Phase::SaveViommuGrace);
    while let Some(at) = next() {
        if at == Phase::SaveHalted {
            save.save_complete(&[], &mut |_| Ok(())).unwrap();
            rig.harvest();
        }
        save.advance(at).unwrap();
        for device in rig.devices.iter().filter(|device| at == Phase::SavePreCopy && device.info().session_open) {
            assert!(device.read(&mut [0; 100]).unwrap().0 > 0);
        }
    }
    save
}

fn load_in(mix: &[Config], phase: Phase) -> (Rig, Migration) {
    let source = Rig::source(mix, 1);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(mix, 1);
    let load = target.load();
    if phase != Phase::Idle {
        load.advance(Phase::LoadResuming).unwrap();
        target.write_all(&streams).unwrap();
        load.advance(phase).unwrap();
    }
    (target, load)
}

fn all(rig: &Rig, is: impl Fn(State) -> bool) -> bool {
    rig.states().into_iter().all(is)
}

fn stands(state: State) -> bool {
    matches!(state, State::Stop | State::StopCopy | State::Resuming)
}

fn halves(
    rig: &Rig,
    in_two: bool,
    begin: impl Fn(&Rig) -> Switched,
    end: impl Fn(&Rig) -> Switched,
) -> (Switched, Vec<usize>) {
    let mut void = Vec::new();
    if in_two {
        let switched = begin(rig);
        void.extend(switched.void);
        if switched.outcome.is_err() {
            return (end(rig), void);
        }
    }
    let switched = end(rig);
    void.extend(&switched.void);
    void.sort_unstable();
    (switched, void)
}

fn stop(rig: &Rig, in_two: bool, hand_over: bool) -> (Switched, Vec<usize>) {
    halves(rig, in_two, |rig| rig.group.stop_begin(hand_over), |rig| rig.group.stop(hand_over))
}

fn start(rig: &Rig, in_two: bool) -> (Switched, Vec<usize>) {
    halves(rig, in_two, |rig| rig.group.start_begin(), |rig| rig.group.start())
}

fn all_mixes() -> Vec<Vec<Config>> {
    mixes(&kinds(), 2).into_iter().chain([kinds()]).collect()
}

#[test]
fn a_save_stops_and_starts_in_every_phase() {
    for mix in all_mixes() {
        for phase in SAVES {
            for (in_two, hand_over) in [(false, false), (true, false), (false, true), (true, true)] {
                let rig = Rig::source(&mix, 1);
                let save = save_in(&rig, phase);
                let what = format!("{phase} {in_two} {hand_over} {:?}", rig.states());
                let begun: Vec<usize> = (0..mix.len()).filter(|&i| rig.devices[i].info().saved_bytes > 0).collect();

                let (stopped, void) = stop(&rig, in_two, hand_over);
                stopped.outcome.unwrap();
                assert!(all(&rig, stands), "{what}: {:?}", rig.states());
                assert_eq!(void, [0; 0], "{what}");
                let free = phase <= Phase::SavePreCopy;
                let (now, action) = match phase {
                    _ if free && !hand_over => (phase, SwitchAction::Paused),
                    Phase::SaveStopCopy | Phase::SaveHalted => (phase, SwitchAction::Nothing),
                    _ => (Phase::SaveStopCopy, SwitchAction::Advanced),
                };
                assert_eq!((save.phase(), stopped.action), (now, action), "{what}");
                // Said once more, it is so already.
                stop(&rig, in_two, hand_over).0.outcome.unwrap();
                assert_eq!(save.phase(), now, "{what}");

                let before = rig.states();
                let (started, void) = start(&rig, in_two);
                if phase == Phase::SaveHalted {
                    assert_eq!(started.outcome.unwrap_err().kind(), ErrorKind::Order, "{what}");
                    assert_eq!((rig.states(), save.phase()), (before, phase), "{what}");
                    save.abort_without_second_guest(AbortTo::Running).unwrap();
                    continue;
                }
                started.outcome.unwrap();
                let drafts = |i: &usize| rig::kind(&mix[*i]) == vfiomig::dialect::DialectKind::Draft;
                if now == Phase::SaveStopCopy {
                    assert_eq!((save.phase(), started.action), (Phase::Idle, SwitchAction::Aborted), "{what}");
                } else {
                    let back = if phase == Phase::SavePreCopy { Phase::SaveTracking } else { phase };
                    assert_eq!((save.phase(), started.action), (back, SwitchAction::Resumed), "{what}");
                }
                // In SAVE_TRACKING the log of drafts needs them in PRE_COPY.
                let tracking = save.phase() == Phase::SaveTracking;
                let runs = |i: &usize| rig.states()[*i] == State::Running || tracking && drafts(i);
                assert!((0..mix.len()).all(|i| runs(&i)), "{what}: {:?}", rig.states());
                assert_eq!(void, begun, "{what}");
                rig.assert_clean(&what);
                rig::assert_barriers(&rig.fakes);
                save.abort(AbortTo::RunState).unwrap();
                assert!(all(&rig, |state| state == State::Running), "{what}");
                // A whole save, from the beginning.
                rig.save_all(&save).unwrap();
            }
        }
    }
}

#[test]
fn a_load_stops_and_starts_in_every_phase() {
    for mix in all_mixes() {
        for phase in LOADS {
            for in_two in [false, true] {
                let (rig, load) = load_in(&mix, phase);
                let what = format!("{phase} {in_two} {:?}", rig.states());
                let before = rig.states();
                let (handed, _) = stop(&rig, in_two, true);
                assert_eq!(handed.outcome.unwrap_err().kind(), ErrorKind::Order, "{what}");
                assert_eq!((rig.states(), load.phase()), (before, phase), "{what}");

                let (stopped, _) = stop(&rig, in_two, false);
                stopped.outcome.unwrap();
                assert!(all(&rig, stands), "{what}: {:?}", rig.states());
                let now = if phase == Phase::LoadP2pGrace { Phase::LoadLoaded } else { phase };
                assert_eq!(load.phase(), now, "{what}");

                let (started, void) = start(&rig, in_two);
                assert_eq!(void, [0; 0], "{what}");
                if phase == Phase::LoadResuming {
                    assert_eq!(started.outcome.unwrap_err().kind(), ErrorKind::Order, "{what}");
                    assert!(all(&rig, |state| state == State::Resuming), "{what}");
                    // What the VM is now.
                    load.abort(AbortTo::RunState).unwrap();
                    assert!(all(&rig, |state| state == State::Stop), "{what}: {:?}", rig.states());
                    continue;
                }
                started.outcome.unwrap();
                assert!(all(&rig, |state| state == State::Running), "{what}: {:?}", rig.states());
                let (end, action) = match now {
                    Phase::LoadLoaded => (Phase::LoadRunning, SwitchAction::Advanced),
                    other => (other, SwitchAction::Resumed),
                };
                assert_eq!((load.phase(), started.action), (end, action), "{what}");
                rig.assert_clean(&what);
                rig::assert_barriers(&rig.fakes);
            }
        }
    }
}

/// As where the source has fewer devices: an operator has to know which of them is missing.
#[test]
fn a_start_before_all_is_loaded_names_the_devices_that_have_no_whole_stream() {
    let mix = [both(), both()];
    let source = Rig::source(&mix, 1);
    let streams = source.save_all(&source.save()).unwrap();
    for in_two in [false, true] {
        let target = Rig::target(&mix, 1);
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        streams[0].write(&target.devices[0]).unwrap();
        let (started, _) = start(&target, in_two);
        let said = started.outcome.unwrap_err().to_string();
        assert!(said.contains("d1: ") && !said.contains("d0: "), "{said}");
        streams[1].write(&target.devices[1]).unwrap();
        let (started, _) = start(&target, in_two);
        let said = started.outcome.unwrap_err().to_string();
        assert!(said.contains("LOAD_LOADED was not entered"), "{said}");
    }
}

#[test]
fn without_a_migration_it_is_a_pause_and_a_resume() {
    for mix in all_mixes() {
        for (in_two, hand_over) in [(false, false), (true, false), (true, true)] {
            let rig = Rig::source(&mix, 0);
            let (stopped, _) = stop(&rig, in_two, hand_over);
            stopped.outcome.unwrap();
            assert!(stopped.action == SwitchAction::Paused && all(&rig, |state| state == State::Stop));
            let (started, _) = start(&rig, in_two);
            started.outcome.unwrap();
            assert!(started.action == SwitchAction::Resumed && all(&rig, |state| state == State::Running));
            rig.assert_clean("no migration");
            rig::assert_barriers(&rig.fakes);
        }
    }
}

/// Each request of the devices fails once: the VM can be started again, and then all devices run.
#[test]
fn a_save_whose_hand_over_fails_starts_again() {
    let mix = [both(), both(), Config::v2(Caps { p2p: true, pre_copy: false }).state_size(3000)];
    for device in 0..mix.len() {
        for nth in 0..3 {
            for in_two in [false, true] {
                let rig = Rig::source(&mix, 1);
                let save = save_in(&rig, Phase::SavePreCopy);
                let nth = rig.fakes[device].count(Access::StateWrite) + nth;
                rig.fakes[device].inject(Fault {
                    access: Access::StateWrite,
                    nth,
                    times: 1,
                    effect: Effect::Errno(libc::EIO),
                });
                let (stopped, _) = stop(&rig, in_two, true);
                let what = format!("d{device} {nth} {in_two}: {:?}", stopped.outcome);
                if in_two && save.phase() == Phase::Failed {
                    // The second half is said all the same, and changes nothing.
                    assert!(stopped.outcome.is_ok() || stopped.action == SwitchAction::Advanced, "{what}");
                }
                let (started, _) = start(&rig, in_two);
                started.outcome.unwrap();
                assert_eq!((save.phase(), started.action), (Phase::Idle, SwitchAction::Aborted), "{what}");
                assert!(all(&rig, |state| state == State::Running), "{what}: {:?}", rig.states());
                rig.assert_clean(&what);
            }
        }
    }
}

#[test]
fn a_failed_migration_of_a_vm_that_is_stopped_comes_to_rest() {
    let mix = [both(), both()];
    let rig = Rig::source(&mix, 1);
    let save = save_in(&rig, Phase::SavePreCopy);
    let nth = rig.fakes[0].count(Access::StateWrite);
    rig.fakes[0].inject(Fault { access: Access::StateWrite, nth, times: 1, effect: Effect::Errno(libc::EIO) });
    assert!(save.advance(Phase::SaveStopCopy).is_err());
    // Nothing: the VM that was to be handed over starts again.
    let before = rig.states();
    let (handed, void) = stop(&rig, true, true);
    assert_eq!(
        (handed.outcome.is_ok(), handed.action, rig.states(), void),
        (true, SwitchAction::Nothing, before, vec![])
    );
    let (stopped, void) = stop(&rig, true, false);
    stopped.outcome.unwrap();
    assert_eq!((stopped.action, save.phase(), void), (SwitchAction::Aborted, Phase::Idle, vec![0, 1]));
    assert!(all(&rig, |state| state == State::Stop));
    start(&rig, true).0.outcome.unwrap();
    assert!(all(&rig, |state| state == State::Running));
}

/// A device that does not start fails the load; the VM stops, and no device goes on running in it.
#[test]
fn a_load_that_does_not_start_comes_to_rest_with_the_next_stop() {
    let mix = [both(), both()];
    for in_two in [false, true] {
        let (rig, load) = load_in(&mix, Phase::LoadLoaded);
        let nth = rig.fakes[1].count(Access::StateWrite) + 1;
        rig.fakes[1].inject(Fault { access: Access::StateWrite, nth, times: 1, effect: Effect::Errno(libc::EIO) });
        let (started, _) = start(&rig, in_two);
        let failure = started.outcome.unwrap_err();
        assert_eq!((failure.kind(), load.phase()), (ErrorKind::Device, Phase::Failed), "{failure}");
        let (again, _) = start(&rig, in_two);
        assert_eq!(again.outcome.unwrap_err().to_string(), failure.to_string());
        let (stopped, _) = stop(&rig, in_two, false);
        stopped.outcome.unwrap();
        assert_eq!((stopped.action, load.phase()), (SwitchAction::Aborted, Phase::Idle));
        assert!(all(&rig, |state| state == State::Stop), "{:?}", rig.states());
    }
}

/// A user's stop in the middle of a hand-over is what an abort goes by, the hand-over itself is not.
#[test]
fn an_abort_goes_by_the_users_last_word() {
    for (user, end) in [(false, State::Running), (true, State::Stop)] {
        let rig = Rig::source(&[both(), both()], 1);
        let save = save_in(&rig, Phase::SavePreCopy);
        stop(&rig, true, true).0.outcome.unwrap();
        if user {
            stop(&rig, true, false).0.outcome.unwrap();
        }
        save.abort(AbortTo::RunState).unwrap();
        assert_eq!(rig.states(), [end; 2]);
    }
}

/// A resume that fails may have ended sessions: that comes with the failure.
#[test]
fn void_streams_are_reported_with_a_failure() {
    let rig = Rig::source(&[both(), both()], 1);
    let save = save_in(&rig, Phase::SavePreCopy);
    stop(&rig, false, false).0.outcome.unwrap();
    let nth = rig.fakes[1].count(Access::StateWrite);
    rig.fakes[1].inject(Fault::from(Access::StateWrite, nth, Effect::Errno(libc::EIO)));
    let switched = rig.group.start();
    assert!(switched.outcome.is_err());
    assert_eq!(
        (switched.action, switched.void, save.phase()),
        (SwitchAction::Resumed, vec![0, 1], Phase::SaveTracking)
    );
    rig.fakes[1].clear_faults();
    rig.group.start().outcome.unwrap();
}
