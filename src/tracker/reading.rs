//! Reads logs side by side and hands what they report to the merge, which is the calling thread's. What several logs report on
//! one range is put together first (`shared_range`).

use super::deliver::Deliverer;
use super::distribute::{distribute, full};
use super::record::Record;
use super::scratch::PagePool;
use super::shared_range::{ReadRound, SharedRange, Todo, next_round};
use super::tally::Tally;
use super::vigil::{LogEar, LogVigil};
use crate::device::dirty::HarvestPatience;
use crate::error::Errno;
use crate::log::log;
use crate::logs::asked::LogRequest;
use crate::logs::choose::Source;
use crate::logs::log::{Log, Maps, Read};
use crate::logs::ranges::SpanSet;
use crate::transport::one_call::WithinCall;
use crate::transport::threads;
use crate::workers::{self, Give, Watch};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Parts of logs with no more bytes are read on the calling thread, where no log waits: their bits are few.
const SMALL: u64 = 1 << 30;

/// A tracker's parts, borrowed for a harvest.
pub(crate) struct SpaceLogs<'a> {
    pub sources: &'a mut [Source],
    pub pool: &'a PagePool,
    pub record: &'a mut Record,
    pub page_size: u64,
}

/// Which source, and why it keeps no log any more.
struct SourceRead {
    part: usize,
    source: usize,
    any_thread: bool,
    failed: Option<Errno>,
    /// Why parts of what it should report are in doubt.
    in_doubt: Option<Errno>,
    /// Whether its reads made a thread sleep; `None`: there was none.
    slept: Option<bool>,
}

/// What threads share of a tracker: its sources, and memory to read into.
type LogsAndPool<'a> = (&'a [Source], &'a PagePool);

/// How one source's way through a round ended.
struct Walked {
    reads: u64,
    /// Whether a read made the thread sleep; `None`: that was not looked at.
    slept: Option<bool>,
    /// The whole log is in doubt (L6).
    failed: Option<Errno>,
    /// Only these ranges are (T6).
    in_doubt: Vec<(usize, Errno)>,
    /// A function of the VMM panicked: a read that failed.
    panic: Option<Box<dyn Any + Send>>,
}

