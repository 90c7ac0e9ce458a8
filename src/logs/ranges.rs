//! Ranges of IOVA, pure. Inside, a range is first and last byte, so that one may end at 2^64 (P11).

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A range of IOVA as callers give it; `iova + size` may be 2^64, `size` is never 0.
///
/// Example: [`Tracker`](crate::tracker::Tracker).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IovaRange {
    /// First byte.
    pub iova: u64,
    /// Bytes.
    pub size: u64,
}

/// First and last byte; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub first: u64,
    pub last: u64,
}

impl Span {
    pub const ALL: Span = Span { first: 0, last: u64::MAX };

    /// `None` for no bytes, and for bytes beyond 2^64.
    pub fn of(range: IovaRange) -> Option<Span> {
        let last = range.iova.checked_add(range.size.checked_sub(1)?)?;
        Some(Span { first: range.iova, last })
    }

    pub fn range(self) -> IovaRange {
        IovaRange { iova: self.first, size: self.bytes() }
    }

    /// Length in bytes; the whole space, which no list of ranges can name, is one too few.
    pub fn bytes(self) -> u64 {
        self.last.wrapping_sub(self.first).saturating_add(1)
    }

    /// Pages of `1 << shift` bytes that it touches.
    pub fn pages(self, shift: u32) -> u64 {
        let page = |at: u64| at.checked_shr(shift).unwrap_or(0);
        page(self.last).saturating_sub(page(self.first)).saturating_add(1)
    }

    pub fn contains(self, other: Span) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    pub fn intersect(self, other: Span) -> Option<Span> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Span { first, last })
    }

    /// To whole pages of `1 << shift` bytes, outwards.
    pub fn aligned_out(self, shift: u32) -> Span {
        let mask = 1u64.checked_shl(shift).map_or(u64::MAX, |page| page.wrapping_sub(1));
        Span { first: self.first & !mask, last: self.last | mask }
    }

    /// What of it lies before and after `other`.
    pub fn without(self, other: Span) -> impl Iterator<Item = Span> {
        let before = other.first.checked_sub(1).filter(|&last| self.first <= last);
        let behind = other.last.checked_add(1).filter(|&first| first <= self.last);
        let before = before.map(|last| Span { first: self.first, last: last.min(self.last) });
        let behind = behind.map(|first| Span { first: first.max(self.first), last: self.last });
        before.into_iter().chain(behind)
    }

    pub fn is_aligned(self, shift: u32) -> bool {
        self.aligned_out(shift) == self
    }
}

/// A set of bytes as disjoint spans; neighbours that touch are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpanSet(BTreeMap<u64, u64>);

impl SpanSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().map(|(&first, &last)| Span { first, last })
    }

    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.iter().fold(0, |sum, span| sum.saturating_add(span.bytes()))
    }

    pub fn insert(&mut self, span: Span) {
        let mut new = span;
        // Everything that overlaps or touches: at most one that begins before, then those that begin within or right after it.
        let before = self.0.range(..=span.first).next_back().map(|(&first, &last)| Span { first, last });
        if let Some(old) = before.filter(|old| old.last >= span.first || old.last.checked_add(1) == Some(span.first)) {
            self.0.remove(&old.first);
            new = Span { first: old.first, last: old.last.max(new.last) };
        }
        let reach = span.last.saturating_add(1);
        while let Some((&first, &last)) = self.0.range(span.first..=reach).next() {
            self.0.remove(&first);
            new.last = new.last.max(last);
        }
        self.0.insert(new.first, new.last);
    }

    pub fn remove(&mut self, span: Span) {
        let touched: Vec<Span> = self.within(span).map(|(whole, _)| whole).collect();
        for old in touched {
            self.0.remove(&old.first);
            self.0.extend(old.without(span).map(|rest| (rest.first, rest.last)));
        }
    }

    /// Members that overlap `span`, each with its part in it.
    fn within(&self, span: Span) -> impl Iterator<Item = (Span, Span)> + '_ {
        let begin = self.0.range(..=span.first).next_back().map_or(span.first, |(&first, _)| first);
        self.0
            .range(begin..=span.last)
            .map(|(&first, &last)| Span { first, last })
            .filter_map(move |whole| whole.intersect(span).map(|part| (whole, part)))
    }

    /// The parts of the set within `span`.
    pub fn parts(&self, span: Span) -> impl Iterator<Item = Span> + '_ {
        self.within(span).map(|(_, part)| part)
    }

    pub fn contains(&self, span: Span) -> bool {
        self.within(span).any(|(whole, _)| whole.contains(span))
    }

    pub fn overlaps(&self, span: Span) -> bool {
        self.within(span).next().is_some()
    }

    /// The parts of `span` that are not in the set.
    pub fn holes(&self, span: Span) -> Vec<Span> {
        let mut holes = Vec::new();
        // Where the next hole would begin; beyond the end of the space there is none.
        let mut at = Some(span.first);
        for part in self.parts(span) {
            if let (Some(first), Some(last)) = (at, part.first.checked_sub(1)) {
                holes.extend((first <= last).then_some(Span { first, last }));
            }
            at = part.last.checked_add(1);
        }
        let rest = at.filter(|&first| first <= span.last).map(|first| Span { first, last: span.last });
        holes.extend(rest);
        holes
    }
}

