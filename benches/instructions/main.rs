//! Twelve fixed cases, for counting what they execute (benches/instructions.sh): a count does not depend on what else the machine
//! does. The argument is the number of a case; none prints their names.
//!
//! Only what `measured` calls is counted: data is made before, and results are looked at afterwards.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vfiomig::bitmap::{self, Move, Words};
use vfiomig::error::Errno;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions, Unmap};
use vfiomig::transport::iommufd::Iommufd;
use vfiomig::transport::tracker_ops::LogFunctions;

/// Words of the finer side.
const WORDS: usize = 1 << 12;

/// The name for callgrind: what it calls is counted.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vfiomig_measured(work: &mut Work<'_>) {
    (work.0)();
}

struct Work<'a>(&'a mut dyn FnMut());

fn measured(mut work: impl FnMut()) {
    vfiomig_measured(black_box(&mut Work(&mut work)));
}

/// Words at a cache line, of which pages of a million are dirty, `run` words together or single bits.
struct Bitmap(Vec<u64>, usize);

impl Bitmap {
    fn new(words: usize, dirty: u64, run: usize) -> Self {
        let memory = vec![0; words + 8];
        let first = memory.as_ptr().align_offset(64);
        let mut bitmap = Bitmap(memory, first);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut chance = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % 1_000_000 < dirty
        };
        for words in bitmap.words(words).chunks_mut(run.max(1)) {
            match run {
                0 => (0..64).filter(|_| chance()).for_each(|bit| words[0] |= 1 << bit),
                _ if chance() => words.fill(u64::MAX),
                _ => {}
            }
        }
        bitmap
    }

    fn words(&mut self, words: usize) -> &mut [u64] {
        &mut self.0[self.1..self.1 + words]
    }
}

/// A move into an empty destination.
fn moves(dirty: u64, run: usize, (src_shift, dst_shift): (u32, u32), dst_bit: u64, atomic: bool) {
    let finest = src_shift.min(dst_shift);
    let (src_words, dst_words) = (WORDS >> (src_shift - finest), (WORDS >> (dst_shift - finest)) + 1);
    let (mut src, mut dst) = (Bitmap::new(src_words, dirty, run), Bitmap::new(dst_words, 0, 0));
    let len = (src_words as u64 * 64) << src_shift;
    let m = Move { src_shift, skip: 0, len, dst_shift, dst_bit, dst_phase: 0 };
    let (src, dst) = (src.words(src_words), Cell::from_mut(dst.words(dst_words)).as_slice_of_cells());
    let to = if atomic {
        // SAFETY: nothing else accesses the words; both types are one u64.
        Words::Atomic(unsafe { std::slice::from_raw_parts(dst.as_ptr().cast::<AtomicU64>(), dst.len()) })
    } else {
        Words::Plain(dst)
    };
    measured(|| {
        black_box(bitmap::drain(src, to, &m));
    });
    assert!(dirty == 0 || dst.iter().any(|word| word.get() != 0));
}

fn ranges(dirty: u64, run: usize) {
    let mut bitmap = Bitmap::new(WORDS, dirty, run);
    let words = bitmap.words(WORDS);
    let mut found = 0;
    measured(|| {
        for run in bitmap::runs(words, 0, WORDS as u64 * 64) {
            found += black_box(run).1;
        }
    });
    assert_eq!(found, bitmap::count(words, 0, WORDS as u64 * 64));
}

/// A device's log, or page tables, that have nothing.
struct Nothing;

impl Iommufd for Nothing {
    fn set_dirty_tracking(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
    unsafe fn get_dirty_bitmap(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
    fn ioas_unmap(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
}

impl LogFunctions for Nothing {
    fn start(&self, page_size: u64, _: &[[u64; 2]]) -> Result<u64, Errno> {
        Ok(page_size)
    }
    fn report(&self, _: u64, _: u64, _: u64, _: &mut [u64]) -> Result<(), Errno> {
        Ok(())
    }
    fn stop(&self) -> Result<(), Errno> {
        Ok(())
    }
}

fn tracker(mappings: u64, page_table: bool) -> Tracker {
    let mut options = TrackerOptions::default();
    if page_table {
        options.hwpts = Some((Arc::new(Nothing), vec![1]));
    } else {
        options.functions = Some(Box::new(Nothing));
    }
    let tracker = Tracker::new(options).unwrap();
    tracker.start().unwrap();
    (0..mappings).for_each(|at| map(&tracker, at));
    harvest(&tracker);
    tracker
}

fn map(tracker: &Tracker, at: u64) {
    tracker.map(&[Mapping { range: IovaRange { iova: at << 13, size: 4096 }, cookie: at }]).unwrap();
}

fn harvest(tracker: &Tracker) {
    let mut run = |_: u64, _: IovaRange| true;
    tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
}

/// A device's log is read over the holes between mappings, a page table mapping by mapping.
fn harvests(mappings: u64) {
    let trackers = [false, true].map(|page_table| tracker(mappings, page_table));
    measured(|| trackers.iter().for_each(|tracker| (0..10).for_each(|_| harvest(tracker))));
}

fn mappings() {
    let tracker = tracker(1000, false);
    measured(|| {
        for at in 1000..1100 {
            map(&tracker, at);
        }
        for at in 1000..1100 {
            let range = IovaRange { iova: at << 13, size: 4096 };
            let mut done = |_: IovaRange| Ok(());
            tracker.unmap(range, Unmap::By(&mut done), true, &mut Request::default()).unwrap();
        }
    });
}

const CASES: [(&str, fn()); 12] = [
    ("merge 0 %", || moves(0, 0, (12, 12), 0, false)),
    ("merge 1 %", || moves(10_000, 0, (12, 12), 0, false)),
    ("merge 1 %, off by one", || moves(10_000, 0, (12, 12), 1, false)),
    ("merge 10 % in 2 MiB, off by one", || moves(100_000, 8, (12, 12), 1, false)),
    ("atomic merge 1 %", || moves(10_000, 0, (12, 12), 0, true)),
    ("64 K to 4 K, 10 %", || moves(100_000, 0, (16, 12), 0, false)),
    ("4 K to 64 K, 10 %", || moves(100_000, 0, (12, 16), 0, false)),
    ("ranges 1 %", || ranges(10_000, 0)),
    ("ranges 50 %", || ranges(500_000, 0)),
    ("ranges 10 % in 64 pages", || ranges(100_000, 1)),
    ("ten harvests of 100 mappings", || harvests(100)),
    ("100 maps and unmaps among 1000", mappings),
];

fn main() {
    match std::env::args().nth(1).and_then(|number| number.parse::<usize>().ok()) {
        Some(number) => CASES[number].1(),
        None => CASES.iter().for_each(|(name, _)| println!("{name}")),
    }
}
