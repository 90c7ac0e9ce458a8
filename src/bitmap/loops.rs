//! The loops over whole words, in a form that compilers make vectors of. `vector` compiles each of them for more than one
//! instruction set; callers take them from there.
//!
//! Logs are empty, full, or have few bits, over long stretches. Where there is nothing, a group costs one test; where there
//! are few bits, only the cache lines that have some are written; where most lines have some, both sides are read and written
//! in one loop without a branch, which memory keeps up with best.

use super::access::{DstWord, SrcWord, ones};
use super::prefetch::prefetch;
use super::types::Count;

/// Words of a cache line.
pub(super) const LINE: usize = 8;
/// Bytes of any of the kinds of words.
const WORD_BYTES: usize = size_of::<u64>();
/// Words that are tested at once.
const GROUP: usize = 8 * LINE;
/// Lines of a group, as bits, and how many of them are most.
const LINES: usize = GROUP / LINE;
const MANY: u64 = (1 << LINES) - 1;
const MOST: u32 = 5;
/// Words per step: a bit for each line of them fits into a word.
const TILE: usize = 64 * LINE;

#[inline(always)]
pub(super) fn any<S: SrcWord>(words: &[S]) -> bool {
    words.iter().fold(0, |all, word| all | word.read()) != 0
}

/// 64 bits from `shift` on, of which the first 64 - `shift` are in `low`. Two shifts, because one of 64 has no meaning.
#[inline(always)]
pub(super) fn funnel(low: u64, high: u64, shift: u32) -> u64 {
    low.wrapping_shr(shift) | (high.wrapping_shl(1)).wrapping_shl(63_u32.wrapping_sub(shift))
}

/// What a stretch of words had.
#[derive(Default)]
struct OrCounts {
    newly: u64,
    total: u64,
    /// Words that had bits.
    words: u64,
}

/// Every word, whether it has bits or not.
#[inline(always)]
fn or_all<D: DstWord, S: SrcWord, const SHIFTED: bool>(dst: &[D], src: &[S], shift: u32) -> OrCounts {
    let mut found = OrCounts::default();
    let mut or = |to: &D, bits: u64| {
        found.newly = found.newly.wrapping_add(to.or(bits));
        found.total = found.total.wrapping_add(ones(bits));
        found.words = found.words.wrapping_add(u64::from(bits != 0));
    };
    if SHIFTED {
        // As windows: a compiler that knows both words by one pointer makes vectors of the loop.
        for (to, pair) in dst.iter().zip(src.windows(2)) {
            let [low, high] = pair else { continue };
            let bits = funnel(low.read(), high.read(), shift);
            low.write(0);
            or(to, bits);
        }
    } else {
        for (to, from) in dst.iter().zip(src) {
            let bits = from.read();
            from.write(0);
            or(to, bits);
        }
    }
    found
}

/// A tile whose lines that have bits are known and on their way to the cache.
struct Tile<'a, D, S> {
    dst: &'a [D],
    /// One word more, if shifted.
    src: &'a [S],
    /// One bit per line.
    dirty: u64,
}

impl<'a, D: DstWord, S: SrcWord> Tile<'a, D, S> {
    #[inline(always)]
    fn new<const SHIFTED: bool>(dst: &'a [D], src: &'a [S]) -> Self {
        let more = usize::from(SHIFTED);
        let mut dirty: u64 = 0;
        for (group, place) in dst.chunks(GROUP).zip((0_usize..).step_by(GROUP)) {
            let from = src.get(place..).unwrap_or_default();
            let reaches_in = SHIFTED && from.get(GROUP).is_some_and(|word| word.read() != 0);
            if from.first_chunk::<GROUP>().is_some_and(|from| !any(from)) && !reaches_in {
                continue;
            }
            for (line, at) in group.chunks(LINE).zip((0_usize..).step_by(LINE)) {
                if any(from.get(at..at.wrapping_add(LINE).wrapping_add(more)).unwrap_or_default()) {
                    dirty |= 1_u64.wrapping_shl((place.wrapping_add(at) / LINE) as u32);
                    line.first().map(prefetch);
                }
            }
        }
        Tile { dst, src, dirty }
    }

    #[inline(always)]
    fn is_dense(&self) -> bool {
        (self.dirty.count_ones() as usize).wrapping_mul(3 * LINE) >= self.dst.len()
    }

