//! The dirty log of one address space, as its users call it: mappings, start and stop, and what a migration holds of it.

use super::journal::Journal;
use super::options::{Mapping, TrackerInfo, TrackerOptions};
use super::record::Record;
use super::scratch::PagePool;
use super::sections::SectionPass;
use super::state::{FinalHarvest, TrackerInner};
use super::tally::Tally;
use super::{UNIT, UNIT_SHIFT};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, GateLevel, Pass};
use crate::log::log;
use crate::logs::asked::LogSlot;
use crate::logs::choose::{Members, PageTables, choices, missing, plans};
use crate::logs::ranges::{IovaRange, Span, SpanSet};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Longest name in bytes.
pub(super) const MAX_NAME: usize = 255;

/// One tracker. All functions but the getters wait for each other; a call from a callback of the same tracker is EDEADLK.
/// Dropping it closes it.
///
/// ```
/// use std::sync::Arc;
/// use simdev::{Config, DmaLog, Ram, Space};
/// use vfiomig::device::{self, Device};
/// use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
///
/// let space = Space::new(&Ram::new());
/// space.map(simdev::Mapping { iova: 0, size: 1 << 20, ram: 0 }).unwrap();
/// let hardware = simdev::Device::new(Config { dma_log: Some(DmaLog::default()), ..Config::default() });
/// hardware.attach(&space);
/// let device = Arc::new(Device::new(hardware.transport(), device::DeviceOptions::default())?);
///
/// let tracker = Tracker::new(TrackerOptions { name: "ram".into(), devices: vec![device], ..TrackerOptions::default() })?;
/// tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 7 }])?;
/// tracker.start()?;
/// hardware.dma_write(3).unwrap();
/// let mut dirty = Vec::new();
/// let run = &mut |cookie: u64, run: IovaRange| {
///     dirty.push((cookie, run.iova, run.size));
///     true
/// };
/// tracker.harvest(&mut Request { run: Some(run), ..Request::default() })?;
/// assert_eq!(dirty, [(7, 3 << 12, 1 << 12)]);
/// tracker.stop()?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub struct Tracker {
    name: String,
    pub(super) devices: Mutex<Vec<Arc<Device>>>,
    everything: bool,
    closed: AtomicBool,
    /// A migration held it when it was closed, and would have heard of more.
    lost: AtomicBool,
    gate: Gate<TrackerInner>,
    info: Mutex<TrackerInfo>,
    journal: Mutex<Option<Weak<dyn Journal>>>,
    restarts: Arc<AtomicU64>,
    slots: Arc<Mutex<Vec<Arc<LogSlot>>>>,
}

