//! The requests of one call have a deadline together, so that a peer that is silent costs the call its time once, and not at
//! each request.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The call that a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallNow {
    /// A number that no other call has.
    pub number: u64,
    /// When its deadline began; `None`: each of its requests has a time of its own, because the call may move any amount of data.
    pub begun: Option<Instant>,
}

thread_local! {
    static CALL: Cell<Option<CallNow>> = const { Cell::new(None) };
    /// How many values of `WithinCall` live on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// The call that this thread is in; `None`: it is in none, and each request is a call by itself.
pub(crate) fn current() -> Option<CallNow> {
    CALL.get()
}

/// A call in progress on this thread while it lives. One within another is a part of that, in whatever order they end.
pub(crate) struct WithinCall {
    /// The deadline of the call is this one's.
    has_deadline: bool,
    // The call belongs to the thread, so the value must be dropped on the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl WithinCall {
    /// Begins a call that moves data: each of its requests has a time of its own, but none follows one that had no answer.
    pub fn of_any_length() -> Self {
        Self::begin(None)
    }

    /// Begins a call whose requests have the time of a single one together, such as a change of state, which reads the state
    /// before and after.
    pub fn with_one_deadline() -> Self {
        Self::begin(Some(Instant::now()))
    }

    fn begin(begun: Option<Instant>) -> Self {
        let outer = CALL.get();
        let number = outer.map_or_else(|| NUMBERS.fetch_add(1, Ordering::Relaxed), |outer| outer.number);
        let before = outer.and_then(|outer| outer.begun);
        CALL.set(Some(CallNow { number, begun: before.or(begun) }));
        DEPTH.set(DEPTH.get().saturating_add(1));
        WithinCall { has_deadline: before.is_none() && begun.is_some(), _not_send: PhantomData }
    }
}

impl Drop for WithinCall {
    fn drop(&mut self) {
        let left = DEPTH.get().saturating_sub(1);
        DEPTH.set(left);
        let call = CALL.get().filter(|_| left > 0);
        CALL.set(call.map(|call| CallNow { begun: call.begun.filter(|_| !self.has_deadline), ..call }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_within_a_call_is_a_part_of_it() {
        assert_eq!(current(), None);
        let outer = WithinCall::of_any_length();
        let first = current().unwrap();
        assert_eq!(first.begun, None);
        let inner = WithinCall::with_one_deadline();
        let within = current().unwrap();
        assert!(within.number == first.number && within.begun.is_some());
        let innermost = WithinCall::with_one_deadline();
        assert_eq!(current(), Some(within), "the first deadline holds");
        drop((innermost, inner));
        assert_eq!(current(), Some(first));
        let last = WithinCall::with_one_deadline();
        drop(outer);
        assert_eq!(current().map(|call| call.number), Some(first.number));
        drop(last);
        assert_eq!(current(), None, "who begins first need not end last");
        let _next = WithinCall::of_any_length();
        assert_ne!(current().unwrap().number, first.number);
    }
}
