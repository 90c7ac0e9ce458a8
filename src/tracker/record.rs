//! The record of mappings and leftovers. Dirt belongs to the mapping it was written through. Its IOVA names it only
//! as long as nothing else is mapped there; its cookie always does. So leftovers of an unmapped range keep its
//! cookie, and where the IOVA comes to mean other memory they are put aside, for callbacks that get cookies: in a
//! bitmap they would make the wrong page dirty.

use super::aside::Aside;
use super::deliver::{Deliverer, Offer};
use super::leftover::Leftover;
use super::names::Names;
use crate::log::Lasting;
use crate::logs::log::Maps;
use crate::logs::ranges::Span;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a tracker knows of its address space: mappings, and what was read and not reported yet.
#[derive(Default)]
pub(crate) struct Record {
    /// The tracker's name, for messages.
    pub name: String,
    /// How often a log was started anew while it should run; the tracker's getters have it too.
    pub restarts: Arc<AtomicU64>,
    pub maps: Maps,
    /// What was read and not given.
    pub left: Leftover,
    /// Names of what is left of ranges that are unmapped, and nothing else is mapped there.
    pub gone: Maps,
    /// What is left of ranges where other memory is mapped now.
    pub aside: Aside,
    /// The container does not unmap with a bitmap.
    pub unmaps_blind: Lasting,
    /// Whether the VMM unmaps before it calls the library, as far as is known.
    pub reports_afterwards: Option<bool>,
    /// Whether all reads since the start found every mapped page dirty; `None`: nothing that is mapped was read. A container does
    /// so as long as a device of it has no pinned scope (T5).
    pub all_dirty: Option<bool>,
}

impl Record {
    /// Bits of a read came. Once a clean page was seen nothing more can be learnt.
    pub fn saw(&mut self, full: Option<bool>) {
        if self.all_dirty != Some(false) {
            self.all_dirty = full.or(self.all_dirty);
        }
    }
}

impl Record {
    /// A mapping was made. Leftovers of another one in its place can be named by their cookie only from now on.
    pub fn map(&mut self, span: Span, cookie: u64) {
        for (part, old) in self.gone.cut(span) {
            if old != cookie && self.left.any(part) {
                self.aside.put(old, &mut self.left, part);
                self.aside.log_amount(&self.name);
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

    /// Whether all that was read was reported.
    pub fn is_given(&self) -> bool {
        self.left.is_empty() && self.aside.is_empty()
    }

    /// Reports what earlier reads left over; with `keep` it is reported and stays.
    pub fn give(&mut self, deliverer: &mut Deliverer<'_, '_>, keep: bool) {
        let Record { name, maps, gone, left, aside, .. } = self;
        let wanted = deliverer.wanted();
        // An unmapping that asks for nothing looks at nothing.
        if wanted.is_empty() {
            return;
        }
        for &span in &wanted {
            give(left, span, deliverer, keep, maps, gone);
        }
        if deliverer.takes_cookies() && !aside.is_empty() {
            wanted.iter().for_each(|&span| aside.give(span, deliverer, keep));
            aside.log_amount(name);
        }
        let asked = wanted.iter().flat_map(|&span| gone.overlapping(span)).map(|(whole, _)| whole);
        let given: Vec<Span> = asked.filter(|&whole| !left.any(whole)).collect();
        given.into_iter().for_each(|whole| gone.remove(whole));
    }

    /// Marks what is mapped of `span`, or everything that is mapped, as dirty. Returns the bytes.
    pub(super) fn mark(&mut self, span: Option<Span>) -> u64 {
        let all = Span { first: 0, last: u64::MAX };
        let parts: Vec<Span> = self.maps.mapped.parts(span.unwrap_or(all)).collect();
        let mut sum = 0u64;
        for part in parts {
            sum = sum.saturating_add(part.bytes());
            self.left.add(part);
        }
        sum
    }
}

/// Gives of what names itself by its IOVA. The store is walked where something is, not where something could be: mappings are
/// many, and hardly anything is left over.
fn give(left: &mut Leftover, wanted: Span, deliverer: &mut Deliverer<'_, '_>, keep: bool, maps: &Maps, gone: &Maps) {
    let mut at = Some(wanted.first);
    while let Some(kept) = at.and_then(|at| left.next(at)).and_then(|kept| kept.intersect(wanted)) {
        for (span, owner) in deliverer.asked(maps, Some(gone), kept) {
            if deliverer.stopped {
                return;
            }
            let mut offer = Offer { deliverer, owner, names: Names::Of(maps, gone) };
            if keep { left.show(span, &mut offer) } else { left.offer(span, &mut offer) }
        }
        at = kept.last.checked_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::UNIT_SHIFT;
    use super::super::parts::Bits;
    use super::super::request::Request;
    use super::*;
    use crate::logs::ranges::IovaRange;

    const PAGE: u64 = 1 << UNIT_SHIFT;

    fn page(number: u64) -> Span {
        Span { first: number * PAGE, last: number * PAGE + PAGE - 1 }
    }

    /// What a callback did not take of many cookies comes with the next call.
    #[test]
    fn what_is_put_aside_is_given_once() {
        let mut record = Record::default();
        for number in 0..100 {
            record.map(page(number), number);
            let mut words = [number % 2];
            record.left.absorb(&mut Bits { words: &mut words, shift: UNIT_SHIFT, origin: number * PAGE }, page(number));
            record.unmap(page(number));
            record.map(page(number), 1000 + number);
        }
        let mut reported = Vec::new();
        for (most, sum) in [(10, 9), (100, 50), (100, 50)] {
            let mut calls = 0;
            let mut run = |cookie: u64, range: IovaRange| {
                calls += 1;
                reported.extend((calls < most).then_some((cookie, range.iova / PAGE)));
                calls < most
            };
            let mut request = Request { run: Some(&mut run), ..Request::default() };
            record.give(&mut Deliverer::new(&mut request).unwrap(), false);
            assert_eq!((reported.len(), record.is_given()), (sum, sum == 50));
        }
        reported.sort_unstable();
        assert!(reported.iter().copied().eq((0..50).map(|n| (2 * n + 1, 2 * n + 1))));
    }
}
