//! Resumes and pauses within a save: which streams are void by them, and how the save goes on.

use super::*;

/// Behind a pause and a resume in pre-copy the migration is in TRACKING, its trackers go on, and SAVE_PRE_COPY can be entered
/// again; that begins new streams, which the destination loads from the beginning.
#[test]
fn a_resume_in_precopy_leads_back_to_tracking() {
    for halves in [false, true] {
        let source = Rig::source(&kinds(), 0);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        for _ in 0..2 {
            let mut void = vec![Stream::default(); source.devices.len()];
            source.drain_all(&mut void).unwrap();
            source.log.dirty.lock().push(9);
            source.group.pause().unwrap();
            assert_eq!(save.phase(), Phase::SavePreCopy);
            if halves {
                source.group.resume_begin().unwrap();
            }
            source.group.resume().unwrap();
            assert_eq!((save.phase(), *source.log.started.lock()), (Phase::SaveTracking, 1), "trackers go on");
            assert_eq!(source.harvest(), [9], "RAM that was sent is not sent again");
            assert!(!save.pending().ready, "streams have to begin again");
            save.advance(Phase::SavePreCopy).unwrap();
            for (config, state) in source.configs.iter().zip(source.states()) {
                assert_eq!(state, if caps(config).pre_copy { State::PreCopy } else { State::Running });
            }
        }
        let text = save.report().unwrap().to_string();
        assert!(text.contains("resumed: what was sent of the devices' streams is void"), "{text}");
        let mut streams = vec![Stream::default(); source.devices.len()];
        source.drain_all(&mut streams).unwrap();
        assert!(save.pending_exact().unwrap().ready);
        save.advance(Phase::SaveStopCopy).unwrap();
        source.drain_all(&mut streams).unwrap();
        source.harvest();
        save.advance(Phase::SaveHalted).unwrap();
        assert_eq!(*source.log.calls.lock().first().unwrap(), "start");
        assert_eq!(source.log.calls.lock().iter().filter(|call| **call == "start").count(), 1);
        loads(&streams, &source);
        // The destination had a part of the void streams: abort, and RESUMING again.
        let target = Rig::target(&kinds(), 0);
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        for (device, stream) in target.devices.iter().zip(&streams) {
            let (bytes, segment_end) = &stream.parts[0];
            device.write(bytes, *segment_end).unwrap();
        }
        load.abort(AbortTo::Stop).unwrap();
        target.load_all(&load, &streams).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    }
}

/// A resume of a held pre-copy that fails for one of two: the session of the other is over, so its own is void too, although it is
/// open; what is left of that is never read as a whole stream.
#[test]
fn behind_a_resume_that_failed_for_one_no_stream_begins_in_an_open_session() {
    let config = || Peer::Virtio.config().state_size(1 << 14);
    for more in [Phase::SavePreCopy, Phase::SaveP2pGrace, Phase::SaveStopCopy] {
        let source = Rig::source(&[config(), config()], 0);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        let some = Budget { bytes: 6000, ..PLENTY };
        save.save_iterate(some, &[], &mut |_| Ok(())).unwrap();
        source.group.pause().unwrap();
        refuses_once(&source.fakes[0], Access::Enter(State::Stop));
        source.group.resume().unwrap_err();
        assert_eq!((save.phase(), source.states()[0]), (Phase::SaveTracking, State::StopCopy));
        assert_eq!(source.devices[0].read(&mut [0; 100]).unwrap_err().kind(), ErrorKind::Stale);
        refuses(&save.advance(more).unwrap_err(), "d0: its session is open still");
        let failure = save.advance_device(&source.devices[1], Phase::SavePreCopy).unwrap_err();
        refuses(&failure, "resume or abort first");
        assert_eq!(save.phase(), Phase::SaveTracking, "nothing was done");
        source.group.resume().unwrap();
        let streams = source.save_all(&save).unwrap();
        let target = Rig::target(&[config(), config()], 0);
        target.load_all(&target.load(), &streams).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    }
}

