//! Bytes of a load go into queues, from which threads give them to the devices, so that the caller goes on with the next stream.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "write_behind/ends.rs"]
mod ends;
#[path = "common/rig.rs"]
mod rig;

use rig::{Pinned, Rig, Stream, kinds, mixes};
use simdev::{Access, Config, Effect, Fault};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};
use vfiomig::device::Device;
use vfiomig::dialect::{Caps, DialectKind, Direction, State};
use vfiomig::error::ErrorKind;
use vfiomig::group::{Who, Why};
use vfiomig::migration::{AbortTo, EntryKind, Fed, Migration, MigrationOptions, Phase};
use vfiomig::transport::Transport;

const MIB: usize = 1 << 20;

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(3000)
}

fn streams_of(mix: &[Config]) -> (Rig, Vec<Stream>) {
    let source = Rig::source(mix, 1);
    let streams = source.save_all(&source.save()).unwrap();
    (source, streams)
}

fn load_of(target: &Rig, queue_bytes: usize) -> Migration {
    let options = MigrationOptions { queue_bytes };
    let load = Migration::with_options(Arc::clone(&target.group), Direction::Load, options).unwrap();
    load.advance(Phase::LoadResuming).unwrap();
    load
}

fn resuming(mix: &[Config], queue_bytes: usize) -> (Rig, Migration) {
    let target = Rig::target(mix, 0);
    let load = load_of(&target, queue_bytes);
    (target, load)
}

/// How the bytes of a stream come to the device.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Write,
    Room,
    Receive,
}

fn give(device: &Device, stream: &Stream, by: By) -> vfiomig::Result<()> {
    let v2 = device.info().dialect == Some(DialectKind::V2);
    // What is left of the segment that the part belongs to.
    let left = |at: usize| {
        let mut sum = 0;
        for (bytes, end) in &stream.parts[at..] {
            sum += bytes.len() as u64;
            if *end {
                break;
            }
        }
        sum
    };
    for (at, (bytes, end)) in stream.parts.iter().enumerate() {
        match by {
            By::Write => device.write(bytes, *end)?,
            By::Room => {
                let mut rest = &bytes[..];
                let mut left = left(at);
                while !rest.is_empty() {
                    let mut room = device.reserve((!v2).then_some(left))?;
                    let len = room.len().min(rest.len());
                    room[..len].copy_from_slice(&rest[..len]);
                    rest = &rest[len..];
                    left -= len as u64;
                    device.commit(&mut room, len, *end && rest.is_empty())?;
                    assert!(room.is_empty());
                }
            }
            By::Receive => {
                let (from, mut to) = UnixStream::pair().unwrap();
                to.write_all(bytes).unwrap();
                let mut left = bytes.len();
                while left > 0 {
                    left -= device.receive(from.as_fd(), left, *end)?;
                }
            }
        }
    }
    Ok(())
}

fn len(stream: &Stream) -> Option<u64> {
    Some(stream.len() as u64)
}

/// Names of the threads of loads of these devices; other tests have others.
fn threads(target: &Rig) -> usize {
    let names: Vec<String> = target.devices.iter().map(|device| format!("vfiomig-{}", device.name())).collect();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().map(name).filter(|name| names.iter().any(|own| name.trim() == own)).count()
}

