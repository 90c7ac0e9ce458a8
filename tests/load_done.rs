//! A load's devices go to LOADED each behind its own stream, beside the streams of the others.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Rig, Stream, kinds, mixes};
use simdev::{Access, Config, Effect, Fault};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vfiomig::dialect::{Caps, DialectKind, State};
use vfiomig::error::ErrorKind;
use vfiomig::group::{Why, Wish};
use vfiomig::migration::{AbortTo, EntryKind, Fed, Migration, Phase};

const SLOW: Duration = Duration::from_millis(150);

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(3000)
}

fn streams_of(mix: &[Config]) -> Vec<Stream> {
    let source = Rig::source(mix, 1);
    source.save_all(&source.save()).unwrap()
}

/// A load in RESUMING.
fn resuming(mix: &[Config], max_workers: usize) -> (Rig, Migration) {
    let target = Rig::target(mix, max_workers);
    let load = target.load();
    load.advance(Phase::LoadResuming).unwrap();
    (target, load)
}

/// All bytes of a stream, and no end.
fn give(target: &Rig, i: usize, stream: &Stream) -> Option<u64> {
    stream.parts.iter().for_each(|(bytes, end)| target.devices[i].write(bytes, *end).unwrap());
    Some(stream.len() as u64)
}

/// Each change of a device's state takes so long from now on.
fn slow(target: &Rig, i: usize, time: Duration) {
    let fake = &target.fakes[i];
    fake.inject(Fault::from(Access::StateWrite, fake.count(Access::StateWrite), Effect::Delay(time)));
}

fn rests(mix: &[Config], i: usize) -> State {
    if rig::kind(&mix[i]) == DialectKind::V2 { State::Stop } else { State::Resuming }
}

/// The wire of a VMM whose streams come one after another.
fn one_wire(streams: &[Stream]) -> impl FnMut(usize, &mut [u8]) -> vfiomig::Result<Fed> + '_ {
    let mut at = vec![(0, 0); streams.len()];
    move |device, buf| {
        let (part, from) = at[device];
        let Some((bytes, end)) = streams[device].parts.get(part) else {
            return Ok(Fed::End { total: Some(streams[device].len() as u64) });
        };
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        let whole = from + len == bytes.len();
        at[device] = if whole { (part + 1, 0) } else { (part, from + len) };
        Ok(Fed::Bytes { len, segment_end: whole && *end })
    }
}

#[test]
fn a_device_leaves_resuming_behind_its_own_stream() {
    for mix in mixes(&kinds(), 2).iter().chain([&kinds()]) {
        let streams = streams_of(mix);
        for backwards in [false, true] {
            let (target, load) = resuming(mix, 0);
            let mut order: Vec<usize> = (0..mix.len()).collect();
            if backwards {
                order.reverse();
            }
            for (n, &i) in order.iter().enumerate() {
                // The streams of the others have not begun.
                let total = give(&target, i, &streams[i]);
                let last = n + 1 == order.len();
                assert_eq!(load.load_done(&target.devices[i], total).unwrap(), last);
                for (place, &j) in order.iter().enumerate() {
                    let expected = if place <= n { rests(mix, j) } else { State::Resuming };
                    assert_eq!(target.states()[j], expected, "d{j} after d{i}");
                }
                assert_eq!(load.phase(), if last { Phase::LoadLoaded } else { Phase::LoadResuming });
                assert_eq!(load.load_done(&target.devices[i], total).unwrap_err().kind(), ErrorKind::Order);
            }
            target.assert_states_known("loaded");
            load.advance(Phase::LoadRunning).unwrap();
            assert_eq!(target.states(), vec![State::Running; mix.len()]);
            target.assert_clean("load_done");
            rig::assert_barriers(&target.fakes);
        }
    }
}

#[test]
fn one_that_takes_its_time_holds_up_no_other() {
    let mix = vec![both(); 4];
    let streams = streams_of(&mix);
    let (target, load) = resuming(&mix, 0);
    let totals: Vec<_> = (0..4).map(|i| give(&target, i, &streams[i])).collect();
    (0..4).for_each(|i| slow(&target, i, SLOW));
    let begun = Instant::now();
    let entered = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let (load, device, total) = (&load, &target.devices[i], totals[i]);
                scope.spawn(move || load.load_done(device, total).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| u32::from(thread.join().unwrap())).sum::<u32>()
    });
    let took = begun.elapsed();
    assert_eq!((entered, load.phase()), (1, Phase::LoadLoaded));
    assert!(took < SLOW * 4 * 4 / 10, "{took:?} for four devices of {SLOW:?}");
    // One at a time, while the stream of another one comes.
    load.abort(AbortTo::Running).unwrap();
    load.advance(Phase::LoadResuming).unwrap();
    let total = give(&target, 0, &streams[0]);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| load.load_done(&target.devices[0], total).unwrap());
        while target.devices[0].progress().asked.is_none() {
            std::thread::yield_now();
        }
        give(&target, 1, &streams[1]);
        assert!(load.pending().saved_bytes == 0 && load.report().is_ok());
        assert_eq!(load.load_done(&target.devices[1], Some(1)).unwrap_err().kind(), ErrorKind::Incomplete);
        assert!(!first.is_finished(), "it held up the stream of another device");
        assert!(!first.join().unwrap());
    });
    load.abort(AbortTo::Running).unwrap();
}

