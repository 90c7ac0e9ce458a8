//! What was read and not yet reported: kernels clear more than was asked for (L7, I5, T3), so it is kept for the harvest that
//! asks. Nothing is reported twice, nothing is lost.

use super::UNIT_SHIFT;
use super::parts::{Bits, Grid, Reported, plain};
use crate::bitmap;
use crate::logs::ranges::{Span, SpanSet};
use std::collections::{BTreeMap, BTreeSet};

/// Pages of one block: 2 KiB of bits for 64 MiB of IOVA, so that a full leftover costs little more than one bit a page.
pub(super) const BLOCK_SHIFT: u32 = 14;
pub(super) const BLOCK_PAGES: u64 = 1 << BLOCK_SHIFT;
const BLOCK_WORDS: usize = 1 << (BLOCK_SHIFT - 6);
pub(super) const BLOCK_BYTES_SHIFT: u32 = UNIT_SHIFT + BLOCK_SHIFT;
/// Up to here the pages of a block are listed: about 25 bytes each, so that no scattering takes more than that for a page.
pub(super) const FEW: usize = 80;

pub(super) type Block = Box<[u64]>;

/// The store, in units of 4096 bytes.
#[derive(Default)]
pub(crate) struct Leftover {
    /// Ranges that are dirty as a whole.
    spans: SpanSet,
    /// Pages by number, of blocks that have few.
    few: BTreeSet<u64>,
    /// By number: all pages of blocks that have more.
    blocks: BTreeMap<u64, Block>,
    /// A block with no bit, to be used next.
    spare: Option<Block>,
}

pub(super) fn block_span(number: u64) -> Span {
    let first = number.checked_shl(BLOCK_BYTES_SHIFT).unwrap_or(u64::MAX);
    Span { first, last: first }.aligned_out(BLOCK_BYTES_SHIFT)
}

/// `span` cut where blocks meet.
pub(super) fn cut(span: Span) -> impl Iterator<Item = (Span, u64)> + Clone {
    let numbers = span.first >> BLOCK_BYTES_SHIFT..=span.last >> BLOCK_BYTES_SHIFT;
    numbers.filter_map(move |number| Some((block_span(number).intersect(span)?, number)))
}

fn pages_of(span: Span) -> std::ops::RangeInclusive<u64> {
    span.first >> UNIT_SHIFT..=span.last >> UNIT_SHIFT
}

/// The bits of a block.
pub(super) fn bits(number: u64, block: &mut Block) -> Bits<'_> {
    Bits { words: block, shift: UNIT_SHIFT, origin: block_span(number).first }
}

pub(super) fn blank() -> Block {
    vec![0; BLOCK_WORDS].into_boxed_slice()
}

/// The place of a page in its block.
pub(super) fn place(page: u64) -> u64 {
    page & (BLOCK_PAGES - 1)
}

impl Leftover {
    pub fn clear(&mut self) {
        *self = Leftover::default();
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.few.is_empty() && self.blocks.is_empty()
    }

    /// Everything in `span` is dirty.
    pub fn add(&mut self, span: Span) {
        self.spans.insert(span.aligned_out(UNIT_SHIFT));
    }

    /// Moves the bits of `span` in here.
    pub fn absorb(&mut self, from: &mut Bits<'_>, span: Span) {
        from.report(cut(span), &mut |number, reported| match reported {
            Reported::Part(part) => self.add(part),
            Reported::Bits(bits, part) if bits.any(part) => self.absorb_block(number, bits, part),
            Reported::Bits(..) => {}
        });
    }

    fn absorb_block(&mut self, number: u64, from: &mut Bits<'_>, part: Span) {
        let grid = Grid { shift: UNIT_SHIFT, first_bit: 0, iova: block_span(number).first };
        if let Some(block) = self.blocks.get_mut(&number) {
            from.drain(part, plain(block), grid, 0);
            return;
        }
        let mut block = self.blank();
        from.drain(part, plain(&mut block), grid, 0);
        let listed: Vec<u64> = self.few.range(pages_of(block_span(number))).copied().collect();
        if count(&block).saturating_add(listed.len() as u64) > FEW as u64 {
            for page in listed {
                self.few.remove(&page);
                bitmap::set_range(plain(&mut block), place(page), 1);
            }
        }
        self.settle(number, block);
    }

