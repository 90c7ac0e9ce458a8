//! Reads logs and clears them, gives what was asked for and keeps the rest. Workers read, the calling thread merges.
//!
//! An error while reading is never "no dirt" (P13): what it may have hidden is dirty, and the result says so.

use super::book::Names;
use super::choose::Source;
use super::deliver::{Deliverer, Request};
use super::log::{Log, Maps, Read};
use super::parts::{Bits, Told};
use super::reading::read_all;
use super::scratch::{Pages, Pool};
use super::tracker::{Book, Inner, Tracker};
use crate::bitmap;
use crate::error::{Errno, Error, Result};
use crate::gate::Pass;
use std::any::Any;

/// What a harvest brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harvest {
    /// Pages of the destinations that were clean before.
    pub newly: u64,
    /// Pages of the destinations that were told dirty, known before or not.
    pub total: u64,
    /// Bytes that are dirty only because a read failed; they may have been given or be left over.
    pub degraded_bytes: u64,
    /// Requests to logs.
    pub reads: u64,
    /// Those that failed, and sources that keep no log.
    pub failed_reads: u32,
    /// The first errno of them.
    pub first_errno: Option<Errno>,
    /// A callback said stop; what it did not get is left over.
    pub stopped: bool,
}

/// A tracker's parts, borrowed for a harvest.
pub(crate) struct Part<'a> {
    pub sources: &'a mut [Source],
    pub pool: &'a Pool,
    pub book: &'a mut Book,
    pub page_size: u64,
}

/// What reading cost and missed.
#[derive(Default)]
pub(crate) struct Tally {
    pub reads: u64,
    pub failed: u32,
    pub degraded_bytes: u64,
    pub first_errno: Option<Errno>,
    /// A function of the VMM panicked; it goes on when nothing can be lost by it any more.
    pub panic: Option<Box<dyn Any + Send>>,
}

impl Tally {
    pub fn fail(&mut self, errno: Errno, bytes: u64) {
        self.failed = self.failed.saturating_add(1);
        self.degraded_bytes = self.degraded_bytes.saturating_add(bytes);
        self.first_errno = self.first_errno.or(Some(errno));
    }
}

/// Harvests several address spaces at once: every destination gets what any of them has for its range.
///
/// *tracker, for each of them; blocks in the kernel and in callbacks.* Errors are misuse only, and come before anything is
/// read; a log that cannot be read shows in the result.
pub fn harvest(trackers: &[&Tracker], request: &mut Request<'_>) -> Result<Harvest> {
    request.given = None;
    let Request { no_read, keep, only_dests, max_workers, .. } = *request;
    // In one order everywhere, so that two harvests of the same trackers cannot wait for each other.
    let mut sorted: Vec<&Tracker> = trackers.to_vec();
    sorted.sort_by_key(|tracker| std::ptr::from_ref(*tracker).addr());
    if sorted.windows(2).any(|pair| matches!(pair, [a, b] if std::ptr::eq(*a, *b))) {
        return Err(Error::argument("a tracker is named twice"));
    }
    if only_dests && request.dests.is_empty() {
        return Err(Error::argument("only what destinations ask for shall be read, and there is none"));
    }
    let mut deliverer = Deliverer::new(request)?;
    let mut passes: Vec<Pass<'_, Inner>> = sorted.iter().map(|tracker| tracker.enter()).collect::<Result<_>>()?;
    for (tracker, inner) in sorted.iter().zip(&passes) {
        if !inner.is_running() {
            return Err(tracker.named(Error::order("harvest without start")));
        }
    }
    let own_max = passes.iter().map(|inner| inner.max_workers).max().unwrap_or(0);
    let max_workers = if max_workers == 0 { own_max } else { max_workers };
    let mut tally = Tally::default();
    if !no_read {
        let within = only_dests.then(|| deliverer.asked.clone());
        let mut parts: Vec<Part<'_>> = passes.iter_mut().map(|inner| inner.part()).collect();
        let mut nobody = Deliverer::nobody();
        let taker = if keep { &mut nobody } else { &mut deliverer };
        read_all(&mut parts, within.as_ref(), false, max_workers, taker, &mut tally);
        for inner in passes.iter_mut().filter(|_| !keep) {
            inner.was_read(within.as_ref());
        }
    }
    for inner in &mut passes {
        inner.book.give(&mut deliverer, keep);
    }
    for (tracker, inner) in sorted.iter().zip(&passes) {
        if tally.failed > 0 || !tracker.is_told(inner) {
            tracker.done(inner);
        }
    }
    drop(passes);
    let harvest = deliverer.finish(tally);
    request.given = Some(harvest);
    Ok(harvest)
}

impl Tracker {
    /// Reads the log, clears it, and gives what was asked for; what was read and not asked for is kept for the harvest that
    /// asks. *tracker; blocks in the kernel and in callbacks.*
    pub fn harvest(&self, request: &mut Request<'_>) -> Result<Harvest> {
        harvest(&[self], request)
    }
}

