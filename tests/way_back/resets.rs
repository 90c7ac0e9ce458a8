//! Resets that are refused, or that leave the state as it is.

use super::*;

/// A server that keeps the migration state over a reset, or refuses one in STOP.
fn with_reset(config: &Config, reset_leaves: ResetLeaves) -> Config {
    Config { habits: Habits { reset_leaves, ..config.habits }, ..config.clone() }
}

/// What a device says when RESUMING is left with a stream that was cut.
fn cut_is(config: Config, cut: BadEnd) -> Config {
    Config { habits: Habits { cut, ..config.habits }, ..config }
}

/// The guest resets a device during a save, the answer is 0, and the device stays where it is, with nothing sent.
#[test]
fn a_reset_that_keeps_the_state_voids_the_stream_at_once() {
    for config in kinds() {
        for phase in [Phase::SavePreCopy, Phase::SaveP2pGrace] {
            let source = Rig::source(&[with_reset(&config, ResetLeaves::SameIfAwake), both()], 0);
            source.allow_abort();
            let save = source.save();
            save.advance(phase).unwrap();
            let at = source.states()[0];
            let reported = source.devices[0].reset();
            assert_eq!((source.fakes[0].resets(), source.states()[0]), (1, at), "{config:?}");
            if at.session().is_none() {
                // Nothing was sent that could be void; the guest wanted it so.
                assert_eq!(reported.is_ok(), at == State::Running, "{config:?}: {reported:?}");
                save.advance(Phase::SaveStopCopy).unwrap();
                save.abort(AbortTo::Running).unwrap();
                continue;
            }
            let failure = reported.unwrap_err();
            assert!(failure.to_string().contains(&format!("after the reset the device is in {at}")), "{failure}");
            assert!(failure.to_string().contains("can be asked for RUNNING"), "{failure}");
            let next = if phase == Phase::SavePreCopy { Phase::SaveP2pGrace } else { Phase::SaveStopCopy };
            let failure = save.advance(next).unwrap_err();
            assert_eq!((failure.kind(), save.phase()), (ErrorKind::Stale, Phase::Failed), "{config:?}: {failure}");
            assert!(failure.to_string().contains("d0"), "{failure}");
            save.abort(AbortTo::Running).unwrap();
            assert_eq!(source.states(), [State::Running; 2]);
            source.save_all(&save).unwrap();
        }
    }
}

/// Some servers refuse a reset in STOP and STOP_COPY (K24): an abort of a load leads out all the same, and a new one begins.
#[test]
fn a_load_is_aborted_where_a_reset_is_refused_or_keeps_the_state() {
    let source = Rig::source(&kinds(), 0);
    let streams = source.save_all(&source.save()).unwrap();
    // With nothing in it RESUMING is left, or the device breaks, which a reset ends.
    let servers = [
        (ResetLeaves::RunningIfAwake, BadEnd::AsConfigured),
        (ResetLeaves::SameIfAwake, BadEnd::Accepted),
        (ResetLeaves::SameIfAwake, BadEnd::AsConfigured),
    ];
    for (leaves, cut) in servers {
        for last in [Phase::LoadResuming, Phase::LoadLoaded, Phase::LoadP2pGrace] {
            for to in [AbortTo::Running, AbortTo::Stop] {
                let configs: Vec<Config> =
                    kinds().iter().map(|config| with_reset(config, leaves)).map(|c| cut_is(c, cut)).collect();
                let target = Rig::target(&configs, 0);
                let load = target.load();
                load.advance(Phase::LoadResuming).unwrap();
                if last == Phase::LoadResuming {
                    for (device, stream) in target.devices.iter().zip(&streams) {
                        device.write(&stream.parts[0].0, stream.parts[0].1).unwrap();
                    }
                } else {
                    target.write_all(&streams).unwrap();
                    load.advance(last).unwrap();
                }
                let what = format!("{leaves:?} {cut:?} {last} {to:?}");
                load.abort(to).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(target.fakes.iter().all(|fake| fake.resets() > 0), "{what}");
                let expected = if to == AbortTo::Running { State::Running } else { State::Stop };
                assert!(target.states().iter().all(|&state| state == expected), "{what}: {:?}", target.states());
                assert_eq!(load.phase(), Phase::Idle, "{what}");
                drop(load);
                let load = target.load();
                target.load_all(&load, &streams).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)), "{what}");
                // That RESUMING was left with nothing in it is what was asked for.
                let wrong = |fake: &simdev::Device| fake.violations().iter().any(|v| v.rule != "N2");
                assert!(!target.fakes.iter().any(wrong), "{what}");
            }
        }
    }
}

