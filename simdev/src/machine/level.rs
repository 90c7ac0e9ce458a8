//! Levels of device_state and the ways between them: N15's order for a register write, the arcs of V2-12 for a
//! v2 request. Both are lists of single steps, so that every level a device passes through can be seen in its log.

use std::fmt;
use vfiomig::dialect::State;

/// The bits of device_state (V1-15), in which v2 states are held as well.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level(pub u32);

impl Level {
    /// The device runs.
    pub const RUNNING: u32 = 1;
    /// State is streamed out.
    pub const SAVING: u32 = 2;
    /// State is streamed in.
    pub const RESUMING: u32 = 4;
    /// No DMA is started; the v2 P2P states are kept with this bit too.
    pub const NDMA: u32 = 8;
    /// SAVING and RESUMING together.
    pub const ERROR: Level = Level(Self::SAVING | Self::RESUMING);

    /// Whether a bit is set.
    pub fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    /// The device runs.
    pub fn running(self) -> bool {
        self.has(Self::RUNNING) && !self.is_error()
    }

    /// A save window is open.
    pub fn saving(self) -> bool {
        self.has(Self::SAVING) && !self.has(Self::RESUMING)
    }

    /// A load window is open.
    pub fn resuming(self) -> bool {
        self.has(Self::RESUMING) && !self.has(Self::SAVING)
    }

    /// Only a reset helps.
    pub fn is_error(self) -> bool {
        self.0 & (Self::SAVING | Self::RESUMING) == Self::ERROR.0
    }

    /// Legal in the register; NDMA is one of the bits only where the device has it.
    pub fn is_valid(self, ndma: bool) -> bool {
        let known = if ndma { 15 } else { 7 };
        let both = |a: u32, b: u32| self.has(a) && self.has(b);
        self.0 & !known == 0 && !both(Self::SAVING, Self::RESUMING) && !both(Self::RESUMING, Self::RUNNING)
    }

    /// The abstract state; NDMA says nothing more where RUNNING is clear (W2).
    pub fn state(self) -> State {
        let has = |bit| self.has(bit);
        match (self.is_error(), has(Self::RUNNING), has(Self::SAVING), has(Self::RESUMING), has(Self::NDMA)) {
            (true, ..) => State::Error,
            (_, _, _, true, _) => State::Resuming,
            (_, false, true, _, _) => State::StopCopy,
            (_, false, false, _, _) => State::Stop,
            (_, true, true, _, false) => State::PreCopy,
            (_, true, true, _, true) => State::PreCopyP2p,
            (_, true, false, _, false) => State::Running,
            (_, true, false, _, true) => State::RunningP2p,
        }
    }

    /// The bits of an abstract state.
    pub fn of(state: State) -> Level {
        Level(match state {
            State::Error => 6,
            State::Stop => 0,
            State::Running => 1,
            State::StopCopy => 2,
            State::Resuming => 4,
            State::RunningP2p => 9,
            State::PreCopy => 3,
            State::PreCopyP2p => 11,
        })
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04b}({})", self.0, self.state())
    }
}

/// N15: what a write that changes several bits passes through, the target last. The list does not name clearing SAVING:
/// it is done with !RUNNING, before any window opens (W7). Where RESUMING gives way to SAVING it is cleared first, since
/// both together are ERROR.
pub fn register_path(from: Level, to: Level) -> Vec<Level> {
    use Level as L;
    let (set, clear) = (|bit: u32| to.has(bit) && !from.has(bit), |bit: u32| !to.has(bit) && from.has(bit));
    let stopped_saving = set(L::SAVING) && !to.has(L::RUNNING);
    let steps: [(bool, u32, bool); 10] = [
        (set(L::NDMA), L::NDMA, true),
        (clear(L::RUNNING), L::RUNNING, false),
        (clear(L::SAVING), L::SAVING, false),
        (clear(L::RESUMING) && stopped_saving, L::RESUMING, false),
        (stopped_saving, L::SAVING, true),
        (set(L::RESUMING), L::RESUMING, true),
        (clear(L::RESUMING) && !stopped_saving, L::RESUMING, false),
        (set(L::RUNNING), L::RUNNING, true),
        (set(L::SAVING) && to.has(L::RUNNING), L::SAVING, true),
        (clear(L::NDMA), L::NDMA, false),
    ];
    let mut level = from;
    steps
        .iter()
        .filter(|(due, ..)| *due)
        .map(|&(_, bit, on)| {
            level = Level(if on { level.0 | bit } else { level.0 & !bit });
            level
        })
        .collect()
}

/// The steps of a v2 request, the target last; `None` where the kernel blocks it or loops (V2-1).
pub fn request_path(from: State, to: State, p2p: bool, pre_copy: bool) -> Option<Vec<State>> {
    let has = |state: State| match state {
        State::RunningP2p => p2p,
        State::PreCopy => pre_copy,
        State::PreCopyP2p => p2p && pre_copy,
        _ => true,
    };
    if from == State::Error || to == State::Error || !has(to) {
        return None;
    }
    let (mut path, mut at) = (Vec::new(), from);
    while at != to {
        at = next(at, to)?;
        if has(at) {
            path.push(at);
        }
    }
    Some(path)
}

/// One step of a device that has every state.
fn next(at: State, to: State) -> Option<State> {
    use State::*;
    Some(match (at, to) {
        (Stop, StopCopy | Resuming) => to,
        (Stop, _) => RunningP2p,
        (Running, PreCopy) => PreCopy,
        (Running, _) => RunningP2p,
        (RunningP2p, Stop | StopCopy | Resuming) => Stop,
        (RunningP2p, PreCopyP2p) => PreCopyP2p,
        (RunningP2p, _) => Running,
        (PreCopy, PreCopyP2p | StopCopy) => PreCopyP2p,
        (PreCopy, _) => Running,
        (PreCopyP2p, StopCopy | PreCopy) => to,
        (PreCopyP2p, _) => RunningP2p,
        (StopCopy, PreCopy | PreCopyP2p) => return None,
        (StopCopy | Resuming, _) => Stop,
        (Error, _) => return None,
    })
}
