//! Leftovers of mappings whose place another one has: their IOVA names other memory now, and only their cookie still names them.
//! Only callbacks that get cookies can have them, and a VMM may never ask by one; so each page costs some bytes, whatever cookies
//! there are, and a harvest without such a callback looks at none of them.

use super::UNIT_SHIFT;
use super::deliver::Deliverer;
use super::leftover::{
    BLOCK_BYTES_SHIFT, BLOCK_PAGES, BLOCK_SHIFT, Block, FEW, Leftover, NotTaken, Taker, bits, blank, block_span, cut,
    place,
};
use super::names::Names;
use super::parts::{Bits, Grid, plain};
use crate::bitmap;
use crate::log::log;
use crate::logs::ranges::Span;
use std::collections::{BTreeMap, BTreeSet};

/// From so many entries on the operator gets a line of the log.
const MANY: usize = 1 << 16;

/// The pages of one cookie in one block: number and cookie.
type Of = (u64, u64);

/// A piece of a block: 2^order pages from a multiple of that many on. In the order of blocks, then of cookies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AlignedRun(u128);

const ORDER_BITS: u32 = 4;
const COOKIE_AT: u32 = BLOCK_SHIFT + ORDER_BITS;
const NUMBER_AT: u32 = COOKIE_AT + 64;

// An IOVA has 64 bits.
const _: () = assert!(NUMBER_AT + 64 - BLOCK_BYTES_SHIFT <= 128 && BLOCK_SHIFT < 1 << ORDER_BITS);

impl AlignedRun {
    fn new((number, cookie): Of, place: u64, order: u32) -> Self {
        let fields = [(number, NUMBER_AT), (cookie, COOKIE_AT), (place, ORDER_BITS), (u64::from(order), 0)];
        AlignedRun(
            fields.into_iter().fold(0, |piece, (field, at)| piece | u128::from(field).checked_shl(at).unwrap_or(0)),
        )
    }

    fn field(self, at: u32, bits: u32) -> u64 {
        let mask = u128::MAX.checked_shl(bits).map_or(u128::MAX, |rest| !rest);
        // Not more than 64 bits are asked for.
        (self.0.checked_shr(at).unwrap_or(0) & mask) as u64
    }

    fn of(self) -> Of {
        (self.field(NUMBER_AT, 64), self.field(COOKIE_AT, 64))
    }

    /// Its first page in the block, and how many it has.
    fn pages(self) -> (u64, u64) {
        let order = self.field(0, ORDER_BITS) as u32;
        (self.field(ORDER_BITS, BLOCK_SHIFT), 1u64.checked_shl(order).unwrap_or(0))
    }

    /// All pieces that the pages of `of` may have.
    fn all(of: Of) -> std::ops::RangeInclusive<AlignedRun> {
        AlignedRun::new(of, 0, 0)..=AlignedRun::new(of, BLOCK_PAGES.saturating_sub(1), (1 << ORDER_BITS) - 1)
    }
}

/// Pages from `at` on, as few pieces as they have.
fn pieces(of: Of, mut at: u64, mut pages: u64) -> impl Iterator<Item = AlignedRun> {
    std::iter::from_fn(move || {
        let order = at.trailing_zeros().min(pages.checked_ilog2()?);
        let piece = AlignedRun::new(of, at, order);
        let (_, len) = piece.pages();
        (at, pages) = (at.saturating_add(len), pages.saturating_sub(len));
        Some(piece)
    })
}

/// The store.
#[derive(Default)]
pub(crate) struct Aside {
    /// Pages of cookies that have few pieces in a block.
    few: BTreeSet<AlignedRun>,
    /// All pages of cookies that have more.
    blocks: BTreeMap<Of, Block>,
    /// The log has the line that there are many.
    logged: bool,
}

impl Aside {
    pub fn is_empty(&self) -> bool {
        self.few.is_empty() && self.blocks.is_empty()
    }

    pub fn clear(&mut self) {
        *self = Aside::default();
    }

    /// Moves what is left of `span` in here.
    pub fn put(&mut self, cookie: u64, left: &mut Leftover, span: Span) {
        left.offer(span, &mut Into { aside: self, cookie });
    }

    /// Reports what of `span` the deliverer can take; with `keep` it is reported and stays.
    pub fn give(&mut self, span: Span, deliverer: &mut Deliverer<'_, '_>, keep: bool) {
        let mut at = Some((span.first >> BLOCK_BYTES_SHIFT, 0));
        while let Some(of) = at.and_then(|at| self.next(at)) {
            let (number, cookie) = of;
            let Some(part) = block_span(number).intersect(span) else { return };
            let asked = if self.any(of, part) { deliverer.asked_by_cookie(cookie, part) } else { Vec::new() };
            if !asked.is_empty() {
                let mut block = if keep { self.copy(of) } else { self.lift(of) };
                for (span, owner) in asked {
                    let refused =
                        deliverer.bits(owner, &mut bits(number, &mut block), span, Names::One(cookie)).refused;
                    refused.into_iter().for_each(|span| set(&mut block, span));
                }
                if !keep {
                    self.settle(of, block);
                }
            }
            if deliverer.stopped {
                return;
            }
            let next_number = || number.checked_add(1).map(|number| (number, 0));
            at = cookie.checked_add(1).map(|cookie| (number, cookie)).or_else(next_number);
        }
    }

