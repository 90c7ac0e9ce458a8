//! Runs of bits that begin and end anywhere: the edges here, whole words in `vector`.

use super::access::{DstWord, SrcWord, Taken};
use super::loops::funnel;
use super::place::{BUFFER, WORD, WordRun, below, bits_in, fitting, index, low_bits, room};
use super::types::Count;
use super::vector;
use std::sync::atomic::{Ordering, fence};

/// Any alignment on both sides. Bits that `src` can clear are off afterwards.
pub(super) fn or_bits<D: DstWord, S: SrcWord>(dst: &[D], dst_bit: u64, src: &[S], src_bit: u64, bits: u64) -> Count {
    let bits = fitting(bits, room(dst.len(), dst_bit).min(room(src.len(), src_bit)));
    let head = bits.min(dst_bit.wrapping_neg() % WORD);
    let words = bits.wrapping_sub(head) / WORD;
    let tail = bits.wrapping_sub(head) % WORD;
    let body = head.wrapping_add(words.wrapping_mul(WORD));

    let mut count = or_few(dst, dst_bit, src, src_bit, head);
    count.add(or_whole(
        dst,
        index(dst_bit.wrapping_add(head)),
        src,
        src_bit.wrapping_add(head),
        index(words.wrapping_mul(WORD)),
    ));
    count.add(or_few(dst, dst_bit.wrapping_add(body), src, src_bit.wrapping_add(body), tail));
    count
}

/// Fewer than a word, all in one word of `dst`.
fn or_few<D: DstWord, S: SrcWord>(dst: &[D], dst_bit: u64, src: &[S], src_bit: u64, bits: u64) -> Count {
    let word = |at: usize| src.get(at).map_or(0, SrcWord::read);
    let (low, high) = (word(index(src_bit)), word(index(src_bit).wrapping_add(1)));
    let found = funnel(low, high, low_bits(src_bit)) & below(low_bits(bits));
    let Some(word) = dst.get(index(dst_bit)).filter(|_| found != 0) else { return Count::default() };
    clear_bits(src, src_bit, bits);
    Count { newly: word.or(found.wrapping_shl(low_bits(dst_bit))), total: u64::from(found.count_ones()) }
}

/// Whole words of `dst` from bits of `src` that may begin anywhere.
fn or_whole<D: DstWord, S: SrcWord>(dst: &[D], at: usize, src: &[S], src_bit: u64, words: usize) -> Count {
    let Some(dst) = dst.get(at..at.wrapping_add(words)) else { return Count::default() };
    through_words(src, src_bit, words, |src, shift| match shift {
        0 => vector::or_aligned(dst, src.get(..words).unwrap_or_default()),
        _ => vector::or_shifted(dst, src.get(..=words).unwrap_or_default(), shift),
    })
}

/// Calls `work` for so many words of bits from `bit` on, which clears words whole: what is in the first one before `bit` comes
/// back, and what is left of the last bits goes.
pub(super) fn through_words<S: SrcWord, T: Default>(
    src: &[S],
    bit: u64,
    words: usize,
    work: impl FnOnce(&[S], u32) -> T,
) -> T {
    let shift = low_bits(bit);
    let src = src.get(index(bit)..).unwrap_or_default();
    let Some(first) = src.first().filter(|_| words != 0) else { return T::default() };
    let before = first.read() & below(shift);
    let result = work(src, shift);
    if before != 0 {
        first.write(first.read() | before);
    }
    if let Some(last) = src.get(words).filter(|last| last.read() & below(shift) != 0) {
        last.write(last.read() & !below(shift));
    }
    result
}

/// Lines of words that are off are not written.
pub(super) fn clear_bits<S: SrcWord>(src: &[S], bit: u64, bits: u64) {
    let WordRun { head, body, tail } = WordRun::of(src.len(), bit, bits);
    if let Some(body) = src.get(body).filter(|body| !body.is_empty()) {
        vector::clear(body);
    }
    for (index, mask) in [head, tail] {
        if let Some(word) = src.get(index).filter(|word| word.read() & mask != 0) {
            word.write(word.read() & !mask);
        }
    }
}

/// Whether one of the bits is on.
pub(super) fn any_bits<S: SrcWord>(src: &[S], bit: u64, bits: u64) -> bool {
    let WordRun { head, body, tail } = WordRun::of(src.len(), bit, bits);
    let edge = |(index, mask): (usize, u64)| src.get(index).is_some_and(|word| word.read() & mask != 0);
    edge(head) || edge(tail) || src.get(body).is_some_and(|body| vector::alike(body, 0) < body.len())
}

pub(super) fn set_bits<D: DstWord>(dst: &[D], bit: u64, bits: u64) -> Count {
    let bits = fitting(bits, room(dst.len(), bit));
    let WordRun { head, body, tail } = WordRun::of(dst.len(), bit, bits);
    let edge = |(index, mask): (usize, u64)| dst.get(index).map_or(0, |word| word.or(mask));
    let whole = dst.get(body).map_or(0, vector::fill);
    Count { newly: whole.wrapping_add(edge(head)).wrapping_add(edge(tail)), total: bits }
}

/// Takes bits of `src` to `dst`.
pub(super) fn take_bits<D: DstWord, S: Taken>(dst: &[D], dst_bit: u64, src: &[S], src_bit: u64, bits: u64) -> Count {
    let bits = fitting(bits, room(dst.len(), dst_bit));
    let mut count = Count::default();
    take_pieces(src, src_bit, bits, |piece, offset, at, n| {
        count.add(or_bits(dst, dst_bit.wrapping_add(at), piece, offset, n));
    });
    count
}

/// Takes bits out of `src`, some words at a time, and calls `give` with the words, the offset of the first bit in them, its
/// distance from `bit`, and the number of bits.
pub(super) fn take_pieces<S: Taken>(src: &[S], bit: u64, bits: u64, mut give: impl FnMut(&[u64], u64, u64, u64)) {
    let bits = bits.min(room(src.len(), bit));
    let mut buffer = [0; BUFFER];
    let mut done: u64 = 0;
    while done < bits {
        let at = bit.wrapping_add(done);
        let offset = at % WORD;
        let n = bits.wrapping_sub(done).min(bits_in(BUFFER).wrapping_sub(offset));
        let WordRun { head, body, tail } = WordRun::of(src.len(), at, n);
        let mut taken = 0;
        buffer.fill(0);
        for (place, mask) in [head, tail].into_iter().chain(body.map(|place| (place, u64::MAX))) {
            if let (Some(word), Some(to)) = (src.get(place), buffer.get_mut(place.wrapping_sub(index(at)))) {
                *to |= word.take(mask);
                taken |= *to;
            }
        }
        if taken != 0 {
            // A bit that is on already in the destination is not written again: whoever takes it there must still see what
            // the setter of this one wrote. And the caller reads pages next.
            fence(Ordering::SeqCst);
            give(&buffer, offset, done, n);
        }
        done = done.wrapping_add(n);
    }
}
