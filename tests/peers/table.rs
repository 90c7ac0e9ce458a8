//! Save, load, abort, pause, resume, reset and harvest over all peers.

use crate::both_vmms;
use crate::common::doors::{EMPTY, END};
use crate::pairs::{kinds, load, save};
use crate::vmm::{PAGES, Stream, Vmm, length};
use simdev::{Config, Device, ResetLeaves};
use vfiomig::dialect::{Direction, State};
use vfiomig::migration::{AbortTo, Phase};

both_vmms! {
    save_and_load_by_device_calls
    empty_and_end
    abort_from_each_phase
    abort_of_a_load
    pause_and_resume
    pause_and_resume_in_pre_copy
    reset_in_each_state
    harvest_in_each_phase
    loads_one_after_the_other
}

fn each<V: Vmm>(run: impl Fn(&str, &Config, Device, V)) {
    for (name, config) in kinds() {
        let device = Device::new(config.clone().seeded(1));
        let vmm = V::new(std::slice::from_ref(&device));
        run(&name, &config, device, vmm);
    }
}

fn has_precopy(config: &Config) -> bool {
    !matches!(config.dialect, simdev::Dialect::V2 { pre_copy: false, .. })
}

/// To EMPTY or END, whichever it is to be.
fn drain<V: Vmm>(vmm: &V, stream: &mut Stream) -> u32 {
    let mut buf = [0; 1000];
    loop {
        let (len, flags) = vmm.read(0, &mut buf).unwrap();
        if len == 0 {
            return flags;
        }
        stream.push((buf[..len].to_vec(), flags & 4 != 0));
    }
}

fn save_and_load_by_device_calls<V: Vmm>() {
    each::<V>(|name, config, device, vmm| {
        let mut stream = Stream::new();
        if has_precopy(config) {
            vmm.set_state(0, State::PreCopy).unwrap();
            assert_eq!(drain(&vmm, &mut stream), EMPTY, "{name}");
            device.touch(1000, 50, 3).unwrap();
        }
        vmm.set_state(0, State::StopCopy).unwrap();
        assert_eq!(drain(&vmm, &mut stream), END, "{name}");
        let fresh = Device::new(config.clone());
        let target = V::new(std::slice::from_ref(&fresh));
        target.set_state(0, State::Resuming).unwrap();
        for (bytes, segment_end) in &stream {
            target.write(0, bytes, *segment_end).unwrap();
        }
        target.finish(0, length(&stream)).unwrap();
        target.set_state(0, State::Running).unwrap();
        assert!(fresh.same_content(&device), "{name}");
        fresh.assert_clean();
        device.assert_clean();
    });
}

fn empty_and_end<V: Vmm>() {
    each::<V>(|name, config, device, vmm| {
        let mut stream = Stream::new();
        if has_precopy(config) {
            vmm.set_state(0, State::PreCopy).unwrap();
            for _ in 0..3 {
                assert_eq!(drain(&vmm, &mut stream), EMPTY, "{name}");
            }
            vmm.pending(0).unwrap();
        }
        vmm.set_state(0, State::StopCopy).unwrap();
        for _ in 0..3 {
            assert_eq!(drain(&vmm, &mut stream), END, "{name}");
        }
        device.assert_clean();
    });
}

/// After an abort the guest runs, nothing of its device is lost, and the next migration brings all of it.
fn abort_from_each_phase<V: Vmm>() {
    let phases = [Phase::SaveTracking, Phase::SavePreCopy, Phase::SaveP2pGrace, Phase::SaveStopCopy];
    for (phase, drained) in phases.into_iter().flat_map(|phase| [(phase, false), (phase, true)]) {
        each::<V>(|name, config, device, mut vmm| {
            device.allow_abort(true);
            let before = device.content();
            let mut streams = [Stream::new()];
            vmm.begin(Direction::Save).unwrap();
            vmm.advance(phase).unwrap();
            if drained && phase != Phase::SaveTracking {
                vmm.save(phase == Phase::SaveStopCopy, &mut streams).unwrap();
            }
            vmm.abort(AbortTo::Running).unwrap_or_else(|failure| panic!("{name} in {phase}: {failure:?}"));
            vmm.end();
            assert_eq!((device.state(), vmm.state(0)), (State::Running, State::Running), "{name} in {phase}");
            assert!(!device.stands_still() && device.resets() == 0, "{name} in {phase}");
            assert_eq!(device.content(), before, "{name} in {phase}");
            device.allow_abort(false);
            let streams = save(&mut vmm, std::slice::from_ref(&device));
            let fresh = Device::new(config.clone());
            load(&mut V::new(std::slice::from_ref(&fresh)), &streams);
            assert!(fresh.same_content(&device), "{name} after {phase}");
            device.assert_clean();
        });
    }
}

fn abort_of_a_load<V: Vmm>() {
    each::<V>(|name, config, source, mut vmm| {
        let streams = save(&mut vmm, std::slice::from_ref(&source));
        for given in [0, 1, streams[0].len()] {
            let fresh = Device::new(config.clone());
            let mut target = V::new(std::slice::from_ref(&fresh));
            target.begin(Direction::Load).unwrap();
            target.advance(Phase::LoadResuming).unwrap();
            for (bytes, segment_end) in &streams[0][..given] {
                target.write(0, bytes, *segment_end).unwrap();
            }
            let aborted = target.abort(AbortTo::Running);
            if config.habits.reset_leaves == ResetLeaves::SameIfAwake {
                // A reset does not end RESUMING there, and nothing else is to run a part of a state.
                assert!(aborted.is_err() || fresh.state() == State::Running, "{name}");
                continue;
            }
            aborted.unwrap();
            target.end();
            assert_eq!((fresh.state(), fresh.resets()), (State::Running, 1), "{name}");
            load(&mut target, &streams);
            assert!(fresh.same_content(&source), "{name}");
            fresh.assert_clean();
        }
    });
}

