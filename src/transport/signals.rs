//! Signals are blocked while a call may make requests to a device (P1): drivers wait interruptibly and throw the migration
//! away when a signal comes. Whoever begins the call blocks them, once (`device`, `workers`); requests do not.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Raised by the thread's own code; blocking them would turn a bug into undefined behaviour.
const SYNCHRONOUS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// All asynchronous signals are blocked in this thread while it lives.
pub(crate) struct Blocked {
    old: libc::sigset_t,
    // The mask is the thread's: the guard must be dropped where it was made.
    _not_send: PhantomData<*const ()>,
}

impl Blocked {
    pub fn new() -> Self {
        let mut set = MaybeUninit::uninit();
        let mut old = MaybeUninit::uninit();
        // SAFETY: `set` has the size of a sigset_t; sigfillset initialises all of it.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        for signal in SYNCHRONOUS {
            // SAFETY: `set` was initialised above; the numbers are valid signals.
            unsafe { libc::sigdelset(set.as_mut_ptr(), signal) };
        }
        // SAFETY: `set` is initialised, `old` has the size of a sigset_t. It cannot fail with SIG_SETMASK, so `old` is written.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), old.as_mut_ptr()) };
        // SAFETY: written by the call above.
        let old = unsafe { old.assume_init() };
        Blocked { old, _not_send: PhantomData }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `old` is the mask that pthread_sigmask returned for this same thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.old, std::ptr::null_mut()) };
    }
}

/// While it lives, a write to a pipe without a reader raises no SIGPIPE that outlives it.
pub(super) struct NoSigpipe {
    was_pending: bool,
    // Dropped after `drop` took a SIGPIPE of our own away.
    _blocked: Blocked,
}

impl NoSigpipe {
    pub fn new() -> Self {
        let blocked = Blocked::new();
        NoSigpipe { was_pending: sigpipe_pending(), _blocked: blocked }
    }
}

fn sigpipe_pending() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: `pending` has the size of a sigset_t.
    let result = unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: read only if sigpending succeeded and so filled it.
    result == 0 && unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1 }
}

impl Drop for NoSigpipe {
    fn drop(&mut self) {
        if self.was_pending || !sigpipe_pending() {
            return;
        }
        let mut set = MaybeUninit::uninit();
        // SAFETY: `set` has the size of a sigset_t; sigemptyset initialises all of it.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: `set` was initialised above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `set` and `now` are initialised; no siginfo is asked for. SIGPIPE is pending, so it does not wait.
        unsafe { libc::sigtimedwait(set.as_ptr(), std::ptr::null_mut(), &now) };
    }
}

/// Whether this thread blocks `signal`.
#[cfg(test)]
pub(crate) fn is_blocked(signal: libc::c_int) -> bool {
    let mut now = MaybeUninit::uninit();
    // SAFETY: asks for the mask only; `now` has its size.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: written by the call above.
    unsafe { libc::sigismember(now.as_ptr(), signal) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asynchronous_signals_are_blocked_and_the_mask_comes_back() {
        assert!(!is_blocked(libc::SIGUSR1));
        let guard = Blocked::new();
        assert!(is_blocked(libc::SIGUSR1) && is_blocked(libc::SIGTERM) && is_blocked(libc::SIGALRM));
        assert!(SYNCHRONOUS.iter().all(|&signal| !is_blocked(signal)));
        drop(guard);
        assert!(!is_blocked(libc::SIGUSR1));
    }
}