#[test]
fn later_phases_wait_for_those_on_their_way() {
    let mix = vec![both(); 2];
    let streams = streams_of(&mix);
    let (target, load) = resuming(&mix, 0);
    let totals: Vec<_> = (0..2).map(|i| give(&target, i, &streams[i])).collect();
    target.devices[1].finish(totals[1]).unwrap();
    slow(&target, 0, SLOW);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| load.load_done(&target.devices[0], totals[0]));
        while target.devices[0].progress().asked.is_none() {
            std::thread::yield_now();
        }
        load.advance(Phase::LoadRunning).unwrap();
        assert!(!first.join().unwrap().unwrap(), "LOADED was entered by the other call");
    });
    assert_eq!(target.states(), [State::Running; 2]);
    target.assert_clean("advance");
}

#[test]
fn an_abort_waits_for_those_on_their_way_and_brings_them_back() {
    for (p2p, workers) in [(true, 0), (false, 1)] {
        let mix = vec![Config::v2(Caps { p2p, pre_copy: false }).state_size(3000); 2];
        let streams = streams_of(&mix);
        let (target, load) = resuming(&mix, workers);
        let total = give(&target, 0, &streams[0]);
        slow(&target, 0, SLOW);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| load.load_done(&target.devices[0], total));
            while target.devices[0].progress().asked.is_none() {
                std::thread::yield_now();
            }
            load.abort(AbortTo::Running).unwrap();
            assert_eq!(first.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
        });
        assert_eq!((load.phase(), target.states()), (Phase::Idle, vec![State::Running; 2]));
        // Nothing of it is left.
        target.fakes.iter().for_each(simdev::Device::clear_faults);
        target.load_all(&load, &streams).unwrap();
        target.assert_clean("abort");
    }
}

#[test]
fn a_stream_that_is_not_accepted_is_found_at_its_own_end() {
    for workers in [0, 1] {
        let mix = vec![both(); 3];
        let streams = streams_of(&mix);
        let (target, load) = resuming(&mix, workers);
        let total = give(&target, 1, &streams[1]);
        let nth = target.fakes[1].count(Access::StateWrite);
        target.fakes[1].inject(Fault {
            access: Access::StateWrite,
            nth,
            times: 1,
            effect: Effect::Errno(libc::EINVAL),
        });
        let failure = load.load_done(&target.devices[1], total).unwrap_err();
        assert!(failure.to_string().contains("d1: RESUMING -> STOP failed"), "{failure}");
        assert_eq!((failure.kind(), load.phase()), (ErrorKind::Device, Phase::Failed));
        let results: Vec<i32> = failure.results().iter().map(|result| result.errno).collect();
        assert_eq!(results, [0, libc::EINVAL, 0]);
        assert_eq!(load.load_done(&target.devices[0], None).unwrap_err().to_string(), failure.to_string());
        load.abort(AbortTo::Running).unwrap();
        target.load_all(&load, &streams).unwrap();
        assert_eq!(target.states(), [State::Running; 3]);
    }
}

#[test]
fn its_callbacks_cannot_wait_for_it() {
    let mix = vec![both(); 2];
    let streams = streams_of(&mix);
    let target = Rig::target(&mix, 0);
    let load = Arc::new(target.load());
    load.advance(Phase::LoadResuming).unwrap();
    let reported = Arc::new(Mutex::new(Vec::new()));
    let (lines, other) = (Arc::clone(&reported), Arc::clone(&target.devices[1]));
    let (of_load, arrived) = (Arc::downgrade(&load), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&arrived);
    target
        .group
        .on_progress(Duration::from_secs(60), move |event| {
            if event.why == Why::Arrived {
                count.fetch_add(1, Ordering::Relaxed);
                let load = of_load.upgrade().unwrap();
                let errno = |result: vfiomig::Result<()>| result.map_or_else(|error| error.errno(), |()| 0);
                lines.lock().unwrap().extend([
                    errno(load.advance(Phase::LoadLoaded)),
                    errno(load.load_done(&other, None).map(drop)),
                    errno(other.reset()),
                    errno(load.report().map(drop)),
                ]);
            }
            Wish::GoOn
        })
        .unwrap();
    let total = give(&target, 0, &streams[0]);
    load.load_done(&target.devices[0], total).unwrap();
    assert_eq!(arrived.load(Ordering::Relaxed), 1);
    assert_eq!(*reported.lock().unwrap(), [libc::EDEADLK, libc::EDEADLK, libc::EDEADLK, 0]);
    drop(load);
}

