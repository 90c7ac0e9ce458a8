//! Devices that behave as real drivers and servers do (simdev's peers), behind the Rust API and the C API.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "../common/mod.rs"]
mod common;

mod pairs;
mod r12;
mod table;
mod vmm;
