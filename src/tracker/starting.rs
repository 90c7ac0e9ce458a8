//! Logs are started, exchanged and stopped: which of the choices works is found out when it is started.

use super::deliver::Deliverer;
use super::distribute::{FirstRead, check_reading};
use super::reading::{SpaceLogs, read_all};
use super::record::Record;
use super::scratch::PagePool;
use super::sections::SectionPass;
use super::state::{FinalHarvest, TrackerInner};
use super::tally::Tally;
use crate::error::Errno;
use crate::log::log;
use crate::logs::asked::LogRequest;
use crate::logs::choose::Source;
use crate::logs::log::{Log, LogKind, Maps};
use crate::logs::ranges::Span;
use crate::workers;
use std::sync::atomic::Ordering;

impl TrackerInner {
    /// Takes the first choice that works; the last one always does.
    pub fn start(&mut self) {
        self.record.clear();
        self.sections = SectionPass::default();
        self.active = self.first_that_works(0..self.choices.len()).unwrap_or(0);
        self.checked = !self.record.maps.mapped.is_empty();
    }

    /// A later start: what did not work before may do so now.
    pub fn try_better(&mut self) {
        self.switch(0..self.active);
    }

    /// The active choice does not work any more: takes another one that does. What worked before is not given up for no log at
    /// all: it is tried again at each harvest.
    pub fn fall_back(&mut self) {
        let (active, last) = (self.active, self.choices.len().saturating_sub(1));
        let worked = self.checked;
        if let Some(choice) = self.choices.get_mut(active) {
            choice.against = choice.sources.iter().find_map(Source::complaint);
        }
        self.switch((0..self.choices.len()).filter(|&other| other != active && !(worked && other == last)));
        // Also if there is none: what it should have reported is dirty.
        self.record.mark(None);
    }

    /// Makes the first of `candidates` that works the active choice. It knows nothing of the time before, so all is dirty.
    pub fn switch(&mut self, candidates: impl IntoIterator<Item = usize>) {
        let Some(index) = self.first_that_works(candidates) else { return };
        log!(Info, "{}: {} takes the place of {}", self.record.name, self.name_of(index), self.name_of(self.active));
        self.halt(self.active);
        self.active = index;
        self.record.mark(None);
    }

    /// Starts one of `candidates`.
    fn first_that_works(&mut self, candidates: impl IntoIterator<Item = usize>) -> Option<usize> {
        candidates.into_iter().find(|&index| {
            let outcome = self.begin(index).err();
            let Some(choice) = self.choices.get_mut(index) else { return false };
            let (name, kind) = (&self.record.name, choice.kind.name());
            match &outcome {
                // A reason that lasts is logged once, however often it is tried.
                Some(text) if choice.logged.as_ref() == Some(text) => log!(Debug, "{name}: {kind} is not used: {text}"),
                Some(text) => log!(Warning, "{name}: {kind} is not used: {text}"),
                None if choice.logged.is_some() => log!(Info, "{name}: {kind} can be used again"),
                None => {}
            }
            let works = outcome.is_none();
            choice.logged.clone_from(&outcome);
            choice.against = outcome;
            works
        })
    }

