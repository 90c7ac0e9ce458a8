//! What a data fd says to poll(), and whether its calls sleep.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How often this thread has slept so far: it gave up the processor by itself. Time says less, for on a busy host any call is slow.
pub fn sleeps() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has the size of a struct rusage, which the call fills; of zeros it is valid, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_nvcsw
}

/// Whether poll() says within 100 ms that it can be read.
pub fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one pollfd, as the count says, and lives through the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 100) };
    ready > 0 && poll.revents & (libc::POLLIN | libc::POLLHUP) != 0
}
