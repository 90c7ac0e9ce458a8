//! What a device's own log of written pages is like.

/// What a DMA log that is on says to START.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The errno: EINVAL, and EEXIST where firmware has the ranges of a log that was left over.
    Refused(i32),
    /// 0: it goes on with the new ranges.
    Taken,
}

/// Device DMA logging (features 6, 7, 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaLog {
    /// The device's tracking page; START answers with the larger of it and the hint.
    pub page_size: u64,
    /// Most ranges of one START.
    pub max_ranges: u32,
    /// Whether REPORT works; else EOPNOTSUPP.
    pub report: bool,
    /// START of fewer bytes, rounded up to a power of two, is EOPNOTSUPP (L3).
    pub min_total: u64,
    /// As `min_total`, of more.
    pub max_total: u64,
    /// REPORT is right only from whole words of a range's bitmap on (L7: pds).
    pub whole_words: bool,
    /// Logging ends when the device leaves STOP_COPY for STOP (L8: pds).
    pub stops_itself: bool,
    /// REPORT replaces what is in the bitmap instead of adding to it, so it wants a bitmap of its own (P10).
    pub overwrites: bool,
    /// The largest tracking page: a hint above it is answered with this (mlx5).
    pub max_page_size: u64,
    /// START answers with the page size that was asked for, whatever is tracked (pds).
    pub echoes_page_size: bool,
    /// START of a range of pages that are no multiple of this is EINVAL (pds: 64).
    pub region_pages: u64,
    /// REPORT of a part of a range is ENOTSUP (libvfio-user).
    pub whole_ranges: bool,
    /// START on a log that is on.
    pub restart: Restart,
    /// REPORT is always 0 and clean, also of a log that was never started (mtty, which writes no memory).
    pub stub: bool,
}

impl Default for DmaLog {
    fn default() -> Self {
        DmaLog {
            page_size: 4096,
            max_ranges: 256,
            report: true,
            min_total: 0,
            max_total: u64::MAX,
            whole_words: false,
            stops_itself: false,
            overwrites: false,
            max_page_size: u64::MAX,
            echoes_page_size: false,
            region_pages: 1,
            whole_ranges: false,
            restart: Restart::Refused(libc::EINVAL),
            stub: false,
        }
    }
}
