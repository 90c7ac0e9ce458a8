//! One request and its reply, and the trait of what carries them: the VMM's own client, or a connection of the library.

use super::payload::{Payload, ReplyPayload};
use crate::error::Errno;
use crate::transport::feature::put;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A request of the vfio-user protocol without its header, and room for the payload of its reply.
///
/// ```
/// use vfiomig::error::Errno;
/// use vfiomig::transport::Transport;
/// use vfiomig::transport::vfio_user::{Exchange, VfioUser, VfioUserChannel, VfioUserLimits, VfioUserOptions};
///
/// /// A server that knows one request: 13, the reset.
/// struct Resettable;
///
/// impl VfioUserChannel for Resettable {
///     fn limits(&self) -> VfioUserLimits {
///         VfioUserLimits::default()
///     }
///     fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<usize, Errno> {
///         match exchange.command() {
///             13 => Ok(0),
///             _ => Err(Errno::new(libc::EINVAL)),
///         }
///     }
/// }
///
/// let transport = VfioUser::new(std::sync::Arc::new(Resettable), VfioUserOptions::default())?;
/// assert_eq!(transport.reset(), Ok(()));
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub struct Exchange<'a> {
    command: u16,
    request: &'a [u8],
    /// The part of the request behind `request`, which is sent from where it is, without a copy.
    data: &'a [u8],
    fds: &'a [BorrowedFd<'a>],
    reply: &'a mut [u8],
    /// Room for the part of the reply behind `reply`, which is received where it is wanted.
    reply_data: &'a mut [u8],
    reply_fds: Vec<OwnedFd>,
    fds_wanted: usize,
    may_be_unknown: bool,
    had_no_errno: bool,
    had_no_reply: bool,
}

impl<'a> Exchange<'a> {
    /// A request whose reply has at most as many bytes as `reply` holds.
    pub fn new(command: u16, request: &'a [u8], reply: &'a mut [u8]) -> Self {
        Exchange {
            command,
            request,
            data: &[],
            fds: &[],
            reply,
            reply_data: &mut [],
            reply_fds: Vec::new(),
            fds_wanted: 0,
            may_be_unknown: false,
            had_no_errno: false,
            had_no_reply: false,
        }
    }

    /// Adds the second part of the request, for a channel that takes parts.
    pub(super) fn with_data(mut self, data: &'a [u8]) -> Self {
        self.data = data;
        self
    }

    /// Adds room for the second part of the reply, for a channel that takes parts.
    pub(super) fn with_room(mut self, room: &'a mut [u8]) -> Self {
        self.reply_data = room;
        self
    }

    pub(super) fn data(&self) -> &[u8] {
        self.data
    }

    pub(super) fn request_len(&self) -> usize {
        self.request.len().saturating_add(self.data.len())
    }

    /// Where `len` bytes of a reply go; `None`: it is larger than its room.
    pub(super) fn reply_parts(&mut self, len: usize) -> Option<[&mut [u8]; 2]> {
        let head = len.min(self.reply.len());
        let rest = len.checked_sub(head)?;
        Some([self.reply.get_mut(..head)?, self.reply_data.get_mut(..rest)?])
    }

    /// Adds descriptors that go with the request.
    pub fn with_fds(mut self, fds: &'a [BorrowedFd<'a>]) -> Self {
        self.fds = fds;
        self
    }

    /// Says how many descriptors of the reply are taken; others are closed.
    pub fn wanting_fds(mut self, count: usize) -> Self {
        self.fds_wanted = count;
        self
    }

    /// Says that the peer may not know the command, and answers it twice then (U-3).
    pub fn that_may_be_unknown(mut self) -> Self {
        self.may_be_unknown = true;
        self
    }

    /// The number of the command.
    pub fn command(&self) -> u16 {
        self.command
    }

    /// The payload of the request.
    pub fn request(&self) -> &[u8] {
        self.request
    }

    /// Descriptors that go with the request, on its first byte.
    pub fn fds(&self) -> &[BorrowedFd<'a>] {
        self.fds
    }

    /// Room for the payload of the reply, which is written from its beginning on.
    pub fn reply_mut(&mut self) -> &mut [u8] {
        self.reply
    }

    /// How many more descriptors of the reply are taken.
    pub fn fds_wanted(&self) -> usize {
        self.fds_wanted.saturating_sub(self.reply_fds.len())
    }

    /// Hands over a descriptor that came with the reply; one that was not asked for is closed.
    pub fn give_fd(&mut self, fd: OwnedFd) {
        if self.fds_wanted() > 0 {
            self.reply_fds.push(fd);
        }
    }

    /// Whether a reply with the error flag and errno 0 is followed by another one, which belongs to no request and has to be read
    /// and thrown away: the peer did not know the command, and took its payload for a second one.
    pub fn may_be_unknown(&self) -> bool {
        self.may_be_unknown
    }

    /// Says that the reply had the error flag and errno 0. The errno of the result is EIO then.
    pub fn had_no_errno(&mut self) {
        self.had_no_errno = true;
    }

    pub(crate) fn has_no_errno(&self) -> bool {
        self.had_no_errno
    }

    /// Says that the request failed because no reply came in time. The call of the library that made it makes no other one then:
    /// each would wait as long. Without it the failure counts as an answer, and the device is asked how it is.
    pub fn had_no_reply(&mut self) {
        self.had_no_reply = true;
    }

    pub(crate) fn has_no_reply(&self) -> bool {
        self.had_no_reply
    }

    pub(crate) fn into_fds(self) -> Vec<OwnedFd> {
        self.reply_fds
    }
}

