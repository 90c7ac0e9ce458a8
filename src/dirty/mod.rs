//! Which guest pages devices wrote: every log that a kernel, a device or a VMM keeps, read into the VMM's own bitmap without
//! losing a page.
//!
//! May import: bitmap, device, workers, transport, error, gate, log. Follows: docs/design.md, "The harvest"; docs/rules.md,
//! families L, T and I, and D8 to D16. DMA is logged apart from the device's state (N1), also where that is PRE_COPY, which
//! covers only what is inside the device (N9).
//!
//! `tracker` is one address space; `choose` picks its log, one file per kind of log; `claim` keeps two trackers from one log, and
//! `join` is for what is plugged in later; `harvest` is the call, `reading` reads, `spot` puts together what several logs say of
//! one range, `distribute` looks up whom bits go to, `deliver` gives, `leftover` keeps what was read but not asked for, `book`
//! whose it is, `aside` what only a cookie names, and `parts` is the rule of pages that several have a part of. `names`, `ranges`
//! and `tally` are what they share. `unsafe` lives in scratch.rs.

#[forbid(unsafe_code)]
mod aside;
#[forbid(unsafe_code)]
mod book;
#[forbid(unsafe_code)]
mod choose;
#[forbid(unsafe_code)]
mod claim;
#[forbid(unsafe_code)]
mod deliver;
#[forbid(unsafe_code)]
mod distribute;
#[forbid(unsafe_code)]
mod everything;
#[forbid(unsafe_code)]
mod harvest;
#[forbid(unsafe_code)]
mod hwpt;
#[forbid(unsafe_code)]
mod join;
#[forbid(unsafe_code)]
mod leftover;
#[forbid(unsafe_code)]
mod log;
#[forbid(unsafe_code)]
mod names;
#[forbid(unsafe_code)]
mod parts;
#[forbid(unsafe_code)]
mod pfns;
#[forbid(unsafe_code)]
mod ranged;
#[forbid(unsafe_code)]
mod ranges;
#[forbid(unsafe_code)]
mod reading;
mod scratch;
#[forbid(unsafe_code)]
mod spot;
#[forbid(unsafe_code)]
mod tally;
#[cfg(test)]
mod tests;
#[forbid(unsafe_code)]
mod tracker;
#[forbid(unsafe_code)]
mod type1;
#[forbid(unsafe_code)]
mod unmap;

pub use deliver::{Dest, Request, RunFn, WordsFn};
pub use harvest::harvest;
pub use log::Kind;
pub use ranges::Range;
pub use tally::Harvest;
pub use tracker::{Info, Mapping, Options, Tracker};
pub use unmap::{Unmap, UnmapFn};

/// The unit in which a tracker thinks, in bytes: the smallest page of any log.
pub(crate) const UNIT: u64 = 1 << UNIT_SHIFT;
pub(crate) const UNIT_SHIFT: u32 = 12;
