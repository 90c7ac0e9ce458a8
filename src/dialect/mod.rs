//! The migration protocols. A dialect speaks states and features through a [`Transport`]; it knows no fd and no ioctl.
//!
//! May import: transport, uapi, error, log. Above this room only [`State`] and [`Caps`] exist: bits and numbers of the
//! protocols stay here and in uapi.

pub(crate) mod arcs;
pub(crate) mod probe;
mod state;
mod v2;

use crate::error::{Errno, Error};
use crate::transport::{DataFd, Transport};
pub use arcs::{Answer, answer, path};
pub use state::{Caps, Direction, State};

/// Which protocol a device speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// Device feature + data fd, Linux 5.18.
    V2 = 3,
}

impl Kind {
    /// The name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::V2 => "v2",
        }
    }
}

/// What pre-copy info said; `None` is unknown, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrecopyFigures {
    pub initial_bytes: Option<u64>,
    pub dirty_bytes: Option<u64>,
    /// The device began again with initial data (C9).
    pub reinit: bool,
}

impl PrecopyFigures {
    pub const UNKNOWN: Self = PrecopyFigures { initial_bytes: None, dirty_bytes: None, reinit: false };

    /// The device says that a read would bring nothing now (C5).
    pub fn says_empty(&self) -> bool {
        self.initial_bytes == Some(0) && self.dirty_bytes == Some(0)
    }
}

/// How a state request ended.
#[derive(Debug)]
pub(crate) struct Requested {
    /// The descriptor that came back; `None` is the kernel's -1, "same fd as before" (V2-4).
    pub data_fd: Option<i32>,
}

/// One protocol with one device. Callers have checked every request against the arc table (V2-1).
pub(crate) trait Dialect: Send {
    fn kind(&self) -> Kind;
    fn caps(&self) -> Caps;
    /// Whether REINIT is reported (C8).
    fn reports_reinit(&self) -> bool;
    fn read_state(&self, transport: &dyn Transport) -> Result<State, Error>;
    fn request_state(&self, transport: &dyn Transport, to: State) -> Result<Requested, Errno>;
    /// Estimated bytes of STOP_COPY, in any state.
    fn stop_copy_bytes(&self, transport: &dyn Transport) -> Result<Option<u64>, Errno>;
    /// Pre-copy info; on some devices it makes the next data (F4, C10).
    fn precopy_figures(&self, data: &mut dyn DataFd) -> Result<PrecopyFigures, Errno>;
}
