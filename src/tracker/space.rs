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
use crate::logs::choose::{Members, choices, missing, plans};
use crate::logs::log::Maps;
use crate::logs::ranges::{IovaRange, Span};
use crate::transport::type1::ability;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Longest name in bytes.
const MAX_NAME: usize = 255;

/// One tracker. All functions but the getters wait for each other; a call from a callback of the same tracker is EDEADLK. Dropping
/// it closes it.
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
    gate: Gate<TrackerInner>,
    info: Mutex<TrackerInfo>,
    journal: Mutex<Option<Weak<dyn Journal>>>,
    restarts: Arc<AtomicU64>,
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
        let page_size = options.page_size.unwrap_or(UNIT);
        if !page_size.is_power_of_two() || !(UNIT..=1 << 30).contains(&page_size) {
            return Err(Error::argument(format!("page_size: {page_size:#x} is no power of two from 4 KiB to 1 GiB")));
        }
        if hwpts.as_ref().is_some_and(|(_, ids)| ids.is_empty()) {
            return Err(Error::argument("hwpts: an iommufd without page tables"));
        }
        let mut aperture = Vec::with_capacity(options.apertures.len());
        for (index, &range) in options.apertures.iter().enumerate() {
            let span = Span::of(range).filter(|span| span.is_aligned(UNIT_SHIFT)).ok_or_else(|| {
                let IovaRange { iova, size } = range;
                Error::argument(format!("apertures[{index}]: {iova:#x} + {size:#x} is not in units of 4096"))
            })?;
            aperture.push(span);
        }
        let ability = container.as_ref().map_or(Ok(None), |container| ability(&**container));
        let ioas = hwpts.as_ref().map(|(iommufd, _)| Arc::clone(iommufd)).zip(ioas_id);
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
        let restarts = Arc::<AtomicU64>::default();
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
        };
        let info = inner.info();
        log!(Info, "{name}: {}: {}", info.kind.name(), info.reason);
        let (closed, gate) = (AtomicBool::new(false), Gate::new(GateLevel::Tracker, inner));
        let (info, journal) = (Mutex::new(info), Mutex::new(None));
        Ok(Tracker { name, devices, everything, closed, gate, info, journal, restarts })
    }

    /// From now on this one hears of harvests, and nobody else.
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

    /// Adds DMA mappings, after the mappings were made. While tracking each counts as dirty once. *tracker.*
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
            if inner.record.maps.mapped.overlaps(span) || new.mapped.overlaps(span) {
                let text = format!("mappings[{index}]: {iova:#x} + {size:#x} overlaps a mapping");
                return Err(self.named(Error::new(ErrorKind::Argument, libc::EEXIST, text)));
            }
            new.insert(span, mapping.cookie);
            spans.push((span, mapping.cookie));
        }
        for &(span, cookie) in &spans {
            inner.record.map(span, cookie);
        }
        if inner.users > 0 {
            inner.extend(&spans);
        }
        self.done(&inner);
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

    /// The migration that has just started it says that no RAM was sent so far: logs that began meanwhile know everything. No other
    /// caller can state that, and it cannot after a harvest, whose pages may be sent already.
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
    pub(super) fn getters_know(&self, inner: &TrackerInner) -> bool {
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

fn without_doubles<T>(list: Vec<T>, same: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let mut once: Vec<T> = Vec::with_capacity(list.len());
    for item in list {
        if !once.iter().any(|known| same(known, &item)) {
            once.push(item);
        }
    }
    once
}
