//! The walls between the rooms (docs/design.md, "Rooms"): arrows point down only, and `unsafe` lives where it is allowed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

/// A crate, and its rooms from above to below. A room may use itself, the rooms below it, and the leaves.
struct House {
    folder: &'static str,
    rooms: &'static [&'static str],
    leaves: &'static [&'static str],
}

const LIBRARY: House = House {
    folder: "src/",
    rooms: &[
        "ffi",
        "migration",
        "wire",
        "group",
        "tracker",
        "logs",
        "bitmap",
        "device",
        "window",
        "dialect",
        "workers",
        "transport",
        "uapi",
    ],
    leaves: &["cancel", "error", "gate", "log"],
};

const SIMDEV: House = House {
    folder: "simdev/src/",
    rooms: &[
        "capi",
        "server",
        "peers",
        "spaces",
        "device",
        "dialects",
        "machine",
        "registers",
        "content",
        "config",
        "base",
    ],
    leaves: &[],
};

/// The only files with `unsafe`; each has a reason in docs/design.md, "Rooms".
const UNSAFE_ROOMS: [&str; 6] = [
    "src/ffi/",
    "src/transport/",
    "src/window/mmap.rs",
    "src/bitmap/prefetch.rs",
    "src/bitmap/vector.rs",
    "src/tracker/scratch.rs",
];

