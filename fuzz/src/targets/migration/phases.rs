//! From phase to phase, and back.

use super::members::Fake;
use super::{Course, LONGEST, MOST};
use crate::clock::call;
use crate::errors::note;
use vfiomig::dialect::{Direction, State};
use vfiomig::error::ErrorKind;
use vfiomig::migration::{AbortTo, Phase};

const PHASES: [Phase; 11] = [
    Phase::SaveTracking,
    Phase::SavePreCopy,
    Phase::SaveViommuGrace,
    Phase::SaveP2pGrace,
    Phase::SaveStopCopy,
    Phase::SaveHalted,
    Phase::LoadResuming,
    Phase::LoadLoaded,
    Phase::LoadP2pGrace,
    Phase::LoadRunning,
    Phase::Idle,
];

impl Course {
    fn next(&self) -> Option<Phase> {
        let (now, loads) = (self.migration.phase(), self.direction == Direction::Load);
        PHASES.into_iter().find(|next| *next > now && (*next >= Phase::LoadResuming) == loads)
    }

    fn all_in(&self, state: State) -> bool {
        self.devices.iter().all(|device| device.state() == state)
    }

    pub(super) fn advance(&mut self, a: u8, b: u8, bare: bool) {
        // Mostly what comes next.
        let any = PHASES[b as usize % 11];
        let to = if a & 7 == 7 { any } else { self.next().unwrap_or(any) };
        let phase = self.migration.phase();
        // Those that were advanced by themselves have left it behind.
        let open = [State::StopCopy, State::Resuming];
        let complete = self.devices.iter().all(|device| device.info().complete || !open.contains(&device.state()));
        let bare = bare && to == Phase::SaveHalted;
        let outcome = call("advance", LONGEST, MOST, || {
            if bare { self.migration.advance_without_harvest() } else { self.migration.advance(to) }
        });
        note(&outcome);
        let now = self.migration.phase();
        match outcome {
            Ok(()) => {
                assert_eq!(now, to);
                match to {
                    _ if phase == to => {}
                    Phase::SaveStopCopy => {
                        self.harvested = false;
                        assert!(self.all_in(State::StopCopy));
                    }
                    Phase::SaveHalted => {
                        assert!(complete, "HALTED before the END of each");
                        assert!(self.harvested || bare, "HALTED without a harvest");
                        assert!(self.all_in(State::Stop));
                    }
                    Phase::LoadLoaded => assert!(complete, "LOADED with streams that are not complete"),
                    Phase::LoadRunning => assert!(self.all_in(State::Running)),
                    _ => {}
                }
                assert!(!self.canceled || phase == to || matches!(to, Phase::SaveHalted | Phase::LoadRunning));
            }
            Err(error) => {
                assert!(now == phase || now == Phase::Failed || now < to, "{now} after {phase} -> {to}: {error}");
                if matches!(error.kind(), ErrorKind::Order | ErrorKind::Argument) && phase != Phase::Failed {
                    let known = error.errno() == libc::ENODEV || !error.results().is_empty();
                    assert!(now != Phase::Failed || known, "{error}");
                }
            }
        }
    }

    pub(super) fn advance_device(&mut self, a: u8, b: u8) {
        let phase = self.migration.phase();
        let device = &self.devices[a as usize % self.devices.len()];
        let to = if b & 7 == 7 { PHASES[b as usize % 11] } else { self.next().unwrap_or(Phase::Idle) };
        let outcome = call("advance_device", LONGEST, MOST, || self.migration.advance_device(device, to));
        note(&outcome);
        if self.migration.phase() == Phase::SaveStopCopy && phase != Phase::SaveStopCopy {
            self.harvested = false;
        }
    }

    pub(super) fn abort(&mut self, a: u8) {
        let to = [AbortTo::Running, AbortTo::Stop, AbortTo::RunState][a as usize % 3];
        let phase = self.migration.phase();
        let own_word = a & 8 != 0;
        let outcome = call("abort", 60, MOST, || {
            if own_word { self.migration.abort_without_second_guest(to) } else { self.migration.abort(to) }
        });
        note(&outcome);
        if let Err(error) = &outcome {
            let now = self.migration.phase();
            assert!(now == Phase::Failed || (now == phase && error.kind() == ErrorKind::Order), "{now}: {error}");
            return;
        }
        assert!(own_word || phase != Phase::SaveHalted, "a second guest may run");
        self.canceled = false;
        assert_eq!(self.migration.phase(), Phase::Idle);
        assert!(self.tracker.info().starts <= self.own_starts, "a tracker runs after abort");
        for member in &self.members {
            let state = member.device.state();
            match to {
                AbortTo::Running => assert_eq!(state, State::Running, "after abort"),
                AbortTo::Stop => assert_eq!(state, State::Stop, "after abort"),
                AbortTo::RunState => assert!(matches!(state, State::Running | State::Stop), "{state} after abort"),
            }
            assert!(!member.device.info().session_open);
            if let (Fake::Sim(sim), false) = (&member.fake, member.broken) {
                assert_eq!(sim.state(), state, "what the handle knows is not true");
            }
        }
    }
}
