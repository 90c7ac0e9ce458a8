//! The steps of the state machine, and requests of more than one step.

use super::client::number;
use super::subject::Subject;
use super::table::Need::{Danger, Image, NoP2p, P2p, PreCopy, V2};
use super::table::{Check, Need, Result, Run::Do, Run::Step, fail, pass, quirk};
use crate::text::count;
use vfiomig::dialect::State;

const CANNOT: &str = "the guest cannot be migrated, or stands still where it was";

const fn step(name: &'static str, needs: &'static [Need], from: State, to: State) -> Check {
    Check {
        name,
        rule: "V2-12",
        about: "the step succeeds, and the state says so",
        cost: CANNOT,
        needs,
        run: Step(from, to),
    }
}

/// Each step that drivers see, but RESUMING to STOP, which is checked by loads.
pub const STEPS: &[Check] = &[
    step("running-to-running-p2p", &[V2, P2p], State::Running, State::RunningP2p),
    step("running-p2p-to-running", &[V2, P2p], State::RunningP2p, State::Running),
    step("running-p2p-to-stop", &[V2, P2p], State::RunningP2p, State::Stop),
    step("stop-to-running-p2p", &[V2, P2p], State::Stop, State::RunningP2p),
    step("running-to-stop", &[V2, NoP2p], State::Running, State::Stop),
    step("stop-to-running", &[V2, NoP2p], State::Stop, State::Running),
    step("stop-to-stop-copy", &[V2], State::Stop, State::StopCopy),
    step("stop-copy-to-stop", &[V2], State::StopCopy, State::Stop),
    step("running-to-pre-copy", &[V2, PreCopy], State::Running, State::PreCopy),
    step("pre-copy-to-running", &[V2, PreCopy], State::PreCopy, State::Running),
    step("pre-copy-to-stop-copy", &[V2, PreCopy, NoP2p], State::PreCopy, State::StopCopy),
    step("running-p2p-to-pre-copy-p2p", &[V2, PreCopy, P2p], State::RunningP2p, State::PreCopyP2p),
    step("pre-copy-p2p-to-running-p2p", &[V2, PreCopy, P2p], State::PreCopyP2p, State::RunningP2p),
    step("pre-copy-to-pre-copy-p2p", &[V2, PreCopy, P2p], State::PreCopy, State::PreCopyP2p),
    step("pre-copy-p2p-to-pre-copy", &[V2, PreCopy, P2p], State::PreCopyP2p, State::PreCopy),
    step("pre-copy-p2p-to-stop-copy", &[V2, PreCopy, P2p], State::PreCopyP2p, State::StopCopy),
];

/// These come behind the checks of a save: a load that gets no bytes is left by a reset alone (V2-9), which changes the state.
pub const LOAD_STEPS: &[Check] = &[step("stop-to-resuming", &[V2], State::Stop, State::Resuming)];

/// Requests that are no single step.
pub const REQUESTS: &[Check] = &[
    Check {
        name: "same-state",
        rule: "V2-4",
        about: "to ask for the state that it is in succeeds, and brings no data fd",
        cost: "the VMM loses the session that it has, and with it the stream",
        needs: &[V2],
        run: Do(same_state),
    },
    Check {
        name: "paths",
        rule: "V2-12",
        about: "a request for a state that is several steps away succeeds",
        cost: CANNOT,
        needs: &[V2],
        run: Do(paths),
    },
    Check {
        name: "session-stays",
        rule: "V2-4",
        about: "from PRE_COPY to STOP_COPY there is one data fd, and one stream",
        cost: "what was sent before the switch-over is void, or lost",
        needs: &[V2, PreCopy, Image],
        run: Do(session_stays),
    },
    Check {
        name: "leave-before-end",
        rule: "F5",
        about: "STOP_COPY can be left before the end of the stream, as a VMM that gives up does",
        cost: "a migration that was given up takes as long as a whole one before the guest runs again",
        needs: &[V2],
        run: Do(leave_before_end),
    },
    Check {
        name: "stop-copy-to-pre-copy",
        rule: "V2-1",
        about: "STOP_COPY is not left for PRE_COPY: it is refused, and returns",
        cost: "nothing with a VMM that is right; on Linux 6.2 to 6.12.95 the thread never comes back",
        needs: &[V2, PreCopy, Danger],
        run: Do(back_to_pre_copy),
    },
    Check {
        name: "error-asked-for",
        rule: "V2-1",
        about: "a request for ERROR is refused",
        cost: "nothing with a VMM that is right",
        needs: &[V2, Danger],
        run: Do(error_asked_for),
    },
];

