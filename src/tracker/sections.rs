//! Passes of a VMM that asks section by section: each log is read once for a pass, by its first section. What later sections ask
//! for was read then, and is only reported.

use crate::logs::ranges::{Span, SpanSet};

/// What the pass of a token has read and no section has asked for yet. Token 0: there is none.
#[derive(Default)]
pub(crate) struct SectionPass {
    token: u64,
    waiting: SpanSet,
}

/// What a harvest reads of one tracker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reads {
    Nothing,
    All,
    /// Only what holds a part of its destinations.
    Asked,
}

/// What a harvest asks of one tracker.
pub(super) struct Ask<'a> {
    /// 0: it is no part of a pass.
    pub token: u64,
    pub asked: &'a SpanSet,
    /// All that is mapped, by mapping.
    pub everything: bool,
    pub mapped: &'a SpanSet,
}

impl Ask<'_> {
    fn all(&self, mut is: impl FnMut(Span) -> bool) -> bool {
        if self.everything {
            return self.mapped.iter().all(is);
        }
        self.asked.iter().all(|span| self.mapped.parts(span).all(&mut is))
    }
}

impl SectionPass {
    /// `plain`: what would be read without a pass. A range that was reported in the pass already is asked for by another
    /// caller, as by a display, or was mapped since: it is read by itself.
    pub fn reads(&self, ask: &Ask<'_>, plain: Reads) -> Reads {
        match ask.token {
            0 => plain,
            token if token != self.token => plain,
            _ if ask.all(|span| self.waiting.contains(span)) => Reads::Nothing,
            _ if ask.everything => Reads::All,
            _ => Reads::Asked,
        }
    }

    /// The harvest has read that.
    pub fn was_read(&mut self, ask: &Ask<'_>, reads: Reads) {
        if ask.token == 0 {
            return;
        }
        if ask.token != self.token {
            self.waiting = if reads == Reads::All { ask.mapped.iter().collect() } else { SpanSet::default() };
            self.token = ask.token;
        }
        if ask.everything {
            self.waiting = SpanSet::default();
        }
        ask.asked.iter().for_each(|span| self.waiting.remove(span));
    }

    /// What is mapped there next was not read.
    pub fn forget(&mut self, span: Span) {
        self.waiting.remove(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spans: &[(u64, u64)]) -> SpanSet {
        spans.iter().map(|&(first, last)| Span { first, last }).collect()
    }

    /// One harvest; what it reads.
    fn harvest(pass: &mut SectionPass, token: u64, asked: &[(u64, u64)], mapped: &[(u64, u64)], plain: Reads) -> Reads {
        let (asked, mapped) = (set(asked), set(mapped));
        let ask = Ask { token, asked: &asked, everything: false, mapped: &mapped };
        let reads = pass.reads(&ask, plain);
        pass.was_read(&ask, reads);
        reads
    }

    #[test]
    fn each_section_of_a_pass_is_read_with_the_first_one_and_once_more_if_it_is_asked_for_again() {
        use Reads::{All, Asked, Nothing};
        let mapped = [(0, 99), (200, 299)];
        let mut pass = SectionPass::default();
        let steps = [
            (7, (0, 49), All),
            (7, (50, 99), Nothing),
            (7, (0, 49), Asked),
            // Of a hole there is nothing to read.
            (7, (100, 199), Nothing),
            (7, (150, 249), Nothing),
            (7, (240, 250), Asked),
            (0, (250, 299), All),
            (7, (260, 299), Nothing),
            (8, (0, 9), All),
            (7, (10, 19), All),
            (7, (20, 299), Nothing),
        ];
        for (token, asked, reads) in steps {
            assert_eq!(harvest(&mut pass, token, &[asked], &mapped, All), reads, "{token} {asked:?}");
        }
    }

    #[test]
    fn what_was_mapped_since_is_read_by_itself() {
        let mut pass = SectionPass::default();
        assert_eq!(harvest(&mut pass, 1, &[], &[(0, 9)], Reads::All), Reads::All);
        assert_eq!(harvest(&mut pass, 1, &[(0, 19)], &[(0, 19)], Reads::All), Reads::Asked);
        assert_eq!(harvest(&mut pass, 2, &[], &[(0, 9)], Reads::All), Reads::All);
        pass.forget(Span { first: 5, last: 9 });
        assert_eq!(harvest(&mut pass, 2, &[(0, 4)], &[(0, 9)], Reads::All), Reads::Nothing);
        assert_eq!(harvest(&mut pass, 2, &[(5, 9)], &[(0, 9)], Reads::All), Reads::Asked);
    }

    #[test]
    fn a_pass_that_reads_only_its_sections_reads_each() {
        let mut pass = SectionPass::default();
        for span in [(0, 4), (5, 9)] {
            assert_eq!(harvest(&mut pass, 3, &[span], &[(0, 9)], Reads::Asked), Reads::Asked);
        }
    }
}
