//! What was read and not yet given: kernels clear more than was asked for (L7, I5, T3), so it is kept for the harvest that asks.
//! Nothing is given twice, nothing is lost.

use super::bitmap::{self, Move, Words};
use super::ranges::{Span, SpanSet};
use super::{UNIT, UNIT_SHIFT};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Pages of one block: 4 KiB of bits for 128 MiB of IOVA, so a sparse leftover stays small and a full one costs one bit a page.
const BLOCK_SHIFT: u32 = 15;
const BLOCK_WORDS: usize = 1 << (BLOCK_SHIFT - 6);
const BLOCK_BYTES_SHIFT: u32 = UNIT_SHIFT + BLOCK_SHIFT;

/// Bits on their way: bit n of `words` stands for `1 << shift` bytes from `origin + (n << shift)`.
pub(crate) struct Bits<'a> {
    pub words: &'a mut [u64],
    pub shift: u32,
    /// IOVA of bit 0; below 0 where a window is aligned down past the start of the space.
    pub origin: i128,
}

impl Bits<'_> {
    /// Bytes from bit 0 to `at`, which lies in the window.
    pub fn skip(&self, at: u64) -> u64 {
        u64::try_from(i128::from(at).saturating_sub(self.origin)).unwrap_or(0)
    }

    /// First bit and number of bits that `span` touches.
    pub fn bits_of(&self, span: Span) -> (u64, u64) {
        let first = self.skip(span.first).checked_shr(self.shift).unwrap_or(0);
        let last = self.skip(span.last).checked_shr(self.shift).unwrap_or(0);
        (first, last.saturating_sub(first).saturating_add(1))
    }
}

type Block = Box<[u64]>;

/// The store, in units of 4096 bytes.
#[derive(Default)]
pub(crate) struct Leftover {
    /// Ranges that are dirty as a whole.
    spans: SpanSet,
    blocks: BTreeMap<u64, Block>,
}

fn block_span(number: u64) -> Span {
    let first = number.checked_shl(BLOCK_BYTES_SHIFT).unwrap_or(u64::MAX);
    Span { first, last: first }.aligned_out(BLOCK_BYTES_SHIFT)
}

fn blocks_of(span: Span) -> std::ops::RangeInclusive<u64> {
    span.first >> BLOCK_BYTES_SHIFT..=span.last >> BLOCK_BYTES_SHIFT
}

impl Leftover {
    pub fn clear(&mut self) {
        *self = Leftover::default();
    }

    /// Everything in `span` is dirty.
    pub fn add(&mut self, span: Span) {
        self.spans.insert(span.aligned_out(UNIT_SHIFT));
    }

    /// Moves the bits of `span` in here.
    pub fn absorb(&mut self, bits: &mut Bits<'_>, span: Span) {
        for number in blocks_of(span) {
            let whole = block_span(number);
            let Some(part) = whole.intersect(span) else { continue };
            let (first, count) = bits.bits_of(part);
            if !bitmap::any(bits.words, first, count) {
                continue;
            }
            let block = self.blocks.entry(number).or_insert_with(|| vec![0; BLOCK_WORDS].into_boxed_slice());
            let into_block = part.first.saturating_sub(whole.first);
            let step = Move {
                src_shift: bits.shift,
                skip: bits.skip(part.first),
                len: part.bytes(),
                dst_shift: UNIT_SHIFT,
                dst_bit: into_block >> UNIT_SHIFT,
                dst_phase: into_block & (UNIT - 1),
            };
            let cells = Cell::from_mut(&mut **block).as_slice_of_cells();
            bitmap::drain(bits.words, Words::Plain(cells), &step);
        }
    }

    /// Offers what is kept of `span`: whole ranges to `run`, the rest as bits. What is not taken is kept.
    pub fn offer(&mut self, span: Span, sink: &mut dyn Taker) {
        let parts: Vec<Span> = self.spans.parts(span).collect();
        for part in parts {
            let rest = sink.run(part);
            self.spans.remove(part);
            if let Some(rest) = rest {
                self.spans.insert(rest);
            }
        }
        let numbers: Vec<u64> = self.blocks.range(blocks_of(span)).map(|(&number, _)| number).collect();
        for number in numbers {
            let whole = block_span(number);
            let (Some(part), Some(block)) = (whole.intersect(span), self.blocks.get_mut(&number)) else { continue };
            let mut bits = Bits { words: block, shift: UNIT_SHIFT, origin: i128::from(whole.first) };
            let refused = sink.bits(&mut bits, part).refused;
            if !bitmap::any(block, 0, 1 << BLOCK_SHIFT) {
                self.blocks.remove(&number);
            }
            refused.into_iter().for_each(|span| self.add(span));
        }
    }

