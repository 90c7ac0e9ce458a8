//! A software device of the v2 protocol for the Rust tests, and two doors to a library device on top of it: the Rust API and
//! the C API. A behaviour test is written once and goes through both.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod doors;
pub mod fake;