/// The public servers refuse a reset in STOP, and those of v1 take RESUMING from RUNNING only. Where nothing was loaded an abort of
/// a load has nothing to undo, so it leads to where it was asked to, and a new load begins from RUNNING.
#[test]
fn an_empty_load_of_a_server_is_aborted_wherever_its_device_is() {
    type Course = fn(&Rig) -> Migration;
    let courses: [(&str, Course); 5] = [
        ("untouched", |rig| {
            let load = rig.load();
            load.abort(AbortTo::Stop).unwrap();
            load
        }),
        ("paused", |rig| {
            rig.group.pause().unwrap();
            rig.load()
        }),
        ("touched", |rig| {
            let load = rig.load();
            load.advance(Phase::LoadResuming).unwrap();
            load.abort(AbortTo::Stop).unwrap();
            load
        }),
        ("partial", |rig| {
            let load = rig.load();
            load.advance(Phase::LoadResuming).unwrap();
            rig.devices[0].write(&[0; 10], false).unwrap();
            load.abort(AbortTo::Stop).unwrap();
            load
        }),
        ("twice", |rig| {
            let load = rig.load();
            load.abort(AbortTo::Stop).unwrap();
            let _ = load.advance(Phase::LoadResuming);
            load.abort(AbortTo::RunState).unwrap();
            assert_eq!(rig.states(), [State::Stop; 2]);
            load
        }),
    ];
    for peer in [Peer::LibvfioUserV1, Peer::SpdkV1, Peer::LibvfioUserV2] {
        let config = peer.config();
        let source = Rig::source(&[config.clone(), both()], 0);
        let streams = source.save_all(&source.save()).unwrap();
        for (what, course) in courses {
            for to in [Phase::LoadResuming, Phase::LoadRunning] {
                for back in [AbortTo::Running, AbortTo::Stop, AbortTo::RunState] {
                    // Where no phase was entered since, it was what it was when the migration was made.
                    if to == Phase::LoadRunning && back == AbortTo::RunState {
                        continue;
                    }
                    let what = format!("{peer:?} {what} {to} {back:?}");
                    let target = Rig::target(&[config.clone(), both()], 0);
                    let load = course(&target);
                    assert_eq!(target.states(), [State::Stop; 2], "{what}");
                    if to == Phase::LoadRunning {
                        assert_eq!(load.advance(to).unwrap_err().kind(), ErrorKind::Order, "{what}");
                    } else if let Err(failure) = load.advance(to) {
                        let text = failure.to_string();
                        assert!(text.contains("d0") && text.contains("take RESUMING from RUNNING only"), "{text}");
                    }
                    load.abort(back).unwrap_or_else(|failure| panic!("{what}: {failure}"));
                    let at = if back == AbortTo::Running { State::Running } else { State::Stop };
                    assert_eq!((target.states(), load.phase()), (vec![at; 2], Phase::Idle), "{what}");
                    load.abort(AbortTo::Running).unwrap();
                    assert_eq!(target.states(), [State::Running; 2], "{what}");
                    target.load_all(&load, &streams).unwrap_or_else(|failure| panic!("{what}: {failure}"));
                    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)), "{what}");
                }
            }
        }
    }
}

/// By device calls alone, behind a reset that was done there is a way out of RESUMING; without one there is none.
#[test]
fn resuming_is_left_behind_a_reset_that_was_done() {
    let habits = Habits { reset_leaves: ResetLeaves::SameIfAwake, cut: BadEnd::Accepted, ..Habits::PLAIN };
    let rig = Rig::target(&[Config { habits, ..both() }], 0);
    let device = &rig.devices[0];
    device.set_state(State::Resuming, OnFailure::Keep, false).unwrap();
    device.write(&[0; 10], false).unwrap();
    let refused = device.set_state(State::Stop, OnFailure::Keep, true).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Order);
    let failure = device.reset().unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Protocol);
    for part in ["is in RESUMING, not in RUNNING", "what it was loaded with is gone", "STOP"] {
        assert!(failure.to_string().contains(part), "{failure}");
    }
    assert_eq!(device.write(&[0; 10], false).unwrap_err().kind(), ErrorKind::Stale);
    device.set_state(State::Stop, OnFailure::Keep, false).unwrap();
    // Where the reset is refused it says so.
    let failure = device.reset().unwrap_err();
    assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Unsupported, libc::EINVAL));
    assert!(
        failure.to_string().contains("refused in STOP") && failure.to_string().contains("while it runs"),
        "{failure}"
    );
    device.set_state(State::Running, OnFailure::Keep, false).unwrap();
    device.reset().unwrap();
}
