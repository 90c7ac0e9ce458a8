//! vfio-user: the state of a device behind a socket, by the library and by a plain loop of MIG_DATA_READ with the same server, in
//! turns within one run. Both must get the same bytes. The loop is measured against itself too: that is the machine's noise.
//! Then four devices side by side beside one, and what messages of 32 KiB cost a load.
//!
//! Servers are simdev's, in threads of this process: they cost as much as clients do, and a core is shared by both.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/mod.rs"]
mod common;

use simdev::{Access, Config, Device as Simdev, Dialect, Effect, Fault, Server, ServerOptions, ServerThread};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::transport::vfio_user::{ConnectOptions, VfioUserConnection, VfioUserOptions};
use vfiomig::window::StreamFlags;

const MIB: usize = 1 << 20;
/// Most that a reply has, as both sides have it.
const READ: usize = MIB;

const VERSION: u16 = 1;
const FEATURE: u16 = 16;
const DATA_READ: u16 = 17;
const SET_STATE: u32 = 2 | 1 << 17;

fn server(size: usize, seed: Option<u64>) -> (Simdev, UnixStream, ServerThread) {
    let config = Config { dialect: Dialect::V2 { p2p: false, pre_copy: false }, seed, ..Config::default() };
    let sim = Simdev::new(config.served().state_size(size));
    let (stream, thread) = Server::new(&sim, ServerOptions::default()).connect().unwrap();
    (sim, stream, thread)
}

/// A word in 64 is enough to see an order that is wrong, and cheap enough not to be what is measured.
fn add(sum: &mut (usize, u64), bytes: &[u8]) {
    for at in ((64 - sum.0 % 64) % 64..bytes.len()).step_by(64) {
        sum.1 = sum.1.wrapping_mul(31).wrapping_add(u64::from(bytes[at]));
    }
    sum.0 += bytes.len();
}

/// The shortest client that there can be.
struct Plain {
    stream: UnixStream,
    reply: Vec<u8>,
}

impl Plain {
    fn new(stream: UnixStream) -> Plain {
        let mut plain = Plain { stream, reply: vec![0; READ + 8] };
        plain.call(VERSION, &[2 << 16]);
        plain
    }

    /// The length of the reply's payload.
    fn call(&mut self, command: u16, words: &[u32]) -> usize {
        let size = 16 + 4 * words.len() as u32;
        let message: Vec<u8> = [&[u32::from(command) << 16, size, 0, 0], words]
            .concat()
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        self.stream.write_all(&message).unwrap();
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).unwrap();
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!((word(8), word(12)), (1, 0), "command {command} was refused");
        let len = word(4) as usize - 16;
        self.stream.read_exact(&mut self.reply[..len]).unwrap();
        len
    }

    fn set(&mut self, state: State) {
        self.call(FEATURE, &[16, SET_STATE, state.number(), u32::MAX]);
    }

    /// Seconds, and what came.
    fn save(&mut self) -> (f64, (usize, u64)) {
        self.set(State::StopCopy);
        let mut sum = (0, 0);
        let begun = Instant::now();
        loop {
            self.call(DATA_READ, &[READ as u32 + 8, READ as u32]);
            let n = u32::from_ne_bytes(self.reply[4..8].try_into().unwrap()) as usize;
            if n == 0 {
                break;
            }
            add(&mut sum, &self.reply[8..8 + n]);
        }
        let took = begun.elapsed().as_secs_f64();
        self.set(State::Running);
        (took, sum)
    }
}

/// The library's own connection, and a device on it.
struct Library {
    sim: Simdev,
    device: Device,
    connection: Arc<VfioUserConnection>,
    _thread: ServerThread,
}

impl Library {
    fn new(size: usize, seed: Option<u64>, server_options: VfioUserOptions) -> Library {
        let (sim, stream, thread) = server(size, seed);
        let options = ConnectOptions { server: server_options, ..ConnectOptions::default() };
        let connection = Arc::new(VfioUserConnection::new(stream.into(), options).unwrap());
        let device = Device::new(Box::new(connection.transport().unwrap()), DeviceOptions::default()).unwrap();
        Library { sim, device, connection, _thread: thread }
    }

