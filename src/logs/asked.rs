//! What is asked of a log now, and since when, for any thread to see: a log that hangs hangs in a request, as a device does.

use crate::log::{Level, is_heard, log, patience};
use crate::transport::clock;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What can be asked of a log.
///
/// ```
/// use vfiomig::tracker::LogRequest;
///
/// assert_eq!(LogRequest::Read.to_string(), "a read");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRequest {
    /// To begin, and to be read once.
    Start,
    /// What was written.
    Read,
    /// To end.
    Stop,
}

impl fmt::Display for LogRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogRequest::Start => "the start",
            LogRequest::Read => "a read",
            LogRequest::Stop => "the stop",
        })
    }
}

/// A request to a log of a tracker that was not answered yet.
///
/// Example: [`Tracker::asked`](crate::tracker::Tracker::asked).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAsked {
    /// The tracker, and which of its logs.
    pub log: String,
    /// What it is.
    pub request: LogRequest,
    /// Since when, by CLOCK_MONOTONIC, within some milliseconds.
    pub since: Duration,
}

impl LogAsked {
    /// How long it has taken until now.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(clock::now()).saturating_sub(self.since)
    }
}

/// One log, for any thread to see: its name, and the request that is in progress, which is its beginning with a number in the
/// lower bits; 0: none. One thread at a time asks a log.
#[derive(Debug)]
pub(crate) struct LogSlot {
    name: String,
    pub any_thread: bool,
    now: AtomicU64,
}

const LOWER: u64 = 0xff;

impl LogSlot {
    pub fn new(name: String, any_thread: bool) -> Arc<Self> {
        Arc::new(LogSlot { name, any_thread, now: AtomicU64::new(0) })
    }

    /// A request begins; it ends with the guard, and is in the log of messages if it took long.
    pub fn begin(&self, request: LogRequest) -> OpenLogRequest<'_> {
        let number = match request {
            LogRequest::Start => 1,
            LogRequest::Read => 2,
            LogRequest::Stop => 3,
        };
        // There may be a million requests in a harvest, and moments do not matter here.
        let begun = clock::coarse();
        self.now.store((begun & !LOWER) | number, Ordering::Relaxed);
        OpenLogRequest { slot: self, request, begun }
    }

    /// The request in progress.
    pub fn get(&self) -> Option<LogAsked> {
        let value = self.now.load(Ordering::Relaxed);
        let request = match value & LOWER {
            1 => LogRequest::Start,
            2 => LogRequest::Read,
            3 => LogRequest::Stop,
            _ => return None,
        };
        Some(LogAsked { log: self.name.clone(), request, since: Duration::from_nanos(value & !LOWER) })
    }
}

/// A request is in progress while it lives.
pub(crate) struct OpenLogRequest<'s> {
    slot: &'s LogSlot,
    request: LogRequest,
    begun: u64,
}

impl Drop for OpenLogRequest<'_> {
    fn drop(&mut self) {
        self.slot.now.store(0, Ordering::Relaxed);
        let took = Duration::from_nanos(clock::coarse().saturating_sub(self.begun));
        if took >= patience().0 && is_heard(Level::Warning) {
            log!(Warning, "{}: {} was answered after {took:.1?}", self.slot.name, self.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_seen_until_it_is_answered() {
        let slot = LogSlot::new("ram: log".into(), true);
        assert_eq!(slot.get(), None);
        for request in [LogRequest::Start, LogRequest::Read, LogRequest::Stop] {
            let open = slot.begin(request);
            std::thread::sleep(Duration::from_millis(20));
            let seen = slot.get().unwrap();
            assert_eq!((seen.log.as_str(), seen.request), ("ram: log", request));
            assert!(
                seen.age() >= Duration::from_millis(10) && seen.age() < Duration::from_secs(10),
                "{:?}",
                seen.age()
            );
            drop(open);
            assert_eq!(slot.get(), None);
        }
    }
}
