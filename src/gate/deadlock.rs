//! Which thread waits for which. A callback may call other handles; where the call that it would wait for cannot end
//! before the callback does, waiting would never end. The callback gets EDEADLK, and no other call does.

use super::Denied;
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The order in which the library itself enters gates, one within the other; several of one level by address. So calls of
/// the library never wait in a circle: one that is closed has a callback in it, which went against the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GateLevel {
    Group,
    Migration,
    Tracker,
    /// A device's log of written pages.
    Log,
    Device,
    /// A window that a thread of the library reads.
    Reader,
    /// The functions that a VMM gave for a device.
    Functions,
}

impl GateLevel {
    /// Whether a panic may leave the value half changed. The others hold nothing that is changed in steps.
    pub fn can_break(self) -> bool {
        matches!(self, GateLevel::Migration | GateLevel::Tracker | GateLevel::Device | GateLevel::Reader)
    }
}

/// What a thread has to do with gates.
#[derive(Clone, Default)]
struct HeldGates {
    /// Threads that wait for this one, which is a worker within a call of theirs.
    callers: Vec<usize>,
    /// Gates that are not left before this thread continues: its own, and those in which the callers were when they made it.
    gates: Vec<(GateLevel, usize)>,
}

thread_local! {
    static HELD: RefCell<HeldGates> = const { RefCell::new(HeldGates { callers: Vec::new(), gates: Vec::new() }) };
}

/// A thread that ends may have lost its thread-local already, and then counts as holding nothing: it is no worker, and
/// [`this_thread`] still recognises what it has entered.
fn held<R: Default>(read: impl FnOnce(&mut HeldGates) -> R) -> R {
    HELD.try_with(|held| read(&mut held.borrow_mut())).unwrap_or_default()
}

/// The calling thread and all that its worker has to know of it.
#[derive(Clone)]
pub(crate) struct Waiting(HeldGates);

impl Waiting {
    pub fn here() -> Self {
        let mut here = held(|held| held.clone());
        here.callers.push(this_thread());
        Waiting(here)
    }

    /// For a worker, before its work: a call from one of its callbacks to what the waiting threads hold would never end, so it
    /// is as much a re-entry as one of their own.
    pub fn adopt(self) {
        held(|held| *held = self.0);
    }
}

/// A number that no other thread has, nor had: what an earlier thread has left is not taken for that of a later one.
pub(crate) fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local!(static MARK: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    MARK.with(|mark| *mark)
}

/// Whether that is the calling thread, or one that waits for it: it will do nothing before the calling one has returned.
pub(crate) fn waits_for_me(mark: usize) -> bool {
    mark == this_thread() || held(|held| held.callers.contains(&mark))
}

/// Whether the calling thread, or one that waits for it, is within a call of that level.
pub(crate) fn within(level: GateLevel) -> bool {
    held(|held| held.gates.iter().any(|(of, _)| *of == level))
}

/// Whether the gate, which `owner` has, is not left before the calling thread continues; or it was promised.
pub(super) fn is_mine(gate: usize, owner: Option<usize>) -> bool {
    owner == Some(this_thread()) || held(|held| held.gates.iter().any(|(_, id)| *id == gate))
}

/// A gate that the calling thread has left, and counts as holding until this is dropped. It stays on its thread.
pub(crate) struct Promise {
    gate: usize,
    _stays: PhantomData<*const ()>,
}

/// A gate's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateToken {
    pub(super) level: GateLevel,
    pub(super) gate: usize,
}

impl GateToken {
    /// As [`Gate::promise`](super::Gate::promise), for the calling thread.
    pub fn promise(self) -> Promise {
        entered(self.level, self.gate);
        Promise { gate: self.gate, _stays: PhantomData }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        left(self.gate);
    }
}

pub(super) fn entered(level: GateLevel, gate: usize) {
    held(|held| held.gates.push((level, gate)));
}

