//! A connection of the library's own to a vfio-user server: one request at a time, each with a deadline, and no thread. Requests
//! of the server are answered while a reply is waited for, or by `serve`.

use super::dma::{DmaAccess, DmaRegion, ServerDma};
use super::exchange::{Exchange, ServerLogs, VfioUserChannel, VfioUserLimits, ask};
use super::handshake::VersionOffer;
use super::payload::Payload;
use super::region_memory::can_be_shortened;
use super::socket::{self, after, after_from};
use super::transport::{VfioUser, VfioUserOptions};
use super::wire;
use super::wires::{Reply, ServerSide, WireResult, Wires, cut_short, named};
use crate::error::{Errno, Error, Result};
use crate::gate::{Denied, Gate, GateLevel};
use crate::log::log;
use crate::transport::host_page::host_page;
use crate::transport::one_call;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Most messages that one call of `serve` answers, whatever a server sends.
const MOST_SERVED: usize = 1024;

/// How a connection is made.
///
/// Example: [`VfioUserConnection`].
pub struct ConnectOptions {
    /// How long a request may take, and all those of a state change, a reset or a probe together; 60 s by default, because a
    /// server stops its device within a state change.
    pub timeout: Duration,
    /// Most bytes of data in a message, either way: 4 KiB to 1 MiB.
    pub max_data: usize,
    /// A second socket for the server's own requests is asked for, as it should be (U-19).
    pub twin_socket: bool,
    /// What reads and writes memory for a server that does not do it by itself; `None`: the library does, in what was mapped with
    /// a descriptor.
    pub dma: Option<Box<dyn ServerDma>>,
    /// How the server is treated by devices on the connection.
    pub server: VfioUserOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        let server = VfioUserOptions::default();
        ConnectOptions { timeout: Duration::from_secs(60), max_data: 1 << 20, twin_socket: true, dma: None, server }
    }
}

/// A connection to a vfio-user server, which serves one device.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::sync::Arc;
/// use std::time::Duration;
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::transport::vfio_user::{ConnectOptions, DmaAccess, VfioUserChannel, VfioUserConnection};
///
/// // A server that says its version (0.2) and closes. For one with a path there is `VfioUserConnection::connect`.
/// let (client, mut server) = UnixStream::pair()?;
/// for word in [1 | 1 << 16, 20, 1, 0, 2 << 16] {
///     server.write_all(&u32::to_ne_bytes(word))?;
/// }
/// let connection = Arc::new(VfioUserConnection::new(client.into(), ConnectOptions::default())?);
/// assert_eq!(connection.limits().max_data, 1 << 20);
/// drop(server);
///
/// // What comes next with a server that stays: the guest's memory, a device, and what the server asks for while no call is made.
/// assert!(connection.map(0, 1 << 30, None, DmaAccess::ALL).is_err());
/// assert!(Device::new(Box::new(connection.transport()?), DeviceOptions::default()).is_err());
/// assert!(connection.serve(Duration::from_millis(100)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct VfioUserConnection {
    name: String,
    gate: Gate<Wires>,
    limits: VfioUserLimits,
    migratable: bool,
    timeout: Duration,
    dma: Option<Box<dyn ServerDma>>,
    server: VfioUserOptions,
    /// A line of the log has named memory that can be shortened.
    logged: AtomicBool,
    /// The numbers of the sockets, for callers that poll.
    fds: (RawFd, RawFd),
}

impl VfioUserConnection {
    /// Connects to the socket of a server. SYSTEM: it cannot be reached; the rest as [`new`](Self::new).
    pub fn connect(path: impl AsRef<Path>, options: ConnectOptions) -> Result<Self> {
        let (path, deadline) = (path.as_ref(), after(options.timeout));
        let socket = socket::connect(path, deadline).map_err(|errno| match errno.get() {
            libc::ETIMEDOUT => Error::device(errno, format!("{}: the server takes no client: {errno}", path.display())),
            _ => Error::from(errno).context(path.display()),
        })?;
        Self::begin(socket, Some(path), options, deadline)
    }

    /// Takes over a socket that is connected to a server, and agrees with that on a version. *Blocks for up to the timeout.*
    /// ARGUMENT: options; DEVICE: the server refused or has gone; PROTOCOL and UNSUPPORTED: its answer.
    pub fn new(socket: OwnedFd, options: ConnectOptions) -> Result<Self> {
        let deadline = after(options.timeout);
        Self::begin(socket, None, options, deadline)
    }

