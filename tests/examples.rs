//! Every public type, and every public module, has an example that runs as a doctest, or a sentence that leads to one:
//! ``Example: [`Name`]``.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Examples that are compiled and not run, because they need what no machine of a test has.
const NOT_RUN: [&str; 1] = ["VfioHandle"];

const TYPES: [&str; 4] = ["struct", "enum", "trait", "type"];

/// Sources by module: `src/bitmap/mod.rs` is `bitmap`, `src/lib.rs` is empty.
fn modules() -> BTreeMap<Vec<String>, String> {
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    let module = |path: &PathBuf| {
        let path = path.strip_prefix(&root).unwrap().with_extension("");
        let parts = path.iter().map(|part| part.to_str().unwrap().to_string());
        parts.filter(|part| part != "mod" && part != "lib").collect()
    };
    found.iter().map(|path| (module(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// A public thing, with its attributes and what is written above it.
struct Item {
    /// `struct`, `fn`, `mod`, `use` …
    kind: String,
    /// Of a `use`: the whole line.
    name: String,
    docs: Vec<String>,
    hidden: bool,
}

/// What a source declares as `pub`, also inside of macros and of impl blocks.
fn items(text: &str) -> Vec<Item> {
    let (mut items, mut docs, mut hidden) = (Vec::new(), Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim().to_string());
            continue;
        }
        if line.starts_with("#[") {
            hidden |= line == "#[doc(hidden)]";
            continue;
        }
        if let Some(rest) = line.strip_prefix("pub ") {
            let (kind, rest) = rest.trim_start_matches("unsafe ").split_once(' ').unwrap_or((rest, ""));
            let end = |c: char| !c.is_alphanumeric() && c != '_';
            let name = if kind == "use" { rest } else { rest.split(end).next().unwrap() };
            items.push(Item { kind: kind.to_string(), name: name.to_string(), docs: docs.clone(), hidden });
        }
        (docs, hidden) = (Vec::new(), false);
    }
    items
}

/// Whether the documentation has an example that is run: its fences that open, and what is said of them.
fn has_example(docs: &[String], may_be_compiled_only: bool) -> bool {
    let fences: Vec<&str> = docs.iter().filter_map(|line| line.strip_prefix("```")).collect();
    fences.iter().step_by(2).any(|said| said.is_empty() || (may_be_compiled_only && *said == "no_run"))
}

/// The last name of ``Example: [`a::Name`]``, without what follows it.
fn led_to(docs: &[String]) -> Option<&str> {
    let link = docs.iter().find_map(|line| line.split_once("Example: [`"))?.1;
    let path = link.split('`').next()?;
    path.rsplit("::").next()
}

#[test]
fn every_public_type_and_module_has_an_example() {
    let modules = modules();
    let items_of: BTreeMap<&Vec<String>, Vec<Item>> = modules.iter().map(|(at, text)| (at, items(text))).collect();
    // Modules come in the order of their paths, so a parent is known before its children.
    let mut open: BTreeSet<Vec<String>> = BTreeSet::from([Vec::new()]);
    for (at, items) in &items_of {
        if open.contains(*at) {
            let public = items.iter().filter(|item| item.kind == "mod" && !item.hidden);
            open.extend(public.map(|item| [at.as_slice(), std::slice::from_ref(&item.name)].concat()));
        }
    }
    let uses = items_of.iter().filter(|(at, _)| open.contains(**at)).flat_map(|(_, items)| items);
    let uses = uses.filter(|item| item.kind == "use" && !item.hidden);
    let word = |c: char| !c.is_alphanumeric() && c != '_';
    let shown: BTreeSet<&str> = uses.flat_map(|item| item.name.split(word)).collect();

    let (mut wanted, mut with_one) = (Vec::new(), BTreeSet::new());
    for (at, items) in &items_of {
        let is_open = open.contains(*at);
        for item in items.iter().filter(|item| !item.hidden && (is_open || shown.contains(item.name.as_str()))) {
            let name = item.name.as_str();
            if has_example(&item.docs, NOT_RUN.contains(&name)) {
                with_one.insert(name);
            } else if TYPES.contains(&item.kind.as_str()) {
                wanted.push((format!("{}::{name}", at.join("::")), led_to(&item.docs)));
            }
        }
    }
    assert!(with_one.len() > 50, "only {} examples are found", with_one.len());
    let heads: Vec<(String, Vec<String>)> = open
        .iter()
        .filter_map(|at| Some((at.join("::"), modules.get(at)?)))
        .map(|(at, text)| {
            (at, text.lines().map_while(|line| line.strip_prefix("//!")).map(|l| l.trim().to_string()).collect())
        })
        .collect();
    wanted.extend(
        heads.iter().filter(|(_, docs)| !has_example(docs, false)).map(|(at, docs)| (at.clone(), led_to(docs))),
    );

    let without: Vec<&String> =
        wanted.iter().filter(|(_, to)| !to.is_some_and(|to| with_one.contains(to))).map(|(name, _)| name).collect();
    assert!(without.is_empty(), "{} without an example: {without:#?}", without.len());
}

#[test]
fn what_is_no_example() {
    let docs = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    assert!(has_example(&docs("Text.\n```\nlet a = 1;\n```"), false));
    for text in ["Text.", "```compile_fail\nlet a = ;\n```", "```text\n```", "```no_run\n```", "```ignore\n```"] {
        assert!(!has_example(&docs(text), false), "{text}");
    }
    assert!(has_example(&docs("```compile_fail\n```\n```no_run\n```"), true));
    assert_eq!(led_to(&docs("One.\nExample: [`Device::pending`](crate::Device::pending).")), Some("pending"));
}
