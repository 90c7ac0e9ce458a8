//! States and streams of both generations.

use super::peer::{Kind, RUNNING};
use super::rig::{Direct, content, load, open, open_with, save, set};
use vfiomig::dialect::State;
use vfiomig::error::ErrorKind;
use vfiomig::transport::vfio_user::VfioUserOptions;
use vfiomig::window::StreamFlags;

const LEN: usize = 300_001;

/// U-5, U-8, U-9: replies are longer than what counts in them, short reads are no end, and no message to the server is large.
#[test]
fn a_device_moves_from_server_to_server() {
    for short in [usize::MAX, 7777, 999] {
        let (from, to) = (Direct::new(Kind::V2, &content(LEN)), Direct::new(Kind::V2, b""));
        from.peer().short = short;
        let (source, target) = (open(&from), open(&to));
        set(&source, State::StopCopy).unwrap();
        let stream = save(&source).unwrap();
        assert_eq!(stream.concat(), content(LEN));
        set(&source, State::Stop).unwrap();
        set(&target, State::Resuming).unwrap();
        load(&target, &stream, false).unwrap();
        set(&target, State::Running).unwrap();
        let took = to.peer();
        assert!(took.loaded == content(LEN) && took.state == RUNNING);
        let largest = took.asked.iter().filter(|(command, _)| *command == 18).map(|(_, len)| *len).max();
        drop(took);
        // Beside the device nothing is asked for in STOP_COPY; the judges would say it of regions.
        let gave = from.peer();
        assert_eq!(gave.count(9) + gave.count(10), 0);
        drop(gave);
        assert_eq!(largest, Some((32 << 10) + 8));
        from.judge();
        to.judge();
    }
}

/// Pre-copy: nothing more for now is no end, and there is no message for sizes (U-4).
#[test]
fn precopy_ends_for_now_and_has_no_sizes() {
    let channel = Direct::new(Kind::V2, &content(LEN));
    channel.peer().precopy = 5000;
    let device = open(&channel);
    set(&device, State::PreCopy).unwrap();
    let mut stream = vec![0; 5000];
    assert_eq!(device.read(&mut stream).unwrap(), (5000, StreamFlags::empty()));
    assert_eq!(device.read(&mut [0; 9]).unwrap(), (0, StreamFlags::EMPTY));
    let pending = device.pending_exact().unwrap();
    assert_eq!((pending.initial_bytes, pending.dirty_bytes, pending.stop_copy_bytes), (None, None, None));
    set(&device, State::StopCopy).unwrap();
    stream.extend(save(&device).unwrap().concat());
    assert_eq!(stream, content(LEN));
    channel.judge();
}

/// A server that reads messages to their end may get large ones, never beyond what was negotiated; one that takes a certain
/// length only gets that (U-18).
#[test]
fn sizes_of_messages_are_the_callers_within_what_was_negotiated() {
    let sizes = [(1 << 20, 64, 1 << 20, 64), (usize::MAX, usize::MAX, 1 << 20, 1 << 20), (100, 100, 100, 100)];
    for (max_write, max_read, written, read) in sizes {
        let options = VfioUserOptions { max_write, max_read, ..VfioUserOptions::default() };
        let channel = Direct::new(Kind::V2, &content(3 << 20));
        let device = open_with(&channel, options).unwrap();
        set(&device, State::StopCopy).unwrap();
        assert_eq!(device.read(&mut vec![0; 2 << 20]).unwrap().0, read);
        set(&device, State::Running).unwrap();
        set(&device, State::Resuming).unwrap();
        device.write(&vec![1; 3 << 20], false).unwrap();
        let lengths = |command| {
            let peer = channel.peer();
            peer.asked.iter().filter(|asked| asked.0 == command).map(|asked| asked.1 - 8).max()
        };
        assert_eq!(lengths(18), Some(written));
    }
    for (max_write, max_read) in [(0, 64), (64, 0), (7, 7)] {
        let options = VfioUserOptions { max_write, max_read, ..VfioUserOptions::default() };
        let error = open_with(&Direct::new(Kind::V2, b""), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
    }
}

/// A write that the server refuses breaks the load: none of it may be taken for whole.
#[test]
fn a_refused_write_breaks_the_load() {
    let channel = Direct::new(Kind::V2, b"");
    let device = open(&channel);
    set(&device, State::Resuming).unwrap();
    device.write(&[1; 100], false).unwrap();
    channel.spoil(|command, answer| if command == 18 { Err(libc::EINVAL) } else { answer });
    assert_eq!(device.write(&[1; 100], false).unwrap_err().errno(), libc::EINVAL);
    assert!(device.info().broken);
    assert_eq!(set(&device, State::Running).unwrap_err().kind(), ErrorKind::Order);
}

/// The first generation: each segment as a whole, read and written, in the order of the protocol (U-17).
#[test]
fn a_first_generation_device_moves_from_server_to_server() {
    let (from, to) = (Direct::new(Kind::V1, &content(20_000)), Direct::new(Kind::V1, b""));
    let (source, target) = (open(&from), open(&to));
    set(&source, State::StopCopy).unwrap();
    let segments = save(&source).unwrap();
    assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [5000; 4]);
    assert_eq!(segments.concat(), content(20_000));
    set(&source, State::Stop).unwrap();
    set(&target, State::Resuming).unwrap();
    load(&target, &segments, true).unwrap();
    set(&target, State::Running).unwrap();
    assert_eq!(to.peer().region.loaded, content(20_000));
    from.judge();
    to.judge();
}
