//! The walls between the rooms (docs/design.md, "Rooms"): arrows point down only, and `unsafe` lives where it is allowed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

/// Upper rooms first. A room may use itself, the rooms below it, and the leaves.
const ROOMS: [&str; 11] =
    ["ffi", "migration", "group", "dirty", "bitmap", "device", "window", "dialect", "workers", "transport", "uapi"];
const LEAVES: [&str; 4] = ["cancel", "error", "gate", "log"];

/// The only files with `unsafe`; each has a reason in docs/design.md, "Rooms".
const UNSAFE_ROOMS: [&str; 6] = [
    "src/ffi/",
    "src/transport/",
    "src/window/mmap.rs",
    "src/bitmap/prefetch.rs",
    "src/bitmap/vector.rs",
    "src/dirty/scratch.rs",
];

fn sources() -> Vec<(String, String)> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&root.join("src"), &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
    found.iter().map(|path| (relative(path), std::fs::read_to_string(path).unwrap())).collect()
}

fn room_of(file: &str) -> &str {
    let name = file.strip_prefix("src/").unwrap();
    name.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Every room that a source names by `crate::room`, in `use` lines and in paths, also inside `crate::{a, b}`.
fn used_rooms(text: &str) -> Vec<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap().split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            rooms.push(name);
        }
    }
    rooms
}

/// What is wrong with a file, if anything is.
fn arrows_up(file: &str, text: &str) -> Vec<String> {
    let room = room_of(file);
    let mut wrong = Vec::new();
    for used in used_rooms(text) {
        let allowed = match (ROOMS.iter().position(|r| *r == room), ROOMS.iter().position(|r| *r == used)) {
            (_, None) => used == room || (LEAVES.contains(&used.as_str())),
            (Some(from), Some(to)) => from <= to,
            (None, Some(_)) => room == "lib",
        };
        if !allowed {
            wrong.push(format!("{file}: {room} -> {used}"));
        }
    }
    wrong
}

#[test]
fn arrows_point_down() {
    let sources = sources();
    assert!(sources.len() > 20, "the scan found only {} files", sources.len());
    let wrong: Vec<_> = sources.iter().flat_map(|(file, text)| arrows_up(file, text)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_arrow_up_is_seen() {
    assert_eq!(arrows_up("src/uapi/ioctl.rs", "use crate::device::Device;").len(), 1);
    assert_eq!(arrows_up("src/transport/ops.rs", "use crate::{error::Error, dialect::State};").len(), 1);
    assert_eq!(arrows_up("src/error.rs", "fn f() { crate::ffi::x() }").len(), 1);
    assert!(arrows_up("src/ffi/save.rs", "use crate::uapi::feature;").is_empty());
    assert!(arrows_up("src/device/save.rs", "// use crate::ffi::x").is_empty());
}

#[test]
fn unsafe_only_where_it_is_allowed() {
    for (file, text) in sources() {
        let has_unsafe = text.lines().any(|line| {
            let code = line.split("//").next().unwrap();
            code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
        });
        let allowed = UNSAFE_ROOMS.iter().any(|room| file.starts_with(room));
        assert!(!has_unsafe || allowed, "{file} has unsafe code");
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for (file, text) in sources() {
        let lines: Vec<_> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            let before = &lines[number.saturating_sub(6)..number];
            assert!(before.iter().any(|l| l.contains("SAFETY:")), "{file}:{} lacks SAFETY:", number + 1);
        }
    }
}
