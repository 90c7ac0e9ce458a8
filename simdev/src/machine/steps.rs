//! One step between two levels: what it opens and closes, and what of a driver's habits stands against it.

use super::level::Level;
use super::state::Machine;
use crate::config::BadEnd;
use vfiomig::dialect::State;

/// How far a level is from running.
pub(super) fn depth(level: Level) -> u32 {
    match level.state() {
        State::Running | State::PreCopy => 0,
        State::RunningP2p | State::PreCopyP2p => 1,
        _ => 2,
    }
}

impl Machine {
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

    /// Of the staged bytes.
    fn staged_unread(&self) -> Option<String> {
        let (staged, region) = (self.registers.staged.as_ref()?, self.region.as_ref()?);
        if !self.config.is_draft() {
            return Some(format!("a segment of {} bytes is not acknowledged", staged.len));
        }
        staged.unread(region)
    }

    /// One step; what it opens and closes.
    pub(super) fn step(&mut self, to: Level, begin: u64, request: u64) -> Result<(), i32> {
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
    pub(super) fn stopped_by_habit(&mut self, to: Level) -> Option<i32> {
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
    pub(super) fn half_done(&mut self, to: Level, errno: i32) {
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
}
