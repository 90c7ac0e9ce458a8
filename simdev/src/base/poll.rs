//! A descriptor to wait on, for data fds that are functions: always ready, or ready when a driver's poll would say so.

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

/// Ready in both directions, for ever.
pub(crate) fn always() -> OwnedFd {
    // SAFETY: numbers only.
    owned(unsafe { libc::eventfd(1, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Never ready, until `ready_in` is called.
pub(crate) fn timer() -> OwnedFd {
    // SAFETY: numbers only.
    owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })
}

/// Readable after so long; `None`: not readable.
pub(crate) fn ready_in(timer: &OwnedFd, after: Option<Duration>) {
    use std::os::fd::AsRawFd;
    let after = after.map_or(Duration::ZERO, |after| after.max(Duration::from_nanos(1)));
    // SAFETY: numbers only, of which zero is legal.
    let mut spec: libc::itimerspec = unsafe { std::mem::zeroed() };
    spec.it_value.tv_sec = after.as_secs() as libc::time_t;
    spec.it_value.tv_nsec = after.subsec_nanos() as libc::c_long;
    // SAFETY: the timer lives, the struct is whole, and no old value is asked for.
    let result = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &spec, std::ptr::null_mut()) };
    assert_eq!(result, 0, "timerfd_settime");
}

fn owned(fd: i32) -> OwnedFd {
    assert!(fd >= 0, "a descriptor to wait on: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and ours.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
