//! Connections of the library's own: the handshake, deadlines, servers that die or lie, and memory that they use (U-15, U-19,
//! U-20).

use super::peer::Kind;
use super::rig::{content, load, save, set};
use super::served::{Ends, PLAIN, Served, TWIN, connect, message, receive, send};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::{DialectKind, State};
use vfiomig::error::{Errno, ErrorKind};
use vfiomig::tracker::{IovaRange, LogKind, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::Transport;
use vfiomig::transport::vfio_user::{ConnectOptions, DmaAccess, ServerDma, VfioUserChannel, VfioUserConnection};

const SHORT: Duration = Duration::from_secs(2);

fn soon() -> ConnectOptions {
    ConnectOptions { timeout: SHORT, ..ConnectOptions::default() }
}

fn device(connection: &Arc<VfioUserConnection>) -> Device {
    Device::new(Box::new(connection.transport().unwrap()), DeviceOptions::default()).unwrap()
}

fn memory(len: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file
}

#[test]
fn devices_move_between_servers_behind_sockets() {
    for (kind, dialect) in [(Kind::V2, DialectKind::V2), (Kind::V1, DialectKind::V1)] {
        let (from, source_server, _twin) = Served::new(kind, &content(20_000), ConnectOptions::default());
        let (to, target_server, _other) = Served::new(kind, b"", ConnectOptions::default());
        assert!(from.migratable() && from.fds().0 != from.fds().1);
        let (source, target) = (device(&from), device(&to));
        assert_eq!(source.info().dialect, Some(dialect));
        set(&source, State::StopCopy).unwrap();
        let stream = save(&source).unwrap();
        assert_eq!(stream.concat(), content(20_000));
        set(&source, State::Stop).unwrap();
        set(&target, State::Resuming).unwrap();
        load(&target, &stream, kind == Kind::V1).unwrap();
        set(&target, State::Running).unwrap();
        let peer = target_server.peer();
        assert_eq!(if kind == Kind::V1 { &peer.region.loaded } else { &peer.loaded }, &content(20_000));
        assert_eq!((&peer.offences, &source_server.peer().offences), (&vec![], &vec![]));
    }
}

/// U-3: the second reply of a server that does not know the command comes between later ones, and is thrown away.
#[test]
fn a_stray_reply_is_thrown_away() {
    let (connection, server, _twin) = Served::new(Kind::Ancient, b"", ConnectOptions::default());
    let device = device(&connection);
    assert_eq!(device.info().dialect, None);
    device.reset().unwrap();
    device.reprobe().unwrap();
    assert_eq!(server.peer().offences, Vec::<String>::new());
}

#[test]
fn what_was_negotiated_holds() {
    let (connection, ends) = connect(PLAIN, ConnectOptions { max_data: 8192, ..soon() });
    let limits = connection.limits();
    assert_eq!((limits.minor, limits.max_data, limits.max_fds, limits.page_size), (2, 8192, 8, 4096));
    assert!(ends.twin.is_none() && connection.fds().0 == connection.fds().1);
    for max_data in [0, 4095, (1 << 20) + 1] {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = VfioUserConnection::new(ours.into(), ConnectOptions { max_data, ..soon() }).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Argument);
    }
    let error = VfioUserConnection::connect("/nonexistent/socket", soon()).err().unwrap();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::ENOENT));
}

/// A server that answers the version with nothing, with silence, or with nonsense.
#[test]
fn a_handshake_that_fails_says_so_in_time() {
    let answers: [(&[u8], bool, ErrorKind, i32); 5] = [
        (&[], true, ErrorKind::Device, libc::ECONNRESET),
        (&[], false, ErrorKind::Device, libc::ETIMEDOUT),
        (&[0; 7], false, ErrorKind::Device, libc::EPIPE),
        (&[0xff; 16], false, ErrorKind::Device, libc::EPROTO),
        (b"GET / HTTP/1.1\r\n\r\n", false, ErrorKind::Device, libc::EPROTO),
    ];
    for (answer, hangs_up, kind, errno) in answers {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&theirs, answer, &[]);
        let theirs = (!hangs_up).then_some(theirs);
        let begun = Instant::now();
        let error = VfioUserConnection::new(ours.into(), soon()).err().unwrap();
        // A peer that is gone before the request is EPIPE, one that goes after it ECONNRESET.
        let gone = hangs_up && error.errno() == libc::EPIPE;
        assert!(error.kind() == kind && (error.errno() == errno || gone), "{error} {answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        drop(theirs);
    }
}

