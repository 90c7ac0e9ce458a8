//! What a harvest counts.

use crate::error::Errno;
use std::any::Any;

/// What a harvest brought.
///
/// Example: [`Dest`](super::Dest).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harvest {
    /// Pages of the destinations that were clean before.
    pub newly: u64,
    /// Pages of the destinations that were reported dirty, whether or not the bit was set.
    pub total: u64,
    /// Bytes that are dirty only because a read failed; they may have been given or be left over.
    pub degraded_bytes: u64,
    /// Requests to logs.
    pub reads: u64,
    /// Those that failed, and sources that keep no log.
    pub failed_reads: u32,
    /// The first errno of them.
    pub first_errno: Option<Errno>,
    /// A callback said stop; what it did not get is left over.
    pub stopped: bool,
}

/// What reading cost and missed.
#[derive(Default)]
pub(crate) struct Tally {
    pub reads: u64,
    pub failed: u32,
    pub degraded_bytes: u64,
    pub first_errno: Option<Errno>,
    /// A function of the VMM panicked; that is resumed when nothing can be lost by it any more.
    pub panic: Option<Box<dyn Any + Send>>,
}

impl Tally {
    pub fn fail(&mut self, errno: Errno, bytes: u64) {
        self.failed = self.failed.saturating_add(1);
        self.degraded_bytes = self.degraded_bytes.saturating_add(bytes);
        self.first_errno = self.first_errno.or(Some(errno));
    }
}
