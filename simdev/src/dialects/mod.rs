//! The fronts: what a client's requests mean in each dialect, and what is an offence there.
//!
//! May import: machine, registers, content, config, base. Start reading at `region` (v1 and the draft) and at `v2`; `info` is what a
//! device of any dialect says of itself.
//!
//! A front gets the machine's lock with each request and keeps nothing itself.

mod info;
pub(crate) mod region;
pub(crate) mod v2;

pub use info::MIGRATION_REGION;
pub(crate) use info::{BAR, BAR_SIZE};
