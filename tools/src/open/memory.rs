//! Memory that a server is given.

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;

/// A file of that many zeros, which has no name.
pub fn memory(size: u64) -> io::Result<File> {
    // SAFETY: the name ends with a zero.
    let fd = unsafe { libc::memfd_create(c"vfiomig".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, so it has no other owner.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(size)?;
    Ok(file)
}
