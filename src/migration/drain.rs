//! Whole parts of a migration for VMMs without a loop of their own: streams of all devices, side by side, between the devices
//! and the caller.
//!
//! Rules: F3, F4 and V1-8 are the device's (`device/save.rs`); here a round ends at EMPTY, END or its budget (C5), and each
//! device's bytes stay in their order (N2).

use super::sequence::Phase;
use super::{Migration, Run};
use crate::device::Device;
use crate::dialect::Kind;
use crate::error::{Error, Result};
use crate::group::Inner;
use crate::window::{EMPTY, END, SEGMENT_END};
use crate::workers::{self, Give};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one piece; large reads, for some drivers copy page by page (P20).
const PIECE: usize = 1 << 20;

/// How much one round may do, over all devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Shared evenly by the devices.
    pub bytes: u64,
    /// No read is begun after it.
    pub time: Duration,
}

/// Where the bytes of one device go.
#[derive(Clone, Copy, Debug)]
pub enum Outlet<'a> {
    /// To the caller's function, on the calling thread.
    Call,
    /// To this descriptor, on whichever thread serves the device. Only v2: a descriptor keeps no segments.
    Fd(BorrowedFd<'a>),
}

/// Where the bytes of one device come from.
#[derive(Clone, Copy, Debug)]
pub enum Inlet<'a> {
    /// From the caller's function, on the calling thread.
    Call,
    /// From this descriptor, on whichever thread serves the device. Only v2: a descriptor keeps no segments.
    Fd {
        /// Read to `total`, or to its end.
        fd: BorrowedFd<'a>,
        /// The length of the stream as its saver counted it. `None` is the caller's word that it cannot know: then a
        /// connection that broke looks like an end (F7).
        total: Option<u64>,
    },
}

/// A run of one device's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which device of the group.
    pub device: usize,
    /// At least one.
    pub bytes: &'a [u8],
    /// A segment ends with them (v1, draft): the destination must be told.
    pub segment_end: bool,
}

/// What a round brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Bytes moved, by device.
    pub bytes: Vec<u64>,
    /// `EMPTY` or `END` by device; 0: there is more, or the device has no open stream.
    pub flags: Vec<u32>,
}

/// What the caller's function brings of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// So many bytes of the buffer; at least one.
    Bytes {
        /// How many.
        len: usize,
        /// A segment ends with them (v1, draft).
        segment_end: bool,
    },
    /// The stream is over. Its length as its saver counted it; `None`: the caller's format cannot know.
    End {
        /// In bytes.
        total: Option<u64>,
    },
}

/// A buffer on its way between a device and the caller.
#[derive(Clone, Default)]
struct Parcel {
    buf: Vec<u8>,
    len: usize,
    segment_end: bool,
    total: Option<u64>,
}

impl Parcel {
    /// The first `max` bytes of it, all there.
    fn room(&mut self, max: usize) -> &mut [u8] {
        if self.buf.len() < PIECE {
            // Not resize: fresh zeroes from the system cost nothing until they are touched.
            self.buf = vec![0; PIECE];
        }
        self.buf.get_mut(..max.min(PIECE)).unwrap_or_default()
    }

    fn bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }
}

