//! Drains that wait: for descriptors, for slow devices, for other calls.

use super::*;

/// Both sides have one worker, and their groups were filled in different orders.
#[test]
fn descriptors_of_devices_in_different_orders_do_not_wait_for_each_other() {
    let configs = [both().state_size(1 << 20), both().state_size(1 << 20)];
    for blocking in [true, false] {
        for (max_source, max_target) in [(1, 1), (1, 0), (0, 1)] {
            let (source, save) = at(Phase::SaveStopCopy, &configs, max_source);
            let target = Rig::target(&configs, max_target);
            let load = target.load();
            load.advance(Phase::LoadResuming).unwrap();
            let (a, b) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
            for stream in [&a.0, &a.1, &b.0, &b.1] {
                stream.set_nonblocking(!blocking).unwrap();
            }
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let outlets = [Outlet::Fd(a.0.as_fd()), Outlet::Fd(b.0.as_fd())];
                    save.save_complete(&outlets, &mut swallow).unwrap();
                    for stream in [&a.0, &b.0] {
                        stream.shutdown(std::net::Shutdown::Both).unwrap();
                    }
                });
                // The other group's first device is the second one here.
                let inlets = [b.1.as_fd(), a.1.as_fd()].map(|fd| Inlet::Fd { fd, total: None });
                load.load_complete(&inlets, &mut |_, _| unreachable!()).unwrap();
            });
            let sent: Vec<u64> = source.devices.iter().map(|device| device.info().saved_bytes).collect();
            let loaded: Vec<u64> = target.devices.iter().map(|device| device.info().loaded_bytes).collect();
            assert_eq!(loaded, [sent[1], sent[0]]);
            target.allow_abort();
            load.abort(AbortTo::Running).unwrap();
        }
    }
}