    /// An empty block.
    fn blank(&mut self) -> Block {
        self.spare.take().unwrap_or_else(blank)
    }

    /// Puts a block with all of its pages, or more pages of a block that has few, into the form that is smaller.
    fn settle(&mut self, number: u64, mut block: Block) {
        if count(&block) > FEW as u64 {
            self.blocks.insert(number, block);
            return;
        }
        let first = number.checked_shl(BLOCK_SHIFT).unwrap_or(0);
        for (at, len) in bitmap::runs(&block, 0, BLOCK_PAGES) {
            self.few.extend((at..at.saturating_add(len)).map(|place| first.saturating_add(place)));
        }
        block.fill(0);
        self.spare = Some(block);
    }

    /// Takes the pages of a part of a block out; what is taken of one that has many has also those beyond the part.
    fn lift(&mut self, number: u64, part: Span) -> Block {
        if let Some(block) = self.blocks.remove(&number) {
            return block;
        }
        let mut block = self.blank();
        let listed: Vec<u64> = self.few.range(pages_of(part)).copied().collect();
        for page in listed {
            self.few.remove(&page);
            bitmap::set_range(plain(&mut block), place(page), 1);
        }
        block
    }

    /// The parts of `span` in blocks that have pages, with the number of each block.
    fn parts(&self, span: Span) -> Vec<(Span, u64)> {
        let mut numbers: BTreeSet<u64> = self
            .blocks
            .range(span.first >> BLOCK_BYTES_SHIFT..=span.last >> BLOCK_BYTES_SHIFT)
            .map(|block| *block.0)
            .collect();
        let mut rest = Some(pages_of(span));
        while let Some(page) = rest.and_then(|rest| self.few.range(rest).next()) {
            let number = page >> BLOCK_SHIFT;
            numbers.insert(number);
            let next = number.saturating_add(1).checked_shl(BLOCK_SHIFT);
            rest = next.filter(|next| *next <= span.last >> UNIT_SHIFT).map(|next| next..=span.last >> UNIT_SHIFT);
        }
        numbers.into_iter().filter_map(|number| Some((block_span(number).intersect(span)?, number))).collect()
    }

    /// Offers what is kept of `span`: whole ranges to `run`, the rest as bits. What is not taken is kept.
    pub fn offer(&mut self, span: Span, sink: &mut dyn Taker) {
        let whole: Vec<Span> = self.spans.parts(span).collect();
        for range in whole {
            // Reported once, though it may be here twice.
            for (part, number) in self.parts(range) {
                let mut block = self.lift(number, part);
                bits(number, &mut block).forget(part);
                self.settle(number, block);
            }
            let rest = sink.run(range);
            self.spans.remove(range);
            if let Some(rest) = rest {
                self.spans.insert(rest);
            }
        }
        for (part, number) in self.parts(span) {
            let mut block = self.lift(number, part);
            let refused = sink.bits(&mut bits(number, &mut block), part).refused;
            self.settle(number, block);
            refused.into_iter().for_each(|span| self.add(span));
        }
    }

    /// As [`offer`](Self::offer), and all is kept.
    pub fn show(&self, span: Span, sink: &mut dyn Taker) {
        for range in self.spans.parts(span) {
            if sink.run(range).is_some() {
                return;
            }
        }
        for (part, number) in self.parts(span) {
            let mut block = self.copy(number, part);
            let mut copy = bits(number, &mut block);
            self.spans.parts(part).for_each(|reported| copy.forget(reported));
            sink.bits(&mut copy, part);
        }
    }

    /// The pages of a part of a block, or more of them.
    fn copy(&self, number: u64, part: Span) -> Block {
        let mut block = self.blocks.get(&number).cloned().unwrap_or_else(blank);
        for &page in self.few.range(pages_of(part)) {
            bitmap::set_range(plain(&mut block), place(page), 1);
        }
        block
    }

    /// Where something is kept, at `at` or after it: not more than a block that is not dirty as a whole, and with gaps.
    pub fn next(&self, at: u64) -> Option<Span> {
        let all = Span { first: at, last: u64::MAX };
        let listed = self.few.range(at >> UNIT_SHIFT..).next().map(|page| page >> BLOCK_SHIFT);
        let block = self.blocks.range(at >> BLOCK_BYTES_SHIFT..).next().map(|block| *block.0);
        let block = listed.into_iter().chain(block).min().map(block_span);
        let whole = self.spans.parts(all).next();
        let parts = block.into_iter().chain(whole).filter_map(|span| span.intersect(all));
        parts.min_by_key(|part| (part.first, std::cmp::Reverse(part.last)))
    }

