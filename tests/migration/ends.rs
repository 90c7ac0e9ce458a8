//! Aborts, cancels and failures of a migration.

use super::*;

#[test]
fn aborts_lead_back_from_every_phase() {
    let phases =
        [Phase::SaveTracking, Phase::SavePreCopy, Phase::SaveViommuGrace, Phase::SaveP2pGrace, Phase::SaveStopCopy];
    for max_workers in [1, 0] {
        for (to, expected) in
            [(AbortTo::Running, State::Running), (AbortTo::Stop, State::Stop), (AbortTo::RunState, State::Running)]
        {
            let source = Rig::source(&kinds(), max_workers);
            source.allow_abort();
            let save = source.save();
            for phase in phases {
                if expected == State::Stop {
                    source.group.resume().unwrap();
                }
                save.advance(phase).unwrap();
                save.abort(to).unwrap();
                assert_eq!((save.phase(), *source.log.started.lock()), (Phase::Idle, 0), "{phase} {to:?}");
                assert!(source.states().iter().all(|&s| s == expected), "{phase} {to:?}: {:?}", source.states());
            }
            if expected == State::Running {
                // From HALTED too: only the caller knows that no second guest runs.
                source.save_all(&save).unwrap();
                save.abort_without_second_guest(to).unwrap();
                assert!(source.states().iter().all(|&s| s == expected));
                let streams = source.save_all(&save).unwrap();
                let target = Rig::target(&kinds(), max_workers);
                target.load_all(&target.load(), &streams).unwrap();
                assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
            }
            assert!(source.fakes.iter().all(|fake| fake.resets() == 0), "a source is never reset");
            rig::assert_barriers(&source.fakes);
            source.assert_clean("abort");
        }
    }
}

#[test]
fn an_abort_asks_once_more_before_it_goes_on_without_a_device() {
    for max_workers in [1, 0] {
        let source = Rig::source(&[both(), both(), Config::v1(Window::Trapped)], max_workers);
        source.allow_abort();
        let save = source.save();
        for times in [1, 2] {
            for device in [0, 2] {
                save.advance(Phase::SaveStopCopy).unwrap();
                let nth = source.fakes[device].count(Access::StateWrite);
                let refusal = Fault { access: Access::StateWrite, nth, times, effect: Effect::Errno(libc::EBUSY) };
                let fault = source.fakes[device].inject(refusal);
                let aborted = save.abort(AbortTo::Running);
                assert_eq!((source.fakes[device].fault_reached(fault), aborted.is_ok()), (times, times == 1));
                for (i, state) in source.states().into_iter().enumerate() {
                    let stuck = times == 2 && i == device;
                    assert_eq!(state, if stuck { State::StopCopy } else { State::Running });
                }
                if let Err(failure) = aborted {
                    assert_eq!(failure.results()[device].errno, libc::EBUSY, "{failure}");
                    save.abort(AbortTo::Running).unwrap();
                    assert_eq!(source.states(), [State::Running; 3]);
                }
            }
        }
    }
}

#[test]
fn a_load_is_aborted_by_resets_of_what_was_touched() {
    let source = Rig::source(&kinds(), 0);
    let streams = source.save_all(&source.save()).unwrap();
    for last in [Phase::Idle, Phase::LoadResuming, Phase::LoadLoaded, Phase::LoadP2pGrace] {
        let target = Rig::target(&kinds(), 0);
        let load = target.load();
        if last >= Phase::LoadResuming {
            load.advance(Phase::LoadResuming).unwrap();
            target.write_all(&streams).unwrap();
            load.advance(last).unwrap();
        }
        load.abort(AbortTo::Stop).unwrap();
        let resets = u64::from(last != Phase::Idle);
        assert!(target.fakes.iter().all(|fake| fake.resets() == resets), "{last}");
        assert!(target.states().iter().all(|&s| s == State::Stop), "{last}");
    }
}

#[test]
fn cancel_lasts_until_abort_and_comes_too_late_in_the_end() {
    let source = Rig::source(&[both(), both()], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    save.cancel();
    let before = source.fakes[0].calls().len();
    for _ in 0..2 {
        let failure = save.advance(Phase::SaveStopCopy).unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Canceled, libc::ECANCELED));
    }
    assert_eq!((source.fakes[0].calls().len(), save.phase()), (before, Phase::SavePreCopy));
    save.advance(Phase::SavePreCopy).unwrap();
    save.abort(AbortTo::Running).unwrap();
    source.save_all(&save).unwrap();
    save.cancel();
    save.advance(Phase::SaveHalted).unwrap();
    save.abort_without_second_guest(AbortTo::Running).unwrap();
    // Before HALTED is begun it holds that up too.
    let mut streams = vec![Stream::default(); 2];
    save.advance(Phase::SaveStopCopy).unwrap();
    source.drain_all(&mut streams).unwrap();
    source.harvest();
    save.cancel();
    assert_eq!(save.advance(Phase::SaveHalted).unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(source.states(), [State::StopCopy; 2]);
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(source.states(), [State::Running; 2]);
}

