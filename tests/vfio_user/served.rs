//! The peer behind a socket, in a thread: what it reads is framed as the protocol has it, and what it says can be spoiled.

use super::peer::{Kind, Peer};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use vfiomig::transport::vfio_user::{ConnectOptions, VfioUserConnection};

/// A message as it is on the wire.
pub fn message(id: u16, command: u16, flags: u32, errno: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [id.to_ne_bytes(), command.to_ne_bytes()].concat();
    for word in [16 + payload.len() as u32, flags, errno] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(payload);
    bytes
}

pub struct Head {
    pub id: u16,
    pub command: u16,
    pub payload: Vec<u8>,
    pub flags: u32,
    pub errno: u32,
}

/// Reads one message; `None`: the client has gone.
pub fn receive(stream: &mut UnixStream) -> Option<(Head, Vec<OwnedFd>)> {
    let mut head = [0; 16];
    let mut fds = Vec::new();
    let mut done = 0;
    while done < 16 {
        let (n, mut more) = receive_some(stream, &mut head[done..])?;
        fds.append(&mut more);
        done += n;
    }
    let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
    let half = |at: usize| u16::from_ne_bytes(head[at..at + 2].try_into().unwrap());
    let mut payload = vec![0; word(4) as usize - 16];
    stream.read_exact(&mut payload).ok()?;
    Some((Head { id: half(0), command: half(2), payload, flags: word(8), errno: word(12) }, fds))
}

fn receive_some(stream: &UnixStream, bytes: &mut [u8]) -> Option<(usize, Vec<OwnedFd>)> {
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: zeros are a msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
    // SAFETY: all of it lives through the call.
    let n = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut message, 0) };
    let mut fds = Vec::new();
    // SAFETY: the kernel filled it.
    let head = unsafe { libc::CMSG_FIRSTHDR(&message) };
    if !head.is_null() {
        // SAFETY: a header that the kernel wrote.
        let len = unsafe { (*head).cmsg_len } as usize - 16;
        for at in 0..len / 4 {
            // SAFETY: so many numbers of descriptors that are ours.
            fds.push(unsafe { OwnedFd::from_raw_fd(libc::CMSG_DATA(head).cast::<i32>().add(at).read_unaligned()) });
        }
    }
    (n > 0).then_some((n as usize, fds))
}

/// Sends a message with descriptors.
pub fn send(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) {
    if fds.is_empty() {
        let _ = (&mut &*stream).write_all(bytes);
        return;
    }
    assert_eq!(send_with(stream, bytes, fds).unwrap(), bytes.len());
}

/// Sends what the socket takes, with descriptors.
pub fn send_with(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> std::io::Result<usize> {
    let numbers: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: zeros are a msghdr; the macros ask for sizes and places within `control`, which has room for 16 numbers.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
        let len = numbers.len() as u32 * 4;
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), libc::CMSG_SPACE(len) as _);
        let head = libc::CMSG_FIRSTHDR(&message);
        (*head).cmsg_len = libc::CMSG_LEN(len) as _;
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        libc::CMSG_DATA(head).cast::<i32>().copy_from_nonoverlapping(numbers.as_ptr(), numbers.len());
        libc::sendmsg(stream.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| std::io::Error::last_os_error())
}

/// What the client gets as answer to its version.
pub const PLAIN: &str =
    r#"{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}"#;
pub const TWIN: &str =
    r#"{"capabilities":{"max_msg_fds":8,"migration":{"pgsize":4096},"twin_socket":{"supported":true,"fd_index":0}}}"#;

/// A connection, and the ends that a server has: the main one, and the second for its own requests.
pub struct Ends {
    pub main: UnixStream,
    pub twin: Option<UnixStream>,
}

/// Agrees on a version, and leaves everything else to the test.
pub fn connect(text: &'static str, options: ConnectOptions) -> (Arc<VfioUserConnection>, Ends) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = std::thread::spawn(move || {
        let mut main = theirs;
        let (version, _) = receive(&mut main).unwrap();
        assert_eq!((version.command, version.flags & 0xf), (1, 0));
        let payload = [&[0, 0, 2, 0], text.as_bytes(), &[0]].concat();
        let reply = message(version.id, 1, 1, 0, &payload);
        if !text.contains("twin_socket") {
            send(&main, &reply, &[]);
            return Ends { main, twin: None };
        }
        let (here, there) = UnixStream::pair().unwrap();
        send(&main, &reply, &[there.into()]);
        Ends { main, twin: Some(here) }
    });
    let connection = Arc::new(VfioUserConnection::new(ours.into(), options).unwrap());
    (connection, server.join().unwrap())
}

/// A peer behind a connection, in a thread that ends with the connection.
pub struct Served {
    peer: Arc<Mutex<Peer>>,
}

impl Served {
    pub fn new(
        kind: Kind,
        content: &[u8],
        options: ConnectOptions,
    ) -> (Arc<VfioUserConnection>, Served, Option<UnixStream>) {
        let (connection, Ends { main, twin }) = connect(TWIN, options);
        let peer = Arc::new(Mutex::new(Peer::new(kind, content)));
        let shared = Arc::clone(&peer);
        std::thread::spawn(move || serve(main, &shared));
        (connection, Served { peer }, twin)
    }

    pub fn peer(&self) -> MutexGuard<'_, Peer> {
        self.peer.lock().unwrap()
    }
}

fn serve(mut main: UnixStream, peer: &Mutex<Peer>) {
    while let Some((head, fds)) = receive(&mut main) {
        let answer = peer.lock().unwrap().answer(head.command, &head.payload, &fds);
        match answer {
            Ok((payload, fds)) => send(&main, &message(head.id, head.command, 1, 0, &payload), &fds),
            Err(0) => {
                // The payload stays in the socket, and is taken for a message.
                send(&main, &message(head.id, head.command, 0x21, 0, &[]), &[]);
                let (id, command) = (head.payload.len() as u16, 0);
                send(&main, &message(id, command, 0x21, 0, &[]), &[]);
            }
            Err(errno) => send(&main, &message(head.id, head.command, 0x21, errno as u32, &[]), &[]),
        }
    }
}
