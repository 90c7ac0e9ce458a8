//! What comes after a pause, a resume, an abort or a reset in the middle of a migration: streams are never glued, a new beginning
//! is a statement, and a guest runs twice only if somebody has said that it may.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Rig, Stream, caps, kind, kinds};
use simdev::{Access, BadEnd, Config, Effect, Fault, Habits, Peer, ResetLeaves};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use vfiomig::device::OnFailure;
use vfiomig::dialect::{Caps, DialectKind, State};
use vfiomig::error::ErrorKind;
use vfiomig::migration::{AbortTo, Budget, Migration, Phase};
use vfiomig::tracker::{self, Tracker};
use vfiomig::window::StreamFlags;

const END: StreamFlags = StreamFlags::END;

const PLENTY: Budget = Budget { bytes: u64::MAX, time: Duration::from_secs(60) };

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true })
}

/// Everything that the devices have now.
fn round(save: &Migration) -> vfiomig::Result<u64> {
    let mut sum = 0;
    save.save_iterate(PLENTY, &[], &mut |piece| {
        sum += piece.bytes.len() as u64;
        Ok(())
    })?;
    Ok(sum)
}

fn loads(streams: &[Stream], source: &Rig) {
    let target = Rig::target(&kinds(), 0);
    target.load_all(&target.load(), streams).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
}

/// A whole stream that was resumed from is as void as one that was cut; a second session is never behind it.
#[test]
fn a_second_session_is_never_glued_to_a_whole_stream() {
    for config in kinds().into_iter().filter(|config| caps(config).pre_copy) {
        let source = Rig::source(&[config.clone(), both()], 0);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        round(&save).unwrap();
        source.group.pause().unwrap();
        let drained = save.save_iterate(PLENTY, &[], &mut |_| Ok(())).unwrap();
        assert_eq!(drained.flags, [END; 2], "the pause holds them at their ENDs");
        source.group.resume().unwrap();
        // A caller that has noticed nothing goes straight on, and hears it before the guest is stopped.
        for phase in [Phase::SaveViommuGrace, Phase::SaveP2pGrace, Phase::SaveStopCopy] {
            refuses(&save.advance(phase).unwrap_err(), "SAVE_PRE_COPY comes first");
        }
        let tracked = if kind(&config) == DialectKind::Draft { State::PreCopy } else { State::Running };
        assert_eq!((source.states(), save.phase()), (vec![tracked, State::Running], Phase::SaveTracking));
        for (device, config) in source.devices.iter().zip([&config, &both()]) {
            device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
            let failure = device.read(&mut [0; 100]).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::Stale, "{config:?}: {failure}");
        }
        // From here on only an abort, or a statement.
        source.devices[0].restart_stream().unwrap();
        assert!(source.devices[0].read(&mut [0; 100]).unwrap().0 > 0);
        save.abort(AbortTo::Running).unwrap();
    }
}

/// A whole stream that a reset, a state change by others or an abort has ended is void too; the regular end is none.
#[test]
fn only_the_regular_end_of_a_whole_stream_is_no_void_one() {
    type End = fn(&Rig);
    let ends: [(&str, End); 4] = [
        ("stop", |rig| rig.devices[0].set_state(State::Stop, OnFailure::Keep, false).unwrap()),
        ("running", |rig| rig.devices[0].set_state(State::Running, OnFailure::Keep, false).unwrap()),
        ("reset", |rig| rig.devices[0].reset().unwrap()),
        ("reprobe", |rig| {
            rig.fakes[0].reset().unwrap();
            rig.devices[0].reprobe().unwrap();
        }),
    ];
    for config in kinds() {
        for (what, end) in ends {
            let rig = Rig::source(std::slice::from_ref(&config), 0);
            rig.allow_abort();
            let device = &rig.devices[0];
            device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
            Stream::default().drain(device).unwrap();
            end(&rig);
            device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
            let second = device.read(&mut [0; 100]).map_err(|failure| failure.kind());
            assert_eq!(second.is_ok(), what == "stop", "{what} {config:?}: {second:?}");
            assert_eq!(
                device.restart_stream().map_err(|failure| failure.kind()),
                if what == "stop" { Err(ErrorKind::Order) } else { Ok(()) }
            );
        }
        // An abort to STOP takes the same arc, and what was sent is void all the same.
        let rig = Rig::source(std::slice::from_ref(&config), 0);
        let save = rig.save();
        save.advance(Phase::SaveStopCopy).unwrap();
        Stream::default().drain(&rig.devices[0]).unwrap();
        save.abort(AbortTo::Stop).unwrap();
        rig.devices[0].set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
        assert_eq!(rig.devices[0].read(&mut [0; 100]).unwrap_err().kind(), ErrorKind::Stale, "{config:?}");
        rig.allow_abort();
    }
}

