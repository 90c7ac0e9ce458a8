//! DMA into guest RAM, its exact log, and the logs a device offers: v2 DMA logging, the draft's dirty pfns.

use crate::bytes::{u32_at, u64_at};
use crate::config::DmaLog;
use crate::judge::Judge;
use crate::space::Space;
use crate::user;
use std::collections::{BTreeMap, BTreeSet};

/// Guest pages.
pub(crate) const PAGE: u64 = 4096;
/// Longest bitmap of one REPORT.
const MOST_BITS: u64 = 1 << 31;

#[derive(Default)]
pub(crate) struct Dma {
    /// Page number → how often it was written.
    pub ram: BTreeMap<u64, u64>,
    /// Pages written since it was taken.
    pub exact: BTreeSet<u64>,
    pub refused: u64,
    /// What its writes go through; without one they go to RAM of its own.
    pub space: Option<Space>,
    /// The draft's own log, while SAVING.
    pub draft: Option<BTreeSet<u64>>,
    pub tracker: Option<Tracker>,
}

/// Device DMA logging, started.
#[derive(Debug)]
pub(crate) struct Tracker {
    page_size: u64,
    ranges: Vec<(u64, u64)>,
    /// Tracking pages.
    dirty: BTreeSet<u64>,
}

impl Dma {
    pub fn write(&mut self, page: u64) -> Result<(), i32> {
        if let Some(space) = &self.space {
            space.write(page)?;
        }
        *self.ram.entry(page).or_insert(0) += 1;
        self.exact.insert(page);
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
}

/// DMA_LOGGING_START, payload {u64 page_size, u32 num_ranges, u32 reserved, u64 ranges*} (L1, L2).
pub(crate) fn start(dma: &mut Dma, judge: &mut Judge, config: &DmaLog, payload: &mut [u8]) -> Result<(), i32> {
    let mut refuse = |rule, text: String, errno| {
        judge.record(rule, text);
        Err(errno)
    };
    if payload.len() < 24 {
        return refuse("P6", format!("DMA_LOGGING_START of {} bytes", payload.len()), libc::EINVAL);
    }
    if dma.tracker.is_some() {
        return refuse("L1", "START while started".into(), libc::EINVAL);
    }
    let hint = u64_at(payload, 0);
    let count = u32_at(payload, 8);
    if !hint.is_power_of_two() {
        return refuse("L2", format!("START with a page size of {hint}"), libc::EINVAL);
    }
    if count == 0 {
        return refuse("L1", "START without ranges".into(), libc::EINVAL);
    }
    if count > config.max_ranges {
        return Err(libc::E2BIG);
    }
    let mut raw = vec![0; count as usize * 16];
    user::read(u64_at(payload, 16), &mut raw)?;
    let mut ranges = Vec::new();
    for entry in raw.chunks_exact(16) {
        let (iova, len) = (u64_at(entry, 0), u64_at(entry, 8));
        let Some(end) = iova.checked_add(len) else {
            return refuse("L2", format!("range {iova:#x} + {len:#x} reaches 2^64"), libc::EOVERFLOW);
        };
        if len == 0 || iova % hint != 0 || len % hint != 0 {
            return refuse("L2", format!("range {iova:#x} + {len:#x} with pages of {hint:#x}"), libc::EINVAL);
        }
        if ranges.iter().any(|&(from, to)| iova < to && end > from) {
            return refuse("L2", format!("range {iova:#x} + {len:#x} overlaps another"), libc::EINVAL);
        }
        ranges.push((iova, end));
    }
    let page_size = config.page_size.max(hint);
    payload[0..8].copy_from_slice(&page_size.to_ne_bytes());
    dma.tracker = Some(Tracker { page_size, ranges, dirty: BTreeSet::new() });
    Ok(())
}

/// DMA_LOGGING_REPORT, payload {u64 iova, length, page_size, bitmap*} (L4, L5, L7). Sets bits, clears the log.
pub(crate) fn report(dma: &mut Dma, judge: &mut Judge, config: &DmaLog, payload: &[u8]) -> Result<(), i32> {
    let mut refuse = |rule, text: String, errno| {
        judge.record(rule, text);
        Err(errno)
    };
    if payload.len() < 32 {
        return refuse("P6", format!("DMA_LOGGING_REPORT of {} bytes", payload.len()), libc::EINVAL);
    }
    let (iova, len, page, bitmap) = (u64_at(payload, 0), u64_at(payload, 8), u64_at(payload, 16), u64_at(payload, 24));
    let Some(tracker) = &mut dma.tracker else {
        return refuse("L5", "REPORT although nothing was started".into(), libc::EINVAL);
    };
    if page < 4096 || !page.is_power_of_two() {
        return refuse("L4", format!("REPORT with a page size of {page}"), libc::EINVAL);
    }
    let Some(end) = iova.checked_add(len).filter(|_| len > 0) else {
        return refuse("L4", format!("REPORT of {iova:#x} + {len:#x}"), libc::EOVERFLOW);
    };
    if !config.report {
        return Err(libc::EOPNOTSUPP);
    }
    let size = tracker.page_size;
    let exact = tracker.ranges.contains(&(iova, end));
    let inside = tracker.ranges.iter().any(|&(from, to)| iova >= from && end <= to);
    let aligned = inside && iova % size == 0 && end % size == 0;
    if !exact && !aligned {
        return refuse("L7", format!("REPORT of {iova:#x} + {len:#x} is no started range"), libc::EINVAL);
    }
    let bits = len.div_ceil(page);
    if bits > MOST_BITS {
        return Err(libc::ENOMEM);
    }
    let mut words = vec![0u8; bits.div_ceil(64) as usize * 8];
    user::read(bitmap, &mut words)?;
    let found: Vec<u64> = tracker.dirty.range(iova / size..end.div_ceil(size)).copied().collect();
    for &tracked in &found {
        // P9: one coarse bit is several fine ones; several fine records are one coarse bit.
        let (from, to) = ((tracked * size).max(iova), tracked.saturating_add(1).saturating_mul(size).min(end));
        for bit in (from - iova) / page..(to - iova).div_ceil(page) {
            words[bit as usize / 8] |= 1 << (bit % 8);
        }
    }
    if cfg!(target_endian = "big") {
        words.chunks_exact_mut(8).for_each(<[u8]>::reverse);
    }
    user::write(bitmap, &words)?;
    for tracked in found {
        tracker.dirty.remove(&tracked);
    }
    Ok(())
}