/// Hands out the bits of one read. Afterwards all of `words` is zero.
pub(crate) fn distribute(book: &mut Book, deliverer: &mut Deliverer<'_, '_>, words: &mut [u64], read: &Read) {
    let all = (words.len() as u64).saturating_mul(64);
    // What a kernel set beyond the end (I6).
    bitmap::clear_range(words, read.bits(), all.saturating_sub(read.bits()));
    let mut bits = Bits { words, shift: read.shift, origin: read.span.first };
    let Book { maps, gone, left, .. } = book;
    let (pieces, names) = (deliverer.pieces(maps, read.span), Names::Of(maps, gone));
    // What is left over already comes later in the call: told with it, a page is told once.
    bits.tell(pieces.iter().copied(), &mut |whom, told| match told {
        Told::Part(part) if left.any(part) => left.add(part),
        Told::Bits(bits, span) if left.any(span) => left.absorb(bits, span),
        Told::Part(part) => deliverer.run(whom, part, names).into_iter().for_each(|rest| left.add(rest)),
        Told::Bits(bits, span) => {
            let kept = deliverer.bits(whom, bits, span, names);
            kept.refused.into_iter().for_each(|span| left.add(span));
            if let Some(rest) = kept.rest {
                left.absorb(bits, rest);
            }
        }
    });
    // What is not mapped: nobody can have written there, so a bit is the log's coarseness.
    for hole in maps.mapped.holes(read.span) {
        if bits.any(hole) {
            bits.forget(hole);
        }
    }
}

/// What the first read after a start found.
pub(crate) struct Found {
    /// Every mapped page was dirty; `None`: nothing was read.
    pub full: Option<bool>,
    bits: Option<(Read, Pages)>,
}

impl Found {
    /// Keeps what was read.
    pub fn keep(self, book: &mut Book, pool: &Pool) {
        let Some((read, mut pages)) = self.bits else { return };
        distribute(book, &mut Deliverer::nobody(), pages.room(read.words()), &read);
        pool.give(pages);
    }
}

/// Reads the smallest range of a log that was just started: one that cannot be read is found out now, not in the middle of a
/// migration (K23).
pub(crate) fn check_reading(log: &mut dyn Log, maps: &Maps, pool: &Pool) -> std::result::Result<Found, Errno> {
    // One that ends at 2^64 may be refused for that alone (T3).
    let smallest = log.reads(maps, None).into_iter().min_by_key(|read| (read.span.last == u64::MAX, read.bits()));
    let Some(read) = smallest.filter(|_| log.readable_at_start()) else {
        return Ok(Found { full: None, bits: None });
    };
    let mut pages = pool.take(read.words())?;
    log.read(&read, false, pages.room(read.words()))?;
    let full = full(maps, &read, pages.words_mut());
    Ok(Found { full, bits: Some((read, pages)) })
}

/// Whether every mapped page of a read is dirty. A read may go over holes, of which nobody says that they are dirty.
pub(super) fn full(maps: &Maps, read: &Read, words: &mut [u64]) -> Option<bool> {
    let bits = Bits { words, shift: read.shift, origin: read.span.first };
    let mut parts = maps.mapped.parts(read.span).peekable();
    parts.peek()?;
    Some(parts.all(|part| bits.all(part)))
}

#[cfg(test)]
mod tests {
    use super::super::UNIT_SHIFT;
    use super::super::ranges::Span;
    use super::*;

    /// A log of two mappings that is read in one piece, or in two of which the first fails.
    struct TwoMappings {
        bits: Vec<u64>,
        first_fails: bool,
    }

    const FIRST: Span = Span { first: 0, last: 0xfff };
    const SECOND: Span = Span { first: 0xf000, last: 0xffff };

    impl Log for TwoMappings {
        fn describe(&self) -> String {
            "two mappings".into()
        }
        fn start(&mut self, _: &Maps, _: u64) -> std::result::Result<(), Errno> {
            Ok(())
        }
        fn stop(&mut self) -> std::result::Result<(), Errno> {
            Ok(())
        }
        fn reads(&self, _: &Maps, _: Option<Span>) -> Vec<Read> {
            let both = Span { first: FIRST.first, last: SECOND.last };
            let spans = if self.first_fails { vec![FIRST, SECOND] } else { vec![both] };
            spans.into_iter().map(|span| Read { span, shift: UNIT_SHIFT }).collect()
        }
        fn read(&mut self, read: &Read, _: bool, bitmap: &mut [u64]) -> std::result::Result<(), Errno> {
            if self.first_fails && read.span == FIRST {
                return Err(Errno::new(libc::EFAULT));
            }
            self.bits.iter().for_each(|bit| bitmap[0] |= 1 << bit);
            Ok(())
        }
    }

    fn two_mappings() -> Maps {
        let mut maps = Maps::default();
        maps.insert(FIRST, 0);
        maps.insert(SECOND, 0);
        maps
    }

    #[test]
    fn all_that_is_mapped_is_full_whatever_lies_between() {
        let full = |bits: &[u64]| {
            let mut log = TwoMappings { bits: bits.to_vec(), first_fails: false };
            check_reading(&mut log, &two_mappings(), &Pool::default()).unwrap().full
        };
        assert_eq!([full(&[0, 15]), full(&[0, 7, 15])], [Some(true); 2]);
        assert_eq!([full(&[0]), full(&[15]), full(&[7])], [Some(false); 3]);
    }

    #[test]
    fn after_a_read_that_failed_the_others_are_read() {
        let log = TwoMappings { bits: vec![0], first_fails: true };
        let mut sources = [Source::new(log)];
        let mut book = Book { maps: two_mappings(), ..Book::default() };
        let pool = Pool::default();
        let mut tally = Tally::default();
        let part = Part { sources: &mut sources, pool: &pool, book: &mut book, page_size: 4096 };
        read_all(&mut [part], None, false, 1, &mut Deliverer::nobody(), &mut tally);
        assert_eq!((tally.reads, tally.failed, tally.degraded_bytes), (2, 1, 4096));
        assert!(book.left.any(FIRST) && book.left.any(SECOND));
    }
}
