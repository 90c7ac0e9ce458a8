//! Which pages devices wrote, from every log there is, into the VMM's own bitmap.
//!
//! May import: device, window, dialect, workers, transport, uapi, error, log. `unsafe` lives in vector.rs and scratch.rs only.

#[forbid(unsafe_code)]
pub mod bitmap;
#[forbid(unsafe_code)]
mod bits;
#[forbid(unsafe_code)]
mod convert;
#[forbid(unsafe_code)]
mod loops;
#[forbid(unsafe_code)]
mod scale;
mod vector;
