//! Groups: members, abilities, pause and resume, a moment without DMA.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Pinned, Rig, caps, kind, kinds, mixes};
use simdev::{Access, Config, Effect, Fault, Window};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::{Caps, DialectKind, Direction, State};
use vfiomig::error::ErrorKind;
use vfiomig::group::{self, Group};
use vfiomig::migration::{AbortTo, Budget, Migration, Phase};
use vfiomig::tracker::{self, Tracker};
use vfiomig::window::StreamFlags;

const END: StreamFlags = StreamFlags::END;

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true })
}

#[test]
fn members_come_and_go_but_not_during_a_migration() {
    let rig = Rig::source(&[both(), both()], 0);
    let other = Arc::new(
        Device::new(
            simdev::Device::new(both()).transport(),
            DeviceOptions { name: "d0".into(), ..DeviceOptions::default() },
        )
        .unwrap(),
    );
    let failure = rig.group.add_device(Arc::clone(&other)).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Argument, "names are unique");
    assert_eq!(rig.group.remove_device(&other).unwrap_err().kind(), ErrorKind::Argument);
    let migration = rig.save();
    for refused in [
        rig.group.add_device(Arc::clone(&other)),
        rig.group.remove_device(&rig.devices[0]),
        Migration::new(Arc::clone(&rig.group), Direction::Save).map(|_| ()),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Order);
    }
    // A container may come at any time, once.
    let beside = Arc::new(rig::Log::default()).tracker(&[]);
    rig.group.add_tracker(Arc::clone(&beside)).unwrap();
    assert_eq!(rig.group.add_tracker(beside).unwrap_err().kind(), ErrorKind::Argument);
    drop(migration);
    rig.group.remove_device(&rig.devices[0]).unwrap();
    rig.group.add_device(other).unwrap();
    assert_eq!(rig.group.devices().unwrap().len(), 2);
    rig.group.close().unwrap();
    assert_eq!(rig.group.pause().unwrap_err().errno(), libc::ENODEV);
}

/// The place of a freed handle goes with the next call.
#[test]
fn a_freed_device_leaves_no_place_behind() {
    let rig = Rig::source(&[both(), both(), both()], 0);
    rig.devices[1].close().unwrap();
    rig.group.pause().unwrap();
    assert_eq!(rig.states(), [State::Stop, State::Running, State::Stop]);
    assert_eq!(rig.group.results().unwrap().len(), 2);
    rig.group.remove_device(&rig.devices[1]).unwrap();
    rig.group.resume().unwrap();
    assert!(rig.group.abilities().unwrap().migratable);
    rig.group.add_device(named("d1")).unwrap();
    assert_eq!(rig.group.devices().unwrap().len(), 3);
    assert_eq!(rig.group.add_device(Arc::clone(&rig.devices[1])).unwrap_err().errno(), libc::ENODEV);
}

fn named(name: &str) -> Arc<Device> {
    let fake = simdev::Device::new(both().seeded(9));
    fake.allow_abort(true);
    Arc::new(Device::new(fake.transport(), DeviceOptions { name: name.into(), ..DeviceOptions::default() }).unwrap())
}

