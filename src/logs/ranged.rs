//! What logs have in common that are started for a list of ranges: `dma_log` and `ops` (L1 to L9).

use super::log::{Log, Maps, READ_SHIFT, Read};
use super::ranges::{IovaRange, PartLimits, Span, SpanSet, fold, parts, split};
use crate::error::Errno;
use crate::uapi::dma_log::MAX_RANGES;

/// Answers to START that differ from what was asked: each makes the page larger, the list shorter or the ranges smaller, so few
/// are needed.
const MAX_TRIES: usize = 80;
/// Up to here ranges that are too many become one less.
const FEW_RANGES: usize = 8;
const MIN_PAGE: u64 = 4096;
/// Ranges of START are rounded out to so many bytes, so that most mappings that come later lie within them.
const GRANULE_SHIFT: u32 = 30;
/// No IOMMU translates many more bits of address.
const LARGEST_GRANULE_SHIFT: u32 = 47;
/// A part that is read begins and ends on whole words of the range's bitmap: pds counts in bytes of it, and clears up to the end
/// of the word (L7).
const PART_SHIFT: u32 = 6;
/// Parts with fewer pages between them are one: so many bits cost less than one more request.
const GAP_SHIFT: u32 = 20;
/// What a log that is read as a whole may need in bits a range: never more than a read of the usual length, or what is mapped.
const USUAL_BITS: u64 = 1 << (READ_SHIFT - 12);

/// Who keeps the log.
pub(super) trait Keeper: Send {
    fn describe(&self) -> String;
    fn any_thread(&self) -> bool;
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno>;
    fn report(&self, range: IovaRange, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno>;
    fn stop(&self) -> Result<(), Errno>;
    /// As a log's.
    fn stands_still(&self) -> Option<u64> {
        None
    }
    /// A report leaves bits that are on already.
    fn adds_bits(&self) -> bool {
        false
    }
}

/// The log and what it was started for.
pub(super) struct Ranged<K> {
    keeper: K,
    /// Where mappings will be, as the VMM said.
    aperture: Vec<Span>,
    /// Ranges as START took them; empty while nothing is mapped, because no log starts without a range (L1).
    held: SpanSetList,
    /// The page of the last start.
    shift: u32,
    /// START was taken, and no STOP since.
    running: bool,
    /// To what ranges are rounded out, as a power of two; 0: to whole pages of the log.
    granule: u32,
    /// Only started ranges can be read, no parts of them.
    whole: bool,
    /// A part was read.
    reads_parts: bool,
    /// What the last read taught has an effect at the next start.
    learnt: bool,
}

#[derive(Default)]
struct SpanSetList {
    list: Vec<Span>,
    set: SpanSet,
}

impl SpanSetList {
    fn of(list: Vec<Span>) -> Self {
        SpanSetList { set: list.iter().copied().collect(), list }
    }
}

impl<K: Keeper> Ranged<K> {
    pub fn new(keeper: K, aperture: &[Span]) -> Self {
        Ranged {
            keeper,
            aperture: aperture.to_vec(),
            held: SpanSetList::default(),
            shift: 12,
            running: false,
            granule: GRANULE_SHIFT,
            whole: false,
            reads_parts: false,
            learnt: false,
        }
    }

    /// Whole pages of `1 << shift` around everything that is mapped, and more where that is allowed, in at most `most` ranges.
    fn ranges(&self, maps: &Maps, shift: u32, most: usize) -> Vec<Span> {
        let words = shift.saturating_add(PART_SHIFT).min(63);
        let generous = self.granule != 0;
        let aperture = self.aperture.iter().filter(|_| generous).map(|span| span.aligned_out(words));
        let mut wanted: SpanSet = aperture.collect();
        let out = if generous { self.granule.max(words) } else { shift };
        for span in maps.mapped.iter().filter(|&span| !generous || !wanted.contains(span)).collect::<Vec<_>>() {
            wanted.insert(span.aligned_out(out));
        }
        wanted.remove(top(shift));
        let wanted: Vec<Span> = wanted.iter().collect();
        let folded = fold(&wanted, most);
        // Cut where every page size is whole, so that no cut has to be undone for the device's own.
        if self.whole { split(&folded, READ_SHIFT.max(shift), most) } else { folded }
    }

    /// Ranges that hold less than those that were refused, if there are any.
    fn less_generous(&mut self) -> bool {
        let before = self.granule;
        self.granule = if before > GRANULE_SHIFT { GRANULE_SHIFT } else { 0 };
        before != 0
    }

