//! `vfiomig send` and `receive`: a wire between two hosts. What must not happen is that both sides run: the source's devices
//! stand still for good before the destination's may run.

use super::channels::{self, Channel, Door};
use super::file::{bring_back, failed, outcome};
use super::progress::Progress;
use super::set::{Set, usage, wire};
use super::summary::{Source, Summary};
use super::talk::{self, Heard};
use crate::cli::{Receive, Send};
use crate::exit::Exit;
use crate::host::{Host, Trouble};
use crate::output::Output as Console;
use crate::text;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfiomig::Error;
use vfiomig::device::CapFlags;
use vfiomig::dialect::Direction;
use vfiomig::error::ErrorKind;
use vfiomig::migration::{EndOptions, LoadStep, Migration, Phase, SaveNext, SaveOptions, SaveStep};
use vfiomig::wire::{Input, Output, Timed, WireOptions};

/// Most rounds of pre-copy: some devices always have more (C5).
const MOST_ROUNDS: u32 = 16;

/// `vfiomig send`.
pub fn send(host: &Host, out: &Console, asked: &Send) -> Exit {
    usage(out, &asked.devices).unwrap_or_else(|| outcome(out, try_send(host, out, asked)))
}

fn try_send(host: &Host, out: &Console, asked: &Send) -> Result<Option<String>, Trouble> {
    let set = Set::open(host, &asked.devices, asked.patience.duration(), Direction::Save)?;
    let patience = channels::patience(asked.patience.duration());
    // A channel without a device would bring no stream.
    let channels = asked.channels.min(u16::try_from(set.devices.len()).unwrap_or(u16::MAX));
    let streams = channels::connect(&asked.to, channels)?;
    let Some(stream) = streams.first() else { return Err(Trouble::new("there is no device", "name one")) };
    let begun = Instant::now();
    let migration = set.migration(Direction::Save).map_err(|error| failed(&error))?;
    let mut moved = Moved::default();
    let mut outputs = outputs(&set, &streams, patience).map_err(|error| failed(&error))?;
    let sent = agree(&mut outputs, stream, patience).and_then(|()| {
        let sent = move_out(&set, &migration, &mut outputs, stream, (patience, asked.quiet || asked.json), &mut moved);
        sent.map_err(Unsent::Failed)
    });
    sent.map_err(|unsent| unsent.trouble(&migration, stream))?;
    // Behind `run` the guest is the destination's, unless the destination says that it is not.
    let ran = talk::say(stream, "run", "").and_then(|()| talk::listen(stream, "running", patience, false));
    let silent = |text: String| {
        let next =
            "look at the destination; the devices stand still here, and run on neither side unless it says otherwise";
        Trouble::new(format!("all was sent, but the destination does not say that it runs: {text}"), next)
    };
    match ran.map_err(|error| silent(error.to_string()))? {
        Heard::Word => {}
        Heard::No(why) => {
            let trouble = Trouble::new(
                format!("the other side has everything, and does not run: {why}"),
                "look at the message, and at the destination",
            );
            return Err(bring_back(&migration, true, trouble).0);
        }
        Heard::Lost(why) => return Err(silent(format!("the other side: {why}"))),
    }
    let still = moved.stopped.map(|at| at.elapsed()).unwrap_or_default();
    let summary = Summary {
        peer: asked.to.clone(),
        devices: set.devices.len(),
        channels,
        bytes: moved.bytes,
        time: begun.elapsed(),
        source: Some(Source { rounds: moved.rounds, still }),
    };
    Ok(print(out, &summary, &migration, asked.json, asked.quiet))
}

/// Prints JSON, or gives the text that is left to be printed.
fn print(out: &Console, summary: &Summary, migration: &Migration, json: bool, quiet: bool) -> Option<String> {
    if json {
        out.json(&summary.json(migration));
        return None;
    }
    Some(summary.text(migration, quiet))
}