impl FromIterator<Span> for SpanSet {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut set = SpanSet::default();
        spans.into_iter().for_each(|span| set.insert(span));
        set
    }
}

/// At most `most` spans that cover all of `spans`, which are sorted and disjoint: the smallest gaps are filled (L1), and of equal
/// ones as many everywhere, so that no span has nearly everything. Never fewer bytes.
pub(crate) fn fold(spans: &[Span], most: usize) -> Vec<Span> {
    let excess = spans.len().saturating_sub(most.max(1));
    let gap = |pair: &[Span]| match pair {
        [a, b] => b.first.saturating_sub(a.last),
        _ => u64::MAX,
    };
    let gaps: Vec<u64> = spans.windows(2).map(gap).collect();
    let mut sorted = gaps.clone();
    sorted.sort_unstable();
    // The largest gap that has to be filled, and how many of its size stay open.
    let largest = excess.checked_sub(1).and_then(|last| sorted.get(last)).copied().unwrap_or(0);
    let smaller = sorted.partition_point(|&gap| gap < largest);
    let ties = sorted.partition_point(|&gap| gap <= largest).saturating_sub(smaller);
    let open = ties.saturating_sub(excess.saturating_sub(smaller));
    let (mut tie, mut folded) = (0usize, Vec::<Span>::with_capacity(spans.len()));
    for (index, &span) in spans.iter().enumerate() {
        let gap = index.checked_sub(1).and_then(|index| gaps.get(index)).copied();
        let fill = match gap.map(|gap| gap.cmp(&largest)) {
            Some(Ordering::Less) => true,
            Some(Ordering::Equal) => {
                // The open ones are spread evenly over the ties.
                let opened = |ties_seen: usize| ties_seen.saturating_mul(open).checked_div(ties).unwrap_or(0);
                tie = tie.saturating_add(1);
                opened(tie) == opened(tie.saturating_sub(1))
            }
            Some(Ordering::Greater) | None => false,
        };
        match folded.last_mut() {
            Some(before) if fill => before.last = span.last,
            _ => folded.push(span),
        }
    }
    folded
}

/// How parts of a range are cut, as powers of two in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartLimits {
    /// Parts begin and end at multiples of it from the range's beginning; the range's end is one too.
    pub unit: u32,
    /// Parts with fewer bytes between them are one.
    pub gap: u32,
    /// No part is longer; not smaller than `unit`.
    pub most: u32,
}

/// Adds the parts of `range` that hold `wanted`, which lie in it, sorted and disjoint.
pub(crate) fn parts(range: Span, wanted: impl IntoIterator<Item = Span>, limits: PartLimits, to: &mut Vec<Span>) {
    let shl = |shift: u32| 1u64.checked_shl(shift).unwrap_or(u64::MAX);
    // Offsets from the beginning, so that nothing overflows: the last byte of each unit, cut at the range's end.
    let end = range.last.saturating_sub(range.first);
    let mut runs: Vec<Span> = Vec::new();
    for piece in wanted {
        let offset = |at: u64| at.saturating_sub(range.first);
        let piece = Span { first: offset(piece.first), last: offset(piece.last) }.aligned_out(limits.unit.min(63));
        let piece = Span { first: piece.first, last: piece.last.min(end) };
        match runs.last_mut() {
            Some(before) if piece.first.saturating_sub(before.last) <= shl(limits.gap) => {
                before.last = before.last.max(piece.last);
            }
            _ => runs.push(piece),
        }
    }
    for run in split(&runs, limits.most, usize::MAX) {
        to.push(Span { first: range.first.saturating_add(run.first), last: range.first.saturating_add(run.last) });
    }
}

