//! What callers and all files of this room speak of: where bits go, what is moved, what was found.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;

/// A bitmap that bits go to, or are taken from.
///
/// ```
/// use std::cell::Cell;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use vfiomig::bitmap::{Words, set_range};
///
/// let mut own = [0u64; 2];
/// set_range(Words::Plain(Cell::from_mut(&mut own[..]).as_slice_of_cells()), 3, 2);
/// let shared = [AtomicU64::new(0)]; // other threads set and clear bits, too
/// set_range(Words::Atomic(&shared), 3, 2);
/// assert_eq!((own[0], shared[0].load(Ordering::Relaxed)), (0b11000, 0b11000));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Words<'a> {
    /// The caller's thread is the only one that touches them. Words may be written that get no bit.
    Plain(&'a [Cell<u64>]),
    /// Other threads may set and clear bits at the same time. What was written to a page before the call is seen by whoever
    /// takes the page's bit during or after the call and then reads the page.
    Atomic(&'a [AtomicU64]),
}

/// What a call turned on, in pages of the destination.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use vfiomig::bitmap::{Count, Words, set_range};
///
/// let bitmap = [AtomicU64::new(0b1)];
/// assert_eq!(set_range(Words::Atomic(&bitmap), 0, 4), Count { newly: 3, total: 4 });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Bits that were off before. In words that become all ones while others change them, as they were just before.
    pub newly: u64,
    /// All bits that the call set, on before or not.
    pub total: u64,
}

impl Count {
    #[inline(always)]
    pub(super) fn add(&mut self, more: Count) {
        self.newly = self.newly.wrapping_add(more.newly);
        self.total = self.total.wrapping_add(more.total);
    }
}

/// One contiguous move from a log's bitmap to a destination's. Page sizes are powers of two, at most 2^63.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use vfiomig::bitmap::{Move, Words, drain};
///
/// // From pages of 4 KiB to pages of 64 KiB: all but the first page of the log.
/// let mut log = [0b111_0001u64];
/// let dirty = [AtomicU64::new(0)];
/// let all_but_the_first =
///     Move { src_shift: 12, skip: 1 << 12, len: 31 << 12, dst_shift: 16, dst_bit: 0, dst_phase: 1 << 12 };
/// let count = drain(&mut log, Words::Atomic(&dirty), &all_but_the_first);
/// assert_eq!((dirty[0].load(Ordering::Relaxed), count.newly), (0b1, 1));
/// assert_eq!(log[0], 0b1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Bytes per source page, as a power of two.
    pub src_shift: u32,
    /// Bytes from the first byte of the source's bit 0 to the first one that is moved.
    pub skip: u64,
    /// Bytes that are moved; they may begin and end inside a page.
    pub len: u64,
    /// Bytes per destination page, as a power of two.
    pub dst_shift: u32,
    /// The bit of the destination page that has the first byte.
    pub dst_bit: u64,
    /// How far into that page the first byte is.
    pub dst_phase: u64,
}
