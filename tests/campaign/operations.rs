//! What is done while the fault waits, and how its end is named.

use crate::fleet::{Built, Fleet};
use crate::judge::{Judged, Run, ensure};
use crate::kinds::Kind;
use crate::outcome::Outcome;
use crate::rig::{self, Rig, Stream, caps, kind};
use simdev::Config;
use std::sync::Arc;
use std::time::Duration;
use vfiomig::dialect::{DialectKind, Direction, State};
use vfiomig::error::{ErrorKind, Result};
use vfiomig::migration::{AbortTo, Budget, Fed, Migration, MigrationOptions, Phase, Piece};

/// Who moves the bytes of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// The VMM, by data calls on each device.
    Vmm,
    /// The library: `save_iterate`, `save_complete`, `load_complete`.
    Drains,
    /// The same with queues: devices are read ahead, and written behind.
    Queues,
}

/// An operation. Saves and loads are whole; the others are begun before the fault may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From IDLE to HALTED, with pre-copy.
    Save(Mover),
    /// The same without pre-copy.
    SaveStopped,
    /// From IDLE to RUNNING.
    Load(Mover),
    /// Pause and resume outside of a migration.
    Pause,
    /// Pause and resume in SAVE_PRE_COPY.
    PauseInSave,
    /// Abort of a save that has come to this phase.
    AbortSave(Phase),
    /// Abort of a load that has come to this phase.
    AbortLoad(Phase),
}

pub const OPERATIONS: [Operation; 17] = [
    Operation::Save(Mover::Vmm),
    Operation::Save(Mover::Drains),
    Operation::Save(Mover::Queues),
    Operation::SaveStopped,
    Operation::Load(Mover::Vmm),
    Operation::Load(Mover::Drains),
    Operation::Load(Mover::Queues),
    Operation::Pause,
    Operation::PauseInSave,
    Operation::AbortSave(Phase::SaveTracking),
    Operation::AbortSave(Phase::SavePreCopy),
    Operation::AbortSave(Phase::SaveP2pGrace),
    Operation::AbortSave(Phase::SaveStopCopy),
    Operation::AbortSave(Phase::SaveHalted),
    Operation::AbortLoad(Phase::LoadResuming),
    Operation::AbortLoad(Phase::LoadLoaded),
    Operation::AbortLoad(Phase::LoadP2pGrace),
];

/// What was made once for all faults of an operation on a fleet.
pub struct Prepared {
    /// Loads: the streams, and the states that are in them.
    streams: Vec<Stream>,
    contents: Vec<Vec<u8>>,
}

impl Operation {
    pub fn name(self) -> String {
        match self {
            Operation::Save(Mover::Vmm) => "save".into(),
            Operation::Save(Mover::Drains) => "save by drains".into(),
            Operation::Save(Mover::Queues) => "save, read ahead".into(),
            Operation::SaveStopped => "save without pre-copy".into(),
            Operation::Load(Mover::Vmm) => "load".into(),
            Operation::Load(Mover::Drains) => "load by drains".into(),
            Operation::Load(Mover::Queues) => "load, written behind".into(),
            Operation::Pause => "pause, resume".into(),
            Operation::PauseInSave => "pause, resume in PRE_COPY".into(),
            Operation::AbortSave(phase) | Operation::AbortLoad(phase) => format!("abort in {phase}"),
        }
    }

    fn loads(self) -> bool {
        matches!(self, Operation::Load(_) | Operation::AbortLoad(_))
    }

    /// More than two of a kind are tried side by side only, and not with the library's own loops. A group that works one by
    /// one has no queues.
    pub fn is_for(self, fleet: &Fleet, max_workers: usize) -> bool {
        match self {
            _ if max_workers == 1 && fleet.is_many() => false,
            Operation::Save(Mover::Queues) | Operation::Load(Mover::Queues) => max_workers != 1 && !fleet.is_many(),
            Operation::Save(Mover::Drains) | Operation::Load(Mover::Drains) => !fleet.is_many(),
            _ => true,
        }
    }

    /// The migration of the group.
    fn migration(self, rig: &Rig) -> Migration {
        let direction = if self.loads() { Direction::Load } else { Direction::Save };
        let queues = matches!(self, Operation::Save(Mover::Queues) | Operation::Load(Mover::Queues));
        let options = MigrationOptions { queue_bytes: if queues { 1 << 20 } else { 0 } };
        Migration::with_options(Arc::clone(&rig.group), direction, options).unwrap()
    }

    pub fn prepared(self, fleet: &Fleet) -> Prepared {
        if !self.loads() {
            return Prepared { streams: Vec::new(), contents: Vec::new() };
        }
        let source = fleet.source(1);
        let streams = source.rig.save_all(&source.rig.save()).unwrap();
        Prepared { streams, contents: source.rig.fakes.iter().map(simdev::Device::content).collect() }
    }

