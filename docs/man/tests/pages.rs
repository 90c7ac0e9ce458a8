//! The pages are whole: every name of the header has one, no page names what does not exist, and each shows a program.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use vfiomig_man::comment::{Block, LABELS, parse};
use vfiomig_man::date::{of_changelog, of_epoch};
use vfiomig_man::header::{Kind, word};
use vfiomig_man::origin::files;
use vfiomig_man::pages::{FUNCTIONS, MANUALS};
use vfiomig_man::tree::{Tree, text};
use vfiomig_man::write::all;

fn tree() -> Tree {
    Tree::read().unwrap()
}

fn exported() -> BTreeSet<String> {
    let map = text("abi/libvfiomig.map").unwrap();
    let names = map.lines().filter_map(|line| line.trim().strip_suffix(';'));
    names.filter(|name| name.starts_with("vfiomig_")).map(str::to_string).collect()
}

/// A page without what roff needs: fonts, escapes.
fn bare(page: &str) -> String {
    page.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-").replace("\\*(Aq", "'")
}

#[test]
fn every_exported_function_has_a_page_and_no_other_has() {
    let tree = tree();
    let pages: BTreeMap<String, String> = all(&tree).unwrap().into_iter().collect();
    let exported = exported();
    assert!(exported.len() > 100, "the scan found only {}: it is broken", exported.len());
    for function in &exported {
        let alias = pages.get(&format!("man3/{function}.3")).unwrap_or_else(|| panic!("{function} has no page"));
        let target = alias.trim().strip_prefix(".so ").unwrap();
        let page = &pages[target];
        assert!(page.contains(&format!("\n.SS {function}()\n")), "{target} does not describe {function}");
        assert!(bare(page).contains(&format!("{function}(")), "{target} has no prototype of {function}");
    }
    let known: BTreeSet<&str> = tree.header.items.iter().map(|item| item.name.as_str()).collect();
    let groups: BTreeSet<&str> = FUNCTIONS.iter().map(|page| page.name).collect();
    for name in pages.keys().filter_map(|path| path.strip_prefix("man3/")?.strip_suffix(".3")) {
        assert!(known.contains(name) || groups.contains(name), "man3/{name}.3 is of nothing");
    }
}

#[test]
fn every_name_of_the_header_is_described_once() {
    let tree = tree();
    let mut pages = String::new();
    for (_, page) in all(&tree).unwrap() {
        pages += &bare(&page);
    }
    for item in &tree.header.items {
        let heads = match &item.kind {
            Kind::Constant { .. } if item.name.starts_with("VFIOMIG_HAVE_") => vec!["\nVFIOMIG_HAVE_*\n".to_string()],
            Kind::Constant { more, .. } if !more.is_empty() => vec![format!("\n{}, {}", item.name, more.join(", "))],
            Kind::Constant { .. } if !tree.origins.contains_key(&item.name) => vec![format!("\n{}\n", item.name)],
            Kind::Constant { .. } => vec![format!("\n{} (", item.name)],
            Kind::Handle => vec![format!("\nstruct {}\n", item.name)],
            Kind::Struct { .. } => vec![format!("\n.SS \"struct {}\"\n", item.name)],
            Kind::Callback { .. } => vec![format!("\n.SS {}\n", item.name)],
            Kind::Function { .. } => vec![format!("\n.SS {}()\n", item.name)],
        };
        let count: usize = heads.iter().map(|head| pages.matches(head.as_str()).count()).sum();
        assert_eq!(count, 1, "{}", item.name);
    }
}

#[test]
fn every_file_of_the_header_belongs_to_one_page() {
    // Handles are on vfiomig(7).
    let elsewhere = ["src/ffi/handle.rs"];
    for file in files(&text("abi/header.rs").unwrap()) {
        let count = FUNCTIONS.iter().filter(|page| page.files.contains(&file.as_str())).count();
        assert_eq!(count, usize::from(!elsewhere.contains(&file.as_str())), "{file}");
    }
}

/// `name(3)` and `name(7)` in a text.
fn references(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for section in ["3", "7"] {
        for (at, _) in page.match_indices(&format!("({section})")) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let begin = page[..at].rfind(|c| !is_name(c)).map_or(0, |before| before + 1);
            found.push((page[begin..at].to_string(), section.to_string()));
        }
    }
    found
}

