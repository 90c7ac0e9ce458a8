//! Memory of a region that a server has handed out as a descriptor.

use crate::error::Errno;
use crate::transport::Mapped;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// Maps `len` bytes from `offset` on, shared. EPROTO for a file that is shorter: its pages behind the end raise SIGBUS (U-7).
pub(super) fn map(fd: &OwnedFd, offset: u64, len: usize) -> Result<Mapped, Errno> {
    let protocol = || Errno::new(libc::EPROTO);
    let at = libc::off64_t::try_from(offset).map_err(|_| protocol())?;
    let end = offset.checked_add(len as u64).ok_or_else(protocol)?;
    if size_of(fd).is_some_and(|size| size < end) {
        return Err(protocol());
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses where the new mapping is, so that it replaces no memory of the program.
    let memory = unsafe { libc::mmap64(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd.as_raw_fd(), at) };
    if memory == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let memory = NonNull::new(memory.cast()).ok_or(Errno::new(libc::ENOMEM))?;
    let unmap = |memory: NonNull<u8>, len| {
        // SAFETY: `Mapped` gives the mapping that was made above, and no pointer to it is left when it is dropped.
        unsafe { libc::munmap(memory.as_ptr().cast(), len) };
    };
    // SAFETY: the mapping was just made and is of that length; it stays until it is unmapped, and has no other owner.
    Ok(unsafe { Mapped::new(memory, len, unmap) })
}

/// Whether another process that has the file can make it shorter, after which its mapped pages raise SIGBUS (U-7). A descriptor
/// that is no file has no length that could change.
pub(super) fn can_be_shortened(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    // SAFETY: fcntl() reads flags of a descriptor that is open as long as `fd`, and takes no pointer.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    // EINVAL where the file system has no seals.
    size_of(&fd).is_some() && (seals < 0 || seals & libc::F_SEAL_SHRINK == 0)
}

/// Bytes of a file; `None`: the descriptor is no file.
fn size_of(fd: &impl AsRawFd) -> Option<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat64>::zeroed();
    // SAFETY: `stat` is writable for a stat64.
    let known = unsafe { libc::fstat64(fd.as_raw_fd(), stat.as_mut_ptr()) } == 0;
    // SAFETY: zeros are a stat64, whether the call wrote to it or not.
    let stat = unsafe { stat.assume_init() };
    let is_file = known && stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    is_file.then(|| u64::try_from(stat.st_size).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixStream;

    fn memory(seals: libc::c_int) -> File {
        // SAFETY: a name that ends with a zero.
        let fd = unsafe { libc::memfd_create(c"memory".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        assert!(fd >= 0);
        // SAFETY: it was just made, and has no other owner.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(8192).unwrap();
        // SAFETY: a flag of a descriptor that is ours.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
        file
    }

    /// U-7: a seal keeps a peer from it, as the kernel says when it is tried.
    #[test]
    fn a_file_that_a_peer_can_shorten_is_known() {
        for (seals, expected) in [(0, true), (libc::F_SEAL_GROW, true), (libc::F_SEAL_SHRINK, false)] {
            let file = memory(seals);
            assert_eq!(can_be_shortened(&file), expected, "{seals:#x}");
            assert_eq!(file.set_len(4096).is_ok(), expected, "{seals:#x}");
        }
        assert!(can_be_shortened(tempfile::tempfile().unwrap()));
        let (socket, _other) = UnixStream::pair().unwrap();
        assert!(!can_be_shortened(socket));
    }
}
