//! One log: how it is started, read and stopped, and what it needs when mappings come and go. One file per kind implements it.

use super::ranges::{Span, SpanSet};
use crate::device::dirty::HarvestPatience;
use crate::error::Errno;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest range that is read at once where the log leaves the choice: 128 GiB, 4 MiB of bits at 4 KiB a page. The merge then
/// finds them in the caches, and devices can be read side by side in little memory.
pub(crate) const READ_SHIFT: u32 = 37;

/// What kind of log a tracker reads.
///
/// ```
/// use vfiomig::tracker::LogKind;
/// # use std::sync::Arc;
/// # let space = simdev::Space::new(&simdev::Ram::new());
/// # space.map(simdev::Mapping { iova: 0, size: 1 << 20, ram: 0 }).unwrap();
/// # let hardware = simdev::Device::new(simdev::Config { dma_log: Some(simdev::DmaLog::default()), ..Default::default() });
/// # hardware.attach(&space);
/// # let devices = vec![Arc::new(vfiomig::Device::new(hardware.transport(), Default::default())?)];
/// # let tracker = vfiomig::tracker::Tracker::new(vfiomig::tracker::TrackerOptions { devices, ..Default::default() })?;
/// # let mapped = vfiomig::tracker::IovaRange { iova: 0, size: 1 << 20 };
/// # tracker.map(&[vfiomig::tracker::Mapping { range: mapped, cookie: 7 }])?;
/// # tracker.start()?;
///
/// // A tracker over a device that keeps a log of its own.
/// assert_eq!(tracker.info().kind, LogKind::DmaLog, "{}", tracker.info().reason);
/// assert_eq!(LogKind::DmaLog.name(), "DMA_LOG");
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LogKind {
    /// None: everything is dirty at each harvest.
    Everything = 1,
    /// The container's.
    Type1 = 2,
    /// The devices' own, v2.
    DmaLog = 3,
    /// Hardware page tables.
    Hwpt = 4,
    /// The devices' own, draft.
    Draft = 5,
    /// Functions of the VMM.
    Ops = 6,
}

impl LogKind {
    /// As in `VFIOMIG_TRACKER_*`.
    pub fn name(self) -> &'static str {
        match self {
            LogKind::Everything => "EVERYTHING",
            LogKind::Type1 => "TYPE1",
            LogKind::DmaLog => "DMA_LOG",
            LogKind::Hwpt => "HWPT",
            LogKind::Draft => "DRAFT",
            LogKind::Ops => "OPS",
        }
    }
}

/// The order in which memory is unmapped and its log read (docs/design.md, "The harvest").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnmapOrder {
    /// A device's own log outlives the mapping, and is complete once DMA cannot reach it (P23).
    UnmapThenRead,
    /// One request does both (T7).
    Together,
    /// The bits lie in the page table, or with a server's mapping, and go with the mapping (I9, U-13).
    ReadThenUnmap,
}

/// DMA mappings, as they were mapped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Maps {
    /// First byte → last byte and cookie.
    list: BTreeMap<u64, (u64, u64)>,
    /// The same, neighbours joined.
    pub mapped: SpanSet,
    /// Where mappings may be gone that are known: an unmapping failed.
    pub doubtful: SpanSet,
    /// Any mapping may be gone before the tracker knows it.
    pub all_doubtful: bool,
}

impl Maps {
    pub fn insert(&mut self, span: Span, cookie: u64) {
        self.list.insert(span.first, (span.last, cookie));
        self.mapped.insert(span);
    }

    /// Forgets the mappings within `span`.
    pub fn remove(&mut self, span: Span) {
        let inside: Vec<u64> = self.list.range(span.first..=span.last).map(|(&first, _)| first).collect();
        for first in inside {
            self.list.remove(&first);
        }
        self.mapped.remove(span);
        self.doubtful.remove(span);
    }

    /// Whether exactly this is mapped.
    pub fn has(&self, span: Span) -> bool {
        self.list.get(&span.first).is_some_and(|&(last, _)| last == span.last)
    }

