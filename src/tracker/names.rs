//! Which cookie a range has.

use crate::logs::log::Maps;
use crate::logs::ranges::Span;

/// The cookies of ranges.
#[derive(Clone, Copy)]
pub(crate) enum Names<'m> {
    /// Those of mappings, and of unmapped ranges.
    Of(&'m Maps, &'m Maps),
    /// Whatever the range.
    One(u64),
}

impl Names<'_> {
    /// The part at the beginning of `span` that has one cookie, or none, where nothing can have been written.
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
