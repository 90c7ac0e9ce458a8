//! The clock by which callers in C are told times: CLOCK_MONOTONIC, as theirs.

use std::mem::MaybeUninit;

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn now() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is room for a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) };
    // SAFETY: zeros are a timespec, and the call, which cannot fail for this clock, has written over them.
    let time = unsafe { time.assume_init() };
    let part = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn it_goes_as_fast_as_the_standard_librarys() {
        let (before, begun) = (now(), Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (passed, real) = (Duration::from_nanos(now() - before), begun.elapsed());
        assert!(
            passed >= Duration::from_millis(20) && passed <= real + Duration::from_millis(20),
            "{passed:?} {real:?}"
        );
    }
}
