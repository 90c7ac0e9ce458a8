//! The arc table: which state a request may name, and through which states it leads. It is data with three readers: the
//! check before every request (V2-1), the documentation (docs/states.md), and the exhaustive test in tests/arcs.rs.
//!
//! Rows are where the device is, columns what is asked for, in the order of the states' numbers. A cell is the next state
//! on the way. Lower case is *never used*: legal for the kernel, but it throws a session away on the way to something else
//! or starts a stopped device; only a raw request takes it. `__` is *refused*: the kernel blocks it, or loops on it
//! (STOP_COPY to PRE_COPY on Linux 6.12, V2-1), or the device lacks the state. `HH` is where the device is already.
//! Follows: protocol.md section 3.2, Linux's `vfio_mig_get_next_state()`.

use super::state::{Caps, State};

/// What the table says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The device is there already: success without a request.
    Here,
    /// Legal; the next state on the way.
    Via(State),
    /// Legal for the kernel but a trap; the next state on the way.
    NeverUsed(State),
    /// Must not reach the kernel.
    Refused,
}

type Grid = [[Answer; 8]; 8];

const HH: Answer = Answer::Here;
const __: Answer = Answer::Refused;
const ST: Answer = Answer::Via(State::Stop);
const RU: Answer = Answer::Via(State::Running);
const SC: Answer = Answer::Via(State::StopCopy);
const RE: Answer = Answer::Via(State::Resuming);
const RP: Answer = Answer::Via(State::RunningP2p);
const PC: Answer = Answer::Via(State::PreCopy);
const PP: Answer = Answer::Via(State::PreCopyP2p);
#[allow(non_upper_case_globals, reason = "lower case marks a trap in the tables")]
const st: Answer = Answer::NeverUsed(State::Stop);
#[allow(non_upper_case_globals, reason = "lower case marks a trap in the tables")]
const ru: Answer = Answer::NeverUsed(State::Running);
#[allow(non_upper_case_globals, reason = "lower case marks a trap in the tables")]
const rp: Answer = Answer::NeverUsed(State::RunningP2p);

#[rustfmt::skip]
const PLAIN: Grid = [
    /*               ERROR STOP  RUN   SCOPY RESUM RP2P  PCOPY PCP2P */
    /* ERROR      */ [__,   __,   __,   __,   __,   __,   __,   __],
    /* STOP       */ [__,   HH,   RU,   SC,   RE,   __,   __,   __],
    /* RUNNING    */ [__,   ST,   HH,   ST,   ST,   __,   __,   __],
    /* STOP_COPY  */ [__,   ST,   ST,   HH,   st,   __,   __,   __],
    /* RESUMING   */ [__,   ST,   ST,   st,   HH,   __,   __,   __],
    /* RUNNING_P2P*/ [__,   __,   __,   __,   __,   __,   __,   __],
    /* PRE_COPY   */ [__,   __,   __,   __,   __,   __,   __,   __],
    /* PRE_COPY_P2P*/[__,   __,   __,   __,   __,   __,   __,   __],
];

#[rustfmt::skip]
const P2P: Grid = [
    /*               ERROR STOP  RUN   SCOPY RESUM RP2P  PCOPY PCP2P */
    /* ERROR      */ [__,   __,   __,   __,   __,   __,   __,   __],
    /* STOP       */ [__,   HH,   RP,   SC,   RE,   RP,   __,   __],
    /* RUNNING    */ [__,   RP,   HH,   RP,   RP,   RP,   __,   __],
    /* STOP_COPY  */ [__,   ST,   ST,   HH,   st,   ST,   __,   __],
    /* RESUMING   */ [__,   ST,   ST,   st,   HH,   ST,   __,   __],
    /* RUNNING_P2P*/ [__,   ST,   RU,   ST,   ST,   HH,   __,   __],
    /* PRE_COPY   */ [__,   __,   __,   __,   __,   __,   __,   __],
    /* PRE_COPY_P2P*/[__,   __,   __,   __,   __,   __,   __,   __],
];

#[rustfmt::skip]
const PRE_COPY: Grid = [
    /*               ERROR STOP  RUN   SCOPY RESUM RP2P  PCOPY PCP2P */
    /* ERROR      */ [__,   __,   __,   __,   __,   __,   __,   __],
    /* STOP       */ [__,   HH,   RU,   SC,   RE,   __,   ru,   __],
    /* RUNNING    */ [__,   ST,   HH,   ST,   ST,   __,   PC,   __],
    /* STOP_COPY  */ [__,   ST,   ST,   HH,   st,   __,   __,   __],
    /* RESUMING   */ [__,   ST,   ST,   st,   HH,   __,   st,   __],
    /* RUNNING_P2P*/ [__,   __,   __,   __,   __,   __,   __,   __],
    /* PRE_COPY   */ [__,   ru,   RU,   SC,   ru,   __,   HH,   __],
    /* PRE_COPY_P2P*/[__,   __,   __,   __,   __,   __,   __,   __],
];

#[rustfmt::skip]
const BOTH: Grid = [
    /*               ERROR STOP  RUN   SCOPY RESUM RP2P  PCOPY PCP2P */
    /* ERROR      */ [__,   __,   __,   __,   __,   __,   __,   __],
    /* STOP       */ [__,   HH,   RP,   SC,   RE,   RP,   rp,   rp],
    /* RUNNING    */ [__,   RP,   HH,   RP,   RP,   RP,   PC,   RP],
    /* STOP_COPY  */ [__,   ST,   ST,   HH,   st,   ST,   __,   __],
    /* RESUMING   */ [__,   ST,   ST,   st,   HH,   ST,   st,   st],
    /* RUNNING_P2P*/ [__,   ST,   RU,   ST,   ST,   HH,   RU,   PP],
    /* PRE_COPY   */ [__,   ru,   RU,   PP,   ru,   ru,   HH,   PP],
    /* PRE_COPY_P2P*/[__,   rp,   RP,   SC,   rp,   RP,   PC,   HH],
];

/// The table's answer for a v2 device with `caps`.
pub fn answer(caps: Caps, from: State, to: State) -> Answer {
    let grid = match (caps.p2p, caps.pre_copy) {
        (false, false) => &PLAIN,
        (true, false) => &P2P,
        (false, true) => &PRE_COPY,
        (true, true) => &BOTH,
    };
    let row = grid.get(from.number() as usize);
    row.and_then(|row| row.get(to.number() as usize)).copied().unwrap_or(Answer::Refused)
}

/// The states that a request leads through, `to` last; empty where the device is there already; nothing if refused.
pub fn path(caps: Caps, from: State, to: State) -> Option<Vec<State>> {
    let mut path = Vec::new();
    let mut at = from;
    // No way is longer than the number of states: tests/arcs.rs walks all of them.
    for _ in State::ALL {
        match answer(caps, at, to) {
            Answer::Here => return Some(path),
            Answer::Via(next) | Answer::NeverUsed(next) => {
                path.push(next);
                at = next;
            }
            Answer::Refused => return None,
        }
    }
    None
}

/// Whether the session that is open in `from` is still the same one after the device went along `path` up to `found`.
/// `found` is on the path (or is `from`); from anywhere else the session is taken for ended.
pub(crate) fn session_survives(from: State, path: &[State], found: State) -> bool {
    let Some(direction) = from.session() else { return false };
    let mut at = from;
    for &next in path {
        if at == found {
            return true;
        }
        // RESUMING has no neighbour of its own session; SAVING states are one session as long as it is never left.
        if next.session() != Some(direction) || direction == super::Direction::Load {
            return false;
        }
        at = next;
    }
    at == found
}
