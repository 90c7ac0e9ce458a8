//! Reads logs and clears them, gives what was asked for and keeps the rest. Workers read, the calling thread merges.
//!
//! An error while reading is never "no dirt" (P13): what it may have hidden is dirty, and the result says so.

use super::UNIT_SHIFT;
use super::bitmap;
use super::choose::Source;
use super::deliver::{Deliverer, Offer, Request, Whom};
use super::leftover::Bits;
use super::log::{Log, Maps, Read};
use super::ranges::{Span, SpanSet};
use super::scratch::{Pages, Pool};
use super::tracker::{Book, Inner, Tracker};
use crate::error::{Errno, Error, Result};
use crate::gate::Pass;
use crate::log::log;
use crate::workers;
use std::collections::VecDeque;

/// Bitmaps that are filled at the same time, in bytes; a single larger one is taken all the same. Together with the leftovers of
/// a 1 TiB guest (32 MiB) it stays below 80 MiB.
const AT_ONCE: usize = 32 << 20;

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
    let no_read = request.no_read;
    // In one order everywhere, so that two harvests of the same trackers cannot wait for each other.
    let mut sorted: Vec<&Tracker> = trackers.to_vec();
    sorted.sort_by_key(|tracker| std::ptr::from_ref(*tracker).addr());
    if sorted.windows(2).any(|pair| matches!(pair, [a, b] if std::ptr::eq(*a, *b))) {
        return Err(Error::argument("a tracker is named twice"));
    }
    let max_workers = request.max_workers;
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
        let mut parts: Vec<Part<'_>> = passes.iter_mut().map(|inner| inner.part()).collect();
        read_all(&mut parts, None, false, max_workers, &mut deliverer, &mut tally);
        for inner in &mut passes {
            inner.was_read();
        }
    }
    for inner in &mut passes {
        give_leftovers(&mut inner.book, &mut deliverer);
    }
    for (tracker, inner) in sorted.iter().zip(&passes) {
        if tally.failed > 0 {
            tracker.done(inner);
        }
    }
    Ok(result(&deliverer, &tally))
}

pub(crate) fn result(deliverer: &Deliverer<'_, '_>, tally: &Tally) -> Harvest {
    Harvest {
        newly: deliverer.count.newly,
        total: deliverer.count.total,
        degraded_bytes: tally.degraded_bytes,
        reads: tally.reads,
        failed_reads: tally.failed,
        first_errno: tally.first_errno,
        stopped: deliverer.stopped,
    }
}

impl Tracker {
    /// Reads the log, clears it, and gives what was asked for; what was read and not asked for is kept for the harvest that
    /// asks. *tracker; blocks in the kernel and in callbacks.*
    pub fn harvest(&self, request: &mut Request<'_>) -> Result<Harvest> {
        harvest(&[self], request)
    }
}

/// One source's way through its reads.
struct Job {
    part: usize,
    source: usize,
    any_thread: bool,
    queue: VecDeque<Read>,
    failed: Option<Errno>,
}