    /// Takes `span` out, also out of the middle of mappings; returns what it took.
    pub fn cut(&mut self, span: Span) -> Vec<(Span, u64)> {
        let touched: Vec<(Span, u64)> = self.overlapping(span).collect();
        for &(whole, cookie) in &touched {
            self.list.remove(&whole.first);
            for rest in Span::without(whole, span) {
                self.list.insert(rest.first, (rest.last, cookie));
            }
        }
        self.mapped.remove(span);
        touched.into_iter().filter_map(|(whole, cookie)| Some((whole.intersect(span)?, cookie))).collect()
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (Span, u64)> + '_ {
        self.list.iter().map(|(&first, &(last, cookie))| (Span { first, last }, cookie))
    }

    /// Mappings that overlap `span`, whole.
    pub fn overlapping(&self, span: Span) -> impl Iterator<Item = (Span, u64)> + '_ {
        let begin = self.list.range(..=span.first).next_back().map_or(span.first, |(&first, _)| first);
        let whole = |(&first, &(last, cookie)): (&u64, &(u64, u64))| (Span { first, last }, cookie);
        self.list.range(begin..=span.last).map(whole).filter(move |(whole, _)| whole.intersect(span).is_some())
    }

    /// A mapping that `span` would cut.
    pub fn cut_by(&self, span: Span) -> Option<Span> {
        self.overlapping(span).map(|(whole, _)| whole).find(|&whole| !span.contains(whole))
    }

    /// `area`, or its mappings one by one if some of them may be gone: each is there as a whole or not at all.
    pub fn one_by_one(&self, area: Span) -> impl Iterator<Item = Span> + '_ {
        let in_doubt = self.all_doubtful || self.doubtful.overlaps(area);
        let mappings = in_doubt.then(|| self.overlapping(area).map(|(whole, _)| whole));
        mappings.into_iter().flatten().chain((!in_doubt).then_some(area))
    }

    /// The mappings within `span`, joined into reads of up to `1 << shift` bytes that cut no mapping; across holes only if
    /// `over_holes`, and only where a mapping begins a multiple of `step` after the read.
    pub fn reads(&self, span: Span, shift: u32, over_holes: bool, step: u64) -> Vec<Span> {
        let most = 1u64.checked_shl(shift).unwrap_or(u64::MAX);
        let mut reads: Vec<Span> = Vec::new();
        for (whole, _) in self.overlapping(span) {
            match reads.last_mut() {
                Some(before)
                    if (over_holes || before.last.checked_add(1) == Some(whole.first))
                        && whole.last.saturating_sub(before.first) < most
                        && whole.first.saturating_sub(before.first).checked_rem(step) == Some(0) =>
                {
                    before.last = whole.last;
                }
                _ => reads.push(whole),
            }
        }
        reads
    }
}

/// One request to a log: a range whose bits begin with bit 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub span: Span,
    /// Bytes of a page, as a power of two.
    pub shift: u32,
}

impl Read {
    pub fn bits(&self) -> u64 {
        self.span.pages(self.shift)
    }

    pub fn words(&self) -> usize {
        usize::try_from(self.bits().div_ceil(64)).unwrap_or(usize::MAX)
    }
}

/// One log. Requests block in the kernel, or in functions of the VMM.
pub(crate) trait Log: Send {
    /// For messages.
    fn describe(&self) -> String;

    /// Whether requests may come from any thread.
    fn any_thread(&self) -> bool {
        true
    }

    /// Clears the log, then logs (N25); one that runs, or that could not be stopped, is stopped before. `page_size` is what the
    /// tracker's owner wants to know at least.
    fn start(&mut self, maps: &Maps, page_size: u64) -> Result<(), Errno>;

    /// It was started, and no RAM was sent until now: what it did not log since is sent anyway.
    fn nothing_was_sent(&mut self) {}

    /// Stops; the log is gone (N26). One that cannot be stopped is stopped by the next call, or by the next start.
    fn stop(&mut self) -> Result<(), Errno>;

    /// The requests that read the whole log once, or the part of it that holds `within`.
    fn reads(&self, maps: &Maps, within: Option<Span>) -> Vec<Read>;

