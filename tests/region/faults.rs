//! A fault at every access, and single failures of the region.

use super::*;

/// One failure anywhere between two segments, and the same call again: nothing is lost, whatever is asked in between.
#[test]
fn no_segment_is_lost_by_one_failure() {
    let config = Config { abort_allowed: true, ..Config::v1(Window::Trapped) }.state_size(3000).segments(512);
    let stream_of = |fault: Option<Fault>, ask: bool| {
        let sim = simdev::Device::new(config.clone().seeded(5));
        let device = open(&sim, "vf0");
        let fault = fault.map(|fault| sim.inject(fault));
        set(&device, State::StopCopy).unwrap();
        let (mut stream, mut errors) = (Vec::new(), 0);
        let mut buf = vec![0; 1000];
        loop {
            match device.read(&mut buf) {
                Ok((0, flags)) => break assert_eq!(flags, END),
                Ok((n, _)) => stream.extend_from_slice(&buf[..n]),
                Err(error) => {
                    errors += 1;
                    assert!(errors < 10, "{error}");
                    if ask {
                        let _ = device.pending_exact();
                    }
                }
            }
        }
        assert_eq!(errors, u32::from(fault.is_some_and(|fault| sim.fault_reached(fault) > 0)));
        stream
    };
    let whole = stream_of(None, false);
    for access in [Access::PendingRead, Access::DataOffsetRead, Access::DataSizeRead, Access::DataRead] {
        for effect in [Effect::Errno(libc::EIO), Effect::Errno(libc::EINTR), Effect::Short(0)] {
            for nth in 0..7 {
                // A failed acknowledgement is tried again without a word.
                if access == Access::PendingRead && nth > 0 {
                    continue;
                }
                for ask in [false, true] {
                    let stream = stream_of(Some(Fault::at(access, nth, effect)), ask);
                    assert_eq!(stream.len(), whole.len(), "{access:?} {nth} {effect:?} ask={ask}");
                    assert_eq!(stream, whole);
                }
            }
        }
    }
}

/// A random course: the draft stages the next data with each read of data_offset (D3), so after a data_size that failed only that
/// is asked again. Asked for data_offset too, a driver would present what comes next, and a segment would be lost.
#[test]
fn data_offset_that_is_known_is_not_asked_again() {
    for form in [DraftForm::Sticky, DraftForm::Rewrite] {
        for nth in 0..3 {
            let config = Config { abort_allowed: true, ..Config::draft(form) }.state_size(3000).segments(512);
            let pair = Pair::new(&config, Quirks::default());
            let fault = pair.source.inject(Fault::at(Access::DataSizeRead, nth, Effect::Errno(libc::EIO)));
            set(&pair.from, State::StopCopy).unwrap();
            let (mut errors, mut buf) = (0, [0; 1000]);
            loop {
                match pair.from.read(&mut buf) {
                    Ok((0, flags)) => break assert_eq!(flags, END),
                    Ok(_) => {}
                    Err(error) => {
                        errors += 1;
                        assert!(errors == 1, "{error}");
                    }
                }
            }
            assert_eq!((errors, pair.source.fault_reached(fault)), (1, 1));
            assert!(pair.source.violations().is_empty(), "{form:?} {nth}: {:?}", pair.source.violations());
        }
    }
}

/// V1-6, V1-11: behind a failed access and a state change the registers are asked in their order again. Where data_offset was
/// refused that begins with pending_bytes, for a server that begins its iteration anew refuses data_offset until then. Where its
/// place is known, the segment is still there (N8), and pending_bytes would acknowledge it unread.
#[test]
fn a_state_change_behind_a_failed_access_begins_anew() {
    for config in kinds(Window::Trapped).into_iter().chain(kinds(Window::Area)) {
        for access in [Access::PendingRead, Access::DataOffsetRead, Access::DataSizeRead] {
            for nth in 0..3 {
                let config = Config { precopy: Precopy::Everything, ..config.clone() }.state_size(5000).segments(512);
                let pair = Pair::new(&config, Quirks::default());
                let fault = pair.source.inject(Fault::at(access, nth, Effect::Errno(libc::EIO)));
                set(&pair.from, State::PreCopy).unwrap();
                set(&pair.to, State::Resuming).unwrap();
                let mut buf = [0; 4096];
                let mut load = |stop: bool| -> bool {
                    loop {
                        match pair.from.read(&mut buf) {
                            Ok((0, _)) => break true,
                            Ok((len, flags)) => pair.to.write(&buf[..len], flags.contains(SEGMENT_END)).unwrap(),
                            Err(error) if stop => panic!("{config:?} {access:?} {nth}: {error}"),
                            Err(_) => break false,
                        }
                    }
                };
                // A failed acknowledgement is tried again without a word.
                assert_eq!(load(false), access == Access::PendingRead && nth > 0, "{config:?} {access:?} {nth}");
                assert_eq!(pair.source.fault_reached(fault), 1);
                set(&pair.from, State::StopCopy).unwrap();
                load(true);
                set(&pair.from, State::Stop).unwrap();
                pair.to.finish(Some(pair.from.info().saved_bytes)).unwrap();
                set(&pair.to, State::Running).unwrap();
                assert_eq!(pair.source.violations(), [], "{config:?} {access:?} {nth}");
                assert!(pair.source.same_content(&pair.target), "{config:?} {access:?} {nth}");
                pair.finish();
            }
        }
    }
}

