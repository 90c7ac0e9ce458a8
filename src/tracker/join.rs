//! Devices and page tables that come and go while a tracker lives, which is as long as its address space.

use super::deliver::Deliverer;
use super::reading::{SpaceLogs, read_all};
use super::space::{MAX_NAME, Tracker};
use super::starting::{begin_log, stop_all};
use super::state::{FinalHarvest, TrackerInner};
use super::tally::Tally;
use crate::device::Device;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::log::log;
use crate::logs::asked::LogRequest;
use crate::logs::choose::{NO_HWPT, PageTables, Plan, Source, choices, missing, plans, possible};
use crate::logs::claim::LogId;
use crate::logs::foreign::ForeignDevice;
use crate::logs::log::LogKind;
use crate::transport::{Identity, Transport};
use std::collections::VecDeque;
use std::sync::Arc;

impl Tracker {
    /// A device was plugged into the address space. While tracking its log is started, and everything is dirty once, since
    /// earlier writes are not known. Without a log of its own it makes the tracker take the next one. EEXIST: it is there
    /// already; EBUSY: another tracker has its log. *tracker; blocks in the kernel.*
    pub fn add_device(&self, device: Arc<Device>) -> Result<()> {
        let mut inner = self.enter()?;
        inner.drop_freed(&mut Tally::default());
        if inner.members.devices.iter().any(|known| Arc::ptr_eq(known, &device)) {
            let text = format!("device {} is in the tracker already", device.name());
            return Err(self.named(Error::new(ErrorKind::Argument, libc::EEXIST, text)));
        }
        inner.members.devices.push(device);
        let had_devices = std::mem::replace(&mut inner.members.had_devices, true);
        let outcome = inner.members_joined();
        if outcome.is_err() {
            inner.members.devices.pop();
            inner.members.had_devices = had_devices;
        }
        self.joined(&inner);
        outcome
    }

    /// A device was unplugged: it writes no more. What its log holds is read, and the log is stopped; no other log is touched.
    /// Before the device is closed, else what it wrote last is unknown and everything is dirty once. *tracker; blocks in the
    /// kernel.*
    pub fn remove_device(&self, device: &Arc<Device>) -> Result<()> {
        let mut inner = self.enter()?;
        let Some(at) = inner.members.devices.iter().position(|known| Arc::ptr_eq(known, device)) else {
            return Err(self.named(Error::argument(format!("device {} is not in the tracker", device.name()))));
        };
        inner.read_of(LogId::Device(Identity::of(device)));
        inner.members.devices.remove(at);
        inner.members_left();
        self.joined(&inner);
        Ok(())
    }

    /// A device for which there is no [`Device`] does DMA in the address space. `log` reaches its DMA log, which no one else may
    /// start, read or stop as long as the device is in the tracker; it is asked for nothing else. Without one no log of devices
    /// is complete, and what else there is has to speak for this device: page tables, the container, or none. EEXIST: the
    /// tracker has a foreign device of that name; EBUSY: another tracker has its log. *tracker; blocks in the kernel.*
    pub fn add_foreign(&self, name: &str, log: Option<Arc<dyn Transport>>) -> Result<()> {
        if name.len() > MAX_NAME {
            return Err(self.named(Error::argument(format!("name: {} bytes, longer than {MAX_NAME}", name.len()))));
        }
        let mut inner = self.enter()?;
        if inner.members.foreign.iter().any(|known| known.name == name) {
            let text = format!("foreign device {name} is in the tracker already");
            return Err(self.named(Error::new(ErrorKind::Argument, libc::EEXIST, text)));
        }
        inner.members.foreign.push(ForeignDevice { name: name.to_string(), log });
        let had_devices = std::mem::replace(&mut inner.members.had_devices, true);
        let outcome = inner.members_joined();
        if outcome.is_err() {
            inner.members.foreign.pop();
            inner.members.had_devices = had_devices;
        }
        self.joined(&inner);
        outcome
    }

