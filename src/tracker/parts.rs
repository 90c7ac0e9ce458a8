//! Bits that were read, on their way to their owners, and the one rule for them: **a bit is cleared after all parts of its
//! page were reported**. Nothing else clears bits that were read, so no part of a page is forgotten for another one's sake.

use super::UNIT_SHIFT;
use crate::bitmap::{self, Count, Move, Words};
use crate::logs::ranges::Span;
use std::cell::Cell;

/// Bit n of `words` stands for `1 << shift` bytes from `origin + (n << shift)`.
pub(crate) struct Bits<'a> {
    pub words: &'a mut [u64],
    pub shift: u32,
    /// IOVA of bit 0.
    pub origin: u64,
}

/// Where the pages of a destination lie.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    /// Bytes of a page, as a power of two.
    pub shift: u32,
    /// The bit of the page that begins at `iova`.
    pub first_bit: u64,
    pub iova: u64,
}

impl Grid {
    /// The bit that has `at`, and how far into its page `at` is. `at` is not before the grid.
    pub fn place(self, at: u64) -> (u64, u64) {
        let into = at.saturating_sub(self.iova);
        let page = into.checked_shr(self.shift).unwrap_or(0);
        let phase = into & 1u64.checked_shl(self.shift).map_or(u64::MAX, |page| page.wrapping_sub(1));
        (self.first_bit.saturating_add(page), phase)
    }

    /// Where bit `bit` begins; beyond the space for the bit after its last.
    pub fn iova_of(self, bit: u64) -> i128 {
        let pages = i128::from(bit).saturating_sub(i128::from(self.first_bit));
        i128::from(self.iova).saturating_add(pages.saturating_mul(1i128.checked_shl(self.shift).unwrap_or(i128::MAX)))
    }
}

/// What is reported of a piece.
pub(crate) enum Reported<'t, 'w> {
    /// Dirty as a whole: the piece's part of a page that reaches beyond it.
    Part(Span),
    /// Bits of pages that lie within the piece, to be moved away or left for a later call.
    Bits(&'t mut Bits<'w>, Span),
}

impl Bits<'_> {
    /// Bytes from bit 0 to `at`, which lies in the window.
    fn skip(&self, at: u64) -> u64 {
        at.saturating_sub(self.origin)
    }

    /// First bit and number of bits that `span` touches.
    fn bits_of(&self, span: Span) -> (u64, u64) {
        let first = self.skip(span.first).checked_shr(self.shift).unwrap_or(0);
        let last = self.skip(span.last).checked_shr(self.shift).unwrap_or(0);
        (first, last.saturating_sub(first).saturating_add(1))
    }

    /// The bytes of a bit.
    fn page_of(&self, bit: u64) -> Span {
        let first = bit.checked_shl(self.shift).unwrap_or(0).saturating_add(self.origin);
        let page = 1u64.checked_shl(self.shift).map_or(u64::MAX, |page| page.wrapping_sub(1));
        Span { first, last: first.saturating_add(page) }
    }

    /// Whether a page that `span` touches is dirty.
    pub fn any(&self, span: Span) -> bool {
        let (first, count) = self.bits_of(span);
        bitmap::any(self.words, first, count)
    }

    /// Whether every page that `span` touches is dirty.
    pub fn all(&self, span: Span) -> bool {
        let (first, count) = self.bits_of(span);
        bitmap::count(self.words, first, count) == count
    }

    /// Hands the bits out to all pieces of what they speak of, none of which may overlap.
    pub fn report<W: Copy>(
        &mut self,
        pieces: impl Iterator<Item = (Span, W)> + Clone,
        reported: &mut dyn FnMut(W, Reported<'_, '_>),
    ) {
        // Pieces are whole units, so no smaller page is cut.
        if self.shift > UNIT_SHIFT {
            self.report_cut(pieces.clone(), reported);
        }
        for (span, owner) in pieces {
            reported(owner, Reported::Bits(&mut Bits { words: self.words, ..*self }, span));
        }
    }

    /// Pages that pieces cut are dirty in each of them.
    fn report_cut<W: Copy>(
        &mut self,
        pieces: impl Iterator<Item = (Span, W)>,
        reported: &mut dyn FnMut(W, Reported<'_, '_>),
    ) {
        let mut cut: Vec<u64> = Vec::new();
        for (span, owner) in pieces {
            let (first, count) = self.bits_of(span);
            let last = first.saturating_add(count).saturating_sub(1);
            for bit in [first, last].into_iter().take(if first == last { 1 } else { 2 }) {
                let page = self.page_of(bit);
                if let Some(part) = page.intersect(span).filter(|&part| part != page && bitmap::get(self.words, bit)) {
                    reported(owner, Reported::Part(part));
                    cut.push(bit);
                }
            }
        }
        cut.into_iter().for_each(|bit| bitmap::clear(self.words, bit));
    }

    /// Moves the bits of `span` to their places on the grid, counted from the grid's bit `from`.
    pub fn drain(&mut self, span: Span, to: Words<'_>, grid: Grid, from: u64) -> Count {
        let (bit, phase) = grid.place(span.first);
        let step = Move {
            src_shift: self.shift,
            skip: self.skip(span.first),
            len: span.bytes(),
            dst_shift: grid.shift,
            dst_bit: bit.saturating_sub(from),
            dst_phase: phase,
        };
        bitmap::drain(self.words, to, &step)
    }

    /// As [`drain`](Self::drain), of a piece that others follow up to `end`: a page that reaches into them stays dirty.
    pub fn drain_piece(&mut self, span: Span, end: u64, to: Words<'_>, grid: Grid, from: u64) -> Count {
        let (first, count) = self.bits_of(span);
        let last = first.saturating_add(count).saturating_sub(1);
        let goes_on = span.last < end && self.page_of(last).last > span.last && bitmap::get(self.words, last);
        let count = self.drain(span, to, grid, from);
        if goes_on {
            bitmap::set_range(plain(self.words), last, 1);
        }
        count
    }

    /// `span` has no owner, and is not reported.
    pub fn forget(&mut self, span: Span) {
        let (first, count) = self.bits_of(span);
        bitmap::clear_range(self.words, first, count);
    }
}