    /// A line for the operator when many pages wait, and when they no longer do.
    pub fn log_amount(&mut self, name: &str) {
        let entries = self.few.len().saturating_add(self.blocks.len());
        let many = if self.logged { !self.is_empty() } else { entries >= MANY };
        if many && !self.logged {
            log!(
                Warning,
                "{name}: pages of {entries} parts of mappings that are gone wait, and other memory is mapped in their place: only a \
                 harvest with run can report them, and no migration can be completed before"
            );
        } else if self.logged && !many {
            log!(Info, "{name}: all pages of mappings that are gone were reported");
        }
        self.logged = many;
    }

    /// The first pages at `of` or after it.
    fn next(&self, of: Of) -> Option<Of> {
        let listed = self.few.range(AlignedRun::new(of, 0, 0)..).next().map(|piece| piece.of());
        let block = self.blocks.range(of..).next().map(|(&of, _)| of);
        listed.into_iter().chain(block).min()
    }

    /// Whether `of` has a page of `part`.
    fn any(&self, of: Of, part: Span) -> bool {
        let (first, count) = (place(part.first >> UNIT_SHIFT), part.pages(UNIT_SHIFT));
        let end = first.saturating_add(count);
        let touches = |(at, pages): (u64, u64)| at < end && first < at.saturating_add(pages);
        self.blocks.get(&of).is_some_and(|block| bitmap::any(block, first, count))
            || self.few.range(AlignedRun::all(of)).any(|piece| touches(piece.pages()))
    }

    fn copy(&self, of: Of) -> Block {
        let mut block = self.blocks.get(&of).cloned().unwrap_or_else(blank);
        for piece in self.few.range(AlignedRun::all(of)) {
            let (first, pages) = piece.pages();
            bitmap::set_range(plain(&mut block), first, pages);
        }
        block
    }

    /// Takes the pages out.
    fn lift(&mut self, of: Of) -> Block {
        let block = self.copy(of);
        self.blocks.remove(&of);
        while let Some(&piece) = self.few.range(AlignedRun::all(of)).next() {
            self.few.remove(&piece);
        }
        block
    }

    /// Puts all pages that there are of `of` into the form that is smaller.
    fn settle(&mut self, of: Of, block: Block) {
        let runs = bitmap::runs(&block, 0, BLOCK_PAGES).flat_map(|(at, pages)| pieces(of, at, pages));
        let list: Vec<AlignedRun> = runs.take(FEW.saturating_add(1)).collect();
        if list.len() > FEW {
            self.blocks.insert(of, block);
        } else {
            self.few.extend(list);
        }
    }
}

fn set(block: &mut Block, span: Span) {
    let page = |at: u64| at >> UNIT_SHIFT;
    bitmap::set_range(plain(block), place(page(span.first)), span.aligned_out(UNIT_SHIFT).pages(UNIT_SHIFT));
}

/// Takes all that is left over.
struct Into<'a> {
    aside: &'a mut Aside,
    cookie: u64,
}

