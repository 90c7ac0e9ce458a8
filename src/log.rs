//! The log sink of the process: silent unless the VMM set one. Levels are those of syslog.
//!
//! May import: nothing. Start reading at `write`; `capture` and `replay` bring what a worker logs to the calling thread.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use vfiomig::device::{Device, DeviceOptions};
//! use vfiomig::log::{Level, set_sink};
//!
//! let lines = Arc::new(Mutex::new(Vec::new()));
//! let kept = Arc::clone(&lines);
//! set_sink(Some(Arc::new(move |level, line| kept.lock().unwrap().push(format!("{level:?}: {line}")))), Level::Info);
//! let hardware = simdev::Device::new(simdev::Config::default());
//! Device::new(hardware.transport(), DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?;
//! assert!(lines.lock().unwrap().iter().any(|line| line.starts_with("Info: nic0: dialect v2, state RUNNING")));
//! # set_sink(None, Level::Error);
//! # Ok::<(), vfiomig::Error>(())
//! ```

use parking_lot::RwLock;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

/// syslog's numbers; a sink gets messages up to the level it asked for.
///
/// ```
/// use vfiomig::log::Level;
///
/// assert!(Level::Error < Level::Debug && Level::Info as i32 == 6);
/// ```
/// Example of a sink: [`set_sink`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i32)]
pub enum Level {
    /// Something failed that the library could not mend: one line for each failure, also where it fails a group or a migration.
    Error = 3,
    /// Something is odd and was handled.
    Warning = 4,
    /// One line per step that matters to an operator.
    Info = 6,
    /// One line per request to the device.
    Debug = 7,
}

/// Receives one line without line end; called on the thread that called the library.
///
/// Example: [`set_sink`].
pub type Sink = Arc<dyn Fn(Level, &str) + Send + Sync>;

const SILENT: i32 = -1;
static MAX_LEVEL: AtomicI32 = AtomicI32::new(SILENT);
static SINK: RwLock<Option<Sink>> = RwLock::new(None);

/// Sets the sink, which gets the lines up to `max_level`, or removes it. A call of the old sink may still be in progress in
/// another thread.
///
/// ```
/// use std::sync::Arc;
/// use vfiomig::log::{Level, set_sink};
///
/// set_sink(Some(Arc::new(|level, line| eprintln!("{level:?}: {line}"))), Level::Info);
/// # set_sink(None, Level::Error);
/// ```
pub fn set_sink(sink: Option<Sink>, max_level: Level) {
    set_sink_up_to(sink, max_level as i32);
}

/// Sends the lines to the crate `log`, with the target `vfiomig`: warnings and errors as such, what syslog calls INFO as
/// `info`, each request to a device as `debug`. What `log` itself has no use for is not made.
#[cfg(feature = "log")]
pub fn use_log_crate() {
    let level = |level| match level {
        Level::Error => ::log::Level::Error,
        Level::Warning => ::log::Level::Warn,
        Level::Info => ::log::Level::Info,
        Level::Debug => ::log::Level::Debug,
    };
    let most = match ::log::max_level() {
        ::log::LevelFilter::Off => return set_sink(None, Level::Error),
        ::log::LevelFilter::Error => Level::Error,
        ::log::LevelFilter::Warn => Level::Warning,
        ::log::LevelFilter::Info => Level::Info,
        ::log::LevelFilter::Debug | ::log::LevelFilter::Trace => Level::Debug,
    };
    let sink = move |of, line: &str| ::log::log!(target: "vfiomig", level(of), "{line}");
    set_sink(Some(Arc::new(sink)), most);
}

/// As [`set_sink`], with any of syslog's numbers as `max_level`.
pub(crate) fn set_sink_up_to(sink: Option<Sink>, max_level: i32) {
    let level = if sink.is_some() { max_level } else { SILENT };
    *SINK.write() = sink;
    MAX_LEVEL.store(level, Ordering::Release);
}

/// Lines kept for the thread that called the library.
#[derive(Default)]
pub(crate) struct Lines(Vec<(Level, String)>);