/// A device that has failed since it was looked at is asked for nothing.
#[test]
fn a_device_that_just_failed_is_asked_for_nothing() {
    for config in kinds(Window::Trapped) {
        let pair = Pair::new(&config, Quirks::default());
        let (reads, writes) = (pair.source.count(Access::StateRead), pair.source.count(Access::StateWrite));
        // Read before the request (compared with the last state), then in the read-modify-write.
        pair.source.inject(Fault::at(Access::StateRead, reads + 1, Effect::Lie(0b110)));
        let error = set(&pair.from, State::StopCopy).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("nothing was asked for"), "{error}");
        assert_eq!(pair.source.count(Access::StateWrite), writes);
    }
}

#[test]
fn a_place_that_is_none_is_never_written() {
    for value in [0, 0x1f, 1 << 40, u64::MAX] {
        let pair = Pair::new(&Config::v1(Window::Trapped), Quirks::default());
        set(&pair.to, State::Resuming).unwrap();
        pair.target.inject(Fault::from(Access::DataOffsetRead, 0, Effect::Lie(value)));
        let (state_writes, all) = (pair.target.count(Access::StateWrite), pair.target.count(Access::Any));
        for outcome in [pair.to.write(&[7; 100], true), pair.to.reserve(Some(100)).map(|_| ())] {
            let error = outcome.unwrap_err();
            assert!(error.kind() == ErrorKind::Protocol, "V1-13: {error}");
        }
        assert_eq!(pair.target.count(Access::StateWrite), state_writes);
        assert_eq!(pair.target.count(Access::Any), all + 2, "data_offset is read, nothing else is touched");
    }
}

#[test]
fn a_change_that_did_not_happen_is_no_success() {
    // N6: the write succeeds, but device_state reads otherwise.
    let pair = Pair::new(&Config::v1(Window::Trapped), Quirks::default());
    let reads = pair.source.count(Access::StateRead);
    // Read before the request (compared with the last state), in the read-modify-write, and after it.
    pair.source.inject(Fault::at(Access::StateRead, reads + 2, Effect::Lie(1)));
    let error = set(&pair.from, State::PreCopy).unwrap_err();
    assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains("RUNNING"), "{error}");
    assert_eq!(error.results()[0].found, State::PreCopy.number(), "it was read once more");
}

#[test]
fn an_acknowledgement_that_fails_loses_nothing() {
    let pair = Pair::new(&Config::v1(Window::Area).state_size(30_000), Quirks::default());
    set(&pair.to, State::Resuming).unwrap();
    set(&pair.from, State::StopCopy).unwrap();
    // The second read of pending_bytes acknowledges the first segment.
    let fault = pair.source.inject(Fault::at(Access::PendingRead, 1, Effect::Errno(libc::EIO)));
    assert_eq!(pump(&pair.from, &pair.to, Way::Lend(0)).unwrap(), END);
    assert_eq!(pair.source.fault_reached(fault), 1);
    pair.to.finish(Some(pair.from.info().saved_bytes)).unwrap();
    set(&pair.to, State::Running).unwrap();
    assert!(pair.source.same_content(&pair.target));
    pair.finish();
}

