//! The walk of a page table that reads its dirty entries (I4, I5).

use super::hwpt::Hwpt;
use super::tables::Tables;
use crate::config::Kernel;

/// What the kernel records of a dirty entry, in pages; it may begin elsewhere than the entry (I5).
pub(super) struct Record {
    pub entry: u64,
    pub first: u64,
    pub pages: u64,
}

/// The dirty entries from `first` to the first hole, where the walk ends without a word (I4).
pub(super) fn walk(tables: &Tables, table: &Hwpt, kernel: Kernel, (first, last): (u64, u64)) -> Vec<Record> {
    let last = match tables.hole(first, last) {
        Some(hole) if hole == first => return Vec::new(),
        Some(hole) => hole - 1,
        None => last,
    };
    let entry = |page: u64| tables.piece(page).map_or((page, 1), |piece| table.entry(page, piece));
    let begin = entry(first).0;
    if kernel == Kernel::V7_3 || begin == first {
        let whole = |&at: &u64| Record { entry: at, first: at, pages: entry(at).1 };
        return table.dirty.range(begin..=last).map(whole).collect();
    }
    // 6.12 goes on by the length of an entry from wherever it is, and records from there.
    let (mut at, mut found) = (first, Vec::new());
    while at <= last {
        let (start, pages) = entry(at);
        if table.dirty.contains(&start) {
            found.push(Record { entry: start, first: at, pages });
        }
        at += pages;
    }
    found
}
