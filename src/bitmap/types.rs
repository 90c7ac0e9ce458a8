//! What callers and all files of this room speak of: where bits go, what is moved, what was found.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;

/// Where bits go.
#[derive(Clone, Copy, Debug)]
pub enum Words<'a> {
    /// The caller's thread is the only one that touches them. Words may be written that get no bit.
    Plain(&'a [Cell<u64>]),
    /// Other threads may set and clear bits at the same time. What was written to a page before the call is seen by whoever
    /// takes the page's bit during or after the call and then reads the page.
    Atomic(&'a [AtomicU64]),
}

/// What a call turned on, in pages of the destination.
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
