//! What ends a load while bytes are on their way: failures, aborts, cancels, frees.

use super::*;

#[test]
fn what_a_device_refuses_is_reported_in_the_next_call_for_it() {
    for mix in mixes(&kinds(), 1) {
        let (_, streams) = streams_of(&mix);
        // The text of the same failure without a queue.
        let direct = {
            let (target, _load) = resuming(&mix, 0);
            from_now(&target.fakes[0], Access::DataWrite, Effect::Errno(libc::EIO));
            give(&target.devices[0], &streams[0], By::Write).unwrap_err()
        };
        let (target, load) = resuming(&mix, MIB);
        let device = &target.devices[0];
        from_now(&target.fakes[0], Access::DataWrite, Effect::Errno(libc::EIO));
        let (bytes, end) = &streams[0].parts[0];
        device.write(bytes, *end).unwrap();
        let begun = Instant::now();
        let failure = loop {
            if let Err(error) = device.write(&[], false) {
                break error;
            }
            assert!(begun.elapsed() < Duration::from_secs(5));
            std::thread::yield_now();
        };
        assert_eq!((failure.kind(), failure.to_string()), (direct.kind(), direct.to_string()));
        assert!(failure.to_string().starts_with("d0: "), "{failure}");
        assert!(device.info().broken);
        assert_eq!(device.write(&[0], false).unwrap_err().kind(), ErrorKind::Stale);
        assert_eq!(device.finish(None).unwrap_err().kind(), ErrorKind::Stale);
        assert_eq!(load.load_done(device, None).unwrap_err().kind(), ErrorKind::Stale);
        assert_eq!(load.phase(), Phase::LoadResuming, "as without a queue, the VMM aborts");
        load.abort(AbortTo::Running).unwrap();
        assert_eq!(target.states(), [State::Running]);
    }
}

/// The stream had its end, and what comes of it is not known yet: no success is said of it.
#[test]
fn what_fails_behind_the_end_fails_the_load_and_names_the_device() {
    for mix in mixes(&kinds(), 1) {
        let mix = [mix[0].clone(), both()];
        let (_, streams) = streams_of(&mix);
        let v2 = rig::kind(&mix[0]) == DialectKind::V2;
        // A write late in the stream, and where v2 validates it.
        for access in [Access::DataWrite, Access::StateWrite] {
            if access == Access::StateWrite && !v2 {
                continue;
            }
            for by_advance in [true, false] {
                let (target, load) = resuming(&mix, MIB);
                let what = format!("{:?} {access:?} {by_advance}", mix[0].dialect);
                let fake = &target.fakes[0];
                from_now(fake, Access::DataWrite, Effect::Delay(Duration::from_millis(20)));
                let nth = fake.count(access) + u64::from(access == Access::DataWrite);
                fake.inject(Fault { access, nth, times: 1, effect: Effect::Errno(libc::EIO) });
                give(&target.devices[0], &streams[0], By::Write).unwrap();
                if by_advance {
                    target.devices[0].finish(len(&streams[0])).unwrap();
                } else {
                    assert!(!load.load_done(&target.devices[0], len(&streams[0])).unwrap(), "{what}");
                }
                give(&target.devices[1], &streams[1], By::Write).unwrap();
                let failure = if by_advance {
                    target.devices[1].finish(len(&streams[1])).unwrap();
                    load.advance(Phase::LoadRunning).unwrap_err()
                } else {
                    load.load_done(&target.devices[1], len(&streams[1])).unwrap_err()
                };
                assert!(failure.to_string().starts_with("LOAD_LOADED: d0: "), "{what}: {failure}");
                assert_eq!((failure.errno(), load.phase()), (libc::EIO, Phase::Failed), "{what}");
                load.abort(AbortTo::Running).unwrap();
                assert_eq!(target.states(), [State::Running; 2]);
                fake.clear_faults();
                target.load_all(&load, &streams).unwrap();
            }
        }
    }
}

