//! Reports what was read to its owners: into bitmaps, or to callbacks as aligned words or as runs.

use super::UNIT_SHIFT;
use super::leftover::{NotTaken, Taker};
use super::names::Names;
use super::parts::{Bits, Grid, plain};
use super::request::{Dest, Request, RunFn, WordsFn};
use super::tally::{Harvest, Tally};
use crate::bitmap::{self, Count};
use crate::error::{Error, Result};
use crate::logs::log::Maps;
use crate::logs::ranges::{Span, SpanSet};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Words that a callback gets at once: 32 KiB, which stay in the first cache.
const STAGE_WORDS: usize = 4096;
const STAGE_BITS: u64 = STAGE_WORDS as u64 * 64;

/// The owner of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A destination of the request.
    Dest(usize),
    /// The run callback, for a mapping with this cookie.
    Mapping(u64),
    /// No owner yet: the tracker keeps it.
    Tracker,
}

pub(crate) struct Deliverer<'d, 'r> {
    dests: &'r [Dest<'r>],
    words: Option<&'d mut WordsFn<'r>>,
    /// Its words are in another order than the host's.
    swaps: bool,
    run: Option<&'d mut RunFn<'r>>,
    /// All destinations.
    pub asked: SpanSet,
    /// First byte → last byte and number of a destination.
    places: BTreeMap<u64, (u64, usize)>,
    stage: Vec<u64>,
    /// A run that the next bits may continue: cookie, where it lies, bytes of a page.
    open_run: Option<(u64, Span, u32)>,
    /// Runs that were open when the callback stopped the harvest.
    refused: Vec<Span>,
    pub count: Count,
    /// A callback stopped the harvest, or panicked: the rest is kept.
    pub stopped: bool,
    /// A callback's panic, which is resumed when nothing can be lost by it any more.
    panic: Option<Box<dyn Any + Send>>,
}
impl<'d, 'r> Deliverer<'d, 'r> {
    /// Checks the request, before anything is read for it.
    pub fn new(request: &'d mut Request<'r>) -> Result<Deliverer<'d, 'r>> {
        let mut this = Deliverer::no_owner();
        for (index, dest) in request.dests.iter().enumerate() {
            let span = dest.check(index).map_err(Error::argument)?;
            if this.asked.overlaps(span) {
                return Err(Error::argument(format!("dests[{index}] overlaps another: a page is given once")));
            }
            if dest.bitmap.is_none() && request.words.is_none() && request.run.is_none() {
                return Err(Error::argument(format!("dests[{index}] has no bitmap, and there is no callback")));
            }
            this.asked.insert(span);
            this.places.insert(span.first, (span.last, index));
        }
        if request.little_endian && request.words.is_none() {
            return Err(Error::argument("words in little-endian order, and there is no callback that gets words"));
        }
        this.swaps = request.little_endian && cfg!(target_endian = "big");
        this.dests = request.dests;
        this.words = request.words.as_deref_mut();
        this.run = request.run.as_deref_mut();
        Ok(this)
    }

    /// Without owners: all is kept.
    pub fn no_owner() -> Self {
        Deliverer {
            dests: &[],
            words: None,
            swaps: false,
            run: None,
            asked: SpanSet::default(),
            places: BTreeMap::new(),
            stage: Vec::new(),
            open_run: None,
            refused: Vec::new(),
            count: Count::default(),
            stopped: false,
            panic: None,
        }
    }

    /// The end of the call.
    pub fn finish(self, tally: Tally) -> Harvest {
        if let Some(panic) = self.panic.or(tally.panic) {
            resume_unwind(panic);
        }
        Harvest {
            newly: self.count.newly,
            total: self.count.total,
            degraded_bytes: tally.degraded_bytes,
            reads: tally.reads,
            failed_reads: tally.failed,
            first_errno: tally.first_errno,
            stopped: self.stopped,
        }
    }

    pub fn wants_everything(&self) -> bool {
        self.dests.is_empty() && self.run.is_some()
    }

    /// All that is asked.
    pub fn wanted(&self) -> Vec<Span> {
        if self.wants_everything() { vec![Span::ALL] } else { self.asked.iter().collect() }
    }

    /// What is asked of `span`, with its owners; of unmapped ranges too if `gone` has their names.
    pub fn asked(&self, maps: &Maps, gone: Option<&Maps>, span: Span) -> Vec<(Span, Owner)> {
        if self.wants_everything() {
            let part = |(whole, cookie): (Span, u64)| Some((whole.intersect(span)?, Owner::Mapping(cookie)));
            return [Some(maps), gone]
                .into_iter()
                .flatten()
                .flat_map(|maps| maps.overlapping(span))
                .filter_map(part)
                .collect();
        }
        let begin = self.places.range(..=span.first).next_back().map_or(span.first, |(&first, _)| first);
        let part = |(&first, &(last, index)): (&u64, &(u64, usize))| {
            Some((Span { first, last }.intersect(span)?, Owner::Dest(index)))
        };
        self.places.range(begin..=span.last).filter_map(part).collect()
    }

