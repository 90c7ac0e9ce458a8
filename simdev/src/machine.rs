//! The device behind every front: its level, its state, its sessions, and the steps between levels.

use crate::config::{BadLoad, Config};
use crate::content::{Content, Form};
use crate::dma::Dma;
use crate::faults::{Access, Effect, Faults};
use crate::habits::{BadEnd, ResetLeaves, hurt};
use crate::judge::Judge;
use crate::level::Level;
use crate::region::Region;
use crate::registers::Registers;
use crate::v2::Sessions;
use parking_lot::MutexGuard;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use vfiomig::dialect::State;

/// One step of a device between two levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Where it was.
    pub from: Level,
    /// Where it came to.
    pub to: Level,
    /// Nanoseconds on a clock that all devices of the process share.
    pub begin_ns: u64,
    /// As `begin_ns`.
    pub end_ns: u64,
    /// Steps of one request have one number; 0 are resets, and faults outside a request.
    pub request: u64,
}

pub(crate) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

pub(crate) struct Machine {
    pub config: Config,
    pub level: Level,
    pub content: Content,
    /// v1 and draft.
    pub region: Option<Region>,
    pub registers: Registers,
    /// v2.
    pub sessions: Sessions,
    pub dma: Dma,
    pub judge: Judge,
    pub faults: Faults,
    pub transitions: Vec<Transition>,
    pub resets: u64,
    pub touch_refused: u64,
    requests: u64,
    pub busy: u32,
    /// Bytes of a whole stream.
    pub image: u64,
    /// Bytes of its part that pre-copy sends.
    identity: u64,
    /// Its state says that it runs, but it stands still (K3).
    pub frozen: bool,
    /// STOP_COPY was left too early: only a reset helps.
    stuck: bool,
    /// Any request but a reset hurts the host.
    pub poisoned: bool,
    /// A load was begun since the last reset.
    pub load_used: bool,
    /// A reset has left RESUMING as it was, with nothing in it.
    emptied: bool,
    /// How long the request takes on after a step that failed.
    pause: Duration,
}

impl Machine {
    pub fn new(config: Config) -> Self {
        config.check();
        now();
        let form = Form {
            segment: config.segment_size,
            vary: config.vary_segments,
            sum: config.judge_content,
            precopy: config.precopy_len(),
            fixed: config.habits.fixed_precopy,
            ends_early: config.habits.ends_in_precopy,
        };
        let content = Content::new(config.state_size, config.seed, form);
        let (image, identity) = (content.stream_len(), content.precopy_len());
        assert!(
            !config.habits.one_segment || config.window_size >= image,
            "one segment of {image} bytes needs a window of as many"
        );
        Machine {
            level: Level(Level::RUNNING),
            content,
            image,
            identity,
            region: (!config.is_v2()).then(|| Region::new(&config)),
            registers: Registers::default(),
            sessions: Sessions::default(),
            dma: Dma::default(),
            judge: Judge::default(),
            faults: Faults::default(),
            transitions: Vec::new(),
            resets: 0,
            touch_refused: 0,
            requests: 0,
            busy: 0,
            frozen: false,
            stuck: false,
            poisoned: false,
            load_used: false,
            emptied: false,
            pause: Duration::ZERO,
            config,
        }
    }

    /// N12, W1: a v1 device in NDMA starts no DMA; v2's P2P states stop peer-to-peer DMA only. N14: none in ERROR.
    pub fn may_dma(&self) -> bool {
        self.runs() && (self.config.is_v2() || !self.level.has(Level::NDMA))
    }

    /// What its state says is not always so (K3).
    pub fn runs(&self) -> bool {
        self.level.running() && !self.frozen
    }

    fn log(&mut self, to: Level, begin_ns: u64, request: u64) {
        let from = self.level;
        self.level = to;
        self.transitions.push(Transition { from, to, begin_ns, end_ns: now(), request });
    }

    fn close_window(&mut self) {
        self.content.end();
        self.registers.close();
        self.sessions.end();
        self.dma.draft = None;
        if let Some(region) = self.region.as_ref().filter(|_| self.config.judge_content) {
            region.fill(0, region.size);
        }
    }

    pub fn go_to_error(&mut self) {
        self.close_window();
        if !self.level.is_error() {
            self.log(Level::ERROR, now(), 0);
        }
    }

    /// N16. The device's own state is lost, which a test can see: it is zero.
    pub fn reset(&mut self) -> Result<(), i32> {
        let (begin, leaves) = (now(), self.config.habits.reset_leaves);
        let in_error = self.level.is_error() && leaves != ResetLeaves::RunningIfAwake;
        let awake = self.level.running() || self.level.resuming() || in_error;
        if leaves != ResetLeaves::Running && !awake {
            return Err(libc::EINVAL);
        }
        self.resets += 1;
        (self.frozen, self.stuck, self.poisoned, self.load_used) = (false, false, false, false);
        self.sessions.forget();
        if leaves == ResetLeaves::SameIfAwake && !self.level.is_error() {
            self.content.wipe();
            if self.level.saving() {
                self.content.begin_save();
            } else if self.level.resuming() {
                self.content.begin_load();
            }
            self.emptied = self.level.resuming();
            return Ok(());
        }
        self.close_window();
        self.content.wipe();
        if self.level != Level(Level::RUNNING) {
            self.log(Level(Level::RUNNING), begin, 0);
        }
        Ok(())
    }

