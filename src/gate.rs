//! Who may use a handle now (DESIGN.md section 5, threads). The value is taken out while a call uses it, so no lock is held
//! during a callback or a request to the kernel. May import: nothing of the crate.

use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why a call was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Another call is in progress, or a *whole* call waits and goes first.
    Busy,
    /// The call in progress is this thread's, or of one that waits for this thread: it came from a callback.
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
    /// The call in progress is one that later *device* calls wait for.
    waited_for: bool,
    whole_waiting: usize,
    between_waiting: usize,
    closed: bool,
}

impl<T> Slot<T> {
    /// The calling thread's mark, unless the call in progress is its own.
    fn check_not_mine(&self) -> Result<usize, Denied> {
        let me = this_thread();
        if self.owner.is_some_and(waits_for_me) { Err(Denied::Reentry) } else { Ok(me) }
    }
}

thread_local! {
    /// Marks of the threads that wait for this one, which is a worker within a call of theirs.
    static WAITING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread and those that wait for it.
#[derive(Clone)]
pub(crate) struct Waiting(Vec<usize>);

impl Waiting {
    pub fn here() -> Self {
        let mut marks = WAITING.try_with(|waiting| waiting.borrow().clone()).unwrap_or_default();
        marks.push(this_thread());
        Waiting(marks)
    }

    /// For a worker, before its work: a call from one of its callbacks to what the waiting threads hold would never end, so it
    /// is as much a re-entry as one of their own.
    pub fn adopt(self) {
        WAITING.set(self.0);
    }
}

/// A number that no other thread has, nor had: what a thread left behind is not taken for that of a later one.
pub(crate) fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local!(static MARK: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    MARK.with(|mark| *mark)
}

/// Whether that is the calling thread, or one that waits for it: it will do nothing before the calling one has returned.
pub(crate) fn waits_for_me(mark: usize) -> bool {
    // A thread that ends may have no list any more: then it is no worker either.
    mark == this_thread() || WAITING.try_with(|waiting| waiting.borrow().contains(&mark)).unwrap_or(false)
}

impl<T> Gate<T> {
    pub fn new(value: T) -> Self {
        let value = Some(Box::new(value));
        let slot = Slot { value, owner: None, waited_for: false, whole_waiting: 0, between_waiting: 0, closed: false };
        Gate { slot: Mutex::new(slot), left: Condvar::new() }
    }

    /// Entry of the *device* class: never waits, but for calls that entered by [`enter_between`](Self::enter_between).
    pub fn enter(&self) -> Result<Pass<'_, T>, Denied> {
        let mut slot = self.slot.lock();
        let me = slot.check_not_mine()?;
        loop {
            if slot.closed {
                return Err(Denied::Closed);
            }
            if slot.whole_waiting > 0 || (slot.value.is_none() && !slot.waited_for) {
                return Err(Denied::Busy);
            }
            let value = if slot.between_waiting == 0 { slot.value.take() } else { None };
            if value.is_some() {
                slot.owner = Some(me);
                return Ok(Pass { gate: self, value });
            }
            self.left.wait(&mut slot);
        }
    }

    /// Entry of the *whole* class: waits for the call in progress; no later *device* call overtakes it.
    pub fn enter_whole(&self) -> Result<Pass<'_, T>, Denied> {
        self.wait_for(|slot| &mut slot.whole_waiting, false)
    }

    /// Entry of a short call between *device* calls: waits for the one in progress; later ones wait for it, so none of them
    /// is turned away because of it.
    pub fn enter_between(&self) -> Result<Pass<'_, T>, Denied> {
        self.wait_for(|slot| &mut slot.between_waiting, true)
    }

    fn wait_for(&self, counter: fn(&mut Slot<T>) -> &mut usize, waited_for: bool) -> Result<Pass<'_, T>, Denied> {
        let mut slot = self.slot.lock();
        let me = slot.check_not_mine()?;
        let waiting = counter(&mut slot);
        *waiting = waiting.saturating_add(1);
        let value = loop {
            if slot.closed {
                break None;
            }
            if let Some(value) = slot.value.take() {
                break Some(value);
            }
            self.left.wait(&mut slot);
        };
        let waiting = counter(&mut slot);
        *waiting = waiting.saturating_sub(1);
        let value = value.ok_or(Denied::Closed)?;
        slot.owner = Some(me);
        slot.waited_for = waited_for;
        Ok(Pass { gate: self, value: Some(value) })
    }
}

/// The right to use the value; given back when dropped, also while a panic unwinds.
pub(crate) struct Pass<'a, T> {
    gate: &'a Gate<T>,
    value: Option<Box<T>>,
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
        let mut slot = self.gate.slot.lock();
        slot.owner = None;
        slot.waited_for = false;
        slot.value = self.value.take();
        drop(slot);
        self.gate.left.notify_all();
    }
}
