//! Whose guest runs: loaded guests, second guests, aborts.

use super::*;

/// A guest that waits in LOADED is continued as any other, in every dialect, with its migration or without.
#[test]
fn a_loaded_guest_is_resumed_in_every_dialect() {
    let mixes = kinds().into_iter().map(|config| vec![config]).chain([kinds()]);
    for mix in mixes {
        for (halves, freed) in [(false, false), (true, false), (false, true), (true, true)] {
            let what = format!("{:?} {halves} {freed}", mix.iter().map(|config| config.dialect).collect::<Vec<_>>());
            let (target, load, source) = loaded(&mix);
            let mut load = Some(load);
            if freed {
                load = None;
            }
            // A stop of what stands still is one.
            target.group.pause().unwrap();
            if halves {
                target.group.resume_begin().unwrap();
                for (config, state) in mix.iter().zip(target.states()) {
                    let still = if kind(config) == DialectKind::V2 { State::Stop } else { State::Resuming };
                    assert_eq!(state, if caps(config).p2p { State::RunningP2p } else { still }, "{what}");
                }
                if let Some(load) = &load {
                    assert_eq!(load.phase(), Phase::LoadP2pGrace);
                }
                // And back, for the other half never came.
                target.group.pause_begin().unwrap();
                target.group.pause().unwrap();
                assert!(target.states().iter().all(|s| matches!(s, State::Stop | State::Resuming)), "{what}");
                if let Some(load) = &load {
                    assert_eq!(load.phase(), Phase::LoadLoaded);
                }
                target.group.resume_begin().unwrap();
            }
            target.group.resume().unwrap();
            runs(&target, &source, &what);
            if let Some(load) = load {
                assert_eq!(load.phase(), Phase::LoadRunning);
                assert_eq!(load.abort(AbortTo::Running).unwrap_err().kind(), ErrorKind::Order);
                load.advance(Phase::LoadRunning).unwrap();
                let text = load.report().unwrap().to_string();
                assert!(text.contains("LOAD_P2P_GRACE") && text.contains("LOAD_RUNNING"), "{text}");
            }
            target.group.pause().unwrap();
            target.group.resume().unwrap();
        }
    }
}

/// What is not loaded yet runs by no resume; what turns out to be bad fails the migration, and no other runs.
#[test]
fn a_resume_runs_nothing_that_was_not_loaded() {
    for config in kinds() {
        let target = Rig::target(&[config.clone(), both()], 0);
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        for _ in 0..2 {
            assert_eq!(target.group.resume().unwrap_err().kind(), ErrorKind::Order, "{config:?}");
            assert_eq!(target.group.pause().unwrap_err().kind(), ErrorKind::Order, "{config:?}");
        }
        drop(load);
        assert_eq!(target.group.resume().unwrap_err().kind(), ErrorKind::Order, "{config:?}");
        assert_eq!(target.states(), [State::Resuming; 2]);

        for freed in [false, true] {
            let (target, load, _source) = loaded(&[both(), config.clone(), both()]);
            let mut load = Some(load);
            if freed {
                load = None;
            }
            let writes = target.fakes[1].count(Access::StateWrite);
            target.fakes[1].inject(Fault::from(Access::StateWrite, writes, Effect::Errno(libc::EINVAL)));
            let failure = target.group.resume().unwrap_err();
            assert_eq!(failure.errno(), libc::EINVAL, "{config:?}: {failure}");
            let states = target.states();
            assert!(
                kind(&config) == DialectKind::V2 && !caps(&config).p2p
                    || (states[0], states[2]) != (State::Running, State::Running)
            );
            target.fakes[1].clear_faults();
            if let Some(load) = load {
                assert_eq!(load.phase(), Phase::Failed);
                load.abort(AbortTo::Running).unwrap();
                assert!(target.fakes.iter().all(|fake| fake.resets() > 0 && fake.state() == State::Running));
            }
        }
    }
}