    /// A group, and the migration where the faults may begin.
    pub fn begin(self, fleet: &Fleet, prepared: &Prepared, max_workers: usize) -> (Built, Migration) {
        if !self.loads() {
            let built = fleet.source(max_workers);
            let save = self.migration(&built.rig);
            match self {
                Operation::PauseInSave => save.advance(Phase::SavePreCopy).unwrap(),
                Operation::AbortSave(Phase::SaveTracking) => save.advance(Phase::SaveTracking).unwrap(),
                Operation::AbortSave(Phase::SaveHalted) => drop(built.rig.save_all(&save).unwrap()),
                Operation::AbortSave(phase) => {
                    save.advance(Phase::SavePreCopy).unwrap();
                    save.advance(phase).unwrap();
                }
                _ => {}
            }
            return (built, save);
        }
        let built = fleet.target(max_workers);
        let load = self.migration(&built.rig);
        if let Operation::AbortLoad(phase) = self {
            load.advance(Phase::LoadResuming).unwrap();
            if phase > Phase::LoadResuming {
                built.rig.write_all(&prepared.streams).unwrap();
                load.advance(phase).unwrap();
            } else {
                // In the middle of it.
                let first = &prepared.streams[0].parts[0];
                built.rig.devices[0].write(&first.0, first.1).unwrap();
            }
        }
        (built, load)
    }

    /// The operation alone, without a fault.
    pub fn plain(self, rig: &Rig, migration: &Migration, prepared: &Prepared) -> Result<()> {
        match self {
            Operation::Save(_) | Operation::SaveStopped => self.save_all(rig, migration).map(drop),
            Operation::Load(_) => self.load_all(rig, migration, &prepared.streams),
            Operation::Pause | Operation::PauseInSave => rig.group.pause().and_then(|()| rig.group.resume()),
            Operation::AbortSave(_) => migration.abort_without_second_guest(AbortTo::Running),
            Operation::AbortLoad(_) => migration.abort(AbortTo::Running),
        }
    }

    /// The operation with its fault, judged.
    pub fn judged(self, fleet: &Fleet, run: &Run<'_>, migration: &Migration, prepared: &Prepared) -> Judged<Outcome> {
        let outcome = match self {
            Operation::Save(_) | Operation::SaveStopped => self.save(fleet, run, migration)?,
            Operation::Load(_) => self.load(run, migration, prepared)?,
            Operation::Pause | Operation::PauseInSave => pause(run)?,
            Operation::AbortSave(_) => abort_of_save(run, migration)?,
            Operation::AbortLoad(_) => abort_of_load(run, migration)?,
        };
        run.was_reached()?;
        // A stream that was refused in the middle is the device's own judgement of the fault, not of the client.
        run.nothing_was_violated(if self.loads() { &["N2"] } else { &[] })?;
        Ok(outcome)
    }

    fn save_all(self, rig: &Rig, save: &Migration) -> Result<Vec<Stream>> {
        match self {
            Operation::Save(Mover::Vmm) => rig.save_all(save),
            Operation::SaveStopped => save_stopped(rig, save),
            _ => save_by_drains(rig, save),
        }
    }

    fn load_all(self, rig: &Rig, load: &Migration, streams: &[Stream]) -> Result<()> {
        if self == Operation::Load(Mover::Vmm) { rig.load_all(load, streams) } else { load_by_drains(load, streams) }
    }

    fn save(self, fleet: &Fleet, run: &Run<'_>, save: &Migration) -> Judged<Outcome> {
        let rig = run.rig;
        let saved = self.save_all(rig, save);
        rig::assert_barriers(&rig.fakes);
        let outcome = match &saved {
            Ok(streams) => {
                ensure!(save.phase() == Phase::SaveHalted, "success in {}", save.phase());
                let sent = arrives(fleet, run, streams)?;
                run.bring_back(save)?;
                sent
            }
            Err(error) => {
                run.check_error(error)?;
                run.states_are_known()?;
                ensure!(save.phase() != Phase::SaveHalted, "HALTED although {error}");
                never_halts(save, error)?;
                run.bring_back(save)?
            }
        };
        if run.again && matches!(outcome, Outcome::Back | Outcome::BackAgain) {
            saves_again(fleet, run, save)?;
        }
        Ok(outcome)
    }

