//! Who may use a handle now, and who goes next. The value is taken out while a call uses it, so no lock is held during a
//! callback or a request to the kernel.
//!
//! May import: error. Start reading at `Gate` here; `deadlock` refuses waits that cannot end.

mod deadlock;

pub(crate) use deadlock::{GateLevel, GateToken, Promise, Waiting, this_thread, waits_for_me, within};

use crate::error::{Error, ErrorKind};
use deadlock::Seat;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};

/// Why a call was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Another call is in progress, and this one does not wait.
    Busy,
    /// The call came from a callback of the call in progress, or of one that cannot end before this one does.
    Reentry,
    /// The handle was freed.
    Closed,
    /// A call panicked while it had the value, which may be half changed: only closing is left.
    Broken,
}

impl Denied {
    /// As the caller's error; `what` is a kind of handle.
    #[cold]
    pub fn of(self, what: &str) -> Error {
        match self {
            Denied::Busy => Error::busy(format!(
                "another call on this {what} is in progress, and this one was asked not to wait (VFIOMIG_DEVICE_F_NO_WAIT): call again"
            )),
            Denied::Reentry => Error::reentry(format!(
                "called from a callback of a call on the same {what}, or of one that the call in progress on it waits for"
            )),
            Denied::Closed => Error::gone(format!("the {what} handle was freed")),
            Denied::Broken => Error::new(
                ErrorKind::Panic,
                libc::ENOTRECOVERABLE,
                format!(
                    "an earlier call on this {what} panicked, and what it left half done is not used any more: only freeing it is left"
                ),
            ),
        }
    }
}

/// What a call needs of its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// *device*: waits for the calls that came before it, and for *whole* calls.
    Device,
    /// *whole*: goes before *device* calls that wait.
    Whole,
    /// *whole*, and takes a broken value too.
    Closing,
}

pub(crate) struct Gate<T> {
    /// No other gate has, nor had, the same one.
    id: usize,
    level: GateLevel,
    slot: Mutex<Slot<T>>,
}

struct Slot<T> {
    /// `None` while a call has it, and for good once closed.
    value: Option<Box<T>>,
    /// The thread of the call in progress, or of the one whose turn it is. While there is none no thread waits, because a call
    /// that leaves hands its turn over.
    owner: Option<usize>,
    devices: VecDeque<Arc<Seat>>,
    wholes: VecDeque<Arc<Seat>>,
    /// A *whole* call went before a *device* call that waits: it is not overtaken again.
    device_is_next: bool,
    closed: bool,
    broken: bool,
}

impl<T> Slot<T> {
    /// What says no to a call of this class, whoever has the value.
    fn refusal(&self, closing: bool) -> Option<Denied> {
        match (self.closed, self.broken) {
            (true, _) => Some(Denied::Closed),
            (false, true) if !closing => Some(Denied::Broken),
            _ => None,
        }
    }

    fn queue(&mut self, class: Class) -> &mut VecDeque<Arc<Seat>> {
        if class == Class::Device { &mut self.devices } else { &mut self.wholes }
    }

    /// Gives the turn to the next call that waits, and refuses those that wait for nothing.
    fn hand_over(&mut self) {
        self.owner = None;
        loop {
            let device_first = std::mem::take(&mut self.device_is_next) && !self.devices.is_empty();
            let next = if device_first || self.wholes.is_empty() { &mut self.devices } else { &mut self.wholes };
            let Some(seat) = next.pop_front() else { return };
            let refusal = self.refusal(seat.closing);
            // A seat that was refused meanwhile is not there any more.
            if seat.tell(refusal.map_or(Ok(()), Err)) && refusal.is_none() {
                self.owner = Some(seat.thread);
                return;
            }
        }
    }
}

/// What calls on it count on where a device is, so that no callback of theirs may move the device: the gate of its group.
pub(crate) trait Driver: Send + Sync {
    /// A call is in progress that ends only after the calling thread's: what comes now comes from a callback of it.
    fn calls_me(&self) -> bool;
}

impl<T: Send> Driver for Gate<T> {
    fn calls_me(&self) -> bool {
        deadlock::is_mine(self.id, self.slot.lock().owner)
    }
}

