//! A VMM that says that its VM stops and starts, at moments that no ordinary course has: after a cancel, in a phase that was begun
//! device by device, and behind the end of a save that could not be reached.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::Rig;
use simdev::{Access, Config, Effect, Fault, Window};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::ErrorKind;
use vfiomig::group::SwitchAction;
use vfiomig::migration::{AbortTo, EndOptions, Migration, Phase};

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(3000)
}

fn stand(rig: &Rig) -> bool {
    rig.states().into_iter().all(|state| matches!(state, State::Stop | State::StopCopy))
}

/// Past pre-copy a stop goes on to STOP_COPY. A canceled migration goes nowhere, but the VM stands still, and so must its devices.
#[test]
fn a_user_stops_a_vm_whose_migration_was_canceled() {
    for phase in
        [Phase::SaveTracking, Phase::SavePreCopy, Phase::SaveViommuGrace, Phase::SaveP2pGrace, Phase::SaveStopCopy]
    {
        for in_two in [false, true] {
            let rig = Rig::source(&[both(), both()], 1);
            rig.allow_abort();
            let save = rig.save();
            save.advance(phase).unwrap();
            save.cancel();
            if in_two {
                rig.group.stop_begin(false).outcome.unwrap();
            }
            rig.group.stop(false).outcome.unwrap_or_else(|error| panic!("{phase}, in two {in_two}: {error}"));
            assert!(stand(&rig), "{phase}, in two {in_two}: {:?}", rig.states());
            // What the user said last.
            save.abort(AbortTo::RunState).unwrap();
            assert_eq!(rig.states(), [State::Stop; 2], "{phase}");
            rig.group.start().outcome.unwrap();
            assert_eq!(rig.states(), [State::Running; 2], "{phase}");
        }
    }
}

/// Who hands over hears of the cancel, and starts again.
#[test]
fn a_hand_over_of_a_canceled_migration_is_refused_and_the_vm_starts_again() {
    for phase in [Phase::SavePreCopy, Phase::SaveP2pGrace] {
        let rig = Rig::source(&[both(), both()], 1);
        rig.allow_abort();
        let save = rig.save();
        save.advance(phase).unwrap();
        save.cancel();
        let stopped = rig.group.stop(true);
        assert_eq!(stopped.outcome.unwrap_err().kind(), ErrorKind::Canceled, "{phase}");
        rig.group.start().outcome.unwrap();
        assert_eq!(rig.states(), [State::Running; 2], "{phase}");
    }
}

/// A load that was begun for one device only has loaded nothing that runs.
#[test]
fn a_start_runs_no_device_of_a_load_that_was_begun_for_it_alone() {
    let mix = [Config::v1(Window::Trapped).state_size(3000), both()];
    let source = Rig::source(&mix, 1);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&mix, 1);
    let load = target.load();
    load.advance_device(&target.devices[0], Phase::LoadResuming).unwrap();
    for (bytes, segment_end) in &streams[0].parts {
        target.devices[0].write(bytes, *segment_end).unwrap();
    }
    target.devices[0].finish(Some(streams[0].len() as u64)).unwrap();
    for half in [true, false] {
        let started = if half { target.group.start_begin() } else { target.group.start() };
        assert_eq!(started.outcome.unwrap_err().kind(), ErrorKind::Order, "{half}");
        assert_eq!(target.states()[0], State::Resuming, "{half}");
    }
    assert_eq!(load.phase(), Phase::Idle);
    load.advance_device(&target.devices[1], Phase::LoadResuming).unwrap();
    assert_eq!(load.phase(), Phase::LoadResuming);
}

fn ready_for_halted(rig: &Rig) -> Migration {
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    save.save_complete(&[], &mut |_| Ok(())).unwrap();
    rig.harvest();
    save
}

type Loss = fn(&Rig);

/// What keeps a save from HALTED in the last moment.
const LOSSES: [(&str, Loss); 3] = [
    ("the handle of a device was freed", |rig| rig.devices[1].close().unwrap()),
    ("others have moved a device", |rig| rig.fakes[1].reset().unwrap()),
    ("a device does not stop", |rig| {
        rig.fakes[1].inject(Fault::from(Access::StateWrite, 0, Effect::Errno(libc::EIO)));
    }),
];

/// `committed` says that the guest may run at the destination. It runs here only by the caller's word, whatever kept the devices from
/// HALTED.
#[test]
fn behind_a_committed_end_that_failed_no_guest_starts_here() {
    for (loss, lose) in LOSSES {
        let rig = Rig::source(&[both(), both()], 1);
        let save = ready_for_halted(&rig);
        lose(&rig);
        let failure = save.end(true, EndOptions::default()).unwrap_err();
        assert_eq!(save.phase(), Phase::Failed, "{loss}: {failure}");
        let runs = rig.fakes[0].state();
        let started = rig.group.start();
        assert_eq!(started.action, SwitchAction::Nothing, "{loss}");
        assert_eq!(started.outcome.unwrap_err().kind(), ErrorKind::Order, "{loss}");
        assert_eq!(save.abort(AbortTo::Running).unwrap_err().kind(), ErrorKind::Order, "{loss}");
        assert_eq!(save.end(false, EndOptions::default()).unwrap_err().kind(), ErrorKind::Order, "{loss}");
        assert_eq!(rig.fakes[0].state(), runs, "{loss}: nothing was moved");
        let by_word = EndOptions { no_second_guest: true, ..EndOptions::default() };
        rig.fakes[1].clear_faults();
        // The one that is gone is named; the other runs.
        let _ = save.end(false, by_word);
        assert_eq!(rig.fakes[0].state(), State::Running, "{loss}");
    }
}

/// What is refused changes nothing: the save goes on, and may be aborted.
#[test]
fn a_committed_end_that_is_refused_is_none() {
    let rig = Rig::source(&[both(), both()], 1);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    assert_eq!(save.end(true, EndOptions::default()).unwrap_err().kind(), ErrorKind::Order);
    rig.group.start().outcome.unwrap();
    assert_eq!((save.phase(), rig.states()), (Phase::Idle, vec![State::Running; 2]));
}
