//! Devices of other processes: the messages of the vfio-user protocol, and what servers do to a client that knows less of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod connection;
mod deadlines;
mod detect;
mod hostile;
mod logs;
mod names;
mod negotiated;
mod peer;
mod refused_by_system;
mod rig;
mod served;
mod silent_client;
mod streams;
mod v1;
mod waits;
mod window;