    /// Whether a callback gets cookies.
    pub fn takes_cookies(&self) -> bool {
        let by_run = |dest: &Dest<'_>| dest.bitmap.is_none() && self.words.is_none();
        self.wants_everything() || self.dests.iter().any(by_run)
    }

    /// Owners of `span` that get a cookie: a bitmap and words name pages by their IOVA.
    pub fn asked_by_cookie(&self, cookie: u64, span: Span) -> Vec<(Span, Owner)> {
        if self.wants_everything() {
            return vec![(span, Owner::Mapping(cookie))];
        }
        let nothing = Maps::default();
        let mut asked = self.asked(&nothing, None, span);
        asked.retain(|&(_, owner)| self.words.is_none() && self.dest(owner).is_some_and(|dest| dest.bitmap.is_none()));
        asked
    }

    /// `span` in pieces: what is asked of what is mapped, and what is mapped and not asked. Bits of holes have no owner,
    /// whatever is asked: a type1 container sets some, because it shifts the bits of a mapping to their place in the request and
    /// later clears them at their place in the mapping.
    pub fn pieces(&self, maps: &Maps, span: Span) -> Vec<(Span, Owner)> {
        let mut pieces = Vec::new();
        for (part, owner) in self.asked(maps, None, span) {
            pieces.extend(maps.mapped.parts(part).map(|piece| (piece, owner)));
        }
        if !self.wants_everything() {
            for part in maps.mapped.parts(span) {
                pieces.extend(self.asked.holes(part).into_iter().map(|hole| (hole, Owner::Tracker)));
            }
        }
        pieces
    }

    fn dest(&self, owner: Owner) -> Option<&'r Dest<'r>> {
        match owner {
            Owner::Dest(index) => self.dests.get(index),
            _ => None,
        }
    }

    fn grid(&self, owner: Owner, span: Span) -> Grid {
        match self.dest(owner) {
            Some(dest) => {
                Grid { shift: dest.page_size.trailing_zeros(), first_bit: dest.first_bit, iova: dest.range.iova }
            }
            None => Grid { shift: UNIT_SHIFT, first_bit: 0, iova: span.first },
        }
    }

    /// Moves the bits of `span` to their owner, and clears them; returns what a callback did not take.
    pub fn bits(&mut self, owner: Owner, bits: &mut Bits<'_>, span: Span, names: Names<'_>) -> NotTaken {
        if self.stopped || owner == Owner::Tracker {
            return NotTaken { refused: Vec::new(), rest: Some(span) };
        }
        // Without mappings nothing cuts a run of a larger page to what the cookie stands for.
        let grid = match names {
            Names::Of(..) => self.grid(owner, span),
            Names::One(_) => Grid { shift: UNIT_SHIFT, first_bit: 0, iova: span.first },
        };
        if let Some(words) = self.dest(owner).and_then(|dest| dest.bitmap) {
            self.add(bits.drain(span, words, grid, 0));
            return NotTaken::default();
        }
        let mut at = Some(span.first);
        while !self.stopped {
            let Some((first, part)) = next_window(&mut at, span, grid) else { break };
            if bits.any(part) {
                let mut stage = self.take_stage();
                bits.drain_piece(part, span.last, plain(&mut stage), grid, first);
                self.flush_stage(owner, grid, first, part, &mut stage, names);
                self.stage = stage;
            }
        }
        let refused = self.close_run();
        let rest = at.filter(|&first| self.stopped && first <= span.last).map(|first| Span { first, last: span.last });
        NotTaken { refused, rest }
    }

    /// Gives a range that is dirty as a whole; returns the part at its end that was not taken.
    pub fn run(&mut self, owner: Owner, span: Span, names: Names<'_>) -> Option<Span> {
        if self.stopped || owner == Owner::Tracker {
            return Some(span);
        }
        let grid = self.grid(owner, span);
        let dest = self.dest(owner);
        if let Some(words) = dest.and_then(|dest| dest.bitmap) {
            let (first, _) = grid.place(span.first);
            let (last, _) = grid.place(span.last);
            self.add(bitmap::set_range(words, first, last.saturating_sub(first).saturating_add(1)));
            return None;
        }
        if dest.is_none() || self.words.is_none() {
            self.each_mapping(owner, span, grid.shift, names);
            return self.close_run().first().map(|refused| Span { first: refused.first, last: span.last });
        }
        let mut at = Some(span.first);
        while let Some((first, part)) = next_window(&mut at, span, grid) {
            let mut stage = self.take_stage();
            let (from, to) = (grid.place(part.first).0, grid.place(part.last).0);
            bitmap::set_range(plain(&mut stage), from.saturating_sub(first), to.saturating_sub(from).saturating_add(1));
            self.flush_stage(owner, grid, first, part, &mut stage, names);
            self.stage = stage;
            if self.stopped {
                self.refused.clear();
                return Some(Span { first: part.first, last: span.last });
            }
        }
        None
    }

