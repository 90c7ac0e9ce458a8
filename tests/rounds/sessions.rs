//! Drains and devices that have lost their session or their bytes.

use super::*;

/// A session that ended is an error of the first round, by sizes too, and is no device that is ready.
#[test]
fn a_round_after_a_resume_says_that_the_stream_is_void() {
    for max_workers in [1, 0] {
        let (source, save) = at(Phase::SavePreCopy, &[both(), both()], max_workers);
        save.save_iterate(PLENTY, &[], &mut swallow).unwrap();
        source.group.pause().unwrap();
        assert_eq!(save.save_iterate(PLENTY, &[], &mut swallow).unwrap().flags, [END; 2], "held, not over");
        source.group.resume().unwrap();
        assert_eq!(save.check_sessions().unwrap_err().kind(), ErrorKind::Stale);
        assert!(!save.pending().ready);
        assert_eq!(save.pending_exact().unwrap_err().kind(), ErrorKind::Stale);
        let failure = save.save_iterate(PLENTY, &[], &mut swallow).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Stale, "{failure}");
        assert!(failure.to_string().contains("d0") && failure.to_string().contains("void"), "{failure}");
        save.abort(AbortTo::Running).unwrap();
        save.check_sessions().unwrap();
        assert!(save.pending_exact().is_ok());
    }
}

/// A getter beside the phases hears of no lost session in a save that succeeds, while sessions begin and end; of one whose device
/// fails in HALTED it does.
#[test]
fn a_getter_beside_the_phases_hears_of_no_lost_session() {
    for max_workers in [1, 0] {
        for turn in 0..10 {
            let fails = turn == 9;
            let (source, save) = at(Phase::SaveTracking, &[both(), both()], max_workers);
            let over = AtomicBool::new(false);
            let (halted, heard) = std::thread::scope(|scope| {
                let listener = scope.spawn(|| {
                    let mut heard = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let phase = save.phase();
                        heard.extend(save.check_sessions().err().map(|failure| format!("{phase}: {failure}")));
                        std::thread::yield_now();
                    }
                    heard
                });
                save.advance(Phase::SavePreCopy).unwrap();
                save.advance(Phase::SaveStopCopy).unwrap();
                save.save_complete(&[], &mut swallow).unwrap();
                source.harvest();
                // The first is in STOP for a while when the second gets there.
                let (fake, access) = (&source.fakes[1], Access::StateWrite);
                let effect = if fails { Effect::ToError(libc::EIO) } else { Effect::Delay(Duration::from_millis(10)) };
                fake.inject(Fault { access, nth: fake.count(access), times: 1, effect });
                let halted = save.advance(Phase::SaveHalted);
                over.store(true, Ordering::Relaxed);
                (halted, listener.join().unwrap())
            });
            assert_eq!(halted.is_err(), fails, "{halted:?}");
            assert!(heard.is_empty() || fails, "{} times: {}", heard.len(), heard[0]);
            assert_eq!(save.check_sessions().is_err(), fails);
        }
    }
}

