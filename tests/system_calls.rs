//! docs/system-calls.md has what `src` asks of the system: each function of the C library that it calls, each request of ioctl.
//! What a run makes is held to the page by c-tests/t-syscalls.c.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The system calls behind functions of the C library that `src` calls.
const BEHIND: [(&str, &[&str]); 27] = [
    ("clock_gettime", &[]), // the vDSO, as the page says
    ("connect", &["connect"]),
    ("fcntl", &["fcntl"]),
    ("fstat64", &["fstat", "newfstatat"]),
    ("getpeername", &["getpeername"]),
    ("getrusage", &["getrusage"]),
    ("getsockopt", &["getsockopt"]),
    ("madvise", &["madvise"]),
    ("mmap", &["mmap"]),
    ("mmap64", &["mmap"]),
    ("munmap", &["munmap"]),
    ("poll", &["poll", "ppoll"]),
    ("pread64", &["pread64"]),
    ("pthread_sigmask", &["rt_sigprocmask"]),
    ("pwrite64", &["pwrite64"]),
    ("read", &["read"]),
    ("recv", &["recvfrom"]),
    ("recvmsg", &["recvmsg"]),
    ("sched_getaffinity", &["sched_getaffinity"]),
    ("send", &["sendto"]),
    ("sendmsg", &["sendmsg"]),
    ("setsockopt", &["setsockopt"]),
    ("sigpending", &["rt_sigpending"]),
    ("sigtimedwait", &["rt_sigtimedwait"]),
    ("socket", &["socket"]),
    ("sysconf", &[]), // the auxiliary vector
    ("write", &["write"]),
];
/// Functions that compute.
const PURE: [&str; 5] = ["sigaddset", "sigdelset", "sigemptyset", "sigfillset", "sigismember"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/system-calls.md")).unwrap()
}

/// Every line of `src` that is compiled into the library.
fn code(dir: &Path, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            code(&path, lines);
        } else if !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // A module of tests is the last of its file.
            let own = text.split("\n#[cfg(test)]\n").find(|part| !part.is_empty()).unwrap();
            lines.extend(own.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_string));
        }
    }
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// Words between backticks.
fn marked(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// The calls of the table: its second column.
fn table(page: &str) -> BTreeSet<String> {
    let (_, rest) = page.split_once("## By group of functions\n").unwrap();
    let rows = rest.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    rows.flat_map(|row| marked(row.split('|').nth(2).unwrap())).collect()
}

#[test]
fn every_function_of_the_system_that_is_called_is_on_the_page() {
    let (page, mut lines) = (page(), Vec::new());
    code(&root().join("src"), &mut lines);
    let calls = table(&page);
    let mut used = BTreeSet::new();
    for line in &lines {
        for (at, _) in line.match_indices("libc::") {
            let name = word(&line[at + 6..]);
            if line[at + 6 + name.len()..].starts_with('(') && name.starts_with(|c: char| c.is_ascii_lowercase()) {
                used.insert(name);
            }
        }
    }
    assert!(used.len() > 20, "the scan found only {}: it is broken", used.len());
    for name in used.iter().filter(|name| !PURE.contains(name)) {
        let (_, behind) = BEHIND.iter().find(|(function, _)| function == name).unwrap_or_else(|| {
            panic!("{name}: which system call is it? Add it here, and to docs/system-calls.md");
        });
        let missing: Vec<_> = behind.iter().filter(|call| !calls.contains(**call)).collect();
        assert!(missing.is_empty(), "{name}: {missing:?} is not in docs/system-calls.md");
    }
    let stale: Vec<_> = BEHIND.iter().map(|(name, _)| *name).filter(|name| !used.contains(name)).collect();
    assert!(stale.is_empty(), "src calls no {stale:?}");
}

#[test]
fn every_request_of_ioctl_is_on_the_page() {
    let source = std::fs::read_to_string(root().join("src/uapi/ioctl.rs")).unwrap();
    let (_, rest) =
        page().split_once("## The requests of ioctl\n").map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
    let listed = marked(rest.split("\n## ").next().unwrap());
    let made: Vec<&str> = source
        .match_indices("const ")
        .map(|(at, begin)| source[at + begin.len()..].lines().next().unwrap())
        .filter(|line| line.contains(" = io("))
        .map(word)
        .collect();
    assert!(made.len() > 8, "the scan found only {}: it is broken", made.len());
    for name in &made {
        assert!(listed.contains(*name), "{name} is not in docs/system-calls.md");
    }
    let named = listed.iter().filter(|name| name.starts_with("VFIO_") || name.starts_with("IOMMU_"));
    assert_eq!(named.count(), made.len());
}

/// A filter that lacks a call of the table kills a VMM; one that has more is no filter.
#[test]
fn both_filters_have_the_calls_of_the_table() {
    let page = page();
    let calls = table(&page);
    let (_, rest) = page.split_once("calls[] = {").unwrap();
    let in_c: BTreeSet<String> =
        rest.split("};").next().unwrap().split('"').skip(1).step_by(2).map(str::to_string).collect();
    assert_eq!(in_c, calls, "the filter in C");
    let (_, rest) = page.split_once("```json\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(rest.split("```").next().unwrap()).unwrap();
    let rules = json["vfiomig"]["filter"].as_array().unwrap();
    let in_json: BTreeSet<String> = rules.iter().map(|rule| rule["syscall"].as_str().unwrap().to_string()).collect();
    assert_eq!(in_json, calls, "the filter in JSON");
}
