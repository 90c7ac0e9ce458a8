//! The C API: `include/simdev.h`. Handles are `struct simdev *`; NULL answers -EINVAL, or 0 where a count is returned.
//!
//! May import: every room. Start reading at `handle` (a device for a program in C); `options` is what it may be like, `device` and
//! `faults` are the calls on it. No logic: check, call, convert.

mod device;
mod faults;
mod handle;
mod options;

pub use device::*;
pub use faults::*;
pub use handle::*;
pub use options::Options;
