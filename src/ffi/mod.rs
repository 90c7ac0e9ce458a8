//! The C ABI: the only room with `no_mangle`. No logic: check, guard, call, convert.
//!
//! May import: migration, wire, group, tracker, bitmap, device, window, dialect, workers, transport, cancel, error, gate, log.
//! Start reading at `handle` (what a pointer of C stands for), `guard` (each call runs within it) and then at any function of
//! `device`. One file per handle; `sized` has the structs that grow, `error_object` the errors that C holds, `library` what
//! speaks of all of it.
//!
//! The doc comments of this room are the C header's reference: write them for C readers. tests/header.rs keeps
//! include/vfiomig.h equal to them.

#![allow(non_camel_case_types, reason = "the names are those of the C API")]
#![allow(
    clippy::missing_safety_doc,
    reason = "`// Safety:` says it below the comment: what is in the comment is in the header"
)]

pub mod bitmap;
pub mod device;
pub mod device_data;
pub mod device_new;
pub mod drain;
pub mod ends;
pub mod error;
pub mod error_object;
pub mod estimate;
pub mod group;
mod guard;
mod handle;
pub mod harvest;
mod input;
pub mod library;
pub mod load;
pub mod log;
pub mod migration;
pub mod over_wire;
pub mod progress;
pub mod reader;
pub mod report;
pub mod run_state;
pub mod save;
mod sized;
pub mod timings;
pub mod tracker;
pub mod tracker_data;
pub mod vfio_user;
pub mod vfio_user_connection;
pub mod wire_object;
pub mod wire_table;
pub mod writer;