    fn set(&self, state: State) {
        self.device.set_state(state, OnFailure::Keep, false).unwrap();
    }

    fn save(&self) -> (f64, (usize, u64)) {
        self.device.restart_stream().unwrap();
        self.set(State::StopCopy);
        let mut sum = (0, 0);
        let begun = Instant::now();
        loop {
            let chunk = self.device.peek(0).unwrap();
            if chunk.flags().contains(StreamFlags::END) {
                break;
            }
            add(&mut sum, &chunk[..]);
            let len = chunk.len();
            self.device.consume(chunk, len).unwrap();
        }
        let took = begun.elapsed().as_secs_f64();
        self.set(State::Running);
        (took, sum)
    }

    fn load(&self, stream: &[u8]) -> f64 {
        self.set(State::Resuming);
        let begun = Instant::now();
        self.device.write(stream, false).unwrap();
        self.device.finish(Some(stream.len() as u64)).unwrap();
        let took = begun.elapsed().as_secs_f64();
        self.set(State::Running);
        took
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // The client goes first: its server waits for it.
        let _ = self.connection.close();
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn saves(size: usize, rounds: usize) {
    let (_sim, stream, _thread) = server(size, Some(7));
    let mut plain = Plain::new(stream);
    let library = Library::new(size, Some(7), VfioUserOptions::default());
    let (mut first, mut second, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    let mut trips = 0;
    for _ in 0..rounds {
        let (a, expected) = plain.save();
        let before = library.sim.count(Access::DataRead);
        let (l, got) = library.save();
        trips = library.sim.count(Access::DataRead) - before;
        let (b, _) = plain.save();
        assert_eq!(got, expected, "the library delivered other bytes than the loop");
        assert!(got.0 >= size);
        first.push(a);
        ours.push(l);
        second.push(b);
    }
    let (a, b, l) = (median(&mut first), median(&mut second), median(&mut ours));
    let mib = size as f64 / MIB as f64;
    println!("{:.0} MiB from a server, {rounds} rounds, median MiB/s; both get the same bytes", mib);
    println!(
        "{:>8} {:>8} {:>16} {:>16} {:>20}",
        "loop", "library", "library / loop", "noise: loop/loop", "round trips per MiB"
    );
    let each = trips as f64 / mib;
    println!("{:>8.0} {:>8.0} {:>16.3} {:>16.3} {each:>20.2}", mib / f64::min(a, b), mib / l, (a + b) / 2.0 / l, a / b);
    library.sim.assert_clean();
}

/// Seconds of all that are done side by side, and what each gives.
fn together<T: Send, R: Send>(all: &mut [T], one: fn(&mut T) -> R) -> (f64, Vec<R>) {
    let begun = Instant::now();
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter_mut().map(|each| scope.spawn(move || one(each))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (begun.elapsed().as_secs_f64(), results)
}

/// As many plain loops with as many servers are what this machine has to give: its servers take processor time, too. Those that
/// `wait` before each reply, as a device does that has to be asked, leave more of it to the clients.
fn side_by_side(size: usize, rounds: usize, wait: Duration) {
    const DEVICES: usize = 4;
    let mut devices: Vec<Library> =
        (0..DEVICES as u64).map(|seed| Library::new(size, Some(seed + 1), VfioUserOptions::default())).collect();
    let plain_servers: Vec<_> = (0..DEVICES as u64).map(|seed| server(size, Some(seed + 1))).collect();
    let mut loops: Vec<Plain> =
        plain_servers.iter().map(|(_, stream, _)| Plain::new(stream.try_clone().unwrap())).collect();
    if !wait.is_zero() {
        let servers = devices.iter().map(|device| &device.sim).chain(plain_servers.iter().map(|server| &server.0));
        servers.for_each(|sim| {
            sim.inject(Fault::from(Access::DataRead, 0, Effect::Delay(wait)));
        });
    }
    let (mut alone, mut again, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let one_after_another = |times: &mut Vec<f64>| {
            let sums: Vec<_> = devices.iter().map(Library::save).collect();
            times.push(sums.iter().map(|(took, _)| took).sum());
            sums.into_iter().map(|(_, sum)| sum).collect::<Vec<_>>()
        };
        let expected = one_after_another(&mut alone);
        let (took, got) = together(&mut devices, |device| device.save().1);
        ours.push(took);
        let (took, by_loops) = together(&mut loops, |plain| plain.save().1);
        theirs.push(took);
        let one_after_another = |times: &mut Vec<f64>| {
            times.push(devices.iter().map(|device| device.save().0).sum());
        };
        one_after_another(&mut again);
        assert_eq!(got, expected, "side by side other bytes came");
        assert_eq!(by_loops, expected, "the loops got other bytes");
    }
    let (a, b, t, limit) = (median(&mut alone), median(&mut again), median(&mut ours), median(&mut theirs));
    let mib = (DEVICES * size) as f64 / MIB as f64;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{DEVICES} devices, {:.0} MiB each, servers that wait {wait:?} before each reply, {cores} cores, {rounds} rounds, median MiB/s",
        mib / DEVICES as f64
    );
    println!(
        "{:>18} {:>13} {:>8} {:>8} {:>19} {:>16} {:>8}",
        "one after another", "side by side", "ratio", "/ cores", "loops side by side", "library / loops", "noise"
    );
    let ratio = (a + b) / 2.0 / t;
    println!(
        "{:>18.0} {:>13.0} {ratio:>8.2} {:>8.2} {:>19.0} {:>16.2} {:>8.3}",
        mib / a,
        mib / t,
        ratio / cores as f64,
        mib / limit,
        limit / t,
        a / b
    );
    // Clients go first: their servers wait for them.
    drop(loops);
    plain_servers.into_iter().for_each(|(_sim, stream, thread)| {
        drop(stream);
        drop(thread);
    });
}

fn writes(size: usize, rounds: usize) {
    let source = Library::new(size, Some(7), VfioUserOptions::default());
    source.set(State::StopCopy);
    let mut stream = vec![0; 2 * size + MIB];
    let mut len = 0;
    loop {
        let (n, flags) = source.device.read(&mut stream[len..]).unwrap();
        len += n;
        if flags.contains(StreamFlags::END) {
            break;
        }
    }
    stream.truncate(len);
    println!("{} MiB to a server, {rounds} rounds, median MiB/s", size / MIB);
    println!("{:>8} {:>8} {:>20}", "message", "library", "round trips per MiB");
    let sizes = [32 << 10, 256 << 10, MIB];
    let targets: Vec<Library> = sizes
        .iter()
        .map(|&max_write| Library::new(size, None, VfioUserOptions { max_write, ..VfioUserOptions::default() }))
        .collect();
    let mut times = vec![Vec::new(); sizes.len()];
    let mut trips = vec![0; sizes.len()];
    for _ in 0..rounds {
        for (index, target) in targets.iter().enumerate() {
            let before = target.sim.count(Access::DataWrite);
            times[index].push(target.load(&stream));
            trips[index] = target.sim.count(Access::DataWrite) - before;
            assert!(target.sim.same_content(&source.sim), "another state arrived");
        }
    }
    for ((message, times), trips) in sizes.iter().zip(&mut times).zip(trips) {
        let mib = len as f64 / MIB as f64;
        println!("{:>7}K {:>8.0} {:>20.1}", message >> 10, mib / median(times), trips as f64 / mib);
    }
}

fn main() {
    if !common::is_wanted("vfio_user") {
        return;
    }
    // `make check` runs benches with --test: two small rounds show that they work.
    let quick = std::env::args().any(|arg| arg == "--test");
    let (size, rounds) = if quick { (4 * MIB, 2) } else { (64 * MIB, 15) };
    saves(size, rounds);
    side_by_side(size / 4, rounds, Duration::ZERO);
    side_by_side(size / 4, rounds, Duration::from_millis(5));
    writes(size, rounds);
}
