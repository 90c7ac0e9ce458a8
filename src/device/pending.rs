//! Sizes: cached from any thread, exact from the device's own (P21: never ask from a statistics thread).

use super::cache::Cache;
use super::session::Session;
use super::{Device, DeviceInner, DeviceRequest};
use crate::dialect::{Direction, PrecopyFigures, State};
use crate::error::Result;
use crate::log::log;
use std::sync::atomic::Ordering;

/// What is left to be saved, in bytes; `None` is unknown, never zero. All of them are estimates.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions, OnFailure};
/// use vfiomig::dialect::State;
/// use vfiomig::window::StreamFlags;
///
/// let hardware = simdev::Device::new(simdev::Config::default());
/// let device = Device::new(hardware.transport(), DeviceOptions::default())?;
/// assert_eq!(device.pending().initial_bytes, None, "it was not asked yet");
/// device.set_state(State::PreCopy, OnFailure::Keep, false)?;
/// assert!(device.pending_exact()?.initial_bytes.is_some_and(|bytes| bytes > 0));
/// while !device.read(&mut [0; 4096])?.1.contains(StreamFlags::EMPTY) {}
/// assert_eq!(device.pending_exact()?.initial_bytes, Some(0), "it is time to stop the guest");
/// # device.set_state(State::Running, OnFailure::Keep, false)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePending {
    /// Initial data left, with what the library has read ahead; while it is not 0, STOP_COPY costs more than it must (C4).
    pub initial_bytes: Option<u64>,
    /// Data that changed since it was read; it goes both ways (C3), so never wait for 0 (C5).
    pub dirty_bytes: Option<u64>,
    /// All that is left up to the end of the stream, with what pre-copy would still bring: never to be added to the two above. In
    /// STOP_COPY it goes down with what is read, and is 0 from END on.
    pub stop_copy_bytes: Option<u64>,
    /// How often the device began again with initial data (C9).
    pub reinit_count: u32,
    /// v1 and draft: a segment was under way, so the device was not asked: that would have acknowledged it (P21).
    pub cached: bool,
}

impl Device {
    /// The figures of the last query; no request to the device.
    pub fn pending(&self) -> DevicePending {
        DevicePending {
            initial_bytes: self.cache.initial_bytes.get(),
            dirty_bytes: self.cache.dirty_bytes.get(),
            stop_copy_bytes: self.cache.stop_copy_bytes.get(),
            reinit_count: self.cache.reinit_count.load(Ordering::Relaxed),
            cached: self.cache.pending_cached.load(Ordering::Relaxed),
        }
    }

    /// Asks the device. *device; blocks in the kernel, and on some devices makes the next data (C10).*
    pub fn pending_exact(&self) -> Result<DevicePending> {
        let mut inner = self.enter()?;
        inner.check_past().map_err(|error| self.named(error))?;
        inner.find_again(&self.cache).map_err(|error| self.named(error))?;
        let save = inner.session.as_ref().filter(|session| session.direction == Direction::Save);
        if let Some(error) = save.and_then(Session::hole) {
            return Err(self.named(error));
        }
        // Read ahead, what is left was asked for before, and goes down with what is taken; the device would say less than that.
        if inner.window.ahead().is_none() {
            inner.sizes(&self.cache, &self.name).map_err(|error| self.at_name(error))?;
        }
        Ok(self.pending())
    }
}

impl Device {
    /// Initial data that came after the guest was stopped, for one that reports REINIT (C9). *whole.*
    pub(crate) fn late_initial_data(&self) -> Result<Option<u64>> {
        let mut inner = self.enter_whole()?;
        let reports = self.info().caps.contains(super::CapFlags::REINIT);
        if !reports || !self.state().is_precopy() || inner.session.is_none() {
            return Ok(None);
        }
        let figures = inner.update_figures(&self.cache, &self.name).map_err(|error| self.at_name(error))?;
        Ok(figures.initial_bytes.filter(|&bytes| bytes > 0))
    }
}

