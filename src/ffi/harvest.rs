//! Harvests: read logs, give what was written to the VMM.

use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{object_of, on, poison, vfiomig_tracker};
use super::input::slice;
use super::sized::{ExtensibleStruct, check_out, copy_in, copy_out};
use crate::bitmap::Words;
use crate::error::{Errno, Error, Result};
use crate::tracker::{Dest, Harvest, IovaRange, Request, Tracker, Unmap, harvest};
use crate::transport::tracker_ops::LogRange;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Other threads set and clear bits of the bitmap at the same time: it is changed by atomic
/// operations.
pub const VFIOMIG_DEST_F_ATOMIC: u32 = 0x1;
/// Report what earlier reads left over, and read no log.
pub const VFIOMIG_HARVEST_F_NO_READ: u32 = 0x1;
/// vfiomig_group_harvest() only: the devices do no DMA while the logs are read.
pub const VFIOMIG_HARVEST_F_WITHOUT_DMA: u32 = 0x2;
/// Only watch (a dirty-rate tool): what is reported stays in the tracker, and is reported again to
/// the harvest that takes it. Such a harvest is never the final one.
pub const VFIOMIG_HARVEST_F_KEEP: u32 = 0x4;
/// Read the logs only where they cover a destination, with the neighbouring pages that a log cannot
/// separate. Needs destinations. It is a final harvest only if these are all that is mapped.
pub const VFIOMIG_HARVEST_F_ONLY_DESTS: u32 = 0x8;
/// `words` gets its words in little-endian order on every host: bit n is bit n % 8 of byte n / 8.
/// Needs `words`. On little-endian hosts this is the order of the host.
pub const VFIOMIG_HARVEST_F_LITTLE_ENDIAN: u32 = 0x10;
/// In vfiomig_harvest_result.flags: a read failed, and what it may have hidden is dirty.
pub const VFIOMIG_HARVEST_DEGRADED: u32 = 0x1;
/// In vfiomig_harvest_result.flags: a callback returned another value than 0; what it did not get is
/// left over.
pub const VFIOMIG_HARVEST_STOPPED: u32 = 0x2;
/// vfiomig_tracker_unmap(): no device writes to the range during the call.
pub const VFIOMIG_UNMAP_F_NO_DMA: u32 = 0x1;
/// vfiomig_tracker_unmap(): the library unmaps, through the container or the IOAS of the options.
pub const VFIOMIG_UNMAP_F_LIBRARY: u32 = 0x2;

/// A destination: a range of IOVA, and what gets its dirty pages. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_dest {
    /// First byte; a multiple of 4096.
    pub iova: u64,
    /// Length in bytes; a multiple of 4096, not 0. iova + size may be 2^64.
    pub size: u64,
    /// Number of the bit in `bitmap` for the page at `iova`. Bit n is word n / 64, bit n % 64.
    pub first_bit: u64,
    /// Bytes per page of the bitmap: a power of two from 4096 on. The last page may be cut by `size`.
    pub page_size: u64,
    /// Bits are set in it, and no others are changed; aligned to 8 bytes. NULL: the pages go to a
    /// callback of the request.
    pub bitmap: *mut u64,
    /// Passed to `words`.
    pub opaque: *mut c_void,
    /// VFIOMIG_DEST_F_*.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<vfiomig_dest>() == 40 + 2 * size_of::<usize>());

/// Gets words of a destination without a bitmap. `first_bit`, a multiple of 64, is the number of the
/// first word's first bit, counted as `first_bit` of the destination. Words without a set bit are
/// left out at both ends. Returns 0; another value stops the harvest, and these words count as not
/// taken. It runs on the calling thread, and must not call back into the same tracker.
pub type vfiomig_words_fn = Option<
    unsafe extern "C" fn(
        opaque: *mut c_void,
        dest_opaque: *mut c_void,
        first_bit: u64,
        words: *const u64,
        word_count: usize,
    ) -> c_int,
>;

/// Gets a run of dirty bytes within one mapping, and the cookie of the mapping through which they
/// were written. The mapping may have been unmapped since, and other memory mapped at that IOVA.
/// Returns 0; another value stops the harvest, and this run counts as not taken. It runs on the
/// calling thread, and must not call back into the same tracker.
pub type vfiomig_run_fn = Option<unsafe extern "C" fn(opaque: *mut c_void, cookie: u64, iova: u64, size: u64) -> c_int>;

