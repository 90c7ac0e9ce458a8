//! Harvests: read logs, give what was written to the VMM.

use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{object_of, on, poison, vfiomig_tracker};
use super::sized::{ExtensibleStruct, check_out, copy_in, copy_out};
use super::tracker::slice;
use crate::bitmap::Words;
use crate::error::{Errno, Error, Result};
use crate::tracker::{Dest, Harvest, IovaRange, Request, Tracker, Unmap, harvest};
use crate::transport::tracker_ops::LogRange;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Other threads set and clear bits of the bitmap at the same time: it is changed by atomic operations.
pub const VFIOMIG_DEST_F_ATOMIC: u32 = 0x1;
/// Only what earlier reads left over: no log is read.
pub const VFIOMIG_HARVEST_F_NO_READ: u32 = 0x1;
/// vfiomig_group_harvest() only: in a moment without DMA.
pub const VFIOMIG_HARVEST_F_WITHOUT_DMA: u32 = 0x2;
/// A watcher asks (a dirty-rate tool): what is told stays for the one who takes it, and no final harvest is done by it.
pub const VFIOMIG_HARVEST_F_KEEP: u32 = 0x4;
/// Only what holds a part of the destinations is read, and with it the neighbours that a log cannot tell apart. There must be
/// destinations. A final harvest is done by it only if they are all that is mapped.
pub const VFIOMIG_HARVEST_F_ONLY_DESTS: u32 = 0x8;
/// vfiomig_harvest_result: a read failed, and its range counts as dirty.
pub const VFIOMIG_HARVEST_DEGRADED: u32 = 0x1;
/// vfiomig_harvest_result: a callback said stop; what it did not get is left over for the harvest that asks.
pub const VFIOMIG_HARVEST_STOPPED: u32 = 0x2;
/// vfiomig_tracker_unmap(): no device writes to the range while the call lasts.
pub const VFIOMIG_UNMAP_F_NO_DMA: u32 = 0x1;
/// vfiomig_tracker_unmap(): the library unmaps, by the container or the IOAS of the options.
pub const VFIOMIG_UNMAP_F_LIBRARY: u32 = 0x2;

/// Where one piece of IOVA goes. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_dest {
    /// First byte of what is asked; a multiple of 4096.
    pub iova: u64,
    /// Bytes; a multiple of 4096, not 0. iova + size may be 2^64.
    pub size: u64,
    /// The bit of the page that begins at `iova`. Bit n is word n / 64, bit n % 64.
    pub first_bit: u64,
    /// Bytes of a page of the bitmap: a power of two from 4096 on. The last page may be cut by `size`.
    pub page_size: u64,
    /// Bits are set in it, and no others are touched; aligned to 8 bytes. NULL: this piece goes to a callback of the request.
    pub bitmap: *mut u64,
    /// Handed to the words callback.
    pub opaque: *mut c_void,
    /// VFIOMIG_DEST_F_*.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<vfiomig_dest>() == 40 + 2 * size_of::<usize>());

/// Gets words of a destination without a bitmap: `first_bit`, a multiple of 64, is the number of the first word's first bit in the
/// destination's count. Words without a set bit are left out at both ends. A value other than 0 stops the harvest; these words
/// were not taken then.
pub type vfiomig_words_fn = Option<
    unsafe extern "C" fn(
        opaque: *mut c_void,
        dest_opaque: *mut c_void,
        first_bit: u64,
        words: *const u64,
        word_count: usize,
    ) -> c_int,
>;

/// Gets a run of dirty bytes within one mapping, and the cookie of that mapping, through which they were written: it may be gone
/// meanwhile, and other memory be mapped at its IOVA. A value other than 0 stops the harvest; this run was not taken then.
pub type vfiomig_run_fn = Option<unsafe extern "C" fn(opaque: *mut c_void, cookie: u64, iova: u64, size: u64) -> c_int>;

