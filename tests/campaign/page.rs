//! The tables of docs/reliability.md, and whether they are what the run has found.

use crate::fleet::most;
use crate::kinds::KINDS;
use crate::operations::{OPERATIONS, Operation};
use crate::outcome::OUTCOMES;
use crate::plan::{Case, Ended};
use std::path::{Path, PathBuf};

/// Where a table is: behind `<!-- campaign NAME -->`.
const TABLES: [(&str, &str, Rows); 4] = [
    ("operations", "operation", by_operation),
    ("devices", "devices", by_devices),
    ("faults", "fault", by_kind),
    ("calls", "call", by_call),
];

/// The name of a case's row.
type Rows = fn(&Case) -> String;

fn by_operation(case: &Case) -> String {
    case.operation.name()
}

/// One kind of device with its like is one row.
fn by_devices(case: &Case) -> String {
    case.fleet
        .split_once(" × ")
        .map_or_else(|| case.fleet.clone(), |(_, model)| format!("1 to {} × {model}", most(model)))
}

fn by_kind(case: &Case) -> String {
    case.kind.name().to_string()
}

fn by_call(case: &Case) -> String {
    format!("{:?}", case.call.access)
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md")
}

/// The rows of a table in the order in which they first come: how many faults there are, how many of them are counted, and how
/// those ended.
fn count(cases: &[Case], row: Rows, counted: fn(&Case) -> bool) -> Vec<(String, Vec<usize>)> {
    let mut rows: Vec<(String, Vec<usize>)> = Vec::new();
    let mut all = vec![0; OUTCOMES.len() + 3];
    for case in cases {
        let ended = match &case.ended {
            _ if !counted(case) => None,
            Ended::NotRun => None,
            Ended::As(outcome) => OUTCOMES.iter().position(|known| known == outcome),
            Ended::Other(_) => Some(OUTCOMES.len()),
        };
        let name = row(case);
        let at = rows.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            rows.push((name, vec![0; OUTCOMES.len() + 3]));
            rows.len() - 1
        });
        for counts in [&mut rows[at].1, &mut all] {
            counts[0] += 1;
            counts[1] += usize::from(ended.is_some());
            ended.into_iter().for_each(|column| counts[column + 2] += 1);
        }
    }
    rows.push(("all".into(), all));
    rows
}

fn table(head: &str, rows: &[(String, Vec<usize>)]) -> String {
    let names = OUTCOMES.map(|outcome| outcome.name());
    let mut lines = vec![format!("| {head} | faults | tried | {} | any other |", names.join(" | "))];
    lines.push(format!("|---|{}", "---|".repeat(OUTCOMES.len() + 3)));
    for (name, counts) in rows {
        let cells: Vec<String> = counts.iter().map(usize::to_string).collect();
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    }
    lines.join("\n") + "\n"
}

/// What is before a table, the table, and what is behind it.
fn parts<'a>(page: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let begin = format!("<!-- campaign {name} -->\n");
    let at = page.find(&begin).unwrap_or_else(|| panic!("docs/reliability.md has no {begin}")) + begin.len();
    let len = page[at..].find("<!-- end -->").unwrap_or_else(|| panic!("the table {name} has no end"));
    (&page[..at], &page[at..at + len], &page[at + len..])
}

/// Holds the page to the run, or writes what was run.
pub fn check(cases: &[Case], full: bool) {
    let mut page = std::fs::read_to_string(path()).unwrap();
    let bless = std::env::var_os("VFIOMIG_BLESS").is_some();
    for (name, head, row) in TABLES {
        let sample = table(head, &count(cases, row, Case::in_sample));
        let (before, on_page, behind) = parts(&page, name);
        if bless {
            page = [before, &sample, behind].concat();
        } else {
            assert!(
                on_page == sample,
                "docs/reliability.md, table {name}: VFIOMIG_BLESS=1 cargo test --test campaign writes it. It is now\n{sample}"
            );
        }
        if full {
            println!("{}", table(head, &count(cases, row, |_| true)));
        }
    }
    if bless {
        std::fs::write(path(), &page).unwrap();
    }
    let sample = || cases.iter().filter(|case| case.in_sample());
    assert!(cases.len() > 10_000 && sample().count() > 1000, "too few faults: {}", cases.len());
    assert!(KINDS.iter().all(|kind| sample().any(|case| case.kind == *kind)), "a kind is not in the sample");
    let tried = |operation: &Operation| sample().any(|case| case.operation == *operation);
    assert!(OPERATIONS.iter().all(tried), "an operation is not in the sample");
}
