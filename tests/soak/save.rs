//! The source: from IDLE to HALTED, with what happens meanwhile.

use crate::counts::Counts;
use crate::machine::Machine;
use crate::plan::{Event, Mover, Plan, Point};
use crate::random::Random;
use crate::rig::Stream;
use std::sync::Arc;
use std::time::Duration;
use vfiomig::dialect::Direction;
use vfiomig::error::{Error, ErrorKind, Result};
use vfiomig::migration::{Budget, Migration, MigrationOptions, Phase, Piece, SaveNext, SaveOptions, SaveStep};
use vfiomig::wire::{Output, WireOptions};

/// Longer than any round: only EMPTY, END and bytes bound it.
const LONG: Duration = Duration::from_secs(100);

pub fn queue_bytes(mover: Mover) -> usize {
    if mover == Mover::Queues { 64 << 10 } else { 0 }
}

/// What a save sends.
#[derive(Default)]
pub struct Sent {
    pub streams: Vec<Stream>,
    pub wire: Vec<u8>,
}

pub struct Saving<'a> {
    pub machine: &'a mut Machine,
    pub save: &'a Migration,
    pub plan: &'a Plan,
    pub random: &'a mut Random,
    pub counts: &'a mut Counts,
    /// An event after which the migration need not succeed.
    pub disturbed: bool,
    /// The VMM has canceled, so that everybody may be told of it.
    pub canceled: bool,
    /// Of the group's devices.
    pub places: Vec<usize>,
    pub sent: Sent,
}

fn changed_its_mind() -> Error {
    Error::new(ErrorKind::Canceled, libc::ECANCELED, "the VMM has changed its mind")
}

pub fn migration(machine: &Machine, direction: Direction, mover: Mover) -> Migration {
    let options = MigrationOptions { queue_bytes: queue_bytes(mover) };
    Migration::with_options(Arc::clone(&machine.group), direction, options).unwrap()
}

