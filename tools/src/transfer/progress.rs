//! What a person sees while bytes move: a bar on a terminal, else a line now and then.

use crate::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The time between two lines.
const BETWEEN: Duration = Duration::from_secs(2);

/// The progress of one command, on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: Option<u64>,
    quiet: bool,
    begun: Instant,
    shown: Instant,
}

impl Progress {
    /// A progress of `total` bytes, if that is known.
    pub fn new(what: &'static str, total: Option<u64>, quiet: bool) -> Self {
        let bar = (std::io::stderr().is_terminal() && !quiet).then(|| bar(what, total));
        let now = Instant::now();
        Progress { bar, what, total, quiet, begun: now, shown: now }
    }

    /// Shows that so many bytes were moved.
    pub fn moved(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        } else if !self.quiet && self.shown.elapsed() > BETWEEN {
            self.shown = Instant::now();
            let of = self.total.map_or_else(String::new, |total| format!(" of {}", text::bytes(total)));
            let rate = text::rate(bytes, self.begun.elapsed());
            say(&format!("{}: {}{of}, {rate}", self.what, text::bytes(bytes)));
        }
    }

    /// Writes a line, above the bar where there is one.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say(line),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let (template, bar) = match total {
        Some(total) => {
            let template = "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            (template, ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()))
        }
        None => (
            "{msg} {spinner} {bytes}, {bytes_per_sec}, {elapsed}",
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
        ),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// Writes a line to standard error.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
