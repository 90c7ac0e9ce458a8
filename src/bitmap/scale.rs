//! Whole words from one page size to another: each bit becomes 2^K bits, or 2^K bits become one. As in `loops`, the forms are
//! those that compilers make vectors of, and `vector` compiles them. For [`LANES`], pages of 64 KiB and of 4 KiB, processors
//! have instructions of their own, which no compiler finds: these loops get them as a function.

use super::access::{DstWord, SrcWord, ones};
use super::loops::{LINE, any, funnel};
use super::types::Count;
use std::cell::Cell;

/// The largest K of [`fold`]: more bits than a word has come from several of its results.
pub(super) const MAX_FOLD: u32 = 6;
/// The largest K of [`expand`]: from there on each bit becomes whole words, which runs do as fast.
pub(super) const MAX_EXPAND: u32 = 5;

/// The K whose lanes, of 16 bits, have instructions of their own.
pub(super) const LANES: u32 = 4;

/// Steps that move the halves of groups of bits apart, or together again, for a spacing of 2^K.
struct Steps<const K: u32>;

impl<const K: u32> Steps<K> {
    const SPACING: u32 = 1 << K;
    /// Bits of the coarse side that belong to one word of the fine side.
    const BITS: u32 = 64 >> K;
    /// Masks: groups of `1 << i` bits, one every `SPACING << i`.
    const GROUPS: [u64; 7] = {
        let mut groups = [0; 7];
        let mut i: u32 = 0;
        #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "evaluated by the compiler")]
        while (1 << i) <= Self::BITS {
            let mut at = 0;
            while at < 64 {
                groups[i as usize] |= ((1 << (1 << i)) - 1) << at;
                at += Self::SPACING << i;
            }
            i += 1;
        }
        groups
    };

    /// How far a step moves a group of `1 << i` bits.
    #[inline(always)]
    fn distance(i: u32) -> u32 {
        Self::SPACING.wrapping_sub(1).wrapping_shl(i)
    }

    /// The lowest `BITS` bits, each to the lowest place of its lane.
    #[inline(always)]
    fn spread(bits: u64) -> u64 {
        let [_, g1, g2, g3, g4, g5, _] = Self::GROUPS;
        let [g0, ..] = Self::GROUPS;
        let step = |bits: u64, i: u32, group: u64| {
            if i.wrapping_add(K) < 6 { (bits | bits.wrapping_shl(Self::distance(i))) & group } else { bits }
        };
        let bits = bits & u64::MAX.wrapping_shr(64_u32.wrapping_sub(Self::BITS));
        step(step(step(step(step(step(bits, 5, g5), 4, g4), 3, g3), 2, g2), 1, g1), 0, g0)
    }

    /// The way back.
    #[inline(always)]
    fn gather(bits: u64) -> u64 {
        let [_, g1, g2, g3, g4, g5, g6] = Self::GROUPS;
        let step = |bits: u64, i: u32, group: u64| {
            if i.wrapping_add(K) < 6 { (bits | bits.wrapping_shr(Self::distance(i))) & group } else { bits }
        };
        step(step(step(step(step(step(bits, 0, g1), 1, g2), 2, g3), 3, g4), 4, g5), 5, g6)
    }

    /// The lowest bit of each lane that has any bit: what is below the highest bit of a lane carries into it.
    #[inline(always)]
    fn lanes(bits: u64) -> u64 {
        let [lowest, ..] = Self::GROUPS;
        let highest = lowest.wrapping_shl(Self::SPACING.wrapping_sub(1));
        (((bits & !highest).wrapping_add(!highest)) | bits).wrapping_shr(Self::SPACING.wrapping_sub(1)) & lowest
    }
}

/// Each bit of `src` 2^K times; `out` has 2^K words for each of `src`.
#[inline(always)]
pub(super) fn expand<const K: u32>(out: &mut [u64], src: &[Cell<u64>]) {
    for (out, word) in out.chunks_exact_mut(1 << K).zip(src) {
        for (out, piece) in out.iter_mut().zip(0_u32..) {
            let bits = Steps::<K>::spread(word.read().wrapping_shr(piece.wrapping_mul(Steps::<K>::BITS)));
            *out = bits.wrapping_shl(Steps::<K>::SPACING).wrapping_sub(bits);
        }
    }
}

/// One bit for each 2^K bits of `src` from bit `shift` on. `src` has 2^K words for each of `out`, and one more; all but that
/// one are cleared, whole.
#[inline(always)]
pub(super) fn fold<const K: u32>(out: &mut [u64], src: &[Cell<u64>], shift: u32) {
    let above = src.get(1..).unwrap_or_default();
    for ((out, low), high) in out.iter_mut().zip(src.chunks_exact(1 << K)).zip(above.chunks_exact(1 << K)) {
        *out = 0;
        if !any(low) && high.last().is_none_or(|last| last.read() == 0) {
            continue;
        }
        for ((low, high), piece) in low.iter().zip(high).zip(0_u32..) {
            let bits = Steps::<K>::gather(Steps::<K>::lanes(funnel(low.read(), high.read(), shift)));
            *out |= bits.wrapping_shl(piece.wrapping_mul(Steps::<K>::BITS));
        }
        low.iter().for_each(|word| word.write(0));
    }
}

/// Which of the lanes of 16 bits of a line have any bit.
#[cfg(any(test, not(target_arch = "x86_64")))]
pub(super) fn lanes_of(line: &[u64; LINE]) -> u32 {
    let of_word = |word: u64| Steps::<LANES>::gather(Steps::<LANES>::lanes(word)) as u32;
    line.iter().zip(0_u32..).fold(0, |all, (word, at)| all | of_word(*word).wrapping_shl(at.wrapping_mul(4)))
}

/// [`fold`] for [`LANES`], where the lanes begin with the first bit. Lines that are zero are not written.
#[inline(always)]
pub(super) fn fold_lanes(out: &mut [u64], src: &[Cell<u64>], lanes_of: impl Fn(&[u64; LINE]) -> u32) {
    for (out, src) in out.iter_mut().zip(src.chunks_exact(2 * LINE)) {
        *out = 0;
        for (src, place) in src.chunks_exact(LINE).zip([0, 32]) {
            let mut line = [0; LINE];
            line.iter_mut().zip(src).for_each(|(to, word)| *to = word.read());
            let lanes = lanes_of(&line);
            if lanes != 0 {
                *out |= u64::from(lanes).wrapping_shl(place);
                src.iter().for_each(|word| word.write(0));
            }
        }
    }
}

/// The words that a word of coarse bits stands for.
#[inline(always)]
pub(super) fn spread_lanes(word: u64) -> [u64; 16] {
    let mut fine = [0; 16];
    expand::<LANES>(&mut fine, &[Cell::new(word)]);
    fine
}

/// [`expand`] for [`LANES`], merged at once; `dst` has 16 words for each of `src`, which is cleared.
#[inline(always)]
pub(super) fn or_spread<D: DstWord, S: SrcWord>(dst: &[D], src: &[S], spread: impl Fn(u64) -> [u64; 16]) -> Count {
    let mut count = Count::default();
    for (dst, word) in dst.chunks_exact(16).zip(src) {
        let bits = word.read();
        word.write(0);
        let fine = spread(bits);
        // Whatever was on before: to look for that first is no loop that compilers make vectors of.
        let newly = dst.iter().zip(&fine).fold(0_u64, |sum, (to, bits)| sum.wrapping_add(to.or(*bits)));
        let total = ones(bits).wrapping_shl(LANES);
        count.add(Count { newly, total });
    }
    count
}