/// What a harvest shall do. VFIOMIG_INIT first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_harvest_request {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_HARVEST_F_NO_READ, _WITHOUT_DMA, _KEEP, _ONLY_DESTS.
    pub flags: u32,
    /// Where which piece goes; no IOVA may be in two of them. Bitmaps may be shared.
    pub dests: *const vfiomig_dest,
    /// How many. 0, with `run`: everything that is mapped goes to `run`, and what is left over of what is unmapped. 0 without it:
    /// everything is read and left over.
    pub dest_count: usize,
    /// For destinations without a bitmap.
    pub words: vfiomig_words_fn,
    /// For destinations without a bitmap, if there is no `words`.
    pub run: vfiomig_run_fn,
    /// Handed to both.
    pub opaque: *mut c_void,
    /// Threads that read side by side within the call; 0: as the tracker was made, 1: none.
    pub max_workers: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_harvest_request {
    const NAME: &'static str = "vfiomig_harvest_request";
    const FLAGS: u32 = VFIOMIG_HARVEST_F_NO_READ
        | VFIOMIG_HARVEST_F_WITHOUT_DMA
        | VFIOMIG_HARVEST_F_KEEP
        | VFIOMIG_HARVEST_F_ONLY_DESTS;
}

const _: () = assert!(size_of::<vfiomig_harvest_request>() == 16 + 5 * size_of::<usize>());

/// What a harvest brought.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_harvest_result {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// VFIOMIG_HARVEST_DEGRADED, VFIOMIG_HARVEST_STOPPED.
    pub flags: u32,
    /// Pages of the destinations that were clean before; of a callback, all that it took. Where others change an atomic bitmap at
    /// the same time, a word that becomes all ones counts as it was just before.
    pub newly_dirty_pages: u64,
    /// Pages of the destinations that were told dirty, known before or not; in runs, of 4096 bytes. A page of two parts may
    /// count twice.
    pub dirty_pages: u64,
    /// Bytes that are dirty only because a read failed, given or left over.
    pub degraded_bytes: u64,
    /// Requests to logs.
    pub reads: u64,
    /// How many of them failed, with sources that keep no log although they should.
    pub failed_reads: u32,
    /// errno of the first that failed, positive; 0 if none did.
    pub first_errno: i32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_harvest_result {
    const NAME: &'static str = "vfiomig_harvest_result";
    const FLAGS: u32 = 0;
}

const _: () = assert!(size_of::<vfiomig_harvest_result>() == 48);

/// The function that unmaps; NULL: somebody else does.
pub type vfiomig_unmap_fn = Option<unsafe extern "C" fn(opaque: *mut c_void, range: *const LogRange) -> c_int>;

/// # Safety
/// The bitmap of `dest` is NULL or valid for the bits that it names, for as long as the result is used; without ATOMIC nobody
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

