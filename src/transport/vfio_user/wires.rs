//! The sockets of a connection, and what goes over them: one request at a time, and what the server asks for meanwhile.

use super::dma::{DmaTable, ServerDma};
use super::exchange::Exchange;
use super::frame::{self, Frame};
use super::handshake::{Agreed, MOST_REPLY, VersionOffer};
use super::payload::{Payload, ReplyPayload, length};
use super::socket::{MOST_FDS, Socket, Unsent};
use super::wire;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::log::log;
use crate::transport::wait_any;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// What became of a message.
pub(super) type WireResult<T> = std::result::Result<T, Errno>;

/// Most bytes that are read and thrown away of one reply that is too large; with more the connection fails.
const MOST_DISCARD: usize = 256 << 20;
/// Most requests that may be without a reply after they took too long.
const MOST_LATE: usize = 64;

/// The sockets and what goes with them, which one call has at a time.
pub(super) struct Wires {
    /// The name of the connection in errors and in the log.
    pub name: String,
    pub main: Socket,
    pub twin: Option<Socket>,
    next_id: u16,
    /// Requests that took too long, and whether the reply may come twice (U-3). Their replies are thrown away when they come.
    late: VecDeque<(u16, bool)>,
    /// Whether a reply may come that belongs to no request (U-3).
    stray: bool,
    pub table: DmaTable,
    /// Why the connection is of no use any more.
    broken: Option<Errno>,
}

/// Which socket a message came by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Main,
    Twin,
}

fn protocol() -> Errno {
    Errno::new(libc::EPROTO)
}

fn timed_out() -> Errno {
    Errno::new(libc::ETIMEDOUT)
}

/// What is needed to answer a server's own requests.
#[derive(Clone, Copy)]
pub(super) struct ServerSide<'a> {
    pub dma: Option<&'a dyn ServerDma>,
    pub max_data: usize,
}

/// The reply that is waited for.
pub(super) struct Reply<'e, 'a> {
    id: u16,
    exchange: Option<&'e mut Exchange<'a>>,
}

impl Reply<'_, '_> {
    /// No reply is waited for: those that come are late.
    pub fn none() -> Self {
        Reply { id: 0, exchange: None }
    }
}

impl Wires {
    /// `path`: by which the caller knows the server.
    pub fn new(socket: OwnedFd, path: Option<&Path>) -> Result<Self> {
        let no_socket = |errno| Error::new(ErrorKind::Argument, errno, "fd: it is no UNIX stream socket");
        let main = Socket::new(socket).map_err(|errno: Errno| no_socket(errno.get()))?;
        Ok(Wires {
            name: format!("vfio-user {}", main.peer_name(path)),
            main,
            twin: None,
            next_id: 0,
            late: VecDeque::new(),
            stray: false,
            table: DmaTable::default(),
            broken: None,
        })
    }

    pub fn check(&self) -> WireResult<()> {
        self.broken.map_or(Ok(()), |_| Err(Errno::new(libc::ENOTCONN)))
    }

    /// Takes note of a failure. One between two messages (ETIMEDOUT) leaves the connection in step; after any other it is lost.
    pub fn settle(&mut self, outcome: WireResult<()>) -> WireResult<()> {
        let lost = outcome.err().filter(|errno| errno.get() != libc::ETIMEDOUT && self.broken.is_none());
        if let Some(errno) = lost {
            log!(Error, "{}: the connection to the server is lost: {errno}", self.name);
            self.broken = lost;
        }
        outcome
    }

