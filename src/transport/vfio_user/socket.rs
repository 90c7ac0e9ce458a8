//! A UNIX stream socket that passes descriptors. No call waits beyond its deadline, and none raises SIGPIPE.

use crate::error::Errno;
use crate::transport::wait_any;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Most descriptors that a message brings or takes.
pub(super) const MOST_FDS: usize = 16;

/// Room for a control message with that many, aligned as the kernel wants it.
#[repr(C, align(8))]
struct ControlRoom([u8; 128]);

// SAFETY: CMSG_SPACE() computes a size, and touches no memory.
const CONTROL: usize = unsafe { libc::CMSG_SPACE(MOST_FDS.saturating_mul(size_of::<RawFd>()) as u32) } as usize;
const _: () = assert!(CONTROL <= size_of::<ControlRoom>());

/// Most bytes of a path in a name: a device's name has at most 255, with the words before the path.
const MOST_NAME: usize = 200;

/// The longest wait: an `Instant` cannot be moved by any Duration.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The moment in which a `wait` from now is over.
pub(super) fn after(wait: Duration) -> Instant {
    after_from(None, wait)
}

/// The moment in which a `wait` from `begun`, or from now, is over.
pub(super) fn after_from(begun: Option<Instant>, wait: Duration) -> Instant {
    let begun = begun.unwrap_or_else(Instant::now);
    begun.checked_add(wait.min(LONGEST)).unwrap_or(begun)
}

pub(super) struct Socket(OwnedFd);

/// Why a message did not leave whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// No byte of it left, so that the stream is in step.
    Nothing(Errno),
    /// A part of it left, or the other socket is out of step.
    Part(Errno),
}

impl Unsent {
    fn or_part(self, begun: bool) -> Self {
        if begun { Unsent::Part(self.errno()) } else { self }
    }

    pub fn errno(self) -> Errno {
        match self {
            Unsent::Nothing(errno) | Unsent::Part(errno) => errno,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn again(errno: Errno) -> bool {
    matches!(errno.get(), libc::EAGAIN | libc::EINTR)
}

/// The result of a call as a count or an errno.
fn moved(result: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

/// Connects to the server of a path. ETIMEDOUT if it takes no client before `deadline`: servers have room for one client, and for
/// few that wait.
pub(super) fn connect(path: &Path, deadline: Instant) -> Result<OwnedFd, Errno> {
    let path = path.as_os_str().as_bytes();
    // SAFETY: zeros are an address without a name.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    if path.is_empty() || path.contains(&0) {
        return Err(Errno::new(libc::EINVAL));
    }
    // A NUL stays behind the path.
    if path.len() >= address.sun_path.len() {
        return Err(Errno::new(libc::ENAMETOOLONG));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    address.sun_path.iter_mut().zip(path).for_each(|(to, from)| *to = libc::c_char::from_ne_bytes([*from]));
    // SAFETY: socket() makes a descriptor, and takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: it was just made, and has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::new(libc::ETIMEDOUT));
        }
        wait_no_longer(&fd, left)?;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is an initialised address of that length.
        if unsafe { libc::connect(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) } == 0 {
            return Ok(fd);
        }
        match Errno::last() {
            errno if again(errno) => {}
            errno => return Err(errno),
        }
    }
}

/// Bounds the time of connect() on this socket, which the kernel does by the option for sends.
fn wait_no_longer(fd: &OwnedFd, time: Duration) -> Result<(), Errno> {
    // A time of 0 would be no limit.
    let micros = libc::suseconds_t::from(time.subsec_micros()).max(1);
    let time =
        libc::timeval { tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX), tv_usec: micros };
    let len = size_of_val(&time) as libc::socklen_t;
    let value = std::ptr::from_ref(&time).cast();
    // SAFETY: `value` points to as many bytes as `len` says.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, value, len) };
    if result == 0 { Ok(()) } else { Err(Errno::last()) }
}

fn number_of(fd: BorrowedFd<'_>, option: libc::c_int) -> Option<libc::c_int> {
    let mut number: libc::c_int = -1;
    let mut len = size_of_val(&number) as libc::socklen_t;
    let value = std::ptr::from_mut(&mut number).cast();
    // SAFETY: `value` is writable for `len` bytes.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, value, &mut len) };
    (result == 0).then_some(number)
}

/// A path for errors and the log. Of one that is too long for a name the end is shown, which says more than the beginning.
fn shown(path: &[u8]) -> String {
    let text = match std::str::from_utf8(path) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => path.escape_ascii().to_string(),
    };
    match text.char_indices().rev().take_while(|(at, _)| text.len().saturating_sub(*at) <= MOST_NAME).last() {
        Some((at, _)) if at > 0 => format!("...{}", text.get(at..).unwrap_or_default()),
        _ => text,
    }
}

