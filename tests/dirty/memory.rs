//! A log in memory behind the functions of a VMM: its page may be as large as any log's, which no software device's RAM is.

use crate::rig::P;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vfiomig::error::Errno;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::tracker_ops::LogFunctions;

#[derive(Default)]
pub struct State {
    /// Bytes.
    pub page: u64,
    pub started: Vec<[u64; 2]>,
    /// In pages of the log.
    pub dirty: BTreeSet<u64>,
    /// Ranges that were reported, in order.
    pub reports: Vec<IovaRange>,
    /// Written by the device right after START.
    pub at_start: Vec<u64>,
    /// This function panics.
    pub panics: Option<&'static str>,
    /// How long STOP takes, for devices that write meanwhile.
    pub stop_takes: Duration,
    /// Each of these fails once.
    pub fails: Vec<&'static str>,
}

#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<State>>);

impl MemoryLog {
    pub fn new(page: u64) -> Self {
        let log = MemoryLog::default();
        log.state().page = page;
        log
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A device writes to this byte.
    pub fn write(&self, iova: u64) {
        let mut state = self.state();
        let page = iova / state.page;
        if state.started.iter().any(|range| iova >= range[0] && iova - range[0] < range[1]) {
            state.dirty.insert(page);
        }
    }

    /// A tracker over it. `page_size` 0: as it comes.
    pub fn tracker(&self, page_size: u64) -> Tracker {
        self.tracker_in(page_size, Vec::new())
    }

    /// As `tracker`, with an aperture.
    pub fn tracker_in(&self, page_size: u64, aperture: Vec<IovaRange>) -> Tracker {
        let page_size = (page_size > 0).then_some(page_size);
        let functions: Option<Box<dyn LogFunctions>> = Some(Box::new(self.clone()));
        Tracker::new(TrackerOptions {
            name: "memory".into(),
            functions,
            page_size,
            apertures: aperture,
            ..TrackerOptions::default()
        })
        .unwrap()
    }

    /// Panics, or fails, if the test wants it.
    fn called(&self, function: &str) -> Result<(), Errno> {
        let mut state = self.state();
        let (panics, fails) = (state.panics, state.fails.iter().position(|fails| *fails == function));
        if let Some(index) = fails {
            state.fails.remove(index);
        }
        drop(state);
        assert!(panics != Some(function), "a function of the VMM");
        if fails.is_some() { Err(Errno::new(libc::EIO)) } else { Ok(()) }
    }
}

impl LogFunctions for MemoryLog {
    fn start(&self, hint: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        self.called("start")?;
        let mut state = self.state();
        if !state.started.is_empty() {
            return Err(Errno::new(libc::EINVAL));
        }
        state.page = state.page.max(hint);
        state.started = ranges.to_vec();
        state.dirty.clear();
        let (page, written) = (state.page, state.at_start.clone());
        drop(state);
        written.into_iter().for_each(|iova| self.write(iova));
        Ok(page)
    }

    fn report(&self, iova: u64, size: u64, page: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        self.called("report")?;
        let mut state = self.state();
        let inside = |range: &[u64; 2]| iova >= range[0] && iova - range[0] + size <= range[1];
        if page != state.page || (iova | size) % page != 0 || !state.started.iter().any(inside) {
            return Err(Errno::new(libc::EINVAL));
        }
        state.reports.push(IovaRange { iova, size });
        let first = iova / page;
        let found: Vec<u64> = state.dirty.range(first..first + size / page).copied().collect();
        for page in found {
            bitmap[((page - first) / 64) as usize] |= 1 << ((page - first) % 64);
            state.dirty.remove(&page);
        }
        Ok(())
    }

    fn stop(&self) -> Result<(), Errno> {
        self.called("stop")?;
        let takes = self.state().stop_takes;
        std::thread::sleep(takes);
        self.state().started.clear();
        Ok(())
    }
}

pub fn mapping(iova: u64, size: u64, cookie: u64) -> Mapping {
    Mapping { range: IovaRange { iova, size }, cookie }
}

/// Everything by runs: cookie and pages.
pub fn runs(tracker: &Tracker, no_read: bool) -> Vec<(u64, u64, u64)> {
    let mut reported = Vec::new();
    let mut run = |cookie: u64, run: IovaRange| {
        reported.push((cookie, run.iova / P, run.size / P));
        true
    };
    tracker.harvest(&mut Request { run: Some(&mut run), no_read, ..Request::default() }).unwrap();
    reported
}
