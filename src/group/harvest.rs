//! Harvests over all trackers, and a moment without DMA for logs that cannot be read and cleared as one (N21).

use super::members::{Group, GroupInner};
use super::outcome::{DeviceOutcome, verdict};
use super::step::{Step, never};
use super::vigil::event_of;
use crate::device::{Device, OnFailure};
use crate::dialect::{DialectKind, State};
use crate::error::{Error, Result};
use crate::tracker::{Harvest, LogEar, LogsWait, Request, Tracker, harvest_heard};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

impl Group {
    /// Reads and clears all trackers, as [`crate::tracker::harvest`] does. *tracker: waits for other calls on the trackers, goes
    /// beside data calls, phases and drains; blocks in the kernel and in callbacks.* What the progress callback answers has no
    /// effect on it.
    pub fn harvest(&self, request: &mut Request<'_>) -> Result<Harvest> {
        let trackers = self.trackers.read().clone();
        // One whose address space has gone keeps its place in a migration, which knows what was lost with it.
        let trackers: Vec<&Tracker> =
            trackers.iter().filter(|tracker| !tracker.is_closed()).map(|tracker| &**tracker).collect();
        let listener = self.listener.read().clone();
        let Some(listener) = listener else { return harvest_heard(&trackers, request, None) };
        let hear = |wait: &LogsWait<'_>| {
            // A call on the group from the callback would be one from within this one.
            let _promise = self.promise();
            listener.hear(&event_of(wait));
        };
        harvest_heard(&trackers, request, Some(LogEar { interval: listener.interval, hear: &hear }))
    }

    /// As [`harvest`](Self::harvest), in a moment without DMA: what is read and what is cleared are the same pages,
    /// also for logs that cannot do both as one. *whole.* Refused as [`without_dma`](Self::without_dma) is. It also
    /// fails if a device does not come back from that moment: what was given until then, as the request's `given`
    /// says, is to be taken all the same.
    pub fn harvest_without_dma(&self, request: &mut Request<'_>) -> Result<Harvest> {
        request.given = None;
        self.without_dma(|| self.harvest(request))?
    }

    /// Runs `read` while no device starts DMA: v1 NDMA devices are brought to their P2P states and back, stopped devices stay.
    /// *whole; blocks in the kernel, and in `read`.*
    ///
    /// Refused unless every device is stopped, or a v1 device with NDMA: v2's P2P does not stop DMA to RAM. If all devices are
    /// stopped, vCPUs must be, too.
    pub fn without_dma<T>(&self, read: impl FnOnce() -> T) -> Result<T> {
        const WHAT: &str = "a moment without DMA";
        let mut inner = self.enter()?;
        let origin: Vec<State> = inner.members.iter().map(|member| member.device.state()).collect();
        let mut there = Vec::new();
        for member in &inner.members {
            there.push(quiet_state(&member.device).map_err(|error| error.context(WHAT))?);
        }
        let mut outcomes = inner.pass(&there);
        // A callback's panic leaves no device behind.
        let answer = verdict(WHAT, &outcomes).map(|()| catch_unwind(AssertUnwindSafe(read)));
        // Also after a failure: those that did follow continue as before.
        let back: Vec<Option<State>> = there.iter().zip(&origin).map(|(to, from)| to.map(|_| *from)).collect();
        let returned = inner.pass(&back);
        outcomes = outcomes.into_iter().zip(returned).map(|(there, back)| there.then(back)).collect();
        inner.keep(WHAT, &mut outcomes);
        let answer = answer.map(|answer| answer.unwrap_or_else(|panic| resume_unwind(panic)));
        verdict(WHAT, &outcomes)?;
        answer
    }
}

impl GroupInner {
    fn pass(&mut self, targets: &[Option<State>]) -> Vec<DeviceOutcome> {
        self.step(&Step { targets, on_failure: OnFailure::Keep, confirm: true, canceled: &never })
    }
}

/// Where the device must be brought to start no DMA; `None`: it starts none already.
fn quiet_state(device: &Device) -> Result<Option<State>> {
    let (kind, caps) = device.ability()?;
    let at = device.state();
    match at {
        State::Stop | State::StopCopy => return Ok(None),
        _ if kind != DialectKind::V1 || !caps.p2p => {}
        State::Running => return Ok(Some(State::RunningP2p)),
        State::PreCopy => return Ok(Some(State::PreCopyP2p)),
        State::RunningP2p | State::PreCopyP2p => return Ok(None),
        _ => {}
    }
    Err(Error::unsupported(format!("{}: {} in {at} may write to RAM at any time", device.name(), kind.name())))
}