/// A server that dies or is silent in the middle of anything: an error in time, no signal, and no hang of later calls.
#[test]
fn a_server_that_dies_is_an_error() {
    for after in 0..12 {
        let (connection, Ends { mut main, twin }) = connect(TWIN, ConnectOptions::default());
        let mut peer = super::peer::Peer::new(Kind::V2, &content(9000));
        let server = std::thread::spawn(move || {
            for _ in 0..after {
                let Some((head, fds)) = receive(&mut main) else { return };
                let reply = match peer.answer(head.command, &head.payload, &fds) {
                    Ok((payload, _)) => message(head.id, head.command, 1, 0, &payload),
                    Err(errno) => message(head.id, head.command, 0x21, errno as u32, &[]),
                };
                send(&main, &reply, &[]);
            }
            drop((main, twin));
        });
        let outcome = Device::new(Box::new(connection.transport().unwrap()), DeviceOptions::default());
        let outcome = outcome.and_then(|device| {
            set(&device, State::StopCopy)?;
            save(&device)?;
            set(&device, State::Running)?;
            (0..9).try_for_each(|_| device.reset())
        });
        server.join().unwrap();
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device, "{after}: {error}");
        // Nothing waits for a connection that is lost.
        let begun = Instant::now();
        let error = connection.serve(Duration::from_secs(60)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(30) && error.errno() == libc::ENOTCONN, "{error}");
    }
}

/// A reply that comes too late is not taken for that of the next request.
#[test]
fn a_late_reply_is_thrown_away() {
    let (connection, Ends { mut main, .. }) = connect(PLAIN, soon());
    let transport = connection.transport().unwrap();
    assert_eq!(transport.reset(), Err(Errno::new(libc::ETIMEDOUT)));
    let (late, _) = receive(&mut main).unwrap();
    let server = std::thread::spawn(move || {
        let (now, _) = receive(&mut main).unwrap();
        send(&main, &message(late.id, late.command, 1, 0, &[]), &[]);
        send(&main, &message(now.id, now.command, 0x21, libc::EBUSY as u32, &[]), &[]);
        main
    });
    assert_eq!(transport.reset(), Err(Errno::new(libc::EBUSY)));
    drop(server.join().unwrap());
}

/// Replies that no server may send end the connection, and nothing of them is kept.
#[test]
fn lies_end_the_connection() {
    let lies: [fn(u16, u16) -> Vec<u8>; 6] = [
        |id, command| message(id.wrapping_add(1), command, 1, 0, &[]),
        |id, command| message(id, command + 1, 1, 0, &[]),
        |id, command| message(id, command, 2, 0, &[]),
        |id, command| [&message(id, command, 1, 0, &[])[..4], &[0xff; 12]].concat(),
        |id, command| [&message(id, command, 1, 0, &[])[..4], &15u32.to_ne_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0]].concat(),
        |id, command| {
            [&message(id, command, 1, 0, &[])[..4], &(1u32 << 31).to_ne_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0]].concat()
        },
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let (connection, Ends { mut main, .. }) = connect(PLAIN, ConnectOptions::default());
        let transport = connection.transport().unwrap();
        let server = std::thread::spawn(move || {
            let (head, _) = receive(&mut main).unwrap();
            send(&main, &lie(head.id, head.command), &[memory(0).into()]);
            main
        });
        assert_eq!(transport.reset(), Err(Errno::new(libc::EPROTO)), "{n}");
        assert_eq!(transport.reset(), Err(Errno::new(libc::ENOTCONN)), "{n}");
        drop(server.join().unwrap());
    }
}

