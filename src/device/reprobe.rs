//! A device is looked at again, as if it were new: which protocol it speaks, and which window fits it.

use super::cache::Cache;
use super::{Device, DeviceInner, DeviceRequest};
use crate::dialect::probe::{Probed, probe};
use crate::dialect::{Dialect, Reason, State};
use crate::error::Result;
use crate::log::patience;
use crate::transport::RegionInfo;
use crate::transport::one_call::WithinCall;
use crate::window::data_fd::FdWindow;
use crate::window::region::RegionWindow;
use crate::window::{Quirks, Window};
use std::sync::Arc;

impl Device {
    /// Probes again after a reset or a new realisation done by others: what it held is gone. *whole.*
    ///
    /// The state is read. A session has ended, whatever the state is, because servers keep the state over a reset
    /// (K24); its stream is void. What others did without a reset is [`observe`](Self::observe)'s. EDEADLK as for
    /// [`set_state`](Self::set_state). ETIMEDOUT: a read of its stream was not answered for 5 s, and nothing was probed; call again.
    pub fn reprobe(&self) -> Result<()> {
        self.check_not_driven()?;
        let mut inner = self.enter_whole()?;
        let _call = WithinCall::with_one_deadline();
        self.wait_for_read(patience().0)?;
        inner.stop_reading().map_err(|error| self.named(error))?;
        inner.check_past_again().map_err(|error| self.named(error))?;
        // Also if the probe fails: the reset was done.
        inner.end_session(&self.cache);
        let _asked = self.cache.ask(DeviceRequest::Query);
        let found = probe(&self.name, &*inner.transport, inner.wanted, inner.draft_cursor)
            .map_err(|error| self.named(error))?;
        let before = inner.unread_since.unwrap_or(self.cache.state());
        self.cache.set_found(&found, inner.window.is_mapped() && inner.keeps_window(&found));
        inner.take_dialect(&self.cache, found);
        let now = match &inner.dialect {
            Ok(dialect) => dialect.read_state(&*inner.transport).map_err(|error| self.named(error))?,
            Err(_) => State::Error,
        };
        inner.was_reset(&self.cache, before, now);
        Ok(())
    }
}

/// The window of the dialect that was found.
pub(super) fn new_window(found: &Probed, buffer_size: usize, quirks: Quirks) -> Box<dyn Window> {
    match &found.dialect {
        Ok(dialect) if dialect.registers().is_some() => Box::new(RegionWindow::new(buffer_size, quirks)),
        _ => Box::new(FdWindow::new(buffer_size)),
    }
}

impl DeviceInner {
    /// Whether the window fits what was found.
    fn keeps_window(&self, found: &Probed) -> bool {
        fn region(dialect: &std::result::Result<Arc<dyn Dialect>, Reason>) -> Option<&RegionInfo> {
            dialect.as_ref().ok()?.registers().map(|registers| &registers.region)
        }
        region(&self.dialect) == region(&found.dialect)
    }

    /// Takes over what a new probe found. A window of another kind, or of another region, takes the place of the old one.
    fn take_dialect(&mut self, cache: &Cache, found: Probed) {
        if !self.keeps_window(&found) {
            self.end_session(cache);
            let new = new_window(&found, self.buffer_size, self.quirks);
            let mut old = std::mem::replace(&mut self.window, new);
            // Since the last chunk or buffer was lent, only the first window can have lent it.
            if self.lent_is_stale && self.kept.is_none() {
                self.kept = Some(old);
            } else {
                old.close();
            }
        }
        self.dialect = found.dialect;
    }
}