    #[inline(always)]
    fn or<const SHIFTED: bool>(mut self, shift: u32, add: &mut impl FnMut(&OrCounts)) {
        let more = usize::from(SHIFTED);
        let part = |at: usize, len: usize| {
            Some((self.dst.get(at..)?.get(..len)?, self.src.get(at..)?.get(..len.wrapping_add(more))?))
        };
        while self.dirty != 0 {
            let line = self.dirty.trailing_zeros() as usize;
            let group = line & !(LINES - 1);
            let lines = self.dirty.wrapping_shr(group as u32) & MANY;
            if !D::BY_VECTOR && lines.count_ones() > MOST {
                if let Some((to, from)) = part(group.wrapping_mul(LINE), GROUP) {
                    self.dirty &= !MANY.wrapping_shl(group as u32);
                    add(&or_marked::<D, S, SHIFTED>(to, from, shift));
                    continue;
                }
            }
            self.dirty &= self.dirty.wrapping_sub(1);
            if let Some((to, from)) = part(line.wrapping_mul(LINE), LINE) {
                add(&or_all::<D, S, SHIFTED>(to, from, shift));
            }
        }
    }
}

/// A tile of which many lines have bits.
#[inline(always)]
fn or_dense<D: DstWord, S: SrcWord, const SHIFTED: bool>(dst: &[D], src: &[S], shift: u32) -> OrCounts {
    if D::BY_VECTOR || dst.len() < GROUP {
        return or_all::<D, S, SHIFTED>(dst, src, shift);
    }
    let mut sum = OrCounts::default();
    for (dst, at) in dst.chunks(GROUP).zip((0_usize..).step_by(GROUP)) {
        let src = src.get(at..).unwrap_or_default();
        let src = src.get(..dst.len().wrapping_add(usize::from(SHIFTED))).unwrap_or(src);
        let found = or_marked::<D, S, SHIFTED>(dst, src, shift);
        sum.newly = sum.newly.wrapping_add(found.newly);
        sum.total = sum.total.wrapping_add(found.total);
        sum.words = sum.words.wrapping_add(found.words);
    }
    sum
}

/// A group of words of which most lines have bits. Which words have some is found without a branch, because nothing shows it
/// beforehand; what a locked operation needs is read before the one in front of it, which lets no later read pass.
#[inline(always)]
fn or_marked<D: DstWord, S: SrcWord, const SHIFTED: bool>(dst: &[D], src: &[S], shift: u32) -> OrCounts {
    let bits_of = |low: u64, high: u64| if SHIFTED { funnel(low, high, shift) } else { low };
    let above = if SHIFTED { src.get(1..).unwrap_or_default() } else { src };
    let (mut found, mut marks) = (OrCounts::default(), 0_u64);
    for ((low, high), at) in src.iter().zip(above).zip(0..dst.len() as u32) {
        let bits = bits_of(low.read(), high.read());
        found.total = found.total.wrapping_add(ones(bits));
        marks |= u64::from(bits != 0).wrapping_shl(at);
    }
    found.words = u64::from(marks.count_ones());
    let mut before: Option<(&D, u64, u64)> = None;
    loop {
        let at = marks.trailing_zeros() as usize;
        let next = dst.get(at).zip(src.get(at)).zip(above.get(at)).filter(|_| marks != 0);
        let next = next.map(|((to, low), high)| (to, to.look(), bits_of(low.read(), high.read())));
        if let Some((to, old, bits)) = before {
            found.newly = found.newly.wrapping_add(to.or_to(old, bits));
        }
        before = next;
        if next.is_none() {
            break;
        }
        marks &= marks.wrapping_sub(1);
    }
    src.iter().take(dst.len()).for_each(|word| word.write(0));
    found
}

