//! Software devices in every dialect of the VFIO migration protocol: one model, a front for each dialect, a judge of what
//! a client does, faults on demand. For the tests and examples of libvfiomig; rules are cited by their numbers in its
//! protocol reference.
//!
//! A [`Device`] takes requests as a kernel driver does, through [`Device::transport`], [`Device::ops`] or its own functions,
//! and shows the test what happened: [`Device::violations`], [`Device::transitions`], [`Device::content`]. For the logs of
//! written pages there are [`Ram`] with its copy at the destination, [`Space`], [`Type1`], [`Iommufd`] and [`Writers`]. A [`Server`]
//! puts a device behind a UNIX socket, in vfio-user.

#![deny(unsafe_op_in_unsafe_fn, missing_docs, clippy::undocumented_unsafe_blocks)]

mod base;
#[cfg(feature = "capi")]
pub mod capi;
mod config;
mod content;
mod device;
mod dialects;
mod machine;
mod peers;
mod registers;
mod server;
mod spaces;

pub use base::judge::Violation;
pub use config::{
    AfterFailure, Arcs, BadEnd, BadLoad, Beyond, Config, DataPath, DeadFd, Dialect, DmaLog, DraftForm, Habits, Kernel,
    Poll, Precopy, PrecopyEnd, Ready, Refusal, ResetLeaves, Restart, Size, Trapped, Window,
};
pub use device::{Device, Runner, Writers};
pub use dialects::MIGRATION_REGION;
pub use machine::{Access, Effect, Fault, FaultId, Level, Transition, register_path, request_path};
pub use peers::Peer;
pub use server::{End, Happens, Paced, Quirk, Quirks, Server, ServerOptions, ServerThread, Trigger};
pub use spaces::{Iommufd, IommufdConfig, Mapping, Ram, Space, Type1, Type1Config, Watch};
