//! Pages of a mapping that were written by messages (U-15). They take as much memory as is written, whatever is mapped.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Words of 64 pages each, by their number; no word is 0.
#[derive(Default)]
pub(super) struct Marks(BTreeMap<u64, u64>);

fn bit(page: u64) -> u64 {
    1u64.checked_shl((page % 64) as u32).unwrap_or(0)
}

impl Marks {
    pub fn set(&mut self, page: u64) {
        *self.0.entry(page / 64).or_default() |= bit(page);
    }

    /// Gives each marked page of `pages`. A mark goes, unless `give` returns true.
    pub fn take(&mut self, pages: RangeInclusive<u64>, mut give: impl FnMut(u64) -> bool) {
        let mut emptied = Vec::new();
        for (&number, word) in self.0.range_mut(pages.start() / 64..=pages.end() / 64) {
            let first = number.saturating_mul(64);
            let marked =
                (first..=first.saturating_add(63)).filter(|page| pages.contains(page) && *word & bit(*page) != 0);
            let gone = marked.filter(|&page| !give(page)).fold(0, |gone, page| gone | bit(page));
            *word &= !gone;
            if *word == 0 {
                emptied.push(number);
            }
        }
        for number in emptied {
            self.0.remove(&number);
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_once_and_only_where_they_were_asked_for() {
        let mut marks = Marks::default();
        [0, 63, 64, 1000, u64::MAX].into_iter().for_each(|page| marks.set(page));
        let mut taken = |pages, stays| {
            let mut found = Vec::new();
            marks.take(pages, |page| {
                found.push(page);
                stays
            });
            found
        };
        assert_eq!(taken(1..=64, true), [63, 64]);
        assert_eq!(taken(1..=64, false), [63, 64]);
        assert_eq!(taken(0..=u64::MAX, false), [0, 1000, u64::MAX]);
        assert!(taken(0..=u64::MAX, false).is_empty());
        assert!(marks.0.is_empty());
    }
}
