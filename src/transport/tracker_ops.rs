//! A dirty log that the VMM keeps itself, reached by its functions.
//!
//! Example: [`LogFunctions`].

use super::Identity;
use super::dma_log::check_bitmap;
use super::signals::Blocked;
use crate::error::{Errno, Error};
use std::ffi::{c_int, c_void};

/// A range of IOVA, or of other addresses; iova + size may be 2^64, size is never 0. Fixed layout,
/// never grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
#[repr(C)]
pub struct LogRange {
    /// First byte.
    pub iova: u64,
    /// Length in bytes.
    pub size: u64,
}

const _: () = assert!(size_of::<LogRange>() == 16);

/// A log that the VMM keeps itself. The functions return 0 on success and -errno on failure; a
/// positive value is a failure, too (EIO). start and report must be set. The table is copied when a
/// tracker is made from it. The functions are called one at a time, on the thread that called the
/// library, or with VFIOMIG_OPS_F_ANY_THREAD on threads that the library makes within a call; with
/// asynchronous signals blocked. They may block. A function must not call back into the same tracker
/// (-EDEADLK).
#[derive(Clone, Copy)]
#[doc(hidden)]
#[repr(C)]
pub struct LogOps {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_OPS_F_*.
    pub flags: u32,
    /// Starts the log, with nothing dirty, for these ranges, which are sorted and do not overlap. They
    /// contain all that is mapped and more, so that later mappings may lie within them. `page_size` is
    /// a hint; the ranges are whole pages of it. The function overwrites it with the log's own page
    /// size, a power of two from 4096 on. If that does not divide the ranges, the library stops the
    /// log and starts it with other ranges. -E2BIG, -EOPNOTSUPP: too many ranges, too many bytes; the
    /// library calls again with fewer. -EINVAL or -EEXIST: the log is started already; the library
    /// stops it and calls once more. Not called while nothing is mapped, and not twice without stop.
    pub start: Option<
        unsafe extern "C" fn(opaque: *mut c_void, ranges: *const LogRange, count: usize, page_size: *mut u64) -> c_int,
    >,
    /// Sets the bits of the pages of a started range, or of a part of one, that were written since the
    /// last report, and clears them in the log. A part begins a multiple of 64 pages after the
    /// beginning of its range, and ends likewise or with the range. A log that cannot report a part of
    /// a range returns -EINVAL; the library then starts it again and asks for whole ranges.
    /// `page_size` is the log's own. Bit n is word n / 64, bit n % 64; the bitmap is whole memory
    /// pages, all zero. After a failure all that is mapped is dirty, and the log is stopped and
    /// started again.
    pub report: Option<
        unsafe extern "C" fn(opaque: *mut c_void, iova: u64, size: u64, page_size: u64, bitmap: *mut u64) -> c_int,
    >,
    /// Stops the log and forgets what it holds. After a failure it is called again, before the next
    /// start and at the end. NULL: a stop needs no call.
    pub stop: Option<unsafe extern "C" fn(opaque: *mut c_void) -> c_int>,
}

/// A log that the VMM keeps itself. The functions are called one at a time, with asynchronous signals blocked; they may block,
/// and must not call back into the same tracker. Ranges are {iova, size} in bytes.
///
/// ```
/// use std::collections::BTreeSet;
/// use std::sync::{Arc, Mutex};
/// use vfiomig::error::Errno;
/// use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
/// use vfiomig::transport::tracker_ops::LogFunctions;
///
/// /// The pages that an emulated IOMMU saw writes to; `None`: the log is off.
/// #[derive(Clone, Default)]
/// struct Written(Arc<Mutex<Option<BTreeSet<u64>>>>);
///
/// impl LogFunctions for Written {
///     fn start(&self, _hint: u64, _ranges: &[[u64; 2]]) -> Result<u64, Errno> {
///         *self.0.lock().unwrap() = Some(BTreeSet::new());
///         Ok(4096)
///     }
///     fn report(&self, iova: u64, size: u64, page: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
///         let mut written = self.0.lock().unwrap();
///         let written = written.as_mut().ok_or(Errno::new(libc::EINVAL))?;
///         for n in (0..size / page).filter(|n| written.remove(&(iova / page + n))) {
///             bitmap[n as usize / 64] |= 1 << (n % 64);
///         }
///         Ok(())
///     }
///     fn stop(&self) -> Result<(), Errno> {
///         *self.0.lock().unwrap() = None;
///         Ok(())
///     }
/// }
///
/// let log = Written::default();
/// let functions = Some(Box::new(log.clone()) as Box<dyn LogFunctions>);
/// let tracker = Tracker::new(TrackerOptions { functions, ..TrackerOptions::default() })?;
/// tracker.map(&[Mapping { range: IovaRange { iova: 1 << 30, size: 1 << 20 }, cookie: 7 }])?;
/// tracker.start()?;
/// log.0.lock().unwrap().as_mut().unwrap().insert((1 << 18) + 5);
/// let mut dirty = Vec::new();
/// let run = &mut |cookie: u64, run: IovaRange| {
///     dirty.push((cookie, run.iova, run.size));
///     true
/// };
/// tracker.harvest(&mut Request { run: Some(run), ..Request::default() })?;
/// assert_eq!(dirty, [(7, (1 << 30) + (5 << 12), 4096)]);
/// # tracker.stop()?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub trait LogFunctions: Send + Sync {
    /// By what two values are known as one log; `None`: no other tracker can have it.
    fn identity(&self) -> Option<Identity> {
        None
    }
    /// Whether it may be called from threads that the library makes within a call.
    fn any_thread(&self) -> bool {
        false
    }
    /// Clears the log, then logs `ranges`, which are sorted, do not overlap and are whole pages of `page_size` bytes: a hint.
    /// Answers with the log's own page size, a power of two from 4096 on. E2BIG, EOPNOTSUPP: the library asks with fewer ranges
    /// or bytes.
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno>;
    /// Sets the bits of what was written to a started range, or to a part of one, and clears the log of it. Bit n of `bitmap`
    /// is the page at `iova + n * page_size`, and `page_size` the log's own. After any error all that is mapped is dirty.
    fn report(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno>;
    /// Stops the log and forgets what it holds.
    fn stop(&self) -> Result<(), Errno>;
}

