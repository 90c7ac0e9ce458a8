//! `vfiomig bench`: how long the transitions of a device take, how fast its state is saved and loaded, and what its log costs.

use crate::bitmap::Bitmap;
use crate::cli::Bench;
use crate::exit::Exit;
use crate::host::Host;
use crate::open::{self, LOG_BASE, LOG_SPAN, Opened};
use crate::output::{Look, Output};
use crate::{facts, signals, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vfiomig::device::{CapFlags, Device, OnFailure};
use vfiomig::dialect::{DialectKind, State};
use vfiomig::transport::requests;
use vfiomig::window::StreamFlags;

/// Longest stream that is kept to be loaded.
const LONGEST: usize = 1 << 30;
const PAGE: u64 = 4096;

/// The times of one measurement, in the order of the runs.
struct Row {
    what: String,
    times: Vec<Duration>,
    /// Bytes that were moved each time.
    bytes: Option<u64>,
}

impl Row {
    fn sorted(&self) -> Vec<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times
    }

    fn least(&self) -> Duration {
        self.times.iter().min().copied().unwrap_or_default()
    }

    fn most(&self) -> Duration {
        self.times.iter().max().copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        let times = self.sorted();
        let at = |place: usize| times.get(place).copied().unwrap_or_default();
        let upper = times.len() / 2;
        if times.len() % 2 == 1 {
            return at(upper);
        }
        at(upper.saturating_sub(1)).saturating_add(at(upper)).checked_div(2).unwrap_or_default()
    }
}

/// What was measured.
#[derive(Default)]
struct Measured {
    rows: Vec<Row>,
    notes: Vec<String>,
}

type Tried<T = ()> = Result<T, String>;

pub fn run(host: &Host, out: &Output, asked: &Bench) -> Exit {
    let opened = match open::open(host, &asked.device, asked.patience.duration()) {
        Ok(opened) => opened,
        Err(trouble) => {
            out.trouble(&trouble.to_string());
            return Exit::Failed;
        }
    };
    let (facts, device) = facts::of(host, &opened);
    let device = match (&facts.asked, device) {
        (Ok(_), Some(device)) => device,
        (Err(trouble), _) => {
            out.trouble(&format!("{}: {trouble}", asked.device));
            return Exit::Failed;
        }
        (Ok(_), None) => return Exit::Failed,
    };
    if device.state() != State::Running {
        out.trouble(&format!("{}: {}", asked.device, opened.not_running(device.state())));
        return Exit::Failed;
    }
    let mut measured = Measured::default();
    let done = measured.all(&opened, &device, asked.runs).and_then(|()| brought_back(&device));
    let done = done.map_err(|trouble| match brought_back(&device) {
        Ok(()) => trouble,
        Err(more) => format!("{trouble}; {more}"),
    });
    if asked.json {
        out.json(&measured.json(asked, &done));
    } else {
        measured.show(out, asked);
    }
    if let Err(trouble) = &done {
        out.trouble(&format!("{}: {trouble}", asked.device));
    }
    match done {
        _ if signals::interrupted() => Exit::Interrupted,
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failed,
    }
}

#[test]
fn the_median_of_two_lies_between() {
    let times = [7, 1, 3, 5].map(Duration::from_micros);
    let row =
        |count: usize| Row { what: String::new(), times: times.iter().copied().take(count).collect(), bytes: None };
    assert_eq!([0, 1, 2, 3, 4].map(|count| row(count).median().as_micros()), [0, 7, 4, 3, 4]);
}

fn brought_back(device: &Device) -> Tried {
    if device.state() == State::Running {
        return Ok(());
    }
    let back = match device.state() {
        // A load has failed, which is left by a reset only.
        State::Resuming | State::Error => device.reset().map(|()| "it was reset: the state that it had is lost"),
        _ => device.set_state(State::Running, OnFailure::Keep, false).map(|()| ""),
    };
    match back {
        Ok("") => Ok(()),
        Ok(lost) => Err(lost.into()),
        Err(error) => Err(format!("the device does not run again: {error}")),
    }
}