/// A guest that was handed over is not started here by chance.
#[test]
fn a_second_guest_runs_only_if_somebody_says_that_none_does() {
    let source = Rig::source(&kinds(), 0);
    source.allow_abort();
    let save = source.save();
    source.save_all(&save).unwrap();
    let halted = |result: vfiomig::Result<()>| {
        let failure = result.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Order, "{failure}");
        assert!(failure.to_string().contains("NO_SECOND_GUEST"), "{failure}");
        assert!(source.states().iter().all(|&s| s == State::Stop));
    };
    for to in [AbortTo::Running, AbortTo::Stop, AbortTo::RunState] {
        halted(save.abort(to));
        assert_eq!(save.phase(), Phase::SaveHalted);
    }
    assert_eq!(source.group.resume().unwrap_err().kind(), ErrorKind::Order);
    source.group.pause().unwrap_err();
    // Freed, it is the caller's decision, and as dangerous: it is a warning, once for each device.
    drop(save);
    let warned = || {
        let reported = source.group.results().unwrap();
        assert!(reported.iter().all(|result| result.errno == 0), "{reported:?}");
        reported.iter().filter(|result| result.message.contains("two run now")).count()
    };
    source.group.pause().unwrap();
    assert_eq!(warned(), 0);
    source.group.resume_begin().unwrap();
    let graced = source.configs.iter().filter(|config| caps(config).p2p).count();
    assert_eq!(warned(), graced);
    source.group.resume().unwrap();
    assert_eq!(warned(), source.configs.len() - graced);
    assert!(source.states().iter().all(|&s| s == State::Running));
    source.group.pause().unwrap();
    source.group.resume().unwrap();
    assert_eq!(warned(), 0, "that guest is here again");
    // By way of another migration too.
    let save = source.save();
    source.save_all(&save).unwrap();
    drop(save);
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    save.abort(AbortTo::RunState).unwrap();
    assert_eq!(warned(), 0, "it stands still");
    save.advance(Phase::SaveStopCopy).unwrap();
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(warned(), source.configs.len());
    // Said before the migration is freed.
    source.save_all(&save).unwrap();
    save.abort_without_second_guest(AbortTo::Stop).unwrap();
    drop(save);
    source.group.resume().unwrap();
    assert_eq!(warned(), 0, "nobody has to be warned who knows it");
    assert!(source.states().iter().all(|&s| s == State::Running));
    // A device that fails on the way to HALTED: it was begun, so the other side may run.
    let save = source.save();
    let mut streams = vec![Stream::default(); source.devices.len()];
    save.advance(Phase::SaveStopCopy).unwrap();
    source.drain_all(&mut streams).unwrap();
    source.harvest();
    let writes = source.fakes[3].count(Access::StateWrite);
    source.fakes[3].inject(Fault::at(Access::StateWrite, writes, Effect::Errno(libc::EIO)));
    save.advance(Phase::SaveHalted).unwrap_err();
    assert_eq!(save.abort(AbortTo::Running).unwrap_err().kind(), ErrorKind::Order);
    save.abort_without_second_guest(AbortTo::Running).unwrap();
    // Devices that take another guest in have forgotten the one that left.
    let streams = source.save_all(&save).unwrap();
    drop(save);
    let load = source.load();
    source.load_all(&load, &streams).unwrap();
    drop(load);
    source.group.pause().unwrap();
    source.group.resume().unwrap();
    assert_eq!(warned(), 0);
}

