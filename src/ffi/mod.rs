//! The C ABI: the only room with `no_mangle`. No logic: check, guard, call, convert.
//!
//! May import: every room. One file per handle, plus `guard` (panics), `handle` (lifetime), `sized` (structs that grow).
//! The doc comments of this room are the C header's reference: write them for C readers. tests/header.rs keeps
//! include/vfiomig.h equal to them.

#![allow(non_camel_case_types, reason = "the names are those of the C API")]
#![allow(
    clippy::missing_safety_doc,
    reason = "`// Safety:` says it below the comment: what is in the comment is in the header"
)]

pub mod bitmap;
pub mod device;
pub mod drain;
pub mod error;
pub mod error_object;
pub mod group;
mod guard;
mod handle;
pub mod harvest;
pub mod library;
pub mod load;
pub mod log;
pub mod migration;
pub mod report;
pub mod save;
mod sized;
pub mod tracker;