/// A resume that ends no session voids none: the save goes on from the hold, or from the guest that runs.
#[test]
fn a_resume_that_ends_no_session_voids_nothing() {
    let held: [(Peer, bool); 2] = [(Peer::HisiAcc, true), (Peer::Mtty, false)];
    for (peer, held) in held {
        let source = Rig::source(&[peer.config().state_size(1 << 14)], 0);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        let mut streams = [Stream::default()];
        let mut buf = [0; 60];
        let (len, flags) = source.devices[0].read(&mut buf).unwrap();
        streams[0].parts.push((buf[..len].to_vec(), flags.contains(vfiomig::window::StreamFlags::SEGMENT_END)));
        if held {
            source.group.pause().unwrap();
        }
        refuses_once(&source.fakes[0], Access::StateWrite);
        source.group.resume().unwrap_err();
        assert_eq!(save.phase(), Phase::SavePreCopy, "{peer:?}");
        save.advance(Phase::SavePreCopy).unwrap();
        save.advance(Phase::SaveStopCopy).unwrap();
        source.drain_all(&mut streams).unwrap();
        source.harvest();
        save.advance(Phase::SaveHalted).unwrap();
        let target = Rig::target(&[peer.config().state_size(1 << 14)], 0);
        target.load_all(&target.load(), &streams).unwrap();
        assert!(target.fakes[0].same_content(&source.fakes[0]), "{peer:?}");
    }
}

/// The first half of a resume ends the sessions of some kinds only; who pauses then begins no stream in one of the others.
#[test]
fn half_a_resume_voids_the_sessions_that_it_leaves_open() {
    for max_workers in [1, 0] {
        let plain = Config::v2(Caps { p2p: false, pre_copy: true });
        let source = Rig::source(&[both(), plain], max_workers);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        round(&save).unwrap();
        source.group.pause().unwrap();
        source.group.resume_begin().unwrap();
        assert_eq!((save.phase(), source.states()[1]), (Phase::SaveTracking, State::StopCopy));
        source.group.pause().unwrap();
        refuses(&save.advance(Phase::SavePreCopy).unwrap_err(), "d1: its session is open still");
        save.abort(AbortTo::RunState).unwrap();
        assert_eq!(source.states(), [State::Stop, State::Stop], "it is paused");
        source.save_all(&save).unwrap();
    }
}

/// A guest that was paused when SAVE_PRE_COPY was entered has no pre-copy; once it runs, SAVE_PRE_COPY is entered for it.
#[test]
fn a_paused_guest_that_is_resumed_in_precopy_gets_one() {
    let source = Rig::source(&kinds(), 0);
    source.allow_abort();
    source.group.pause().unwrap();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    assert!(save.pending().ready, "a stopped device has no initial data");
    source.group.resume().unwrap();
    assert_eq!(save.phase(), Phase::SaveTracking);
    let streams = source.save_all(&save).unwrap();
    loads(&streams, &source);
}

/// A reset of a loaded device, however it was made known: no pause hides it, whether it succeeds or not (V2-10).
#[test]
fn a_pause_hides_no_reset_of_a_device_that_was_loaded() {
    type Harm = fn(&simdev::Device, &vfiomig::device::Device);
    let harms: [(&str, Harm); 5] = [
        ("reset", |_, device| device.reset().unwrap()),
        ("reprobe", |fake, device| {
            fake.reset().unwrap();
            device.reprobe().unwrap();
        }),
        ("observe", |fake, device| {
            fake.reset().unwrap();
            device.observe().unwrap();
        }),
        ("silent", |fake, _| fake.reset().unwrap()),
        ("reset, and brought where it was", |_, device| {
            let at = device.state();
            device.reset().unwrap();
            let way: &[State] = match at {
                State::RunningP2p => &[State::RunningP2p],
                State::Resuming => &[State::Resuming],
                _ => &[State::Stop],
            };
            way.iter().for_each(|to| device.set_state(*to, OnFailure::Keep, false).unwrap());
        }),
    ];
    for config in kinds() {
        for (how, harm) in harms {
            for grace in [false, true] {
                let (target, load, _source) = loaded(&[config.clone(), both()]);
                if grace {
                    target.group.resume_begin().unwrap();
                }
                harm(&target.fakes[0], &target.devices[0]);
                let paused = target.group.pause();
                let what = format!("{how} {grace} {config:?}: {paused:?}");
                let anew = how.ends_with("where it was") && kind(&config) != DialectKind::V2;
                assert!(how == "silent" || anew || load.phase() == Phase::Failed, "{what}");
                let ran = load.advance(Phase::LoadRunning);
                assert_eq!((ran.is_err(), load.phase()), (true, Phase::Failed), "{what}");
                load.abort(AbortTo::Stop).unwrap();
            }
        }
    }
}

