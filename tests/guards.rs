//! Chunks and rooms as safe code has them: guards that own their memory, go back when they are dropped, and stay readable
//! whatever becomes of the session, of the device and of its handle.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use simdev::{Access, Config, Effect, Fault, Precopy, Window};
use vfiomig::device::{CapFlags, Device, DeviceOptions, OnFailure};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::ErrorKind;
use vfiomig::window::StreamFlags;

const SIZE: usize = 30_000;

fn configs() -> Vec<Config> {
    let mut all: Vec<Config> = [Window::Trapped, Window::Area, Window::Gap]
        .into_iter()
        .map(|window| Config::v1(window).segments(9000))
        .collect();
    all.push(Config::v2(Caps { p2p: true, pre_copy: true }));
    all.into_iter().map(|config| Config { precopy: Precopy::Nothing, ..config }.state_size(SIZE).seeded(5)).collect()
}

fn open(config: &Config) -> (simdev::Device, Device) {
    let sim = simdev::Device::new(config.clone());
    sim.allow_abort(true);
    let options = DeviceOptions { name: "vf0".into(), buffer_size: Some(8192), ..DeviceOptions::default() };
    let device = Device::new(sim.transport(), options).unwrap();
    (sim, device)
}

fn set(device: &Device, to: State) {
    device.set_state(to, OnFailure::Keep, false).unwrap();
}

/// How long a segment is left for room, where there are segments.
fn segment(device: &Device, len: u64) -> Option<u64> {
    (device.info().dialect != Some(vfiomig::dialect::DialectKind::V2)).then_some(len)
}

/// The state that a device has after all of another's stream.
fn migrate(from: &Device, to: &Device, mut disturb: impl FnMut(&Device, &Device)) {
    set(from, State::StopCopy);
    set(to, State::Resuming);
    loop {
        disturb(from, to);
        let chunk = from.peek(0).unwrap();
        if chunk.is_empty() {
            assert_eq!(chunk.flags(), StreamFlags::END);
            from.consume(chunk, 0).unwrap();
            break;
        }
        let mut room = to.reserve(chunk.segment_left()).unwrap();
        let len = room.len().min(chunk.len());
        room[..len].copy_from_slice(&chunk[..len]);
        let end = chunk.segment_left() == Some(len as u64);
        to.commit(&mut room, len, end).unwrap();
        assert!(room.is_empty(), "given back");
        from.consume(chunk, len).unwrap();
    }
    to.finish(Some(from.info().saved_bytes)).unwrap();
    set(to, State::Running);
}

#[test]
fn a_stream_goes_through_guards() {
    for config in configs() {
        let ((one, from), (other, to)) = (open(&config), open(&config));
        migrate(&from, &to, |_, _| ());
        assert!(one.same_content(&other), "{:?}", config.window);
        other.assert_clean();
    }
}

/// One that is dropped was not consumed, or commits nothing; then the next one can be lent.
#[test]
fn what_is_dropped_comes_back() {
    for config in configs() {
        let ((one, from), (other, to)) = (open(&config), open(&config));
        migrate(&from, &to, |from, to| {
            let chunk = from.peek(0).unwrap();
            if !chunk.is_empty() {
                assert_eq!(from.peek(0).unwrap_err().kind(), ErrorKind::Busy, "one is out");
                let first = chunk.to_vec();
                drop(chunk);
                let again = from.peek(0).unwrap();
                assert_eq!(again[..], first[..]);
                let part = to.reserve(again.segment_left()).unwrap();
                let busy = to.reserve(again.segment_left()).unwrap_err();
                assert_eq!(busy.kind(), ErrorKind::Busy);
                drop(part);
            }
        });
        assert!(one.same_content(&other), "{:?}", config.window);
        other.assert_clean();
    }
}

/// The bytes may be with the other side: only the caller can say that they are not.
#[test]
fn a_chunk_that_was_shown_and_dropped_voids_a_stream_that_ends() {
    let (_sim, device) = open(&configs()[3]);
    set(&device, State::StopCopy);
    drop(device.peek(100).unwrap());
    drop(device.peek(100).unwrap());
    set(&device, State::Running);
    set(&device, State::StopCopy);
    assert_eq!(device.peek(0).unwrap_err().kind(), ErrorKind::Stale);
    device.restart_stream().unwrap();
    assert_eq!(device.peek(100).unwrap().len(), 100);
}

