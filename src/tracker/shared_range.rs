//! Ranges that several logs report on: their reports are put together while they are read, so that each range is merged once
//! however many devices there are.

use super::scratch::{PagePool, Pages, bytes_of};
use crate::bitmap::{self, Move, Words};
use crate::error::Errno;
use crate::logs::log::Read;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Memory of bitmaps that are filled at the same time, in bytes, each of whole pages; a single larger one is taken
/// all the same. Together with the leftovers of a 1 TiB guest (32 MiB) it stays below 80 MiB.
const AT_ONCE: usize = 32 << 20;
/// Most bytes of the bitmaps of a round that has more ranges than workers: short reads share a round, long ones stay in the
/// caches.
const SMALL: usize = 1 << 20;

/// One range, and what was found of it so far.
pub(super) struct SharedRange {
    /// Which address space.
    pub part: usize,
    pub read: Read,
    state: Mutex<SharedRangeState>,
}

#[derive(Default)]
struct SharedRangeState {
    /// At rest here, with the bits of those that have read it. Never two: a thread that would leave a second one puts
    /// them together.
    pages: Option<Pages>,
    /// Sources that have not read it.
    missing: usize,
}

impl SharedRange {
    fn new(part: usize, read: Read, readers: usize) -> Self {
        SharedRange { part, read, state: Mutex::new(SharedRangeState { pages: None, missing: readers }) }
    }

    /// A buffer to read into. One with bits of others only for a log that leaves them on.
    pub fn take(&self, pool: &PagePool, adds: bool) -> Result<Pages, Errno> {
        let begun = if adds { self.state.lock().pages.take() } else { None };
        begun.map_or_else(|| pool.take(self.read.words()), Ok)
    }

    /// One source has read, or never will. Returns whether it was the last one.
    pub fn put(&self, mut pages: Option<Pages>, pool: &PagePool) -> bool {
        let mut state = self.state.lock();
        while let Some(mut one) = pages.take() {
            let Some(mut other) = state.pages.take() else {
                state.pages = Some(one);
                break;
            };
            drop(state);
            self.put_together(&mut other, &mut one);
            pool.give(one);
            pages = Some(other);
            state = self.state.lock();
        }
        state.missing = state.missing.saturating_sub(1);
        state.missing == 0
    }

    /// What all have found.
    pub fn found(&self) -> Option<Pages> {
        self.state.lock().pages.take()
    }

    /// All bits of `from` go to `to`, also those beyond the end that a kernel may have set (I6).
    fn put_together(&self, to: &mut Pages, from: &mut Pages) {
        let (to, from) = (to.room(self.read.words()), from.room(self.read.words()));
        let len = (from.len() as u64).saturating_mul(64);
        let whole = Move { src_shift: 0, skip: 0, len, dst_shift: 0, dst_bit: 0, dst_phase: 0 };
        bitmap::drain(from, Words::Plain(Cell::from_mut(to).as_slice_of_cells()), &whole);
    }
}

/// What one source has to read, in order. Sources that read the same share the list: there may be a million of mappings.
pub(super) struct Todo {
    pub part: usize,
    reads: Rc<Vec<Read>>,
    /// The first that was not taken.
    next: usize,
}

impl Todo {
    pub fn new(part: usize, reads: Rc<Vec<Read>>) -> Self {
        Todo { part, reads, next: 0 }
    }

    fn front(&self) -> Option<Read> {
        self.reads.get(self.next).copied()
    }

    #[cfg(test)]
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// Nothing more is read.
    pub fn drop_rest(&mut self) {
        self.next = self.reads.len();
    }
}

/// What is read before any thread ends.
pub(super) struct ReadRound {
    pub ranges: Vec<SharedRange>,
    /// By source: the ranges that it reads, in an order in which neighbours do not begin with the same one.
    pub orders: Vec<(usize, Vec<usize>)>,
    /// As many threads as there is memory for; each fills one buffer, and each range keeps one.
    pub workers: usize,
}

