//! Software devices in every dialect of the VFIO migration protocol: one model, a front for each dialect, a judge of what
//! a client does, faults on demand. For the tests and examples of libvfiomig; rules are cited by their numbers in its
//! protocol reference.
//!
//! A [`Device`] takes requests as a kernel driver does, through [`Device::transport`], [`Device::ops`] or its own functions,
//! and shows the test what happened: [`Device::violations`], [`Device::transitions`], [`Device::content`]. For the logs of
//! written pages there are [`Ram`] with its copy at the destination, [`Space`], [`Type1`], [`Iommufd`] and [`Writers`].

#![deny(unsafe_op_in_unsafe_fn, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bytes;
pub mod capi;
mod config;
mod content;
mod device;
mod dma;
mod draft;
mod faults;
mod habits;
mod info;
mod iommufd;
mod iova_bitmap;
mod judge;
mod level;
mod machine;
mod peers;
mod poll;
mod ram;
mod ranges;
mod region;
mod registers;
mod segment;
mod space;
mod transport;
mod type1;
mod user;
mod v1;
mod v2;
mod watch;
mod writers;

pub use config::{
    BadLoad, Config, DataPath, Dialect, DmaLog, DraftForm, Kernel, Precopy, PrecopyEnd, Restart, Trapped, Window,
};
pub use device::{Device, Runner};
pub use faults::{Access, Effect, Fault, FaultId};
pub use habits::{AfterFailure, Arcs, BadEnd, Beyond, DeadFd, Habits, Poll, Ready, Refusal, ResetLeaves, Size};
pub use info::MIGRATION_REGION;
pub use iommufd::{Iommufd, IommufdConfig};
pub use judge::Violation;
pub use level::{Level, register_path, request_path};
pub use machine::Transition;
pub use peers::Peer;
pub use ram::Ram;
pub use space::{Mapping, Space};
pub use type1::{Type1, Type1Config};
pub use watch::Watch;
pub use writers::Writers;
