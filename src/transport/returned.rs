//! The data fd that a state change returned, on its way from the transport that returned it to the session that takes it.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// What a state change returned as data fd, for the session that it began.
///
/// A descriptor comes as one that is owned. A number is no descriptor, and safe code cannot make one of it:
///
/// ```compile_fail,E0308
/// # use vfiomig::transport::{Transport, kernel::Kernel};
/// let device = Kernel::new(std::fs::File::open("/dev/vfio/devices/vfio0").unwrap());
/// drop(device.open_data(Some(0))); // would close standard input
/// ```
///
/// A transport whose state changes bring descriptors takes them like this:
///
/// ```
/// use vfiomig::error::{Errno, Error};
/// use vfiomig::transport::{DataFd, Returned};
///
/// fn open_data(data_fd: Option<Returned>) -> Result<std::fs::File, Error> {
///     match data_fd {
///         Some(Returned::Owned(fd)) => Ok(fd.into()),
///         _ => Err(Errno::new(libc::EPROTO).into()),
///     }
/// }
///
/// let fd = std::fs::File::open("/dev/null")?.into();
/// assert!(open_data(Some(Returned::Owned(fd))).is_ok() && open_data(None).is_err());
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Debug)]
pub enum Returned {
    /// A descriptor.
    Owned(OwnedFd),
    /// A number that has a meaning only for the transport, which serves the data itself.
    Number(i32),
}

/// The number in an answer. It is known whether it is a descriptor that may be owned; whether it will be owned depends on what
/// the state change did: only a session that began takes it.
#[derive(Debug)]
pub(crate) struct DataNumber {
    number: RawFd,
    is_fd: bool,
}

impl DataNumber {
    /// A number and no more.
    pub(super) fn of_software(number: i32) -> Self {
        DataNumber { number, is_fd: false }
    }

    /// # Safety
    /// The contract of [`Feature::returns_fd`](super::Feature::returns_fd) holds for the number.
    pub(super) unsafe fn of_descriptor(number: RawFd) -> Self {
        DataNumber { number, is_fd: true }
    }

    pub fn number(&self) -> i32 {
        self.number
    }

    /// A session began with it. `None`: it can be no data fd.
    pub fn take(self) -> Option<Returned> {
        match self {
            DataNumber { number, is_fd: false } => Some(Returned::Number(number)),
            DataNumber { number, .. } if number > LAST_STANDARD || is_anonymous(number) => {
                Some(Returned::Owned(own(number)))
            }
            _ => None,
        }
    }

    /// No session began: closes it, if it can be a data fd. A function of the VMM that left the field as it found it, or at 0,
    /// has returned none, and the owner of that number is not known. Returns whether it is a descriptor.
    pub fn discard(self) -> bool {
        if self.is_fd && self.number > LAST_STANDARD && is_anonymous(self.number) {
            drop(own(self.number));
        }
        self.is_fd
    }
}

/// Called once for a number whose `is_fd` is set, which is not that of a session that lives on.
fn own(number: RawFd) -> OwnedFd {
    // SAFETY: by the contract of `of_descriptor` it has no owner, and no other code has its number (V2-5).
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Standard error. Data fds have these numbers only in a process that has closed its own.
const LAST_STANDARD: i32 = libc::STDERR_FILENO;

/// Whether it is an open descriptor of no kind of file, as a driver's data fd is (anon_inode).
fn is_anonymous(fd: i32) -> bool {
    fd >= 0 && kind_of(fd) == Some(0)
}

/// The kind of file of a descriptor, as S_IF*; 0: of no kind.
pub(super) fn kind_of(fd: i32) -> Option<libc::mode_t> {
    let mut stat = std::mem::MaybeUninit::<libc::stat64>::zeroed();
    // SAFETY: `stat` has the size of a stat64.
    let known = unsafe { libc::fstat64(fd, stat.as_mut_ptr()) } == 0;
    // SAFETY: zeros are a stat64, whether the call wrote to it or not.
    known.then(|| unsafe { stat.assume_init() }.st_mode & libc::S_IFMT)
}
