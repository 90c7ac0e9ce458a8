//! What came of the checks: as TAP, as JSON, and as a summary that can be pasted into a report.

use super::rules;
use super::run::Checked;
use super::table::Verdict;
use serde_json::{Value, json};

/// The word for a verdict, and what was seen.
pub fn words(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Pass(text) => ("pass", text),
        Verdict::Fail(text) => ("fail", text),
        Verdict::Quirk(text) => ("quirk", text),
        Verdict::Skip(text) => ("skip", text),
    }
}

/// One line of TAP, with what a failure needs below it.
pub fn tap(number: usize, checked: &Checked) -> String {
    let (word, seen) = words(&checked.verdict);
    let name = format!("{} ({})", checked.check.name, checked.rule);
    // A # would begin a directive.
    let seen = seen.replace('#', "No. ").replace('\n', " ");
    match word {
        "pass" => format!("ok {number} - {name}: {seen}"),
        "skip" => format!("ok {number} - {name} # SKIP {seen}"),
        "quirk" => format!("ok {number} - {name}: quirk: {seen}"),
        _ => {
            let rule = rules::rule(checked.rule);
            format!(
                "not ok {number} - {name}: {seen}\n  ---\n  right: {}\n  rule: {} {}\n  source: {}\n  cost: {}\n  ...",
                json!(checked.check.about),
                checked.rule,
                json!(rule.says),
                json!(rule.source),
                json!(checked.check.cost)
            )
        }
    }
}

/// The results, for programs.
pub fn json(all: &[Checked]) -> Value {
    let rows: Vec<Value> = all
        .iter()
        .map(|checked| {
            let (word, seen) = words(&checked.verdict);
            let mut row = json!({
                "check": checked.check.name, "rule": checked.rule, "result": word, "seen": seen,
                "right": checked.check.about, "us": u64::try_from(checked.time.as_micros()).unwrap_or(u64::MAX),
            });
            if word == "fail" {
                let rule = rules::rule(checked.rule);
                let more = json!({"says": rule.says, "source": rule.source, "cost": checked.check.cost});
                crate::facts::merge(&mut row, &more);
            }
            row
        })
        .collect();
    json!({"checks": rows, "counts": counts(all)})
}

/// How many checks have each result.
pub fn counts(all: &[Checked]) -> Value {
    let count = |wanted: &str| all.iter().filter(|checked| words(&checked.verdict).0 == wanted).count();
    json!({"pass": count("pass"), "fail": count("fail"), "quirk": count("quirk"), "skip": count("skip")})
}

/// The summary, for a report: counts, failures and quirks.
pub fn summary(device: &str, all: &[Checked]) -> Vec<String> {
    let counts = counts(all);
    let number = |key: &str| counts.get(key).and_then(Value::as_u64).unwrap_or(0);
    let mut lines = vec![format!(
        "{device}: {} passed, {} failed, {}, {} skipped (vfiomig {})",
        crate::text::count(number("pass"), "check"),
        number("fail"),
        crate::text::count(number("quirk"), "quirk"),
        number("skip"),
        env!("CARGO_PKG_VERSION")
    )];
    for checked in all {
        match &checked.verdict {
            Verdict::Fail(seen) => {
                lines.push(format!("  FAIL {} ({}): {seen}", checked.check.name, checked.rule));
                lines.push(format!("       right: {}; otherwise {}", checked.check.about, checked.check.cost));
            }
            Verdict::Quirk(seen) => lines.push(format!("  quirk {} ({}): {seen}", checked.check.name, checked.rule)),
            _ => {}
        }
    }
    lines
}
