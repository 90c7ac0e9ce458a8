//! The devices and trackers of one VM, for the VM's lifetime: who is in it, whether it can be migrated, pause and resume.
//!
//! May import: dirty, device, dialect, workers, error, gate, log. Follows: docs/design.md, "Phases of a migration".
//! Parts: `plan` (how devices come to rest, pure), `step` (one barrier), `outcome` (what it did to each device),
//! `pause`, `policy`, `harvest` (of all trackers, and N21).

mod harvest;
mod members;
pub(crate) mod outcome;
pub(crate) mod pause;
pub(crate) mod plan;
mod policy;
pub(crate) mod step;

pub use members::{Group, GroupOptions};
pub(crate) use members::{GroupInner, Member, Underway};
pub use policy::Policy;
