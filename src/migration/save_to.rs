//! A whole save over a wire.
//!
//! Rules: F7 (the length of each stream goes along), V1-10 (so do ends of segments), C4 and P12 by way of the phases.

use super::Migration;
use super::drain::{Piece, Round};
use super::over_wire::{INTERVAL, SaveNext, SaveOptions, SaveStep, check_channels};
use super::sequence::Phase;
use crate::dialect::Direction;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::transport::caller_patience;
use crate::wire::{Output, Table, WireOptions};
use std::io::Write;
use std::time::{Duration, Instant};

/// How often a save begins new streams before it gives up: each time the group was resumed in the middle of it.
const MAX_RESTARTS: u32 = 16;

/// What is put on a channel.
#[derive(Clone, Copy)]
pub(crate) enum Put<'a> {
    Data { device: usize, bytes: &'a [u8], segment_end: bool },
    End(usize),
    Void(usize),
    Finish,
    Fail(&'a str),
    Flush,
}

/// Where the records of a save go: outputs of Rust, or writers of C. Places are those of the caller's list.
pub(crate) trait SaveWire {
    fn places(&self) -> usize;
    /// Channel, number of channels, number of the wire.
    fn channel(&self, place: usize) -> Result<(u16, u16, u64)>;
    fn table(&self, place: usize) -> Result<Table>;
    /// Bytes of a device's stream that are on the channel.
    fn position(&self, place: usize, device: usize) -> Result<u64>;
    /// EAGAIN: nothing of it was taken.
    fn put(&mut self, place: usize, what: Put<'_>) -> Result<()>;
    /// Waits a little for a channel that takes nothing.
    fn wait(&mut self, place: usize);
    /// `bytes` of devices were written so far.
    fn step(&mut self, step: SaveStep, bytes: u64) -> Result<SaveNext>;
}

/// The caller's part of a save.
type OnSave<'a, W> = dyn FnMut(SaveStep, &mut [Output<W>]) -> Result<SaveNext> + 'a;

struct Outputs<'a, W> {
    outputs: &'a mut [Output<W>],
    step: &'a mut OnSave<'a, W>,
}

fn no_place() -> Error {
    Error::argument("there is no such channel")
}

impl<W: Write> SaveWire for Outputs<'_, W> {
    fn places(&self) -> usize {
        self.outputs.len()
    }
    fn channel(&self, place: usize) -> Result<(u16, u16, u64)> {
        let WireOptions { channel, channels, wire } = self.outputs.get(place).ok_or_else(no_place)?.options();
        Ok((channel, channels, wire))
    }
    fn table(&self, place: usize) -> Result<Table> {
        self.outputs.get(place).map(|output| output.table().clone()).ok_or_else(no_place)
    }
    fn position(&self, place: usize, device: usize) -> Result<u64> {
        self.outputs.get(place).map(|output| output.position(device)).ok_or_else(no_place)
    }
    fn put(&mut self, place: usize, what: Put<'_>) -> Result<()> {
        self.outputs.get_mut(place).ok_or_else(no_place).and_then(|output| put_on(output, what))
    }
    fn wait(&mut self, _place: usize) {
        std::thread::sleep(Duration::from_millis(1));
    }
    fn step(&mut self, step: SaveStep, _bytes: u64) -> Result<SaveNext> {
        (self.step)(step, self.outputs)
    }
}

/// One record, on whatever output.
pub(crate) fn put_on<W: Write>(output: &mut Output<W>, what: Put<'_>) -> Result<()> {
    match what {
        Put::Data { device, bytes, segment_end } => output.data(device, bytes, segment_end),
        Put::End(device) => output.end(device),
        Put::Void(device) => output.void(device),
        Put::Finish => output.finish(),
        Put::Fail(text) => output.fail(text),
        Put::Flush => output.flush(),
    }
}