/// A reply that is larger than its room is read to its end: the next one is in step.
#[test]
fn a_large_reply_does_not_end_the_connection() {
    let (connection, Ends { mut main, .. }) = connect(PLAIN, ConnectOptions::default());
    let transport = connection.transport().unwrap();
    let server = std::thread::spawn(move || {
        for payload in [vec![7; 3 << 20], Vec::new()] {
            let (head, _) = receive(&mut main).unwrap();
            send(&main, &message(head.id, head.command, 1, 0, &payload), &[]);
        }
    });
    assert_eq!(transport.reset(), Err(Errno::new(libc::EMSGSIZE)));
    assert_eq!(transport.reset(), Ok(()));
    server.join().unwrap();
}

/// What a server asks for in the middle of our request, by which socket it may.
fn ask(stream: &mut UnixStream, command: u16, address: u64, count: u64, data: &[u8]) -> (u32, u32, Vec<u8>) {
    let payload = [&address.to_ne_bytes()[..], &count.to_ne_bytes(), data].concat();
    send(stream, &message(0x4242, command, 0, 0, &payload), &[]);
    let (reply, _) = receive(stream).unwrap();
    assert_eq!((reply.id, reply.command), (0x4242, command));
    (reply.flags, reply.errno, reply.payload)
}

/// U-19, U-20: memory is read and written for the server while a reply is waited for, on either socket, within what is mapped.
#[test]
fn a_server_uses_memory_by_messages() {
    for text in [PLAIN, TWIN] {
        let (connection, Ends { mut main, twin }) = connect(text, ConnectOptions::default());
        let ram = memory(0x4000);
        ram.write_all_at(&[9; 16], 0x1ffc).unwrap();
        let server = std::thread::spawn(move || {
            let (map, fds) = receive(&mut main).unwrap();
            assert_eq!((map.command, map.payload.len(), fds.len()), (2, 32, 1));
            assert_eq!(map.payload[4..8], 3u32.to_ne_bytes());
            send(&main, &message(map.id, 2, 1, 0, &[]), &[]);
            let (reset, _) = receive(&mut main).unwrap();
            let mut own = twin.unwrap_or_else(|| main.try_clone().unwrap());
            let (flags, errno, data) = ask(&mut own, 11, 0x10_1ffc, 16, &[]);
            assert_eq!((flags, errno, &data[16..]), (1, 0, &[9; 16][..]));
            let (flags, errno, data) = ask(&mut own, 12, 0x10_0ffe, 4, &[1, 2, 3, 4]);
            assert_eq!((flags, errno, data.len()), (1, 0, 16));
            for (address, count) in [(0, 1), (0x10_3fff, 2), (u64::MAX, 2), (0x10_0000, u64::MAX)] {
                let (flags, errno, data) = ask(&mut own, 11, address, count, &[]);
                assert!(flags == 0x21 && errno != 0 && data.is_empty(), "{address:#x}");
            }
            assert_eq!(ask(&mut own, 12, 0x10_0000, 5, &[0]).0, 0x21, "a write without its bytes");
            assert_eq!(ask(&mut own, 7, 0, 0, &[]).0, 0x21, "no request of a server's");
            send(&main, &message(reset.id, 13, 1, 0, &[]), &[]);
            (main, own)
        });
        connection.map(0x10_0000, 0x4000, Some((ram.as_fd(), 0)), DmaAccess::ALL).unwrap();
        assert_eq!(connection.transport().unwrap().reset(), Ok(()));
        let mut got = [0; 4];
        ram.read_exact_at(&mut got, 0xffe).unwrap();
        assert_eq!(got, [1, 2, 3, 4]);
        drop(server.join().unwrap());
    }
}