/// Word i of `dst` gets the 64 bits of `src` from bit 64 * i + `shift` on, all in word i if not `SHIFTED`. If it is, `src` has
/// one word more than `dst`. As many words as `dst` has are cleared, whole.
#[inline(always)]
pub(super) fn or_words<D: DstWord, S: SrcWord, const SHIFTED: bool>(mut dst: &[D], mut src: &[S], shift: u32) -> Count {
    let mut sum = Count::default();
    // Nothing is looked at beyond the source.
    let words = src.len().saturating_sub(usize::from(SHIFTED));
    dst = dst.get(..words).unwrap_or(dst);
    let mut add = |found: &OrCounts| sum.add(Count { newly: found.newly, total: found.total });
    // To the first line of the destination: what is asked for and written is whole lines of it.
    let mut skew = ((dst.as_ptr().addr() / WORD_BYTES).wrapping_neg() % LINE).min(dst.len());
    // What was found last shows what to expect.
    let (mut dense, mut nothing) = (false, false);
    // The tile before: while the next is looked at, its words come from memory.
    let mut pending: Option<Tile<'_, D, S>> = None;
    loop {
        if nothing {
            // Where there is nothing, there often is nothing for long.
            let empty = src.len().wrapping_sub(past::<S, GROUP>(src, 0, usize::MAX).len());
            let empty = empty.saturating_sub(usize::from(SHIFTED)) & !LINE.wrapping_sub(1);
            if let (Some(to), Some(from)) = (dst.get(empty..), src.get(empty..)) {
                (dst, src) = (to, from);
            }
            nothing = false;
        }
        // One place for the last tile too: each would be a copy of the loop.
        let last = pending.take();
        if dst.is_empty() && last.is_none() {
            break;
        }
        let len = if skew != 0 {
            std::mem::take(&mut skew)
        } else if dst.len() < LINE {
            dst.len()
        } else {
            TILE.min(dst.len() & !LINE.wrapping_sub(1))
        };
        let (to, from) = (dst.get(..len), src.get(..len.wrapping_add(usize::from(SHIFTED))));
        let (Some(to), Some(from)) = (to, from) else { break };
        (dst, src) = (dst.get(len..).unwrap_or_default(), src.get(len..).unwrap_or_default());
        let looks = !dense && len >= LINE;
        if looks {
            let tile = Tile::new::<SHIFTED>(to, from);
            dense = tile.is_dense();
            nothing = tile.dirty == 0;
            pending = (!nothing).then_some(tile);
        }
        if let Some(last) = last {
            last.or::<SHIFTED>(shift, &mut add);
        }
        if !looks && len != 0 {
            let found = or_dense::<D, S, SHIFTED>(to, from, shift);
            add(&found);
            dense = found.words.wrapping_mul(8) >= len as u64;
        }
    }
    sum
}

/// All bits on; returns how many were off.
#[inline(always)]
pub(super) fn fill<D: DstWord>(dst: &[D]) -> u64 {
    dst.iter().fold(0, |newly: u64, word| newly.wrapping_add(word.or(u64::MAX)))
}

/// Bits that are on.
#[inline(always)]
pub(super) fn count(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum: u64, word| sum.wrapping_add(ones(*word)))
}

/// As [`count`], of a few words of any kind.
#[inline(always)]
pub(super) fn ones_in<S: SrcWord>(words: &[S]) -> u64 {
    words.iter().fold(0, |sum: u64, word| sum.wrapping_add(ones(word.read())))
}

/// How many words at the beginning are equal to `like`.
#[inline(always)]
pub(super) fn alike<S: SrcWord>(words: &[S], like: u64) -> usize {
    // Short runs end within some lines, long ones last for many groups.
    let mut rest = past::<S, LINE>(words, like, GROUP);
    if words.len().wrapping_sub(rest.len()) >= GROUP {
        rest = past::<S, GROUP>(rest, like, usize::MAX);
        rest = past::<S, LINE>(rest, like, usize::MAX);
    }
    // In the line: without a branch, because nothing shows beforehand which word it is.
    let differs = |(word, place): (&S, u32)| u32::from(word.read() != like).wrapping_shl(place);
    let mask = rest.iter().take(LINE).zip(0..).fold(0, |mask, word| mask | differs(word));
    let more = if mask == 0 { rest.len() } else { mask.trailing_zeros() as usize };
    words.len().wrapping_sub(rest.len()).wrapping_add(more)
}

/// What follows the first blocks that are `like`, at most so many words of them.
#[inline(always)]
fn past<S: SrcWord, const N: usize>(mut words: &[S], like: u64, at_most: usize) -> &[S] {
    let end = words.len().saturating_sub(at_most);
    while let Some((block, after)) = words.split_first_chunk::<N>() {
        if words.len() <= end || block.iter().fold(0, |all, word| all | (word.read() ^ like)) != 0 {
            break;
        }
        words = after;
    }
    words
}

/// Zeroes; lines that are zero are not written.
#[inline(always)]
pub(super) fn clear<S: SrcWord>(words: &[S]) {
    for line in words.chunks(LINE).filter(|line| any(line)) {
        line.iter().for_each(|word| word.write(0));
    }
}