    /// Bytes that are kept within any of `spans`, counted up to the first that are found.
    pub fn any_in(&self, spans: &SpanSet) -> bool {
        let kept = |span: Span| {
            self.spans.overlaps(span)
                || self.blocks.range(blocks_of(span)).any(|(&number, block)| {
                    let whole = block_span(number);
                    whole.intersect(span).is_some_and(|part| {
                        let first = part.first.saturating_sub(whole.first) >> UNIT_SHIFT;
                        bitmap::any(block, first, part.pages(UNIT_SHIFT))
                    })
                })
        };
        spans.iter().any(kept)
    }
}

/// Who takes what is kept.
pub(crate) trait Taker {
    /// A whole range; returns the part at its end that is not taken.
    fn run(&mut self, span: Span) -> Option<Span>;
    /// Bits of `span`; those that were looked at are cleared.
    fn bits(&mut self, bits: &mut Bits<'_>, span: Span) -> NotTaken;
}

/// What is to be kept of a span whose bits were offered.
#[derive(Debug, Default)]
pub(crate) struct NotTaken {
    /// Dirty, and refused.
    pub refused: Vec<Span>,
    /// Not looked at: its bits are as they were.
    pub rest: Option<Span>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Takes everything, as a set of units.
    #[derive(Default)]
    struct All(BTreeSet<u64>, Vec<u64>);

    impl All {
        fn put(&mut self, unit: u64) {
            if !self.0.insert(unit) {
                self.1.push(unit);
            }
        }
    }

    impl Taker for All {
        fn run(&mut self, span: Span) -> Option<Span> {
            (span.first >> UNIT_SHIFT..=span.last >> UNIT_SHIFT).for_each(|unit| self.put(unit));
            None
        }
        fn bits(&mut self, bits: &mut Bits<'_>, span: Span) -> NotTaken {
            let (first, count) = bits.bits_of(span);
            let mut at = first;
            while let Some((start, len)) = bitmap::next_run(bits.words, at, first + count) {
                for bit in start..start + len {
                    self.put(((bits.origin + ((bit as i128) << bits.shift)) >> UNIT_SHIFT) as u64);
                }
                at = start + len;
            }
            bitmap::clear_range(bits.words, first, count);
            NotTaken::default()
        }
    }

    fn unit_span(first: u64, units: u64) -> Span {
        Span { first: first * UNIT, last: (first + units) * UNIT - 1 }
    }

    /// Around a block's edge, where parts are cut.
    fn place() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..200, (1u64 << BLOCK_SHIFT) - 100..(1 << BLOCK_SHIFT) + 100]
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_once(
            steps in prop::collection::vec((0u8..3, place(), 1u64..150, any::<u64>()), 1..25),
        ) {
            let mut kept = Leftover::default();
            let mut model = BTreeSet::new();
            for (what, first, units, pattern) in steps {
                let span = unit_span(first, units);
                match what {
                    0 => {
                        kept.add(span);
                        model.extend(first..first + units);
                    }
                    1 => {
                        let mut words = [pattern, pattern.rotate_left(13), pattern.rotate_left(31), 0];
                        bitmap::clear_range(&mut words, units, 256 - units);
                        for bit in 0..units {
                            if words[bit as usize / 64] >> (bit % 64) & 1 == 1 {
                                model.insert(first + bit);
                            }
                        }
                        let mut bits = Bits { words: &mut words, shift: UNIT_SHIFT, origin: i128::from(span.first) };
                        kept.absorb(&mut bits, span);
                        prop_assert_eq!(words, [0; 4]);
                    }
                    _ => {
                        let mut all = All::default();
                        kept.offer(span, &mut all);
                        let wanted: BTreeSet<u64> = model.range(first..first + units).copied().collect();
                        prop_assert_eq!(&all.0, &wanted);
                        model.retain(|unit| !wanted.contains(unit));
                    }
                }
                let probe: SpanSet = [span].into_iter().collect();
                prop_assert_eq!(kept.any_in(&probe), model.range(first..first + units).next().is_some());
            }
        }
    }

    #[test]
    fn a_range_that_is_refused_stays() {
        struct No;
        impl Taker for No {
            fn run(&mut self, span: Span) -> Option<Span> {
                Some(span)
            }
            fn bits(&mut self, _: &mut Bits<'_>, _: Span) -> NotTaken {
                NotTaken::default()
            }
        }
        let mut kept = Leftover::default();
        kept.add(unit_span(5, 3));
        kept.offer(unit_span(0, 100), &mut No);
        assert!(kept.any_in(&[unit_span(7, 1)].into_iter().collect()));
        let top = Span { first: u64::MAX - UNIT + 1, last: u64::MAX };
        kept.add(top);
        let mut all = All::default();
        kept.offer(top, &mut all);
        assert_eq!(all.0.len(), 1);
    }

    #[test]
    fn nothing_is_allocated_for_what_is_clean() {
        let mut kept = Leftover::default();
        let mut words = vec![0u64; 4096];
        let mut bits = Bits { words: &mut words, shift: UNIT_SHIFT, origin: 0 };
        kept.absorb(&mut bits, unit_span(0, 4096 * 64));
        assert!(kept.blocks.is_empty());
    }
}
