//! What bytes travel in between devices and the caller's functions, and whether anything moves at all.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one piece; large reads, because some drivers copy page by page (P20).
pub(super) const PIECE: usize = 1 << 20;

/// A buffer on its way between a device and the caller.
#[derive(Default)]
pub(in crate::migration) struct Parcel {
    buf: Vec<u8>,
    pub len: usize,
    /// Of these the device has so many already.
    pub taken: usize,
    pub segment_end: bool,
    /// At the end of the stream: its length, as the caller stated it.
    pub total: Option<u64>,
}

impl Parcel {
    /// The first `max` bytes of it, all there.
    pub fn room(&mut self, max: usize) -> &mut [u8] {
        self.taken = 0;
        if self.buf.len() < PIECE {
            // Not resize: fresh zeroes from the system cost nothing until they are touched.
            self.buf = vec![0; PIECE];
        }
        self.buf.get_mut(..max.min(PIECE)).unwrap_or_default()
    }

    pub fn bytes(&self) -> &[u8] {
        self.buf.get(self.taken..self.len).unwrap_or_default()
    }
}

/// Parcels that are not on their way. There are never more than the turns and the calling thread use at once, however many
/// devices there are, and the next round has them again.
#[derive(Default)]
pub(in crate::migration) struct ParcelPool(Mutex<Vec<Parcel>>);

impl ParcelPool {
    pub fn take(&self) -> Parcel {
        self.0.lock().pop().unwrap_or_default()
    }

    pub fn give_back(&self, parcel: Parcel) {
        self.0.lock().push(parcel);
    }
}

/// When something last moved, and who may still be about to move something.
pub(in crate::migration) struct Progress {
    running: AtomicUsize,
    last: Mutex<Instant>,
    patience: Duration,
}

impl Progress {
    pub fn new(patience: Duration) -> Self {
        Progress { running: AtomicUsize::new(0), last: Mutex::new(Instant::now()), patience }
    }

    /// Runs what may take its time in a device or in the caller's function; what it says moved counts.
    pub fn during<T>(&self, what: impl FnOnce() -> T, moved: impl FnOnce(&T) -> bool) -> T {
        self.running.fetch_add(1, Ordering::Relaxed);
        let result = what();
        if moved(&result) {
            *self.last.lock() = Instant::now();
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Nothing has moved for longer than a call should wait, and no thread is at work but the one that asks, at work itself:
    /// everything waits for descriptors.
    pub fn stalled(&self) -> bool {
        self.stalled_beside(1)
    }

    /// The same, asked by one that waits: those who work have not given up, and to be woken would find it as it was.
    pub fn all_stalled(&self) -> bool {
        self.stalled_beside(0)
    }

    fn stalled_beside(&self, at_work: usize) -> bool {
        self.running.load(Ordering::Relaxed) <= at_work && self.last.lock().elapsed() >= self.patience
    }

    pub fn patience(&self) -> Duration {
        self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that waits beside a slow device or a slow caller is not woken again and again to find nothing.
    #[test]
    fn who_is_at_work_has_not_stalled() {
        let progress = Progress::new(Duration::ZERO);
        assert!(progress.all_stalled());
        progress.during(
            || {
                assert!(progress.stalled() && !progress.all_stalled());
                progress.during(|| assert!(!progress.stalled() && !progress.all_stalled()), |()| false);
            },
            |()| false,
        );
        assert!(progress.all_stalled());
    }
}