impl DeviceInner {
    /// Asks for all sizes.
    pub(super) fn sizes(&mut self, cache: &Cache, name: &str) -> Result<()> {
        let stop_copy = self.stop_copy_bytes(cache, name)?;
        // Where bytes were read in STOP_COPY already, most drivers still say how much it was before (hisi_acc, qat,
        // mtty, xe). Where their figure was too small it is unknown by now, and stays so: it never goes up.
        let counted = self.session.as_ref().is_some_and(|session| session.counts_down);
        if self.dialect()?.registers().is_none() && !counted {
            cache.stop_copy_bytes.set(stop_copy);
        }
        if self.session.as_ref().is_some_and(|session| session.direction == Direction::Save) {
            self.update_figures(cache, name)?;
        }
        Ok(())
    }

    /// V2-13, K22: an estimate that is optional, and that some drivers cannot give now (mlx5 says ENOTCONN): then it is unknown,
    /// unless the device is not well at all.
    fn stop_copy_bytes(&mut self, cache: &Cache, name: &str) -> Result<Option<u64>> {
        const WHAT: &str = "reading the stop-copy size";
        let _asked = cache.ask(DeviceRequest::Query);
        match self.dialect()?.stop_copy_bytes(&*self.transport) {
            Ok(bytes) => Ok(bytes),
            Err(errno) if self.look(cache)? == State::Error => Err(self.data_failed(cache, name, WHAT, errno)),
            Err(errno) => {
                log!(Debug, "{name}: {WHAT} failed: {errno}: it is unknown");
                Ok(None)
            }
        }
    }

    /// Sizes of the open save session: pre-copy info on v2, pending_bytes on v1 and the draft.
    pub(super) fn update_figures(&mut self, cache: &Cache, name: &str) -> Result<PrecopyFigures> {
        let in_precopy = cache.state().is_precopy();
        let _asked = cache.ask(DeviceRequest::Query);
        let (window, access) = self.access(cache)?;
        let has_fd = access.dialect.registers().is_none();
        if has_fd && !in_precopy {
            return Ok(PrecopyFigures::UNKNOWN);
        }
        let figures = match window.figures(&access) {
            Ok(figures) => figures,
            Err(trouble) => return Err(self.access_failed(cache, name, "reading sizes", trouble)),
        };
        let precopy = figures.precopy;
        // What was read ahead and not consumed is left to be sent too; it counts as initial, as in the kernel (C9).
        let unread = if has_fd { window.unread() as u64 } else { 0 };
        if in_precopy {
            cache.initial_bytes.set(precopy.initial_bytes.map(|bytes| bytes.saturating_add(unread)));
            cache.dirty_bytes.set(precopy.dirty_bytes);
        } else if !(figures.cached && self.session.as_ref().is_some_and(|session| session.counts_down)) {
            cache.stop_copy_bytes.set(figures.left);
        }
        cache.pending_cached.store(figures.cached, Ordering::Relaxed);
        // It ran empty, and does not say that there is something: where it is not known how much is left, that has to do.
        if in_precopy
            && cache.seen_empty.load(Ordering::Relaxed)
            && precopy.initial_bytes.is_none_or(|bytes| bytes == 0)
        {
            cache.initial_gone.store(true, Ordering::Relaxed);
        }
        if precopy.reinit {
            cache.reinit_count.fetch_add(1, Ordering::Relaxed);
            cache.seen_empty.store(false, Ordering::Relaxed);
            cache.initial_gone.store(false, Ordering::Relaxed);
            match precopy.initial_bytes {
                Some(bytes) => log!(Info, "{name}: the device began again with initial data, {bytes} bytes"),
                None => log!(Info, "{name}: the device began again with initial data, of unknown size"),
            }
        }
        if let Some(session) = &mut self.session {
            session.ran_empty &= precopy.says_empty();
            session.asked_info |= in_precopy;
        }
        Ok(precopy)
    }
}
