//! Who may use a device now (DESIGN.md section 5, threads). The value is taken out while a call uses it, so no lock is held
//! during a callback or a request to the kernel.

use parking_lot::{Condvar, Mutex};
use std::ops::{Deref, DerefMut};

/// Why a call was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Another call is in progress, or a *whole* call waits and goes first.
    Busy,
    /// The call in progress is this thread's: it came from a callback.
    Reentry,
    /// The handle was freed.
    Closed,
}

pub(crate) struct Gate<T> {
    slot: Mutex<Slot<T>>,
    left: Condvar,
}

struct Slot<T> {
    /// `None` while a call has it, and for good once closed.
    value: Option<Box<T>>,
    /// The thread of the call in progress.
    owner: Option<usize>,
    whole_waiting: usize,
    closed: bool,
}

/// A number that no other living thread has.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

impl<T> Gate<T> {
    pub fn new(value: T) -> Self {
        let slot = Slot { value: Some(Box::new(value)), owner: None, whole_waiting: 0, closed: false };
        Gate { slot: Mutex::new(slot), left: Condvar::new() }
    }

    /// Entry of the *device* class: never waits.
    pub fn enter(&self) -> Result<Pass<'_, T>, Denied> {
        let mut slot = self.slot.lock();
        let me = this_thread();
        if slot.owner == Some(me) {
            return Err(Denied::Reentry);
        }
        if slot.closed {
            return Err(Denied::Closed);
        }
        if slot.whole_waiting > 0 {
            return Err(Denied::Busy);
        }
        let value = slot.value.take().ok_or(Denied::Busy)?;
        slot.owner = Some(me);
        Ok(Pass { gate: self, value: Some(value) })
    }

    /// Entry of the *whole* class: waits for the call in progress; no later *device* call overtakes it.
    pub fn enter_whole(&self) -> Result<Pass<'_, T>, Denied> {
        let mut slot = self.slot.lock();
        let me = this_thread();
        if slot.owner == Some(me) {
            return Err(Denied::Reentry);
        }
        slot.whole_waiting = slot.whole_waiting.saturating_add(1);
        let value = loop {
            if slot.closed {
                break None;
            }
            if let Some(value) = slot.value.take() {
                break Some(value);
            }
            self.left.wait(&mut slot);
        };
        slot.whole_waiting = slot.whole_waiting.saturating_sub(1);
        let value = value.ok_or(Denied::Closed)?;
        slot.owner = Some(me);
        Ok(Pass { gate: self, value: Some(value) })
    }

    /// Waits for the call in progress, then takes the value out for good. Later calls, and calls that wait, are denied.
    pub fn close(&self) -> Result<Box<T>, Denied> {
        let mut pass = self.enter_whole()?;
        let value = pass.value.take().ok_or(Denied::Closed)?;
        self.slot.lock().closed = true;
        Ok(value)
    }
}

/// The right to use the value; given back when dropped, also while a panic unwinds.
pub(crate) struct Pass<'a, T> {
    gate: &'a Gate<T>,
    value: Option<Box<T>>,
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
        let mut slot = self.gate.slot.lock();
        slot.owner = None;
        slot.value = self.value.take();
        drop(slot);
        self.gate.left.notify_all();
    }
}