    /// close() of the device fd and open() again, where that resets.
    pub fn open_again(&mut self) {
        if self.config.habits.open_resets {
            let resets = self.resets;
            let _ = self.reset();
            self.resets = resets;
        }
    }

    /// Data that the client has not taken although the device had it (V1-8, F5).
    fn judge_leftover(&mut self) {
        if self.config.abort_allowed || self.faults.any_reached() {
            return;
        }
        let rule = if self.config.is_v2() {
            "F5"
        } else if self.config.is_draft() {
            "D3"
        } else {
            "V1-8"
        };
        if let Some(left) = self.unread() {
            self.judge.record(rule, format!("SAVING cleared while stopped: {left}"));
        }
    }

    fn unread(&self) -> Option<String> {
        let left = self.content.pending(false);
        if left > 0 {
            return Some(format!("{left} bytes left"));
        }
        self.sessions.unread().or_else(|| self.staged_unread())
    }

    /// One step; what it opens and closes.
    fn step(&mut self, to: Level, begin: u64, request: u64) -> Result<(), i32> {
        let from = self.level;
        if from.resuming() && !to.resuming() {
            self.sessions.take_real_load(&mut self.content, &mut self.judge);
            self.end_load()?;
            self.close_window();
        }
        if from.saving() && !to.saving() {
            if !from.running() {
                self.judge_leftover();
            }
            if !from.running() && !to.running() && self.config.dma_log.is_some_and(|log| log.stops_itself) {
                self.dma.stop_itself();
            }
            self.close_window();
        }
        if !from.saving() && to.saving() {
            self.close_window();
            self.content.begin_save();
            if self.config.is_draft() {
                self.dma.draft = Some(Default::default());
            }
        }
        if !from.resuming() && to.resuming() {
            self.close_window();
            self.emptied = false;
            self.content.begin_load();
            if self.load_used && self.config.habits.remembers_load {
                self.judge.record("K21", "a second load without a reset is judged by what the first left");
            }
        }
        self.sessions.moved_on();
        self.log(to, begin, request);
        Ok(())
    }

    /// What RESUMING is left with.
    fn end_load(&mut self) -> Result<(), i32> {
        let habits = self.config.habits;
        if self.emptied && self.content.load_is_untouched() && self.sessions.unfinished_record().is_none() {
            // What a reset has left in RESUMING is a fresh device, not one that was loaded with too little.
            self.content.end();
            return Ok(());
        }
        if self.sessions.was_refused() {
            return self.bad_end(habits.after_refusal, "F6", "RESUMING was left after a refused write".into());
        }
        let truncated = self.config.accept_truncated;
        let result = match self.sessions.unfinished_record().filter(|_| !truncated) {
            Some(text) => Err(text),
            None => self.content.finish_load(truncated),
        };
        if result.is_err() && habits.identity_is_enough && self.sessions.count() == self.identity {
            self.judge.record("F7", "RESUMING was left with the identity of a device, and no state");
            self.content.end();
            return Ok(());
        }
        result.or_else(|text| self.bad_end(habits.cut, "N2", format!("left RESUMING: {text}")))
    }

    /// RESUMING is left with a stream that is no whole one.
    fn bad_end(&mut self, end: BadEnd, rule: &'static str, text: String) -> Result<(), i32> {
        let errno = match end {
            BadEnd::AsConfigured => return Err(self.bad_load(rule, text)),
            BadEnd::Accepted => {
                self.judge.record(rule, text);
                // What is there is taken, whatever it is.
                let _ = self.content.finish_load(true);
                return Ok(());
            }
            BadEnd::Stays(errno) => errno,
            BadEnd::StaysDead(errno, pause) => {
                self.sessions.end();
                self.pause = pause;
                errno
            }
        };
        self.judge.record(rule, text);
        Err(errno)
    }

    /// What of the driver's habits stands against a step.
    fn stopped_by_habit(&mut self, to: Level) -> Option<i32> {
        let (from, habits) = (self.level, self.config.habits);
        if habits.dead_stream_stays && from.saving() && from.running() && self.sessions.failed() {
            return Some(libc::ENODEV);
        }
        let unread = self.stuck || self.sessions.failed() || self.unread().is_some();
        let leaves_early = from.state() == State::StopCopy && !to.saving() && unread;
        if habits.must_drain && leaves_early {
            self.stuck = true;
            self.sessions.end();
            return Some(libc::EIO);
        }
        None
    }

