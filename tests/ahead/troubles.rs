//! Reading ahead when something fails, hangs, or asks something else of the device meanwhile.

use super::*;

/// The bytes before it first, then the error that a caller who reads for itself gets.
#[test]
fn an_error_comes_where_it_happened() {
    for (errno, at) in [(libc::EIO, 0), (libc::EIO, 50_000), (libc::EINTR, 30_000), (libc::ENOMSG, 20_000)] {
        let outcome = |queue_bytes: usize| {
            let (rig, taps) = tapped(P2P, 100_000, 2, Duration::ZERO);
            *taps[0].fails_at.lock().unwrap() = Some((at, errno));
            let save = if queue_bytes > 0 { save_ahead(&rig, queue_bytes) } else { rig.save() };
            save.advance(Phase::SaveStopCopy).unwrap();
            let (mut bytes, mut buf) = (Vec::new(), vec![0; 3000]);
            let error = loop {
                match rig.devices[0].read(&mut buf) {
                    Ok((0, _)) => break None,
                    Ok((len, _)) => bytes.extend_from_slice(&buf[..len]),
                    Err(error) => break Some(error),
                }
            };
            let (first, broken) = (error.map(|error| (error.kind(), error.to_string())), rig.devices[0].info().broken);
            let again = rig.devices[0].read(&mut buf).map_err(|error| error.to_string());
            let sessions = save.check_sessions().map_err(|error| error.to_string());
            assert!(!take(&rig.devices[1], Take::Read(5000)).0.is_empty());
            (bytes, first, broken, again.is_ok(), sessions)
        };
        assert_eq!(outcome(1 << 20), outcome(0), "{errno} at {at}");
        assert_eq!(outcome(2 * LEAST), outcome(0), "{errno} at {at}");
    }
}

/// A read that hangs keeps nothing that only looks, and a caller is told to ask again; a cancel ends its wait.
#[test]
fn a_device_that_hangs_holds_no_caller() {
    let (rig, taps) = tapped(P2P, 64 << 10, 2, Duration::ZERO);
    let save = save_ahead(&rig, 1 << 20);
    taps[0].hang(true);
    save.advance(Phase::SaveStopCopy).unwrap();
    until("it hangs", || taps[0].reads.load(Ordering::SeqCst) > 0);
    let begun = Instant::now();
    let error = rig.devices[0].peek(0).unwrap_err();
    assert!(error.errno() == libc::EAGAIN && begun.elapsed() < LONG, "{error}");
    let asked = rig.devices[0].progress().asked.unwrap();
    assert_eq!(asked.request, vfiomig::device::DeviceRequest::Read);
    assert!(save.pending().stop_copy_bytes.is_some() && save.pending_exact().is_ok());
    // The other one is served.
    assert!(!take(&rig.devices[1], Take::Read(5000)).0.is_empty());
    std::thread::scope(|threads| {
        let peek = threads.spawn(|| rig.devices[0].peek(0).map(|_| ()));
        save.cancel();
        let error = peek.join().unwrap().unwrap_err();
        assert!(matches!(error.errno(), libc::ECANCELED | libc::EAGAIN), "{error}");
        rig.allow_abort();
        let abort = threads.spawn(|| save.abort(AbortTo::Running));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!abort.is_finished(), "a request is with the device");
        taps[0].hang(false);
        abort.join().unwrap().unwrap();
    });
    assert!(rig.states().iter().all(|state| *state == State::Running));
    rig.assert_clean("hang");
}

/// What ends the reading, and whether the rest of the stream can still be had.
#[test]
fn no_read_is_begun_behind_what_ends_it() {
    type End = fn(&Rig, Migration) -> Option<Migration>;
    let ends: [(&str, bool, End); 6] = [
        ("abort", false, |_, save| {
            save.abort(AbortTo::Running).unwrap();
            Some(save)
        }),
        ("free of the migration", true, |_, save| {
            drop(save);
            None
        }),
        ("free of the device", false, |rig, save| {
            rig.devices[0].close().unwrap();
            Some(save)
        }),
        ("reset", false, |rig, save| {
            rig.devices[0].reset().unwrap();
            Some(save)
        }),
        ("state change", false, |rig, save| {
            rig.devices[0].set_state(State::Stop, OnFailure::Keep, false).unwrap();
            Some(save)
        }),
        ("reprobe", false, |rig, save| {
            rig.devices[0].reprobe().unwrap();
            Some(save)
        }),
    ];
    // It is in the middle of its stream, and reads or waits for room.
    let cases = ends.iter().flat_map(|end| [(end, 4 << 20, 20_000), (end, LEAST, LEAST)]);
    for (&(what, goes_on, end), queue_bytes, read) in cases {
        let (rig, taps) = tapped(P2P, 1 << 20, 1, Duration::from_millis(1));
        rig.allow_abort();
        let save = save_ahead(&rig, queue_bytes);
        save.advance(Phase::SaveStopCopy).unwrap();
        let (len, _) = rig.devices[0].read(&mut [0; 100]).unwrap();
        until("it is read", || taps[0].read.load(Ordering::SeqCst) >= read);
        let what = format!("{what}, {queue_bytes} bytes of room");
        let (says, said) = mpsc::channel();
        std::thread::spawn(move || {
            let save = end(&rig, save);
            let _ = says.send((rig, save));
        });
        let (rig, save) = said.recv_timeout(LONG).expect(&what);
        let reads = taps[0].reads.load(Ordering::SeqCst);
        assert_eq!(taps[0].inside.load(Ordering::SeqCst), 0, "{what}: a read is in progress");
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(taps[0].reads.load(Ordering::SeqCst), reads, "{what}");
        if goes_on {
            let mut rest = 0;
            loop {
                match rig.devices[0].read(&mut [0; 9000]).unwrap() {
                    (0, flags) => break assert_eq!(flags, END),
                    (len, _) => rest += len,
                }
            }
            assert_eq!(len + rest, taps[0].read.load(Ordering::SeqCst), "{what}");
        } else {
            assert!(rig.devices[0].read(&mut [0; 100]).is_err(), "{what}");
        }
        drop(save);
    }
}