    /// A foreign device writes no more, or becomes the library's and is added as such next. What its log holds is read, and the
    /// log is stopped. *tracker; blocks in the kernel.*
    pub fn remove_foreign(&self, name: &str) -> Result<()> {
        let mut inner = self.enter()?;
        let Some(at) = inner.members.foreign.iter().position(|known| known.name == name) else {
            return Err(self.named(Error::argument(format!("foreign device {name} is not in the tracker"))));
        };
        if let Some(log) = inner.members.foreign.get(at).and_then(|device| device.log.clone()) {
            inner.read_of(LogId::Device(Identity::of(&log)));
        }
        inner.members.foreign.remove(at);
        inner.members_left();
        self.joined(&inner);
        Ok(())
    }

    /// A device was attached to this page table of the iommufd. Each call counts one device. While tracking by page tables a new
    /// one is switched on, and everything is dirty once. One that keeps no log, as the kernel says, or an id of 0, which stands
    /// for anything else that a device is attached to, makes the tracker take the next log for all. EBUSY: another tracker has
    /// it; EINVAL: the tracker has no iommufd. *tracker; blocks in the kernel.*
    pub fn add_hwpt(&self, id: u32) -> Result<()> {
        let mut inner = self.enter()?;
        let Some(tables) = &mut inner.members.hwpts else { return Err(self.named(Error::argument(NO_IOMMUFD))) };
        let known = tables.attached.contains(&id);
        tables.attached.push(id);
        let had_some = std::mem::replace(&mut tables.had_some, true);
        let outcome = if known { Ok(()) } else { inner.members_joined() };
        if let (Err(_), Some(tables)) = (&outcome, &mut inner.members.hwpts) {
            tables.attached.pop();
            tables.had_some = had_some;
        }
        self.joined(&inner);
        outcome
    }

    /// A device is attached to this page table no more. When the last one has left, what its log holds is read and the log is
    /// stopped, as [`remove_device`](Self::remove_device) does. Before the page table is destroyed. *tracker; blocks in the
    /// kernel.*
    pub fn remove_hwpt(&self, id: u32) -> Result<()> {
        let mut inner = self.enter()?;
        let Some(tables) = &mut inner.members.hwpts else { return Err(self.named(Error::argument(NO_IOMMUFD))) };
        let Some(at) = tables.attached.iter().position(|&known| known == id) else {
            return Err(self.named(Error::argument(format!("hwpt {id} is not in the tracker"))));
        };
        let PageTables { iommufd, attached, .. } = tables;
        if attached.iter().filter(|&&known| known == id).count() > 1 {
            attached.remove(at);
            return Ok(());
        }
        if id != NO_HWPT {
            let log = LogId::Hwpt(iommufd.identity().unwrap_or(Identity::of(iommufd)), id);
            inner.read_of(log);
        }
        if let Some(tables) = &mut inner.members.hwpts {
            tables.attached.remove(at);
        }
        inner.members_left();
        self.joined(&inner);
        Ok(())
    }

    pub(super) fn joined(&self, inner: &TrackerInner) {
        self.devices.lock().clone_from(&inner.members.devices);
        self.done(inner);
    }
}

const NO_IOMMUFD: &str = "hwpt: the tracker was made without an iommufd";

impl TrackerInner {
    /// Reads what one source of the active choice holds, and keeps it for whoever asks.
    fn read_of(&mut self, id: LogId) {
        if !self.is_running() {
            return;
        }
        let SpaceLogs { sources, pool, record, page_size } = self.part();
        let Some(source) = sources.iter_mut().find(|source| source.claim.id() == id) else { return };
        let part = SpaceLogs { sources: std::slice::from_mut(source), pool, record, page_size };
        read_all(&mut [part], None, false, (1, None), &mut Deliverer::no_owner(), &mut Tally::default());
    }

