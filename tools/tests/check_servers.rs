//! `vfiomig check`, by the command: servers as processes, each with one fault or one habit, and what no check sees of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Server, run as command};

/// Of servers as processes, by the command.
#[test]
fn servers_with_faults_are_told_apart_by_the_command() {
    for (arguments, status, expected) in SERVERS {
        let arguments: Vec<&str> = arguments.split(' ').filter(|word| !word.is_empty()).collect();
        let server = Server::new(&[&["--seed", "9", "--allow-abort", "--state-size", "64K"], &arguments[..]].concat());
        let ran = command(&["check", "--format", "json", "--timeout", "1", &server.name()]);
        let json = ran.json();
        let rows = json["checks"].as_array().unwrap().iter();
        let odd = rows.filter(|row| row["result"] != "pass" && row["result"] != "skip");
        let word = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_string();
        let names: Vec<String> =
            odd.clone().map(|row| format!("{} {}", word(row, "result"), word(row, "check"))).collect();
        let told: Vec<String> =
            odd.map(|row| format!("{} {}: {}", word(row, "check"), word(row, "rule"), word(row, "seen"))).collect();
        assert_eq!((names, ran.status), (strings(expected), status), "{arguments:?}: {told:#?}");
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

/// Of every server: the protocol lets a log be started again (U-11), and of v1 it is asked mapping by mapping.
const LOG2: &str = "quirk log-started-twice";
const PART: &str = "quirk log-part";

/// Arguments of vfiomig-simdev, the status of the command, and what it finds.
const SERVERS: [(&str, i32, &[&str]); 52] = [
    ("", 0, &[LOG2]),
    ("--p2p", 0, &[LOG2]),
    ("--no-pre-copy", 0, &[LOG2]),
    ("--dialect v1", 0, &[PART, LOG2]),
    ("--dialect v1 --mapped-window", 0, &[PART, LOG2]),
    ("--no-twin-socket", 0, &[LOG2]),
    ("--fail device-info@1=EIO", 1, &["fail device-info", LOG2]),
    ("--fail region-info=EIO", 1, &["fail region-info", LOG2]),
    ("--fail state-get=EIO", 1, &["fail fresh-state", LOG2]),
    ("--fail migration@1=EIO", 1, &["fail migration-flags", LOG2]),
    ("--fail state-set=EIO", 1, &["fail running-to-stop", LOG2]),
    ("--fail enter-running=EIO", 1, &["fail running-to-stop", LOG2]),
    ("--fail enter-stop=EIO", 1, &["fail running-to-stop", LOG2]),
    ("--fail enter-stop-copy=EIO", 1, &["fail stop-to-stop-copy", LOG2]),
    ("--fail enter-resuming=EIO", 1, &["fail stop-to-resuming", LOG2]),
    ("--fail enter-pre-copy=EIO", 1, &["fail running-to-pre-copy", LOG2]),
    ("--p2p --fail enter-running-p2p=EIO", 1, &["fail running-to-running-p2p", LOG2]),
    ("--p2p --fail enter-pre-copy-p2p=EIO", 1, &["fail running-p2p-to-pre-copy-p2p", LOG2]),
    ("--fail data-read=EIO", 1, &["fail stop-to-stop-copy", LOG2]),
    ("--fail data-write=EIO", 1, &["fail load", LOG2]),
    ("--fail any@40=EIO", 1, &["fail stop-to-stop-copy", LOG2]),
    ("--fail log-start=EIO", 1, &["fail log-start", LOG2]),
    ("--fail log-stop=EIO", 1, &["fail log-start", LOG2]),
    ("--fail log-report=EIO", 1, &["fail log-report", LOG2]),
    ("--fail reset=EIO", 1, &["fail stop-to-resuming", LOG2]),
    ("--fail-to-error enter-stop-copy=EIO", 1, &["fail stop-to-stop-copy", LOG2]),
    ("--fail-to-error state-set@4=EIO", 1, &["fail stop-to-running", LOG2]),
    ("--fail-to-error enter-stop@3=EIO", 1, &["fail stop-to-stop-copy", LOG2]),
    ("--delay enter-stop-copy=20ms", 0, &[LOG2]),
    ("--die state-get@1", 1, &["fail fresh-state"]),
    ("--die enter-stop-copy", 1, &["fail stop-to-stop-copy"]),
    ("--die data-read@2", 1, &["fail stop-to-stop-copy"]),
    ("--die data-write@2", 1, &["fail load"]),
    ("--die enter-resuming", 1, &["fail stop-to-resuming"]),
    ("--die log-report", 1, &["fail log-report"]),
    ("--die reset", 1, &["fail stop-to-resuming"]),
    ("--silent enter-stop-copy", 1, &["fail stop-to-stop-copy", LOG2, "quirk slow-requests"]),
    ("--silent data-read@1", 1, &["fail stop-to-stop-copy", LOG2]),
    ("--silent data-write", 1, &["fail load", LOG2]),
    ("--silent log-report", 1, &["fail log-report", LOG2]),
    ("--quirk precopy-apart", 1, &["fail load-by-pre-copy", LOG2]),
    ("--dialect v1 --mapped-window --quirk empty-window", 1, &[PART, LOG2, "fail v1-mapped-window"]),
    ("--peer spdk-v1", 1, &[PART, LOG2, "fail v1-stop-copy-to-stop", "quirk v1-reset-in-stop-copy"]),
    (
        "--quirk narrow-while-stopped",
        0,
        &["quirk info-while-stopped", "quirk reset-in-stop", "quirk reset-in-stop-copy", LOG2],
    ),
    ("--quirk region-log", 0, &[PART, LOG2]),
    (
        "--peer libvfio-user-v2",
        0,
        &[
            "quirk info-while-stopped",
            "quirk reset-in-stop",
            "quirk reset-in-stop-copy",
            "quirk reset-in-resuming",
            "quirk reset-in-pre-copy",
            PART,
            LOG2,
        ],
    ),
    (
        "--peer libvfio-user-v1",
        1,
        &[PART, LOG2, "quirk v1-reset-in-stop-copy", "fail v1-mapped-window", "fail v1-load-half"],
    ),
    ("--dialect v1 --fail data-size-read=EIO", 1, &[PART, LOG2, "fail v1-stop-copy-to-stop"]),
    ("--dialect v1 --fail pending-read=EIO", 1, &[PART, LOG2, "fail v1-stop-copy-to-stop"]),
    ("--dialect v1 --fail data-offset-read=EIO", 1, &[PART, LOG2, "fail v1-stop-copy-to-stop"]),
    ("--dialect v1 --fail data-size-write=EIO", 1, &[PART, LOG2, "fail v1-load"]),
    ("--dialect v1 --fail enter-stop-copy=EIO", 1, &[PART, LOG2, "fail v1-running-to-stop-copy"]),
];

/// What no check sees, of a server and in docs/driver-authors.md: the words by which the page names each.
const UNSEEN: [(&str, &str); 12] = [
    ("--quirk padded-reads", "padded-reads"),
    ("--quirk unlogged-messages", "unlogged-messages"),
    ("--quirk one-receive", "one-receive"),
    ("--quirk report-wraps", "report-wraps"),
    ("--quirk report-spins", "report-spins"),
    ("--quirk remaps", "remaps"),
    ("--quirk bitmap-of-unmap", "bitmap-of-unmap"),
    ("--fail bar=EIO", "`bar`"),
    ("--fail dma-map=EIO", "`dma-map`"),
    ("--fail dma-unmap=EIO", "`dma-unmap`"),
    ("--fail irq-info=EIO", "`irq-info`"),
    ("--fail irq-set=EIO", "`irq-set`"),
];

/// Arguments with which there is nothing to check, and what is said then.
const NOTHING: [(&str, &str); 4] = [
    ("--no-migration", "nothing to check"),
    ("--fail migration=EIO", "asking for the migration flags failed: Input/output error"),
    // A server of before v2, which has no migration region either.
    ("--quirk stray-errors", "ENOTTY"),
    ("--peer rust-vfio-user", "nothing to check"),
];

/// Options of vfiomig-simdev that make no fault.
const NO_FAULTS: [&str; 17] = [
    "socket",
    "state-size",
    "seed",
    "pci-id",
    "no-quirk",
    "max-fds",
    "max-transfer",
    "write",
    "change",
    "allow-abort",
    "clients",
    "forever",
    "report",
    "help",
    "version",
    "delay",
    "p2p",
];

/// Each option of the server that is a fault or a habit is in one of the tables; of those that take a word, each word.
#[test]
fn the_tables_have_every_fault_of_the_server() {
    let rows = SERVERS.iter().map(|row| row.0).chain(UNSEEN.iter().map(|row| row.0)).chain(NOTHING.map(|row| row.0));
    let rows: Vec<&str> = rows.collect();
    let has = |wanted: &str| rows.iter().any(|row| row.split([' ', '=', '@']).any(|word| word == wanted));
    let help = common::simdev_help();
    let what = help.split_once("WHAT is an access").unwrap().1.split_once("\nN counts").unwrap().0;
    let accesses: Vec<&str> = what.lines().skip(1).flat_map(str::split_whitespace).collect();
    let options = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let options: Vec<String> = options.map(|line| line.split([' ', '=']).next().unwrap().to_string()).collect();
    let words = help.lines().filter_map(|line| line.trim_start().strip_prefix("- "));
    let words: Vec<&str> = words.map(|line| line.split(':').next().unwrap()).filter(|word| *word != "v2").collect();
    assert!(accesses.len() > 25 && options.len() > 20 && words.len() > 14, "{accesses:?} {options:?} {words:?}");
    for word in accesses.iter().chain(&words) {
        assert!(has(word), "no table has {word}");
    }
    for option in options.iter().filter(|option| !NO_FAULTS.contains(&option.as_str())) {
        assert!(has(&format!("--{option}")), "no table has --{option}");
    }
}

#[test]
fn what_no_check_sees_is_named_in_the_page() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/driver-authors.md")).unwrap();
    for (arguments, word) in UNSEEN {
        let more: Vec<&str> = arguments.split(' ').collect();
        let server = Server::new(&[&["--allow-abort", "--state-size", "64K"][..], &more].concat());
        let ran = command(&["check", "--format", "json", &server.name()]);
        let json = ran.json();
        let rows = json["checks"].as_array().unwrap().iter();
        let odd: Vec<_> = rows.filter(|row| row["result"] == "fail" || row["result"] == "quirk").collect();
        assert!(ran.status == 0 && odd.len() == 1 && odd[0]["check"] == "log-started-twice", "{arguments}: {odd:#?}");
        let named = page.lines().filter(|line| line.starts_with('|')).any(|line| line.contains(word));
        assert!(named, "docs/driver-authors.md does not say that {word} is not seen");
    }
}

#[test]
fn a_change_that_takes_long_is_a_quirk_of_v1_too() {
    let slow = ["--allow-abort", "--state-size", "64K", "--dialect", "v1", "--delay", "enter-pre-copy=1100ms"];
    let ran = command(&["check", "--format", "tap", "--timeout", "30", &Server::new(&slow).name()]);
    let line = ran.out.lines().find(|line| line.contains(" - slow-requests (")).unwrap();
    assert!(ran.status == 0 && line.contains("quirk: ") && line.contains("the change to PRE_COPY took 1."), "{line}");
}

#[test]
fn two_servers_are_a_pair_and_results_come_as_tap() {
    let arguments = ["--allow-abort", "--state-size", "64K"];
    let (one, other) = (Server::new(&[&arguments[..], &["--seed", "9"]].concat()), Server::new(&arguments));
    let ran = command(&["check", "--format", "tap", &one.name(), &other.name()]);
    let plan = vfiomig_tools::check::table::all().count();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!((ran.status, lines[0], lines[1]), (0, "TAP version 13", format!("1..{plan}").as_str()));
    assert_eq!(lines.iter().filter(|line| line.starts_with("ok ")).count(), plan, "{}", ran.out);
    assert!(
        lines.iter().any(|line| line.starts_with("ok ") && line.contains("pair-back (N2): the same")),
        "{}",
        ran.out
    );
    let server = Server::new(&[&arguments[..], &["--fail", "data-write=EIO"]].concat());
    let ran = command(&["check", "--format", "tap", &server.name()]);
    let words = ["\nnot ok ", "  rule: N4 ", "  source: \"", "  cost: \"no guest"];
    words.iter().for_each(|word| assert!(ran.out.contains(word), "{word}: {}", ran.out));
    let text = command(&["check", &Server::new(&arguments).name()]);
    assert!(
        text.status == 0 && text.out.contains("pass  save") && text.out.contains(" 0 failed, 1 quirk, "),
        "{}",
        text.out
    );
}

#[test]
fn what_cannot_be_checked_is_said() {
    let ran = command(&["check", "unix:/nonexistent/a.sock"]);
    assert!(ran.status == 3 && ran.err.contains("Next: start the server"), "{}", ran.err);
    for (arguments, words) in NOTHING {
        let server = Server::new(&arguments.split(' ').collect::<Vec<_>>());
        let ran = command(&["check", &server.name()]);
        assert!(ran.status == 3 && ran.err.contains(words), "{arguments}: {}", ran.err);
    }
    let list = command(&["check", "--list"]);
    assert_eq!((list.status, list.out.lines().count()), (0, vfiomig_tools::check::table::all().count()));
    assert_eq!(command(&["check"]).status, 2);
}

/// Nothing is asked for them. A socket has many spellings.
#[test]
fn one_device_twice_and_a_list_as_tap_are_wrong_arguments() {
    let server = Server::new(&["--seed", "4"]);
    let path = server.name().strip_prefix("unix:").unwrap().to_string();
    let spelled = format!("unix:{}", path.replacen('/', "//", 1));
    for second in [server.name(), spelled] {
        let ran = command(&["check", &server.name(), &second]);
        assert!(ran.status == 2 && ran.err.contains("is named twice"), "{} {}", ran.status, ran.err);
    }
    let ran = command(&["check", "--list", "--format", "tap"]);
    assert!(ran.status == 2 && ran.err.contains("text or json"), "{} {}", ran.status, ran.err);
}