impl Migration {
    /// A whole save over a wire, from wherever the migration stands up to STOP_COPY: rounds, if the options have them, the
    /// phases, every stream to its END, FINISH on each channel. The migration stays in STOP_COPY until the VMM knows what
    /// became of the guest: then [`end`](Self::end). *whole; blocks in the kernel, on the outputs and in `step`.*
    ///
    /// `outputs`: the channels of one wire, each once, with a table of the group's devices ([`wire_table`](Self::wire_table)).
    /// `step` hears of each [`SaveStep`] on the calling thread, and may write records of its own. An error of it ends the save.
    ///
    /// After a failure the wire is over: its destination side hears why if the channels still work, and
    /// [`abort`](Self::abort) is left. A wire that takes nothing for 60 s is such a failure (SYSTEM, ETIMEDOUT). If the group
    /// is resumed during the rounds of a wire of one channel, the streams begin anew.
    ///
    /// Example: [`SaveStep`].
    pub fn save_to<W: Write>(
        &self,
        outputs: &mut [Output<W>],
        options: SaveOptions,
        step: &mut OnSave<'_, W>,
    ) -> Result<()> {
        self.save_over(&mut Outputs { outputs, step: &mut |what, outputs| step(what, outputs) }, options)
    }

    /// As [`save_to`](Self::save_to), over whatever has the channels.
    pub(crate) fn save_over(&self, wire: &mut dyn SaveWire, options: SaveOptions) -> Result<()> {
        if self.direction() != Direction::Save {
            return Err(Error::order("save_to is for saves"));
        }
        let routes = self.routes(wire)?;
        let mut call = SaveCall {
            migration: self,
            ended: vec![false; routes.len()],
            routes,
            wire,
            bytes: 0,
            heard: Instant::now(),
        };
        let saved = call.run(options);
        if let Err(error) = &saved {
            call.give_up(error);
        }
        saved
    }

    /// For each device of the group, where its records go.
    fn routes(&self, wire: &dyn SaveWire) -> Result<Vec<Route>> {
        let found: Result<Vec<_>> = (0..wire.places()).map(|place| wire.channel(place)).collect();
        let found = found?;
        check_channels(&found)?;
        let table = wire.table(0)?;
        for place in 1..wire.places() {
            if wire.table(place)? != table {
                return Err(Error::argument("channels: their tables differ"));
            }
        }
        let mut routes = vec![Route { place: 0, device: 0 }; self.devices.len()];
        let members = self.wire_places(&table, &[])?;
        for (device, (member, entry)) in members.iter().zip(table.devices()).enumerate() {
            let place = found.iter().position(|(channel, _, _)| *channel == entry.channel);
            if let (Some(route), Some(place)) = (routes.get_mut(*member), place) {
                *route = Route { place, device };
            }
        }
        Ok(routes)
    }
}

/// Where the records of a device go.
#[derive(Clone, Copy)]
struct Route {
    place: usize,
    /// Its number in the table.
    device: usize,
}

struct SaveCall<'a> {
    migration: &'a Migration,
    /// By member.
    routes: Vec<Route>,
    ended: Vec<bool>,
    wire: &'a mut dyn SaveWire,
    bytes: u64,
    /// When the caller heard of progress last.
    heard: Instant,
}