    /// A number that no request without a reply has, nor a stray reply: that has the length of the probe for its number (U-3).
    fn new_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if self.next_id != frame::SIZE as u16 && !self.late.iter().any(|(late, _)| *late == self.next_id) {
                return self.next_id;
            }
        }
    }

    pub fn agree(&mut self, offer: &VersionOffer, deadline: Instant) -> Result<Agreed> {
        let request = offer.request();
        let mut room = vec![0; MOST_REPLY];
        let mut exchange = Exchange::new(wire::VERSION, request.as_slice(), &mut room).wanting_fds(MOST_FDS);
        let nobody = ServerSide { dma: None, max_data: offer.max_data };
        let answer = self.exchange(&mut exchange, deadline, nobody).and_then(|answer| answer);
        let len = answer.map_err(|errno| named(&self.name, errno, "agreeing on a version"))?;
        let fds = exchange.into_fds();
        let agreed = offer.read(room.get(..len).unwrap_or(&[])).map_err(|error| error.context(&self.name))?;
        if let Some(index) = agreed.twin {
            let twin = fds.into_iter().nth(index);
            let bad =
                |what| Error::protocol(format!("{}: the server promised a second socket and sent {what}", self.name));
            let twin = Socket::new(twin.ok_or_else(|| bad("none"))?);
            self.twin = Some(twin.map_err(|_| bad("something else"))?);
        }
        Ok(agreed)
    }

    /// Sends a request and waits for its reply. The inner result is the server's answer, or why nothing was sent; the outer one
    /// says what became of the connection. Once `deadline` has passed nothing is sent.
    pub fn exchange(
        &mut self,
        exchange: &mut Exchange<'_>,
        deadline: Instant,
        server: ServerSide<'_>,
    ) -> WireResult<WireResult<usize>> {
        if Instant::now() >= deadline {
            return Err(timed_out());
        }
        // A server that sends one request after another does not move the deadline.
        let next = |wires: &Wires| wires.readable(deadline).filter(|_| Instant::now() < deadline).ok_or(timed_out());
        while self.late.len() >= MOST_LATE {
            let wire = next(self)?;
            self.take(wire, deadline, server, &mut Reply::none()).map_err(cut_short)?;
        }
        let (id, may_be_unknown) = (self.new_id(), exchange.may_be_unknown());
        let head = Frame::request(id, exchange.command(), exchange.request_len());
        let Ok(head) = head.to_bytes() else { return Ok(Err(Errno::new(libc::EMSGSIZE))) };
        match self.send(&head, exchange, deadline, server) {
            Ok(()) => {}
            // No byte was sent: the server took nothing in time, or the system had no room for it (ENOBUFS, ETOOMANYREFS ...).
            Err(Unsent::Nothing(errno)) if errno == timed_out() => return Err(errno),
            Err(Unsent::Nothing(errno)) if !has_gone(errno) => return Ok(Err(errno)),
            Err(unsent) => return Err(cut_short(unsent.errno())),
        }
        let mut reply = Reply { id, exchange: Some(exchange) };
        loop {
            let wire = next(self).inspect_err(|_| self.late.push_back((id, may_be_unknown)))?;
            if let Some(answer) = self.take(wire, deadline, server, &mut reply).map_err(cut_short)? {
                return Ok(answer);
            }
        }
    }

    /// Sends a request whole. While our socket is full, requests that come by the server's own one are answered, for the server may
    /// wait for that.
    fn send(
        &mut self,
        head: &[u8],
        exchange: &Exchange<'_>,
        deadline: Instant,
        server: ServerSide<'_>,
    ) -> std::result::Result<(), Unsent> {
        let Wires { main, twin, table, .. } = self;
        let mut meanwhile = |main: &Socket| {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Unsent::Nothing(timed_out()));
            }
            let mut fds = vec![(main.as_fd(), true)];
            fds.extend(twin.iter().map(|twin| (twin.as_fd(), false)));
            if let (Some(true), Some(twin)) = (wait_any(&fds, left).get(1), twin.as_ref()) {
                let mut descriptors = Vec::new();
                let request = receive_head(twin, &mut descriptors, deadline).map_err(Unsent::Part)?;
                serve_request(twin, request, table, server, deadline).map_err(Unsent::Part)?;
            }
            Ok(())
        };
        main.send([head, exchange.request(), exchange.data()], exchange.fds(), &mut meanwhile)
    }

    /// Which socket has something to read before `deadline`; the server's own first, for it waits for the answer.
    pub fn readable(&self, deadline: Instant) -> Option<Wire> {
        let mut fds = vec![(self.main.as_fd(), false)];
        fds.extend(self.twin.iter().map(|twin| (twin.as_fd(), false)));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = wait_any(&fds, left);
            match (ready.first(), ready.get(1)) {
                (_, Some(true)) => return Some(Wire::Twin),
                (Some(true), _) => return Some(Wire::Main),
                _ if left.is_zero() => return None,
                _ => {}
            }
        }
    }

    /// Reads one message: the reply that is waited for, or another message, which is dealt with.
    pub fn take(
        &mut self,
        wire: Wire,
        deadline: Instant,
        server: ServerSide<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> WireResult<Option<WireResult<usize>>> {
        let Wires { main, twin, table, .. } = self;
        let socket = match (wire, twin.as_ref()) {
            (Wire::Twin, Some(twin)) => twin,
            _ => &*main,
        };
        let mut fds = Vec::new();
        let head = receive_head(socket, &mut fds, deadline)?;
        if !head.is_reply() {
            return serve_request(socket, head, table, server, deadline).map(|()| None);
        }
        if wire == Wire::Twin {
            // No request was sent by this socket.
            return Err(protocol());
        }
        if let Some(at) = self.late.iter().position(|(late, _)| *late == head.id) {
            let may_be_unknown = self.late.remove(at).is_some_and(|(_, may_be_unknown)| may_be_unknown);
            self.stray |= may_be_unknown && head.error() == Some(0);
            return self.discard(head, deadline).map(|()| None);
        }
        match &mut reply.exchange {
            Some(exchange) if head.id == reply.id && head.command == exchange.command() => {
                let answer = receive_reply(&self.main, head, exchange, deadline)?;
                // A caller that gets an error takes no descriptors.
                fds.into_iter().filter(|_| answer.is_ok()).for_each(|fd| exchange.give_fd(fd));
                self.stray |= exchange.has_no_errno() && exchange.may_be_unknown();
                Ok(Some(answer))
            }
            _ if self.stray && head.command == 0 => {
                self.stray = false;
                self.discard(head, deadline).map(|()| None)
            }
            _ => Err(protocol()),
        }
    }

    fn discard(&self, head: Frame, deadline: Instant) -> WireResult<()> {
        if head.payload > MOST_DISCARD {
            return Err(protocol());
        }
        self.main.discard(head.payload, deadline)
    }
}

