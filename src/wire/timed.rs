//! A descriptor of the caller with a limit for each wait, so that nothing waits for ever for a peer that is silent.

use crate::error::{Errno, Error};
use crate::transport::{caller_patience, is_nonblocking, read_from, wait_any, write_to};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Whether the call is to end.
type EndsWhen<'a> = Box<dyn Fn() -> bool + Send + Sync + 'a>;

/// Reads and writes a descriptor, whatever mode it is in: one in non-blocking mode gives EAGAIN at once, else a peer that is
/// silent is waited for until `patience` has gone by without a byte (ETIMEDOUT). A reader that is gone is EPIPE, never SIGPIPE.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
/// use vfiomig::wire::Timed;
///
/// let (one, other) = UnixStream::pair()?;
/// let mut from = Timed::new(other.as_fd(), Duration::from_millis(10));
/// assert_eq!(from.read(&mut [0; 4]).unwrap_err().raw_os_error(), None); // nothing was written
/// Timed::new(one.as_fd(), Duration::from_secs(60)).write_all(b"ram")?;
/// assert_eq!(from.read(&mut [0; 4])?, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Timed<'a> {
    fd: BorrowedFd<'a>,
    patience: Duration,
    deadline: Option<Instant>,
    ends: Option<EndsWhen<'a>>,
}

impl<'a> Timed<'a> {
    /// A reader and writer of a descriptor that stays open.
    pub fn new(fd: BorrowedFd<'a>, patience: Duration) -> Timed<'a> {
        Timed { fd, patience, deadline: None, ends: None }
    }

    /// As [`new`](Self::new), with the patience of the library's other calls: 60 s.
    pub fn patient(fd: BorrowedFd<'a>) -> Timed<'a> {
        Timed::new(fd, caller_patience())
    }

    /// Once `deadline` has passed every call fails (ETIMEDOUT), also beside a peer that sends a byte now and then, or for ever.
    pub fn by(self, deadline: Instant) -> Timed<'a> {
        Timed { deadline: Some(deadline), ..self }
    }

    /// A wait ends with CANCELED soon after `ends` says so. Called again, either one ends it.
    pub fn until(self, ends: impl Fn() -> bool + Send + Sync + 'a) -> Timed<'a> {
        let ends: EndsWhen<'a> = match self.ends {
            Some(before) => Box::new(move || before() || ends()),
            None => Box::new(ends),
        };
        Timed { ends: Some(ends), ..self }
    }

    /// Whether the descriptor is in non-blocking mode, in which no call waits.
    pub fn is_nonblocking(&self) -> bool {
        is_nonblocking(self.fd)
    }

    fn moves<T>(&self, for_write: bool, mut attempt: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
        let begun = Instant::now();
        loop {
            let limit = self.time_left()?;
            match attempt() {
                Ok(moved) => return Ok(moved),
                Err(errno) if errno.get() == libc::EINTR => continue,
                Err(errno) if errno.get() != libc::EAGAIN || is_nonblocking(self.fd) => {
                    return Err(io::Error::from_raw_os_error(errno.get()));
                }
                Err(_) => {}
            }
            if self.ends.as_ref().is_some_and(|ends| ends()) {
                return Err(Error::canceled("canceled while the wire was waited for").into());
            }
            let left = self.patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(self.silent(for_write).into());
            }
            wait_any(&[(self.fd, for_write)], left.min(limit).min(LOOK));
        }
    }

    /// The time until the deadline, or that of a look where there is none; ETIMEDOUT once it has passed.
    fn time_left(&self) -> io::Result<Duration> {
        let left = self.deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            let text = "the time for the whole wire is over".to_string();
            return Err(Error::system(Errno::new(libc::ETIMEDOUT), text).into());
        }
        Ok(left)
    }

    fn silent(&self, for_write: bool) -> Error {
        let (did, patience) = (if for_write { "took" } else { "brought" }, self.patience);
        let text = format!("the peer {did} nothing for {patience:?}");
        Error::system(Errno::new(libc::ETIMEDOUT), text)
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.moves(false, || read_from(self.fd, buf))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.moves(true, || write_to(self.fd, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Timed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed").field("fd", &self.fd.as_raw_fd()).finish_non_exhaustive()
    }
}
