//! A request in progress: faults that it meets, and the way through the levels.

use super::faults::{Access, Effect};
use super::level::Level;
use super::state::{Machine, now};
use super::steps::depth;
use parking_lot::MutexGuard;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A fault that a step meets, and how long it takes.
type Met = (Option<Effect>, Duration);

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
        let ahead = if v2 { Vec::new() } else { self.look_ahead(path)? };
        for (i, &to) in path.iter().enumerate() {
            let begin = now();
            let met = ahead.get(i).copied().unwrap_or_else(|| self.faults.meet(Access::Enter(to.state())));
            self.meet(to, met)?;
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

    /// What each step of the way will meet. A device that goes all of the way or none fails before the first.
    fn look_ahead(&mut self, path: &[Level]) -> Result<Vec<Met>, i32> {
        let ahead: Vec<Met> = path.iter().map(|to| self.faults.meet(Access::Enter(to.state()))).collect();
        let failed = ahead.iter().find_map(|met| match met.0 {
            Some(Effect::Errno(errno)) => Some((errno, met.1)),
            _ => None,
        });
        let Some((errno, delay)) = failed else { return Ok(ahead) };
        self.sleep(delay);
        Err(errno)
    }

    /// What stands against a step: a fault, or a habit.
    fn meet(&mut self, to: Level, (effect, delay): Met) -> Result<(), i32> {
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
        self.stopped_by_habit(to).map_or(Ok(()), Err)
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
