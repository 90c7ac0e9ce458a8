//! Dirt belongs to the mapping it was written through. Its IOVA names it only as long as nothing else is mapped there; its cookie
//! always does. So what is left over of an unmapped range keeps its cookie, and where the IOVA comes to mean other memory it is put
//! aside, for callbacks that get cookies: a bitmap would tell it of the wrong page.

use super::deliver::{Deliverer, Offer, Whom};
use super::leftover::{Leftover, NotTaken, Taker};
use super::log::Maps;
use super::parts::Bits;
use super::ranges::Span;
use super::tracker::Book;

/// The cookies of ranges.
#[derive(Clone, Copy)]
pub(crate) enum Names<'m> {
    /// Those of mappings, and of unmapped ranges.
    Of(&'m Maps, &'m Maps),
    /// Whatever the range.
    One(u64),
}

impl Names<'_> {
    /// The part at the beginning of `span` that has one cookie, or none: nobody can have written there.
    pub fn first_of(self, span: Span) -> (Span, Option<u64>) {
        let (maps, gone) = match self {
            Names::One(cookie) => return (span, Some(cookie)),
            Names::Of(maps, gone) => (maps, gone),
        };
        let begins =
            |maps: &Maps| maps.overlapping(span).find_map(|(whole, name)| Some((whole.intersect(span)?, name)));
        match begins(maps).into_iter().chain(begins(gone)).min() {
            Some((part, cookie)) if part.first == span.first => (part, Some(cookie)),
            Some((part, _)) => (Span { first: span.first, last: part.first.saturating_sub(1) }, None),
            None => (span, None),
        }
    }
}

impl Book {
    /// A mapping was made. Leftovers of another one in its place can be named by their cookie only from now on.
    pub fn map(&mut self, span: Span, cookie: u64) {
        for (part, old) in self.gone.cut(span) {
            if old != cookie && self.left.any(part) {
                let aside = self.aside.entry(old).or_default();
                self.left.offer(part, &mut Into(aside));
                aside.trim();
            }
        }
        self.maps.insert(span, cookie);
    }

    /// Mappings are gone; what is left over of them keeps its name.
    pub fn unmap(&mut self, span: Span) {
        let left = self.maps.overlapping(span).filter(|(whole, _)| self.left.any(*whole));
        let left: Vec<(Span, u64)> = left.collect();
        self.maps.remove(span);
        left.into_iter().for_each(|(whole, cookie)| self.gone.insert(whole, cookie));
    }

    /// Forgets what was read.
    pub fn clear(&mut self) {
        self.left.clear();
        self.gone = Maps::default();
        self.aside.clear();
    }

    /// Whether all that was read was given.
    pub fn is_given(&self) -> bool {
        self.left.is_empty() && self.aside.values().all(Leftover::is_empty)
    }

    /// Gives what earlier reads left over; with `keep` it is told and stays.
    pub fn give(&mut self, deliverer: &mut Deliverer<'_, '_>, keep: bool) {
        let Book { maps, gone, left, aside, .. } = self;
        let wanted = deliverer.wanted();
        // An unmapping that asks for nothing looks at nothing: there may be a store for each of many cookies.
        if wanted.is_empty() {
            return;
        }
        let giving = Giving { wanted: &wanted, keep };
        let names = Names::Of(maps, gone);
        giving.of(left, deliverer, |deliverer, kept| deliverer.asked(maps, Some(gone), kept), names);
        for (&cookie, left) in aside.iter_mut() {
            giving.of(left, deliverer, |deliverer, kept| deliverer.asked_by_cookie(cookie, kept), Names::One(cookie));
        }
        aside.retain(|_, left| {
            left.trim();
            !left.is_empty()
        });
        let asked = wanted.iter().flat_map(|&span| gone.overlapping(span)).map(|(whole, _)| whole);
        let given: Vec<Span> = asked.filter(|&whole| !left.any(whole)).collect();
        given.into_iter().for_each(|whole| gone.remove(whole));
    }
}

struct Giving<'g> {
    wanted: &'g [Span],
    keep: bool,
}

impl Giving<'_> {
    /// Gives of one store. It is walked where something is, not where something could be: mappings are many, and hardly anything
    /// is left over.
    fn of(
        &self,
        left: &mut Leftover,
        deliverer: &mut Deliverer<'_, '_>,
        asked: impl Fn(&Deliverer<'_, '_>, Span) -> Vec<(Span, Whom)>,
        names: Names<'_>,
    ) {
        for &wanted in self.wanted {
            let mut at = Some(wanted.first);
            while let Some(kept) = at.and_then(|at| left.next(at)).and_then(|kept| kept.intersect(wanted)) {
                for (span, whom) in asked(deliverer, kept) {
                    if deliverer.stopped {
                        return;
                    }
                    let mut offer = Offer { deliverer, whom, names };
                    if self.keep { left.show(span, &mut offer) } else { left.offer(span, &mut offer) }
                }
                at = kept.last.checked_add(1);
            }
        }
    }
}

/// Takes all that another one kept.
struct Into<'l>(&'l mut Leftover);

impl Taker for Into<'_> {
    fn run(&mut self, span: Span) -> Option<Span> {
        self.0.add(span);
        None
    }
    fn bits(&mut self, bits: &mut Bits<'_>, span: Span) -> NotTaken {
        self.0.absorb(bits, span);
        NotTaken::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::UNIT_SHIFT;
    use super::super::deliver::Request;
    use super::super::ranges::Range;
    use super::*;

    const PAGE: u64 = 1 << UNIT_SHIFT;

    fn page(number: u64) -> Span {
        Span { first: number * PAGE, last: number * PAGE + PAGE - 1 }
    }

    /// What is put aside for a cookie takes no block of bits for a page, and nothing where there is nothing.
    #[test]
    fn many_cookies_take_little_memory() {
        let mut book = Book::default();
        for number in 0..100 {
            book.map(page(number), number);
            let mut words = [number % 2];
            book.left.absorb(&mut Bits { words: &mut words, shift: UNIT_SHIFT, origin: number * PAGE }, page(number));
            book.unmap(page(number));
            book.map(page(number), 1000 + number);
        }
        let slim = |book: &Book| book.aside.values().all(Leftover::is_trim);
        assert!(book.aside.len() == 50 && slim(&book));
        let mut calls = 0;
        let mut run = |_: u64, _: Range| {
            calls += 1;
            calls < 10
        };
        let mut request = Request { run: Some(&mut run), ..Request::default() };
        book.give(&mut Deliverer::new(&mut request).unwrap(), false);
        assert!(book.aside.len() == 41 && slim(&book), "{}", book.aside.len());
    }
}
