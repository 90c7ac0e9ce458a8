//! Servers of the vfio-user protocol that may answer anything: behind a channel, where a reply is honest until the input says otherwise,
//! and behind a socket, whose bytes are the input.

use crate::errors::{check_error, check_pending, note};
use crate::feed::Feed;
use parking_lot::Mutex;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error};
use vfiomig::internals::set_unseen_limit;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::vfio_user::{
    ConnectOptions, DmaAccess, Exchange, VfioUser, VfioUserChannel, VfioUserConnection, VfioUserLimits, VfioUserOptions,
};

const MAPPED: u64 = 1 << 20;
/// No more calls on one input.
const MOST_CALLS: usize = 40;
const CONTENT: usize = 3000;

pub fn run(data: &[u8]) {
    set_unseen_limit(1 << 20);
    let mut feed = Feed::new(data);
    if feed.bool() { by_socket(feed) } else { by_channel(feed) }
}

/// A server of either generation, and how the input spoils its replies.
struct Server {
    feed: Feed,
    v1: bool,
    state: u32,
    left: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes(word.try_into().unwrap()))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn words(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

impl Server {
    fn new(mut feed: Feed) -> Self {
        let v1 = feed.bool();
        Server { feed, v1, state: if v1 { 1 } else { 2 }, left: CONTENT }
    }

    fn honest(&mut self, command: u16, body: &[u8]) -> Result<Vec<u8>, i32> {
        match command {
            4 => Ok(words(&[16, 3, if self.v1 { 10 } else { 9 }, 5])),
            5 => Ok(self.region(body)),
            9 => Ok([&body[..16], &self.register(u64_at(body, 0), u32_at(body, 12) as usize)].concat()),
            10 => {
                if u64_at(body, 0) == 0 {
                    self.state = u32_at(body, 16);
                    self.left = CONTENT;
                }
                Ok(body[..16].to_vec())
            }
            14 if self.v1 && u32_at(body, 4) == 4 => {
                Ok([&body[..40], &vec![0x11; u64_at(body, 32).min(1 << 20) as usize]].concat())
            }
            13 => Ok(Vec::new()),
            14 if self.v1 => Ok(Vec::new()),
            16 if !self.v1 => self.feature(body),
            17 if !self.v1 => {
                let asked = u32_at(body, 4);
                let n = (asked as usize).min(self.left);
                self.left -= n;
                let mut reply = words(&[8 + n as u32, n as u32]);
                reply.resize(8 + asked as usize, 7);
                Ok(reply)
            }
            18 if !self.v1 => Ok(Vec::new()),
            _ => Err(libc::EINVAL),
        }
    }

    fn region(&self, body: &[u8]) -> Vec<u8> {
        let (argsz, index) = (u32_at(body, 0), u32_at(body, 8));
        let mut info = words(&[48, if self.v1 && index == 9 { 11 } else { 3 }, index, 0, 0x2000, 0, 0, 0]);
        if self.v1 && index == 9 && argsz >= 48 {
            info[12] = 32;
            info.extend(words(&[2 | 1 << 16, 0, 3, 1]));
        } else if index != 9 || !self.v1 {
            info[0] = 32;
        }
        info
    }

    fn register(&mut self, at: u64, count: usize) -> Vec<u8> {
        let value = match at {
            0 => u64::from(self.state),
            8 => self.left as u64,
            16 => 0x1000,
            24 => self.left.min(1000) as u64,
            _ => {
                self.left -= self.left.min(count);
                return vec![7; count];
            }
        };
        let mut bytes = value.to_ne_bytes().to_vec();
        bytes.resize(count, 0);
        bytes
    }

    fn feature(&mut self, body: &[u8]) -> Result<Vec<u8>, i32> {
        let (argsz, flags) = (u32_at(body, 0), u32_at(body, 4));
        let mut reply = body.to_vec();
        match flags {
            0x1_0001 => reply[8..].copy_from_slice(&5u64.to_ne_bytes()),
            0x2_0002 => {
                self.state = u32_at(body, 8);
                self.left = CONTENT;
            }
            0x1_0002 => reply[8..12].copy_from_slice(&self.state.to_ne_bytes()),
            0x1_0008 => reply.resize((argsz as usize).min(1 << 20), 0x11),
            0x2_0006 | 0x2_0007 => {}
            _ if flags & 0x4_0000 != 0 => {}
            _ => return Err(libc::EINVAL),
        }
        Ok(reply)
    }

    fn answer(&mut self, command: u16, body: &[u8]) -> Result<Vec<u8>, i32> {
        let mut answer = self.honest(command, body);
        while self.feed.lies() {
            match (self.feed.below(6), &mut answer) {
                (0, _) => answer = Err(0),
                (1, _) => answer = Err(self.feed.errno()),
                (2, Ok(bytes)) => bytes.truncate(self.feed.below(64)),
                (3, Ok(bytes)) => bytes.resize(self.feed.below(5000), 0xee),
                (_, Ok(bytes)) if !bytes.is_empty() => {
                    let at = self.feed.below(bytes.len().min(100));
                    let value = self.feed.size().to_ne_bytes();
                    let end = bytes.len().min(at + if self.feed.bool() { 4 } else { 8 });
                    bytes[at..end].copy_from_slice(&value[..end - at]);
                }
                _ => answer = Ok(self.feed.bytes(20)),
            }
        }
        answer
    }
}

struct Channel(Mutex<Server>);

impl VfioUserChannel for Channel {
    fn limits(&self) -> VfioUserLimits {
        VfioUserLimits::default()
    }

    fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<usize, Errno> {
        crate::trace!("command {} {:?}", exchange.command(), &exchange.request()[..exchange.request().len().min(40)]);
        match self.0.lock().answer(exchange.command(), exchange.request()) {
            Ok(bytes) => {
                let room = exchange.reply_mut();
                let fits = bytes.len().min(room.len());
                room[..fits].copy_from_slice(&bytes[..fits]);
                // One that says too much is the channel's lie.
                Ok(bytes.len())
            }
            Err(0) => {
                exchange.had_no_errno();
                Err(Errno::new(libc::EIO))
            }
            Err(errno) => Err(Errno::new(errno)),
        }
    }
}

fn options(feed: &mut Feed) -> VfioUserOptions {
    let how = feed.u8();
    let small = if how & 2 != 0 { 100 } else { 1 << 20 };
    VfioUserOptions { max_write: small, max_read: small, map_region: how & 1 != 0 }
}

fn by_channel(mut feed: Feed) {
    let options = options(&mut feed);
    let channel = Arc::new(Channel(Mutex::new(Server::new(feed))));
    let Ok(transport) = VfioUser::new(Arc::clone(&channel) as Arc<dyn VfioUserChannel>, options) else { return };
    use_device(transport, &mut || {
        let feed = &mut channel.0.lock().feed;
        (!feed.done()).then(|| feed.u8())
    });
}

/// All that the server will ever say is in the socket before it is asked: a first reply that may be right, and then messages.
fn by_socket(mut feed: Feed) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let options = options(&mut feed);
    let mut said = Vec::new();
    if !feed.lies() {
        let text = b"\0\0\x02\0{\"capabilities\":{\"max_msg_fds\":1,\"migration\":{\"pgsize\":4096}}}\0";
        message(&mut said, 1, 1, 1, 0, text);
    }
    for id in 2..100u16 {
        if feed.done() || said.len() > 60_000 {
            break;
        }
        let id = if feed.lies() { feed.u16() } else { id };
        let command = [4, 5, 9, 10, 11, 12, 13, 14, 16, 17, 18, 2, 3][feed.below(13)];
        let flags = if feed.lies() { feed.u32() } else { u32::from(!matches!(command, 11 | 12)) };
        let errno = if flags & 0x20 != 0 { feed.errno() as u32 } else { 0 };
        let len = feed.below(64);
        let payload = feed.bytes(len);
        message(&mut said, id, command, flags, errno, &payload);
        if feed.lies() {
            let cut = feed.below(16);
            said.truncate(said.len() - cut);
        }
    }
    theirs.write_all(&said).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let connect = ConnectOptions { server: options, timeout: Duration::from_secs(5), ..ConnectOptions::default() };
    let connection = match VfioUserConnection::new(ours.into(), connect) {
        Ok(connection) => Arc::new(connection),
        Err(error) => return check_error(&error),
    };
    let memory = theirs.try_clone().unwrap();
    note(&connection.map(0, MAPPED, feed.bool().then(|| (memory.as_fd(), 0)), DmaAccess::ALL));
    note(&connection.serve(Duration::ZERO));
    if let Ok(transport) = connection.transport() {
        let mut calls = 0u8;
        use_device(transport, &mut || {
            calls += 1;
            (calls < 12).then_some(calls)
        });
    }
    note(&connection.unmap(0, MAPPED));
    note(&connection.close());
    assert!(connection.serve(Duration::ZERO).is_err());
}

