//! Failures in words, each with what to do next.

use std::fmt;

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong, in words.
    pub what: String,
    /// What a person can do about it.
    pub next: String,
    /// It is known of the device that it cannot be migrated as it is; else it could not be asked.
    pub of_device: bool,
}

impl Trouble {
    /// A failure, and what to do next.
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Trouble { what: what.into(), next: next.into(), of_device: false }
    }

    /// It is the device that cannot be migrated as it is.
    pub fn of_device(self) -> Self {
        Trouble { of_device: true, ..self }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Next: {}", self.what, self.next)
    }
}