/// As c-tests/reports/f01 and f02, in each phase with a session: a reset by others, a reset by the guest, a handle that was freed, ERROR.
#[test]
fn a_member_without_its_session_fails_every_call_that_promises_an_end() {
    type Harm = fn(&Rig);
    let harms: [(&str, Harm, ErrorKind, i32); 4] = [
        (
            "reset and reprobed",
            |rig| {
                rig.fakes[1].reset().unwrap();
                rig.devices[1].reprobe().unwrap();
            },
            ErrorKind::Stale,
            libc::ESTALE,
        ),
        ("reset by the guest", |rig| rig.devices[1].reset().unwrap(), ErrorKind::Stale, libc::ESTALE),
        ("freed", |rig| rig.devices[1].close().unwrap(), ErrorKind::Stale, libc::ENODEV),
        (
            "in ERROR",
            |rig| {
                let nth = rig.fakes[1].count(Access::StateWrite);
                rig.fakes[1].inject(Fault::at(Access::StateWrite, nth, Effect::ToError(libc::EIO)));
                rig.devices[1].set_state(State::Stop, vfiomig::device::OnFailure::Keep, true).unwrap_err();
            },
            ErrorKind::Device,
            libc::EIO,
        ),
    ];
    for (what, harm, kind, errno) in harms {
        for phase in [Phase::SavePreCopy, Phase::SaveStopCopy] {
            for call in ["iterate", "complete", "exact", "sessions"] {
                if call == "complete" && phase == Phase::SavePreCopy {
                    continue;
                }
                let (rig, save) = at(phase, &[both(), both()], 0);
                save.save_iterate(Budget { bytes: 2000, ..PLENTY }, &[], &mut swallow).unwrap();
                harm(&rig);
                let failure = match call {
                    "iterate" => save.save_iterate(PLENTY, &[], &mut swallow).map(drop),
                    "complete" => save.save_complete(&[], &mut swallow).map(drop),
                    "exact" => save.pending_exact().map(drop),
                    _ => save.check_sessions(),
                }
                .unwrap_err();
                assert_eq!(failure.errno(), errno, "{what} {phase} {call}: {failure}");
                assert!(errno == libc::ENODEV || failure.kind() == kind, "{what} {phase} {call}: {failure}");
                assert!(failure.to_string().contains("d1"), "{failure}");
                assert!(!save.pending().ready, "{what}: is no reason to stop the guest");
                if ["iterate", "complete"].contains(&call) {
                    assert_eq!(save.phase(), Phase::Failed);
                    assert!(save.advance(Phase::SaveStopCopy).is_err());
                }
            }
        }
    }
}

/// A read that may have lost bytes fails the migration at once, with what the device said; others do not.
#[test]
fn a_broken_session_fails_the_migration_in_the_call_that_broke_it() {
    for (kind, fails) in [(both(), true), (Config::v1(simdev::Window::Trapped), false)] {
        let (source, save) = at(Phase::SaveStopCopy, &[both(), kind], 0);
        let nth = source.fakes[1].count(Access::DataRead);
        source.fakes[1].inject(Fault::at(Access::DataRead, nth + 1, Effect::Errno(libc::EIO)));
        let failure = save.save_complete(&[], &mut swallow).unwrap_err();
        assert_eq!(failure.errno(), libc::EIO, "{failure}");
        assert_eq!(save.phase() == Phase::Failed, fails);
        assert_eq!(save.check_sessions().is_err(), fails);
        let again = save.save_complete(&[], &mut swallow);
        assert_eq!(again.map(|round| round.flags).ok(), if fails { None } else { Some(vec![END; 2]) });
    }
}

/// A size that cannot be read behind a round is an error, and a device in ERROR is not ready.
#[test]
fn a_failure_behind_a_round_is_reported() {
    for effect in [Effect::ToError(libc::EIO), Effect::Errno(libc::EIO)] {
        let (source, save) = at(Phase::SavePreCopy, &[both(), both()], 0);
        source.fakes[0].inject(Fault::from(Access::PrecopyInfo, 0, effect));
        let failure = save.save_iterate(PLENTY, &[], &mut swallow).unwrap_err();
        assert!(failure.to_string().contains("d0") && failure.errno() == libc::EIO, "{failure}");
        assert!(save.report().unwrap().to_string().contains("save_iterate: d0"), "{}", save.report().unwrap());
        if source.states()[0] == State::Error {
            assert_eq!(save.phase(), Phase::Failed);
            assert!(!save.pending().ready);
        }
    }
}

/// What `get` brought and the device's handle refused is lost: the load cannot go on behind the gap as if nothing had been.
#[test]
fn bytes_that_were_brought_and_refused_end_the_load() {
    let source = Rig::source(&[both()], 1);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&[both()], 1);
    target.allow_abort();
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    let mut next = 0;
    let mut get = |_: usize, buf: &mut [u8]| {
        let Some((bytes, segment_end)) = streams[0].parts.get(next) else { return Ok(Fed::End { total: None }) };
        next += 1;
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
    };
    let mut room = target.devices[0].reserve(None).unwrap();
    assert_eq!(load.load_complete(&[], &mut get).unwrap_err().kind(), ErrorKind::Busy);
    target.devices[0].commit(&mut room, 0, false).ok();
    let failure = load.load_complete(&[], &mut get).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Stale, "{failure}");
    load.abort(AbortTo::Running).unwrap();
}