/// A device is unplugged at any moment; the group goes on with the others, and takes one of the same
/// name again.
#[test]
fn a_device_is_unplugged_at_any_moment() {
    use Phase::{Idle, LoadLoaded, LoadP2pGrace, LoadResuming, SaveHalted, SaveP2pGrace, SavePreCopy, SaveStopCopy};
    let streams = |mix: &[Config]| {
        let source = Rig::source(mix, 0);
        source.save_all(&source.save()).unwrap()
    };
    let saves =
        [None, Some(Idle), Some(Phase::SaveTracking), Some(SavePreCopy), Some(SaveP2pGrace), Some(SaveStopCopy)];
    let loads = [Some(LoadResuming), Some(LoadLoaded), Some(LoadP2pGrace)];
    let plan = saves.map(|at| (Direction::Save, at)).into_iter().chain(loads.map(|at| (Direction::Load, at)));
    for (direction, at) in plan {
        for config in kinds() {
            for aborts in [true, false] {
                let what = format!("{direction:?} {at:?} {:?} {aborts}", config.dialect);
                let mix = [config.clone(), both()];
                let save = direction == Direction::Save;
                let rig = if save { Rig::source(&mix, 0) } else { Rig::target(&mix, 0) };
                rig.allow_abort();
                let everything = tracker::TrackerOptions { everything: true, ..tracker::TrackerOptions::default() };
                rig.group.add_tracker(Arc::new(Tracker::new(everything).unwrap())).unwrap();
                let migration = at.map(|at| {
                    let migration = if save { rig.save() } else { rig.load() };
                    if !save {
                        migration.advance(LoadResuming).unwrap();
                        rig.write_all(&streams(&mix)).unwrap();
                    }
                    if at != Idle {
                        migration.advance(at).unwrap();
                    }
                    migration
                });
                rig.devices[0].close().unwrap();
                if let Some(migration) = &migration {
                    // A pause is not held up by it, nor is its failure one; the migration is failed by it.
                    let pausable = matches!(at, Some(Idle | Phase::SaveTracking | SavePreCopy));
                    if pausable {
                        rig.group.pause().unwrap();
                        let reported = rig.group.results().unwrap();
                        assert!(
                            reported[0].message.contains("d0: its handle was freed: it takes no part"),
                            "{what}: {reported:?}"
                        );
                        assert_eq!(reported[0].errno, 0);
                        rig.group.resume().unwrap();
                    }
                    let refused = rig.group.add_device(named("d0")).unwrap_err();
                    assert_eq!(refused.kind(), ErrorKind::Order, "{what}");
                    let next = match at {
                        Some(SaveStopCopy) => SaveHalted,
                        _ if save => SaveStopCopy,
                        Some(LoadResuming) => LoadLoaded,
                        _ => Phase::LoadRunning,
                    };
                    let failure = migration.advance(next).unwrap_err();
                    assert_eq!(
                        (failure.errno(), migration.phase()),
                        (libc::ENODEV, Phase::Failed),
                        "{what}: {failure}"
                    );
                    assert!(failure.to_string().contains("d0"), "{what}: {failure}");
                    if aborts {
                        // Who asks for HALTED has said that the guest may run elsewhere.
                        let abort = || match next {
                            SaveHalted => migration.abort_without_second_guest(AbortTo::Running),
                            _ => migration.abort(AbortTo::Running),
                        };
                        let failure = abort().unwrap_err();
                        assert_eq!(failure.errno(), libc::ENODEV, "{what}: {failure}");
                        assert_eq!(rig.states()[1], State::Running, "{what}");
                    }
                }
                drop(migration);
                if !save && !aborts {
                    rig.devices[1].reset().unwrap();
                }
                rig.group.pause().unwrap();
                // A session that was not ended is held.
                assert!(matches!(rig.states()[1], State::Stop | State::StopCopy), "{what}");
                rig.group.resume().unwrap();
                assert_eq!(rig.states()[1], State::Running, "{what}");
                let again = named("d0");
                rig.group.add_device(Arc::clone(&again)).unwrap();
                let save = rig.save();
                save.advance(SaveStopCopy).unwrap();
                assert_eq!((again.state(), rig.states()[1]), (State::StopCopy, State::StopCopy), "{what}");
                let plenty = Budget { bytes: u64::MAX, time: Duration::from_secs(60) };
                let round = save.save_iterate(plenty, &[], &mut |_| Ok(()));
                assert_eq!(round.unwrap().flags, [END; 2], "{what}");
                rig.harvest();
                save.advance(SaveHalted).unwrap();
            }
        }
    }
}

/// A device without migration states takes no part in stop and continue; only those that do can fail.
#[test]
fn a_device_without_states_takes_no_part() {
    let rig = Rig::source(&[both(), both()], 0);
    let plain = simdev::Device::new(both());
    // None of the dialect that is looked for.
    let options = DeviceOptions { name: "gpu".into(), dialect: Some(DialectKind::Draft), ..DeviceOptions::default() };
    let plain = Arc::new(Device::new(plain.transport(), options).unwrap());
    assert!(plain.info().dialect.is_none());
    rig.group.add_device(plain).unwrap();
    for halves in [false, true] {
        if halves {
            rig.group.pause_begin().unwrap();
        }
        rig.group.pause().unwrap();
        assert_eq!(rig.states(), [State::Stop; 2]);
        let reported = rig.group.results().unwrap();
        assert!(
            reported[2].message.contains("gpu: not migratable") && reported[2].message.contains("takes no part"),
            "{reported:?}"
        );
        assert_eq!((reported[2].errno, reported[2].from), (0, reported[2].to));
        if halves {
            rig.group.resume_begin().unwrap();
        }
        rig.group.resume().unwrap();
        assert_eq!(rig.states(), [State::Running; 2]);
    }
    // One that does has a result of its own.
    let writes = rig.fakes[1].count(Access::StateWrite);
    rig.fakes[1].inject(Fault::at(Access::StateWrite, writes, Effect::Errno(libc::EBUSY)));
    let failure = rig.group.pause().unwrap_err();
    assert_eq!(failure.errno(), libc::EBUSY);
    assert!(!failure.to_string().contains("gpu"), "{failure}");
    rig.group.resume().unwrap();
    assert!(Migration::new(Arc::clone(&rig.group), Direction::Save).is_err());
}

