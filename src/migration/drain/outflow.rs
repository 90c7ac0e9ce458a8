//! Streams out of the devices: one pass over those that are open, each as far as its share goes.

use super::parcel::{PIECE, Parcel, ParcelPool, Progress};
use super::{Piece, waits};
use crate::cancel::Cancel;
use crate::device::Device;
use crate::error::{Errno, Error, Result};
use crate::transport::is_nonblocking;
use crate::window::StreamFlags;
use crate::workers::turns::{Turn, Work};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// What is said where there are no bytes.
const WITHOUT_BYTES: StreamFlags = StreamFlags::EMPTY.union(StreamFlags::END);

pub(super) struct Outflow<'a> {
    pub lanes: Vec<SaveLane<'a>>,
    /// When the call began, and how long after it the last byte had gone, in nanoseconds.
    pub begun: Instant,
    pub gone: &'a AtomicU64,
    /// No read is begun after it.
    pub until: Option<Instant>,
    /// A round: a descriptor that takes nothing ends its device's part of it.
    pub bounded: bool,
    pub cancel: &'a Cancel,
    pub pool: &'a ParcelPool,
    pub progress: Progress,
    pub stop: AtomicBool,
    /// The first failure that is not `put`'s.
    pub failed: Mutex<Option<Error>>,
    /// The lane that was read last.
    pub last: AtomicUsize,
}

/// One device's part.
pub(super) struct SaveLane<'a> {
    pub device: &'a Device,
    /// Which device of the group.
    pub index: usize,
    pub fd: Option<BorrowedFd<'a>>,
    pub state: Mutex<Flow>,
}

#[derive(Default)]
pub(super) struct Flow {
    /// Bytes that it may still move.
    pub share: u64,
    pub moved: u64,
    pub flags: StreamFlags,
    /// Its descriptor takes nothing, or the device is not ready, and the round does not wait for it.
    pub full: bool,
    /// Since when the device, which has more to come, is not ready.
    idle_since: Option<Instant>,
    /// What was read and not put yet, in order.
    filled: VecDeque<Parcel>,
}

impl Flow {
    pub fn of(share: u64) -> Self {
        Flow { share, ..Flow::default() }
    }
}

impl Work for Outflow<'_> {
    fn turn(&self, item: usize) -> Turn {
        let Some(lane) = self.lanes.get(item) else { return Turn::Done };
        let turn = self.progress.during(|| self.step(item, lane), |turn| !matches!(turn, Ok(Turn::Wait)));
        turn.unwrap_or_else(|error| {
            self.stop.store(true, Ordering::Relaxed);
            self.failed.lock().get_or_insert(error);
            Turn::Done
        })
    }

    fn wait(&self, items: &[usize], patient: bool) -> Vec<usize> {
        let over = || self.is_over() || self.cancel.check_drain().is_err() || self.progress.all_stalled();
        waits(items, |item| self.lanes.get(item).and_then(|lane| lane.fd), true, patient, over)
    }
}

impl Outflow<'_> {
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn step(&self, item: usize, lane: &SaveLane<'_>) -> Result<Turn> {
        let share = lane.state.lock().share;
        if share == 0 || self.is_over() {
            return self.leave(lane);
        }
        self.cancel.check_drain()?;
        self.last.store(item, Ordering::Relaxed);
        let max = usize::try_from(share).unwrap_or(PIECE).min(PIECE);
        let (len, flags, parcel) = match lane.fd {
            Some(fd) => match lane.device.send_now(fd, max) {
                Ok(Some((len, flags))) => (len, flags, None),
                Ok(None) => return self.not_ready(lane, fd),
                Err(error) => return self.not_read(lane, error),
            },
            None => {
                let mut parcel = self.pool.take();
                let read = lane.device.read(parcel.room(max));
                let (len, flags) = match read {
                    Ok((len, flags)) if len > 0 => (len, flags),
                    Ok((_, flags)) => {
                        self.pool.give_back(parcel);
                        lane.state.lock().flags = flags & WITHOUT_BYTES;
                        return self.leave(lane);
                    }
                    Err(error) => {
                        self.pool.give_back(parcel);
                        return self.not_read(lane, error);
                    }
                };
                (parcel.len, parcel.segment_end) = (len, flags.contains(StreamFlags::SEGMENT_END));
                (len, flags, Some(parcel))
            }
        };
        let mut state = lane.state.lock();
        state.idle_since = None;
        if len == 0 {
            state.flags = flags & WITHOUT_BYTES;
            drop(state);
            return self.leave(lane);
        }
        state.share = state.share.saturating_sub(len as u64);
        state.moved = state.moved.saturating_add(len as u64);
        let Some(parcel) = parcel else {
            self.has_gone();
            return Ok(Turn::Again);
        };
        state.filled.push_back(parcel);
        Ok(Turn::Show)
    }

    fn has_gone(&self) {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.gone.fetch_max(now, Ordering::Relaxed);
    }

    /// The caller's descriptor takes nothing. A round continues without it where its mode asks for that.
    fn not_ready(&self, lane: &SaveLane<'_>, fd: BorrowedFd<'_>) -> Result<Turn> {
        let stalled = self.progress.stalled();
        if self.bounded && (stalled || is_nonblocking(fd)) {
            lane.state.lock().full = true;
            return self.leave(lane);
        }
        if stalled { Err(stall(lane.device, "took", &self.progress)) } else { Ok(Turn::Wait) }
    }

    /// A read failed. A device that was only not ready, though it has had its patience, is asked again: a firmware may take
    /// longer to save than one call waits (mlx5). A round continues without it.
    fn not_read(&self, lane: &SaveLane<'_>, error: Error) -> Result<Turn> {
        if !error.is_not_ready() {
            return Err(error);
        }
        let mut state = lane.state.lock();
        if self.bounded {
            state.full = true;
            drop(state);
            return self.leave(lane);
        }
        let waited = state.idle_since.get_or_insert_with(Instant::now).elapsed();
        if waited < self.progress.patience() { Ok(Turn::Again) } else { Err(error) }
    }

    /// The device's part has ended. In pre-copy the sizes for the next decision are asked for; a device that does not
    /// know them says why.
    fn leave(&self, lane: &SaveLane<'_>) -> Result<Turn> {
        if !self.stop.load(Ordering::Relaxed) && lane.device.state().is_precopy() {
            lane.device.pending_exact()?;
        }
        Ok(Turn::Done)
    }

    /// On the calling thread: the next piece of a lane. Nothing is put after a gap.
    pub fn hear(&self, item: usize, lost: &mut Option<Error>, put: &mut dyn FnMut(Piece<'_>) -> Result<()>) {
        let Some(lane) = self.lanes.get(item) else { return };
        let Some(parcel) = lane.state.lock().filled.pop_front() else { return };
        if lost.is_none() {
            let piece = Piece { device: lane.index, bytes: parcel.bytes(), segment_end: parcel.segment_end };
            *lost = self.progress.during(|| put(piece), |_| true).err();
            self.stop.fetch_or(lost.is_some(), Ordering::Relaxed);
            self.has_gone();
        }
        self.pool.give_back(parcel);
    }
}

/// Nothing was lost, but nothing will come of waiting on.
pub(super) fn stall(device: &Device, did: &str, progress: &Progress) -> Error {
    let (name, patience) = (device.name(), progress.patience());
    Error::system(
        Errno::new(libc::ETIMEDOUT),
        format!(
            "{name}: its descriptor {did} nothing for {patience:?}, nor did another: nothing is lost, the call can be made again"
        ),
    )
}
