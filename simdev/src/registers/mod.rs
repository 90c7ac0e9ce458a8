//! What a migration region consists of: its memory, and what a driver remembers from one register access to the next. What an
//! access does stands in the fronts, for v1 and the draft differ in it.
//!
//! May import: config, base. Start reading at `iteration` (the registers and the segment in the window); `region` is the
//! memory and the client's mappings of it, `pfn` the draft's window for dirty pages.

mod iteration;
mod pfn;
mod region;

pub(crate) use iteration::{Registers, Staged};
pub(crate) use region::Region;
