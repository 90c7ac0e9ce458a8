//! How a device comes to rest or runs again, in steps with a barrier after each (N5): data, and no device in sight.
//!
//! Grace comes first (N5, N18, N19): no device stops while one that can stop its peer-to-peer DMA has not been
//! asked to, and none starts while one that could answer is still stopped. Where a device lacks the P2P states, what would be
//! done in them is done at the next step (N22).

use crate::dialect::{Caps, DialectKind, State};

/// Where a device is to be brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rest {
    /// RUNNING; an open session ends.
    Running,
    /// STOP; an open session ends.
    Stop,
    /// Stopped with its session: STOP_COPY where a save session is open, else STOP.
    Hold,
}

/// Barriers of a plan. In the first, sessions end where they can end nowhere else; the second is grace; in the third run those
/// that can leave RESUMING only so, because what they were loaded with may turn out to be bad; the fourth is the rest.
pub(crate) const STEPS: usize = 4;

/// How many of them lead to grace.
pub(crate) const GRACE: usize = 2;

/// What a device is asked for in each step.
pub(crate) type StepTargets = [Option<State>; STEPS];

const NOTHING: StepTargets = [None; STEPS];

const fn last(to: State) -> StepTargets {
    [None, None, None, Some(to)]
}

const fn grace(first: State, then: State) -> StepTargets {
    [None, Some(first), None, Some(then)]
}

const fn early(first: State, then: State) -> StepTargets {
    [Some(first), None, None, Some(then)]
}

type Row = (State, StepTargets);

use State::{PreCopy as PC, PreCopyP2p as PP, Running as RU, RunningP2p as RP, Stop as ST, StopCopy as SC};

/// Devices with the P2P states. PRE_COPY to STOP leads through grace, because the table has no shorter way that loses nothing.
const RUNNING_P2P: [Row; 6] =
    [(RU, NOTHING), (RP, last(RU)), (PC, last(RU)), (PP, grace(RP, RU)), (SC, grace(RP, RU)), (ST, grace(RP, RU))];
const STOP_P2P: [Row; 6] = [
    (RU, grace(RP, ST)),
    (RP, last(ST)),
    (PC, [Some(PP), Some(RP), None, Some(ST)]),
    (PP, grace(RP, ST)),
    (SC, last(ST)),
    (ST, NOTHING),
];
const HOLD_P2P: [Row; 6] =
    [(RU, grace(RP, ST)), (RP, last(ST)), (PC, grace(PP, SC)), (PP, last(SC)), (SC, NOTHING), (ST, NOTHING)];

/// Devices without them.
const RUNNING: [Row; 4] = [(RU, NOTHING), (PC, last(RU)), (SC, last(RU)), (ST, last(RU))];
const STOP: [Row; 4] = [(RU, last(ST)), (PC, early(RU, ST)), (SC, last(ST)), (ST, NOTHING)];
const HOLD: [Row; 4] = [(RU, last(ST)), (PC, last(SC)), (SC, NOTHING), (ST, NOTHING)];

/// V1-3: v1 and the draft leave RESUMING to run, with NDMA by way of their P2P state. To rest they stay in it: it is stopped.
fn targets_of_loaded(caps: Caps, rest: Rest) -> StepTargets {
    match (rest, caps.p2p) {
        (Rest::Stop | Rest::Hold, _) => NOTHING,
        (Rest::Running, true) => grace(RP, RU),
        (Rest::Running, false) => [None, None, Some(RU), None],
    }
}