    fn add(&mut self, more: Count) {
        self.count.newly = self.count.newly.saturating_add(more.newly);
        self.count.total = self.count.total.saturating_add(more.total);
    }

    /// A callback took so many pages: it cannot say which of them it knew.
    fn took(&mut self, pages: u64) {
        self.add(Count { newly: pages, total: pages });
    }

    fn take_stage(&mut self) -> Vec<u64> {
        let mut stage = std::mem::take(&mut self.stage);
        stage.resize(STAGE_WORDS, 0);
        stage
    }

    /// Hands a window of bits to the callback; what it refuses is noted. Afterwards the window is zero.
    fn flush_stage(&mut self, owner: Owner, grid: Grid, first: u64, part: Span, stage: &mut [u64], names: Names<'_>) {
        if let (Some(dest), Some(words)) = (self.dest(owner), self.words.as_deref_mut()) {
            let begin = stage.iter().position(|&word| word != 0).unwrap_or(0);
            let end = stage.iter().rposition(|&word| word != 0).map_or(begin, |last| last.saturating_add(1));
            let full = stage.get_mut(begin..end).unwrap_or(&mut []);
            let pages = full.iter().map(|word| u64::from(word.count_ones())).fold(0, u64::saturating_add);
            let first = first.saturating_add((begin as u64).saturating_mul(64));
            if self.swaps {
                swap(full);
            }
            if pages > 0 && answer(&mut self.panic, || words(dest, first, full)) {
                full.fill(0);
                self.took(pages);
            } else if pages > 0 {
                // What was refused is kept in the host's order.
                if self.swaps {
                    swap(full);
                }
                self.stopped = true;
            }
        }
        let mut from = 0;
        while let Some((start, len)) = bitmap::next_run(stage, from, STAGE_BITS) {
            from = start.saturating_add(len);
            bitmap::clear_range(stage, start, len);
            let begin = grid.iova_of(first.saturating_add(start)).max(i128::from(part.first));
            let end = grid.iova_of(first.saturating_add(from)).saturating_sub(1).min(i128::from(part.last));
            let (Ok(begin), Ok(end)) = (u64::try_from(begin), u64::try_from(end)) else { continue };
            self.each_mapping(owner, Span { first: begin, last: end }, grid.shift, names);
        }
    }

    /// A run, cut where mappings meet, because each has a cookie of its own.
    fn each_mapping(&mut self, owner: Owner, span: Span, shift: u32, names: Names<'_>) {
        let names = if let Owner::Mapping(cookie) = owner { Names::One(cookie) } else { names };
        let mut at = Some(span.first);
        while let Some(first) = at.filter(|&first| first <= span.last) {
            let (part, cookie) = names.first_of(Span { first, last: span.last });
            // A page of the destination may reach beyond what is mapped.
            match cookie {
                Some(_) if self.stopped => self.refused.push(part),
                Some(cookie) => self.extend_run(cookie, part, shift),
                None => {}
            }
            at = part.last.checked_add(1);
        }
    }

    fn extend_run(&mut self, cookie: u64, span: Span, shift: u32) {
        let goes_on =
            |(open, whole, _): &(u64, Span, u32)| *open == cookie && whole.last.checked_add(1) == Some(span.first);
        if let Some((_, whole, _)) = self.open_run.as_mut().filter(|run| goes_on(run)) {
            whole.last = span.last;
            return;
        }
        let before = self.open_run.take();
        self.open_run = Some((cookie, span, shift));
        if let Some((cookie, whole, shift)) = before {
            self.hand_over(cookie, whole, shift);
        }
    }

    fn hand_over(&mut self, cookie: u64, span: Span, shift: u32) {
        let Deliverer { run, panic, stopped, .. } = self;
        let took = |run: &mut &mut RunFn<'r>| answer(panic, || run(cookie, span.range()));
        if !*stopped && run.as_mut().is_some_and(took) {
            self.took(span.pages(shift));
        } else {
            self.stopped = true;
            self.refused.push(span);
        }
    }