/// A stalled peer ends the round by time, and by cancel, and the abort of another thread gets through.
#[test]
fn a_stalled_sink_ends_the_round_not_the_vm() {
    let pipes = || std::io::pipe().unwrap();
    for max_workers in [1, 0] {
        let (source, save) = at(Phase::SavePreCopy, &vec![chatty(4 << 20); 2], max_workers);
        let (a, (reader, b)) = (UnixStream::pair().unwrap(), pipes());
        let outlets = [Outlet::Fd(a.0.as_fd()), Outlet::Fd(b.as_fd())];
        let budget = Budget { bytes: u64::MAX, time: Duration::from_millis(200) };
        let begun = Instant::now();
        let round = save.save_iterate(budget, &outlets, &mut swallow).unwrap();
        assert!(
            (Duration::from_millis(150)..Duration::from_secs(2)).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        assert!(round.bytes.iter().all(|bytes| *bytes > 0) && round.flags == [StreamFlags::empty(); 2], "{round:?}");
        let again = save.save_iterate(budget, &outlets, &mut swallow).unwrap();
        assert_eq!((again.bytes, again.flags), (vec![0; 2], vec![StreamFlags::empty(); 2]), "told again");
        save.advance(Phase::SaveStopCopy).unwrap();
        std::thread::scope(|scope| {
            let drain = scope.spawn(|| save.save_complete(&outlets, &mut swallow));
            std::thread::sleep(Duration::from_millis(200));
            let begun = Instant::now();
            save.cancel();
            assert_eq!(drain.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
            save.abort(AbortTo::Running).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        });
        assert_eq!(source.states(), [State::Running; 2]);
        drop((reader, a));
    }
}

/// Slow sinks, slow sources: an abort from another thread ends a drain that waits, without a cancel.
#[test]
fn an_abort_gets_through_to_a_drain_that_waits() {
    for max_workers in [1, 0] {
        let configs = vec![chatty(4 << 20); 2];
        let (source, save) = at(Phase::SaveStopCopy, &configs, max_workers);
        let target = Rig::target(&configs, max_workers);
        target.allow_abort();
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        let (a, b) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let outlets = [Outlet::Fd(a.0.as_fd()), Outlet::Fd(b.0.as_fd())];
        let inlets = [a.0.as_fd(), b.0.as_fd()].map(|fd| Inlet::Fd { fd, total: None });
        std::thread::scope(|scope| {
            let out = scope.spawn(|| save.save_complete(&outlets, &mut swallow).map(drop));
            let into = scope.spawn(|| load.load_complete(&inlets, &mut |_, _| unreachable!()).map(drop));
            std::thread::sleep(Duration::from_millis(200));
            let begun = Instant::now();
            save.abort(AbortTo::Running).unwrap();
            load.abort(AbortTo::Running).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            for drain in [out, into] {
                assert_eq!(drain.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
            }
        });
        for rig in [&source, &target] {
            assert_eq!(rig.states(), [State::Running; 2]);
        }
        // It was the abort's, and is over with it.
        save.advance(Phase::SavePreCopy).unwrap();
        source.devices.iter().for_each(|device| device.restart_stream().unwrap());
        save.save_iterate(Budget { bytes: 1000, ..PLENTY }, &[], &mut swallow).unwrap();
        save.abort(AbortTo::Running).unwrap();
    }
}

/// A descriptor in non-blocking mode that is full ends its device's part of a round, and is waited for by save_complete.
#[test]
fn a_full_socket_is_no_failure_of_the_round() {
    for max_workers in [1, 0] {
        let (source, save) = at(Phase::SavePreCopy, &vec![chatty(1 << 20); 2], max_workers);
        let (to, mut from) = UnixStream::pair().unwrap();
        to.set_nonblocking(true).unwrap();
        let file = tempfile::tempfile().unwrap();
        let outlets = [Outlet::Fd(to.as_fd()), Outlet::Fd(file.as_fd())];
        let begun = Instant::now();
        let round = save.save_iterate(PLENTY, &outlets, &mut swallow).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(round.flags, [StreamFlags::empty(), EMPTY], "{round:?}");
        assert!(round.bytes[0] > 0);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            from.read_to_end(&mut all).map(|_| all.len() as u64).unwrap()
        });
        save.advance(Phase::SaveStopCopy).unwrap();
        save.save_complete(&outlets, &mut swallow).unwrap();
        drop(to);
        assert_eq!(reader.join().unwrap(), source.devices[0].info().saved_bytes);
    }
}

/// Nothing moves at all: after the library's patience the call says so, nothing is lost, and it can be made again.
#[test]
fn a_drain_that_moves_nothing_ends() {
    for max_workers in [1, 0] {
        set_caller_patience(Duration::from_millis(300));
        let (source, save) = at(Phase::SaveStopCopy, &vec![both().state_size(2 << 20); 2], max_workers);
        let target = Rig::target(&vec![both().state_size(2 << 20); 2], max_workers);
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        let (a, b) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let outlets = [Outlet::Fd(a.0.as_fd()), Outlet::Fd(b.0.as_fd())];
        let failure = save.save_complete(&outlets, &mut swallow).unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::System, libc::ETIMEDOUT), "{failure}");
        assert_eq!(save.phase(), Phase::SaveStopCopy);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                save.save_complete(&outlets, &mut swallow).unwrap();
            });
            let total = Some(3 << 20);
            let inlets = [a.1.as_fd(), b.1.as_fd()].map(|fd| Inlet::Fd { fd, total });
            let failure = load.load_complete(&inlets, &mut |_, _| unreachable!()).unwrap_err();
            assert_eq!((failure.kind(), failure.errno()), (ErrorKind::System, libc::ETIMEDOUT), "{failure}");
        });
        let ends = [&a.1, &b.1];
        let inlets: Vec<Inlet<'_>> = ends
            .iter()
            .zip(&source.devices)
            .map(|(stream, device)| Inlet::Fd { fd: stream.as_fd(), total: Some(device.info().saved_bytes) })
            .collect();
        load.load_complete(&inlets, &mut |_, _| unreachable!()).unwrap();
        load.advance(Phase::LoadRunning).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
        set_caller_patience(Duration::from_secs(60));
    }
}

/// A device that takes nothing for longer than one call waits is asked again by load_complete, and no byte is lost; a cancel
/// ends that, and the session, for the bytes cannot be brought again.
#[test]
fn load_complete_waits_for_a_device_that_takes_its_time() {
    for canceled in [false, true] {
        let source = Rig::source(&[both()], 1);
        let streams = source.save_all(&source.save()).unwrap();
        let target = Rig::target(&[both()], 1);
        target.allow_abort();
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        let nth = target.fakes[0].count(Access::DataWrite) + 1;
        let times = if canceled { u64::MAX } else { 3000 };
        let fault = Fault { access: Access::DataWrite, nth, times, effect: Effect::Errno(libc::EAGAIN) };
        target.fakes[0].inject(fault);
        let mut next = 0;
        std::thread::scope(|scope| {
            if canceled {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(1200));
                    load.cancel();
                });
            }
            let outcome = load.load_complete(&[], &mut |_, buf| {
                let Some((bytes, segment_end)) = streams[0].parts.get(next) else {
                    return Ok(Fed::End { total: Some(Stream::len(&streams[0]) as u64) });
                };
                next += 1;
                buf[..bytes.len()].copy_from_slice(bytes);
                Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
            });
            assert_eq!(outcome.is_err(), canceled, "{outcome:?}");
        });
        if canceled {
            assert_eq!(target.devices[0].write(&[0; 4], false).unwrap_err().kind(), ErrorKind::Stale);
            load.abort(AbortTo::Running).unwrap();
        } else {
            load.advance(Phase::LoadRunning).unwrap();
            assert!(target.fakes[0].same_content(&source.fakes[0]));
        }
    }
}

