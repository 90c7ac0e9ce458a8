//! A reset, in each state.

use super::subject::Subject;
use super::table::Need::{P2p, PreCopy, Reset, V2};
use super::table::{Check, Need, Result, Run::Do, fail, pass, quirk};
use crate::text::count;
use vfiomig::dialect::State;

const COST: &str = "a device that went wrong cannot be used again without ending its VM";

const fn check(name: &'static str, needs: &'static [Need], run: fn(&mut Subject) -> Result) -> Check {
    Check {
        name,
        rule: "V2-14",
        about: "a reset leads to RUNNING, and ends the session",
        cost: COST,
        needs,
        run: Do(run),
    }
}

/// One row for each state.
pub const CHECKS: &[Check] = &[
    check("reset-in-running", &[V2, Reset], |subject| in_state(subject, State::Running)),
    check("reset-in-stop", &[V2, Reset], |subject| in_state(subject, State::Stop)),
    check("reset-in-stop-copy", &[V2, Reset], |subject| in_state(subject, State::StopCopy)),
    check("reset-in-resuming", &[V2, Reset], |subject| in_state(subject, State::Resuming)),
    check("reset-in-running-p2p", &[V2, Reset, P2p], |subject| in_state(subject, State::RunningP2p)),
    check("reset-in-pre-copy", &[V2, Reset, PreCopy], |subject| in_state(subject, State::PreCopy)),
    check("reset-in-pre-copy-p2p", &[V2, Reset, PreCopy, P2p], |subject| in_state(subject, State::PreCopyP2p)),
];

fn in_state(subject: &mut Subject, state: State) -> Result {
    subject.v2()?.set(state)?;
    let done = subject.reset();
    // A server keeps its state by its own rule (U-10), and refuses the reset while it stands still.
    let servers = !subject.kernel;
    match done {
        Err(errno) if servers && matches!(state, State::Stop | State::StopCopy) => {
            return quirk(format!("refused in {state}: {errno} (K24)"));
        }
        Err(errno) => return fail(format!("it failed in {state}: {errno}")),
        Ok(()) => {}
    }
    let reads_fail = subject.blamed.contains_key(super::client::READING);
    let client = subject.v2()?;
    let now = client.state()?;
    if now != State::Running {
        let text = format!("after a reset in {state} it is in {now}");
        return if servers { quirk(format!("{text} (K24)")) } else { fail(text) };
    }
    let Some(mut dead) = client.session.take() else { return pass(format!("in {state}")) };
    if state == State::Resuming || reads_fail {
        // A write to the data fd of a session that has ended may crash the host (K10); reads that fail anyway show nothing.
        return pass(format!("in {state}"));
    }
    match dead.read(&mut [0; 64]) {
        Ok(len) if len > 0 => {
            fail(format!("the data fd of a session that a reset in {state} has ended brings {}", count(len, "byte")))
        }
        Ok(_) => quirk(format!("in {state}; a read of the old data fd answers 0, and not ENODEV")),
        Err(errno) if errno.get() == libc::ENODEV => pass(format!("in {state}; the old data fd says {errno}")),
        Err(_) if servers => pass(format!("in {state}")),
        Err(errno) => quirk(format!("in {state}; the old data fd says {errno}, and not ENODEV")),
    }
}
