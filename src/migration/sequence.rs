//! The order of a migration as data: which phase follows which, and where each device stands in it (docs/design.md,
//! "Phases of a migration").
//!
//! Rules: N3 and N4 (the flows), N5 (grace states are barriers), N20 (page requests are drained under NDMA before vCPUs stop),
//! N22 (without NDMA the grace work is done at the next step), N28.

use crate::dialect::{Caps, DialectKind, Direction, State};
use std::fmt;

/// Where a migration stands. The numbers are `VFIOMIG_PHASE_*`.
///
/// ```
/// use vfiomig::migration::Phase;
///
/// assert_eq!(Phase::from_number(5), Some(Phase::SaveStopCopy));
/// assert_eq!(Phase::SaveStopCopy.to_string(), "SAVE_STOP_COPY");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Phase {
    /// Nothing was begun.
    Idle = 0,
    /// Every tracker is started; draft devices are in PRE_COPY.
    SaveTracking = 1,
    /// Devices that can are in PRE_COPY.
    SavePreCopy = 2,
    /// v1 NDMA devices start no DMA while vCPUs run on to answer page requests.
    SaveViommuGrace = 3,
    /// vCPUs are stopped; devices that can are in their P2P state.
    SaveP2pGrace = 4,
    /// All devices are stopped; the rest of the streams can be read.
    SaveStopCopy = 5,
    /// Everything was read; trackers are stopped, devices in STOP.
    SaveHalted = 6,
    /// Devices take their streams.
    LoadResuming = 17,
    /// The streams are whole; v2 devices have validated them.
    LoadLoaded = 18,
    /// Devices that can are in RUNNING_P2P.
    LoadP2pGrace = 19,
    /// All devices run.
    LoadRunning = 20,
    /// A device failed: abort is left.
    Failed = 32,
}

use Phase::{
    Failed, Idle, LoadLoaded, LoadP2pGrace, LoadResuming, LoadRunning, SaveHalted, SaveP2pGrace, SavePreCopy,
    SaveStopCopy, SaveTracking, SaveViommuGrace,
};

/// The phase in which streams may be read ahead of their caller, each from the moment in which its device has arrived.
pub(crate) const READS_AHEAD: Phase = SaveStopCopy;

/// Names of all phases.
const NAMES: [(Phase, &str); 12] = [
    (Idle, "IDLE"),
    (SaveTracking, "SAVE_TRACKING"),
    (SavePreCopy, "SAVE_PRE_COPY"),
    (SaveViommuGrace, "SAVE_VIOMMU_GRACE"),
    (SaveP2pGrace, "SAVE_P2P_GRACE"),
    (SaveStopCopy, "SAVE_STOP_COPY"),
    (SaveHalted, "SAVE_HALTED"),
    (LoadResuming, "LOAD_RESUMING"),
    (LoadLoaded, "LOAD_LOADED"),
    (LoadP2pGrace, "LOAD_P2P_GRACE"),
    (LoadRunning, "LOAD_RUNNING"),
    (Failed, "FAILED"),
];

impl Phase {
    /// The number in the C API.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// From the number in the C API.
    pub fn from_number(number: u32) -> Option<Phase> {
        NAMES.iter().map(|(phase, _)| *phase).find(|phase| *phase as u32 == number)
    }

