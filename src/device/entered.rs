//! A call in progress.

use crate::gate::Pass;
use crate::transport::one_call::WithinCall;
use crate::transport::signals::Blocked;
use std::ops::{Deref, DerefMut};

/// A call that may make requests. Signals are blocked from here on and not for each request: drivers wait interruptibly and
/// throw a migration away when a signal comes (P1, K8), and no request of any transport or dialect can be forgotten.
pub(super) struct Entered<'a, T> {
    pass: Pass<'a, T>,
    // A server that is silent costs the call one deadline.
    _call: WithinCall,
    // After the pass: signals come when the next call has its turn.
    _blocked: Blocked,
}

impl<'a, T> Entered<'a, T> {
    pub fn new(pass: Pass<'a, T>) -> Self {
        Entered { pass, _call: WithinCall::of_any_length(), _blocked: Blocked::new() }
    }
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.pass
    }
}

impl<T> DerefMut for Entered<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.pass
    }
}
