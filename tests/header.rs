//! include/vfiomig.h is generated from the doc comments and types of `src/ffi`, as cbindgen.toml says, and committed. This test
//! keeps them equal; `make header` (VFIOMIG_BLESS=1) writes the header anew, and the version and the VFIOMIG_HAVE_ macros in
//! cbindgen.toml. That the program `cbindgen` makes the same bytes is tried by abi/cbindgen.sh.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use cbindgen::{Builder, Config};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every function of the version script, in order.
fn exported() -> BTreeSet<String> {
    let map = std::fs::read_to_string(root().join("abi/libvfiomig.map")).unwrap();
    let names = map.lines().filter_map(|line| line.trim().strip_suffix(';'));
    names.filter(|name| name.starts_with("vfiomig_")).map(str::to_string).collect()
}

/// cbindgen.toml with the version of Cargo.toml and a VFIOMIG_HAVE_ macro for each exported function.
fn current(config: &str) -> String {
    let versions = [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ];
    let mut lines = Vec::new();
    for line in config.lines() {
        let version = versions.iter().find(|(part, _)| line.starts_with(&format!("#define VFIOMIG_VERSION_{part} ")));
        match version {
            Some((part, number)) => lines.push(format!("#define VFIOMIG_VERSION_{part} {number}")),
            None if line.starts_with("#define VFIOMIG_HAVE_") => {}
            None => lines.push(line.to_string()),
        }
        if line == "/** One for each function that this header declares. */" {
            let macro_of = |name: &String| name.trim_start_matches("vfiomig_").to_uppercase();
            lines.extend(exported().iter().map(|name| format!("#define VFIOMIG_HAVE_{} 1", macro_of(name))));
            // The end of the text stands behind the last macro: cbindgen writes the newline.
            lines.last_mut().unwrap().push_str("'''");
        }
    }
    lines.join("\n") + "\n"
}

/// The other tests of this file may read it meanwhile.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