    /// The name in the C API, without its prefix.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(phase, _)| *phase == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where one call of advance may lead from each phase, and what it enters in between, the last one included. SAVE_PRE_COPY and
/// VIOMMU_GRACE are entered only where they are asked for: in between there would be nothing to do in them. STOP_COPY and
/// RESUMING are never passed through: in them the VMM moves data.
const SAVE: [(Phase, Phase, &[Phase]); 15] = [
    (Idle, SaveTracking, &[SaveTracking]),
    (Idle, SavePreCopy, &[SaveTracking, SavePreCopy]),
    (Idle, SaveViommuGrace, &[SaveTracking, SaveViommuGrace]),
    (Idle, SaveP2pGrace, &[SaveTracking, SaveP2pGrace]),
    (Idle, SaveStopCopy, &[SaveTracking, SaveP2pGrace, SaveStopCopy]),
    (SaveTracking, SavePreCopy, &[SavePreCopy]),
    (SaveTracking, SaveViommuGrace, &[SaveViommuGrace]),
    (SaveTracking, SaveP2pGrace, &[SaveP2pGrace]),
    (SaveTracking, SaveStopCopy, &[SaveP2pGrace, SaveStopCopy]),
    (SavePreCopy, SaveViommuGrace, &[SaveViommuGrace]),
    (SavePreCopy, SaveP2pGrace, &[SaveP2pGrace]),
    (SavePreCopy, SaveStopCopy, &[SaveP2pGrace, SaveStopCopy]),
    (SaveViommuGrace, SaveP2pGrace, &[SaveP2pGrace]),
    (SaveViommuGrace, SaveStopCopy, &[SaveP2pGrace, SaveStopCopy]),
    (SaveP2pGrace, SaveStopCopy, &[SaveStopCopy]),
];
const SAVE_END: [(Phase, Phase, &[Phase]); 1] = [(SaveStopCopy, SaveHalted, &[SaveHalted])];
const LOAD: [(Phase, Phase, &[Phase]); 7] = [
    (Idle, LoadResuming, &[LoadResuming]),
    (LoadResuming, LoadLoaded, &[LoadLoaded]),
    (LoadResuming, LoadP2pGrace, &[LoadLoaded, LoadP2pGrace]),
    (LoadResuming, LoadRunning, &[LoadLoaded, LoadP2pGrace, LoadRunning]),
    (LoadLoaded, LoadP2pGrace, &[LoadP2pGrace]),
    (LoadLoaded, LoadRunning, &[LoadP2pGrace, LoadRunning]),
    (LoadP2pGrace, LoadRunning, &[LoadRunning]),
];

type Arcs = [(Phase, Phase, &'static [Phase])];

fn arcs(direction: Direction) -> [&'static Arcs; 2] {
    match direction {
        Direction::Save => [&SAVE, &SAVE_END],
        Direction::Load => [&LOAD, &[]],
    }
}

/// The phases that are entered in between, `to` last; `None`: not from here.
pub(crate) fn phases_to(direction: Direction, from: Phase, to: Phase) -> Option<&'static [Phase]> {
    arcs(direction).into_iter().flatten().find(|(a, b, _)| (*a, *b) == (from, to)).map(|(_, _, phases)| *phases)
}

/// The phases that one call may lead to.
pub(crate) fn allowed(direction: Direction, from: Phase) -> Vec<Phase> {
    arcs(direction).into_iter().flatten().filter(|(a, _, _)| *a == from).map(|(_, to, _)| *to).collect()
}

/// What of a device decides where it stands in a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeviceTraits {
    pub kind: DialectKind,
    pub caps: Caps,
    /// Where it is before the phase. A paused VM's devices are in STOP, or in STOP_COPY if they were paused in pre-copy.
    pub at: State,
}

/// The P2P state that belongs to where a device runs; stopped devices are quiet already.
pub(super) fn grace(at: State) -> State {
    match at {
        State::Running => State::RunningP2p,
        State::PreCopy => State::PreCopyP2p,
        other => other,
    }
}

/// Where a device stands when the phase is entered.
pub(crate) fn target(phase: Phase, part: DeviceTraits) -> State {
    let DeviceTraits { kind, caps, at } = part;
    let running = at == State::Running;
    match phase {
        // The draft's log of written pages answers only in SAVING.
        SaveTracking if kind == DialectKind::Draft && running => State::PreCopy,
        SavePreCopy if caps.pre_copy && running => State::PreCopy,
        // v2's P2P does not stop page requests, and its devices must not be touched there: vCPUs still run.
        SaveViommuGrace if kind == DialectKind::V1 && caps.p2p => grace(at),
        SaveP2pGrace if caps.p2p => grace(at),
        SaveStopCopy => State::StopCopy,
        SaveHalted => State::Stop,
        LoadResuming => State::Resuming,
        // V1-3: v1 and the draft leave RESUMING only to run.
        LoadLoaded if kind == DialectKind::V2 => State::Stop,
        LoadP2pGrace if caps.p2p => State::RunningP2p,
        LoadRunning => State::Running,
        _ => at,
    }
}

/// The steps of a phase, a barrier after each: targets by device.
///
/// Only RUNNING on the destination has two: devices that can leave RESUMING only by running go first, so that none of the
/// others runs beside one whose stream turns out to be bad.
pub(crate) fn steps(phase: Phase, parts: &[DeviceTraits]) -> Vec<Vec<State>> {
    let all: Vec<State> = parts.iter().map(|&part| target(phase, part)).collect();
    let resuming = |part: &DeviceTraits| part.at == State::Resuming;
    if phase != LoadRunning || parts.iter().all(resuming) || !parts.iter().any(resuming) {
        return vec![all];
    }
    let first = parts.iter().map(|part| if resuming(part) { State::Running } else { part.at }).collect();
    vec![first, all]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Answer, answer, path};
    use crate::group::plan::tests::{DEVICES, mixes, quiet, stopped};
    use crate::group::plan::{self, Rest};

