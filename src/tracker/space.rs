//! The dirty log of one address space: what is mapped, which log is read, whether it runs.

use super::book::Book;
use super::deliver::Deliverer;
use super::distribute::{FirstRead, check_reading};
use super::reading::{SpaceLogs, mark, read_all};
use super::scratch::PagePool;
use super::tally::Tally;
use super::{UNIT, UNIT_SHIFT};
use crate::device::Device;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::gate::{Gate, GateLevel, Pass};
use crate::log::log;
use crate::logs::choose::{Choice, Members, Source, choices, missing, plans};
use crate::logs::log::{Log, LogKind, Maps};
use crate::logs::ranges::{IovaRange, Span, SpanSet};
use crate::transport::iommufd::Iommufd;
use crate::transport::tracker_ops::LogFunctions;
use crate::transport::type1::{Container, ability};
use crate::workers;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest name in bytes.
const MAX_NAME: usize = 255;

/// How a tracker is made.
#[derive(Default)]
pub struct TrackerOptions {
    /// For messages.
    pub name: String,
    /// Every device behind the address space.
    pub devices: Vec<Arc<Device>>,
    /// The container behind which the devices are.
    pub container: Option<Arc<dyn Container>>,
    /// The iommufd, and each page table with dirty tracking that a device is attached to.
    pub hwpts: Option<(Arc<dyn Iommufd>, Vec<u32>)>,
    /// The IOAS of `hwpts`, for the library to unmap from.
    pub ioas: Option<u32>,
    /// A log that the VMM keeps itself; nothing else is looked at then.
    pub functions: Option<Box<dyn LogFunctions>>,
    /// Do not use the devices' own logs.
    pub no_device_log: bool,
    /// Use no log at all.
    pub everything: bool,
    /// Where mappings will be: logs of devices and of the VMM are started for these ranges, so that no mapping in them restarts
    /// one. They may overlap; multiples of 4096. Empty: what is mapped, rounded out.
    pub aperture: Vec<IovaRange>,
    /// Smallest page that the VMM cares about, in bytes: a hint to logs that have a choice. `None`: the finest.
    pub page_size: Option<u64>,
    /// Threads that work side by side; 0: one per source within reason. 1: none.
    pub max_workers: usize,
}

/// One DMA mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where it lies.
    pub range: IovaRange,
    /// Handed to run callbacks.
    pub cookie: u64,
}

/// What is known of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerInfo {
    /// The log that is read, or that will be tried first.
    pub kind: LogKind,
    /// Why this one.
    pub why: String,
    /// Starts that were not stopped.
    pub users: u32,
    /// Everything is dirty at each harvest, so waiting for less does not help.
    pub perpetual: bool,
    /// Sources that keep no log although they should: what is mapped is dirty at each harvest until a restart helps.
    pub failed_logs: u32,
    /// The largest page of any source while it runs; else what was asked for.
    pub page_size: u64,
    /// Mappings, neighbours joined.
    pub mapped_ranges: u64,
    /// Ranges that the source with the fewest holds; 0 while it does not run.
    pub logged_ranges: u64,
    /// Sources of whose trouble `why` speaks.
    pub(crate) complaints: usize,
}

/// What a migration still has to harvest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FinalHarvest {
    NotOwed,
    /// STOP_COPY was entered; `read`: every source was read since.
    Owed {
        read: bool,
    },
}

pub(crate) struct TrackerInner {
    pub choices: Vec<Choice>,
    pub active: usize,
    pub book: Book,
    pub pool: PagePool,
    pub page_size: u64,
    pub max_workers: usize,
    pub members: Members,
    pub ioas: Option<(Arc<dyn Iommufd>, u32)>,
    users: u32,
    /// How many of them are migrations, whose starts nobody else takes back.
    holds: u32,
    /// A migration alone has started it, and nothing was asked of it since.
    pub untold: bool,
    /// Something mapped was read since the start, or could have been: it is known whether the active choice works.
    checked: bool,
    final_harvest: FinalHarvest,
}

