//! Random courses of one thread, judged by content alone: a VMM that does what the guide says keeps the bytes of its streams, and loads
//! what a save that has succeeded gave it into fresh devices; a load that has succeeded runs with what its source had. Devices
//! fail, and the VMM resets, moves and looks at them in between.

use crate::rig::{Rig, Stream};
use simdev::{Access, Config, Effect, Fault, Peer, Ready, Window};
use std::fmt::Write;
use std::time::{Duration, Instant};
use vfiomig::Result;
use vfiomig::device::OnFailure;
use vfiomig::dialect::State;
use vfiomig::error::{Error, ErrorKind};
use vfiomig::migration::{AbortTo, Budget, Fed, Migration, Phase, Piece};

/// Each direction gets so long; a change is judged by the same courses.
const TIME: Duration = Duration::from_secs(6);
const COURSES: u64 = 2000;

const PEERS: [Peer; 9] = [
    Peer::Mlx5,
    Peer::Virtio,
    Peer::HisiAcc,
    Peer::Qat,
    Peer::Mtty,
    Peer::Xe,
    Peer::Pds,
    Peer::LibvfioUserV1,
    Peer::LibvfioUserV2,
];
const STATES: [State; 6] =
    [State::Stop, State::Running, State::StopCopy, State::RunningP2p, State::PreCopyP2p, State::PreCopy];

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % most
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    fn configs(&mut self) -> Vec<Config> {
        let config = |dice: &mut Dice| {
            let size = 1 << (10 + dice.below(4));
            let mut config = match dice.below(10) {
                9 => Config::v1_ndma(Window::Gap),
                peer => PEERS[peer as usize].config(),
            };
            config.habits.ready = Ready::AtOnce;
            config.state_size(size)
        };
        (0..1 + self.below(2)).map(|_| config(self)).collect()
    }
}

/// One course, and what was done in it.
struct Course {
    dice: Dice,
    rig: Rig,
    migration: Migration,
    reported: String,
}

impl Course {
    fn say<T>(&mut self, what: &str, outcome: Result<T>) -> Option<T> {
        let text = outcome.as_ref().map_or_else(ToString::to_string, |_| "done".into());
        writeln!(self.reported, "    {what}: {text} [{} {:?}]", self.migration.phase(), self.rig.states()).unwrap();
        outcome.ok()
    }

    fn trouble(&mut self, accesses: &[Access]) {
        if self.dice.below(3) > 0 {
            return;
        }
        let fake = self.dice.below(self.rig.fakes.len() as u64) as usize;
        let effects = [
            Effect::Errno(libc::EBUSY),
            Effect::Errno(libc::EIO),
            Effect::Errno(libc::ETIMEDOUT),
            Effect::Errno(libc::EAGAIN),
            Effect::ErrnoMoved(libc::EMFILE),
            Effect::ErrnoMoved(libc::EIO),
        ];
        let enter = Access::Enter(self.dice.of(&STATES));
        let access = if self.dice.below(3) == 0 { enter } else { self.dice.of(accesses) };
        let effect = self.dice.of(&effects);
        let nth = self.rig.fakes[fake].count(access) + self.dice.below(3);
        self.rig.fakes[fake].inject(Fault { access, nth, times: 1 + self.dice.below(2), effect });
        writeln!(self.reported, "    d{fake} fails: {access:?} {effect:?}").unwrap();
    }

    fn abort(&mut self) -> bool {
        let to = self.dice.of(&[AbortTo::Running, AbortTo::RunState, AbortTo::Stop]);
        let outcome = self.migration.abort(to);
        self.say("abort", outcome).is_some()
    }

    /// What a VMM does with a device by itself.
    fn device(&mut self) {
        let i = self.dice.below(self.rig.devices.len() as u64) as usize;
        let device = self.rig.devices[i].clone();
        match self.dice.below(5) {
            0 => drop(self.say(&format!("d{i} reset"), device.reset())),
            1 => {
                let reset = self.rig.fakes[i].reset();
                let reprobed = device.reprobe();
                self.say(&format!("d{i} reset by others {reset:?}, reprobe"), reprobed);
            }
            2 => {
                let to = self.dice.of(&STATES);
                let policy = self.dice.of(&[OnFailure::Keep, OnFailure::ReturnTo(State::Running), OnFailure::Reset]);
                self.say(&format!("d{i} to {to}"), device.set_state(to, policy, false));
            }
            3 => drop(self.say(&format!("d{i} sizes"), device.pending_exact())),
            _ => drop(self.say(&format!("d{i} observe"), device.observe())),
        }
    }
}

