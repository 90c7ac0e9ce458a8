//! Bitmaps of pages, for any VMM's own: no handle, no error object.

use super::guard::guard_value;
use crate::bitmap::{self, Words};
use crate::transport::tracker_ops::LogRange;
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::AtomicU64;

/// Other threads may change the bits of `dst` at the same time, with atomic operations of 8 bytes or
/// less; for vfiomig_bitmap_take() those of `src`, too.
pub const VFIOMIG_BITMAP_F_ATOMIC: u32 = 0x1;

// What is checked about a pointer below is enough for all of them.
const _: () = assert!(size_of::<AtomicU64>() == 8 && align_of::<AtomicU64>() == 8 && align_of::<Cell<u64>>() <= 8);

/// More than any machine has addresses for; a number beyond is a caller's mistake.
const MAX_WORDS: u64 = 1 << 54;

type BitmapResult<T> = Result<T, c_int>;

/// Runs `body`; a count or -errno.
fn counted(name: &'static str, body: impl FnOnce() -> BitmapResult<u64>) -> i64 {
    guard_value(name, i64::from(libc::ENOTRECOVERABLE).wrapping_neg(), || match body() {
        Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Err(errno) => i64::from(errno).wrapping_neg(),
    })
}

fn atomic(flags: u32) -> BitmapResult<bool> {
    if flags & !VFIOMIG_BITMAP_F_ATOMIC == 0 { Ok(flags != 0) } else { Err(libc::EINVAL) }
}

/// Only the words that a call is about: other threads may have the rest of the bitmap.
#[derive(Clone, Copy)]
struct WordSlice {
    words: *mut u64,
    len: usize,
    /// The first bit, in the first word.
    bit: u64,
}

impl WordSlice {
    fn new(bitmap: *const u64, bit: u64, bits: u64) -> BitmapResult<Self> {
        let end = bit.checked_add(bits).ok_or(libc::EINVAL)?;
        let (first, last) = (bit / 64, if bits == 0 { bit / 64 } else { end.div_ceil(64) });
        // As Rust's slices want it: no more than isize::MAX bytes, which do not wrap around.
        let bytes = usize::try_from(last).ok().and_then(|last| last.checked_mul(8)).ok_or(libc::EINVAL)?;
        let fits = isize::try_from(bytes).is_ok() && bitmap.addr().checked_add(bytes).is_some() && last <= MAX_WORDS;
        if bitmap.is_null() || bitmap.addr() % 8 != 0 || !fits {
            return Err(libc::EINVAL);
        }
        let at = usize::try_from(first).map_err(|_| libc::EINVAL)?;
        let len = usize::try_from(last.saturating_sub(first)).map_err(|_| libc::EINVAL)?;
        Ok(WordSlice { words: bitmap.cast_mut().wrapping_add(at), len, bit: bit % 64 })
    }

    fn overlaps(&self, other: &WordSlice) -> bool {
        let end = |part: &WordSlice| part.words.wrapping_add(part.len);
        self.words < end(other) && other.words < end(self)
    }

    /// # Safety
    /// The words are readable, and no thread writes them during `'a`.
    unsafe fn read<'a>(self) -> &'a [u64] {
        // SAFETY: checked by `new`: not NULL, aligned, of a legal size; readable by the contract of this function.
        unsafe { std::slice::from_raw_parts(self.words, self.len) }
    }

    /// # Safety
    /// The words are readable and writable during `'a`; nothing else uses them, except atomic accesses if `atomic`.
    unsafe fn write<'a>(self, atomic: bool) -> Words<'a> {
        if atomic {
            // SAFETY: as for `read`; an AtomicU64 is a u64 of the same size that may change.
            return Words::Atomic(unsafe { std::slice::from_raw_parts(self.words.cast::<AtomicU64>(), self.len) });
        }
        // SAFETY: as for `read`; a Cell is a value that may change, and only this thread has the reference.
        Words::Plain(unsafe { std::slice::from_raw_parts(self.words.cast::<Cell<u64>>(), self.len) })
    }
}

