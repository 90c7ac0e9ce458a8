//! v1 of Linux 5.8: pending_bytes starts a segment and acknowledges it (V1-6).

use crate::machine::Machine;

impl Machine {
    pub(crate) fn v1_pending(&mut self) -> u64 {
        if !self.level.saving() {
            self.judge.record("V1-7", "pending_bytes read although not SAVING");
            return 0;
        }
        self.registers.restarted = false;
        if self.registers.staged.is_some() {
            self.acknowledge("V1-6");
        }
        let habits = self.config.habits;
        if habits.one_segment && self.level.running() {
            return self.image;
        }
        if habits.latches_empty && self.registers.empty {
            return 0;
        }
        let left = self.content.pending(self.level.running());
        self.registers.empty = left == 0;
        if habits.one_segment && left > 0 { self.image } else { left }
    }

    /// Stages the next segment; within an iteration the same answer again (V1-6 c).
    pub(crate) fn v1_data_offset(&mut self) -> Result<(), i32> {
        if self.registers.staged.is_some() && !self.registers.restarted {
            return Ok(());
        }
        if !self.registers.started {
            self.judge.record("V1-6", "data_offset read before pending_bytes said that there is data");
            if self.config.habits.strict_iteration {
                return Err(libc::EINVAL);
            }
        }
        self.registers.started = false;
        match (self.config.habits.one_segment, self.level.running()) {
            (false, running) => {
                let bytes = self.content.next_segment(running).unwrap_or_default();
                self.stage(&bytes, false);
            }
            (true, true) => self.stage_nothing(),
            (true, false) => {
                let bytes = self.content.rest();
                self.stage(&bytes, false);
            }
        }
        Ok(())
    }

    /// A write of device_state: the iteration begins anew, though what is in the window can still be read.
    pub(crate) fn v1_restart(&mut self) {
        if self.config.habits.strict_iteration {
            self.registers.started = false;
            self.registers.restarted = self.registers.staged.is_some();
        }
        self.registers.empty = false;
    }
}