/// What each device sent since its stream began.
fn put(streams: &mut [Stream]) -> impl FnMut(Piece<'_>) -> Result<()> + '_ {
    |piece| {
        streams[piece.device].parts.push((piece.bytes.to_vec(), piece.segment_end));
        Ok(())
    }
}

/// What was wrong.
fn save(seed: u64) -> Option<String> {
    const FAILS: [Access; 4] = [Access::StateWrite, Access::DataRead, Access::StateRead, Access::PrecopyInfo];
    let mut dice = Dice(seed);
    let configs = dice.configs();
    let rig = Rig::source(&configs, 1);
    rig.allow_abort();
    let mut course = Course { dice, migration: rig.save(), rig, reported: String::new() };
    let mut streams = vec![Stream::default(); configs.len()];
    let begin_anew = |streams: &mut Vec<Stream>| streams.fill(Stream::default());
    for turn in 0..2 + course.dice.below(14) {
        course.trouble(&FAILS);
        let before = course.migration.phase();
        if before == Phase::Idle {
            // Streams begin with the migration, whatever the VMM has done with its devices before.
            begin_anew(&mut streams);
        }
        match course.dice.below(14) {
            0..=2 => drop(course.say("SAVE_PRE_COPY", course.migration.advance(Phase::SavePreCopy))),
            3..=5 => {
                let budget = Budget { bytes: course.dice.below(3000) + 1, time: Duration::from_secs(5) };
                let round = course.migration.save_iterate(budget, &[], &mut put(&mut streams));
                course.say("round", round);
            }
            6 => drop(course.say("pause", course.rig.group.pause())),
            7 => drop(course.say("resume", course.rig.group.resume())),
            8 => drop(course.say("pause_begin", course.rig.group.pause_begin())),
            9 => drop(course.say("resume_begin", course.rig.group.resume_begin())),
            10 => {
                let offset = course.dice.below(700) as usize;
                // Refused where it stands still.
                course.rig.fakes.iter().for_each(|fake| fake.touch(offset, 300, turn).unwrap_or(()));
            }
            11 => {
                if course.abort() {
                    begin_anew(&mut streams);
                }
            }
            _ => course.device(),
        }
        // docs/vmm-guide.md: the destination throws away what it has.
        if before == Phase::SavePreCopy && course.migration.phase() == Phase::SaveTracking {
            begin_anew(&mut streams);
        }
        if course.migration.phase() == Phase::Failed && course.dice.below(2) == 0 && course.abort() {
            begin_anew(&mut streams);
        }
    }
    if course.dice.below(2) == 0 {
        course.rig.fakes.iter().for_each(simdev::Device::clear_faults);
    }
    if course.migration.phase() == Phase::Idle {
        begin_anew(&mut streams);
    }
    course.say("STOP_COPY", course.migration.advance(Phase::SaveStopCopy))?;
    let complete = course.migration.save_complete(&[], &mut put(&mut streams));
    course.say("complete", complete)?;
    course.say("HALTED", course.migration.advance_without_harvest())?;
    let target = Rig::target(&configs, 1);
    let loaded = target.load_all(&target.load(), &streams);
    let same = target.fakes.iter().zip(&course.rig.fakes).all(|(a, b)| a.same_content(b));
    (loaded.is_err() || !same).then(|| format!("{loaded:?}, the same: {same}\n{}", course.reported))
}

fn load(seed: u64) -> Option<String> {
    const FAILS: [Access; 4] = [Access::StateWrite, Access::DataWrite, Access::StateRead, Access::Reset];
    let mut dice = Dice(seed);
    let configs = dice.configs();
    let source = Rig::source(&configs, 1);
    source.allow_abort();
    let streams = source.save_all(&source.save()).unwrap();
    let rig = Rig::target(&configs, 1);
    let mut course = Course { dice, migration: rig.load(), rig, reported: String::new() };
    // How far each stream has come, in which session.
    let mut fed = vec![(0, 0); configs.len()];
    for _ in 0..3 + course.dice.below(12) {
        course.trouble(&FAILS);
        match course.dice.below(11) {
            0 | 1 => drop(course.say("RESUMING", course.migration.advance(Phase::LoadResuming))),
            2..=4 => {
                let mut left = if course.dice.below(2) == 0 { u64::MAX } else { course.dice.below(4) };
                let outcome = course.migration.load_complete(&[], &mut |device, buf: &mut [u8]| {
                    left = left.checked_sub(1).ok_or_else(|| Error::new(ErrorKind::System, libc::EPIPE, "the wire"))?;
                    let session = course.rig.devices[device].info().session;
                    if fed[device].0 != session {
                        fed[device] = (session, 0);
                    }
                    let Some((bytes, segment_end)) = streams[device].parts.get(fed[device].1) else {
                        return Ok(Fed::End { total: Some(streams[device].len() as u64) });
                    };
                    fed[device].1 += 1;
                    buf[..bytes.len()].copy_from_slice(bytes);
                    Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
                });
                course.say("load", outcome);
            }
            5 => {
                let to = course.dice.of(&[Phase::LoadLoaded, Phase::LoadP2pGrace]);
                course.say(to.name(), course.migration.advance(to));
            }
            6 => drop(course.say("pause", course.rig.group.pause())),
            7 => drop(course.say("resume_begin", course.rig.group.resume_begin())),
            8 => drop(course.abort()),
            _ => course.device(),
        }
        if course.migration.phase() == Phase::Failed && course.dice.below(2) == 0 {
            course.abort();
        }
        if course.migration.phase() == Phase::LoadRunning {
            break;
        }
    }
    course.say("RUNNING", course.migration.advance(Phase::LoadRunning))?;
    let same = course.rig.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b));
    let runs = course.rig.fakes.iter().all(|fake| fake.state() == State::Running && !fake.stands_still());
    (!same || !runs).then(|| format!("the same: {same}, all run: {runs}\n{}", course.reported))
}

fn courses(what: &str, course: fn(u64) -> Option<String>) {
    let begun = Instant::now();
    for seed in 0..COURSES {
        if begun.elapsed() > TIME {
            break;
        }
        let wrong = course(seed);
        assert!(wrong.is_none(), "{what}, seed {seed}: {}", wrong.unwrap());
    }
}

#[test]
fn a_save_that_succeeds_gives_what_its_devices_hold() {
    courses("save", save);
}

#[test]
fn a_load_that_succeeds_runs_with_what_its_source_held() {
    courses("load", load);
}