#[test]
fn no_page_names_a_page_or_function_that_does_not_exist() {
    let tree = tree();
    let pages = all(&tree).unwrap();
    let paths: BTreeSet<&str> = pages.iter().map(|(path, _)| path.as_str()).collect();
    let known: BTreeSet<&str> = tree.header.items.iter().map(|item| item.name.as_str()).collect();
    let mut count = 0;
    for (path, page) in &pages {
        let page = bare(page);
        for (name, section) in references(&page).into_iter().filter(|(name, _)| name.starts_with("vfiomig")) {
            assert!(paths.contains(&*format!("man{section}/{name}.{section}")), "{path} names {name}({section})");
            count += 1;
        }
        for (at, _) in page.match_indices("vfiomig_") {
            let name = word(&page[at..]);
            let call = page[at + name.len()..].starts_with('(');
            let inside = page[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_-/.".contains(c));
            assert!(!call || inside || known.contains(name), "{path} names {name}()");
        }
    }
    assert!(count > 500, "the scan found only {count}: it is broken");
}

#[test]
fn every_line_of_every_contract_is_on_its_page() {
    let tree = tree();
    for item in tree.header.functions() {
        let contract = parse(&item.comment);
        let flat = item.comment.replace('\n', " ");
        for label in LABELS {
            // Behind a sentence or an empty line.
            let says = [". ", "  "].iter().any(|before| format!("  {flat}").contains(&format!("{before}{label}: ")));
            assert_eq!(contract.line(label).is_some(), says, "{}: {label}\n{}", item.name, item.comment);
        }
        for block in &contract.blocks {
            let Block::Paragraph(text) = block else { continue };
            assert!(!text.contains("Since: "), "{}: the contract is not the last paragraph", item.name);
        }
        assert!(contract.line("Since").is_some(), "{}", item.name);
    }
}

#[test]
fn every_page_of_functions_shows_a_program_that_calls_one_of_them() {
    let tree = tree();
    let pages: BTreeMap<String, String> = all(&tree).unwrap().into_iter().collect();
    for functions in &FUNCTIONS {
        let page = bare(&pages[&format!("man3/{}.3", functions.name)]);
        let (_, examples) = page.split_once("\n.SH EXAMPLES\n").unwrap_or_else(|| panic!("{}", functions.name));
        let own = |call: &&str| tree.of(functions.files).any(|item| item.name == word(call));
        let calls = examples.match_indices("vfiomig_").map(|(at, _)| &examples[at..]);
        assert!(
            calls.into_iter().any(|call| own(&call)),
            "{}: the example calls none of its functions",
            functions.name
        );
    }
}

#[test]
fn every_manual_is_listed_in_the_overview() {
    let tree = tree();
    let pages: BTreeMap<String, String> = all(&tree).unwrap().into_iter().collect();
    let overview = bare(&pages["man7/vfiomig.7"]);
    for (name, section) in FUNCTIONS.iter().map(|f| (f.name, 3)).chain(MANUALS.iter().map(|m| (m.name, 7))) {
        assert!(name == "vfiomig" || overview.contains(&format!("\n{name}({section})\n")), "{name}");
    }
}

#[test]
fn the_day_of_a_page_is_that_of_the_epoch_or_of_the_newest_entry() {
    for (seconds, day) in [
        ("0", "1970-01-01"),
        ("951782399", "2000-02-28"),
        ("951782400", "2000-02-29"),
        ("1796040000", "2026-11-30"),
        ("4107542400", "2100-03-01"),
    ] {
        assert_eq!(of_epoch(seconds).as_deref(), Ok(day));
    }
    for wrong in ["", "-1", "today", "18446744073709551615"] {
        assert!(of_epoch(wrong).unwrap_err().contains(wrong));
    }
    let entry = "a (2-1) unstable\n\n  * b\n\n -- c  <d>  Mon, 02 Nov 2026 23:59:59 +0000\n\na (1-1)\n -- c <d>  Thu, 1 Jan 1970\n";
    assert_eq!(of_changelog(entry).as_deref(), Ok("2026-11-02"));
    for wrong in ["", " -- c <d>  Mon, 02 Foo 2026 23:59:59 +0000\n", " -- c <d>\n"] {
        assert!(of_changelog(wrong).is_err(), "{wrong}");
    }
}