/// What a harvest shall do. Set up with VFIOMIG_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_harvest_request {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_HARVEST_F_*.
    pub flags: u32,
    /// The destinations. They must not overlap; they may share a bitmap.
    pub dests: *const vfiomig_dest,
    /// Number of `dests`. 0 with `run`: everything is reported to `run`, also what is left over of
    /// unmapped ranges. 0 without `run`: everything is read and left over.
    pub dest_count: usize,
    /// For destinations without a bitmap.
    pub words: vfiomig_words_fn,
    /// For destinations without a bitmap, if `words` is NULL.
    pub run: vfiomig_run_fn,
    /// Passed to `words` and `run`.
    pub opaque: *mut c_void,
    /// Largest number of threads within the call. 0: as of the tracker. 1: no threads are created.
    pub max_workers: u32,
    /// 0.
    pub reserved: u32,
    /// For VMMs that ask section by section: a number that is another one for each pass over the
    /// sections. The first harvest with a new number reads as without it. Later ones with the same
    /// number only report what that read found, as with VFIOMIG_HARVEST_F_NO_READ. A range that was
    /// reported in this pass already, or was mapped since, is read by itself. 0: none.
    pub pass: u64,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_harvest_request {
    const NAME: &'static str = "vfiomig_harvest_request";
    const FLAGS: u32 = VFIOMIG_HARVEST_F_NO_READ
        | VFIOMIG_HARVEST_F_WITHOUT_DMA
        | VFIOMIG_HARVEST_F_KEEP
        | VFIOMIG_HARVEST_F_ONLY_DESTS
        | VFIOMIG_HARVEST_F_LITTLE_ENDIAN;
}

const _: () = assert!(size_of::<vfiomig_harvest_request>() == 24 + 5 * size_of::<usize>());

/// What a harvest found.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_harvest_result {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// VFIOMIG_HARVEST_DEGRADED, VFIOMIG_HARVEST_STOPPED.
    pub flags: u32,
    /// Pages whose bit was not set before; for callbacks, all pages reported. With
    /// VFIOMIG_DEST_F_ATOMIC and other writers, a word that becomes all ones counts as it was just
    /// before.
    pub newly_dirty_pages: u64,
    /// Pages reported dirty, whether or not the bit was set; for `run`, in pages of 4096 bytes. A page
    /// that two parts share may count twice.
    pub dirty_pages: u64,
    /// Bytes that are dirty only because a read failed, reported or left over.
    pub degraded_bytes: u64,
    /// Requests to logs.
    pub reads: u64,
    /// How many of these requests failed, including logs that cannot be started.
    pub failed_reads: u32,
    /// errno of the first failed request, positive; 0 if none failed.
    pub first_errno: i32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_harvest_result {
    const NAME: &'static str = "vfiomig_harvest_result";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_harvest_result>() == 48);

/// Unmaps the range. Returns 0 or -errno; a positive value is a failure, too (EIO). It is called
/// once, on the calling thread, and must not call back into the same tracker.
pub type vfiomig_unmap_fn = Option<unsafe extern "C" fn(opaque: *mut c_void, range: *const LogRange) -> c_int>;

/// # Safety
/// The bitmap of `dest` is NULL or valid for the bits that it names, for as long as the result is used; without ATOMIC nothing
/// else uses it meanwhile.
unsafe fn read_dest<'a>(index: usize, dest: &vfiomig_dest) -> Result<Dest<'a>> {
    if dest.flags & !VFIOMIG_DEST_F_ATOMIC != 0 || dest.reserved != 0 {
        return Err(Error::argument(format!("dests[{index}]: flags {:#x} or reserved are not known", dest.flags)));
    }
    let range = IovaRange { iova: dest.iova, size: dest.size };
    if !dest.page_size.is_power_of_two() {
        return Err(Error::argument(format!("dests[{index}]: page_size {:#x} is no power of two", dest.page_size)));
    }
    let bits = dest.first_bit.checked_add(dest.size.div_ceil(dest.page_size));
    let words =
        bits.and_then(|bits| usize::try_from(bits.div_ceil(64)).ok()).filter(|&words| words <= isize::MAX as usize / 8);
    let bitmap = match words {
        _ if dest.bitmap.is_null() => None,
        None => return Err(Error::argument(format!("dests[{index}]: no bitmap has so many bits"))),
        Some(_) if !dest.bitmap.is_aligned() => {
            return Err(Error::argument(format!("dests[{index}]: the bitmap is not aligned to 8 bytes")));
        }
        Some(words) if dest.flags & VFIOMIG_DEST_F_ATOMIC != 0 => {
            // SAFETY: not NULL, aligned, and valid for these words by the contract of this function; others change them by
            // atomic operations only.
            Some(Words::Atomic(unsafe { std::slice::from_raw_parts(dest.bitmap.cast::<AtomicU64>(), words) }))
        }
        Some(words) => {
            // SAFETY: as above, and this thread is the only one that uses them. Cells may be reached by several destinations.
            Some(Words::Plain(unsafe { std::slice::from_raw_parts(dest.bitmap.cast::<Cell<u64>>(), words) }))
        }
    };
    Ok(Dest {
        range,
        page_size: dest.page_size,
        first_bit: dest.first_bit,
        bitmap,
        token: dest.opaque.expose_provenance(),
    })
}

/// # Safety
/// The destinations that `given` names, and their bitmaps, are valid as its fields say, for as long as the result is used.
unsafe fn read_dests<'a>(given: &vfiomig_harvest_request) -> Result<Vec<Dest<'a>>> {
    // SAFETY: the contract of this function.
    let dests = unsafe { slice("dests", given.dests, given.dest_count) }?;
    // SAFETY: the contract of this function.
    dests.iter().enumerate().map(|(index, dest)| unsafe { read_dest(index, dest) }).collect()
}

/// What the request asks of the one who serves it.
#[derive(Clone, Copy, Default)]
pub(super) struct HarvestFlags {
    pub without_dma: bool,
}

/// Who serves a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ServedBy {
    Tracker,
    Group,
    /// All of the range is read, and taken.
    Unmap,
}

