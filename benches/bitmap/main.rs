//! Bitmaps on one thread, beside what this machine can do at most, measured in the same run: moves beside memory and beside bare
//! locked operations (`moves`), runs beside the best of three simple loops and one reading of the bitmap (`ranges`). Every result
//! is checked.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "../common/mod.rs"]
mod common;
mod moves;
mod ranges;

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use vfiomig::bitmap::Words;

/// Source pages per 2 MiB.
const RUN: u64 = 512;

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
            // SAFETY: borrowed mutably, so nothing accesses the words otherwise; both types are one u64.
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

for_this_machine! {
    fn read(words: &[u64]) -> u64 {
        words.iter().fold(0, |all, word| all | word)
    }
}

fn main() {
    moves::run();
    ranges::run();
}