    /// Whether all that is mapped is in the log, or can be in no log.
    fn holds_all(&self, maps: &Maps) -> bool {
        maps.mapped.iter().all(|span| !self.needs_restart_for(span))
    }

    /// A device must not decide how much memory is touched: the bitmap of a range follows from what is mapped.
    fn is_readable(&self, maps: &Maps) -> bool {
        if !self.whole {
            return true;
        }
        let mapped = maps.mapped.iter().fold(0u64, |sum, span| sum.saturating_add(span.pages(self.shift)));
        let bound = USUAL_BITS.max(mapped.saturating_mul(2));
        self.held.list.iter().all(|span| span.pages(self.shift) <= bound)
    }

    /// Reads what `read` asks for, and learns nothing from it.
    pub fn report(&self, read: &Read, bitmap: &mut [u64]) -> Result<(), Errno> {
        self.keeper.report(read.span.range(), 1u64.checked_shl(read.shift).unwrap_or(0), bitmap)
    }

    /// STOP, if there is something to stop. One that was refused is remembered.
    fn halt(&mut self) -> Result<(), Errno> {
        if self.running {
            self.keeper.stop()?;
        }
        (self.held, self.running) = (SpanSetList::default(), false);
        Ok(())
    }
}

/// After so many ranges were too many. Where few are left each one counts: folded into one, RAM and a BAR far above
/// it are a range that no device takes (L3).
fn fewer(ranges: usize) -> usize {
    if ranges <= FEW_RANGES { ranges.saturating_sub(1) } else { ranges / 2 }
}

/// The last page below 2^64 is beyond what any log can hold (L2).
fn top(shift: u32) -> Span {
    Span { first: u64::MAX, last: u64::MAX }.aligned_out(shift)
}

fn power_of_two(page_size: u64) -> Option<u32> {
    (page_size.is_power_of_two() && page_size >= MIN_PAGE).then(|| page_size.trailing_zeros())
}

impl<K: Keeper> Log for Ranged<K> {
    fn describe(&self) -> String {
        self.keeper.describe()
    }

    fn any_thread(&self) -> bool {
        self.keeper.any_thread()
    }

    fn start(&mut self, maps: &Maps, page_size: u64) -> Result<(), Errno> {
        // What the device answered before it answers again.
        let mut shift = power_of_two(page_size).ok_or(Errno::new(libc::EINVAL))?.max(self.shift);
        if self.running && self.granule != 0 && !self.holds_all(maps) {
            // It grows, so it will grow again: each time twice as much is held, and n mappings restart the log log n times.
            self.granule = self.granule.saturating_add(1).min(LARGEST_GRANULE_SHIFT);
        }
        self.halt()?;
        self.learnt = false;
        let (mut most, mut found_running) = (MAX_RANGES, false);
        for _ in 0..MAX_TRIES {
            let ranges = self.ranges(maps, shift, most);
            if ranges.is_empty() {
                self.shift = shift;
                return Ok(());
            }
            let pairs: Vec<[u64; 2]> = ranges.iter().map(|span| [span.first, span.bytes()]).collect();
            let answer = match self.keeper.start(1u64.checked_shl(shift).unwrap_or(0), &pairs) {
                Ok(answer) => answer,
                Err(errno) => {
                    match errno.get() {
                        // Fewer ranges, never fewer pages.
                        libc::E2BIG if ranges.len() > 1 => most = fewer(ranges.len()),
                        // An earlier user left it running (L1): it is taken over, once. If there was nothing to stop the ranges
                        // are what was refused.
                        libc::EINVAL | libc::EEXIST
                            if !std::mem::replace(&mut found_running, true) && self.keeper.stop().is_ok() => {}
                        // Devices have a largest sum of ranges (L3).
                        libc::EINVAL | libc::EOPNOTSUPP if self.less_generous() => {}
                        _ => return Err(errno),
                    }
                    continue;
                }
            };
            self.running = true;
            let own = power_of_two(answer);
            if let Some(own) = own.filter(|&own| ranges.iter().all(|span| span.is_aligned(own))) {
                (self.held, self.shift) = (SpanSetList::of(ranges), own);
                if self.is_readable(maps) {
                    return Ok(());
                }
                self.halt()?;
                return Err(Errno::new(libc::ENOMEM));
            }
            // A page that a range cuts has records that begin before the range, and devices forget those (L7).
            self.halt()?;
            shift = own.filter(|&own| own > shift).ok_or(Errno::new(libc::EPROTO))?;
        }
        Err(Errno::new(libc::EPROTO))
    }