impl Taker for Into<'_> {
    fn run(&mut self, span: Span) -> Option<Span> {
        for (part, number) in cut(span) {
            let mut block = self.aside.lift((number, self.cookie));
            set(&mut block, part);
            self.aside.settle((number, self.cookie), block);
        }
        None
    }

    fn bits(&mut self, bits: &mut Bits<'_>, span: Span) -> NotTaken {
        for (part, number) in cut(span) {
            if bits.any(part) {
                let mut block = self.aside.lift((number, self.cookie));
                let grid = Grid { shift: UNIT_SHIFT, first_bit: 0, iova: block_span(number).first };
                bits.drain(part, plain(&mut block), grid, 0);
                self.aside.settle((number, self.cookie), block);
            }
        }
        NotTaken::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Dest, Request};
    use super::*;
    use crate::logs::ranges::IovaRange;
    use proptest::prelude::*;

    fn unit_span(first: u64, units: u64) -> Span {
        Span { first: first << UNIT_SHIFT, last: (first.wrapping_add(units) << UNIT_SHIFT).wrapping_sub(1) }
    }

    fn put(aside: &mut Aside, cookie: u64, span: Span) {
        let mut left = Leftover::default();
        left.add(span);
        aside.put(cookie, &mut left, span);
        assert!(left.is_empty());
    }

    /// Asks for `span`, or for everything, as a callback that stops after `most` runs.
    fn ask(aside: &mut Aside, span: Option<Span>, keep: bool, most: usize) -> Vec<(u64, IovaRange)> {
        let mut reported = Vec::new();
        let mut run = |cookie: u64, range: IovaRange| {
            let taken = reported.len() < most;
            reported.extend(taken.then_some((cookie, range)));
            taken
        };
        let dest = |span: Span| Dest { range: span.range(), page_size: 4096, first_bit: 0, bitmap: None, token: 0 };
        let dests: Vec<Dest<'_>> = span.map(dest).into_iter().collect();
        let mut request = Request { dests: &dests, run: Some(&mut run), ..Request::default() };
        aside.give(span.unwrap_or(Span::ALL), &mut Deliverer::new(&mut request).unwrap(), keep);
        reported
    }

    fn pages(reported: &[(u64, IovaRange)]) -> Vec<(u64, u64)> {
        let pages = |&(cookie, range): &(u64, IovaRange)| {
            let first = range.iova >> UNIT_SHIFT;
            (first..first + (range.size >> UNIT_SHIFT)).map(move |page| (page, cookie))
        };
        let mut pages: Vec<_> = reported.iter().flat_map(pages).collect();
        pages.sort_unstable();
        pages
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(80))]

        /// Against a set of pages and cookies, around the edge of a block and at the end of the space.
        #[test]
        fn what_goes_in_comes_out_once(
            steps in prop::collection::vec((0u8..6, 0u64..3, 0u64..400, 1u64..150, 0u8..3), 1..40),
        ) {
            let mut aside = Aside::default();
            let mut model = BTreeSet::new();
            for (what, cookie, first, units, place) in steps {
                let cookie = [0, 7, u64::MAX][cookie as usize];
                let first = first + [0, BLOCK_PAGES - 200, (1 << 52) - 550][place as usize];
                let span = unit_span(first, units);
                let within = |model: &BTreeSet<(u64, u64)>| -> Vec<(u64, u64)> {
                    model.range((first, 0)..(first + units, 0)).copied().collect()
                };
                match what {
                    0 | 1 => {
                        put(&mut aside, cookie, span);
                        model.extend((first..first + units).map(|page| (page, cookie)));
                    }
                    2 => {
                        // Every other page.
                        (first..first + units).step_by(2).for_each(|page| put(&mut aside, cookie, unit_span(page, 1)));
                        model.extend((first..first + units).step_by(2).map(|page| (page, cookie)));
                    }
                    3 => prop_assert_eq!(pages(&ask(&mut aside, Some(span), true, usize::MAX)), within(&model)),
                    4 => {
                        let reported = pages(&ask(&mut aside, Some(span), false, usize::MAX));
                        prop_assert_eq!(&reported, &within(&model));
                        reported.iter().for_each(|page| { model.remove(page); });
                    }
                    _ => {
                        for page in pages(&ask(&mut aside, Some(span), false, 2)) {
                            prop_assert!(model.remove(&page), "reported twice, or never put: {page:?}");
                        }
                    }
                }
                let all: Vec<(u64, u64)> = model.iter().copied().collect();
                prop_assert_eq!(pages(&ask(&mut aside, None, true, usize::MAX)), all);
                prop_assert_eq!(aside.is_empty(), model.is_empty());
            }
        }
    }

    /// A destination's page may be larger than the mapping that is gone, and what is around it is not that mapping's: a run with its
    /// cookie never reaches beyond it.
    #[test]
    fn a_run_of_a_large_page_stays_within_what_was_put_aside() {
        for refuses_first in [false, true] {
            let mut aside = Aside::default();
            put(&mut aside, 1, unit_span(8, 41));
            put(&mut aside, 1, unit_span(60, 2));
            let dests =
                [Dest { range: unit_span(0, 4096).range(), page_size: 1 << 17, first_bit: 3, bitmap: None, token: 0 }];
            let mut reported = Vec::new();
            for refuses in [refuses_first, false] {
                let mut run = |cookie: u64, range: IovaRange| {
                    reported.extend((!refuses).then_some((cookie, range)));
                    !refuses
                };
                let mut request = Request { dests: &dests, run: Some(&mut run), ..Request::default() };
                let mut deliverer = Deliverer::new(&mut request).unwrap();
                aside.give(unit_span(0, 4096), &mut deliverer, false);
            }
            assert_eq!(reported, [(1, unit_span(8, 41).range()), (1, unit_span(60, 2).range())]);
            assert!(aside.is_empty());
        }
    }

    /// Whatever the layout: a page that stands alone takes an entry, a range that lies well takes one too, and half of all pages
    /// take bits.
    #[test]
    fn nothing_takes_much() {
        let mut aside = Aside::default();
        for cookie in 0..1000 {
            put(&mut aside, cookie, unit_span(5, 1));
            put(&mut aside, cookie, unit_span(1 << 9, 1 << 9));
        }
        assert_eq!((aside.few.len(), aside.blocks.len()), (2000, 0));
        put(&mut aside, 7, unit_span(1 << 20, 1 << 20));
        assert_eq!((aside.few.len(), aside.blocks.len()), (2000 + (1 << (20 - BLOCK_SHIFT)), 0));
        (0..BLOCK_PAGES).step_by(2).for_each(|page| put(&mut aside, 8, unit_span((1 << 30) + page, 1)));
        assert_eq!((aside.few.len(), aside.blocks.len()), (2000 + (1 << (20 - BLOCK_SHIFT)), 1));
        assert_eq!(size_of::<AlignedRun>(), 16);
    }
}
