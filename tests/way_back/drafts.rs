//! The draft's log, which begins with a session, behind pauses and resumes.

use super::*;

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
    // One that cannot go there is a warning, and is no reason not to run.
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
        let reported: BTreeSet<u64> = source.harvest().into_iter().collect();
        assert_eq!(reported, (0..64).collect(), "refused: {refused}");
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
        let reported: BTreeSet<u64> = source.harvest().into_iter().collect();
        let all = if before { 0..64 } else { 5..6 };
        assert_eq!(reported, all.collect(), "started before: {before}");
        source.fakes[0].dma_write(6).unwrap();
        assert_eq!(source.harvest(), [6]);
    }
}

/// Results of a resume say where the devices are behind it: a draft that saves again, for its log, is in PRE_COPY.
#[test]
fn results_of_a_resume_say_where_drafts_are() {
    for fails in [false, true] {
        let source = Rig::source(&vec![Config::draft(simdev::DraftForm::Rewrite); 2], 0);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SaveTracking).unwrap();
        source.group.pause().unwrap();
        let fake = &source.fakes[1];
        if fails {
            let access = Access::Enter(State::PreCopy);
            fake.inject(Fault::at(access, fake.count(access), Effect::ToError(libc::EIO)));
        }
        let resumed = source.group.resume();
        assert_eq!(resumed.is_err(), fails);
        let results = resumed.map_or_else(|error| error.results().to_vec(), |()| source.group.results().unwrap());
        for (result, fake) in results.iter().zip(&source.fakes) {
            assert_eq!(result.found_state(), Some(fake.state()), "{result:?}");
        }
        let first = &results[0];
        assert_eq!((first.from_state(), first.to_state()), (Some(State::StopCopy), Some(State::PreCopy)), "{first:?}");
    }
}
