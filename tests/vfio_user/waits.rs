//! What a server can do to the process of its client: waits end in time, signals change nothing, descriptors that nobody asked
//! for are closed at once, and a stream that is out of step is not used again.

use super::served::{Ends, PLAIN, TWIN, connect, message, receive, send};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};
use vfiomig::error::ErrorKind;
use vfiomig::log::{Level, set_sink};
use vfiomig::transport::vfio_user::{ConnectOptions, DmaAccess, Exchange, VfioUserChannel, VfioUserConnection};

/// A command that no server of these tests knows.
const ANY: u16 = 99;

fn within(timeout: Duration) -> ConnectOptions {
    ConnectOptions { timeout, ..ConnectOptions::default() }
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn request(connection: &VfioUserConnection, bytes: &[u8], room: usize) -> Result<usize, i32> {
    let mut reply = vec![0; room];
    connection.request(&mut Exchange::new(ANY, bytes, &mut reply)).map_err(|error| error.errno())
}

/// Servers take one client at a time, and let few of them wait: the next one would wait in connect() for ever.
#[test]
fn a_server_that_accepts_nobody_is_given_up_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy");
    let listener = UnixListener::bind(&path).unwrap();
    // SAFETY: makes the queue of a socket that is ours shorter.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let _waits = UnixStream::connect(&path).unwrap();
    let (tell, told) = channel();
    spawn(move || tell.send(VfioUserConnection::connect(&path, within(millis(300))).err()));
    let error = told.recv_timeout(Duration::from_secs(20)).expect("it waits for ever").unwrap();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Device, libc::ETIMEDOUT), "{error}");
    assert!(error.to_string().contains("busy"), "{error}");
}

extern "C" fn nothing(_: libc::c_int) {}

/// A handler of the VMM's that runs while the library waits is no message of the server's.
#[test]
fn a_signal_ends_no_wait() {
    // SAFETY: a handler that does nothing, for a signal that nothing else here uses.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let (connection, Ends { mut main, twin }) = connect(TWIN, within(Duration::from_secs(5)));
    let client = spawn(move || {
        let begun = Instant::now();
        let served = connection.serve(millis(400)).map_err(|error| error.to_string());
        let took = begun.elapsed();
        (served, took, request(&connection, &[], 0))
    });
    let server = spawn(move || {
        let (asked, _) = receive(&mut main).unwrap();
        sleep(millis(400));
        send(&main, &message(asked.id, asked.command, 1, 0, &[]), &[]);
        (main, twin)
    });
    while !client.is_finished() {
        // SAFETY: a thread that was not joined yet.
        unsafe { libc::pthread_kill(client.as_pthread_t(), libc::SIGUSR1) };
        sleep(millis(20));
    }
    let (served, took, asked) = client.join().unwrap();
    assert_eq!((served, asked), (Ok(0), Ok(0)));
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(server.join().unwrap());
}

/// Descriptors ride on any byte of a payload; a server must not fill the process with them while the rest is waited for.
#[test]
fn descriptors_that_nobody_asked_for_are_closed_as_they_come() {
    for room in [64, 0] {
        let (connection, Ends { mut main, .. }) = connect(PLAIN, within(Duration::from_secs(20)));
        let server = spawn(move || {
            let (asked, _) = receive(&mut main).unwrap();
            let reply = message(asked.id, asked.command, 1, 0, &[7; 9]);
            send(&main, &reply[..16], &[]);
            let mut closed = true;
            for byte in reply[16..24].iter() {
                let (mut here, there) = UnixStream::pair().unwrap();
                send(&main, &[*byte], &[there.into()]);
                here.set_read_timeout(Some(millis(1500))).unwrap();
                closed = closed && here.read(&mut [0]).is_ok_and(|n| n == 0);
            }
            send(&main, &reply[24..], &[]);
            closed
        });
        let expected = if room > 0 { Ok(9) } else { Err(libc::EMSGSIZE) };
        assert_eq!(request(&connection, &[], room), expected);
        assert!(server.join().unwrap(), "{room}: kept until the end of the reply");
    }
}

