//! The destination: from IDLE to RUNNING.

use crate::counts::Counts;
use crate::judge::{check_error, take_note};
use crate::machine::Machine;
use crate::plan::{LoadPlan, Mover, Set};
use crate::save::{Sent, migration};
use vfiomig::dialect::{Direction, State};
use vfiomig::error::{Error, ErrorKind, Result};
use vfiomig::migration::{AbortTo, Fed, LoadStep, Migration, Phase};
use vfiomig::wire::Input;

pub enum Loaded {
    Yes,
    /// The guest stays at the source; whether the destination's devices had a fault.
    No(Error, bool),
}

/// A load, and what has to be so behind it.
pub fn load(machine: &mut Machine, plan: &LoadPlan, sent: &Sent, counts: &mut Counts) -> Loaded {
    let load = migration(machine, Direction::Load, plan.mover);
    let set: Vec<Set> =
        plan.troubles.iter().map(|trouble| trouble.set(&machine.members[trouble.device].fake)).collect();
    let loaded = run(machine, &load, plan, sent);
    take_note(machine, &set);
    let Err(error) = loaded else {
        load.close().unwrap();
        return Loaded::Yes;
    };
    let given_up = plan.gives_up && load.phase() != Phase::Failed;
    check_blame(machine, &error, plan);
    assert!(load.phase() != Phase::LoadRunning, "it runs although {error}");
    let hurt = given_up || machine.members.iter().any(|member| member.hurt);
    give_up(machine, &load, &set);
    // The same VM is given the same guest again.
    machine.members.iter().for_each(|member| member.fake.clear_faults());
    let whole = machine.members.iter().all(|member| !member.gone);
    if hurt && whole && plan.early {
        counts.one("loads that were tried again");
        let plan = LoadPlan { gives_up: false, ..plan.clone() };
        let again = run(machine, &load, &plan, sent);
        load.close().unwrap();
        return match again {
            Ok(()) => Loaded::Yes,
            Err(error) => Loaded::No(error, false),
        };
    }
    load.close().unwrap();
    Loaded::No(error, hurt)
}

/// A stream that was cut by its own device is refused by a device that is well.
fn check_blame(machine: &Machine, error: &Error, plan: &LoadPlan) {
    let by_fault = machine.members.iter().any(|member| member.hurt);
    check_error(machine, error, !by_fault || plan.gives_up);
}

/// Behind an abort every device is fresh, and nothing runs.
fn give_up(machine: &mut Machine, load: &Migration, set: &[Set]) {
    for _ in 0..=set.len() + 1 {
        let aborted = load.abort(AbortTo::Running);
        take_note(machine, set);
        match aborted {
            Ok(()) => {
                assert_eq!(load.phase(), Phase::Idle);
                break;
            }
            Err(error) => check_error(machine, &error, false),
        }
    }
    for member in machine.members.iter().filter(|member| !member.gone) {
        let name = member.handle.name();
        assert_eq!(member.fake.state(), State::Running, "{name} after the abort of a load");
        assert!(member.fake.content().iter().all(|&byte| byte == 0), "{name} is not fresh");
    }
}

fn run(machine: &Machine, load: &Migration, plan: &LoadPlan, sent: &Sent) -> Result<()> {
    match plan.mover {
        Mover::Wire => load.load_from(&mut [Input::new(&sent.wire[..])], &[], &mut |step| match step {
            LoadStep::Table(_) if plan.gives_up => Err(Error::new(ErrorKind::Canceled, libc::ECANCELED, "given up")),
            _ => Ok(()),
        })?,
        Mover::Vmm => by_data_calls(machine, load, plan, sent)?,
        Mover::Drains | Mover::Queues => by_drain(load, plan, sent)?,
    }
    if plan.rests {
        // As a guest that was paused at the source.
        machine.group.pause()?;
        return machine.group.resume();
    }
    load.advance(Phase::LoadP2pGrace)?;
    load.advance(Phase::LoadRunning)
}

fn by_data_calls(machine: &Machine, load: &Migration, plan: &LoadPlan, sent: &Sent) -> Result<()> {
    load.advance(Phase::LoadResuming)?;
    for (place, (member, stream)) in machine.members.iter().zip(&sent.streams).enumerate() {
        if plan.gives_up && place == 2 {
            return Err(Error::new(ErrorKind::Canceled, libc::ECANCELED, "given up"));
        }
        if plan.rests {
            stream.parts.iter().try_for_each(|(bytes, segment_end)| member.handle.write(bytes, *segment_end))?;
            load.load_done(&member.handle, Some(stream.len() as u64))?;
        } else {
            stream.write(&member.handle)?;
        }
    }
    load.advance(Phase::LoadLoaded)
}

fn by_drain(load: &Migration, plan: &LoadPlan, sent: &Sent) -> Result<()> {
    let mut given = vec![0; sent.streams.len()];
    load.advance(Phase::LoadResuming)?;
    load.load_complete(&[], &mut |device, buf| {
        let stream = &sent.streams[device];
        let Some((bytes, segment_end)) = stream.parts.get(given[device]) else {
            return Ok(Fed::End { total: Some(stream.len() as u64) });
        };
        given[device] += 1;
        if plan.gives_up && given[device] > 3 {
            return Err(Error::new(ErrorKind::Canceled, libc::ECANCELED, "given up"));
        }
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
    })?;
    load.advance(Phase::LoadLoaded)
}
