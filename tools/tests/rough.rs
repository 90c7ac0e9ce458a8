//! The command where things are not as it would like them: outputs that end, names that clash, files that are none, signals in
//! the middle, and an end of a connection that fails last.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Server, command, ended, receiver, run};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SEEDED: [&str; 5] = ["--state-size", "1M", "--seed", "5", "--allow-abort"];

fn server(more: &[&str]) -> Server {
    Server::new(&[&SEEDED[..], more].concat())
}

fn empty(more: &[&str]) -> Server {
    Server::new(&[&["--state-size", "1M", "--allow-abort"], more].concat())
}

/// The checksum of a state that nobody has changed.
fn checksum(more: &[&str]) -> String {
    let server = server(more);
    run(&["probe", &server.name()]);
    server.verdict()["checksum"].to_string()
}

fn fifo(path: &Path) {
    let text = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0);
}

fn signal(child: &Child, number: i32) {
    // SAFETY: a signal to the child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, number) };
}

#[test]
fn what_is_no_file_is_neither_replaced_nor_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let [pipe, link, file] = ["pipe", "link", "file"].map(|name| dir.path().join(name));
    fifo(&pipe);
    // Refused before a device is looked for.
    let ran = run(&["save", "unix:/nonexistent", "-o", pipe.to_str().unwrap()]);
    assert!(ran.status == 3 && ran.err.contains("is no file"), "{}", ran.err);
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    let ran = run(&["load", "unix:/nonexistent", pipe.to_str().unwrap()]);
    assert!(ran.status == 3 && ran.err.contains("is no file"), "{}", ran.err);
    // A link is followed, and stays.
    fs::write(&file, "older").unwrap();
    symlink("file", &link).unwrap();
    assert_eq!(run(&["save", &server(&[]).name(), "-o", link.to_str().unwrap()]).status, 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(run(&["show", file.to_str().unwrap()]).status, 0);
    // Also one that leads nowhere yet, by another one.
    let [far, near] = ["far", "near"].map(|name| dir.path().join(name));
    fs::create_dir(dir.path().join("deep")).unwrap();
    symlink("deep/../near", &far).unwrap();
    symlink("deep/made", &near).unwrap();
    assert_eq!(run(&["save", &server(&[]).name(), "-o", far.to_str().unwrap()]).status, 0);
    assert!([&far, &near].into_iter().all(|link| fs::symlink_metadata(link).unwrap().is_symlink()));
    assert_eq!(run(&["show", dir.path().join("deep/made").to_str().unwrap()]).status, 0);
    // `show` takes a pipe, and a signal ends its wait as that of any program.
    let child = command(&["show", pipe.to_str().unwrap()]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait_with_output().unwrap().status.signal(), Some(libc::SIGTERM));
    let ran = run(&["show", dir.path().to_str().unwrap()]);
    assert!(ran.status == 3 && ran.err.contains("directory"), "{}{}", ran.out, ran.err);
}

#[test]
fn names_that_no_file_can_have_are_refused_before_a_device_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let name = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    for (output, words) in [("-", "./-"), ("", "a file"), (&name("new/"), "ends with /"), (&name(".."), "a file")] {
        let ran = run(&["save", "unix:/nonexistent", "-o", output]);
        assert!(ran.status == 2 && ran.err.contains(words), "{output}: {} {}", ran.status, ran.err);
    }
    let ran = run(&["save", "unix:/nonexistent", "-o", &name(&"x".repeat(256))]);
    assert!(ran.status == 3 && ran.err.contains("shorter name"), "{}", ran.err);
    // The longest name that there is.
    let ran = run(&["save", &server(&[]).name(), "-o", &name(&"x".repeat(255))]);
    assert_eq!(ran.status, 0, "{}", ran.err);
}

/// What a person has put into a path reaches the terminal written out.
#[test]
fn a_path_cannot_move_the_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a\u{1b}[2J\nb");
    let path = path.to_str().unwrap();
    let device = format!("unix:{path}");
    let saved = run(&["save", &server(&[]).name(), "-o", path]);
    assert_eq!(saved.status, 0, "{}", saved.err);
    let all = [
        saved,
        run(&["show", path]),
        run(&["probe", &device]),
        run(&["info", &device]),
        run(&["save", &device, "-o", "/nonexistent/x"]),
        run(&["load", &device, path]),
        run(&["load", &device, &format!("{path}x")]),
        run(&["show", &format!("{path}x")]),
    ];
    for ran in all {
        let mut letters = ran.out.chars().chain(ran.err.chars());
        assert!(letters.all(|letter| letter == '\n' || !letter.is_control()), "{:?}{:?}", ran.out, ran.err);
        let torn = ran.out.lines().chain(ran.err.lines()).any(|line| line.starts_with('b'));
        assert!(!torn, "{}{}", ran.out, ran.err);
    }
}

