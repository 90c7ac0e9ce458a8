//! The one file that send, receive and channels use.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

pub fn file() -> &'static OwnedFd {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    FILE.get_or_init(|| {
        // SAFETY: a new descriptor, owned by nobody else.
        unsafe {
            let fd = libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0);
            OwnedFd::from_raw_fd(fd)
        }
    })
}

/// Makes `content` all that the file has, and goes to its beginning.
pub fn fill(content: &[u8]) {
    let fd = file().as_raw_fd();
    // SAFETY: the descriptor is open, and `content` is as long as is said.
    unsafe {
        libc::ftruncate(fd, 0);
        assert_eq!(libc::pwrite(fd, content.as_ptr().cast(), content.len(), 0), content.len() as isize);
        libc::lseek(fd, 0, libc::SEEK_SET);
    }
}

/// The first `len` bytes of the file.
pub fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // SAFETY: the descriptor is open, and `bytes` has room for `len`.
    let got = unsafe { libc::pread(file().as_raw_fd(), bytes.as_mut_ptr().cast(), len, 0) };
    assert_eq!(got, len as isize);
    bytes
}