/// Flags that mean something to some only.
const FLAGS_OF: [(u32, &str, &[ServedBy]); 3] = [
    (VFIOMIG_HARVEST_F_WITHOUT_DMA, "VFIOMIG_HARVEST_F_WITHOUT_DMA", &[ServedBy::Group]),
    (VFIOMIG_HARVEST_F_NO_READ, "VFIOMIG_HARVEST_F_NO_READ", &[ServedBy::Tracker, ServedBy::Group]),
    (VFIOMIG_HARVEST_F_ONLY_DESTS, "VFIOMIG_HARVEST_F_ONLY_DESTS", &[ServedBy::Tracker, ServedBy::Group]),
];

impl HarvestFlags {
    fn of(given: &vfiomig_harvest_request, served: ServedBy) -> Result<Self> {
        if given.reserved != 0 {
            return Err(Error::argument("request: reserved is not 0"));
        }
        match FLAGS_OF.iter().find(|(flag, _, by)| given.flags & flag != 0 && !by.contains(&served)) {
            Some((_, name, _)) => Err(Error::argument(format!("request: {name} means nothing in this call"))),
            None => Ok(HarvestFlags { without_dma: given.flags & VFIOMIG_HARVEST_F_WITHOUT_DMA != 0 }),
        }
    }
}

/// The result as C knows it, but for its size.
fn result_in_c(harvest: &Harvest) -> vfiomig_harvest_result {
    let flags = [(harvest.failed_reads > 0, VFIOMIG_HARVEST_DEGRADED), (harvest.stopped, VFIOMIG_HARVEST_STOPPED)];
    vfiomig_harvest_result {
        argsz: 0,
        flags: flags.into_iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag),
        newly_dirty_pages: harvest.newly,
        dirty_pages: harvest.total,
        degraded_bytes: harvest.degraded_bytes,
        reads: harvest.reads,
        failed_reads: harvest.failed_reads,
        first_errno: harvest.first_errno.map_or(0, Errno::get),
    }
}