/// A data call that waits for its device ends by a cancel, or by an abort alone, also where the abort follows at once.
#[test]
fn an_abort_ends_what_waits_for_a_device() {
    for config in kinds().into_iter().filter(|config| kind(config) == DialectKind::V2) {
        for canceled in [true, false] {
            let source = Rig::source(std::slice::from_ref(&config), 1);
            source.allow_abort();
            let save = source.save();
            save.advance(Phase::SaveStopCopy).unwrap();
            let (fake, device) = (&source.fakes[0], Arc::clone(&source.devices[0]));
            let reads = fake.count(Access::DataRead);
            fake.inject(Fault::from(Access::DataRead, reads, Effect::Errno(libc::EAGAIN)));
            std::thread::scope(|scope| {
                let read = scope.spawn(move || device.read(&mut [0; 100]).unwrap_err());
                while fake.count(Access::DataRead) < reads + 2 {
                    std::thread::yield_now();
                }
                if canceled {
                    save.cancel();
                }
                let aborted = save.abort(AbortTo::Running);
                assert_eq!(read.join().unwrap().kind(), ErrorKind::Canceled);
                if caps(&config).p2p && !caps(&config).pre_copy {
                    // It may be one that cannot leave STOP_COPY before the end of its stream (K6), so it is not asked to.
                    assert_eq!(aborted.unwrap_err().errno(), libc::ETIMEDOUT);
                    assert_eq!(source.states(), [State::StopCopy]);
                    fake.clear_faults();
                    save.abort(AbortTo::Running).unwrap();
                } else {
                    aborted.unwrap();
                }
            });
            assert_eq!(source.states(), [State::Running]);
            // And nothing of it is left.
            fake.clear_faults();
            source.save_all(&save).unwrap();
        }
    }
}

/// What is canceled while an abort is in progress is what the abort ends.
#[test]
fn a_cancel_during_an_abort_does_not_outlive_it() {
    let source = Rig::source(&[both()], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let writes = source.fakes[0].count(Access::StateWrite);
    source.fakes[0].inject(Fault::at(Access::StateWrite, writes, Effect::Delay(Duration::from_millis(100))));
    std::thread::scope(|scope| {
        let abort = scope.spawn(|| save.abort(AbortTo::Running));
        while source.fakes[0].count(Access::StateWrite) == writes {
            std::thread::yield_now();
        }
        save.cancel();
        abort.join().unwrap().unwrap();
    });
    source.save_all(&save).unwrap();
}

/// No device is moved under a call that counts on where it is.
#[test]
fn no_device_is_moved_from_a_callback_of_its_migration() {
    for max_workers in [1, 0] {
        let source = Rig::source(&kinds(), max_workers);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        let mut reported = Vec::new();
        save.save_iterate(PLENTY, &[], &mut |_| {
            for device in &source.devices {
                let calls =
                    [device.set_state(State::Running, OnFailure::Keep, false), device.reset(), device.reprobe()];
                reported.extend(calls.map(|call| call.unwrap_err().errno()));
            }
            Ok(())
        })
        .unwrap();
        assert!(!reported.is_empty() && reported.iter().all(|&errno| errno == libc::EDEADLK), "{reported:?}");
        assert!(source.fakes.iter().all(|fake| fake.resets() == 0));
        // A harvest in a moment without DMA counts on it too.
        save.abort(AbortTo::Running).unwrap();
        source.group.pause().unwrap();
        let device = &source.devices[0];
        let refused =
            source.group.without_dma(|| device.set_state(State::Running, OnFailure::Keep, false).unwrap_err());
        assert_eq!(refused.unwrap().errno(), libc::EDEADLK);
        // Outside of calls it is the caller's.
        device.set_state(State::Running, OnFailure::Keep, false).unwrap();
        drop(save);
        source.group.resume().unwrap();
        drop(source.group);
        device.set_state(State::Stop, OnFailure::Keep, false).unwrap();
    }
}

/// A device that was removed from a group is moved beside its calls.
#[test]
fn a_device_that_has_left_its_group_is_not_driven_by_it() {
    let source = Rig::source(&[both(), both()], 1);
    source.allow_abort();
    let other = Arc::clone(&source.devices[1]);
    source.group.remove_device(&other).unwrap();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let mut answers = Vec::new();
    save.save_iterate(PLENTY, &[], &mut |_| {
        answers.push(other.set_state(State::Stop, OnFailure::Keep, false).map_err(|failure| failure.to_string()));
        Ok(())
    })
    .unwrap();
    assert!(answers.iter().all(Result::is_ok) && !answers.is_empty(), "{answers:?}");
}