#[test]
fn a_disk_that_is_full_is_named_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vm.state");
    let server = server(&[]);
    let mut command = command(&["save", &server.name(), "-o", file.to_str().unwrap()]);
    let small = || {
        let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
        // SAFETY: both calls may be made between fork and exec, and `limit` is initialised.
        unsafe { (libc::signal(libc::SIGXFSZ, libc::SIG_IGN), libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit)) };
        Ok(())
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(small) };
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains(file.to_str().unwrap()) && err.contains("Next: make room there"), "{err}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(server.verdict()["state"].to_string().contains("RUNNING"));
}

#[test]
fn names_that_clash_are_wrong_arguments() {
    let long = format!("{}=unix:/a", "x".repeat(256));
    let cases: [(&[&str], &str); 5] = [
        (&["x=unix:/a", "x=unix:/b"], "two devices have the name x"),
        (&["device1=unix:/a", "unix:/b"], "two devices have the name device1"),
        (&["x=unix:/a", "y=unix:/a"], "is named twice"),
        (&[&long], "at most 255 bytes"),
        (&["a\u{1b}[2J=unix:/a"], "control characters"),
    ];
    for (devices, words) in cases {
        for more in
            [&["save", "-o", "/nonexistent"][..], &["send", "--to", "127.0.0.1:1"], &["receive", "--listen", "0"]]
        {
            let ran = run(&[more, devices].concat());
            assert!(ran.status == 2 && ran.err.contains(words), "{devices:?} {}: {}", ran.status, ran.err);
        }
    }
}