    fn stop(&mut self) -> Result<(), Errno> {
        (self.granule, self.whole, self.reads_parts) = (GRANULE_SHIFT, false, false);
        self.halt()
    }

    /// Only what is mapped, or asked for, in parts that devices report right (L7): what lies between costs no memory.
    fn reads(&self, maps: &Maps, within: Option<Span>) -> Vec<Read> {
        let page = |span: Span| Read { span, shift: self.shift };
        let held = self.held.list.iter().copied();
        if self.whole {
            let holds = |span: &Span| within.is_none_or(|within| span.intersect(within).is_some());
            return held.filter(holds).map(page).collect();
        }
        let unit = self.shift.saturating_add(PART_SHIFT);
        let limits = PartLimits { unit, gap: self.shift.saturating_add(GAP_SHIFT), most: READ_SHIFT.max(unit) };
        let mut reads = Vec::new();
        for range in held {
            if let Some(within) = range.intersect(within.unwrap_or(Span::ALL)) {
                parts(range, maps.mapped.parts(within), limits, &mut reads);
            }
        }
        reads.into_iter().map(page).collect()
    }

    fn read(&mut self, read: &Read, _keep: bool, bitmap: &mut [u64]) -> Result<(), Errno> {
        let outcome = self.report(read, bitmap);
        let refused = |errno: &Errno| matches!(errno.get(), libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT);
        if outcome.is_ok() {
            self.reads_parts |= !self.held.list.contains(&read.span);
        } else if outcome.is_err_and(|errno| refused(&errno)) && !self.reads_parts && !self.whole {
            // Some servers report started ranges as they are, or nothing.
            (self.whole, self.granule, self.learnt) = (true, 0, true);
        }
        outcome
    }

    fn learnt(&self) -> bool {
        self.learnt
    }

    fn blind(&self, maps: &Maps) -> Vec<Span> {
        maps.mapped.parts(top(self.shift)).collect()
    }

    fn needs_restart_for(&self, span: Span) -> bool {
        self.held.set.holes(span).iter().any(|&hole| !top(self.shift).contains(hole))
    }

    fn restarts_after_error(&self) -> bool {
        true
    }

    fn stands_still(&self) -> Option<u64> {
        self.keeper.stands_still()
    }

    fn adds_bits(&self) -> bool {
        self.keeper.adds_bits()
    }

    fn holds(&self) -> Option<(usize, u64)> {
        self.running.then(|| (self.held.list.len(), 1u64.checked_shl(self.shift).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A keeper that takes at most so many ranges and answers with a page of its own.
    struct Fake {
        most: usize,
        page: u64,
        starts: Mutex<Vec<(u64, Vec<[u64; 2]>)>>,
        stops: Mutex<usize>,
    }

    impl Keeper for &'static Fake {
        fn describe(&self) -> String {
            "fake".into()
        }
        fn any_thread(&self) -> bool {
            true
        }
        fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
            self.starts.lock().unwrap().push((page_size, ranges.to_vec()));
            if ranges.len() > self.most { Err(Errno::new(libc::E2BIG)) } else { Ok(self.page.max(page_size)) }
        }
        fn report(&self, _: IovaRange, _: u64, _: &mut [u64]) -> Result<(), Errno> {
            Ok(())
        }
        fn stop(&self) -> Result<(), Errno> {
            *self.stops.lock().unwrap() += 1;
            Ok(())
        }
    }

    fn fake(most: usize, page: u64) -> &'static Fake {
        Box::leak(Box::new(Fake { most, page, starts: Mutex::default(), stops: Mutex::default() }))
    }

    fn maps(list: &[(u64, u64)]) -> Maps {
        let mut maps = Maps::default();
        for &(iova, size) in list {
            maps.insert(Span::of(IovaRange { iova, size }).unwrap(), 0);
        }
        maps
    }

    fn started(most: usize, page: u64, list: &[(u64, u64)]) -> (Ranged<&'static Fake>, &'static Fake) {
        let fake = fake(most, page);
        let mut log = Ranged::new(fake, &[]);
        log.start(&maps(list), 4096).unwrap();
        (log, fake)
    }

    const GIB: u64 = 1 << 30;

    fn spans(reads: Vec<Read>) -> Vec<(u64, u64, u32)> {
        reads.iter().map(|read| (read.span.first, read.span.bytes(), read.shift)).collect()
    }

