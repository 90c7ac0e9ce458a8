//! The state machine of a device, whatever dialect it speaks: its level, the steps between levels, what the driver's habits and
//! the faults of a test make of them.
//!
//! May import: registers, content, config, base. Start reading at `state` (all that a device consists of), then `steps` (one step)
//! and `busy` (a request, and the way that it goes); `level` is the bits and the ways, `sessions` what is kept of a v2 data
//! session, `dma` what a device writes and logs, `faults` what goes wrong and when.

mod busy;
mod dma;
mod faults;
mod level;
mod sessions;
mod state;
mod steps;

pub(crate) use busy::Busy;
pub(crate) use dma::{Bus, Dma, Tracker};
pub use faults::{Access, Effect, Fault, FaultId};
pub(crate) use faults::{Faults, lie, moved, short};
pub use level::{Level, register_path, request_path};
pub(crate) use sessions::{Session, parse};
pub(crate) use state::Machine;
pub use state::Transition;
