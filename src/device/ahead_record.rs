//! What any thread may know of a stream that is read ahead, and may ask of it.

use crate::window::Share;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Whether it is wanted, and for reports what was read ahead since the handle was made, and when.
#[derive(Default)]
pub(super) struct AheadRecord {
    /// In STOP_COPY its stream is read ahead, into this.
    wanted: Mutex<Option<Share>>,
    pub bytes: AtomicU64,
    /// From when to when it was read the last time.
    span: Mutex<Option<(Instant, Instant)>>,
}

impl AheadRecord {
    /// A share that was not taken goes back.
    pub fn want(&self, share: Option<Share>) {
        *self.wanted.lock() = share;
    }

    pub fn take(&self) -> Option<Share> {
        self.wanted.lock().take()
    }

    pub fn span(&self) -> Option<(Instant, Instant)> {
        *self.span.lock()
    }

    pub fn begins(&self) {
        let now = Instant::now();
        *self.span.lock() = Some((now, now));
    }

    pub fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.span.lock().iter_mut().for_each(|(_, last)| *last = Instant::now());
    }
}