    /// Devices whose handles were freed were unplugged. What their logs held is unknown, so everything is dirty,
    /// once. In a migration they stay logs that cannot be read: it has to hear of them. Whether one has gone.
    pub(super) fn drop_freed(&mut self, tally: &mut Tally) -> bool {
        if self.is_held() || !self.members.devices.iter().any(|device| device.is_closed()) {
            return false;
        }
        let (freed, left) =
            std::mem::take(&mut self.members.devices).into_iter().partition(|device| device.is_closed());
        self.members.devices = left;
        let freed: Vec<Arc<Device>> = freed;
        let names: Vec<&str> = freed.iter().map(|device| device.name()).collect();
        let (name, names) = (&self.record.name, names.join(", "));
        log!(
            Warning,
            "{name}: freed without being taken out before: {names}: what was written last is unknown, and everything is dirty once"
        );
        if self.is_running() {
            tally.fail(Errno::new(libc::ENODEV), self.record.mark(None));
        }
        self.members_left();
        true
    }

    /// A log of the VMM, and none at all, do not depend on members.
    fn depends_on_members(&self) -> bool {
        self.members.functions.is_none() && !self.members.everything
    }

    /// Refused where a log that it takes is another tracker's: then nothing has changed.
    fn members_joined(&mut self) -> Result<()> {
        if self.depends_on_members() {
            let plans = plans(&self.members);
            let new = missing(&plans, &self.choices, &self.members.aperture, &self.record.name)?;
            self.choose_anew(plans, new);
        }
        Ok(())
    }

    /// Without who has left another choice may be the best one. If its logs are another tracker's the next one is taken.
    fn members_left(&mut self) {
        self.choose();
    }

    /// Makes the choices from who is there now, as far as their logs are not another tracker's.
    pub(super) fn choose(&mut self) {
        if self.depends_on_members() {
            self.members.ask_container();
            let plans = plans(&self.members);
            let (plans, new) = possible(plans, &self.choices, &self.members.aperture, &self.record.name);
            self.choose_anew(plans, new);
        }
    }

    /// Makes the choices anew, with the logs that run as they are. What is new in the active choice is started.
    fn choose_anew(&mut self, plans: Vec<Plan>, new: VecDeque<Source>) {
        let ids: Vec<LogId> = new.iter().map(|source| source.claim.id()).collect();
        let before = self.current().map(|choice| choice.kind);
        let (all, gone) = choices(plans, std::mem::take(&mut self.choices), new);
        self.choices = all;
        self.show_logs();
        stop_all(gone.iter(), self.max_workers, &self.record.name);
        drop(gone);
        if !self.is_running() {
            self.active = 0;
            return;
        }
        match self.choices.iter().position(|choice| before.is_some_and(|before| same(before, choice.kind))) {
            Some(active) => {
                self.active = active;
                // Where everything is dirty each time nothing can be lost by a better one; but not in the downtime.
                let works = self.begin_new(&ids);
                if works && self.is_perpetual() && self.final_harvest == FinalHarvest::NotOwed {
                    self.try_better();
                }
            }
            // Those that are left of it were taken out of all choices, or wait in them.
            None => {
                self.active = self.choices.len().saturating_sub(1);
                self.switch(0..self.choices.len());
            }
        }
    }

    /// Starts those of the active choice's sources that are new. Whether they work.
    fn begin_new(&mut self, ids: &[LogId]) -> bool {
        let SpaceLogs { sources, pool, record, page_size } = self.part();
        let (mut works, mut any) = (true, false);
        for source in sources.iter_mut().filter(|source| ids.contains(&source.claim.id())) {
            let asked = source.slot.begin(LogRequest::Start);
            let outcome = begin_log(&mut **source.log.get_mut(), &record.maps, pool, page_size);
            drop(asked);
            source.first_read(outcome, record, pool);
            (any, works) = (true, works && source.failed.is_none());
        }
        if !works {
            self.fall_back();
        } else if any {
            // What was written before is in no log.
            record.mark(None);
        }
        works
    }
}

/// The same choice, with other members.
fn same(a: LogKind, b: LogKind) -> bool {
    let own = |kind| matches!(kind, LogKind::DmaLog | LogKind::Draft);
    a == b || own(a) && own(b)
}
