//! All faults of the campaign: which there are, which of them are run, and the workers that run them.

use crate::fleet::{Fleet, fleets};
use crate::judge::Run;
use crate::kinds::{Call, KINDS, Kind, calls_of};
use crate::operations::{OPERATIONS, Operation, Prepared};
use crate::outcome::Outcome;
use parking_lot::Mutex;
use simdev::Access;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One fault of so many is in the sample.
pub const SAMPLE: u64 = 20;

/// More than the processors of a small machine: servers of vfio-user are waited for.
const THREADS: usize = 4;

/// Longer than any end takes with all of its waits.
const HANG: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
pub enum Choice<'a> {
    Sample,
    All,
    /// Those whose line has these words.
    With(&'a str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Counted only.
    NotRun,
    As(Outcome),
    /// Without a name, and why.
    Other(String),
}

/// One fault.
#[derive(Clone)]
pub struct Case {
    pub operation: Operation,
    pub fleet: String,
    pub side_by_side: bool,
    pub device: usize,
    pub k: usize,
    pub call: Call,
    pub kind: Kind,
    pub ended: Ended,
}

impl Case {
    /// What names it; the same words select it.
    pub fn line(&self) -> String {
        let way = if self.side_by_side { "side by side" } else { "one by one" };
        let Case { operation, fleet, device, k, call, kind, .. } = self;
        format!("{}, {fleet}, {way}, d{device}, call {k} {:?}, {}", operation.name(), call.access, kind.name())
    }

    /// FNV-1a of the line: the same on every machine, and spread over everything.
    fn number(&self) -> u64 {
        self.line()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    pub fn in_sample(&self) -> bool {
        (self.number() >> 20) % SAMPLE == 0
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = match &self.ended {
            Ended::NotRun => "not run",
            Ended::As(outcome) => outcome.name(),
            Ended::Other(text) => text,
        };
        write!(f, "{}: {ended}", self.line())
    }
}

/// All faults of one operation on one fleet.
struct Cell {
    fleet: Fleet,
    operation: Operation,
    max_workers: usize,
}

impl Cell {
    /// From a run without a fault: the calls of each device, and what of faults they can meet.
    fn cases(&self, prepared: &Prepared) -> Vec<Case> {
        let Cell { fleet, operation, max_workers } = self;
        let (built, migration) = operation.begin(fleet, prepared, *max_workers);
        let bases: Vec<u64> = built.rig.fakes.iter().map(|fake| fake.count(Access::Any)).collect();
        operation.plain(&built.rig, &migration, prepared).unwrap();
        let mut cases = Vec::new();
        for (device, fake) in built.rig.fakes.iter().enumerate() {
            for (k, call) in calls_of(fake, bases[device]).into_iter().enumerate() {
                let kinds = KINDS.into_iter().filter(|kind| kind.applies(call, &fleet.models[device]));
                cases.extend(kinds.map(|kind| Case {
                    operation: *operation,
                    fleet: fleet.name.clone(),
                    side_by_side: *max_workers != 1,
                    device,
                    k,
                    call,
                    kind,
                    ended: Ended::NotRun,
                }));
            }
        }
        cases
    }

    fn run_case(&self, prepared: &Prepared, case: &Case) -> Ended {
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let (built, migration) = self.operation.begin(&self.fleet, prepared, self.max_workers);
            let rig = &built.rig;
            let fake = &rig.fakes[case.device];
            let fault = case.kind.inject(fake, case.call, fake.count(Access::Any) + case.k as u64);
            let contents = rig.fakes.iter().map(simdev::Device::checksum).collect();
            let again = case.number() % 4 == 0;
            let (models, device, kind) = (&self.fleet.models[..], case.device, case.kind);
            let run = Run { rig, models, device, kind, fault, contents, again };
            let outcome = self.operation.judged(&self.fleet, &run, &migration, prepared)?;
            run.nothing_is_left(&migration)?;
            Ok(outcome)
        }));
        match judged {
            Ok(Ok(outcome)) => Ended::As(outcome),
            Ok(Err(text)) => Ended::Other(text),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                Ended::Other(text.to_string())
            }
        }
    }
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for fleet in fleets() {
        for operation in OPERATIONS {
            for max_workers in [1, 0] {
                if operation.is_for(&fleet, max_workers) {
                    cells.push(Cell { fleet: fleet.clone(), operation, max_workers });
                }
            }
        }
    }
    cells
}

/// What each worker is at, since when.
type At = Mutex<Option<(Instant, String)>>;

/// A call that never returns ends the program with the fault in words.
fn watch(all: &[At], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for at in all {
            if let Some((since, line)) = &*at.lock()
                && since.elapsed() > HANG
            {
                eprintln!("HANG: {line}");
                std::process::abort();
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every fault in order, those that were chosen with their ends.
pub fn run(choice: Choice<'_>) -> Vec<Case> {
    let cells = cells();
    let done: Vec<Mutex<Vec<Case>>> = cells.iter().map(|_| Mutex::default()).collect();
    let at: Vec<At> = (0..THREADS).map(|_| At::default()).collect();
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = at
            .iter()
            .map(|at| {
                let (next, cells, done) = (&next, &cells, &done);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(cell) = cells.get(number) else { break };
                        *done[number].lock() = run_cell(cell, choice, at);
                    }
                })
            })
            .collect();
        scope.spawn(|| watch(&at, &over));
        let ended: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|end| end.unwrap());
    });
    done.into_iter().flat_map(Mutex::into_inner).collect()
}

fn run_cell(cell: &Cell, choice: Choice<'_>, at: &At) -> Vec<Case> {
    let prepared = cell.operation.prepared(&cell.fleet);
    let mut cases = cell.cases(&prepared);
    for case in &mut cases {
        let chosen = match choice {
            Choice::Sample => case.in_sample(),
            Choice::All => true,
            Choice::With(words) => case.line().contains(words),
        };
        if chosen {
            *at.lock() = Some((Instant::now(), case.line()));
            case.ended = cell.run_case(&prepared, case);
            *at.lock() = None;
        }
    }
    cases
}
