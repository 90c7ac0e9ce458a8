//! A wish to stop, from any thread (docs/design.md, "Waiting and threads"): a migration has it, and its devices look at it while
//! they wait.
//!
//! May import: error. Start reading at `Cancel` (the migration's), then at `Follower` (a device's).

use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

const CLEAR: u8 = 0;
const ASKED: u8 = 1;
/// The last phase was begun, or the migration has ended: it is too late.
const CLOSED: u8 = 2;

#[derive(Debug)]
pub(crate) struct Cancel {
    wish: AtomicU8,
    /// Aborts that wait for the call in progress.
    aborts: AtomicUsize,
}

/// An abort waits as long as this lives.
pub(crate) struct Hurry(Arc<Cancel>);

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.aborts.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Cancel {
    pub fn new() -> Self {
        Cancel { wish: AtomicU8::new(CLEAR), aborts: AtomicUsize::new(0) }
    }

    /// An abort begins to wait for the call in progress: what a drain moves from now on is void, so it ends before its next
    /// piece.
    pub fn hurry(self: &Arc<Self>) -> Hurry {
        self.aborts.fetch_add(1, Ordering::AcqRel);
        Hurry(Arc::clone(self))
    }

    /// Whether a drain may continue.
    pub fn check_drain(&self) -> Result<()> {
        self.check()?;
        match self.aborts.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => Err(Error::canceled("an abort waits for the call to end")),
        }
    }

    pub fn ask(&self) {
        // Once closed it stays closed.
        let _ = self.wish.compare_exchange(CLEAR, ASKED, Ordering::AcqRel, Ordering::Acquire);
    }

    pub fn asked(&self) -> bool {
        self.wish.load(Ordering::Acquire) == ASKED
    }

    /// The last phase was begun.
    pub fn is_closed(&self) -> bool {
        self.wish.load(Ordering::Acquire) == CLOSED
    }

    pub fn check(&self) -> Result<()> {
        if self.asked() { Err(refusal()) } else { Ok(()) }
    }

    /// From here on nothing can be canceled; refused if it was asked for before.
    pub fn close(&self) -> Result<()> {
        match self.wish.compare_exchange(CLEAR, CLOSED, Ordering::AcqRel, Ordering::Acquire) {
            Err(ASKED) => Err(refusal()),
            _ => Ok(()),
        }
    }

    /// The migration has ended: nothing is left to cancel.
    pub fn end(&self) {
        self.wish.store(CLOSED, Ordering::Release);
    }

    pub fn clear(&self) {
        self.wish.store(CLEAR, Ordering::Release);
    }
}

/// The cancel that ends a device's own waits: that of its last migration, as long as there is one.
#[derive(Debug, Default)]
pub(crate) struct Follower(Mutex<Weak<Cancel>>);

impl Follower {
    pub fn follow(&self, cancel: &Arc<Cancel>) {
        *self.0.lock() = Arc::downgrade(cancel);
    }

    pub fn asked(&self) -> bool {
        let cancel = self.0.lock().upgrade();
        cancel.is_some_and(|cancel| cancel.asked())
    }

    /// The same, or an abort waits for the call.
    #[cfg(feature = "capi")]
    pub fn ends_drain(&self) -> bool {
        let cancel = self.0.lock().upgrade();
        cancel.is_some_and(|cancel| cancel.check_drain().is_err())
    }
}

fn refusal() -> Error {
    Error::canceled("the migration was canceled: abort is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_until_cleared_and_comes_too_late_once_closed() {
        let cancel = Cancel::new();
        assert!(cancel.check().is_ok());
        cancel.ask();
        cancel.ask();
        assert!(cancel.check().is_err() && cancel.close().is_err() && cancel.asked());
        cancel.clear();
        assert!(cancel.close().is_ok() && cancel.close().is_ok());
        cancel.ask();
        assert!(!cancel.asked() && cancel.check().is_ok());
        cancel.clear();
        cancel.ask();
        assert!(cancel.asked());
    }
    #[test]
    fn devices_follow_the_last_migration_while_it_lasts() {
        let follower = Follower::default();
        assert!(!follower.asked());
        let (first, second) = (Arc::new(Cancel::new()), Arc::new(Cancel::new()));
        follower.follow(&first);
        first.ask();
        assert!(follower.asked());
        follower.follow(&second);
        assert!(!follower.asked());
        second.ask();
        assert!(follower.asked());
        second.end();
        assert!(!follower.asked());
        second.clear();
        second.ask();
        drop(second);
        assert!(!follower.asked());
    }
}