/// Sets the bits of `dst` (from `dst_bit`) that are set in `src` (from `src_bit`), for `bits` bits.
/// Bit n of a bitmap is word n / 64, bit n % 64. `src` stays as it is, and no other thread may write
/// it meanwhile. The bits need not be aligned to each other. The words of the two parts must not
/// overlap. The bitmap functions have no error object; with `bits` 0 they do nothing and return 0,
/// but check their pointers.
///
/// Returns: how many bits of `dst` were not set before, or -errno. With VFIOMIG_BITMAP_F_ATOMIC the
/// number is exact whatever others do.
/// Errors: -EINVAL (NULL, not aligned to 8 bytes, more than 2^54 words, a range that overflows, an
/// overlap, an unknown flag), -ENOTRECOVERABLE (a bug in the library).
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `dst` and `src` are NULL or valid for the words of their ranges.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_bitmap_merge(
    dst: *mut u64,
    dst_bit: u64,
    src: *const u64,
    src_bit: u64,
    bits: u64,
    flags: u32,
) -> i64 {
    counted("vfiomig_bitmap_merge", || {
        let atomic = atomic(flags)?;
        let (to, from) = (WordSlice::new(dst, dst_bit, bits)?, WordSlice::new(src, src_bit, bits)?);
        if to.overlaps(&from) {
            return Err(libc::EINVAL);
        }
        // SAFETY: the contract of this function.
        let words = unsafe { from.read() };
        // SAFETY: the contract of this function; `from` is other memory.
        let into = unsafe { to.write(atomic) };
        Ok(bitmap::merge(into, to.bit, words, from.bit, bits))
    })
}

/// Moves bits: those that are set in `src` are cleared there and set in `dst`. With
/// VFIOMIG_BITMAP_F_ATOMIC a bit that another thread sets meanwhile is either moved or stays, and a
/// thread that reads the page after this call sees what was written before the bit was set. `dst`
/// NULL: the bits are only counted and cleared, and `dst_bit` is ignored. The words of the two parts
/// must not overlap.
///
/// Returns: how many bits were moved, or -errno.
/// Errors: as vfiomig_bitmap_merge().
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `dst` and `src` are NULL or valid for the words of their ranges.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_bitmap_take(
    dst: *mut u64,
    dst_bit: u64,
    src: *mut u64,
    src_bit: u64,
    bits: u64,
    flags: u32,
) -> i64 {
    counted("vfiomig_bitmap_take", || {
        let atomic = atomic(flags)?;
        let from = WordSlice::new(src, src_bit, bits)?;
        if dst.is_null() {
            // SAFETY: the contract of this function.
            let words = unsafe { from.write(atomic) };
            return Ok(bitmap::take_away(words, from.bit, bits));
        }
        let to = WordSlice::new(dst, dst_bit, bits)?;
        if to.overlaps(&from) {
            return Err(libc::EINVAL);
        }
        // SAFETY: the contract of this function.
        let words = unsafe { from.write(atomic) };
        // SAFETY: the contract of this function; `from` is other memory.
        let into = unsafe { to.write(atomic) };
        Ok(bitmap::take(into, to.bit, words, from.bit, bits).total)
    })
}

/// Counts the set bits among `bits` bits from `bit` on: `bits` is a length. No other thread may
/// write them meanwhile.
///
/// Returns: the number, or -errno.
/// Errors: as vfiomig_bitmap_merge().
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `bitmap` is NULL or valid for the words of the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_bitmap_count(bitmap: *const u64, bit: u64, bits: u64) -> i64 {
    counted("vfiomig_bitmap_count", || {
        let part = WordSlice::new(bitmap, bit, bits)?;
        // SAFETY: the contract of this function.
        let words = unsafe { part.read() };
        Ok(bitmap::count(words, part.bit, bits))
    })
}

/// Finds the first run of set bits at bit `from` or later, in a bitmap of `bits` bits: `bits` is the
/// size of the bitmap. No other thread may write it meanwhile. To find all runs, continue from
/// `*start + *len`.
///
/// Returns: 1; 0 if there is none (also if `from` is `bits` or more), and nothing is written; or
/// -errno.
/// Errors: as vfiomig_bitmap_merge().
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `bitmap` is NULL or valid for its words; `start` and `len` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_bitmap_next_run(
    bitmap: *const u64,
    bits: u64,
    from: u64,
    start: *mut u64,
    len: *mut u64,
) -> i64 {
    counted("vfiomig_bitmap_next_run", || {
        let part = WordSlice::new(bitmap, 0, bits)?;
        if start.is_null() || len.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: the contract of this function.
        let words = unsafe { part.read() };
        let Some((first, run)) = bitmap::next_run(words, from, bits) else { return Ok(0) };
        // SAFETY: not NULL, so valid.
        unsafe { start.write(first) };
        // SAFETY: not NULL, so valid.
        unsafe { len.write(run) };
        Ok(1)
    })
}