    /// Whether something is kept of `span`.
    pub fn any(&self, span: Span) -> bool {
        self.spans.overlaps(span)
            || self.few.range(pages_of(span)).next().is_some()
            || self.blocks.range(span.first >> BLOCK_BYTES_SHIFT..=span.last >> BLOCK_BYTES_SHIFT).any(
                |(&number, block)| {
                    let part = block_span(number).intersect(span);
                    part.is_some_and(|part| bitmap::any(block, place(*pages_of(part).start()), part.pages(UNIT_SHIFT)))
                },
            )
    }
}

fn count(block: &[u64]) -> u64 {
    bitmap::count(block, 0, BLOCK_PAGES)
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
    use super::super::UNIT;
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
            let origin = bits.origin >> UNIT_SHIFT;
            assert_eq!(bits.shift, UNIT_SHIFT);
            for (first, count) in bitmap::runs(bits.words, 0, BLOCK_PAGES) {
                let pages = origin + first..origin + first + count;
                pages.filter(|page| pages_of(span).contains(page)).for_each(|page| self.put(page));
            }
            bits.forget(span);
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
                        let mut bits = Bits { words: &mut words, shift: UNIT_SHIFT, origin: span.first };
                        kept.absorb(&mut bits, span);
                        prop_assert_eq!(words, [0; 4]);
                    }
                    _ => {
                        let mut all = All::default();
                        kept.show(span, &mut all);
                        let shown = all.0;
                        let mut all = All::default();
                        kept.offer(span, &mut all);
                        prop_assert_eq!(&shown, &all.0);
                        let wanted: BTreeSet<u64> = model.range(first..first + units).copied().collect();
                        prop_assert_eq!(&all.0, &wanted);
                        prop_assert!(all.1.is_empty(), "reported twice: {:?}", all.1);
                        model.retain(|unit| !wanted.contains(unit));
                    }
                }
                prop_assert_eq!(kept.any(span), model.range(first..first + units).next().is_some());
                prop_assert_eq!(kept.is_empty(), model.is_empty());
                let mut found = BTreeSet::new();
                let mut at = Some(0);
                while let Some(region) = at.and_then(|at| kept.next(at)) {
                    found.extend(model.range(pages_of(region)).copied());
                    at = region.last.checked_add(1);
                }
                prop_assert_eq!(&found, &model);
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
        assert!(kept.any(unit_span(7, 1)));
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
        assert!(kept.is_empty() && kept.spare.is_none());
    }

    /// Whatever the layout, 10^6 pages stay below 32 MiB.
    #[test]
    fn scattered_pages_take_little_memory() {
        // Pages in a block: few, as many as are listed, one more, and half of all.
        for pages in [1, FEW as u64, FEW as u64 + 1, BLOCK_PAGES / 2] {
            let mut kept = Leftover::default();
            let blocks = 100_000 / pages;
            for number in 0..blocks {
                let mut block = kept.blank();
                for n in 0..pages {
                    bitmap::set_range(plain(&mut block), n * (BLOCK_PAGES / pages), 1);
                }
                kept.absorb(&mut bits(number, &mut block), block_span(number));
            }
            // A node of a tree has 6 of 11 places in use at worst, and a sixth of the nodes has links.
            let bytes = kept.few.len() * 25 + kept.blocks.len() * (BLOCK_WORDS * 8 + 64);
            assert!(bytes as u64 * 1_000_000 / (blocks * pages) < 32 << 20, "{pages}: {bytes}");
            let listed = kept.blocks.values().map(|block| count(block)).sum::<u64>() + kept.few.len() as u64;
            assert_eq!((listed, kept.few.is_empty()), (blocks * pages, pages > FEW as u64));
            // A block of which little is left is listed again.
            kept.offer(unit_span(1, BLOCK_PAGES - 1), &mut All::default());
            assert_eq!((kept.few.first(), kept.blocks.contains_key(&0)), (Some(&0), false));
        }
    }
}
