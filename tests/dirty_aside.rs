//! What is put aside for a VMM that maps and unmaps and never asks by `run`: its memory, and what an unmapping pays for it. One test,
//! for the peak is the process's.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use vfiomig::bitmap::Words;
use vfiomig::error::Errno;
use vfiomig::tracker::{Dest, IovaRange, Mapping, Request, Tracker, TrackerOptions, Unmap};
use vfiomig::transport::tracker_ops::LogFunctions;

const PAGE: u64 = 4096;
/// IOVAs of a guest's IOMMU that come to mean other memory again and again.
const PLACES: u64 = 1000;
const ROUNDS: u64 = 30;
/// Elsewhere, in a part of the space of its own.
const FAR: u64 = 1 << 20;

/// The device wrote everything.
struct All;

impl LogFunctions for All {
    fn start(&self, page_size: u64, _: &[[u64; 2]]) -> Result<u64, Errno> {
        Ok(page_size)
    }
    fn report(&self, _: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        for bit in 0..(size / page_size) as usize {
            bitmap[bit / 64] |= 1 << (bit % 64);
        }
        Ok(())
    }
    fn stop(&self) -> Result<(), Errno> {
        Ok(())
    }
}

fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn at(place: u64) -> IovaRange {
    IovaRange { iova: place * PAGE, size: PAGE }
}

fn map(tracker: &Tracker, place: u64, cookie: u64) {
    tracker.map(&[Mapping { range: at(place), cookie }]).unwrap();
}

/// How long the unmappings of all places take, and of mapping them again with the same cookie: nothing is put aside.
fn unmappings(tracker: &Tracker, cookie: u64, by_run: bool) -> Duration {
    let begun = Instant::now();
    for place in 0..PLACES {
        let words = [const { std::cell::Cell::new(0u64) }; 1];
        let mut reported = 0;
        let mut run = |_: u64, range: IovaRange| {
            reported += range.size;
            true
        };
        let bitmap = (!by_run).then_some(Words::Plain(&words));
        let dests = [Dest { range: at(place + FAR), page_size: PAGE, first_bit: 0, bitmap, token: 0 }];
        let mut request = Request { dests: &dests, run: by_run.then_some(&mut run), ..Request::default() };
        tracker.unmap(at(place + FAR), Unmap::By(&mut |_| Ok(())), true, &mut request).unwrap();
        assert_eq!(if by_run { reported } else { words[0].get() * PAGE }, PAGE);
        map(tracker, place + FAR, cookie);
    }
    begun.elapsed()
}

#[test]
fn what_is_put_aside_takes_little_memory_and_is_found_by_its_range() {
    let tracker = Tracker::new(TrackerOptions { functions: Some(Box::new(All)), ..TrackerOptions::default() }).unwrap();
    (0..PLACES).for_each(|place| map(&tracker, place, place));
    (0..PLACES).for_each(|place| map(&tracker, place + FAR, 7));
    tracker.start().unwrap();
    tracker.harvest(&mut Request { run: Some(&mut |_, _| true), ..Request::default() }).unwrap();
    let quick = [unmappings(&tracker, 7, false), unmappings(&tracker, 7, true)];

    let before = peak();
    let mut wanted = BTreeMap::new();
    for round in 0..ROUNDS {
        for place in 0..PLACES {
            tracker.unmap(at(place), Unmap::By(&mut |_| Ok(())), true, &mut Request::default()).unwrap();
            let cookie = (round + 1) * PLACES + place;
            wanted.insert(cookie - PLACES, at(place).iova);
            map(&tracker, place, cookie);
        }
    }
    let grown = peak() - before - wanted.len() as u64 * 40;
    let each = grown / wanted.len() as u64;
    println!("{each} bytes for each of {} mappings that are gone", wanted.len());
    assert!(each < 60, "{each} bytes");

    // A bitmap can name none of them, and by `run` those of a range are found by that.
    let slow = [unmappings(&tracker, 7, false), unmappings(&tracker, 7, true)];
    println!("{quick:?} {slow:?}");
    for (quick, slow) in quick.into_iter().zip(slow) {
        assert!(slow < quick * 10 + Duration::from_millis(100), "{quick:?} {slow:?}");
    }

    let mut reported = BTreeMap::new();
    let mut run = |cookie: u64, range: IovaRange| {
        for iova in (range.iova..range.iova + range.size).step_by(PAGE as usize) {
            if cookie < ROUNDS * PLACES && cookie != 7 {
                assert_eq!(reported.insert(cookie, iova), None, "told twice");
            }
        }
        true
    };
    tracker.harvest(&mut Request { run: Some(&mut run), no_read: true, ..Request::default() }).unwrap();
    wanted.remove(&7);
    assert!(reported == wanted, "{} of {}", reported.len(), wanted.len());
}
