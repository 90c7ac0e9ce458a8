//! A device that another process serves behind a UNIX socket: the vfio-user protocol, both generations. What dialects ask for is
//! put into messages of the protocol here, so that no room above knows the difference.
//!
//! Start reading at `transport` (the requests of a device), then `exchange` (one message and its reply). `log` has the requests of
//! the log of written pages, `data` those of a session; `wire` is numbers and `payload` bytes. Messages are carried by the VMM's
//! function (`ops`), or by a `connection` of the library's own, whose `wires` are made of `socket` and `frame`, and which begins
//! with the `handshake` and keeps the VMM's memory for the server (`dma`). `one_wait` is why a silent server costs a call no more
//! than one wait.
//!
//! Follows: docs/rules.md, family U.
//!
//! Example: [`VfioUserConnection`].

mod connection;
mod data;
mod dma;
mod exchange;
mod frame;
mod handshake;
mod log;
mod marks;
mod one_wait;
#[doc(hidden)]
pub mod ops;
mod payload;
mod region_memory;
mod socket;
mod transport;
mod wire;
mod wires;

pub use connection::{ConnectOptions, VfioUserConnection};
pub use dma::{DmaAccess, ServerDma};
pub use exchange::{Exchange, ServerLogs, VfioUserChannel, VfioUserLimits};
pub use transport::{VfioUser, VfioUserOptions};
