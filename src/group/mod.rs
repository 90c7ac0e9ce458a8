//! The devices and trackers of one VM, for the VM's lifetime: who is in it, whether it can be migrated, pause and resume.
//!
//! May import: tracker, device, dialect, workers, error, gate, log. Start reading at `members` (who is in it) and `step` (one barrier).
//! `plan` says how devices come to rest, pure; `pause` does it; `abilities` is whether it can be migrated, `harvest` is that of all
//! trackers (N21), and `outcome` what a call did to each device; `vigil` says which device hangs (`watch`: to whom),
//! `timings` how long state changes take.
//!
//! Follows: docs/design.md, "Phases of a migration".
//!
//! Example: [`Group`].

mod abilities;
mod harvest;
mod members;
pub(crate) mod outcome;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod step;
mod timings;
mod vigil;
mod watch;

pub use abilities::Abilities;
pub use members::{Group, GroupOptions};
pub(crate) use members::{GroupInner, Member, Underway};
#[doc(hidden)]
pub use vigil::set_warnings;
pub use watch::{Event, Why, Wish};
