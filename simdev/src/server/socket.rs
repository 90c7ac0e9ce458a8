//! Messages and descriptors over a UNIX socket.

use super::wire::{HEADER, Header, Message};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a server that waits looks whether it shall stop.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// Most descriptors that one message may bring; more than any client needs.
const MOST_FDS: usize = 64;
/// Room for a control message with so many.
const CONTROL: usize = 64;

/// What came.
pub(super) enum Received {
    Message(Message),
    /// A payload that did not come in one piece, where only one is taken.
    Cut(Header),
    /// A header that says of itself that it is no message.
    Nonsense(Header),
    /// The client has gone.
    End,
}

/// How the server reads.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    /// It gives up, as if the client had gone.
    pub stop: &'a AtomicBool,
    /// The payload is what one recv() brings.
    pub one_receive: bool,
    /// The longest message.
    pub most: usize,
}

pub(super) fn is_signal(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Interrupted
}

pub(super) struct Socket(pub UnixStream);

impl Socket {
    /// A pair: the server's end, and the client's.
    pub fn pair() -> io::Result<(Socket, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Socket(ours), theirs.into()))
    }

    /// Waits for something to read, for so long; whether there is.
    pub fn wait(&self, most: Option<Duration>) -> io::Result<bool> {
        let mut fd = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = most.map_or(-1, |most| i32::try_from(most.as_millis() + 1).unwrap_or(i32::MAX));
        // SAFETY: one pollfd, which lives through the call.
        match unsafe { libc::poll(&raw mut fd, 1, millis) } {
            0 => Ok(false),
            n if n > 0 => Ok(true),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The next message. `leaves(header)`: its payload stays in the socket.
    pub fn receive(&self, reading: Reading<'_>, leaves: impl Fn(&Header) -> bool) -> io::Result<Received> {
        let (mut head, mut fds) = ([0; HEADER], Vec::new());
        if self.fill(&mut head, &mut fds, reading.stop)? < HEADER {
            return Ok(Received::End);
        }
        let header = Header::decode(&head);
        if leaves(&header) {
            return Ok(Received::Message(Message { header, payload: Vec::new(), fds }));
        }
        let Some(len) = (header.size as usize).checked_sub(HEADER).filter(|_| header.size as usize <= reading.most)
        else {
            return Ok(Received::Nonsense(header));
        };
        let mut payload = vec![0; len];
        if len > 0 && reading.one_receive {
            if self.some(&mut payload, &mut fds)? < len {
                return Ok(Received::Cut(header));
            }
        } else if self.fill(&mut payload, &mut fds, reading.stop)? < len {
            return Ok(Received::End);
        }
        Ok(Received::Message(Message { header, payload, fds }))
    }

    /// Reads until `bytes` are full or the other side has closed.
    fn fill(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, stop: &AtomicBool) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // A client may never send the rest.
            while !self.wait(Some(LOOK)).or_else(|error| if is_signal(&error) { Ok(false) } else { Err(error) })? {
                if stop.load(Ordering::Relaxed) {
                    return Ok(done);
                }
            }
            match self.some(rest, fds) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if is_signal(&error) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// One recvmsg().
    fn some(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut control = [0u64; CONTROL];
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: of numbers and pointers, for which zero is legal.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
        // SAFETY: the buffers that `message` names live through the call and are as long as it says.
        let n = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: recvmsg has filled `message` and `control`, which both live.
        unsafe { take_fds(&message, fds) };
        Ok(n as usize)
    }

    /// Sends all of a message; `fds` go with its first byte.
    pub fn send(&self, header: &Header, payload: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let whole = [&header.encode()[..], payload].concat();
        let mut done = self.send_some(&whole, fds)?;
        while let Some(rest) = whole.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.send_some(rest, &[])?;
        }
        Ok(())
    }

    /// One sendmsg(), again where a signal came.
    fn send_some(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
        let mut control = [0u64; CONTROL];
        let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: of numbers and pointers, for which zero is legal.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
        if !fds.is_empty() && fds.len() <= MOST_FDS {
            (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
            // SAFETY: `control` lives and has room for MOST_FDS descriptors.
            unsafe { put_fds(&mut message, fds) };
        }
        loop {
            // SAFETY: the buffers that `message` names live through the call and are as long as it says; they are only read.
            let n = unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
            let error = io::Error::last_os_error();
            match n {
                0.. => return Ok(n as usize),
                _ if is_signal(&error) => {}
                _ => return Err(error),
            }
        }
    }
}

/// Takes over the descriptors that came with a message.
///
/// # Safety
/// `message` was filled by recvmsg, and its control buffer lives.
#[allow(clippy::unnecessary_cast, reason = "musl has another type for the length")]
unsafe fn take_fds(message: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: the function's contract.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a header that the macros give is inside of the buffer, or NULL.
    while let Some(head) = unsafe { control.as_ref() } {
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: numbers only.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (head.cmsg_len as usize).saturating_sub(empty) / size_of::<i32>();
            // SAFETY: the data of this header.
            let data = unsafe { libc::CMSG_DATA(control) }.cast::<i32>();
            for at in 0..count {
                // SAFETY: the kernel has put `count` descriptors there, which are new and ours.
                fds.push(unsafe { OwnedFd::from_raw_fd(data.add(at).read_unaligned()) });
            }
        }
        // SAFETY: the function's contract.
        control = unsafe { libc::CMSG_NXTHDR(message, control) };
    }
}

/// Puts descriptors into the control buffer, and its length to what they need.
///
/// # Safety
/// The control buffer of `message` lives and has room for `fds`.
unsafe fn put_fds(message: &mut libc::msghdr, fds: &[OwnedFd]) {
    let len = size_of_val(fds) as u32;
    // SAFETY: numbers only.
    let (space, whole) = unsafe { (libc::CMSG_SPACE(len), libc::CMSG_LEN(len)) };
    message.msg_controllen = space as _;
    // SAFETY: the function's contract: there is room for one header with these descriptors.
    let control = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: as above; the header is not NULL where there is room.
    let Some(head) = (unsafe { control.as_mut() }) else { return };
    (head.cmsg_level, head.cmsg_type, head.cmsg_len) = (libc::SOL_SOCKET, libc::SCM_RIGHTS, whole as _);
    // SAFETY: as above.
    let data = unsafe { libc::CMSG_DATA(control) }.cast::<i32>();
    for (at, fd) in fds.iter().enumerate() {
        // SAFETY: `put_fds` was given room for all of them.
        unsafe { data.add(at).write_unaligned(fd.as_raw_fd()) };
    }
}
