//! Runs of bits that are on, and the next bit of a kind.

use super::access::SrcWord;
use super::place::{WORD, below, bits_in, index, low_bits, room};
use super::vector;

/// Runs of bits that are on, in order: first bit and length. Goes from edge to edge: a bit that is not as the one before it.
pub(super) struct Runs<'a, S> {
    words: &'a [S],
    end: u64,
    /// The next word.
    at: usize,
    /// The edges that are left of the word before it.
    edges: u64,
    /// The last bit of that word, in all places.
    last: u64,
}

impl<'a, S: SrcWord> Runs<'a, S> {
    #[inline]
    pub fn new(words: &'a [S], from: u64, end: u64) -> Self {
        let end = end.min(room(words.len(), 0));
        let words = words.get(..index(end.saturating_add(WORD).wrapping_sub(1))).unwrap_or_default();
        let at = index(from);
        let first = words.get(at).map_or(0, |word| word.read() & !below(low_bits(from)));
        let mut runs = Runs { words, end, at: at.saturating_add(1), edges: 0, last: 0 };
        runs.look_at(first);
        runs
    }

    #[inline(always)]
    fn look_at(&mut self, word: u64) {
        self.edges = word ^ (word.wrapping_shl(1) | self.last & 1);
        self.last = 0_u64.wrapping_sub(word.wrapping_shr(63));
    }

    #[inline(always)]
    fn edge(&mut self) -> Option<u64> {
        while self.edges == 0 {
            let word = self.words.get(self.at)?.read();
            if word == self.last {
                self.at = self.at.wrapping_add(vector::alike(self.words.get(self.at..)?, word));
                continue;
            }
            self.at = self.at.wrapping_add(1);
            self.look_at(word);
        }
        let bit = bits_in(self.at).wrapping_sub(WORD).wrapping_add(u64::from(self.edges.trailing_zeros()));
        self.edges &= self.edges.wrapping_sub(1);
        Some(bit)
    }
}

impl<S: SrcWord> Iterator for Runs<'_, S> {
    type Item = (u64, u64);

    #[inline]
    fn next(&mut self) -> Option<(u64, u64)> {
        let start = self.edge().filter(|start| *start < self.end)?;
        let stop = self.edge().unwrap_or(self.end).min(self.end);
        Some((start, stop.wrapping_sub(start)))
    }
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
