//! The window: where a segment, or a draft's bitmap, is put, and what becomes of it when the client is done.

use crate::machine::Machine;
use crate::registers::Staged;

/// How often the place of data_offset differs before it comes round.
const PLACES: u64 = 4;

impl Machine {
    /// End of the data section.
    pub(super) fn data_end(&self) -> u64 {
        self.config.data_start + self.config.window_size
    }

    pub(super) fn place(&self) -> u64 {
        self.config.data_start + (self.registers.index % PLACES) * self.config.skew
    }

    pub(super) fn elsewhere(&self, offset: u64, len: u64) -> u64 {
        let last = self.data_end() - len;
        if offset == last { self.config.data_start } else { last }
    }

    /// Puts bytes into the window.
    pub(super) fn stage(&mut self, bytes: &[u8], bitmap: bool) {
        let offset = self.place();
        if let Some(region) = &self.region {
            region.put(offset, bytes);
        }
        self.registers.staged = Some(Staged::new(offset, bytes.len() as u64, bitmap));
    }

    /// A segment of no bytes, at no place.
    pub(super) fn stage_nothing(&mut self) {
        self.registers.staged = Some(Staged::new(0, 0, false));
    }

    /// The client is done with what is staged: judges, and makes it useless.
    pub(super) fn acknowledge(&mut self, rule: &'static str) {
        let (Some(staged), Some(region)) = (self.registers.staged.take(), &self.region) else { return };
        if staged.shown_len.is_none() && !staged.bitmap {
            self.judge.record(rule, "acknowledged between data_offset and data_size");
        } else if let Some(text) = staged.unread(region) {
            self.judge.record(rule, format!("acknowledged too early: {text}"));
        }
        if self.config.judge_content {
            region.fill(staged.offset, staged.len);
        }
        self.registers.index += 1;
    }
}