impl Socket {
    /// Takes a socket. EPROTOTYPE for any other descriptor: a wait for a file of another process may have no end.
    pub fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let kind = [libc::SO_DOMAIN, libc::SO_TYPE].map(|option| number_of(fd.as_fd(), option));
        let is_stream = kind == [Some(libc::AF_UNIX), Some(libc::SOCK_STREAM)];
        if is_stream { Ok(Socket(fd)) } else { Err(Errno::new(libc::EPROTOTYPE)) }
    }

    /// The name of the peer: `path`, by which the caller has found it. Where the caller brought a descriptor, it is our number of
    /// that and the path that the peer gave its socket, which peers in other directories may have as well.
    pub fn peer_name(&self, path: Option<&Path>) -> String {
        if let Some(path) = path {
            return shown(path.as_os_str().as_bytes());
        }
        let number = self.0.as_raw_fd();
        match self.bound_path() {
            path if path.is_empty() => format!("fd {number}"),
            path => format!("fd {number} ({})", shown(&path)),
        }
    }

    /// The path at which the peer listens; empty where it has none.
    fn bound_path(&self) -> Vec<u8> {
        // SAFETY: zeros are an address without a name.
        let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
        let mut len = size_of_val(&address) as libc::socklen_t;
        let at = std::ptr::from_mut(&mut address).cast();
        // SAFETY: `at` is writable for `len` bytes.
        let known = unsafe { libc::getpeername(self.0.as_raw_fd(), at, &mut len) } == 0;
        let path = address.sun_path.iter().flat_map(|byte| byte.to_ne_bytes()).take_while(|byte| known && *byte != 0);
        path.collect()
    }

    /// Waits until the socket is ready, or a signal handler ran. ETIMEDOUT once `deadline` has passed.
    fn wait(&self, for_write: bool, deadline: Instant) -> Result<(), Errno> {
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = wait_any(&[(self.as_fd(), for_write)], left);
        if left.is_zero() && !ready.contains(&true) { Err(Errno::new(libc::ETIMEDOUT)) } else { Ok(()) }
    }

    /// Sends as much of all parts as the socket takes at once, `fds` with the first byte; EAGAIN if that is nothing.
    fn send_some(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
        if fds.len() > MOST_FDS {
            return Err(Errno::new(libc::E2BIG));
        }
        let mut room = ControlRoom([0; 128]);
        // SAFETY: zeros are a msghdr without anything.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        // An IoSlice is an iovec, as its documentation has it.
        (message.msg_iov, message.msg_iovlen) = (parts.as_ptr().cast_mut().cast(), parts.len() as _);
        if !fds.is_empty() {
            let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let len = u32::try_from(size_of_val(numbers.as_slice())).unwrap_or(0);
            message.msg_control = room.0.as_mut_ptr().cast();
            // SAFETY: CMSG_SPACE() computes a size, and touches no memory.
            message.msg_controllen = unsafe { libc::CMSG_SPACE(len) } as _;
            // SAFETY: `message` names `room`, which is aligned and has space for a header.
            let control = unsafe { libc::CMSG_FIRSTHDR(&message) };
            // SAFETY: CMSG_LEN() computes a size, and touches no memory.
            let with_head = unsafe { libc::CMSG_LEN(len) };
            let head =
                libc::cmsghdr { cmsg_len: with_head as _, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
            // SAFETY: the header lies within `room`, which is aligned.
            unsafe { control.write(head) };
            // SAFETY: the data of the header lie within `room`, for CONTROL bytes are the space of MOST_FDS descriptors.
            let data = unsafe { libc::CMSG_DATA(control) };
            // SAFETY: `data` has room for MOST_FDS numbers, and `numbers` has no more; they do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(numbers.as_ptr().cast::<u8>(), data, len as usize) };
        }
        // SAFETY: `message` names memory that lives through the call.
        moved(unsafe { libc::sendmsg(self.0.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) })
    }

    /// Sends all parts as one message. `meanwhile` is called while the socket takes nothing, and returns when it may take more.
    pub fn send(
        &self,
        parts: [&[u8]; 3],
        fds: &[BorrowedFd<'_>],
        meanwhile: &mut dyn FnMut(&Socket) -> Result<(), Unsent>,
    ) -> Result<(), Unsent> {
        let mut parts = parts.map(IoSlice::new);
        let mut rest = &mut parts[..];
        // Parts without a byte are skipped.
        IoSlice::advance_slices(&mut rest, 0);
        let mut fds = fds;
        let mut begun = false;
        while !rest.is_empty() {
            match self.send_some(rest, fds) {
                Ok(n) => {
                    IoSlice::advance_slices(&mut rest, n);
                    (begun, fds) = (begun || n > 0, &[]);
                }
                Err(errno) if again(errno) => meanwhile(self).map_err(|unsent| unsent.or_part(begun))?,
                Err(errno) => return Err(Unsent::Nothing(errno).or_part(begun)),
            }
        }
        Ok(())
    }

    /// Sends all parts as one message before `deadline`.
    pub fn send_by(&self, parts: [&[u8]; 3], deadline: Instant) -> Result<(), Errno> {
        let sent = self.send(parts, &[], &mut |socket| socket.wait(true, deadline).map_err(Unsent::Nothing));
        sent.map_err(Unsent::errno)
    }

    /// Fills both parts before `deadline`. The first descriptors that come with the bytes go to `fds`; the others are closed at
    /// once, for a peer may send some with each byte. ECONNRESET where the peer has gone.
    pub fn receive(
        &self,
        parts: [&mut [u8]; 2],
        mut fds: Option<&mut Vec<OwnedFd>>,
        deadline: Instant,
    ) -> Result<(), Errno> {
        let mut parts = parts.map(IoSliceMut::new);
        let mut rest = &mut parts[..];
        // Parts without a byte are skipped.
        IoSliceMut::advance_slices(&mut rest, 0);
        let mut keep = |fd| match &mut fds {
            Some(fds) if fds.len() < MOST_FDS => fds.push(fd),
            _ => drop(fd),
        };
        while !rest.is_empty() {
            match self.receive_some(rest, &mut keep) {
                Ok(0) => return Err(Errno::new(libc::ECONNRESET)),
                Ok(n) => IoSliceMut::advance_slices(&mut rest, n),
                Err(errno) if again(errno) => self.wait(false, deadline)?,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Reads `len` bytes and throws them away, with the descriptors that come along.
    pub fn discard(&self, len: usize, deadline: Instant) -> Result<(), Errno> {
        let mut room = [0; 4096];
        let mut left = len;
        while left > 0 {
            let part = room.get_mut(..left.min(4096)).unwrap_or_default();
            left = left.saturating_sub(part.len());
            self.receive([part, &mut []], None, deadline)?;
        }
        Ok(())
    }

    fn receive_some(&self, parts: &mut [IoSliceMut<'_>], give: &mut dyn FnMut(OwnedFd)) -> Result<usize, Errno> {
        let mut room = ControlRoom([0; 128]);
        // SAFETY: zeros are a msghdr without anything.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        // An IoSliceMut is an iovec, as its documentation has it.
        (message.msg_iov, message.msg_iovlen) = (parts.as_mut_ptr().cast(), parts.len() as _);
        message.msg_control = room.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL as _;
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
        // SAFETY: `message` names memory that lives through the call, and is writable for the lengths beside it.
        let got = moved(unsafe { libc::recvmsg(self.0.as_raw_fd(), &mut message, flags) })?;
        // SAFETY: the kernel has filled `message`, and `room`, to which it points, is aligned.
        let mut control = unsafe { libc::CMSG_FIRSTHDR(&message) };
        while !control.is_null() {
            // SAFETY: `control` points to a header within `room`, which the kernel wrote.
            let head = unsafe { control.read() };
            if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
                // SAFETY: CMSG_LEN() computes a size, and touches no memory.
                let before = unsafe { libc::CMSG_LEN(0) } as usize;
                let count =
                    (head.cmsg_len as usize).saturating_sub(before).checked_div(size_of::<RawFd>()).unwrap_or(0);
                // SAFETY: CMSG_DATA() computes the address behind the header, within `room`.
                let data = unsafe { libc::CMSG_DATA(control) }.cast::<RawFd>();
                for n in 0..count {
                    // SAFETY: the kernel wrote `count` numbers there.
                    let fd = unsafe { data.wrapping_add(n).read_unaligned() };
                    // SAFETY: the kernel made the descriptor for this call, so it has no other owner.
                    give(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
            // SAFETY: as for the first header.
            control = unsafe { libc::CMSG_NXTHDR(&message, control) };
        }
        Ok(got)
    }
}
