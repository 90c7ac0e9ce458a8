//! `vfiomig save`, `load`, `send`, `receive` and `show`, with servers as processes on both sides.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Server, command, ended, receiver, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

fn source(more: &[&str]) -> Server {
    seeded("5", more)
}

fn seeded(seed: &str, more: &[&str]) -> Server {
    Server::new(&[&["--state-size", "256K", "--seed", seed, "--allow-abort"], more].concat())
}

fn destination(more: &[&str]) -> Server {
    Server::new(&[&["--state-size", "256K", "--allow-abort"], more].concat())
}

/// Checksum of the state at the end, and the state.
fn end(server: Server) -> (String, String) {
    let verdict = server.verdict();
    assert_eq!(verdict["violations"].as_array().map(Vec::len), Some(0), "{verdict}");
    (verdict["checksum"].to_string(), verdict["state"].to_string())
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_can_be_loaded_in_another_order() {
    for more in [&[][..], &["--dialect", "v1"]] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vm.state");
        let path = file.to_str().unwrap();
        let (nic, gpu) = (source(more), seeded("6", more));
        let ran = run(&["save", &format!("nic0={}", nic.name()), &format!("gpu0={}", gpu.name()), "-o", path]);
        assert!(
            ran.status == 0 && ran.out.contains("2 devices") && ran.out.contains("each runs again"),
            "{}{}",
            ran.out,
            ran.err
        );
        assert_eq!(files(dir.path()), ["vm.state"]);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "it may hold secrets");
        let (nic, gpu) = (end(nic), end(gpu));
        let shown = run(&["show", "--json", path]).json();
        assert_eq!((shown["whole"].as_bool(), shown["devices"][0]["name"].as_str()), (Some(true), Some("nic0")));
        assert_eq!(shown["devices"][1]["words"]["pci"], "1af4:10f0");
        assert!(shown["devices"][0]["bytes"].as_u64().unwrap() > 256 << 10);
        let text = run(&["show", path]);
        assert!(
            text.status == 0 && text.out.contains("every sum is right") && text.out.contains("gpu0"),
            "{}",
            text.out
        );
        let (nic_there, gpu_there) = (destination(more), destination(more));
        let names = [format!("gpu0={}", gpu_there.name()), format!("nic0={}", nic_there.name())];
        let ran = run(&["load", &names[0], &names[1], path]);
        assert!(ran.status == 0 && ran.out.contains("each runs"), "{}{}", ran.out, ran.err);
        assert_eq!((end(nic_there).0, end(gpu_there).0), (nic.0, gpu.0));
    }
}

#[test]
fn nothing_half_written_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vm.state");
    fs::write(&file, "an older one").unwrap();
    let server = source(&["--fail", "data-read=EIO"]);
    let ran = run(&["save", &server.name(), "-o", file.to_str().unwrap()]);
    assert!(ran.status == 3 && ran.err.contains("Next:"), "{}", ran.err);
    assert_eq!(
        (files(dir.path()), fs::read_to_string(&file).unwrap()),
        (vec!["vm.state".into()], "an older one".into())
    );
    assert!(end(server).1.contains("RUNNING"));
    // Before a device is opened.
    let ran = run(&["save", "unix:/nonexistent", "-o", "/nonexistent/vm.state"]);
    assert!(ran.status == 3 && ran.err.contains("/nonexistent/vm.state"), "{}", ran.err);
}

#[test]
fn a_file_that_is_damaged_touches_no_device() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    let server = source(&[]);
    assert_eq!(run(&["save", &server.name(), "-o", good.to_str().unwrap()]).status, 0);
    let bytes = fs::read(&good).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for (name, bytes) in [
        ("cut", &bytes[..bytes.len() - 1]),
        ("flipped", &flipped[..]),
        ("empty", &[][..]),
        ("text", b"hello".repeat(99).as_slice()),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let shown = run(&["show", path.to_str().unwrap()]);
        assert!(shown.status == 1 && shown.out.contains("damaged"), "{name}: {}", shown.out);
        // The device does not exist: it is not even looked for.
        let ran = run(&["load", "unix:/nonexistent", path.to_str().unwrap()]);
        assert!(ran.status == 3 && ran.err.contains("no device was touched"), "{name}: {}", ran.err);
    }
    assert_eq!(run(&["show", "/nonexistent"]).status, 3);
}

