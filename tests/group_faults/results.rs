//! All results that the devices of a group can have in one phase, at once.

use super::*;

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
    let reported: Vec<DeviceResult> = rig.group.results().unwrap();
    let moved: Vec<bool> = reported.iter().map(|result| result.from != result.to).collect();
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
            (false, _) if moved[i] => {
                assert!(reported[i].errno == 0 && at.number() == reported[i].to, "{what}: {:?}", reported[i])
            }
            (false, _) => assert!(reported[i].errno == 0 && at == from[i], "{what}: {:?}", reported[i]),
            (true, Result1::Refused) => {
                assert!(reported[i].errno == libc::EBUSY && at == from[i], "{what}: {:?}", reported[i])
            }
            (true, Result1::Error) => {
                assert!(reported[i].errno == libc::EIO && at == State::Error, "{what}: {:?}", reported[i])
            }
            (true, _) => {
                assert!(
                    reported[i].errno == libc::ENODEV && reported[i].action == Action::Dead,
                    "{what}: {:?}",
                    reported[i]
                )
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
    let reported = rig.group.results().unwrap();
    for i in 0..configs.len() {
        let lost = bad(i) && results[i] != Result1::Refused;
        if !lost {
            assert_eq!(rig.fakes[i].state(), State::Running, "{what}: {:?}", reported[i]);
        }
        assert!(!lost || reported[i].errno != 0, "{what}: {:?}", reported[i]);
        assert_eq!(rig.fakes[i].resets(), 0, "{what}");
    }
    assert_eq!(*rig.log.started.lock(), 0, "{what}");
    assert!(back.is_ok() || reported.iter().any(|result| result.errno != 0), "{what}");
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
    let reported: Vec<DeviceResult> = rig.group.results().unwrap();
    let moved: Vec<bool> = reported.iter().map(|result| result.from != result.to).collect();
    let bad = |i: usize| moved[i] && results[i] != Result1::Success;
    let any_bad = (0..configs.len()).any(bad);
    assert_eq!(outcome.is_err(), any_bad, "{what}: {outcome:?}");
    for i in 0..configs.len() {
        let at = rig.fakes[i].state();
        // A destination's device that fails is reset at once: the source has its state.
        match (bad(i), results[i]) {
            (false, _) => assert_eq!(reported[i].errno, 0, "{what}: {:?}", reported[i]),
            (true, Result1::Gone) => assert_eq!(reported[i].action, Action::Dead, "{what}: {:?}", reported[i]),
            (true, _) => {
                assert!(reported[i].action == Action::Reset && at == State::Running, "{what}: {:?}", reported[i]);
            }
        }
    }
    // Those that only run to leave RESUMING go first; if one of them fails, no other begins to run.
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
