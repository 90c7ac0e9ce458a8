//! Reading ahead beside other devices: what it saves, and how much memory it takes.

use super::*;

/// The sum of what devices take one after another becomes the slowest of them, and the report shows it.
#[test]
fn slow_devices_are_read_side_by_side() {
    const SIZE: usize = 256 << 10;
    let slow = || Arc::new(Tap { per_kib: Duration::from_millis(1), zeros: Some(SIZE), ..Tap::default() });
    let (rig, _taps) = with_taps(P2P, 1000, (0..4).map(|_| slow()).collect());
    rig.allow_abort();
    // A machine that is busy with something else has three tries.
    let (save, took) = (0..3).find_map(|_| side_by_side(&rig)).expect("read side by side");
    let report = save.report().unwrap();
    let entry = report.entries.iter().find(|entry| entry.work == EntryKind::ReadAhead).unwrap();
    let sum: Duration = entry.devices.iter().map(|part| part.time).sum();
    assert!(entry.phase == Phase::SaveStopCopy && entry.duration <= took && sum >= entry.duration * 2, "{report}");
    assert!(entry.bytes == 4 * SIZE as u64 && report.devices.iter().all(|part| part.bytes == SIZE as u64), "{report}");
    assert!(report.to_json().contains("\"read_ahead\"") && report.to_string().contains("read_ahead"));
    save.abort(AbortTo::Running).unwrap();
}

/// The second of two saves, which reads ahead, and its time, if that is no more than 0.4 of the first one's.
fn side_by_side(rig: &Rig) -> Option<(Migration, Duration)> {
    let serial = {
        let save = rig.save();
        save.advance(Phase::SaveStopCopy).unwrap();
        let begun = Instant::now();
        rig.devices.iter().for_each(|device| drop(take(device, Take::Peek(usize::MAX))));
        let took = begun.elapsed();
        save.abort(AbortTo::Running).unwrap();
        took
    };
    let save = save_ahead(rig, 2 << 20);
    let begun = Instant::now();
    save.advance(Phase::SaveStopCopy).unwrap();
    rig.devices.iter().for_each(|device| drop(take(device, Take::Peek(usize::MAX))));
    let took = begun.elapsed();
    println!("{took:?} of {serial:?}");
    if took <= serial.mul_f64(0.4) {
        return Some((save, took));
    }
    save.abort(AbortTo::Running).unwrap();
    None
}

/// A device is read as soon as it is in STOP_COPY: it does not wait for one that takes its time to get there.
#[test]
fn reading_begins_beside_the_state_changes_of_others() {
    let (rig, taps) = tapped(P2P, 64 << 10, 2, Duration::ZERO);
    let save = save_ahead(&rig, 1 << 20);
    save.advance(Phase::SaveP2pGrace).unwrap();
    let slow = Effect::Delay(Duration::from_millis(400));
    rig.fakes[1].inject(Fault::from(Access::Enter(State::StopCopy), 0, slow));
    std::thread::scope(|threads| {
        let advance = threads.spawn(|| save.advance(Phase::SaveStopCopy));
        until("the quick device is read", || taps[0].read.load(Ordering::SeqCst) >= 64 << 10);
        assert!(!advance.is_finished() && rig.devices[1].state() != State::StopCopy);
        // What the library has is the caller's already.
        assert!(!take(&rig.devices[0], Take::Read(5000)).0.is_empty());
        advance.join().unwrap().unwrap();
    });
    rig::assert_barriers(&rig.fakes);
    assert!(!take(&rig.devices[1], Take::Read(5000)).0.is_empty());
    rig.assert_clean("beside");
}

/// No read is begun before all that have grace are in it (N5).
#[test]
fn nothing_is_read_before_the_phase() {
    let (rig, taps) = tapped(Caps { p2p: true, pre_copy: true }, 64 << 10, 2, Duration::ZERO);
    let save = save_ahead(&rig, 1 << 20);
    for phase in [Phase::SaveTracking, Phase::SavePreCopy, Phase::SaveP2pGrace] {
        save.advance(phase).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        assert!(taps.iter().all(|tap| tap.reads.load(Ordering::SeqCst) == 0), "{phase}");
    }
    rig.allow_abort();
    save.abort(AbortTo::Running).unwrap();
}

