//! Bitmap to ranges, beside the best of three loops that anybody would write, one reading of the bitmap, and the way of Cloud
//! Hypervisor (`vm-migration`): an iterator over the places of bits, and neighbours put together. All of them are compiled for
//! this machine, as a VMM that is built with `-C target-cpu=native`, and every one has to find the same.

use super::common::{self, Table, is_wanted, steady, timed};
use super::{Memory, Pattern, fill, read};
use crate::for_this_machine;
use std::hint::black_box;
use vfiomig::bitmap;

type Run = (u64, u64);

/// As a Rust VMM that sends batches.
const BATCH: usize = 4096;

/// log2 of the pages, and which are dirty.
const CASES: [(u32, Pattern); 7] = [
    (24, Pattern { name: "0", dirty: 0, run: 1 }),
    (24, Pattern { name: "1 %", dirty: 10_000, run: 1 }),
    (24, Pattern { name: "10 %", dirty: 100_000, run: 1 }),
    (24, Pattern { name: "50 %", dirty: 500_000, run: 1 }),
    (24, Pattern { name: "10 % in 64", dirty: 100_000, run: 64 }),
    (27, Pattern { name: "0.01 %", dirty: 100, run: 1 }),
    (27, Pattern { name: "100 %", dirty: 1_000_000, run: 1 }),
];

/// From one, word by word: the zeroes before a run, then the ones of it.
#[inline(always)]
fn by_ones(words: &[u64], mut give: impl FnMut(Run)) {
    let (mut start, mut len) = (0, 0);
    for (word, at) in words.iter().zip((0..).step_by(64)) {
        let mut word = *word;
        while word != 0 {
            let (zeros, ones) = (word.trailing_zeros(), (word >> word.trailing_zeros()).trailing_ones());
            let found = at + u64::from(zeros);
            if len != 0 && start + len == found {
                len += u64::from(ones);
            } else {
                if len != 0 {
                    give((start, len));
                }
                (start, len) = (found, u64::from(ones));
            }
            word &= u64::MAX.checked_shl(zeros + ones).unwrap_or(0);
        }
    }
    if len != 0 {
        give((start, len));
    }
}

/// From one change to the next.
#[inline(always)]
fn by_edges(words: &[u64], mut give: impl FnMut(Run)) {
    let (mut last, mut start, mut open) = (0, 0, false);
    for (word, at) in words.iter().zip((0..).step_by(64)) {
        let mut edges = word ^ (word << 1 | last);
        last = word >> 63;
        while edges != 0 {
            let found = at + u64::from(edges.trailing_zeros());
            edges &= edges - 1;
            if open {
                give((start, found - start));
            } else {
                start = found;
            }
            open = !open;
        }
    }
    if open {
        give((start, words.len() as u64 * 64 - start));
    }
}

/// The next bit that is on, then the next that is off, as with QEMU's and the kernel's functions.
#[inline(always)]
fn by_search(words: &[u64], mut give: impl FnMut(Run)) {
    let end = words.len() as u64 * 64;
    let next = |from: u64, flip: u64| {
        let mut at = (from / 64) as usize;
        let mut word = words.get(at).map_or(0, |word| (word ^ flip) & u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            let Some(more) = words.get(at) else { return end };
            word = more ^ flip;
        }
        at as u64 * 64 + u64::from(word.trailing_zeros())
    };
    let mut start = next(0, 0);
    while start < end {
        let stop = next(start, u64::MAX);
        give((start, stop - start));
        start = next(stop, 0);
    }
}

/// Cloud Hypervisor's way: the place of each bit.
struct Places<I> {
    words: I,
    word: u64,
    next: u64,
}

impl<I: Iterator<Item = u64>> Iterator for Places<I> {
    type Item = u64;

    #[inline(always)]
    fn next(&mut self) -> Option<u64> {
        while self.word == 0 {
            self.word = self.words.next()?;
            self.next += 64;
        }
        let place = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(self.next - 64 + u64::from(place))
    }
}

/// Neighbours together.
struct Together<I> {
    places: I,
    open: Option<Run>,
}

impl<I: Iterator<Item = u64>> Iterator for Together<I> {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        for place in self.places.by_ref() {
            match &mut self.open {
                Some((start, len)) if *start + *len == place => *len += 1,
                open => {
                    if let Some(done) = open.replace((place, 1)) {
                        return Some(done);
                    }
                }
            }
        }
        self.open.take()
    }
}

#[inline(always)]
fn by_places(words: &[u64]) -> impl Iterator<Item = Run> {
    Together { places: Places { words: words.iter().copied(), word: 0, next: 0 }, open: None }
}

/// Each range is looked at: number and sum of lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen(u64, u64);

impl Seen {
    #[inline(always)]
    fn put(&mut self, run: Run) {
        self.0 += 1;
        self.1 += black_box(run).1;
    }
}

macro_rules! each {
    ($words:ident, $loop:ident) => {{
        let mut seen = Seen::default();
        $loop($words, |run| seen.put(run));
        seen
    }};
}

#[inline(always)]
fn batches(mut runs: impl Iterator<Item = Run>) -> usize {
    let mut all: Vec<Run> = Vec::new();
    loop {
        let before = all.len();
        all.extend(runs.by_ref().take(BATCH));
        if all.len() - before < BATCH {
            return black_box(&all).len();
        }
    }
}

for_this_machine! {
    fn ones(words: &[u64]) -> Seen { each!(words, by_ones) }
    fn edges(words: &[u64]) -> Seen { each!(words, by_edges) }
    fn search(words: &[u64]) -> Seen { each!(words, by_search) }
    fn library(words: &[u64]) -> Seen {
        let mut seen = Seen::default();
        for run in bitmap::runs(words, 0, words.len() as u64 * 64) {
            seen.put(run);
        }
        seen
    }
    fn collected(words: &[u64]) -> usize { batches(bitmap::runs(words, 0, words.len() as u64 * 64)) }
    fn places_collected(words: &[u64]) -> usize { batches(by_places(words)) }
}

pub fn run() {
    let mut table = Table::new("ranges");
    for (log2, pattern) in CASES {
        let log2 = if common::is_test() { 14 } else { log2 };
        let case = format!("ranges, 2^{log2}, {}", pattern.name);
        if !is_wanted(&case) {
            continue;
        }
        let mut memory = Memory::new(1 << (log2 - 6));
        fill(memory.get(), &pattern);
        let words: &[u64] = memory.get();
        let expected = library(words);
        let loops: [fn(&[u64]) -> Seen; 4] = [ones, edges, search, library];
        let ([one, two, three, ours, read, places, collected], noise) = steady(9, |work| match work {
            0..4 => {
                let (time, seen) = timed(|| loops[work](black_box(words)));
                assert_eq!(seen, expected, "a loop found something else");
                time
            }
            4 => timed(|| read(black_box(words))).0,
            _ => {
                let way: fn(&[u64]) -> usize = if work == 5 { places_collected } else { collected };
                let (time, number) = timed(|| way(black_box(words)));
                assert_eq!(number as u64, expected.0);
                time
            }
        });
        let best = one.min(two).min(three);
        table.line(
            &[("dirty", pattern.name), ("pages", &format!("2^{log2}"))],
            &[
                ("ranges", expected.0 as f64),
                ("read us", read * 1e6),
                ("best loop us", best * 1e6),
                ("library us", ours * 1e6),
                ("loop/library", best / ours),
                ("CH's way us", places * 1e6),
                ("collected us", collected * 1e6),
                ("CH's/collected", places / collected),
                ("noise", noise),
            ],
        );
    }
}
