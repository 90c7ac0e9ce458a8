//! How the calling thread shares itself between its own turns and what others have for it.

use std::time::{Duration, Instant};

/// A turn on the calling thread keeps waiting what others have for it. After it they have the calling thread once, and then for
/// as long as the turn took while they have something: a slow device that must be served here holds the others up by half at
/// most, and loses an eighth where they have nothing.
pub(super) struct Courtesy {
    once: bool,
    until: Instant,
    step: Duration,
    quiet: Instant,
}

impl Courtesy {
    pub fn new() -> Self {
        let now = Instant::now();
        Courtesy { once: false, until: now, step: Duration::ZERO, quiet: now }
    }

    /// Others have waited for so long.
    pub fn owe(&mut self, took: Duration) {
        let now = Instant::now();
        self.step = took.checked_div(8).unwrap_or_default();
        self.until = now.checked_add(took).unwrap_or(now);
        self.heard();
        self.once = true;
    }

    /// One of them had something.
    pub fn heard(&mut self) {
        let now = Instant::now();
        self.quiet = now.checked_add(self.step).unwrap_or(now);
        self.once = false;
    }

    pub fn hears_first(&self) -> bool {
        self.once || Instant::now() < self.until
    }

    /// No turn begins here yet.
    pub fn holds(&self) -> bool {
        Instant::now() < self.end()
    }

    pub fn end(&self) -> Instant {
        self.until.min(self.quiet)
    }
}
