//! Fuzz targets of libvfiomig, and what they share: input as decisions, a clock without waiting, hostile devices, and what must
//! hold after each call.

pub mod clock;
pub mod driver;
pub mod errors;
pub mod feed;
pub mod file;
pub mod guarded;
pub mod hostile;
pub mod intervals;
pub mod targets;