/// Takes the next reads off the queues, as many as may be held in memory at once; at least one. `None`: nothing is left.
pub(super) fn next_round(todo: &mut [Todo], workers: usize) -> Option<ReadRound> {
    let mut ranges: Vec<SharedRange> = Vec::new();
    let mut orders: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    // What there is to merge, and the memory that it takes.
    let (mut sum, mut held, mut largest, mut threads) = (0usize, 0usize, 0usize, 1usize);
    while let Some((part, read)) = next_read(todo) {
        let (bits, bytes) = (read.words().saturating_mul(8), bytes_of(read.words()));
        if ranges.is_empty() {
            // Memory for one at rest, and one for each thread.
            let most = AT_ONCE.checked_div(bytes).unwrap_or(usize::MAX).saturating_sub(1);
            threads = workers.clamp(1, most.max(1));
        } else {
            let all = held.saturating_add(bytes).saturating_add(largest.max(bytes).saturating_mul(threads));
            let long = ranges.len() >= threads && sum.saturating_add(bits) > SMALL;
            if long || all > AT_ONCE {
                break;
            }
        }
        (sum, held, largest) = (sum.saturating_add(bits), held.saturating_add(bytes), largest.max(bytes));
        let mut readers = 0usize;
        for (source, todo) in todo.iter_mut().enumerate() {
            if todo.part == part && todo.front() == Some(read) {
                todo.next = todo.next.saturating_add(1);
                orders.entry(source).or_default().push(ranges.len());
                readers = readers.saturating_add(1);
            }
        }
        ranges.push(SharedRange::new(part, read, readers));
    }
    let turned = orders.into_iter().enumerate().map(|(turn, (source, mut order))| {
        let by = turn.checked_rem(order.len()).unwrap_or(0);
        order.rotate_left(by);
        (source, order)
    });
    let orders: Vec<_> = turned.collect();
    (!ranges.is_empty()).then(|| ReadRound { workers: threads.min(orders.len()).max(1), ranges, orders })
}

