//! Which log a tracker reads, and why: the devices' own if every one has one, else the page tables', else the container's, else
//! none (L10). A choice that turns out not to work when it is started is replaced by the next. It is made from what is there
//! when a log begins, for a tracker lives as long as its address space, and its members come and go.

use super::asked::LogSlot;
use super::by_mapping::ByMapping;
use super::claim::{Claim, LogId};
use super::draft::DraftLog;
use super::everything::Everything;
use super::foreign::{ForeignDevice, ForeignLog};
use super::hwpt::Hwpt;
use super::log::{Log, LogKind, UnmapOrder};
use super::ranged::{Keeper, Ranged};
use super::ranges::Span;
use super::type1::Type1;
use crate::device::Device;
use crate::device::dirty::OwnLog;
use crate::error::{Errno, Result};
use crate::log::{Lasting, log};
use crate::transport::Identity;
use crate::transport::iommufd::Iommufd;
use crate::transport::tracker_ops::LogFunctions;
use crate::transport::type1::{Ability, Container, ability};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// One log with what is known of its health.
pub(crate) struct Source {
    pub log: Mutex<Box<dyn Log>>,
    pub any_thread: bool,
    pub slot: Arc<LogSlot>,
    /// Why it keeps no log although it should: all that is mapped is dirty until a restart helps.
    pub failed: Option<Errno>,
    /// Reads of the last harvest that had any made a thread sleep; before the first it is taken to be so.
    pub waits: bool,
    /// Why it could not be read the last time, as the log of messages has it.
    pub trouble: Option<Errno>,
    /// It could not be read the time before, either.
    pub lasting: bool,
    /// It cannot be stopped.
    pub unstoppable: Lasting,
    pub claim: Claim,
}

impl Source {
    #[cfg(test)]
    pub fn new(log: impl Log + 'static) -> Self {
        Source::of(Box::new(log), LogId::Nothing, "").unwrap()
    }

    /// Takes the log for the tracker `name`.
    fn of(log: Box<dyn Log>, id: LogId, name: &str) -> Result<Self> {
        let claim = Claim::new(id, &log.describe(), name)?;
        let any_thread = log.any_thread();
        Ok(Source {
            any_thread,
            slot: LogSlot::new(format!("{name}: {}", log.describe()), any_thread),
            log: Mutex::new(log),
            failed: None,
            waits: true,
            trouble: None,
            lasting: false,
            unstoppable: Lasting::default(),
            claim,
        })
    }

    /// How reading it went. A condition that lasts is logged when it begins and when it ends.
    pub fn note(&mut self, name: &str, trouble: Option<Errno>) {
        let what = || self.log.lock().describe();
        match (self.trouble, trouble) {
            (None, Some(errno)) => {
                log!(Error, "{name}: {}: {errno}; everything is sent again until it comes back", what());
            }
            (Some(_), None) => log!(Info, "{name}: {}: it can be read again", what()),
            _ => {}
        }
        self.lasting = self.trouble.is_some() && trouble.is_some();
        self.trouble = trouble;
    }

    /// It is started, or over: nothing is known of it.
    pub fn forget(&mut self) {
        (self.failed, self.trouble, self.lasting) = (None, None, false);
    }

    pub fn complains(&self) -> bool {
        self.failed.or(self.trouble).is_some()
    }

    /// What is wrong with it, in words.
    pub fn complaint(&self) -> Option<String> {
        let errno = self.failed.or(self.trouble)?;
        Some(format!("{}: {errno}", self.log.lock().describe()))
    }
}

/// What says which pages are dirty. Sources within one are OR-ed, choices are alternatives.
pub(crate) struct Choice {
    pub kind: LogKind,
    pub sources: Vec<Source>,
    /// Why this one and none before it.
    pub why: String,
    /// Why it did not work when it was tried.
    pub against: Option<String>,
    /// The same, as the log of messages has it, also from an earlier use of the tracker.
    pub logged: Option<String>,
    pub unmap_order: UnmapOrder,
}

/// Stands for whatever a device is attached to that keeps no log: no object of an iommufd has this id.
pub(crate) const NO_HWPT: u32 = 0;

/// Page tables of an iommufd.
pub(crate) struct PageTables {
    pub iommufd: Arc<dyn Iommufd>,
    /// One for each device that is attached, as the VMM said: an id may be there more than once, and be `NO_HWPT`.
    pub attached: Vec<u32>,
    /// There was one: an empty list means that no device is attached, not that none is known.
    pub had_some: bool,
}

impl PageTables {
    pub fn new(iommufd: Arc<dyn Iommufd>, attached: Vec<u32>) -> Self {
        PageTables { iommufd, had_some: !attached.is_empty(), attached }
    }

