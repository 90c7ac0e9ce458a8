//! The library as a client of whole servers of vfio-user: the software devices of this project, which judge it, and servers that share no
//! code with it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod deaths;
mod foreign;
mod logs;
mod streams;
mod tools;