/// The first of all reads that are next.
fn next_read(todo: &[Todo]) -> Option<(usize, Read)> {
    let next = todo.iter().filter_map(|todo| Some((todo.part, todo.front()?)));
    next.min_by_key(|(part, read)| (*part, read.span.first, read.span.last, read.shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::ranges::Span;

    const GIB: u64 = 1 << 30;

    fn read(first: u64, bytes: u64) -> Read {
        Read { span: Span { first, last: first + bytes - 1 }, shift: 12 }
    }

    fn todo(part: usize, reads: impl IntoIterator<Item = Read>) -> Todo {
        Todo::new(part, Rc::new(reads.into_iter().collect()))
    }

    fn rounds(mut todo: Vec<Todo>, workers: usize) -> Vec<ReadRound> {
        std::iter::from_fn(|| next_round(&mut todo, workers)).collect()
    }

    /// Every source reads each of its ranges once, and memory stays within its bound.
    fn judge(rounds: &[ReadRound], asked: &[Vec<Read>]) {
        let mut seen = vec![Vec::new(); asked.len()];
        for round in rounds {
            let memory = |range: &SharedRange| bytes_of(range.read.words());
            let sum: usize = round.ranges.iter().map(memory).sum();
            let largest = round.ranges.iter().map(memory).max().unwrap();
            assert!(sum + largest * round.workers <= AT_ONCE || round.ranges.len() == 1 && round.workers == 1);
            for (source, order) in &round.orders {
                seen[*source].extend(order.iter().map(|&range| round.ranges[range].read));
            }
            for (number, range) in round.ranges.iter().enumerate() {
                let readers = round.orders.iter().filter(|(_, order)| order.contains(&number)).count();
                assert_eq!(range.state.lock().missing, readers);
            }
        }
        for (seen, asked) in seen.iter_mut().zip(asked) {
            seen.sort_by_key(|read| read.span.first);
            assert_eq!(seen, asked);
        }
    }

    #[test]
    fn ranges_of_several_sources_are_one_each() {
        let all: Vec<Read> = (0..8).map(|n| read(n * 128 * GIB, 128 * GIB)).collect();
        for devices in [1, 2, 3, 4, 16] {
            for workers in [1, 2, 4, 16, 64] {
                let asked = vec![all.clone(); devices];
                let rounds = rounds((0..devices).map(|_| todo(0, all.clone())).collect(), workers);
                judge(&rounds, &asked);
                assert_eq!(rounds.iter().map(|round| round.ranges.len()).sum::<usize>(), all.len());
                assert!(rounds.iter().all(|round| round.workers <= devices.min(workers)));
            }
        }
    }

    #[test]
    fn other_address_spaces_pages_and_ranges_are_apart() {
        let other_page = Read { shift: 16, ..read(0, GIB) };
        let asked = vec![vec![read(0, GIB)], vec![read(0, GIB)], vec![other_page], vec![read(GIB, GIB)]];
        let parts = [0, 1, 0, 0];
        let rounds = rounds(parts.iter().zip(&asked).map(|(&part, reads)| todo(part, reads.clone())).collect(), 4);
        judge(&rounds, &asked);
        assert_eq!(rounds.iter().map(|round| round.ranges.len()).sum::<usize>(), 4);
    }

    #[test]
    fn short_reads_share_a_round_and_a_huge_one_has_its_own() {
        let short: Vec<Read> = (0..256).map(|n| read(n * GIB, 1 << 20)).collect();
        assert_eq!(rounds(vec![todo(0, short.clone()), todo(0, short)], 2).len(), 1);
        let huge = vec![read(0, 4096 * GIB), read(4096 * GIB, GIB)];
        let rounds = rounds(vec![todo(0, huge.clone()), todo(0, huge.clone())], 2);
        judge(&rounds, &[huge.clone(), huge]);
        assert_eq!(rounds.len(), 2);
    }

    /// Reads of one page each from many places cost few rounds.
    #[test]
    fn the_pages_of_very_short_reads_are_counted() {
        let asked: Vec<Read> = (0..20_000).map(|n| read(n << 20, 4096)).collect();
        for sources in [1, 2, 4] {
            for workers in [1, 4] {
                let rounds = rounds((0..sources).map(|_| todo(0, asked.clone())).collect(), workers);
                judge(&rounds, &vec![asked.clone(); sources]);
                // Each has a page of the host for its bits.
                assert!(rounds.len() <= bytes_of(1) / 1024, "{}", rounds.len());
            }
        }
    }

    #[test]
    fn neighbours_begin_with_different_ranges() {
        let all: Vec<Read> = (0..4).map(|n| read(n * 128 * GIB, 128 * GIB)).collect();
        let rounds = rounds((0..4).map(|_| todo(0, all.clone())).collect(), 4);
        let firsts: Vec<usize> = rounds[0].orders.iter().map(|(_, order)| order[0]).collect();
        assert_eq!((rounds[0].ranges.len(), firsts), (4, vec![0, 1, 2, 3]));
    }

    #[test]
    fn what_several_found_is_put_together_also_beyond_the_end() {
        let pool = PagePool::default();
        let range = SharedRange::new(0, read(0, 64 << 12), 4);
        let bits_of = |bit: u32, adds: bool| {
            let mut pages = range.take(&pool, adds).unwrap();
            pages.room(1)[0] |= 1 << bit;
            pages.room(1)[511] |= 1 << bit;
            pages
        };
        let (one, two) = (bits_of(0, true), bits_of(1, true));
        assert!(!range.put(Some(one), &pool) && !range.put(Some(two), &pool));
        let three = bits_of(2, true);
        assert!(range.state.lock().pages.is_none(), "a log that adds continues with what is there");
        assert!(!range.put(Some(three), &pool));
        let four = bits_of(3, false);
        assert!(range.state.lock().pages.is_some());
        assert!(range.put(Some(four), &pool));
        let mut found = range.found().unwrap();
        assert_eq!((found.room(1)[0], found.room(1)[511]), (0b1111, 0b1111));
        found.words_mut().fill(0);
    }

    #[test]
    fn one_that_did_not_read_leaves_what_others_found() {
        let pool = PagePool::default();
        let range = SharedRange::new(0, read(0, 1 << 20), 2);
        assert!(!range.put(Some(range.take(&pool, true).unwrap()), &pool));
        assert!(range.put(None, &pool) && range.found().is_some());
    }
}