    /// Each of them once.
    fn ids(&self) -> Vec<u32> {
        let mut ids = self.attached.clone();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// What logs are made from.
pub(crate) struct Members {
    /// Every device that does DMA in the address space.
    pub devices: Vec<Arc<Device>>,
    /// There were some: an empty list means that no device writes, not that none is known.
    pub had_devices: bool,
    /// Devices that do DMA in the address space and are not the library's.
    pub foreign: Vec<ForeignDevice>,
    pub container: Option<Arc<dyn Container>>,
    /// What the container said of its log when the log was chosen.
    pub ability: std::result::Result<Option<Ability>, Errno>,
    pub hwpts: Option<PageTables>,
    pub functions: Option<Arc<dyn LogFunctions>>,
    pub no_device_log: bool,
    pub everything: bool,
    /// Where mappings will be.
    pub aperture: Vec<Span>,
}

impl Members {
    /// No page table is known, and a device is there, or nothing was said of any: it writes through one that the tracker does not
    /// know yet.
    pub fn lack_page_tables(&self) -> bool {
        let Some(tables) = &self.hwpts else { return false };
        let has_devices = !self.devices.is_empty() || !self.foreign.is_empty();
        tables.attached.is_empty() && (has_devices || !(self.had_devices || tables.had_some))
    }

    /// The container is asked for its log as long as it has none: it may get its IOMMU after the tracker was made.
    pub fn ask_container(&mut self) {
        if !matches!(self.ability, Ok(Some(_))) {
            self.ability = self.container.as_ref().map_or(Ok(None), |container| ability(&**container));
        }
    }
}

/// How one source is made.
enum Spec {
    Dma(Arc<Device>),
    Foreign(ForeignLog),
    Pfns(Arc<Device>),
    Hwpt(Arc<dyn Iommufd>, u32),
    Type1(Arc<dyn Container>, Ability),
    Ops(Arc<dyn LogFunctions>),
    Everything,
}

/// A choice before its sources are made.
pub(crate) struct Plan {
    kind: LogKind,
    specs: Vec<Spec>,
    why: String,
}

impl Spec {
    fn id(&self) -> LogId {
        match self {
            Spec::Dma(device) | Spec::Pfns(device) => LogId::Device(Identity::of(device)),
            Spec::Foreign(log) => LogId::Device(Identity::of(&log.transport)),
            Spec::Hwpt(iommufd, id) => LogId::Hwpt(iommufd.identity().unwrap_or(Identity::of(iommufd)), *id),
            Spec::Type1(container, _) => LogId::Container(container.identity().unwrap_or(Identity::of(container))),
            Spec::Ops(functions) => functions.identity().map_or(LogId::Nothing, LogId::Functions),
            Spec::Everything => LogId::Nothing,
        }
    }

    /// What a mapping's log knows is gone with the mapping (U-13).
    fn goes_with_mappings(&self) -> bool {
        match self {
            Spec::Dma(device) => device.logs_by_mapping(),
            Spec::Foreign(log) => log.transport.logs_by_mapping(),
            _ => false,
        }
    }

    /// A log that is started for ranges.
    fn ranged(&self, keeper: impl Keeper + 'static, aperture: &[Span]) -> Box<dyn Log> {
        let log = Ranged::new(keeper, aperture);
        if self.goes_with_mappings() { Box::new(ByMapping::new(log)) } else { Box::new(log) }
    }

    fn make(&self, aperture: &[Span]) -> Box<dyn Log> {
        match self {
            Spec::Dma(device) => self.ranged(Arc::clone(device), aperture),
            Spec::Foreign(log) => self.ranged(log.clone(), aperture),
            Spec::Pfns(device) => Box::new(DraftLog::new(Arc::clone(device))),
            Spec::Hwpt(iommufd, id) => Box::new(Hwpt::new(Arc::clone(iommufd), *id)),
            Spec::Type1(container, ability) => Box::new(Type1::new(Arc::clone(container), *ability)),
            Spec::Ops(functions) => Box::new(Ranged::new(Arc::clone(functions), aperture)),
            Spec::Everything => Box::new(Everything),
        }
    }
}

fn own_logs(members: &Members) -> std::result::Result<Plan, String> {
    if members.no_device_log {
        return Err("logs of devices are switched off".to_string());
    }
    if members.devices.is_empty() && !members.had_devices {
        return Err("no device was named".to_string());
    }
    let mut specs = Vec::new();
    for device in &members.foreign {
        specs.push(Spec::Foreign(device.own_log()?));
    }
    let mut kind = if members.devices.is_empty() || !specs.is_empty() { LogKind::DmaLog } else { LogKind::Draft };
    for device in &members.devices {
        match device.own_log() {
            Ok(OwnLog::Dma) => {
                specs.push(Spec::Dma(Arc::clone(device)));
                kind = LogKind::DmaLog;
            }
            Ok(OwnLog::Pfns) => specs.push(Spec::Pfns(Arc::clone(device))),
            Err(why) => return Err(format!("{} {why}", device.name())),
        }
    }
    Ok(Plan { kind, specs, why: String::new() })
}

/// Page tables speak for all devices if each is attached to one that can.
fn page_tables(members: &Members, tables: &PageTables) -> std::result::Result<Vec<Spec>, String> {
    if tables.attached.contains(&NO_HWPT) {
        return Err("a device is attached to no page table that keeps a log".to_string());
    }
    let specs = tables.ids().into_iter().map(|id| Spec::Hwpt(Arc::clone(&tables.iommufd), id));
    // Those that are known tell what they can.
    Ok(specs.chain(members.lack_page_tables().then_some(Spec::Everything)).collect())
}

/// What can be tried, best first; the last one cannot fail.
pub(crate) fn plans(members: &Members) -> Vec<Plan> {
    let mut all: Vec<Plan> = Vec::new();
    let mut against: Vec<String> = Vec::new();
    let mut plan = |kind, specs| all.push(Plan { kind, specs, why: String::new() });
    if members.everything {
        against.push("asked for by the caller".to_string());
    } else if let Some(functions) = &members.functions {
        plan(LogKind::Ops, vec![Spec::Ops(Arc::clone(functions))]);
    } else {
        match own_logs(members) {
            Ok(own) => plan(own.kind, own.specs),
            Err(text) => against.push(text),
        }
        match members.hwpts.as_ref().map(|tables| page_tables(members, tables)) {
            None => {}
            Some(Ok(specs)) => plan(LogKind::Hwpt, specs),
            Some(Err(text)) => against.push(text),
        }
        match (&members.container, members.ability) {
            (None, _) => {}
            (Some(container), Ok(Some(ability))) => {
                plan(LogKind::Type1, vec![Spec::Type1(Arc::clone(container), ability)]);
            }
            (Some(_), Ok(None)) => against.push("the container keeps no log".to_string()),
            (Some(_), Err(errno)) => against.push(format!("asking the container failed: {errno}")),
        }
        if members.hwpts.is_none() && members.container.is_none() && all.is_empty() {
            against.push("neither a container nor page tables were named".to_string());
        }
    }
    all.push(Plan { kind: LogKind::Everything, specs: vec![Spec::Everything], why: String::new() });
    let against = against.join("; ");
    for plan in &mut all {
        plan.why = match plan.kind {
            LogKind::Ops => "kept by the VMM".to_string(),
            LogKind::DmaLog | LogKind::Draft => "every device in the address space keeps a log of its own".to_string(),
            _ => against.clone(),
        };
    }
    all
}

/// The sources of `plans` that `old` has not, taken for the tracker `name`.
pub(crate) fn missing(plans: &[Plan], old: &[Choice], aperture: &[Span], name: &str) -> Result<VecDeque<Source>> {
    let has = |id| old.iter().flat_map(|choice| &choice.sources).any(|source| source.claim.id() == id);
    let specs = plans.iter().flat_map(|plan| &plan.specs);
    let missing = specs.filter(|spec| spec.id() == LogId::Nothing || !has(spec.id()));
    missing.map(|spec| Source::of(spec.make(aperture), spec.id(), name)).collect()
}

/// As [`missing`], for members of which one has gone, which no log of another tracker can undo: plans that it stands
/// against are left out, and those that are left say so.
pub(crate) fn possible(
    plans: Vec<Plan>,
    old: &[Choice],
    aperture: &[Span],
    name: &str,
) -> (Vec<Plan>, VecDeque<Source>) {
    let (mut left, mut new, mut against) = (Vec::new(), VecDeque::new(), Vec::new());
    for mut plan in plans {
        match missing(std::slice::from_ref(&plan), old, aperture, name) {
            Ok(sources) => {
                let why = std::iter::once(plan.why).filter(|why| !why.is_empty()).chain(against.iter().cloned());
                plan.why = why.collect::<Vec<String>>().join("; ");
                new.extend(sources);
                left.push(plan);
            }
            Err(error) => against.push(error.to_string()),
        }
    }
    (left, new)
}

/// The choices, with the sources that there are and those that were missing; and the sources that are in none of them. What was
/// found out about a kind of log, and was logged, stays known: nothing new is found out before it is started again.
pub(crate) fn choices(
    plans: Vec<Plan>,
    mut known: Vec<Choice>,
    mut missing: VecDeque<Source>,
) -> (Vec<Choice>, Vec<Source>) {
    let mut old: Vec<Source> = known.iter_mut().flat_map(|choice| std::mem::take(&mut choice.sources)).collect();
    let mut source = |spec: &Spec| {
        let same = |source: &Source| spec.id() != LogId::Nothing && source.claim.id() == spec.id();
        match old.iter().position(same) {
            Some(at) => Some(old.swap_remove(at)),
            None => missing.pop_front(),
        }
    };
    let choice = |plan: Plan| {
        let unmap_order = match plan.kind {
            LogKind::Type1 => UnmapOrder::Together,
            LogKind::Hwpt => UnmapOrder::ReadThenUnmap,
            LogKind::DmaLog if plan.specs.iter().any(Spec::goes_with_mappings) => UnmapOrder::ReadThenUnmap,
            LogKind::DmaLog | LogKind::Draft | LogKind::Ops | LogKind::Everything => UnmapOrder::UnmapThenRead,
        };
        let sources = plan.specs.iter().filter_map(&mut source).collect();
        let before = known.iter_mut().find(|choice| choice.kind == plan.kind);
        let (against, logged) = before.map_or((None, None), |choice| (choice.against.take(), choice.logged.take()));
        Choice { kind: plan.kind, sources, why: plan.why, against, logged, unmap_order }
    };
    let choices = plans.into_iter().map(choice).collect();
    (choices, old)
}
