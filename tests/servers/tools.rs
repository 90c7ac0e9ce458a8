//! Servers in threads of the test, and what the tests do with devices behind them.

use simdev::{
    Config, Device as Simdev, Dialect, DmaLog, Peer, Quirks, Restart, Server, ServerOptions, ServerThread, Window,
};
use std::sync::Arc;
use std::time::Duration;
use vfiomig::device::{CapFlags, Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::Error;
use vfiomig::transport::vfio_user::{ConnectOptions, Exchange, VfioUserConnection};
use vfiomig::window::StreamFlags;

/// Bytes of a state: more than one message to a server may have.
pub const SIZE: usize = 100_000;

/// A kind of server: its name, its device, and what it does beside the specification.
pub struct Kind {
    pub name: &'static str,
    pub config: Config,
    pub quirks: Quirks,
}

/// As the specification says, and as libvfio-user is, in both dialects.
pub fn kinds() -> Vec<Kind> {
    let v2 = Config {
        dialect: Dialect::V2 { p2p: false, pre_copy: true },
        dma_log: Some(DmaLog { restart: Restart::Taken, ..DmaLog::default() }),
        ..Config::default()
    };
    let old = Config { window: Window::Area, ..Peer::LibvfioUserV1.config() };
    let new = Peer::LibvfioUserV2.config();
    let kind = |name, config: Config, quirks| Kind { name, config: config.served().state_size(SIZE), quirks };
    vec![
        kind("v2", v2, Quirks::none()),
        kind("v1", Config::v1(Window::Trapped), Quirks::none()),
        kind("libvfio-user v2", new.clone(), Quirks::of_libvfio_user(&new)),
        kind("libvfio-user v1", old.clone(), Quirks::of_libvfio_user(&old)),
    ]
}

/// A server, and the library's connection to it.
pub struct Served {
    pub sim: Simdev,
    pub connection: Arc<VfioUserConnection>,
    thread: Option<ServerThread>,
}

impl Served {
    pub fn new(config: Config, options: ServerOptions) -> Served {
        Served::with(config, options, ConnectOptions { timeout: Duration::from_secs(30), ..ConnectOptions::default() })
    }

    pub fn with(config: Config, options: ServerOptions, connect: ConnectOptions) -> Served {
        let sim = Simdev::new(config);
        let (stream, thread) = Server::new(&sim, options).connect().unwrap();
        let connection = Arc::new(VfioUserConnection::new(stream.into(), connect).unwrap());
        Served { sim, connection, thread: Some(thread) }
    }

    pub fn of(kind: &Kind, seed: Option<u64>) -> Served {
        let options = ServerOptions { quirks: kind.quirks.clone(), ..ServerOptions::default() };
        Served::new(Config { seed, ..kind.config.clone() }, options)
    }

    pub fn device(&self) -> Device {
        open(&self.connection).unwrap()
    }

    /// The device writes pages, by its doorbell.
    pub fn ring(&self, iova: u64, pages: u64) {
        let offset = 8u64;
        let head = [offset.to_ne_bytes().to_vec(), 0u32.to_ne_bytes().to_vec(), 8u32.to_ne_bytes().to_vec()].concat();
        let payload = [head, (iova | (pages - 1)).to_ne_bytes().to_vec()].concat();
        self.connection.request(&mut Exchange::new(10, &payload, &mut [0; 16])).unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The client goes first: a server that waits for it would not hear of anything else.
        let _ = self.connection.close();
        drop(self.thread.take());
    }
}

pub fn open(connection: &Arc<VfioUserConnection>) -> Result<Device, Error> {
    Device::new(Box::new(connection.transport()?), DeviceOptions::default())
}

pub fn set(device: &Device, to: State) -> Result<(), Error> {
    device.set_state(to, OnFailure::Keep, false).map(drop)
}

/// What of a stream there is now, in its segments.
pub fn drain(device: &Device, segments: &mut Vec<Vec<u8>>) -> Result<(), Error> {
    loop {
        let chunk = device.peek(0)?;
        let flags = chunk.flags();
        if flags.intersects(StreamFlags::END | StreamFlags::EMPTY) {
            return Ok(());
        }
        if segments.is_empty() {
            segments.push(Vec::new());
        }
        segments.last_mut().unwrap().extend(&chunk[..]);
        let len = chunk.len();
        device.consume(chunk, len)?;
        if flags.contains(StreamFlags::SEGMENT_END) {
            segments.push(Vec::new());
        }
    }
}

/// From RUNNING to STOP, with as much pre-copy as there is at once.
pub fn save(device: &Device) -> Result<Vec<Vec<u8>>, Error> {
    let mut segments = Vec::new();
    if device.info().caps.contains(CapFlags::PRE_COPY) {
        set(device, State::PreCopy)?;
        drain(device, &mut segments)?;
    }
    set(device, State::StopCopy)?;
    drain(device, &mut segments)?;
    set(device, State::Stop)?;
    segments.retain(|segment| !segment.is_empty());
    Ok(segments)
}

/// From RUNNING to RUNNING.
pub fn load(device: &Device, segments: &[Vec<u8>]) -> Result<(), Error> {
    let ends = device.info().dialect == Some(vfiomig::dialect::DialectKind::V1);
    set(device, State::Resuming)?;
    for segment in segments {
        device.write(segment, ends)?;
    }
    device.finish(Some(segments.iter().map(|segment| segment.len() as u64).sum()))?;
    set(device, State::Running)
}