/// One tracker. All functions but the getters wait for each other; a call from a callback of the same tracker is EDEADLK. Dropping
/// it closes it.
pub struct Tracker {
    name: String,
    pub(super) devices: Mutex<Vec<Arc<Device>>>,
    everything: bool,
    closed: AtomicBool,
    gate: Gate<TrackerInner>,
    info: Mutex<TrackerInfo>,
}

impl Tracker {
    /// Picks the log, and says which and why in [`info`](Self::info) and the log. Starts nothing. EBUSY: another tracker of this
    /// process has one of the logs.
    pub fn new(options: TrackerOptions) -> Result<Tracker> {
        let TrackerOptions { name, devices, container, hwpts, ioas, functions, no_device_log, everything, .. } =
            options;
        if name.len() > MAX_NAME {
            return Err(Error::argument(format!("name: {} bytes, longer than {MAX_NAME}", name.len())));
        }
        let page_size = options.page_size.unwrap_or(UNIT);
        if !page_size.is_power_of_two() || !(UNIT..=1 << 30).contains(&page_size) {
            return Err(Error::argument(format!("page_size: {page_size:#x} is no power of two from 4 KiB to 1 GiB")));
        }
        if hwpts.as_ref().is_some_and(|(_, ids)| ids.is_empty()) {
            return Err(Error::argument("hwpts: an iommufd without page tables"));
        }
        let mut aperture = Vec::with_capacity(options.aperture.len());
        for (index, &range) in options.aperture.iter().enumerate() {
            let span = Span::of(range).filter(|span| span.is_aligned(UNIT_SHIFT)).ok_or_else(|| {
                let IovaRange { iova, size } = range;
                Error::argument(format!("aperture[{index}]: {iova:#x} + {size:#x} is not in units of 4096"))
            })?;
            aperture.push(span);
        }
        let ability = container.as_ref().map_or(Ok(None), |container| ability(&**container));
        let ioas = hwpts.as_ref().map(|(iommufd, _)| Arc::clone(iommufd)).zip(ioas);
        let members = Members {
            had_devices: !devices.is_empty(),
            devices: without_doubles(devices, Arc::ptr_eq),
            container,
            ability,
            hwpts: hwpts.map(|(iommufd, ids)| (iommufd, without_doubles(ids, PartialEq::eq))),
            functions: functions.map(Arc::from),
            no_device_log,
            everything,
            aperture,
        };
        let plans = plans(&members);
        let sources = missing(&plans, &[], &members.aperture, &name)?;
        let devices = Mutex::new(members.devices.clone());
        let inner = TrackerInner {
            choices: choices(plans, Vec::new(), sources).0,
            active: 0,
            book: Book { name: name.clone(), ..Book::default() },
            pool: PagePool::default(),
            page_size,
            max_workers: options.max_workers,
            members,
            ioas,
            users: 0,
            holds: 0,
            untold: false,
            checked: false,
            final_harvest: FinalHarvest::NotOwed,
        };
        let info = inner.info();
        log!(Info, "{name}: {}: {}", info.kind.name(), info.why);
        let (closed, gate) = (AtomicBool::new(false), Gate::new(GateLevel::Tracker, inner));
        Ok(Tracker { name, devices, everything, closed, gate, info: Mutex::new(info) })
    }

    /// The name given in the options.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Last known facts. *any.*
    pub fn info(&self) -> TrackerInfo {
        self.info.lock().clone()
    }

    /// Whether the tracker speaks for a device.
    pub fn covers(&self, device: &Arc<Device>) -> bool {
        self.devices.lock().iter().any(|known| Arc::ptr_eq(known, device))
    }