/// Reads all sources, or what they hold of `within`, and hands out what comes. Failed logs are started anew (L6).
pub(crate) fn read_all(
    parts: &mut [Part<'_>],
    within: Option<Span>,
    keep: bool,
    max_workers: usize,
    deliverer: &mut Deliverer<'_, '_>,
    tally: &mut Tally,
) {
    let mut jobs = Vec::new();
    for (number, part) in parts.iter_mut().enumerate() {
        for (source, state) in part.sources.iter_mut().enumerate() {
            let log = state.log.get_mut();
            for span in log.blind(&part.book.maps) {
                if let Some(span) = within.map_or(Some(span), |within| span.intersect(within)) {
                    part.book.left.add(span);
                }
            }
            let queue =
                if state.failed.is_none() { log.reads(&part.book.maps, within).into() } else { VecDeque::new() };
            jobs.push(Job { part: number, source, any_thread: state.any_thread, queue, failed: state.failed });
        }
    }
    let mut books = Vec::new();
    let mut shared = Vec::new();
    for part in parts.iter_mut() {
        books.push(&mut *part.book);
        shared.push((&*part.sources, part.pool));
    }
    loop {
        let round = next_round(&mut jobs);
        if round.is_empty() {
            break;
        }
        let any: Vec<bool> = round.iter().map(|&(job, _)| jobs.get(job).is_some_and(|job| job.any_thread)).collect();
        let places: Vec<(usize, usize)> =
            round.iter().map(|&(job, _)| jobs.get(job).map_or((0, 0), |job| (job.part, job.source))).collect();
        let read_one = |index: usize| {
            let (_, read) = round.get(index)?;
            let (part, source) = *places.get(index)?;
            let (sources, pool) = shared.get(part)?;
            Some(read_into(sources.get(source)?, pool, read, keep))
        };
        let merge = |index: usize, outcome: Option<Outcome>| {
            let (Some(outcome), Some(&(job, read))) = (outcome, round.get(index)) else { return };
            let Some(job) = jobs.get_mut(job) else { return };
            let (Some(book), Some((_, pool))) = (books.get_mut(job.part), shared.get(job.part)) else { return };
            tally.reads = tally.reads.saturating_add(1);
            match outcome {
                Ok(mut pages) => {
                    distribute(book, deliverer, pages.room(read.words()), &read);
                    pool.give(pages);
                }
                Err((errno, pages)) => {
                    // Bits that came before the error are covered by what is marked for it.
                    if let Some(mut pages) = pages {
                        pages.words_mut().fill(0);
                        pool.give(pages);
                    }
                    if restarts(shared.get(job.part).map_or(&[], |(sources, _)| sources), job.source) {
                        job.queue.clear();
                        job.failed = Some(errno);
                    } else {
                        // Only this range is in doubt (T6); others go on.
                        tally.fail(errno, mark(book, Some(read.span)));
                    }
                }
            }
        };
        workers::run_each(max_workers, &any, read_one, merge);
    }
    for job in jobs.iter().filter(|job| job.failed.is_some()) {
        let Some(part) = parts.get_mut(job.part) else { continue };
        let Some(source) = part.sources.get_mut(job.source) else { continue };
        restart(source, part.book, part.page_size, "harvest");
        if let Some(errno) = job.failed {
            // After the restart: what is written from here on is logged again (L6).
            tally.fail(errno, mark(part.book, None));
        }
    }
}

fn restarts(sources: &[Source], source: usize) -> bool {
    sources.get(source).is_some_and(|source| source.log.lock().restarts_after_error())
}

/// A buffer, or why there are no bits in it.
type Outcome = std::result::Result<Pages, (Errno, Option<Pages>)>;

fn read_into(source: &Source, pool: &Pool, read: &Read, keep: bool) -> Outcome {
    let mut pages = pool.take(read.words()).map_err(|errno| (errno, None))?;
    match source.log.lock().read(read, keep, pages.room(read.words())) {
        Ok(()) => Ok(pages),
        Err(errno) => Err((errno, Some(pages))),
    }
}

/// One read of each source, as many as may be held in memory at once; at least one.
fn next_round(jobs: &mut [Job]) -> Vec<(usize, Read)> {
    let mut round = Vec::new();
    let mut sum = 0usize;
    for (number, job) in jobs.iter_mut().enumerate() {
        let Some(read) = job.queue.front().copied() else { continue };
        let more = sum.saturating_add(read.words().saturating_mul(8));
        if round.is_empty() || more <= AT_ONCE {
            job.queue.pop_front();
            sum = more;
            round.push((number, read));
        }
    }
    round
}

/// Starts a log anew. If that fails it is failed: everything it should know is dirty until a restart helps.
pub(crate) fn restart(source: &mut Source, book: &Book, page_size: u64, name: &str) {
    let log = source.log.get_mut();
    let stopped = log.stop();
    if let Err(errno) = stopped {
        log!(Debug, "{name}: {}: stop: {errno}", log.describe());
    }
    // A log that could not be stopped cannot be started either, and why it could not be stopped says more.
    source.failed = log.start(&book.maps, page_size).err().map(|errno| stopped.err().unwrap_or(errno));
    match source.failed {
        None => log!(Info, "{name}: {}: started anew", log.describe()),
        Some(errno) => log!(Error, "{name}: {}: keeps no log any more: {errno}", log.describe()),
    }
}

/// Marks what is mapped of `span`, or everything that is mapped, as dirty. Returns the bytes.
pub(crate) fn mark(book: &mut Book, span: Option<Span>) -> u64 {
    let all = Span { first: 0, last: u64::MAX };
    let parts: Vec<Span> = book.maps.mapped.parts(span.unwrap_or(all)).collect();
    let mut sum = 0u64;
    for part in parts {
        sum = sum.saturating_add(part.bytes());
        book.left.add(part);
    }
    sum
}

/// Hands out the bits of one read. Afterwards all of `words` is zero.
pub(crate) fn distribute(book: &mut Book, deliverer: &mut Deliverer<'_, '_>, words: &mut [u64], read: &Read) {
    let all = (words.len() as u64).saturating_mul(64);
    // What a kernel set beyond the end (I6).
    bitmap::clear_range(words, read.bits(), all.saturating_sub(read.bits()));
    let mut bits = Bits { words, shift: read.shift, origin: i128::from(read.span.first) };
    let pieces = deliverer.pieces(&book.maps, read.span);
    if read.shift > UNIT_SHIFT {
        share_cut_pages(book, deliverer, &mut bits, &pieces);
    }
    for &(span, whom) in &pieces {
        let left = deliverer.bits(whom, &mut bits, span, &book.maps);
        left.refused.into_iter().for_each(|span| book.left.add(span));
        if let Some(rest) = left.rest {
            book.left.absorb(&mut bits, rest);
        }
    }
    // What is not mapped: nobody can have written there, so a bit is the log's coarseness.
    let covered: SpanSet = pieces.iter().map(|&(span, _)| span).collect();
    for hole in covered.holes(read.span) {
        let (first, count) = bits.bits_of(hole);
        if bitmap::any(bits.words, first, count) {
            bitmap::clear_range(bits.words, first, count);
        }
    }
}

/// A page of the log that pieces cut is dirty in each of them, so its bit is told to all before any of them takes it.
fn share_cut_pages(book: &mut Book, deliverer: &mut Deliverer<'_, '_>, bits: &mut Bits<'_>, pieces: &[(Span, Whom)]) {
    let mut cut: Vec<(u64, Span, Whom)> = Vec::new();
    for &(span, whom) in pieces {
        let (first, count) = bits.bits_of(span);
        let last = first.saturating_add(count).saturating_sub(1);
        for bit in [first, last] {
            let page = page_of(bits, bit);
            let part = page.and_then(|page| page.intersect(span));
            if let Some(part) = part.filter(|&part| Some(part) != page && bitmap::get(bits.words, bit)) {
                cut.push((bit, part, whom));
            }
            if first == last {
                break;
            }
        }
    }
    for &(bit, _, _) in &cut {
        bitmap::clear(bits.words, bit);
    }
    for (_, part, whom) in cut {
        if let Some(rest) = deliverer.run(whom, part, &book.maps) {
            book.left.add(rest);
        }
    }
}

/// The bytes of a bit.
fn page_of(bits: &Bits<'_>, bit: u64) -> Option<Span> {
    let first = bits.origin.checked_add(i128::from(bit).checked_shl(bits.shift)?)?;
    let last = first.checked_add(1i128.checked_shl(bits.shift)?)?.checked_sub(1)?;
    Some(Span { first: u64::try_from(first).ok()?, last: u64::try_from(last).unwrap_or(u64::MAX) })
}

/// Gives what earlier reads left over.
pub(crate) fn give_leftovers(book: &mut Book, deliverer: &mut Deliverer<'_, '_>) {
    let Book { maps, left } = book;
    for (span, whom) in deliverer.asked(maps, Span { first: 0, last: u64::MAX }) {
        if deliverer.stopped {
            break;
        }
        left.offer(span, &mut Offer { deliverer, whom, maps });
    }
}

/// What the first read after a start found.
pub(crate) struct Found {
    /// Every mapped page was dirty.
    pub full: bool,
    bits: Option<(Read, Pages)>,
}

impl Found {
    /// Keeps what was read.
    pub fn keep(self, maps: &Maps, left: &mut super::leftover::Leftover, pool: &Pool) {
        let Some((read, mut pages)) = self.bits else { return };
        let words = pages.room(read.words());
        let mut bits = Bits { words, shift: read.shift, origin: i128::from(read.span.first) };
        let parts: Vec<Span> = maps.mapped.parts(read.span).collect();
        for part in parts {
            left.absorb(&mut bits, part);
        }
        pages.words_mut().fill(0);
        pool.give(pages);
    }
}

/// Reads the smallest range of a log that was just started: one that cannot be read is found out now, not in the middle of a
/// migration (kernel-lab.md section 3).
pub(crate) fn check_reading(log: &mut dyn Log, maps: &Maps, pool: &Pool) -> std::result::Result<Found, Errno> {
    // One that ends at 2^64 may be refused for that alone (T3).
    let smallest = log.reads(maps, None).into_iter().min_by_key(|read| (read.span.last == u64::MAX, read.bits()));
    let Some(read) = smallest.filter(|_| log.readable_at_start()) else {
        return Ok(Found { full: false, bits: None });
    };
    let mut pages = pool.take(read.words())?;
    log.read(&read, false, pages.room(read.words()))?;
    let bits = Bits { words: pages.words_mut(), shift: read.shift, origin: i128::from(read.span.first) };
    // A read may go over holes, of which nobody says that they are dirty.
    let full = maps.mapped.parts(read.span).all(|part| {
        let (first, count) = bits.bits_of(part);
        bitmap::count(bits.words, first, count) == count
    });
    Ok(Found { full, bits: Some((read, pages)) })
}

#[cfg(test)]
mod tests {
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
        assert!(full(&[0, 15]) && full(&[0, 7, 15]));
        assert!(!full(&[0]) && !full(&[15]) && !full(&[7]));
    }

    #[test]
    fn after_a_read_that_failed_the_others_are_read() {
        let log: Box<dyn Log> = Box::new(TwoMappings { bits: vec![0], first_fails: true });
        let mut sources = [Source { log: parking_lot::Mutex::new(log), any_thread: true, failed: None }];
        let mut book = Book { maps: two_mappings(), ..Book::default() };
        let pool = Pool::default();
        let mut tally = Tally::default();
        let part = Part { sources: &mut sources, pool: &pool, book: &mut book, page_size: 4096 };
        read_all(&mut [part], None, false, 1, &mut Deliverer::nobody(), &mut tally);
        assert_eq!((tally.reads, tally.failed, tally.degraded_bytes), (2, 1, 4096));
        let left = |span| book.left.any_in(&[span].into_iter().collect());
        assert!(left(FIRST) && left(SECOND));
    }
}
