//! Bitmaps of pages: moved, merged, counted, cut into runs; at every alignment and between page sizes.
//!
//! May import: nothing. Start reading at `types` and at the functions here; `convert` goes between page sizes, `bits` moves runs
//! of bits, `runs` finds them by their `edges`; `vector` compiles the loops over whole words, `loops`, `scale` and `edges`, for
//! the machine; `place` and `access` are what all of them share.
//!
//! Bit n is bit n % 64 of word n / 64, in the host's byte order (P8). A run is given by its first bit and its length in bits.
//! Bits that a slice does not have are off; functions that could lose a bit because a slice is too short panic, as each says.
//! `unsafe` lives in prefetch.rs and vector.rs.
//!
//! ```
//! use std::cell::Cell;
//! use vfiomig::bitmap::{self, Words};
//!
//! let mut dirty = [0u64; 2];
//! let words = Words::Plain(Cell::from_mut(&mut dirty[..]).as_slice_of_cells());
//! assert_eq!(bitmap::merge(words, 62, &[0b1011], 0, 4), 3);
//! assert_eq!(bitmap::runs(&dirty, 0, 128).collect::<Vec<_>>(), [(62, 2), (65, 1)]);
//! assert_eq!(bitmap::count(&dirty, 64, 64), 1);
//! ```

#[forbid(unsafe_code)]
mod access;
#[forbid(unsafe_code)]
mod bits;
#[forbid(unsafe_code)]
mod convert;
#[forbid(unsafe_code)]
mod edges;
#[forbid(unsafe_code)]
mod loops;
#[forbid(unsafe_code)]
mod place;
mod prefetch;
#[forbid(unsafe_code)]
mod runs;
#[forbid(unsafe_code)]
mod scale;
#[forbid(unsafe_code)]
mod types;
mod vector;

pub use types::{Count, Move, Words};

use bits::{any_bits, clear_bits, or_bits, set_bits, take_bits, take_pieces};
use convert::convert;
use place::{WordRun, index, mask, page, room};
use runs::Runs;
use std::cell::Cell;
use std::sync::atomic::{Ordering, fence};

/// Moves bits: each source page that is dirty sets every destination page that it shares a byte of the move with, and every
/// source bit that the move touches is off afterwards.
///
/// # Panics
/// If the move is not within both slices.
pub fn drain(src: &mut [u64], dst: Words<'_>, m: &Move) -> Count {
    let src = Cell::from_mut(src).as_slice_of_cells();
    match dst {
        Words::Plain(dst) => convert(dst, src, m),
        Words::Atomic(dst) => {
            fence(Ordering::SeqCst);
            convert(dst, src, m)
        }
    }
}

/// Turns on `bits` bits from bit `bit` on.
///
/// # Panics
/// If they are not within `dst`.
pub fn set_range(dst: Words<'_>, bit: u64, bits: u64) -> Count {
    match dst {
        Words::Plain(dst) => set_bits(dst, bit, bits),
        Words::Atomic(dst) => {
            fence(Ordering::SeqCst);
            set_bits(dst, bit, bits)
        }
    }
}

/// Turns on what is on in the source, which stays as it is. Returns how many bits were off before.
///
/// # Panics
/// If `bits` bits are not within both slices.
pub fn merge(dst: Words<'_>, dst_bit: u64, src: &[u64], src_bit: u64, bits: u64) -> u64 {
    let count = match dst {
        Words::Plain(dst) => or_bits(dst, dst_bit, src, src_bit, bits),
        Words::Atomic(dst) => {
            fence(Ordering::SeqCst);
            or_bits(dst, dst_bit, src, src_bit, bits)
        }
    };
    count.newly
}

/// Moves bits; those of an atomic source are cleared as they are read, so none that is set meanwhile is lost or taken twice.
/// Pages whose bits were taken may be read after the call.
///
/// # Panics
/// If `bits` bits are not within `dst`.
pub fn take(dst: Words<'_>, dst_bit: u64, src: Words<'_>, src_bit: u64, bits: u64) -> Count {
    match (dst, src) {
        (Words::Plain(dst), Words::Plain(src)) => take_bits(dst, dst_bit, src, src_bit, bits),
        (Words::Plain(dst), Words::Atomic(src)) => take_bits(dst, dst_bit, src, src_bit, bits),
        (Words::Atomic(dst), Words::Plain(src)) => take_bits(dst, dst_bit, src, src_bit, bits),
        (Words::Atomic(dst), Words::Atomic(src)) => take_bits(dst, dst_bit, src, src_bit, bits),
    }
}

/// [`take`] to nowhere. Returns how many bits were on.
pub fn take_away(src: Words<'_>, bit: u64, bits: u64) -> u64 {
    let mut sum: u64 = 0;
    let add = |piece: &[u64], _, _, _| sum = sum.wrapping_add(vector::count(piece));
    match src {
        Words::Plain(src) => take_pieces(src, bit, bits, add),
        Words::Atomic(src) => take_pieces(src, bit, bits, add),
    }
    sum
}

/// How many of `bits` bits from bit `bit` on are on.
pub fn count(src: &[u64], bit: u64, bits: u64) -> u64 {
    let WordRun { head, body, tail } = WordRun::of(src.len(), bit, bits);
    let edge = |(index, mask): (usize, u64)| src.get(index).map_or(0, |word| u64::from((word & mask).count_ones()));
    let whole = src.get(body).map_or(0, vector::count);
    whole.wrapping_add(edge(head)).wrapping_add(edge(tail))
}

/// The runs of bits that are on, from bit `from` on and before bit `end`: first bit and length.
#[inline]
pub fn runs(src: &[u64], from: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    Runs::new(src, from, end)
}

/// The first of these runs.
pub fn next_run(src: &[u64], from: u64, end: u64) -> Option<(u64, u64)> {
    runs::next_run(src, from, end)
}

/// Turns off `bits` bits from bit `bit` on.
pub fn clear_range(src: &mut [u64], bit: u64, bits: u64) {
    clear_bits(Cell::from_mut(src).as_slice_of_cells(), bit, bits);
}

/// Whether one of `bits` bits from bit `bit` on is on.
pub fn any(src: &[u64], bit: u64, bits: u64) -> bool {
    any_bits(src, bit, bits)
}

/// Whether a bit is on.
pub fn get(src: &[u64], bit: u64) -> bool {
    src.get(index(bit)).is_some_and(|word| word & mask(bit) != 0)
}

/// Turns off a bit.
pub fn clear(src: &mut [u64], bit: u64) {
    if let Some(word) = src.get_mut(index(bit)) {
        *word &= !mask(bit);
    }
}

/// [`merge`] between page sizes (P9), from the first bit of both: a destination page is on if a byte of it is in a source page
/// that is. Page sizes are `1 << dst_shift` and `1 << src_shift` bytes. Returns how many bits were off before.
///
/// # Panics
/// If `dst` has no bits for all of `src_bits`.
pub fn rescale(dst: Words<'_>, dst_shift: u32, src: &[u64], src_shift: u32, src_bits: u64) -> u64 {
    let src_bits = src_bits.min(room(src.len(), 0));
    let len = src_bits.saturating_mul(page(src_shift));
    let m = Move { src_shift, skip: 0, len, dst_shift, dst_bit: 0, dst_phase: 0 };
    let count = match dst {
        Words::Plain(dst) => convert(dst, src, &m),
        Words::Atomic(dst) => {
            fence(Ordering::SeqCst);
            convert(dst, src, &m)
        }
    };
    count.newly
}
