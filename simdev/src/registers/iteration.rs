//! What a v1 or draft driver remembers from one register access to the next.

use super::pfn::Pfn;
use super::region::Region;
use crate::base::ranges::Ranges;

/// Where an iteration over the window stands.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    /// v1: pending_bytes was read and said that there is more.
    pub started: bool,
    /// v1: device_state was written since `staged` was made.
    pub restarted: bool,
    /// v1: pending_bytes said 0.
    pub empty: bool,
    pub staged: Option<Staged>,
    /// RESUMING: what data_offset said, and since then the bytes written.
    pub resume: Option<u64>,
    pub written: Ranges,
    /// Segments so far: the place moves.
    pub index: u64,
    /// One segment was taken, where there is to be one only.
    pub taken: bool,
    /// A fault moved the place of the segment that is to be loaded.
    pub moved: Option<u64>,
    pub pfn: Pfn,
}

/// A segment, or a draft's bitmap, in the window.
#[derive(Debug)]
pub(crate) struct Staged {
    pub offset: u64,
    pub len: u64,
    /// What the client read: the same, but for a fault.
    pub shown: u64,
    pub shown_len: Option<u64>,
    pub read: Ranges,
    pub bitmap: bool,
}

impl Staged {
    /// A segment of which nothing was read, as the client is to read it.
    pub fn new(offset: u64, len: u64, bitmap: bool) -> Self {
        Staged { offset, len, shown: offset, shown_len: None, read: Ranges::default(), bitmap }
    }

    /// What can be seen not to have been read: trapped bytes only. Mapped ones are judged by content.
    pub fn unread(&self, region: &Region) -> Option<String> {
        if !self.honest() {
            return None;
        }
        let at = region.first_unmapped(self.offset, self.offset + self.len, &self.read)?;
        Some(format!("byte {} of {} was not read", at - self.offset, self.len))
    }

    /// A client can be judged only by what it has read.
    fn honest(&self) -> bool {
        self.shown == self.offset && self.shown_len.is_none_or(|len| len == self.len)
    }
}

impl Registers {
    /// A window that closes; the place goes on moving (D4: no assumption).
    pub fn close(&mut self) {
        *self = Registers { index: self.index, ..Registers::default() };
    }
}
