//! Readiness, sizes and estimates.

use super::*;

#[test]
fn readiness_waits_for_initial_data_and_for_nothing_else() {
    let configs = [
        both(),
        Config { has_precopy_info: false, precopy_end: PrecopyEnd::Zero, ..both() },
        Config::v2(Caps::default()),
        Config::v1(Window::Trapped),
    ];
    let source = Rig::source(&configs, 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let note = |part: &str| save.pending().reasons.iter().any(|note| note.contains(part));
    save.pending_exact().unwrap();
    let pending = save.pending();
    assert!(!pending.ready && note("d0: not ready") && note("d1: not ready") && note("d3: not ready"), "{pending:?}");
    assert!(!note("d2: not ready"), "without PRE_COPY nothing is waited for");
    assert_eq!((pending.initial_bytes, pending.saved_bytes), (None, 0));
    let mut streams = vec![Stream::default(); 4];
    source.drain_all(&mut streams).unwrap();
    save.pending_exact().unwrap();
    let pending = save.pending();
    assert!(pending.ready, "{pending:?}");
    assert_eq!(pending.saved_bytes, streams.iter().map(|stream| stream.len() as u64).sum::<u64>());
    // Dirty data never blocks (C5), new initial data does (C9).
    source.fakes[0].redirty(9).unwrap();
    save.pending_exact().unwrap();
    assert!(save.pending().ready);
}

#[test]
fn reinit_arms_readiness_again() {
    let source = Rig::source(&[Config { opt_in: true, ..both() }], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let mut streams = vec![Stream::default(); 1];
    source.drain_all(&mut streams).unwrap();
    assert!(save.pending_exact().unwrap().ready);
    source.fakes[0].reinit();
    let pending = save.pending_exact().unwrap();
    assert!(!pending.ready && pending.reinit_count == 1, "{pending:?}");
}

#[test]
fn the_estimate_names_what_it_does_not_know() {
    let source = Rig::source(&[both(), both()], 0);
    source.allow_abort();
    let save = source.save();
    let nothing = save.estimate(EstimateInput::default()).unwrap();
    assert_eq!((nothing.downtime, nothing.transition, nothing.transfer), (None, None, None));
    assert!(nothing.reasons.iter().any(|note| note.contains("bandwidth")));
    assert!(nothing.reasons.iter().any(|note| note.contains("d0") && note.contains("state changes")));
    assert!(save.estimate(EstimateInput { bytes_per_second: Some(0), ..EstimateInput::default() }).is_err());
    // A pause measures the transitions.
    let delay = Duration::from_millis(10);
    let faults: Vec<_> = source
        .fakes
        .iter()
        .map(|fake| fake.inject(Fault { access: Access::StateWrite, nth: 0, times: 4, effect: Effect::Delay(delay) }))
        .collect();
    source.group.pause().unwrap();
    source.group.resume().unwrap();
    assert!(source.fakes.iter().zip(faults).all(|(fake, fault)| fake.fault_reached(fault) == 4));
    save.advance(Phase::SavePreCopy).unwrap();
    let pending = save.pending_exact().unwrap();
    // What pre-copy would bring is in it.
    let bytes = pending.stop_copy_bytes.unwrap();
    assert!(bytes >= pending.initial_bytes.unwrap() + pending.dirty_bytes.unwrap());
    let given = EstimateInput { bytes_per_second: Some(1000), other_bytes: 500, ..EstimateInput::default() };
    let estimate = save.estimate(given).unwrap();
    assert_eq!(estimate.bytes, Some(bytes + 500));
    assert_eq!(estimate.transfer, Some(Duration::from_millis(bytes + 500)));
    let transition = estimate.transition.unwrap();
    assert!(transition >= delay * 2 && transition < delay * 10, "two barriers: {transition:?}");
    assert_eq!(estimate.downtime, Some(transition + estimate.transfer.unwrap()));
    assert_eq!((estimate.unknown, estimate.unknown_devices), (Lacks::empty(), 0));
    assert!(estimate.reasons.iter().all(|note| note.contains("not ready")), "{:?}", estimate.reasons);
    let given = EstimateInput { transition: Some(Duration::from_secs(1)), ..given };
    assert_eq!(save.estimate(given).unwrap().transition, Some(Duration::from_secs(1)));
}

#[test]
fn unknown_is_never_zero() {
    let source = Rig::source(&[Config { has_data_size: false, ..Config::v2(Caps::default()) }], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let pending = save.pending_exact().unwrap();
    assert_eq!(pending.stop_copy_bytes, None);
    assert!(pending.reasons.iter().any(|note| note.contains("d0: stop-copy bytes unknown")));
    let given = EstimateInput { bytes_per_second: Some(1), ..EstimateInput::default() };
    let estimate = save.estimate(given).unwrap();
    assert_eq!((estimate.bytes, estimate.transfer, estimate.downtime), (None, None, None));
    assert_eq!(estimate.unknown, Lacks::BYTES | Lacks::TRANSITION);
}

/// The stop-copy size contains what pre-copy would bring.
#[test]
fn data_of_precopy_is_counted_once() {
    let size = 1 << 20;
    let source = Rig::source(&vec![Config { precopy: Precopy::Everything, ..both().state_size(size) }; 2], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    save.pending_exact().unwrap();
    let given =
        EstimateInput { bytes_per_second: Some(1 << 20), transition: Some(Duration::from_millis(1)), other_bytes: 0 };
    let estimate = save.estimate(given).unwrap();
    save.advance(Phase::SaveStopCopy).unwrap();
    let mut came = 0;
    save.save_complete(&[], &mut |piece| {
        came += piece.bytes.len() as u64;
        Ok(())
    })
    .unwrap();
    let (said, slack) = (estimate.bytes.unwrap(), 2 * 16 * 1024);
    assert!(said >= 2 * size as u64 && said.abs_diff(came) < slack, "{said} estimated, {came} came");
    save.abort(AbortTo::Running).unwrap();
    // Where it is not known, what pre-copy would bring is the least.
    let source = Rig::source(&[Config { has_data_size: false, precopy: Precopy::Everything, ..both() }], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let pending = save.pending_exact().unwrap();
    let estimate = save.estimate(given).unwrap();
    assert_eq!(estimate.bytes, Some(pending.initial_bytes.unwrap() + pending.dirty_bytes.unwrap()));
    assert_eq!((estimate.unknown, estimate.unknown_devices), (Lacks::BYTES, 1));
}

/// One device that cannot tell, or a first migration, leaves the other parts as they are.
#[test]
fn an_estimate_is_the_least_where_a_part_is_unknown() {
    let configs = [both(), both(), Config::v1(Window::Trapped)];
    let source = Rig::source(&configs, 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    save.pending_exact().unwrap();
    let sizes: Vec<u64> = source
        .devices
        .iter()
        .map(|device| {
            let now = device.pending();
            now.stop_copy_bytes.or(now.dirty_bytes).unwrap()
        })
        .collect();
    let given = EstimateInput { bytes_per_second: Some(1000), ..EstimateInput::default() };
    let estimate = save.estimate(given).unwrap();
    let sum = sizes.iter().sum();
    assert_eq!((estimate.bytes, estimate.transfer), (Some(sum), Some(Duration::from_millis(sum))));
    assert_eq!((estimate.transition, estimate.downtime), (None, estimate.transfer));
    assert_eq!((estimate.unknown, estimate.unknown_devices), (Lacks::BYTES | Lacks::TRANSITION, 3));
    assert!(
        estimate.reasons.iter().any(|note| note.contains("d2: not ready: it does not say")),
        "{:?}",
        estimate.reasons
    );
    // A device that was measured counts, also beside one that was not.
    save.abort(AbortTo::Running).unwrap();
    drop(save);
    let delay = Duration::from_millis(20);
    source.fakes[0].inject(Fault { access: Access::StateWrite, nth: 0, times: 99, effect: Effect::Delay(delay) });
    source.group.pause().unwrap();
    source.group.resume().unwrap();
    source.group.add_device(Arc::new(fresh("d3"))).unwrap();
    source.group.add_tracker(Arc::new(all_dirty())).unwrap();
    let save = source.save();
    let estimate = save.estimate(given).unwrap();
    let transition = estimate.transition.unwrap();
    assert!(transition >= delay * 2, "{transition:?}");
    assert!(estimate.unknown.contains(Lacks::TRANSITION));
    assert!(estimate.reasons.iter().any(|note| note.contains("d3: how long")), "{:?}", estimate.reasons);
}

/// A device beside those of a rig.
fn fresh(name: &str) -> Device {
    let options = device::DeviceOptions { name: name.into(), ..device::DeviceOptions::default() };
    Device::new(simdev::Device::new(both()).transport(), options).unwrap()
}

fn all_dirty() -> tracker::Tracker {
    tracker::Tracker::new(tracker::TrackerOptions { everything: true, ..tracker::TrackerOptions::default() }).unwrap()
}

/// RESUMING -> STOP judges a stream, RUNNING -> STOP does not; STOP -> RUNNING_P2P is no RUNNING -> RUNNING_P2P.
#[test]
fn a_load_says_nothing_of_how_long_a_save_takes() {
    let source = Rig::source(&kinds(), 0);
    let streams = source.save_all(&source.save()).unwrap();
    let target = Rig::target(&kinds(), 0);
    target.allow_abort();
    for fake in &target.fakes {
        fake.inject(Fault::from(Access::StateWrite, 0, Effect::Delay(Duration::from_millis(30))));
    }
    {
        let load = target.load();
        load.advance(Phase::LoadResuming).unwrap();
        load.abort(AbortTo::Stop).unwrap();
        target.load_all(&load, &streams).unwrap();
    }
    target.fakes.iter().for_each(simdev::Device::clear_faults);
    let save = target.save();
    for phase in [Phase::Idle, Phase::SavePreCopy] {
        if phase != Phase::Idle {
            save.advance(phase).unwrap();
        }
        let estimate = save.estimate(EstimateInput::default()).unwrap();
        assert_eq!((estimate.transition, estimate.unknown_devices), (None, kinds().len()), "{estimate:?}");
    }
    // What the group does for its guest counts; a resume takes other times than a pause.
    save.abort(AbortTo::Running).unwrap();
    target.group.pause().unwrap();
    for fake in &target.fakes {
        fake.inject(Fault::from(Access::StateWrite, 0, Effect::Delay(Duration::from_millis(30))));
    }
    target.group.resume().unwrap();
    let transition = save.estimate(EstimateInput::default()).unwrap().transition.unwrap();
    assert!(transition < Duration::from_millis(30), "{transition:?}");
}

/// What is left goes down with what is read, to 0.
#[test]
fn what_is_left_ends_at_0() {
    let size = 100_000;
    let source = Rig::source(&kinds().into_iter().map(|config| config.state_size(size)).collect::<Vec<_>>(), 0);
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    save.pending_exact().unwrap();
    save.advance(Phase::SaveStopCopy).unwrap();
    save.pending_exact().unwrap();
    let left = || save.pending().stop_copy_bytes;
    let (first, mut buf) = (left().unwrap(), [0; 1000]);
    let mut read = 0;
    for device in &source.devices {
        while read < 30_000 * (1 + device.name()[1..].parse::<u64>().unwrap()) {
            read += device.read(&mut buf).unwrap().0 as u64;
        }
    }
    assert_eq!(left(), Some(first - read));
    // Drivers that go on to say how much it was (hisi_acc, qat, mtty) are not asked again.
    let v2 = || source.devices[0].pending_exact().unwrap().stop_copy_bytes.unwrap();
    assert!(v2() < size as u64 - 20_000, "{}", v2());
    let given = EstimateInput { bytes_per_second: Some(1), ..EstimateInput::default() };
    let reckoned = save.estimate(given).unwrap();
    assert!(reckoned.bytes.unwrap() <= first - read && reckoned.unknown.is_empty(), "{reckoned:?}");
    save.save_complete(&[], &mut |_| Ok(())).unwrap();
    assert_eq!(left(), Some(0));
    assert_eq!(save.estimate(given).unwrap().downtime, Some(Duration::ZERO));
    source.harvest();
    save.advance(Phase::SaveHalted).unwrap();
    assert_eq!(left(), Some(0));
    // The next one has everything left again.
    save.abort_without_second_guest(AbortTo::Running).unwrap();
    save.advance(Phase::SavePreCopy).unwrap();
    assert_ne!(left(), Some(0));
    source.allow_abort();
}

/// A size that was too small is not known any more; it is never 0 before the END.
#[test]
fn a_size_that_was_wrong_is_unknown() {
    let source = Rig::source(&[Config::v2(Caps::default()).state_size(50_000)], 0);
    let sizes = source.fakes[0].count(Access::StopCopySize);
    source.fakes[0].inject(Fault { access: Access::StopCopySize, nth: sizes, times: 1, effect: Effect::Lie(10_000) });
    let save = source.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    assert_eq!(save.pending_exact().unwrap().stop_copy_bytes, Some(10_000));
    let (mut buf, mut read) = ([0; 1000], 0);
    while read < 20_000 {
        read += source.devices[0].read(&mut buf).unwrap().0 as u64;
        assert_eq!(save.pending().stop_copy_bytes, 10_000u64.checked_sub(read));
    }
    source.allow_abort();
}

/// What a channel takes is not measured while devices have nothing for it.
#[test]
fn the_rate_is_that_of_the_time_with_bytes() {
    let source = Rig::source(&[Config { precopy: Precopy::Everything, ..both().state_size(100_000) }], 0);
    source.allow_abort();
    let save = source.save();
    save.advance(Phase::SavePreCopy).unwrap();
    let wait = Duration::from_millis(200);
    source.fakes[0].inject(Fault::from(Access::PrecopyInfo, 0, Effect::Delay(wait)));
    let plenty = Budget { bytes: u64::MAX, time: Duration::from_secs(60) };
    let round = save.save_iterate(plenty, &[], &mut |_| Ok(())).unwrap();
    let rate = save.estimate(EstimateInput::default()).unwrap().bytes_per_second.unwrap();
    assert!(rate > round.bytes[0] * 1000 / wait.as_millis() as u64, "{rate} for {round:?}");
}