    const ALL_SAVE: [Phase; 7] =
        [Idle, SaveTracking, SavePreCopy, SaveViommuGrace, SaveP2pGrace, SaveStopCopy, SaveHalted];
    const ALL_LOAD: [Phase; 5] = [Idle, LoadResuming, LoadLoaded, LoadP2pGrace, LoadRunning];

    /// Every sequence of calls that leads from IDLE to the end.
    fn chains(direction: Direction, from: Phase) -> Vec<Vec<Phase>> {
        let nexts = allowed(direction, from);
        if nexts.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for next in nexts {
            let entered = phases_to(direction, from, next).unwrap();
            for rest in chains(direction, next) {
                all.push(entered.iter().copied().chain(rest).collect());
            }
        }
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn phases_never_lead_back_and_every_way_ends() {
        for (direction, phases) in [(Direction::Save, &ALL_SAVE[..]), (Direction::Load, &ALL_LOAD[..])] {
            for &from in phases {
                for to in allowed(direction, from) {
                    let entered = phases_to(direction, from, to).unwrap();
                    assert!(from < entered[0] && entered.is_sorted() && entered.last() == Some(&to));
                }
                for &to in phases.iter().filter(|&&to| to <= from) {
                    assert_eq!(phases_to(direction, from, to), None, "{from} -> {to}");
                }
            }
            assert!(chains(direction, Idle).iter().all(|chain| chain.last() == phases.last()));
            assert!(allowed(direction, Failed).is_empty());
        }
        // Barriers of N5 are never left out, and data phases are not passed through.
        for chain in chains(Direction::Save, Idle) {
            for phase in [SaveTracking, SaveP2pGrace, SaveStopCopy, SaveHalted] {
                assert!(chain.contains(&phase), "{chain:?}");
            }
        }
        for chain in chains(Direction::Load, Idle) {
            assert_eq!(chain, [LoadResuming, LoadLoaded, LoadP2pGrace, LoadRunning]);
        }
        assert!(phases_to(Direction::Save, SavePreCopy, SaveHalted).is_none());
        assert!(phases_to(Direction::Load, Idle, LoadLoaded).is_none());
    }

    #[test]
    fn names_and_numbers_are_one_to_one() {
        for (phase, name) in NAMES {
            assert_eq!((Phase::from_number(phase.number()), phase.name()), (Some(phase), name));
        }
        assert_eq!(Phase::from_number(7), None);
    }

    /// Walks one step with all the rules; returns where the devices are.
    fn walk(what: &str, parts: &mut [DeviceTraits], targets: &[State], load: bool) {
        let now: Vec<DeviceTraits> = parts.to_vec();
        for (part, &to) in parts.iter_mut().zip(targets) {
            let DeviceTraits { kind, caps, at } = *part;
            if at == to {
                continue;
            }
            let said = answer(kind, caps, at, to);
            assert!(matches!(said, Answer::Via(_)), "{what}: {kind:?} {caps:?} {at} -> {to}: {said:?}; {now:?}");
            let path = path(kind, caps, at, to).unwrap();
            for other in now.iter().filter(|other| other.caps.p2p) {
                let stops = !load && !stopped(at) && path.iter().any(|&s| stopped(s));
                assert!(!stops || quiet(other.at), "{what}: {at} -> {to} beside {other:?}; {now:?}");
                let starts = path.contains(&State::Running) && !matches!(at, State::Running | State::PreCopy);
                let only_way = at == State::Resuming;
                assert!(!starts || only_way || !stopped(other.at), "{what}: {at} -> {to} beside {other:?}; {now:?}");
            }
            // No device runs while another is loading, except those that leave RESUMING only by running.
            if path.contains(&State::Running) && load && at != State::Resuming && to != State::Resuming {
                assert!(now.iter().all(|other| other.at != State::Resuming), "{what}: {now:?}");
            }
            part.at = to;
        }
    }

    fn enter(parts: &mut [DeviceTraits], phase: Phase, load: bool) {
        for targets in steps(phase, parts) {
            walk(phase.name(), parts, &targets, load);
        }
    }

    fn rest(parts: &mut [DeviceTraits], to: Rest) {
        let targets: Vec<_> =
            parts.iter().map(|part| plan::targets(part.kind, part.caps, part.at, to).unwrap()).collect();
        for step in 0..plan::STEPS {
            let targets: Vec<_> =
                parts.iter().zip(&targets).map(|(part, targets)| targets[step].unwrap_or(part.at)).collect();
            walk("rest", parts, &targets, false);
        }
    }

    fn kinds(starts: &[State]) -> Vec<DeviceTraits> {
        DEVICES.iter().flat_map(|&(kind, caps)| starts.iter().map(move |&at| DeviceTraits { kind, caps, at })).collect()
    }

    #[test]
    fn a_save_of_every_mix_obeys_every_rule_on_every_way() {
        let chains = chains(Direction::Save, Idle);
        mixes(&kinds(&[State::Running, State::Stop]), 4, &mut |mix| {
            for chain in &chains {
                let mut parts = mix.to_vec();
                for &phase in chain {
                    enter(&mut parts, phase, false);
                    check_save(phase, mix, &parts, chain);
                }
            }
        });
    }

    /// The flows of N28, in the other direction: by phase, what each device may be in.
    fn check_save(phase: Phase, mix: &[DeviceTraits], parts: &[DeviceTraits], chain: &[Phase]) {
        let with_precopy = chain.contains(&SavePreCopy);
        for (start, part) in mix.iter().zip(parts) {
            let DeviceTraits { kind, caps, at } = *part;
            let saving = with_precopy && caps.pre_copy && phase >= SavePreCopy || kind == DialectKind::Draft;
            let running = if saving { State::PreCopy } else { State::Running };
            let with_grace = if saving { State::PreCopyP2p } else { State::RunningP2p };
            let expected = match phase {
                SaveStopCopy => State::StopCopy,
                SaveHalted => State::Stop,
                _ if start.at == State::Stop => State::Stop,
                SaveViommuGrace if kind == DialectKind::V1 && caps.p2p => with_grace,
                SaveP2pGrace if caps.p2p => with_grace,
                _ => running,
            };
            assert_eq!(at, expected, "{phase} {start:?} {chain:?}");
        }
    }

    /// Streams are read ahead from the moment in which their device has arrived in STOP_COPY, and others may arrive in any
    /// order, or never: of every mix, every subset has arrived, and is read.
    #[test]
    fn a_stream_is_read_beside_the_state_changes_of_others_and_no_rule_is_broken() {
        let chains = chains(Direction::Save, Idle);
        let mut count = 0;
        mixes(&kinds(&[State::Running, State::Stop]), 4, &mut |mix| {
            for chain in &chains {
                let mut before = mix.to_vec();
                for &phase in chain.iter().take_while(|&&phase| phase != READS_AHEAD) {
                    enter(&mut before, phase, false);
                }
                for arrived in 0..1_u32 << mix.len() {
                    check_reading(&before, &|i| arrived >> i & 1 == 1);
                    count += 1;
                }
            }
        });
        assert!(count > 100_000, "{count}");
        // It is no barrier that is passed early: the phase has one step, and who leaves it has read every END.
        for parts in [kinds(&[State::Running]), kinds(&[State::Stop])] {
            assert_eq!(steps(READS_AHEAD, &parts).len(), 1);
        }
        assert_eq!(allowed(Direction::Save, READS_AHEAD), [SaveHalted]);
    }

    fn check_reading(before: &[DeviceTraits], has_arrived: &dyn Fn(usize) -> bool) {
        let targets = steps(READS_AHEAD, before).remove(0);
        // N5, V2-6: the barrier is behind them. Who has grace is in it, or at rest. V2-7: who has none runs on, as it does today.
        for part in before.iter().filter(|part| part.caps.p2p) {
            assert!(quiet(part.at), "{before:?}");
        }
        let mut now = before.to_vec();
        for (i, part) in now.iter_mut().enumerate().filter(|(i, _)| has_arrived(*i)) {
            part.at = targets[i];
            // W1, V2-8: it stands still, so that nothing changes inside; W6, W7: it saves, and nothing of the step ends that.
            assert!(part.at == State::StopCopy && part.at.session() == Some(Direction::Save), "{before:?}");
        }
        for (i, (part, &to)) in before.iter().zip(&targets).enumerate().filter(|(i, _)| !has_arrived(*i)) {
            let DeviceTraits { kind, caps, at } = *part;
            let path = if at == to { Vec::new() } else { path(kind, caps, at, to).unwrap() };
            // Whatever step it is in the middle of: nothing starts beside who is read, and who has grace starts no DMA to it
            // (W2, W3).
            for &state in &path {
                let starts = stopped(at) && !stopped(state);
                assert!(!starts && (quiet(state) || !caps.p2p), "{i}: {at} -> {to} by {state}; {before:?}");
            }
        }
        // N4, V2-9: it never arrives, or the migration is canceled. Both ways back keep the barriers, from what each is in.
        for to in [Rest::Running, Rest::Stop] {
            rest(&mut now.clone(), to);
        }
    }

    #[test]
    fn a_save_may_be_paused_resumed_and_aborted_in_every_phase() {
        let chains = chains(Direction::Save, Idle);
        mixes(&kinds(&[State::Running, State::Stop]), 3, &mut |mix| {
            for chain in &chains {
                let mut parts = mix.to_vec();
                for &phase in chain {
                    enter(&mut parts, phase, false);
                    for to in [Rest::Running, Rest::Stop] {
                        rest(&mut parts.clone(), to);
                    }
                    if phase <= SavePreCopy {
                        // Paused here, the rest of the migration continues from the hold, or after a resume.
                        let mut held = parts.clone();
                        rest(&mut held, Rest::Hold);
                        assert!(held.iter().all(|part| stopped(part.at)));
                        let mut resumed = held.clone();
                        rest(&mut resumed, Rest::Running);
                        for mut parts in [held, resumed] {
                            let left = chain.iter().skip_while(|&&p| p != phase).skip(1);
                            left.for_each(|&phase| enter(&mut parts, phase, false));
                            assert!(parts.iter().all(|part| part.at == State::Stop));
                        }
                    }
                }
            }
        });
    }

    /// Each by itself as soon as its own stream is whole, in every order: some are still loading, others have been validated.
    #[test]
    fn members_of_a_load_go_to_loaded_in_any_order() {
        let mut count = 0;
        mixes(&kinds(&[State::Running]), 4, &mut |mix| {
            let mut all = mix.to_vec();
            enter(&mut all, LoadResuming, true);
            for done in 0..1u32 << mix.len() {
                let came = |i: usize| done >> i & 1 == 1;
                let mut parts = all.clone();
                let there = |part: &DeviceTraits| target(LoadLoaded, *part);
                parts.iter_mut().enumerate().filter(|(i, _)| came(*i)).for_each(|(_, part)| part.at = there(part));
                for next in (0..mix.len()).filter(|i| !came(*i)) {
                    let targets = |parts: &[DeviceTraits]| -> Vec<State> {
                        let to = |(i, part): (usize, &DeviceTraits)| if i == next { there(part) } else { part.at };
                        parts.iter().enumerate().map(to).collect()
                    };
                    let (targets, mut after) = (targets(&parts), parts.clone());
                    walk("LOAD_LOADED", &mut after, &targets, true);
                    // Nothing starts or runs, and no other device is asked for anything (N4, V2-9); V1-3: the others stay where
                    // they are.
                    assert!(after.iter().all(|part| matches!(part.at, State::Stop | State::Resuming)));
                    let v2 = after[next].kind == DialectKind::V2;
                    assert_eq!(after[next].at, if v2 { State::Stop } else { State::Resuming });
                    let others = |parts: &[DeviceTraits]| [&parts[..next], &parts[next + 1..]].concat();
                    assert_eq!(others(&after), others(&parts));
                    count += 1;
                }
                // One that went by itself is where the phase would have brought it, which finds nothing to do.
                for (i, targets) in steps(LoadLoaded, &parts).concat().into_iter().enumerate() {
                    assert!(!came(i) || targets == parts[i].at);
                }
            }
        });
        assert!(count > 1000, "{count}");
    }

    #[test]
    fn a_load_of_every_mix_obeys_every_rule_on_every_way() {
        mixes(&kinds(&[State::Running, State::Stop]), 4, &mut |mix| {
            let mut parts = mix.to_vec();
            for phase in [LoadResuming, LoadLoaded, LoadP2pGrace, LoadRunning] {
                enter(&mut parts, phase, true);
                for DeviceTraits { kind, caps, at } in &parts {
                    let loaded = if *kind == DialectKind::V2 { State::Stop } else { State::Resuming };
                    let expected = match phase {
                        LoadResuming => State::Resuming,
                        LoadLoaded => loaded,
                        LoadP2pGrace => {
                            if caps.p2p {
                                State::RunningP2p
                            } else {
                                loaded
                            }
                        }
                        _ => State::Running,
                    };
                    assert_eq!(*at, expected, "{phase} {kind:?} {caps:?}");
                }
            }
        });
    }
}
