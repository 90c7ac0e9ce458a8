//! Makes the threads of a call. Where there are too few, the calling thread does their work, and the log says so once.

use crate::error::Errno;
use crate::log::{self, Level};
use crate::transport::signals::Blocked;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads of one call that moves data where the caller names no number: more would cost more than they save.
pub const DEFAULT_MAX: usize = 64;

thread_local! {
    /// Threads that one call from this thread can get.
    static AVAILABLE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// For tests: a call from this thread gets no more than `count` threads, as if the system had no more.
pub fn refuse_threads_beyond(count: usize) {
    AVAILABLE.set(count);
}

pub(crate) type Panic = Box<dyn Any + Send>;

/// Runs something that may panic.
pub(crate) fn attempt<T>(what: impl FnOnce() -> T) -> Result<T, Panic> {
    // What a broken job has left is the caller's to judge: the panic is resumed there.
    catch_unwind(AssertUnwindSafe(what))
}

/// What came of making threads, and what the log gets of it.
#[must_use]
pub(super) struct Made {
    all: bool,
    news: Option<(Level, String)>,
}

impl Made {
    /// Writes the log; whether all were made. Else the calling thread does their work.
    pub fn report(self) -> bool {
        if let Some((level, text)) = &self.news {
            log::write(*level, format_args!("{text}"));
        }
        self.all
    }
}

/// How many threads of this process could not be had at once; 0: there were always enough. It lasts, as the limit does that is
/// met, so it is logged when it begins, and when a call gets as many again.
static MISSED: AtomicUsize = AtomicUsize::new(0);

/// Makes `count` threads, each by a call of `spawn`, until one cannot be made.
pub(super) fn make_threads(count: usize, mut spawn: impl FnMut() -> std::io::Result<()>) -> Made {
    // A new thread begins with the mask of the one that makes it.
    let _blocked = Blocked::new();
    for made in 0..count {
        let result =
            if made < AVAILABLE.get() { spawn() } else { Err(std::io::Error::from_raw_os_error(libc::EAGAIN)) };
        let Err(error) = result else { continue };
        let why = error.raw_os_error().map_or_else(|| error.to_string(), |errno| Errno::new(errno).to_string());
        let text =
            format!("only {made} of {count} threads could be made ({why}): the calling thread does their work too");
        let least = |missed: usize| if missed == 0 { count } else { missed.min(count) };
        let is_news = MISSED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |missed| Some(least(missed))) == Ok(0);
        return Made { all: false, news: Some((if is_news { Level::Warning } else { Level::Debug }, text)) };
    }
    let missed = MISSED.load(Ordering::Relaxed);
    let is_over = missed > 0
        && count >= missed
        && MISSED.compare_exchange(missed, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    let news = is_over.then(|| (Level::Info, format!("{count} threads can be made again")));
    Made { all: true, news }
}
