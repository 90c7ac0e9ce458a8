//! What a command gets.

use std::os::fd::OwnedFd;

/// A payload, and descriptors beside it.
pub(super) struct Answer {
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Answer {
    pub fn empty() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<u8>> for Answer {
    fn from(payload: Vec<u8>) -> Self {
        Answer { payload, fds: Vec::new() }
    }
}
