//! The devices and trackers of one VM, for the VM's lifetime: who is in it, whether it can be migrated, pause and resume.
//!
//! May import: tracker, device, dialect, workers, cancel, error, gate, log. Start reading at `members` (who is in it) and `step` (one
//! barrier). `plan` says how devices come to rest, pure; `pause` does it; `run_state` is for a VMM that only says that its VM
//! stops or starts, in the words of `switch`; `abilities` is whether it can be migrated, `harvest` is that of all trackers
//! (N21), and `outcome` what a call did to each device; `vigil` says which device hangs (`watch`: who hears of it), `timings`
//! how long state changes take.
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
mod run_state;
pub(crate) mod step;
mod switch;
mod timings;
mod vigil;
mod watch;

pub use abilities::Abilities;
pub use members::{Group, GroupOptions};
pub(crate) use members::{GroupInner, Member, Underway};
pub(crate) use switch::{Switch, SwitchTo};
pub use switch::{SwitchAction, Switched};
#[doc(hidden)]
pub use vigil::set_warnings;
pub use watch::{Event, Who, Why, Wish};
