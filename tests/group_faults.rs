//! docs/faults.md, walked: a fault at the k-th access of device d, for every k and d, in save, load, pause and abort, in every
//! dialect, with 1 to 4 devices, one after another and side by side; all combinations of results of a phase; cancel, resets by
//! others and missing threads at every point. Each fault is shown to have been reached.
//!
//! What holds after each: the guest can run on the source unless the report names the device that cannot; the source is never
//! reset; nobody runs while another is loading; sessions are closed; what the handles know is true.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Hooked, Rig, Stream, caps, kind, kinds};
use simdev::{Access, Config, Effect, Fault, FaultId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use vfiomig::dialect::{DialectKind, State};
use vfiomig::error::{Action, DeviceResult, Error, ErrorKind};
use vfiomig::internals::refuse_threads_beyond;
use vfiomig::migration::{AbortTo, Migration, Phase};

/// Short streams, so that every access of a migration is soon walked.
fn small(config: Config) -> Config {
    config.state_size(450).segments(256)
}

/// Groups of 1 to 4: each kind alone and in pairs, and mixes of all dialects.
fn groups() -> Vec<Vec<Config>> {
    let kinds: Vec<Config> = kinds().into_iter().map(small).collect();
    let pick = |indexes: &[usize]| indexes.iter().map(|&i| kinds[i].clone()).collect::<Vec<_>>();
    let alone = (0..7).map(|i| pick(&[i]));
    let pairs = [[3, 3], [0, 3], [4, 6], [5, 3]].iter().map(|pair| pick(pair));
    alone.chain(pairs).chain([pick(&[3, 5, 6]), pick(&[1, 2, 4, 5])]).collect()
}

/// How a fault begins at the k-th access, or the k-th state write, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The access fails, once.
    Once,
    /// The device is in ERROR.
    ToError,
    /// Every access from here on fails: the fd is lost.
    Gone,
    /// The device moves, and the descriptor is lost (V2-5).
    Moved,
    /// The device moves and no descriptor comes.
    NoFd,
}

const TROUBLES: [Trouble; 5] = [Trouble::Once, Trouble::ToError, Trouble::Gone, Trouble::Moved, Trouble::NoFd];

impl Trouble {
    fn inject(self, fake: &simdev::Device, k: u64) -> FaultId {
        let (access, effect) = match self {
            Trouble::Once => (Access::Any, Effect::Errno(libc::EIO)),
            Trouble::ToError => (Access::Any, Effect::ToError(libc::EIO)),
            Trouble::Gone => (Access::Any, Effect::Errno(libc::ENODEV)),
            Trouble::Moved => (Access::StateWrite, Effect::ErrnoMoved(libc::EMFILE)),
            Trouble::NoFd => (Access::StateWrite, Effect::NoFd),
        };
        let nth = fake.count(access) + k;
        let times = if self == Trouble::Gone { u64::MAX } else { 1 };
        fake.inject(Fault { access, nth, times, effect })
    }
}

/// One run with a fault.
struct Case {
    rig: Rig,
    device: usize,
    trouble: Trouble,
    fault: FaultId,
    what: String,
}

impl Case {
    fn reached(&self) -> bool {
        self.rig.fakes[self.device].fault_reached(self.fault) > 0
    }
}

/// Runs `scenario` with every trouble at every access of every device, in both ways of working. `prepare` brings a group to
/// where the faults may begin.
fn walk(name: &str, least: u32, prepare: &dyn Fn(&[Config], usize) -> Rig, scenario: &dyn Fn(&Case)) {
    let mut reached = 0;
    for configs in groups() {
        for max_workers in [1, 0] {
            for device in 0..configs.len() {
                for trouble in TROUBLES {
                    for k in 0.. {
                        let rig = prepare(&configs, max_workers);
                        let fault = trouble.inject(&rig.fakes[device], k);
                        let dialects: Vec<_> = configs.iter().map(|config| config.dialect).collect();
                        let what = format!("{name} {dialects:?} workers={max_workers} d{device} {trouble:?} at {k}");
                        let case = Case { rig, device, trouble, fault, what };
                        scenario(&case);
                        if !case.reached() {
                            break;
                        }
                        reached += 1;
                    }
                }
            }
        }
    }
    assert!(reached >= least, "{name}: only {reached} faults were reached");
}

