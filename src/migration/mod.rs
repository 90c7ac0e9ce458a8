//! One save or one load of a group: phases, and what happens when one of them fails (DESIGN.md section 3).
//!
//! May import: group, dirty, device, dialect, workers, error, log.

#[allow(dead_code, reason = "its users come next")]
mod sequence;

pub use sequence::Phase;