    /// Hands the open run over; returns what was refused, in order.
    fn close_run(&mut self) -> Vec<Span> {
        if let Some((cookie, span, shift)) = self.open_run.take() {
            self.hand_over(cookie, span, shift);
        }
        std::mem::take(&mut self.refused)
    }
}

fn swap(words: &mut [u64]) {
    words.iter_mut().for_each(|word| *word = word.swap_bytes());
}

/// What a callback answers. A panic is a stop first.
fn answer(panic: &mut Option<Box<dyn Any + Send>>, ask: impl FnOnce() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|payload| {
        *panic = Some(payload);
        false
    })
}

/// The next window of a callback within `span`: the number of its first bit, a multiple of 64, and its part of `span`.
fn next_window(at: &mut Option<u64>, span: Span, grid: Grid) -> Option<(u64, Span)> {
    let first = (*at).filter(|&first| first <= span.last)?;
    let (bit, _) = grid.place(first);
    let window = bit & !63;
    let end = grid.iova_of(window.saturating_add(STAGE_BITS)).saturating_sub(1);
    let last = u64::try_from(end).unwrap_or(u64::MAX).min(span.last);
    *at = last.checked_add(1);
    Some((window, Span { first, last }))
}

/// What is kept goes to one of those who asked.
pub(crate) struct Offer<'o, 'd, 'r> {
    pub deliverer: &'o mut Deliverer<'d, 'r>,
    pub owner: Owner,
    pub names: Names<'o>,
}

impl Taker for Offer<'_, '_, '_> {
    fn run(&mut self, span: Span) -> Option<Span> {
        self.deliverer.run(self.owner, span, self.names)
    }
    fn bits(&mut self, bits: &mut Bits<'_>, span: Span) -> NotTaken {
        self.deliverer.bits(self.owner, bits, span, self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::super::UNIT;
    use super::*;
    use std::cell::Cell;

    const UNITS: u64 = 70;

    /// The first bit and the words of each call of a callback.
    type Got = Vec<(u64, Vec<u64>)>;

    /// What a callback gets of units 1 and 69 as on a host of the other order, and what is kept if it refuses: as bits, and as
    /// a run.
    fn swapped(takes: bool) -> (Got, Vec<Span>, u64) {
        let span = Span { first: 0, last: UNITS * UNIT - 1 };
        let dests = [Dest { range: span.range(), page_size: UNIT, first_bit: 0, bitmap: None, token: 0 }];
        let got = Cell::new(Got::new());
        let mut words = |_: &Dest<'_>, first: u64, words: &[u64]| {
            let mut all = got.take();
            all.push((first, words.to_vec()));
            got.set(all);
            takes
        };
        let mut request = Request { dests: &dests, words: Some(&mut words), little_endian: true, ..Request::default() };
        let mut deliverer = Deliverer::new(&mut request).unwrap();
        assert_eq!(deliverer.swaps, cfg!(target_endian = "big"));
        deliverer.swaps = true;
        let mut maps = Maps::default();
        maps.insert(span, 0);
        let nothing = Maps::default();
        let names = Names::Of(&maps, &nothing);
        let mut log = [1 << 1, 1 << (69 - 64)];
        let mut bits = Bits { words: &mut log, shift: UNIT_SHIFT, origin: 0 };
        let kept = deliverer.bits(Owner::Dest(0), &mut bits, span, names);
        if takes {
            let run = Span { first: 8 * UNIT, last: 9 * UNIT - 1 };
            assert_eq!(deliverer.run(Owner::Dest(0), run, names), None);
        }
        let count = deliverer.count.total;
        (got.take(), kept.refused, count)
    }

    #[test]
    fn words_in_the_other_order_are_swapped_and_refused_ones_swapped_back() {
        let pieces = (0, vec![(1u64 << 1).swap_bytes(), (1u64 << 5).swap_bytes()]);
        let (got, kept, count) = swapped(true);
        assert_eq!((got, kept, count), (vec![pieces.clone(), (0, vec![(1u64 << 8).swap_bytes()])], Vec::new(), 3));
        let (got, kept, count) = swapped(false);
        let unit = |unit: u64| Span { first: unit * UNIT, last: unit * UNIT + UNIT - 1 };
        assert_eq!((got, kept, count), (vec![pieces], vec![unit(1), unit(69)], 0));
    }

    #[test]
    fn bytes_of_a_little_endian_word_are_eight_pages_each() {
        let mut words = [1u64 << 9];
        if cfg!(target_endian = "big") {
            swap(&mut words);
        }
        assert_eq!(words[0].to_ne_bytes(), [0, 2, 0, 0, 0, 0, 0, 0]);
    }
}
