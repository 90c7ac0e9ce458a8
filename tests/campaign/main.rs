//! The fault campaign: docs/reliability.md. A fault at call k of device d, for every k and d, in save, load, pause, resume and
//! abort, in every dialect, with 1 to 4 devices, alike and mixed, one after another and side by side. Each end has a name; one
//! that has none fails the test, with what repeats it. What holds after every fault is docs/faults.md, and `judge` asks for it.
//!
//! Without variables it runs a fixed sample and holds the page to it, or with VFIOMIG_BLESS=1 writes it there. VFIOMIG_CAMPAIGN=full
//! runs every fault (`make campaign`). VFIOMIG_CAMPAIGN_CASE="words of a case" runs the faults whose line has them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod fleet;
mod judge;
mod kinds;
mod operations;
mod outcome;
mod page;
mod plan;
#[path = "../common/rig.rs"]
mod rig;

use plan::{Case, Choice, Ended};

#[test]
fn every_fault_has_a_named_end() {
    let full = std::env::var("VFIOMIG_CAMPAIGN").is_ok_and(|value| value == "full");
    let words = std::env::var("VFIOMIG_CAMPAIGN_CASE").ok();
    let choice = match &words {
        Some(words) => Choice::With(words),
        None if full => Choice::All,
        None => Choice::Sample,
    };
    let cases = plan::run(choice);
    let other: Vec<&Case> = cases.iter().filter(|case| matches!(case.ended, Ended::Other(_))).collect();
    if let Some(words) = &words {
        cases.iter().filter(|case| case.ended != Ended::NotRun).for_each(|case| println!("{case}"));
        assert!(cases.iter().any(|case| case.ended != Ended::NotRun), "no fault has the words {words:?}");
    }
    let lines: Vec<String> = other.iter().take(40).map(ToString::to_string).collect();
    assert!(
        other.is_empty(),
        "{} faults without a named end; VFIOMIG_CAMPAIGN_CASE=\"the line up to its colon\" repeats one:\n{}",
        other.len(),
        lines.join("\n")
    );
    if matches!(choice, Choice::With(_)) {
        return;
    }
    page::check(&cases, full);
}