fn pause_and_resume<V: Vmm>() {
    each::<V>(|name, _, device, vmm| {
        for _ in 0..2 {
            vmm.pause().unwrap();
            assert_eq!(device.state(), State::Stop, "{name}");
            vmm.pause().unwrap();
            vmm.resume().unwrap();
            assert_eq!(device.state(), State::Running, "{name}");
            device.touch(0, 10, 1).unwrap_or_else(|errno| panic!("{name}: {errno}"));
        }
        device.assert_clean();
    });
}

/// A pause holds the session, and the stream goes on to its end.
fn pause_and_resume_in_pre_copy<V: Vmm>() {
    each::<V>(|name, config, device, mut vmm| {
        if !has_precopy(config) {
            return;
        }
        let mut streams = [Stream::new()];
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SavePreCopy).unwrap();
        vmm.save(false, &mut streams).unwrap();
        vmm.pause().unwrap();
        assert_eq!(device.state(), State::StopCopy, "{name}");
        vmm.advance(Phase::SaveStopCopy).unwrap();
        vmm.save(true, &mut streams).unwrap();
        vmm.harvest().unwrap();
        vmm.advance(Phase::SaveHalted).unwrap();
        let fresh = Device::new(config.clone());
        load(&mut V::new(std::slice::from_ref(&fresh)), &streams);
        assert!(fresh.same_content(&device), "{name}");
        device.assert_clean();
    });
}

/// Whatever a reset leaves and wherever it is refused: what the caller hears is where the device is.
fn reset_in_each_state<V: Vmm>() {
    for to in [State::Running, State::Stop, State::PreCopy, State::StopCopy, State::Resuming] {
        each::<V>(|name, config, device, vmm| {
            if (to == State::PreCopy && !has_precopy(config)) || vmm.set_state(0, to).is_err() {
                return;
            }
            device.allow_abort(true);
            let reset = vmm.reset(0);
            let leaves = config.habits.reset_leaves;
            let refused = leaves != ResetLeaves::Running && matches!(to, State::Stop | State::StopCopy);
            let keeps = leaves == ResetLeaves::SameIfAwake && to != State::Running;
            let there = if refused || keeps { to } else { State::Running };
            assert_eq!(reset.is_ok(), there == State::Running, "{name} in {to}: {reset:?}");
            assert_eq!((vmm.state(0), device.state()), (there, there), "{name} in {to}");
            assert_eq!(device.resets(), u64::from(!refused), "{name} in {to}");
            if there != State::Resuming {
                vmm.resume().unwrap_or_else(|failure| panic!("{name} in {to}: {failure:?}"));
                assert_eq!((vmm.state(0), device.state()), (State::Running, State::Running), "{name} in {to}");
            }
        });
    }
}

fn harvest_in_each_phase<V: Vmm>() {
    each::<V>(|name, config, device, mut vmm| {
        let logs = config.dma_log.is_some() || matches!(config.dialect, simdev::Dialect::Draft { .. });
        // A device whose log is a stub writes no memory.
        let stub = config.dma_log.is_some_and(|log| log.stub);
        let reported = |vmm: &V, written: &[u64], phase: Phase| {
            let (pages, _) = vmm.harvest().unwrap();
            assert!(stub || written.iter().all(|page| pages.contains(page)), "{name} in {phase}: {pages:?}");
            assert!(!logs || (pages.len() as u64) < PAGES, "{name} in {phase}: the log was read");
        };
        let mut streams = [Stream::new()];
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SaveTracking).unwrap();
        vmm.advance(Phase::SavePreCopy).unwrap();
        // A draft's log begins with PRE_COPY.
        device.dma_write(3).unwrap();
        reported(&vmm, &[3], Phase::SavePreCopy);
        vmm.save(false, &mut streams).unwrap();
        device.dma_write(5).unwrap();
        vmm.advance(Phase::SaveP2pGrace).unwrap();
        vmm.advance(Phase::SaveStopCopy).unwrap();
        vmm.save(true, &mut streams).unwrap();
        reported(&vmm, &[5], Phase::SaveStopCopy);
        vmm.advance(Phase::SaveHalted).unwrap();
        let fresh = Device::new(config.clone());
        load(&mut V::new(std::slice::from_ref(&fresh)), &streams);
        assert!(fresh.same_content(&device), "{name}: no bitmap is in the stream");
        device.assert_clean();
    });
}

/// A device may judge a second load by what the first has left: it is reset in between.
fn loads_one_after_the_other<V: Vmm>() {
    each::<V>(|name, config, source, mut vmm| {
        let streams = save(&mut vmm, std::slice::from_ref(&source));
        let fresh = Device::new(config.clone());
        let mut target = V::new(std::slice::from_ref(&fresh));
        for _ in 0..3 {
            load(&mut target, &streams);
            target.end();
            assert!(fresh.same_content(&source), "{name}");
        }
        fresh.assert_clean();
    });
}
