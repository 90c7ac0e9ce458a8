//! A log that the VMM keeps: its functions.

use super::ranged::Keeper;
use super::ranges::IovaRange;
use crate::error::Errno;
use crate::transport::tracker_ops::LogFunctions;
use std::sync::Arc;

impl Keeper for Arc<dyn LogFunctions> {
    fn describe(&self) -> String {
        "log of the VMM".to_string()
    }
    fn any_thread(&self) -> bool {
        (**self).any_thread()
    }
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        (**self).start(page_size, ranges)
    }
    fn report(&self, range: IovaRange, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        (**self).report(range.iova, range.size, page_size, bitmap)
    }
    fn stop(&self) -> Result<(), Errno> {
        (**self).stop()
    }
}