/// What client and server have agreed on.
///
/// ```
/// use vfiomig::transport::vfio_user::VfioUserLimits;
///
/// let limits = VfioUserLimits { max_data: 64 << 10, ..VfioUserLimits::default() };
/// assert_eq!((limits.minor, limits.page_size), (2, 4096));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VfioUserLimits {
    /// The minor number of the version, which is 0.minor.
    pub minor: u16,
    /// Most bytes of data in a message, either way.
    pub max_data: usize,
    /// Most descriptors with a message.
    pub max_fds: usize,
    /// Bytes of a page in the log of the first generation.
    pub page_size: u64,
}

impl Default for VfioUserLimits {
    /// What holds where nothing was said (U-2).
    fn default() -> Self {
        VfioUserLimits { minor: 2, max_data: 1 << 20, max_fds: 1, page_size: 4096 }
    }
}

/// A connection to a vfio-user server, as the transport needs it: one request at a time, each answered before the next.
///
/// Safe code that implements it can spoil a migration and nothing else: replies are read without trust.
///
/// Example: [`Exchange`].
pub trait VfioUserChannel: Send + Sync {
    /// What was negotiated.
    fn limits(&self) -> VfioUserLimits;

    /// Sends the request and waits for its reply. Returns how many bytes of the reply's payload were written; one that is longer
    /// than its room is EMSGSIZE, and the connection stays in step. A reply with the error flag is its errno, one with errno 0 is
    /// EIO ([`Exchange::had_no_errno`]). No reply in time is ETIMEDOUT ([`Exchange::had_no_reply`]).
    fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<usize, Errno>;

    /// Whether the channel takes a request and a reply in two parts, so that data is moved without a copy.
    #[doc(hidden)]
    fn takes_parts(&self) -> bool {
        false
    }

    /// As of a transport: the name of this connection in errors and in the log.
    fn name(&self) -> Option<String> {
        None
    }

    /// As of a transport: whether requests may come from threads of the library.
    fn any_thread(&self) -> bool {
        true
    }

    /// As of a transport: whether the calling thread is within a function through which the server is reached.
    fn calls_me(&self) -> bool {
        false
    }

    /// Adds to `bitmap` the pages of {iova, size} that the channel itself has written for the server, in units of `page_size`
    /// bytes, and forgets them (U-15). Returns whether the server's own log is to be asked as well.
    fn take_written(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> ServerLogs {
        let _ = (iova, size, page_size, bitmap);
        ServerLogs::Yes
    }

    /// Says whether a log of written pages runs from now on.
    fn logging(&self, runs: bool) {
        let _ = runs;
    }
}

/// Whether a server logs what it writes to a range.
///
/// Example: [`Exchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLogs {
    /// The server is to be asked.
    Yes,
    /// The server reaches the memory by messages only, which the channel has marked itself.
    No,
}

/// Asks with data behind the fields of the request.
pub(super) fn ask_with_data<'r>(
    channel: &dyn VfioUserChannel,
    command: u16,
    fields: Payload,
    data: &[u8],
    reply: &'r mut [u8],
) -> Result<ReplyPayload<'r>, Errno> {
    if !channel.takes_parts() {
        return ask(channel, command, &fields.bytes(data), reply);
    }
    let len = channel.exchange(&mut Exchange::new(command, fields.as_slice(), reply).with_data(data))?;
    payload(reply, len)
}

/// Asks for data, which goes to `data`, and for the fields before it, which go to `fields`. `room` holds the whole reply where the
/// channel has it in one piece. Returns the length of the reply.
pub(super) fn ask_for_data(
    channel: &dyn VfioUserChannel,
    command: u16,
    request: &Payload,
    fields: &mut [u8],
    data: &mut [u8],
    room: &mut Vec<u8>,
) -> Result<usize, Errno> {
    if channel.takes_parts() {
        let mut exchange = Exchange::new(command, request.as_slice(), fields).with_room(data);
        return channel.exchange(&mut exchange);
    }
    let whole = fields.len().saturating_add(data.len());
    if room.len() < whole {
        room.resize(whole, 0);
    }
    let reply = ask(channel, command, request, room.get_mut(..whole).unwrap_or_default())?;
    let (head, rest) = reply.0.split_at(reply.0.len().min(fields.len()));
    put(fields, 0, head);
    put(data, 0, rest);
    Ok(reply.0.len())
}

/// Asks, and returns the payload of the reply.
pub(super) fn ask<'r>(
    channel: &dyn VfioUserChannel,
    command: u16,
    request: &Payload,
    reply: &'r mut [u8],
) -> Result<ReplyPayload<'r>, Errno> {
    let len = channel.exchange(&mut Exchange::new(command, request.as_slice(), reply))?;
    payload(reply, len)
}

/// The first `len` bytes of a reply; EPROTO where the channel says more than there is room for.
pub(super) fn payload(reply: &[u8], len: usize) -> Result<ReplyPayload<'_>, Errno> {
    reply.get(..len).map(ReplyPayload).ok_or(Errno::new(libc::EPROTO))
}