    fn name_of(&self, index: usize) -> &'static str {
        self.choices.get(index).map_or("no log", |choice| choice.kind.name())
    }

    /// Starts all sources of a choice and reads a little of each; stops them again if one does not work.
    fn begin(&mut self, index: usize) -> std::result::Result<(), String> {
        let TrackerInner { choices, record, pool, page_size, max_workers, .. } = self;
        let Some(choice) = choices.get_mut(index) else { return Err("there is none".to_string()) };
        choice.sources.iter_mut().for_each(Source::forget);
        let any: Vec<bool> = choice.sources.iter().map(|source| source.any_thread).collect();
        let (shared, maps) = (&choice.sources, &record.maps);
        let outcomes = workers::run(*max_workers, &any, |index| {
            let Some(source) = shared.get(index) else { return Ok(None) };
            let mut log = source.log.lock();
            let _asked = source.slot.begin(LogRequest::Start);
            let outcome = begin_log(&mut **log, maps, pool, *page_size);
            outcome
                .map(|found| Some(Box::new(found)))
                .map_err(|(errno, what)| format!("{}: {what}: {errno}", log.describe()))
        });
        // Boxed, because the compiler's tests of so many variants in one value look to valgrind like memory that was never
        // written.
        let found: std::result::Result<Vec<Option<Box<FirstRead>>>, String> = outcomes.into_iter().collect();
        match found {
            Ok(found) => {
                // Whether every read finds everything dirty matters only for a container's log (T5).
                record.all_dirty = if choice.kind == LogKind::Type1 { None } else { Some(false) };
                for found in found.into_iter().flatten() {
                    record.saw(found.full);
                    found.keep(record, pool);
                }
                choice.against = None;
                Ok(())
            }
            Err(text) => {
                self.halt(index);
                Err(text)
            }
        }
    }

    /// Stops the sources of a choice; those that do not run have nothing to stop.
    fn halt(&mut self, index: usize) {
        let name = &self.record.name;
        if let Some(choice) = self.choices.get_mut(index) {
            choice.sources.iter_mut().for_each(Source::forget);
            stop_all(choice.sources.iter(), self.max_workers, name);
        }
    }

    /// Stops all that runs, also what an earlier call could not stop.
    pub fn stop(&mut self) {
        let sources = self.choices.iter_mut().flat_map(|choice| &mut choice.sources);
        sources.for_each(Source::forget);
        stop_all(self.choices.iter().flat_map(|choice| &choice.sources), self.max_workers, &self.record.name);
        // The next start tries all of them again.
        (self.active, self.record.all_dirty) = (0, None);
        self.choices.iter_mut().for_each(|choice| choice.against = None);
        self.final_harvest = FinalHarvest::NotOwed;
        self.sections = SectionPass::default();
        self.record.clear();
        self.pool.release();
    }

    /// New mappings while tracking: dirty once, and logs that do not hold them are started anew (P25). What was started with
    /// nothing mapped is read now, for the first time.
    pub fn extend(&mut self, new: &[(Span, u64)]) {
        for &(span, _) in new {
            self.record.left.add(span);
        }
        let first = !self.checked;
        let mut works = true;
        let SpaceLogs { sources, pool, record, page_size } = self.part();
        for source in sources {
            let log = source.log.get_mut();
            let restarts = new.iter().any(|&(span, _)| log.needs_restart_for(span));
            if restarts {
                record.restarts.fetch_add(1, Ordering::Relaxed);
                let still = log.stands_still();
                if still.is_some() {
                    // Nothing writes, so what the log holds is all there is: no page beyond it becomes dirty.
                    let mut no_owner = Deliverer::no_owner();
                    let part = SpaceLogs { sources: std::slice::from_mut(source), pool, record, page_size };
                    read_all(&mut [part], None, false, (1, None), &mut no_owner, &mut Tally::default());
                }
                let asked = source.slot.begin(LogRequest::Start);
                let outcome = begin_log(&mut **source.log.get_mut(), &record.maps, pool, page_size);
                drop(asked);
                source.first_read(outcome, record, pool);
                // It may have begun to run meanwhile, and even have stopped again: what it wrote then went with the log.
                if still.is_none() || source.log.get_mut().stands_still() != still || source.failed.is_some() {
                    record.mark(None);
                }
            } else if first {
                let log = &mut **source.log.get_mut();
                let asked = source.slot.begin(LogRequest::Read);
                let outcome = match check_reading(log, &record.maps, pool) {
                    Err(_) if log.learnt() => begin_log(log, &record.maps, pool, page_size),
                    outcome => outcome.map_err(|errno| (errno, "reading")),
                };
                drop(asked);
                source.first_read(outcome, record, pool);
            }
            works &= source.failed.is_none();
        }
        if !works {
            self.fall_back();
        }
        self.checked |= !new.is_empty();
    }
}

/// Starts a log, and reads a little of it; else why not, and what failed.
pub(super) fn begin_log(
    log: &mut dyn Log,
    maps: &Maps,
    pool: &PagePool,
    page_size: u64,
) -> std::result::Result<FirstRead, (Errno, &'static str)> {
    loop {
        log.start(maps, page_size).map_err(|errno| (errno, "start"))?;
        match check_reading(log, maps, pool) {
            Err(_) if log.learnt() => {}
            outcome => return outcome.map_err(|errno| (errno, "reading")),
        }
    }
}

impl Source {
    /// What came of a start while the others run.
    pub(super) fn first_read(
        &mut self,
        outcome: std::result::Result<FirstRead, (Errno, &'static str)>,
        record: &mut Record,
        pool: &PagePool,
    ) {
        match outcome {
            Ok(found) => {
                record.saw(found.full);
                found.keep(record, pool);
                self.failed = None;
            }
            Err((errno, _)) => {
                self.failed = Some(errno);
                self.note(&record.name, self.failed);
            }
        }
    }
}

/// Stops those that run. A log that a device stopped itself is no error (L8, K16).
pub(super) fn stop_all<'a>(sources: impl Iterator<Item = &'a Source>, max_workers: usize, name: &str) {
    let running: Vec<&Source> = sources.filter(|source| source.log.lock().holds().is_some()).collect();
    let any: Vec<bool> = running.iter().map(|source| source.any_thread).collect();
    workers::run(max_workers, &any, |index| {
        let Some(source) = running.get(index) else { return };
        let mut log = source.log.lock();
        let asked = source.slot.begin(LogRequest::Stop);
        let outcome = log.stop();
        drop(asked);
        match outcome {
            Ok(()) if source.unstoppable.ends() => log!(Info, "{name}: {}: it can be stopped again", log.describe()),
            Err(errno) if source.unstoppable.begins() => log!(
                Warning,
                "{name}: {}: stop: {errno}; it is tried again at the next start, and at the end",
                log.describe()
            ),
            Err(errno) => log!(Debug, "{name}: {}: stop: {errno}", log.describe()),
            Ok(()) => {}
        }
    });
}