/// A migration that has sent nothing begins new streams by itself, whatever an earlier one left behind.
#[test]
fn a_migration_begins_new_streams_by_itself() {
    let phases = [Phase::SavePreCopy, Phase::SaveP2pGrace, Phase::SaveStopCopy];
    for cut in phases {
        for anew in [false, true] {
            for precopy in [true, false] {
                let source = Rig::source(&kinds(), 0);
                source.allow_abort();
                let mut save = source.save();
                save.advance(Phase::SavePreCopy).unwrap();
                round(&save).unwrap();
                save.advance(cut).unwrap();
                round(&save).unwrap();
                save.abort(AbortTo::Running).unwrap();
                if anew {
                    drop(save);
                    save = source.save();
                }
                let mut streams = vec![Stream::default(); source.devices.len()];
                if precopy {
                    save.advance(Phase::SavePreCopy).unwrap();
                    source.drain_all(&mut streams).unwrap();
                }
                save.advance(Phase::SaveStopCopy).unwrap();
                source.drain_all(&mut streams).unwrap();
                source.harvest();
                save.advance(Phase::SaveHalted).unwrap();
                loads(&streams, &source);
            }
        }
    }
}

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

/// A device that is asked to leave STOP_COPY, and refuses.
fn refuses_once(fake: &simdev::Device, access: Access) {
    fake.inject(Fault { access, nth: fake.count(access), times: 1, effect: Effect::Errno(libc::EBUSY) });
}

