//! A stream that is read ahead of its caller, from the moment when the device is in STOP_COPY.
//!
//! Rules: V1-6 and P21 (sizes are asked for before the reading begins, and not beside it), P3 and V1-8 (the state behind the
//! end is read by the call that comes to it), D5 (the draft's log shares the window with the data, so the draft is not read
//! ahead).

use super::cache::Cache;
use super::session::Session;
use super::{Device, DeviceInner, DeviceRequest};
use crate::cancel::Follower;
use crate::dialect::{DialectKind, Direction, State};
use crate::error::Result;
use crate::log::log;
use crate::window::data_fd::FdWindow;
use crate::window::{Access, AheadWindow, Reading, Share};
use crate::workers::Resident;
use std::sync::Arc;
use std::time::Instant;

impl Device {
    /// Whether its stream can be read by a thread of the library while its caller is elsewhere.
    pub(crate) fn can_read_ahead(&self) -> bool {
        self.any_thread && matches!(self.info().dialect, Some(DialectKind::V1 | DialectKind::V2))
    }

    /// From when to when it was read ahead the last time, and how much in all. *any.*
    pub(crate) fn ahead_span(&self) -> Option<(Instant, Instant)> {
        self.cache.ahead.span()
    }

    /// From now on its stream is read ahead in STOP_COPY, into `share`. *Waits for nothing, unless the device is in STOP_COPY
    /// already: then whole.*
    pub(crate) fn read_ahead(&self, share: Share) {
        self.cache.ahead.want(Some(share));
        if self.state() != State::StopCopy {
            return;
        }
        // Freed: then there is nothing to read.
        if let Ok(mut inner) = self.enter_whole() {
            inner.start_reading(&self.cache, &self.name);
        }
    }

    /// It is read ahead no more; what was read stays for its caller. *whole; waits for the read in progress.*
    pub(crate) fn end_reading_ahead(&self) {
        self.cache.ahead.want(None);
        if let Ok(mut inner) = self.enter_whole() {
            // Refused to a function of the device only, which `enter_whole` has refused before.
            let _ = inner.stop_reading();
        }
    }
}

impl DeviceInner {
    /// Calls that take bytes make no request: a thread reads, or has read.
    pub(super) fn reads_ahead(&self) -> bool {
        self.window.reads_ahead()
    }

    /// Reads ahead if that is wanted, and possible here and now: in STOP_COPY, with a stream that can still be whole, and while
    /// the caller has nothing of the device's own window.
    pub(super) fn start_reading(&mut self, cache: &Arc<Cache>, name: &str) {
        if !self.can_be_read(cache) {
            return;
        }
        if self.window.ahead().is_none() {
            let Some(share) = cache.ahead.take() else { return };
            self.ask_sizes(cache, name);
            if !self.can_be_read(cache) {
                return;
            }
            let buffer = self.buffer_size;
            let own = std::mem::replace(&mut self.window, Box::new(FdWindow::new(buffer)));
            self.window = Box::new(AheadWindow::new(own, share, buffer));
        }
        let Ok(dialect) = self.dialect.clone() else { return };
        let Some(window) = self.window.ahead() else { return };
        let Some(reading) = window.begin_reading() else { return };
        let (transport, cache, of) = (Arc::clone(&self.transport), Arc::clone(cache), name.to_string());
        let work = move || read(reading, &of, &cache, &*transport, &*dialect);
        // Without a thread the calls read for themselves, as they do without a queue.
        if let Some(thread) = Resident::new(name, work) {
            window.reads_on(thread);
            log!(Debug, "{name}: its stream is read ahead");
        }
    }

    fn can_be_read(&self, cache: &Cache) -> bool {
        let whole = |session: &Session| {
            session.direction == Direction::Save
                && session.lent.is_none()
                && !session.complete
                && session.hole().is_none()
        };
        let open = self.session.as_ref().is_some_and(whole);
        open && cache.state() == State::StopCopy && self.unread_since.is_none() && !cache.cancel.asked()
    }

    /// The last moment at which all that is left is still with the device. What cannot be known is unknown.
    fn ask_sizes(&mut self, cache: &Cache, name: &str) {
        if let Err(error) = self.sizes(cache, name) {
            log!(Debug, "{name}: how much is left of its stream is not known: {error}");
        }
    }

    /// No thread reads the device's window any more; waits for the read in progress.
    pub(super) fn stop_reading(&mut self) -> Result<()> {
        match self.window.ahead() {
            Some(window) => window.stop().map_err(|denied| denied.of("device")),
            None => Ok(()),
        }
    }

    /// The session has ended, and with it what was read ahead of it. The memory of a lent chunk stays readable.
    pub(super) fn leave_queue(&mut self, lent: bool) {
        let Some(own) = self.window.ahead().and_then(AheadWindow::take_own) else { return };
        let old = std::mem::replace(&mut self.window, own);
        if lent {
            self.kept = Some(old);
        }
    }
}

/// The thread's work. Signals are blocked in it, as in the call that made it (P1).
fn read(
    reading: Reading,
    name: &str,
    cache: &Cache,
    transport: &dyn crate::transport::Transport,
    dialect: &dyn crate::dialect::Dialect,
) {
    let cancel = Follower::default();
    cancel.follow(reading.halt());
    let access = Access { name, transport, dialect, in_precopy: false, cancel: &cancel };
    cache.ahead.begins();
    let mut fetch = |window: &mut dyn crate::window::Window, into: &mut [u8]| {
        let asked = cache.ahead_asked.begin(DeviceRequest::Read);
        let got = window.fetch(&access, into);
        drop(asked);
        if let Ok(Some(run)) = &got {
            cache.ahead.read(run.len);
        }
        got
    };
    reading.run(&mut fetch, &|| !cache.cancel.asked());
}
