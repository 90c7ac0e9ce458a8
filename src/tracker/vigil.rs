//! The calling thread, while workers ask logs for it, says in the log of messages which log does not answer, and to who listens.

use crate::log::{Level, is_heard, log, patience};
use crate::logs::asked::{LogAsked, LogSlot};
use crate::workers::Watch;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is heard at an interval while logs do not answer.
#[derive(Clone, Copy)]
pub(crate) struct LogsWait<'a> {
    /// The one that was asked first.
    pub log: &'a LogAsked,
    /// How many trackers are done, of how many; in a harvest 0, of how many logs.
    pub arrived: usize,
    pub asked: usize,
    pub elapsed: Duration,
}

/// Who hears it.
#[derive(Clone, Copy)]
pub(crate) struct LogEar<'a> {
    pub interval: Duration,
    pub hear: &'a dyn Fn(&LogsWait<'_>),
}

/// A watch over logs, as long as a call lasts.
pub(super) struct LogVigil<'a> {
    slots: Vec<Arc<LogSlot>>,
    /// By log: the request that the log of messages has, and when it is logged again.
    logged: Vec<Option<(Duration, Instant)>>,
    /// Also where there is one log only.
    lone: bool,
    warns: bool,
    next: Option<Instant>,
    ear: Option<LogEar<'a>>,
    hear_at: Option<Instant>,
    begun: Instant,
    arrived: usize,
    asked: usize,
}

impl<'a> LogVigil<'a> {
    /// `asked`: how many of what is counted as arrived take part.
    pub fn new(slots: Vec<Arc<LogSlot>>, lone: bool, asked: usize, ear: Option<LogEar<'a>>) -> Self {
        let warns = is_heard(Level::Warning);
        let begun = Instant::now();
        let next = begun.checked_add(patience().0).filter(|_| warns);
        let hear_at = ear.and_then(|ear| begun.checked_add(ear.interval));
        let (logged, arrived) = (vec![None; slots.len()], 0);
        LogVigil { slots, logged, lone, warns, next, ear, hear_at, begun, arrived, asked }
    }

    /// One of what is counted is done.
    pub fn arrived(&mut self) {
        self.arrived = self.arrived.saturating_add(1);
    }

    fn tell(&mut self) -> Option<Instant> {
        let ear = self.ear?;
        if let Some(log) = oldest(&self.slots) {
            let (arrived, asked, elapsed) = (self.arrived, self.asked, self.begun.elapsed());
            (ear.hear)(&LogsWait { log: &log, arrived, asked, elapsed });
        }
        Instant::now().checked_add(ear.interval)
    }

    fn warn(&mut self, now: Instant) -> Option<Instant> {
        let (long, again) = patience();
        // What begins from here on is not long before that.
        let mut next = now.checked_add(long);
        for (slot, logged) in self.slots.iter().zip(&mut self.logged) {
            let Some(asked) = slot.get() else {
                *logged = None;
                continue;
            };
            let known = logged.filter(|(since, _)| *since == asked.since).map(|(_, due)| due);
            let due = known.or_else(|| now.checked_add(long.saturating_sub(asked.age())));
            if due.is_some_and(|due| due <= now) {
                log!(Warning, "{}: {} was not answered for {:.1?}", asked.log, asked.request, asked.age());
                *logged = now.checked_add(again).map(|due| (asked.since, due));
            }
            next = [next, logged.map_or(due, |(_, due)| Some(due))].into_iter().flatten().min();
        }
        next
    }
}

/// The request that has not been answered for the longest time.
pub(super) fn oldest(slots: &[Arc<LogSlot>]) -> Option<LogAsked> {
    slots.iter().filter_map(|slot| slot.get()).min_by_key(|asked| asked.since)
}

impl Watch for LogVigil<'_> {
    fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.next = self.warn(now);
        }
        if self.hear_at.is_some_and(|at| at <= now) {
            self.hear_at = self.tell();
        }
        [self.next, self.hear_at].into_iter().flatten().min()
    }

    fn wants_free_hands(&self) -> bool {
        self.lone && (self.warns || self.ear.is_some())
    }
}
