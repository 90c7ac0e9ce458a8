//! DMA into guest RAM, its exact log, and what the logs that a device offers know: v2 DMA logging, the draft's dirty pfns.

use crate::base::memory::PAGE;
use std::collections::{BTreeMap, BTreeSet};

/// What a device's writes go through on their way to guest RAM.
pub(crate) trait Bus: Send {
    /// Writes one page. EFAULT where nothing is mapped.
    fn write(&self, page: u64) -> Result<(), i32>;
}

#[derive(Default)]
pub(crate) struct Dma {
    /// Page number → how often it was written.
    pub ram: BTreeMap<u64, u64>,
    /// Pages written since it was taken.
    pub exact: BTreeSet<u64>,
    pub refused: u64,
    /// What its writes go through; without they go to RAM of its own.
    pub bus: Option<Box<dyn Bus>>,
    /// The draft's own log, while SAVING.
    pub draft: Option<BTreeSet<u64>>,
    pub tracker: Option<Tracker>,
    /// L8: the client need not know.
    pub stopped_itself: bool,
    /// The client has started it, and did not ask for its end.
    pub client_knows: bool,
}

/// Device DMA logging, started.
#[derive(Debug)]
pub(crate) struct Tracker {
    pub page_size: u64,
    /// {start, end}.
    pub ranges: Vec<(u64, u64)>,
    /// Tracking pages.
    pub dirty: BTreeSet<u64>,
}

impl Tracker {
    /// A log that somebody else has left on.
    pub fn left_over(page_size: u64, ranges: &[(u64, u64)]) -> Self {
        let ranges = ranges.iter().map(|&(start, size)| (start, start + size)).collect();
        Tracker { page_size, ranges, dirty: BTreeSet::new() }
    }

    pub fn ranges(&self) -> Vec<(u64, u64)> {
        self.ranges.iter().map(|&(start, end)| (start, end - start)).collect()
    }
}

impl Dma {
    /// `logged`: the device's own logs hear of it.
    pub fn write(&mut self, page: u64, logged: bool) -> Result<(), i32> {
        if let Some(bus) = &self.bus {
            bus.write(page)?;
        }
        *self.ram.entry(page).or_insert(0) += 1;
        self.exact.insert(page);
        if !logged {
            return Ok(());
        }
        if let Some(log) = &mut self.draft {
            log.insert(page);
        }
        if let Some(t) = &mut self.tracker {
            let iova = page * PAGE;
            if t.ranges.iter().any(|&(start, end)| iova < end && iova + (PAGE - 1) >= start) {
                t.dirty.insert(iova / t.page_size);
            }
        }
        Ok(())
    }

    /// pds, when the device leaves STOP_COPY (L8).
    pub fn stop_itself(&mut self) {
        self.stopped_itself |= self.tracker.take().is_some();
    }
}
