//! Edges: bits that are not as the one before. Of some words at a time it is found which have any, without a branch for each:
//! nothing shows a processor which they are, and a wrong guess costs as much as twenty words.

use super::access::SrcWord;
use super::loops::{LINE, alike};
use super::place::WORD;

/// The edges of a word.
#[inline(always)]
pub(super) fn edges(before: u64, word: u64) -> u64 {
    word ^ (word.wrapping_shl(1) | before.wrapping_shr(63))
}

/// Which of the words that follow the first one have edges: how many words are passed over that have none, and a bit for each
/// of the next, 64 at most.
#[inline(always)]
pub(super) fn marks<S: SrcWord>(words: &[S]) -> (usize, u64) {
    let Some((first, rest)) = words.split_first() else { return (0, 0) };
    let like = 0_u64.wrapping_sub(first.read().wrapping_shr(63));
    // Whole lines: their words are read together.
    let same = alike(rest, like) & !LINE.wrapping_sub(1);
    let words = words.get(same..).unwrap_or_default();
    let mark = |(before, word): (&S, &S), at: u32| u64::from(edges(before.read(), word.read()) != 0).wrapping_shl(at);
    let group = words.get(..=WORD as usize).unwrap_or(words);
    let pairs = group.iter().zip(group.get(1..).unwrap_or_default());
    (same, pairs.zip(0..).fold(0, |marks, (pair, at)| marks | mark(pair, at)))
}
