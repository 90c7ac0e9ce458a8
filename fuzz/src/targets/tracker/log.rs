//! A log of writes that may say anything, and what it asserts of the tracker's requests.

use super::P;
use crate::feed::Feed;
use crate::hostile::DmaHook;
use crate::intervals::Intervals;
use parking_lot::Mutex;
use std::sync::Arc;
use vfiomig::error::Errno;
use vfiomig::transport::tracker_ops::LogFunctions;

/// One log, and what it knows.
pub(super) struct Log {
    pub(super) feed: Arc<Mutex<Feed>>,
    pub(super) running: bool,
    pub(super) ranges: Vec<(u64, u64)>,
    pub(super) page: u64,
    pub(super) own: u64,
    pub(super) pending: Intervals,
    pub(super) mapped: Intervals,
    /// E2BIG may be said: nothing is so far apart that one range over all would need gigabytes.
    pub(super) near: bool,
    pub(super) adds: bool,
}

impl Log {
    pub(super) fn write(&mut self, first: u64, last: u64) {
        for &(iova, size) in &self.ranges {
            let end = iova + (size - 1);
            if self.running && first <= end && last >= iova {
                self.pending.insert(first.max(iova), last.min(end));
            }
        }
    }

    pub(super) fn start(&mut self, hint: u64, ranges: &[[u64; 2]]) -> Result<u64, i32> {
        crate::clock::asked();
        assert!(!self.running, "started twice");
        assert!(!ranges.is_empty() && ranges.len() <= 256);
        assert!(hint.is_power_of_two() && hint >= P);
        let mut held = Intervals::default();
        let mut end: Option<u64> = None;
        for &[iova, size] in ranges {
            assert!(size > 0 && iova.checked_add(size).is_some(), "{iova:#x} + {size:#x}");
            assert!((iova | size) % hint == 0, "{iova:#x} + {size:#x} is not whole pages of {hint:#x}");
            assert!(end.is_none_or(|end| iova >= end), "ranges overlap");
            end = Some(iova + size);
            held.insert(iova, iova + (size - 1));
        }
        let top = !(hint - 1);
        let missing = self.mapped.minus(&held).minus(&{
            let mut blind = Intervals::default();
            blind.insert(top, u64::MAX);
            blind
        });
        assert!(missing.is_empty(), "mapped, and not in the ranges: {missing:x?}");
        let mut f = self.feed.lock();
        let mut page = hint.max(self.own);
        if f.lies() {
            match f.u8() % 6 {
                0 => return Err(f.errno()),
                1 if self.near && ranges.len() > 1 => return Err(libc::E2BIG),
                1 | 2 => page = f.size(),
                3 => page = 1u64 << (f.u8() % 64),
                4 => page = hint << (f.u8() % 4),
                _ => self.own = P << (f.u8() % 12),
            }
        }
        drop(f);
        crate::trace!("  start hint {hint:#x} {ranges:x?}: page {page:#x}");
        (self.running, self.page) = (true, page);
        self.ranges = ranges.iter().map(|&[iova, size]| (iova, size)).collect();
        self.pending.clear();
        Ok(page)
    }

    pub(super) fn report(&mut self, iova: u64, len: u64, page: u64, bitmap: &mut [u64]) -> Result<(), i32> {
        crate::clock::asked();
        crate::trace!("  report {iova:#x} + {len:#x}, page {page:#x}: {} MiB of bitmap", bitmap.len() >> 17);
        assert!(self.running, "a report of a log that does not run");
        let within = |&(start, size): &(u64, u64)| iova >= start && iova - start < size && len <= size - (iova - start);
        assert!(self.ranges.iter().any(within), "{iova:#x} + {len:#x} is not within a started range");
        assert!((iova | len) % page == 0, "{iova:#x} + {len:#x} is not whole pages of {page:#x}");
        assert_eq!(page, self.page);
        assert!(self.adds || bitmap.iter().all(|word| *word == 0), "the bitmap is not zero");
        assert_eq!(bitmap.as_ptr().addr() % 4096, 0);
        let bits = len / page;
        assert!(bitmap.len() as u64 * 64 >= bits && bitmap.len() % 512 == 0);
        let set = |bitmap: &mut [u64], bit: u64| bitmap[bit as usize / 64] |= 1 << (bit % 64);
        let mut f = self.feed.lock();
        if f.lies() {
            match f.u8() % 4 {
                0 => return Err(f.errno()),
                1 => {
                    // Some of it, and then an error.
                    for _ in 0..f.u8() % 8 {
                        let bit = f.u64() % bits;
                        set(bitmap, bit);
                    }
                    self.pending.clear();
                    return Err(f.errno());
                }
                2 => {
                    // More than was written, also past the end.
                    for _ in 0..f.u8() % 16 {
                        let bit = f.u64() % (bitmap.len() as u64 * 64);
                        set(bitmap, bit);
                    }
                }
                _ if bits <= 1 << 16 => (0..bits).for_each(|bit| set(bitmap, bit)),
                _ => {}
            }
        }
        drop(f);
        let last = iova + (len - 1);
        for (a, b) in self.pending.cut(iova, last).iter() {
            ((a - iova) / page..=(b - iova) / page).for_each(|bit| set(bitmap, bit));
        }
        self.pending.remove(iova, last);
        Ok(())
    }

    pub(super) fn stop(&mut self) -> Result<(), i32> {
        crate::clock::asked();
        self.running = false;
        self.pending.clear();
        let mut f = self.feed.lock();
        if f.lies() { Err(f.errno()) } else { Ok(()) }
    }
}

/// A log as functions of a VMM, or behind a device. The second field: it may be asked on any thread.
#[derive(Clone)]
pub(super) struct Hook(pub(super) Arc<Mutex<Log>>, pub(super) bool);

impl LogFunctions for Hook {
    fn any_thread(&self) -> bool {
        self.1
    }
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        self.0.lock().start(page_size, ranges).map_err(Errno::new)
    }
    fn report(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        self.0.lock().report(iova, size, page_size, bitmap).map_err(Errno::new)
    }
    fn stop(&self) -> Result<(), Errno> {
        self.0.lock().stop().map_err(Errno::new)
    }
}

impl DmaHook for Hook {
    fn start(&mut self, _: &mut Feed, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, i32> {
        self.0.lock().start(page_size, ranges)
    }
    fn report(&mut self, _: &mut Feed, iova: u64, len: u64, page: u64, bitmap: &mut [u64]) -> Result<(), i32> {
        self.0.lock().report(iova, len, page, bitmap)
    }
    fn stop(&mut self, _: &mut Feed) -> Result<(), i32> {
        self.0.lock().stop()
    }
}