#[test]
fn every_mix_of_devices_pauses_and_resumes_behind_barriers() {
    for mix in mixes(&kinds(), 3) {
        for max_workers in [1, 0] {
            let rig = Rig::source(&mix, max_workers);
            for _ in 0..2 {
                rig.group.pause().unwrap();
                assert!(rig.states().iter().all(|&s| s == State::Stop));
                rig.group.pause().unwrap();
                rig.group.resume().unwrap();
                assert!(rig.states().iter().all(|&s| s == State::Running));
            }
            rig::assert_barriers(&rig.fakes);
            rig.assert_clean("pause");
            // P2P states are entered where they exist, and confirmed.
            for (fake, config) in rig.fakes.iter().zip(&mix) {
                let graces = fake.transitions().iter().filter(|t| t.to.state() == State::RunningP2p).count();
                assert_eq!(graces, if caps(config).p2p { 4 } else { 0 });
            }
        }
    }
}

#[test]
fn a_pause_in_two_halves_is_a_pause() {
    for mix in mixes(&kinds(), 2) {
        let rig = Rig::source(&mix, 0);
        let graces = || mix.iter().map(|config| if caps(config).p2p { State::RunningP2p } else { State::Running });
        rig.group.pause_begin().unwrap();
        assert!(rig.states().into_iter().eq(graces()), "those that can wait in P2P, the others run on");
        rig.group.pause_begin().unwrap();
        rig.group.pause().unwrap();
        assert!(rig.states().iter().all(|&s| s == State::Stop));
        rig.group.resume_begin().unwrap();
        let graces = mix.iter().map(|config| if caps(config).p2p { State::RunningP2p } else { State::Stop });
        assert!(rig.states().into_iter().eq(graces), "nobody runs yet");
        rig.group.resume().unwrap();
        assert!(rig.states().iter().all(|&s| s == State::Running));
        rig::assert_barriers(&rig.fakes);
        rig.assert_clean("halves");
    }
}

#[test]
fn a_pause_costs_the_slowest_device_of_each_step() {
    let delay = Duration::from_millis(20);
    let slow = |max_workers| {
        let rig = Rig::source(&vec![both(); 8], max_workers);
        for fake in &rig.fakes {
            fake.inject(Fault::from(Access::StateWrite, 0, Effect::Delay(delay)));
        }
        let begun = Instant::now();
        rig.group.pause().unwrap();
        begun.elapsed()
    };
    // What else runs on the machine makes a run longer, never shorter: one that is as short as it must be proves it.
    let mut seen = Vec::new();
    let short = |took: &Duration| *took < delay * 2 + Duration::from_millis(8);
    assert!((0..50).map(|_| slow(0)).inspect(|took| seen.push(*took)).any(|took| short(&took)), "{seen:?}");
    let serial = slow(1);
    assert!(serial >= delay * 16, "{serial:?}");
}

#[test]
fn a_device_that_misses_a_barrier_holds_the_others() {
    for max_workers in [1, 0] {
        let rig = Rig::source(&[both(), both(), both()], max_workers);
        let fault = rig.fakes[1].inject(Fault::at(Access::StateWrite, 0, Effect::Errno(libc::EBUSY)));
        let failure = rig.group.pause().unwrap_err();
        assert_eq!(rig.fakes[1].fault_reached(fault), 1);
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::EBUSY));
        assert!(failure.to_string().contains("d1"), "{failure}");
        assert_eq!(rig.states(), [State::RunningP2p, State::Running, State::RunningP2p]);
        let found: Vec<u32> = failure.results().iter().map(|result| result.found).collect();
        assert_eq!(found, [State::RunningP2p.number(), State::Running.number(), State::RunningP2p.number()]);
        assert_eq!(rig.group.results().unwrap()[1].errno, libc::EBUSY);
        // Both ways lead on.
        rig.group.resume().unwrap();
        rig.group.pause().unwrap();
        assert!(rig.states().iter().all(|&s| s == State::Stop));
        rig.assert_clean("held");
    }
}

