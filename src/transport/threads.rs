//! What the system knows of threads.

use std::mem::MaybeUninit;

/// Processors that this thread may run on; at least one.
pub(crate) fn processors() -> usize {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: `set` has the size of a cpu_set_t, of the size that is given.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if result != 0 {
        // More processors than the set can name.
        return usize::MAX;
    }
    // SAFETY: zeros are an empty set, and the call has written over them.
    let set = unsafe { set.assume_init() };
    // SAFETY: reads the set.
    usize::try_from(unsafe { libc::CPU_COUNT(&set) }).unwrap_or(1).max(1)
}

/// How often this thread has gone to sleep to wait for something.
pub(crate) fn sleeps() -> libc::c_long {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has the size of a rusage.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // SAFETY: zeros are a rusage, whether the call wrote to it or not.
    unsafe { usage.assume_init() }.ru_nvcsw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_counted() {
        assert!(processors() >= 1);
        let before = sleeps();
        assert_eq!(sleeps(), before);
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(sleeps() > before);
    }
}
