//! The dirty log of one address space: what is mapped, whether the log runs, and the harvest, which gives what devices wrote into
//! the VMM's own bitmap without losing a page.
//!
//! May import: logs, bitmap, device, workers, transport, error, gate, log. Start reading at `space` (one tracker, as it is
//! called; `state` is what it keeps, `starting` starts and stops its logs, `options` is its data) and `harvest` (the call;
//! `request` is what it is asked for). `reading` reads, `shared_range` is a range that several logs report on, until it is
//! merged, `distribute` looks up the owners of the bits, `deliver` reports them, `leftover` keeps what was read but not asked
//! for, `record` is the record of mappings and leftovers, `aside` keeps what only a cookie names, and `parts` is the rule of
//! pages that several have a part of; `sections` is for VMMs that ask section by section, `join` for what is plugged in later,
//! `unmap` for what is unmapped. `watched` and `vigil` show logs that hang. `journal`, `names` and `tally` are what they share.
//! `unsafe` lives in scratch.rs.
//!
//! Follows: docs/design.md, "The harvest"; docs/rules.md, families L, T and I, and D8 to D16. DMA is logged apart from the
//! device's state (N1), also where that is PRE_COPY, which covers only what is inside the device (N9).
//!
//! Example: [`Tracker`].

#[forbid(unsafe_code)]
mod aside;
#[forbid(unsafe_code)]
mod deliver;
#[forbid(unsafe_code)]
mod distribute;
#[forbid(unsafe_code)]
mod harvest;
#[forbid(unsafe_code)]
mod join;
#[forbid(unsafe_code)]
mod journal;
#[forbid(unsafe_code)]
mod leftover;
#[forbid(unsafe_code)]
mod names;
#[forbid(unsafe_code)]
mod options;
#[forbid(unsafe_code)]
mod parts;
#[forbid(unsafe_code)]
mod reading;
#[forbid(unsafe_code)]
mod record;
#[forbid(unsafe_code)]
mod request;
mod scratch;
#[forbid(unsafe_code)]
mod sections;
#[forbid(unsafe_code)]
mod shared_range;
#[forbid(unsafe_code)]
mod space;
#[forbid(unsafe_code)]
mod starting;
#[forbid(unsafe_code)]
mod state;
#[forbid(unsafe_code)]
mod tally;
#[cfg(test)]
mod tests;
#[forbid(unsafe_code)]
mod unmap;
#[forbid(unsafe_code)]
mod vigil;
#[forbid(unsafe_code)]
mod watched;

pub use crate::logs::asked::{LogAsked, LogRequest};
pub use crate::logs::log::LogKind;
pub use crate::logs::ranges::IovaRange;
pub use harvest::harvest;
pub(crate) use harvest::harvest_heard;
pub(crate) use journal::Journal;
pub use options::{Mapping, TrackerInfo, TrackerOptions};
pub use request::{Dest, Request, RunFn, WordsFn};
pub use space::Tracker;
pub use tally::Harvest;
pub use unmap::{Unmap, UnmapFn};
pub(crate) use vigil::{LogEar, LogsWait};
pub(crate) use watched::side_by_side;

/// The unit in which a tracker counts, in bytes: the smallest page of any log.
pub(crate) const UNIT: u64 = 1 << UNIT_SHIFT;
pub(crate) const UNIT_SHIFT: u32 = 12;