#[test]
fn a_drain_takes_each_device_to_loaded_beside_the_streams_of_the_others() {
    for mix in mixes(&kinds(), 2).iter().chain([&kinds()]) {
        let streams = streams_of(mix);
        for workers in [0, 1] {
            let (target, load) = resuming(mix, workers);
            load.load_complete(&[], &mut one_wire(&streams)).unwrap();
            assert_eq!(load.phase(), Phase::LoadLoaded);
            for i in 0..mix.len() {
                assert_eq!(target.states()[i], rests(mix, i));
            }
            // There is nothing left.
            load.load_complete(&[], &mut |_, _| panic!("all is whole")).unwrap();
            load.advance(Phase::LoadRunning).unwrap();
            target.assert_clean("load_complete");
            rig::assert_barriers(&target.fakes);
        }
    }
}

/// Two devices, of which the first has its stream at once, and the second is slow to get its own.
#[test]
fn what_a_device_needs_to_validate_is_not_waited_for_behind_all_streams() {
    let mix = [both(), both().state_size(30_000)];
    let streams = streams_of(&mix);
    let (target, load) = resuming(&mix, 0);
    slow(&target, 0, SLOW);
    let mut wire = one_wire(&streams);
    let (mut whole, mut waited) = (None, false);
    load.load_complete(&[], &mut |device, buf| {
        if device == 1 && whole.is_none() {
            // Until the first stream has its end the second one hardly moves.
            std::thread::sleep(Duration::from_millis(2));
            return wire(device, &mut buf[..50]);
        }
        if device == 1 && !waited {
            waited = true;
            std::thread::sleep(SLOW);
        }
        let brought = wire(device, buf)?;
        if device == 0 && matches!(brought, Fed::End { .. }) {
            whole = Some(Instant::now());
        }
        Ok(brought)
    })
    .unwrap();
    assert!(waited, "the first stream ended before the second one");
    let took = whole.unwrap().elapsed();
    assert!(took < SLOW * 17 / 10, "{took:?}: the streams took {SLOW:?}, and so did the device");
    let report = load.report().unwrap();
    let loaded: Vec<_> = report.entries.iter().filter(|entry| entry.work == EntryKind::Loaded).collect();
    let drain = report.entries.iter().find(|entry| entry.work == EntryKind::LoadComplete).unwrap();
    assert_eq!(loaded.len(), 2, "{report}");
    for entry in &loaded {
        assert!(entry.begun >= drain.begun && entry.begun + entry.duration <= drain.begun + drain.duration, "{report}");
        let i = usize::from(entry.devices[0].device == "d1");
        assert_eq!((entry.devices.len(), entry.devices[0].bytes), (1, streams[i].len() as u64), "{report}");
    }
    assert!(loaded.iter().any(|entry| entry.duration >= SLOW), "{report}");
    let text = report.to_string();
    assert!(text.contains("\nloaded ") && text.contains(": d0, beside the others"), "{text}");
    assert!(report.to_json().contains("\"kind\":\"loaded\""));
    load.advance(Phase::LoadRunning).unwrap();
}

#[test]
fn a_drain_whose_device_does_not_accept_its_stream_has_failed() {
    for workers in [0, 1] {
        let mix = vec![both(); 2];
        let streams = streams_of(&mix);
        let (target, load) = resuming(&mix, workers);
        let nth = target.fakes[0].count(Access::StateWrite);
        target.fakes[0].inject(Fault {
            access: Access::StateWrite,
            nth,
            times: 1,
            effect: Effect::Errno(libc::EINVAL),
        });
        let failure = load.load_complete(&[], &mut one_wire(&streams)).unwrap_err();
        assert!(failure.to_string().contains("d0: RESUMING -> STOP failed"), "{failure}");
        assert_eq!((failure.kind(), load.phase()), (ErrorKind::Device, Phase::Failed));
        let again = load.load_complete(&[], &mut |_, _| panic!("it has failed")).unwrap_err();
        assert_eq!(again.to_string(), failure.to_string());
        load.abort(AbortTo::Running).unwrap();
        load.advance(Phase::LoadResuming).unwrap();
        load.load_complete(&[], &mut one_wire(&streams)).unwrap();
        load.advance(Phase::LoadRunning).unwrap();
        target.assert_clean("again");
    }
}

/// The ways to end streams can be mixed, also device by device.
#[test]
fn a_drain_goes_on_with_what_has_no_end_yet() {
    for workers in [0, 1] {
        let mix = kinds();
        let streams = streams_of(&mix);
        let (target, load) = resuming(&mix, workers);
        let totals: Vec<_> = (0..4).map(|i| give(&target, i, &streams[i])).collect();
        assert!(!load.load_done(&target.devices[0], totals[0]).unwrap());
        target.devices[1].finish(totals[1]).unwrap();
        load.advance_device(&target.devices[1], Phase::LoadLoaded).unwrap();
        target.devices[2].finish(totals[2]).unwrap();
        target.devices[3].finish(totals[3]).unwrap();
        assert!(load.load_done(&target.devices[3], totals[3]).is_err(), "its length was stated");
        let mut wire = one_wire(&streams);
        load.load_complete(&[], &mut |device, buf| {
            assert!(device >= 4, "d{device} has its stream");
            wire(device, buf)
        })
        .unwrap();
        assert_eq!(load.phase(), Phase::LoadLoaded);
        load.advance(Phase::LoadRunning).unwrap();
        target.assert_clean("mixed");
    }
}
