//! Requests that took long, which the check `slow-requests` reports.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// What takes longer is noted.
const SLOW: Duration = Duration::from_secs(1);

/// The requests of one device that took long, in words.
#[derive(Default)]
pub struct Slow(RefCell<Vec<String>>);

impl Slow {
    /// Makes a request, and notes it if it took long.
    pub fn timed<T>(&self, what: &str, request: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = request();
        let took = begun.elapsed();
        if took > SLOW {
            self.0.borrow_mut().push(format!("{what} took {}", crate::text::time(took)));
        }
        result
    }

    /// How many took long, and the first of them.
    pub fn first(&self) -> Option<(usize, String)> {
        let all = self.0.borrow();
        all.first().map(|first| (all.len(), first.clone()))
    }
}
