//! The loops over whole words, in a form that compilers make vectors of: blocks of a fixed size, read before anything is
//! written. `vector` compiles each of them for more than one instruction set; callers take them from there.

use super::bitmap::Count;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words per step. One cache line: a line without a bit costs one test and no write.
pub(super) const BLOCK: usize = 8;
pub(super) type Block = [u64; BLOCK];

/// A word that bits come from. Words that are only lent cannot be written and do not clear.
pub(super) trait Source {
    fn read(&self) -> u64;
    fn write(&self, value: u64);
}

impl Source for u64 {
    #[inline(always)]
    fn read(&self) -> u64 {
        *self
    }

    #[inline(always)]
    fn write(&self, _value: u64) {}
}

impl Source for Cell<u64> {
    #[inline(always)]
    fn read(&self) -> u64 {
        self.get()
    }

    #[inline(always)]
    fn write(&self, value: u64) {
        self.set(value);
    }
}

/// A word that bits go to. Both functions return how many were off before.
pub(super) trait Sink: Sized {
    fn or(&self, bits: u64) -> u64;
    fn or_block(words: &[Self; BLOCK], bits: &Block) -> u64;
}

impl Sink for Cell<u64> {
    #[inline(always)]
    fn or(&self, bits: u64) -> u64 {
        let old = self.get();
        let new = bits & !old;
        if new != 0 {
            self.set(old | bits);
        }
        ones(new)
    }

    #[inline(always)]
    fn or_block(words: &[Self; BLOCK], bits: &Block) -> u64 {
        let mut new = *bits;
        for (new, word) in new.iter_mut().zip(words) {
            *new &= !word.get();
        }
        if !any(&new) {
            return 0;
        }
        for (new, word) in new.iter().zip(words) {
            word.set(word.get() | new);
        }
        count_block(&new)
    }
}

impl Sink for AtomicU64 {
    #[inline(always)]
    fn or(&self, bits: u64) -> u64 {
        // Most bits of a busy guest are on already, and a locked operation costs as much as twenty plain ones.
        let mut old = self.load(Ordering::Relaxed);
        while bits & !old != 0 {
            // Not fetch_or: it would read the word again where the processor has no such instruction that returns a value.
            match self.compare_exchange_weak(old, old | bits, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return ones(bits & !old),
                Err(now) => old = now,
            }
        }
        0
    }

    #[inline(always)]
    fn or_block(words: &[Self; BLOCK], bits: &Block) -> u64 {
        words.iter().zip(bits).fold(0, |sum, (word, bits)| sum.wrapping_add(word.or(*bits)))
    }
}

#[inline(always)]
fn ones(word: u64) -> u64 {
    u64::from(word.count_ones())
}

#[inline(always)]
fn any(block: &Block) -> bool {
    block.iter().fold(0, |all, word| all | word) != 0
}

#[inline(always)]
fn count_block(block: &Block) -> u64 {
    block.iter().fold(0, |sum, word| sum.wrapping_add(ones(*word)))
}

#[inline(always)]
fn read_block<S: Source>(words: &[S; BLOCK]) -> Block {
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(words) {
        *to = from.read();
    }
    block
}

#[inline(always)]
fn clear_block<S: Source>(words: &[S; BLOCK]) {
    for word in words {
        word.write(0);
    }
}

/// 64 bits from `shift` on, of which the first 64 - `shift` are in `low`. Two shifts, because one of 64 has no meaning.
#[inline(always)]
pub(super) fn funnel(low: u64, high: u64, shift: u32) -> u64 {
    low.wrapping_shr(shift) | (high.wrapping_shl(1)).wrapping_shl(63_u32.wrapping_sub(shift))
}

