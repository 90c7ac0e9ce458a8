//! v1 of Linux 5.8: pending_bytes starts a segment and acknowledges it (V1-6).

use crate::machine::Machine;

impl Machine {
    pub(crate) fn v1_pending(&mut self) -> u64 {
        if !self.level.saving() {
            self.judge.record("V1-7", "pending_bytes read although not SAVING");
            return 0;
        }
        if self.registers.staged.is_some() {
            self.acknowledge("V1-6");
        }
        self.content.pending(self.level.running())
    }

    /// Stages the next segment; within an iteration the same answer again (V1-6 c).
    pub(crate) fn v1_data_offset(&mut self) {
        if self.registers.staged.is_some() {
            return;
        }
        if !self.registers.started {
            self.judge.record("V1-6", "data_offset read before pending_bytes said that there is data");
        }
        self.registers.started = false;
        let bytes = self.content.next_segment(self.level.running()).unwrap_or_default();
        self.stage(&bytes, false);
    }
}