/// The table and what its functions are called with.
#[doc(hidden)]
pub struct OpsLog {
    ops: LogOps,
    opaque: *mut c_void,
    any_thread: bool,
}

// SAFETY: `opaque` is only handed to the VMM's functions; the contract of `OpsLog::new` makes the VMM answer for the threads
// that call them, one at a time by the tracker's gate.
unsafe impl Send for OpsLog {}
// SAFETY: as above.
unsafe impl Sync for OpsLog {}

impl OpsLog {
    /// Checks and takes a copy of the table.
    ///
    /// # Safety
    /// Until this is dropped each function may be called with `opaque`, one call at a time, from the threads that use the
    /// tracker and, with `any_thread`, from the library's own; it must stay within the memory that it is given.
    pub unsafe fn new(ops: LogOps, opaque: *mut c_void, any_thread: bool) -> Result<Self, Error> {
        if ops.start.is_none() || ops.report.is_none() {
            return Err(Error::argument("ops: start and report must be set"));
        }
        Ok(OpsLog { ops, opaque, any_thread })
    }
}

fn absent() -> Errno {
    Errno::new(libc::ENOTTY)
}

/// A positive answer is a mistake of the function; taken for success it could hide dirt (P13).
fn status(result: c_int) -> Result<(), Errno> {
    if result != 0 { Err(Errno::new(result.checked_neg().unwrap_or(libc::EIO))) } else { Ok(()) }
}

impl LogFunctions for OpsLog {
    fn identity(&self) -> Option<Identity> {
        let start = self.ops.start.map_or(0, |function| function as usize);
        Some(Identity::Functions(start, self.opaque.addr()))
    }

    fn any_thread(&self) -> bool {
        self.any_thread
    }

    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        let function = self.ops.start.ok_or_else(absent)?;
        let ranges: Vec<LogRange> = ranges.iter().map(|&[iova, size]| LogRange { iova, size }).collect();
        let mut page_size = page_size;
        let _blocked = Blocked::new();
        // SAFETY: `ranges` is readable for its length, `page_size` is one number; the rest is `new`'s contract.
        status(unsafe { function(self.opaque, ranges.as_ptr(), ranges.len(), &mut page_size) })?;
        Ok(page_size)
    }

    fn report(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        let function = self.ops.report.ok_or_else(absent)?;
        // A part of a page has a bit, too.
        let pages = if page_size > 0 { size.div_ceil(page_size) } else { u64::MAX };
        check_bitmap(bitmap, pages)?;
        let _blocked = Blocked::new();
        // SAFETY: `bitmap` is writable for a bit a page of the range, as was checked; the rest is `new`'s contract.
        status(unsafe { function(self.opaque, iova, size, page_size, bitmap.as_mut_ptr()) })
    }

    fn stop(&self) -> Result<(), Errno> {
        let Some(function) = self.ops.stop else { return Ok(()) };
        let _blocked = Blocked::new();
        // SAFETY: `new`'s contract.
        status(unsafe { function(self.opaque) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    unsafe extern "C" fn start(_: *mut c_void, _: *const LogRange, _: usize, _: *mut u64) -> c_int {
        0
    }

    unsafe extern "C" fn report(opaque: *mut c_void, _: u64, size: u64, page_size: u64, bitmap: *mut u64) -> c_int {
        // SAFETY: `opaque` is the counter of the test, which no other thread uses.
        unsafe { *opaque.cast::<usize>() += 1 };
        let last = (size.div_ceil(page_size) - 1) as usize;
        // SAFETY: the bitmap has a bit for each page of the range.
        let word = unsafe { bitmap.add(last / 64) };
        // SAFETY: the same.
        unsafe { *word |= 1 << (last % 64) };
        0
    }

    /// A function writes a bit for a part of a page, too, and is not called if there is no place for it.
    #[test]
    fn a_bitmap_has_a_bit_for_each_page() {
        // A page of any host.
        #[repr(C, align(65536))]
        struct Page([u64; 8192]);
        const BITS: u64 = 8192 * 64;
        let (mut page, mut calls) = (Page([0; 8192]), 0_usize);
        let ops = LogOps {
            argsz: size_of::<LogOps>() as u32,
            flags: 0,
            start: Some(start),
            report: Some(report),
            stop: None,
        };
        // SAFETY: `report` writes to the counter, which outlives the log, and to the bitmap that it is given.
        let log = unsafe { OpsLog::new(ops, (&raw mut calls).cast(), false) }.unwrap();
        let einval = Err(Errno::new(libc::EINVAL));
        for (size, page_size) in [(BITS * 4096 + 1, 4096), (BITS + 1, 1), (4096, 0)] {
            assert_eq!(log.report(0, size, page_size, &mut page.0), einval, "{size} {page_size}");
        }
        log.report(0, BITS * 4096, 4096, &mut page.0).unwrap();
        log.report(0, 4097, 4096, &mut page.0).unwrap();
        assert_eq!((page.0[8191], page.0[0], calls), (1 << 63, 1 << 1, 2));
    }
}
