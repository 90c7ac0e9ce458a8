//! The logs of pages that devices wrote: the one that a kernel, a device or a VMM keeps, each as it is started, read and stopped.
//!
//! May import: bitmap, device, dialect, transport, uapi, error, log. Start reading at `log` (what a log is) and `choose` (which
//! one a tracker reads, and why). One file per log: `dma_log` (a device's own, v2), `hwpt` (page tables of iommufd), `type1`
//! (the container's), `draft` (a device's own, draft of 2019), `ops` (the VMM's functions), `everything` (none). `ranged` is
//! what `dma_log` and `ops` have in common, `by_mapping` reads whole mappings where a log has nothing else, `foreign` is a
//! device that others migrate, `claim` keeps two trackers from one log, `asked` shows what a log is asked for, `ranges` is
//! address ranges, pure.
//!
//! Follows: docs/rules.md, families L, T and I, D8 to D16, U-11 to U-13.

pub(crate) mod asked;
mod by_mapping;
pub(crate) mod choose;
pub(crate) mod claim;
mod dma_log;
mod draft;
mod everything;
pub(crate) mod foreign;
mod hwpt;
pub(crate) mod log;
mod ops;
mod ranged;
pub(crate) mod ranges;
pub(crate) mod type1;
