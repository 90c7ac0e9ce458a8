//! Logs that are started for a list of ranges: a device's DMA log (L1 to L9), and the functions of a VMM.

use super::log::{Log, Maps, READ_SHIFT, Read};
use super::ranges::{Range, Span, SpanSet, fold, split};
use crate::device::Device;
use crate::dialect::State;
use crate::error::Errno;
use crate::transport::tracker_ops::LogFunctions;
use crate::uapi::dma_log::MAX_RANGES;
use std::sync::Arc;

/// Answers to START that differ from what was asked: each makes the page larger or the list shorter, so few are needed.
const MAX_TRIES: usize = 80;
const MIN_PAGE: u64 = 4096;

/// Who keeps the log.
pub(crate) trait Keeper: Send {
    fn describe(&self) -> String;
    fn any_thread(&self) -> bool;
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno>;
    fn report(&self, range: Range, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno>;
    fn stop(&self) -> Result<(), Errno>;
    /// It is known that nothing writes now.
    fn is_quiet(&self) -> bool;
    /// A report leaves bits that are on already.
    fn adds_bits(&self) -> bool {
        false
    }
}

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
    fn report(&self, range: Range, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        self.dma_log_report(range.iova, range.size, page_size, bitmap)
    }
    fn stop(&self) -> Result<(), Errno> {
        self.dma_log_stop()
    }
    fn is_quiet(&self) -> bool {
        matches!(self.state(), State::Stop | State::StopCopy)
    }
    fn adds_bits(&self) -> bool {
        self.report_adds_bits()
    }
}

impl Keeper for Box<dyn LogFunctions> {
    fn describe(&self) -> String {
        "log of the VMM".to_string()
    }
    fn any_thread(&self) -> bool {
        (**self).any_thread()
    }
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        (**self).start(page_size, ranges)
    }
    fn report(&self, range: Range, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        (**self).report(range.iova, range.size, page_size, bitmap)
    }
    fn stop(&self) -> Result<(), Errno> {
        (**self).stop()
    }
    fn is_quiet(&self) -> bool {
        false
    }
}

/// The log and what it was started for.
pub(crate) struct Ranged<K> {
    keeper: K,
    /// Ranges as START took them; empty while nothing is mapped, for no log starts without a range (L1).
    held: SpanSetList,
    /// Mapped, but beyond what any log can hold: the last page below 2^64 (L2).
    blind: Vec<Span>,
    /// The page of the last start.
    shift: u32,
    running: bool,
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
    pub fn new(keeper: K) -> Self {
        Ranged { keeper, held: SpanSetList::default(), blind: Vec::new(), shift: 12, running: false }
    }

    /// Whole pages of `1 << shift` around everything that is mapped, in at most `most` ranges.
    fn ranges(maps: &Maps, shift: u32, most: usize) -> (Vec<Span>, Vec<Span>) {
        let mut wanted: SpanSet = maps.mapped.iter().map(|span| span.aligned_out(shift)).collect();
        let top = Span { first: u64::MAX, last: u64::MAX }.aligned_out(shift);
        let blind: Vec<Span> = maps.mapped.parts(top).collect();
        wanted.remove(top);
        let wanted: Vec<Span> = wanted.iter().collect();
        let folded = fold(&wanted, most);
        // Cut where every page size is whole, so that no cut has to be undone for the device's own.
        (split(&folded, READ_SHIFT.max(shift), most), blind)
    }
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
        let mut most = MAX_RANGES;
        for _ in 0..MAX_TRIES {
            let (ranges, blind) = Self::ranges(maps, shift, most);
            if ranges.is_empty() {
                (self.held, self.blind, self.shift) = (SpanSetList::default(), blind, shift);
                return Ok(());
            }
            let pairs: Vec<[u64; 2]> = ranges.iter().map(|span| [span.first, span.bytes()]).collect();
            let answer = match self.keeper.start(1u64.checked_shl(shift).unwrap_or(0), &pairs) {
                Ok(answer) => answer,
                // Fewer ranges, never fewer pages.
                Err(errno) if errno.get() == libc::E2BIG && ranges.len() > 1 => {
                    most = ranges.len() / 2;
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            let own = power_of_two(answer);
            if let Some(own) = own.filter(|&own| ranges.iter().all(|span| span.is_aligned(own))) {
                (self.held, self.blind, self.shift, self.running) = (SpanSetList::of(ranges), blind, own, true);
                return Ok(());
            }
            // A page that a range cuts has records that begin before the range, and devices forget those (L7).
            self.keeper.stop()?;
            shift = own.filter(|&own| own > shift).ok_or(Errno::new(libc::EPROTO))?;
        }
        Err(Errno::new(libc::EPROTO))
    }

    fn stop(&mut self) -> Result<(), Errno> {
        let running = std::mem::take(&mut self.running);
        (self.held, self.blind) = (SpanSetList::default(), Vec::new());
        if running { self.keeper.stop() } else { Ok(()) }
    }

    fn reads(&self, _maps: &Maps, within: Option<Span>) -> Vec<Read> {
        let wanted = |span: &&Span| within.is_none_or(|within| span.intersect(within).is_some());
        self.held.list.iter().filter(wanted).map(|&span| Read { span, shift: self.shift }).collect()
    }

    fn read(&mut self, read: &Read, _keep: bool, bitmap: &mut [u64]) -> Result<(), Errno> {
        self.keeper.report(read.span.range(), 1u64.checked_shl(read.shift).unwrap_or(0), bitmap)
    }

    fn blind(&self, _maps: &Maps) -> Vec<Span> {
        self.blind.clone()
    }

    fn needs_restart_for(&self, span: Span) -> bool {
        self.held.set.holes(span).iter().any(|hole| !self.blind.iter().any(|blind| blind.contains(*hole)))
    }

    fn restarts_after_error(&self) -> bool {
        true
    }

    fn is_quiet(&self) -> bool {
        self.keeper.is_quiet()
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
        fn report(&self, _: Range, _: u64, _: &mut [u64]) -> Result<(), Errno> {
            Ok(())
        }
        fn stop(&self) -> Result<(), Errno> {
            *self.stops.lock().unwrap() += 1;
            Ok(())
        }
        fn is_quiet(&self) -> bool {
            false
        }
    }

    fn fake(most: usize, page: u64) -> &'static Fake {
        Box::leak(Box::new(Fake { most, page, starts: Mutex::default(), stops: Mutex::default() }))
    }

