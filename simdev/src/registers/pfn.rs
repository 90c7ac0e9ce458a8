//! The draft's dirty-pfn registers (D8 to D16).

use crate::base::memory::PAGE;

/// start_pfn, page_size, total_pfns, and how far the range was reported.
#[derive(Debug, Default)]
pub(crate) struct Pfn {
    pub start: u64,
    pub page_size: u64,
    pub total: u64,
    /// Written since copied_pfns was read last.
    pub fresh: bool,
    /// Pfns of the range that were reported.
    pub count: u64,
    /// The bitmap that the next data_offset presents.
    pub ready: Option<Vec<u8>>,
    /// What data_offset presents until pending_bytes is read, where it follows what was asked for last.
    pub shown: Option<Vec<u8>>,
}

impl Pfn {
    /// The pfn behind the range and the range's last byte, since it may end at 2^64; or what is wrong with it.
    pub fn range(&self) -> Result<(u64, u64), String> {
        let (size, end) = (self.page_size, self.start.checked_add(self.total));
        let end = end.ok_or("the range of pfns is beyond 2^64")?;
        let top = end.checked_sub(1).and_then(|last| last.checked_mul(size)?.checked_add(size.checked_sub(1)?));
        let top = top.filter(|_| size >= PAGE && size.is_power_of_two() && self.total > 0);
        let top = top.ok_or_else(|| format!("{} pfns of {size} bytes at {:#x}", self.total, self.start))?;
        Ok((end, top))
    }
}