/// What a session that is over has lent is neither taken back nor written to, and does not hold up the next one.
#[test]
fn guards_outlive_their_session() {
    for config in configs() {
        let what = format!("{:?} {:?}", config.dialect, config.window);
        let (sim, device) = open(&config);
        set(&device, State::StopCopy);
        let chunk = device.peek(0).unwrap();
        let bytes = chunk.to_vec();
        device.reset().unwrap();
        set(&device, State::Resuming);
        let mut room = device.reserve(segment(&device, 2000)).unwrap();
        room.fill(0x5a);
        device.reset().unwrap();
        device.restart_stream().unwrap();
        set(&device, State::StopCopy);
        let mut buf = vec![0; 3000];
        device.read(&mut buf).unwrap();
        // With the old ones alive new ones are lent, and are what counts.
        let second = device.peek(0).unwrap();
        assert_eq!(device.commit(&mut room, 10, false).unwrap_err().kind(), ErrorKind::Order, "{what}");
        assert_eq!(device.peek(0).unwrap_err().kind(), ErrorKind::Busy, "{what}");
        drop(second);
        let third = device.peek(50).unwrap();
        assert_eq!(device.consume(chunk, 1).unwrap_err().kind(), ErrorKind::Stale, "{what}");
        device.consume(third, 50).unwrap();
        device.reset().unwrap();
        set(&device, State::Resuming);
        let mut other = device.reserve(segment(&device, 2000)).unwrap();
        assert_eq!(device.commit(&mut room, 10, false).unwrap_err().kind(), ErrorKind::Stale, "{what}");
        device.commit(&mut other, 0, false).unwrap();
        assert!(room.iter().all(|byte| *byte == 0x5a), "{what}");
        device.reset().unwrap();
        device.restart_stream().unwrap();
        set(&device, State::StopCopy);
        let last = device.peek(0).unwrap();
        drop(device);
        assert_eq!((last.len(), &last[..10]), (bytes.len(), &bytes[..10]), "{what}");
        assert_eq!(sim.mappings(), 0, "{what}: a guard keeps no mapping");
    }
}

/// Of a device or of a handle that is not its own, nothing is taken.
#[test]
fn another_devices_guard_is_refused() {
    let ((_a, one), (_b, other)) = (open(&configs()[3]), open(&configs()[3]));
    set(&one, State::StopCopy);
    set(&other, State::StopCopy);
    let (mine, theirs) = (one.peek(10).unwrap(), other.peek(10).unwrap());
    assert_eq!(one.consume(theirs, 10).unwrap_err().kind(), ErrorKind::Stale);
    one.consume(mine, 10).unwrap();
    assert_eq!((one.info().saved_bytes, other.info().saved_bytes), (10, 0));
}

/// A device may change its memory at any time, so a reference to it would be none.
#[test]
fn device_memory_is_copied() {
    let (_sim, device) = open(&configs()[1]);
    set(&device, State::StopCopy);
    assert!(device.info().caps.contains(CapFlags::MAPPED));
    let chunk = device.peek(0).unwrap();
    let segment = chunk.segment_left().unwrap() as usize;
    assert!(chunk.len() == 8192 && segment > 8192, "as much as the buffer has");
    assert_eq!(chunk.flags(), StreamFlags::empty());
    device.consume(chunk, 8000).unwrap();
    let mut rest = [0; 100];
    assert_eq!(device.read(&mut rest).unwrap(), (100, StreamFlags::empty()));
    let chunk = device.peek(0).unwrap();
    assert_eq!((chunk.len(), chunk.flags()), (segment - 8100, StreamFlags::SEGMENT_END));
}

/// After a failure before anything moved the room is as it was; after another it is of no use any more.
#[test]
fn a_commit_that_failed_can_be_made_again() {
    let config = configs()[0].clone().segments(4000);
    for (errno, again) in [(libc::EAGAIN, true), (libc::EIO, false)] {
        let ((_one, from), (sim, device)) = (open(&config), open(&config));
        set(&from, State::StopCopy);
        set(&device, State::Resuming);
        let segment = from.peek(0).unwrap();
        let (len, left) = (segment.len(), segment.segment_left());
        assert_eq!(Some(len as u64), left);
        let mut room = device.reserve(left).unwrap();
        room.copy_from_slice(&segment);
        sim.inject(Fault::at(Access::DataWrite, 0, Effect::Errno(errno)));
        assert_eq!(device.commit(&mut room, len, true).unwrap_err().errno(), errno);
        if again {
            assert_eq!(room[..], segment[..]);
            device.commit(&mut room, len, true).unwrap();
            assert_eq!((device.info().loaded_bytes, room.len()), (len as u64, 0));
        } else {
            assert!(room.is_empty());
            assert_eq!(device.reserve(left).unwrap_err().kind(), ErrorKind::Stale);
        }
    }
}
