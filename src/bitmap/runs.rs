//! Runs of bits that are on, and the next bit of a kind.

use super::access::SrcWord;
use super::edges::edges;
use super::place::{WORD, below, bits_in, index, low_bits, room};
use super::vector;

/// Runs of bits that are on, in order: first bit and length. They lie between edges.
///
/// Plain numbers, which a compiler keeps in registers while a caller goes from run to run.
pub(super) struct Runs<'a, S> {
    /// Whole words.
    words: &'a [S],
    /// The bits after them that are asked for, until it is their turn.
    last: Option<u64>,
    /// The first bit of the word whose edges are taken, and those that are left.
    bit: u64,
    edges: u64,
    /// The same of the word after that: found early, so that nothing waits for it.
    ahead: (u64, u64),
    /// The words from here on that have edges; those before were looked at.
    group: usize,
    marks: u64,
    seen: usize,
}

impl<'a, S: SrcWord> Runs<'a, S> {
    #[inline]
    pub fn new(words: &'a [S], from: u64, end: u64) -> Self {
        let end = end.min(room(words.len(), 0)).max(from);
        let (at, last) = (index(from), index(end));
        let word = |at: usize| words.get(at).map_or(0, SrcWord::read);
        let (begin, stop) = (!below(low_bits(from)), below(low_bits(end)));
        let whole = words.get(..last).unwrap_or_default();
        let seen = at.wrapping_add(1);
        let runs =
            Runs { words: whole, last: None, bit: bits_in(at), edges: 0, ahead: (0, 0), group: seen, marks: 0, seen };
        if at < whole.len() {
            Runs { last: Some(word(last) & stop), edges: edges(0, word(at) & begin), ..runs }
        } else {
            Runs { edges: edges(0, word(at) & begin & stop), ..runs }
        }
    }

    /// Goes to the next word that may have edges.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        if self.marks == 0 && !self.look() {
            return false;
        }
        (self.bit, self.edges) = self.ahead;
        self.marks &= self.marks.wrapping_sub(1);
        self.ahead = self.marked();
        true
    }

    /// The first word that is marked.
    #[inline(always)]
    fn marked(&self) -> (u64, u64) {
        let at = self.group.wrapping_add(self.marks.trailing_zeros() as usize);
        let word = |at: usize| self.words.get(at).map_or(0, SrcWord::read);
        ((at as u64).wrapping_mul(WORD), edges(word(at.wrapping_sub(1)), word(at)))
    }

    /// Goes to the next words that have edges.
    #[inline(always)]
    fn look(&mut self) -> bool {
        (self.group, self.marks) = next_marks(self.words, self.seen);
        self.seen = self.group.wrapping_add(WORD as usize);
        self.ahead = self.marked();
        if self.marks == 0 {
            let Some(last) = self.last.take() else { return false };
            self.marks = 1;
            self.ahead = (bits_in(self.words.len()), edges(self.words.last().map_or(0, SrcWord::read), last));
        }
        true
    }

    /// The place of the first of some edges.
    #[inline(always)]
    fn place(&self, edges: u64) -> u64 {
        self.bit.wrapping_add(u64::from(edges.trailing_zeros()))
    }
}

impl<S: SrcWord> Iterator for Runs<'_, S> {
    type Item = (u64, u64);

    // Out of line, what it returns goes through memory in two parts, which costs more than the rest of it.
    #[inline(always)]
    fn next(&mut self) -> Option<(u64, u64)> {
        let mut start = self.place(self.edges);
        let mut rest = self.edges & self.edges.wrapping_sub(1);
        while rest == 0 {
            // By masks: whether a run is open at the end of a word is as good as random, and a branch would be guessed wrong.
            let open = 0_u64.wrapping_sub(u64::from(self.edges != 0));
            if !self.advance() {
                return None;
            }
            start = start & open | self.place(self.edges) & !open;
            rest = self.edges & (self.edges.wrapping_sub(1) | open);
        }
        let stop = self.place(rest);
        self.edges = rest & rest.wrapping_sub(1);
        Some((start, stop.wrapping_sub(start)))
    }
}

/// The next words from `at` on that have edges, and which of them; none at the end.
#[inline(never)]
fn next_marks<S: SrcWord>(words: &[S], mut at: usize) -> (usize, u64) {
    while let Some(rest) = words.get(at.wrapping_sub(1)..).filter(|rest| rest.len() > 1) {
        let (same, marks) = vector::marks(rest);
        at = at.wrapping_add(same);
        if marks != 0 {
            return (at, marks);
        }
        at = at.wrapping_add(WORD as usize);
    }
    (words.len(), 0)
}

/// The first of the runs.
pub(super) fn next_run(words: &[u64], from: u64, end: u64) -> Option<(u64, u64)> {
    let end = end.min(room(words.len(), 0));
    let start = find(words, from, end, 0)?;
    let stop = find(words, start, end, u64::MAX).unwrap_or(end);
    Some((start, stop.wrapping_sub(start)))
}

/// The next bit that is not as in `like`, which has all bits on or off.
pub(super) fn find<S: SrcWord>(src: &[S], from: u64, end: u64, like: u64) -> Option<u64> {
    if from >= end {
        return None;
    }
    let mut at = index(from);
    let mut found = (src.get(at)?.read() ^ like) & !below(low_bits(from));
    if found == 0 {
        let rest = src.get(at.wrapping_add(1)..index(end.saturating_add(WORD).wrapping_sub(1)))?;
        at = at.wrapping_add(1).wrapping_add(vector::alike(rest, like));
        found = src.get(at)?.read() ^ like;
    }
    let bit = bits_in(at).wrapping_add(u64::from(found.trailing_zeros()));
    (bit < end).then_some(bit)
}
