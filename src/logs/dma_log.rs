//! A device's own DMA log (L1 to L9).

use super::ranged::Keeper;
use super::ranges::IovaRange;
use crate::device::Device;
use crate::error::Errno;
use std::sync::Arc;

impl Keeper for Arc<Device> {
    fn describe(&self) -> String {
        format!("DMA log of {}", self.name())
    }
    fn any_thread(&self) -> bool {
        Device::any_thread(self)
    }
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        self.dma_log_start(page_size, ranges)
    }
    fn report(&self, range: IovaRange, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        self.dma_log_report(range.iova, range.size, page_size, bitmap)
    }
    fn stop(&self) -> Result<(), Errno> {
        // It went with its handle.
        if self.is_closed() {
            return Ok(());
        }
        self.dma_log_stop()
    }
    fn stands_still(&self) -> Option<u64> {
        Device::stands_still(self)
    }
    fn adds_bits(&self) -> bool {
        self.report_adds_bits()
    }
}
