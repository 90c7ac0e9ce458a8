//! What a page table of an iommufd knows of dirty pages.

use super::piece::Piece;
use std::collections::BTreeSet;

/// The dirty bits of one page table, in the address space that it belongs to.
pub(crate) struct Hwpt {
    pub on: bool,
    /// Most pages of one entry, a power of two.
    pub most: u64,
    /// First pages of entries.
    pub dirty: BTreeSet<u64>,
}

impl Hwpt {
    /// The entry of a page: the largest aligned block within its mapping. An entry never spans two mappings (I5).
    pub fn entry(&self, page: u64, (start, piece): (u64, Piece)) -> (u64, u64) {
        let last = start + (piece.pages - 1);
        let mut size = self.most;
        loop {
            let first = page & !(size - 1);
            if size == 1 || (first >= start && first + (size - 1) <= last) {
                return (first, size);
            }
            size /= 2;
        }
    }

    pub fn write(&mut self, page: u64, piece: (u64, Piece)) {
        if self.on {
            self.dirty.insert(self.entry(page, piece).0);
        }
    }

    /// A mapping is gone, with its entries.
    pub fn remove(&mut self, first: u64, last: u64) {
        let gone: Vec<u64> = self.dirty.range(first..=last).copied().collect();
        for entry in gone {
            self.dirty.remove(&entry);
        }
    }
}
