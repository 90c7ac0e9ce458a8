//! The clock by which callers in C get times: CLOCK_MONOTONIC, as theirs.

use std::mem::MaybeUninit;

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The same, some milliseconds behind, at a fraction of the cost.
pub(crate) fn coarse() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is room for a timespec.
    unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    // SAFETY: zeros are a timespec, and the call, which cannot fail for these clocks, has written over them.
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
