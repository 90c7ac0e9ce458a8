//! Devices and page tables that are plugged in, or out, while a tracker lives.

use super::deliver::Deliverer;
use super::reading::{SpaceLogs, mark, read_all};
use super::space::Tracker;
use super::starting::{begin_log, stop_all};
use super::state::TrackerInner;
use super::tally::Tally;
use crate::device::Device;
use crate::error::{Errno, Error, Result};
use crate::log::log;
use crate::logs::choose::{Plan, Source, choices, missing, plans, possible};
use crate::logs::claim::LogId;
use crate::logs::log::LogKind;
use crate::transport::Identity;
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
            return Err(self.named(Error::new(crate::error::ErrorKind::Argument, libc::EEXIST, text)));
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

    /// A page table with dirty tracking came: a device is attached to it. While tracking by page tables it is switched on, and
    /// everything is dirty once. Errors as of [`add_device`](Self::add_device); EINVAL: the tracker has no iommufd. *tracker;
    /// blocks in the kernel.*
    pub fn add_hwpt(&self, id: u32) -> Result<()> {
        let mut inner = self.enter()?;
        let Some((_, ids)) = &mut inner.members.hwpts else { return Err(self.named(Error::argument(NO_IOMMUFD))) };
        if ids.contains(&id) {
            let text = format!("hwpt {id} is in the tracker already");
            return Err(self.named(Error::new(crate::error::ErrorKind::Argument, libc::EEXIST, text)));
        }
        ids.push(id);
        let outcome = inner.members_joined();
        if let (Err(_), Some((_, ids))) = (&outcome, &mut inner.members.hwpts) {
            ids.pop();
        }
        self.joined(&inner);
        outcome
    }

    /// A page table goes: no device is attached to it any more. As [`remove_device`](Self::remove_device). *tracker; blocks in
    /// the kernel.*
    pub fn remove_hwpt(&self, id: u32) -> Result<()> {
        let mut inner = self.enter()?;
        let Some((iommufd, ids)) = &inner.members.hwpts else { return Err(self.named(Error::argument(NO_IOMMUFD))) };
        if !ids.contains(&id) {
            return Err(self.named(Error::argument(format!("hwpt {id} is not in the tracker"))));
        }
        let log = LogId::Hwpt(iommufd.identity().unwrap_or(Identity::of(iommufd)), id);
        inner.read_of(log);
        if let Some((_, ids)) = &mut inner.members.hwpts {
            ids.retain(|&known| known != id);
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
        read_all(&mut [part], None, false, 1, &mut Deliverer::no_owner(), &mut Tally::default());
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
            tally.fail(Errno::new(libc::ENODEV), mark(&mut self.record, None));
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
        if self.depends_on_members() {
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
        stop_all(gone.iter(), self.max_workers, &self.record.name);
        drop(gone);
        if !self.is_running() {
            self.active = 0;
            return;
        }
        match self.choices.iter().position(|choice| before.is_some_and(|before| same(before, choice.kind))) {
            Some(active) => {
                self.active = active;
                self.begin_new(&ids);
            }
            // Those that are left of it were taken out of all choices, or wait in them.
            None => {
                self.active = self.choices.len().saturating_sub(1);
                self.switch(0..self.choices.len());
            }
        }
    }

    /// Starts those of the active choice's sources that are new.
    fn begin_new(&mut self, ids: &[LogId]) {
        let SpaceLogs { sources, pool, record, page_size } = self.part();
        let (mut works, mut any) = (true, false);
        for source in sources.iter_mut().filter(|source| ids.contains(&source.claim.id())) {
            let outcome = begin_log(&mut **source.log.get_mut(), &record.maps, pool, page_size);
            source.first_read(outcome, record, pool);
            (any, works) = (true, works && source.failed.is_none());
        }
        if !works {
            self.fall_back();
        } else if any {
            // What was written before is in no log.
            mark(record, None);
        }
    }
}

/// The same choice, with other members.
fn same(a: LogKind, b: LogKind) -> bool {
    let own = |kind| matches!(kind, LogKind::DmaLog | LogKind::Draft);
    a == b || own(a) && own(b)
}