    /// Whether it was made to use no log: then it speaks for every device.
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Whether the handle was freed while something still refers to it.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Tells DMA mappings, after they were mapped. While tracking each counts as dirty once. *tracker.*
    ///
    /// A log that must be started anew for them makes everything dirty once, unless its device stands still.
    pub fn map(&self, mappings: &[Mapping]) -> Result<()> {
        let mut inner = self.enter()?;
        let mut spans = Vec::with_capacity(mappings.len());
        let mut new = Maps::default();
        for (index, mapping) in mappings.iter().enumerate() {
            let IovaRange { iova, size } = mapping.range;
            let span = Span::of(mapping.range).filter(|span| span.is_aligned(UNIT_SHIFT)).ok_or_else(|| {
                self.named(Error::argument(format!("mappings[{index}]: {iova:#x} + {size:#x} is not in units of 4096")))
            })?;
            if inner.book.maps.mapped.overlaps(span) || new.mapped.overlaps(span) {
                let text = format!("mappings[{index}]: {iova:#x} + {size:#x} overlaps a mapping");
                return Err(self.named(Error::new(ErrorKind::Argument, libc::EEXIST, text)));
            }
            new.insert(span, mapping.cookie);
            spans.push((span, mapping.cookie));
        }
        for &(span, cookie) in &spans {
            inner.book.map(span, cookie);
        }
        if inner.users > 0 {
            inner.extend(&spans);
        }
        self.done(&inner);
        Ok(())
    }

    /// Starts to track, before any RAM is sent (P14). Counted: only the first start begins a log, and none is restarted by a
    /// later one; but logs that are better than the one that is read get another chance, and if one works it is taken, and
    /// everything is dirty once. A log that does not work is found out here, and the next one is taken. *tracker; blocks in the kernel.*
    pub fn start(&self) -> Result<()> {
        self.start_in(&mut *self.enter()?)
    }

    fn start_in(&self, inner: &mut TrackerInner) -> Result<()> {
        if inner.drop_freed(&mut Tally::default()) {
            self.joined(inner);
        }
        // Who starts it may send RAM from now on.
        inner.untold = false;
        inner.users = inner.users.checked_add(1).ok_or_else(|| self.named(Error::order("started too often")))?;
        if inner.users == 1 {
            inner.start();
        } else {
            inner.try_better();
        }
        self.done(inner);
        Ok(())
    }

    /// Takes back one start; the last one stops the log, and what it held is gone. Refused while a migration owes its final
    /// harvest, and for the start of a migration itself. *tracker; blocks in the kernel.*
    pub fn stop(&self) -> Result<()> {
        self.stop_in(&mut *self.enter()?)
    }

    /// As [`start`](Self::start), for a migration: only [`release`](Self::release) takes it back.
    pub(crate) fn hold(&self) -> Result<()> {
        let mut inner = self.enter()?;
        self.start_in(&mut inner)?;
        inner.holds = inner.holds.saturating_add(1);
        inner.untold = inner.users == 1;
        Ok(())
    }

    /// The migration that has just started it says that no RAM was sent so far: logs that began meanwhile know everything. Nobody
    /// else can say so, and not behind a harvest, whose pages may be sent already.
    pub(crate) fn nothing_was_sent(&self) -> Result<()> {
        let mut inner = self.enter()?;
        if std::mem::take(&mut inner.untold) {
            let sources = &mut inner.part().sources;
            sources.iter_mut().for_each(|source| source.log.get_mut().nothing_was_sent());
        }
        Ok(())
    }

    /// The migration is over, or was aborted: nothing is owed any more.
    pub(crate) fn release(&self) -> Result<()> {
        let mut inner = self.enter()?;
        inner.final_harvest = FinalHarvest::NotOwed;
        inner.holds = inner.holds.saturating_sub(1);
        self.stop_in(&mut inner)
    }

    fn stop_in(&self, inner: &mut TrackerInner) -> Result<()> {
        if inner.users <= inner.holds {
            let held = if inner.holds > 0 { ": a migration holds the tracker" } else { "" };
            return Err(self.named(Error::order(format!("stop without start{held}"))));
        }
        if let Some(text) = inner.final_missing().filter(|_| inner.users == 1) {
            return Err(self.named(Error::order(format!("the final harvest is owed: {text}"))));
        }
        inner.users = inner.users.saturating_sub(1);
        if inner.users == 0 {
            inner.stop();
        }
        self.done(inner);
        Ok(())
    }

    /// STOP_COPY was entered: from now on a final harvest is owed, and [`stop`](Self::stop) waits for it (P12).
    pub fn begin_final(&self) -> Result<()> {
        self.enter()?.final_harvest = FinalHarvest::Owed { read: false };
        Ok(())
    }

