//! Moves between bitmaps. Their limits: memory, that is a loop that reads and writes the same cache lines, knows them beforehand
//! and counts nothing; and for atomic destinations bare locked operations on exactly the words that change, known beforehand too,
//! and one reading of the source, without which nobody knows them.

use super::common::{self, Table, is_wanted, steady, timed};
use super::{Memory, Pattern, RUN, fill, read};
use crate::for_this_machine;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use vfiomig::bitmap::{self, Count, Move, Words};

const RATIO: u32 = 4;

const PATTERNS: [Pattern; 9] = [
    Pattern { name: "0", dirty: 0, run: 1 },
    Pattern { name: "0.01 %", dirty: 100, run: 1 },
    Pattern { name: "1 %", dirty: 10_000, run: 1 },
    Pattern { name: "10 %", dirty: 100_000, run: 1 },
    Pattern { name: "100 %", dirty: 1_000_000, run: 1 },
    Pattern { name: "0.01 % in 2 MiB", dirty: 100, run: RUN },
    Pattern { name: "1 % in 2 MiB", dirty: 10_000, run: RUN },
    Pattern { name: "10 % in 2 MiB", dirty: 100_000, run: RUN },
    Pattern { name: "50 % in 2 MiB", dirty: 500_000, run: RUN },
];

/// A kind of move, for `bits` pages of the finer side.
struct Way {
    name: &'static str,
    src_shift: u32,
    dst_shift: u32,
    dst_bit: u64,
}

const WAYS: [Way; 4] = [
    Way { name: "aligned", src_shift: 12, dst_shift: 12, dst_bit: 0 },
    Way { name: "off by one", src_shift: 12, dst_shift: 12, dst_bit: 1 },
    Way { name: "64 K to 4 K", src_shift: 12 + RATIO, dst_shift: 12, dst_bit: 0 },
    Way { name: "4 K to 64 K", src_shift: 12, dst_shift: 12 + RATIO, dst_bit: 0 },
];

impl Way {
    fn words(&self, bits: u64) -> (usize, usize) {
        let len = bits << 12;
        ((len >> self.src_shift) as usize / 64, (len >> self.dst_shift) as usize / 64 + self.dst_bit as usize)
    }

    /// Whether the destination is what the pattern makes of an empty one. Not the library's algorithms.
    fn is_right(&self, pattern: &[u64], dst: &[u64]) -> bool {
        let lane = |words: &[u64], i: usize| (words[i / 4] >> (i % 4 * 16)) as u16;
        let bit = |words: &[u64], i: usize| words[i / 64] >> (i % 64) & 1 != 0;
        match (self.src_shift, self.dst_shift, self.dst_bit) {
            (12, 12, 0) => pattern == dst,
            (12, 12, _) => (0..dst.len()).all(|i| {
                let below = if i == 0 { 0 } else { pattern[i - 1] >> 63 };
                dst[i] == pattern.get(i).copied().unwrap_or(0) << 1 | below
            }),
            (_, 12, _) => (0..pattern.len() * 64).all(|i| lane(dst, i) == if bit(pattern, i) { u16::MAX } else { 0 }),
            _ => (0..dst.len() * 64).all(|i| bit(dst, i) == (lane(pattern, i) != 0)),
        }
    }
}

/// Words of a 4 KiB piece of a bitmap.
const PIECE: usize = 512;

/// The cache lines that have bits, as ranges of words that do not cross a piece.
fn lines(words: &[u64]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (i, line) in words.chunks(8).enumerate().filter(|(_, line)| line.iter().any(|word| *word != 0)) {
        let range = i * 8..i * 8 + line.len();
        match ranges.last_mut().filter(|last| last.end == range.start && range.start % PIECE != 0) {
            Some(last) => last.end = range.end,
            None => ranges.push(range),
        }
    }
    ranges
}

/// What the move has to write, known beforehand.
#[derive(Default)]
struct Traffic {
    src: Vec<Range<usize>>,
    dst: Vec<Range<usize>>,
}

for_this_machine! {
    // The same reads and writes: all of the source is read, and the lines that change are written, on both sides in turns.
    fn stream(src: &mut [u64], dst: &mut [u64], traffic: &Traffic) -> u64 {
        let mut all = 0;
        let mut ranges = traffic.dst.iter().peekable();
        let mut clean = 0;
        let (src_len, dst_len) = (src.len() as u64, dst.len() as u64);
        for dirty in &traffic.src {
            for word in &src[clean..dirty.start] {
                all |= *word;
            }
            clean = dirty.end;
            let same = ranges.peek().is_some_and(|range| **range == *dirty);
            if same {
                ranges.next();
                for (to, from) in dst[dirty.clone()].iter_mut().zip(&mut src[dirty.clone()]) {
                    *to |= *from;
                    *from = 0;
                }
                continue;
            }
            for word in &mut src[dirty.clone()] {
                all |= *word;
                *word = 0;
            }
            let reached = (dirty.end as u64 * dst_len / src_len) as usize;
            while let Some(range) = ranges.next_if(|range| range.start < reached) {
                for word in &mut dst[range.clone()] {
                    *word |= all | 1;
                }
            }
        }
        for word in &src[clean..] {
            all |= *word;
        }
        for range in ranges {
            for word in &mut dst[range.clone()] {
                *word |= all | 1;
            }
        }
        all
    }
}

