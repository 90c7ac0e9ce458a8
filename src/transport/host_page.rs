//! The size of a page of this host: 4 KiB on most, 16 or 64 KiB on some of arm64 and ppc64el. No other file assumes a size.

/// Bytes of a page of this host.
#[cfg(not(feature = "large-pages"))]
pub(crate) fn host_page() -> usize {
    // SAFETY: sysconf() reads a constant of the system, and takes no pointer.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(LARGEST)
}

/// The largest size that there is, in place of the host's own, for tests.
#[cfg(feature = "large-pages")]
pub(crate) fn host_page() -> usize {
    LARGEST
}

const LARGEST: usize = 64 << 10;
