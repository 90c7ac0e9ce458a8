//! Servers that are more particular than simdev: the order of the registers, and how far an access may reach.

use super::server::Server;
use super::*;

fn open(server: &Server, quirks: Quirks) -> Device {
    let options = DeviceOptions { name: "vf0".into(), quirks, buffer_size: Some(64 << 10), ..DeviceOptions::default() };
    Device::new(Box::new(server.clone()), options).unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31) >> 3) as u8).collect()
}

/// All that is there; the flags that ended it.
fn drain(device: &Device, stream: &mut Vec<u8>) -> Result<StreamFlags, Error> {
    let mut buf = [0; 3000];
    loop {
        match device.read(&mut buf)? {
            (0, flags) => return Ok(flags),
            (n, _) => stream.extend(&buf[..n]),
        }
    }
}

/// Each write of device_state begins the iteration anew, so pending_bytes is read after it whatever was known before.
#[test]
fn pending_bytes_is_asked_again_in_each_state() {
    for sizes_asked in [false, true] {
        for segments in [0, 1, 3] {
            for by_peek in [false, true] {
                let content = pattern(50_000);
                let server = Server::new(3, content.clone(), 4096);
                let device = open(&server, Quirks::default());
                let mut stream = Vec::new();
                set(&device, State::PreCopy).unwrap();
                for _ in 0..segments {
                    loop {
                        let mut buf = [0; 3000];
                        let (n, flags) = device.read(&mut buf).unwrap();
                        stream.extend(&buf[..n]);
                        if flags.contains(SEGMENT_END) {
                            break;
                        }
                    }
                }
                if sizes_asked {
                    device.pending_exact().unwrap();
                }
                set(&device, State::StopCopy).unwrap();
                if by_peek {
                    let chunk = device.peek(0).unwrap();
                    stream.extend(&chunk[..]);
                    let len = chunk.len();
                    device.consume(chunk, len).unwrap();
                }
                let what = format!("sizes asked {sizes_asked}, {segments} segments, peek {by_peek}");
                let flags = drain(&device, &mut stream).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!((flags, stream == content), (END, true), "{what}");
                assert_eq!(server.model().beyond, []);
            }
        }
    }
}

/// A segment that was begun before the state change is read to its end first.
#[test]
fn a_segment_goes_on_behind_a_state_change() {
    let content = pattern(20_000);
    let server = Server::new(3, content.clone(), 4096);
    let device = open(&server, Quirks::default());
    set(&device, State::PreCopy).unwrap();
    let mut stream = vec![0; 1000];
    assert_eq!(device.read(&mut stream).unwrap(), (1000, StreamFlags::empty()));
    set(&device, State::StopCopy).unwrap();
    assert_eq!(drain(&device, &mut stream).unwrap(), END);
    assert_eq!(stream, content);
}

/// Behind a harvest of the draft the window shows its bitmap, until pending_bytes is read.
#[test]
fn a_harvest_does_not_get_into_the_stream() {
    let content = vec![0xdd; 48];
    let server = Server::new(2, content.clone(), 16);
    let device = open(&server, Quirks::default());
    server.model().copied = 64;
    server.model().bits = 0xbb;
    set(&device, State::PreCopy).unwrap();
    let harvest = || device.dirty_pfns(PfnRange { start: 0, page_size: 4096, total: 64 }, &mut |_| ()).unwrap();
    let mut stream = Vec::new();
    harvest();
    for _ in 0..2 {
        let mut buf = [0; 16];
        assert_eq!(device.read(&mut buf).unwrap(), (16, SEGMENT_END));
        stream.extend(buf);
        harvest();
    }
    // Sizes are no segment either.
    device.pending_exact().unwrap();
    harvest();
    server.model().log.clear();
    assert_eq!(drain(&device, &mut stream).unwrap(), EMPTY);
    assert_eq!(stream, content);
    assert_eq!(server.model().log[..2], ["pending_bytes", "data_offset"]);
}

/// What comes from a descriptor stays within the part of the segment that fits the window.
#[test]
fn receive_stays_within_the_region() {
    let bytes = pattern(20_000);
    for by_write in [false, true] {
        let server = Server::new(3, Vec::new(), 4096);
        server.model().size = server::DATA + 8192;
        let device = open(&server, Quirks { split_segments: true, ..Quirks::default() });
        set(&device, State::Resuming).unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&bytes).unwrap();
        let mut left = bytes.len();
        while left > 0 {
            left -= match by_write {
                true => device.write(&bytes, true).map(|()| left).unwrap(),
                false => device.receive(far.as_fd(), left, true).unwrap(),
            };
        }
        let model = server.model();
        assert_eq!(model.beyond, []);
        assert_eq!(model.loaded.iter().map(Vec::len).collect::<Vec<_>>(), [8192, 8192, 20_000 - 2 * 8192]);
        assert_eq!(model.loaded.concat(), bytes);
        drop(model);
        device.finish(Some(20_000)).unwrap();
    }
}