/// A slow device of the calling thread holds the pieces of the others up by little.
#[test]
fn a_slow_pinned_device_does_not_hold_the_others() {
    let home = std::thread::current().id();
    let config = Config { max_io: 4096, ..Config::v2(Caps::default()).state_size(200_000) };
    let seeded: Vec<Config> = (1..4).map(|seed| config.clone().seeded(seed)).collect();
    let measure = || {
        let rig = Rig::new(&seeded, 0, &|fake, i| match i {
            0 => Box::new(Pinned { inner: fake.transport(), home }),
            _ => fake.transport(),
        });
        rig.allow_abort();
        let save = rig.save();
        save.advance(Phase::SaveStopCopy).unwrap();
        let nth = rig.fakes[0].count(Access::DataRead);
        rig.fakes[0].inject(Fault::from(Access::DataRead, nth, Effect::Delay(Duration::from_millis(10))));
        let (mut last, begun) = ([Duration::ZERO; 3], Instant::now());
        save.save_complete(&[], &mut |piece| {
            last[piece.device] = begun.elapsed();
            Ok(())
        })
        .unwrap();
        last
    };
    let last = (0..3).map(|_| measure()).min_by_key(|last| last[1].max(last[2])).unwrap();
    assert!(last[1].max(last[2]) * 3 < last[0], "{last:?}");
}

/// Threads that wait for a device cost nothing.
#[test]
fn sixty_five_devices_take_as_long_as_sixty_four() {
    let measure = |count: usize| {
        let (source, save) = at(Phase::SavePreCopy, &vec![both().state_size(300); count], 0);
        slow(&source, Access::StateWrite, Duration::from_millis(40));
        let begun = Instant::now();
        save.advance(Phase::SaveP2pGrace).unwrap();
        let took = begun.elapsed();
        drop(source);
        took
    };
    let best = |count| (0..4).map(|_| measure(count)).min().unwrap();
    assert!(best(65) < Duration::from_millis(75), "a second batch of devices waited for the first");
}

/// A drain waits for a call of a statistics thread.
#[test]
fn a_drain_waits_for_a_device_call() {
    let streams = {
        let source = Rig::source(&[both()], 1);
        source.save_all(&source.save()).unwrap()
    };
    let (source, save) = at(Phase::SaveStopCopy, &[both()], 1);
    source.fakes[0].inject(Fault::from(Access::StopCopySize, 0, Effect::Delay(Duration::from_millis(200))));
    let device = Arc::clone(&source.devices[0]);
    std::thread::scope(|scope| {
        scope.spawn(move || device.pending_exact());
        std::thread::sleep(Duration::from_millis(50));
        save.save_complete(&[], &mut swallow).unwrap();
    });
    let target = Rig::target(&[both()], 1);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    target.fakes[0].inject(Fault::from(Access::StopCopySize, 0, Effect::Delay(Duration::from_millis(200))));
    let device = Arc::clone(&target.devices[0]);
    std::thread::scope(|scope| {
        scope.spawn(move || device.pending_exact());
        std::thread::sleep(Duration::from_millis(50));
        let mut fed = streams[0].parts.iter();
        load.load_complete(&[], &mut |_, buf| match fed.next() {
            Some((bytes, segment_end)) => {
                buf[..bytes.len()].copy_from_slice(bytes);
                Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
            }
            None => Ok(Fed::End { total: Some(Stream::len(&streams[0]) as u64) }),
        })
        .unwrap();
    });
}

/// The same from a descriptor, and in the middle of what it brought.
#[test]
fn load_complete_from_a_descriptor_waits_for_a_device_that_takes_its_time() {
    let source = Rig::source(&[both()], 1);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&[both()], 1);
    target.allow_abort();
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    let nth = target.fakes[0].count(Access::DataWrite) + 1;
    for nth in [nth, nth + 3000 + 2] {
        let fault = Fault { access: Access::DataWrite, nth, times: 3000, effect: Effect::Errno(libc::EAGAIN) };
        target.fakes[0].inject(fault);
    }
    let (mut near, far) = UnixStream::pair().unwrap();
    let total = streams[0].parts.iter().map(|(bytes, _)| bytes.len() as u64).sum();
    for (bytes, _) in &streams[0].parts {
        std::io::Write::write_all(&mut near, bytes).unwrap();
    }
    load.load_complete(&[Inlet::Fd { fd: far.as_fd(), total: Some(total) }], &mut |_, _| unreachable!()).unwrap();
    load.advance(Phase::LoadRunning).unwrap();
    assert!(target.fakes[0].same_content(&source.fakes[0]));
}
