//! v1, and the draft: registers, states and segments of a save.

use super::subject::Subject;
use super::table::Need::{Danger, Image, P2p, Reset, V1};
use super::table::{Check, Need, Result, Run::Do, Run::Step, fail, pass, quirk};
use super::v1_load;
use crate::text::count;
use vfiomig::dialect::State;

const CANNOT: &str = "the guest cannot be migrated, or stands still where it was";

const fn step(name: &'static str, needs: &'static [Need], from: State, to: State) -> Check {
    Check {
        name,
        rule: "V1-3",
        about: "the change succeeds, and device_state says so",
        cost: CANNOT,
        needs,
        run: Step(from, to),
    }
}

const fn reset(name: &'static str, run: fn(&mut Subject) -> Result) -> Check {
    Check {
        name,
        rule: "N16",
        about: "a reset leads to RUNNING",
        cost: "a device that went wrong cannot be used again without ending its VM",
        needs: &[V1, Reset],
        run: Do(run),
    }
}

/// What is checked of a device with a migration region.
pub const CHECKS: &[Check] = &[
    Check {
        name: "v1-region",
        rule: "V1-14",
        about: "the migration region has room for its registers and for data",
        cost: "the VMM does not find it",
        needs: &[V1],
        run: Do(region),
    },
    step("v1-running-to-stop", &[V1], State::Running, State::Stop),
    step("v1-stop-to-running", &[V1], State::Stop, State::Running),
    step("v1-running-to-stop-copy", &[V1], State::Running, State::StopCopy),
    step("v1-stop-copy-to-stop", &[V1], State::StopCopy, State::Stop),
    step("v1-running-to-pre-copy", &[V1], State::Running, State::PreCopy),
    step("v1-pre-copy-to-running", &[V1], State::PreCopy, State::Running),
    step("v1-pre-copy-to-stop-copy", &[V1], State::PreCopy, State::StopCopy),
    step("v1-running-to-running-p2p", &[V1, P2p], State::Running, State::RunningP2p),
    step("v1-running-p2p-to-stop-copy", &[V1, P2p], State::RunningP2p, State::StopCopy),
    Check {
        name: "v1-reserved-bits",
        rule: "V1-1",
        about: "reserved bits of device_state stay as they are",
        cost: "what the driver keeps there is lost",
        needs: &[V1],
        run: Do(reserved),
    },
    Check {
        name: "v1-save",
        rule: "V1-8",
        about: "in STOP_COPY segments come until pending_bytes is 0",
        cost: "the guest's device cannot be saved",
        needs: &[V1],
        run: Do(save),
    },
    Check {
        name: "v1-wide-access",
        rule: "V1-12",
        about: "the data section takes accesses of any length",
        cost: "a VMM that moves a segment in one call cannot save or load the device; in words it takes longer",
        needs: &[V1, Image],
        run: Do(wide_access),
    },
    Check {
        name: "v1-pre-copy",
        rule: "V1-5",
        about: "PRE_COPY is taken, and the stream goes on in STOP_COPY",
        cost: "what was sent before the switch-over is void, or lost",
        needs: &[V1],
        run: Do(pre_copy),
    },
    step("v1-running-to-resuming", &[V1], State::Running, State::Resuming),
    reset("v1-reset-in-running", |subject| reset_in(subject, State::Running)),
    reset("v1-reset-in-pre-copy", |subject| reset_in(subject, State::PreCopy)),
    reset("v1-reset-in-stop-copy", |subject| reset_in(subject, State::StopCopy)),
    reset("v1-reset-in-resuming", |subject| reset_in(subject, State::Resuming)),
    Check {
        name: "v1-odd-state",
        rule: "W6",
        about: "SAVING with RESUMING is refused, or leads to ERROR",
        cost: "nothing with a VMM that is right",
        needs: &[V1, Danger],
        run: Do(odd_state),
    },
];

/// Makes one step, and what has to come before it.
pub fn one(subject: &mut Subject, from: State, to: State) -> Result {
    let registers = subject.v1()?;
    registers.set(from)?;
    if from == State::StopCopy {
        registers.read_segments()?;
    }
    registers.set(to)?;
    if to == State::Resuming {
        subject.tainted = subject.can_reset;
    }
    pass(format!("{from} to {to}"))
}

fn region(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    let text = count(registers.size, "byte");
    if registers.size > registers.registers_end() { pass(text) } else { fail(text) }
}

fn reserved(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    let before = registers.bits()? & !0xf;
    registers.set(State::Stop)?;
    registers.set(State::Running)?;
    let after = registers.bits()? & !0xf;
    if before == after { pass(format!("{before:#x}")) } else { fail(format!("{before:#x} before, {after:#x} after")) }
}

fn save(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    registers.set(State::StopCopy)?;
    let (bytes, ends) = registers.read_segments()?;
    registers.set(State::Stop)?;
    let text = format!("{} in {}", count(bytes.len(), "byte"), count(ends.len(), "segment"));
    let empty = bytes.is_empty();
    (subject.image, subject.segments) = (Some(bytes), ends);
    if empty { quirk("the stream is empty") } else { pass(text) }
}

fn wide_access(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    let Some((len, errno)) = registers.refused.take() else { return pass("none was refused") };
    let refused = format!("an access of {} was refused: {errno}", count(len, "byte"));
    // Was it the length? The same save once more shows it.
    v1_load::save(registers)?;
    match registers.refused.get() {
        Some(_) => quirk(format!("{refused}; words of 8 bytes are taken (the library's quirk aligned_access)")),
        None => fail(format!("{refused}; the next time it was not")),
    }
}

fn pre_copy(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    registers.set(State::PreCopy)?;
    let (before, _) = registers.read_segments()?;
    registers.set(State::StopCopy)?;
    let (after, _) = registers.read_segments()?;
    registers.set(State::Stop)?;
    let text = format!("{} in PRE_COPY, {} in STOP_COPY", count(before.len(), "byte"), after.len());
    if before.is_empty() && after.is_empty() { fail(text) } else { pass(text) }
}

fn reset_in(subject: &mut Subject, state: State) -> Result {
    subject.v1()?.set(state)?;
    let done = subject.reset();
    let now = subject.v1()?.state()?;
    match done {
        Err(errno) if !subject.kernel => quirk(format!("refused in {state}: {errno} (K24)")),
        Err(errno) => fail(format!("it failed in {state}: {errno}")),
        Ok(()) if now == State::Running => pass(format!("in {state}")),
        Ok(()) => fail(format!("after a reset in {state} it is in {now}")),
    }
}

fn odd_state(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    let written = registers.write_bits(6);
    let now = registers.state()?;
    subject.tainted = subject.can_reset;
    match (written, now) {
        (Err(errno), now) => pass(format!("{errno}; it is in {now}")),
        (Ok(()), State::Error) => pass("it is in ERROR"),
        (Ok(()), now) => fail(format!("it is taken, and the device is in {now}")),
    }
}
