//! No log at all: whatever is mapped is dirty at each harvest. That is always correct, but a pre-copy of RAM never converges on
//! it.

use super::log::{Log, Maps, Read};
use super::ranges::Span;
use crate::error::Errno;

/// What a tracker falls back to.
pub(crate) struct Everything;

impl Log for Everything {
    fn describe(&self) -> String {
        "no log".to_string()
    }

    fn start(&mut self, _maps: &Maps, _page_size: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    fn reads(&self, _maps: &Maps, _within: Option<Span>) -> Vec<Read> {
        Vec::new()
    }

    fn read(&mut self, _read: &Read, _keep: bool, _bitmap: &mut [u64]) -> Result<(), Errno> {
        Ok(())
    }

    fn blind(&self, maps: &Maps) -> Vec<Span> {
        maps.mapped.iter().collect()
    }
}