/// V2-13: an errno that a driver casts to a size is unknown, not 16 EiB, and the stream is read all the same.
#[test]
fn a_cast_errno_is_no_size() {
    let server = Server::new(3, pattern(5000), 4096);
    let device = open(&server, Quirks::default());
    server.model().pending_lie = u64::MAX - 4 - 5000;
    set(&device, State::PreCopy).unwrap();
    assert_eq!(device.pending_exact().unwrap().dirty_bytes, None);
    set(&device, State::StopCopy).unwrap();
    assert_eq!(device.pending_exact().unwrap().stop_copy_bytes, None);
    assert_eq!(device.read(&mut [0; 8192]).unwrap(), (4096, SEGMENT_END));
}

/// What moves nothing opens no segment, and the device is asked once where the segment goes.
#[test]
fn a_call_that_moves_nothing_opens_no_segment() {
    type Call = fn(&Device);
    let nothing: [(&str, Call); 6] = [
        ("receive at the end", |device| {
            let (near, far) = UnixStream::pair().unwrap();
            drop(near);
            assert_eq!(device.receive(far.as_fd(), 700, true).unwrap(), 0);
        }),
        ("receive fails", |device| {
            let (_near, far) = UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            assert_eq!(device.receive(far.as_fd(), 700, true).unwrap_err().errno(), libc::EAGAIN);
        }),
        ("room given back", |device| {
            let mut room = device.reserve(Some(4096)).unwrap();
            device.commit(&mut room, 0, false).unwrap();
        }),
        ("room dropped", |device| drop(device.reserve(Some(4096)).unwrap())),
        ("write of nothing", |device| device.write(&[], false).unwrap()),
        ("write of nothing, with an end", |device| device.write(&[], true).unwrap()),
    ];
    for (name, call) in nothing {
        for loaded in [0, 300] {
            let server = Server::new(3, Vec::new(), 4096);
            let device = open(&server, Quirks::default());
            set(&device, State::Resuming).unwrap();
            if loaded > 0 {
                device.write(&vec![1; loaded], true).unwrap();
            }
            call(&device);
            device.finish(Some(loaded as u64)).unwrap_or_else(|error| panic!("{name}: {error}"));
            device.finish(None).unwrap();
            // Another length can be announced, and bytes without one written.
            device.reset().unwrap();
            set(&device, State::Resuming).unwrap();
            server.model().loaded.clear();
            call(&device);
            let mut room = device.reserve(Some(100)).unwrap_or_else(|error| panic!("{name}: {error}"));
            device.commit(&mut room, 0, false).unwrap();
            server.model().log.clear();
            call(&device);
            device.write(&[2; 60], true).unwrap();
            device.finish(Some(60)).unwrap();
            let model = server.model();
            assert_eq!(model.loaded, [vec![2; 60]], "{name}");
            assert_eq!(model.log.iter().filter(|name| **name == "data_offset").count(), 0, "{name}");
        }
    }
}

/// The window is not the reason where an end was lost or another length announced.
#[test]
fn texts_about_lengths_name_the_reason() {
    let server = Server::new(3, Vec::new(), 4096);
    server.model().size = server::DATA + 4096;
    let device = open(&server, Quirks::default());
    set(&device, State::Resuming).unwrap();
    let plain = device.write(&[0; 5000], true).unwrap_err();
    assert_eq!((plain.kind(), plain.errno()), (ErrorKind::Unsupported, libc::EMSGSIZE));
    let plain = plain.to_string();
    assert!(plain.contains("5000") && plain.contains("4096") && !plain.contains("SEGMENT_END"), "{plain}");
    // The end of the first one was not carried over.
    device.write(&[0; 4000], false).unwrap();
    let lost = device.write(&[0; 500], true).unwrap_err();
    assert_eq!((lost.kind(), lost.errno()), (ErrorKind::Unsupported, libc::EMSGSIZE));
    let lost = lost.to_string();
    assert!(lost.contains("4500") && lost.contains("4096") && lost.contains("VFIOMIG_CHUNK_SEGMENT_END"), "{lost}");
    // 50 bytes are announced.
    device.reset().unwrap();
    set(&device, State::Resuming).unwrap();
    let mut room = device.reserve(Some(50)).unwrap();
    device.commit(&mut room, 10, false).unwrap();
    let more = device.write(&[0; 60], true).unwrap_err();
    assert_eq!(more.kind(), ErrorKind::Argument);
    let more = more.to_string();
    assert!(more.contains("60") && more.contains("40") && !more.contains("window"), "{more}");
}