fn refuses(failure: &vfiomig::Error, text: &str) {
    assert!(failure.kind() == ErrorKind::Order && failure.to_string().contains(text), "{failure}");
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

/// In IDLE nothing was sent that counts, so what the caller has read of a device by itself is no part of a stream.
#[test]
fn a_migration_begins_no_stream_in_a_session_of_the_callers_own() {
    let source = Rig::source(&[Peer::Mtty.config()], 0);
    source.allow_abort();
    let save = source.save();
    source.devices[0].set_state(State::PreCopy, OnFailure::Keep, false).unwrap();
    assert!(source.devices[0].read(&mut [0; 100]).unwrap().0 > 0);
    // Where a device is when a pause fails is where it is expected.
    refuses_once(&source.fakes[0], Access::StateWrite);
    source.group.pause().unwrap_err();
    for phase in [Phase::SaveTracking, Phase::SavePreCopy, Phase::SaveStopCopy] {
        refuses(&save.advance(phase).unwrap_err(), "d0: its session is open still");
    }
    source.group.resume().unwrap();
    loads_again(&source, &source.save_all(&save).unwrap());
}

/// What was saved is loaded into fresh devices of the same kinds.
fn loads_again(source: &Rig, streams: &[Stream]) {
    let target = Rig::target(&source.configs, 0);
    target.load_all(&target.load(), streams).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
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

/// A reset of a loaded device, by whomever and however it was told: no pause hides it, whether it succeeds or not (V2-10).
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

/// A draft's log answers only while it saves: behind a pause and a resume in SAVE_TRACKING it does again, and what was written in
/// between is dirty. What was sent of its stream is void.
#[test]
fn a_draft_logs_again_behind_a_resume() {
    for (phase, sent) in [(Phase::SaveTracking, false), (Phase::SaveTracking, true), (Phase::SavePreCopy, true)] {
        let source = Rig::source(&[Config::draft(simdev::DraftForm::Rewrite).state_size(1 << 14)], 0);
        source.allow_abort();
        source.group.remove_tracker(&source.tracker).unwrap();
        let own = vfiomig::tracker::TrackerOptions {
            name: "own".into(),
            devices: source.devices.clone(),
            ..Default::default()
        };
        let own = Arc::new(vfiomig::tracker::Tracker::new(own).unwrap());
        let range = vfiomig::tracker::IovaRange { iova: 0, size: 64 * 4096 };
        own.map(&[vfiomig::tracker::Mapping { range, cookie: 7 }]).unwrap();
        source.group.add_tracker(Arc::clone(&own)).unwrap();
        let save = source.save();
        save.advance(phase).unwrap();
        assert_eq!(source.harvest(), [0; 0]);
        if sent {
            assert!(round(&save).unwrap() > 0);
        }
        source.group.pause().unwrap();
        source.group.resume().unwrap();
        assert_eq!((save.phase(), source.states()[0]), (Phase::SaveTracking, State::PreCopy));
        assert_eq!(source.harvest(), (0..64).collect::<Vec<u64>>(), "what was written while it ran is in no log");
        assert_eq!(source.harvest(), [0; 0]);
        assert_eq!(round(&save).is_err(), sent);
        assert_eq!(save.phase(), Phase::SaveTracking);
        if sent {
            refuses(&save.advance(Phase::SaveStopCopy).unwrap_err(), "SAVE_PRE_COPY comes first");
        }
        save.abort(AbortTo::Running).unwrap();
        let streams = source.save_all(&save).unwrap();
        let target = Rig::target(&source.configs, 0);
        target.load_all(&target.load(), &streams).unwrap();
        assert!(target.fakes[0].same_content(&source.fakes[0]));
    }
    // One that cannot go there is told, and is no reason not to run.
    let source = Rig::source(&[Config::draft(simdev::DraftForm::Rewrite)], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SaveTracking).unwrap();
    source.group.pause().unwrap();
    refuses_once(&source.fakes[0], Access::Enter(State::PreCopy));
    source.group.resume().unwrap();
    assert_eq!((save.phase(), source.states()[0]), (Phase::SaveTracking, State::Running));
    let text = save.report().unwrap().to_string();
    assert!(text.contains("no log of written pages until SAVE_PRE_COPY"), "{text}");
    save.advance(Phase::SavePreCopy).unwrap();
    assert_eq!(source.states()[0], State::PreCopy);
    // One that runs no more for it is.
    source.group.pause().unwrap();
    let fake = &source.fakes[0];
    let (access, effect) = (Access::Enter(State::PreCopy), Effect::ToError(libc::EIO));
    fake.inject(Fault { access, nth: fake.count(access), times: 1, effect });
    let failure = source.group.resume().unwrap_err();
    assert!(failure.kind() == ErrorKind::Device && source.states()[0] == State::Error, "{failure}");
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

/// A load whose streams are in; what they were.
fn loaded(configs: &[Config]) -> (Rig, Migration, Rig) {
    let source = Rig::source(configs, 0);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(configs, 0);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    target.write_all(&streams).unwrap();
    load.advance(Phase::LoadLoaded).unwrap();
    (target, load, source)
}

fn runs(target: &Rig, source: &Rig, what: &str) {
    assert!(target.states().iter().all(|&s| s == State::Running), "{what}: {:?}", target.states());
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)), "{what}");
    rig::assert_barriers(&target.fakes);
    target.assert_clean(what);
}

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

