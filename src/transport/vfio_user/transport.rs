//! The requests of one device as messages of the protocol.

use super::data::UserData;
use super::exchange::{Exchange, VfioUserChannel, ask, ask_for_data, ask_with_data, payload};
use super::log::UserLog;
use super::one_wait::OneWait;
use super::payload::{Payload, ReplyPayload, copy_whole, length};
use super::region_memory;
use super::wire;
use crate::error::{Errno, Error};
use crate::log::log;
use crate::transport::feature::{check_argsz, field, put};
use crate::transport::{DataFd, Feature, Mapped, Peer, Returned, Transport};
use crate::uapi::{device as ud, dma_log as ul, feature as uf, region as ur};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Servers read a message of more than 36 KiB in part and lose their place in the stream (U-8).
const USUAL_WRITE: usize = 32 << 10;

/// How a server is treated.
///
/// ```
/// use vfiomig::transport::vfio_user::VfioUserOptions;
///
/// // A server that reads messages to their end, and takes reads of 64 bytes only.
/// let options = VfioUserOptions { max_write: 1 << 20, max_read: 64, ..VfioUserOptions::default() };
/// assert!(!options.map_region && VfioUserOptions::default().max_write == 32 << 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VfioUserOptions {
    /// Most bytes of state in a message to the server, 32 KiB by default: many servers read the first part of a larger one only,
    /// and are out of step from then on. Never more than was negotiated.
    pub max_write: usize,
    /// Most bytes of state that are asked for at once, 1 MiB by default; never more than was negotiated.
    pub max_read: usize,
    /// First generation: the window of the migration region is mapped where the server offers it. By default it is not, for
    /// some servers offer one that they never look at (U-16).
    pub map_region: bool,
}

impl Default for VfioUserOptions {
    fn default() -> Self {
        VfioUserOptions { max_write: USUAL_WRITE, max_read: 1 << 20, map_region: false }
    }
}

/// What is known of the peer's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    /// The migration flags were not asked for yet.
    NotAsked,
    /// The peer speaks device features.
    Features,
    /// The peer knows the request, and has no such feature: a server of the first generation, or one that cannot migrate.
    Regions,
    /// The peer does not know the request at all, and must not be asked again (U-3).
    Unknown,
}

/// The transport to one vfio-user server, over a channel that the VMM or the library has.
///
/// Example: [`Exchange`].
pub struct VfioUser {
    channel: Arc<dyn VfioUserChannel>,
    max_read: usize,
    max_write: usize,
    generation: Mutex<Generation>,
    log: UserLog,
    map_region: bool,
    /// For each region that may be mapped: the descriptor of its last description, and where the region begins in it (U-7).
    memory: Mutex<BTreeMap<u32, (Arc<OwnedFd>, u64)>>,
    /// A line of the log has named such a file that can be shortened.
    warned: AtomicBool,
}

fn protocol() -> Errno {
    Errno::new(libc::EPROTO)
}

impl VfioUser {
    /// A transport that has asked the server for nothing yet. ARGUMENT: a limit below 8 bytes.
    pub fn new(channel: Arc<dyn VfioUserChannel>, options: VfioUserOptions) -> Result<Self, Error> {
        let limits = channel.limits();
        let (max_read, max_write) = (options.max_read.min(limits.max_data), options.max_write.min(limits.max_data));
        // A register of 8 bytes is accessed at once (V1-1).
        if max_read < 8 || max_write < 8 {
            let text = format!("reads of {max_read} bytes and writes of {max_write} hold no register of 8 bytes");
            return Err(Error::argument(text));
        }
        Ok(VfioUser {
            log: UserLog::new(limits),
            channel: Arc::new(OneWait::new(channel)),
            max_read,
            max_write,
            generation: Mutex::new(Generation::NotAsked),
            map_region: options.map_region,
            memory: Mutex::default(),
            warned: AtomicBool::new(false),
        })
    }

    /// Whether the peer speaks device features, which is asked once, in the one way that every peer survives (U-3).
    fn generation(&self) -> Result<Generation, Errno> {
        let known = *self.generation.lock();
        if known != Generation::NotAsked {
            return Ok(known);
        }
        let mut flags = Feature::new(uf::MIGRATION | uf::GET, uf::MIGRATION_SIZE);
        match self.ask_flags(&mut flags) {
            Err(errno) if !errno.means_absent() => Err(errno),
            _ => Ok(*self.generation.lock()),
        }
    }

