//! How a server is, as data.

use super::quirks::Quirks;
use crate::machine::Access;
use std::time::Duration;

/// What a server does at a request instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    /// It has gone, with everything that it held.
    Dies,
    /// It does the request and says nothing.
    IsSilent,
}

/// Something happens at the `nth` access of a kind, counted from 0; all that follow are served again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// What is counted; `Access::Enter` too.
    pub access: Access,
    /// Which of them.
    pub nth: u64,
    /// What happens.
    pub happens: Happens,
}

/// What a device does by itself, again and again, while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paced {
    /// First address, or first byte.
    pub start: u64,
    /// How much; one page of it at a time where it is memory.
    pub len: u64,
    /// How often.
    pub period: Duration,
}

/// A server. `Default`: as the specification says, with everything optional.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// What it does beside the specification.
    pub quirks: Quirks,
    /// Whether it can migrate at all.
    pub migratable: bool,
    /// Whether it has a second socket for its own commands, for clients that want one.
    pub twin_socket: bool,
    /// Most descriptors that it takes with one message.
    pub max_msg_fds: u32,
    /// Longest transfer that it takes.
    pub max_data_xfer_size: u32,
    /// Vendor and device of the PCI device.
    pub pci_id: (u16, u16),
    /// When it dies or is silent.
    pub triggers: Vec<Trigger>,
    /// It writes pages of the client's memory by itself.
    pub writes: Option<Paced>,
    /// It changes bytes of its state by itself.
    pub changes: Option<Paced>,
    /// How long a client may take for the answer to a command of the server.
    pub patience: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            quirks: Quirks::none(),
            migratable: true,
            twin_socket: true,
            max_msg_fds: 8,
            max_data_xfer_size: 1 << 20,
            // Of the numbers that are free for experiments.
            pci_id: (0x1af4, 0x10f0),
            triggers: Vec::new(),
            writes: None,
            changes: None,
            patience: Duration::from_secs(10),
        }
    }
}