#[test]
fn another_device_is_refused_before_it_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vm.state");
    let path = file.to_str().unwrap();
    let server = source(&[]);
    assert_eq!(run(&["save", &format!("nic0={}", server.name()), "-o", path]).status, 0);
    let cases: [(&str, &[&str], &str); 3] = [
        ("gpu0=", &[], "nic0"),
        ("nic0=", &["--dialect", "v1"], "dialect"),
        ("nic0=", &["--pci-id", "15b3:101e"], "pci"),
    ];
    for (name, arguments, word) in cases {
        let server = destination(arguments);
        let ran = run(&["load", &format!("{name}{}", server.name()), path]);
        assert!(ran.status == 3 && ran.err.contains(word), "{name} {arguments:?}: {}", ran.err);
        assert!(ran.err.contains("as they are named there: NAME=DEVICE"), "it says what to do: {}", ran.err);
        assert!(ran.err.contains("as they were") && !ran.err.contains("brought back"), "{}", ran.err);
        let verdict = server.verdict();
        assert!(verdict["state"].to_string().contains("RUNNING"), "{verdict}");
    }
}

/// A device that was reset has lost what it had, and the text says so.
#[test]
fn a_load_that_fails_says_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vm.state");
    let path = file.to_str().unwrap();
    assert_eq!(run(&["save", &source(&[]).name(), "-o", path]).status, 0);
    let smaller = Server::new(&["--state-size", "32K", "--seed", "9", "--allow-abort"]);
    let ran = run(&["load", &smaller.name(), path]);
    assert!(ran.status == 3 && ran.err.contains("were reset") && ran.err.contains("lost"), "{}", ran.err);
    assert!(!ran.err.contains("brought back"), "{}", ran.err);
    assert_eq!(smaller.verdict()["state"].as_str(), Some("RUNNING"));
}

#[test]
fn devices_move_between_two_hosts() {
    for more in [&[][..], &["--no-pre-copy"], &["--dialect", "v1"]] {
        let servers = [source(more), source(more), destination(more), destination(more)];
        let named = |place: usize, name: &str| format!("{name}={}", servers[place].name());
        let (there, address) = receiver(&[named(3, "b"), named(2, "a")]);
        let here = run(&["send", "--to", &address, &named(0, "a"), &named(1, "b")]);
        let there = ended(there);
        assert_eq!((here.status, there.status), (0, 0), "{}{}{}", here.out, here.err, there.out);
        assert!(here.out.contains("each runs there") && here.out.contains("stood still for"), "{}", here.out);
        // The library's report.
        assert!(here.out.contains("SAVE_HALTED") && there.out.contains("LOAD_RUNNING"), "{}{}", here.out, there.out);
        assert!(there.out.contains("2 devices") && there.out.contains("each runs"), "{}", there.out);
        let [one, other, one_there, other_there] = servers.map(end);
        assert_eq!((&one_there.0, &other_there.0), (&one.0, &other.0), "{more:?}");
        assert!(one_there.1.contains("RUNNING") && one.1.contains("STOP"), "{one:?} {one_there:?}");
    }
}

