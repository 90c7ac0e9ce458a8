//! Servers that share nothing with this project but the specification. Each is a process with a socket; one that cannot be had here is
//! left out, which with CI=true is a failure.

use super::tools::{drain, load, open, save, set};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfiomig::device::Device;
use vfiomig::dialect::{DialectKind, State};
use vfiomig::tracker::{IovaRange, LogKind, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::vfio_user::{ConnectOptions, DmaAccess, Exchange, VfioUserConnection};
use vmm_sys_util::eventfd::EventFd;

/// A process that serves one client.
struct Foreign {
    process: Child,
    connection: Arc<VfioUserConnection>,
    _dir: tempfile::TempDir,
}

impl Foreign {
    /// `arguments` get the path of the socket where they say SOCKET.
    fn start(program: &Path, arguments: &[&str]) -> Foreign {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let path = socket.to_str().unwrap();
        let arguments = arguments.iter().map(|word| if *word == "SOCKET" { path } else { word });
        let mut process = Command::new(program).args(arguments).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let connection = loop {
            // It may not listen yet where its socket is there.
            match VfioUserConnection::connect(&socket, ConnectOptions::default()) {
                Ok(connection) => break Arc::new(connection),
                Err(error) => assert!(Instant::now() < until && process.try_wait().unwrap().is_none(), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Foreign { process, connection, _dir: dir }
    }

    fn device(&self) -> Device {
        open(&self.connection).unwrap()
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) {
        let head = [offset.to_ne_bytes().to_vec(), region.to_ne_bytes().to_vec()].concat();
        let payload = [head, (data.len() as u32).to_ne_bytes().to_vec(), data.to_vec()].concat();
        self.connection.request(&mut Exchange::new(10, &payload, &mut [0; 16])).unwrap();
    }

    fn read(&self, region: u32, offset: u64, len: usize) -> Vec<u8> {
        let head = [offset.to_ne_bytes().to_vec(), region.to_ne_bytes().to_vec()].concat();
        let payload = [head, (len as u32).to_ne_bytes().to_vec()].concat();
        let mut answer = vec![0; 16 + len];
        assert_eq!(self.connection.request(&mut Exchange::new(9, &payload, &mut answer)).unwrap(), 16 + len);
        answer.split_off(16)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.connection.close();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn in_tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vfio_user").join(name)
}

/// What a script that builds a server has built.
fn built(script: &str) -> Option<PathBuf> {
    // Nothing is fetched by a test; make check-vfio-user-peers does it, and so may a machine that must leave nothing out.
    let only = if std::env::var_os("CI").is_some_and(|ci| ci == "true") { &[][..] } else { &["--if-built"] };
    let output = Command::new(in_tree(script)).args(only).stderr(Stdio::inherit()).output().unwrap();
    if output.status.code() == Some(77) {
        eprintln!("SKIPPED: {script} has no server here");
        return None;
    }
    assert!(output.status.success(), "{script}: {}", output.status);
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
}

#[test]
fn a_device_moves_between_servers_that_were_written_from_the_specification() {
    let server = in_tree("server.py");
    let arguments = ["--state-size", "100000", "--socket", "SOCKET"];
    let from = Foreign::start(&server, &[&arguments[..], &["--seed", "1"]].concat());
    let to = Foreign::start(&server, &arguments);
    let (source, target) = (from.device(), to.device());
    assert_eq!(source.info().dialect, Some(DialectKind::V2));
    let before = from.read(2, 0, 100_000);
    let stream = save(&source).unwrap();
    load(&target, &stream).unwrap();
    assert!(to.read(2, 0, 100_000) == before && before.iter().any(|byte| *byte != 0));
}

/// The sample of libvfio-user of the time of v1. BAR 0 has a time to come, as its destination refuses one that has passed.
#[test]
fn the_sample_of_libvfio_user_moves() {
    let Some(server) = built("libvfio-user.sh") else { return };
    let (from, to) = (Foreign::start(&server, &["SOCKET"]), Foreign::start(&server, &["SOCKET"]));
    let ram = tempfile::tempfile().unwrap();
    ram.set_len(1 << 20).unwrap();
    from.connection.map(0, 1 << 20, Some((ram.as_fd(), 0)), DmaAccess::ALL).unwrap();
    let (source, target) = (from.device(), to.device());
    assert_eq!(source.info().dialect, Some(DialectKind::V1));
    let content: Vec<u8> = (0..12288u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    from.write(1, 0, &content);
    let later = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3600;
    from.write(0, 0, &later.to_ne_bytes());
    set(&source, State::StopCopy).unwrap();
    let mut stream = Vec::new();
    drain(&source, &mut stream).unwrap();
    set(&source, State::Stop).unwrap();
    stream.retain(|segment| !segment.is_empty());
    assert_eq!(stream.concat().len(), 12296);
    load(&target, &stream).unwrap();
    assert_eq!(to.read(1, 0, 12288), content);
}

/// The example of the crate vfio_user does not know features and leaves their payload in the socket (U-3).
#[test]
fn the_example_of_the_rust_crate_is_found_to_be_not_migratable() {
    let Some(server) = built("rust-gpio.sh") else { return };
    let foreign = Foreign::start(&server, &["--socket-path", "SOCKET"]);
    let device = foreign.device();
    assert_eq!(device.info().dialect, None);
    // The connection is in step.
    assert_eq!(foreign.read(7, 0, 4), foreign.read(7, 0, 4));
    device.reset().unwrap();
}

/// It writes a page by a message whenever its time comes, also where it has a descriptor of the memory: its own log says nothing of that (U-15).
#[test]
fn what_the_sample_writes_by_messages_is_in_the_log() {
    let Some(server) = built("libvfio-user.sh") else { return };
    let foreign = Foreign::start(&server, &["SOCKET"]);
    let ram = tempfile::tempfile().unwrap();
    ram.set_len(1 << 20).unwrap();
    foreign.connection.map(0, 1 << 20, Some((ram.as_fd(), 0)), DmaAccess::ALL).unwrap();
    let devices = vec![Arc::new(foreign.device())];
    let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap();
    tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 0 }]).unwrap();
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, LogKind::DmaLog, "{}", tracker.info().reason);
    // Without an interrupt that is set up it would end.
    let interrupt = EventFd::new(0).unwrap();
    // SAFETY: the descriptor is open as long as `interrupt`, which outlives the request.
    let fds = [unsafe { BorrowedFd::borrow_raw(interrupt.as_raw_fd()) }];
    let set: Vec<u8> = [20u32, 4 | 32, 0, 0, 1].iter().flat_map(|word| word.to_ne_bytes()).collect();
    foreign.connection.request(&mut Exchange::new(8, &set, &mut []).with_fds(&fds)).unwrap();
    let soon = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 2;
    foreign.write(0, 0, &soon.to_ne_bytes());
    // A page is written, and read.
    let (until, mut served) = (Instant::now() + Duration::from_secs(60), 0);
    while served < 2 {
        served += foreign.connection.serve(Duration::from_secs(1)).unwrap();
        assert!(Instant::now() < until, "it writes nothing");
    }
    let mut found = Vec::new();
    let mut run = |_: u64, run: IovaRange| {
        found.extend(run.iova >> 12..(run.iova + run.size) >> 12);
        true
    };
    tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    assert_eq!(found, [0]);
    tracker.stop().unwrap();
}
