//! A move between bitmaps of any two page sizes: what of it is whole pages goes through the words of `scale`, the rest by runs.

use super::access::{DstWord, SrcWord};
use super::bits::{any_bits, clear_bits, or_bits, set_bits, through_words};
use super::loops::{self, LINE};
use super::place::{BUFFER, WORD, below, bits_in, fitting, index, low_bits, page, room};
use super::prefetch::prefetch;
use super::runs::{Runs, find};
use super::types::{Count, Move};
use super::{scale, vector};
use std::cell::Cell;

/// A move that is within both sides. Bytes are counted from the source's bit 0.
struct Extent {
    src_shift: u32,
    dst_shift: u32,
    first: u64,
    /// Inclusive, so that the end of the address space can be said.
    last: u64,
    dst_bit: u64,
    phase: u64,
}

impl Extent {
    fn of(src_words: usize, dst_words: usize, m: &Move) -> Option<Self> {
        let (src_page, dst_page) = (page(m.src_shift), page(m.dst_shift));
        let dst_bit = m.dst_bit.checked_add(m.dst_phase.checked_div(dst_page)?)?;
        let phase = m.dst_phase & dst_page.wrapping_sub(1);
        let readable = room(src_words, 0).saturating_mul(src_page).saturating_sub(m.skip);
        let writable = room(dst_words, dst_bit).saturating_mul(dst_page).saturating_sub(phase);
        let len = fitting(m.len, readable.min(writable).min(u64::MAX.wrapping_sub(phase)));
        let last = m.skip.checked_add(len.checked_sub(1)?)?;
        Some(Extent { src_shift: m.src_shift, dst_shift: m.dst_shift, first: m.skip, last, dst_bit, phase })
    }

    /// The destination's bit for a byte.
    fn dst_bit_of(&self, byte: u64) -> u64 {
        self.dst_bit.wrapping_add(byte.wrapping_sub(self.first).wrapping_add(self.phase).wrapping_shr(self.dst_shift))
    }

    /// Whether both sides cut the finer pages at the same bytes.
    fn is_even(&self) -> bool {
        let finer = page(self.src_shift.min(self.dst_shift));
        self.first.wrapping_sub(self.phase) & finer.wrapping_sub(1) == 0
    }
}

pub(super) fn convert<D: DstWord, S: SrcWord>(dst: &[D], src: &[S], m: &Move) -> Count {
    let Some(span) = Extent::of(src.len(), dst.len(), m) else { return Count::default() };
    let (coarser, finer) = (span.src_shift.checked_sub(span.dst_shift), span.dst_shift.checked_sub(span.src_shift));
    match (coarser, finer) {
        _ if !span.is_even() => runs(dst, src, &span),
        (Some(0), _) => {
            let (first, bits) = touched(span.first, span.last, span.src_shift);
            or_bits(dst, span.dst_bit, src, first, bits)
        }
        (Some(k), _) if k <= scale::MAX_EXPAND => expand(dst, src, &span, k),
        (Some(_), _) => runs(dst, src, &span),
        (None, k) => fold(dst, src, &span, k.unwrap_or(0)),
    }
}

/// What it costs to set one bit by itself, in words of fine bits that are made and merged (docs/performance.md).
const SCATTERED: u64 = 8;

/// First page and number of pages that have the bytes.
fn touched(first: u64, last: u64, shift: u32) -> (u64, u64) {
    let page = first.wrapping_shr(shift);
    (page, last.wrapping_shr(shift).wrapping_sub(page).wrapping_add(1))
}

