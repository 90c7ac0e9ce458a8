//! Memory files, which a client can map or read as its own descriptor.

use std::fs::File;
use std::os::fd::FromRawFd;

/// Guest pages, which are also those of the host here.
pub(crate) const PAGE: u64 = 4096;

/// A new memory file; CLOEXEC.
pub(crate) fn file() -> File {
    // SAFETY: the name is a C string; the flag needs nothing more.
    let fd = unsafe { libc::memfd_create(c"simdev".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and ours.
    unsafe { File::from_raw_fd(fd) }
}