#[test]
fn cancel_from_another_thread_begins_nothing_new() {
    // One after another: the first device is in the kernel when the cancel comes, the second was not begun.
    let source = Rig::source(&[both(), both()], 1);
    source.allow_abort();
    source.fakes[0].inject(Fault::at(Access::StateWrite, 0, Effect::Delay(Duration::from_millis(100))));
    let save = source.save();
    let failure = std::thread::scope(|scope| {
        let call = scope.spawn(|| save.advance(Phase::SavePreCopy));
        while source.fakes[0].count(Access::StateWrite) == 0 {
            std::thread::yield_now();
        }
        save.cancel();
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(failure.kind(), ErrorKind::Canceled);
    assert_eq!(source.states(), [State::PreCopy, State::Running]);
    assert_ne!(save.phase(), Phase::Failed);
    save.abort(AbortTo::RunState).unwrap();
    assert_eq!(source.states(), [State::Running; 2]);
}

#[test]
fn a_failed_migration_keeps_its_first_error() {
    for max_workers in [1, 0] {
        let source = Rig::source(&[both(), both(), both()], max_workers);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        let nth = source.fakes[1].count(Access::StateWrite);
        let fault = source.fakes[1].inject(Fault::at(Access::StateWrite, nth, Effect::Errno(libc::ETIMEDOUT)));
        let failure = save.advance(Phase::SaveStopCopy).unwrap_err();
        assert_eq!(source.fakes[1].fault_reached(fault), 1);
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::ETIMEDOUT));
        assert_eq!(save.phase(), Phase::Failed);
        // The others ended their step, and none passed the barrier.
        assert_eq!(source.states(), [State::PreCopyP2p, State::PreCopy, State::PreCopyP2p]);
        let results: Vec<_> = failure.results().iter().map(|r| (r.errno, r.found)).collect();
        let (pp, pc) = (State::PreCopyP2p.number(), State::PreCopy.number());
        assert_eq!(results, [(0, pp), (libc::ETIMEDOUT, pc), (0, pp)]);
        for again in [save.advance(Phase::SaveStopCopy), save.advance(Phase::SavePreCopy)] {
            assert_eq!(again.unwrap_err().to_string(), failure.to_string());
        }
        assert_eq!(save.error().unwrap().unwrap().errno(), libc::ETIMEDOUT);
        save.abort(AbortTo::Running).unwrap();
        assert_eq!((save.phase(), source.states()), (Phase::Idle, vec![State::Running; 3]));
        assert!(save.error().unwrap().is_none());
        source.save_all(&save).unwrap();
    }
}

#[test]
fn what_others_do_to_a_device_ends_the_migration() {
    let source = Rig::source(&[both(), both()], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    source.fakes[1].reset().unwrap();
    // A data call notices.
    assert!(source.devices[1].read(&mut [0; 100]).is_err());
    let failure = save.advance(Phase::SaveP2pGrace).unwrap_err();
    assert_eq!((failure.kind(), save.phase()), (ErrorKind::Stale, Phase::Failed));
    assert!(failure.to_string().contains("d1"), "{failure}");
    save.abort(AbortTo::Running).unwrap();
    // Nothing has noticed: the state is read before it is changed.
    save.advance(Phase::SavePreCopy).unwrap();
    source.fakes[0].reset().unwrap();
    let failure = save.advance(Phase::SaveP2pGrace).unwrap_err();
    assert_eq!((failure.kind(), save.phase()), (ErrorKind::Stale, Phase::Failed));
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(source.states(), [State::Running; 2]);
    // A handle that was freed.
    save.advance(Phase::SavePreCopy).unwrap();
    source.devices[0].close().unwrap();
    let failure = save.advance(Phase::SaveP2pGrace).unwrap_err();
    assert_eq!((failure.errno(), failure.results()[0].action), (libc::ENODEV, Action::Dead));
    let failure = save.abort(AbortTo::Running).unwrap_err();
    assert_eq!((failure.errno(), source.states()[1]), (libc::ENODEV, State::Running), "the other one is back");
    // What cannot be read is in ERROR, whatever it was seen in last.
    let result = &failure.results()[0];
    assert_eq!((result.action, result.found), (Action::Dead, State::Error.number()), "{result:?}");
}

/// That the reset went well hides nothing of what came after it.
#[test]
fn an_abort_of_a_load_names_a_device_that_did_not_come_to_rest() {
    for config in kinds() {
        for effect in [Effect::Errno(libc::EIO), Effect::ToError(libc::EIO)] {
            for to in [AbortTo::Stop, AbortTo::RunState] {
                let target = Rig::target(&[config.clone(), both()], 0);
                target.group.pause().unwrap();
                let load = target.load();
                load.advance(Phase::LoadResuming).unwrap();
                let writes = target.fakes[0].count(Access::StateWrite);
                target.fakes[0].inject(Fault::from(Access::StateWrite, writes, effect));
                let failure = load.abort(to).unwrap_err();
                assert_eq!((failure.errno(), load.phase()), (libc::EIO, Phase::Failed), "{failure}");
                let result = &failure.results()[0];
                assert_eq!((result.errno, result.found), (libc::EIO, target.states()[0].number()), "{result:?}");
                assert_eq!(target.states()[1], State::Stop, "{failure}");
                target.fakes[0].clear_faults();
                if target.states()[0] == State::Error {
                    target.devices[0].reset().unwrap();
                }
                load.abort(to).unwrap();
                assert_eq!(target.states(), [State::Stop; 2]);
            }
        }
    }
}