/// Each word of `dst` gets the word of `src` at the same place, which is cleared.
#[inline(always)]
pub(super) fn or_aligned<D: Sink, S: Source>(mut dst: &[D], mut src: &[S]) -> Count {
    let mut count = Count::default();
    while let (Some((to, dst_rest)), Some((from, src_rest))) = (dst.split_first_chunk(), src.split_first_chunk()) {
        (dst, src) = (dst_rest, src_rest);
        let bits = read_block(from);
        if any(&bits) {
            clear_block(from);
            count.add(Count { newly: D::or_block(to, &bits), total: count_block(&bits) });
        }
    }
    for (to, from) in dst.iter().zip(src) {
        let bits = from.read();
        if bits != 0 {
            from.write(0);
            count.add(Count { newly: to.or(bits), total: ones(bits) });
        }
    }
    count
}

/// Word i of `dst` gets the 64 bits of `src` from bit 64 * i + `shift` on. `src` has one word more than `dst`; all its words
/// but the last are cleared, whole: the bits below `shift` of the first are the caller's to put back.
#[inline(always)]
pub(super) fn or_shifted<D: Sink, S: Source>(mut dst: &[D], mut src: &[S], shift: u32) -> Count {
    let mut count = Count::default();
    while let (Some((to, dst_rest)), Some((from, src_rest)), Some((_, above))) =
        (dst.split_first_chunk(), src.split_first_chunk(), src.split_first())
    {
        let Some((above, _)) = above.split_first_chunk() else { break };
        (dst, src) = (dst_rest, src_rest);
        let low = read_block(from);
        let high = read_block(above);
        let mut bits = [0; BLOCK];
        for ((bits, low), high) in bits.iter_mut().zip(low).zip(high) {
            *bits = funnel(low, high, shift);
        }
        if any(&low) {
            clear_block(from);
        }
        if any(&bits) {
            count.add(Count { newly: D::or_block(to, &bits), total: count_block(&bits) });
        }
    }
    for ((to, from), above) in dst.iter().zip(src).zip(src.iter().skip(1)) {
        let bits = funnel(from.read(), above.read(), shift);
        if from.read() != 0 {
            from.write(0);
        }
        if bits != 0 {
            count.add(Count { newly: to.or(bits), total: ones(bits) });
        }
    }
    count
}

/// All bits on; returns how many were off.
#[inline(always)]
pub(super) fn fill<D: Sink>(mut dst: &[D]) -> u64 {
    let mut newly: u64 = 0;
    while let Some((to, rest)) = dst.split_first_chunk() {
        dst = rest;
        newly = newly.wrapping_add(D::or_block(to, &[u64::MAX; BLOCK]));
    }
    dst.iter().fold(newly, |newly, word| newly.wrapping_add(word.or(u64::MAX)))
}

/// Bits that are on.
#[inline(always)]
pub(super) fn count(mut words: &[u64]) -> u64 {
    let mut sum: u64 = 0;
    while let Some((block, rest)) = words.split_first_chunk() {
        words = rest;
        sum = sum.wrapping_add(count_block(block));
    }
    words.iter().fold(sum, |sum, word| sum.wrapping_add(ones(*word)))
}

/// How many words at the beginning are equal to `like`.
#[inline(always)]
pub(super) fn alike(words: &[u64], like: u64) -> usize {
    let mut rest = words;
    while let Some((block, after)) = rest.split_first_chunk::<BLOCK>() {
        if block.iter().fold(0, |all, word| all | (word ^ like)) != 0 {
            break;
        }
        rest = after;
    }
    let more = rest.iter().take_while(|word| **word == like).count();
    words.len().wrapping_sub(rest.len()).wrapping_add(more)
}

/// Zeroes; blocks that are zero are not written.
#[inline(always)]
pub(super) fn clear(words: &mut [u64]) {
    let mut blocks = words.chunks_exact_mut(BLOCK);
    for block in blocks.by_ref() {
        if block.iter().fold(0, |all, word| all | *word) != 0 {
            block.fill(0);
        }
    }
    blocks.into_remainder().iter_mut().filter(|word| **word != 0).for_each(|word| *word = 0);
}
