//! A write of MIG_DEVICE_STATE: the way, and the session that it opens.

use crate::base::memory;
use crate::config::{DataPath, Dialect};
use crate::machine::{Busy, Effect, Level, Machine, Session, moved, request_path};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, IntoRawFd};
use vfiomig::dialect::State;

/// Where there are data functions, the number in the feature means nothing.
const NO_NUMBER: i32 = 1000;

/// P2P, pre-copy.
pub(super) fn caps(m: &Machine) -> (bool, bool) {
    match m.config.dialect {
        Dialect::V2 { p2p, pre_copy } => (p2p, pre_copy),
        _ => (false, false),
    }
}

/// A new descriptor of the file for the client: CLOEXEC, and for one direction only (V2-5).
fn hand_out(file: &File, load: bool) -> i32 {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let opened = OpenOptions::new().read(!load).write(load).open(path);
    opened.map_or(-1, IntoRawFd::into_raw_fd)
}

impl Machine {
    /// A new session, and the data fd of the answer.
    fn open_session(&mut self, effect: Option<Effect>) -> i32 {
        let load = self.level.resuming();
        let file = (self.config.data == DataPath::RealFd).then(memory::file);
        let number = match (&file, effect) {
            (_, Some(Effect::NoFd)) => -1,
            (None, _) => NO_NUMBER,
            (Some(file), _) => hand_out(file, load),
        };
        let informed = !self.config.needs_info || self.config.habits.first_without_info;
        let partial = std::mem::take(&mut self.sessions.partial);
        let record = if load && self.config.habits.keeps_partial { partial } else { Vec::new() };
        self.sessions.live = Some(Session::new(load, record, informed, file));
        if effect != Some(Effect::NoFd) {
            self.sessions.opened += 1;
        }
        number
    }

    /// The data fd of an answer that opens nothing.
    fn no_session(&self, effect: Option<Effect>) -> i32 {
        match (effect, self.config.data) {
            (Some(Effect::UnexpectedFd), DataPath::RealFd) => hand_out(&memory::file(), false),
            (Some(Effect::UnexpectedFd), DataPath::Functions) => NO_NUMBER,
            _ => -1,
        }
    }

    fn reset_behind(&mut self, effect: Option<Effect>) {
        if effect == Some(Effect::ResetBehind) {
            // It has answered already.
            let _ = self.reset();
        }
    }
}

impl Busy<'_> {
    /// The data fd of the answer.
    pub(super) fn set_state(&mut self, number: u32, effect: Option<Effect>) -> Result<i32, i32> {
        self.check_host("SET");
        let from = self.level.state();
        let (p2p, pre_copy) = caps(self);
        let to = State::from_number(number);
        let Some(path) = to.and_then(|to| request_path(from, to, p2p, pre_copy)) else {
            let to = to.map_or(number.to_string(), |to| to.to_string());
            return self.refuse("V2-1", format!("{from} to {to}"), libc::EINVAL);
        };
        let was_open = self.level.saving() || self.level.resuming();
        let saved = self.level.saving();
        let levels: Vec<Level> = path.into_iter().map(Level::of).collect();
        let left = levels.iter().any(|l| if saved { !l.saving() } else { !l.resuming() });
        self.go(&levels)?;
        let is_open = self.level.saving() || self.level.resuming();
        let opens = is_open && !levels.is_empty() && (!was_open || left);
        if let Some(errno) = moved(effect) {
            // V2-5: the device has moved, the descriptor is lost, and with it the session's only reader.
            return Err(errno);
        }
        let number = if opens { self.open_session(effect) } else { self.no_session(effect) };
        self.feed_real();
        self.reset_behind(effect);
        Ok(number)
    }
}