#[test]
fn what_is_read_ahead_is_bounded_exactly_and_shared() {
    const SIZE: usize = 1 << 20;
    for queue_bytes in [3 * LEAST, 100_000, 1 << 20] {
        let (rig, taps) = tapped(P2P, SIZE, 3, Duration::ZERO);
        let save = save_ahead(&rig, queue_bytes);
        let ahead = |taken: usize| taps.iter().map(|tap| tap.read.load(Ordering::SeqCst)).sum::<usize>() - taken;
        save.advance(Phase::SaveStopCopy).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let before = ahead(0);
        assert!(before <= queue_bytes && before >= queue_bytes / 2, "{before} of {queue_bytes}");
        let mut taken = 0;
        for device in &rig.devices {
            loop {
                let chunk = device.peek(0).unwrap();
                let (len, flags) = (chunk.len(), chunk.flags());
                device.consume(chunk, len).unwrap();
                taken += len;
                assert!(ahead(taken) <= queue_bytes);
                if flags.contains(END) {
                    break;
                }
            }
        }
        assert!(taken >= 3 * SIZE);
    }
    let (rig, _) = tapped(P2P, SIZE, 3, Duration::ZERO);
    let refused = |direction, queue_bytes| {
        let options = MigrationOptions { queue_bytes };
        Migration::with_options(Arc::clone(&rig.group), direction, options).unwrap_err().kind()
    };
    assert_eq!(refused(Direction::Save, 3 * LEAST - 1), ErrorKind::Argument);
}

/// Functions that must be called on the caller's thread are.
#[test]
fn a_device_of_one_thread_is_read_on_it() {
    let home = std::thread::current().id();
    let configs = [Config::v2(P2P).state_size(50_000), Config::v2(P2P).state_size(50_000)];
    let rig = Rig::new(&configs, 0, &|fake, i| match i {
        0 => Box::new(Pinned { inner: fake.transport(), home }),
        _ => fake.transport(),
    });
    let save = save_ahead(&rig, 1 << 20);
    save.advance(Phase::SaveStopCopy).unwrap();
    rig.devices.iter().for_each(|device| assert!(take(device, Take::Peek(999)).0.len() >= 50_000));
}

/// A VM that was paused before its devices have to stop: they are in STOP_COPY already, and are read from the phase on.
#[test]
fn a_paused_vm_is_read_as_soon_as_the_phase_begins() {
    let (rig, taps) = tapped(Caps { p2p: true, pre_copy: true }, 40_000, 2, Duration::ZERO);
    rig.allow_abort();
    let save = save_ahead(&rig, 1 << 20);
    save.advance(Phase::SavePreCopy).unwrap();
    rig.group.pause().unwrap();
    assert!(taps.iter().all(|tap| tap.reads.load(Ordering::SeqCst) == 0));
    save.advance(Phase::SaveStopCopy).unwrap();
    for tap in &taps {
        until("it is read without a call", || tap.read.load(Ordering::SeqCst) >= 40_000);
    }
    save.abort(AbortTo::Stop).unwrap();
}

/// Who calls the library with one worker wants no threads.
#[test]
fn a_group_without_workers_is_read_by_its_calls() {
    let tap = Arc::new(Tap::default());
    let of = Arc::clone(&tap);
    let rig = Rig::new(&[Config::v2(P2P).state_size(40_000)], 1, &move |fake, _| {
        Box::new(Tapped { inner: fake.transport(), tap: Arc::clone(&of) })
    });
    rig.allow_abort();
    let save = save_ahead(&rig, 1 << 20);
    save.advance(Phase::SaveStopCopy).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(tap.reads.load(Ordering::SeqCst), 0);
    assert!(rig.devices[0].read(&mut [0; 100]).unwrap().0 > 0);
    save.abort(AbortTo::Running).unwrap();
}