    fn begin(socket: OwnedFd, path: Option<&Path>, options: ConnectOptions, deadline: Instant) -> Result<Self> {
        if !(4096..=1 << 20).contains(&options.max_data) {
            let text = format!("max_data: {} is not within 4096 and 1048576", options.max_data);
            return Err(Error::argument(text));
        }
        let offer = VersionOffer {
            max_data: options.max_data,
            max_fds: 8,
            page_size: VersionOffer::page_size_on(host_page()),
            twin: options.twin_socket,
        };
        let mut wires = Wires::new(socket, path)?;
        let agreed = wires.agree(&offer, deadline)?;
        let main = wires.main.as_fd().as_raw_fd();
        let server = wires.twin.as_ref().map_or(main, |twin| twin.as_fd().as_raw_fd());
        if wires.twin.is_none() && options.twin_socket {
            log!(Info, "{}: the server has no second socket: its requests and ours meet on one (U-19)", wires.name);
        }
        Ok(VfioUserConnection {
            name: wires.name.clone(),
            gate: Gate::new(GateLevel::Functions, wires),
            limits: agreed.limits,
            migratable: agreed.migratable,
            timeout: options.timeout,
            dma: options.dma,
            server: options.server,
            logged: AtomicBool::new(false),
            fds: (main, server),
        })
    }

    /// Whether the server says that its device can be migrated. A hint: what it says when it is asked counts.
    pub fn migratable(&self) -> bool {
        self.migratable
    }

    /// Numbers of the socket for requests, and of the one by which the server asks for something, which may be the same. When the
    /// second is readable [`serve`](Self::serve) has something to do; neither may be read or written.
    pub fn fds(&self) -> (RawFd, RawFd) {
        self.fds
    }

    /// The transport to the server's device.
    pub fn transport(self: &Arc<Self>) -> Result<VfioUser> {
        VfioUser::new(Arc::clone(self) as Arc<dyn VfioUserChannel>, self.server)
    }

