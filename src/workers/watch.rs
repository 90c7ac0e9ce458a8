//! What the calling thread does while it waits for its workers.

use std::time::Instant;

/// A watcher. It cannot while a job that belongs to the calling thread is in progress.
pub trait Watch {
    /// A moment with nothing else to do; until when the calling thread may sleep if nothing happens. `None`: for as long as it
    /// likes.
    fn look(&mut self) -> Option<Instant>;
    /// Whether a lone item, too, is to be on a worker where it can, so that there are such moments.
    fn wants_free_hands(&self) -> bool;
}

/// No watcher.
#[derive(Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn look(&mut self) -> Option<Instant> {
        None
    }
    fn wants_free_hands(&self) -> bool {
        false
    }
}
