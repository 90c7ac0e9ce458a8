//! What a client has said of itself.

/// The newest minor version.
pub(super) const MINOR: u16 = 2;

/// What the client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub minor: u16,
    pub max_msg_fds: u32,
    pub max_data_xfer_size: u32,
    pub twin_socket: bool,
}

/// What a client takes that says nothing of it.
impl Default for Client {
    fn default() -> Self {
        Client { minor: MINOR, max_msg_fds: 1, max_data_xfer_size: 1 << 20, twin_socket: false }
    }
}