    /// The request for the migration flags: with room for the answer its body has 16 bytes, which a peer that does not know
    /// the command takes for a message of its own.
    fn ask_flags(&self, feature: &mut Feature) -> Result<(), Errno> {
        if *self.generation.lock() == Generation::Unknown {
            return Err(Errno::new(libc::ENOTTY));
        }
        let request = Payload::default().bytes(feature.request_mut());
        let mut reply = [0; uf::HEADER_SIZE + uf::MIGRATION_SIZE];
        let mut exchange = Exchange::new(wire::DEVICE_FEATURE, request.as_slice(), &mut reply).that_may_be_unknown();
        let answer = self.channel.exchange(&mut exchange);
        let (found, outcome) = match answer {
            Ok(len) => (Generation::Features, Ok(len)),
            Err(_) if exchange.has_no_errno() => (Generation::Unknown, Err(Errno::new(libc::ENOTTY))),
            Err(errno) if errno.means_absent() => (Generation::Regions, Err(errno)),
            Err(errno) => return Err(errno),
        };
        *self.generation.lock() = found;
        take_answer(feature, payload(&reply, outcome?)?)
    }

    /// Asks for a feature whose payload is plain numbers.
    fn ask_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        let request = Payload::default().bytes(feature.request_mut());
        let mut reply = vec![0; feature.bytes().len()];
        let reply = ask(&*self.channel, wire::DEVICE_FEATURE, &request, &mut reply)?;
        take_answer(feature, reply)?;
        if feature.flags() == uf::MIG_DEVICE_STATE | uf::SET {
            // Sessions have no descriptor, and what the field says is no number of one (U-5).
            feature.put_u32(uf::MIG_DATA_FD, u32::MAX);
        }
        Ok(())
    }

    /// Keeps the descriptor that came with a description, if the region is to be mapped. Each description brings a new one.
    fn keep_memory(&self, index: u32, info: &[u8], fd: Option<OwnedFd>) {
        let offset = field(info, ur::INFO_REGION_OFFSET).map(u64::from_ne_bytes);
        if let (Some(fd), Some(offset), true) = (fd, offset, self.map_region) {
            self.memory.lock().insert(index, (Arc::new(fd), offset));
        }
    }
}

/// Puts the reply into the feature. The flags must be those of the request, and no field of a GET may be missing; bytes that do
/// not come stay as they were sent.
fn take_answer(feature: &mut Feature, reply: ReplyPayload<'_>) -> Result<(), Errno> {
    let len = feature.bytes().len();
    if feature.flags() & uf::GET != 0 && feature.flags() & ul::PROBE == 0 {
        reply.part(0, len)?;
    }
    if !reply.0.is_empty() {
        reply.must_echo(uf::FLAGS, u64::from(feature.flags()), false)?;
    }
    let fields = reply.0.get(uf::HEADER_SIZE..len.min(reply.0.len())).unwrap_or(&[]);
    put(feature.bytes_mut(), uf::HEADER_SIZE, fields);
    Ok(())
}

