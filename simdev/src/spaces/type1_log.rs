//! What the log of a type1 container knows.

use std::collections::{BTreeMap, BTreeSet};

/// The log, in the address space that it belongs to.
#[derive(Default)]
pub(crate) struct Log {
    pub on: bool,
    pub dirty: BTreeSet<u64>,
    pub pinned: BTreeSet<u64>,
    /// By first page of a mapping: bits behind its last, which a shifted read left in its bitmap.
    pub strays: BTreeMap<u64, BTreeSet<u64>>,
}

impl Log {
    pub fn write(&mut self, page: u64) {
        if self.on {
            self.dirty.insert(page);
        }
    }

    /// A mapping is gone, and what was known of it.
    pub fn remove(&mut self, first: u64, last: u64) {
        self.pinned.retain(|page| !(first..=last).contains(page));
        self.strays.remove(&first);
        self.clear(first, last);
    }

    /// T5: what is pinned may be written at any time, so it is never clean.
    pub fn clear(&mut self, first: u64, last: u64) {
        let reported: Vec<u64> = self.dirty.range(first..=last).copied().collect();
        for page in reported.iter().filter(|page| !self.pinned.contains(page)) {
            self.dirty.remove(page);
        }
    }
}
