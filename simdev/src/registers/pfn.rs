//! The draft's dirty-pfn registers (D8 to D16).

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
