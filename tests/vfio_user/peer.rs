//! A server of the vfio-user protocol at the level of messages, as libvfio-user is one: what it refuses and where it traps a
//! client. It notes what a client must never do (`offences`).

use super::v1::Region;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

pub const GET: u32 = 1 << 16;
pub const SET: u32 = 1 << 17;
pub const PROBE: u32 = 1 << 18;
pub const RUNNING: u32 = 2;
pub const STOP_COPY: u32 = 3;
pub const RESUMING: u32 = 4;
pub const PRE_COPY: u32 = 6;
/// From so many bytes on a server may read a message in part (U-8).
const ONE_PACKET: usize = 36 << 10;

/// What kind of server it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    V2,
    V1,
    /// Knows features, and has none for migration.
    Plain,
    /// Does not know the command, and leaves its body in the socket (U-3).
    Ancient,
}

/// A reply: its payload and descriptors, or an errno, which may be 0.
pub type Answer = Result<(Vec<u8>, Vec<OwnedFd>), i32>;

/// A mapping of the client's memory: its size, whether with a descriptor, and the pages that were written.
#[derive(Clone, Debug)]
pub struct Dma {
    pub size: u64,
    pub has_fd: bool,
    pub written: Vec<u64>,
}

pub struct Peer {
    pub kind: Kind,
    pub state: u32,
    /// What it saves, and how much of it was read.
    pub content: Vec<u8>,
    pub read: usize,
    /// Pre-copy data that comes before it.
    pub precopy: usize,
    pub loaded: Vec<u8>,
    /// A read brings at most so many bytes, whatever is left (U-5).
    pub short: usize,
    /// A reset leaves the migration state as it is (U-10).
    pub reset_keeps: bool,
    pub region: Region,
    pub dma: BTreeMap<u64, Dma>,
    /// The page size of the log that runs.
    pub logging: Option<u64>,
    /// Answers START with this page.
    pub own_page: Option<u64>,
    /// Commands as they came, with the lengths of their payloads.
    pub asked: Vec<(u16, usize)>,
    pub offences: Vec<String>,
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn words(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn plain(bytes: Vec<u8>) -> Answer {
    Ok((bytes, Vec::new()))
}

impl Peer {
    pub fn new(kind: Kind, content: &[u8]) -> Self {
        Peer {
            kind,
            state: RUNNING,
            content: content.to_vec(),
            read: 0,
            precopy: 0,
            loaded: Vec::new(),
            short: usize::MAX,
            reset_keeps: true,
            region: Region::new(content),
            dma: BTreeMap::new(),
            logging: None,
            own_page: None,
            asked: Vec::new(),
            offences: Vec::new(),
        }
    }

    pub fn offence(&mut self, text: impl Into<String>) {
        self.offences.push(text.into());
    }

    pub fn count(&self, command: u16) -> usize {
        self.asked.iter().filter(|(asked, _)| *asked == command).count()
    }

    /// The device writes to memory of the client's; `false`: it has no mapping with a descriptor there, and sends a message
    /// instead.
    pub fn write_memory(&mut self, address: u64) -> bool {
        let (logging, page) = (self.logging.is_some(), self.logging.unwrap_or(4096));
        let Some((&iova, dma)) = self.dma.range_mut(..=address).next_back() else { return false };
        if address - iova >= dma.size || !dma.has_fd {
            return false;
        }
        if logging {
            dma.written.push((address - iova) / page);
        }
        true
    }

    pub fn answer(&mut self, command: u16, body: &[u8], fds: &[OwnedFd]) -> Answer {
        self.asked.push((command, body.len()));
        if body.len() + 16 > ONE_PACKET {
            self.offence(format!("command {command} has {} bytes, which are read in part", body.len()));
        }
        match command {
            2 => self.map(body, fds),
            3 => self.unmap(body),
            4 => self.info(),
            5 => self.region_info(body),
            9 | 10 => self.region_access(command == 10, body),
            13 => self.reset(),
            14 if self.kind == Kind::V1 => self.dirty_pages(body),
            16..=18 => self.migration(command, body),
            _ => Err(libc::EINVAL),
        }
    }

    fn info(&self) -> Answer {
        if self.kind == Kind::V2 && matches!(self.state, 1 | STOP_COPY) {
            return Err(libc::EINVAL);
        }
        let regions = if self.kind == Kind::V1 { 10u32 } else { 9 };
        plain([16, 3, regions, 5].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect())
    }

    fn no_regions_now(&self) -> bool {
        self.kind == Kind::V2 && self.state == STOP_COPY
    }

    fn region_info(&mut self, body: &[u8]) -> Answer {
        let (argsz, index) = (u32_at(body, 0), u32_at(body, 8));
        if self.no_regions_now() {
            self.offence("a region was asked for in STOP_COPY");
        }
        if self.kind == Kind::V1 && index == 9 {
            return self.region.describe(argsz);
        }
        let mut info = [32u32, 0, index, 0].iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>();
        info.extend(words(&[256, 0]));
        plain(info)
    }

    fn region_access(&mut self, write: bool, body: &[u8]) -> Answer {
        let (offset, index, count) = (u64_at(body, 0), u32_at(body, 8), u32_at(body, 12) as usize);
        if self.no_regions_now() {
            self.offence("a region was accessed in STOP_COPY");
            return Err(libc::EINVAL);
        }
        let mut reply = body[..16].to_vec();
        if self.kind == Kind::V1 && index == 9 {
            if write {
                self.region.write(offset, &body[16..])?;
            } else {
                reply.extend(self.region.read(offset, count)?);
            }
            self.offences.append(&mut self.region.offences);
        } else if !write {
            reply.resize(16 + count, 0xff);
        }
        plain(reply)
    }

    fn reset(&mut self) -> Answer {
        if matches!(self.state, 1 | STOP_COPY) && self.kind == Kind::V2 {
            return Err(libc::EINVAL);
        }
        if !self.reset_keeps {
            self.state = RUNNING;
        }
        self.region.state = 1;
        plain(Vec::new())
    }

    fn map(&mut self, body: &[u8], fds: &[OwnedFd]) -> Answer {
        let (address, size) = (u64_at(body, 16), u64_at(body, 24));
        self.dma.insert(address, Dma { size, has_fd: !fds.is_empty(), written: Vec::new() });
        plain(Vec::new())
    }

    fn unmap(&mut self, body: &[u8]) -> Answer {
        let (address, size) = (u64_at(body, 8), u64_at(body, 16));
        match self.dma.get(&address) {
            Some(dma) if dma.size == size => {
                self.dma.remove(&address);
                plain(body.to_vec())
            }
            _ => Err(libc::ENOENT),
        }
    }

    fn migration(&mut self, command: u16, body: &[u8]) -> Answer {
        match (self.kind, command) {
            (Kind::Ancient, _) => {
                if body.len() != 16 || self.count(command) > 1 {
                    self.offence(format!("{} bytes stay in the socket, which is out of step", body.len()));
                }
                Err(0)
            }
            (Kind::V2, 16) => self.feature(body),
            (Kind::V2, 17) => self.data_read(body),
            (Kind::V2, _) => self.data_write(body),
            _ => Err(libc::EINVAL),
        }
    }

    fn feature(&mut self, body: &[u8]) -> Answer {
        let (argsz, flags) = (u32_at(body, 0) as usize, u32_at(body, 4));
        let head = &body[..8];
        let reply = |fields: &[u64]| plain([head, &words(fields)].concat());
        if argsz < body.len() {
            self.offence("argsz does not cover the request");
        }
        match flags {
            f if f == 1 | GET => reply(&[5]),
            f if f == 2 | GET => reply(&[u64::from(self.state)]),
            f if f == 2 | SET => {
                self.move_to(u32_at(body, 8))?;
                // The field of the data fd means nothing; here it looks like standard input.
                reply(&[u64::from(self.state)])
            }
            f if f & PROBE != 0 && (6..=8).contains(&(f & 0xffff)) => plain(head.to_vec()),
            f if f == 6 | SET => self.log_start(body),
            f if f == 7 | SET => {
                self.logging = None;
                plain(head.to_vec())
            }
            f if f == 8 | GET => self.log_report(body, argsz),
            _ => Err(libc::EINVAL),
        }
    }

    fn move_to(&mut self, to: u32) -> Result<(), i32> {
        if !matches!(to, 1..=4 | 6) || (self.state == STOP_COPY && to == PRE_COPY) {
            return Err(libc::EINVAL);
        }
        let continues = self.state == PRE_COPY && to == STOP_COPY;
        if matches!(to, STOP_COPY | PRE_COPY) && !continues {
            self.read = 0;
        }
        if to == RESUMING {
            self.loaded.clear();
        }
        self.state = to;
        Ok(())
    }

    fn data_read(&mut self, body: &[u8]) -> Answer {
        let (argsz, size) = (u32_at(body, 0) as usize, u32_at(body, 4) as usize);
        if argsz < 8 + size || size > 1 << 20 || !matches!(self.state, STOP_COPY | PRE_COPY) {
            return Err(libc::EINVAL);
        }
        let end = if self.state == PRE_COPY { self.precopy } else { self.content.len() };
        let n = size.min(self.short).min(end.saturating_sub(self.read));
        let mut reply = [(8 + n as u32).to_ne_bytes(), (n as u32).to_ne_bytes()].concat();
        reply.extend(&self.content[self.read..self.read + n]);
        self.read += n;
        // The payload always has as many bytes as were asked for (U-5).
        reply.resize(8 + size, 0x5a);
        plain(reply)
    }

    fn data_write(&mut self, body: &[u8]) -> Answer {
        let size = u32_at(body, 4) as usize;
        if self.state != RESUMING || size != body.len() - 8 || u32_at(body, 0) as usize != body.len() {
            return Err(libc::EINVAL);
        }
        self.loaded.extend(&body[8..]);
        plain(Vec::new())
    }

    fn log_start(&mut self, body: &[u8]) -> Answer {
        let page = u64_at(body, 8);
        let own = self.own_page.unwrap_or(page);
        if self.logging.is_some_and(|runs| runs != own) || u32_at(body, 16) as usize * 16 != body.len() - 24 {
            return Err(libc::EINVAL);
        }
        self.logging = Some(own);
        self.dma.values_mut().for_each(|dma| dma.written.clear());
        let mut reply = body.to_vec();
        reply[8..16].copy_from_slice(&own.to_ne_bytes());
        plain(reply)
    }

    fn log_report(&mut self, body: &[u8], argsz: usize) -> Answer {
        let bits = self.take_bits(u64_at(body, 8), u64_at(body, 16), u64_at(body, 24))?;
        let reply = [body, &bits].concat();
        if argsz < reply.len() {
            self.offence("argsz does not cover the bitmap");
        }
        plain(reply)
    }

    /// The bits of a mapping, which are cleared (U-11, U-12).
    fn take_bits(&mut self, iova: u64, size: u64, page: u64) -> Result<Vec<u8>, i32> {
        let runs = self.logging.ok_or(libc::EINVAL)?;
        if page != runs {
            self.offence(format!("a log of pages of {runs} was asked in pages of {page}: wrong bits, or none ever"));
        }
        let Some(dma) = self.dma.get_mut(&iova) else {
            let within = self.dma.range(..iova).next_back().is_some_and(|(at, dma)| iova - at < dma.size);
            return Err(if within { libc::EOPNOTSUPP } else { libc::ENOENT });
        };
        match size.cmp(&dma.size) {
            std::cmp::Ordering::Greater => return Err(libc::ENOENT),
            std::cmp::Ordering::Less => {
                self.offence("a part of a mapping was asked for");
                return Err(libc::EOPNOTSUPP);
            }
            std::cmp::Ordering::Equal if !dma.has_fd => return Err(libc::EINVAL),
            std::cmp::Ordering::Equal => {}
        }
        let mut bits = vec![0u8; (size.div_ceil(page) as usize).div_ceil(64) * 8];
        dma.written.drain(..).for_each(|n| bits[n as usize / 8] |= 1 << (n % 8));
        Ok(bits)
    }

    fn dirty_pages(&mut self, body: &[u8]) -> Answer {
        match u32_at(body, 4) {
            1 => self.logging = Some(4096),
            2 => self.logging = None,
            4 if u32_at(body, 0) <= 1 << 20 => {
                let bits = self.take_bits(u64_at(body, 8), u64_at(body, 16), u64_at(body, 24))?;
                if u64_at(body, 32) as usize != bits.len() {
                    return Err(libc::EINVAL);
                }
                return plain([&body[..40], &bits].concat());
            }
            _ => return Err(libc::EINVAL),
        }
        plain(Vec::new())
    }
}

/// A copy of a descriptor, as one that a message brings is.
pub fn copy_of(file: &File) -> OwnedFd {
    file.as_fd().try_clone_to_owned().unwrap()
}
