//! A whole load over a wire.
//!
//! Rules: F7 (a stream is closed by the length that the wire has), V1-10 (segments keep their ends), F6 (what a device did not
//! take ends the load).

use super::Migration;
use super::abort::AbortTo;
use super::drain::Progress;
use super::load_wire::{Inputs, LoadWire};
use super::over_wire::{INTERVAL, LoadStep, check_channels};
use super::sequence::Phase;
use crate::device::Device;
use crate::dialect::Direction;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::transport::caller_patience;
use crate::wire::{DeviceEntry, Input, Table, WireRecord};
use crate::workers::Watch;
use crate::workers::turns::{Crew, Turn, Work, run_turns};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

impl Migration {
    /// A whole load over a wire, from IDLE or RESUMING to LOADED: the table, and only if it is that of the group the devices;
    /// every stream into its device, which goes to LOADED behind its own END; success only if each channel had its FINISH.
    /// *whole; blocks in the kernel, on the inputs and in `step`.*
    ///
    /// `inputs`: the channels of one wire, each once, in any order, of which nothing but the table was read. `demanded`:
    /// devices of the group with words that the wire must have for them; the others may be left out. `step` hears of each
    /// [`LoadStep`] on the calling thread; an error of it ends the load.
    ///
    /// After a failure [`abort`](Self::abort) is left. Several channels are read side by side, each on a thread of its own; where
    /// `max_workers` is 1, and for devices that belong to the calling thread, inputs that would block must say so. A wire of
    /// several channels whose streams begin anew (VOID) is refused.
    ///
    /// Example: [`SaveStep`](super::SaveStep).
    pub fn load_from<R: Read + Send>(
        &self,
        inputs: &mut [Input<R>],
        demanded: &[DeviceEntry],
        step: &mut dyn FnMut(LoadStep<'_>) -> Result<()>,
    ) -> Result<()> {
        self.load_over(&Inputs::new(inputs), demanded, step)
    }

    /// As [`load_from`](Self::load_from), over whatever has the channels.
    pub(crate) fn load_over(
        &self,
        wire: &dyn LoadWire,
        demanded: &[DeviceEntry],
        step: &mut dyn FnMut(LoadStep<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.direction() != Direction::Load {
            return Err(Error::order("load_from is for loads"));
        }
        self.check_begins()?;
        let table = self.read_tables(wire)?;
        let members = self.wire_places(&table, demanded)?;
        step(LoadStep::Table(&table))?;
        self.advance(Phase::LoadResuming)?;
        let channels: Result<Vec<_>> = (0..wire.places()).map(|place| wire.channel(place)).collect();
        let any_thread: Vec<bool> = channels?
            .iter()
            .enumerate()
            .map(|(place, (channel, _, _))| {
                let mut devices = table.devices().iter().zip(&members).filter(|(entry, _)| entry.channel == *channel);
                let free = |member: &usize| self.devices.get(*member).is_some_and(|device| device.any_thread());
                wire.any_thread(place) && devices.all(|(_, member)| free(member))
            })
            .collect();
        let flow = LoadFlow::new(self, wire, members);
        let max = self.threads_for(wire.places())?;
        let step = RefCell::new(step);
        let mut watch = LoadWatch { flow: &flow, step: &step, heard: Instant::now() };
        run_turns(Crew { max, any_thread: &any_thread, first: 0 }, &flow, &mut watch, &mut |place| {
            flow.hear(place, &mut **step.borrow_mut());
        });
        match flow.failed.into_inner() {
            Some(error) => Err(error),
            None => self.advance(Phase::LoadLoaded),
        }
    }

    /// In a phase that takes no stream nothing of the wire is read, so that it can still be loaded elsewhere.
    fn check_begins(&self) -> Result<()> {
        let (_inner, run) = self.enter()?;
        match run.shown.error.get() {
            Some(error) => Err(error),
            None if matches!(run.entered, Phase::Idle | Phase::LoadResuming) => Ok(()),
            None => Err(Error::order(format!("load_from needs IDLE or LOAD_RESUMING, not {}", run.entered))),
        }
    }

    /// Channels that block would keep each other from being read if they shared threads, and the source side, which writes them
    /// in whatever order, would wait for one that is not read.
    fn threads_for(&self, channels: usize) -> Result<usize> {
        let max = self.group.enter()?.max_workers;
        Ok(if max > 1 { max.max(channels) } else { max })
    }

    /// The table of each channel, which is the same in all of them.
    fn read_tables(&self, wire: &dyn LoadWire) -> Result<Table> {
        let begun = Instant::now();
        for place in 0..wire.places() {
            while wire.table(place)?.is_none() {
                let mut judge = |record: WireRecord<'_>| match record {
                    WireRecord::Table => Ok(Turn::Done),
                    _ => Err(Error::order("wire: the table of the channel was read by others")),
                };
                match wire.next(place, &mut judge) {
                    Ok(_) => {}
                    Err(error) if would_block(&error) => {
                        self.cancel.check_drain()?;
                        if begun.elapsed() >= caller_patience() {
                            return Err(silent());
                        }
                        wire.wait(&[place], true);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let found: Result<Vec<_>> = (0..wire.places()).map(|place| wire.channel(place)).collect();
        check_channels(&found?)?;
        let none = || Error::order("wire: there is no table");
        let table = wire.table(0)?.ok_or_else(none)?;
        for place in 1..wire.places() {
            if wire.table(place)?.as_ref() != Some(&table) {
                return Err(Error::protocol("wire: the tables of its channels differ"));
            }
        }
        Ok(table)
    }
}

fn would_block(error: &Error) -> bool {
    error.kind() == ErrorKind::System && error.errno() == libc::EAGAIN
}

fn silent() -> Error {
    let text = format!("wire: its channels brought nothing for {:?}", caller_patience());
    Error::system(Errno::new(libc::ETIMEDOUT), text)
}

/// What has come of a device's stream.
#[derive(Clone, Copy, Default)]
struct StreamMark {
    begun: bool,
    /// The group was brought back: what came before is thrown away, and its VOID has to say so.
    owes_void: bool,
}

struct LoadFlow<'a> {
    migration: &'a Migration,
    wire: &'a dyn LoadWire,
    /// By device of the wire: which of the group.
    members: Vec<usize>,
    /// By device of the wire.
    marks: Mutex<Vec<StreamMark>>,
    bytes: AtomicU64,
    progress: Progress,
    stop: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl Work for LoadFlow<'_> {
    fn turn(&self, place: usize) -> Turn {
        if self.stop.load(Ordering::Relaxed) {
            return Turn::Done;
        }
        let next = || {
            self.migration.cancel.check_drain()?;
            self.wire.next(place, &mut |record| self.take(record))
        };
        match self.progress.during(next, Result::is_ok) {
            Ok(turn) => turn,
            Err(error) if would_block(&error) && self.progress.stalled() => self.fail(silent()),
            Err(error) if would_block(&error) => Turn::Wait,
            Err(error) => self.fail(error),
        }
    }

    fn wait(&self, places: &[usize], patient: bool) -> Vec<usize> {
        let over = self.stop.load(Ordering::Relaxed) || self.migration.cancel.check_drain().is_err();
        if over || self.progress.all_stalled() { places.to_vec() } else { self.wire.wait(places, patient) }
    }
}

impl<'a> LoadFlow<'a> {
    fn new(migration: &'a Migration, wire: &'a dyn LoadWire, members: Vec<usize>) -> Self {
        LoadFlow {
            migration,
            wire,
            marks: Mutex::new(vec![StreamMark::default(); members.len()]),
            members,
            bytes: AtomicU64::new(0),
            progress: Progress::new(caller_patience()),
            stop: AtomicBool::new(false),
            failed: Mutex::default(),
        }
    }

    fn fail(&self, error: Error) -> Turn {
        self.stop.store(true, Ordering::Relaxed);
        self.failed.lock().get_or_insert(error);
        Turn::Done
    }

    fn device(&self, device: usize) -> Result<&'a Arc<Device>> {
        let member = self.members.get(device).and_then(|member| self.migration.devices.get(*member));
        member.ok_or_else(|| Error::protocol(format!("wire: device {device} is none of the group")))
    }

    /// One record, on whichever thread serves its channel.
    fn take(&self, record: WireRecord<'_>) -> Result<Turn> {
        match record {
            WireRecord::Data { device, bytes, segment_end, .. } => {
                let to = self.device(device)?;
                self.begins(device, to)?;
                self.give(to, bytes, segment_end)?;
                self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Ok(Turn::Again)
            }
            WireRecord::End { device, total } => {
                let to = self.device(device)?;
                self.begins(device, to)?;
                self.migration.load_done(to, Some(total))?;
                Ok(Turn::Again)
            }
            WireRecord::Void { device, .. } => self.void(device).map(|()| Turn::Again),
            WireRecord::Vmm { .. } => Ok(Turn::Ask),
            WireRecord::Finish => Ok(Turn::Done),
            WireRecord::Table => Err(Error::order("wire: the table came again")),
        }
    }

    fn begins(&self, device: usize, to: &Device) -> Result<()> {
        let mut marks = self.marks.lock();
        let Some(mark) = marks.get_mut(device) else { return Ok(()) };
        if mark.owes_void {
            let name = to.name();
            return Err(Error::protocol(format!(
                "wire: {name}: another device's stream began anew, and so must this one, but it goes on"
            )));
        }
        mark.begun = true;
        Ok(())
    }

    /// All devices are brought back with the first VOID; those of the others only say that their streams begin anew, too.
    fn void(&self, device: usize) -> Result<()> {
        let mut marks = self.marks.lock();
        let Some(mark) = marks.get_mut(device) else { return Ok(()) };
        let StreamMark { begun, owes_void } = std::mem::take(mark);
        if !begun || owes_void {
            return Ok(());
        }
        if self.wire.places() > 1 {
            let text = "wire: a stream begins anew on one of several channels, which this side does not follow";
            return Err(Error::unsupported(text));
        }
        for other in marks.iter_mut().filter(|other| other.begun) {
            *other = StreamMark { begun: false, owes_void: true };
        }
        drop(marks);
        self.migration.abort(AbortTo::Stop)?;
        self.migration.advance(Phase::LoadResuming)
    }

    /// A device that takes its time is asked again: a firmware may take longer than one call waits.
    fn give(&self, device: &Device, bytes: &[u8], segment_end: bool) -> Result<()> {
        if device.writes_behind() {
            return device.write(bytes, segment_end);
        }
        let (mut rest, mut moved) = (bytes, Instant::now());
        loop {
            let before = device.info().loaded_bytes;
            let keeps = moved.elapsed() < self.progress.patience() && self.migration.cancel.check_drain().is_ok();
            let written = device.write_once(rest, segment_end, keeps);
            let now = device.info();
            if !(keeps && !now.broken && written.as_ref().is_err_and(Error::is_not_ready)) {
                return written;
            }
            let taken = usize::try_from(now.loaded_bytes.saturating_sub(before)).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            if taken > 0 {
                moved = Instant::now();
            }
        }
    }

    /// A record of the VMM, on the calling thread.
    fn hear(&self, place: usize, step: &mut dyn FnMut(LoadStep<'_>) -> Result<()>) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut show = |record: WireRecord<'_>| match record {
            WireRecord::Vmm { device, kind, bytes } => {
                let device = device.and_then(|device| self.members.get(device).copied());
                step(LoadStep::Vmm { device, kind, bytes })
            }
            _ => Ok(()),
        };
        if let Err(error) = self.progress.during(|| self.wire.last(place, &mut show), |_| true) {
            self.fail(error);
        }
    }
}

/// The caller's part of a load.
type OnLoad<'s> = dyn FnMut(LoadStep<'_>) -> Result<()> + 's;

/// Lets the caller hear of progress.
struct LoadWatch<'a, 'f, 's> {
    flow: &'a LoadFlow<'f>,
    step: &'a RefCell<&'s mut OnLoad<'s>>,
    heard: Instant,
}

impl Watch for LoadWatch<'_, '_, '_> {
    fn look(&mut self) -> Option<Instant> {
        let bytes = self.flow.bytes.load(Ordering::Relaxed);
        if self.heard.elapsed() >= INTERVAL && !self.flow.stop.load(Ordering::Relaxed) {
            self.heard = Instant::now();
            if let Err(error) = (*self.step.borrow_mut())(LoadStep::Progress { bytes }) {
                self.flow.fail(error);
            }
        }
        self.heard.checked_add(INTERVAL)
    }

    fn wants_free_hands(&self) -> bool {
        false
    }
}
