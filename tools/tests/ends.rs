//! The ends of `vfiomig` that wait: for a slow device at the other side, for a server or a destination that does not answer,
//! for a source among strangers, and for a terminal that has gone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Ran, Server, command, ended, receiver, run};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn source(more: &[&str]) -> Server {
    Server::new(&[&["--state-size", "256K", "--seed", "5", "--allow-abort"], more].concat())
}

fn destination(more: &[&str]) -> Server {
    Server::new(&[&["--state-size", "256K", "--allow-abort"], more].concat())
}

fn spawned(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, number: i32) {
    // SAFETY: a signal to the child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, number) };
}

/// `save` of a device that takes long, once it has begun.
fn slow_save(server: &Server, dir: &tempfile::TempDir, ignore_hangup: bool) -> Child {
    let file = dir.path().join("vm.state");
    let mut save = command(&["save", &server.name(), "-o", file.to_str().unwrap()]);
    if ignore_hangup {
        let ignore = || {
            // SAFETY: it may be called between fork and exec.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
            Ok(())
        };
        // SAFETY: as above.
        unsafe { save.pre_exec(ignore) };
    }
    let child = spawned(&mut save);
    while fs::read_dir(dir.path()).unwrap().count() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    child
}

const SLOW: [&str; 5] = ["--allow-abort", "--state-size", "4M", "--delay", "data-read=300ms"];

#[test]
fn a_slow_step_is_waited_for_as_long_as_timeout_says() {
    let (from, to) = (source(&["--delay", "enter-stop-copy=62s"]), destination(&[]));
    let (receiver, address) = receiver(&["--timeout".into(), "200".into(), to.name()]);
    let sender = run(&["send", "--timeout", "200", "--to", &address, &from.name()]);
    assert_eq!((sender.status, ended(receiver).status), (0, 0), "{}", sender.err);
    assert_eq!(from.verdict()["checksum"], to.verdict()["checksum"]);
}

#[test]
fn a_terminal_that_has_gone_is_a_signal_as_others_are() {
    let (server, dir) = (Server::new(&SLOW), tempfile::tempdir().unwrap());
    let child = slow_save(&server, &dir, false);
    signal(&child, libc::SIGHUP);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(129));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing half written is left");
    assert_eq!(server.verdict()["state"].as_str(), Some("RUNNING"));
    // Behind nohup it is ignored.
    let (server, dir) = (Server::new(&SLOW), tempfile::tempdir().unwrap());
    let child = slow_save(&server, &dir, true);
    signal(&child, libc::SIGHUP);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    // A destination that waits.
    let server = destination(&[]);
    let (receiver, _) = receiver(&[server.name()]);
    signal(&receiver, libc::SIGHUP);
    assert_eq!(ended(receiver).status, 129);
}

#[test]
fn a_save_that_was_interrupted_says_what_was_not_done() {
    let (server, dir) = (Server::new(&SLOW), tempfile::tempdir().unwrap());
    let child = slow_save(&server, &dir, false);
    signal(&child, libc::SIGTERM);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert!(ran.status == 130 && ran.err.contains("vm.state: interrupted"), "{}", ran.err);
    assert!(ran.err.contains("run as before") && !ran.err.contains("abort is left"), "{}", ran.err);
}

fn ends_soon(what: &str, mut command: Command) {
    let child = spawned(&mut command);
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    signal(&child, libc::SIGINT);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert!(ran.status == 130 && begun.elapsed() < Duration::from_secs(8), "{what} {:?}: {}", begun.elapsed(), ran.err);
}

#[test]
fn a_signal_ends_the_wait_for_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let [socket, file] = ["mute.sock", "vm.state"].map(|name| dir.path().join(name));
    let _mute = UnixListener::bind(&socket).unwrap();
    let device = format!("unix:{}", socket.display());
    ends_soon("save", command(&["save", "--timeout", "20", &device, "-o", file.to_str().unwrap()]));
    ends_soon("probe", command(&["probe", "--timeout", "20", &device]));
    assert!(!file.exists());
}

#[test]
fn a_signal_ends_the_wait_for_a_destination() {
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: the descriptor is that of a socket that listens; no connection more than the first fits.
    unsafe { libc::listen(full.as_raw_fd(), 0) };
    let address = full.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
    let held: Vec<TcpStream> = std::iter::from_fn(|| connect().ok()).take(20).collect();
    assert!(held.len() < 20, "connections without end fit");
    let server = source(&[]);
    ends_soon("send", command(&["send", "--to", &address.to_string(), &server.name()]));
}

/// `receive`, where it listens, and the rest of its standard error.
fn listener(device: &str) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let mut child = spawned(&mut command(&["receive", "--listen", "0", device]));
    let (mut err, mut line) = (BufReader::new(child.stderr.take().unwrap()), String::new());
    err.read_line(&mut line).unwrap();
    (child, line.trim().strip_prefix("listening on ").unwrap().to_string(), err)
}

#[test]
fn strangers_do_not_end_a_destination() {
    let (from, to) = (source(&[]), destination(&[]));
    let (child, address, mut err) = listener(&to.name());
    let mut strangers = Vec::new();
    let told = |stream: &TcpStream, err: &mut BufReader<_>| {
        let mut line = String::new();
        err.read_line(&mut line).unwrap();
        let peer = stream.local_addr().unwrap().to_string();
        assert!(line.contains(&peer) && line.contains("listening"), "{peer}: {line}");
    };
    let one = TcpStream::connect(&address).unwrap();
    one.shutdown(std::net::Shutdown::Write).unwrap();
    told(&one, &mut err);
    let mut other = TcpStream::connect(&address).unwrap();
    other.write_all(b"GET / HTTP/1.0\r\nHost: somebody, who does not speak as a source does\r\n").unwrap();
    told(&other, &mut err);
    // One that says nothing has its time, and then the source that has come meanwhile is served.
    let mute = TcpStream::connect(&address).unwrap();
    let begun = Instant::now();
    let sender = run(&["send", "--to", &address, &from.name()]);
    told(&mute, &mut err);
    strangers.extend([one, other, mute]);
    assert!(sender.status == 0 && begun.elapsed() < Duration::from_secs(40), "{:?}: {}", begun.elapsed(), sender.err);
    assert_eq!(ended(child).status, 0);
    assert_eq!(from.verdict()["checksum"], to.verdict()["checksum"]);
}

#[test]
fn strangers_among_the_channels_are_told_apart() {
    use vfiomig::dialect::DialectKind;
    use vfiomig::wire::{DeviceEntry, Output, Table, WireOptions, Word};
    let to = destination(&[]);
    let (child, address, mut err) = listener(&format!("nic0={}", to.name()));
    let words = vec![Word { key: "pci".into(), value: "1af4:10f0".into() }];
    let table = Table::new(vec![DeviceEntry { words, ..DeviceEntry::new("nic0", DialectKind::V2) }]).unwrap();
    let channel = |channel| {
        let options = WireOptions { channel, channels: 2, wire: 7 };
        let mut output = Output::new(TcpStream::connect(&address).unwrap(), options, table.clone()).unwrap();
        output.flush().unwrap();
        output.into_inner()
    };
    let first = channel(0);
    let stranger = TcpStream::connect(&address).unwrap();
    stranger.shutdown(std::net::Shutdown::Write).unwrap();
    let second = channel(1);
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.contains(&stranger.local_addr().unwrap().to_string()), "{line}");
    let mut word = [0; 6];
    (&first).read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ready\n");
    drop((first, second));
    assert_eq!(ended(child).status, 3);
}
