//! Faults of a wire, which do not know their place in it.

use crate::error::{Error, ErrorKind};
use std::fmt::Display;

/// A number of bytes, in words.
pub(super) fn bytes(len: impl TryInto<u64>) -> String {
    let len = len.try_into().unwrap_or(u64::MAX);
    format!("{len} byte{}", if len == 1 { "" } else { "s" })
}

/// A rule of the format that was broken. Reader and writer add the place.
#[derive(Debug)]
pub(super) struct WireFault {
    kind: ErrorKind,
    errno: i32,
    what: String,
}

impl WireFault {
    fn new(kind: ErrorKind, errno: i32, what: String) -> Self {
        WireFault { kind, errno, what }
    }

    /// The bytes are against the format.
    pub fn format(what: impl Into<String>) -> Self {
        WireFault::new(ErrorKind::Protocol, libc::EPROTO, what.into())
    }

    /// The bytes are against the format: one value should have been another.
    pub fn differs(what: &str, expected: impl Display, found: impl Display) -> Self {
        WireFault::format(format!("{what}: expected {expected}, found {found}"))
    }

    /// Bytes changed on their way.
    pub fn checksum(what: &str, (written, found): (u32, u32)) -> Self {
        let text = format!("checksum of {what}: {written:#010x} is written there, {found:#010x} is that of the bytes");
        WireFault::new(ErrorKind::Protocol, libc::EBADMSG, text)
    }

    /// The wire needs what this side does not know, such as a later version.
    pub fn unsupported(what: impl Into<String>) -> Self {
        WireFault::new(ErrorKind::Unsupported, libc::EOPNOTSUPP, what.into())
    }

    /// The source side has said that nothing more comes.
    pub fn given_up(text: &str) -> Self {
        let text = format!("the source side gave up: {}", if text.is_empty() { "without a reason" } else { text });
        WireFault::new(ErrorKind::Incomplete, libc::ECONNABORTED, text)
    }

    /// The error of the side that reads the bytes, with the place.
    pub fn at(self, place: impl Display) -> Error {
        Error::new(self.kind, self.errno, format!("{place}: {}", self.what))
    }

    /// The error of the side that makes the bytes: its caller broke the rule.
    pub fn of_caller(self, place: impl Display) -> Error {
        Error::order(format!("{place}: {}", self.what))
    }
}
