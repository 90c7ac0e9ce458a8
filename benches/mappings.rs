//! What mappings cost a tracker: map, unmap, unmap with a callback for whatever is dirty, and a harvest, by their number from 10^3
//! to 10^6; and the peak of memory of a harvest. First what they cost one that is not started, which is all that a VMM pays that never
//! migrates, and what memory a mapping takes.
//!
//! Logs are software that answers at once with nothing, so these are figures of the library. Pages lie at random places of 2^39
//! bytes, as those of a guest with an IOMMU of its own do, and come and go in random order.
//!
//! `cargo bench --bench mappings` measures all; with `-- idle`, `tracking`, `threads`, `requests` or `memory` only that part.
//! VFIOMIG_BENCH_MAPPINGS=100000 measures up to that many. Limits: an operation takes at most 12 times as long among 10^6 mappings
//! as among 10^3 (twice as many steps, each out of the caches); a harvest of a guest of 1 TiB by 10^6 mappings and 4 page tables
//! takes less than 80 MiB, whatever is dirty and asked for; what the library adds to requests is at most 0.6 of what they cost if
//! the kernel does nothing in them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/mod.rs"]
mod common;

use std::cell::Cell;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use vfiomig::bitmap::Words;
use vfiomig::error::Errno;
use vfiomig::tracker::{Dest, IovaRange, Mapping, Request, Tracker, TrackerOptions, Unmap};
use vfiomig::transport::iommufd::{Iommufd, KernelIommufd};
use vfiomig::transport::tracker_ops::LogFunctions;
use vfiomig::transport::type1::Container;

const PAGE: u64 = 4096;
/// Pages of 2^39 bytes.
const PLACES: u64 = 1 << 27;
/// Most that is unmapped, for what is linear would never end.
const SOME: usize = 100_000;
const SLOWER: f64 = 12.0;
const MOST: u64 = 80 << 20;

struct Tables;

