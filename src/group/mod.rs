//! The devices and trackers of one VM, for the VM's lifetime: who is in it, whether it can be migrated, pause and resume.
//!
//! May import: dirty, device, dialect, workers, error, gate, log. Follows: DESIGN.md sections 3 and 5. Parts: `plan` (how
//! devices come to rest, pure), `step` (one barrier), `pause`, `policy`, `quiet` (N21), `tracker`.

mod members;
pub(crate) mod pause;
pub(crate) mod plan;
mod policy;
mod quiet;
pub(crate) mod step;
mod tracker;

pub use members::{Group, Options};
pub(crate) use members::{Inner, Member};
pub use policy::Policy;
pub use tracker::Tracker;