#[test]
fn a_device_in_error_is_named_and_the_others_rest() {
    let rig = Rig::source(&[both(), both()], 0);
    rig.fakes[0].inject(Fault::at(Access::StateWrite, 0, Effect::ToError(libc::EIO)));
    assert!(rig.group.pause().is_err());
    let failure = rig.group.pause().unwrap_err();
    assert!(failure.to_string().contains("d0") && failure.to_string().contains("reset"), "{failure}");
    assert_eq!(rig.states(), [State::Error, State::Stop]);
    rig.devices[0].reset().unwrap();
    rig.group.resume().unwrap();
    assert_eq!(rig.states(), [State::Running, State::Running]);
}

#[test]
fn pausing_in_precopy_holds_the_sessions_and_resuming_ends_them() {
    for max_workers in [1, 0] {
        let rig = Rig::source(&kinds(), max_workers);
        rig.allow_abort();
        let migration = rig.save();
        migration.advance(Phase::SavePreCopy).unwrap();
        let mut streams = vec![rig::Stream::default(); rig.devices.len()];
        rig.drain_all(&mut streams).unwrap();
        rig.group.pause().unwrap();
        for (config, state) in rig.configs.iter().zip(rig.states()) {
            assert_eq!(state, if caps(config).pre_copy { State::StopCopy } else { State::Stop });
        }
        assert_eq!(migration.phase(), Phase::SavePreCopy);
        rig.group.resume().unwrap();
        for (config, state) in rig.configs.iter().zip(rig.states()) {
            // A draft's log answers only while it saves.
            assert_eq!(state, if kind(config) == DialectKind::Draft { State::PreCopy } else { State::Running });
        }
        // The migration goes on; streams that were begun are void until the caller says that it begins anew.
        assert_eq!(migration.advance(Phase::SaveStopCopy).unwrap_err().kind(), ErrorKind::Order);
        rig.devices.iter().for_each(|device| device.restart_stream().unwrap());
        streams.fill(rig::Stream::default());
        migration.advance(Phase::SaveStopCopy).unwrap();
        rig.drain_all(&mut streams).unwrap();
        rig.harvest();
        migration.advance(Phase::SaveHalted).unwrap();
        rig::assert_barriers(&rig.fakes);
        let target = Rig::target(&kinds(), max_workers);
        target.load_all(&target.load(), &streams).unwrap();
        assert!(target.fakes.iter().zip(&rig.fakes).all(|(a, b)| a.same_content(b)));
    }
}

#[test]
fn a_paused_migration_goes_on_without_a_resume() {
    let rig = Rig::source(&kinds(), 0);
    let migration = rig.save();
    migration.advance(Phase::SavePreCopy).unwrap();
    let mut streams = vec![rig::Stream::default(); rig.devices.len()];
    rig.drain_all(&mut streams).unwrap();
    rig.group.pause().unwrap();
    migration.advance(Phase::SaveStopCopy).unwrap();
    rig.drain_all(&mut streams).unwrap();
    rig.harvest();
    migration.advance(Phase::SaveHalted).unwrap();
    rig.assert_clean("paused");
}

#[test]
fn past_precopy_there_is_no_pause() {
    let rig = Rig::source(&[both()], 0);
    rig.allow_abort();
    let migration = rig.save();
    for phase in [Phase::SaveViommuGrace, Phase::SaveP2pGrace, Phase::SaveStopCopy] {
        migration.advance(phase).unwrap();
        assert_eq!(rig.group.pause().unwrap_err().kind(), ErrorKind::Order, "{phase}");
        assert_eq!(rig.group.resume().unwrap_err().kind(), ErrorKind::Order, "{phase}");
    }
    let target = Rig::target(&[both()], 0);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    assert_eq!(target.group.pause().unwrap_err().kind(), ErrorKind::Order);
}

