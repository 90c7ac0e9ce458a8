//! How much memory a harvest touches follows from what is mapped, and not from what a device answers. One test, for the peak is
//! the process's.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vfiomig::error::Errno;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::tracker_ops::LogFunctions;

/// Answers START with the numbers of a list, the last one again and again; takes one range.
struct Answers(&'static [u64], AtomicU64);

impl LogFunctions for Answers {
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        if ranges.len() > 1 {
            return Err(Errno::new(libc::E2BIG));
        }
        let turn = self.1.fetch_add(1, Relaxed) as usize;
        Ok(self.0.get(turn).or(self.0.last()).copied().unwrap_or(page_size))
    }
    fn report(&self, _: u64, _: u64, _: u64, _: &mut [u64]) -> Result<(), Errno> {
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

const TIB: u64 = 1 << 40;

/// Pages that grow and shrink, and one range over mappings that lie far apart.
#[test]
fn memory_follows_what_is_mapped() {
    let page = |iova| (iova, 4096);
    // QEMU's RAM, and a BAR in its 64-bit hole.
    let far_bar = vec![(0, 3 << 30), (4 << 30, 60 << 30), (56 * TIB, 64 << 30)];
    type Case = (&'static [u64], Vec<(u64, u64)>);
    let cases: [Case; 6] = [
        (&[], vec![page(0), page(4 * TIB)]),
        (&[], vec![page(0), page(4096 * TIB)]),
        (&[1 << 42, 4096], vec![page(0)]),
        (&[1 << 61, 1 << 29], vec![page(0)]),
        (&[], far_bar),
        (&[], vec![(0, TIB)]),
    ];
    for (answers, mapped) in cases {
        let before = peak();
        let functions: Box<dyn LogFunctions> = Box::new(Answers(answers, AtomicU64::new(0)));
        let tracker = Tracker::new(TrackerOptions { functions: Some(functions), ..TrackerOptions::default() }).unwrap();
        let mapping = |&(iova, size): &(u64, u64)| Mapping { range: IovaRange { iova, size }, cookie: 0 };
        tracker.map(&mapped.iter().map(mapping).collect::<Vec<_>>()).unwrap();
        tracker.start().unwrap();
        let result = tracker.harvest(&mut Request::default()).unwrap();
        assert_eq!(result.failed_reads, 0, "{answers:x?} {mapped:x?}");
        let grown = peak() - before;
        assert!(grown < 80 << 20, "{answers:x?} {mapped:x?}: {} MiB", grown >> 20);
    }
}
