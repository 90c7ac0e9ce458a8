//! The state vocabulary of the library, the same for every dialect (docs/design.md, "The state machine").

use std::fmt;

/// Where a device stands. The numbers are `VFIOMIG_STATE_*`.
///
/// ```
/// use vfiomig::dialect::{Direction, State};
///
/// assert_eq!(State::from_number(7), Some(State::PreCopyP2p));
/// assert_eq!(State::PreCopyP2p.to_string(), "PRE_COPY_P2P");
/// assert!(State::PreCopyP2p.is_precopy() && State::PreCopyP2p.session() == Some(Direction::Save));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs, reason = "the kernel's own names; docs/states.md describes them")]
pub enum State {
    Error = 0,
    Stop = 1,
    Running = 2,
    StopCopy = 3,
    Resuming = 4,
    RunningP2p = 5,
    PreCopy = 6,
    PreCopyP2p = 7,
}

/// Which way a session's bytes flow.
///
/// ```
/// use vfiomig::dialect::{Direction, State};
///
/// let loads = State::ALL.into_iter().filter(|state| state.session() == Some(Direction::Load));
/// assert_eq!(loads.collect::<Vec<_>>(), [State::Resuming]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Out of the device.
    Save,
    /// Into the device.
    Load,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [State; 8] = [
        State::Error,
        State::Stop,
        State::Running,
        State::StopCopy,
        State::Resuming,
        State::RunningP2p,
        State::PreCopy,
        State::PreCopyP2p,
    ];

    /// The number in the C API.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// From the number in the C API.
    pub fn from_number(number: u32) -> Option<State> {
        State::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The name without a prefix.
    pub fn name(self) -> &'static str {
        match self {
            State::Error => "ERROR",
            State::Stop => "STOP",
            State::Running => "RUNNING",
            State::StopCopy => "STOP_COPY",
            State::Resuming => "RESUMING",
            State::RunningP2p => "RUNNING_P2P",
            State::PreCopy => "PRE_COPY",
            State::PreCopyP2p => "PRE_COPY_P2P",
        }
    }

    /// The kind of session that is open in this state.
    pub fn session(self) -> Option<Direction> {
        match self {
            State::PreCopy | State::PreCopyP2p | State::StopCopy => Some(Direction::Save),
            State::Resuming => Some(Direction::Load),
            State::Error | State::Stop | State::Running | State::RunningP2p => None,
        }
    }

    /// PRE_COPY or PRE_COPY_P2P: an end of data is only for now (F3).
    pub fn is_precopy(self) -> bool {
        matches!(self, State::PreCopy | State::PreCopyP2p)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The optional states that a device has; STOP_COPY and RESUMING every migratable device has.
///
/// ```
/// use vfiomig::dialect::{Caps, State};
///
/// let caps = Caps { p2p: true, pre_copy: false };
/// assert!(caps.has(State::RunningP2p) && !caps.has(State::PreCopyP2p));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caps {
    /// RUNNING_P2P, and PRE_COPY_P2P together with `pre_copy`.
    pub p2p: bool,
    /// PRE_COPY, before the device is stopped.
    pub pre_copy: bool,
}

impl Caps {
    /// All capability sets; each is that of some driver (V2-11).
    pub const ALL: [Caps; 4] = [
        Caps { p2p: false, pre_copy: false },
        Caps { p2p: true, pre_copy: false },
        Caps { p2p: false, pre_copy: true },
        Caps { p2p: true, pre_copy: true },
    ];

    /// Whether a device with these capabilities can be in `state`.
    pub fn has(self, state: State) -> bool {
        match state {
            State::RunningP2p => self.p2p,
            State::PreCopy => self.pre_copy,
            State::PreCopyP2p => self.p2p && self.pre_copy,
            State::Error | State::Stop | State::Running | State::StopCopy | State::Resuming => true,
        }
    }
}
