//! Requests that took too long, and what comes for them afterwards.

use super::*;
use crate::transport::vfio_user::socket::after;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

fn wires() -> (Wires, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Wires::new(ours.into(), None).unwrap(), theirs)
}

fn ask(wires: &mut Wires, timeout: Duration, may_be_unknown: bool) -> WireResult<WireResult<usize>> {
    let mut exchange = Exchange::new(16, &[], &mut []);
    if may_be_unknown {
        exchange = exchange.that_may_be_unknown();
    }
    wires.exchange(&mut exchange, after(timeout), ServerSide { dma: None, max_data: 4096 })
}

/// The heads of the requests that came.
fn heads(server: &mut UnixStream, count: usize) -> Vec<Frame> {
    let mut head = [0; frame::SIZE];
    (0..count).map(|_| server.read_exact(&mut head).map(|()| Frame::from_bytes(&head).unwrap()).unwrap()).collect()
}

/// A server that was busy for long answers all of them at last, and the connection is as good as before.
#[test]
fn late_replies_make_room_for_new_requests() {
    let (mut wires, mut server) = wires();
    for _ in 0..MOST_LATE {
        assert_eq!(ask(&mut wires, SOON, false), Err(timed_out()));
    }
    // No more while it answers none of them.
    assert_eq!(ask(&mut wires, SOON, false), Err(timed_out()));
    for head in heads(&mut server, MOST_LATE) {
        server.write_all(&Frame::reply_to(head, 0).to_bytes().unwrap()).unwrap();
    }
    let answers = std::thread::spawn(move || {
        let head = heads(&mut server, 1)[0];
        server.write_all(&Frame::error_to(head, Errno::new(libc::EBUSY)).to_bytes().unwrap()).unwrap();
        server
    });
    assert_eq!(ask(&mut wires, LONG, false), Ok(Err(Errno::new(libc::EBUSY))));
    drop(answers.join().unwrap());
}

/// A server that reads nothing: what found no room in the socket was not begun, so that all is in step when the server goes on.
#[test]
fn a_request_that_was_never_begun_leaves_the_connection() {
    let (mut wires, mut server) = wires();
    let request = vec![7; 32 << 10];
    let mut asked = 0;
    for _ in 0..MOST_LATE {
        let mut exchange = Exchange::new(16, &request, &mut []);
        let outcome = wires.exchange(&mut exchange, after(SOON), ServerSide { dma: None, max_data: 4096 });
        assert_eq!(outcome, Err(timed_out()));
        asked = wires.late.len();
    }
    assert!(asked > 0 && asked < MOST_LATE / 2, "{asked} of {MOST_LATE} found room");
    let answers = std::thread::spawn(move || {
        let mut payload = vec![0; request.len()];
        for _ in 0..=asked {
            let head = heads(&mut server, 1)[0];
            server.read_exact(payload.get_mut(..head.payload).unwrap()).unwrap();
            server.write_all(&Frame::reply_to(head, 0).to_bytes().unwrap()).unwrap();
        }
        server
    });
    assert_eq!(ask(&mut wires, LONG, false), Ok(Ok(0)));
    drop(answers.join().unwrap());
}

/// U-3: who does not know the command says so twice, also where that comes too late.
#[test]
fn a_late_answer_to_an_unknown_command_comes_twice_as_well() {
    let (mut wires, mut server) = wires();
    assert_eq!(ask(&mut wires, SOON, true), Err(timed_out()));
    let probe = heads(&mut server, 1)[0];
    // The error flag and errno 0, and the same for the payload, which was taken for a request: command 0.
    for (id, command) in [(probe.id, probe.command), (16, 0)] {
        let mut bytes = Frame::reply_to(Frame::request(id, command, 0), 0).to_bytes().unwrap();
        bytes[8] |= 0x20;
        server.write_all(&bytes).unwrap();
    }
    let answers = std::thread::spawn(move || {
        let head = heads(&mut server, 1)[0];
        server.write_all(&Frame::reply_to(head, 0).to_bytes().unwrap()).unwrap();
        server
    });
    assert_eq!(ask(&mut wires, LONG, false), Ok(Ok(0)));
    drop(answers.join().unwrap());
}

/// Who asked for descriptors and got an error looks at none.
#[test]
fn descriptors_of_a_reply_that_is_none_are_closed() {
    for (payload, flags, errno) in [(0, 0x20, libc::EBUSY), (9, 0, libc::EMSGSIZE)] {
        let (mut wires, mut server) = wires();
        let (mut here, there) = UnixStream::pair().unwrap();
        let answers = std::thread::spawn(move || {
            let mut bytes = Frame::reply_to(heads(&mut server, 1)[0], payload).to_bytes().unwrap();
            (bytes[8], bytes[12]) = (bytes[8] | flags, errno as u8);
            Socket::new(server.try_clone().unwrap().into())
                .unwrap()
                .send([&bytes, &[], &[]], &[there.as_fd()], &mut |_| Ok(()))
                .unwrap();
            server.write_all(&vec![0; payload]).unwrap();
        });
        let mut room = [0; 8];
        let mut exchange = Exchange::new(5, &[], &mut room).wanting_fds(1);
        let outcome = wires.exchange(&mut exchange, after(LONG), ServerSide { dma: None, max_data: 4096 });
        assert_eq!(outcome, Ok(Err(Errno::new(errno))));
        answers.join().unwrap();
        here.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        assert_eq!(here.read(&mut [0]).ok(), Some(0), "{errno}: it is still open");
        assert!(exchange.into_fds().is_empty());
    }
}
