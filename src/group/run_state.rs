//! The VM stops and starts: one word of the VMM, in two halves, whatever the group is in the middle of.

use super::members::{Group, GroupInner};
use super::plan::{self, Rest};
use super::switch::{Switch, SwitchAction, SwitchTo, Switched};
use crate::error::Result;

impl Group {
    /// The first half of [`stop`](Self::stop): vCPUs are stopped by now. Devices that can are brought to their P2P states,
    /// others still run. *whole; blocks in the kernel for the slowest device.*
    pub fn stop_begin(&self, hand_over: bool) -> Switched {
        self.switch(Switch { to: stop(hand_over), half: true })
    }

    /// The VM stops. `hand_over`: because its guest is handed over, not for its user. Whatever its migration is doing, all
    /// devices stand still afterwards. *whole; blocks in the kernel for the slowest device.*
    ///
    /// Without a migration, and in one as long as that is possible, this is a pause. To hand over a save goes on to STOP_COPY,
    /// and past pre-copy it does so for a user too. A migration that has failed is aborted to STOP, but not in a hand-over,
    /// where the VM starts again.
    pub fn stop(&self, hand_over: bool) -> Switched {
        self.switch(Switch { to: stop(hand_over), half: false })
    }

    /// The first half of [`start`](Self::start): stopped devices that can are brought to their P2P states. *whole; blocks in
    /// the kernel for the slowest device.*
    pub fn start_begin(&self) -> Switched {
        self.switch(Switch { to: SwitchTo::Start, half: true })
    }

    /// The VM starts: vCPUs are started after it returns. All devices run, or it fails. *whole; blocks in the kernel for the
    /// slowest device.*
    ///
    /// Without a migration, and in one as long as that is possible, this is a resume, which voids the streams of a save in
    /// pre-copy. A save that is past it, or has failed, is aborted, and a drain in progress in another thread ends for that. What
    /// was loaded runs.
    pub fn start(&self) -> Switched {
        self.switch(Switch { to: SwitchTo::Start, half: false })
    }

    fn switch(&self, switch: Switch) -> Switched {
        let underway = self.underway.read().clone();
        let _hurry = underway.as_ref().and_then(|underway| underway.hurries(switch));
        let mut inner = match self.enter() {
            Ok(inner) => inner,
            Err(error) => return Switched { action: SwitchAction::Nothing, void: Vec::new(), outcome: Err(error) },
        };
        let before = inner.void_streams();
        let underway = inner.underway.clone();
        let (action, outcome) = underway
            .and_then(|underway| underway.switch(&mut inner, switch))
            .unwrap_or_else(|| inner.pause_or_resume(switch));
        let void = inner.void_streams().into_iter().zip(before).map(|(now, before)| now && !before);
        let void = void.enumerate().filter(|(_, void)| *void).map(|(index, _)| index).collect();
        Switched { action, void, outcome }
    }
}

impl GroupInner {
    fn void_streams(&self) -> Vec<bool> {
        self.members.iter().map(|member| member.device.has_void_stream()).collect()
    }

    /// What the group does of itself.
    pub fn pause_or_resume(&mut self, switch: Switch) -> (SwitchAction, Result<()>) {
        let steps = if switch.half { plan::GRACE } else { plan::STEPS };
        match switch.to {
            SwitchTo::Stop | SwitchTo::HandOver => (SwitchAction::Paused, self.rest("stop", Rest::Hold, steps)),
            SwitchTo::Start => (SwitchAction::Resumed, self.rest("start", Rest::Running, steps)),
        }
    }
}

fn stop(hand_over: bool) -> SwitchTo {
    if hand_over { SwitchTo::HandOver } else { SwitchTo::Stop }
}
