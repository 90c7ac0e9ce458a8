//! How much memory takes what was read and not asked for. One test, for the peak is the process's.

use vfiomig::error::Errno;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::tracker_ops::LogFunctions;

const PAGE: u64 = 4096;
/// One page in so many bytes was written.
const EACH: u64 = 256 << 20;
const PAGES: u64 = 20_000;

struct Scattered;

impl LogFunctions for Scattered {
    fn start(&self, page_size: u64, _: &[[u64; 2]]) -> Result<u64, Errno> {
        Ok(page_size)
    }
    fn report(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        for at in (iova.next_multiple_of(EACH)..iova + size).step_by(EACH as usize) {
            let bit = (at - iova) / page_size;
            bitmap[bit as usize / 64] |= 1 << (bit % 64);
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

/// Pages that lie far apart take some bytes each, not a block of bits.
#[test]
fn scattered_leftovers_take_little_memory() {
    let tracker =
        Tracker::new(TrackerOptions { functions: Some(Box::new(Scattered)), ..TrackerOptions::default() }).unwrap();
    let range = IovaRange { iova: 0, size: PAGES * EACH };
    tracker.map(&[Mapping { range, cookie: 0 }]).unwrap();
    tracker.start().unwrap();
    let before = peak();
    let read = tracker.harvest(&mut Request::default()).unwrap();
    assert_eq!((read.total, read.failed_reads), (0, 0));
    // Bitmaps take 32 MiB at most (docs/dirty.md); the pages as much as 10^6 of them may, in proportion.
    let grown = peak() - before;
    assert!(grown < (32 << 20) + (32 << 20) * PAGES / 1_000_000, "{} MiB", grown >> 20);
    let (mut reported, mut runs) = (0, 0);
    let mut run = |_: u64, run: IovaRange| {
        assert_eq!((run.iova % EACH, run.size), (0, PAGE));
        reported += run.size / PAGE;
        runs += 1;
        true
    };
    tracker.harvest(&mut Request { run: Some(&mut run), no_read: true, ..Request::default() }).unwrap();
    assert_eq!((reported, runs), (PAGES, PAGES));
}
