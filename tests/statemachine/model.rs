//! Where each device may be. A call that succeeds has one outcome; one that fails has stopped somewhere on its way. Of two calls
//! at a time either may have come first.

use vfiomig::dialect::{Caps, DialectKind, State, path};
use vfiomig::migration::Phase;

/// A set of states.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct May(u8);

impl May {
    pub fn only(state: State) -> May {
        May(1 << state.number())
    }

    pub fn any() -> May {
        May(u8::MAX)
    }

    pub fn has(self, state: State) -> bool {
        self.0 & May::only(state).0 != 0
    }

    pub fn or(self, other: May) -> May {
        May(self.0 | other.0)
    }

    pub fn with(self, states: &[State]) -> May {
        states.iter().fold(self, |all, state| all.or(May::only(*state)))
    }

    pub fn states(self) -> Vec<State> {
        State::ALL.into_iter().filter(|state| self.has(*state)).collect()
    }
}

impl std::fmt::Debug for May {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.states()).finish()
    }
}

/// What of a device decides where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub kind: DialectKind,
    pub caps: Caps,
}

/// What a call does to every device.
#[derive(Clone, Debug)]
pub enum Move {
    /// Through phases, one after the other.
    Enter(Vec<Phase>),
    Pause,
    Resume,
    PauseBegin,
    ResumeBegin,
    AbortSave {
        to: Vec<State>,
    },
    AbortLoad {
        to: Vec<State>,
    },
}

use State::{Error, PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};

fn grace(at: State) -> State {
    match at {
        Running => RunningP2p,
        PreCopy => PreCopyP2p,
        other => other,
    }
}

/// Where a device at `at` stands once the phase is entered (docs/states.md).
fn enters(phase: Phase, part: Part, at: State) -> State {
    let Part { kind, caps } = part;
    match phase {
        Phase::SaveTracking if kind == DialectKind::Draft && at == Running => PreCopy,
        Phase::SavePreCopy if caps.pre_copy && at == Running => PreCopy,
        Phase::SaveViommuGrace if kind == DialectKind::V1 && caps.p2p => grace(at),
        Phase::SaveP2pGrace if caps.p2p => grace(at),
        Phase::SaveStopCopy => StopCopy,
        Phase::SaveHalted => Stop,
        Phase::LoadResuming => Resuming,
        Phase::LoadLoaded if kind == DialectKind::V2 => Stop,
        Phase::LoadP2pGrace if caps.p2p => RunningP2p,
        Phase::LoadRunning => Running,
        _ => at,
    }
}

/// Where one device may be after a call, if it was in `from`.
fn after_from(what: &Move, ok: bool, part: Part, from: State) -> May {
    let stays = May::only(from);
    let p2p = part.caps.p2p;
    match what {
        Move::Enter(phases) if ok => May::only(phases.iter().fold(from, |at, phase| enters(*phase, part, at))),
        Move::Enter(phases) => {
            let (mut all, mut at) = (stays.with(&[Error]), from);
            for phase in phases {
                let to = enters(*phase, part, at);
                all = all.with(&path(part.kind, part.caps, at, to).unwrap_or_default()).or(May::only(to));
                // On the destination a device that fails is reset.
                if *phase >= Phase::LoadResuming {
                    all = all.with(&[Running]);
                }
                at = to;
            }
            all
        }
        Move::Pause if ok => match from {
            PreCopy | PreCopyP2p | StopCopy => May::only(StopCopy),
            // Loaded, and it can leave only by running: it stands still.
            Resuming => stays,
            _ => May::only(Stop),
        },
        Move::PauseBegin if ok => May::only(if p2p { grace(from) } else { from }),
        Move::Pause | Move::PauseBegin => stays.with(&[Error, RunningP2p, PreCopyP2p, Stop, StopCopy]),
        // In SAVE_TRACKING a draft saves again, for its log.
        Move::Resume if ok && part.kind == DialectKind::Draft => May::only(Running).with(&[PreCopy]),
        Move::Resume if ok => May::only(Running),
        Move::ResumeBegin if ok => match from {
            PreCopyP2p | StopCopy | Stop | Resuming if p2p => May::only(RunningP2p),
            other => May::only(other),
        },
        Move::Resume | Move::ResumeBegin => stays.with(&[Error, Running, RunningP2p, Stop, StopCopy]),
        Move::AbortSave { to } | Move::AbortLoad { to } if ok => May(0).with(to),
        Move::AbortSave { .. } => May(!May::only(Resuming).0).or(stays),
        Move::AbortLoad { .. } => May::any(),
    }
}

/// Where one device may be after a call.
pub fn after(what: &Move, ok: bool, part: Part, from: May) -> May {
    from.states().into_iter().fold(May(0), |all, state| all.or(after_from(what, ok, part, state)))
}