/// No device is opened for them.
#[test]
fn addresses_without_a_port_are_wrong_arguments() {
    for (arguments, words) in [
        (["send", "unix:/nonexistent", "--to", "localhost"], "name a host and its port"),
        (["send", "unix:/nonexistent", "--to", ":7070"], "name a host and its port"),
        (["send", "unix:/nonexistent", "--to", "localhost:0"], "name a host and its port"),
        (["receive", "unix:/nonexistent", "--listen", "99999"], "or a port alone"),
        (["receive", "unix:/nonexistent", "--listen", "localhost"], "or a port alone"),
        (["receive", "unix:/nonexistent", "--listen", "::1"], "[2001:db8::2]:7070"),
        (["receive", "unix:/nonexistent", "--listen", "::1:7070"], "[2001:db8::2]:7070"),
        (["receive", "unix:/nonexistent", "--listen", "[::1]"], "[2001:db8::2]:7070"),
        (["receive", "unix:/nonexistent", "--listen", "[here]:7070"], "[2001:db8::2]:7070"),
        (["receive", "unix:/nonexistent", "--listen", ":7070"], "or a port alone"),
        (["send", "unix:/nonexistent", "--to", "::1:7070"], "[2001:db8::2]:7070"),
        (["send", "unix:/nonexistent", "--to", "[::1]"], "[2001:db8::2]:7070"),
    ] {
        let ran = run(&arguments);
        assert!(ran.status == 2 && ran.err.contains(words), "{arguments:?}: {}", ran.err);
    }
    for arguments in [
        ["receive", "unix:/nonexistent", "--listen", "[::1]:7070"],
        ["receive", "unix:/nonexistent", "--listen", "0.0.0.0:0"],
        ["send", "unix:/nonexistent", "--to", "[::1]:7070"],
        ["send", "unix:/nonexistent", "--to", "localhost:7070"],
    ] {
        let ran = run(&arguments);
        assert!(ran.status == 3 && ran.err.contains("/nonexistent"), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn a_file_cannot_move_the_cursor_of_whoever_looks_at_it() {
    use vfiomig::dialect::DialectKind;
    use vfiomig::wire::{DeviceEntry, Output, Table, WireOptions, Word};
    let words = vec![Word { key: "a\u{7}".into(), value: "b\nc".into() }];
    let entry = DeviceEntry { words, ..DeviceEntry::new("n\u{1b}[2J", DialectKind::V2) };
    let mut output = Output::new(Vec::new(), WireOptions::default(), Table::new(vec![entry]).unwrap()).unwrap();
    output.end(0).and_then(|()| output.finish()).unwrap();
    let bytes = [output.into_inner(), b"more".to_vec()].concat();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("odd");
    fs::write(&file, bytes).unwrap();
    let ran = run(&["show", file.to_str().unwrap()]);
    assert!(ran.out.lines().flat_map(str::chars).all(|letter| !letter.is_control()), "{:?}", ran.out);
    assert!(ran.status == 0 && ran.out.contains("4 bytes behind the wire"), "{}", ran.out);
    assert_eq!(run(&["show", "--json", file.to_str().unwrap()]).json()["bytes_behind"], 4);
}

#[test]
fn a_reader_that_has_gone_does_not_end_a_check_in_its_middle() {
    let before = checksum(&[]);
    let server = server(&[]);
    let mut child = command(&["check", &server.name()]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The loads have begun.
    let seen = lines.map(Result::unwrap).find(|line| line.contains("load-corrupt-head"));
    assert!(seen.is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(server.verdict()["checksum"].to_string(), before);
}

#[test]
fn results_that_are_lost_are_a_failure() {
    let server = server(&[]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(&["probe", &server.name()]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_signal_while_a_bench_loads_costs_no_state() {
    let before = checksum(&[]);
    let server = server(&["--delay", "data-write=40ms"]);
    let child = command(&["bench", &server.name()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Of the 32 writes of a load the first are made.
    std::thread::sleep(Duration::from_millis(900));
    signal(&child, libc::SIGINT);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let verdict = server.verdict();
    assert_eq!((verdict["checksum"].to_string(), verdict["state"].as_str()), (before, Some("RUNNING")));
}

#[test]
fn a_probe_that_was_interrupted_says_so() {
    let server = server(&["--delay", "device-info=1s"]);
    let child = command(&["probe", &server.name()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, libc::SIGINT);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

/// The line about the first signal is written to a standard error that is gone; the third one still ends the process.
#[test]
fn signals_are_counted_where_no_one_reads_standard_error() {
    let server = server(&["--delay", "device-info=30s"]);
    let mut child = command(&["probe", &server.name()]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    for _ in 0..3 {
        signal(&child, libc::SIGINT);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited for the device: {:?}", begun.elapsed());
}

/// A server whose standard error is gone serves its client to the end, and writes its report.
#[test]
fn a_server_goes_on_where_no_one_reads_standard_error() {
    let mut server = server(&[]);
    server.drop_stderr();
    assert_eq!(run(&["probe", &server.name()]).status, 0);
    assert_eq!(server.verdict()["clean"], true);
}

#[test]
fn the_source_runs_again_whenever_the_destination_does_not() {
    let cases: [(&str, &[&str], &[&str], &str); 2] = [
        ("the destination cannot run", &[], &["--fail", "enter-running=EIO"], "does not run"),
        ("the source cannot stand still for good", &["--fail", "enter-stop=EIO"], &[], "HALTED"),
    ];
    let before = checksum(&[]);
    for (what, here, there, words) in cases {
        let (from, to) = (server(here), empty(there));
        let (receiver, address) = receiver(&[to.name()]);
        let sender = run(&["send", "--to", &address, &from.name()]);
        assert_eq!((sender.status, ended(receiver).status), (3, 3), "{what}: {}", sender.err);
        assert!(sender.err.contains(words) && sender.err.contains("brought back"), "{what}: {}", sender.err);
        let verdict = from.verdict();
        assert_eq!(verdict["state"].as_str(), Some("RUNNING"), "{what}: {verdict}");
        assert_eq!(verdict["checksum"].to_string(), before, "{what}");
        assert_ne!(to.verdict()["checksum"].to_string(), before, "{what}: the destination was reset");
    }
}

#[test]
fn a_device_that_cannot_be_halted_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vm.state");
    let server = server(&["--fail", "enter-stop@1=EIO"]);
    let ran = run(&["save", "--halt", &server.name(), "-o", file.to_str().unwrap()]);
    assert!(ran.status == 3 && ran.err.contains("is whole") && ran.err.contains("brought back"), "{}", ran.err);
    assert_eq!(server.verdict()["state"].as_str(), Some("RUNNING"));
}
