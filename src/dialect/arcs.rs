//! The arc table: which state a request may name, and through which states it leads. It is data with three readers: the
//! check before every request (V2-1), the documentation (docs/states.md), and the exhaustive test in tests/arcs.rs.
//!
//! Rows are where the device is, columns what is asked for, in the order of the states' numbers. A cell is the next
//! state on the path. Lower case is *never used*: legal for the kernel, but it throws a session away on the way to
//! something else (V2-2) or starts a stopped device; only a raw request takes it. `__` is *refused*: the kernel
//! blocks it, or loops on it (STOP_COPY to PRE_COPY, C6; Linux 6.12: V2-1, K18), or the device lacks the state. `HH`
//! is where the device is already. Follows: V2-12, Linux's `vfio_mig_get_next_state()`; for the migration region V1-3
//! and V1-15, where each request is one write and leads nowhere in between.

use super::DialectKind;
use super::state::{Caps, State};

/// What the table says to a request.
///
/// ```
/// use vfiomig::dialect::{Answer, Caps, DialectKind, State, answer, path};
///
/// let caps = Caps { p2p: true, pre_copy: true };
/// let of = |from, to| answer(DialectKind::V2, caps, from, to);
/// assert_eq!(of(State::Running, State::StopCopy), Answer::Via(State::RunningP2p));
/// assert_eq!(of(State::StopCopy, State::PreCopy), Answer::Refused);
/// assert_eq!(
///     path(DialectKind::V2, caps, State::Running, State::StopCopy),
///     Some(vec![State::RunningP2p, State::Stop, State::StopCopy])
/// );
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The device is there already: success without a request.
    Here,
    /// Legal; the next state on the path.
    Via(State),
    /// Legal for the kernel but a trap; the next state on the path.
    NeverUsed(State),
    /// Must not reach the kernel.
    Refused,
}

type ArcTable = [[Answer; 8]; 8];

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
const PLAIN: ArcTable = [
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
const P2P: ArcTable = [
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
const PRE_COPY: ArcTable = [
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
const BOTH: ArcTable = [
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

#[allow(non_upper_case_globals, reason = "lower case marks a trap in the tables")]
const sc: Answer = Answer::NeverUsed(State::StopCopy);
#[allow(non_upper_case_globals, reason = "lower case marks a trap in the tables")]
const re: Answer = Answer::NeverUsed(State::Resuming);
#[allow(non_upper_case_globals, reason = "lower case marks a trap in the tables")]
const pc: Answer = Answer::NeverUsed(State::PreCopy);
#[allow(non_upper_case_globals, reason = "lower case marks a trap in the tables")]
const pp: Answer = Answer::NeverUsed(State::PreCopyP2p);

/// Draft, and v1 without NDMA. RESUMING is left to RUNNING directly: nothing in V1-3 stops at STOP, and servers refuse it.
#[rustfmt::skip]
const REGION: ArcTable = [
    /*               ERROR STOP  RUN   SCOPY RESUM RP2P  PCOPY PCP2P */
    /* ERROR      */ [__,   __,   __,   __,   __,   __,   __,   __],
    /* STOP       */ [__,   HH,   RU,   SC,   RE,   __,   pc,   __],
    /* RUNNING    */ [__,   ST,   HH,   SC,   RE,   __,   PC,   __],
    /* STOP_COPY  */ [__,   ST,   RU,   HH,   re,   __,   __,   __],
    /* RESUMING   */ [__,   st,   RU,   sc,   HH,   __,   pc,   __],
    /* RUNNING_P2P*/ [__,   __,   __,   __,   __,   __,   __,   __],
    /* PRE_COPY   */ [__,   st,   RU,   SC,   re,   __,   HH,   __],
    /* PRE_COPY_P2P*/[__,   __,   __,   __,   __,   __,   __,   __],
];

/// v1 with NDMA.
#[rustfmt::skip]
const REGION_NDMA: ArcTable = [
    /*               ERROR STOP  RUN   SCOPY RESUM RP2P  PCOPY PCP2P */
    /* ERROR      */ [__,   __,   __,   __,   __,   __,   __,   __],
    /* STOP       */ [__,   HH,   RU,   SC,   RE,   RP,   pc,   pp],
    /* RUNNING    */ [__,   ST,   HH,   SC,   RE,   RP,   PC,   PP],
    /* STOP_COPY  */ [__,   ST,   RU,   HH,   re,   RP,   __,   __],
    /* RESUMING   */ [__,   st,   RU,   sc,   HH,   RP,   pc,   pp],
    /* RUNNING_P2P*/ [__,   ST,   RU,   SC,   RE,   HH,   PC,   PP],
    /* PRE_COPY   */ [__,   st,   RU,   SC,   re,   rp,   HH,   PP],
    /* PRE_COPY_P2P*/[__,   st,   RU,   SC,   re,   RP,   PC,   HH],
];

/// The table's answer for a device of that dialect with `caps`.
pub fn answer(kind: DialectKind, caps: Caps, from: State, to: State) -> Answer {
    let grid = match (kind, caps.p2p, caps.pre_copy) {
        (DialectKind::V2, false, false) => &PLAIN,
        (DialectKind::V2, true, false) => &P2P,
        (DialectKind::V2, false, true) => &PRE_COPY,
        (DialectKind::V2, true, true) => &BOTH,
        (DialectKind::V1 | DialectKind::Draft, false, _) => &REGION,
        (DialectKind::V1 | DialectKind::Draft, true, _) => &REGION_NDMA,
    };
    let row = grid.get(from.number() as usize);
    row.and_then(|row| row.get(to.number() as usize)).copied().unwrap_or(Answer::Refused)
}

/// The states that a request leads through, `to` last; empty where the device is there already; nothing if refused.
pub fn path(kind: DialectKind, caps: Caps, from: State, to: State) -> Option<Vec<State>> {
    let mut path = Vec::new();
    let mut at = from;
    // No path is longer than the number of states: tests/arcs.rs walks all of them.
    for _ in State::ALL {
        match answer(kind, caps, at, to) {
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