/// What an error of a group says is true.
fn check_error(case: &Case, error: &Error) {
    let Case { rig, what, .. } = case;
    assert_ne!(error.kind(), ErrorKind::Panic, "{what}");
    assert!(error.errno() > 0 && !error.to_string().is_empty(), "{what}");
    for (i, result) in error.results().iter().enumerate().filter(|_| error.results().len() == rig.devices.len()) {
        assert_eq!(result.device, rig.devices[i].name(), "{what}");
        let dead = result.action == Action::Dead || result.found == State::Error.number();
        assert!(dead || result.found == rig.fakes[i].state().number(), "{what}: {result:?} {:?}", rig.fakes[i].state());
        if i != case.device {
            assert_eq!(result.errno, 0, "{what}: {result:?}");
        }
    }
}

fn states_are_known(case: &Case) {
    for (i, device) in case.rig.devices.iter().enumerate() {
        // A device that cannot be reached is known as one in ERROR.
        let known = device.state();
        assert!(known == case.rig.fakes[i].state() || known == State::Error, "{}: d{i} {known}", case.what);
    }
}

fn sessions_are_closed(case: &Case) {
    for fake in &case.rig.fakes {
        // NoFd: the fake opened a session for which it handed nothing out, and Moved lost the number.
        let open = fake.sessions_opened().saturating_sub(fake.sessions_closed());
        let lost = u64::from(matches!(case.trouble, Trouble::Moved | Trouble::NoFd));
        assert!(open <= lost, "{}: {open} sessions are open", case.what);
        assert_eq!(fake.mappings(), 0, "{}", case.what);
    }
}

