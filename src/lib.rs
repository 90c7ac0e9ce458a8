//! Live migration of VFIO devices for virtual machine monitors (VMMs) that exist already.
//!
//! The crate does three jobs: it brings devices through the states of a migration ([`migration`], [`group`]), it collects the pages
//! that they write ([`tracker`]), and it moves their state in and out ([`Device`]). vCPUs, RAM, the wire and every decision stay with
//! the VMM; one that has no format for a wire can have the crate's ([`wire`]). No `unsafe` is needed for any of it. How devices are
//! reached is a [`Transport`](transport::Transport): a device fd of the kernel ([`Kernel`](transport::kernel::Kernel)), handles of the
//! crate vfio-ioctls, or the VMM's own.
//!
//! # Save a device in 20 lines
//!
//! ```
//! use std::io::{self, Write};
//! use vfiomig::device::{Device, OnFailure, DeviceOptions};
//! use vfiomig::dialect::State;
//! use vfiomig::transport::Transport;
//! use vfiomig::window::StreamFlags;
//!
//! /// The guest is paused; `wire` is a socket or a file. Returns the length of the stream, which the other end needs.
//! fn save(transport: Box<dyn Transport>, wire: &mut impl Write) -> io::Result<u64> {
//!     let device = Device::new(transport, DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?;
//!     device.set_state(State::StopCopy, OnFailure::Keep, false)?;
//!     loop {
//!         let chunk = device.peek(0)?;
//!         if chunk.flags().contains(StreamFlags::END) {
//!             break;
//!         }
//!         wire.write_all(&chunk)?; // v1 and the draft have segments, whose lengths go along: `chunk.segment_left()`
//!         let len = chunk.len();
//!         device.consume(chunk, len)?;
//!     }
//!     device.set_state(State::Stop, OnFailure::Keep, false)?;
//!     Ok(device.info().saved_bytes)
//! }
//!
//! // A device in software. A device fd of vfio is `Box::new(vfiomig::transport::kernel::Kernel::new(fd))`.
//! let hardware = simdev::Device::new(simdev::Config::default());
//! let mut wire = Vec::new();
//! let total = save(hardware.transport(), &mut wire)?;
//! assert!(total > 0 && total == wire.len() as u64);
//! # Ok::<(), io::Error>(())
//! ```
//!
//! The other end is in the documentation of [`Room`](window::Room). [`Migration`] is for several devices and a guest that runs.
//!
//! # Features
//!
//! | feature | what |
//! |---|---|
//! | `vfio-ioctls` | handles of the crate vfio-ioctls as transports: `transport::vfio_ioctls` |
//! | `log` | the log goes to the crate log: `log::use_log_crate` |
//! | `capi` | the functions of the C library |
//!
//! None is on by default. The C API (`<vfiomig.h>`) is stable; the Rust API may change between minor versions until 1.0.
//!
//! [`Migration`]: migration::Migration
//
// Rooms, each of which imports only from those to its right:
//
// `ffi` → `migration` → `wire` → `group` → `tracker` → `logs` → `bitmap` → `device` → `window` → `dialect` → `workers` → `transport` → `uapi`;
// `cancel`, `error`, `gate` and `log` are used by all.

#![deny(unsafe_op_in_unsafe_fn, missing_docs, improper_ctypes_definitions, rustdoc::broken_intra_doc_links)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, clippy::missing_safety_doc)]
// The threshold is in clippy.toml.
#![deny(clippy::too_many_lines)]
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
#[cfg(feature = "capi")]
#[doc(hidden)]
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
#[forbid(unsafe_code)]
pub mod wire;
#[forbid(unsafe_code)]
mod workers;

/// No part of the API: what tests, fuzz targets and benchmarks of the source tree set.
#[doc(hidden)]
pub mod internals {
    pub use crate::transport::set_caller_patience;
    pub use crate::window::set_unseen_limit;
    pub use crate::workers::refuse_threads_beyond;
}

pub use device::Device;
pub use error::{Error, Result};
