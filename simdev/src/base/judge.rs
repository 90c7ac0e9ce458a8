//! What a client did that the protocol forbids.

use std::fmt;

/// One offence, by the number of the rule in docs/rules.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule: "V1-6", "D5", "V2-1" …
    pub rule: &'static str,
    /// What was done.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// A client that goes wrong at each byte must not fill the memory.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub list: Vec<Violation>,
    pub count: u64,
}

impl Judge {
    pub fn record(&mut self, rule: &'static str, text: impl Into<String>) {
        self.count += 1;
        if self.list.len() < MOST {
            self.list.push(Violation { rule, text: text.into() });
        }
    }

    /// An offence, and the answer to it.
    pub fn refuse<T>(&mut self, rule: &'static str, text: impl Into<String>, errno: i32) -> Result<T, i32> {
        self.record(rule, text);
        Err(errno)
    }
}

/// What a client did would have crashed the host or the server.
pub(crate) fn hurt(what: &str) -> ! {
    eprintln!("simdev: ABORT: {what}: this would have hurt the host");
    std::process::abort()
}