pub(super) fn left(gate: usize) {
    held(|held| {
        if let Some(at) = held.gates.iter().rposition(|(_, id)| *id == gate) {
            held.gates.remove(at);
        }
    });
}

/// Where a gate stands in the order.
type GateRank = (GateLevel, usize);

/// One call that waits at a gate.
pub(super) struct Seat {
    pub thread: usize,
    pub closing: bool,
    gate: usize,
    place: GateRank,
    /// Gates that are not left as long as it waits.
    holds: Vec<usize>,
    verdict: Mutex<Option<Result<(), Denied>>>,
    given: Condvar,
}

impl Seat {
    pub fn new(gate: usize, place: GateRank, closing: bool) -> Self {
        let holds = held(|held| held.gates.iter().map(|(_, id)| *id).collect());
        Seat { thread: this_thread(), closing, gate, place, holds, verdict: Mutex::new(None), given: Condvar::new() }
    }

    /// Ends the wait. `false`: it has ended before.
    pub fn tell(&self, verdict: Result<(), Denied>) -> bool {
        let mut given = self.verdict.lock();
        let first = given.is_none();
        if first {
            *given = Some(verdict);
            self.given.notify_one();
        }
        first
    }

    fn waits(&self) -> bool {
        self.verdict.lock().is_none()
    }
}

/// All calls that wait at some gate.
static SEATS: Mutex<Vec<Arc<Seat>>> = Mutex::new(Vec::new());

/// How often who waits is asked whether it waits on.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for the verdict, unless that would be for ever, or `patient` says no.
pub(super) fn wait(seat: &Arc<Seat>, patient: Option<&dyn Fn() -> bool>) -> Result<(), Denied> {
    {
        let mut seats = SEATS.lock();
        seats.push(Arc::clone(seat));
        let mut circle = vec![seat];
        if !seat.holds.is_empty() && closes(&seats, &mut circle, &mut Vec::new()) {
            against_the_order(&circle).unwrap_or(seat).tell(Err(Denied::Reentry));
        }
    }
    let mut verdict = seat.verdict.lock();
    let given = loop {
        match (*verdict, patient) {
            (Some(given), _) => break given,
            (None, None) => seat.given.wait(&mut verdict),
            (None, Some(patient)) if patient() => {
                seat.given.wait_for(&mut verdict, LOOK);
            }
            // From here on nobody can let it in.
            (None, Some(_)) => *verdict = Some(Err(Denied::Busy)),
        }
    };
    drop(verdict);
    SEATS.lock().retain(|other| !Arc::ptr_eq(other, seat));
    given
}

/// Lengthens `chain` until what its last call waits for is held by its first. A call that still waits cannot have left what it
/// holds, so a circle that is found is real, and the call that closes a circle finds it.
fn closes<'s>(seats: &'s [Arc<Seat>], chain: &mut Vec<&'s Arc<Seat>>, seen: &mut Vec<usize>) -> bool {
    let (Some(&first), Some(&last)) = (chain.first(), chain.last()) else { return false };
    if !last.waits() {
        return false;
    }
    if first.holds.contains(&last.gate) {
        return true;
    }
    for (i, next) in seats.iter().enumerate() {
        // What was walked in vain once leads nowhere later.
        if !next.holds.contains(&last.gate) || seen.contains(&i) {
            continue;
        }
        seen.push(i);
        chain.push(next);
        if closes(seats, chain, seen) {
            return true;
        }
        chain.pop();
    }
    false
}

/// The one of the circle that holds a gate and waits for one that comes before it in the order; of several, the first.
fn against_the_order<'s>(circle: &[&'s Arc<Seat>]) -> Option<&'s Arc<Seat>> {
    let holds = circle.last().into_iter().chain(circle);
    // There is one: places cannot rise all the way around.
    holds.zip(circle).find(|(held, wanted)| wanted.place <= held.place).map(|(_, wanted)| *wanted)
}
