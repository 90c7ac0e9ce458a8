//! One course: the calls are made, and what they leave is compared with the model.

use crate::course::{Beside, Call, Course, Kind, Step, Trouble};
use crate::model::{May, Move, Part, after};
use crate::rig::{Rig, Stream, caps, kind, kinds};
use simdev::{Config, Fault, ResetLeaves};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use vfiomig::Result;
use vfiomig::device::OnFailure;
use vfiomig::dialect::State;
use vfiomig::error::ErrorKind;
use vfiomig::migration::{AbortTo, Budget, Fed, Migration, Phase, Piece};
use vfiomig::tracker;
use vfiomig::window::StreamFlags;

const END: StreamFlags = StreamFlags::END;

const PHASES: [Phase; 11] = [
    Phase::SaveTracking,
    Phase::SavePreCopy,
    Phase::SaveViommuGrace,
    Phase::SaveP2pGrace,
    Phase::SaveStopCopy,
    Phase::SaveHalted,
    Phase::LoadResuming,
    Phase::LoadLoaded,
    Phase::LoadP2pGrace,
    Phase::LoadRunning,
    Phase::Idle,
];

/// Longer than any course with every patience in it.
const HANG: Duration = Duration::from_secs(120);

/// What a VMM has of one device's stream.
#[derive(Clone, Default)]
struct Kept {
    session: u64,
    stream: Stream,
    /// Somebody else has taken bytes out of it.
    stolen: bool,
}

struct World {
    rig: Rig,
    loads: bool,
    migration: Migration,
    parts: Vec<Part>,
    may: Vec<May>,
    /// By device: it was made to fail; its handle was freed.
    troubled: Vec<bool>,
    unplugged: Vec<bool>,
    kept: Vec<Kept>,
    /// What is to be loaded, how far that has come in which session, and the devices it is of.
    streams: Vec<Stream>,
    fed: Vec<(u64, usize)>,
    source: Option<Rig>,
}

fn config(of: Kind) -> Config {
    match of {
        Kind::Plain(number) => kinds()[number % 7].clone().state_size(450).segments(256),
        Kind::Peer(peer) => peer.config(),
    }
}

/// Runs a course; a call that never returns ends the program with the course in words.
pub fn run(course: &Course) {
    let (done, waits) = channel::<()>();
    let text = format!("{course:#?}");
    let watch = std::thread::spawn(move || {
        if waits.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("HANG: {text}");
            std::process::abort();
        }
    });
    let mut world = World::new(course);
    for step in &course.steps {
        world.step(step);
    }
    world.end();
    drop(done);
    watch.join().unwrap();
}

impl World {
    fn new(course: &Course) -> World {
        let configs: Vec<Config> = course.devices.iter().map(|of| config(*of)).collect();
        let (mut source, mut streams) = (None, Vec::new());
        let rig = if course.loads {
            let from = Rig::source(&configs, 1);
            from.allow_abort();
            streams = from.save_all(&from.save()).unwrap();
            source = Some(from);
            Rig::target(&configs, course.workers)
        } else {
            Rig::source(&configs, course.workers)
        };
        rig.allow_abort();
        let count = configs.len();
        World {
            migration: if course.loads { rig.load() } else { rig.save() },
            parts: configs.iter().map(|config| Part { kind: kind(config), caps: caps(config) }).collect(),
            may: vec![May::only(State::Running); count],
            troubled: vec![false; count],
            unplugged: vec![false; count],
            kept: vec![Kept::default(); count],
            fed: vec![(0, 0); count],
            loads: course.loads,
            rig,
            streams,
            source,
        }
    }