impl HarvestFlags {
    /// `of_group`: flags of groups are taken.
    fn of(given: &vfiomig_harvest_request, of_group: bool) -> Result<Self> {
        if given.reserved != 0 {
            return Err(Error::argument("request: reserved is not 0"));
        }
        let without_dma = given.flags & VFIOMIG_HARVEST_F_WITHOUT_DMA != 0;
        if without_dma && !of_group {
            return Err(Error::argument("request: VFIOMIG_HARVEST_F_WITHOUT_DMA is for groups only"));
        }
        Ok(HarvestFlags { without_dma })
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

/// Runs `body` with the request as Rust knows it, and writes the result, also if it failed after something was given. `of_group`: flags of groups are taken.
///
/// # Safety
/// `rq` is NULL or readable for its argsz, and what it names valid as its fields say; `out` is NULL or valid for its argsz.
pub(super) unsafe fn with_request(
    rq: *const vfiomig_harvest_request,
    out: *mut vfiomig_harvest_result,
    of_group: bool,
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
        flags = HarvestFlags::of(&given, of_group)?;
        // SAFETY: the contract of this function.
        dests = unsafe { read_dests(&given) }?;
        request.dests = &dests;
        request.no_read = given.flags & VFIOMIG_HARVEST_F_NO_READ != 0;
        request.keep = given.flags & VFIOMIG_HARVEST_F_KEEP != 0;
        request.only_dests = given.flags & VFIOMIG_HARVEST_F_ONLY_DESTS != 0;
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

/// Reads the log, clears it, and gives what was asked for. All of the log is read, for kernels clear more than was asked; what was
/// read and not asked for stays in the tracker for the harvest that asks. Nothing is given twice, nothing is lost. A read that
/// fails is no failed harvest: its range is dirty then, and the result says DEGRADED.
///
/// One user takes; any number of others watch, with VFIOMIG_HARVEST_F_KEEP. While a migration tracks, the one who takes is its VMM.
///
/// `out` may be NULL; it is not written if the call fails. Callbacks come on the calling thread; one must not call back into the same tracker.
///
/// Returns: 0 or -errno. Errors: misuse only, before anything is read: ARGUMENT, ORDER (not started), BUSY (-EDEADLK: from a
/// callback of the tracker). Threads: tracker. Blocks: in the kernel and in your callbacks. Since: 0.1
// Safety: `t` is NULL or a live handle; `rq`, `out` and `errp` are NULL or valid, as is everything that the request names.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_tracker_harvest(
    t: *mut vfiomig_tracker,
    rq: *const vfiomig_harvest_request,
    out: *mut vfiomig_harvest_result,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    // SAFETY: the contract of this function.
    let body = |tracker: &Tracker| unsafe { with_request(rq, out, false, |request, _| tracker.harvest(request)) };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_harvest", t, errp, body) }
}

/// As vfiomig_tracker_harvest(), for several address spaces at once, side by side: each destination gets what any of them has for
/// its range. With `count` 0 nothing is done.
///
/// Returns: 0 or -errno. Errors: as vfiomig_tracker_harvest(); ARGUMENT also if a tracker is named twice. Threads: tracker, for
/// each of them. Blocks: in the kernel and in your callbacks. Since: 0.1
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
        unsafe { with_request(rq, out, false, |request, _| harvest(&all, request)) }
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

/// Unmaps a range, and takes what was written to it, in the order that the log needs: a device's log is read after the unmapping,
/// a page table before, a container does both in one request. The range may hold any number of whole mappings, and holes.
///
/// `unmap` is the VMM's own way to unmap, called at the right moment; 0 is success. NULL with VFIOMIG_UNMAP_F_LIBRARY: the library
/// unmaps. NULL without: the VMM has done it already; what only an earlier read could tell is dirty then. VFIOMIG_UNMAP_F_NO_DMA
/// states that no device writes to the range while the call lasts; without it the range of a page table is dirty. A container's
/// log is exact only with VFIOMIG_UNMAP_F_LIBRARY.
///
/// `rq` may be NULL: what was written is left over, and keeps the cookie of its mapping until it was told. A harvest of everything
/// by `run` tells it, and the final harvest is not done before. A bitmap or `words` at its IOVA get it as long as nothing else is
/// mapped there. What a cookie leads to must stay valid until then, or until the tracker is stopped; two mappings that have the same
/// IOVA, one after the other, have the same cookie only if they lead to the same memory.
///
/// If the unmapping itself fails, something may have been given all the same: `out` is written then, and what was given is to be taken,
/// for nobody is told of it again. On a misuse `out` is left as it is. VFIOMIG_HARVEST_F_NO_READ and _ONLY_DESTS mean nothing here.
///
/// With `unmap` NULL and page tables, a harvest beside this call may find the mapping gone before it is told. So all harvests after the
/// first such call, and the final one unless other ways to unmap were seen only, read each mapping by itself.
///
/// Returns: 0 or -errno. Errors: ARGUMENT (a range that is not in units of 4096, or cuts a mapping; no way to unmap), TRANSPORT (the unmapping failed: the
/// mappings stay known, and nothing is lost), BUSY (-EDEADLK: from a callback of the tracker). Threads: tracker. Blocks: in the
/// kernel and in your callbacks. Since: 0.1
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
        unsafe { with_request(rq, out, false, |request, _| tracker.unmap(range, how, quiet, request)) }
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_tracker_unmap", t, errp, body) }
}