    fn load(self, run: &Run<'_>, load: &Migration, prepared: &Prepared) -> Judged<Outcome> {
        let rig = run.rig;
        let loaded = self.load_all(rig, load, &prepared.streams);
        nobody_runs_beside_a_load(rig)?;
        run.states_are_known()?;
        let Err(error) = loaded else {
            ensure!(load.phase() == Phase::LoadRunning, "success in {}", load.phase());
            for (i, fake) in rig.fakes.iter().enumerate() {
                ensure!(fake.content() == prepared.contents[i], "success, and d{i} has another state");
                ensure!(fake.state() == State::Running, "success, and d{i} is in {}", fake.state());
            }
            let refused = load.abort(AbortTo::Running).err().map(|error| error.kind());
            ensure!(refused == Some(ErrorKind::Order), "abort of what runs: {refused:?}");
            return Ok(Outcome::Done);
        };
        run.check_error(&error)?;
        ensure!(load.phase() != Phase::LoadRunning, "RUNNING although {error}");
        let before = load.phase();
        if before == Phase::LoadResuming {
            let entered = load.advance(Phase::LoadLoaded);
            ensure!(entered.is_err(), "LOADED behind: {error}");
        }
        let outcome = abort_of_load(run, load)?;
        if outcome != Outcome::RefusedLost && run.again {
            self.load_all(rig, load, &prepared.streams).map_err(|error| format!("again: {error}"))?;
            let same = rig.fakes.iter().zip(&prepared.contents).all(|(fake, content)| fake.content() == *content);
            ensure!(same, "again: another state");
        }
        Ok(if outcome == Outcome::Done { Outcome::Refused } else { outcome })
    }
}

fn save_stopped(rig: &Rig, save: &Migration) -> Result<Vec<Stream>> {
    let mut streams = vec![Stream::default(); rig.devices.len()];
    save.advance(Phase::SaveTracking)?;
    save.advance(Phase::SaveP2pGrace)?;
    save.advance(Phase::SaveStopCopy)?;
    rig.drain_all(&mut streams)?;
    rig.harvest();
    save.advance(Phase::SaveHalted)?;
    Ok(streams)
}

/// Longer than any round of the campaign: only EMPTY and END bound it.
const ROUND: Budget = Budget { bytes: u64::MAX, time: Duration::from_secs(100) };

fn save_by_drains(rig: &Rig, save: &Migration) -> Result<Vec<Stream>> {
    let mut streams = vec![Stream::default(); rig.devices.len()];
    let mut keep = |piece: Piece<'_>| {
        streams[piece.device].parts.push((piece.bytes.to_vec(), piece.segment_end));
        Ok(())
    };
    save.advance(Phase::SaveTracking)?;
    save.advance(Phase::SavePreCopy)?;
    save.save_iterate(ROUND, &[], &mut keep)?;
    save.advance(Phase::SaveP2pGrace)?;
    save.advance(Phase::SaveStopCopy)?;
    save.save_complete(&[], &mut keep)?;
    rig.harvest();
    save.advance(Phase::SaveHalted)?;
    Ok(streams)
}

fn load_by_drains(load: &Migration, streams: &[Stream]) -> Result<()> {
    let mut given = vec![0; streams.len()];
    load.advance(Phase::LoadResuming)?;
    load.load_complete(&[], &mut |device, buf| {
        let Some((bytes, segment_end)) = streams[device].parts.get(given[device]) else {
            return Ok(Fed::End { total: Some(streams[device].len() as u64) });
        };
        given[device] += 1;
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
    })?;
    load.advance(Phase::LoadLoaded)?;
    load.advance(Phase::LoadP2pGrace)?;
    load.advance(Phase::LoadRunning)
}

/// Not without every END: behind the failure of a data call, too.
fn never_halts(save: &Migration, error: &vfiomig::Error) -> Judged<()> {
    let Err(kept) = save.advance(Phase::SaveHalted) else { return Err(format!("HALTED behind: {error}")) };
    if save.phase() == Phase::Failed {
        let first = save.error().map_err(|error| error.to_string())?.ok_or("FAILED without an error")?;
        ensure!(kept.to_string() == first.to_string(), "FAILED by {first}, and then by {kept}");
    }
    Ok(())
}

/// What was called a whole save makes another group the same, or is refused there where a device has cut its own stream short.
fn arrives(fleet: &Fleet, run: &Run<'_>, streams: &[Stream]) -> Judged<Outcome> {
    let target = fleet.target(1);
    let load = target.rig.load();
    let loaded = target.rig.load_all(&load, streams);
    if let Err(error) = loaded {
        ensure!(run.kind == Kind::NoByte, "success, and the stream cannot be loaded: {error}");
        let name = run.rig.devices[run.device].name();
        ensure!(error.to_string().contains(name), "{name} is not named by the destination: {error}");
        load.abort(AbortTo::Running).map_err(|error| format!("the destination's abort: {error}"))?;
        return Ok(Outcome::Cut);
    }
    for (i, (to, from)) in target.rig.fakes.iter().zip(&run.rig.fakes).enumerate() {
        ensure!(to.same_content(from), "success, and d{i} has another state at the destination");
    }
    Ok(Outcome::Done)
}