/// Calls, as `next` says, until it says nothing more.
fn use_device(transport: VfioUser, next: &mut dyn FnMut() -> Option<u8>) {
    let options = DeviceOptions { name: "d".into(), buffer_size: Some(4096), ..DeviceOptions::default() };
    let device = match Device::new(Box::new(transport), options) {
        Ok(device) => Arc::new(device),
        Err(error) => return check_error(&error),
    };
    let devices = vec![Arc::clone(&device)];
    let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap();
    tracker.map(&[Mapping { range: IovaRange { iova: 0, size: MAPPED }, cookie: 0 }]).unwrap();
    let mut buf = [0; 5000];
    for _ in 0..MOST_CALLS {
        let Some(what) = next() else { break };
        match what % 12 {
            0 => note(&set(&device, State::StopCopy)),
            1 => note(&device.read(&mut buf).inspect(|(n, _)| assert!(*n <= buf.len()))),
            2 => note(&tracker.start()),
            3 => note(&harvest(&tracker)),
            4 => note(&set(&device, State::Running)),
            5 => note(&set(&device, State::Resuming)),
            6 => note(&device.write(&buf[..1500], what & 0x80 != 0)),
            7 => note(&device.reset()),
            8 => note(&device.pending_exact().inspect(check_pending)),
            9 => note(&set(&device, State::PreCopy)),
            10 => note(&device.reprobe()),
            _ => note(&device.finish(None)),
        }
    }
    note(&tracker.stop());
    note(&device.close());
}

fn set(device: &Device, to: State) -> Result<(), Error> {
    device.set_state(to, OnFailure::Keep, false).map(|_| ())
}

/// What is reported lies within what is mapped.
fn harvest(tracker: &Tracker) -> Result<(), Error> {
    let mut run = |_: u64, run: IovaRange| {
        assert!(run.size > 0 && run.iova + run.size <= MAPPED);
        true
    };
    tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).map(|_| ())
}

fn message(to: &mut Vec<u8>, id: u16, command: u16, flags: u32, errno: u32, payload: &[u8]) {
    to.extend([id.to_ne_bytes(), command.to_ne_bytes()].concat());
    to.extend(words(&[16 + payload.len() as u32, flags, errno]));
    to.extend(payload);
}