/// Whether the errno says that the peer has gone.
fn has_gone(errno: Errno) -> bool {
    matches!(errno.get(), libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN)
}

/// The errno of a failure within a message: a deadline that passes there leaves the stream out of step (EPIPE).
pub(super) fn cut_short(errno: Errno) -> Errno {
    if errno.get() == libc::ETIMEDOUT { Errno::new(libc::EPIPE) } else { errno }
}

fn receive_head(socket: &Socket, fds: &mut Vec<OwnedFd>, deadline: Instant) -> WireResult<Frame> {
    let mut bytes = [0; frame::SIZE];
    socket.receive([&mut bytes, &mut []], Some(fds), deadline)?;
    Frame::from_bytes(&bytes)
}

/// Receives the payload of a reply. One that is larger than its room is read to its end, and is EMSGSIZE.
fn receive_reply(
    socket: &Socket,
    head: Frame,
    exchange: &mut Exchange<'_>,
    deadline: Instant,
) -> WireResult<WireResult<usize>> {
    if let Some(errno) = head.error() {
        if errno == 0 {
            exchange.had_no_errno();
        }
        if head.payload > MOST_DISCARD {
            return Err(protocol());
        }
        socket.discard(head.payload, deadline)?;
        return Ok(Err(Errno::new(errno)));
    }
    match exchange.reply_parts(head.payload) {
        Some(parts) => {
            socket.receive(parts, None, deadline)?;
            Ok(Ok(head.payload))
        }
        None if head.payload > MOST_DISCARD => Err(protocol()),
        None => {
            socket.discard(head.payload, deadline)?;
            Ok(Err(Errno::new(libc::EMSGSIZE)))
        }
    }
}

/// Answers a request of the server, which may read and write memory, and ask for nothing else.
fn serve_request(
    socket: &Socket,
    head: Frame,
    table: &mut DmaTable,
    server: ServerSide<'_>,
    deadline: Instant,
) -> WireResult<()> {
    // No message may have such a payload, so the stream is out of step.
    if head.payload > server.max_data.saturating_add(wire::DMA_IO_SIZE) {
        return Err(protocol());
    }
    let mut payload = vec![0; head.payload];
    socket.receive([&mut payload, &mut []], None, deadline)?;
    let answer = memory_access(head.command, &payload, table, server);
    if !head.wants_reply() {
        return Ok(());
    }
    let (head, payload) = match answer {
        Ok(bytes) => (Frame::reply_to(head, bytes.len()), bytes),
        Err(errno) => (Frame::error_to(head, errno), Vec::new()),
    };
    socket.send_by([&head.to_bytes()?, &payload, &[]], deadline).map_err(cut_short)
}

fn memory_access(command: u16, payload: &[u8], table: &mut DmaTable, server: ServerSide<'_>) -> WireResult<Vec<u8>> {
    let invalid = || Errno::new(libc::EINVAL);
    let request = ReplyPayload(payload);
    let (address, count) = (request.u64_at(0).map_err(|_| invalid())?, request.u64_at(8).map_err(|_| invalid())?);
    let count = usize::try_from(count).ok().filter(|&count| count <= server.max_data).ok_or_else(invalid)?;
    let head = Payload::default().u64(address).u64(u64::from(length(count)?));
    match command {
        wire::DMA_READ => {
            let mut data = vec![0; count];
            table.read(server.dma, address, &mut data)?;
            Ok(head.bytes(&data).as_slice().to_vec())
        }
        wire::DMA_WRITE => {
            let data = request.part(wire::DMA_IO_SIZE, count).map_err(|_| invalid())?;
            table.write(server.dma, address, data)?;
            Ok(head.as_slice().to_vec())
        }
        _ => Err(Errno::new(libc::EOPNOTSUPP)),
    }
}

/// The failure of a connection as an error of the device (DEVICE).
pub(super) fn named(name: &str, errno: Errno, what: &str) -> Error {
    Error::device(errno, format!("{name}: {what} failed: {errno}"))
}

#[cfg(test)]
mod tests;