/// A locked operation for each word that gets bits, and a plain reading of the source.
fn locked(src: &[u64], dst: &[AtomicU64], wanted: &[(u32, u64)]) -> u64 {
    for (place, bits) in wanted {
        dst[*place as usize].fetch_or(*bits, Ordering::Release);
    }
    read(src)
}

/// One kind of move of one pattern.
struct Run<'a> {
    m: Move,
    way: &'a Way,
    pattern: &'a [u64],
    src: Memory,
    dst: Memory,
    traffic: Traffic,
    wanted: Vec<(u32, u64)>,
}

impl<'a> Run<'a> {
    fn new(way: &'a Way, pattern: &'a [u64], bits: u64) -> Self {
        let (src_words, dst_words) = way.words(bits);
        let (src, dst) = (Memory::new(src_words), Memory::new(dst_words));
        let (src_shift, dst_shift, dst_bit) = (way.src_shift, way.dst_shift, way.dst_bit);
        let m = Move { src_shift, skip: 0, len: bits << 12, dst_shift, dst_bit, dst_phase: 0 };
        let mut run = Run { m, way, pattern, src, dst, traffic: Traffic::default(), wanted: Vec::new() };
        run.learn();
        run
    }

    fn prepare(&mut self) {
        self.src.get().copy_from_slice(self.pattern);
        self.dst.get().fill(0);
    }

    /// Checks a move once, and learns from it what has to be written.
    fn learn(&mut self) {
        for atomic in [false, true] {
            self.prepare();
            let count = bitmap::drain(self.src.get(), self.dst.destination(atomic), &self.m);
            let ones = |words: &[u64]| words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            let (way, dirty, set) = (self.way, ones(self.pattern), ones(self.dst.get()));
            assert_eq!(count, Count { newly: set, total: set });
            assert!(way.src_shift < way.dst_shift || set == dirty << (way.src_shift - way.dst_shift));
            assert!(way.is_right(self.pattern, self.dst.get()), "{}: the result is wrong", way.name);
            assert!(self.src.get().iter().all(|word| *word == 0));
        }
        self.traffic = Traffic { src: lines(self.pattern), dst: lines(self.dst.get()) };
        let words = self.dst.get().iter().zip(0..);
        self.wanted = words.filter(|(word, _)| **word != 0).map(|(word, place)| (place, *word)).collect();
    }

    /// Memory, plain, atomic, bare locked operations.
    fn round(&mut self, work: usize) -> f64 {
        self.prepare();
        let (src, traffic, m) = (self.src.get(), &self.traffic, &self.m);
        match work {
            0 => {
                let dst = self.dst.get();
                timed(|| stream(src, dst, traffic)).0
            }
            1 | 2 => {
                let to = self.dst.destination(work == 2);
                timed(|| bitmap::drain(src, to, m)).0
            }
            _ => {
                let Words::Atomic(dst) = self.dst.destination(true) else { unreachable!("as asked for") };
                timed(|| locked(src, dst, &self.wanted)).0
            }
        }
    }
}

pub fn run() {
    let sizes = if common::is_test() { &[16_u32][..] } else { &[18, 22, 25, 28] };
    let mut table = Table::new("moves");
    for log2 in sizes {
        for pattern in &PATTERNS {
            for way in &WAYS {
                let case = format!("moves, 2^{log2}, {}, {}", pattern.name, way.name);
                if is_wanted(&case) {
                    measure(&mut table, *log2, pattern, way);
                }
            }
        }
    }
}

fn measure(table: &mut Table, log2: u32, pattern: &Pattern, way: &Way) {
    let mut source = Memory::new(way.words(1 << log2).0);
    fill(source.get(), pattern);
    let mut run = Run::new(way, source.get(), 1 << log2);
    let ([memory, plain, atomic, locked], noise) = steady((1 << (30 - log2)).clamp(5, 101), |work| run.round(work));
    table.line(
        &[("pages", &format!("2^{log2}")), ("dirty", pattern.name), ("move", way.name)],
        &[
            ("memory us", memory * 1e6),
            ("plain us", plain * 1e6),
            ("memory/plain", memory / plain),
            ("locked us", locked * 1e6),
            ("atomic us", atomic * 1e6),
            ("locked/atomic", locked / atomic),
            ("noise", noise),
        ],
    );
}