impl<T> Gate<T> {
    pub fn new(level: GateLevel, value: T) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let slot = Slot {
            value: Some(Box::new(value)),
            owner: None,
            devices: VecDeque::new(),
            wholes: VecDeque::new(),
            device_is_next: false,
            closed: false,
            broken: false,
        };
        Gate { id: NEXT.fetch_add(1, Ordering::Relaxed), level, slot: Mutex::new(slot) }
    }

    /// Entry of the *device* class: waits for the calls that came before, and lets *whole* calls go first, but each only once.
    pub fn enter(&self) -> Result<Pass<'_, T>, Denied> {
        self.pass(Class::Device, true)
    }

    /// As [`enter`](Self::enter), but `Busy` instead of waiting.
    pub fn try_enter(&self) -> Result<Pass<'_, T>, Denied> {
        self.pass(Class::Device, false)
    }

    /// Entry of the *whole* class: waits for the call in progress; *device* calls that wait let it go first.
    pub fn enter_whole(&self) -> Result<Pass<'_, T>, Denied> {
        self.pass(Class::Whole, true)
    }

    /// As [`enter_whole`](Self::enter_whole), but `Busy` once `patient` says no, which is asked every so often and waits for
    /// nothing.
    pub fn enter_whole_while(&self, patient: &dyn Fn() -> bool) -> Result<Pass<'_, T>, Denied> {
        self.pass_while(Class::Whole, true, Some(patient))
    }

    /// As [`enter_whole`](Self::enter_whole), for the end of the value's use: takes a broken one too.
    pub fn enter_to_close(&self) -> Result<Pass<'_, T>, Denied> {
        self.pass(Class::Closing, true)
    }

    /// Whether the calling thread would get EDEADLK.
    pub fn is_mine(&self) -> bool {
        deadlock::is_mine(self.id, self.slot.lock().owner)
    }

    /// For a thread that has left the gate while calls on it have to wait for what it does next. As long as the result lives, a
    /// call on the gate from this thread would wait for itself, so it is refused as if the thread held the gate.
    pub fn promise(&self) -> Promise {
        self.token().promise()
    }

    /// Names the gate to a thread that does not borrow it, for [`promise`](Self::promise).
    pub fn token(&self) -> GateToken {
        GateToken { level: self.level, gate: self.id }
    }

    /// Why no call is let in, whoever has the value: it is closed, or broken. Never waits.
    pub fn check(&self) -> Result<(), Denied> {
        self.slot.lock().refusal(false).map_or(Ok(()), Err)
    }

    fn pass(&self, class: Class, wait: bool) -> Result<Pass<'_, T>, Denied> {
        self.pass_while(class, wait, None)
    }

    /// `patient`: whether one that waits does so any longer; `None`: for as long as it takes.
    fn pass_while(&self, class: Class, wait: bool, patient: Option<&dyn Fn() -> bool>) -> Result<Pass<'_, T>, Denied> {
        let closing = class == Class::Closing;
        let mut slot = self.slot.lock();
        if deadlock::is_mine(self.id, slot.owner) {
            return Err(Denied::Reentry);
        }
        if let Some(refusal) = slot.refusal(closing) {
            return Err(refusal);
        }
        if slot.owner.is_some() {
            if !wait {
                return Err(Denied::Busy);
            }
            let place = (self.level, std::ptr::from_ref(self).addr());
            let seat = Arc::new(Seat::new(self.id, place, closing));
            slot.queue(class).push_back(Arc::clone(&seat));
            drop(slot);
            let verdict = deadlock::wait(&seat, patient);
            slot = self.slot.lock();
            if let Err(denied) = verdict {
                slot.queue(class).retain(|other| !Arc::ptr_eq(other, &seat));
                return Err(denied);
            }
        }
        slot.owner = Some(this_thread());
        slot.device_is_next = class != Class::Device && !slot.devices.is_empty();
        let value = slot.value.take();
        drop(slot);
        deadlock::entered(self.level, self.id);
        let panicking = std::thread::panicking();
        Ok(Pass { gate: self, value, panicking, _stays: PhantomData })
    }
}

/// The right to use the value; given back when dropped, also while a panic unwinds. It stays on its thread.
pub(crate) struct Pass<'a, T> {
    gate: &'a Gate<T>,
    value: Option<Box<T>>,
    /// A panic was under way before.
    panicking: bool,
    _stays: PhantomData<MutexGuard<'a, ()>>,
}

impl<T> Pass<'_, T> {
    /// Takes the value out for good. Later calls, and calls that wait, are denied.
    pub fn close(mut self) -> Option<Box<T>> {
        self.gate.slot.lock().closed = true;
        self.value.take()
    }
}

impl<T> Deref for Pass<'_, T> {
    type Target = T;
    #[allow(clippy::expect_used, reason = "only `close` empties a pass, and keeps it to itself")]
    fn deref(&self) -> &T {
        self.value.as_deref().expect("a pass holds its value")
    }
}

impl<T> DerefMut for Pass<'_, T> {
    #[allow(clippy::expect_used, reason = "only `close` empties a pass, and keeps it to itself")]
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("a pass holds its value")
    }
}

impl<T> Drop for Pass<'_, T> {
    fn drop(&mut self) {
        let Gate { id, level, slot } = self.gate;
        deadlock::left(*id);
        let mut slot = slot.lock();
        slot.value = self.value.take();
        // As std's Mutex does: what a panic has left half done is not known.
        slot.broken |= level.can_break() && !self.panicking && std::thread::panicking();
        slot.hand_over();
    }
}

#[cfg(test)]
mod tests;
