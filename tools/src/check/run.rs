//! Makes the checks, one after another. A request that fails is reported once, by the check that met it first; those behind it
//! that need the request are skipped, with the name of that check.

use super::subject::{Speaks, Subject};
use super::table::{self, Check, Result, Run, Stop, Verdict};
use super::{arcs, v1};
use crate::signals;
use std::time::{Duration, Instant};
use vfiomig::transport::requests;

/// A check that was made.
pub struct Checked {
    /// The row of the table.
    pub check: &'static Check,
    /// What the check found.
    pub verdict: Verdict,
    /// The rule that was broken, where it is another one than the check's.
    pub rule: &'static str,
    /// How long it took.
    pub time: Duration,
}

/// Makes all checks, and hands over each result as it comes; at the end the device has the state that it had.
pub fn run(subject: &mut Subject, show: &mut dyn FnMut(&Checked)) -> Vec<Checked> {
    let mut all = Vec::new();
    for check in table::all() {
        let begun = Instant::now();
        let (verdict, rule) = one(subject, check);
        let checked = Checked { check, verdict, rule, time: begun.elapsed() };
        show(&checked);
        all.push(checked);
    }
    subject.restore();
    if let Some(second) = &mut subject.second {
        second.restore();
    }
    all
}

fn one(subject: &mut Subject, check: &'static Check) -> (Verdict, &'static str) {
    let skip = |text: String| (Verdict::Skip(text), check.rule);
    if signals::interrupted() {
        return skip("interrupted".into());
    }
    if let Some(lost) = &subject.lost {
        return skip(format!("the device cannot be asked any more: {lost}"));
    }
    if let Some(why) = check.needs.iter().find_map(|need| subject.lacks(*need)) {
        return skip(why.into());
    }
    let verdict = made(make(subject, check), subject);
    match verdict {
        Ok(verdict) => (verdict, check.rule),
        Err(Stop { rule, blame, text }) => match subject.blamed.get(&blame) {
            Some(before) => skip(format!("{blame} has failed before: see {before}")),
            None => {
                subject.blamed.insert(blame, check.name);
                (Verdict::Fail(text), rule)
            }
        },
    }
}

fn make(subject: &mut Subject, check: &Check) -> Result {
    match check.run {
        Run::Do(function) => function(subject),
        Run::Step(from, to) if matches!(subject.speaks, Speaks::V2(_)) => arcs::one(subject, from, to),
        Run::Step(from, to) => v1::one(subject, from, to),
    }
}

/// Brings the device back. A check has not passed if nothing brings the device back behind it.
fn made(verdict: Result, subject: &mut Subject) -> Result {
    if verdict.is_err() && subject.has_log {
        // The next check could not start a log where this one left its own on.
        let _ = requests::stop(subject.transport());
    }
    subject.settle();
    let trouble = subject.trouble.take();
    let lost = subject.lost.as_ref().map(|lost| {
        let text = format!("behind the check nothing brings the device back to RUNNING: {lost}");
        Stop { rule: "N16", blame: "the way back".into(), text }
    });
    match (verdict, trouble.or(lost)) {
        (Ok(Verdict::Pass(_) | Verdict::Quirk(_) | Verdict::Skip(_)), Some(stop))
            if !subject.blamed.contains_key(&stop.blame) =>
        {
            Err(stop)
        }
        (verdict, _) => verdict,
    }
}