impl Migration {
    /// One bounded round over all open streams, side by side: each device until EMPTY, END or its share of the budget. In
    /// pre-copy the sizes are brought up to date behind it. *whole; blocks in the kernel, on descriptors and in `put`.*
    ///
    /// `outlets`: one per device, or empty: `Call` for all. If `put` fails, bytes are lost that no device can give again: the
    /// migration is FAILED.
    pub fn save_iterate(
        &self,
        budget: Budget,
        outlets: &[Outlet<'_>],
        put: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Round> {
        let (mut inner, mut run) = self.enter()?;
        self.save_round(&mut inner, &mut run, Some(budget), outlets, put)
    }

    /// Every stream to its END. Needs STOP_COPY. *whole; blocks as `save_iterate` does.*
    pub fn save_complete(&self, outlets: &[Outlet<'_>], put: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<Round> {
        let (mut inner, mut run) = self.enter()?;
        run.check_entered("save_complete", Phase::SaveStopCopy)?;
        self.save_round(&mut inner, &mut run, None, outlets, put)
    }

    /// Every stream into its device, and `finish`. Needs RESUMING of a load; called again, it goes on with what is not
    /// finished. *whole; blocks in the kernel, on descriptors and in `get`.* `inlets`: one per device, or empty: `Call` for all.
    pub fn load_complete(
        &self,
        inlets: &[Inlet<'_>],
        get: &mut dyn FnMut(usize, &mut [u8]) -> Result<Fed>,
    ) -> Result<()> {
        let (inner, run) = self.enter()?;
        run.check_entered("load_complete", Phase::LoadResuming)?;
        self.cancel.check()?;
        let with_fd: Vec<bool> = inlets.iter().map(|inlet| matches!(inlet, Inlet::Fd { .. })).collect();
        self.check_channels(&with_fd)?;
        let stop = AtomicBool::new(false);
        let mut told = Ok(());
        let job = |i: usize, give: Give<'_, Parcel>| {
            let Some(device) = self.devices.get(i).filter(|device| !device.info().complete) else { return Ok(()) };
            let result = match inlets.get(i) {
                Some(Inlet::Fd { fd, total }) => self.receive(device, *fd, *total, &stop),
                Some(Inlet::Call) | None => self.take(device, give, &stop),
            };
            stop.fetch_or(result.is_err(), Ordering::Relaxed);
            result
        };
        let on = |i: usize, mut parcel: Parcel| {
            match get(i, parcel.room(PIECE)) {
                Ok(Fed::Bytes { len, segment_end }) if len > 0 && len <= PIECE => {
                    (parcel.len, parcel.segment_end) = (len, segment_end);
                }
                Ok(Fed::Bytes { len, .. }) => {
                    told = Err(Error::argument(format!("get: {len} bytes of a buffer of {PIECE}")));
                    return None;
                }
                Ok(Fed::End { total }) => (parcel.len, parcel.total) = (0, total),
                Err(error) => {
                    told = Err(error);
                    return None;
                }
            }
            Some(parcel)
        };
        let mut failed = Ok(());
        workers::run_pieces(inner.max_workers, &self.any_thread(), &[], job, on, |_, result| {
            if failed.is_ok() {
                failed = result;
            }
        });
        told.and(failed)
    }

    fn save_round(
        &self,
        inner: &mut Inner,
        run: &mut Run,
        budget: Option<Budget>,
        outlets: &[Outlet<'_>],
        put: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Round> {
        if let Some(error) = &run.error {
            return Err(error.clone());
        }
        self.cancel.check()?;
        let with_fd: Vec<bool> = outlets.iter().map(|outlet| matches!(outlet, Outlet::Fd(_))).collect();
        self.check_channels(&with_fd)?;
        let (begun, stop) = (Instant::now(), AtomicBool::new(false));
        // When the last byte had gone, in nanoseconds: behind it the channel shows nothing of itself.
        let last = AtomicU64::new(0);
        let moved = || last.fetch_max(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let open = self.devices.iter().filter(|device| device.info().data_open).count();
        let limit = Limit {
            bytes: budget.map_or(u64::MAX, |budget| budget.bytes.div_ceil(open.max(1) as u64)),
            until: budget.and_then(|budget| begun.checked_add(budget.time)),
        };
        let job = |i: usize, give: Give<'_, Parcel>| {
            let Some(device) = self.devices.get(i).filter(|device| device.info().data_open) else { return Ok((0, 0)) };
            let result = match outlets.get(i) {
                Some(Outlet::Fd(fd)) => self.send(device, *fd, limit, &stop),
                Some(Outlet::Call) | None => self.give(device, give, limit, &stop),
            };
            stop.fetch_or(result.is_err(), Ordering::Relaxed);
            if result.as_ref().is_ok_and(|(bytes, _)| *bytes > 0) && matches!(outlets.get(i), Some(Outlet::Fd(_))) {
                moved();
            }
            if result.is_ok() && device.state().is_precopy() {
                // The figures of the next decision; a device that cannot tell them keeps the last ones.
                let _ = device.pending_exact();
            }
            result
        };
        let (mut lost, mut failed) = (None, Ok(()));
        let on = |device: usize, parcel: Parcel| {
            let piece = Piece { device, bytes: parcel.bytes(), segment_end: parcel.segment_end };
            // Nothing is put behind a gap.
            if lost.is_none() {
                lost = put(piece).err();
                moved();
            }
            lost.is_none().then_some(parcel)
        };
        let mut round = Round { bytes: vec![0; self.devices.len()], flags: vec![0; self.devices.len()] };
        let any_thread = self.any_thread();
        workers::run_pieces(inner.max_workers, &any_thread, &[Parcel::default()], job, on, |i, result| {
            match (result, round.bytes.get_mut(i), round.flags.get_mut(i)) {
                (Ok(moved), Some(bytes), Some(flags)) => (*bytes, *flags) = moved,
                (Err(error), ..) if failed.is_ok() => failed = Err(error),
                _ => {}
            }
        });
        if let Some(error) = lost {
            let error = error.context("bytes of a stream were lost");
            run.error = Some(error.clone());
            self.set_phase(inner, Phase::Failed);
            return Err(error);
        }
        failed?;
        let sum = round.bytes.iter().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
        run.rate.add(sum, Duration::from_nanos(last.into_inner()));
        Ok(round)
    }

    /// Reads ahead of the calling thread by one piece.
    fn give(&self, device: &Device, give: Give<'_, Parcel>, limit: Limit, stop: &AtomicBool) -> Result<(u64, u32)> {
        let (mut moved, mut parcel) = (0u64, Parcel::default());
        while limit.allows(moved) && !stop.load(Ordering::Relaxed) {
            self.cancel.check()?;
            let max = usize::try_from(limit.bytes.saturating_sub(moved)).unwrap_or(PIECE);
            let (len, flags) = device.read(parcel.room(max))?;
            if len == 0 {
                return Ok((moved, flags & (EMPTY | END)));
            }
            moved = moved.saturating_add(len as u64);
            (parcel.len, parcel.segment_end) = (len, flags & SEGMENT_END != 0);
            match give(parcel) {
                Some(next) => parcel = next,
                None => break,
            }
        }
        Ok((moved, 0))
    }

    fn send(&self, device: &Device, fd: BorrowedFd<'_>, limit: Limit, stop: &AtomicBool) -> Result<(u64, u32)> {
        let mut moved = 0u64;
        while limit.allows(moved) && !stop.load(Ordering::Relaxed) {
            self.cancel.check()?;
            let max = usize::try_from(limit.bytes.saturating_sub(moved)).unwrap_or(PIECE).min(PIECE);
            let (len, flags) = device.send(fd, max)?;
            if len == 0 {
                return Ok((moved, flags & (EMPTY | END)));
            }
            moved = moved.saturating_add(len as u64);
        }
        Ok((moved, 0))
    }

    fn take(&self, device: &Device, give: Give<'_, Parcel>, stop: &AtomicBool) -> Result<()> {
        let mut parcel = Parcel::default();
        while !stop.load(Ordering::Relaxed) {
            self.cancel.check()?;
            match give(parcel) {
                None => return Ok(()),
                Some(end) if end.len == 0 => return device.finish(end.total),
                Some(filled) => {
                    device.write_once(filled.bytes(), filled.segment_end)?;
                    parcel = filled;
                }
            }
        }
        Ok(())
    }

    fn receive(&self, device: &Device, fd: BorrowedFd<'_>, total: Option<u64>, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.cancel.check()?;
            let left = total.map_or(u64::MAX, |total| total.saturating_sub(device.info().loaded_bytes));
            let max = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            if max == 0 || device.receive(fd, max, false)? == 0 {
                return device.finish(total);
            }
        }
        Ok(())
    }

    fn any_thread(&self) -> Vec<bool> {
        self.devices.iter().map(|device| device.any_thread()).collect()
    }

    /// One per device or none at all, and descriptors only where no segments would be lost.
    fn check_channels(&self, with_fd: &[bool]) -> Result<()> {
        if !with_fd.is_empty() && with_fd.len() != self.devices.len() {
            let (given, count) = (with_fd.len(), self.devices.len());
            return Err(Error::argument(format!("{given} outlets or inlets for {count} devices")));
        }
        let segments = |device: &Device| device.info().dialect != Some(Kind::V2);
        match self.devices.iter().zip(with_fd).find(|(device, with_fd)| **with_fd && segments(device)) {
            Some((device, _)) => Err(Error::unsupported(format!(
                "{}: its stream has segments, which a descriptor does not keep",
                device.name()
            ))),
            None => Ok(()),
        }
    }
}

impl Run {
    fn check_entered(&self, what: &str, phase: Phase) -> Result<()> {
        match &self.error {
            Some(error) => Err(error.clone()),
            None if self.entered == phase => Ok(()),
            None => Err(Error::order(format!("{what} needs {phase}, not {}", self.entered))),
        }
    }
}

/// What one device may do in a round.
#[derive(Clone, Copy)]
struct Limit {
    bytes: u64,
    until: Option<Instant>,
}

impl Limit {
    fn allows(&self, moved: u64) -> bool {
        moved < self.bytes && self.until.is_none_or(|until| Instant::now() < until)
    }
}
