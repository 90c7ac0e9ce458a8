//! Descriptors of the caller that move nothing.

use crate::error::{Errno, Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The caller's descriptor has moved nothing; `None`: because it is not ready.
pub(super) fn not_moved<T>(what: &str, fd: BorrowedFd<'_>, errno: Errno) -> Result<Option<T>> {
    if errno.get() == libc::EAGAIN {
        return Ok(None);
    }
    let text = format!("{what} the stream: the caller's fd {} failed: {errno}; nothing was moved", fd.as_raw_fd());
    Err(Error::system(errno, text))
}
