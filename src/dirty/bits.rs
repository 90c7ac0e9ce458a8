//! Runs of bits that begin and end anywhere: the edges here, whole words in `vector`.

use super::bitmap::Count;
use super::loops::{Sink, Source, funnel};
use super::vector;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bits of a word.
pub(super) const WORD: u64 = u64::BITS as u64;

/// Words on the stack between two halves of a job: small enough for the first-level cache with all that it needs.
pub(super) const BUFFER: usize = 1024;

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
fn or_few<D: Sink, S: Source>(dst: &[D], dst_bit: u64, src: &[S], src_bit: u64, bits: u64) -> Count {
    let word = |at: usize| src.get(at).map_or(0, Source::read);
    let (low, high) = (word(index(src_bit)), word(index(src_bit).wrapping_add(1)));
    let found = funnel(low, high, low_bits(src_bit)) & below(low_bits(bits));
    let Some(word) = dst.get(index(dst_bit)).filter(|_| found != 0) else { return Count::default() };
    clear_bits(src, src_bit, bits);
    Count { newly: word.or(found.wrapping_shl(low_bits(dst_bit))), total: u64::from(found.count_ones()) }
}

/// Whole words of `dst` from bits of `src` that may begin anywhere.
fn or_whole<D: Sink, S: Source>(dst: &[D], at: usize, src: &[S], src_bit: u64, words: usize) -> Count {
    let Some(dst) = dst.get(at..at.wrapping_add(words)) else { return Count::default() };
    through_words(src, src_bit, words, |src, shift| match shift {
        0 => vector::or_aligned(dst, src.get(..words).unwrap_or_default()),
        _ => vector::or_shifted(dst, src.get(..=words).unwrap_or_default(), shift),
    })
}

/// Calls `work` for so many words of bits from `bit` on, which clears words whole: what is in the first one before `bit` comes
/// back, and what is left of the last bits goes.
pub(super) fn through_words<S: Source, T: Default>(
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
pub(super) fn clear_bits<S: Source>(src: &[S], bit: u64, bits: u64) {
    let Parts { head, body, tail } = Parts::of(src.len(), bit, bits);
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
pub(super) fn any_bits<S: Source>(src: &[S], bit: u64, bits: u64) -> bool {
    let Parts { head, body, tail } = Parts::of(src.len(), bit, bits);
    let edge = |(index, mask): (usize, u64)| src.get(index).is_some_and(|word| word.read() & mask != 0);
    edge(head) || edge(tail) || src.get(body).is_some_and(|body| vector::alike(body, 0) < body.len())
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

/// Takes bits of `src` to `dst`.
pub(super) fn take_bits<D: Sink, S: Taken>(dst: &[D], dst_bit: u64, src: &[S], src_bit: u64, bits: u64) -> Count {
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

impl<'a, S: Source> Runs<'a, S> {
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

impl<S: Source> Iterator for Runs<'_, S> {
    type Item = (u64, u64);

    #[inline]
    fn next(&mut self) -> Option<(u64, u64)> {
        let start = self.edge().filter(|start| *start < self.end)?;
        let stop = self.edge().unwrap_or(self.end).min(self.end);
        Some((start, stop.wrapping_sub(start)))
    }
}

/// The next bit that is not as in `like`, which has all bits on or off.
pub(super) fn find<S: Source>(src: &[S], from: u64, end: u64, like: u64) -> Option<u64> {
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

/// All of the bits, which must fit. More are a bug of the library or misuse of a pure function, and dirty pages would be lost by
/// silence: the panic goes to the guard of the C call.
///
/// # Panics
/// If they do not fit.
pub(super) fn fitting(bits: u64, room: u64) -> u64 {
    assert!(bits <= room, "{bits} bits do not fit into {room}: dirty pages would be lost");
    bits
}

/// Bits from `bit` to the end.
pub(super) fn room(words: usize, bit: u64) -> u64 {
    bits_in(words).saturating_sub(bit)
}

/// No machine has memory for so many words that the number of their bits is too large.
#[allow(clippy::cast_possible_truncation, reason = "a u64 holds every usize")]
pub(super) fn bits_in(words: usize) -> u64 {
    (words as u64).saturating_mul(WORD)
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