#[test]
fn devices_that_want_the_calling_thread_get_it() {
    let configs: Vec<Config> = kinds().into_iter().chain([both()]).collect();
    let home = std::thread::current().id();
    let seeded: Vec<Config> = configs.iter().map(|config| config.clone().seeded(1)).collect();
    let rig = Rig::new(&seeded, 0, &|device, i| {
        let inner = device.transport();
        if i % 2 == 0 { Box::new(Pinned { inner, home }) } else { inner }
    });
    rig.group.pause().unwrap();
    rig.group.resume().unwrap();
    let migration = rig.save();
    rig.save_all(&migration).unwrap();
    rig.assert_clean("pinned");
}

/// N19, N20, V2-7: what the VMM may set up for its devices, it asks before.
#[test]
fn policy_answers_with_every_reason() {
    let (v1, ndma) = (Config::v1(Window::Trapped), Config::v1_ndma(Window::Trapped));
    let plain = Config::v2(Caps::default());
    for (configs, foreign, expected) in [
        // (precopy, p2p, page requests)
        (vec![], 0, (true, true, true)),
        (vec![plain.clone()], 0, (false, true, false)),
        (vec![plain.clone()], 1, (false, false, false)),
        (vec![ndma.clone(), ndma.clone()], 0, (true, true, true)),
        (vec![ndma.clone()], 1, (true, false, true)),
        (vec![both(), both()], 0, (true, true, false)),
        (vec![both(), v1.clone()], 0, (true, false, false)),
        (vec![both(), ndma.clone()], 0, (true, true, false)),
    ] {
        let rig = Rig::source(&configs, 0);
        let group = Group::new(group::GroupOptions { foreign_initiators: foreign, ..group::GroupOptions::default() });
        rig.devices.iter().for_each(|device| group.add_device(Arc::clone(device)).unwrap());
        group.add_tracker(Arc::clone(&rig.tracker)).unwrap();
        let abilities = group.abilities().unwrap();
        assert!(abilities.migratable, "{abilities:?}");
        assert_eq!(
            (abilities.pre_copy, abilities.p2p, abilities.page_requests),
            expected,
            "{configs:?} {foreign}: {abilities:?}"
        );
        let noes = [expected.0, expected.1, expected.2].iter().filter(|yes| !**yes).count();
        assert!(abilities.reasons.len() >= noes && (noes > 0 || abilities.reasons.is_empty()), "{abilities:?}");
    }
}

#[test]
fn a_group_that_cannot_be_migrated_says_why_for_each_device() {
    let rig = Rig::source(&[both(), both(), both()], 0);
    rig.group.remove_tracker(&rig.tracker).unwrap();
    rig.group.add_tracker(Arc::new(rig::Log::default()).tracker(&rig.devices[1..])).unwrap();
    rig.devices[1].set_state(State::PreCopy, OnFailure::Keep, false).unwrap();
    rig.devices[2].close().unwrap();
    let abilities = rig.group.abilities().unwrap();
    assert!(!abilities.migratable);
    let failure = Migration::new(Arc::clone(&rig.group), Direction::Save).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Unsupported);
    let text = failure.to_string();
    for part in ["d0: no tracker covers", "d1: it is in PRE_COPY"] {
        assert!(text.contains(part), "{text}");
        assert!(abilities.reasons.iter().any(|why| why.contains(part)), "{abilities:?}");
    }
    assert!(!text.contains("d2"), "it was freed, so it is no member: {text}");
}

/// N21: v2's P2P states do not keep a device from writing RAM.
#[test]
fn a_moment_without_dma_needs_ndma_or_stopped_devices() {
    let ndma = Config::v1_ndma(Window::Trapped);
    for max_workers in [1, 0] {
        let rig = Rig::source(&[ndma.clone(), ndma.clone()], max_workers);
        let look = || rig.fakes.iter().map(|fake| fake.dma_write(1).is_ok()).collect::<Vec<_>>();
        assert_eq!(rig.group.without_dma(look).unwrap(), [false, false]);
        assert_eq!(look(), [true, true], "they go on");
        let migration = rig.save();
        migration.advance(Phase::SavePreCopy).unwrap();
        assert_eq!(rig.group.without_dma(|| rig.states()).unwrap(), [State::PreCopyP2p; 2]);
        assert_eq!(rig.states(), [State::PreCopy; 2]);
        drop(migration);
        rig.allow_abort();
    }
    // v2's P2P does not stop DMA to RAM; a v1 device without NDMA stops none.
    for config in [both(), Config::v1(Window::Trapped)] {
        let rig = Rig::source(&[ndma.clone(), config.clone()], 0);
        let failure = rig.group.without_dma(|| ()).unwrap_err();
        assert_eq!((failure.kind(), rig.states()), (ErrorKind::Unsupported, vec![State::Running; 2]));
        assert!(failure.to_string().contains("d1"), "{failure}");
        rig.group.pause().unwrap();
        assert_eq!(rig.group.without_dma(|| 7).unwrap(), 7, "stopped devices start no DMA");
        assert_eq!(kind(&rig.configs[0]), DialectKind::V1);
    }
}

