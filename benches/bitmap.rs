//! Bitmaps on one thread: moves between them beside a loop that reads and writes the same cache lines, knows them beforehand and
//! counts nothing (what memory gives), and runs beside one reading of the bitmap. In turns within one run; every result is checked.
//!
//! VFIOMIG_BENCH_BITS=22,25,28 and VFIOMIG_BENCH_DIRTY and VFIOMIG_BENCH_MOVE (parts of the names) choose.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cell::Cell;
use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use vfiomig::bitmap::{self, Count, Move, Words};

/// Source pages per 2 MiB.
const RUN: u64 = 512;
const RATIO: u32 = 4;

/// Words at the beginning of a cache line, as the library's own and most VMMs' are.
struct Memory {
    words: Vec<u64>,
    first: usize,
    len: usize,
}

impl Memory {
    fn new(len: usize) -> Self {
        // Written once, so that the memory is there.
        let mut words = vec![1; len + 8];
        words.fill(0);
        let first = words.as_ptr().align_offset(64);
        Memory { words, first, len }
    }

    fn get(&mut self) -> &mut [u64] {
        &mut self.words[self.first..self.first + self.len]
    }

    fn destination(&mut self, atomic: bool) -> Words<'_> {
        let words = Cell::from_mut(self.get()).as_slice_of_cells();
        if atomic {
            // SAFETY: borrowed mutably, so nobody accesses the words in another way; both types are one u64.
            Words::Atomic(unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<AtomicU64>(), words.len()) })
        } else {
            Words::Plain(words)
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

struct Pattern {
    name: &'static str,
    /// Of a million.
    dirty: u64,
    /// Bits that are dirty together.
    run: u64,
}

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

fn fill(words: &mut [u64], pattern: &Pattern) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let bits = words.len() as u64 * 64;
    for bit in (0..bits).step_by(pattern.run as usize) {
        if random.next() % 1_000_000 < pattern.dirty {
            if pattern.run == 1 {
                words[(bit / 64) as usize] |= 1 << (bit % 64);
            } else {
                words[(bit / 64) as usize..((bit + pattern.run).min(bits) / 64) as usize].fill(u64::MAX);
            }
        }
    }
}

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

macro_rules! for_this_machine {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block)*) => {$(
        fn $name($($arg: $type),*) -> $result {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn wide($($arg: $type),*) -> $result $body
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the instructions.
                    return unsafe { wide($($arg),*) };
                }
            }
            $body
        }
    )*};
}

