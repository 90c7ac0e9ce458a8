//! The logs of written pages that a device keeps itself: the DMA log of v2, and the draft's, which shares the data window
//! with the state bytes (D5).

use super::{Device, DeviceInner, DeviceRequest, Entered};
use crate::dialect::registers::Fault;
use crate::dialect::{DialectKind, Direction, PfnRange, Pfns};
use crate::error::{Errno, Error, Result};
use crate::gate::{Denied, waits_for_me};
use crate::transport::one_call::WithinCall;
use crate::transport::{Transport, dma_log};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one harvest waits, in all, for other threads to finish the segments that are in the windows of drafts.
const SEGMENT_PATIENCE: Duration = Duration::from_secs(1);
const SEGMENT_PAUSE: Duration = Duration::from_millis(1);
/// Parts of fewer pages are crumbs: a log of 64 GiB would come in millions of them. One harvest spends so much time on them, in
/// all; then the rest is reported as dirty.
const CRUMB: u64 = 512;
const CRUMB_PATIENCE: Duration = Duration::from_secs(1);

/// What is left of the time that one harvest waits, whichever of its devices and ranges it waits for.
pub(crate) struct HarvestPatience {
    segments: Mutex<Duration>,
    crumbs: Mutex<Duration>,
}

impl HarvestPatience {
    pub fn new() -> Self {
        HarvestPatience { segments: Mutex::new(SEGMENT_PATIENCE), crumbs: Mutex::new(CRUMB_PATIENCE) }
    }

    /// Sleeps for a moment, or says that there has been enough of it. The lock is held meanwhile: those who wait side by side
    /// spend the same time once.
    fn pause(&self) -> bool {
        let mut left = self.segments.lock();
        if left.is_zero() {
            return false;
        }
        let begun = Instant::now();
        std::thread::sleep(SEGMENT_PAUSE);
        *left = left.saturating_sub(begun.elapsed());
        true
    }

    /// Whether a part of `pages` pages, which took so long, leaves time for another one.
    fn bears(&self, pages: u64, took: Duration) -> bool {
        if pages >= CRUMB {
            return true;
        }
        let mut left = self.crumbs.lock();
        *left = left.saturating_sub(took);
        !left.is_zero()
    }
}