#[test]
fn streams_that_were_cut_or_altered_are_refused() {
    for mix in mixes(&kinds(), 1) {
        let (_, streams) = streams_of(&mix);
        let (target, load) = resuming(&mix, MIB);
        let device = &target.devices[0];
        let mut cut = streams[0].clone();
        cut.parts.pop();
        give(device, &cut, By::Write).unwrap();
        let failure = load.load_done(device, len(&streams[0])).unwrap_err();
        assert_eq!((failure.kind(), load.phase()), (ErrorKind::Incomplete, Phase::LoadResuming));
        // What is missing may still come.
        let (bytes, end) = streams[0].parts.last().unwrap();
        device.write(bytes, *end).unwrap();
        assert!(load.load_done(device, len(&streams[0])).unwrap());
        load.advance(Phase::LoadRunning).unwrap();
        target.assert_clean("cut");

        let mut altered = streams[0].clone();
        let last = altered.parts.len() / 2;
        altered.parts[last].0[0] ^= 1;
        let (target, load) = resuming(&mix, MIB);
        give(&target.devices[0], &altered, By::Write).unwrap();
        let done = load.load_done(&target.devices[0], len(&altered));
        let reported = done.and_then(|_| load.advance(Phase::LoadRunning));
        assert!(reported.is_err(), "{:?}", mix[0].dialect);
    }
}

#[test]
fn an_abort_in_the_middle_leaves_nothing_behind() {
    let mix = kinds();
    let (source, streams) = streams_of(&mix);
    // Behind so many devices whose ends were stated.
    for ended in [0, 1, 4, 6] {
        let target = named(&mix, &format!("a{ended}"));
        let load = load_of(&target, MIB);
        for fake in &target.fakes {
            from_now(fake, Access::DataWrite, Effect::Delay(Duration::from_millis(5)));
            from_now(fake, Access::StateWrite, Effect::Delay(Duration::from_millis(5)));
        }
        for (device, stream) in target.devices.iter().zip(&streams).take(ended) {
            give(device, stream, By::Write).unwrap();
            load.load_done(device, len(stream)).unwrap();
        }
        let (bytes, end) = &streams[ended].parts[0];
        target.devices[ended].write(bytes, *end).unwrap();
        load.abort(AbortTo::Running).unwrap();
        assert_eq!(target.states(), vec![State::Running; mix.len()]);
        no_threads(&target, "abort");
        target.fakes.iter().for_each(simdev::Device::clear_faults);
        load.advance(Phase::LoadResuming).unwrap();
        for (device, stream) in target.devices.iter().zip(&streams) {
            give(device, stream, By::Write).unwrap();
            load.load_done(device, len(stream)).unwrap();
        }
        load.advance(Phase::LoadRunning).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
        target.assert_clean("again");
    }
}

#[test]
fn its_threads_end_with_what_ends_the_load() {
    let mix = [both(), kinds()[4].clone()];
    let (_, streams) = streams_of(&mix);
    type End = fn(&Rig, Migration) -> Option<Migration>;
    let ends: [(&str, End); 6] = [
        ("finish", |target, load| {
            target.devices.iter().for_each(|device| device.finish(None).unwrap());
            Some(load)
        }),
        ("abort", |_, load| {
            load.abort(AbortTo::Running).unwrap();
            Some(load)
        }),
        ("cancel", |_, load| {
            load.cancel();
            Some(load)
        }),
        ("reset", |target, load| {
            target.devices.iter().for_each(|device| device.reset().unwrap());
            Some(load)
        }),
        ("free of the migration", |_, load| {
            drop(load);
            None
        }),
        ("free of the devices", |target, load| {
            target.devices.iter().for_each(|device| device.close().unwrap());
            Some(load)
        }),
    ];
    for (n, (what, end)) in ends.into_iter().enumerate() {
        let target = named(&mix, &format!("e{n}"));
        let load = load_of(&target, MIB);
        for (device, stream) in target.devices.iter().zip(&streams) {
            give(device, stream, By::Write).unwrap();
        }
        let begun = Instant::now();
        // A thread has its name only when it runs.
        while threads(&target) < 2 {
            assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {} threads", threads(&target));
            std::thread::yield_now();
        }
        let load = end(&target, load);
        no_threads(&target, what);
        drop(load);
    }
    // An error.
    let target = named(&mix, "f");
    let load = load_of(&target, MIB);
    from_now(&target.fakes[0], Access::DataWrite, Effect::Errno(libc::EIO));
    give(&target.devices[0], &streams[0], By::Write).ok();
    no_threads(&target, "error");
    drop(load);
}

