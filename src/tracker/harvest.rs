//! Reads logs and clears them, gives what was asked for and keeps the rest. Workers read, the calling thread merges.
//!
//! An error while reading is never "no dirt" (P13): what it may have hidden is dirty, and the result says so.

use super::deliver::{Deliverer, Request};
use super::reading::{SpaceLogs, read_all};
use super::space::Tracker;
use super::state::TrackerInner;
use super::tally::{Harvest, Tally};
use crate::error::{Error, Result};
use crate::gate::Pass;

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
    // The harvest that takes has to report it.
    if !no_read && !keep {
        for (tracker, inner) in sorted.iter().zip(&mut passes) {
            if inner.drop_freed(&mut tally) {
                tracker.joined(inner);
            }
        }
    }
    if !no_read {
        let within = only_dests.then(|| deliverer.asked.clone());
        let mut parts: Vec<SpaceLogs<'_>> = passes.iter_mut().map(|inner| inner.part()).collect();
        let mut no_owner = Deliverer::no_owner();
        let taker = if keep { &mut no_owner } else { &mut deliverer };
        read_all(&mut parts, within.as_ref(), false, max_workers, taker, &mut tally);
        for inner in passes.iter_mut().filter(|_| !keep) {
            inner.was_read(within.as_ref());
        }
    }
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
    Ok(harvest)
}

impl Tracker {
    /// Reads the log, clears it, and gives what was asked for; what was read and not asked for is kept for the harvest that
    /// asks. *tracker; blocks in the kernel and in callbacks.*
    pub fn harvest(&self, request: &mut Request<'_>) -> Result<Harvest> {
        harvest(&[self], request)
    }
}