/// The guest goes on where it was: abort, and what the report asks for.
fn bring_back(case: &Case, save: &Migration, contents: &[u64]) {
    let Case { rig, what, device, .. } = case;
    let mut only_reset = false;
    if let Err(error) = save.abort_without_second_guest(AbortTo::Running) {
        check_error(case, &error);
        let results = error.results();
        for (i, result) in results.iter().enumerate() {
            let runs = rig.fakes[i].state() == State::Running;
            assert!(runs || (result.errno != 0 && i == *device), "{what}: d{i} does not run and is not named: {error}");
        }
        assert!(results[*device].errno != 0, "{what}: {error}");
        // The device that is named: the caller resets it, which loses its state, or gives it up.
        if case.trouble == Trouble::Gone {
            assert!(rig.devices[*device].reset().is_err());
            return;
        }
        assert_eq!(rig.fakes[*device].resets(), 0, "{what}: a source is never reset by the library");
        // One whose state could only not be read is tried again before that.
        let in_error = results[*device].action != Action::Dead && rig.fakes[*device].state() == State::Error;
        if in_error || save.abort_without_second_guest(AbortTo::Running).is_err() {
            // EIO from a step that ended a pre-copy: some drivers of v2 (mlx5) do not survive another request.
            let from = State::from_number(results[*device].from).unwrap();
            let ended_precopy = rig::kind(&rig.configs[*device]) == DialectKind::V2 && from.is_precopy();
            let said = results[*device].errno == libc::EIO && error.to_string().contains("nothing but a reset");
            assert!(ended_precopy || !said, "{what}: {error}");
            only_reset = said;
            assert!(rig.fakes[*device].state() == State::Error || only_reset, "{what}: {error}");
            rig.devices[*device].reset().unwrap();
            save.abort_without_second_guest(AbortTo::Running).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
    for (i, fake) in rig.fakes.iter().enumerate() {
        assert_eq!(fake.state(), State::Running, "{what}: d{i}");
        assert!(fake.resets() > 0 || fake.checksum() == contents[i], "{what}: the state of d{i} was lost");
        let may_be = i == *device && (case.trouble == Trouble::ToError || only_reset);
        assert!(fake.resets() == 0 || may_be, "{what}: d{i} was reset");
    }
    assert_eq!((save.phase(), *rig.log.started.lock()), (Phase::Idle, 0), "{what}");
    sessions_are_closed(case);
    states_are_known(case);
}

fn checksums(rig: &Rig) -> Vec<u64> {
    rig.fakes.iter().map(simdev::Device::checksum).collect()
}

fn save_rig(configs: &[Config], max_workers: usize) -> Rig {
    let rig = Rig::source(configs, max_workers);
    rig.allow_abort();
    rig
}

#[test]
fn saves() {
    let again = AtomicU64::new(0);
    walk("save", 4000, &save_rig, &|case| {
        let rig = &case.rig;
        let contents = checksums(rig);
        let save = rig.save();
        let saved = rig.save_all(&save);
        rig::assert_barriers(&rig.fakes);
        match &saved {
            Ok(_) if case.reached() => {
                // Where the protocol lets a client ignore it: sizes are estimates, opt-ins are optional.
                assert_eq!(save.phase(), Phase::SaveHalted, "{}", case.what);
            }
            Ok(_) => {}
            Err(error) => {
                assert!(case.reached(), "{}: {error}", case.what);
                check_error(case, error);
                states_are_known(case);
                // Whether a device failed in a phase or in a data call: nobody gets further.
                if save.phase() == Phase::Failed {
                    let kept = save.advance(Phase::SaveHalted).unwrap_err();
                    assert_eq!(kept.to_string(), save.error().unwrap().unwrap().to_string(), "{}", case.what);
                }
            }
        }
        bring_back(case, &save, &contents);
        // Sometimes, for it takes its time: the next migration of the same group is whole.
        let healthy = case.trouble != Trouble::Gone && rig.fakes.iter().all(|fake| fake.resets() == 0);
        if healthy && again.fetch_add(1, Ordering::Relaxed) % 5 == 0 {
            rig.fakes.iter().for_each(simdev::Device::clear_faults);
            rig.devices.iter().for_each(|device| device.restart_stream().unwrap());
            let streams = rig.save_all(&save).unwrap_or_else(|error| panic!("{}: {error}", case.what));
            let fresh: Vec<Config> = rig.configs.iter().map(|config| Config { seed: None, ..config.clone() }).collect();
            let target = Rig::target(&fresh, 1);
            target.load_all(&target.load(), &streams).unwrap();
            assert!(target.fakes.iter().zip(&rig.fakes).all(|(a, b)| a.same_content(b)), "{}", case.what);
        }
        assert_clean(case);
    });
}

/// A register may be read once more in ERROR: what fails while a segment is acknowledged shows at the next call.
fn assert_clean(case: &Case) {
    let in_error = |v: &simdev::Violation| v.rule == "N14" && case.trouble == Trouble::ToError;
    for fake in &case.rig.fakes {
        let wrong: Vec<_> = fake.violations().into_iter().filter(|v| !in_error(v)).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", case.what);
    }
}

/// The streams of a group, made once for each.
fn streams_of(configs: &[Config]) -> Vec<Stream> {
    let source = Rig::source(configs, 1);
    source.save_all(&source.save()).unwrap()
}

/// Nobody that was loaded runs while another is still loading, but devices whose only way out of RESUMING it is.
fn nobody_runs_beside_a_load(case: &Case) {
    let rig = &case.rig;
    let only_way = |config: &Config| kind(config) != DialectKind::V2 && !caps(config).p2p;
    let loading = rig.fakes.iter().any(|fake| fake.state() == State::Resuming);
    for (fake, config) in rig.fakes.iter().zip(&rig.configs) {
        let steps = fake.transitions();
        let loaded = steps.iter().rev().take_while(|t| t.request != 0).any(|t| t.from.resuming());
        let runs = loaded && fake.state() == State::Running;
        assert!(!loading || !runs || only_way(config), "{}: {:?}", case.what, rig.states());
    }
}

#[test]
fn loads() {
    let streams: Vec<(Vec<Config>, Vec<Stream>)> =
        groups().into_iter().map(|configs| (configs.clone(), streams_of(&configs))).collect();
    let of = |rig: &Rig| {
        let same = |configs: &[Config]| {
            configs.len() == rig.configs.len() && configs.iter().zip(&rig.configs).all(|(a, b)| a.dialect == b.dialect)
        };
        &streams.iter().find(|(configs, _)| same(configs)).unwrap().1
    };
    walk("load", 2000, &|configs, max_workers| Rig::target(configs, max_workers), &|case| {
        let Case { rig, what, device, .. } = case;
        let load = rig.load();
        let loaded = rig.load_all(&load, of(rig));
        nobody_runs_beside_a_load(case);
        states_are_known(case);
        let Err(error) = loaded else {
            assert!(!case.reached() || case.trouble != Trouble::Gone, "{what}");
            assert_eq!(load.abort(AbortTo::Running).unwrap_err().kind(), ErrorKind::Order, "{what}");
            return;
        };
        assert!(case.reached(), "{what}: {error}");
        check_error(case, &error);
        match load.abort(AbortTo::Running) {
            Ok(()) => {}
            Err(error) => {
                check_error(case, &error);
                assert!(error.results()[*device].errno != 0, "{what}: {error}");
                let others = rig.fakes.iter().enumerate().filter(|(i, _)| i != device);
                others.for_each(|(_, fake)| assert_eq!(fake.state(), State::Running, "{what}"));
                if case.trouble == Trouble::Gone {
                    return;
                }
                load.abort(AbortTo::Running).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
        assert!(rig.states().iter().all(|&s| s == State::Running), "{what}");
        assert_eq!(load.phase(), Phase::Idle, "{what}");
        sessions_are_closed(case);
        rig.load_all(&load, of(rig)).unwrap_or_else(|error| panic!("{what}: again: {error}"));
        // A stream that was refused in the middle is the fake's own judgement of the fault, not of the client.
        let wrong = |v: &simdev::Violation| v.rule != "N2";
        assert!(rig.fakes.iter().all(|fake| !fake.violations().iter().any(wrong)), "{what}");
    });
}

#[test]
fn pauses() {
    for migrating in [false, true] {
        walk("pause", 1000, &save_rig, &|case| {
            let Case { rig, what, device, .. } = case;
            let contents = checksums(rig);
            let save = rig.save();
            if migrating && save.advance(Phase::SavePreCopy).is_err() {
                return bring_back(case, &save, &contents);
            }
            let paused = rig.group.pause();
            rig::assert_barriers(&rig.fakes);
            states_are_known(case);
            match &paused {
                Ok(()) => assert!(rig.states().iter().all(|s| matches!(s, State::Stop | State::StopCopy)), "{what}"),
                Err(error) => {
                    check_error(case, error);
                    assert!(error.results()[*device].errno != 0 && case.reached(), "{what}: {error}");
                }
            }
            let mut resumed = rig.group.resume();
            for _ in 0..2 {
                let Err(error) = &resumed else { break };
                check_error(case, error);
                assert!(error.results()[*device].errno != 0 && case.reached(), "{what}: {error}");
                if rig.devices[*device].state() == State::Error && case.trouble != Trouble::Gone {
                    rig.devices[*device].reset().unwrap();
                }
                resumed = rig.group.resume();
            }
            assert_eq!(resumed.is_ok(), case.trouble != Trouble::Gone || !case.reached(), "{what}: {resumed:?}");
            for (i, fake) in rig.fakes.iter().enumerate() {
                let named = resumed.is_err() && i == *device;
                // A draft saves again, for its log.
                let saves = kind(&rig.configs[i]) == DialectKind::Draft && fake.state() == State::PreCopy;
                assert!(named || saves || fake.state() == State::Running, "{what}: d{i} in {}", fake.state());
                assert!(fake.resets() > 0 || fake.checksum() == contents[i], "{what}");
            }
            assert_clean(case);
        });
    }
}

#[test]
fn aborts() {
    for phase in [Phase::SavePreCopy, Phase::SaveP2pGrace, Phase::SaveStopCopy] {
        let saves: parking_lot::Mutex<Option<Migration>> = parking_lot::Mutex::new(None);
        let prepare = |configs: &[Config], max_workers: usize| {
            let rig = save_rig(configs, max_workers);
            let save = rig.save();
            save.advance(Phase::SavePreCopy).unwrap();
            save.advance(phase).unwrap();
            *saves.lock() = Some(save);
            rig
        };
        walk(phase.name(), 250, &prepare, &|case| {
            let save = saves.lock().take().unwrap();
            bring_back(case, &save, &checksums(&case.rig));
            assert_clean(case);
        });
    }
}

#[test]
fn aborts_of_loads() {
    for phase in [Phase::LoadResuming, Phase::LoadP2pGrace] {
        let loads: parking_lot::Mutex<Option<Migration>> = parking_lot::Mutex::new(None);
        let prepare = |configs: &[Config], max_workers: usize| {
            let rig = Rig::target(configs, max_workers);
            let load = rig.load();
            load.advance(Phase::LoadResuming).unwrap();
            if phase > Phase::LoadResuming {
                rig.write_all(&streams_of(configs)).unwrap();
                load.advance(phase).unwrap();
            }
            *loads.lock() = Some(load);
            rig
        };
        walk(phase.name(), 250, &prepare, &|case| {
            let Case { rig, what, device, .. } = case;
            let load = loads.lock().take().unwrap();
            if let Err(error) = load.abort(AbortTo::Running) {
                check_error(case, &error);
                assert!(error.results()[*device].errno != 0, "{what}: {error}");
                let again = load.abort(AbortTo::Running);
                assert_eq!(again.is_ok(), case.trouble != Trouble::Gone, "{what}: {again:?}");
            }
            for (i, fake) in rig.fakes.iter().enumerate() {
                let gone = i == *device && case.trouble == Trouble::Gone;
                assert!(gone || (fake.state() == State::Running && fake.resets() > 0), "{what}: d{i}");
            }
        });
    }
}

/// What becomes of one device's part in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Result1 {
    Success,
    Refused,
    Error,
    Gone,
}

const RESULTS: [Result1; 4] = [Result1::Success, Result1::Refused, Result1::Error, Result1::Gone];

impl Result1 {
    fn inject(self, fake: &simdev::Device) {
        let nth = fake.count(Access::StateWrite);
        match self {
            Result1::Success => return,
            Result1::Refused => fake.inject(Fault::at(Access::StateWrite, nth, Effect::Errno(libc::EBUSY))),
            Result1::Error => fake.inject(Fault::at(Access::StateWrite, nth, Effect::ToError(libc::EIO))),
            Result1::Gone => fake.inject(Fault::from(Access::StateWrite, nth, Effect::Errno(libc::ENODEV))),
        };
        if self == Result1::Gone {
            // The first request that finds it gone is the one of the phase; so is what comes after.
            let reads = fake.count(Access::StateRead) + 1;
            fake.inject(Fault::from(Access::StateRead, reads, Effect::Errno(libc::ENODEV)));
            fake.inject(Fault::from(Access::Reset, 0, Effect::Errno(libc::ENODEV)));
        }
    }
}

/// Every assignment of results to `count` devices.
fn assignments(count: usize) -> Vec<Vec<Result1>> {
    (0..4usize.pow(count as u32)).map(|n| (0..count).map(|i| RESULTS[n / 4usize.pow(i as u32) % 4]).collect()).collect()
}

fn trios() -> Vec<Vec<Config>> {
    let kinds: Vec<Config> = kinds().into_iter().map(small).collect();
    let pick = |indexes: &[usize]| indexes.iter().map(|&i| kinds[i].clone()).collect::<Vec<_>>();
    vec![pick(&[3]), pick(&[3, 3]), pick(&[3, 3, 3]), pick(&[3, 5, 6]), pick(&[0, 2, 5]), pick(&[1, 4, 5])]
}

#[test]
fn all_results_of_a_save_phase() {
    let phases =
        [Phase::SavePreCopy, Phase::SaveViommuGrace, Phase::SaveP2pGrace, Phase::SaveStopCopy, Phase::SaveHalted];
    let mut failed = 0;
    for configs in trios() {
        for max_workers in [1, 0] {
            for results in assignments(configs.len()) {
                for phase in phases {
                    failed += usize::from(save_phase_with(&configs, max_workers, phase, &results));
                }
            }
        }
    }
    assert!(failed > 1000, "{failed}");
}

/// Whether the phase failed.
fn save_phase_with(configs: &[Config], max_workers: usize, phase: Phase, results: &[Result1]) -> bool {
    let rig = save_rig(configs, max_workers);
    let what = format!("{phase} {results:?} {:?}", configs.iter().map(|c| c.dialect).collect::<Vec<_>>());
    let save = rig.save();
    save.advance(Phase::SaveTracking).unwrap();
    for before in [Phase::SavePreCopy, Phase::SaveP2pGrace, Phase::SaveStopCopy] {
        let skip = phase == Phase::SaveViommuGrace && before > Phase::SavePreCopy;
        if before < phase && !skip {
            save.advance(before).unwrap();
        }
    }
    if phase == Phase::SaveHalted {
        let mut streams = vec![Stream::default(); configs.len()];
        rig.drain_all(&mut streams).unwrap();
        rig.harvest();
    }
    let from = rig.states();
    results.iter().zip(&rig.fakes).for_each(|(result, fake)| result.inject(fake));
    let outcome = save.advance(phase);
    let told: Vec<DeviceResult> = rig.group.results().unwrap();
    let moved: Vec<bool> = told.iter().map(|result| result.from != result.to).collect();
    let bad = |i: usize| moved[i] && results[i] != Result1::Success;
    let any_bad = (0..configs.len()).any(bad);
    rig::assert_barriers(&rig.fakes);
    match &outcome {
        // The barrier: entered only if all are there.
        Ok(()) => assert!(!any_bad && save.phase() == phase, "{what}"),
        Err(_) => assert!(any_bad && save.phase() == Phase::Failed, "{what}: {outcome:?}"),
    }
    for i in 0..configs.len() {
        let at = rig.fakes[i].state();
        match (bad(i), results[i]) {
            // The others end their step, whatever becomes of one.
            (false, _) if moved[i] => assert!(told[i].errno == 0 && at.number() == told[i].to, "{what}: {:?}", told[i]),
            (false, _) => assert!(told[i].errno == 0 && at == from[i], "{what}: {:?}", told[i]),
            (true, Result1::Refused) => assert!(told[i].errno == libc::EBUSY && at == from[i], "{what}: {:?}", told[i]),
            (true, Result1::Error) => {
                assert!(told[i].errno == libc::EIO && at == State::Error, "{what}: {:?}", told[i])
            }
            (true, _) => {
                assert!(told[i].errno == libc::ENODEV && told[i].action == Action::Dead, "{what}: {:?}", told[i])
            }
        }
    }
    if !any_bad {
        return false;
    }
    for next in [Phase::SaveStopCopy, Phase::SaveHalted] {
        assert_eq!(save.advance(next).unwrap_err().to_string(), outcome.as_ref().unwrap_err().to_string(), "{what}");
    }
    // Everything comes back but what is in ERROR or gone, and that is named. What was to befall a device that was not asked
    // for anything does not befall it now.
    (0..configs.len()).filter(|&i| !bad(i)).for_each(|i| rig.fakes[i].clear_faults());
    let back = save.abort_without_second_guest(AbortTo::Running);
    let told = rig.group.results().unwrap();
    for i in 0..configs.len() {
        let lost = bad(i) && results[i] != Result1::Refused;
        if !lost {
            assert_eq!(rig.fakes[i].state(), State::Running, "{what}: {:?}", told[i]);
        }
        assert!(!lost || told[i].errno != 0, "{what}: {:?}", told[i]);
        assert_eq!(rig.fakes[i].resets(), 0, "{what}");
    }
    assert_eq!(*rig.log.started.lock(), 0, "{what}");
    assert!(back.is_ok() || told.iter().any(|result| result.errno != 0), "{what}");
    true
}

#[test]
fn all_results_of_a_load_phase() {
    let phases = [Phase::LoadResuming, Phase::LoadLoaded, Phase::LoadP2pGrace, Phase::LoadRunning];
    let mut failed = 0;
    for configs in trios() {
        let streams = streams_of(&configs);
        for max_workers in [1, 0] {
            for results in assignments(configs.len()) {
                for phase in phases {
                    failed += usize::from(load_phase_with(&configs, &streams, max_workers, phase, &results));
                }
            }
        }
    }
    assert!(failed > 1000, "{failed}");
}

fn load_phase_with(
    configs: &[Config],
    streams: &[Stream],
    max_workers: usize,
    phase: Phase,
    results: &[Result1],
) -> bool {
    let rig = Rig::target(configs, max_workers);
    let what = format!("{phase} {results:?} {:?}", configs.iter().map(|c| c.dialect).collect::<Vec<_>>());
    let load = rig.load();
    for before in [Phase::LoadResuming, Phase::LoadLoaded, Phase::LoadP2pGrace] {
        if before < phase {
            load.advance(before).unwrap();
            if before == Phase::LoadResuming {
                rig.write_all(streams).unwrap();
            }
        }
    }
    results.iter().zip(&rig.fakes).for_each(|(result, fake)| result.inject(fake));
    let outcome = load.advance(phase);
    let told: Vec<DeviceResult> = rig.group.results().unwrap();
    let moved: Vec<bool> = told.iter().map(|result| result.from != result.to).collect();
    let bad = |i: usize| moved[i] && results[i] != Result1::Success;
    let any_bad = (0..configs.len()).any(bad);
    assert_eq!(outcome.is_err(), any_bad, "{what}: {outcome:?}");
    for i in 0..configs.len() {
        let at = rig.fakes[i].state();
        // A destination's device that fails is reset at once: the source has its state.
        match (bad(i), results[i]) {
            (false, _) => assert_eq!(told[i].errno, 0, "{what}: {:?}", told[i]),
            (true, Result1::Gone) => assert_eq!(told[i].action, Action::Dead, "{what}: {:?}", told[i]),
            (true, _) => {
                assert!(told[i].action == Action::Reset && at == State::Running, "{what}: {:?}", told[i]);
            }
        }
    }
    // Those that only run to leave RESUMING go first; if one of them fails, nobody else begins to run.
    let only_way = |i: usize| kind(&configs[i]) != DialectKind::V2 && !caps(&configs[i]).p2p;
    if phase == Phase::LoadRunning && (0..configs.len()).any(|i| bad(i) && only_way(i)) {
        for i in (0..configs.len()).filter(|&i| !only_way(i)) {
            assert_ne!(rig.fakes[i].state(), State::Running, "{what}");
        }
    }
    if !any_bad {
        return false;
    }
    assert_eq!(load.phase(), Phase::Failed, "{what}");
    let back = load.abort(AbortTo::Running);
    let any_gone = results.contains(&Result1::Gone);
    assert!(back.is_ok() || any_gone, "{what}: {back:?}");
    for i in (0..configs.len()).filter(|&i| results[i] != Result1::Gone) {
        assert_eq!(rig.fakes[i].state(), State::Running, "{what}");
    }
    true
}

/// A group whose k-th request of device d does something first.
fn hooked(
    configs: &[Config],
    max_workers: usize,
    device: usize,
    k: u64,
    act: Arc<dyn Fn(&simdev::Device) + Send + Sync>,
) -> (Rig, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    // Requests of the probe are not counted.
    let armed = Arc::new(OnceLock::new());
    let rig = Rig::new(configs, max_workers, &|fake, i| {
        let inner = fake.transport();
        if i != device {
            return inner;
        }
        let (calls, armed, fake, act) = (Arc::clone(&calls), Arc::clone(&armed), fake.clone(), Arc::clone(&act));
        let before = Arc::new(move || {
            if armed.get().is_some() && calls.fetch_add(1, Ordering::Relaxed) == k {
                act(&fake);
            }
        });
        Box::new(Hooked { inner, before })
    });
    rig.allow_abort();
    armed.set(()).unwrap();
    (rig, calls)
}

#[test]
fn cancel_at_every_request() {
    let mut reached = 0;
    for configs in groups() {
        let seeded: Vec<Config> = configs.iter().map(|config| config.clone().seeded(1)).collect();
        let streams = streams_of(&seeded);
        for max_workers in [1, 0] {
            for load in [false, true] {
                for k in 0.. {
                    let slot: Arc<OnceLock<Weak<Migration>>> = Arc::default();
                    let in_hook = Arc::clone(&slot);
                    let act = Arc::new(move |_: &simdev::Device| {
                        if let Some(migration) = in_hook.get().and_then(Weak::upgrade) {
                            migration.cancel();
                        }
                    });
                    let configs = if load { &configs } else { &seeded };
                    let (rig, calls) = hooked(configs, max_workers, 0, k, act);
                    let what = format!("{:?} load={load} workers={max_workers} cancel at {k}", configs[0].dialect);
                    let migration = Arc::new(if load { rig.load() } else { rig.save() });
                    slot.set(Arc::downgrade(&migration)).unwrap();
                    let done =
                        if load { rig.load_all(&migration, &streams) } else { rig.save_all(&migration).map(|_| ()) };
                    if let Err(error) = &done {
                        assert_eq!(error.kind(), ErrorKind::Canceled, "{what}: {error}");
                        assert_ne!(migration.phase(), Phase::Failed, "{what}");
                        let last = if load { Phase::LoadRunning } else { Phase::SaveHalted };
                        assert_eq!(migration.advance(last).unwrap_err().kind(), ErrorKind::Canceled, "{what}");
                    }
                    if !load || done.is_err() {
                        migration
                            .abort_without_second_guest(AbortTo::RunState)
                            .unwrap_or_else(|error| panic!("{what}: {error}"));
                    }
                    assert!(rig.states().iter().all(|&s| s == State::Running), "{what}: {:?}", rig.states());
                    rig.assert_clean(&what);
                    if calls.load(Ordering::Relaxed) <= k {
                        break;
                    }
                    reached += u64::from(done.is_err());
                }
            }
        }
    }
    assert!(reached > 300, "{reached}");
}

#[test]
fn resets_by_others_at_every_request() {
    let mut reached = 0;
    for configs in groups() {
        let seeded: Vec<Config> = configs.iter().map(|config| config.clone().seeded(1)).collect();
        for max_workers in [1, 0] {
            for k in 0.. {
                let act = Arc::new(|fake: &simdev::Device| fake.reset().unwrap());
                let (rig, calls) = hooked(&seeded, max_workers, 0, k, act);
                let what = format!("{:?} workers={max_workers} reset at {k}", seeded[0].dialect);
                let original = rig.fakes[0].content();
                let save = rig.save();
                let saved = rig.save_all(&save);
                // Two sessions are never taken for one whole stream: either the reset is noticed here, or it came before the
                // first byte or after the last, or (between a look at a v1 register and the write) the destination refuses.
                if let Ok(streams) = &saved {
                    let target = Rig::target(&configs, 1);
                    let loaded = target.load_all(&target.load(), streams);
                    let content = target.fakes[0].content();
                    let whole = content == original || content.iter().all(|&byte| byte == 0);
                    assert!(whole || loaded.is_err(), "{what}");
                }
                save.abort_without_second_guest(AbortTo::Running)
                    .or_else(|_| save.abort_without_second_guest(AbortTo::Running))
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(rig.states().iter().all(|&s| s == State::Running), "{what}");
                if calls.load(Ordering::Relaxed) <= k {
                    break;
                }
                reached += u64::from(saved.is_err());
            }
        }
    }
    assert!(reached > 100, "{reached}");
}

#[test]
fn missing_threads_cost_time_and_nothing_else() {
    for configs in groups().into_iter().filter(|configs| configs.len() > 1) {
        for threads in 0..configs.len() {
            refuse_threads_beyond(threads);
            let rig = save_rig(&configs, 0);
            let streams = rig.save_all(&rig.save()).unwrap();
            let target = Rig::target(&configs, 0);
            target.load_all(&target.load(), &streams).unwrap();
            refuse_threads_beyond(usize::MAX);
            assert!(target.fakes.iter().zip(&rig.fakes).all(|(a, b)| a.same_content(b)));
            rig.assert_clean("threads");
        }
    }
}

#[test]
fn a_dirty_log_that_fails_at_any_call_costs_pages_and_not_the_migration() {
    let configs = &groups()[11];
    for fails_at in 0.. {
        let rig = save_rig(configs, 0);
        *rig.log.fails_at.lock() = Some(fails_at);
        let save = rig.save();
        save.advance(Phase::SavePreCopy).unwrap();
        let mut streams = vec![Stream::default(); configs.len()];
        rig.drain_all(&mut streams).unwrap();
        save.advance(Phase::SaveStopCopy).unwrap();
        rig.drain_all(&mut streams).unwrap();
        let dirty = rig.harvest();
        save.advance(Phase::SaveHalted).unwrap();
        let calls = rig.log.calls.lock().clone();
        match calls.get(fails_at) {
            // P13: no error is ever "no dirt".
            Some(&"stop") => assert!(dirty.is_empty()),
            Some(_) => assert_eq!(dirty.len(), 64, "{calls:?}"),
            None => {
                assert!(dirty.is_empty() && fails_at >= 4);
                break;
            }
        }
    }
}
