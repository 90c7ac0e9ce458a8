//! What REPORT and GET_DIRTY_BITMAP set bits in: the kernel's `iova_bitmap` over a client's memory (I6, I8).

use super::judge::Judge;
use super::user;

/// How a report reaches the client's bitmap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// As the kernel's: what is on stays on (I8, L5), so several can go into one bitmap.
    Adds,
    /// As that of a server which sends its bitmap whole: what was there is lost.
    Overwrites,
}

/// What the kernel reaches at a time, and all of it: it pins whole pages.
const PINNED: u64 = 4096;

pub(crate) struct IovaBitmap {
    iova: u64,
    page: u64,
    address: u64,
    /// Bits that were asked for.
    asked: u64,
    /// Bits to the end of the last page of memory.
    room: u64,
    words: Vec<u64>,
    /// Records went past the end of memory that is not whole pages.
    beyond: bool,
}

impl IovaBitmap {
    /// Over `iova..=last`, which is not empty; `page` is a power of two.
    pub fn new(iova: u64, last: u64, page: u64, address: u64) -> Self {
        let asked = (last - iova) / page + 1;
        let end = address.saturating_add(asked.div_ceil(8));
        let room = if address % PINNED == 0 { (end.next_multiple_of(PINNED) - address) * 8 } else { asked };
        let words = vec![0; room.div_ceil(64) as usize];
        IovaBitmap { iova, page, address, asked, room, words, beyond: false }
    }

    /// What a tracker records, in its own page size. `false`: it begins below the bitmap, and the kernel drops it.
    pub fn record(&mut self, first: u64, last: u64) -> bool {
        let Some(from) = first.checked_sub(self.iova) else { return false };
        let (from, to) = (from / self.page, (last - self.iova) / self.page);
        // Memory that is not whole pages is left alone: what lies behind it is the test's.
        self.beyond |= to >= self.asked && self.room == self.asked;
        for bit in from..=to.min(self.room - 1) {
            self.words[bit as usize / 64] |= 1 << (bit % 64);
        }
        true
    }

    /// Brings the bits into the client's memory. EFAULT: nothing was written.
    pub fn write(self, how: Report, judge: &mut Judge) -> Result<(), i32> {
        let spilled = self.words.iter().rposition(|&word| word != 0).map_or(0, |at| at + 1);
        let asked = self.asked.div_ceil(64) as usize;
        let mut memory = vec![0; asked.max(spilled)];
        user::read_words(self.address, &mut memory)?;
        if how == Report::Overwrites && memory[..asked].iter().any(|&word| word != 0) {
            judge.record("P10", "the bitmap is not zero before the request, and what was in it is lost");
            memory.fill(0);
        }
        if self.beyond {
            judge.record("I6", "records end past a bitmap that is not whole pages");
        }
        for (at, word) in self.words.iter().enumerate().filter(|(_, word)| **word != 0) {
            memory[at] |= word;
        }
        user::write_words(self.address, &memory)
    }
}