for_this_machine! {
    fn read(words: &[u64]) -> u64 {
        words.iter().fold(0, |all, word| all | word)
    }

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

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds that this thread ran: what others run on the machine counts as little as it can.
fn clock() -> f64 {
    // SAFETY: integers only.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) }, 0);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = clock();
    let result = black_box(work());
    (clock() - begun, result)
}

struct Times {
    stream: f64,
    noise: f64,
    plain: f64,
    atomic: f64,
}

fn measure(way: &Way, pattern: &[u64], bits: u64, rounds: usize) -> Times {
    let (src_words, dst_words) = way.words(bits);
    let (mut src, mut dst) = (Memory::new(src_words), Memory::new(dst_words));
    let m = Move {
        src_shift: way.src_shift,
        skip: 0,
        len: bits << 12,
        dst_shift: way.dst_shift,
        dst_bit: way.dst_bit,
        dst_phase: 0,
    };
    let dirty: u64 = pattern.iter().map(|word| u64::from(word.count_ones())).sum();
    let mut times: [Vec<f64>; 4] = Default::default();
    let mut traffic = Traffic { src: lines(pattern), ..Traffic::default() };
    // The first round finds the traffic and warms up; the rest counts.
    for round in 0..=rounds {
        for (i, times) in times.iter_mut().enumerate() {
            src.get().copy_from_slice(pattern);
            dst.get().fill(0);
            let atomic = i == 3;
            if i == 0 || i == 2 {
                let (src, dst) = (src.get(), dst.get());
                let (time, _) = timed(|| stream(src, dst, &traffic));
                times.push(time);
                continue;
            }
            let (words, to) = (src.get(), dst.destination(atomic));
            let (time, count) = timed(|| bitmap::drain(words, to, &m));
            times.push(time);
            if round == 0 {
                let set: u64 = dst.get().iter().map(|word| u64::from(word.count_ones())).sum();
                assert_eq!(count, Count { newly: set, total: set });
                assert!(way.src_shift < way.dst_shift || set == dirty << (way.src_shift - way.dst_shift));
                assert!(way.is_right(pattern, dst.get()), "{}: the result is wrong", way.name);
                assert!(src.get().iter().all(|word| *word == 0));
                traffic.dst = lines(dst.get());
            }
        }
    }
    let [mut a, mut plain, mut b, mut atomic] = times.map(|mut times| times.split_off(1));
    let (a, b) = (median(&mut a), median(&mut b));
    // The better of the two, so that the ratio flatters nobody.
    Times { stream: a.min(b), noise: a / b, plain: median(&mut plain), atomic: median(&mut atomic) }
}

fn ranges(pattern: &[u64], rounds: usize) -> (f64, f64, u64) {
    let bits = pattern.len() as u64 * 64;
    let dirty: u64 = pattern.iter().map(|word| u64::from(word.count_ones())).sum();
    let (mut reads, mut runs, mut number) = (Vec::new(), Vec::new(), 0);
    for _ in 0..=rounds {
        reads.push(timed(|| read(pattern)).0);
        let (time, (sum, n)) = timed(|| {
            bitmap::runs(pattern, 0, bits)
                .fold((0, 0), |(sum, n), (start, len)| (sum + black_box((start, len)).1, n + 1))
        });
        assert_eq!(sum, dirty);
        number = n;
        runs.push(time);
    }
    (median(&mut reads), median(&mut runs), number)
}

fn main() {
    // `cargo test` builds and runs benches with --test: one small round shows that it works.
    let quick = std::env::args().any(|arg| arg == "--test");
    let sizes = std::env::var("VFIOMIG_BENCH_BITS").unwrap_or_else(|_| if quick { "16" } else { "22,25,28" }.into());
    let wanted = std::env::var("VFIOMIG_BENCH_DIRTY").unwrap_or_default();
    let wanted_way = std::env::var("VFIOMIG_BENCH_MOVE").unwrap_or_default();
    for log2 in sizes.split(',').map(|size| size.parse::<u32>().unwrap()) {
        let bits = 1_u64 << log2;
        let rounds = if quick { 1 } else { (1 << (31 - log2.min(30))).clamp(11, 201) };
        println!("2^{log2} pages of 4 KiB, median of {rounds} rounds; us, and memory's time for the same bytes / time");
        println!(
            "{:>16} {:>12} {:>9} {:>9} {:>6} {:>9} {:>6} {:>6}",
            "dirty", "move", "memory", "plain", "ratio", "atomic", "ratio", "noise"
        );
        for pattern in PATTERNS.iter().filter(|pattern| pattern.name.contains(&wanted)) {
            for way in WAYS.iter().filter(|way| way.name.contains(&wanted_way)) {
                let mut source = Memory::new(way.words(bits).0);
                fill(source.get(), pattern);
                let t = measure(way, source.get(), bits, rounds);
                println!(
                    "{:>16} {:>12} {:>9.1} {:>9.1} {:>6.2} {:>9.1} {:>6.2} {:>6.2}",
                    pattern.name,
                    way.name,
                    t.stream * 1e6,
                    t.plain * 1e6,
                    t.stream / t.plain,
                    t.atomic * 1e6,
                    t.stream / t.atomic,
                    t.noise
                );
            }
        }
        println!("{:>16} {:>10} {:>9} {:>9} {:>6}", "dirty", "runs", "read", "to runs", "times");
        for pattern in PATTERNS.iter().filter(|pattern| pattern.name.contains(&wanted)) {
            let mut source = Memory::new(bits as usize / 64);
            fill(source.get(), pattern);
            let (read, runs, number) = ranges(source.get(), rounds);
            println!(
                "{:>16} {:>10} {:>9.1} {:>9.1} {:>6.2}",
                pattern.name,
                number,
                read * 1e6,
                runs * 1e6,
                runs / read
            );
        }
    }
}
