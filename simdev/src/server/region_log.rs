//! The log of written pages that belongs to DMA regions: that of v1's DIRTY_PAGES, and of servers that look at no ranges.

use super::quirks::{Quirk, Quirks};
use crate::base::memory::PAGE;
use std::collections::BTreeSet;

/// Pages whose numbers within a region a byte can hold: the index of a server that wraps.
const WRAP: u64 = 256;

#[derive(Default)]
pub(super) struct RegionLog {
    /// Bytes of a page of the log; 0: off.
    pub page_size: u64,
    /// Pages of 4 KiB.
    dirty: BTreeSet<u64>,
}

impl RegionLog {
    pub fn is_on(&self) -> bool {
        self.page_size > 0
    }

    /// EINVAL for another page size than that of a log that is on.
    pub fn start(&mut self, page_size: u64) -> Result<(), i32> {
        if page_size < PAGE || !page_size.is_power_of_two() || (self.is_on() && self.page_size != page_size) {
            return Err(libc::EINVAL);
        }
        self.page_size = page_size;
        Ok(())
    }

    pub fn stop(&mut self) {
        *self = RegionLog::default();
    }

    pub fn record(&mut self, page: u64) {
        if self.is_on() {
            self.dirty.insert(page);
        }
    }

    /// A region is gone.
    pub fn forget(&mut self, iova: u64, size: u64) {
        let gone = iova / PAGE..=iova.saturating_add(size - 1) / PAGE;
        self.dirty.retain(|page| !gone.contains(page));
    }

    /// The bitmap of a range, which is clean afterwards: as many whole words as it has bits for, in the byte order of words.
    pub fn take(&mut self, iova: u64, len: u64, page_size: u64, quirks: &Quirks) -> Vec<u8> {
        let mut words = vec![0u64; len.div_ceil(page_size).div_ceil(64) as usize];
        let wraps = page_size > self.page_size && quirks.has(Quirk::ReportWraps);
        let last = iova.saturating_add(len - 1) / PAGE;
        let found: Vec<u64> = self.dirty.range(iova / PAGE..=last).copied().collect();
        for page in found {
            self.dirty.remove(&page);
            // All of a page of the log is dirty.
            let first = (page * PAGE).max(iova) - iova;
            let first = if wraps { first % (WRAP * PAGE) } else { first };
            let (from, to) =
                (first / self.page_size * self.page_size, first / self.page_size * self.page_size + self.page_size - 1);
            for bit in from / page_size..=to.min(len - 1) / page_size {
                if let Some(word) = words.get_mut(bit as usize / 64) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> RegionLog {
        let mut log = RegionLog::default();
        log.start(PAGE).unwrap();
        log
    }

    fn bits(bitmap: &[u8]) -> Vec<usize> {
        (0..bitmap.len() * 8).filter(|bit| bitmap[bit / 8] >> (bit % 8) & 1 != 0).collect()
    }

    #[test]
    fn what_was_written_is_told_once() {
        let mut log = log();
        [5, 16, 1000].iter().for_each(|page| log.record(*page));
        assert_eq!(bits(&log.take(PAGE, 1000 * PAGE, PAGE, &Quirks::none())), [4, 15, 999]);
        assert_eq!(bits(&log.take(0, 1001 * PAGE, PAGE, &Quirks::none())), [] as [usize; 0]);
    }

    #[test]
    fn a_server_that_wraps_tells_of_another_page() {
        for (quirks, bit) in [(Quirks::none(), 500), (Quirks::none().and(Quirk::ReportWraps), 116)] {
            let mut log = log();
            log.record(1000);
            assert_eq!(bits(&log.take(0, 2048 * PAGE, 2 * PAGE, &quirks)), [bit]);
        }
    }

    #[test]
    fn a_log_of_large_pages_tells_of_all_of_them() {
        let mut log = RegionLog::default();
        log.start(4 * PAGE).unwrap();
        assert_eq!(log.start(PAGE), Err(libc::EINVAL));
        log.record(6);
        assert_eq!(bits(&log.take(0, 8 * PAGE, PAGE, &Quirks::none())), [4, 5, 6, 7]);
    }
}
