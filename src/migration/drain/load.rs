//! Whole streams into the devices of a load, and each device to LOADED behind its own.
//!
//! Rules: F7 (a stream's length closes it), W7 and N4 (a device that has all of its stream leaves RESUMING, whatever the others
//! have).

use super::inflow::{Inflow, LoadLane};
use super::parcel::{ParcelPool, Progress};
use super::{Failure, Fed, Inlet, Migration, Round, Run};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::group::GroupInner;
use crate::migration::advance::parts;
use crate::migration::load_done::loaded_state;
use crate::migration::report::EntryKind;
use crate::migration::sequence::Phase;
use crate::transport::caller_patience;
use crate::window::StreamFlags;
use crate::workers::turns::{Crew, run_turns};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

impl Migration {
    /// Every stream into its device, and each device to LOADED as soon as its own stream is whole, beside the streams of
    /// others; the phase is entered with the last one. Needs RESUMING of a load; called again, it continues with what is not
    /// finished, and in LOADED there is nothing left. *whole; blocks in the kernel, on descriptors and in `get`.* `inlets`: one
    /// per device, or empty: `Call` for all.
    ///
    /// Devices and descriptors are served in whatever order bytes come. The first failure is returned, and nothing more is
    /// asked of `get` after it. Descriptors are waited for as `save_complete` says. The round has what each device took in this
    /// call.
    pub fn load_complete(
        &self,
        inlets: &[Inlet<'_>],
        get: &mut dyn FnMut(usize, &mut [u8]) -> Result<Fed>,
    ) -> Result<Round> {
        let (mut inner, mut run) = self.enter()?;
        self.course.gather(&mut inner, &mut run)?;
        if run.entered != Phase::LoadLoaded {
            run.check_entered("load_complete", Phase::LoadResuming)?;
        }
        if let Some(device) = self.devices.iter().find(|device| device.lends_room()) {
            return Err(Error::busy(format!("load_complete: {}: a buffer is lent: commit comes first", device.name())));
        }
        // Bytes of the caller's own data calls come before those of the drain, which need no queue.
        let all = vec![true; inner.members.len()];
        self.course.wait_for_bytes(&mut inner, &mut run, &all)?;
        self.devices.iter().for_each(|device| device.load_at_once());
        let drained = run.shown.recorder.drain();
        let result = self.load_round(&inner, &run, inlets, get);
        run.shown.recorder.drained(EntryKind::LoadComplete, drained, result.is_err());
        // That a device has not accepted its stream has failed the load, whatever else went wrong.
        let result = match (self.course.take_over(&mut inner, &mut run, Instant::now()), result) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(round)) => self.course.advance(&mut inner, &mut run, Phase::LoadLoaded, false).map(|()| round),
        };
        self.conclude(&mut inner, &mut run, "load_complete", result.map_err(Failure::from))
    }

    fn load_round(
        &self,
        inner: &GroupInner,
        run: &Run,
        inlets: &[Inlet<'_>],
        get: &mut dyn FnMut(usize, &mut [u8]) -> Result<Fed>,
    ) -> Result<Round> {
        self.check_load_round(run, inlets)?;
        let parts = parts(inner)?;
        let is_open = |index: &usize| run.entered == Phase::LoadResuming && !self.course.has_ended(run, *index);
        let open: Vec<usize> = (0..self.devices.len()).filter(is_open).collect();
        // A lone device has no others beside which it could go: the step of the phase takes it there.
        let arrive = |index: usize, device: &Device| match parts.get(index).copied().and_then(loaded_state) {
            Some(to) if open.len() > 1 => {
                let set_out = self.course.arrivals.set_out(index);
                let outcome = self.course.go(device, to);
                let went = outcome.error.clone().map_or(Ok(true), Err);
                set_out.came(outcome);
                went
            }
            _ => Ok(false),
        };
        let loaded = || self.devices.iter().map(|device| device.info().loaded_bytes);
        let before: Vec<u64> = loaded().collect();
        let pool = ParcelPool::default();
        let flow = Inflow {
            lanes: self.load_lanes(&open, inlets),
            arrive: &arrive,
            cancel: &self.cancel,
            pool: &pool,
            progress: Progress::new(caller_patience()),
            stop: AtomicBool::new(false),
            failed: Mutex::default(),
        };
        let any_thread: Vec<bool> = flow.lanes.iter().map(|lane| lane.device.any_thread()).collect();
        let crew = Crew { max: inner.max_workers, any_thread: &any_thread, first: 0 };
        let mut vigil = inner.vigil(flow.lanes.iter().map(|lane| lane.device), false);
        run_turns(crew, &flow, &mut vigil, &mut |item| flow.hear(item, get));
        let arrived = |lane: &LoadLane<'_>| lane.arrived.load(Ordering::Relaxed);
        flow.lanes.iter().enumerate().filter(|(_, lane)| arrived(lane)).for_each(|(item, _)| vigil.arrived(item));
        match flow.failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(Round {
                bytes: loaded().zip(before).map(|(now, before)| now.saturating_sub(before)).collect(),
                flags: vec![StreamFlags::END; self.devices.len()],
            }),
        }
    }

    /// Streams may come, from these inlets.
    fn check_load_round(&self, run: &Run, inlets: &[Inlet<'_>]) -> Result<()> {
        if let Some(error) = run.shown.error.get() {
            return Err(error);
        }
        self.cancel.check()?;
        let with_fd: Vec<bool> = inlets.iter().map(|inlet| matches!(inlet, Inlet::Fd { .. })).collect();
        self.check_channels(&with_fd)
    }

    /// The lanes of members whose streams have no end yet.
    fn load_lanes<'a>(&'a self, open: &[usize], inlets: &[Inlet<'a>]) -> Vec<LoadLane<'a>> {
        let lane = |&index: &usize| {
            let fd = match inlets.get(index) {
                Some(Inlet::Fd { fd, total }) => Some((*fd, *total)),
                Some(Inlet::Call) | None => None,
            };
            Some(LoadLane::new(self.devices.get(index)?, index, fd))
        };
        open.iter().filter_map(lane).collect()
    }
}
