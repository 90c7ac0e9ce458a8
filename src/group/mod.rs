//! The devices and trackers of one VM, for the VM's lifetime.
//!
//! May import: dirty, device, dialect, workers, error, log.

#[allow(dead_code, reason = "its users come next")]
pub(crate) mod plan;