impl SaveCall<'_> {
    fn run(&mut self, options: SaveOptions) -> Result<()> {
        let migration = self.migration;
        let before = |phase: Phase| migration.phase().number() < phase.number();
        if let Some(budget) = options.rounds.filter(|_| before(Phase::SaveViommuGrace)) {
            self.rounds(&mut |call| migration.save_iterate(budget, &[], &mut |piece| call.data(piece)))?;
        }
        if before(Phase::SaveP2pGrace) {
            self.step(SaveStep::StopVm)?;
            migration.advance(Phase::SaveP2pGrace)?;
            self.step(SaveStep::Grace)?;
        }
        migration.advance(Phase::SaveStopCopy)?;
        self.step(SaveStep::Stopped)?;
        migration.save_complete(&[], &mut |piece| {
            self.data(piece)?;
            self.ends()
        })?;
        self.ends()?;
        self.check_ended()?;
        self.step(SaveStep::Last)?;
        for place in 0..self.wire.places() {
            self.put(place, Put::Finish)?;
            self.put(place, Put::Flush)?;
        }
        Ok(())
    }

    fn step(&mut self, step: SaveStep) -> Result<SaveNext> {
        self.wire.step(step, self.bytes)
    }

    fn rounds(&mut self, round: &mut dyn FnMut(&mut Self) -> Result<Round>) -> Result<()> {
        let migration = self.migration;
        let (mut number, mut restarts) = (0u32, 0u32);
        migration.advance(Phase::SavePreCopy)?;
        loop {
            match round(self) {
                Ok(_) => {}
                Err(error) if self.begins_anew(&error) && restarts < MAX_RESTARTS => {
                    restarts = restarts.saturating_add(1);
                    self.void_all()?;
                    migration.advance(Phase::SavePreCopy)?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            number = number.saturating_add(1);
            let (ready, bytes) = (migration.pending().ready, self.bytes);
            if self.step(SaveStep::Round { number, ready, bytes })? == SaveNext::Go {
                return Ok(());
            }
        }
    }

    /// The group was resumed: what was sent is void, and new streams can begin. Channels cannot agree on where that was.
    fn begins_anew(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Stale && self.migration.phase() == Phase::SaveTracking && self.wire.places() == 1
    }

    fn void_all(&mut self) -> Result<()> {
        for Route { place, device } in self.routes.clone() {
            if self.wire.position(place, device)? > 0 {
                self.put(place, Put::Void(device))?;
            }
        }
        Ok(())
    }

    fn data(&mut self, piece: Piece<'_>) -> Result<()> {
        let Piece { device: member, bytes, segment_end } = piece;
        let Some(Route { place, device }) = self.routes.get(member).copied() else { return Err(no_place()) };
        self.put(place, Put::Data { device, bytes, segment_end })?;
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.heard.elapsed() >= INTERVAL {
            self.heard = Instant::now();
            self.step(SaveStep::Progress { bytes: self.bytes })?;
        }
        Ok(())
    }

    /// Each stream that is whole and all of which is on the wire has its END, so that its device can be loaded beside the others.
    fn ends(&mut self) -> Result<()> {
        for (member, device) in self.migration.devices.iter().enumerate() {
            let Some(route) = self.routes.get(member).copied() else { continue };
            let info = device.info();
            let done = self.ended.get(member).copied().unwrap_or(true);
            if !done && info.complete && info.saved_bytes == self.wire.position(route.place, route.device)? {
                self.put(route.place, Put::End(route.device))?;
                self.ended.get_mut(member).into_iter().for_each(|ended| *ended = true);
            }
        }
        Ok(())
    }

    fn check_ended(&self) -> Result<()> {
        let Some(member) = self.ended.iter().position(|ended| !ended) else { return Ok(()) };
        let (Some(device), Some(route)) = (self.migration.devices.get(member), self.routes.get(member)) else {
            return Ok(());
        };
        let (name, there) = (device.name(), self.wire.position(route.place, route.device)?);
        let saved = device.info().saved_bytes;
        Err(Error::order(format!("{name}: {saved} bytes of its stream were consumed, {there} are on the wire")))
    }

    /// A channel that takes nothing is waited for until a cancel, and for as long as other descriptors are.
    fn put(&mut self, place: usize, what: Put<'_>) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.wire.put(place, what) {
                Err(error) if error.kind() == ErrorKind::System && error.errno() == libc::EAGAIN => {}
                done => return done,
            }
            self.migration.cancel.check_drain()?;
            let patience = caller_patience();
            if begun.elapsed() >= patience {
                let text = format!("wire: the channel took nothing for {patience:?}");
                return Err(Error::system(Errno::new(libc::ETIMEDOUT), text));
            }
            self.wire.wait(place);
        }
    }

    /// Says FAIL on each channel, so that the other side need not wait for more. A channel that does not take it changes nothing.
    fn give_up(&mut self, error: &Error) {
        let begun = Instant::now();
        for place in 0..self.wire.places() {
            // Channels that take nothing are waited for one after the other: not for long, all together.
            if begun.elapsed() >= caller_patience() {
                return;
            }
            let failed = self.wire.put(place, Put::Fail(&error.to_string()));
            let _ = failed.and_then(|()| self.wire.put(place, Put::Flush));
        }
    }
}