fn no_threads(target: &Rig, what: &str) {
    let begun = Instant::now();
    while threads(target) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: a thread of the load goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Devices of their own names, so that their threads can be counted beside those of other tests.
fn named(mix: &[Config], prefix: &str) -> Rig {
    let group = Arc::new(vfiomig::group::Group::new(vfiomig::group::GroupOptions::default()));
    let mut rig = Rig::target(mix, 0);
    rig.devices = rig
        .fakes
        .iter()
        .enumerate()
        .map(|(i, fake)| {
            let dialect = (rig::kind(&mix[i]) == DialectKind::Draft).then_some(DialectKind::Draft);
            let name = format!("{prefix}{i}");
            let options = vfiomig::device::DeviceOptions { name, dialect, ..Default::default() };
            let device = Arc::new(Device::new(fake.transport(), options).unwrap());
            group.add_device(Arc::clone(&device)).unwrap();
            device
        })
        .collect();
    rig.group = group;
    rig
}

fn from_now(fake: &simdev::Device, access: Access, effect: Effect) {
    fake.inject(Fault::from(access, fake.count(access), effect));
}

#[test]
fn streams_that_come_one_after_another_are_loaded_as_without_a_queue() {
    for mix in mixes(&kinds(), 2).iter().chain([&kinds()]) {
        let (source, streams) = streams_of(mix);
        for by in [By::Write, By::Room, By::Receive] {
            for queue_bytes in [1, 64 << 10, 64 * MIB] {
                let what = format!("{by:?} {queue_bytes}");
                let (target, load) = resuming(mix, queue_bytes);
                for (i, stream) in streams.iter().enumerate() {
                    give(&target.devices[i], stream, by).unwrap();
                    let last = i + 1 == mix.len();
                    assert_eq!(load.load_done(&target.devices[i], len(stream)).unwrap(), last, "{what}");
                    assert_eq!(
                        load.load_done(&target.devices[i], len(stream)).unwrap_err().kind(),
                        ErrorKind::Order,
                        "{what}"
                    );
                }
                assert_eq!(load.phase(), Phase::LoadLoaded, "{what}");
                for (device, stream) in target.devices.iter().zip(&streams) {
                    assert_eq!(device.info().loaded_bytes, stream.len() as u64, "{what}");
                }
                target.assert_states_known(&what);
                load.advance(Phase::LoadRunning).unwrap();
                assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)), "{what}");
                target.assert_clean(&what);
                rig::assert_barriers(&target.fakes);
            }
        }
    }
}

#[test]
fn who_states_lengths_by_device_calls_hears_the_rest_when_loaded_is_entered() {
    let mix = kinds();
    let (source, streams) = streams_of(&mix);
    for queue_bytes in [1, MIB] {
        let (target, load) = resuming(&mix, queue_bytes);
        for (device, stream) in target.devices.iter().zip(&streams) {
            give(device, stream, By::Write).unwrap();
            let failure = device.finish(Some(stream.len() as u64 + 1)).unwrap_err();
            assert!(failure.to_string().contains("the stream is short"), "{failure}");
            device.finish(len(stream)).unwrap();
            device.finish(len(stream)).unwrap();
        }
        load.advance(Phase::LoadRunning).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
        target.assert_clean("finish");
    }
}

/// Four slow devices and one stream: the caller gives each its bytes, and does not wait for it.
#[test]
fn four_slow_devices_consume_side_by_side() {
    const WRITE: Duration = Duration::from_millis(10);
    let mix = vec![Config { max_io: 1000, ..both().state_size(20_000) }; 4];
    let (source, streams) = streams_of(&mix);
    let measure = |queue_bytes| {
        let (target, load) = resuming(&mix, queue_bytes);
        for fake in &target.fakes {
            from_now(fake, Access::DataWrite, Effect::Delay(WRITE));
            from_now(fake, Access::StateWrite, Effect::Delay(WRITE * 5));
        }
        let begun = Instant::now();
        for (i, stream) in streams.iter().enumerate() {
            give(&target.devices[i], stream, By::Write).unwrap();
            assert_eq!(load.load_done(&target.devices[i], len(stream)).unwrap(), i == 3);
        }
        let took = begun.elapsed();
        let report = load.report().unwrap();
        target.fakes.iter().for_each(simdev::Device::clear_faults);
        load.advance(Phase::LoadRunning).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
        (took, report)
    };
    let (serial, _) = measure(0);
    let (behind, report) = (0..3).map(|_| measure(64 * MIB)).min_by_key(|(took, _)| *took).unwrap();
    assert!(behind * 10 <= serial * 4, "{behind:?} behind the caller, {serial:?} one after another\n{report}");
    let loaded = report.entries.iter().filter(|entry| entry.work == EntryKind::Loaded).count();
    assert_eq!(loaded, 4, "{report}");
}