impl Iommufd for Tables {
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

/// A container with a log.
struct Type1;

impl Container for Type1 {
    fn info(&self, info: &mut [u8]) -> Result<(), Errno> {
        let needed = 24 + 32u32;
        let argsz = u32::from_ne_bytes(info[0..4].try_into().unwrap());
        info[4..8].copy_from_slice(&3u32.to_ne_bytes());
        info[0..4].copy_from_slice(&argsz.max(needed).to_ne_bytes());
        if argsz >= needed {
            info[16..20].copy_from_slice(&24u32.to_ne_bytes());
            info[24..26].copy_from_slice(&2u16.to_ne_bytes());
            info[26..28].copy_from_slice(&1u16.to_ne_bytes());
            info[40..48].copy_from_slice(&PAGE.to_ne_bytes());
            info[48..56].copy_from_slice(&(256u64 << 20).to_ne_bytes());
        }
        Ok(())
    }
    unsafe fn dirty_pages(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
    unsafe fn unmap_dma(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
}

/// As a device's own log.
struct Log;

impl LogFunctions for Log {
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

const KINDS: [&str; 6] = ["device log", "with aperture", "container", "1 page table", "2 page tables", "4 page tables"];

fn tracker(kind: &str) -> Tracker {
    let tables = |count: u32| Some((Arc::new(Tables) as Arc<dyn Iommufd>, (1..=count).collect()));
    let mut options = TrackerOptions { ioas_id: Some(1), ..TrackerOptions::default() };
    match kind {
        "device log" => options.functions = Some(Box::new(Log)),
        "with aperture" => {
            options.functions = Some(Box::new(Log));
            options.apertures = vec![IovaRange { iova: 0, size: PLACES * PAGE }];
        }
        "container" => options.container = Some(Arc::new(Type1)),
        "1 page table" => options.hwpts = tables(1),
        "2 page tables" => options.hwpts = tables(2),
        _ => options.hwpts = tables(4),
    }
    Tracker::new(options).unwrap()
}

/// Numbers that look like chance, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn shuffle(&mut self, list: &mut [u64]) {
        for last in (1..list.len()).rev() {
            list.swap(last, (self.roll() % (last as u64 + 1)) as usize);
        }
    }
}

fn places(count: usize, dice: &mut Dice) -> Vec<u64> {
    let mut set = std::collections::BTreeSet::new();
    while set.len() < count {
        set.insert(dice.roll() % PLACES);
    }
    let mut all: Vec<u64> = set.into_iter().collect();
    dice.shuffle(&mut all);
    all
}

/// Resident memory, and its peak since it was forgotten, in bytes.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line =
        |key: &str| status.lines().find(|line| line.starts_with(key)).unwrap().split_whitespace().nth(1).unwrap();
    (line("VmRSS:").parse::<u64>().unwrap() << 10, line("VmHWM:").parse::<u64>().unwrap() << 10)
}

/// Bytes that are allocated now.
fn allocated() -> usize {
    // SAFETY: it takes nothing, and gives a struct.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Processor time of all threads, so that what goes on beside is not counted.
#[derive(Clone, Copy)]
struct Time(f64);

impl Time {
    fn now() -> Time {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a clock of the system, and one struct to write to.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
        assert_eq!(result, 0);
        Time(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
    }

    /// us each.
    fn each(self, count: usize) -> f64 {
        (Time::now().0 - self.0) * 1e6 / count as f64
    }
}

/// In us each, or us a mapping; the last one is MiB.
#[derive(Clone, Copy, Default)]
struct Cost {
    map: f64,
    harvest: f64,
    peak: u64,
    unmap: f64,
    unmap_run: f64,
}

fn measure(kind: &str, count: usize) -> Cost {
    let mut dice = Dice(88_172_645_463_325_252);
    let mut all = places(count, &mut dice);
    let tracker = tracker(kind);
    tracker.start().unwrap();
    let begun = Time::now();
    for &page in &all {
        tracker.map(&[Mapping { range: IovaRange { iova: page * PAGE, size: PAGE }, cookie: page }]).unwrap();
    }
    let mut cost = Cost { map: begun.each(count), ..Cost::default() };
    // What is new is dirty once; the second one is what a pass costs. The peak is that of both.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory().0;
    let mut run = |_: u64, _: IovaRange| true;
    tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    let begun = Time::now();
    let reported = tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    cost.harvest = begun.each(count);
    assert_eq!(reported.failed_reads, 0);
    cost.peak = memory().1.saturating_sub(before);
    dice.shuffle(&mut all);
    let some = &all[..count.min(SOME)];
    let (plain, with_run) = some.split_at(some.len() / 2);
    let unmap = |page: u64, request: &mut Request<'_>| {
        tracker.unmap(IovaRange { iova: page * PAGE, size: PAGE }, Unmap::Library, true, request)
    };
    // A log of the VMM has nothing to unmap from.
    let by_hand = |page: u64, request: &mut Request<'_>| {
        let mut done = |_: IovaRange| Ok(());
        tracker.unmap(IovaRange { iova: page * PAGE, size: PAGE }, Unmap::By(&mut done), true, request)
    };
    let own = kind == "device log" || kind == "with aperture";
    let begun = Time::now();
    for &page in plain {
        if own { by_hand(page, &mut Request::default()) } else { unmap(page, &mut Request::default()) }.unwrap();
    }
    cost.unmap = begun.each(plain.len());
    let begun = Time::now();
    for &page in with_run {
        let mut request = Request { run: Some(&mut run), ..Request::default() };
        if own { by_hand(page, &mut request) } else { unmap(page, &mut request) }.unwrap();
    }
    cost.unmap_run = begun.each(with_run.len());
    cost
}

/// A harvest of several page tables on the calling thread alone, and with threads that are made for each round of it: us a mapping.
/// Threads are for logs that wait, and none of these does: they must not cost much.
fn threads(count: usize) {
    let all = places(count, &mut Dice(88_172_645_463_325_252));
    let tracker = tracker("4 page tables");
    tracker.start().unwrap();
    for &page in &all {
        tracker.map(&[Mapping { range: IovaRange { iova: page * PAGE, size: PAGE }, cookie: page }]).unwrap();
    }
    let mut best = [f64::MAX; 3];
    for _ in 0..5 {
        for (best, max_workers) in best.iter_mut().zip([1, 1, 0]) {
            let begun = Instant::now();
            let mut run = |_: u64, _: IovaRange| true;
            tracker.harvest(&mut Request { run: Some(&mut run), max_workers, ..Request::default() }).unwrap();
            *best = best.min(begun.elapsed().as_secs_f64() * 1e6 / count as f64);
        }
    }
    let [one, again, more] = best;
    println!(
        "4 page tables, {count} mappings: one thread {one:.2}, as many as useful {more:.2}; ratio {:.2} (noise {:.2}, limit 1.5): {}",
        more / one,
        again / one,
        verdict(more <= one * 1.5)
    );
}

/// A tracker that is not started: ns of a map and of an unmapping, with and without what QEMU asks for, and bytes of memory a mapping.
fn idle(count: usize, rounds: usize, in_order: bool) {
    let mut best = [f64::MAX; 3];
    let (mut bytes, mut noise) = (0.0, Vec::new());
    for _ in 0..rounds {
        let mut dice = Dice(88_172_645_463_325_252);
        let mut all = places(count, &mut dice);
        if in_order {
            all.sort_unstable();
        }
        let tracker = tracker("device log");
        let before = allocated();
        let begun = Time::now();
        for &page in &all {
            tracker.map(&[Mapping { range: IovaRange { iova: page * PAGE, size: PAGE }, cookie: page }]).unwrap();
        }
        let map = begun.each(count) * 1e3;
        noise.push(map);
        bytes = allocated().saturating_sub(before) as f64 / count as f64;
        if !in_order {
            dice.shuffle(&mut all);
        }
        let (plain, with_run) = all.split_at(all.len() / 2);
        let mut run = |_: u64, _: IovaRange| true;
        let mut unmap = |pages: &[u64], asks: bool| {
            let begun = Time::now();
            for &page in pages {
                let mut done = |_: IovaRange| Ok(());
                let run: Option<&mut vfiomig::tracker::RunFn<'_>> = if asks { Some(&mut run) } else { None };
                let mut request = Request { run, ..Request::default() };
                let range = IovaRange { iova: page * PAGE, size: PAGE };
                tracker.unmap(range, Unmap::By(&mut done), false, &mut request).unwrap();
            }
            begun.each(pages.len().max(1)) * 1e3
        };
        for (best, now) in best.iter_mut().zip([map, unmap(plain, false), unmap(with_run, true)]) {
            *best = best.min(now);
        }
    }
    noise.sort_by(f64::total_cmp);
    let [map, unmap, unmap_run] = best;
    let order = if in_order { "in order" } else { "at random" };
    println!(
        "{order:<14} {count:>8} {map:>8.0} {unmap:>8.0} {unmap_run:>12.0} {bytes:>9.0} {:>22.2}",
        noise[noise.len() / 2] / map
    );
}

/// Requests go to a kernel that knows none of them: as little as one can cost.
struct Refused(KernelIommufd<File>);

impl Iommufd for Refused {
    fn set_dirty_tracking(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
    unsafe fn get_dirty_bitmap(&self, argument: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the same contract.
        let refused = unsafe { self.0.get_dirty_bitmap(argument) };
        assert!(refused.is_err());
        Ok(())
    }
    fn ioas_unmap(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
}

/// A harvest that finds nothing, beside its requests alone.
fn requests(count: usize) {
    let tables = Arc::new(Refused(KernelIommufd(File::open("/dev/null").unwrap())));
    let hwpts = Some((Arc::clone(&tables) as Arc<dyn Iommufd>, vec![1]));
    let tracker = Tracker::new(TrackerOptions { hwpts, ioas_id: Some(1), ..TrackerOptions::default() }).unwrap();
    tracker.start().unwrap();
    for page in places(count, &mut Dice(88_172_645_463_325_252)) {
        tracker.map(&[Mapping { range: IovaRange { iova: page * PAGE, size: PAGE }, cookie: page }]).unwrap();
    }
    let mut run = |_: u64, _: IovaRange| true;
    let mut reads = 0;
    let ([harvest, alone], noise) = common::steady(9, |work| {
        let time = common::timed(|| {
            if work == 0 {
                let request = &mut Request { run: Some(&mut run), ..Request::default() };
                reads = tracker.harvest(request).unwrap().reads;
            } else {
                // No pointer is in it, for no kernel looks at it.
                let mut argument = [0_u8; 48];
                argument[0] = 48;
                // SAFETY: the request is refused.
                (0..reads).for_each(|_| unsafe { tables.get_dirty_bitmap(&mut argument).unwrap() });
            }
        });
        time.0
    });
    let each = |time: f64| time * 1e6 / count as f64;
    println!(
        "1 page table, {count} mappings, {reads} requests that are refused at once: us a mapping: harvest {:.3}, requests alone {:.3}, \
         the library adds {:.2} of them (noise {noise:.2}, limit 0.6): {}",
        each(harvest),
        each(alone),
        (harvest - alone) / alone,
        verdict(harvest - alone <= 0.6 * alone)
    );
}

/// Page tables of which every page, or none, is dirty.
struct Dirty(AtomicBool);

impl Iommufd for Dirty {
    fn set_dirty_tracking(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
    unsafe fn get_dirty_bitmap(&self, argument: &mut [u8]) -> Result<(), Errno> {
        let number = |at: usize| u64::from_ne_bytes(argument[at..at + 8].try_into().unwrap());
        let pages = number(24) / number(32);
        if self.0.load(Ordering::Relaxed) {
            // SAFETY: the contract of this function: the bitmap has the bits of all pages, rounded up to whole pages.
            let words = unsafe { std::slice::from_raw_parts_mut(number(40) as *mut u64, pages.div_ceil(64) as usize) };
            for (word, left) in words.iter_mut().zip((1..=pages).rev().step_by(64)) {
                *word |= if left >= 64 { u64::MAX } else { (1 << left) - 1 };
            }
        }
        Ok(())
    }
    fn ioas_unmap(&self, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
}

/// MiB that a harvest takes at most: a guest of 1 TiB, `count` mappings that do not touch, 4 page tables.
fn memory_of(count: u64) {
    let step = ((1 << 40) / count) & !(PAGE - 1);
    // The VMM's own, and there before.
    let mut bitmap = vec![1_u64; ((1_usize << 40) / PAGE as usize).div_ceil(64)];
    for (found, asked) in [("nothing", 1), ("all", 0), ("all", 1), ("all", 2)] {
        let tables = Arc::new(Dirty(AtomicBool::new(false)));
        let hwpts = Some((Arc::clone(&tables) as Arc<dyn Iommufd>, vec![1, 2, 3, 4]));
        let tracker = Tracker::new(TrackerOptions { hwpts, ioas_id: Some(1), ..TrackerOptions::default() }).unwrap();
        for at in 0..count {
            let range = IovaRange { iova: at * step, size: step - PAGE };
            tracker.map(&[Mapping { range, cookie: at }]).unwrap();
        }
        tracker.start().unwrap();
        tables.0.store(found == "all", Ordering::Relaxed);
        bitmap.fill(0);
        let range = IovaRange { iova: 0, size: 1 << 40 };
        let words = Words::Plain(Cell::from_mut(&mut bitmap[..]).as_slice_of_cells());
        let dests = [Dest { range, page_size: PAGE, first_bit: 0, bitmap: Some(words), token: 0 }];
        let mut run = |_: u64, _: IovaRange| true;
        let mut request = Request::default();
        let way = match asked {
            0 => "nobody",
            1 => {
                request.run = Some(&mut run);
                "a callback"
            }
            _ => {
                request.dests = &dests;
                "a bitmap"
            }
        };
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let before = memory().0;
        let reads = tracker.harvest(&mut request).unwrap().reads;
        let grown = memory().1.saturating_sub(before);
        println!(
            "memory of a harvest, 1 TiB, {count} mappings, 4 page tables, {reads} requests, {found} dirty, asked by {way}: {} MiB (limit {}): {}",
            grown >> 20,
            MOST >> 20,
            verdict(grown < MOST)
        );
    }
}

fn verdict(holds: bool) -> &'static str {
    if holds { "met" } else { "MISSED" }
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--test");
    let most: usize =
        std::env::var("VFIOMIG_BENCH_MAPPINGS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let most = if quick { 1000 } else { most };
    type Part = fn(usize, bool);
    let parts: [(&str, Part); 5] = [
        ("mappings idle", all_idle),
        ("mappings tracking", tracking),
        ("mappings threads", |most, _| threads(most.min(100_000))),
        ("mappings requests", |most, _| requests(most.min(100_000))),
        ("mappings memory", |most, _| memory_of(most as u64)),
    ];
    for (_, part) in parts.iter().filter(|(name, _)| common::is_wanted(name)) {
        let (processor, vectors) = common::machine();
        println!("\n{processor}, vectors: {vectors}");
        part(most, quick);
    }
}

fn all_idle(most: usize, quick: bool) {
    println!("not started: ns of processor time each, bytes of memory a mapping");
    println!(
        "{:<14} {:>8} {:>8} {:>8} {:>12} {:>9} {:>22}",
        "places", "mappings", "map", "unmap", "unmap + run", "bytes", "noise (map)"
    );
    for in_order in [false, true] {
        for count in [1_000usize, 10_000, 100_000, 1_000_000].into_iter().filter(|&count| count <= most) {
            idle(count, if quick { 1 } else { (2_000_000 / count).clamp(2, 9) }, in_order);
        }
    }
}

fn tracking(most: usize, quick: bool) {
    println!(
        "mappings of a page at random places: us of processor time each, harvest a mapping, peak in MiB above what was there"
    );
    println!(
        "{:<14} {:>8} {:>8} {:>8} {:>12} {:>9} {:>7} {:>14}",
        "log", "mappings", "map", "unmap", "unmap + run", "harvest", "peak", "noise (map)"
    );
    for kind in KINDS {
        let (mut first, mut last) = (None, Cost::default());
        let mut peak = 0;
        for count in [1_000usize, 10_000, 100_000, 1_000_000] {
            if count > most {
                break;
            }
            // A small number is measured more than once, and the best of it counts.
            let rounds = if quick { 1 } else { (200_000 / count).clamp(1, 9) };
            let mut costs: Vec<Cost> = (0..rounds).map(|_| measure(kind, count)).collect();
            costs.sort_by(|a, b| a.map.total_cmp(&b.map));
            let best = |of: fn(&Cost) -> f64| costs.iter().map(of).fold(f64::MAX, f64::min);
            last = Cost {
                map: best(|cost| cost.map),
                harvest: best(|cost| cost.harvest),
                peak: costs.iter().map(|cost| cost.peak).max().unwrap(),
                unmap: best(|cost| cost.unmap),
                unmap_run: best(|cost| cost.unmap_run),
            };
            first = first.or(Some(last));
            peak = last.peak.max(peak);
            let noise = costs[costs.len() / 2].map / last.map;
            println!(
                "{kind:<14} {count:>8} {:>8.2} {:>8.2} {:>12.2} {:>9.2} {:>7} {noise:>14.2}",
                last.map,
                last.unmap,
                last.unmap_run,
                last.harvest,
                last.peak >> 20
            );
        }
        let first = first.unwrap_or_default();
        let slower = [last.map / first.map, last.unmap / first.unmap, last.unmap_run / first.unmap_run];
        println!(
            "{kind:<14} most / 10^3: map {:.1}, unmap {:.1}, unmap + run {:.1} (limit {SLOWER}): {}; peak: {} MiB (limit {}): {}",
            slower[0],
            slower[1],
            slower[2],
            verdict(slower.iter().all(|&ratio| ratio <= SLOWER)),
            peak >> 20,
            MOST >> 20,
            verdict(peak < MOST)
        );
    }
}