/// The same bytes cut at multiples of `1 << shift`, or of the smallest larger power of two that leaves at most `most` pieces.
pub(crate) fn split(spans: &[Span], shift: u32, most: usize) -> Vec<Span> {
    let pieces = |shift| spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.pages(shift)));
    let shift = (shift..64).find(|&shift| pieces(shift) <= most as u64);
    let Some(shift) = shift else { return spans.to_vec() };
    let mut cut = Vec::new();
    for &span in spans {
        let mut first = span.first;
        loop {
            let last = Span { first, last: first }.aligned_out(shift).last.min(span.last);
            cut.push(Span { first, last });
            match last.checked_add(1).filter(|_| last < span.last) {
                Some(next) => first = next,
                None => break,
            }
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small numbers, at the bottom and at the top of the space, where things overflow.
    fn span() -> impl Strategy<Value = Span> {
        (0u64..200, 0u64..40, any::<bool>()).prop_map(|(first, more, top)| {
            let base = if top { u64::MAX - 239 } else { 0 };
            Span { first: base + first, last: base + first + more }
        })
    }

    fn bytes(spans: impl IntoIterator<Item = Span>) -> std::collections::BTreeSet<u64> {
        spans.into_iter().flat_map(|span| span.first..=span.last).collect()
    }

    fn well_formed(set: &SpanSet) {
        let list: Vec<Span> = set.iter().collect();
        for pair in list.windows(2) {
            assert!(pair[0].last + 1 < pair[1].first, "{pair:?}");
        }
        assert!(list.iter().all(|span| span.first <= span.last));
    }

    proptest! {
        #[test]
        fn a_set_is_the_set_of_its_bytes(steps in prop::collection::vec((any::<bool>(), span()), 0..40), probe in span()) {
            let mut set = SpanSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (insert, span) in steps {
                if insert {
                    set.insert(span);
                    model.extend(span.first..=span.last);
                } else {
                    set.remove(span);
                    model.retain(|at| !(span.first..=span.last).contains(at));
                }
                well_formed(&set);
                prop_assert_eq!(bytes(set.iter()), model.clone());
            }
            let inside: std::collections::BTreeSet<u64> = model.range(probe.first..=probe.last).copied().collect();
            prop_assert_eq!(bytes(set.parts(probe)), inside.clone());
            prop_assert_eq!(set.overlaps(probe), !inside.is_empty());
            prop_assert_eq!(set.contains(probe), inside.len() as u64 == probe.bytes());
            let holes = bytes(set.holes(probe));
            prop_assert!(holes.is_disjoint(&inside));
            prop_assert_eq!((holes.len() + inside.len()) as u64, probe.bytes());
            prop_assert_eq!(set.bytes(), model.len() as u64);
        }

        #[test]
        fn folding_loses_nothing_and_fills_the_smallest_gaps(spans in prop::collection::vec(span(), 1..30), most in 1usize..12) {
            let set: SpanSet = spans.into_iter().collect();
            let list: Vec<Span> = set.iter().collect();
            let folded = fold(&list, most);
            prop_assert_eq!(folded.len(), list.len().min(most));
            prop_assert!(list.iter().all(|span| folded.iter().any(|whole| whole.contains(*span))));
            // No cheaper set of gaps has as many members: those filled are the smallest.
            let gap = |a: &Span, b: &Span| b.first - a.last;
            let all: Vec<u64> = list.windows(2).map(|p| gap(&p[0], &p[1])).collect();
            let kept: Vec<u64> = folded.windows(2).map(|p| gap(&p[0], &p[1])).collect();
            let mut largest = all.clone();
            largest.sort_unstable();
            let mut kept_sorted = kept.clone();
            kept_sorted.sort_unstable();
            prop_assert_eq!(kept_sorted, largest[all.len() - kept.len()..].to_vec());
        }

        /// L7: whole units from the range's beginning, sorted and apart, that hold what is wanted and little else.
        #[test]
        fn parts_hold_what_is_wanted(
            whole in span(), wanted in prop::collection::vec(span(), 0..10), unit in 0u32..5, gap in 0u32..6, more in 0u32..3,
        ) {
            let wanted: SpanSet = wanted.into_iter().collect();
            let wanted: Vec<Span> = wanted.parts(whole).collect();
            let limits = PartLimits { unit, gap, most: unit + more };
            let mut found = Vec::new();
            parts(whole, wanted.iter().copied(), limits, &mut found);
            let (asked, read) = (bytes(wanted.iter().copied()), bytes(found.iter().copied()));
            prop_assert!(asked.is_subset(&read));
            prop_assert_eq!(read.len() as u64, found.iter().map(|part| part.bytes()).sum::<u64>());
            prop_assert!(found.windows(2).all(|pair| pair[0].last < pair[1].first));
            for part in &found {
                prop_assert!(whole.contains(*part) && part.bytes() <= 1 << limits.most);
                prop_assert_eq!((part.first - whole.first) % (1 << unit), 0);
                prop_assert!((part.last - whole.first + 1) % (1 << unit) == 0 || part.last == whole.last);
            }
            // What is not wanted is in a unit with something wanted, or in a short gap.
            for at in read.difference(&asked) {
                let near = |a: u64| a.abs_diff(*at) <= (1 << unit) + (1 << gap);
                prop_assert!(asked.iter().any(|&a| near(a)));
            }
        }

        #[test]
        fn splitting_keeps_the_bytes(spans in prop::collection::vec(span(), 1..20), shift in 0u32..8, most in 1usize..60) {
            let set: SpanSet = spans.into_iter().collect();
            let list: Vec<Span> = set.iter().collect();
            let cut = split(&list, shift, most);
            prop_assert_eq!(bytes(cut.iter().copied()), bytes(list.iter().copied()));
            prop_assert!(cut.len() <= most.max(list.len()));
            for piece in &cut {
                prop_assert!(piece.pages(shift) == 1 || cut.len() >= list.len());
                prop_assert!(list.iter().any(|span| span.contains(*piece)));
            }
        }

        #[test]
        fn aligning_covers_and_is_whole_pages(span in span(), shift in 0u32..12) {
            let out = span.aligned_out(shift);
            prop_assert!(out.contains(span) && out.is_aligned(shift));
            prop_assert_eq!(out.pages(shift), span.pages(shift));
        }
    }

    /// A guest whose mappings lie in equal distances, as virtio-mem's blocks do.
    #[test]
    fn equal_gaps_are_filled_evenly() {
        for (count, most) in [(32768u64, 256), (1000, 256), (257, 256), (300, 7), (9, 8)] {
            let spans: Vec<Span> =
                (0..count).map(|n| Span { first: n << 24, last: (n << 24) + (8 << 20) - 1 }).collect();
            let folded = fold(&spans, most);
            assert_eq!(folded.len(), most);
            let largest = folded.iter().map(|span| span.bytes()).max().unwrap();
            let sum: u64 = folded.iter().map(|span| span.bytes()).sum();
            assert!(largest <= sum / most as u64 * 3, "{count} in {most}: {largest} of {sum}");
        }
    }

    #[test]
    fn the_end_of_the_space() {
        let top = Span::of(IovaRange { iova: u64::MAX - 4095, size: 4096 }).unwrap();
        assert_eq!((top.last, top.bytes(), top.pages(12)), (u64::MAX, 4096, 1));
        assert_eq!(Span::of(IovaRange { iova: u64::MAX, size: 2 }), None);
        assert_eq!(Span::of(IovaRange { iova: 0, size: 0 }), None);
        let mut set = SpanSet::default();
        set.insert(top);
        set.insert(Span { first: 0, last: top.first - 1 });
        assert_eq!(set.len(), 1);
        set.remove(Span { first: 0, last: u64::MAX });
        assert!(set.is_empty());
    }
}
