//! What benches share: which machine they run on, which cases are wanted, how often a case is repeated, and results as a table
//! for people and as JSON, of which benches/tables.py makes docs/performance.md.
//!
//! `make bench BENCH="ranges"` runs the cases whose names have one of these words. VFIOMIG_BENCH_JSON names a file that gets a
//! line for each result.

#![allow(dead_code, reason = "each bench takes what it needs")]

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write as _;

/// What two halves of the rounds may differ by.
const QUIET: f64 = 1.05;

/// `cargo test` builds and runs benches with --test: one small round shows that they work.
pub fn is_test() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

/// Whether the case was asked for, or none was.
pub fn is_wanted(case: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| case.contains(&word))
}

/// The processor's own name for itself, and the widths of its vectors.
pub fn machine() -> (String, &'static str) {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.trim()));
    (name.unwrap_or(std::env::consts::ARCH).to_string(), vectors())
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2")) {
        (true, _) => "512 bits, of which 256 are used",
        (_, true) => "256 bits",
        _ => "128 bits",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    "as the target has them"
}

/// A table: cases and figures, one line each.
pub struct Table {
    name: &'static str,
    json: Option<File>,
    has_head: bool,
}

impl Table {
    pub fn new(name: &'static str) -> Self {
        let path = std::env::var_os("VFIOMIG_BENCH_JSON").filter(|_| !is_test());
        let json =
            path.map(|path| OpenOptions::new().create(true).append(true).open(path).expect("VFIOMIG_BENCH_JSON"));
        Table { name, json, has_head: false }
    }

    pub fn line(&mut self, case: &[(&str, &str)], figures: &[(&str, f64)]) {
        let number = |figure: f64| {
            format!(
                "{figure:.*}",
                if figure < 0.1 {
                    4
                } else if figure < 100.0 {
                    2
                } else {
                    0
                }
            )
        };
        if !self.has_head {
            let (name, vectors) = machine();
            println!("\n{}, on {name}, vectors: {vectors}", self.name);
            let head = case.iter().map(|(name, _)| *name).chain(figures.iter().map(|(name, _)| *name));
            println!("{}", head.map(|name| format!("{name:>14}")).collect::<String>());
            self.has_head = true;
        }
        let cells = case.iter().map(|(_, value)| (*value).to_string()).chain(figures.iter().map(|(_, f)| number(*f)));
        println!("{}", cells.map(|cell| format!("{cell:>14}")).collect::<String>());
        if let Some(json) = &mut self.json {
            writeln!(json, "{}", line_of_json(self.name, case, figures)).expect("VFIOMIG_BENCH_JSON");
        }
    }
}

fn line_of_json(table: &str, case: &[(&str, &str)], figures: &[(&str, f64)]) -> String {
    let (processor, vectors) = machine();
    let mut line =
        format!("{{\"table\": {table:?}, \"processor\": {processor:?}, \"vectors\": {vectors:?}, \"case\": {{");
    for (at, (name, value)) in case.iter().enumerate() {
        write!(line, "{}{name:?}: {value:?}", if at == 0 { "" } else { ", " }).expect("a string");
    }
    line.push_str("}, \"figures\": {");
    for (at, (name, figure)) in figures.iter().enumerate() {
        write!(line, "{}{name:?}: {figure:.5}", if at == 0 { "" } else { ", " }).expect("a string");
    }
    line.push_str("}}");
    line
}

/// The number in the middle.
pub fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Runs all of the works in turns, `rounds` times, then as often again until each one's halves differ by less than 5 %, at most
/// eight times as often. Medians, and the largest difference: from 1.05 on it is the noise that figures have.
pub fn steady<const N: usize>(rounds: usize, mut round: impl FnMut(usize) -> f64) -> ([f64; N], f64) {
    let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    let rounds = if is_test() { 1 } else { rounds.max(3) };
    for pass in 0..8 {
        for _ in 0..rounds {
            times.iter_mut().enumerate().for_each(|(work, times)| times.push(round(work)));
        }
        if is_test() || pass > 0 && noise(&times) < QUIET {
            break;
        }
    }
    (std::array::from_fn(|work| median(&times[work])), noise(&times))
}

fn noise(times: &[Vec<f64>]) -> f64 {
    let of_one = |times: &Vec<f64>| {
        // Every other round: what changes slowly is in both halves.
        let half = |odd: usize| median(&times.iter().skip(odd).step_by(2).copied().collect::<Vec<_>>());
        let (a, b) = (half(0), half(1));
        if a > 0.0 && b > 0.0 { f64::max(a / b, b / a) } else { 1.0 }
    };
    times.iter().map(of_one).fold(1.0, f64::max)
}

/// Seconds that this thread ran: what others run on the machine counts as little as it can.
pub fn clock() -> f64 {
    // SAFETY: integers only.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) }, 0);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

pub fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = clock();
    let result = black_box(work());
    (clock() - begun, result)
}

/// Functions that are compiled for the machine as it is, as the library's loops are.
#[macro_export]
macro_rules! for_this_machine {
    ($(fn $name:ident$([$($generic:tt)*])?($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        fn $name$(<$($generic)*>)?($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn wide$(<$($generic)*>)?($($arg: $type),*) $(-> $result)? $body
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the instructions.
                    return unsafe { wide($($arg),*) };
                }
            }
            $body
        }
    )*};
}