/// What such a device is asked for; `None`: from there only a reset leads anywhere (ERROR, and RESUMING by V2-9).
pub(crate) fn targets(kind: DialectKind, caps: Caps, from: State, rest: Rest) -> Option<StepTargets> {
    if from == State::Resuming && kind != DialectKind::V2 {
        return Some(targets_of_loaded(caps, rest));
    }
    let rows: &[Row] = match (rest, caps.p2p) {
        (Rest::Running, true) => &RUNNING_P2P,
        (Rest::Running, false) => &RUNNING,
        (Rest::Stop, true) => &STOP_P2P,
        (Rest::Stop, false) => &STOP,
        (Rest::Hold, true) => &HOLD_P2P,
        (Rest::Hold, false) => &HOLD,
    };
    rows.iter().find(|(state, _)| *state == from).map(|(_, targets)| *targets)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dialect::{Answer, answer, path};

    /// Every kind of device that there is.
    pub(crate) const DEVICES: [(DialectKind, Caps); 7] = [
        (DialectKind::V2, Caps { p2p: false, pre_copy: false }),
        (DialectKind::V2, Caps { p2p: true, pre_copy: false }),
        (DialectKind::V2, Caps { p2p: false, pre_copy: true }),
        (DialectKind::V2, Caps { p2p: true, pre_copy: true }),
        (DialectKind::V1, Caps { p2p: false, pre_copy: true }),
        (DialectKind::V1, Caps { p2p: true, pre_copy: true }),
        (DialectKind::Draft, Caps { p2p: false, pre_copy: true }),
    ];

    const RESTS: [Rest; 3] = [Rest::Running, Rest::Stop, Rest::Hold];

    /// All multisets of up to `max` of `items`.
    pub(crate) fn mixes<T: Copy>(items: &[T], max: usize, each: &mut impl FnMut(&[T])) {
        fn grow<T: Copy>(items: &[T], left: usize, chosen: &mut Vec<T>, each: &mut impl FnMut(&[T])) {
            each(chosen);
            if left > 0 {
                for (i, &item) in items.iter().enumerate() {
                    chosen.push(item);
                    grow(&items[i..], left - 1, chosen, each);
                    chosen.pop();
                }
            }
        }
        grow(items, max, &mut Vec::new(), each);
    }

    pub(crate) fn quiet(state: State) -> bool {
        matches!(state, State::RunningP2p | State::PreCopyP2p | State::Stop | State::StopCopy | State::Resuming)
    }

    pub(crate) fn stopped(state: State) -> bool {
        matches!(state, State::Stop | State::StopCopy | State::Resuming)
    }

    #[derive(Clone, Copy, Debug)]
    struct Dev {
        kind: DialectKind,
        caps: Caps,
        at: State,
    }

    #[test]
    fn every_mix_of_devices_and_states_comes_to_rest_in_order() {
        let mut devs = Vec::new();
        for (kind, caps) in DEVICES {
            for at in [RU, RP, PC, PP, SC, ST, State::Resuming] {
                let loaded = at == State::Resuming && kind != DialectKind::V2;
                if loaded || (at != State::Resuming && caps.has(at)) {
                    devs.push(Dev { kind, caps, at });
                }
            }
        }
        let mut count = 0;
        mixes(&devs, 4, &mut |mix| {
            for rest in RESTS {
                check(mix, rest);
                count += 1;
            }
        });
        assert!(count > 100_000, "{count}");
    }

    fn check(mix: &[Dev], rest: Rest) {
        let mut now: Vec<State> = mix.iter().map(|dev| dev.at).collect();
        for step in 0..STEPS {
            let mut next = now.clone();
            for (i, dev) in mix.iter().enumerate() {
                let Some(to) = targets(dev.kind, dev.caps, dev.at, rest).unwrap()[step] else { continue };
                let from = now[i];
                assert!(
                    matches!(answer(dev.kind, dev.caps, from, to), Answer::Via(_)),
                    "{mix:?} {rest:?}: step {step} asks {from} -> {to}"
                );
                let path = path(dev.kind, dev.caps, from, to).unwrap();
                let stops = !stopped(from) && path.iter().any(|&s| stopped(s));
                let starts = !matches!(from, RU | PC) && path.contains(&RU);
                for (other, &state) in mix.iter().zip(&now).filter(|(other, _)| other.caps.p2p) {
                    assert!(!stops || quiet(state), "{mix:?} {rest:?}: {dev:?} stops while {other:?} is in {state}");
                    assert!(
                        !starts || !stopped(state),
                        "{mix:?} {rest:?}: {dev:?} starts while {other:?} is in {state}"
                    );
                }
                next[i] = to;
            }
            now = next;
        }
        for (dev, &state) in mix.iter().zip(&now) {
            let expected = match rest {
                Rest::Running => RU,
                _ if dev.at == State::Resuming => State::Resuming,
                Rest::Stop => ST,
                Rest::Hold if dev.at.session().is_some() => SC,
                Rest::Hold => ST,
            };
            assert_eq!(state, expected, "{mix:?} {rest:?}");
        }
    }

    #[test]
    fn where_only_a_reset_helps_there_is_no_way() {
        for (kind, caps) in DEVICES {
            for rest in RESTS {
                assert_eq!(targets(kind, caps, State::Error, rest), None);
                assert_eq!(targets(kind, caps, State::Resuming, rest).is_none(), kind == DialectKind::V2);
            }
        }
    }
}
