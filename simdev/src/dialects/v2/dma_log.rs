//! Device DMA logging: features 6 to 8 (L1 to L8, P10).

use crate::base::bitmap::{IovaBitmap, Report};
use crate::base::bytes::{u32_at, u64_at};
use crate::base::judge::Judge;
use crate::base::user;
use crate::config::{DmaLog, Restart};
use crate::machine::{Dma, Effect, Tracker, moved};
use std::collections::BTreeSet;

/// Longest bitmap of one REPORT.
const MOST_BITS: u64 = 1 << 31;

/// DMA_LOGGING_START, payload {u64 page_size, u32 num_ranges, u32 reserved, u64 ranges*} (L1, L2).
pub(super) fn start(dma: &mut Dma, judge: &mut Judge, config: &DmaLog, payload: &mut [u8]) -> Result<(), i32> {
    if payload.len() < 24 {
        return judge.refuse("P6", format!("DMA_LOGGING_START of {} bytes", payload.len()), libc::EINVAL);
    }
    if let (Some(_), Restart::Refused(errno)) = (&dma.tracker, config.restart) {
        return if dma.client_knows { judge.refuse("L1", "START while started", errno) } else { Err(errno) };
    }
    let hint = u64_at(payload, 0);
    let count = u32_at(payload, 8);
    if !hint.is_power_of_two() {
        return judge.refuse("L2", format!("START with a page size of {hint}"), libc::EINVAL);
    }
    if count == 0 {
        return judge.refuse("L1", "START without ranges", libc::EINVAL);
    }
    if count > config.max_ranges {
        return Err(libc::E2BIG);
    }
    let mut raw = vec![0; count as usize * 16];
    user::read(u64_at(payload, 16), &mut raw)?;
    let ranges = ranges(judge, config, hint, &raw)?;
    // L3: firmware has sizes of log, in powers of two.
    let total = ranges.iter().map(|(start, end)| u128::from(end - start)).sum::<u128>().next_power_of_two();
    if total < u128::from(config.min_total) || total > u128::from(config.max_total) {
        return Err(libc::EOPNOTSUPP);
    }
    let page_size =
        if config.echoes_page_size { config.page_size } else { config.page_size.max(hint).min(config.max_page_size) };
    let shown = if config.echoes_page_size { hint } else { page_size };
    payload[0..8].copy_from_slice(&shown.to_ne_bytes());
    let dirty =
        dma.tracker.take().filter(|before| before.page_size == page_size).map_or_else(BTreeSet::new, |t| t.dirty);
    (dma.stopped_itself, dma.client_knows) = (false, true);
    dma.tracker = Some(Tracker { page_size, ranges, dirty });
    Ok(())
}

/// {u64 iova, u64 length} as {start, end}.
fn ranges(judge: &mut Judge, config: &DmaLog, hint: u64, raw: &[u8]) -> Result<Vec<(u64, u64)>, i32> {
    let mut ranges = Vec::new();
    for entry in raw.chunks_exact(16) {
        let (iova, len) = (u64_at(entry, 0), u64_at(entry, 8));
        let Some(end) = iova.checked_add(len) else {
            return judge.refuse("L2", format!("range {iova:#x} + {len:#x} reaches 2^64"), libc::EOVERFLOW);
        };
        if len == 0 || iova % hint != 0 || len % hint != 0 {
            return judge.refuse("L2", format!("range {iova:#x} + {len:#x} with pages of {hint:#x}"), libc::EINVAL);
        }
        if ranges.iter().any(|&(from, to)| iova < to && end > from) {
            return judge.refuse("L2", format!("range {iova:#x} + {len:#x} overlaps another"), libc::EINVAL);
        }
        if len.div_ceil(config.page_size) % config.region_pages != 0 {
            return Err(libc::EINVAL);
        }
        ranges.push((iova, end));
    }
    Ok(ranges)
}

