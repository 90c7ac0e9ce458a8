//! What a VMM, or somebody else, does to a device beside the migration.

use super::members::Fake;
use super::{Course, MOST};
use crate::clock::call;
use crate::errors::note;
use vfiomig::device::OnFailure;
use vfiomig::dialect::State;

impl Course {
    pub(super) fn beside(&mut self, a: u8, b: u8) {
        let which = a as usize % self.members.len();
        let member = &mut self.members[which];
        let device = &member.device;
        match b % 16 {
            0 => device.close().unwrap_or(()),
            1 => note(&call("reset", 20, MOST, || device.reset())),
            2 => note(&call("reprobe", 20, MOST, || device.reprobe())),
            3 => note(&device.restart_stream()),
            4 => {
                let to = State::ALL[b as usize / 16 % 8];
                note(&call("set_state", 20, MOST, || device.set_state(to, OnFailure::Keep, false)));
            }
            5 => {
                if let Fake::Sim(sim) = &member.fake {
                    sim.clear_faults();
                }
            }
            6 => {
                let outcome = self.tracker.stop();
                note(&outcome);
                assert!(outcome.is_err() || self.own_starts > 0, "somebody else's start was taken back");
                self.own_starts -= u32::from(outcome.is_ok());
            }
            7 => {
                let outcome = self.tracker.start();
                note(&outcome);
                self.own_starts += u32::from(outcome.is_ok());
            }
            _ => {
                member.broken = true;
                note(&call("finish", 1, MOST, || device.finish(None)));
            }
        }
        if let Fake::Hostile(shared) = &member.fake {
            shared.st.lock().finished |= device.info().complete;
        }
    }
}
