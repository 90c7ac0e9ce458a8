//! A wish to stop, from any thread (DESIGN.md section 5).

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU8, Ordering};

const CLEAR: u8 = 0;
const ASKED: u8 = 1;
/// The last phase was begun: it is too late.
const CLOSED: u8 = 2;

pub(super) struct Cancel(AtomicU8);

impl Cancel {
    pub fn new() -> Self {
        Cancel(AtomicU8::new(CLEAR))
    }

    pub fn ask(&self) {
        // Once closed it stays closed.
        let _ = self.0.compare_exchange(CLEAR, ASKED, Ordering::AcqRel, Ordering::Acquire);
    }

    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Acquire) == ASKED
    }

    pub fn check(&self) -> Result<()> {
        if self.asked() { Err(refusal()) } else { Ok(()) }
    }

    /// From here on nothing can be canceled; refused if it was asked for before.
    pub fn close(&self) -> Result<()> {
        match self.0.compare_exchange(CLEAR, CLOSED, Ordering::AcqRel, Ordering::Acquire) {
            Err(ASKED) => Err(refusal()),
            _ => Ok(()),
        }
    }

    pub fn clear(&self) {
        self.0.store(CLEAR, Ordering::Release);
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
}
