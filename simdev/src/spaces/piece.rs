//! Mappings and ranges in pages.

use crate::base::memory::PAGE;

/// A mapping, in pages; its first is the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub pages: u64,
    pub ram: u64,
}

impl Piece {
    pub fn ram_page(&self, first: u64, page: u64) -> u64 {
        self.ram + (page - first)
    }
}

/// First and last page.
pub(crate) fn pages_of(iova: u64, size: u64) -> Option<(u64, u64)> {
    let last = iova.checked_add(size.checked_sub(1)?)?;
    ((iova | size) % PAGE == 0).then_some((iova / PAGE, last / PAGE))
}