/// From coarse to fine: some source words become words of fine bits, which are merged like any others.
fn expand<D: DstWord, S: SrcWord>(dst: &[D], src: &[S], span: &Extent, k: u32) -> Count {
    let mut count = Count::default();
    let mut buffer = [0; BUFFER];
    let (fine_first, fine_bits) = touched(span.first, span.last, span.dst_shift);
    let fine_end = fine_first.wrapping_add(fine_bits);
    let end = index(span.last.wrapping_shr(span.src_shift)).wrapping_add(1);
    let mut at = index(span.first.wrapping_shr(span.src_shift));
    while let Some(words) = src.get(at..end).filter(|words| !words.is_empty()) {
        let empty = vector::alike(words, 0);
        at = at.wrapping_add(empty);
        let words = words.get(empty..).unwrap_or_default();
        let words = words.get(..BUFFER.wrapping_shr(k)).unwrap_or(words);
        // To the next line without a bit: it is 2^k lines of the destination.
        let lines = words.chunks(LINE).take_while(|line| loops::any(line)).count();
        let words = words.get(..lines.wrapping_mul(LINE)).unwrap_or(words);
        let Some(fine) = buffer.get_mut(..words.len().wrapping_shl(k)) else { break };
        // In fine bits: where the buffer begins, and what of it belongs to the move.
        let origin = bits_in(at).wrapping_shl(k);
        let from = origin.max(fine_first);
        let n = origin.saturating_add(bits_in(fine.len())).min(fine_end).saturating_sub(from);
        at = at.wrapping_add(words.len());
        if n == bits_in(fine.len()) && loops::ones_in(words).wrapping_mul(SCATTERED) <= fine.len() as u64 {
            count.add(scatter(dst, words, span.dst_bit.wrapping_add(from.wrapping_sub(fine_first)), k));
            continue;
        }
        let to = span.dst_bit.wrapping_add(from.wrapping_sub(fine_first));
        let whole = D::BY_VECTOR && k == scale::LANES && n == bits_in(fine.len()) && low_bits(to) == 0;
        if let Some(to) = dst.get(index(to)..).and_then(|to| to.get(..fine.len())).filter(|_| whole) {
            count.add(vector::or_spread(to, words));
            continue;
        }
        S::with_cells(words, |words| vector::expand(fine, words, k));
        if n != 0 {
            count.add(or_bits(dst, to, fine, from.wrapping_sub(origin), n));
            let (first, bits) = touched(from, from.wrapping_add(n).wrapping_sub(1), k);
            clear_bits(src, first, bits);
        }
    }
    count
}

/// Few bits: each is set by itself, and the words in between are not visited. Their places are far apart and nothing foretells
/// them, so all are asked for first.
fn scatter<D: DstWord, S: SrcWord>(dst: &[D], words: &[S], dst_bit: u64, k: u32) -> Count {
    for (bit, _) in each_bit(words) {
        dst.get(index(dst_bit.wrapping_add(bit.wrapping_shl(k)))).into_iter().for_each(prefetch);
    }
    let mut count = Count::default();
    let fine = below(1_u32.wrapping_shl(k));
    for (bit, word) in each_bit(words) {
        word.write(0);
        let at = dst_bit.wrapping_add(bit.wrapping_shl(k));
        let (place, shift) = (index(at), low_bits(at));
        let mut or = |place: usize, bits: u64| {
            if let Some(to) = dst.get(place).filter(|_| bits != 0) {
                count.newly = count.newly.wrapping_add(to.or(bits));
            }
        };
        or(place, fine.wrapping_shl(shift));
        or(place.wrapping_add(1), fine.wrapping_shr(1).wrapping_shr(63_u32.wrapping_sub(shift)));
        count.total = count.total.wrapping_add(page(k));
    }
    count
}

/// The bits that are on, and the words that have them.
fn each_bit<S: SrcWord>(words: &[S]) -> impl Iterator<Item = (u64, &S)> {
    words.iter().zip(0_usize..).flat_map(|(word, place)| {
        let mut rest = word.read();
        std::iter::from_fn(move || {
            let bit = bits_in(place).wrapping_add(u64::from(rest.trailing_zeros()));
            let found = rest != 0;
            rest &= rest.wrapping_sub(1);
            found.then_some((bit, word))
        })
    })
}

/// From fine to coarse: the groups of source bits that are whole become words of coarse bits; those that the move cuts at
/// either end are one bit each.
fn fold<D: DstWord, S: SrcWord>(dst: &[D], src: &[S], span: &Extent, k: u32) -> Count {
    let (first, bits) = touched(span.first, span.last, span.src_shift);
    let group = page(k);
    let phase = span.phase.wrapping_shr(span.src_shift);
    let head = if phase == 0 { 0 } else { bits.min(group.wrapping_sub(phase)) };
    let body = bits.wrapping_sub(head) & !group.wrapping_sub(1);
    let tail = bits.wrapping_sub(head).wrapping_sub(body);
    let body_first = first.wrapping_add(head);
    let body_bit = span.dst_bit.wrapping_add(u64::from(head != 0));
    let groups = body.wrapping_shr(k);

    let mut count = fold_one(dst, span.dst_bit, src, first, head);
    count.add(fold_groups(dst, body_bit, src, body_first, groups, k));
    count.add(fold_one(dst, body_bit.wrapping_add(groups), src, body_first.wrapping_add(body), tail));
    count
}