fn generate() -> String {
    let config = Config::from_file(root().join("cbindgen.toml")).unwrap();
    let mut bytes = Vec::new();
    let bindings = Builder::new().with_config(config).with_src(root().join("abi/header.rs")).generate();
    bindings.unwrap().write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn blessed() -> bool {
    std::env::var_os("VFIOMIG_BLESS").is_some()
}

#[test]
fn committed_header_is_the_generated_one() {
    let path = root().join("cbindgen.toml");
    let committed = std::fs::read_to_string(&path).unwrap();
    let current = current(&committed);
    if blessed() {
        write(&path, &current);
    } else {
        assert!(committed == current, "cbindgen.toml has another version or other functions: run `make header`");
    }
    let path = root().join("include/vfiomig.h");
    let generated = generate();
    if blessed() {
        write(&path, &generated);
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "include/vfiomig.h differs from src/ffi: run `make header` and review the change");
}

/// Names that a `#define`, a struct, a typedef or a function puts into the user's program.
fn names(header: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    let mut in_comment = false;
    for line in header.lines() {
        let text = line.trim();
        in_comment |= text.starts_with("/*");
        if !in_comment {
            for prefix in ["#define ", "struct ", "enum ", "union "] {
                if let Some(rest) = text.strip_prefix(prefix) {
                    names.insert(word(rest));
                }
            }
            if let Some((before, _)) = text.split_once('(')
                && !text.starts_with('#')
                && !line.starts_with(' ')
            {
                names.insert(word(before.rsplit([' ', '*']).next().unwrap()));
            }
            if let Some(rest) = text.strip_prefix("typedef ") {
                let name = rest.rsplit_once("(*").map_or_else(|| rest.rsplit(' ').next().unwrap(), |(_, name)| name);
                names.insert(word(name));
            }
        }
        if text.ends_with("*/") {
            in_comment = false;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn every_name_has_the_prefix() {
    let header = generate();
    let names = names(&header);
    assert!(names.len() > 60, "the scan found only {}: it is broken", names.len());
    let strangers: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("vfiomig_") && !name.starts_with("VFIOMIG_") && *name != "extern")
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

/// The lines that the comment of a function must have.
fn wanted(function: &str, returns: &str) -> Vec<&'static str> {
    let is = |object: &str| function.starts_with(object);
    let made = function.contains("_new");
    let lines = [
        ("Threads: ", true),
        ("Blocks: ", true),
        ("Since: ", true),
        ("Returns: ", returns != "void"),
        ("Errors: ", returns == "int" || returns == "int64_t"),
        ("States: ", is("vfiomig_device_") || is("vfiomig_tracker_") && !made),
        ("Phases: ", is("vfiomig_group_") && !made || is("vfiomig_migration_")),
    ];
    lines.iter().filter(|(_, wanted)| *wanted).map(|(line, _)| *line).collect()
}

#[test]
fn every_function_says_what_the_contract_demands() {
    let header = generate();
    for function in exported() {
        // The prototype, not a mention in a comment: right after the type, at the left margin.
        let line_before = |at: usize| &header[header[..at].rfind('\n').unwrap() + 1..at];
        let call = format!("{function}(");
        let mentions = header.match_indices(&call).map(|(at, _)| at);
        let prototypes: Vec<_> = mentions.filter(|at| !line_before(*at).starts_with([' ', '*', '#', '/'])).collect();
        let [at] = prototypes[..] else { panic!("{function} has {} prototypes", prototypes.len()) };
        let end = header[..at].rfind("*/").unwrap();
        let comment = &header[header[..end].rfind("/**").unwrap()..end];
        let flat = comment.replace("\n * ", " ");
        for word in wanted(&function, line_before(at).trim()) {
            assert!(flat.contains(word), "{function}: its comment lacks {word:?}\n{comment}");
        }
    }
}

/// Each comment line of a text: its number, and what it says.
fn comments(header: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let lines = header.lines().enumerate().filter(|(_, line)| {
        let text = line.trim();
        let is_comment = inside || text.starts_with("/*");
        inside = is_comment && !text.ends_with("*/");
        is_comment
    });
    lines.map(|(number, line)| (number + 1, line)).collect()
}

#[test]
fn comments_fit_into_100_columns() {
    let header = generate();
    let wide: Vec<_> = comments(&header).into_iter().filter(|(_, line)| line.chars().count() > 100).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}

/// Words that docs/design.md does not define, and what it has in their place.
const PRIVATE_WORDS: [(&str, &str); 14] = [
    ("dead", "broken"),
    ("is over", "has ended"),
    ("room", "lent buffer"),
    ("told", "reported"),
    ("tell", "report"),
    ("tells", "reports"),
    ("nobody", "a sentence with a subject"),
    ("somebody", "a sentence with a subject"),
    ("whom", "owner"),
    ("saver", "source side"),
    ("behind", "after"),
    ("is complete", "is whole"),
    ("goes on", "continues"),
    ("turns on", "sets"),
];

#[test]
fn comments_use_the_words_of_the_design() {
    let header = generate();
    for (number, line) in comments(&header) {
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let text = format!(" {} ", words.join(" "));
        for (private, word) in PRIVATE_WORDS {
            assert!(!text.contains(&format!(" {private} ")), "line {number}: {private:?}: say {word:?}: {line}");
        }
    }
}

#[test]
fn the_table_of_contents_has_every_file_with_functions() {
    let contents = std::fs::read_to_string(root().join("abi/header.rs")).unwrap();
    // cbindgen would follow the modules that mod.rs names, and write everything twice.
    let private = ["guard.rs", "input.rs", "mod.rs", "sized.rs"];
    for entry in std::fs::read_dir(root().join("src/ffi")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let listed = contents.contains(&format!("\"../src/ffi/{name}\""));
        assert!(listed || private.contains(&name.as_str()), "{name} is missing in abi/header.rs");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(listed || !text.contains("#[unsafe(no_mangle)]"), "{name} exports a function");
    }
}

/// `VFIOMIG_<NOUN>_F_<X>` is what the caller passes, and nothing else is: an input and an output of one number are not exchanged.
#[test]
fn flags_of_inputs_have_an_f_and_no_other_has() {
    let word = |text: &str, at: usize| -> String {
        text[at..].chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_').collect()
    };
    let words =
        |text: &str| -> BTreeSet<String> { text.match_indices("VFIOMIG_").map(|(at, _)| word(text, at)).collect() };
    let mut known = BTreeSet::new();
    let mut used = String::new();
    for entry in std::fs::read_dir(root().join("src/ffi")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        // What a struct that is read may have in its flags.
        for (at, _) in code.match_indices("FLAGS: u32 =") {
            let end = code[at..].find(';').unwrap();
            known.extend(words(&code[at..at + end]));
        }
        used += &code;
    }
    let strangers: Vec<_> = known.iter().filter(|name| !name.contains("_F_")).collect();
    assert!(strangers.is_empty(), "no flags of inputs by their names: {strangers:?}");
    let header = generate();
    let flags: BTreeSet<String> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .map(|line| word(line, 0))
        .filter(|name| name.contains("_F_"))
        .collect();
    assert!(flags.len() > 20, "the scan found only {}: it is broken", flags.len());
    for name in &flags {
        let uses = used.match_indices(name.as_str()).filter(|(at, _)| word(&used, *at) == *name).count();
        assert!(known.contains(name) || uses > 1, "{name} is the flag of no input");
    }
}
