//! Streams into the devices.

use super::outflow::stall;
use super::parcel::{PIECE, Parcel, ParcelPool, Progress};
use super::{Fed, waits};
use crate::cancel::Cancel;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::transport::read_from;
use crate::workers::turns::{Turn, Work};
use parking_lot::Mutex;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub(super) struct Inflow<'a> {
    pub lanes: Vec<LoadLane<'a>>,
    /// Takes the device of that member, whose stream is whole, to LOADED; whether it went there.
    pub arrive: &'a (dyn Fn(usize, &Device) -> Result<bool> + Sync),
    pub cancel: &'a Cancel,
    pub pool: &'a ParcelPool,
    pub progress: Progress,
    pub stop: AtomicBool,
    /// The first failure, whoever's.
    pub failed: Mutex<Option<Error>>,
}

/// One device's part.
pub(super) struct LoadLane<'a> {
    pub device: &'a Device,
    /// Which device of the group.
    pub index: usize,
    /// Where its bytes come from, and how many; `None`: the caller's function.
    pub fd: Option<(BorrowedFd<'a>, Option<u64>)>,
    /// What the function brought and the device has not got yet.
    pub brought: Mutex<Option<Parcel>>,
    /// Since when the device, which has taken nothing of it, is not ready.
    pub idle_since: Mutex<Option<Instant>>,
    /// The device went to LOADED.
    pub arrived: AtomicBool,
}

impl<'a> LoadLane<'a> {
    pub fn new(device: &'a Device, index: usize, fd: Option<(BorrowedFd<'a>, Option<u64>)>) -> Self {
        let (brought, idle_since) = (Mutex::default(), Mutex::default());
        LoadLane { device, index, fd, brought, idle_since, arrived: AtomicBool::new(false) }
    }
}

impl Work for Inflow<'_> {
    fn turn(&self, item: usize) -> Turn {
        let Some(lane) = self.lanes.get(item) else { return Turn::Done };
        let step = || match lane.fd {
            Some((fd, total)) => self.receive(lane, fd, total),
            None => self.write(lane),
        };
        let turn = self.progress.during(step, |turn| !matches!(turn, Ok(Turn::Wait)));
        turn.unwrap_or_else(|error| {
            self.fail(error);
            Turn::Done
        })
    }

    fn wait(&self, items: &[usize], patient: bool) -> Vec<usize> {
        let over = || self.is_over() || self.cancel.check_drain().is_err() || self.progress.all_stalled();
        waits(items, |item| Some(self.lanes.get(item)?.fd?.0), false, patient, over)
    }
}

