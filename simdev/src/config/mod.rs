//! What a device is like, as data: its dialect, its sizes, and the habits of its driver or server.
//!
//! May import: nothing of the crate. Start reading at `device` (all of a device); `words` are its enums, `dma_log` is its log of
//! written pages, `habits` is what a driver does within the protocol or beside it.

mod device;
mod dma_log;
mod habits;
mod words;

pub use device::Config;
pub use dma_log::{DmaLog, Restart};
pub use habits::{AfterFailure, Arcs, BadEnd, Beyond, DeadFd, Habits, Poll, Ready, Refusal, ResetLeaves, Size};
pub use words::{BadLoad, DataPath, Dialect, DraftForm, Kernel, Precopy, PrecopyEnd, Trapped, Window};
