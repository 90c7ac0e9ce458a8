//! Live migration of VFIO devices for virtual machine monitors that exist already.
//!
//! The product is the C library (`<vfiomig.h>`, room `ffi`), whose ABI is stable. The Rust API is public and unstable.
//!
//! Rooms, each of which imports only from those to its right:
//!
//! `ffi` → `migration` → `group` → `tracker` → `logs` → `bitmap` → `device` → `window` → `dialect` → `workers` → `transport` → `uapi`;
//! `cancel`, `error`, `gate` and `log` are used by all.

#![deny(unsafe_op_in_unsafe_fn, missing_docs, improper_ctypes_definitions, rustdoc::broken_intra_doc_links)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, clippy::missing_safety_doc)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(panic = "abort")]
compile_error!("libvfiomig catches its own panics at the C boundary: build it with panic = \"unwind\"");

#[cfg(not(target_pointer_width = "64"))]
compile_error!("libvfiomig is for 64-bit machines only");

pub mod bitmap;
#[forbid(unsafe_code)]
mod cancel;
#[forbid(unsafe_code)]
pub mod device;
#[forbid(unsafe_code)]
pub mod dialect;
#[forbid(unsafe_code)]
pub mod error;
pub mod ffi;
#[forbid(unsafe_code)]
mod gate;
#[forbid(unsafe_code)]
pub mod group;
#[forbid(unsafe_code)]
pub mod log;
#[forbid(unsafe_code)]
mod logs;
#[forbid(unsafe_code)]
pub mod migration;
pub mod tracker;
pub mod transport;
#[forbid(unsafe_code)]
mod uapi;
pub mod window;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod workers;

pub use device::Device;
pub use error::{Error, Result};
