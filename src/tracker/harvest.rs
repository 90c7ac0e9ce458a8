//! Reads logs and clears them, gives what was asked for and keeps the rest. Workers read, the calling thread merges.
//!
//! An error while reading is never "no dirt" (P13): what it may have hidden is dirty, and the result says so.

use super::deliver::Deliverer;
use super::journal::note;
use super::reading::{SpaceLogs, read_all};
use super::request::Request;
use super::sections::{Ask, Reads};
use super::space::Tracker;
use super::state::TrackerInner;
use super::tally::{Harvest, Tally};
use super::vigil::LogEar;
use crate::error::{Error, Result};
use crate::gate::Pass;
use std::time::Instant;

/// Harvests several address spaces at once: every destination gets what any of them has for its range.
///
/// *tracker, for each of them; blocks in the kernel and in callbacks.* Errors are misuse only, and come before anything is
/// read; a log that cannot be read shows in the result.
pub fn harvest(trackers: &[&Tracker], request: &mut Request<'_>) -> Result<Harvest> {
    harvest_heard(trackers, request, None)
}

/// As [`harvest`]; `ear` hears while a log does not answer.
pub(crate) fn harvest_heard(
    trackers: &[&Tracker],
    request: &mut Request<'_>,
    ear: Option<LogEar<'_>>,
) -> Result<Harvest> {
    let begun = Instant::now();
    request.given = None;
    let Request { keep, max_workers, pass, .. } = *request;
    // In one order everywhere, so that two harvests of the same trackers cannot wait for each other.
    let mut sorted: Vec<&Tracker> = trackers.to_vec();
    sorted.sort_by_key(|tracker| std::ptr::from_ref(*tracker).addr());
    if sorted.windows(2).any(|pair| matches!(pair, [a, b] if std::ptr::eq(*a, *b))) {
        return Err(Error::argument("a tracker is named twice"));
    }
    let plain = plain_reads(request)?;
    let mut deliverer = Deliverer::new(request)?;
    let mut passes: Vec<Pass<'_, TrackerInner>> =
        sorted.iter().map(|tracker| tracker.enter()).collect::<Result<_>>()?;
    for (tracker, inner) in sorted.iter().zip(&passes) {
        if !inner.is_running() {
            return Err(tracker.named(Error::order("harvest without start")));
        }
    }
    let own_max = passes.iter().map(|inner| inner.max_workers).max().unwrap_or(0);
    let max_workers = if max_workers == 0 { own_max } else { max_workers };
    let mut tally = Tally::default();
    let reads = of_pass(&mut passes, pass, &deliverer, plain);
    // The harvest that takes has to report it.
    for ((tracker, inner), _) in
        sorted.iter().zip(&mut passes).zip(&reads).filter(|(_, reads)| **reads != Reads::Nothing && !keep)
    {
        if inner.drop_freed(&mut tally) {
            tracker.joined(inner);
        }
    }
    read(&mut passes, &reads, keep, (max_workers, ear), &mut deliverer, &mut tally);
    for inner in &mut passes {
        inner.unasked = false;
        inner.record.give(&mut deliverer, keep);
    }
    for (tracker, inner) in sorted.iter().zip(&passes) {
        if tally.failed > 0 || !tracker.getters_know(inner) {
            tracker.done(inner);
        }
    }
    drop(passes);
    let harvest = deliverer.finish(tally);
    request.given = Some(harvest);
    // One that watches is part of no migration.
    if !keep {
        note(sorted.iter().filter_map(|tracker| tracker.journal()), begun, &harvest);
    }
    Ok(harvest)
}

/// What a request without passes reads, of every tracker; an error if it makes no sense.
fn plain_reads(request: &Request<'_>) -> Result<Reads> {
    let Request { no_read, only_dests, pass, .. } = *request;
    if only_dests && request.dests.is_empty() {
        return Err(Error::argument("only what destinations ask for shall be read, and there is none"));
    }
    if no_read && pass != 0 {
        return Err(Error::argument("a pass reads, and nothing shall be read"));
    }
    Ok(match (no_read, only_dests) {
        (true, _) => Reads::Nothing,
        (false, true) => Reads::Asked,
        (false, false) => Reads::All,
    })
}

/// Reads the logs: those that are read as a whole together, then those of which a part is.
fn read(
    passes: &mut [Pass<'_, TrackerInner>],
    reads: &[Reads],
    keep: bool,
    crew: (usize, Option<LogEar<'_>>),
    deliverer: &mut Deliverer<'_, '_>,
    tally: &mut Tally,
) {
    for what in [Reads::All, Reads::Asked] {
        let chosen = passes.iter_mut().zip(reads).filter(|(_, reads)| **reads == what);
        let mut chosen: Vec<&mut TrackerInner> = chosen.map(|(inner, _)| &mut **inner).collect();
        if chosen.is_empty() {
            continue;
        }
        let within = (what == Reads::Asked).then(|| deliverer.asked.clone());
        let mut parts: Vec<SpaceLogs<'_>> = chosen.iter_mut().map(|inner| inner.part()).collect();
        let mut no_owner = Deliverer::no_owner();
        let taker = if keep { &mut no_owner } else { &mut *deliverer };
        read_all(&mut parts, within.as_ref(), false, crew, taker, tally);
        for inner in chosen.into_iter().filter(|_| !keep) {
            inner.was_read(within.as_ref());
        }
    }
}

/// What is read of each tracker, which from here on counts as read in the pass.
fn of_pass(
    passes: &mut [Pass<'_, TrackerInner>],
    token: u64,
    deliverer: &Deliverer<'_, '_>,
    plain: Reads,
) -> Vec<Reads> {
    let (asked, everything) = (&deliverer.asked, deliverer.wants_everything());
    let of_one = |inner: &mut Pass<'_, TrackerInner>| {
        let TrackerInner { sections, record, .. } = &mut **inner;
        let ask = Ask { token, asked, everything, mapped: &record.maps.mapped };
        let reads = sections.reads(&ask, plain);
        sections.was_read(&ask, reads);
        reads
    };
    passes.iter_mut().map(of_one).collect()
}

impl Tracker {
    /// Reads the log, clears it, and gives what was asked for; what was read and not asked for is kept for the harvest that
    /// asks. *tracker; blocks in the kernel and in callbacks.*
    pub fn harvest(&self, request: &mut Request<'_>) -> Result<Harvest> {
        harvest(&[self], request)
    }
}