/// A device that takes nothing: what is on its way is bounded, and a cancel ends the wait for a place.
#[test]
fn a_full_queue_blocks_the_caller_and_a_cancel_ends_that() {
    let mix = [both().state_size(MIB), both()];
    let (_, streams) = streams_of(&mix);
    let (target, load) = resuming(&mix, 128 << 10);
    let device = &target.devices[0];
    from_now(&target.fakes[0], Access::DataWrite, Effect::Errno(libc::EAGAIN));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut put = 0;
            for (bytes, _) in &streams[0].parts {
                match device.write(bytes, false) {
                    Ok(()) => put += bytes.len(),
                    Err(error) => return (put, error),
                }
            }
            panic!("it took all");
        });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!writer.is_finished());
        // The other device's stream goes on.
        give(&target.devices[1], &streams[1], By::Write).unwrap();
        assert!(!load.load_done(&target.devices[1], len(&streams[1])).unwrap());
        let begun = Instant::now();
        load.cancel();
        let (put, error) = writer.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
        assert!(put <= 64 << 10, "{put} bytes were on their way");
    });
    assert_eq!(load.load_done(device, None).unwrap_err().kind(), ErrorKind::Canceled);
    load.abort(AbortTo::Running).unwrap();
    assert_eq!(target.states(), [State::Running; 2]);
}

#[test]
fn who_may_not_have_threads_has_none() {
    let mix = kinds();
    let (source, streams) = streams_of(&mix);
    let home = std::thread::current().id();
    let pin =
        |device: &simdev::Device, _| -> Box<dyn Transport> { Box::new(Pinned { inner: device.transport(), home }) };
    let alone = Rig::target(&mix, 1);
    for target in [Rig::new(&mix, 0, &pin), alone] {
        let load = load_of(&target, MIB);
        for (i, (device, stream)) in target.devices.iter().zip(&streams).enumerate() {
            give(device, stream, By::Write).unwrap();
            assert_eq!(device.info().loaded_bytes, stream.len() as u64, "it has them at once");
            assert_eq!(load.load_done(device, len(stream)).unwrap(), i + 1 == mix.len());
        }
        load.advance(Phase::LoadRunning).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    }
    // The system has none.
    let (target, load) = resuming(&mix, MIB);
    vfiomig::internals::refuse_threads_beyond(0);
    for (device, stream) in target.devices.iter().zip(&streams) {
        give(device, stream, By::Write).unwrap();
        assert_eq!(device.info().loaded_bytes, stream.len() as u64);
        load.load_done(device, len(stream)).unwrap();
    }
    vfiomig::internals::refuse_threads_beyond(usize::MAX);
    load.advance(Phase::LoadRunning).unwrap();
}

#[test]
fn a_drain_goes_on_behind_what_was_put() {
    let mix = kinds();
    let (source, streams) = streams_of(&mix);
    let (target, load) = resuming(&mix, MIB);
    from_now(&target.fakes[0], Access::DataWrite, Effect::Delay(Duration::from_millis(20)));
    let halves: Vec<usize> = streams.iter().map(|stream| stream.parts.len() / 2).collect();
    for (i, stream) in streams.iter().enumerate() {
        let half = Stream { parts: stream.parts[..halves[i]].to_vec() };
        give(&target.devices[i], &half, By::Write).unwrap();
    }
    let mut at = halves;
    load.load_complete(&[], &mut |device, buf| {
        let Some((bytes, end)) = streams[device].parts.get(at[device]) else {
            return Ok(Fed::End { total: len(&streams[device]) });
        };
        at[device] += 1;
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(Fed::Bytes { len: bytes.len(), segment_end: *end })
    })
    .unwrap();
    assert_eq!(load.phase(), Phase::LoadLoaded);
    load.advance(Phase::LoadRunning).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    target.assert_clean("drain");
}

#[test]
fn a_lent_buffer_has_the_same_rules() {
    let (_, streams) = streams_of(&[both()]);
    let kind = |result: vfiomig::Result<()>| result.unwrap_err().kind();
    let (target, load) = resuming(&[both()], MIB);
    let device = &target.devices[0];
    let mut room = device.reserve(None).unwrap();
    assert_eq!(kind(device.reserve(None).map(drop)), ErrorKind::Busy);
    assert_eq!(kind(device.write(&[1], false)), ErrorKind::Busy);
    assert_eq!(kind(device.finish(None)), ErrorKind::Busy);
    assert_eq!(kind(load.load_complete(&[], &mut |_, _| panic!("it asks for nothing")).map(drop)), ErrorKind::Busy);
    let too_much = room.len() + 1;
    assert_eq!(kind(device.commit(&mut room, too_much, false)), ErrorKind::Argument);
    assert_eq!(kind(device.commit(&mut room, 1, true)), ErrorKind::Argument);
    // Unused, or dropped: nothing was given.
    device.commit(&mut room, 0, false).unwrap();
    assert_eq!(kind(device.commit(&mut room, 0, false)), ErrorKind::Order);
    drop(device.reserve(None).unwrap());
    assert_eq!(kind(device.reserve(Some(7)).map(drop)), ErrorKind::Argument);
    give(device, &streams[0], By::Room).unwrap();
    let mut late = device.reserve(None).unwrap();
    load.abort(AbortTo::Running).unwrap();
    assert_eq!(kind(device.commit(&mut late, 1, false)), ErrorKind::Stale);
    assert_eq!(late.len(), late.iter().count(), "its memory is still there");

    load.advance(Phase::LoadResuming).unwrap();
    give(device, &streams[0], By::Write).unwrap();
    device.finish(None).unwrap();
    assert_eq!(kind(device.write(&[1], false)), ErrorKind::Order);
    assert_eq!(kind(device.reserve(None).map(drop)), ErrorKind::Order);
    load.advance(Phase::LoadRunning).unwrap();
    target.assert_clean("lent");
}

