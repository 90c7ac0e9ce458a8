//! What mappings cost a tracker: map, unmap, unmap with a callback for whatever is dirty, and a harvest, by their number from 10^3
//! to 10^6; and the peak of memory of a harvest.
//!
//! Logs are software that answers at once with nothing, so these are figures of the library. Pages lie at random places of 2^39
//! bytes, as those of a guest with an IOMMU of its own do, and come and go in random order.
//!
//! `cargo bench --bench mappings` measures all; VFIOMIG_BENCH_MAPPINGS=100000 measures up to that many. Limits: an operation takes
//! at most 12 times as long among 10^6 mappings as among 10^3 (twice as many steps, each out of the caches), and a harvest of 10^5
//! stays below 80 MiB.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::Arc;
use std::time::Instant;
use vfiomig::error::Errno;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions, Unmap};
use vfiomig::transport::iommufd::Iommufd;
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
    let told = tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    cost.harvest = begun.each(count);
    assert_eq!(told.failed_reads, 0);
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

fn verdict(holds: bool) -> &'static str {
    if holds { "met" } else { "MISSED" }
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--test");
    let most: usize =
        std::env::var("VFIOMIG_BENCH_MAPPINGS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let most = if quick { 1000 } else { most };
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
            if count <= 100_000 {
                peak = last.peak.max(peak);
            }
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
            "{kind:<14} most / 10^3: map {:.1}, unmap {:.1}, unmap + run {:.1} (limit {SLOWER}): {}; peak up to 10^5: {} MiB (limit {}): {}",
            slower[0],
            slower[1],
            slower[2],
            verdict(slower.iter().all(|&ratio| ratio <= SLOWER)),
            peak >> 20,
            MOST >> 20,
            verdict(peak < MOST)
        );
    }
    threads(most.min(100_000));
}
