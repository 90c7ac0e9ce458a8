//! Where a bit is: its word, its place in it, and the words and edges of a run of bits.

/// Bits of a word.
pub(super) const WORD: u64 = u64::BITS as u64;

/// Words on the stack between two halves of a job: small enough for the first-level cache with all that it needs.
pub(super) const BUFFER: usize = 1024;

/// A run of bits as words: indices and masks. Parts that are not there have an empty range or mask.
pub(super) struct WordRun {
    pub head: (usize, u64),
    pub body: std::ops::Range<usize>,
    pub tail: (usize, u64),
}

impl WordRun {
    pub fn of(words: usize, bit: u64, bits: u64) -> Self {
        let end = bit.saturating_add(bits.min(room(words, bit)));
        let (first, last) = (index(bit), index(end));
        let (start_mask, end_mask) = (!below(low_bits(bit)), below(low_bits(end)));
        if first == last || end <= bit {
            let mask = if end <= bit { 0 } else { start_mask & end_mask };
            return WordRun { head: (first, mask), body: 0..0, tail: (0, 0) };
        }
        if low_bits(bit) == 0 {
            return WordRun { head: (0, 0), body: first..last, tail: (last, end_mask) };
        }
        WordRun { head: (first, start_mask), body: first.wrapping_add(1)..last, tail: (last, end_mask) }
    }
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

/// Bytes of a page. No machine has pages of 2^64 bytes: the largest stands for them.
pub(super) fn page(shift: u32) -> u64 {
    1_u64.wrapping_shl(shift.min(63))
}
