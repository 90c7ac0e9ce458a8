//! Measures a device: its transitions, its sizes, its data rate, and what its log takes. The device is stopped for that, and runs
//! again behind every failure, too.

use crate::open::Opened;
use crate::{signals, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vfiomig::device::{CapFlags, Device, OnFailure};
use vfiomig::dialect::{DialectKind, State};
use vfiomig::transport::{Transport, requests};
use vfiomig::window::StreamFlags;

/// How long pre-copy is read: some devices make all of it again each second (K13).
const PRECOPY_LIMIT: Duration = Duration::from_secs(2);
const LOG_PAGES: [u64; 4] = [4 << 10, 64 << 10, 2 << 20, 1 << 30];
const LOG_RANGES: [usize; 3] = [1, 16, 256];
/// How many bytes a log is asked to watch.
const LOG_SPAN: u64 = 1 << 30;

/// One transition.
pub struct Step {
    pub from: &'static str,
    pub to: &'static str,
    pub time: Duration,
}

/// Bytes that were read, and how long that took.
#[derive(Clone, Copy, Default)]
pub struct Moved {
    bytes: u64,
    time: Duration,
    largest: usize,
}

/// What was measured.
#[derive(Default)]
pub struct Measured {
    pub steps: Vec<Step>,
    stop_copy_size: Option<u64>,
    precopy: Option<Moved>,
    stop_copy: Option<Moved>,
    /// Page sizes that a log was asked for, each with the one that it answered.
    log_pages: Vec<(u64, u64)>,
    log_ranges: Option<usize>,
    pub trouble: Option<String>,
}

type Tried = Result<(), String>;

/// Measures a device, and lets it run again.
pub fn device(opened: &Opened, device: &Device) -> Measured {
    let mut measured = Measured::default();
    if device.state() != State::Running {
        measured.trouble = Some(opened.not_running(device.state()).to_string());
        return measured;
    }
    if let Err(trouble) = measured.all(opened, device) {
        measured.trouble = Some(trouble);
    }
    if device.state() != State::Running {
        if let Err(error) = device.set_state(State::Running, OnFailure::Keep, false) {
            let text = format!("the device does not run again: {error}");
            measured.trouble = Some(measured.trouble.map_or(text.clone(), |before| format!("{before}; {text}")));
        }
    }
    measured
}

impl Measured {
    fn all(&mut self, opened: &Opened, device: &Device) -> Tried {
        if let Ok(transport) = opened.transport() {
            self.log(&*transport);
        }
        let caps = device.info().caps;
        if caps.contains(CapFlags::P2P) {
            self.go(device, State::RunningP2p)?;
            self.go(device, State::Running)?;
        }
        if caps.contains(CapFlags::PRE_COPY) {
            self.go(device, State::PreCopy)?;
            self.precopy = Some(read(device, PRECOPY_LIMIT)?);
            self.go(device, State::Running)?;
        }
        self.go(device, State::Stop)?;
        if device.info().dialect != Some(DialectKind::V2) {
            // libvfio-user's v1 leaves STOP for RUNNING only.
            self.go(device, State::Running)?;
        }
        // What was read before is thrown away, and this is a stream of its own.
        device.restart_stream().map_err(|error| error.to_string())?;
        self.go(device, State::StopCopy)?;
        self.stop_copy_size = device.pending_exact().ok().and_then(|pending| pending.stop_copy_bytes);
        self.stop_copy = Some(read(device, Duration::MAX)?);
        self.go(device, State::Stop)?;
        self.go(device, State::Running)
    }

    fn go(&mut self, device: &Device, to: State) -> Tried {
        if signals::interrupted() {
            return Err("interrupted".into());
        }
        let (from, begun) = (device.state(), Instant::now());
        device.set_state(to, OnFailure::Keep, false).map_err(|error| error.to_string())?;
        self.steps.push(Step { from: from.name(), to: to.name(), time: begun.elapsed() });
        Ok(())
    }

    /// Finds out which pages and how many ranges a log takes (L1).
    fn log(&mut self, transport: &dyn Transport) {
        if requests::probe(transport, 6, true).is_err() {
            return;
        }
        let start = |page: u64, count: usize| {
            let length = LOG_SPAN.checked_div(count as u64).unwrap_or(LOG_SPAN);
            let ranges: Vec<[u64; 2]> =
                (0..count as u64).map(|at| [at.saturating_mul(2).saturating_mul(length), length]).collect();
            let answer = requests::start(transport, page, &ranges).ok();
            if answer.is_some() {
                let _ = requests::stop(transport);
            }
            answer
        };
        self.log_pages = LOG_PAGES.iter().filter_map(|page| Some((*page, start(*page, 1)?))).collect();
        self.log_ranges = LOG_RANGES.iter().copied().filter(|count| start(4096, *count).is_some()).max();
    }

    /// Names and values of what was measured, for people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        let said =
            self.stop_copy_size.map_or("not known before".to_string(), |size| format!("said {}", text::bytes(size)));
        let moved = [("pre-copy data", self.precopy, "while it ran".to_string()), ("state", self.stop_copy, said)];
        for (name, moved, note) in moved {
            let Some(Moved { bytes, time, largest }) = moved else { continue };
            let (count, rate) = (text::bytes(bytes), text::rate(bytes, time));
            rows.push((
                name,
                format!("{count} in {}, {rate}, at most {largest} bytes at once; {note}", text::time(time)),
            ));
        }
        if !self.log_pages.is_empty() {
            let pages =
                self.log_pages.iter().map(|(asked, got)| format!("{}: {}", text::bytes(*asked), text::bytes(*got)));
            rows.push(("log pages", format!("asked and given: {}", pages.collect::<Vec<_>>().join(", "))));
        }
        rows.extend(self.log_ranges.map(|count| ("log ranges", format!("{count} at least"))));
        rows
    }

    /// What was measured, for programs.
    pub fn json(&self) -> Value {
        let moved = |moved: Option<Moved>| {
            moved.map(|moved| json!({"bytes": moved.bytes, "us": micros(moved.time), "largest_read": moved.largest}))
        };
        json!({
            "transitions": self.steps.iter()
                .map(|step| json!({"from": step.from, "to": step.to, "us": micros(step.time)})).collect::<Vec<_>>(),
            "precopy": moved(self.precopy),
            "stop_copy": moved(self.stop_copy),
            "stop_copy_said": self.stop_copy_size,
            "log_page_sizes": self.log_pages.iter()
                .map(|(asked, given)| json!({"asked": asked, "given": given})).collect::<Vec<_>>(),
            "log_ranges": self.log_ranges,
            "trouble": self.trouble,
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Reads and throws away, until the stream ends, has nothing now, or the time is over.
fn read(device: &Device, limit: Duration) -> Result<Moved, String> {
    let mut buf = vec![0; 1 << 20];
    let (mut moved, begun) = (Moved::default(), Instant::now());
    loop {
        if signals::interrupted() {
            return Err("interrupted".into());
        }
        let (len, flags) = device.read(&mut buf).map_err(|error| error.to_string())?;
        moved.bytes = moved.bytes.saturating_add(len as u64);
        moved.largest = moved.largest.max(len);
        moved.time = begun.elapsed();
        if flags.intersects(StreamFlags::END | StreamFlags::EMPTY) || moved.time > limit {
            return Ok(moved);
        }
    }
}
