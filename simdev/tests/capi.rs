//! The C header, compiled by a C compiler against the static library.

use std::path::Path;
use std::process::Command;

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{command:?}:\n{text}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn a_c_client() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // A target directory of its own: cargo holds the lock of the other one while tests run.
    let target = tmp.join("staticlib");
    run(Command::new(env!("CARGO"))
        .args([
            "rustc",
            "-q",
            "--offline",
            "-p",
            "simdev",
            "--lib",
            "--features",
            "capi",
            "--crate-type",
            "staticlib",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(here));
    let archive = tmp.join("libsimdev.a");
    run(Command::new(here.join("archive.sh")).arg(target.join("debug/libsimdev.a")).arg(&archive));
    let symbols = run(Command::new("nm").args(["-g", "--defined-only"]).arg(&archive));
    let foreign = symbols
        .lines()
        .filter_map(|l| l.split(' ').nth(2))
        .find(|name| !name.starts_with("simdev_") && !name.starts_with("DW.ref."));
    assert_eq!(foreign, None, "nothing else is visible");
    let program = tmp.join("smoke");
    run(Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-I"])
        .arg(here.join("include"))
        .arg("-I")
        .arg(here.join("../include"))
        .arg(here.join("tests/smoke.c"))
        .arg(&archive)
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program));
    assert_eq!(run(&mut Command::new(&program)), "ok\n");
}