    /// Nothing is owed any more: the migration was aborted, or is over.
    pub fn end_final(&self) -> Result<()> {
        self.enter()?.final_harvest = FinalHarvest::NotOwed;
        Ok(())
    }

    /// What the final harvest lacks, in words.
    pub fn final_missing(&self) -> Result<Option<String>> {
        Ok(self.enter()?.final_missing())
    }

    /// Ends the use of the tracker: stops what it started. Later calls are ENODEV. *tracker; blocks in the kernel.*
    pub fn close(&self) -> Result<()> {
        let mut inner = self.gate.enter_to_close().map_err(|denied| self.named(denied.of("tracker")))?;
        self.closed.store(true, Ordering::Relaxed);
        inner.users = 0;
        // Also what a stop could not stop.
        inner.stop();
        self.done(&inner);
        drop(inner.close());
        Ok(())
    }

    pub(super) fn enter(&self) -> Result<Pass<'_, TrackerInner>> {
        self.gate.enter_whole().map_err(|denied| self.named(denied.of("tracker")))
    }

    /// Whether the getters know what the reads of a harvest have shown.
    pub(super) fn is_told(&self, inner: &TrackerInner) -> bool {
        let known = self.info.lock();
        known.perpetual == inner.is_perpetual() && known.complaints == inner.complaints()
    }

    /// The end of a call that may have changed something.
    pub(super) fn done(&self, inner: &TrackerInner) {
        *self.info.lock() = inner.info();
    }

    pub(super) fn named(&self, error: Error) -> Error {
        error.context(&self.name)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        // One that was closed before has nothing left to stop.
        let _ = self.close();
    }
}

impl TrackerInner {
    pub fn is_running(&self) -> bool {
        self.users > 0
    }

    /// A migration has started it.
    pub fn is_held(&self) -> bool {
        self.holds > 0
    }

    pub fn current(&self) -> Option<&Choice> {
        self.choices.get(self.active)
    }