/// The next migration of the same group is whole.
fn saves_again(fleet: &Fleet, run: &Run<'_>, save: &Migration) -> Judged<()> {
    let rig = run.rig;
    rig.fakes.iter().for_each(simdev::Device::clear_faults);
    for device in &rig.devices {
        device.restart_stream().map_err(|error| format!("again: {error}"))?;
    }
    let streams = rig.save_all(save).map_err(|error| format!("again: {error}"))?;
    let target = fleet.target(1);
    target.rig.load_all(&target.rig.load(), &streams).map_err(|error| format!("loaded again: {error}"))?;
    let same = target.rig.fakes.iter().zip(&rig.fakes).all(|(a, b)| a.same_content(b));
    ensure!(same, "again: another state");
    Ok(())
}

/// A device that runs to leave RESUMING.
fn only_way(config: &Config) -> bool {
    kind(config) != DialectKind::V2 && !caps(config).p2p
}

/// No device that was loaded runs while another is still loading, but those whose only way out of RESUMING it is.
fn nobody_runs_beside_a_load(rig: &Rig) -> Judged<()> {
    let loading = rig.fakes.iter().any(|fake| fake.state() == State::Resuming);
    for (i, (fake, config)) in rig.fakes.iter().zip(&rig.configs).enumerate() {
        let steps = fake.transitions();
        let loaded = steps.iter().rev().take_while(|t| t.request != 0).any(|t| t.from.resuming());
        let runs = loaded && fake.state() == State::Running;
        ensure!(!loading || !runs || only_way(config), "d{i} runs: {:?}", rig.states());
    }
    Ok(())
}

fn abort_of_load(run: &Run<'_>, load: &Migration) -> Judged<Outcome> {
    let rig = run.rig;
    let mut outcome = Outcome::Done;
    if let Err(error) = load.abort(AbortTo::Running) {
        run.check_error(&error)?;
        for (i, fake) in rig.fakes.iter().enumerate() {
            ensure!(i == run.device || fake.state() == State::Running, "d{i} is in {}: {error}", fake.state());
        }
        if run.kind == Kind::Gone {
            run.is_lost()?;
            return Ok(Outcome::RefusedLost);
        }
        load.abort(AbortTo::Running).map_err(|error| format!("the second abort: {error}"))?;
        outcome = Outcome::RefusedAgain;
    }
    ensure!(load.phase() == Phase::Idle, "phase {}", load.phase());
    for (i, fake) in rig.fakes.iter().enumerate() {
        ensure!(fake.state() == State::Running, "d{i} is in {}", fake.state());
        ensure!(fake.content().iter().all(|&byte| byte == 0), "d{i} is not fresh");
    }
    run.sessions_are_closed()?;
    run.states_are_known()?;
    Ok(outcome)
}

fn abort_of_save(run: &Run<'_>, save: &Migration) -> Judged<Outcome> {
    let outcome = run.bring_back(save)?;
    Ok(if outcome == Outcome::Back { Outcome::Done } else { outcome })
}

fn pause(run: &Run<'_>) -> Judged<Outcome> {
    let (rig, device) = (run.rig, run.device);
    let paused = rig.group.pause();
    rig::assert_barriers(&rig.fakes);
    run.states_are_known()?;
    match &paused {
        Ok(()) => {
            let rest = rig.states().iter().all(|s| matches!(s, State::Stop | State::StopCopy));
            ensure!(rest, "paused, and they are in {:?}", rig.states());
        }
        Err(error) => run.check_error(error)?,
    }
    let mut outcome = if paused.is_ok() { Outcome::Done } else { Outcome::Back };
    let mut resumed = rig.group.resume();
    for _ in 0..2 {
        let Err(error) = &resumed else { break };
        run.check_error(error)?;
        if run.kind != Kind::Gone
            && rig.devices[device].state() == State::Error
            && rig.fakes[device].state() == State::Error
        {
            rig.devices[device].reset().map_err(|error| format!("the reset: {error}"))?;
        }
        outcome = Outcome::BackAgain;
        resumed = rig.group.resume();
    }
    let gone = run.kind == Kind::Gone && resumed.is_err();
    ensure!(gone || resumed.is_ok(), "it does not run again: {resumed:?}");
    for (i, fake) in rig.fakes.iter().enumerate() {
        // A draft saves again, for its log.
        let saves = kind(&rig.configs[i]) == DialectKind::Draft && fake.state() == State::PreCopy;
        let runs = saves || fake.state() == State::Running;
        ensure!(runs || (gone && i == device), "d{i} is in {}", fake.state());
        ensure!(fake.resets() > 0 || fake.checksum() == run.contents[i], "d{i} has lost its state");
        ensure!(fake.resets() == 0 || i == device, "d{i} was reset");
    }
    if gone {
        return run.is_lost();
    }
    run.states_are_known()?;
    Ok(if rig.fakes[device].resets() > 0 { Outcome::Reset } else { outcome })
}