impl Transport for VfioUser {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        check_argsz(info, ud::INFO_SIZE)?;
        let request = Payload::default().u32(wire::INFO_SIZE as u32).u32(0).u32(0).u32(0);
        let mut reply = [0; wire::INFO_SIZE];
        let reply = ask(&*self.channel, wire::GET_INFO, &request, &mut reply)?;
        let fields = reply.part(0, wire::INFO_SIZE)?;
        // The protocol has no capabilities, which the kernel has behind these fields.
        copy_whole(info, fields);
        put(info, 0, &(wire::INFO_SIZE as u32).to_ne_bytes());
        Ok(())
    }

    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        check_argsz(info, ur::INFO_SIZE)?;
        let index = field(info, ur::INFO_INDEX).map_or(0, u32::from_ne_bytes);
        let request = Payload::default().u32(length(info.len())?).u32(0).u32(index).u32(0).u64(0).u64(0);
        info.fill(0);
        let mut exchange = Exchange::new(wire::GET_REGION_INFO, request.as_slice(), info).wanting_fds(1);
        let len = self.channel.exchange(&mut exchange)?;
        let fd = exchange.into_fds().pop();
        let reply = payload(info, len)?;
        reply.must_echo(ur::INFO_INDEX, u64::from(index), false)?;
        // The description has to come as far as the server says that it goes, and there is room: zeros are none (U-6).
        let said = reply.u32_at(0)? as usize;
        reply.part(0, said.min(info.len()).max(ur::INFO_SIZE))?;
        self.keep_memory(index, info, fd);
        Ok(())
    }

    fn name(&self) -> Option<String> {
        self.channel.name()
    }

    fn peer(&self) -> Peer {
        Peer::VfioUser { knows_features: *self.generation.lock() != Generation::Unknown }
    }

    fn any_thread(&self) -> bool {
        self.channel.any_thread()
    }

    fn calls_me(&self) -> bool {
        self.channel.calls_me()
    }

    fn logs_by_mapping(&self) -> bool {
        true
    }

    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        let flags = feature.flags();
        if flags == uf::MIGRATION | uf::GET {
            return self.ask_flags(feature);
        }
        let absent = Err(Errno::new(libc::ENOTTY));
        let by_feature = match self.generation()? {
            Generation::Features => true,
            Generation::Regions => false,
            Generation::NotAsked | Generation::Unknown => return absent,
        };
        match flags {
            flags if flags == ul::START | uf::SET => self.log.start(&*self.channel, feature, by_feature),
            flags if flags == ul::STOP | uf::SET => self.log.stop(&*self.channel, by_feature),
            flags if flags == ul::REPORT | uf::GET => self.log.report(&*self.channel, feature, by_feature),
            // Servers of the first generation have a request of their own, which shows when the log is started.
            flags if flags == ul::START | uf::SET | ul::PROBE && !by_feature => Ok(()),
            _ if by_feature => self.ask_feature(feature),
            _ => absent,
        }
    }

    fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let asked = buf.len().min(self.max_read);
        let request = Payload::default().u64(offset).u32(index).u32(length(asked)?);
        let mut fields = [0; wire::REGION_IO_SIZE];
        let into = buf.get_mut(..asked).unwrap_or_default();
        let channel = &*self.channel;
        let len = ask_for_data(channel, wire::REGION_READ, &request, &mut fields, into, &mut Vec::new())?;
        let moved = moved(payload(&fields, len.min(fields.len()))?, index, offset, asked)?;
        let came = len.checked_sub(wire::REGION_IO_SIZE).is_some_and(|came| moved <= came);
        if came { Ok(moved) } else { Err(protocol()) }
    }

    fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        let bytes = buf.get(..self.max_write).unwrap_or(buf);
        let fields = Payload::default().u64(offset).u32(index).u32(length(bytes.len())?);
        let mut reply = [0; wire::REGION_IO_SIZE];
        let reply = ask_with_data(&*self.channel, wire::REGION_WRITE, fields, bytes, &mut reply)?;
        moved(reply, index, offset, bytes.len())
    }

    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        let memory = self.memory.lock().get(&index).cloned();
        let (fd, begin) = memory.ok_or(Errno::new(libc::ENOTTY))?;
        let mapped = region_memory::map(&fd, begin.checked_add(offset).ok_or_else(protocol)?, len)?;
        if region_memory::can_be_shortened(&fd) && !self.warned.swap(true, Ordering::Relaxed) {
            let name = self.channel.name().unwrap_or_else(|| "vfio-user".to_string());
            log!(
                Warning,
                "{name}: the server can shorten the file of region {index}, which has no F_SEAL_SHRINK: it can end this \
                 process by SIGBUS (U-7)"
            );
        }
        Ok(mapped)
    }

    fn reset(&self) -> Result<(), Errno> {
        ask(&*self.channel, wire::RESET, &Payload::default(), &mut []).map(|_| ())
    }

    fn open_data(&self, _: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        Ok(Box::new(UserData::new(Arc::clone(&self.channel), self.max_read, self.max_write)))
    }
}

/// How many of `asked` bytes an access of a region has moved. The reply repeats the request; one that names another place is no
/// answer to it (U-1).
fn moved(reply: ReplyPayload<'_>, index: u32, offset: u64, asked: usize) -> Result<usize, Errno> {
    reply.must_echo(0, offset, true)?;
    reply.must_echo(wire::REGION_IO_REGION, u64::from(index), false)?;
    let moved = reply.u32_at(wire::REGION_IO_COUNT)? as usize;
    if moved <= asked { Ok(moved) } else { Err(protocol()) }
}