/// Others look at the device, or ask it for where it is already: it is read on behind them, and nothing of it is lost.
#[test]
fn who_asks_something_else_meanwhile_ends_nothing() {
    let (rig, taps) = tapped(P2P, 300_000, 1, Duration::from_micros(100));
    let save = save_ahead(&rig, 1 << 20);
    save.advance(Phase::SaveStopCopy).unwrap();
    let asking = AtomicBool::new(true);
    let bytes = std::thread::scope(|threads| {
        threads.spawn(|| {
            while asking.load(Ordering::SeqCst) {
                rig.devices[0].observe().unwrap();
                rig.devices[0].set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
                save.pending_exact().unwrap();
            }
        });
        let (bytes, _) = take(&rig.devices[0], Take::Read(777));
        asking.store(false, Ordering::SeqCst);
        bytes
    });
    assert_eq!(bytes.len(), taps[0].read.load(Ordering::SeqCst));
    rig.harvest();
    save.advance(Phase::SaveHalted).unwrap();
    rig.assert_clean("others");
}

/// Another device does not arrive: the migration has failed, and the way back is the same; the next attempt is whole.
#[test]
fn a_device_that_fails_beside_it_costs_nothing() {
    let configs = all_kinds();
    let rig = Rig::source(&configs, 0);
    rig.allow_abort();
    let save = save_ahead(&rig, 4 << 20);
    let fault = Fault::from(Access::Enter(State::Stop), 0, Effect::Errno(libc::EIO));
    rig.fakes[1].inject(fault);
    save.advance(Phase::SaveStopCopy).unwrap_err();
    assert_eq!(save.phase(), Phase::Failed);
    rig.fakes[1].clear_faults();
    save.abort(AbortTo::Running).unwrap();
    assert!(rig.states().iter().all(|state| *state == State::Running));
    let streams = rig.save_all(&save).unwrap();
    let target = Rig::target(&configs, 0);
    target.load_all(&target.load(), &streams).unwrap();
    assert!(target.fakes.iter().zip(&rig.fakes).all(|(a, b)| a.same_content(b)));
    rig.assert_clean("failed");
}

/// Behind a failure nothing more is read: the next call is an abort, which would wait for it.
#[test]
fn a_migration_that_has_failed_reads_no_more() {
    let (rig, taps) = tapped(P2P, 200 << 10, 2, Duration::from_millis(5));
    rig.allow_abort();
    let save = save_ahead(&rig, 128 << 10);
    rig.fakes[1].inject(Fault::from(Access::Enter(State::StopCopy), 0, Effect::Errno(libc::EIO)));
    save.advance(Phase::SaveStopCopy).unwrap_err();
    // What was in progress takes 40 ms, what has room in the queue 320.
    std::thread::sleep(Duration::from_millis(80));
    let reads = taps[0].reads.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(120));
    assert_eq!(taps[0].reads.load(Ordering::SeqCst), reads);
    rig.fakes[1].clear_faults();
    save.abort(AbortTo::Running).unwrap();
}

/// One that goes away while its sizes are asked for, before the first read, is told with its own errno: it is not known to be in
/// ERROR, so nobody is told to reset it.
#[test]
fn a_device_that_goes_away_before_the_first_read_is_told_as_that() {
    let begun = || {
        let rig = Rig::source(&vec![Config::v2(P2P).state_size(5000); 2], 0);
        rig.allow_abort();
        let save = save_ahead(&rig, 1 << 20);
        save.advance(Phase::SaveP2pGrace).unwrap();
        let calls = rig.fakes[1].calls().len();
        (rig, save, calls)
    };
    let (rig, save, before) = begun();
    save.advance(Phase::SaveStopCopy).unwrap();
    save.save_complete(&[], &mut |_| Ok(())).unwrap();
    let calls = rig.fakes[1].calls();
    let sizes = calls.iter().skip(before).position(|call| *call == Access::StopCopySize).unwrap();

    let (rig, save, before) = begun();
    rig.fakes[1].inject(Fault::from(Access::Any, (before + sizes) as u64, Effect::Errno(libc::ENODEV)));
    save.advance(Phase::SaveStopCopy).unwrap();
    let error = save.save_complete(&[], &mut |_| Ok(())).unwrap_err();
    assert_eq!((error.errno(), save.phase()), (libc::ENODEV, Phase::Failed), "{error}");
    assert!(error.to_string().contains("d1") && !error.to_string().contains("reset"), "{error}");
}
