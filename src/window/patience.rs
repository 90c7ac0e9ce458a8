//! How long one call waits for a device that is not ready: one rule for descriptors and for functions of the VMM.

use crate::cancel::Follower;
use crate::transport::wait_ready;
use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// All waits of one call together, whatever it has moved between them, so that no state change waits longer for it. The tries
/// that brought nothing count as well: most drivers' descriptors poll as ready whatever a read says (F8). What took longer is
/// asked for again by the next call.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A poll that comes back before that has not waited for anything.
const AT_ONCE: Duration = Duration::from_micros(500);

thread_local! {
    static WAITS: Cell<u64> = const { Cell::new(0) };
}

/// How often calls from this thread have waited for a device; the room `device` makes a count for each device of it.
pub(crate) fn waits_of_this_thread() -> u64 {
    WAITS.get()
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// It is worth another try.
    TryAgain,
    Canceled,
    /// The call has waited enough.
    Enough,
}

pub(super) struct Patience<'a> {
    left: Duration,
    /// When the last wait ended, if nothing has moved since.
    waited: Option<Instant>,
    /// The last wait came back at once.
    at_once: bool,
    cancel: &'a Follower,
}

impl<'a> Patience<'a> {
    pub fn new(cancel: &'a Follower) -> Self {
        Patience { left: PATIENCE, waited: None, at_once: false, cancel }
    }

    /// The last try has moved something: how long it took is not counted.
    pub fn moved(&mut self) {
        (self.waited, self.at_once) = (None, false);
    }

    /// Waits until `fd` may be ready, or for a moment; without a descriptor, or if that said so in vain, a millisecond.
    pub fn wait(&mut self, fd: Option<BorrowedFd<'_>>, for_write: bool) -> Waited {
        if self.cancel.asked() {
            return Waited::Canceled;
        }
        if let Some(waited) = self.waited {
            self.left = self.left.saturating_sub(waited.elapsed());
        }
        if self.left.is_zero() {
            return Waited::Enough;
        }
        WAITS.set(WAITS.get().wrapping_add(1));
        let begun = Instant::now();
        wait_ready(fd.filter(|_| !self.at_once), for_write);
        let took = begun.elapsed();
        self.at_once |= took < AT_ONCE;
        self.left = self.left.saturating_sub(took);
        self.waited = Some(Instant::now());
        Waited::TryAgain
    }
}