    #[test]
    fn e2big_folds_until_the_device_takes_it() {
        let list: Vec<(u64, u64)> = (0..20).map(|i| (i * 8 * GIB, 0x1000)).collect();
        let (log, fake) = started(3, 4096, &list);
        let starts = fake.starts.lock().unwrap();
        assert!(starts.last().unwrap().1.len() <= 3 && starts.len() > 1);
        let all = maps(&list);
        assert!(all.mapped.iter().all(|span| log.held.set.contains(span)), "a page got lost");
        // What is mapped is read, whole words of it, and not what lies between.
        let words: Vec<(u64, u64, u32)> = list.iter().map(|&(iova, _)| (iova, 64 * 4096, 12)).collect();
        assert_eq!(spans(log.reads(&all, None)), words);
    }

    /// RAM in two parts and a BAR far above it, for a device that takes two ranges.
    #[test]
    fn few_ranges_become_one_less() {
        let list: Vec<(u64, u64)> = (0..FEW_RANGES as u64).map(|i| (i * i * 8 * GIB, 0x1000)).collect();
        for most in 1..=FEW_RANGES {
            let (log, _) = started(most, 4096, &list);
            assert_eq!(log.held.list.len(), most);
        }
    }

    /// L1, L7: START answers with a page of the device's own, and ranges are whole pages and words of it.
    #[test]
    fn ranges_are_whole_pages_of_the_device() {
        let list = [(0x1000, 0x1000), (5 * GIB, 0x2000), (1000 * GIB, 0x1000)];
        let (log, fake) = started(256, 4 * GIB, &list);
        assert_eq!(fake.starts.lock().unwrap().iter().map(|start| start.0).collect::<Vec<_>>(), [4096, 4 * GIB]);
        assert_eq!(*fake.stops.lock().unwrap(), 1);
        assert_eq!(fake.starts.lock().unwrap().last().unwrap().1, [[0, 256 * GIB], [768 * GIB, 256 * GIB]]);
        assert_eq!(spans(log.reads(&maps(&list), None)), [(0, 256 * GIB, 32), (768 * GIB, 256 * GIB, 32)]);
    }

    #[test]
    fn the_last_page_of_the_space_is_blind() {
        let list = [(u64::MAX - 0x2fff, 0x3000)];
        let (log, fake) = started(256, 4096, &list);
        assert_eq!(fake.starts.lock().unwrap().last().unwrap().1, [[u64::MAX - (GIB - 1), GIB - 0x1000]]);
        let top = Span { first: u64::MAX - 0xfff, last: u64::MAX };
        assert_eq!(log.blind(&maps(&list)), [top]);
        assert!(!log.needs_restart_for(top));
        assert_eq!(spans(log.reads(&maps(&list), None)), [(u64::MAX - 0x3ffff, 0x3f000, 12)]);
    }

    #[test]
    fn long_ranges_are_cut_for_reading_and_nothing_mapped_starts_nothing() {
        let list = [(0, 1 << 40)];
        let (log, fake) = started(256, 4096, &list);
        assert_eq!(fake.starts.lock().unwrap().last().unwrap().1, [[0, 1 << 40]]);
        assert_eq!(log.reads(&maps(&list), None).len(), 8);
        let (mut log, fake) = started(256, 4096, &[]);
        assert!(fake.starts.lock().unwrap().is_empty());
        log.stop().unwrap();
        assert_eq!(*fake.stops.lock().unwrap(), 0);
        assert!(log.needs_restart_for(Span { first: 0, last: 4095 }));
    }

    /// An unmapping reads the words around what is unmapped.
    #[test]
    fn an_unmapping_reads_its_neighbourhood() {
        let list = [(0, 64 * GIB)];
        let (log, _) = started(256, 4096, &list);
        let around = |iova, size| spans(log.reads(&maps(&list), Span::of(IovaRange { iova, size })));
        assert_eq!(around(GIB + 0x5000, 0x1000), [(GIB, 0x40000, 12)]);
        assert_eq!(around(GIB - 0x1000, 0x2000), [(GIB - 0x40000, 0x80000, 12)]);
        assert_eq!(around(64 * GIB, GIB), []);
    }

    #[test]
    fn an_answer_that_is_no_page_is_refused_and_stopped() {
        for page in [1 << 63 | 1, 3 << 20] {
            let fake = fake(256, page);
            assert_eq!(Ranged::new(fake, &[]).start(&maps(&[(0, 0x1000)]), 4096).unwrap_err().get(), libc::EPROTO);
            assert_eq!(*fake.stops.lock().unwrap(), 1);
        }
    }
}
