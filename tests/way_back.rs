//! What comes after a pause, a resume, an abort or a reset in the middle of a migration: streams are never glued, a new beginning
//! is a statement, and a guest runs twice only if somebody has said that it may.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "way_back/drafts.rs"]
mod drafts;
#[path = "way_back/guests.rs"]
mod guests;
#[path = "way_back/resets.rs"]
mod resets;
#[path = "way_back/resumes.rs"]
mod resumes;
#[path = "common/rig.rs"]
mod rig;

use rig::{Rig, Stream, caps, kind, kinds};
use simdev::{Access, BadEnd, Config, Effect, Fault, Habits, Peer, ResetLeaves};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use vfiomig::device::OnFailure;
use vfiomig::dialect::{Caps, DialectKind, State};
use vfiomig::error::{Action, ErrorKind};
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

/// A device that is asked to leave STOP_COPY, and refuses.
fn refuses_once(fake: &simdev::Device, access: Access) {
    fake.inject(Fault { access, nth: fake.count(access), times: 1, effect: Effect::Errno(libc::EBUSY) });
}

fn refuses(failure: &vfiomig::Error, text: &str) {
    assert!(failure.kind() == ErrorKind::Order && failure.to_string().contains(text), "{failure}");
}

/// What was saved is loaded into fresh devices of the same kinds.
fn loads_again(source: &Rig, streams: &[Stream]) {
    let target = Rig::target(&source.configs, 0);
    target.load_all(&target.load(), streams).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
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
