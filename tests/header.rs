//! include/vfiomig.h is generated from the doc comments and types of `src/ffi` and committed. This test keeps the two equal;
//! `make header` (VFIOMIG_BLESS=1) writes the file anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use cbindgen::{Builder, Config, DocumentationStyle, Language, RenameRule, Style};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// In the order in which a reader wants them.
const SOURCES: [&str; 16] = [
    "src/ffi/library.rs",
    "src/ffi/error.rs",
    "src/ffi/log.rs",
    "src/transport/ops.rs",
    "src/ffi/handle.rs",
    "src/ffi/device.rs",
    "src/ffi/save.rs",
    "src/ffi/load.rs",
    "src/transport/tracker_ops.rs",
    "src/ffi/bitmap.rs",
    "src/ffi/tracker.rs",
    "src/ffi/harvest.rs",
    "src/ffi/report.rs",
    "src/ffi/group.rs",
    "src/ffi/migration.rs",
    "src/ffi/drain.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every function of the version script, in order.
fn exported() -> BTreeSet<String> {
    let map = std::fs::read_to_string(root().join("abi/libvfiomig.map")).unwrap();
    let names = map.lines().filter_map(|line| line.trim().strip_suffix(';'));
    names.filter(|name| name.starts_with("vfiomig_")).map(str::to_string).collect()
}

/// What cbindgen has no words for. Versions come from Cargo.toml, the HAVE_ macros from the version script.
fn prose() -> String {
    let (major, minor, patch) =
        (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH"));
    let have: String = exported()
        .iter()
        .map(|name| format!("#define VFIOMIG_HAVE_{} 1\n", name.trim_start_matches("vfiomig_").to_uppercase()))
        .collect();
    format!(
        r"
/*
 * libvfiomig: live migration of VFIO devices for virtual machine monitors.
 *
 * Conventions of every function (docs/errors.md, docs/threading.md, docs/abi.md):
 *  - The handle comes first, outputs last; they are written only on success.
 *  - An int is 0 or -errno; an int64_t is a count or -errno. Decide by vfiomig_error_code(); texts, and errno
 *    values that are not named here, may change. Errors lists leave out what holds for every function with a handle:
 *    ARGUMENT for NULL, -ENODEV where the handle's group or device was freed, BUSY as below, and PANIC.
 *  - errp, the last parameter, may be NULL; it is written on failure only and never read; free what it received with
 *    vfiomig_error_free().
 *  - Structs that begin with argsz are set up with VFIOMIG_INIT. Zero means default or not given.
 *  - Threads. any: from any thread, at any time. device: from any thread; calls on one device wait for each other, or get
 *    -EBUSY if the device was made with VFIOMIG_DEVICE_F_NO_WAIT. whole: waits for the device call in progress and goes
 *    before those that wait. tracker: calls on one tracker wait for each other; it needs no other lock, and works beside
 *    device calls. A call from a callback that would wait for what cannot end before the callback does gets -EDEADLK.
 *  - A callback returns on the thread on which it was called: one that yields (a coroutine) and goes on on another thread
 *    is forbidden.
 *  - The library makes no threads but workers within a call that serves several devices or logs, joined before it returns.
 *    It installs no signal handler and no panic hook, never exits and never writes to stderr, with two exceptions: the Rust
 *    runtime's own line about a bug in the library, and the end of the process when malloc() has no memory for the library's
 *    own small objects, as with g_malloc(). Buffers and bitmaps are tried first: -ENOMEM. A forked child may only exec or
 *    exit.
 */

#if UINTPTR_MAX < 0xffffffffffffffff
#error libvfiomig is for 64-bit machines only: the layouts of its structs are 64-bit ones
#endif

/** The version of this header. vfiomig_version() tells that of the library that runs. */
#define VFIOMIG_VERSION_MAJOR {major}
#define VFIOMIG_VERSION_MINOR {minor}
#define VFIOMIG_VERSION_PATCH {patch}

/** Whether this header is of the given version or a later one; works in #if. */
#define VFIOMIG_CHECK_VERSION(major, minor, patch) \
  (VFIOMIG_VERSION_MAJOR > (major) || \
   (VFIOMIG_VERSION_MAJOR == (major) && VFIOMIG_VERSION_MINOR > (minor)) || \
   (VFIOMIG_VERSION_MAJOR == (major) && VFIOMIG_VERSION_MINOR == (minor) && VFIOMIG_VERSION_PATCH >= (patch)))

/** Zeroes a struct that begins with argsz, and sets argsz. */
#define VFIOMIG_INIT(p) (memset((p), 0, sizeof *(p)), (void)((p)->argsz = (uint32_t)sizeof *(p)))

/** vfiomig_device_set_state(): after a failure, ask for this state, if the table allows it from where the device is found. */
#define VFIOMIG_ON_FAILURE_RETURN_TO(state) (0x100u + (uint32_t)(state))

/** One for each function that this header declares. */
{have}"
    )
}

/// The `# Safety` sections speak to Rust callers; C readers have the parameters' descriptions.
fn without_safety_sections(header: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in header.lines() {
        let text = line.trim_start();
        if text == "* # Safety" {
            skipping = true;
            // The empty comment line before the section goes too.
            if let Some(kept) = out.trim_end_matches([' ', '\n']).strip_suffix('*') {
                out = kept.trim_end_matches(' ').to_string();
            }
        }
        if skipping && text == "*/" {
            skipping = false;
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn generate() -> String {
    let mut config = Config {
        language: Language::C,
        cpp_compat: true,
        style: Style::Tag,
        usize_is_size_t: true,
        no_includes: true,
        sys_includes: ["stddef.h", "stdint.h", "string.h"].map(String::from).to_vec(),
        include_guard: Some("VFIOMIG_H".into()),
        header: Some(
            "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n/* Generated from src/ffi by `make header`. Do not edit. */"
                .into(),
        ),
        after_includes: Some(prose()),
        documentation_style: DocumentationStyle::Doxy,
        line_length: 120,
        ..Config::default()
    };
    config.enumeration.rename_variants = RenameRule::QualifiedScreamingSnakeCase;
    for (ours, theirs) in
        [("Ops", "vfiomig_device_ops"), ("LogOps", "vfiomig_tracker_ops"), ("LogRange", "vfiomig_range")]
    {
        config.export.rename.insert(ours.into(), theirs.into());
    }
    let mut builder = Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root().join(source));
    }
    let mut bytes = Vec::new();
    builder.generate().unwrap().write(&mut bytes);
    let mut text = without_safety_sections(&String::from_utf8(bytes).unwrap());
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    text
}

#[test]
fn committed_header_is_the_generated_one() {
    let path = root().join("include/vfiomig.h");
    let generated = generate();
    if std::env::var_os("VFIOMIG_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
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

#[test]
fn every_function_says_what_the_contract_demands() {
    let header = generate();
    for function in exported() {
        // The prototype, not a mention in a comment: right after the type, at the left margin.
        let is_prototype = |at: &usize| {
            let line = &header[header[..*at].rfind('\n').unwrap() + 1..*at];
            !line.starts_with([' ', '*', '#', '/'])
        };
        let call = format!("{function}(");
        let mentions = header.match_indices(&call).map(|(at, _)| at);
        let prototypes: Vec<_> = mentions.filter(is_prototype).collect();
        let [at] = prototypes[..] else { panic!("{function} has {} prototypes", prototypes.len()) };
        let end = header[..at].rfind("*/").unwrap();
        let comment = &header[header[..end].rfind("/**").unwrap()..end];
        let returns_nothing =
            function.ends_with("_free") || function == "vfiomig_set_log" || function == "vfiomig_migration_cancel";
        let mut wanted = vec!["Threads: ", "Blocks: ", "Since: "];
        if !returns_nothing {
            wanted.push("Returns: ");
        }
        if function.starts_with("vfiomig_device_") {
            wanted.push("States: ");
        }
        let flat = comment.replace("\n * ", " ");
        for word in wanted {
            assert!(flat.contains(word), "{function}: its comment lacks {word:?}\n{comment}");
        }
    }
}

#[test]
fn sources_are_all_of_the_room() {
    let listed: BTreeSet<_> = SOURCES.iter().map(|s| root().join(s)).collect();
    // cbindgen would follow the modules that mod.rs names, and write everything twice.
    let private = ["guard.rs", "mod.rs", "sized.rs"];
    for entry in std::fs::read_dir(root().join("src/ffi")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        assert!(listed.contains(&path) || private.contains(&name.as_str()), "{name} is missing in SOURCES");
        let text = std::fs::read_to_string(Path::new(&path)).unwrap();
        assert!(listed.contains(&path) || !text.contains("#[unsafe(no_mangle)]"), "{name} exports a function");
    }
}
