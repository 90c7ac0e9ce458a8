//! DMA into guest RAM, its exact log, and the logs a device offers: v2 DMA logging, the draft's dirty pfns.

use crate::bytes::{u32_at, u64_at};
use crate::config::{DmaLog, Restart};
use crate::faults::Effect;
use crate::iova_bitmap::{IovaBitmap, Report};
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
    /// What its writes go through, and the page table if there is one; without they go to RAM of its own.
    pub space: Option<(Space, Option<u32>)>,
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
    page_size: u64,
    ranges: Vec<(u64, u64)>,
    /// Tracking pages.
    dirty: BTreeSet<u64>,
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
    pub fn write(&mut self, page: u64) -> Result<(), i32> {
        if let Some((space, hwpt)) = &self.space {
            space.write(page, *hwpt)?;
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

    /// pds, when the device leaves STOP_COPY (L8).
    pub fn stop_itself(&mut self) {
        self.stopped_itself |= self.tracker.take().is_some();
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
    if let (Some(_), Restart::Refused(errno)) = (&dma.tracker, config.restart) {
        return if dma.client_knows { refuse("L1", "START while started".into(), errno) } else { Err(errno) };
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
        if len.div_ceil(config.page_size) % config.region_pages != 0 {
            return Err(libc::EINVAL);
        }
        ranges.push((iova, end));
    }
    // L3: firmware has sizes of log, in powers of two.
    let total = ranges.iter().map(|(start, end)| u128::from(end - start)).sum::<u128>().next_power_of_two();
    if total < u128::from(config.min_total) || total > u128::from(config.max_total) {
        return Err(libc::EOPNOTSUPP);
    }
    let page_size =
        if config.echoes_page_size { config.page_size } else { config.page_size.max(hint).min(config.max_page_size) };
    let told = if config.echoes_page_size { hint } else { page_size };
    payload[0..8].copy_from_slice(&told.to_ne_bytes());
    let dirty =
        dma.tracker.take().filter(|before| before.page_size == page_size).map_or_else(BTreeSet::new, |t| t.dirty);
    (dma.stopped_itself, dma.client_knows) = (false, true);
    dma.tracker = Some(Tracker { page_size, ranges, dirty });
    Ok(())
}

/// DMA_LOGGING_REPORT, payload {u64 iova, length, page_size, bitmap*} (L4, L5, L7). Sets bits, clears the log.
pub(crate) fn report(
    dma: &mut Dma,
    judge: &mut Judge,
    config: &DmaLog,
    payload: &[u8],
    effect: Option<Effect>,
) -> Result<(), i32> {
    // L6: an error after the log was cleared.
    let moved = if let Some(Effect::ErrnoMoved(errno)) = effect { Some(errno) } else { None };
    let mut refuse = |rule, text: String, errno| {
        judge.record(rule, text);
        Err(errno)
    };
    if payload.len() < 32 {
        return refuse("P6", format!("DMA_LOGGING_REPORT of {} bytes", payload.len()), libc::EINVAL);
    }
    let (iova, len, page, bitmap) = (u64_at(payload, 0), u64_at(payload, 8), u64_at(payload, 16), u64_at(payload, 24));
    if config.stub {
        return moved.map_or(Ok(()), Err);
    }
    if dma.stopped_itself {
        return Err(libc::EINVAL);
    }
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
    if !exact && config.whole_ranges {
        return Err(libc::EOPNOTSUPP);
    }
    if !exact && !aligned {
        return refuse("L7", format!("REPORT of {iova:#x} + {len:#x} is no started range"), libc::EINVAL);
    }
    if len.div_ceil(page) > MOST_BITS {
        return Err(libc::ENOMEM);
    }
    let Some(&(start, _)) = tracker.ranges.iter().find(|(from, to)| iova >= *from && iova < *to) else {
        return Err(libc::EINVAL);
    };
    // pds finds the first bit by whole words: in the middle of one it starts at the next, and reports that under this address.
    let skipped =
        if config.whole_words { ((iova - start) / size).next_multiple_of(64) - (iova - start) / size } else { 0 };
    if skipped > 0 {
        judge.record("L7", format!("REPORT from {iova:#x} is in the middle of a word of the range's bitmap"));
    }
    let found: Vec<u64> = tracker.dirty.range(iova / size..=(end - 1) / size).copied().collect();
    let mut told = IovaBitmap::new(iova, end - 1, page, bitmap);
    let half = if moved.is_some() { found.len() / 2 } else { found.len() };
    for &tracked in &found[..half] {
        let Some(at) = tracked.checked_sub(skipped) else { continue };
        let (first, last) = (at * size, at * size + (size - 1));
        if !told.record(first, last) {
            judge.record("L7", format!("a record at {first:#x} begins below the REPORT from {iova:#x}: lost"));
        }
        if tracker.ranges.iter().any(|&(from, to)| from <= last && to > end && last >= end) {
            judge.record("L7", format!("a record at {first:#x} reaches into the next range: lost there"));
        }
    }
    let how = if config.overwrites { Report::Overwrites } else { Report::Adds };
    told.write(how, judge)?;
    // pds acknowledges whole words: what is dirty behind the end, up to 63 pages, is told by nobody.
    let cleared = if config.whole_words { start + (end - start).next_multiple_of(64 * size) } else { end };
    let eaten: Vec<u64> = tracker.dirty.range(iova / size..=(cleared - 1) / size).copied().collect();
    if eaten.len() > found.len() {
        judge.record(
            "L7",
            format!("REPORT up to {end:#x} ends in the middle of a word: what is dirty behind it is lost"),
        );
    }
    for tracked in eaten {
        tracker.dirty.remove(&tracked);
    }
    moved.map_or(Ok(()), Err)
}
