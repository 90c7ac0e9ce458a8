//! The bits of one read, and their owners.

use super::deliver::Deliverer;
use super::names::Names;
use super::parts::{Bits, Reported};
use super::record::Record;
use super::scratch::{PagePool, Pages};
use crate::bitmap;
use crate::error::Errno;
use crate::logs::log::{Log, Maps, Read};

/// Hands out the bits of one read. Afterwards all of `words` is zero.
pub(crate) fn distribute(record: &mut Record, deliverer: &mut Deliverer<'_, '_>, words: &mut [u64], read: &Read) {
    let all = (words.len() as u64).saturating_mul(64);
    // What a kernel set beyond the end (I6).
    bitmap::clear_range(words, read.bits(), all.saturating_sub(read.bits()));
    // Most reads of many mappings have found nothing, and to learn whose it is costs more than to look.
    if !bitmap::any(words, 0, read.bits()) {
        return;
    }
    let mut bits = Bits { words, shift: read.shift, origin: read.span.first };
    let Record { maps, gone, left, .. } = record;
    let (pieces, names) = (deliverer.pieces(maps, read.span), Names::Of(maps, gone));
    // Leftovers are reported later in the call: a page that is among them is reported once, with them.
    bits.report(pieces.iter().copied(), &mut |owner, reported| match reported {
        Reported::Part(part) if left.any(part) => left.add(part),
        Reported::Bits(bits, span) if left.any(span) => left.absorb(bits, span),
        Reported::Part(part) => deliverer.run(owner, part, names).into_iter().for_each(|rest| left.add(rest)),
        Reported::Bits(bits, span) => {
            let kept = deliverer.bits(owner, bits, span, names);
            kept.refused.into_iter().for_each(|span| left.add(span));
            if let Some(rest) = kept.rest {
                left.absorb(bits, rest);
            }
        }
    });
    // What is not mapped cannot have been written, so a bit there is the log's coarseness.
    for hole in maps.mapped.holes(read.span) {
        if bits.any(hole) {
            bits.forget(hole);
        }
    }
}

/// What the first read after a start found.
pub(crate) struct FirstRead {
    /// Every mapped page was dirty; `None`: nothing was read.
    pub full: Option<bool>,
    bits: Option<(Read, Pages)>,
}

impl FirstRead {
    /// Keeps what was read.
    pub fn keep(self, record: &mut Record, pool: &PagePool) {
        let Some((read, mut pages)) = self.bits else { return };
        distribute(record, &mut Deliverer::no_owner(), pages.room(read.words()), &read);
        pool.give(pages);
    }
}

/// Reads the smallest range of a log that was just started: one that cannot be read is found out now, not in the middle of a
/// migration (K23).
pub(crate) fn check_reading(log: &mut dyn Log, maps: &Maps, pool: &PagePool) -> std::result::Result<FirstRead, Errno> {
    // One that ends at 2^64 may be refused for that alone (T3).
    let smallest = log.reads(maps, None).into_iter().min_by_key(|read| (read.span.last == u64::MAX, read.bits()));
    let Some(read) = smallest.filter(|_| log.readable_at_start()) else {
        return Ok(FirstRead { full: None, bits: None });
    };
    let mut pages = pool.take(read.words())?;
    log.read(&read, false, pages.room(read.words()))?;
    let full = full(maps, &read, pages.words_mut());
    Ok(FirstRead { full, bits: Some((read, pages)) })
}

/// Whether every mapped page of a read is dirty. A read may go over holes, whose pages have no bit.
pub(super) fn full(maps: &Maps, read: &Read, words: &mut [u64]) -> Option<bool> {
    let bits = Bits { words, shift: read.shift, origin: read.span.first };
    let mut parts = maps.mapped.parts(read.span).peekable();
    parts.peek()?;
    Some(parts.all(|part| bits.all(part)))
}