/// How far a source is.
#[derive(Default)]
struct Moved {
    bytes: u64,
    rounds: u32,
    stopped: Option<Instant>,
}

/// The outputs of a wire, one for each channel.
fn outputs<'a>(set: &Set, streams: &'a [TcpStream], patience: Duration) -> Result<Vec<Output<Timed<'a>>>, Error> {
    let count = u16::try_from(streams.len()).unwrap_or(u16::MAX);
    let (options, table) = (WireOptions { channels: count, ..wire() }, set.table(count)?);
    let each = (0..).zip(streams).map(|(channel, stream)| {
        Output::new(channels::timed(stream, patience), WireOptions { channel, ..options }, table.clone())
    });
    each.collect()
}

/// Why the devices were not sent.
enum Unsent {
    /// The destination has refused them before one was touched.
    Refused(String),
    Failed(Error),
}

impl Unsent {
    /// Brings the devices back, and says what has happened.
    fn trouble(self, migration: &Migration, stream: &TcpStream) -> Trouble {
        let touched = migration.phase() != Phase::Idle;
        let trouble = match &self {
            Unsent::Refused(why) => {
                let next = "look at the message; name devices that are alike, and as they are named there: NAME=DEVICE";
                Trouble::new(format!("the other side: {why}"), next)
            }
            Unsent::Failed(error) => failed(error),
        };
        let (mut trouble, _) = bring_back(migration, touched, trouble);
        // The devices run again, so there is time to hear why the other side has gone.
        if let Unsent::Failed(error) = &self {
            if let Some(said) = talk::reason(stream).filter(|_| error.kind() == ErrorKind::System) {
                trouble.what = format!("the other side: {said} ({})", trouble.what);
            }
        }
        trouble
    }
}