impl Lines {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes a line to the thread that called the library.
pub(crate) type Messenger = Arc<dyn Fn(Level, String) + Send + Sync>;

/// Where this thread's lines go instead of the sink.
enum Captured {
    /// Kept: those of this level and graver ones.
    Kept(Level, Lines),
    /// Written at once, by another thread.
    Sent(Messenger),
}

thread_local! {
    static CAPTURED: RefCell<Option<Captured>> = const { RefCell::new(None) };
}

/// `None` on a thread that ends and has no such place any more: a VMM may call from the clean-up of its threads.
fn captured<R>(with: impl FnOnce(&mut Option<Captured>) -> R) -> Option<R> {
    CAPTURED.try_with(|lines| with(&mut lines.borrow_mut())).ok()
}

/// Puts back where this thread's lines went before when it is dropped, also by a panic: else the thread would be silent for ever.
struct Restore(Option<Captured>);

impl Restore {
    fn behind(place: Captured) -> Self {
        Restore(captured(|before| before.replace(place)).flatten())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = captured(|place| *place = self.0.take());
    }
}

/// Runs `job` and keeps what it logs: the sink is called on the thread that called the library, not on a worker.
pub(crate) fn capture<T>(job: impl FnOnce() -> T) -> (T, Lines) {
    capture_from(Level::Debug, job)
}

/// Runs `job` and keeps the errors that it logs: the caller decides later at which level they are written. Other lines are
/// written at once.
pub(crate) fn capture_errors<T>(job: impl FnOnce() -> T) -> (T, Lines) {
    capture_from(Level::Error, job)
}

fn capture_from<T>(level: Level, job: impl FnOnce() -> T) -> (T, Lines) {
    let _restore = Restore::behind(Captured::Kept(level, Lines::default()));
    let result = job();
    let lines = match captured(Option::take).flatten() {
        Some(Captured::Kept(_, lines)) => lines,
        Some(Captured::Sent(_)) | None => Lines::default(),
    };
    (result, lines)
}

/// Runs `job` on a worker; what it logs goes to the calling thread at once, for a request that hangs is in no line that comes
/// later.
pub(crate) fn send<T>(messenger: Messenger, job: impl FnOnce() -> T) -> T {
    let _restore = Restore::behind(Captured::Sent(messenger));
    job()
}

/// Whether lines of this level are heard.
pub(crate) fn is_heard(level: Level) -> bool {
    level as i32 <= MAX_LEVEL.load(Ordering::Acquire)
}

/// Writes what was captured.
pub(crate) fn replay(lines: Lines) {
    replay_as(Level::Error, lines);
}

/// Writes what was captured, nothing of it at a graver level than `gravest`.
pub(crate) fn replay_as(gravest: Level, lines: Lines) {
    for (level, text) in lines.0 {
        write(level.max(gravest), format_args!("{text}"));
    }
}

pub(crate) fn write(level: Level, text: fmt::Arguments<'_>) {
    if !is_heard(level) {
        return;
    }
    let keep = |place: &mut Option<Captured>| match place {
        Some(Captured::Kept(least, lines)) if level <= *least => {
            lines.0.push((level, text.to_string()));
            true
        }
        Some(Captured::Sent(messenger)) => {
            messenger(level, text.to_string());
            true
        }
        Some(Captured::Kept(..)) | None => false,
    };
    if captured(keep) == Some(true) {
        return;
    }
    // The lock is given back before the sink runs, so that a sink may call set_sink.
    let sink = SINK.read().clone();
    if let Some(sink) = sink {
        sink(level, &text.to_string());
    }
}

/// A request that takes longer is in the log, and again each time that it has taken so much longer.
const LONG: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(10);

thread_local! {
    static PATIENCE: Cell<(Duration, Duration)> = const { Cell::new((LONG, AGAIN)) };
}

/// After what time a request is logged that was not answered, and how much later again.
pub(crate) fn patience() -> (Duration, Duration) {
    PATIENCE.try_with(Cell::get).unwrap_or((LONG, AGAIN))
}

/// For tests: calls from this thread warn of requests that take so long, and again after so much longer.
pub(crate) fn set_patience(long: Duration, again: Duration) {
    PATIENCE.set((long, again));
}

/// A condition that lasts is logged when it begins and when it ends, not with each call that meets it.
#[derive(Debug, Default)]
pub(crate) struct Lasting(AtomicBool);

impl Lasting {
    /// The condition is met; returns whether it was not the last time.
    pub fn begins(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// The condition is not met; returns whether it was the last time.
    pub fn ends(&self) -> bool {
        // Most often there was none, and then nothing is written.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

macro_rules! log {
    ($level:ident, $($arg:tt)*) => { $crate::log::write($crate::log::Level::$level, format_args!($($arg)*)) };
}
pub(crate) use log;