/// What is not loaded yet runs by no resume; what turns out to be bad fails the migration, and nobody else runs.
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
    // Freed, it is the caller's decision, and as dangerous: it is told, once for each device.
    drop(save);
    let warned = || {
        let told = source.group.results().unwrap();
        assert!(told.iter().all(|result| result.errno == 0), "{told:?}");
        told.iter().filter(|result| result.message.contains("two run now")).count()
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
            let told = source.devices[0].reset();
            assert_eq!((source.fakes[0].resets(), source.states()[0]), (1, at), "{config:?}");
            if at.session().is_none() {
                // Nothing was sent that could be void; the guest wanted it so.
                assert_eq!(told.is_ok(), at == State::Running, "{config:?}: {told:?}");
                save.advance(Phase::SaveStopCopy).unwrap();
                save.abort(AbortTo::Running).unwrap();
                continue;
            }
            let failure = told.unwrap_err();
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

/// Nobody moves a device under a call that counts on where it is.
#[test]
fn no_device_is_moved_from_a_callback_of_its_migration() {
    for max_workers in [1, 0] {
        let source = Rig::source(&kinds(), max_workers);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        let mut told = Vec::new();
        save.save_iterate(PLENTY, &[], &mut |_| {
            for device in &source.devices {
                let calls =
                    [device.set_state(State::Running, OnFailure::Keep, false), device.reset(), device.reprobe()];
                told.extend(calls.map(|call| call.unwrap_err().errno()));
            }
            Ok(())
        })
        .unwrap();
        assert!(!told.is_empty() && told.iter().all(|&errno| errno == libc::EDEADLK), "{told:?}");
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

/// The decision to stop was made while vCPUs ran: a device that has begun again with initial data since says so in P2P_GRACE.
#[test]
fn new_initial_data_is_seen_once_more_in_p2p_grace() {
    for config in kinds().into_iter().filter(|config| kind(config) == DialectKind::V2 && caps(config).pre_copy) {
        let source = Rig::source(&[Config { opt_in: true, ..config }, both()], 0);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SavePreCopy).unwrap();
        round(&save).unwrap();
        assert!(save.pending_exact().unwrap().ready);
        source.fakes[0].reinit();
        assert!(save.pending().ready, "nobody has asked since");
        save.advance(Phase::SaveP2pGrace).unwrap();
        let pending = save.pending();
        assert!(!pending.ready && pending.reinit_count == 1, "{pending:?}");
        let text = save.report().unwrap().to_string();
        assert!(text.contains("bytes of initial data are left"), "{text}");
        // It is the caller's choice: it costs downtime, not data.
        save.advance(Phase::SaveStopCopy).unwrap();
        save.save_complete(&[], &mut |_| Ok(())).unwrap();
        source.harvest();
        save.advance(Phase::SaveHalted).unwrap();
        // Where the question fails the answer is in the report, and nothing else fails.
        save.abort_without_second_guest(AbortTo::Running).unwrap();
        save.advance(Phase::SavePreCopy).unwrap();
        round(&save).unwrap();
        let asked = source.fakes[0].count(Access::PrecopyInfo);
        source.fakes[0].inject(Fault::at(Access::PrecopyInfo, asked, Effect::Errno(libc::ENOMEM)));
        save.advance(Phase::SaveP2pGrace).unwrap();
        let text = save.report().unwrap().to_string();
        assert!(text.contains("reading sizes failed"), "{text}");
        save.advance(Phase::SaveStopCopy).unwrap();
    }
}

/// What was read and thrown away, so that STOP_COPY could be left, is missing in the stream: it has no end any more where the device stays.
#[test]
fn a_stream_that_was_read_for_nobody_has_no_end() {
    for taken in [0, 1000] {
        let config = Config::v2(Caps { p2p: true, pre_copy: false }).state_size(100_000);
        let source = Rig::source(&[config], 0);
        source.allow_abort();
        let device = &source.devices[0];
        device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
        if taken > 0 {
            device.read(&mut vec![0; taken]).unwrap();
        }
        let nth = source.fakes[0].count(Access::StateWrite);
        source.fakes[0].inject(Fault::at(Access::StateWrite, nth, Effect::Errno(libc::EBUSY)));
        device.set_state(State::Stop, OnFailure::Keep, false).unwrap_err();
        assert_eq!(device.state(), State::StopCopy);
        for _ in 0..2 {
            let after = device.read(&mut [0; 1000]).map_err(|failure| failure.kind());
            assert_eq!(after, Err(ErrorKind::Stale), "{taken}");
            assert_eq!(device.restart_stream().unwrap_err().kind(), ErrorKind::Order);
        }
        assert!(device.info().broken && !device.info().complete);
        // It can be left, and the next stream is another.
        device.set_state(State::Stop, OnFailure::Keep, false).unwrap();
        device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
        let next = device.read(&mut [0; 1000]).map_err(|failure| failure.kind());
        assert_eq!(next.is_ok(), taken == 0, "{next:?}");
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

/// Who throws away what an open session has given cannot get it again, so it says no new stream has begun: also behind END, where
/// the next read would give an empty one.
#[test]
fn no_stream_begins_in_a_session_that_was_read_to_its_end() {
    for config in kinds() {
        let source = Rig::source(std::slice::from_ref(&config), 0);
        source.allow_abort();
        let device = &source.devices[0];
        device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
        Stream::default().drain(device).unwrap();
        assert_eq!(device.restart_stream().map_err(|failure| failure.kind()), Err(ErrorKind::Order), "{config:?}");
        // What was read is whole, whoever asked.
        assert_eq!(device.read(&mut [0; 100]).unwrap(), (0, END));
        device.set_state(State::Stop, OnFailure::Keep, false).unwrap();
        device.restart_stream().unwrap();
    }
}

/// A tracker of the draft's own log in place of the rig's.
fn draft_with_log() -> (Rig, Arc<Tracker>) {
    let source = Rig::source(&[Config::draft(simdev::DraftForm::Rewrite)], 0);
    source.allow_abort();
    source.group.remove_tracker(&source.tracker).unwrap();
    let own = tracker::TrackerOptions {
        name: "own".into(),
        devices: source.devices.clone(),
        ..tracker::TrackerOptions::default()
    };
    let own = Arc::new(Tracker::new(own).unwrap());
    let range = tracker::IovaRange { iova: 0, size: 64 * 4096 };
    own.map(&[tracker::Mapping { range, cookie: 7 }]).unwrap();
    source.group.add_tracker(Arc::clone(&own)).unwrap();
    (source, own)
}

/// P14: behind SAVE_TRACKING RAM is sent. A draft of a paused VM has no session then, and runs before it has one.
#[test]
fn a_draft_that_was_paused_before_the_save_is_dirty_once() {
    for refused in [true, false] {
        let (source, _own) = draft_with_log();
        source.group.pause().unwrap();
        let save = source.save();
        save.advance(Phase::SaveTracking).unwrap();
        assert_eq!(source.states(), [State::Stop]);
        if refused {
            refuses_once(&source.fakes[0], Access::Enter(State::PreCopy));
        }
        source.group.resume().unwrap();
        assert_eq!(source.states(), [if refused { State::Running } else { State::PreCopy }]);
        source.fakes[0].dma_write(9).unwrap();
        save.advance(Phase::SavePreCopy).unwrap();
        let told: BTreeSet<u64> = source.harvest().into_iter().collect();
        assert_eq!(told, (0..64).collect(), "refused: {refused}");
        source.fakes[0].dma_write(5).unwrap();
        assert_eq!(source.harvest(), [5]);
    }
}

/// Whoever has started the tracker may have sent RAM before SAVE_TRACKING; the migration's own start comes before all RAM.
#[test]
fn only_the_migration_s_own_start_begins_with_the_session() {
    for before in [false, true] {
        let (source, own) = draft_with_log();
        if before {
            own.start().unwrap();
            source.fakes[0].dma_write(9).unwrap();
        }
        let save = source.save();
        save.advance(Phase::SaveTracking).unwrap();
        source.fakes[0].dma_write(5).unwrap();
        let told: BTreeSet<u64> = source.harvest().into_iter().collect();
        let all = if before { 0..64 } else { 5..6 };
        assert_eq!(told, all.collect(), "started before: {before}");
        source.fakes[0].dma_write(6).unwrap();
        assert_eq!(source.harvest(), [6]);
    }
}