#[test]
fn several_channels_move_devices_side_by_side_and_the_report_says_where_the_time_went() {
    // Of channels there are no more than devices.
    for (asked, used) in [("2", 2), ("4", 4), ("64", 4)] {
        let [here, there] = [true, false].map(|full| {
            [0, 1, 2, 3].map(|number| if full { seeded(&(number + 1).to_string(), &[]) } else { destination(&[]) })
        });
        let names = |servers: &[Server; 4]| [0, 1, 2, 3].map(|place| format!("d{place}={}", servers[place].name()));
        let [d0, d1, d2, d3] = names(&there);
        let (receiver, address) = receiver(&["--json".into(), d3, d1, d0, d2]);
        let mut arguments = vec!["send", "--json", "--to", &address, "--channels", asked];
        let devices = names(&here);
        arguments.extend(devices.iter().map(String::as_str));
        let sender = run(&arguments);
        let receiver = ended(receiver);
        assert_eq!((sender.status, receiver.status), (0, 0), "{}{}", sender.err, receiver.out);
        let (sent, received) = (sender.json(), receiver.json());
        for told in [&sent, &received] {
            assert_eq!((told["devices"].as_u64(), told["channels"].as_u64()), (Some(4), Some(used)), "{told}");
        }
        assert_eq!(sent["bytes"], received["bytes"]);
        assert!(sent["rounds"].as_u64() >= Some(1) && sent["stood_still_us"].as_u64() > Some(0), "{sent}");
        let entries = |told: &serde_json::Value, name: &str| told["report"].to_string().contains(name);
        assert!(entries(&sent, "SAVE_STOP_COPY") && entries(&received, "LOAD_RUNNING"), "{sent} {received}");
        for (one, other) in here.into_iter().zip(there) {
            let (one, other) = (end(one), end(other));
            assert!(one.0 == other.0 && one.1.contains("STOP") && other.1.contains("RUNNING"), "{one:?} {other:?}");
        }
    }
}

#[test]
fn a_channel_that_fails_leaves_every_source_running() {
    let (one, other) = (source(&[]), source(&[]));
    let (one_there, other_there) = (destination(&[]), destination(&["--fail", "data-write@2=EIO"]));
    let (receiver, address) = receiver(&[format!("a={}", one_there.name()), format!("b={}", other_there.name())]);
    let names = [format!("a={}", one.name()), format!("b={}", other.name())];
    let sender = run(&["send", "--to", &address, "--channels", "2", &names[0], &names[1]]);
    assert_eq!((sender.status, ended(receiver).status), (3, 3), "{}", sender.err);
    assert!(sender.err.contains("other side"), "{}", sender.err);
    for server in [one, other] {
        assert!(end(server).1.contains("RUNNING"));
    }
}

#[test]
fn a_failure_on_either_side_leaves_the_source_running() {
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("the source fails", &["--fail", "data-read=EIO"], &[]),
        ("the destination refuses", &[], &["--pci-id", "15b3:101e"]),
        ("the destination fails", &[], &["--fail", "data-write@2=EIO"]),
        ("the destination's last step fails", &[], &["--fail", "enter-stop=EIO"]),
    ];
    for (what, here, there) in cases {
        let (from, to) = (source(here), destination(there));
        let (receiver, address) = receiver(&[to.name()]);
        let sender = run(&["send", "--to", &address, &from.name()]);
        let receiver = ended(receiver);
        assert_eq!((sender.status, receiver.status), (3, 3), "{what}: {}{}", sender.err, receiver.out);
        let verdict = from.verdict();
        assert!(verdict["state"].to_string().contains("RUNNING"), "{what}: {verdict}");
        if what.contains("destination") {
            assert!(sender.err.contains("other side"), "{what}: {}", sender.err);
        }
        let refused = what == "the destination refuses";
        assert_eq!(sender.err.contains("NAME=DEVICE"), refused, "{what}: {}", sender.err);
        assert_eq!(sender.err.contains("the devices here are as they were"), refused, "{what}: {}", sender.err);
    }
}

#[test]
fn a_signal_brings_the_device_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vm.state");
    let server = Server::new(&["--state-size", "8M", "--allow-abort", "--delay", "data-read=300ms"]);
    let mut child = command(&["save", &server.name(), "-o", file.to_str().unwrap()]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while files(dir.path()).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    // SAFETY: a signal to the child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(130), None));
    assert_eq!(files(dir.path()), [""; 0]);
    assert!(server.verdict()["state"].to_string().contains("RUNNING"));
}