pub(crate) fn plain(words: &mut [u64]) -> Words<'_> {
    Words::Plain(Cell::from_mut(words).as_slice_of_cells())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn span(first: u64, units: u64) -> Span {
        Span { first: first << UNIT_SHIFT, last: ((first + units) << UNIT_SHIFT) - 1 }
    }

    proptest! {
        /// All of a piece that a dirty page has is reported, and nothing stays; also in pieces of pieces.
        #[test]
        fn all_parts_are_reported(
            shift in 0u32..8,
            pattern in any::<[u64; 3]>(),
            list in prop::collection::vec((0u64..20, 1u64..70), 1..12),
            window in 1u64..40,
        ) {
            let (mut at, mut pieces) = (0, Vec::new());
            for (gap, units) in list {
                pieces.push((span(at + gap, units), pieces.len()));
                at += gap + units;
            }
            let mut words = pattern;
            let dirty = |unit: u64| {
                let bit = unit >> shift;
                pattern.get(bit as usize / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
            };
            let within = |piece: Span| piece.first >> UNIT_SHIFT..=piece.last >> UNIT_SHIFT;
            let fits = |&&(piece, _): &&(Span, usize)| piece.last >> UNIT_SHIFT >> shift < 192;
            let pieces: Vec<(Span, usize)> = pieces.iter().filter(fits).copied().collect();
            let mut wanted = BTreeSet::new();
            for &(piece, _) in &pieces {
                wanted.extend(within(piece).filter(|&unit| dirty(unit)));
            }
            let mut seen = BTreeSet::new();
            let mut bits = Bits { words: &mut words, shift: shift + UNIT_SHIFT, origin: 0 };
            bits.report(pieces.iter().copied(), &mut |owner, reported| match reported {
                Reported::Part(part) => {
                    assert!(pieces[owner].0.contains(part));
                    within(part).for_each(|unit| assert!(seen.insert(unit), "twice"));
                }
                Reported::Bits(bits, piece) => {
                    assert_eq!(piece, pieces[owner].0);
                    let grid = Grid { shift: UNIT_SHIFT, first_bit: 0, iova: 0 };
                    let mut to = [0u64; 512];
                    let mut first = piece.first;
                    while first <= piece.last {
                        let part = Span { first, last: piece.last.min(first + (window << UNIT_SHIFT) - 1) };
                        bits.drain_piece(part, piece.last, plain(&mut to), grid, 0);
                        first = part.last + 1;
                    }
                    for (first, count) in bitmap::runs(&to, 0, 512 * 64) {
                        (first..first + count).for_each(|unit| assert!(seen.insert(unit), "twice"));
                    }
                }
            });
            prop_assert_eq!(seen, wanted);
            for &(piece, _) in &pieces {
                prop_assert!(!bits.any(piece));
            }
        }
    }
}