    /// The parts of a running tracker that a harvest works with.
    pub fn part(&mut self) -> SpaceLogs<'_> {
        self.untold = false;
        let TrackerInner { choices, active, book, pool, page_size, final_harvest, .. } = self;
        // A hole that nobody has told yet hides what is behind it; the page table keeps that for a later read, if there is one.
        book.maps.all_doubtful = book.tells_afterwards.unwrap_or(*final_harvest != FinalHarvest::NotOwed);
        let sources = choices.get_mut(*active).map_or(&mut [][..], |choice| &mut choice.sources[..]);
        SpaceLogs { sources, pool, book, page_size: *page_size }
    }

    /// Every source was read, or what it holds of `within`.
    pub fn was_read(&mut self, within: Option<&SpanSet>) {
        if let FinalHarvest::Owed { read } = &mut self.final_harvest {
            *read |= within.is_none_or(|within| self.book.maps.mapped.iter().all(|span| within.contains(span)));
        }
    }

    fn final_missing(&self) -> Option<String> {
        match self.final_harvest {
            FinalHarvest::NotOwed => None,
            _ if self.users == 0 => Some("the log was stopped, and what it knew is gone".to_string()),
            FinalHarvest::Owed { read: false } => Some("it was not harvested since STOP_COPY began".to_string()),
            FinalHarvest::Owed { read: true } => {
                let text = "dirty pages were read that no harvest has asked for";
                let unmapped =
                    "; some belong to ranges that are unmapped or mapped anew: ask without destinations, by run";
                let gone = !self.book.gone.mapped.is_empty() || !self.book.aside.is_empty();
                (!self.book.is_given()).then(|| format!("{text}{}", if gone { unmapped } else { "" }))
            }
        }
    }

    /// Any log may find everything dirty for a while; a container that never told otherwise goes on like that (T5), and so does a
    /// log that cannot be read again and again.
    pub fn is_perpetual(&self) -> bool {
        let broken =
            |source: &Source| source.failed.is_some() || source.lasting && source.log.lock().restarts_after_error();
        self.current().is_none_or(|choice| match choice.kind {
            LogKind::Everything => true,
            LogKind::Type1 => self.book.all_dirty == Some(true),
            LogKind::Hwpt if self.members.lack_page_tables() => true,
            LogKind::DmaLog | LogKind::Hwpt | LogKind::Draft | LogKind::Ops => choice.sources.iter().any(broken),
        })
    }

    fn complaints(&self) -> usize {
        self.current().map_or(0, |choice| choice.sources.iter().filter(|source| source.complains()).count())
    }

    fn info(&self) -> TrackerInfo {
        let sources = self.current().map_or(&[][..], |choice| &choice.sources);
        let holds: Vec<(usize, u64)> = sources.iter().filter_map(|source| source.log.lock().holds()).collect();
        let kind = self.current().map_or(LogKind::Everything, |choice| choice.kind);
        let against = self.choices.iter().take(self.active).filter_map(|choice| choice.against.clone());
        let why = self.current().map(|choice| choice.why.clone()).into_iter().chain(against);
        let why = why.chain(
            sources
                .iter()
                .filter_map(Source::complaint)
                .map(|text| text + "; everything is sent again until it comes back"),
        );
        TrackerInfo {
            kind,
            why: why.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; "),
            users: self.users,
            perpetual: self.is_perpetual(),
            failed_logs: sources.iter().map(|source| u32::from(source.failed.is_some())).sum(),
            page_size: holds.iter().map(|held| held.1).max().unwrap_or(self.page_size),
            mapped_ranges: self.book.maps.mapped.len() as u64,
            logged_ranges: holds.iter().map(|held| held.0 as u64).min().unwrap_or(0),
            complaints: self.complaints(),
        }
    }

    /// Takes the first choice that works; the last one always does.
    fn start(&mut self) {
        self.book.clear();
        self.active = self.first_that_works(0..self.choices.len()).unwrap_or(0);
        self.checked = !self.book.maps.mapped.is_empty();
    }

    /// A later start: what did not work before may do so now.
    fn try_better(&mut self) {
        self.switch(0..self.active);
    }

    /// The active choice does not work any more: takes another one that does. What worked before is not given up for no log at
    /// all: it is tried again at each harvest.
    pub(super) fn fall_back(&mut self) {
        let (active, last) = (self.active, self.choices.len().saturating_sub(1));
        let worked = self.checked;
        if let Some(choice) = self.choices.get_mut(active) {
            choice.against = choice.sources.iter().find_map(Source::complaint);
        }
        self.switch((0..self.choices.len()).filter(|&other| other != active && !(worked && other == last)));
        // Also if there is none: what it should have told is dirty.
        mark(&mut self.book, None);
    }

    /// Makes the first of `candidates` that works the active choice. It knows nothing of the time before, so all is dirty.
    pub(super) fn switch(&mut self, candidates: impl IntoIterator<Item = usize>) {
        let Some(index) = self.first_that_works(candidates) else { return };
        log!(Info, "{}: {} takes the place of {}", self.book.name, self.name_of(index), self.name_of(self.active));
        self.halt(self.active);
        self.active = index;
        mark(&mut self.book, None);
    }

    /// Starts one of `candidates`.
    fn first_that_works(&mut self, candidates: impl IntoIterator<Item = usize>) -> Option<usize> {
        candidates.into_iter().find(|&index| {
            let outcome = self.begin(index).err();
            let Some(choice) = self.choices.get_mut(index) else { return false };
            let (name, kind) = (&self.book.name, choice.kind.name());
            match &outcome {
                // A reason that lasts is told once, however often it is tried.
                Some(text) if choice.told.as_ref() == Some(text) => log!(Debug, "{name}: {kind} is not used: {text}"),
                Some(text) => log!(Warning, "{name}: {kind} is not used: {text}"),
                None if choice.told.is_some() => log!(Info, "{name}: {kind} can be used again"),
                None => {}
            }
            let works = outcome.is_none();
            choice.told.clone_from(&outcome);
            choice.against = outcome;
            works
        })
    }

    fn name_of(&self, index: usize) -> &'static str {
        self.choices.get(index).map_or("no log", |choice| choice.kind.name())
    }

    /// Starts all sources of a choice and reads a little of each; stops them again if one does not work.
    fn begin(&mut self, index: usize) -> std::result::Result<(), String> {
        let TrackerInner { choices, book, pool, page_size, max_workers, .. } = self;
        let Some(choice) = choices.get_mut(index) else { return Err("there is none".to_string()) };
        choice.sources.iter_mut().for_each(Source::forget);
        let any: Vec<bool> = choice.sources.iter().map(|source| source.any_thread).collect();
        let (shared, maps) = (&choice.sources, &book.maps);
        let outcomes = workers::run(*max_workers, &any, |index| {
            let Some(source) = shared.get(index) else { return Ok(None) };
            let mut log = source.log.lock();
            let outcome = begin_log(&mut **log, maps, pool, *page_size);
            outcome.map(Some).map_err(|(errno, what)| format!("{}: {what}: {errno}", log.describe()))
        });
        let found: std::result::Result<Vec<Option<FirstRead>>, String> = outcomes.into_iter().collect();
        match found {
            Ok(found) => {
                // Nobody wants to know it of any other log.
                book.all_dirty = if choice.kind == LogKind::Type1 { None } else { Some(false) };
                for found in found.into_iter().flatten() {
                    book.saw(found.full);
                    found.keep(book, pool);
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
        let name = &self.book.name;
        if let Some(choice) = self.choices.get_mut(index) {
            choice.sources.iter_mut().for_each(Source::forget);
            stop_all(choice.sources.iter(), self.max_workers, name);
        }
    }

    /// Stops all that runs, also what an earlier call could not stop.
    fn stop(&mut self) {
        let sources = self.choices.iter_mut().flat_map(|choice| &mut choice.sources);
        sources.for_each(Source::forget);
        stop_all(self.choices.iter().flat_map(|choice| &choice.sources), self.max_workers, &self.book.name);
        // The next start tries all of them again.
        (self.active, self.book.all_dirty) = (0, None);
        self.choices.iter_mut().for_each(|choice| choice.against = None);
        self.final_harvest = FinalHarvest::NotOwed;
        self.book.clear();
        self.pool.release();
    }

    /// New mappings while tracking: dirty once, and logs that do not hold them are started anew (P25). What was started with
    /// nothing mapped is read now, for the first time.
    fn extend(&mut self, new: &[(Span, u64)]) {
        for &(span, _) in new {
            self.book.left.add(span);
        }
        let first = !self.checked;
        let mut works = true;
        let SpaceLogs { sources, pool, book, page_size } = self.part();
        for source in sources {
            let log = source.log.get_mut();
            let restarts = new.iter().any(|&(span, _)| log.needs_restart_for(span));
            if restarts {
                let still = log.stands_still();
                if still.is_some() {
                    // Nothing writes, so what the log holds is all there is: no page beyond it becomes dirty.
                    let mut nobody = Deliverer::nobody();
                    let part = SpaceLogs { sources: std::slice::from_mut(source), pool, book, page_size };
                    read_all(&mut [part], None, false, 1, &mut nobody, &mut Tally::default());
                }
                let outcome = begin_log(&mut **source.log.get_mut(), &book.maps, pool, page_size);
                source.first_read(outcome, book, pool);
                // It may have begun to run meanwhile, and even have stopped again: what it wrote then went with the log.
                if still.is_none() || source.log.get_mut().stands_still() != still || source.failed.is_some() {
                    mark(book, None);
                }
            } else if first {
                let log = &mut **source.log.get_mut();
                let outcome = match check_reading(log, &book.maps, pool) {
                    Err(_) if log.learnt() => begin_log(log, &book.maps, pool, page_size),
                    outcome => outcome.map_err(|errno| (errno, "reading")),
                };
                source.first_read(outcome, book, pool);
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
        book: &mut Book,
        pool: &PagePool,
    ) {
        match outcome {
            Ok(found) => {
                book.saw(found.full);
                found.keep(book, pool);
                self.failed = None;
            }
            Err((errno, _)) => {
                self.failed = Some(errno);
                self.note(&book.name, self.failed);
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
        match log.stop() {
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

fn without_doubles<T>(list: Vec<T>, same: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let mut once: Vec<T> = Vec::with_capacity(list.len());
    for item in list {
        if !once.iter().any(|known| same(known, &item)) {
            once.push(item);
        }
    }
    once
}