impl Inflow<'_> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fail(&self, error: Error) {
        self.stop.store(true, Ordering::Relaxed);
        self.failed.lock().get_or_insert(error);
    }

    /// What was brought goes to the device, whatever happened to others: the caller cannot bring it again.
    fn write(&self, lane: &LoadLane<'_>) -> Result<Turn> {
        if let Some(turn) = self.hand_over(lane)? {
            return Ok(turn);
        }
        if self.is_over() || lane.device.info().complete {
            return self.arrive(lane);
        }
        self.cancel.check_drain()?;
        Ok(Turn::Ask)
    }

    /// The stream is whole. Once something has failed, nothing new is begun.
    fn arrive(&self, lane: &LoadLane<'_>) -> Result<Turn> {
        if !self.is_over() {
            lane.arrived.store((self.arrive)(lane.index, lane.device)?, Ordering::Relaxed);
        }
        Ok(Turn::Done)
    }

    /// `None`: the device has what was brought, and more can be.
    fn hand_over(&self, lane: &LoadLane<'_>) -> Result<Option<Turn>> {
        let Some(mut parcel) = lane.brought.lock().take() else { return Ok(None) };
        let is_end = parcel.len == 0;
        let (keeps, before) = (self.may_wait(lane), lane.device.info().loaded_bytes);
        let written = match parcel.len {
            0 => lane.device.finish(parcel.total),
            _ => lane.device.write_once(parcel.bytes(), parcel.segment_end, keeps),
        };
        let now = lane.device.info();
        if keeps && !now.broken && written.as_ref().is_err_and(Error::is_not_ready) {
            let taken = usize::try_from(now.loaded_bytes.saturating_sub(before)).unwrap_or(usize::MAX);
            parcel.taken = parcel.taken.saturating_add(taken);
            if taken > 0 {
                *lane.idle_since.lock() = None;
            }
            *lane.brought.lock() = Some(parcel);
            return Ok(Some(Turn::Again));
        }
        *lane.idle_since.lock() = None;
        self.pool.give_back(parcel);
        written?;
        if is_end { self.arrive(lane).map(Some) } else { Ok(None) }
    }

    /// A device that had its patience and took nothing is asked again: a firmware may take longer than one call waits.
    fn may_wait(&self, lane: &LoadLane<'_>) -> bool {
        let waited = lane.idle_since.lock().get_or_insert_with(Instant::now).elapsed();
        waited < self.progress.patience() && self.cancel.check_drain().is_ok()
    }

    /// The same from a descriptor, whose bytes cannot be brought again either: they wait here for a device that takes its time.
    fn receive(&self, lane: &LoadLane<'_>, fd: BorrowedFd<'_>, total: Option<u64>) -> Result<Turn> {
        if let Some(turn) = self.hand_over(lane)? {
            return Ok(turn);
        }
        let device = lane.device;
        if self.is_over() || device.info().complete {
            return self.arrive(lane);
        }
        self.cancel.check_drain()?;
        let left = total.map_or(u64::MAX, |total| total.saturating_sub(device.info().loaded_bytes));
        let max = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        if max == 0 {
            device.finish(total)?;
            return self.arrive(lane);
        }
        device.check_takes()?;
        let mut parcel = self.pool.take();
        let got = read_from(fd, parcel.room(max));
        (parcel.len, parcel.segment_end) = (got.unwrap_or(0), false);
        if parcel.len > 0 {
            *lane.brought.lock() = Some(parcel);
            return Ok(self.hand_over(lane)?.unwrap_or(Turn::Again));
        }
        self.pool.give_back(parcel);
        match got {
            Ok(_) => {
                device.finish(total)?;
                self.arrive(lane)
            }
            Err(errno) if errno.get() != libc::EAGAIN => {
                let text = format!("{}: reading the stream: the caller's fd failed: {errno}", device.name());
                Err(Error::system(errno, text))
            }
            Err(_) if self.progress.stalled() => Err(stall(device, "brought", &self.progress)),
            Err(_) => Ok(Turn::Wait),
        }
    }

    /// On the calling thread: the next bytes of a lane. Nothing more is asked for once something has failed: with one wire for
    /// all devices what comes next would be taken for something else.
    pub fn hear(&self, item: usize, get: &mut dyn FnMut(usize, &mut [u8]) -> Result<Fed>) {
        let Some(lane) = self.lanes.get(item).filter(|_| !self.is_over()) else { return };
        let mut parcel = self.pool.take();
        match self.progress.during(|| get(lane.index, parcel.room(PIECE)), |_| true) {
            Ok(Fed::Bytes { len, segment_end }) if len > 0 && len <= PIECE => {
                (parcel.len, parcel.segment_end) = (len, segment_end);
                *lane.brought.lock() = Some(parcel);
            }
            Ok(Fed::End { total }) => {
                (parcel.len, parcel.total) = (0, total);
                *lane.brought.lock() = Some(parcel);
            }
            Ok(Fed::Bytes { len, .. }) => {
                let name = lane.device.name();
                self.fail(Error::argument(format!("{name}: get: {len} bytes of a buffer of {PIECE}")));
            }
            Err(error) => self.fail(error),
        }
    }
}