/// Writes the runs of set bits at bit `from` or later as ranges of addresses. Bit n of the `bits`
/// bits of the bitmap stands for the page of `page_size` bytes at `base_address` + n * `page_size`;
/// any `page_size` but 0 is legal. At most `max` ranges are written, and `max` is not 0. `*next` is
/// the bit to continue from, and `bits` when there are no more. No other thread may write the bitmap
/// meanwhile.
///
/// Returns: how many ranges were written, or -errno.
/// Errors: as vfiomig_bitmap_merge(), and -EINVAL for `max` 0, `page_size` 0, and addresses that do
/// not fit into 64 bits.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `bitmap` is NULL or valid for its words; `out` is NULL or valid for `max` ranges, `next` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_bitmap_get_ranges(
    bitmap: *const u64,
    bits: u64,
    from: u64,
    base_address: u64,
    page_size: u64,
    out: *mut LogRange,
    max: usize,
    next: *mut u64,
) -> i64 {
    counted("vfiomig_bitmap_get_ranges", || {
        let part = WordSlice::new(bitmap, 0, bits)?;
        // The last byte, so that the end of the address space can be said.
        let last = bits.checked_mul(page_size).map(|bytes| base_address.checked_add(bytes.saturating_sub(1)));
        if out.is_null() || next.is_null() || max == 0 || page_size == 0 || last.flatten().is_none() {
            return Err(libc::EINVAL);
        }
        // SAFETY: the contract of this function.
        let words = unsafe { part.read() };
        let mut after = bits;
        let mut written: usize = 0;
        for (start, len) in bitmap::runs(words, from, bits) {
            if written == max {
                after = start;
                break;
            }
            let iova = base_address.wrapping_add(start.wrapping_mul(page_size));
            let range = LogRange { iova, size: len.wrapping_mul(page_size) };
            // SAFETY: within the `max` ranges.
            unsafe { out.wrapping_add(written).write(range) };
            written = written.wrapping_add(1);
        }
        // SAFETY: not NULL, so valid.
        unsafe { next.write(after) };
        Ok(written as u64)
    })
}

/// Merges a bitmap into one with pages of another size; bit 0 of both stands for the same address.
/// The bit of a page of `dst` is set if a byte of that page is in a page of `src` whose bit is set.
/// `dst` has as many bits as it takes to hold `src_bits` pages of `src_page_size` bytes. Page sizes
/// are powers of two. `src` stays as it is, and no other thread may write it meanwhile. The two must
/// not overlap.
///
/// Returns: how many bits of `dst` were not set before, or -errno.
/// Errors: as vfiomig_bitmap_merge(), and -EINVAL for a page size that is no power of two.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `dst` and `src` are NULL or valid for their words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_bitmap_rescale(
    dst: *mut u64,
    dst_page_size: u64,
    src: *const u64,
    src_page_size: u64,
    src_bits: u64,
    flags: u32,
) -> i64 {
    counted("vfiomig_bitmap_rescale", || {
        let atomic = atomic(flags)?;
        if !dst_page_size.is_power_of_two() || !src_page_size.is_power_of_two() {
            return Err(libc::EINVAL);
        }
        let bytes = src_bits.checked_mul(src_page_size).ok_or(libc::EINVAL)?;
        let (to, from) = (WordSlice::new(dst, 0, bytes.div_ceil(dst_page_size))?, WordSlice::new(src, 0, src_bits)?);
        if to.overlaps(&from) {
            return Err(libc::EINVAL);
        }
        // SAFETY: the contract of this function.
        let words = unsafe { from.read() };
        // SAFETY: the contract of this function; `from` is other memory.
        let into = unsafe { to.write(atomic) };
        let (dst_shift, src_shift) = (dst_page_size.trailing_zeros(), src_page_size.trailing_zeros());
        Ok(bitmap::rescale(into, dst_shift, words, src_shift, src_bits))
    })
}