/// Runs `body` with the request as Rust knows it, and writes the result, also if it failed after something was given.
///
/// # Safety
/// `rq` is NULL or readable for its argsz, and what it names valid as its fields say; `out` is NULL or valid for its argsz.
pub(super) unsafe fn with_request(
    rq: *const vfiomig_harvest_request,
    out: *mut vfiomig_harvest_result,
    served: ServedBy,
    body: impl FnOnce(&mut Request<'_>, HarvestFlags) -> Result<Harvest>,
) -> Result<()> {
    // SAFETY: the contract of this function.
    let size = if out.is_null() { None } else { Some(unsafe { check_out(out) }?) };
    // SAFETY: the contract of this function.
    let given = unsafe { copy_in(rq) }?;
    let dests;
    let mut request = Request::default();
    let mut flags = HarvestFlags::default();
    let (mut words, mut run);
    if let Some(given) = given {
        flags = HarvestFlags::of(&given, served)?;
        // SAFETY: the contract of this function.
        dests = unsafe { read_dests(&given) }?;
        request.dests = &dests;
        request.no_read = given.flags & VFIOMIG_HARVEST_F_NO_READ != 0;
        request.keep = given.flags & VFIOMIG_HARVEST_F_KEEP != 0;
        request.only_dests = given.flags & VFIOMIG_HARVEST_F_ONLY_DESTS != 0;
        request.pass = given.pass;
        request.little_endian = given.flags & VFIOMIG_HARVEST_F_LITTLE_ENDIAN != 0;
        request.max_workers = given.max_workers as usize;
        if let Some(function) = given.words {
            words = move |dest: &Dest<'_>, first_bit: u64, words: &[u64]| {
                let token = std::ptr::with_exposed_provenance_mut(dest.token);
                // SAFETY: `words` is readable for its length; the rest is the caller's contract for its function.
                unsafe { function(given.opaque, token, first_bit, words.as_ptr(), words.len()) == 0 }
            };
            request.words = Some(&mut words);
        }
        if let Some(function) = given.run {
            run = move |cookie: u64, range: IovaRange| {
                // SAFETY: the caller's contract for its function.
                unsafe { function(given.opaque, cookie, range.iova, range.size) == 0 }
            };
            request.run = Some(&mut run);
        }
    }
    let outcome = body(&mut request, flags).map(|_| ());
    if let (Some(harvest), Some(size)) = (request.given, size) {
        // SAFETY: `size` is what check_out returned for `out`.
        unsafe { copy_out(out, size, &result_in_c(&harvest)) };
    }
    outcome
}

/// Reads the logs, clears them, and reports what was asked for. All of each log is read, because
/// kernels clear more than they report; what was not asked for is left over, and stays in the
/// tracker. No page is reported twice, and none is lost. A read that fails is no error of the
/// harvest: its range is dirty, and the result has VFIOMIG_HARVEST_DEGRADED. `rq` NULL: everything
/// is read and left over. `out` may be NULL.
///
/// One user takes pages; others may only watch, with VFIOMIG_HARVEST_F_KEEP. While a migration runs,
/// its VMM takes. A cancel of the migration of a draft device ends the reading of its log, as a
/// failed read.
///
/// Returns: 0 or -errno.
/// Errors: only for wrong calls, before anything is read: ARGUMENT (the request;
/// VFIOMIG_HARVEST_F_WITHOUT_DMA; `pass` with VFIOMIG_HARVEST_F_NO_READ), ORDER (not started), BUSY
/// (-EDEADLK: from a callback of the tracker).
/// States: started.
/// Threads: tracker. Blocks: in the kernel and in your callbacks. Since: 0.1
// Safety: `t` is NULL or a live handle; `rq`, `out` and `errp` are NULL or valid, as is everything that the request names.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_harvest(
    t: *mut vfiomig_tracker,
    rq: *const vfiomig_harvest_request,
    out: *mut vfiomig_harvest_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    let body =
        |tracker: &Tracker| unsafe { with_request(rq, out, ServedBy::Tracker, |request, _| tracker.harvest(request)) };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_harvest", t, errp, body) }
}

/// As vfiomig_tracker_harvest(), for several address spaces at once: each destination gets what any
/// of them has for its range. With `count` 0 nothing is done.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_tracker_harvest(), and ARGUMENT (`trackers` NULL, or a tracker is named
/// twice).
/// States: all of them started.
/// Threads: tracker, for each of them. Blocks: in the kernel and in your callbacks. Since: 0.1
// Safety: `trackers` is readable for `count` live handles; the rest as for vfiomig_tracker_harvest().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_harvest_many(
    trackers: *const *mut vfiomig_tracker,
    count: usize,
    rq: *const vfiomig_harvest_request,
    out: *mut vfiomig_harvest_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_tracker_harvest_many";
    let body = || {
        let mut all: Vec<Arc<Tracker>> = Vec::new();
        // SAFETY: the contract of this function.
        for &tracker in unsafe { slice("trackers", trackers, count) }? {
            // SAFETY: the contract of this function.
            all.push(unsafe { object_of(NAME, tracker.cast_const()) }?);
        }
        let all: Vec<&Tracker> = all.iter().map(|tracker| &**tracker).collect();
        // SAFETY: the contract of this function.
        unsafe { with_request(rq, out, ServedBy::Tracker, |request, _| harvest(&all, request)) }
    };
    // Which of them the bug belongs to is not known.
    let poison_all = || {
        // SAFETY: the contract of this function.
        for &tracker in unsafe { slice("trackers", trackers, count) }.unwrap_or_default() {
            // SAFETY: the contract of this function.
            unsafe { poison(tracker.cast_const()) };
        }
    };
    // SAFETY: the contract of this function.
    unsafe { guard(NAME, errp, poison_all, body) }
}

