//! The 2019 draft: pending_bytes is a pure query, data_offset makes the next data and selects the window (D3, D4), the
//! dirty-pfn registers share the window with the device data (D5, D8 to D16).

use crate::base::memory::PAGE;
use crate::config::{Dialect, DraftForm};
use crate::machine::Machine;
use std::collections::BTreeSet;

impl Machine {
    pub(crate) fn draft_pending(&mut self) -> u64 {
        if !self.level.saving() {
            self.judge.record("V1-7", "pending_bytes read although not SAVING");
            return 0;
        }
        if self.registers.pfn.shown.take().is_some() && self.registers.staged.as_ref().is_some_and(|s| s.bitmap) {
            self.acknowledge("D5");
        }
        self.content.pending(self.level.running())
    }

    pub(crate) fn draft_data_offset(&mut self) {
        if let Some(staged) = &self.registers.staged {
            if staged.shown_len.is_none() && !staged.bitmap {
                self.judge.record("D5", "data_offset read again before the data it presented");
                return;
            }
            self.acknowledge("D5");
        }
        if let Some(bitmap) = self.registers.pfn.ready.take() {
            return self.stage(&bitmap, true);
        }
        if let Some(bitmap) = self.registers.pfn.shown.clone() {
            self.judge.record("D3", "data_offset read without pending_bytes after copied_pfns: it shows the bitmap");
            return self.stage(&bitmap, true);
        }
        let bytes = self.content.next_segment(self.level.running()).unwrap_or_else(|| {
            self.judge.record("D3", "data_offset read with nothing pending");
            Vec::new()
        });
        self.stage(&bytes, false);
    }

    pub(crate) fn pfn_write(&mut self, offset: u64, value: u64) {
        let pfn = &mut self.registers.pfn;
        match offset {
            0x20 => pfn.start = value,
            0x28 => pfn.page_size = value,
            _ => pfn.total = value,
        }
        pfn.fresh = true;
    }

    /// D8: this read makes the snapshot; D10: the pfns of this chunk, not of all.
    pub(crate) fn copied_pfns(&mut self) -> Result<u64, i32> {
        let rewrite = matches!(self.config.dialect, Dialect::Draft { form: DraftForm::Rewrite, .. });
        if !self.level.saving() {
            return self.refuse("D8", "copied_pfns read although not SAVING".into(), libc::EINVAL);
        }
        if self.registers.staged.is_some() {
            self.acknowledge("D5");
        }
        if self.config.habits.offset_follows {
            self.registers.pfn.shown = Some(Vec::new());
        }
        let fresh = std::mem::take(&mut self.registers.pfn.fresh);
        if self.registers.pfn.ready.take().is_some() && !fresh {
            self.judge.record("D5", "copied_pfns read again before the bitmap it announced");
        }
        let most = self.config.pfn_buffer;
        let pfn = &mut self.registers.pfn;
        if fresh {
            pfn.count = 0;
        }
        let (end, top) = match pfn.range() {
            Ok(range) => range,
            Err(text) => return self.refuse("D8", text, libc::EINVAL),
        };
        if rewrite && !fresh {
            // D16: the driver has no cursor, so this is the same range again.
            self.judge.record("D16", "copied_pfns read again without the rest of the range");
            pfn.count = 0;
        }
        let (first, left, size) = (pfn.start + pfn.count, pfn.total - pfn.count, pfn.page_size);
        let log = self.dma.draft.get_or_insert_default();
        if first == end || log.range(first * size / PAGE..=top / PAGE).next().is_none() {
            return Ok(0);
        }
        let copied = left.min(most);
        let bitmap = take_bitmap(log, first, copied, size);
        pfn.count += copied;
        if let Some(shown) = &mut pfn.shown {
            shown.clone_from(&bitmap);
        }
        pfn.ready = Some(bitmap);
        Ok(copied)
    }
}

/// The bitmap of `copied` pfns of `size` bytes. D14: what is reported is clean, read or not.
fn take_bitmap(log: &mut BTreeSet<u64>, first: u64, copied: u64, size: u64) -> Vec<u8> {
    let mut words = vec![0u64; copied.div_ceil(64) as usize];
    let pages: Vec<u64> = log.range(first * size / PAGE..(first + copied) * (size / PAGE)).copied().collect();
    for page in pages {
        let bit = page * PAGE / size - first;
        words[bit as usize / 64] |= 1 << (bit % 64);
        log.remove(&page);
    }
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}