    fn step(&mut self, step: &Step) {
        if let Some(trouble) = step.trouble {
            self.inject(trouble);
        }
        let phase = self.migration.phase();
        let before = self.may.clone();
        let (world, beside) = (&*self, step.beside);
        let (made, other) = std::thread::scope(|scope| {
            let other = scope.spawn(move || world.beside(beside));
            let made = world.call(step.call, phase);
            (made, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        if let Beside::Unplug(device) = step.beside {
            self.unplugged[device % self.parts.len()] = true;
        }
        self.take(made.kept);
        if let Beside::Read(device) = step.beside {
            let device = device % self.parts.len();
            self.kept[device].stolen = true;
        }
        for (device, (session, place)) in made.fed.into_iter().enumerate() {
            self.fed[device] = (session, place);
        }
        self.may = self.expect(&before, &made.moved, &other);
        self.check(&format!("{step:?} from {phase} to {}", self.migration.phase()));
        if let Some((Phase::SaveHalted, true)) = made.entered {
            self.check_streams(&format!("{step:?}"));
        }
        if let (Some((Phase::LoadRunning, true)), Some(source)) = (made.entered, &self.source) {
            for (i, (fake, from)) in self.rig.fakes.iter().zip(&source.fakes).enumerate() {
                assert!(self.unplugged[i] || fake.same_content(from), "d{i} runs with something else: {step:?}");
            }
        }
    }

    fn inject(&mut self, trouble: Trouble) {
        let device = trouble.device % self.parts.len();
        let fake = &self.rig.fakes[device];
        let nth = fake.count(trouble.access) + trouble.nth;
        fake.inject(Fault { access: trouble.access, nth, times: 1, effect: trouble.effect });
        self.troubled[device] = true;
    }

    /// Each device is in one of the states that follow from both calls, in either order.
    fn expect(&self, before: &[May], one: &[Option<(Move, bool)>], other: &[Option<(Move, bool)>]) -> Vec<May> {
        let moved =
            |device: usize, moves: &[Option<(Move, bool)>], from: May| match moves.get(device).cloned().flatten() {
                Some((what, ok)) => after(&what, ok, self.parts[device], from),
                None => from,
            };
        let mut all = Vec::new();
        for (device, &from) in before.iter().enumerate() {
            let first = moved(device, other, moved(device, one, from));
            let second = moved(device, one, moved(device, other, from));
            let mut may = first.or(second);
            if self.troubled[device] {
                may = may.with(&[State::Error]);
            }
            if self.unplugged[device] {
                // Nothing is asked of it any more, from some moment on.
                may = may.or(from);
            }
            all.push(may);
        }
        all
    }

    fn check(&self, what: &str) {
        for (i, fake) in self.rig.fakes.iter().enumerate() {
            let (is, known) = (fake.state(), self.rig.devices[i].state());
            assert!(self.may[i].has(is), "d{i} is in {is}, and may be in {:?}: {what}", self.may[i]);
            let known_is_true = known == is || self.troubled[i] || self.unplugged[i];
            assert!(known_is_true, "d{i} is in {is}, and its handle says {known}: {what}");
            assert!(self.loads || fake.resets() == 0, "d{i} was reset: {what}");
            self.check_accesses(i, what);
        }
    }

    fn check_accesses(&self, device: usize, what: &str) {
        let (violations, config) = (self.rig.fakes[device].violations(), &self.rig.configs[device]);
        // A device that goes to ERROR by itself is asked for its sizes until somebody reads its state.
        let failed = |rule: &str| self.troubled[device] && rule == "N14";
        // From a reset that leaves the state as it is only the next state leads away, without the rest of the stream.
        let left = config.habits.reset_leaves == ResetLeaves::SameIfAwake;
        let wrong = violations.iter().any(|violation| !failed(violation.rule) && (violation.rule != "N2" || !left));
        assert!(!wrong, "d{device}: {violations:?}: {what}");
    }

    /// Pieces belong to the session that is open.
    fn take(&mut self, pieces: Vec<(usize, Vec<u8>, bool)>) {
        for (device, kept) in self.kept.iter_mut().enumerate() {
            let session = self.rig.devices[device].info().session;
            if kept.session != session {
                *kept = Kept { session, ..Kept::default() };
            }
        }
        for (device, bytes, segment_end) in pieces {
            self.kept[device].stream.parts.push((bytes, segment_end));
        }
    }

    /// HALTED: what was sent of each device makes another one the same.
    fn check_streams(&self, what: &str) {
        for (i, kept) in self.kept.iter().enumerate() {
            if kept.stolen || self.unplugged[i] {
                continue;
            }
            let target = Rig::target(&self.rig.configs[i..=i], 1);
            let load = target.load();
            let loaded = target.load_all(&load, std::slice::from_ref(&kept.stream));
            assert!(loaded.is_ok(), "d{i}: HALTED with a stream that cannot be loaded: {loaded:?}: {what}");
            assert!(target.fakes[0].same_content(&self.rig.fakes[i]), "d{i}: HALTED with another content: {what}");
        }
    }

    /// The way back: all run again, those that failed after a reset. Then nothing is left.
    fn end(self) {
        self.rig.fakes.iter().for_each(simdev::Device::clear_faults);
        // What was handed over runs elsewhere, and what was loaded runs here: neither is aborted.
        let over = [Phase::SaveHalted, Phase::LoadRunning].contains(&self.migration.phase());
        if !over {
            self.abort();
        }
        self.migration.close().unwrap();
        let group = &self.rig.group;
        for device in self.rig.devices.iter().filter(|device| device.is_closed()) {
            // It may have been taken out already.
            let _ = group.remove_device(device);
        }
        for (i, device) in self.rig.devices.iter().enumerate() {
            // Handed over, or a fault of a pause that came after the migration.
            let failed = self.troubled[i] && device.state() == State::Error;
            if failed && self.never_leaves_error(i) {
                device.close().unwrap();
                let _ = group.remove_device(device);
            }
            if (failed || over && !self.loads) && !device.is_closed() {
                let reset = device.reset().or_else(|_| device.set_state(State::Running, OnFailure::Keep, false));
                reset.unwrap();
            }
        }
        let (pause, resume) = (group.pause(), group.resume());
        assert!(pause.is_ok() && resume.is_ok(), "{pause:?}, {resume:?}");
        for (i, fake) in self.rig.fakes.iter().enumerate() {
            let state = fake.state();
            let for_good = self.never_leaves_error(i) && state == State::Error;
            assert!(state == State::Running || self.unplugged[i] || for_good, "d{i} is in {state} at the end");
            let _ = self.rig.devices[i].close();
            assert_eq!(fake.mappings(), 0, "d{i} has mappings");
            self.check_accesses(i, "the end");
        }
        assert_eq!(*self.rig.log.started.lock(), 0, "a tracker runs on");
    }

    fn never_leaves_error(&self, device: usize) -> bool {
        self.rig.configs[device].habits.reset_leaves == ResetLeaves::RunningIfAwake
    }

    fn abort(&self) {
        let alone = !self.unplugged.contains(&true);
        let outcome = self.migration.abort_without_second_guest(AbortTo::Running);
        let faultless = alone && !self.troubled.contains(&true);
        assert!(outcome.is_ok() || !faultless, "abort without a fault: {outcome:?}");
        let mut given_up = false;
        for (i, device) in self.rig.devices.iter().enumerate() {
            let state = device.state();
            if state == State::Running || self.unplugged[i] {
                continue;
            }
            assert!(outcome.is_err() && self.troubled[i], "d{i} is in {state} after {outcome:?}");
            let reset = device.reset();
            // Servers of v1 do not leave ERROR: the VMM has to give the device up.
            let for_good = self.never_leaves_error(i) && state == State::Error;
            assert_eq!(reset.is_ok(), !for_good, "{reset:?}");
            given_up |= for_good;
        }
        if outcome.is_err() && alone && !given_up {
            let again = self.migration.abort(AbortTo::Running);
            assert!(again.is_ok(), "abort after a reset: {again:?}");
        }
    }
}

/// What a call has done: by device, how it was to move, and whether the call succeeded.
#[derive(Default)]
struct Made {
    moved: Vec<Option<(Move, bool)>>,
    entered: Option<(Phase, bool)>,
    kept: Vec<(usize, Vec<u8>, bool)>,
    fed: Vec<(u64, usize)>,
}

/// What every error must be.
fn note<T>(outcome: &Result<T>) -> bool {
    if let Err(error) = outcome {
        assert!(error.kind() != ErrorKind::Panic, "{error}");
        assert!(error.kind() != ErrorKind::Busy, "calls wait for each other: {error}");
        assert!(error.errno() > 0 && !error.to_string().is_empty(), "{error:?}");
    }
    outcome.is_ok()
}

impl World {
    fn all(&self, what: Move, ok: bool) -> Vec<Option<(Move, bool)>> {
        let moves = |unplugged: &bool| (!unplugged).then(|| (what.clone(), ok));
        self.unplugged.iter().map(moves).collect()
    }

    fn next(&self, phase: Phase) -> Option<Phase> {
        PHASES.into_iter().find(|next| *next > phase && (*next >= Phase::LoadResuming) == self.loads)
    }

    /// The phases that are entered on the way.
    fn way(&self, from: Phase, to: Phase) -> Vec<Phase> {
        let asked_for = [Phase::SavePreCopy, Phase::SaveViommuGrace];
        PHASES
            .into_iter()
            .filter(|phase| *phase != Phase::Idle && (*phase >= Phase::LoadResuming) == self.loads)
            .filter(|phase| *phase > from && *phase <= to && (*phase == to || !asked_for.contains(phase)))
            .collect()
    }

    fn call(&self, call: Call, phase: Phase) -> Made {
        let mut made = Made { fed: self.fed.clone(), ..Made::default() };
        match call {
            Call::Advance(to) => {
                let to = to.map(|number| PHASES[number]).or(self.next(phase)).unwrap_or(Phase::Idle);
                let ok = note(&self.migration.advance(to));
                made.moved = self.all(Move::Enter(self.way(phase, to)), ok);
                made.entered = (to != phase).then_some((to, ok));
            }
            Call::AdvanceDevice(device) => {
                let device = device % self.parts.len();
                let Some(to) = self.next(phase) else { return made };
                let ok = note(&self.migration.advance_device(&self.rig.devices[device], to));
                made.moved = vec![None; self.parts.len()];
                made.moved[device] = (!self.unplugged[device]).then(|| (Move::Enter(self.way(phase, to)), ok));
                made.entered = (self.migration.phase() == to && to != phase).then_some((to, ok));
            }
            Call::Abort(to) => {
                let word = to % 2 == 1;
                let (how, to) = [
                    (AbortTo::Running, vec![State::Running]),
                    (AbortTo::Stop, vec![State::Stop]),
                    (AbortTo::RunState, vec![State::Running, State::Stop]),
                ][to % 3]
                    .clone();
                // Half of them with the caller's word that no second guest runs.
                let migration = &self.migration;
                let outcome = if word { migration.abort_without_second_guest(how) } else { migration.abort(how) };
                assert!(outcome.is_err() || word || phase != Phase::SaveHalted, "a second guest may run");
                let ok = note(&outcome);
                made.moved = self.all(if self.loads { Move::AbortLoad { to } } else { Move::AbortSave { to } }, ok);
            }
            Call::Save(bytes) => {
                let budget = Budget { bytes, time: Duration::from_secs(5) };
                note(&self.migration.save_iterate(budget, &[], &mut keep(&mut made.kept)));
            }
            Call::SaveComplete => {
                let outcome = self.migration.save_complete(&[], &mut keep(&mut made.kept));
                note(&outcome);
                for (device, flags) in self.rig.devices.iter().zip(outcome.iter().flat_map(|round| &round.flags)) {
                    let owes = device.state() == State::StopCopy;
                    assert!(!owes || *flags == END, "save_complete before END of {}", device.name());
                }
            }
            Call::LoadComplete => {
                let ok = self.load(&mut made.fed);
                // Each device goes to LOADED behind its own stream.
                if phase == Phase::LoadResuming {
                    made.moved = self.all(Move::Enter(vec![Phase::LoadLoaded]), ok);
                    made.entered = (self.migration.phase() == Phase::LoadLoaded).then_some((Phase::LoadLoaded, ok));
                }
            }
            Call::Harvest => {
                note(&self.harvest());
            }
            Call::Pause => made.moved = self.all(Move::Pause, note(&self.rig.group.pause())),
            Call::Resume => made.moved = self.all(Move::Resume, note(&self.rig.group.resume())),
        }
        made
    }

    fn load(&self, fed: &mut [(u64, usize)]) -> bool {
        for (device, place) in fed.iter_mut().enumerate() {
            let session = self.rig.devices[device].info().session;
            if place.0 != session {
                *place = (session, 0);
            }
        }
        note(&self.migration.load_complete(&[], &mut |device, buf| {
            let stream = &self.streams[device];
            let Some((bytes, segment_end)) = stream.parts.get(fed[device].1) else {
                return Ok(Fed::End { total: Some(stream.len() as u64) });
            };
            fed[device].1 += 1;
            buf[..bytes.len()].copy_from_slice(bytes);
            Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
        }))
    }

    fn harvest(&self) -> Result<tracker::Harvest> {
        let run = &mut |_: u64, _: tracker::IovaRange| true;
        self.rig.group.harvest(&mut tracker::Request { run: Some(run), ..tracker::Request::default() })
    }

    fn beside(&self, what: Beside) -> Vec<Option<(Move, bool)>> {
        let group = &self.rig.group;
        match what {
            Beside::Nothing => {}
            Beside::Look => {
                let _ = (self.migration.phase(), self.migration.pending());
                note(&self.migration.report());
                note(&group.abilities());
                self.rig.devices.iter().for_each(|device| {
                    assert!(device.info().session <= 100 && device.pending().dirty_bytes != Some(u64::MAX))
                });
            }
            Beside::Cancel => self.migration.cancel(),
            Beside::Pause => return self.all(Move::Pause, note(&group.pause())),
            Beside::Resume => return self.all(Move::Resume, note(&group.resume())),
            Beside::PauseBegin => return self.all(Move::PauseBegin, note(&group.pause_begin())),
            Beside::ResumeBegin => return self.all(Move::ResumeBegin, note(&group.resume_begin())),
            Beside::Harvest => drop(note(&self.harvest())),
            Beside::Unplug(device) => drop(note(&self.rig.devices[device % self.parts.len()].close())),
            Beside::Read(device) => {
                note(&self.rig.devices[device % self.parts.len()].read(&mut [0; 100]));
            }
        }
        Vec::new()
    }
}

fn keep(pieces: &mut Vec<(usize, Vec<u8>, bool)>) -> impl FnMut(Piece<'_>) -> Result<()> + '_ {
    move |piece| {
        pieces.push((piece.device, piece.bytes.to_vec(), piece.segment_end));
        Ok(())
    }
}
