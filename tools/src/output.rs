//! The output: text, with colours only where they are wanted, and JSON. A reader that has gone is no failure, and nothing that
//! happens to the output ends the process: a device may be in the middle of a load.

use crate::exit::Exit;
use crate::text;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How a word looks.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// It is good.
    Good,
    /// It is bad.
    Bad,
    /// It is worth a look.
    Odd,
    /// It is not so important.
    Faint,
    /// A heading.
    Bold,
}

/// Where results go.
pub struct Output {
    colors: bool,
    /// A write has failed; nothing more is written.
    closed: AtomicBool,
    /// Results were lost by anything but a reader that has gone.
    failed: AtomicBool,
}

impl Output {
    /// Results go to standard output.
    pub fn new(color: Color) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colors = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !set("NO_COLOR") && !dumb && io::stdout().is_terminal(),
        };
        Output { colors, closed: AtomicBool::new(false), failed: AtomicBool::new(false) }
    }

    /// A word, in its colour if colours are used.
    pub fn paint(&self, look: Look, text: &str) -> String {
        if !self.colors {
            return text.to_string();
        }
        let code = match look {
            Look::Good => "32",
            Look::Bad => "31",
            Look::Odd => "33",
            Look::Faint => "2",
            Look::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Writes a line.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
        if let Err(error) = written {
            self.closed.store(true, Ordering::Relaxed);
            // `vfiomig probe | head` is no error; a full disk is one.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.failed.store(true, Ordering::Relaxed);
                self.trouble(&format!("writing the results failed: {error}"));
            }
        }
    }

    /// With which status the process ends: results that were lost are a failure, too.
    pub fn end(&self, exit: Exit) -> Exit {
        if exit == Exit::Success && self.failed.load(Ordering::Relaxed) { Exit::Failed } else { exit }
    }

    /// Writes a value for programs.
    pub fn json(&self, value: &serde_json::Value) {
        self.line(format!("{value:#}"));
    }

    /// Writes what went wrong, to standard error, as one line: paths and messages of others may have control characters.
    pub fn trouble(&self, text: &str) {
        let _ = writeln!(io::stderr(), "vfiomig: {}", text::plain(text));
    }
}