/// A log whose device cannot be asked now, as the errno that a harvest reports.
fn denied(denied: Denied) -> Errno {
    Errno::new(match denied {
        Denied::Busy => libc::EBUSY,
        Denied::Reentry => libc::EDEADLK,
        Denied::Closed => libc::ENODEV,
        Denied::Broken => libc::ENOTRECOVERABLE,
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
    /// Only the draft has such a log, and only while a save session is open, whatever became of its stream. BUSY
    /// while a segment is under way: the window shows one thing at a time. After a failure of the device every page
    /// that was not reported before was reported as dirty: also when the migration was canceled (CANCELED), and when
    /// the log comes in parts of so few pages that they took more than a second (PROTOCOL).
    pub fn dirty_pfns(&self, range: PfnRange, sink: &mut dyn FnMut(Pfns<'_>)) -> Result<()> {
        let mut inner = self.enter()?;
        self.read_pfns(&mut inner, range, &HarvestPatience::new(), sink)
    }

    fn read_pfns(
        &self,
        inner: &mut DeviceInner,
        range: PfnRange,
        patience: &HarvestPatience,
        sink: &mut dyn FnMut(Pfns<'_>),
    ) -> Result<()> {
        if range.total == 0 || !range.page_size.is_power_of_two() || range.start.checked_add(range.total).is_none() {
            let PfnRange { start, page_size, total } = range;
            let text = format!("range: {total} pages of {page_size} bytes from page {start:#x} on are no range");
            return Err(self.named(Error::argument(text)));
        }
        inner.open(Direction::Save, self.cache.state()).map_err(|error| self.named(error))?;
        if inner.window.in_use() {
            return Err(self.named(Error::busy("a segment is under way in the data window")));
        }
        let DeviceInner { transport, dialect: Ok(dialect), window, .. } = &mut *inner else {
            return Err(self.named(Error::unsupported("the device is not migratable")));
        };
        if dialect.kind() != DialectKind::Draft {
            return Err(self.named(Error::unsupported("the dialect has no log of its own")));
        }
        let mut begun = Instant::now();
        let mut go_on = |pages: u64| {
            let took = std::mem::replace(&mut begun, Instant::now()).elapsed();
            if self.cache.cancel.asked() {
                return Err(Fault::Errno(Errno::new(libc::ECANCELED)));
            }
            if patience.bears(pages, took) {
                return Ok(());
            }
            Err(Fault::Nonsense(format!("they come in parts of {pages} pages, which takes too long")))
        };
        let asked = self.cache.ask(DeviceRequest::Log);
        let outcome = dialect.dirty_pfns(&**transport, range, &mut go_on, sink);
        drop(asked);
        window.begin_anew();
        match outcome {
            Ok(()) => Ok(()),
            Err(Fault::Nonsense(text)) => Err(self.named(Error::protocol(format!("reading dirty pages: {text}")))),
            Err(Fault::Errno(errno)) if errno.get() == libc::ECANCELED => {
                Err(self.named(Error::canceled("reading dirty pages: canceled; the rest is reported as dirty")))
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
        patience: &HarvestPatience,
        sink: &mut dyn FnMut(Pfns<'_>),
    ) -> std::result::Result<(), Errno> {
        let mut more = true;
        loop {
            let mut inner = Entered::new(self.gate.enter().map_err(denied)?);
            let wait = more && !self.cache.cancel.asked();
            if !wait || !inner.window.in_use() || waits_for_me(inner.user) {
                return self.read_pfns(&mut inner, range, patience, sink).map_err(|error| Errno::new(error.errno()));
            }
            drop(inner);
            more = patience.pause();
        }
    }

    /// The log that the device keeps itself, or why there is none to be used. *Waits for the log request in progress; asks the
    /// kernel.*
    pub(crate) fn own_log(&self) -> std::result::Result<OwnLog, &'static str> {
        const NONE: &str = "keeps no log of its own";
        if self.no_log {
            return Err("is made without the use of its own log");
        }
        if self.info().dialect == Some(DialectKind::Draft) {
            return Ok(OwnLog::Pfns);
        }
        let transport = self.enter_log().map_err(|_| NONE)?;
        let _call = WithinCall::with_one_deadline();
        let _asked = self.cache.log_asked.begin(DeviceRequest::Log);
        if dma_log::probe(&**transport) { Ok(OwnLog::Dma) } else { Err(NONE) }
    }

    fn enter_log(&self) -> std::result::Result<Entered<'_, Arc<dyn Transport>>, Errno> {
        self.log.enter_whole().map(Entered::new).map_err(denied)
    }

    /// A number if the device is known to stand still, so that nothing is written; it did all the time if the number is the same
    /// later.
    pub(crate) fn stands_still(&self) -> Option<u64> {
        self.cache.stands_still()
    }

    /// Starts the DMA log; `page_size` is a hint, the answer is the device's own.
    pub(crate) fn dma_log_start(&self, page_size: u64, ranges: &[[u64; 2]]) -> std::result::Result<u64, Errno> {
        let transport = self.enter_log()?;
        let _call = WithinCall::with_one_deadline();
        let _asked = self.cache.log_asked.begin(DeviceRequest::Log);
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
        let transport = self.enter_log()?;
        let _call = WithinCall::with_one_deadline();
        let _asked = self.cache.log_asked.begin(DeviceRequest::Log);
        dma_log::report(&**transport, iova, length, page_size, bitmap)
    }

    /// Stops the DMA log, which is then gone.
    pub(crate) fn dma_log_stop(&self) -> std::result::Result<(), Errno> {
        let transport = self.enter_log()?;
        let _call = WithinCall::with_one_deadline();
        let _asked = self.cache.log_asked.begin(DeviceRequest::Log);
        dma_log::stop(&**transport)
    }
}