#[test]
fn a_tracker_that_calls_everything_dirty_speaks_for_every_device() {
    let rig = Rig::source(&[both()], 0);
    rig.group.remove_tracker(&rig.tracker).unwrap();
    assert!(!rig.group.abilities().unwrap().migratable);
    let options = tracker::TrackerOptions { everything: true, ..tracker::TrackerOptions::default() };
    rig.group.add_tracker(Arc::new(Tracker::new(options).unwrap())).unwrap();
    assert!(rig.group.abilities().unwrap().migratable);
}

#[test]
fn a_harvest_without_dma_reads_in_the_moment() {
    let ndma = Config::v1_ndma(Window::Trapped);
    let rig = Rig::source(&[ndma.clone(), ndma], 0);
    rig.tracker.start().unwrap();
    rig.log.dirty.lock().push(5);
    let mut seen = Vec::new();
    let run = &mut |_: u64, range: tracker::IovaRange| {
        seen.push((range.iova / 4096, rig.fakes.iter().map(|fake| fake.dma_write(1).is_ok()).collect::<Vec<_>>()));
        true
    };
    rig.group.harvest_without_dma(&mut tracker::Request { run: Some(run), ..tracker::Request::default() }).unwrap();
    assert_eq!(seen, [(5, vec![false, false])]);
    assert_eq!(rig.states(), [State::Running; 2]);
}

/// A device that does not come back from the moment is an error, and what was given is given.
#[test]
fn a_harvest_before_a_device_that_does_not_come_back_is_reported() {
    let ndma = Config::v1_ndma(Window::Trapped);
    let rig = Rig::source(&[ndma.clone(), ndma], 0);
    rig.tracker.start().unwrap();
    for (nth, given) in [(0, None), (1, Some(1))] {
        rig.log.dirty.lock().push(5);
        let begun = rig.fakes[1].count(Access::StateWrite);
        rig.fakes[1].inject(Fault::at(Access::StateWrite, begun + nth, Effect::Errno(libc::EIO)));
        let mut seen = Vec::new();
        let run = &mut |_: u64, range: tracker::IovaRange| {
            seen.push(range.iova / 4096);
            true
        };
        let mut request = tracker::Request { run: Some(run), ..tracker::Request::default() };
        rig.group.harvest_without_dma(&mut request).unwrap_err();
        assert_eq!(request.given.map(|given| given.total), given, "{nth}");
        assert_eq!(seen.len(), usize::from(given.is_some()));
        assert!(
            rig.group
                .harvest_without_dma(&mut tracker::Request { run: Some(&mut |_, _| true), ..Default::default() })
                .is_ok()
        );
    }
}

/// Nor does a callback's panic leave a device there.
#[test]
fn a_panic_in_a_moment_without_dma_brings_all_back() {
    let ndma = Config::v1_ndma(Window::Trapped);
    let rig = Rig::source(&[ndma.clone(), ndma], 0);
    let panicked = std::panic::AssertUnwindSafe(|| rig.group.without_dma(|| panic!("callback")));
    assert!(std::panic::catch_unwind(panicked).is_err());
    assert_eq!(rig.states(), [State::Running; 2]);
    rig.group.without_dma(|| ()).unwrap();
}

#[test]
fn a_moment_without_dma_that_fails_brings_the_others_back() {
    let ndma = Config::v1_ndma(Window::Trapped);
    for (nth, state) in [(0, State::Running), (1, State::RunningP2p)] {
        let rig = Rig::source(&[ndma.clone(), ndma.clone(), ndma.clone()], 0);
        let fault = rig.fakes[1].inject(Fault::at(Access::StateWrite, nth, Effect::Errno(libc::EIO)));
        let mut ran = false;
        let failure = rig.group.without_dma(|| ran = true).unwrap_err();
        assert_eq!((rig.fakes[1].fault_reached(fault), ran), (1, nth == 1));
        assert_eq!(rig.states(), [State::Running, state, State::Running]);
        assert!(failure.to_string().contains("d1"), "{failure}");
    }
}
