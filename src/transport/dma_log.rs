//! Requests to a device's own DMA log (L1 to L9).

use super::host_page::host_page;
use super::{Feature, Transport};
use crate::error::Errno;
use crate::uapi::dma_log as u;
use crate::uapi::feature::{GET, SET};

/// Memory in which a kernel may set bits: it sets some past the last one that was asked for, to the end of the page (I6), and
/// says nothing if it cannot reach the memory (I7). So it must be whole pages.
pub(super) fn check_bitmap(bitmap: &[u64], bits: u64) -> Result<(), Errno> {
    let page = host_page();
    let bytes = size_of_val(bitmap);
    let whole = bytes > 0 && bytes.checked_rem(page) == Some(0) && bitmap.as_ptr().addr().checked_rem(page) == Some(0);
    let enough = (bitmap.len() as u64).saturating_mul(64) >= bits;
    if whole && enough { Ok(()) } else { Err(Errno::new(libc::EINVAL)) }
}

/// Whether the device knows how to log.
pub(crate) fn probe(transport: &dyn Transport) -> bool {
    let mut feature = Feature::new(u::START | SET | u::PROBE, 0);
    transport.device_feature(&mut feature).is_ok()
}

/// Starts to log `ranges` {iova, length}; `page_size` is a hint, the answer is the device's own (L1).
pub fn start(transport: &dyn Transport, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
    let count = u32::try_from(ranges.len()).map_err(|_| Errno::new(libc::E2BIG))?;
    let mut feature = Feature::new(u::START | SET, u::START_SIZE);
    feature.ask_u64(u::START_PAGE_SIZE, page_size);
    feature.ask_u32(u::START_NUM_RANGES, count);
    feature.ask_from(u::START_RANGES, ranges);
    transport.device_feature(&mut feature)?;
    Ok(feature.u64_at(u::START_PAGE_SIZE))
}

/// Stops; the log is gone (N26).
pub fn stop(transport: &dyn Transport) -> Result<(), Errno> {
    transport.device_feature(&mut Feature::new(u::STOP | SET, 0))
}

/// Sets the bits of what was written since the last report, and clears the log (L5). `bitmap` is whole pages.
pub fn report(
    transport: &dyn Transport,
    iova: u64,
    length: u64,
    page_size: u64,
    bitmap: &mut [u64],
) -> Result<(), Errno> {
    if !page_size.is_power_of_two() {
        return Err(Errno::new(libc::EINVAL));
    }
    check_bitmap(bitmap, length.div_ceil(page_size))?;
    let mut feature = Feature::new(u::REPORT | GET, u::REPORT_SIZE);
    feature.ask_u64(u::REPORT_IOVA, iova);
    feature.ask_u64(u::REPORT_LENGTH, length);
    feature.ask_u64(u::REPORT_PAGE_SIZE, page_size);
    feature.ask_into(u::REPORT_BITMAP, bitmap);
    transport.device_feature(&mut feature)
}
