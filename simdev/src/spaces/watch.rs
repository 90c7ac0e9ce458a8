//! What a test sees of a container or an iommufd, and what it makes go wrong there.

use crate::base::judge::{Judge, Violation};
use crate::machine::{Access, Effect, Fault, FaultId, Faults};
use parking_lot::Mutex;

/// A judge and faults, as a device has them.
#[derive(Default)]
pub struct Watch(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    judge: Judge,
    faults: Faults,
}

impl Watch {
    /// Counts the request; `Err` if a fault makes it fail outright.
    pub(crate) fn begin(&self, access: Access) -> Result<Option<Effect>, i32> {
        let (effect, delay) = self.0.lock().faults.meet(access);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        match effect {
            Some(Effect::Errno(errno) | Effect::ToError(errno)) => Err(errno),
            Some(Effect::ErrnoMoved(errno)) if !access.moves() => Err(errno),
            other => Ok(other),
        }
    }

    pub(crate) fn record(&self, rule: &'static str, text: impl Into<String>) {
        self.0.lock().judge.record(rule, text);
    }

    pub(crate) fn refuse<T>(&self, rule: &'static str, text: impl Into<String>, errno: i32) -> Result<T, i32> {
        self.record(rule, text);
        Err(errno)
    }

    /// What was judged while a request was served.
    pub(crate) fn add(&self, judge: Judge) {
        judge.list.into_iter().for_each(|violation| self.record(violation.rule, violation.text));
    }

    /// What the client did wrong (at most the first 1000); afterwards there is nothing.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.0.lock().judge).list
    }

    /// # Panics
    /// If there is a violation.
    pub fn assert_clean(&self) {
        let list: Vec<String> = self.0.lock().judge.list.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "violations:\n{}", list.join("\n"));
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Access> {
        self.0.lock().faults.calls.clone()
    }

    /// How many requests of a kind; `Any`: of all.
    pub fn count(&self, access: Access) -> u64 {
        self.0.lock().faults.count(access)
    }

    /// Something goes wrong.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.0.lock().faults.inject(fault)
    }

    /// How often the fault was met.
    pub fn fault_reached(&self, id: FaultId) -> u64 {
        self.0.lock().faults.reached(id)
    }

    /// No fault goes on; what was reached stays known.
    pub fn clear_faults(&self) {
        self.0.lock().faults.clear();
    }
}