/// Reads all sources, or what they hold of `within`, and hands out what comes. Failed logs are started anew (L6).
pub(super) fn read_all(
    parts: &mut [SpaceLogs<'_>],
    within: Option<&SpanSet>,
    keep: bool,
    (max_workers, ear): (usize, Option<LogEar<'_>>),
    deliverer: &mut Deliverer<'_, '_>,
    tally: &mut Tally,
) {
    // A log that had no answer is started anew below, and that without another wait.
    let _call = WithinCall::of_any_length();
    let (mut jobs, mut todo) = prepare(parts, within, &Arc::new(HarvestPatience::new()));
    let mut records = Vec::new();
    let mut shared: Vec<LogsAndPool<'_>> = Vec::new();
    for part in parts.iter_mut() {
        records.push(&mut *part.record);
        shared.push((&*part.sources, part.pool));
    }
    let asked = within.map(|within| within.iter().fold(0u64, |sum, span| sum.saturating_add(span.bytes())));
    let small = asked.is_some_and(|bytes| bytes <= SMALL);
    let workers = useful_workers(max_workers, small, &jobs, &shared);
    let sources = shared.iter().flat_map(|(sources, _)| sources.iter());
    // With one worker this thread reads by itself, unless somebody listens; what is soon read is not worth a thread.
    let heard = ear.filter(|_| max_workers != 1 && !small);
    let slots: Vec<_> = sources.map(|source| Arc::clone(&source.slot)).collect();
    let slots = if workers > 1 || heard.is_some() { slots } else { Vec::new() };
    let asked = jobs.len();
    let mut vigil = LogVigil::new(slots, heard.is_some(), asked, heard);
    while let Some(round) = next_round(&mut todo, workers) {
        let ends = read_round(&round, &jobs, &shared, keep, &mut vigil, |range, pool| {
            if let Some(record) = records.get_mut(range.part) {
                merge(range, pool, record, deliverer);
            }
        });
        for ((source, _), end) in round.orders.iter().zip(ends) {
            let (Some(job), Some(end)) = (jobs.get_mut(*source), end) else { continue };
            if end.failed.is_some() {
                todo.get_mut(*source).into_iter().for_each(Todo::drop_rest);
            }
            if let Some(record) = records.get_mut(job.part) {
                job.note(end, &round, record, tally);
            }
        }
    }
    settle(parts, &jobs, tally);
}

/// Reads a round side by side. `merge` gets each range on the calling thread, once no source has it left to read. Returns how
/// each source's way through the round ended.
fn read_round(
    round: &ReadRound,
    jobs: &[SourceRead],
    shared: &[LogsAndPool<'_>],
    keep: bool,
    vigil: &mut LogVigil<'_>,
    mut merge: impl FnMut(&SharedRange, &PagePool),
) -> Vec<Option<Walked>> {
    let any: Vec<bool> = orders(round, jobs).map(|(job, _)| job.any_thread).collect();
    // Whether it waits matters for a log that others could be read beside, and to ask costs two system calls a read.
    let watch_sleep = jobs.len() > 1;
    let walk = |index: usize, done: Give<'_, usize>| {
        let (job, order) = orders(round, jobs).nth(index)?;
        let (sources, pool) = shared.get(job.part)?;
        Some(walk(sources.get(job.source)?, pool, &round.ranges, order, (keep, watch_sleep), done))
    };
    // No thread waits for the merge: the round has no more buffers than it may have.
    let ahead: Vec<usize> = round.ranges.iter().map(|_| 0).collect();
    let merge = |_, range: usize| {
        if let Some(range) = round.ranges.get(range) {
            if let Some((_, pool)) = shared.get(range.part) {
                merge(range, pool);
            }
        }
        Some(0)
    };
    let mut ends: Vec<Option<Walked>> = any.iter().map(|_| None).collect();
    // One thread reads, and this one is free to say who hangs.
    let workers = if vigil.wants_free_hands() { round.workers.max(2) } else { round.workers };
    workers::run_pieces(workers, &any, &ahead, walk, vigil, merge, |index, end| {
        if let Some(place) = ends.get_mut(index) {
            *place = end;
        }
    });
    ends
}

/// What was found of a range goes to its owners.
fn merge(range: &SharedRange, pool: &PagePool, record: &mut Record, deliverer: &mut Deliverer<'_, '_>) {
    let Some(mut pages) = range.found() else { return };
    let words = pages.room(range.read.words());
    if record.all_dirty != Some(false) {
        record.saw(full(&record.maps, &range.read, words));
    }
    distribute(record, deliverer, words, &range.read);
    pool.give(pages);
}

impl SourceRead {
    /// What the source's way through a round has come to.
    fn note(&mut self, end: Walked, round: &ReadRound, record: &mut Record, tally: &mut Tally) {
        tally.reads = tally.reads.saturating_add(end.reads);
        self.slept = self.slept.max(end.slept);
        for (range, errno) in end.in_doubt {
            self.in_doubt = self.in_doubt.or(Some(errno));
            let span = round.ranges.get(range).map(|range| range.read.span);
            tally.fail(errno, record.mark(span));
        }
        tally.panic = tally.panic.take().or(end.panic);
        self.failed = end.failed.or(self.failed);
    }
}

/// What all rounds together say of each source: what a log has lost is dirty, and it is started anew.
fn settle(parts: &mut [SpaceLogs<'_>], jobs: &[SourceRead], tally: &mut Tally) {
    for job in jobs {
        let Some(part) = parts.get_mut(job.part) else { continue };
        let Some(source) = part.sources.get_mut(job.source) else { continue };
        source.waits = job.slept.unwrap_or(source.waits);
        source.note(&part.record.name, job.failed.or(job.in_doubt));
        if let Some(errno) = job.failed {
            tally.fail(errno, part.record.mark(None));
        }
    }
    // When all is merged: whatever happens to one of them.
    for job in jobs.iter().filter(|job| job.failed.is_some()) {
        let Some(part) = parts.get_mut(job.part) else { continue };
        let Some(source) = part.sources.get_mut(job.source) else { continue };
        // What is written from here on is logged again (L6), and nothing of what is left over was reported yet.
        restart(source, part.record, part.page_size);
    }
}

/// What each source has to read; what it can never report is dirty at once.
fn prepare(
    parts: &mut [SpaceLogs<'_>],
    within: Option<&SpanSet>,
    patience: &Arc<HarvestPatience>,
) -> (Vec<SourceRead>, Vec<Todo>) {
    let (mut jobs, mut todo) = (Vec::new(), Vec::new());
    for (part, SpaceLogs { sources, record, .. }) in parts.iter_mut().enumerate() {
        let mut lists: Vec<(u64, Rc<Vec<Read>>)> = Vec::new();
        for (source, state) in sources.iter_mut().enumerate() {
            let log = state.log.get_mut();
            log.begin(patience, record.all_dirty == Some(true));
            for span in log.blind(&record.maps) {
                match within {
                    None => record.left.add(span),
                    Some(within) => within.parts(span).for_each(|part| record.left.add(part)),
                }
            }
            let alike = log.reads_alike();
            let known = lists.iter().find(|(of, _)| Some(*of) == alike).map(|(_, reads)| Rc::clone(reads));
            let reads = match (state.failed, known) {
                (Some(_), _) => Rc::default(),
                (None, Some(reads)) => reads,
                (None, None) => {
                    let reads = Rc::new(reads_of(&**log, &record.maps, within));
                    lists.extend(alike.map(|of| (of, Rc::clone(&reads))));
                    reads
                }
            };
            todo.push(Todo::new(part, reads));
            jobs.push(SourceRead {
                part,
                source,
                any_thread: state.any_thread,
                failed: state.failed,
                in_doubt: None,
                slept: None,
            });
        }
    }
    (jobs, todo)
}

/// The requests of a log, or those that hold a part of `within`, in order.
fn reads_of(log: &dyn Log, maps: &Maps, within: Option<&SpanSet>) -> Vec<Read> {
    let Some(within) = within else { return log.reads(maps, None) };
    let mut reads: Vec<Read> = within.iter().flat_map(|span| log.reads(maps, Some(span))).collect();
    reads.sort_by_key(|read| (read.span.first, read.span.last, read.shift));
    // Several pieces of one range ask for the same.
    reads.dedup();
    reads
}

fn orders<'a>(round: &'a ReadRound, jobs: &'a [SourceRead]) -> impl Iterator<Item = (&'a SourceRead, &'a [usize])> {
    round.orders.iter().filter_map(|(source, order)| Some((jobs.get(*source)?, order.as_slice())))
}

/// Logs that never wait gain nothing from more threads than processors, and cost a buffer and its merge for each of them; a
/// `small` part of them costs less than a thread.
fn useful_workers(max: usize, small: bool, jobs: &[SourceRead], shared: &[LogsAndPool<'_>]) -> usize {
    let max = if max == 0 { workers::DEFAULT_MAX } else { max };
    if max == 1 || jobs.iter().filter(|job| job.any_thread).count() <= 1 {
        return 1;
    }
    let source = |job: &SourceRead| shared.get(job.part).and_then(|(sources, _)| sources.get(job.source));
    let waits = jobs.iter().filter_map(source).any(|source| source.waits);
    match (waits, small) {
        (true, _) => max,
        (false, true) => 1,
        (false, false) => max.min(threads::processors()),
    }
}

/// One source's way through a round. `done` gets each range that no source has left to read.
fn walk(
    source: &Source,
    pool: &PagePool,
    ranges: &[SharedRange],
    order: &[usize],
    (keep, watch_sleep): (bool, bool),
    done: Give<'_, usize>,
) -> Walked {
    let mut walked = Walked { reads: 0, slept: None, failed: None, in_doubt: Vec::new(), panic: None };
    let mut log = source.log.lock();
    let (adds, restarts) = (log.adds_bits(), log.restarts_after_error());
    for &number in order {
        let Some(range) = ranges.get(number) else { continue };
        let mut pages = None;
        if walked.failed.is_none() {
            walked.reads = walked.reads.saturating_add(1);
            let outcome = range.take(pool, adds).and_then(|taken| {
                // Bits that come before an error stay: all of the range is marked for it.
                let room = pages.insert(taken).room(range.read.words());
                let before = watch_sleep.then(threads::sleeps);
                let asked = source.slot.begin(LogRequest::Read);
                let outcome =
                    catch_unwind(AssertUnwindSafe(|| log.read(&range.read, keep, room))).unwrap_or_else(|panic| {
                        walked.panic = Some(panic);
                        Err(Errno::new(libc::EIO))
                    });
                drop(asked);
                let slept = before.map(|before| threads::sleeps() != before);
                walked.slept = walked.slept.max(slept);
                outcome
            });
            match outcome {
                Ok(()) => {}
                Err(errno) if restarts => walked.failed = Some(errno),
                Err(errno) => walked.in_doubt.push((number, errno)),
            }
        }
        if range.put(pages, pool) {
            let _ = done(number);
        }
    }
    walked
}

/// Starts a log anew. If that fails it is failed: everything it should know is dirty until a restart helps.
pub(super) fn restart(source: &mut Source, record: &Record, page_size: u64) {
    let log = source.log.get_mut();
    record.restarts.fetch_add(1, Ordering::Relaxed);
    let asked = source.slot.begin(LogRequest::Start);
    source.failed = log.start(&record.maps, page_size).err();
    drop(asked);
    if source.failed.is_none() {
        log!(Debug, "{}: {}: started anew", record.name, log.describe());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::ranges::Span;
    use std::time::Duration;

    /// A log of one page table of many.
    struct Table(u64);

    impl Log for Table {
        fn describe(&self) -> String {
            "table".into()
        }
        fn start(&mut self, _: &Maps, _: u64) -> Result<(), Errno> {
            Ok(())
        }
        fn stop(&mut self) -> Result<(), Errno> {
            Ok(())
        }
        fn reads(&self, maps: &Maps, _: Option<Span>) -> Vec<Read> {
            maps.mapped.iter().map(|span| Read { span, shift: 12 }).collect()
        }
        fn reads_alike(&self) -> Option<u64> {
            Some(self.0)
        }
        fn read(&mut self, _: &Read, _: bool, _: &mut [u64]) -> Result<(), Errno> {
            Ok(())
        }
    }

    /// A list for a million of mappings is made once for all page tables of one kind, and not at all for one that has failed.
    #[test]
    fn logs_that_read_alike_share_the_list() {
        let mut record = Record::default();
        (0..100u64).for_each(|n| record.maps.insert(Span { first: n << 20, last: (n << 20) + 4095 }, 0));
        let mut sources = [0, 0, 1, 0, 0].map(|kind| Source::new(Table(kind)));
        sources[3].failed = Some(Errno::new(libc::EIO));
        let pool = PagePool::default();
        let part = SpaceLogs { sources: &mut sources, pool: &pool, record: &mut record, page_size: 4096 };
        let (_, todo) = prepare(&mut [part], None, &Arc::new(HarvestPatience::new()));
        let lists: Vec<_> = todo.iter().map(|todo| (todo.reads().len(), todo.reads().as_ptr())).collect();
        assert_eq!(lists.iter().map(|list| list.0).collect::<Vec<_>>(), [100, 100, 100, 0, 100]);
        assert!(lists[0] == lists[1] && lists[0] == lists[4] && lists[0].1 != lists[2].1);
    }

    /// A log of one read, which may take a while.
    struct Slow(Option<Duration>);

    impl Log for Slow {
        fn describe(&self) -> String {
            "slow".into()
        }
        fn start(&mut self, _: &Maps, _: u64) -> Result<(), Errno> {
            Ok(())
        }
        fn stop(&mut self) -> Result<(), Errno> {
            Ok(())
        }
        fn reads(&self, maps: &Maps, _: Option<Span>) -> Vec<Read> {
            maps.mapped.iter().map(|span| Read { span, shift: 12 }).collect()
        }
        fn read(&mut self, _: &Read, _: bool, _: &mut [u64]) -> Result<(), Errno> {
            if let Some(time) = self.0.take() {
                std::thread::sleep(time);
            }
            Ok(())
        }
    }

    #[test]
    fn a_source_waits_if_any_of_its_reads_slept_and_nothing_read_tells_nothing() {
        // The first of several reads sleeps, and they are too long for one round.
        let spans: Vec<Span> = (0..12u64).map(|n| Span { first: n << 38, last: (n << 38) + (1 << 37) - 1 }).collect();
        for (time, mapped, before, after) in [
            (Some(Duration::from_millis(1)), true, false, true),
            (None, true, true, false),
            (None, false, true, true),
            (None, false, false, false),
        ] {
            let mut record = Record::default();
            for &span in spans.iter().filter(|_| mapped) {
                record.maps.insert(span, 0);
            }
            // A log that is read alone has none to be read beside, so whether it waits is not looked at.
            for (count, after) in [(2, after), (1, before)] {
                let mut sources: Vec<Source> = (0..count).map(|_| Source::new(Slow(time))).collect();
                sources[0].waits = before;
                let pool = PagePool::default();
                let part = SpaceLogs { sources: &mut sources, pool: &pool, record: &mut record, page_size: 4096 };
                read_all(&mut [part], None, false, (1, None), &mut Deliverer::no_owner(), &mut Tally::default());
                assert_eq!(sources[0].waits, after, "{time:?} {mapped} {count}");
            }
        }
    }
}

#[cfg(test)]
mod two_mappings {
    use super::super::UNIT_SHIFT;
    use super::super::distribute::check_reading;
    use super::*;
    use crate::logs::ranges::Span;

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
            check_reading(&mut log, &two_mappings(), &PagePool::default()).unwrap().full
        };
        assert_eq!([full(&[0, 15]), full(&[0, 7, 15])], [Some(true); 2]);
        assert_eq!([full(&[0]), full(&[15]), full(&[7])], [Some(false); 3]);
    }

    #[test]
    fn after_a_read_that_failed_the_others_are_read() {
        let log = TwoMappings { bits: vec![0], first_fails: true };
        let mut sources = [Source::new(log)];
        let mut record = Record { maps: two_mappings(), ..Record::default() };
        let pool = PagePool::default();
        let mut tally = Tally::default();
        let part = SpaceLogs { sources: &mut sources, pool: &pool, record: &mut record, page_size: 4096 };
        read_all(&mut [part], None, false, (1, None), &mut Deliverer::no_owner(), &mut tally);
        assert_eq!((tally.reads, tally.failed, tally.degraded_bytes), (2, 1, 4096));
        assert!(record.left.any(FIRST) && record.left.any(SECOND));
    }
}
