//! The states of a result: the room `error` knows them as numbers only.

use super::State;
use crate::error::{Action, DeviceResult};

impl DeviceResult {
    /// Where the device was before the step.
    pub fn from_state(&self) -> Option<State> {
        State::from_number(self.from)
    }

    /// Where it was to go.
    pub fn to_state(&self) -> Option<State> {
        State::from_number(self.to)
    }

    /// Where it was found after everything that [`action`](Self::action) names; `None`: its state cannot be read.
    pub fn found_state(&self) -> Option<State> {
        State::from_number(self.found).filter(|_| self.action != Action::Dead)
    }
}