/// AS_IT_WAS is what the VM was told last: vCPUs are stopped before a pause, and start behind a resume, also if a device fails.
#[test]
fn as_it_was_is_what_was_asked_for_last() {
    for max_workers in [1, 0] {
        let source = Rig::source(&[both(), both()], max_workers);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        refuses_once(&source.fakes[0], Access::StateWrite);
        source.group.pause().unwrap_err();
        save.abort(AbortTo::RunState).unwrap();
        assert_eq!(source.states(), [State::Stop, State::Stop]);
        save.advance(Phase::SavePreCopy).unwrap();
        refuses_once(&source.fakes[0], Access::StateWrite);
        source.group.resume().unwrap_err();
        save.abort(AbortTo::RunState).unwrap();
        assert_eq!(source.states(), [State::Running, State::Running]);
    }
}

/// AS_IT_WAS is what the VM is now.
#[test]
fn as_it_was_follows_the_vm() {
    for max_workers in [1, 0] {
        for phase in [Phase::Idle, Phase::SaveTracking, Phase::SavePreCopy] {
            let source = Rig::source(&kinds(), max_workers);
            source.allow_abort();
            let save = source.save();
            if phase != Phase::Idle {
                save.advance(phase).unwrap();
            }
            source.group.pause().unwrap();
            save.abort(AbortTo::RunState).unwrap();
            assert!(source.states().iter().all(|&s| s == State::Stop), "{phase}: it was paused meanwhile");
            save.advance(Phase::SavePreCopy).unwrap();
            source.group.resume().unwrap();
            save.advance(Phase::SavePreCopy).unwrap();
            save.advance(Phase::SaveStopCopy).unwrap();
            save.abort(AbortTo::RunState).unwrap();
            assert!(source.states().iter().all(|&s| s == State::Running), "{phase}: and resumed");
            save.advance(Phase::SavePreCopy).unwrap();
            source.group.pause_begin().unwrap();
            save.abort(AbortTo::RunState).unwrap();
            assert!(source.states().iter().all(|&s| s == State::Stop), "{phase}: vCPUs stand still");
        }
    }
}

/// A device whose state could not be read for a moment is looked at again by the next call: nobody is told to reset it, which
/// would lose the guest's state in it (P17).
#[test]
fn a_device_that_could_not_be_read_is_looked_at_again() {
    for config in kinds() {
        for pauses in [false, true] {
            let source = Rig::source(&[config.clone(), config.clone()], 0);
            source.allow_abort();
            if !pauses {
                source.group.pause().unwrap();
            }
            let fake = &source.fakes[0];
            let unread = Fault { access: Access::StateRead, nth: fake.count(Access::StateRead), times: 3, effect: EIO };
            fake.inject(unread);
            let again = || if pauses { source.group.pause() } else { source.group.resume() };
            let first = again().unwrap_err();
            assert_eq!((first.errno(), first.results()[0].action), (libc::EIO, Action::Dead), "{first}");
            assert_eq!(source.devices[0].state(), State::Error);
            again().unwrap_or_else(|error| panic!("{:?}: {error}", config.dialect));
            let there = if pauses { State::Stop } else { State::Running };
            assert!(source.states().iter().all(|state| *state == there), "{:?}", source.states());
        }
    }
    // One that is gone for good is told as that.
    let source = Rig::source(&kinds()[3..5], 0);
    let fake = &source.fakes[0];
    fake.inject(Fault::from(Access::Any, fake.count(Access::Any), Effect::Errno(libc::ENODEV)));
    for _ in 0..2 {
        let error = source.group.pause().unwrap_err();
        assert_eq!((error.errno(), error.results()[0].action), (libc::ENODEV, Action::Dead), "{error}");
        assert!(!error.to_string().contains("reset"), "{error}");
    }
}

const EIO: Effect = Effect::Errno(libc::EIO);