    /// A step that failed is half done.
    fn half_done(&mut self, to: Level, errno: i32) {
        let (from, habits) = (self.level, self.config.habits);
        self.frozen |= habits.lies && depth(to) > depth(from);
        if habits.failed_stop_kills && from.state() == State::PreCopyP2p && to.state() == State::StopCopy {
            self.sessions.kill(libc::ENODEV);
        }
        if habits.eio_hurts && errno == libc::EIO && from.saving() && from.running() && !to.saving() {
            self.poisoned = true;
            self.sessions.end();
        }
    }

    /// A request that the driver does not survive.
    pub fn check_host(&self, what: &str) {
        if self.poisoned {
            hurt(&format!("{what} after EIO from a step that ended a pre-copy"));
        }
    }

    /// N11; what the client gets.
    pub fn bad_load(&mut self, rule: &'static str, text: String) -> i32 {
        self.judge.record(rule, text);
        if self.config.bad_load == BadLoad::Error {
            self.go_to_error();
        }
        libc::EINVAL
    }
}

/// A request in progress: the lock, given up while the device takes its time.
pub(crate) struct Busy<'a> {
    guard: MutexGuard<'a, Machine>,
    /// Whether another request beside it is an offence.
    counted: bool,
}

impl<'a> Busy<'a> {
    /// Counts the access; `Err` if a fault makes it fail outright.
    pub fn begin(mut guard: MutexGuard<'a, Machine>, access: Access) -> Result<(Self, Option<Effect>), i32> {
        let counted = !access.beside_others();
        if guard.busy > 0 && counted {
            guard.judge.record("P2", format!("{access:?} while another request is in progress"));
        }
        guard.busy += u32::from(counted);
        if access == Access::DmaLogStop {
            // Whatever comes of it, the client does not take the log for one that is on.
            guard.dma.client_knows = false;
        }
        let (effect, delay) = guard.faults.meet(access);
        let mut busy = Busy { guard, counted };
        busy.sleep(delay);
        match effect {
            Some(Effect::Errno(errno)) => Err(errno),
            Some(Effect::ErrnoMoved(errno)) if !access.moves() => Err(errno),
            Some(Effect::ToError(errno)) => {
                busy.go_to_error();
                Err(errno)
            }
            other => Ok((busy, other)),
        }
    }

    pub fn sleep(&mut self, delay: Duration) {
        if !delay.is_zero() {
            MutexGuard::unlocked(&mut self.guard, || std::thread::sleep(delay));
        }
    }

    /// Goes the way. A v2 device that fails stays where it came to (V2-3); others where they were, or in ERROR (N6).
    pub fn go(&mut self, path: &[Level]) -> Result<(), i32> {
        self.requests += 1;
        let (request, origin, v2) = (self.requests, self.level, self.config.is_v2());
        let mut ahead = Vec::new();
        if !v2 {
            ahead = path.iter().map(|to| self.faults.meet(Access::Enter(to.state()))).collect();
            let failed = ahead.iter().find_map(|met| match met.0 {
                Some(Effect::Errno(errno)) => Some((errno, met.1)),
                _ => None,
            });
            if let Some((errno, delay)) = failed {
                self.sleep(delay);
                return Err(errno);
            }
        }
        for (i, &to) in path.iter().enumerate() {
            let begin = now();
            let (effect, delay) = ahead.get(i).copied().unwrap_or_else(|| self.faults.meet(Access::Enter(to.state())));
            self.sleep(delay);
            match effect {
                Some(Effect::Errno(errno)) => {
                    self.half_done(to, errno);
                    return Err(errno);
                }
                Some(Effect::ToError(errno)) => {
                    self.go_to_error();
                    return Err(errno);
                }
                _ => {}
            }
            if let Some(errno) = self.stopped_by_habit(to) {
                return Err(errno);
            }
            let from = self.level;
            let result = self.step(to, begin, request);
            let pause = std::mem::take(&mut self.pause);
            self.sleep(pause);
            if result.is_ok() && depth(to) < depth(from) {
                self.frozen = false;
            }
            if result.is_err() && !v2 && !self.level.is_error() && self.level != origin {
                self.log(origin, now(), request);
            }
            result?;
        }
        Ok(())
    }
}

/// How far a level is from running.
fn depth(level: Level) -> u32 {
    match level.state() {
        State::Running | State::PreCopy => 0,
        State::RunningP2p | State::PreCopyP2p => 1,
        _ => 2,
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.guard.busy -= u32::from(self.counted);
    }
}

impl Deref for Busy<'_> {
    type Target = Machine;
    fn deref(&self) -> &Machine {
        &self.guard
    }
}

impl DerefMut for Busy<'_> {
    fn deref_mut(&mut self) -> &mut Machine {
        &mut self.guard
    }
}