impl Tracker {
    /// Picks the log, and says which and why in [`info`](Self::info) and the log. Starts nothing. EBUSY: another tracker of this
    /// process has one of the logs.
    pub fn new(options: TrackerOptions) -> Result<Tracker> {
        let TrackerOptions { name, devices, container, hwpts, ioas_id, functions, no_device_log, everything, .. } =
            options;
        if name.len() > MAX_NAME {
            return Err(Error::argument(format!("name: {} bytes, longer than {MAX_NAME}", name.len())));
        }
        let page_size = page_size_of(options.page_size)?;
        let aperture = aperture_of(&options.apertures)?;
        let ioas = hwpts.as_ref().map(|(iommufd, _)| Arc::clone(iommufd)).zip(ioas_id);
        let mut members = Members {
            had_devices: !devices.is_empty(),
            devices: without_doubles(devices, Arc::ptr_eq),
            foreign: Vec::new(),
            container,
            ability: Ok(None),
            hwpts: hwpts.map(|(iommufd, attached)| PageTables::new(iommufd, attached)),
            functions: functions.map(Arc::from),
            no_device_log,
            everything,
            aperture,
        };
        members.ask_container();
        let plans = plans(&members);
        let sources = missing(&plans, &[], &members.aperture, &name)?;
        let devices = Mutex::new(members.devices.clone());
        let (restarts, slots) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<Arc<LogSlot>>>>::default());
        let inner = TrackerInner {
            choices: choices(plans, Vec::new(), sources).0,
            active: 0,
            record: Record { name: name.clone(), restarts: Arc::clone(&restarts), ..Record::default() },
            pool: PagePool::default(),
            page_size,
            max_workers: options.max_workers,
            members,
            ioas,
            users: 0,
            holds: 0,
            unasked: false,
            checked: false,
            final_harvest: FinalHarvest::NotOwed,
            sections: SectionPass::default(),
            slots: Arc::clone(&slots),
        };
        inner.show_logs();
        let info = inner.info();
        log!(Info, "{name}: {}: {}", info.kind.name(), info.reason);
        let (closed, gate) = (AtomicBool::new(false), Gate::new(GateLevel::Tracker, inner));
        let (info, journal) = (Mutex::new(info), Mutex::new(None));
        Ok(Tracker {
            name,
            devices,
            everything,
            closed,
            lost: AtomicBool::new(false),
            gate,
            info,
            journal,
            restarts,
            slots,
        })
    }

    /// From now on this one hears of harvests, and no other.
    pub(crate) fn tell(&self, journal: Weak<dyn Journal>) {
        *self.journal.lock() = Some(journal);
    }

    /// Who hears of harvests.
    pub(super) fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.journal.lock().as_ref().and_then(Weak::upgrade)
    }

    /// How often a log was started anew while it should run.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Its logs, for who watches them.
    pub(super) fn slots(&self) -> Vec<Arc<LogSlot>> {
        self.slots.lock().clone()
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
    #[doc(hidden)]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The handle was freed, as when its address space goes, and a migration that held it misses nothing: all was unmapped
    /// before, or reported.
    pub(crate) fn went_without_loss(&self) -> bool {
        self.closed.load(Ordering::Acquire) && !self.lost.load(Ordering::Relaxed)
    }

    /// Whether a migration that holds it would miss something if it went now.
    pub(crate) fn would_lose(&self) -> Result<bool> {
        Ok(self.enter()?.would_lose())
    }

    /// Adds DMA mappings, after the mappings were made. While tracking each counts as dirty once. *tracker.*
    ///
    /// A log that must be started anew for them makes everything dirty once, unless its device stands still.
    pub fn map(&self, mappings: &[Mapping]) -> Result<()> {
        let mut inner = self.enter()?;
        let mut spans = Vec::with_capacity(mappings.len());
        let mut new = SpanSet::default();
        for (index, mapping) in mappings.iter().enumerate() {
            let IovaRange { iova, size } = mapping.range;
            let span = Span::of(mapping.range).filter(|span| span.is_aligned(UNIT_SHIFT)).ok_or_else(|| {
                self.named(Error::argument(format!("mappings[{index}]: {iova:#x} + {size:#x} is not in units of 4096")))
            })?;
            if inner.record.maps.mapped.overlaps(span) || new.overlaps(span) {
                let text = format!("mappings[{index}]: {iova:#x} + {size:#x} overlaps a mapping");
                return Err(self.named(Error::new(ErrorKind::Argument, libc::EEXIST, text)));
            }
            // A guest with an IOMMU of its own maps one page at a time, and often.
            if mappings.len() > 1 {
                new.insert(span);
            }
            spans.push((span, mapping.cookie));
        }
        for &(span, cookie) in &spans {
            inner.record.map(span, cookie);
        }
        if inner.users > 0 {
            inner.extend(&spans);
        }
        self.mapped(&inner);
        Ok(())
    }

    /// Starts to track, before any RAM is sent (P14). Counted: only the first start begins a log, and none is
    /// restarted by a later one; but logs that are better than the one that is read get another chance, and if one
    /// works it is taken, and everything is dirty once. A log that does not work is found out here, and the next one
    /// is taken. *tracker; blocks in the kernel.*
    pub fn start(&self) -> Result<()> {
        self.start_in(&mut *self.enter()?)
    }

    fn start_in(&self, inner: &mut TrackerInner) -> Result<()> {
        if inner.drop_freed(&mut Tally::default()) {
            self.joined(inner);
        }
        // Who starts it may send RAM from now on.
        inner.unasked = false;
        inner.users = inner.users.checked_add(1).ok_or_else(|| self.named(Error::order("started too often")))?;
        if inner.users == 1 {
            inner.choose();
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
        inner.unasked = inner.users == 1;
        Ok(())
    }

    /// As [`hold`](Self::hold), for a migration that sends RAM already. What was written before a log began is unknown, and of
    /// a log that the VMM began itself, what was harvested for something else.
    pub(crate) fn hold_late(&self) -> Result<()> {
        let mut inner = self.enter()?;
        self.start_in(&mut inner)?;
        inner.holds = inner.holds.saturating_add(1);
        inner.record.mark(None);
        Ok(())
    }

    /// The migration that has just started it says that no RAM was sent so far: logs that began meanwhile know everything. No
    /// other caller can state that, and it cannot after a harvest, whose pages may be sent already.
    pub(crate) fn nothing_was_sent(&self) -> Result<()> {
        let mut inner = self.enter()?;
        if std::mem::take(&mut inner.unasked) {
            let sources = &mut inner.part().sources;
            sources.iter_mut().for_each(|source| source.log.get_mut().nothing_was_sent());
        }
        Ok(())
    }

    /// The migration has ended, or was aborted: no final harvest is due any more.
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
    #[doc(hidden)]
    pub fn begin_final(&self) -> Result<()> {
        let mut inner = self.enter()?;
        inner.final_harvest = FinalHarvest::Owed { read: false };
        // What was read before is no part of it.
        inner.sections = SectionPass::default();
        Ok(())
    }

    /// No final harvest is due any more: the migration was aborted, or has ended.
    #[doc(hidden)]
    pub fn end_final(&self) -> Result<()> {
        self.enter()?.final_harvest = FinalHarvest::NotOwed;
        Ok(())
    }

    /// What the final harvest lacks, in words.
    #[doc(hidden)]
    pub fn final_missing(&self) -> Result<Option<String>> {
        Ok(self.enter()?.final_missing())
    }

    /// Ends the use of the tracker: stops what it started. Later calls answer ENODEV. *tracker; blocks in the kernel.*
    pub fn close(&self) -> Result<()> {
        let mut inner = self.gate.enter_to_close().map_err(|denied| self.named(denied.of("tracker")))?;
        self.lost.store(inner.would_lose(), Ordering::Relaxed);
        self.closed.store(true, Ordering::Release);
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
    pub(super) fn getters_know(&self, inner: &TrackerInner) -> bool {
        let known = self.info.lock();
        known.perpetual == inner.is_perpetual() && known.complaints == inner.complaints()
    }

    /// The end of a call that may have changed something.
    pub(super) fn done(&self, inner: &TrackerInner) {
        *self.info.lock() = inner.info();
    }

    /// The end of a call that may have changed mappings, and the logs that run: while none does, getters tell of nothing else.
    pub(super) fn mapped(&self, inner: &TrackerInner) {
        if inner.is_running() {
            return self.done(inner);
        }
        self.info.lock().mapped_ranges = inner.record.maps.mapped.len() as u64;
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

fn page_size_of(wanted: Option<u64>) -> Result<u64> {
    let page_size = wanted.unwrap_or(UNIT);
    if page_size.is_power_of_two() && (UNIT..=1 << 30).contains(&page_size) {
        return Ok(page_size);
    }
    Err(Error::argument(format!("page_size: {page_size:#x} is no power of two from 4 KiB to 1 GiB")))
}

fn aperture_of(ranges: &[IovaRange]) -> Result<Vec<Span>> {
    let span = |(index, &range): (usize, &IovaRange)| {
        Span::of(range).filter(|span| span.is_aligned(UNIT_SHIFT)).ok_or_else(|| {
            let IovaRange { iova, size } = range;
            Error::argument(format!("apertures[{index}]: {iova:#x} + {size:#x} is not in units of 4096"))
        })
    };
    ranges.iter().enumerate().map(span).collect()
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