/// A part of our request is on its way, and a part of a request of the server's was read: neither socket is in step any more.
#[test]
fn half_a_request_beside_half_a_request_ends_the_connection() {
    for sent in [1, 16, 20] {
        let (connection, ends) = connect(TWIN, within(millis(500)));
        let own = message(1, 12, 0, 0, &[0; 24]);
        send(ends.twin.as_ref().unwrap(), &own[..sent], &[]);
        let begun = Instant::now();
        assert_eq!(request(&connection, &vec![0; 8 << 20], 0), Err(libc::EPIPE), "{sent}");
        assert_eq!(request(&connection, &[], 0), Err(libc::ENOTCONN), "{sent}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

/// One message after another, each of them slow, keep nobody in `serve`.
#[test]
fn serving_ends_although_a_server_always_has_more() {
    let (connection, Ends { main: _main, twin }) = connect(TWIN, within(millis(1000)));
    let own = twin.unwrap();
    let server = spawn(move || {
        let request = message(1, 7, 0x10, 0, &[]);
        send(&own, &request[..1], &[]);
        for _ in 0..16 {
            sleep(millis(400));
            send(&own, &[&request[1..], &request[..1]].concat(), &[]);
        }
    });
    let begun = Instant::now();
    let served = connection.serve(millis(900)).unwrap();
    assert!(begun.elapsed() < millis(4000) && served < 12, "{served} in {:?}", begun.elapsed());
    server.join().unwrap();
}

/// No deadline is one in the far future, not one that is over.
#[test]
fn any_time_can_be_waited_for() {
    let (connection, Ends { mut main, .. }) = connect(PLAIN, within(Duration::MAX));
    let server = spawn(move || {
        let (asked, _) = receive(&mut main).unwrap();
        sleep(millis(100));
        send(&main, &message(asked.id, asked.command, 1, 0, &[]), &[]);
        sleep(millis(100));
        send(&main, &message(1, 7, 0x10, 0, &[]), &[]);
        main
    });
    assert_eq!(request(&connection, &[], 0), Ok(0));
    assert_eq!(connection.serve(Duration::MAX).unwrap(), 1);
    drop(server.join().unwrap());
}

/// A descriptor that comes as the second socket is looked at before it is waited on: a wait on another file may have no end.
#[test]
fn a_second_socket_is_a_socket() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = spawn(move || {
        let (version, _) = receive(&mut theirs).unwrap();
        let payload = [&[0, 0, 2, 0], TWIN.as_bytes(), &[0]].concat();
        send(&theirs, &message(version.id, 1, 1, 0, &payload), &[tempfile::tempfile().unwrap().into()]);
        theirs
    });
    let error = VfioUserConnection::new(ours.into(), within(Duration::from_secs(5))).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    drop(server.join().unwrap());
    let no_socket = tempfile::tempfile().unwrap().into();
    let error = VfioUserConnection::new(no_socket, ConnectOptions::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
}

/// Who has many servers wants to know which one has gone: once in the log, and in each error.
#[test]
fn a_connection_that_is_lost_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gone");
    let listener = UnixListener::bind(&path).unwrap();
    let server = spawn(move || {
        let (mut main, _) = listener.accept().unwrap();
        let (version, _) = receive(&mut main).unwrap();
        send(&main, &message(version.id, 1, 1, 0, &[0, 0, 2, 0]), &[]);
        receive(&mut main).unwrap();
    });
    let name = path.display().to_string();
    let (lines, of) = (Arc::<Mutex<Vec<_>>>::default(), name.clone());
    let kept = Arc::clone(&lines);
    let keep = move |level, line: &str| {
        if line.contains(&of) {
            kept.lock().unwrap().push((level, line.to_string()));
        }
    };
    set_sink(Some(Arc::new(keep)), Level::Warning);
    let connection = VfioUserConnection::connect(&path, within(Duration::from_secs(20))).unwrap();
    for _ in 0..3 {
        let error = connection.map(0, 0x1000, None, DmaAccess::ALL).unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
    }
    set_sink(None, Level::Error);
    server.join().unwrap();
    let lines = lines.lock().unwrap();
    assert!(matches!(&lines[..], [(Level::Error, line)] if line.contains("is lost")), "{lines:?}");
}

/// U-20: what a server did with a mapping that it never answered for is not known, so it can still be taken away; and where the
/// server has none of it, there is none.
#[test]
fn a_mapping_without_an_answer_can_be_taken_away() {
    let (connection, Ends { mut main, .. }) = connect(PLAIN, within(millis(500)));
    let map = || connection.map(0x1000, 0x1000, None, DmaAccess::ALL).map_err(|error| error.errno());
    let unmap = || connection.unmap(0x1000, 0x1000).map_err(|error| error.errno());
    assert_eq!(map(), Err(libc::ETIMEDOUT));
    assert_eq!(map(), Err(libc::EEXIST));
    let server = spawn(move || {
        // Late: it was mapped. It is taken away without an answer, and is not there when that is asked again.
        for answer in [Some(0), None, Some(libc::ENOENT), Some(0)] {
            let (asked, _) = receive(&mut main).unwrap();
            if let Some(errno) = answer {
                let flags = if errno == 0 { 1 } else { 0x21 };
                send(&main, &message(asked.id, asked.command, flags, errno as u32, &[]), &[]);
            }
        }
        main
    });
    assert_eq!(unmap(), Err(libc::ETIMEDOUT));
    assert_eq!(unmap(), Err(libc::ENOENT));
    assert_eq!(map(), Ok(()));
    drop(server.join().unwrap());
    assert!(connection.limits().max_fds > 0);
}