/// DMA_LOGGING_REPORT, payload {u64 iova, length, page_size, bitmap*} (L4, L5, L7). Sets bits, clears the log.
pub(super) fn report(
    dma: &mut Dma,
    judge: &mut Judge,
    config: &DmaLog,
    payload: &[u8],
    effect: Option<Effect>,
) -> Result<(), i32> {
    // L6: an error after the log was cleared.
    let moved = moved(effect);
    if payload.len() < 32 {
        return judge.refuse("P6", format!("DMA_LOGGING_REPORT of {} bytes", payload.len()), libc::EINVAL);
    }
    if config.stub {
        return moved.map_or(Ok(()), Err);
    }
    if dma.stopped_itself {
        return Err(libc::EINVAL);
    }
    let Some(tracker) = &mut dma.tracker else {
        return judge.refuse("L5", "REPORT although nothing was started", libc::EINVAL);
    };
    let asked = Asked::of(tracker, judge, config, payload)?;
    let size = tracker.page_size;
    let found: Vec<u64> = tracker.dirty.range(asked.iova / size..=(asked.end - 1) / size).copied().collect();
    let half = if moved.is_some() { found.len() / 2 } else { found.len() };
    asked.tell(tracker, judge, config, &found[..half])?;
    asked.clear(tracker, judge, config, found.len());
    moved.map_or(Ok(()), Err)
}

/// A REPORT that can be answered.
struct Asked {
    iova: u64,
    end: u64,
    page: u64,
    bitmap: u64,
    /// Where the started range begins that it is in.
    start: u64,
}

impl Asked {
    fn of(tracker: &Tracker, judge: &mut Judge, config: &DmaLog, payload: &[u8]) -> Result<Self, i32> {
        let (iova, len, page) = (u64_at(payload, 0), u64_at(payload, 8), u64_at(payload, 16));
        if page < 4096 || !page.is_power_of_two() {
            return judge.refuse("L4", format!("REPORT with a page size of {page}"), libc::EINVAL);
        }
        let Some(end) = iova.checked_add(len).filter(|_| len > 0) else {
            return judge.refuse("L4", format!("REPORT of {iova:#x} + {len:#x}"), libc::EOVERFLOW);
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
            return judge.refuse("L7", format!("REPORT of {iova:#x} + {len:#x} is no started range"), libc::EINVAL);
        }
        if len.div_ceil(page) > MOST_BITS {
            return Err(libc::ENOMEM);
        }
        let range = tracker.ranges.iter().find(|(from, to)| iova >= *from && iova < *to);
        let &(start, _) = range.ok_or(libc::EINVAL)?;
        Ok(Asked { iova, end, page, bitmap: u64_at(payload, 24), start })
    }

    /// Brings tracking pages into the client's bitmap.
    fn tell(&self, tracker: &Tracker, judge: &mut Judge, config: &DmaLog, found: &[u64]) -> Result<(), i32> {
        let (iova, end, size) = (self.iova, self.end, tracker.page_size);
        // pds finds the first bit by whole words: in the middle of one it starts at the next, and reports that under this address.
        let before = (iova - self.start) / size;
        let skipped = if config.whole_words { before.next_multiple_of(64) - before } else { 0 };
        if skipped > 0 {
            judge.record("L7", format!("REPORT from {iova:#x} is in the middle of a word of the range's bitmap"));
        }
        let mut shown = IovaBitmap::new(iova, end - 1, self.page, self.bitmap);
        for &tracked in found {
            let Some(at) = tracked.checked_sub(skipped) else { continue };
            let (first, last) = (at * size, at * size + (size - 1));
            if !shown.record(first, last) {
                judge.record("L7", format!("a record at {first:#x} begins below the REPORT from {iova:#x}: lost"));
            }
            if tracker.ranges.iter().any(|&(from, to)| from <= last && to > end && last >= end) {
                judge.record("L7", format!("a record at {first:#x} reaches into the next range: lost there"));
            }
        }
        shown.write(if config.overwrites { Report::Overwrites } else { Report::Adds }, judge)
    }

    /// What was reported is clean.
    fn clear(&self, tracker: &mut Tracker, judge: &mut Judge, config: &DmaLog, found: usize) {
        let (iova, end, size) = (self.iova, self.end, tracker.page_size);
        // pds acknowledges whole words: what is dirty behind the end, up to 63 pages, is never reported.
        let whole = || self.start + (end - self.start).next_multiple_of(64 * size);
        let cleared = if config.whole_words { whole() } else { end };
        let eaten: Vec<u64> = tracker.dirty.range(iova / size..=(cleared - 1) / size).copied().collect();
        if eaten.len() > found {
            let text = format!("REPORT up to {end:#x} ends in the middle of a word: what is dirty behind it is lost");
            judge.record("L7", text);
        }
        for tracked in eaten {
            tracker.dirty.remove(&tracked);
        }
    }
}
