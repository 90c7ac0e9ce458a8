//! Sizes: cached from any thread, exact from the device's own (P21: never ask from a statistics thread).

use super::cache::Cache;
use super::{Device, Inner};
use crate::dialect::{Direction, PrecopyFigures};
use crate::error::{Error, Result};
use crate::log::log;
use std::sync::atomic::Ordering;

/// What is left to be saved; `None` is unknown, never zero. Estimates all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Initial data left, with what the library has read ahead; while it is not 0, STOP_COPY costs more than it must (C4).
    pub initial_bytes: Option<u64>,
    /// Data that changed since it was read; never wait for 0 (C5).
    pub dirty_bytes: Option<u64>,
    /// What STOP_COPY will bring.
    pub stop_copy_bytes: Option<u64>,
    /// How often the device began again with initial data (C9).
    pub reinit_count: u32,
}

impl Device {
    /// The figures of the last query; no request to the device.
    pub fn pending(&self) -> Pending {
        Pending {
            initial_bytes: self.cache.initial_bytes.get(),
            dirty_bytes: self.cache.dirty_bytes.get(),
            stop_copy_bytes: self.cache.stop_copy_bytes.get(),
            reinit_count: self.cache.reinit_count.load(Ordering::Relaxed),
        }
    }

    /// Asks the device. *device; blocks in the kernel, and on some devices makes the next data (C10).*
    pub fn pending_exact(&self) -> Result<Pending> {
        let mut inner = self.enter()?;
        let dialect = inner.dialect().map_err(|error| self.named(error))?;
        let stop_copy = dialect
            .stop_copy_bytes(&*inner.transport)
            .map_err(|errno| self.named(Error::device(errno, format!("reading the stop-copy size failed: {errno}"))))?;
        self.cache.stop_copy_bytes.set(stop_copy);
        let in_precopy = self.cache.state().is_precopy();
        if in_precopy && inner.session.as_ref().is_some_and(|session| session.direction == Direction::Save) {
            inner.update_precopy(&self.cache, &self.name)?;
        }
        Ok(self.pending())
    }
}

impl Inner {
    /// One pre-copy info of the open save session.
    pub(super) fn update_precopy(&mut self, cache: &Cache, name: &str) -> Result<PrecopyFigures> {
        let Inner { dialect: Ok(dialect), session: Some(session), window, .. } = self else {
            return Ok(PrecopyFigures::UNKNOWN);
        };
        match dialect.precopy_figures(&mut *session.data) {
            Ok(figures) => {
                // What was read ahead and not consumed is left to be sent too; it counts as initial, as in the kernel (C9).
                let unread = window.unread() as u64;
                cache.initial_bytes.set(figures.initial_bytes.map(|bytes| bytes.saturating_add(unread)));
                cache.dirty_bytes.set(figures.dirty_bytes);
                if figures.reinit {
                    cache.reinit_count.fetch_add(1, Ordering::Relaxed);
                    log!(Info, "{name}: new initial data, {:?} bytes", figures.initial_bytes);
                }
                session.ran_empty &= figures.says_empty();
                Ok(figures)
            }
            Err(errno) => Err(self.data_failed(cache, name, "pre-copy info", errno)),
        }
    }
}
