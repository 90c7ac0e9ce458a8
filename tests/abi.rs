//! Facts that the Makefile and the .pc file repeat.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

/// `Libs.private` must name what a Rust static archive needs.
#[test]
fn native_libraries_are_those_that_rustc_names() {
    let makefile = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Makefile")).unwrap();
    let ours = makefile.lines().find_map(|line| line.strip_prefix("NATIVE := ")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("empty.rs");
    std::fs::write(&source, "#[unsafe(no_mangle)] pub extern \"C\" fn f() { println!(); }").unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=staticlib", "--print=native-static-libs", "--out-dir"])
        .args([dir.path(), &source])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let theirs = text.lines().find_map(|line| line.split_once("native-static-libs: ")).unwrap().1;
    assert_eq!(ours.trim(), theirs.trim());
}
