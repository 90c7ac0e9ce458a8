//! The device behind every front: its level, its state, its sessions, and what a reset leaves of them.

use super::dma::Dma;
use super::faults::Faults;
use super::level::Level;
use super::sessions::Sessions;
use crate::base::judge::{Judge, hurt};
use crate::config::{BadLoad, Config, ResetLeaves};
use crate::content::{Content, Form};
use crate::registers::{Region, Registers};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

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

pub(super) fn now() -> u64 {
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
    pub(super) requests: u64,
    pub busy: u32,
    /// Bytes of a whole stream.
    pub image: u64,
    /// Bytes of its part that pre-copy sends.
    pub(super) identity: u64,
    /// Its state says that it runs, but it stands still (K3).
    pub frozen: bool,
    /// STOP_COPY was left too early: only a reset helps.
    pub(super) stuck: bool,
    /// Any request but a reset hurts the host.
    pub poisoned: bool,
    /// A load was begun since the last reset.
    pub load_used: bool,
    /// A reset has left RESUMING as it was, with nothing in it.
    pub(super) emptied: bool,
    /// How long the request takes on after a step that failed.
    pub(super) pause: Duration,
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

    pub(super) fn log(&mut self, to: Level, begin_ns: u64, request: u64) {
        let from = self.level;
        self.level = to;
        self.transitions.push(Transition { from, to, begin_ns, end_ns: now(), request });
    }

    pub(super) fn close_window(&mut self) {
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

    /// An offence, and the answer to it.
    pub fn refuse<T>(&mut self, rule: &'static str, text: String, errno: i32) -> Result<T, i32> {
        self.judge.refuse(rule, text, errno)
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
