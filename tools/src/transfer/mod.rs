//! Saving, loading, sending and receiving: devices of a group over the library's wire (docs/wire.md).
//!
//! Start reading at `set` (the devices, opened and named), then at `file` (save, load), `net` (send, receive) and `show` (what
//! a file holds). `channels` are the connections, `talk` is what the two ends of one say beside the wire, `progress` what a
//! person sees meanwhile, and `summary` what is printed at the end.

mod channels;
mod file;
mod net;
mod progress;
mod set;
mod show;
mod summary;
mod talk;

pub use file::{load, save};
pub use net::{receive, send};
pub use show::show;