/// While no call is made they wait for `serve`, and a callback may not call back.
#[test]
fn serve_answers_by_the_callers_functions() {
    struct Vmm(std::sync::Weak<VfioUserConnection>);
    static ME: std::sync::OnceLock<Vmm> = std::sync::OnceLock::new();
    struct ByVmm;
    impl ServerDma for ByVmm {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
            buf.fill(address as u8);
            let error = ME.get().and_then(|vmm| vmm.0.upgrade()).unwrap().serve(SHORT).unwrap_err();
            assert_eq!(error.errno(), libc::EDEADLK);
            Ok(())
        }
        fn write(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
            Err(Errno::new(libc::EIO))
        }
    }
    let dma: Option<Box<dyn ServerDma>> = Some(Box::new(ByVmm));
    let (connection, Ends { mut main, twin }) = connect(TWIN, ConnectOptions { dma, ..ConnectOptions::default() });
    assert!(ME.set(Vmm(Arc::downgrade(&connection))).is_ok());
    assert_eq!(connection.serve(Duration::ZERO).unwrap(), 0);
    let server = std::thread::spawn(move || {
        let (map, fds) = receive(&mut main).unwrap();
        assert!(fds.is_empty());
        send(&main, &message(map.id, 2, 1, 0, &[]), &[]);
        let mut own = twin.unwrap();
        let read = ask(&mut own, 11, 0x42, 3, &[]);
        let write = ask(&mut own, 12, 0x42, 1, &[0]);
        (read.2[16..].to_vec(), write.1, main, own)
    });
    connection.map(0, 0x1000, None, DmaAccess::ALL).unwrap();
    // The first may be served by the mapping already.
    while !server.is_finished() {
        connection.serve(Duration::from_millis(20)).unwrap();
    }
    let (read, errno, _main, _own) = server.join().unwrap();
    assert_eq!((read, errno), (vec![0x42; 3], libc::EIO as u32));
}

/// U-20: what overlaps or is not mapped is refused here, and what the server refuses is not mapped.
#[test]
fn mappings_are_exact() {
    let (connection, server, _twin) = Served::new(Kind::V2, b"", ConnectOptions::default());
    let ram = memory(0x4000);
    let map = |iova, size| connection.map(iova, size, Some((ram.as_fd(), 0)), DmaAccess::ALL);
    map(0x1000, 0x2000).unwrap();
    for (iova, size, errno) in [(0x2000, 0x1000, libc::EEXIST), (0, 0, libc::EINVAL), (u64::MAX, 2, libc::EINVAL)] {
        assert_eq!(map(iova, size).unwrap_err().errno(), errno);
    }
    for (iova, size) in [(0x1000, 0x1000), (0, 0x1000), (0x2000, 0x1000)] {
        assert_eq!(connection.unmap(iova, size).unwrap_err().errno(), libc::ENOENT);
    }
    assert_eq!(server.peer().dma.len(), 1);
    connection.unmap(0x1000, 0x2000).unwrap();
    assert!(server.peer().dma.is_empty());
    map(0x1000, 0x2000).unwrap();
    connection.close().unwrap();
    let error = connection.unmap(0x1000, 0x2000).unwrap_err();
    assert_eq!(error.errno(), libc::ENODEV);
    assert_eq!(connection.transport().unwrap().reset(), Err(Errno::new(libc::ENODEV)));
}

/// U-15: pages that were written by messages are in the log of the device, beside those that the server wrote itself.
#[test]
fn pages_written_by_messages_are_in_the_log() {
    let (connection, server, twin) = Served::new(Kind::V2, b"state", ConnectOptions::default());
    let (ram, mut twin) = (memory(1 << 20), twin.unwrap());
    connection.map(0, 1 << 20, Some((ram.as_fd(), 0)), DmaAccess::ALL).unwrap();
    let devices = vec![Arc::new(device(&connection))];
    let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap();
    tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 0 }]).unwrap();
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, LogKind::DmaLog);
    let writer = std::thread::spawn(move || {
        assert_eq!(ask(&mut twin, 12, 0x5ffe, 4, &[1; 4]).0, 1);
        twin
    });
    assert_eq!(connection.serve(Duration::from_secs(10)).unwrap(), 1);
    assert!(server.peer().write_memory(0x9000));
    let mut found = Vec::new();
    let mut run = |_: u64, run: IovaRange| {
        found.extend(run.iova >> 12..(run.iova + run.size) >> 12);
        true
    };
    tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    assert_eq!(found, [5, 6, 9]);
    tracker.stop().unwrap();
    drop(writer.join().unwrap());
}

/// The socket is closed with the connection.
#[test]
fn closing_hangs_up() {
    let (connection, mut ends) = connect(PLAIN, ConnectOptions::default());
    drop(connection);
    assert_eq!(ends.main.read(&mut [0]).unwrap(), 0);
}