fn fold_one<D: DstWord, S: SrcWord>(dst: &[D], dst_bit: u64, src: &[S], bit: u64, bits: u64) -> Count {
    if !any_bits(src, bit, bits) {
        return Count::default();
    }
    clear_bits(src, bit, bits);
    set_bits(dst, dst_bit, 1)
}

fn fold_groups<D: DstWord, S: SrcWord>(dst: &[D], dst_bit: u64, src: &[S], first: u64, groups: u64, k: u32) -> Count {
    let mut count = Count::default();
    let mut buffer = [0; BUFFER];
    let end = first.wrapping_add(groups.wrapping_shl(k));
    let mut done: u64 = 0;
    while done < groups {
        let bit = first.wrapping_add(done.wrapping_shl(k));
        let Some(next) = find(src, bit, end, 0) else { break };
        let bit = bit.wrapping_add(next.wrapping_sub(bit) & !page(k).wrapping_sub(1));
        done = bit.wrapping_sub(first).wrapping_shr(k);
        let n = fold_some(&mut buffer, src, bit, groups.wrapping_sub(done), k);
        count.add(or_bits(dst, dst_bit.wrapping_add(done), buffer.as_slice(), 0, n));
        done = done.wrapping_add(n);
    }
    count
}

/// Folds as many groups as it likes; returns how many.
fn fold_some<S: SrcWord>(buffer: &mut [u64; BUFFER], src: &[S], bit: u64, groups: u64, k: u32) -> u64 {
    let words = src.len().saturating_sub(index(bit));
    // Of the words, one more than what is folded must be there.
    let whole = words.saturating_sub(1).wrapping_shr(k).min(BUFFER).min(index(groups));
    if k <= scale::MAX_FOLD && whole != 0 {
        let out = buffer.get_mut(..whole).unwrap_or_default();
        let whole = through_words(src, bit, whole.wrapping_shl(k), |src, shift| {
            S::with_cells(src, |src| {
                // There may be fewer of them.
                let whole = whole.min(src.len().saturating_sub(1).wrapping_shr(k));
                vector::fold(out.get_mut(..whole).unwrap_or_default(), src, shift, k);
                whole
            })
        });
        return bits_in(whole);
    }
    let [word, ..] = buffer;
    let some = groups.min(WORD);
    if k <= scale::MAX_FOLD {
        let mut padded = [0; (1 << scale::MAX_FOLD) + 1];
        for (to, from) in padded.iter_mut().zip(src.get(index(bit)..).unwrap_or_default()) {
            *to = from.read();
        }
        vector::fold(
            std::slice::from_mut(word),
            Cell::from_mut(padded.as_mut_slice()).as_slice_of_cells(),
            low_bits(bit),
            k,
        );
    } else {
        *word = 0;
        let starts = std::iter::successors(Some(bit), |bit| Some(bit.wrapping_add(page(k))));
        for (start, place) in starts.zip(0..some) {
            *word |= u64::from(any_bits(src, start, page(k))).wrapping_shl(low_bits(place));
        }
    }
    clear_bits(src, bit, some.wrapping_shl(k));
    some
}

/// For pages that lie in each other in no simple way, and for pages so large that each run is many words.
fn runs<D: DstWord, S: SrcWord>(dst: &[D], src: &[S], span: &Extent) -> Count {
    let mut count = Count::default();
    let (first, bits) = touched(span.first, span.last, span.src_shift);
    // Two source pages may touch one destination page, which counts once.
    let mut uncounted = span.dst_bit;
    for (page, pages) in Runs::new(src, first, first.wrapping_add(bits)) {
        let at = page.wrapping_add(pages);
        let first = page.wrapping_shl(span.src_shift).max(span.first);
        let last = at.wrapping_sub(1).wrapping_shl(span.src_shift) | self::page(span.src_shift).wrapping_sub(1);
        let from = span.dst_bit_of(first).max(uncounted);
        let to = span.dst_bit_of(last.min(span.last)).wrapping_add(1);
        count.add(set_bits(dst, from, to.saturating_sub(from)));
        uncounted = to;
        clear_bits(src, page, pages);
    }
    count
}