    /// A number for the list of its reads: logs of one address space that give the same number have the same list.
    fn reads_alike(&self) -> Option<u64> {
        None
    }

    /// A harvest begins: its reads come next, and what they wait for comes out of its patience. `all_dirty`: so far every read
    /// reported every mapped page dirty.
    fn begin(&mut self, patience: &Arc<HarvestPatience>, all_dirty: bool) {
        let _ = (patience, all_dirty);
    }

    /// Sets the bits of what was written and clears the log, unless `keep`.
    fn read(&mut self, read: &Read, keep: bool, bitmap: &mut [u64]) -> Result<(), Errno>;

    /// Whether the last read was refused in a way after which the next start does otherwise.
    fn learnt(&self) -> bool {
        false
    }

    /// Whether a read leaves bits of the buffer that are on already, so that several logs can be read into one.
    fn adds_bits(&self) -> bool {
        false
    }

    /// Whether it can be read right after it was started, to find out if reading works at all.
    fn readable_at_start(&self) -> bool {
        true
    }

    /// What it never logs although it is mapped: dirty at each harvest.
    fn blind(&self, maps: &Maps) -> Vec<Span> {
        let _ = maps;
        Vec::new()
    }

    /// Whether a new mapping is logged only after a restart.
    fn needs_restart_for(&self, span: Span) -> bool {
        let _ = span;
        false
    }

    /// Whether a failed read makes all of the log worthless, and a restart mends it (L6).
    fn restarts_after_error(&self) -> bool {
        false
    }

    /// A number if it is known that nothing writes: everything that the log speaks of stands still. Nothing did in between if the
    /// number is the same later.
    fn stands_still(&self) -> Option<u64> {
        None
    }

    /// How many ranges the log holds, and its page size; `None` before it was started.
    fn holds(&self) -> Option<(usize, u64)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, bytes: u64) -> Span {
        Span { first, last: first + bytes - 1 }
    }

    #[test]
    fn reads_cut_no_mapping_and_pass_no_hole_unless_told() {
        let mut maps = Maps::default();
        for (first, bytes) in [(0, 0x1000), (0x1000, 0x3000), (0x8000, 0x1000), (0x9000, 0x10000), (0x20000, 0x1000)] {
            maps.insert(span(first, bytes), first);
        }
        let all = span(0, 1 << 40);
        let areas = [span(0, 0x4000), span(0x8000, 0x11000), span(0x20000, 0x1000)];
        assert_eq!(maps.reads(all, 30, false, 1), areas);
        assert_eq!(maps.reads(all, 30, true, 1), [span(0, 0x21000)]);
        // A mapping longer than the limit is read whole; others join up to it.
        let small = [span(0, 0x4000), span(0x8000, 0x1000), span(0x9000, 0x10000), span(0x20000, 0x1000)];
        assert_eq!(maps.reads(all, 14, true, 1), small);
        assert_eq!(maps.reads(span(0x2000, 0x1000), 30, false, 1), [span(0x1000, 0x3000)]);
        let stepped = [span(0, 0x1000), span(0x1000, 0x3000), span(0x8000, 0x1000), span(0x9000, 0x10000)];
        assert_eq!(maps.reads(span(0, 0x19000), 30, true, 0x10000), stepped);
    }

    #[test]
    fn a_cut_mapping_is_found() {
        let mut maps = Maps::default();
        maps.insert(span(0x1000, 0x2000), 1);
        maps.insert(span(0x8000, 0x1000), 2);
        assert_eq!(maps.cut_by(span(0, 0x10000)), None);
        assert_eq!(maps.cut_by(span(0, 0x2000)), Some(span(0x1000, 0x2000)));
        assert_eq!(maps.cut_by(span(0x2000, 0x10000)), Some(span(0x1000, 0x2000)));
        assert_eq!(maps.cut_by(span(0x4000, 0x1000)), None);
        maps.remove(span(0, 0x4000));
        assert_eq!(maps.iter().collect::<Vec<_>>(), [(span(0x8000, 0x1000), 2)]);
        assert_eq!(maps.mapped.bytes(), 0x1000);
    }
}