/// Sends the tables, and hears whether the destination has the same devices.
fn agree(outputs: &mut [Output<Timed<'_>>], stream: &TcpStream, patience: Duration) -> Result<(), Unsent> {
    outputs.iter_mut().try_for_each(Output::flush).map_err(Unsent::Failed)?;
    match talk::listen(stream, "ready", patience, true).map_err(Unsent::Failed)? {
        Heard::Word => Ok(()),
        Heard::No(why) | Heard::Lost(why) => Err(Unsent::Refused(why)),
    }
}

/// Moves the devices, up to where the destination has everything and they stand still here for good.
fn move_out(
    set: &Set,
    migration: &Migration,
    outputs: &mut [Output<Timed<'_>>],
    stream: &TcpStream,
    (patience, quiet): (Duration, bool),
    moved: &mut Moved,
) -> Result<(), Error> {
    let mut progress = Progress::new("sending", set.expected(), quiet);
    let has_rounds = set.devices.iter().any(|device| device.info().caps.contains(CapFlags::PRE_COPY));
    let options = if has_rounds { SaveOptions::with_rounds() } else { SaveOptions::default() };
    let saved = migration.save_to(outputs, options, &mut |step, _| {
        match step {
            SaveStep::Progress { bytes } => progress.moved(bytes),
            SaveStep::Round { number, ready, bytes } => {
                moved.rounds = number;
                progress.moved(bytes);
                if !quiet {
                    progress.note(&format!("round {number}: {} so far", text::bytes(bytes)));
                }
                return Ok(if ready || number >= MOST_ROUNDS { SaveNext::Go } else { SaveNext::Again });
            }
            SaveStep::StopVm => moved.stopped = Some(Instant::now()),
            _ => {}
        }
        Ok(SaveNext::Go)
    });
    progress.end();
    saved.and_then(|()| talk::hear(stream, "loaded", patience))?;
    let positions = |output: &Output<_>| (0..set.devices.len()).map(|device| output.position(device)).sum::<u64>();
    moved.bytes = outputs.iter().map(positions).sum();
    migration.end(true, EndOptions { waive_harvest: true, ..EndOptions::default() })
}

/// `vfiomig receive`.
pub fn receive(host: &Host, out: &Console, asked: &Receive) -> Exit {
    usage(out, &asked.devices).unwrap_or_else(|| outcome(out, try_receive(host, out, asked)))
}

fn try_receive(host: &Host, out: &Console, asked: &Receive) -> Result<Option<String>, Trouble> {
    let set = Set::open(host, &asked.devices, asked.patience.duration(), Direction::Load)?;
    let patience = channels::patience(asked.patience.duration());
    let door = Door::open(&asked.listen, patience)?;
    let first = door.source()?;
    let (stream, peer) = (Arc::clone(&first.get_ref().stream), first.get_ref().peer.clone());
    let begun = Instant::now();
    let migration = set.migration(Direction::Load).map_err(|error| failed(&error))?;
    let mut touched = false;
    let taken = channels_of(&set, first, &door)
        .and_then(|inputs| take_in(&set, &migration, inputs, (patience, asked.quiet || asked.json), &mut touched));
    let channels = taken.map_err(|trouble| {
        let why = trouble.what.clone();
        let (trouble, back) = bring_back(&migration, touched, trouble);
        // The devices are brought back whether the source hears this or not.
        let _ = talk::say(&stream, if back { "no" } else { "lost" }, &why);
        trouble
    })?;
    let _ = talk::say(&stream, "running", "");
    let bytes = set.devices.iter().fold(0, |sum: u64, device| sum.saturating_add(device.info().loaded_bytes));
    let summary = Summary { peer, devices: set.devices.len(), channels, bytes, time: begun.elapsed(), source: None };
    Ok(print(out, &summary, &migration, asked.json, asked.quiet))
}

/// The channels of the wire, whose tables were read and agree with the devices. The first is that on which the two ends talk.
fn channels_of(set: &Set, first: Input<Channel>, door: &Door) -> Result<Vec<Input<Channel>>, Trouble> {
    let (channel, channels, wire) = first.reader().channel().unwrap_or((0, 1, 0));
    if channel != 0 {
        let what = format!("the first connection is channel {channel}: the two ends talk on channel 0");
        return Err(Trouble::new(what, "use vfiomig send"));
    }
    // No device moves, and no other channel is waited for, before both sides agree.
    let agrees = |input: &Input<Channel>| input.table().map_or(Ok(Vec::new()), |table| table.places(&set.entries));
    agrees(&first).map_err(|error| failed(&error))?;
    let others = door.others(channels, wire)?;
    Ok(std::iter::once(first).chain(others).collect())
}

/// Takes the devices in, up to where each runs. Returns the number of channels.
fn take_in(
    set: &Set,
    migration: &Migration,
    mut inputs: Vec<Input<Channel>>,
    (patience, quiet): (Duration, bool),
    touched: &mut bool,
) -> Result<u16, Trouble> {
    let Some(stream) = inputs.first().map(|input| Arc::clone(&input.get_ref().stream)) else {
        return Err(Trouble::new("there is no channel", "use vfiomig send"));
    };
    let stream = &*stream;
    talk::say(stream, "ready", "").map_err(|error| failed(&error))?;
    let mut progress = Progress::new("receiving", None, quiet);
    let loaded = migration.load_from(&mut inputs, &set.entries, &mut |step| {
        match step {
            // The next step is the first that a device sees.
            LoadStep::Table(_) => *touched = true,
            LoadStep::Progress { bytes } => progress.moved(bytes),
            LoadStep::Vmm { .. } => {}
        }
        Ok(())
    });
    progress.end();
    let runs = loaded
        .and_then(|()| talk::say(stream, "loaded", ""))
        .and_then(|()| talk::hear(stream, "run", patience))
        .and_then(|()| migration.advance(Phase::LoadRunning));
    runs.map(|()| u16::try_from(inputs.len()).unwrap_or(u16::MAX)).map_err(|error| failed(&error))
}