    /// Gives the server a mapping of the VMM's memory, with the descriptor that has it and where in that it begins (U-20).
    /// Without one the server sends messages. ETIMEDOUT: it may have the mapping all the same; [`unmap`](Self::unmap) takes it
    /// away.
    pub fn map(&self, iova: u64, size: u64, memory: Option<(BorrowedFd<'_>, u64)>, access: DmaAccess) -> Result<()> {
        let what = |errno| named(&self.name, errno, &format!("mapping {iova:#x} + {size:#x}"));
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(access.read, wire::DMA_MAP_READ) | flag(access.write, wire::DMA_MAP_WRITE);
        let (fd, offset) = memory.unzip();
        let request = Payload::default().u32(wire::DMA_MAP_SIZE as u32).u32(flags);
        let request = request.u64(offset.unwrap_or(0)).u64(iova).u64(size);
        let file = fd.map(|fd| fd.try_clone_to_owned()).transpose()?.map(|fd| (File::from(fd), offset.unwrap_or(0)));
        if fd.is_some_and(can_be_shortened) && !self.logged.swap(true, Ordering::Relaxed) {
            log!(
                Info,
                "{}: the server can shorten the memory at {iova:#x}, whose file has no F_SEAL_SHRINK: a process that has \
                 it mapped may end by SIGBUS (U-20)",
                self.name
            );
        }
        // The mapping is known here before the server has it, for the server may write at once.
        let mut wires = self.gate.enter_whole().map_err(denied).map_err(what)?;
        wires.table.check(iova, size).map_err(what)?;
        wires.table.insert(iova, DmaRegion::new(size, file, access));
        drop(wires);
        let mut room = [0; wire::DMA_MAP_SIZE];
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        let mut exchange = Exchange::new(wire::DMA_MAP, request.as_slice(), &mut room).with_fds(&fds);
        self.exchange(&mut exchange).map(|_| ()).map_err(|errno| {
            // The server may have the mapping although it did not answer, so it is kept, and can be taken away (U-20).
            if errno.get() != libc::ETIMEDOUT {
                self.forget(iova);
            }
            what(errno)
        })
    }

    /// Takes a mapping away, as it was given. A server's log of what it wrote there goes with it (U-13). ENOENT: there is none,
    /// here or at the server, and none is left.
    pub fn unmap(&self, iova: u64, size: u64) -> Result<()> {
        let what = |errno| named(&self.name, errno, &format!("unmapping {iova:#x} + {size:#x}"));
        let known = self.gate.enter_whole().map_err(denied).map_err(what)?.table.has(iova, size);
        if !known {
            return Err(what(Errno::new(libc::ENOENT)));
        }
        let request = Payload::default().u32(wire::DMA_UNMAP_SIZE as u32).u32(0).u64(iova).u64(size);
        let outcome = ask(self, wire::DMA_UNMAP, &request, &mut [0; wire::DMA_UNMAP_SIZE]).map(|_| ());
        if outcome.map_or_else(|errno| errno.get() == libc::ENOENT, |()| true) {
            self.forget(iova);
        }
        outcome.map_err(what)
    }

    fn forget(&self, iova: u64) {
        // A connection that was closed has no mappings.
        if let Ok(mut wires) = self.gate.enter_whole() {
            wires.table.remove(iova);
        }
    }

    /// Waits up to `wait` for requests of the server, and answers all that have come. Returns how many messages there were. *Waits
    /// for the call in progress; a server that sends without a pause is served for the timeout of the connection, and each message
    /// has that time to come whole.*
    pub fn serve(&self, wait: Duration) -> Result<usize> {
        let what = |errno| named(&self.name, errno, "serving the server's requests");
        let mut wires = self.gate.enter_whole().map_err(denied).map_err(what)?;
        wires.check().map_err(what)?;
        let (mut served, mut until, end) = (0, after(wait), after(wait.saturating_add(self.timeout)));
        while served < MOST_SERVED && Instant::now() < end {
            let Some(wire) = wires.readable(until) else { break };
            let outcome = wires.take(wire, after(self.timeout), self.server_side(), &mut Reply::none());
            wires.settle(outcome.map(|_| ()).map_err(cut_short)).map_err(what)?;
            served = served.saturating_add(1);
            until = Instant::now();
        }
        Ok(served)
    }

    /// Sends any other request of the protocol, such as those of interrupts, and returns the length of its reply.
    pub fn request(&self, exchange: &mut Exchange<'_>) -> Result<usize> {
        let what = format!("command {}", exchange.command());
        self.exchange(exchange).map_err(|errno| named(&self.name, errno, &what))
    }

    /// Ends the connection: every later call fails, and so do devices on it (ENODEV).
    pub fn close(&self) -> Result<()> {
        let pass = self.gate.enter_to_close().map_err(|denied| denied.of("connection"))?;
        drop(pass.close());
        Ok(())
    }

    fn server_side(&self) -> ServerSide<'_> {
        ServerSide { dma: self.dma.as_deref(), max_data: self.limits.max_data }
    }
}

fn denied(denied: Denied) -> Errno {
    Errno::new(match denied {
        Denied::Busy => libc::EBUSY,
        Denied::Reentry => libc::EDEADLK,
        Denied::Closed => libc::ENODEV,
        Denied::Broken => libc::ENOTRECOVERABLE,
    })
}

impl VfioUserChannel for VfioUserConnection {
    fn limits(&self) -> VfioUserLimits {
        self.limits
    }

    fn name(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn any_thread(&self) -> bool {
        self.dma.as_ref().is_none_or(|dma| dma.any_thread())
    }

    fn calls_me(&self) -> bool {
        self.gate.is_mine()
    }

    fn exchange(&self, exchange: &mut Exchange<'_>) -> WireResult<usize> {
        if exchange.fds().len() > self.limits.max_fds {
            return Err(Errno::new(libc::E2BIG));
        }
        let mut wires = self.gate.enter_whole().map_err(denied)?;
        wires.check()?;
        let deadline = after_from(one_call::current().and_then(|call| call.begun), self.timeout);
        let outcome = wires.exchange(exchange, deadline, self.server_side());
        // An error that the server answered is no failure of the connection.
        match outcome {
            Ok(answer) => answer,
            Err(errno) => {
                if errno.get() == libc::ETIMEDOUT {
                    exchange.had_no_reply();
                }
                wires.settle(Err(errno)).and(Err(errno))
            }
        }
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn take_written(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> ServerLogs {
        match self.gate.enter_whole() {
            Ok(mut wires) => wires.table.take_written(iova, size, page_size, bitmap),
            Err(_) => ServerLogs::Yes,
        }
    }

    fn logging(&self, runs: bool) {
        if let Ok(mut wires) = self.gate.enter_whole() {
            wires.table.logging(runs);
        }
    }
}
