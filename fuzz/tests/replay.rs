//! Every committed input runs once more: those that reach what can be reached, and each that ever found something. No libFuzzer,
//! so they run wherever the tests run; `make fuzz` runs them under AddressSanitizer, too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

/// Waits and requests are counted for the whole program.
static ONE: Mutex<()> = Mutex::new(());

fn replay(target: &str, run: fn(&[u8])) {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = Vec::new();
    for kind in ["corpus", "regressions"] {
        let Ok(folder) = home.join(kind).join(target).read_dir() else { continue };
        inputs.extend(folder.map(|entry| entry.unwrap().path()));
    }
    inputs.sort();
    assert!(inputs.len() > 20, "{target}: only {} inputs", inputs.len());
    let mut failed = Vec::new();
    for input in inputs {
        let data = std::fs::read(&input).unwrap();
        if catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
            failed.push(input.strip_prefix(home).unwrap().display().to_string());
        }
    }
    assert!(failed.is_empty(), "{target}: {failed:?}");
}

macro_rules! targets {
    ($($name:ident)*) => { $(#[test] fn $name() { replay(stringify!($name), kit::targets::$name::run); })* };
}

targets!(probe session region tracker migration bitmap capi vfio_user wire);
