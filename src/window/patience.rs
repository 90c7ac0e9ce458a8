//! How long one call waits for a device that is not ready: one rule for descriptors and for functions of the VMM.

use crate::cancel::Follower;
use crate::transport::wait_ready;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// All waits of one call together, whatever it has moved between them, so that no state change waits longer for it. What took
/// longer is asked for again by the next call.
const PATIENCE: Duration = Duration::from_secs(1);

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
    cancel: &'a Follower,
}

impl<'a> Patience<'a> {
    pub fn new(cancel: &'a Follower) -> Self {
        Patience { left: PATIENCE, cancel }
    }

    /// Waits until `fd` may be ready, or for a moment; without a descriptor a millisecond.
    pub fn wait(&mut self, fd: Option<BorrowedFd<'_>>, for_write: bool) -> Waited {
        if self.cancel.asked() {
            return Waited::Canceled;
        }
        if self.left.is_zero() {
            return Waited::Enough;
        }
        let begun = Instant::now();
        wait_ready(fd, for_write);
        self.left = self.left.saturating_sub(begun.elapsed());
        Waited::TryAgain
    }
}
