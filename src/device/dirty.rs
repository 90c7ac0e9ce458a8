//! The logs of written pages that a device keeps itself: the DMA log of v2, and the draft's, which shares the data window
//! with the state bytes (D5).

use super::{Device, Inner};
use crate::dialect::registers::Fault;
use crate::dialect::{Direction, Kind, PfnRange, Pfns};
use crate::error::{Errno, Error, Result};
use crate::gate::{Denied, waits_for_me};
use crate::transport::dma_log;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// How long one harvest waits, in all, for other threads to finish the segments that are in the windows of drafts.
const SEGMENT_PATIENCE: Duration = Duration::from_secs(1);
const SEGMENT_PAUSE: Duration = Duration::from_millis(1);

/// What is left of the time that one harvest waits, whichever of its devices and ranges it waits for.
pub(crate) struct Patience(Mutex<Duration>);

impl Patience {
    pub fn new() -> Self {
        Patience(Mutex::new(SEGMENT_PATIENCE))
    }

    /// Sleeps for a moment, or says that there has been enough of it. The lock is held meanwhile: those who wait side by side
    /// spend the same time once.
    fn pause(&self) -> bool {
        let mut left = self.0.lock();
        if left.is_zero() {
            return false;
        }
        let begun = Instant::now();
        std::thread::sleep(SEGMENT_PAUSE);
        *left = left.saturating_sub(begun.elapsed());
        true
    }
}

/// A log whose device cannot be asked now, as the errno that a harvest tells.
fn denied(denied: Denied) -> Errno {
    Errno::new(match denied {
        Denied::Busy => libc::EBUSY,
        Denied::Reentry => libc::EDEADLK,
        Denied::Closed => libc::ENODEV,
    })
}

/// Which log of its own a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnLog {
    /// Features 6 to 8 of v2.
    Dma,
    /// The draft's registers.
    Pfns,
}

impl Device {
    /// Reads and clears which pages of `range` the device has written. *device; blocks in the kernel.*
    ///
    /// Only the draft has such a log, and only while a save session is open. BUSY while a segment is under way: the window
    /// shows one thing at a time. After a failure every page of the range was told as dirty.
    pub fn dirty_pfns(&self, range: PfnRange, sink: &mut dyn FnMut(Pfns<'_>)) -> Result<()> {
        let mut inner = self.enter()?;
        self.read_pfns(&mut inner, range, sink)
    }

    fn read_pfns(&self, inner: &mut Inner, range: PfnRange, sink: &mut dyn FnMut(Pfns<'_>)) -> Result<()> {
        if range.total == 0 || !range.page_size.is_power_of_two() || range.start.checked_add(range.total).is_none() {
            return Err(self.named(Error::argument(format!("range: {range:?} is none"))));
        }
        let state = self.cache.state();
        inner.session(Direction::Save, state).map_err(|error| self.named(error))?;
        if inner.window.unread() > 0 {
            return Err(self.named(Error::busy("a segment is under way in the data window")));
        }
        let Inner { transport, dialect: Ok(dialect), .. } = &*inner else {
            return Err(self.named(Error::unsupported("the device is not migratable")));
        };
        match dialect.dirty_pfns(&**transport, range, sink) {
            Ok(()) => Ok(()),
            Err(Fault::Nonsense(text)) => Err(self.named(Error::protocol(format!("reading dirty pages: {text}")))),
            Err(Fault::Errno(errno)) if errno.get() == libc::EOPNOTSUPP => {
                Err(self.named(Error::unsupported("the dialect has no log of its own")))
            }
            Err(Fault::Errno(errno)) => Err(inner.data_failed(&self.cache, &self.name, "reading dirty pages", errno)),
        }
    }

    /// As [`dirty_pfns`](Self::dirty_pfns) for a harvest, which may be on another thread than the one that saves: waits for
    /// the data call in progress and, as long as its patience lasts, for the segment that is in the window. A segment of
    /// the thread that harvests would never end by waiting, and nothing is waited for once the migration was canceled.
    pub(crate) fn harvest_pfns(
        &self,
        range: PfnRange,
        patience: &Patience,
        sink: &mut dyn FnMut(Pfns<'_>),
    ) -> std::result::Result<(), Errno> {
        let mut more = true;
        loop {
            let mut inner = self.gate.enter_between().map_err(denied)?;
            let wait = more && !self.cache.cancel.asked();
            if !wait || inner.window.unread() == 0 || waits_for_me(inner.user) {
                return self.read_pfns(&mut inner, range, sink).map_err(|error| Errno::new(error.errno()));
            }
            drop(inner);
            more = patience.pause();
        }
    }

    /// The log that the device keeps itself, if it has one. *Waits for the log request in progress; asks the kernel.*
    pub(crate) fn own_log(&self) -> Option<OwnLog> {
        if self.info().dialect == Some(Kind::Draft) {
            return Some(OwnLog::Pfns);
        }
        let transport = self.log.enter_whole().ok()?;
        dma_log::probe(&**transport).then_some(OwnLog::Dma)
    }

    /// Starts the DMA log; `page_size` is a hint, the answer is the device's own.
    pub(crate) fn dma_log_start(&self, page_size: u64, ranges: &[[u64; 2]]) -> std::result::Result<u64, Errno> {
        let transport = self.log.enter_whole().map_err(denied)?;
        dma_log::start(&**transport, page_size, ranges)
    }

    /// Reads and clears the DMA log of a started range.
    pub(crate) fn dma_log_report(
        &self,
        iova: u64,
        length: u64,
        page_size: u64,
        bitmap: &mut [u64],
    ) -> std::result::Result<(), Errno> {
        let transport = self.log.enter_whole().map_err(denied)?;
        dma_log::report(&**transport, iova, length, page_size, bitmap)
    }

    /// Stops the DMA log, which is then gone.
    pub(crate) fn dma_log_stop(&self) -> std::result::Result<(), Errno> {
        let transport = self.log.enter_whole().map_err(denied)?;
        dma_log::stop(&**transport)
    }
}