impl Measured {
    fn note(&mut self, what: impl Into<String>, time: Duration, bytes: Option<u64>) {
        let what = what.into();
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => {
                row.times.push(time);
                row.bytes = bytes;
            }
            None => self.rows.push(Row { what, times: vec![time], bytes }),
        }
    }

    fn all(&mut self, opened: &Opened, device: &Device, runs: u32) -> Tried {
        for _ in 0..runs {
            self.precopy(device)?;
            let stream = self.save(device)?;
            match stream {
                Some((bytes, ends)) => self.load(device, &bytes, &ends)?,
                None => self.say("its state is too long to be kept: it was not loaded"),
            }
        }
        self.log(opened, runs)
    }

    fn say(&mut self, note: &str) {
        if !self.notes.iter().any(|before| before == note) {
            self.notes.push(note.to_string());
        }
    }

    fn go(&mut self, device: &Device, to: State) -> Tried {
        if signals::interrupted() {
            return Err("interrupted".into());
        }
        self.step(device, to)
    }

    /// Enters a state, whatever signals came.
    fn step(&mut self, device: &Device, to: State) -> Tried {
        let (from, begun) = (device.state(), Instant::now());
        device.set_state(to, OnFailure::Keep, false).map_err(|error| error.to_string())?;
        self.note(format!("{from} to {to}"), begun.elapsed(), None);
        Ok(())
    }

    fn precopy(&mut self, device: &Device) -> Tried {
        let caps = device.info().caps;
        if caps.contains(CapFlags::P2P) {
            self.go(device, State::RunningP2p)?;
            self.go(device, State::Running)?;
        }
        if caps.contains(CapFlags::PRE_COPY) {
            self.go(device, State::PreCopy)?;
            self.go(device, State::Running)?;
        }
        Ok(())
    }

    /// Saves the device. Returns the whole stream, and where its segments end; `None` where it is too long to be kept.
    fn save(&mut self, device: &Device) -> Tried<Option<(Vec<u8>, Vec<usize>)>> {
        let text = |error: vfiomig::Error| error.to_string();
        self.go(device, State::Stop)?;
        if device.info().dialect != Some(DialectKind::V2) {
            // libvfio-user's v1 leaves STOP for RUNNING only.
            self.go(device, State::Running)?;
        }
        device.restart_stream().map_err(text)?;
        self.go(device, State::StopCopy)?;
        let (mut buf, mut kept, mut ends, mut len) = (vec![0; 1 << 20], Vec::new(), Vec::new(), 0u64);
        let begun = Instant::now();
        loop {
            if signals::interrupted() {
                return Err("interrupted".into());
            }
            let (count, flags) = device.read(&mut buf).map_err(text)?;
            if flags.contains(StreamFlags::END) {
                break;
            }
            len = len.saturating_add(count as u64);
            if kept.len() <= LONGEST {
                kept.extend_from_slice(buf.get(..count).unwrap_or_default());
            }
            if flags.contains(StreamFlags::SEGMENT_END) {
                ends.push(kept.len());
            }
        }
        self.note("save", begun.elapsed(), Some(len));
        self.go(device, State::Stop)?;
        if device.info().dialect != Some(DialectKind::V2) {
            // Servers of v1 take a load from RUNNING only.
            self.go(device, State::Running)?;
        }
        Ok((kept.len() as u64 == len).then_some((kept, ends)))
    }

    /// Loads the device's own stream. A signal does not end this: a load that is given up leaves a device without its state.
    fn load(&mut self, device: &Device, bytes: &[u8], ends: &[usize]) -> Tried {
        let text = |error: vfiomig::Error| error.to_string();
        self.go(device, State::Resuming)?;
        let begun = Instant::now();
        let mut from = 0;
        let cuts: Vec<usize> = if ends.is_empty() {
            (1..=bytes.len().div_ceil(1 << 20)).map(|part| part.saturating_mul(1 << 20).min(bytes.len())).collect()
        } else {
            ends.to_vec()
        };
        for end in cuts {
            device.write(bytes.get(from..end).unwrap_or_default(), !ends.is_empty()).map_err(text)?;
            from = end;
        }
        device.finish(Some(bytes.len() as u64)).map_err(text)?;
        self.note("load", begun.elapsed(), Some(bytes.len() as u64));
        if device.info().dialect == Some(DialectKind::V2) {
            self.step(device, State::Stop)?;
        }
        self.step(device, State::Running)
    }

    fn log(&mut self, opened: &Opened, runs: u32) -> Tried {
        let text_of = |trouble: crate::host::Trouble| trouble.to_string();
        let transport = opened.transport().map_err(text_of)?;
        if requests::probe(&*transport, 6, true).is_err() {
            self.say("it has no log of its own");
            return Ok(());
        }
        opened.lend_memory();
        for _ in 0..runs {
            let begun = Instant::now();
            let page = match requests::start(&*transport, PAGE, &[[LOG_BASE, LOG_SPAN]]) {
                Ok(page) => page.max(PAGE),
                Err(errno) => {
                    self.say(&format!("its log does not start over {}: {errno}", text::bytes(LOG_SPAN)));
                    return Ok(());
                }
            };
            self.note("log: START", begun.elapsed(), None);
            let mut bitmap = Bitmap::new(LOG_SPAN.checked_div(page).unwrap_or(1));
            let begun = Instant::now();
            let reported = requests::report(&*transport, LOG_BASE, LOG_SPAN, page, bitmap.words());
            let time = begun.elapsed();
            let begun = Instant::now();
            let stopped = requests::stop(&*transport);
            let took = begun.elapsed();
            stopped.map_err(|errno| format!("its log cannot be stopped: {errno}"))?;
            self.note("log: STOP", took, None);
            // Kernels without the code for dirty bitmaps start a log that cannot be read (K23).
            if let Err(errno) = reported {
                self.say(&format!("its log starts, and cannot be read: {errno}"));
                return Ok(());
            }
            self.note(format!("log: REPORT of {}", text::bytes(LOG_SPAN)), time, None);
        }
        Ok(())
    }

    fn show(&self, out: &Output, asked: &Bench) {
        let times = ["least", "median", "most"];
        let head = format!("{:<32} {:>10} {:>10} {:>10}", asked.device, times[0], times[1], times[2]);
        out.line(out.paint(Look::Bold, &head));
        for row in &self.rows {
            let [least, median, most] = [row.least(), row.median(), row.most()].map(text::time);
            let rate = row.bytes.map_or_else(String::new, |bytes| {
                format!("   {}, {}", text::bytes(bytes), text::rate(bytes, row.median()))
            });
            out.line(format!("{:<32} {least:>10} {median:>10} {most:>10}{rate}", row.what));
        }
        self.notes.iter().for_each(|note| out.line(note));
    }

    fn json(&self, asked: &Bench, done: &Tried) -> Value {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let rows = self.rows.iter().map(|row| {
            json!({
                "what": row.what, "least_us": micros(row.least()), "median_us": micros(row.median()),
                "most_us": micros(row.most()), "us": row.times.iter().map(|time| micros(*time)).collect::<Vec<_>>(),
                "bytes": row.bytes,
            })
        });
        json!({
            "version": 1, "device": asked.device.to_string(), "runs": asked.runs,
            "rows": rows.collect::<Vec<_>>(), "notes": self.notes, "trouble": done.as_ref().err(),
        })
    }
}