/// A load that is freed with bytes on their way: the device is not to be taken for one that has its stream.
#[test]
fn what_was_lost_on_its_way_breaks_the_session() {
    let (_, streams) = streams_of(&[both()]);
    let (target, load) = resuming(&[both()], MIB);
    from_now(&target.fakes[0], Access::DataWrite, Effect::Delay(Duration::from_millis(100)));
    give(&target.devices[0], &streams[0], By::Write).unwrap();
    drop(load);
    let device = &target.devices[0];
    let failure = device.finish(None).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Stale, "{failure}");
    assert!(device.set_state(State::Stop, vfiomig::device::OnFailure::Keep, false).is_err());
}

/// The same where the thread of the load has taken the bytes, and waits for another call on the device to give them to it.
#[test]
fn what_was_in_hand_is_lost_too() {
    let (_, streams) = streams_of(&[both()]);
    let (target, load) = resuming(&[both()], MIB);
    let (device, fake) = (&target.devices[0], &target.fakes[0]);
    let slow = Effect::Delay(Duration::from_millis(500));
    fake.inject(Fault { access: Access::StateRead, nth: fake.count(Access::StateRead), times: 1, effect: slow });
    std::thread::scope(|scope| {
        scope.spawn(|| device.observe().unwrap());
        std::thread::sleep(Duration::from_millis(100));
        device
            .write(&streams[0].parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<u8>>(), false)
            .unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(load);
    });
    assert_eq!(device.info().loaded_bytes, 0);
    let failure = device.finish(None).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Stale, "{failure}");
    assert!(device.set_state(State::Stop, vfiomig::device::OnFailure::Keep, false).is_err());
}

#[test]
fn a_device_that_hangs_is_seen_and_holds_up_no_other() {
    let mix = vec![both(); 2];
    let (_, streams) = streams_of(&mix);
    let (target, load) = resuming(&mix, MIB);
    let hang = Duration::from_millis(1500);
    let nth = target.fakes[0].count(Access::DataWrite);
    target.fakes[0].inject(Fault { access: Access::DataWrite, nth, times: 1, effect: Effect::Delay(hang) });
    let begun = Instant::now();
    for (device, stream) in target.devices.iter().zip(&streams) {
        give(device, stream, By::Write).unwrap();
    }
    assert!(!load.load_done(&target.devices[1], len(&streams[1])).unwrap());
    assert!(begun.elapsed() < hang, "{:?}", begun.elapsed());
    let write = Some(vfiomig::device::DeviceRequest::Write);
    while target.group.progress()[0].asked.map(|asked| asked.request) != write {
        assert!(begun.elapsed() < hang, "nobody sees what it does");
        std::thread::yield_now();
    }
    // Whoever needs it waits for it, as without a queue.
    assert!(load.load_done(&target.devices[0], len(&streams[0])).unwrap());
    assert!(begun.elapsed() >= hang);
    load.advance(Phase::LoadRunning).unwrap();
    target.assert_clean("hang");
}

#[test]
fn a_cancel_or_an_abort_ends_the_wait_for_what_is_on_its_way() {
    for abort in [false, true] {
        let mix = vec![both(); 2];
        let (_, streams) = streams_of(&mix);
        let (target, load) = resuming(&mix, MIB);
        from_now(&target.fakes[0], Access::DataWrite, Effect::Errno(libc::EAGAIN));
        for (device, stream) in target.devices.iter().zip(&streams) {
            give(device, stream, By::Write).unwrap();
        }
        assert!(!load.load_done(&target.devices[0], len(&streams[0])).unwrap());
        std::thread::scope(|scope| {
            let last = scope.spawn(|| load.load_done(&target.devices[1], len(&streams[1])));
            std::thread::sleep(Duration::from_millis(100));
            assert!(!last.is_finished());
            let begun = Instant::now();
            if abort {
                load.abort(AbortTo::Running).unwrap();
            } else {
                load.cancel();
            }
            let failure = last.join().unwrap().unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::Canceled, "{failure}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        });
        if !abort {
            load.abort(AbortTo::Running).unwrap();
        }
        assert_eq!((load.phase(), target.states()), (Phase::Idle, vec![State::Running; 2]));
    }
}