/// Makes one step, and what has to come before it.
pub fn one(subject: &mut Subject, from: State, to: State) -> Result {
    let client = subject.v2()?;
    client.set(from)?;
    if from == State::StopCopy {
        // F5: the state is left behind the end of the stream.
        client.read_to_end(&[1 << 16])?;
    }
    client.set(to)?;
    if to == State::StopCopy {
        client.read_to_end(&[1 << 16])?;
    }
    if to == State::Resuming {
        subject.tainted = subject.can_reset;
    }
    pass(format!("{from} to {to}"))
}

fn same_state(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    let states = [State::Running, State::PreCopy, State::RunningP2p, State::StopCopy, State::Stop];
    for state in states.into_iter().filter(|state| client.caps.has(*state)).collect::<Vec<_>>() {
        // PRE_COPY is left for RUNNING, and not thrown away on a longer way (V2-2).
        if client.state()?.is_precopy() {
            client.set(State::Running)?;
        }
        if client.state()? == State::StopCopy {
            client.read_to_end(&[1 << 16])?;
        }
        client.set(state)?;
        match client.try_set(number(state)) {
            Ok(answer) if client.kernel && answer.number >= 0 => {
                return fail(format!("{state} while in {state} brings the data fd {}", answer.number));
            }
            Ok(_) => {}
            Err(errno) => return fail(format!("{state} while in {state} fails: {errno}")),
        }
    }
    pass("in every state that a save has")
}

fn paths(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    for to in [State::Stop, State::Running, State::StopCopy, State::Running] {
        if client.state()? == State::StopCopy {
            client.read_to_end(&[1 << 16])?;
        }
        client.set(to)?;
    }
    pass("RUNNING to STOP and back, to STOP_COPY and back")
}

fn session_stays(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::PreCopy)?;
    let (before, _) = client.read_for_now(std::time::Duration::from_secs(2))?;
    if client.caps.p2p {
        client.set(State::PreCopyP2p)?;
    }
    client.set(State::StopCopy)?;
    let after = client.read_to_end(&[1 << 16])?;
    client.set(State::Stop)?;
    pass(format!("{} in PRE_COPY, {} in STOP_COPY, by one data fd", count(before.len(), "byte"), after.len()))
}

fn leave_before_end(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    client.read(&mut [0; 64])?;
    client.session = None;
    match client.try_set(number(State::Stop)) {
        Ok(_) => {
            client.set(State::Running)?;
            pass("STOP, and RUNNING")
        }
        Err(errno) => {
            // The way out is a reset.
            subject.tainted = subject.can_reset;
            quirk(format!("STOP is refused before the end of the stream: {errno} (K6)"))
        }
    }
}

fn back_to_pre_copy(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    client.read_to_end(&[1 << 16])?;
    if client.try_set(number(State::PreCopy)).is_ok() {
        return fail("the request succeeds");
    }
    let now = client.state()?;
    if now == State::StopCopy {
        pass("refused, and it stays in STOP_COPY")
    } else {
        fail(format!("refused, and it is in {now}"))
    }
}

fn error_asked_for(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    if client.try_set(number(State::Error)).is_ok() {
        return fail("the request for ERROR succeeds");
    }
    let now = client.state()?;
    if now == State::Running {
        pass("refused, and it stays in RUNNING")
    } else {
        fail(format!("refused, and it is in {now}"))
    }
}
