//! What a migration does where the VM stops or starts, as data: run state, direction, phase (docs/vmm-guide.md, "Stop and
//! start").
//!
//! Rules: N28 and V2-9 (ways back), N5 and V2-6 (grace between them, which every act keeps by itself), N18 (a device that runs
//! needs someone who answers it), P12.

use super::Run;
use super::abort::AbortTo;
use super::course::{BY_DEVICE, Course};
use super::sequence::Phase;
use crate::dialect::{Direction, State};
use crate::error::{Error, Result};
use crate::group::{GroupInner, Switch, SwitchAction, SwitchTo};
use Phase::{
    Failed, Idle, LoadLoaded, LoadP2pGrace, LoadResuming, LoadRunning, SaveHalted, SaveP2pGrace, SavePreCopy,
    SaveStopCopy, SaveTracking, SaveViommuGrace,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// As the group alone does: pause or resume, or half of it.
    Rest,
    /// The same of a load that has not begun, which a pause or a resume alone refuses.
    RestUnbegun,
    /// The same, by which what was loaded enters the next phases.
    Run,
    Enter(Phase),
    /// To where the VM goes: RUNNING or STOP.
    Abort,
    Nothing,
    Refuse(&'static str),
    /// It names the devices that have no whole stream yet.
    RefuseUnloaded,
    /// The first failure again.
    Fail,
}

use Act::{Abort, Enter, Fail, Nothing, Refuse, RefuseUnloaded, Rest, RestUnbegun, Run as RunIt};

/// By the VMM's word: to stop, to stop and hand over, to start; each as the first half and as the second.
type Acts = [Act; 6];

const LOADED_HERE: Act = Refuse("the group is being loaded: its guest is not handed over");
const ELSEWHERE: Act =
    Refuse("the guest may run elsewhere: only an abort with VFIOMIG_ABORT_F_NO_SECOND_GUEST lets it run here");

/// Until then a save can be paused and resumed.
const FREE: Acts = [Rest, Rest, Enter(SaveP2pGrace), Enter(SaveStopCopy), Rest, Rest];

/// Direction, phase, whether HALTED was begun.
const ACTS: [(Direction, Phase, bool, Acts); 17] = [
    (Direction::Save, Idle, false, FREE),
    (Direction::Save, SaveTracking, false, FREE),
    (Direction::Save, SavePreCopy, false, FREE),
    // Past pre-copy only STOP_COPY stands still, and only an abort leads back, which has no half.
    (
        Direction::Save,
        SaveViommuGrace,
        false,
        [Enter(SaveP2pGrace), Enter(SaveStopCopy), Enter(SaveP2pGrace), Enter(SaveStopCopy), Nothing, Abort],
    ),
    (
        Direction::Save,
        SaveP2pGrace,
        false,
        [Nothing, Enter(SaveStopCopy), Nothing, Enter(SaveStopCopy), Nothing, Abort],
    ),
    (Direction::Save, SaveStopCopy, false, [Nothing, Nothing, Nothing, Nothing, Nothing, Abort]),
    (Direction::Save, SaveStopCopy, true, [Nothing, Nothing, Nothing, Nothing, ELSEWHERE, ELSEWHERE]),
    (Direction::Save, SaveHalted, true, [Nothing, Nothing, Nothing, Nothing, ELSEWHERE, ELSEWHERE]),
    // The VM that was to be handed over starts again; what failed in the first half is returned once.
    (Direction::Save, Failed, false, [Nothing, Abort, Nothing, Nothing, Nothing, Abort]),
    (Direction::Save, Failed, true, [Nothing, Nothing, Nothing, Nothing, ELSEWHERE, ELSEWHERE]),
    (Direction::Load, Idle, false, [RestUnbegun, RestUnbegun, LOADED_HERE, LOADED_HERE, RestUnbegun, RestUnbegun]),
    (
        Direction::Load,
        LoadResuming,
        false,
        [Nothing, Nothing, LOADED_HERE, LOADED_HERE, RefuseUnloaded, RefuseUnloaded],
    ),
    (Direction::Load, LoadLoaded, false, [Rest, Rest, LOADED_HERE, LOADED_HERE, RunIt, RunIt]),
    (Direction::Load, LoadP2pGrace, false, [Rest, Rest, LOADED_HERE, LOADED_HERE, RunIt, RunIt]),
    (Direction::Load, LoadRunning, false, [Rest, Rest, LOADED_HERE, LOADED_HERE, Rest, Rest]),
    // Some may run by now, in a VM that must not.
    (Direction::Load, Failed, false, [Nothing, Abort, LOADED_HERE, LOADED_HERE, Fail, Fail]),
    (Direction::Load, Failed, true, [Nothing, Abort, LOADED_HERE, LOADED_HERE, Fail, Fail]),
];

fn act(direction: Direction, phase: Phase, halted: bool, switch: Switch) -> Act {
    let row = ACTS.iter().find(|(d, p, h, _)| (*d, *p, *h) == (direction, phase, halted));
    let [stop_begin, stop, hand_over_begin, hand_over, start_begin, start] =
        row.map_or([Fail; 6], |(_, _, _, acts)| *acts);
    match (switch.to, switch.half) {
        (SwitchTo::Stop, true) => stop_begin,
        (SwitchTo::Stop, false) => stop,
        (SwitchTo::HandOver, true) => hand_over_begin,
        (SwitchTo::HandOver, false) => hand_over,
        (SwitchTo::Start, true) => start_begin,
        (SwitchTo::Start, false) => start,
    }
}

impl Course {
    /// The table's act, but where it cannot be done: no phase is entered behind a cancel, and none is left that was begun for
    /// one device.
    fn act_now(&self, run: &Run, phase: Phase, switch: Switch) -> Act {
        match act(self.direction, phase, run.halted, switch) {
            // Nothing else brings the devices of a VM to rest that its user has stopped (N18). An abort has no half.
            Enter(_) if switch.to == SwitchTo::Stop && self.cancel.asked() => {
                if switch.half {
                    Nothing
                } else {
                    Abort
                }
            }
            RestUnbegun if run.partial.is_some() => Refuse(BY_DEVICE),
            act => act,
        }
    }

    pub(super) fn switch_in(&self, inner: &mut GroupInner, switch: Switch) -> Option<(SwitchAction, Result<()>)> {
        // Freed meanwhile: then the group is alone.
        let mut run = self.enter_run().ok()?;
        let phase = if run.shown.error.is_some() { Failed } else { run.entered };
        let act = self.act_now(&run, phase, switch);
        if matches!(act, Enter(_) | Abort | Nothing) {
            run.vm_is(switch);
        }
        match act {
            Rest => None,
            RestUnbegun => {
                drop(run);
                let frozen = inner.frozen.take();
                let done = inner.pause_or_resume(switch);
                inner.frozen = frozen;
                Some(done)
            }
            RunIt => {
                drop(run);
                let (_, done) = inner.pause_or_resume(switch);
                Some((SwitchAction::Advanced, done))
            }
            Enter(to) => Some((SwitchAction::Advanced, self.advance(inner, &mut run, to, false))),
            Abort => {
                let to = if switch.to == SwitchTo::Start { AbortTo::Running } else { AbortTo::Stop };
                Some((SwitchAction::Aborted, self.abort(inner, &mut run, to, false)))
            }
            Nothing => Some((SwitchAction::Nothing, Ok(()))),
            Refuse(why) => {
                let what = if switch.to == SwitchTo::Start { "start" } else { "stop" };
                Some((SwitchAction::Nothing, Err(Error::order(format!("{what} is refused in {phase}: {why}")))))
            }
            RefuseUnloaded => {
                let all = vec![true; inner.members.len()];
                let whole = run.check_streams(inner, LoadLoaded, &all);
                let why = whole.map_or_else(|error| error.to_string(), |()| format!("{LoadLoaded} was not entered"));
                Some((SwitchAction::Nothing, Err(Error::order(format!("start is refused in {phase}: {why}")))))
            }
            Fail => {
                let error = run.shown.error.get().unwrap_or_else(|| Error::order("the migration has failed"));
                Some((SwitchAction::Nothing, Err(error)))
            }
        }
    }
}

impl Run {
    /// What `AbortTo::RunState` goes by. Who hands over is to run again if nothing comes of it.
    fn vm_is(&mut self, switch: Switch) {
        match switch {
            Switch { to: SwitchTo::Stop, .. } => self.origin.fill(State::Stop),
            Switch { to: SwitchTo::Start, half: false } => self.origin.fill(State::Running),
            Switch { to: SwitchTo::Start | SwitchTo::HandOver, .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::course::frozen;
    use super::super::sequence;
    use super::*;

    const TO: [SwitchTo; 3] = [SwitchTo::Stop, SwitchTo::HandOver, SwitchTo::Start];

    fn each(mut check: impl FnMut(Direction, Phase, bool, Switch, Act)) {
        for (direction, phase, halted, _) in ACTS {
            for to in TO {
                for half in [true, false] {
                    let switch = Switch { to, half };
                    check(direction, phase, halted, switch, act(direction, phase, halted, switch));
                }
            }
        }
    }

    #[test]
    fn every_phase_has_one_row() {
        for phase in (0..=Failed.number()).filter_map(Phase::from_number) {
            for direction in [Direction::Save, Direction::Load] {
                let other = if direction == Direction::Save { "LOAD" } else { "SAVE" };
                for halted in [false, true] {
                    let rows = ACTS.iter().filter(|row| (row.0, row.1, row.2) == (direction, phase, halted)).count();
                    let can_be = match phase {
                        _ if phase.name().starts_with(other) => false,
                        SaveHalted => halted,
                        SaveStopCopy | Failed => true,
                        _ => !halted,
                    };
                    assert_eq!(rows, usize::from(can_be), "{direction:?} {phase} {halted}");
                }
            }
        }
    }

    /// No act is one that the rest of the library refuses in that phase.
    #[test]
    fn every_act_is_legal_where_it_stands() {
        each(|direction, phase, halted, switch, act| {
            let what = format!("{direction:?} {phase} {halted} {switch:?} {act:?}");
            match act {
                Rest | RunIt => assert_eq!(frozen(direction, phase), None, "{what}"),
                RestUnbegun => assert!(direction == Direction::Load && phase == Idle, "{what}"),
                Enter(to) => assert!(sequence::phases_to(direction, phase, to).is_some(), "{what}"),
                Abort => assert!(!halted && phase != LoadRunning || direction == Direction::Load, "{what}"),
                Nothing | Refuse(_) | RefuseUnloaded | Fail => {}
            }
        });
    }

    /// What a VMM counts on behind each second half, if it succeeds.
    #[test]
    fn behind_a_stop_all_stand_still_and_behind_a_start_all_run() {
        let stands = [SaveStopCopy, SaveHalted, LoadResuming];
        each(|direction, phase, halted, switch, act| {
            let what = format!("{direction:?} {phase} {halted} {switch:?} {act:?}");
            let right = match (switch.to, switch.half, act) {
                (_, _, Refuse(_) | RefuseUnloaded | Fail) => true,
                // No guest that may run elsewhere runs here.
                (SwitchTo::Start, ..) if halted && direction == Direction::Save => false,
                (SwitchTo::Start, false, act) => matches!(act, Rest | RestUnbegun | RunIt | Abort),
                (SwitchTo::Start, true, act) => matches!(act, Rest | RestUnbegun | RunIt | Nothing),
                (_, false, Nothing) => {
                    stands.contains(&phase) || phase == Failed && (halted || switch.to == SwitchTo::HandOver)
                }
                (_, false, act) => matches!(act, Rest | RestUnbegun | Abort | Enter(SaveStopCopy)),
                // No device is stopped while others run (N5): a first half leads to grace at most.
                (_, true, act) => matches!(act, Rest | RestUnbegun | Nothing | Enter(SaveP2pGrace)),
            };
            assert!(right, "{what}");
        });
    }
}