/// Unmaps a range, and reports what was written to it. The library keeps the order that each log
/// needs: a device's log is read after the unmapping, a page table before, a container in the same
/// request. The range may hold any number of whole mappings, and holes.
///
/// `unmap` is called at the right moment. NULL with VFIOMIG_UNMAP_F_LIBRARY: the library unmaps;
/// both together are refused. NULL without it: the VMM has unmapped already, and pages that only an
/// earlier read could have found are dirty. VFIOMIG_UNMAP_F_NO_DMA states that no device writes to
/// the range during the call; without it all of the range of a page table is dirty. A container's
/// log is exact only with VFIOMIG_UNMAP_F_LIBRARY.
///
/// `rq` NULL: the pages are left over with the mapping's cookie. Harvests of everything with `run`
/// report them; the final harvest waits for that. A bitmap or `words` at their IOVA gets them as
/// long as nothing else is mapped there. What a cookie leads to must stay valid until then, or until
/// the tracker is stopped; two mappings that have the same IOVA, one after the other, have the same
/// cookie only if they lead to the same memory.
///
/// If the unmapping fails, pages may have been reported all the same. `out` is written then; use
/// these pages, they are not reported again. VFIOMIG_HARVEST_F_NO_READ, _F_ONLY_DESTS,
/// _F_WITHOUT_DMA and a `pass` are refused.
///
/// After a call with `unmap` NULL on page tables, later harvests read each mapping by itself,
/// because a harvest that runs at the same time may find a mapping gone.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`range` NULL, not in units of 4096, or it cuts a mapping;
/// VFIOMIG_UNMAP_F_LIBRARY without container and IOAS; the request),
/// SYSTEM (the unmapping failed: the mappings stay known, and nothing is lost), BUSY (-EDEADLK: from
/// a callback of the tracker).
/// States: started or not; a tracker that is not started reports nothing.
/// Threads: tracker. Blocks: in the kernel and in your callbacks. Since: 0.1
// Safety: `t` is NULL or a live handle; `range` is NULL or valid; `unmap` may be called once with `opaque`; the rest as for
// vfiomig_tracker_harvest().
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "one call does it all, so that no order can be wrong")]
pub unsafe extern "C" fn vfiomig_tracker_unmap(
    t: *mut vfiomig_tracker,
    range: *const LogRange,
    unmap: vfiomig_unmap_fn,
    opaque: *mut c_void,
    flags: u32,
    rq: *const vfiomig_harvest_request,
    out: *mut vfiomig_harvest_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |tracker: &Tracker| {
        if flags & !(VFIOMIG_UNMAP_F_NO_DMA | VFIOMIG_UNMAP_F_LIBRARY) != 0 {
            return Err(Error::argument(format!("flags: {flags:#x} has unknown bits")));
        }
        // SAFETY: the contract of this function.
        let range = unsafe { range.as_ref() }.ok_or_else(|| Error::argument("range is NULL"))?;
        let range = IovaRange { iova: range.iova, size: range.size };
        let by_library = flags & VFIOMIG_UNMAP_F_LIBRARY != 0;
        let mut by = |range: IovaRange| {
            let range = LogRange { iova: range.iova, size: range.size };
            let Some(function) = unmap else { return Ok(()) };
            // SAFETY: the contract of this function.
            match unsafe { function(opaque, &range) } {
                0 => Ok(()),
                errno => Err(Errno::new(errno.checked_neg().unwrap_or(libc::EIO))),
            }
        };
        let how = match unmap {
            Some(_) if by_library => return Err(Error::argument("unmap is given, and VFIOMIG_UNMAP_F_LIBRARY too")),
            Some(_) => Unmap::By(&mut by),
            None if by_library => Unmap::Library,
            None => Unmap::Done,
        };
        let quiet = flags & VFIOMIG_UNMAP_F_NO_DMA != 0;
        // SAFETY: the contract of this function.
        unsafe { with_request(rq, out, ServedBy::Unmap, |request, _| tracker.unmap(range, how, quiet, request)) }
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_unmap", t, errp, body) }
}