fn sources(house: &House) -> Vec<(String, String)> {
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
    collect(&root.join(house.folder), &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
    found.iter().map(|path| (relative(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The path of a file from its crate's folder of sources.
fn place_of(file: &str) -> &str {
    let file = file.strip_prefix("simdev/").unwrap_or(file);
    file.strip_prefix("src/").unwrap()
}

fn room_of(file: &str) -> &str {
    place_of(file).split('/').next().unwrap().trim_end_matches(".rs")
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
fn arrows_up(house: &House, file: &str, text: &str) -> Vec<String> {
    let room = room_of(file);
    let House { rooms, leaves, .. } = house;
    let mut wrong = Vec::new();
    for used in used_rooms(text) {
        let allowed = match (rooms.iter().position(|r| *r == room), rooms.iter().position(|r| *r == used)) {
            (_, None) => used == room || leaves.contains(&used.as_str()),
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
    for house in [LIBRARY, SIMDEV] {
        let sources = sources(&house);
        assert!(sources.len() > 20, "the scan found only {} files", sources.len());
        let wrong: Vec<_> = sources.iter().flat_map(|(file, text)| arrows_up(&house, file, text)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn an_arrow_up_is_seen() {
    let arrows = |file, text| arrows_up(&LIBRARY, file, text).len();
    assert_eq!(arrows("src/uapi/ioctl.rs", "use crate::device::Device;"), 1);
    assert_eq!(arrows("src/transport/ops.rs", "use crate::{error::Error, dialect::State};"), 1);
    assert_eq!(arrows("src/error.rs", "fn f() { crate::ffi::x() }"), 1);
    assert_eq!(arrows("src/ffi/save.rs", "use crate::uapi::feature;"), 0);
    assert_eq!(arrows("src/device/save.rs", "// use crate::ffi::x"), 0);
    let arrows = |file, text| arrows_up(&SIMDEV, file, text).len();
    assert_eq!(arrows("simdev/src/machine/dma.rs", "use crate::spaces::Space;"), 1);
    assert_eq!(arrows("simdev/src/spaces/attach.rs", "use crate::machine::Bus;"), 0);
    assert_eq!(arrows("simdev/src/lib.rs", "use crate::machine::Level;"), 0);
}

/// What the head of a room's mod.rs says that the room may import; `None` if it does not say it between what the room is for and
/// where to start reading.
fn promised(house: &House, text: &str) -> Option<Vec<String>> {
    let head = text.lines().map_while(|line| line.strip_prefix("//!")).collect::<Vec<_>>().join("");
    let (purpose, rest) = head.split_once("May import: ")?;
    let (list, rest) = rest.split_once('.')?;
    if purpose.trim().is_empty() || !rest.contains("Start reading at ") {
        return None;
    }
    Some(match list {
        "nothing" | "nothing of the crate" => Vec::new(),
        "every room" => house.rooms.iter().map(ToString::to_string).collect(),
        list => list.split(", ").map(str::to_string).collect(),
    })
}

#[test]
fn a_room_of_simdev_imports_what_it_says() {
    let sources = sources(&SIMDEV);
    for room in SIMDEV.rooms {
        let head = sources.iter().find(|(file, _)| place_of(file) == format!("{room}/mod.rs"));
        let promised = head.and_then(|(_, text)| promised(&SIMDEV, text));
        let promised = promised.unwrap_or_else(|| panic!("{room}/mod.rs has no head, or one in another order"));
        for (file, text) in sources.iter().filter(|(file, _)| room_of(file) == *room) {
            for used in used_rooms(text) {
                assert!(used == *room || promised.contains(&used), "{file} imports {used}");
            }
        }
    }
}

/// The path of a file's module, without the crate: `src/window/region/bus.rs` is window, region, bus.
fn module_of(file: &str) -> Vec<&str> {
    let names = place_of(file).trim_end_matches(".rs");
    names.split('/').filter(|name| *name != "mod").collect()
}

/// `a::{b, c::{d}}` as paths: a, b; a, c, d.
fn paths_of(tree: &str) -> Vec<Vec<String>> {
    let Some((before, list)) = tree.split_once('{') else {
        return vec![tree.split("::").map(|name| name.trim().to_string()).collect()];
    };
    let body = list.rsplit_once('}').map_or(list, |(body, _)| body);
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in body.chars() {
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                parts.last_mut().unwrap().push(c);
            }
        }
    }
    let part = |part: &String| (!part.trim().is_empty()).then(|| paths_of(&format!("{before}{}", part.trim())));
    parts.iter().filter_map(part).flatten().collect()
}

/// The paths in the code of a file, its tests left out, that begin with `crate`, `super` or `self`.
fn named_paths(text: &str) -> Vec<Vec<String>> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with("::") {
                continue;
            }
            let mut depth = 0;
            let end = code[at..].find(|c: char| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                let inside = depth > 0 && (c.is_whitespace() || c == ',');
                depth < 0 || !(c.is_alphanumeric() || matches!(c, '_' | ':' | '{' | '}') || inside)
            });
            paths.extend(paths_of(&code[at..at + end.unwrap_or(code.len() - at)]));
        }
    }
    paths
}

/// What the `use` lines of a file take from files below it, as (name here, path from here).
fn taken_from_below(text: &str) -> Vec<(String, Vec<String>)> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let mut taken = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let before = code[..at].rsplit('\n').next().unwrap();
        if !["", "pub ", "pub(crate) ", "pub(super) "].contains(&before) {
            continue;
        }
        for path in paths_of(code[at + "use ".len()..].split(';').next().unwrap()) {
            let name = path.last().unwrap().split(" as ").last().unwrap().to_string();
            taken.push((name, path));
        }
    }
    taken
}

/// The files that a file imports. A name of the file above that is no file is of the file below from which that one has it, or
/// its own.
fn imports<'a>(file: &str, text: &str, sources: &'a [(String, String)]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for path in named_paths(text) {
        let mut at: Vec<String> =
            if path[0] == "crate" { Vec::new() } else { module_of(file).iter().map(ToString::to_string).collect() };
        for name in path {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                _ => at.push(name),
            }
        }
        found.extend(home_of(&at, sources).filter(|home| *home != file));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The file that an item is in, by its path in the crate.
fn home_of<'a>(path: &[String], sources: &'a [(String, String)]) -> Option<&'a str> {
    let file = |path: &[String]| sources.iter().find(|(file, _)| module_of(file) == path);
    // The longest beginning that is a file; what follows is an item in it.
    let (n, (home, text)) = (1..=path.len()).rev().find_map(|n| Some((n, file(&path[..n])?)))?;
    let from_below = path.get(n).and_then(|item| {
        let below = taken_from_below(text).into_iter().find(|(name, _)| name == item)?.1;
        let path: Vec<String> = path[..n].iter().cloned().chain(below).collect();
        // Of other crates there are no files.
        file(&path[..n + 1]).and_then(|_| home_of(&path, sources))
    });
    Some(from_below.unwrap_or(home))
}

/// What can be reached from each file, if that is the file itself.
fn circles(sources: &[(String, String)]) -> Vec<String> {
    let files: Vec<String> = sources.iter().map(|(file, _)| file.clone()).collect();
    let arrows: Vec<Vec<&str>> = sources.iter().map(|(file, text)| imports(file, text, sources)).collect();
    let next = |file: &str| &arrows[files.iter().position(|other| other == file).unwrap()];
    let mut wrong = Vec::new();
    for file in &files {
        let mut seen: Vec<&str> = Vec::new();
        let mut todo: Vec<&str> = next(file).clone();
        while let Some(other) = todo.pop() {
            if !seen.contains(&other) {
                seen.push(other);
                todo.extend(next(other));
            }
        }
        if seen.contains(&file.as_str()) {
            let back = |other: &&&str| next(other).contains(&file.as_str());
            wrong.push(format!(
                "{file} is imported by what it imports: {:?}",
                seen.iter().filter(back).collect::<Vec<_>>()
            ));
        }
    }
    wrong
}

#[test]
fn no_file_imports_what_imports_it() {
    for house in [LIBRARY, SIMDEV] {
        let wrong = circles(&sources(&house));
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn a_circle_is_seen() {
    let source = |file: &str, text: &str| (file.to_string(), text.to_string());
    let ring = [
        source("src/a/mod.rs", "mod b;\nmod c;\nmod d;\npub use b::B;"),
        source("src/a/b.rs", "use super::{c::{self, C}, d::D};"),
        source("src/a/c.rs", "fn f() { super::d::g(Vec::<crate::a::d::D>::new()) }"),
        source("src/a/d.rs", "use crate::{\n    a::b,\n};\n"),
    ];
    assert_eq!(circles(&ring).len(), 3, "{:#?}", circles(&ring));
    let mut line = ring;
    line[3].1 = "// use super::b::B;\n#[cfg(test)]\nmod tests {\n    use super::super::b::B;\n}\n".into();
    assert!(circles(&line).is_empty(), "{:#?}", circles(&line));
    // b is named by what the file above has from it.
    line[3].1 = "use super::B;".into();
    assert_eq!(circles(&line).len(), 3, "{:#?}", circles(&line));
}

const MAX_LINES: usize = 500;

#[test]
fn a_file_has_one_purpose_and_at_most_500_lines() {
    for (file, text) in sources(&LIBRARY) {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{file} has {lines} lines: which of its subjects is a file of its own?");
    }
}

#[test]
fn unsafe_only_where_it_is_allowed() {
    for (file, text) in sources(&LIBRARY) {
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
    for (file, text) in sources(&LIBRARY) {
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

/// The types that a file defines, its tests and what is within an `impl` left out.
fn types_of(text: &str) -> Vec<&str> {
    let name = |line: &'_ str| -> Option<usize> {
        let line = line.strip_prefix("unsafe ").unwrap_or(line);
        ["struct ", "enum ", "trait ", "type ", "union "].iter().find(|word| line.starts_with(**word)).map(|w| w.len())
    };
    let mut found = Vec::new();
    for line in text.lines() {
        let visible =
            if line.starts_with("pub(") { line.split_once(") ").map_or(line, |(_, rest)| rest) } else { line };
        let code = visible.trim_start_matches("pub ");
        if let Some(at) = name(code) {
            let rest = code.trim_start_matches("unsafe ");
            found.push(rest[at..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap());
        }
    }
    found
}

/// A reader who meets a type's name knows which one it is, without a look at the imports.
#[test]
fn no_two_types_share_a_name() {
    let sources = sources(&LIBRARY);
    let mut seen: std::collections::BTreeMap<&str, &str> = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    for (file, text) in &sources {
        for name in types_of(text) {
            if let Some(other) = seen.insert(name, file) {
                wrong.push(format!("{name}: {other}, {file}"));
            }
        }
    }
    assert!(seen.len() > 100 && wrong.is_empty(), "{wrong:#?}");
    let text =
        "pub(in crate::a) struct A<T> {\npub unsafe trait B: Copy {\ntype C = u8;\n    type D = u8;\n// struct E\n";
    assert_eq!(types_of(text), ["A", "B", "C"]);
}

/// The file with a room's first comment.
fn first_file<'a>(room: &str, sources: &'a [(String, String)]) -> &'a (String, String) {
    let names = [format!("src/{room}/mod.rs"), format!("src/{room}.rs")];
    sources.iter().find(|(file, _)| names.contains(file)).unwrap()
}

#[test]
fn each_room_says_what_it_is_for_what_it_imports_and_where_to_start() {
    let (sources, known) = (sources(&LIBRARY), [LIBRARY.rooms, LIBRARY.leaves].concat());
    let mut wrong = Vec::new();
    for room in &known {
        let (file, text) = first_file(room, &sources);
        let Some(said) = promised(&LIBRARY, text) else {
            wrong.push(format!("{file}: its first comment lacks a part, or has another order"));
            continue;
        };
        let code = |text: &str| text.split("\n#[cfg(test)]\nmod tests").next().unwrap().to_string();
        let of_room = sources.iter().filter(|(file, _)| room_of(file) == *room && !file.ends_with("tests.rs"));
        let used: Vec<String> = of_room.flat_map(|(_, text)| used_rooms(&code(text))).collect();
        let unsaid = used.iter().filter(|used| known.contains(&used.as_str()) && *used != room && !said.contains(used));
        wrong.extend(unsaid.map(|used| format!("{file} does not say that the room imports {used}")));
        let unused = said.iter().filter(|said| !used.contains(said));
        wrong.extend(unused.map(|said| format!("{file} says that the room imports {said}, which it does not")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
