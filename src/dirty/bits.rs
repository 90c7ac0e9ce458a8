//! Runs of bits that begin and end anywhere: the edges here, whole words in `vector`.

use super::bitmap::Count;
use super::loops::{Sink, Source};
use super::vector;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bits of a word.
pub(super) const WORD: u64 = u64::BITS as u64;

/// Words on the stack between two halves of a job: small enough for the first-level cache with all that it needs.
pub(super) const BUFFER: usize = 256;

/// Any alignment on both sides. Bits that `src` can clear are off afterwards.
pub(super) fn or_bits<D: Sink, S: Source>(dst: &[D], dst_bit: u64, src: &[S], src_bit: u64, bits: u64) -> Count {
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
pub(super) fn or_few<D: Sink, S: Source>(dst: &[D], dst_bit: u64, src: &[S], src_bit: u64, bits: u64) -> Count {
    let mut count = Count::default();
    let mut found: u64 = 0;
    let wanted = below(low_bits(bits));
    let shift = low_bits(src_bit);
    // What is wanted, in the place of the word that has it, and how to get it from there to bit 0.
    let low = (src.get(index(src_bit)), wanted.wrapping_shl(shift));
    let high = (src.get(index(src_bit).wrapping_add(1)), wanted.checked_shr(64_u32.wrapping_sub(shift)).unwrap_or(0));
    let on = |word: Option<_>, mask: u64| word.filter(|word: &&S| word.read() & mask != 0).map(|word| (word, mask));
    if let Some((word, mask)) = on(low.0, low.1) {
        found |= (word.read() & mask).wrapping_shr(shift);
        word.write(word.read() & !mask);
    }
    if let Some((word, mask)) = on(high.0, high.1) {
        found |= (word.read() & mask).wrapping_shl(64_u32.wrapping_sub(shift));
        word.write(word.read() & !mask);
    }
    if let Some(word) = dst.get(index(dst_bit)).filter(|_| found != 0) {
        let newly = word.or(found.wrapping_shl(low_bits(dst_bit)));
        count = Count { newly, total: u64::from(found.count_ones()) };
    }
    count
}

/// Whole words of `dst` from bits of `src` that may begin anywhere.
pub(super) fn or_whole<D: Sink, S: Source>(dst: &[D], at: usize, src: &[S], src_bit: u64, words: usize) -> Count {
    let shift = low_bits(src_bit);
    let Some(dst) = dst.get(at..at.wrapping_add(words)).filter(|dst| !dst.is_empty()) else { return Count::default() };
    let src = src.get(index(src_bit)..).unwrap_or_default();
    if shift == 0 {
        return vector::or_aligned(dst, src.get(..words).unwrap_or_default());
    }
    let (Some(first), Some(last)) = (src.first(), src.get(words)) else { return Count::default() };
    let before = first.read() & below(shift);
    let count = vector::or_shifted(dst, src.get(..=words).unwrap_or_default(), shift);
    // The loop clears whole words: what is before the first bit comes back, and what is left of the last bits goes.
    if before != 0 {
        first.write(first.read() | before);
    }
    if last.read() & below(shift) != 0 {
        last.write(last.read() & !below(shift));
    }
    count
}

pub(super) fn set_bits<D: Sink>(dst: &[D], bit: u64, bits: u64) -> Count {
    let bits = fitting(bits, room(dst.len(), bit));
    let Parts { head, body, tail } = Parts::of(dst.len(), bit, bits);
    let edge = |(index, mask): (usize, u64)| dst.get(index).map_or(0, |word| word.or(mask));
    let whole = dst.get(body).map_or(0, vector::fill);
    Count { newly: whole.wrapping_add(edge(head)).wrapping_add(edge(tail)), total: bits }
}

/// A word that bits can be moved out of.
pub(super) trait Taken {
    fn take(&self, mask: u64) -> u64;
}

impl Taken for Cell<u64> {
    fn take(&self, mask: u64) -> u64 {
        let old = self.get();
        self.set(old & !mask);
        old & mask
    }
}

impl Taken for AtomicU64 {
    fn take(&self, mask: u64) -> u64 {
        if self.load(Ordering::Relaxed) & mask == 0 {
            return 0;
        }
        match mask {
            u64::MAX => self.swap(0, Ordering::AcqRel),
            _ => self.fetch_and(!mask, Ordering::AcqRel) & mask,
        }
    }
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
        let Parts { head, body, tail } = Parts::of(src.len(), at, n);
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

/// A run of bits as words: indices and masks. Parts that are not there have an empty range or mask.
pub(super) struct Parts {
    pub head: (usize, u64),
    pub body: std::ops::Range<usize>,
    pub tail: (usize, u64),
}

impl Parts {
    pub fn of(words: usize, bit: u64, bits: u64) -> Self {
        let end = bit.saturating_add(bits.min(room(words, bit)));
        let (first, last) = (index(bit), index(end));
        let (start_mask, end_mask) = (!below(low_bits(bit)), below(low_bits(end)));
        if first == last || end <= bit {
            let mask = if end <= bit { 0 } else { start_mask & end_mask };
            return Parts { head: (first, mask), body: 0..0, tail: (0, 0) };
        }
        if low_bits(bit) == 0 {
            return Parts { head: (0, 0), body: first..last, tail: (last, end_mask) };
        }
        Parts { head: (first, start_mask), body: first.wrapping_add(1)..last, tail: (last, end_mask) }
    }
}

/// The next bit that is on, or off.
pub(super) fn find(src: &[u64], from: u64, end: u64, on: bool) -> Option<u64> {
    let skipped = if on { 0 } else { u64::MAX };
    let in_word = |word: u64, start: u64| {
        let found = (word ^ skipped) & !below(low_bits(start));
        let bit = bits_in(index(start)).wrapping_add(u64::from(found.trailing_zeros()));
        (found != 0).then_some(bit)
    };
    let mut at = from;
    let mut found = None;
    if from < end {
        found = in_word(*src.get(index(from))?, from);
    }
    if found.is_none() {
        let next = index(from).wrapping_add(1);
        let rest = src.get(next..index(end.saturating_add(WORD).wrapping_sub(1)))?;
        at = bits_in(next.wrapping_add(vector::alike(rest, skipped)));
        found = in_word(*src.get(index(at))?, at);
    }
    found.filter(|bit| at < end && *bit < end)
}

/// How many of the bits fit. More are a mistake of the caller: dirty pages would be lost.
pub(super) fn fitting(bits: u64, room: u64) -> u64 {
    debug_assert!(bits <= room, "{bits} do not fit into {room}");
    bits.min(room)
}

/// Bits from `bit` to the end.
pub(super) fn room(words: usize, bit: u64) -> u64 {
    bits_in(words).saturating_sub(bit)
}

/// No slice has more than 2^61 words.
#[allow(clippy::cast_possible_truncation, reason = "a u64 holds every usize")]
pub(super) fn bits_in(words: usize) -> u64 {
    (words as u64).wrapping_mul(WORD)
}

/// The word of a bit; one that no slice has if there is none.
pub(super) fn index(bit: u64) -> usize {
    usize::try_from(bit / WORD).unwrap_or(usize::MAX)
}

/// The place of a bit in its word.
pub(super) fn low_bits(bit: u64) -> u32 {
    u32::try_from(bit % WORD).unwrap_or(0)
}

pub(super) fn mask(bit: u64) -> u64 {
    1_u64.wrapping_shl(low_bits(bit))
}

/// The bits of a word below a place.
pub(super) fn below(place: u32) -> u64 {
    1_u64.wrapping_shl(place).wrapping_sub(1)
}

/// Bytes of a page. Nobody has pages of 2^64 bytes: the largest stands for them.
pub(super) fn page(shift: u32) -> u64 {
    1_u64.wrapping_shl(shift.min(63))
}