impl Saving<'_> {
    /// Up to STOP_COPY with everything sent.
    pub fn run(&mut self) -> Result<()> {
        self.sent.streams = vec![Stream::default(); self.machine.members.len()];
        self.counts.one(match self.plan.mover {
            Mover::Vmm => "saves by data calls",
            Mover::Drains => "saves by drains",
            Mover::Queues => "saves read ahead",
            Mover::Wire => "saves over a wire",
        });
        if self.plan.mover == Mover::Wire { self.over_wire() } else { self.by_phases() }
    }

    /// HALTED: the guest is handed over.
    pub fn halt(&mut self) -> Result<()> {
        self.save.advance(Phase::SaveHalted)?;
        self.at(Point::Halted)
    }

    fn by_phases(&mut self) -> Result<()> {
        self.save.advance(Phase::SaveTracking)?;
        self.machine.ram.copy_all();
        self.at(Point::Tracking)?;
        if self.plan.pre_copy {
            self.pre_copy()?;
        }
        self.save.advance(Phase::SaveP2pGrace)?;
        self.at(Point::Grace)?;
        self.save.advance(Phase::SaveStopCopy)?;
        self.at(Point::StopCopy)?;
        self.rest()?;
        self.at(Point::Drained)
    }

    fn pre_copy(&mut self) -> Result<()> {
        self.save.advance(Phase::SavePreCopy)?;
        for round in 0..=self.plan.rounds {
            self.round()?;
            self.machine.harvest()?;
            self.at(Point::Round(round))?;
            if self.save.phase() == Phase::SaveTracking {
                // The guest was resumed: all streams begin anew, and RAM that was sent stays sent.
                self.sent.streams.iter_mut().for_each(|stream| *stream = Stream::default());
                self.save.advance(Phase::SavePreCopy)?;
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<()> {
        if self.plan.mover == Mover::Vmm {
            return self.by_data_calls();
        }
        let bytes = if self.random.one_in(2) { u64::MAX } else { self.random.below(8000) + 1 };
        let Saving { machine, save, random, sent, places, .. } = self;
        let put = &mut |piece: Piece<'_>| {
            keep(&mut sent.streams, places, &piece);
            machine.guest(random, 1);
            Ok(())
        };
        save.save_iterate(Budget { bytes, time: LONG }, &[], put).map(drop)
    }

    fn by_data_calls(&mut self) -> Result<()> {
        for (member, stream) in self.machine.members.iter().zip(&mut self.sent.streams) {
            if member.handle.info().session_open {
                stream.drain(&member.handle)?;
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        let early = self.random.one_in(2);
        if early {
            self.machine.harvest()?;
        }
        if self.plan.mover == Mover::Vmm {
            self.by_data_calls()?;
        } else {
            let (streams, places) = (&mut self.sent.streams, &self.places);
            let put = &mut |piece: Piece<'_>| {
                keep(streams, places, &piece);
                Ok(())
            };
            self.save.save_complete(&[], put)?;
        }
        if !early {
            self.machine.harvest()?;
        }
        Ok(())
    }

    fn over_wire(&mut self) -> Result<()> {
        let save = self.save;
        save.advance(Phase::SaveTracking)?;
        self.machine.ram.copy_all();
        self.at(Point::Tracking)?;
        let options = if self.plan.pre_copy { SaveOptions::with_rounds() } else { SaveOptions::default() };
        let mut outputs = [Output::new(Vec::new(), WireOptions::default(), save.wire_table(1)?)?];
        let saved = save.save_to(&mut outputs, options, &mut |step, _| self.heard(step));
        let [output] = outputs;
        self.sent.wire = output.into_inner();
        saved
    }

    fn heard(&mut self, step: SaveStep) -> Result<SaveNext> {
        match step {
            SaveStep::Round { number, .. } => {
                self.machine.harvest()?;
                let round = u64::from(number) - 1;
                self.at(Point::Round(round))?;
                return Ok(if round < self.plan.rounds { SaveNext::Again } else { SaveNext::Go });
            }
            SaveStep::Grace => self.at(Point::Grace)?,
            SaveStep::Stopped => {
                self.at(Point::StopCopy)?;
                self.machine.harvest()?;
            }
            SaveStep::Last => self.at(Point::Drained)?,
            SaveStep::StopVm | SaveStep::Progress { .. } => {}
        }
        Ok(SaveNext::Go)
    }

    /// The guest does something, and so does the plan.
    fn at(&mut self, point: Point) -> Result<()> {
        let done = self.machine.guest(self.random, 20);
        self.counts.add("guest writes", done);
        let events = self.plan.events.iter().filter(|(at, _)| *at == point);
        for (_, event) in events {
            self.happens(*event)?;
            let done = self.machine.guest(self.random, 5);
            self.counts.add("guest writes", done);
        }
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Abort => {
                self.disturbed = true;
                return Err(changed_its_mind());
            }
            Event::Cancel => {
                (self.disturbed, self.canceled) = (true, true);
                self.save.cancel();
            }
            Event::PauseResume | Event::Pause => {
                self.counts.one("pauses");
                self.machine.group.pause()?;
                let rests = self.machine.guest(self.random, 5) == 0;
                assert!(rests, "a device that is paused writes");
                if event == Event::PauseResume {
                    self.machine.group.resume()?;
                }
            }
            Event::Reset(device) => {
                self.disturbed = true;
                self.counts.one("resets");
                self.machine.members[device].hurt = true;
                self.machine.members[device].reset()?;
            }
            Event::Unplug(device) => {
                self.disturbed = true;
                self.counts.one("unplugs");
                self.machine.members[device].unplug();
            }
            Event::ServerDies => {
                self.disturbed = true;
                self.counts.one("dead servers");
                self.machine.members.iter_mut().filter(|member| member.is_served()).for_each(|m| m.kill_server());
            }
        }
        Ok(())
    }
}

fn keep(streams: &mut [Stream], places: &[usize], piece: &Piece<'_>) {
    streams[places[piece.device]].parts.push((piece.bytes.to_vec(), piece.segment_end));
}