    fn maps(list: &[(u64, u64)]) -> Maps {
        let mut maps = Maps::default();
        for &(iova, size) in list {
            maps.insert(Span::of(Range { iova, size }).unwrap(), 0);
        }
        maps
    }

    fn started(most: usize, page: u64, list: &[(u64, u64)]) -> (Ranged<&'static Fake>, &'static Fake) {
        let fake = fake(most, page);
        let mut log = Ranged::new(fake);
        log.start(&maps(list), 4096).unwrap();
        (log, fake)
    }

    #[test]
    fn e2big_folds_until_the_device_takes_it() {
        let list: Vec<(u64, u64)> = (0..20).map(|i| (i * 0x10000, 0x1000)).collect();
        let (log, fake) = started(3, 4096, &list);
        let starts = fake.starts.lock().unwrap();
        assert!(starts.last().unwrap().1.len() <= 3 && starts.len() > 1);
        let all = maps(&list);
        assert!(all.mapped.iter().all(|span| log.held.set.contains(span)), "a page got lost");
        assert_eq!(log.reads(&all, None).len(), starts.last().unwrap().1.len());
    }

    #[test]
    fn ranges_are_whole_pages_of_the_device() {
        let (log, fake) = started(256, 0x10000, &[(0x1000, 0x1000), (0x5000, 0x2000), (0x30000, 0x1000)]);
        assert_eq!(fake.starts.lock().unwrap().last().unwrap().0, 0x10000);
        assert_eq!(*fake.stops.lock().unwrap(), 1);
        let reads = log.reads(&Maps::default(), None);
        assert_eq!(
            reads.iter().map(|r| (r.span.first, r.span.bytes(), r.shift)).collect::<Vec<_>>(),
            [(0, 0x10000, 16), (0x30000, 0x10000, 16)]
        );
    }

    #[test]
    fn the_last_page_of_the_space_is_blind() {
        let (log, fake) = started(256, 4096, &[(u64::MAX - 0x2fff, 0x3000)]);
        assert_eq!(fake.starts.lock().unwrap().last().unwrap().1, [[u64::MAX - 0x2fff, 0x2000]]);
        let top = Span { first: u64::MAX - 0xfff, last: u64::MAX };
        assert_eq!(log.blind(&Maps::default()), [top]);
        assert!(!log.needs_restart_for(top));
    }

    #[test]
    fn long_ranges_are_cut_for_reading_and_nothing_mapped_starts_nothing() {
        let (log, _) = started(256, 4096, &[(0, 1 << 40)]);
        assert_eq!(log.reads(&Maps::default(), None).len(), 8);
        let (mut log, fake) = started(256, 4096, &[]);
        assert!(fake.starts.lock().unwrap().is_empty());
        log.stop().unwrap();
        assert_eq!(*fake.stops.lock().unwrap(), 0);
        assert!(log.needs_restart_for(Span { first: 0, last: 4095 }));
    }

    #[test]
    fn an_answer_that_is_no_page_is_refused_and_stopped() {
        for page in [1 << 63 | 1, 3 << 20] {
            let fake = fake(256, page);
            assert_eq!(Ranged::new(fake).start(&maps(&[(0, 0x1000)]), 4096).unwrap_err().get(), libc::EPROTO);
            assert_eq!(*fake.stops.lock().unwrap(), 1);
        }
    }
}
