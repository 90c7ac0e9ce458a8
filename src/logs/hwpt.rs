//! The log of one hardware page table of iommufd (I1 to I11).

use super::log::{Log, Maps, READ_SHIFT, Read};
use super::ranges::Span;
use crate::error::Errno;
use crate::transport::iommufd::{self as requests, Iommufd, Query};
use std::sync::Arc;

/// A page table that the VMM made with dirty tracking.
pub(crate) struct Hwpt {
    iommufd: Arc<dyn Iommufd>,
    id: u32,
    shift: u32,
    running: bool,
}

impl Hwpt {
    pub fn new(iommufd: Arc<dyn Iommufd>, id: u32) -> Self {
        Hwpt { iommufd, id, shift: 12, running: false }
    }
}

impl Log for Hwpt {
    fn describe(&self) -> String {
        format!("dirty tracking of hwpt {}", self.id)
    }

    /// Once: a second time would clear what was not read (I2); the tracker counts.
    fn start(&mut self, _maps: &Maps, page_size: u64) -> Result<(), Errno> {
        requests::set_tracking(&*self.iommufd, self.id, true)?;
        self.shift = page_size.trailing_zeros();
        self.running = true;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Errno> {
        if self.running {
            requests::set_tracking(&*self.iommufd, self.id, false)?;
        }
        self.running = false;
        Ok(())
    }

    /// Contiguous areas, cut only where mappings meet: a walk ends at a hole without a word (I4), and a page of the table that
    /// begins before the query is forgotten (I5).
    fn reads(&self, maps: &Maps, within: Option<Span>) -> Vec<Read> {
        let all = Span { first: 0, last: u64::MAX };
        let areas = maps.reads(within.unwrap_or(all), READ_SHIFT, false, 1);
        // A page size by which the area cannot be divided is refused (I3).
        let shift =
            |span: Span| (span.first | span.last.wrapping_add(1)).trailing_zeros().clamp(12, self.shift.max(12));
        let mut reads = Vec::with_capacity(areas.len());
        reads.extend(
            areas.into_iter().flat_map(|area| maps.one_by_one(area)).map(|span| Read { span, shift: shift(span) }),
        );
        reads
    }

    fn reads_alike(&self) -> Option<u64> {
        Some(u64::from(self.shift))
    }

    fn read(&mut self, read: &Read, keep: bool, bitmap: &mut [u64]) -> Result<(), Errno> {
        let query = Query {
            hwpt: self.id,
            iova: read.span.first,
            length: read.span.bytes(),
            page_size: 1u64.checked_shl(read.shift).unwrap_or(0),
            keep,
        };
        requests::read(&*self.iommufd, query, bitmap)
    }

    /// The kernel only sets bits (I8).
    fn adds_bits(&self) -> bool {
        true
    }

    fn holds(&self) -> Option<(usize, u64)> {
        self.running.then(|| (1, 1u64.checked_shl(self.shift).unwrap_or(0)))
    }
}