/// What a VMM does after a failed save: the guest goes on on the source.
fn back_to_running(device: &Device, sim: &simdev::Device) {
    sim.allow_abort(true);
    for _ in 0..3 {
        let tried = match device.state() {
            State::Error | State::Resuming => device.reset(),
            _ => set(device, State::Running),
        };
        // EIO at the end of a pre-copy: some drivers do not survive another request.
        let tried = match tried {
            Err(failure) if failure.to_string().contains("nothing but a reset") => device.reset(),
            tried => tried,
        };
        if tried.is_ok() {
            break;
        }
    }
    assert_eq!((device.state(), sim.state()), (State::Running, State::Running));
}

/// Gives a save up in the middle, as a VMM does whose user cancels: the source runs on, the target is reset.
fn abort(from: &Device, to: &Device, way: Way, in_stop_copy: bool) -> Result<(), Error> {
    from.restart_stream()?;
    set(to, State::Resuming)?;
    set(from, State::PreCopy)?;
    pump(from, to, way)?;
    if in_stop_copy {
        set(from, State::StopCopy)?;
        from.read(&mut [0; 700])?;
    }
    set(from, State::Running)?;
    to.reset()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    Migrate,
    AbortPrecopy,
    AbortStopCopy,
}

/// A fault at access k of source or target, for every k: a named outcome, both devices can run again, and the next migration
/// is whole. Over every dialect and window, while migrating and while giving up.
#[test]
fn a_fault_at_every_access() {
    let mut reached = 0;
    for window in WINDOWS {
        let mut all = kinds(window.clone());
        if window == Window::Trapped {
            all.push(Config::v2(vfiomig::dialect::Caps { p2p: true, pre_copy: true }));
        }
        for config in all {
            let config = Config { precopy: Precopy::Bytes(5000), ..config }.segments(4096).state_size(9000);
            for scenario in [Scenario::Migrate, Scenario::AbortPrecopy, Scenario::AbortStopCopy] {
                for on_source in [true, false] {
                    reached += fault_walk(&config, scenario, on_source);
                }
            }
        }
    }
    assert!(reached > 5000, "only {reached} faults were reached");
}

fn fault_walk(config: &Config, scenario: Scenario, on_source: bool) -> u64 {
    // v2 has no segments: its room is reserved without a length, which only `Copy` does here.
    let way = if matches!(config.dialect, simdev::Dialect::V2 { .. }) { Way::Copy(3000) } else { Way::Lend(0) };
    let effects = [Effect::Errno(libc::EIO), Effect::Errno(libc::EINVAL), Effect::ToError(libc::EIO), Effect::Short(3)];
    let mut reached = 0;
    for effect in effects {
        for k in 0.. {
            let pair = Pair::new(config, Quirks::default());
            let victim = if on_source { &pair.source } else { &pair.target };
            pair.source.allow_abort(scenario != Scenario::Migrate);
            let first = victim.count(Access::Any);
            let fault = victim.inject(Fault::at(Access::Any, first + k, effect));
            let outcome = match scenario {
                Scenario::Migrate => migrate(&pair.from, &pair.to, way, || ()),
                _ => abort(&pair.from, &pair.to, way, scenario == Scenario::AbortStopCopy),
            };
            let what = format!("{:?} {scenario:?} source={on_source} {effect:?} at {k}: {outcome:?}", config.dialect);
            if victim.fault_reached(fault) == 0 {
                outcome.unwrap_or_else(|error| panic!("{what}; without a fault: {error}"));
                break;
            }
            reached += 1;
            victim.clear_faults();
            match outcome {
                // A short read of data, or a failed acknowledgement, is no failure.
                Ok(()) => assert!(scenario != Scenario::Migrate || pair.source.same_content(&pair.target), "{what}"),
                Err(error) => {
                    assert!(error.errno() > 0 && error.kind() != ErrorKind::Panic, "{what}");
                    assert!(error.to_string().contains(if on_source { "source" } else { "target" }), "{what}");
                }
            }
            // The judge may complain of what the fault did to the order, but not of the migration after it.
            back_to_running(&pair.from, &pair.source);
            pair.to.reset().unwrap();
            for sim in [&pair.source, &pair.target] {
                sim.take_violations();
                sim.allow_abort(false);
            }
            migrate(&pair.from, &pair.to, way, || ()).unwrap_or_else(|e| panic!("{what}; again: {e}"));
            assert!(pair.source.same_content(&pair.target), "{what}");
            pair.finish();
        }
    }
    reached
}
