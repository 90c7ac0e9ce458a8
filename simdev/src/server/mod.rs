//! A device behind a UNIX socket: a server of vfio-user, for clients that are tested without a kernel. It answers as the protocol
//! says, or as known servers do beside it, and judges its client.
//!
//! May import: device, dialects, machine, content, config, base. Start reading at `serve` (one client, from its first message to its
//! last), `connection` (what is kept of it) and `dispatch` (which command is answered by what); `listen` and `host` are the server,
//! `wire`, `socket` and `answer` messages and descriptors, `version` and `client` the handshake, `regions`, `registers`, `pci` and
//! `interrupts` the PCI device, `memory`, `region_log` and `dma` its way to the client's memory, `feature`, `data` and `dirty_pages`
//! are migration, `options` and `quirks` say how the server is, as data.

mod answer;
mod client;
mod connection;
mod data;
mod dirty_pages;
mod dispatch;
mod dma;
mod feature;
mod host;
mod interrupts;
mod listen;
mod memory;
mod options;
mod pci;
mod quirks;
mod region_log;
mod regions;
mod registers;
mod serve;
mod socket;
mod version;
mod wire;

pub use listen::{Server, ServerThread};
pub use options::{Happens, Paced, ServerOptions, Trigger};
pub use quirks::{Quirk, Quirks};
pub use serve::End;