#[test]
fn devices_that_arrive_behind_the_calls_are_reported_on_the_callers_thread() {
    let mix = vec![both(); 3];
    let (_, streams) = streams_of(&mix);
    let (target, load) = resuming(&mix, MIB);
    let home = std::thread::current().id();
    let reported = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reported);
    target
        .group
        .on_progress(Duration::from_secs(60), move |event| {
            assert_eq!(std::thread::current().id(), home);
            if let (Why::Arrived, Who::Device(device)) = (event.why, event.who) {
                seen.lock().unwrap().push(device.device.clone());
            }
            vfiomig::group::Wish::GoOn
        })
        .unwrap();
    for (device, stream) in target.devices.iter().zip(&streams) {
        give(device, stream, By::Write).unwrap();
        load.load_done(device, len(stream)).unwrap();
    }
    let mut reported = reported.lock().unwrap().clone();
    reported.sort();
    assert_eq!(reported, ["d0", "d1", "d2"]);
}

/// One that is not ready for longer than a call waits is asked again: its bytes wait in the queue.
#[test]
fn a_device_that_takes_its_time_gets_its_bytes() {
    let (source, streams) = streams_of(&[both()]);
    let (target, load) = resuming(&[both()], MIB);
    let nth = target.fakes[0].count(Access::DataWrite) + 1;
    target.fakes[0].inject(Fault { access: Access::DataWrite, nth, times: 3000, effect: Effect::Errno(libc::EAGAIN) });
    give(&target.devices[0], &streams[0], By::Write).unwrap();
    assert!(load.load_done(&target.devices[0], len(&streams[0])).unwrap());
    load.advance(Phase::LoadRunning).unwrap();
    assert!(target.fakes[0].same_content(&source.fakes[0]));
    target.assert_clean("takes its time");
}

/// A function of the device that gives it bytes on the thread of the load would wait for itself.
#[test]
fn its_own_callbacks_put_nothing() {
    let (source, streams) = streams_of(&[both()]);
    let (of, refused) = (Arc::new(OnceLock::<Weak<Device>>::new()), Arc::new(Mutex::new(Vec::new())));
    let (device, errors, home) = (Arc::clone(&of), Arc::clone(&refused), std::thread::current().id());
    let before: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        let Some(device) = device.get().and_then(Weak::upgrade) else { return };
        if std::thread::current().id() != home {
            errors.lock().unwrap().push(device.write(&[1], false).map_err(|error| error.errno()));
        }
    });
    let hooked = move |fake: &simdev::Device, _: usize| -> Box<dyn Transport> {
        Box::new(rig::Hooked { inner: fake.transport(), before: Arc::clone(&before) })
    };
    let target = Rig::new(&[both()], 0, &hooked);
    let load = load_of(&target, MIB);
    load.advance(Phase::LoadResuming).unwrap();
    of.set(Arc::downgrade(&target.devices[0])).unwrap();
    give(&target.devices[0], &streams[0], By::Write).unwrap();
    assert!(load.load_done(&target.devices[0], len(&streams[0])).unwrap());
    assert!(target.fakes[0].same_content(&source.fakes[0]));
    let refused = refused.lock().unwrap();
    assert!(!refused.is_empty() && refused.iter().all(|error| *error == Err(libc::EDEADLK)), "{refused:?}");
}
