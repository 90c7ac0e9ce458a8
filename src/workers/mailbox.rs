//! Messages between workers and the thread that made them. The standard library's channel would do, but ThreadSanitizer does
//! not see through it (c-tests/race.sh), and what is handed over here is what a race would be about.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Instant;

/// Many senders, who say when they leave; one receiver.
pub(super) struct Mailbox<M> {
    state: Mutex<MailboxState<M>>,
    changed: Condvar,
}

struct MailboxState<M> {
    messages: VecDeque<M>,
    senders: usize,
}

impl<M> Mailbox<M> {
    /// A mailbox with so many senders and these messages in it.
    pub fn new(senders: usize, messages: impl IntoIterator<Item = M>) -> Self {
        Mailbox {
            state: Mutex::new(MailboxState { messages: messages.into_iter().collect(), senders }),
            changed: Condvar::new(),
        }
    }

    pub fn send(&self, message: M) {
        self.state.lock().messages.push_back(message);
        self.changed.notify_one();
    }

    /// One more sender, who leaves when the result is dropped.
    pub fn enter(&self) -> Sender<'_, M> {
        let mut state = self.state.lock();
        state.senders = state.senders.saturating_add(1);
        Sender(self)
    }

    /// One sender is gone.
    pub fn leave(&self) {
        let mut state = self.state.lock();
        state.senders = state.senders.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    /// The next message, if there is one now.
    pub fn poll(&self) -> Option<M> {
        self.state.lock().messages.pop_front()
    }

    /// The next message; `None` once all senders are gone and everything was taken.
    pub fn wait(&self) -> Option<M> {
        loop {
            match self.wait_until(None) {
                Arrival::Message(message) => return Some(message),
                Arrival::Gone => return None,
                Arrival::Late => {}
            }
        }
    }

    /// As [`wait`](Self::wait), but not beyond `until`.
    pub fn wait_until(&self, until: Option<Instant>) -> Arrival<M> {
        let mut state = self.state.lock();
        loop {
            if let Some(message) = state.messages.pop_front() {
                return Arrival::Message(message);
            }
            if state.senders == 0 {
                return Arrival::Gone;
            }
            match until {
                None => self.changed.wait(&mut state),
                Some(until) => {
                    if self.changed.wait_until(&mut state, until).timed_out() {
                        return Arrival::Late;
                    }
                }
            }
        }
    }
}

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<M> {
    Message(M),
    /// All senders have left.
    Gone,
    /// Nothing came in time.
    Late,
}

/// A sender's stay.
pub(super) struct Sender<'a, M>(&'a Mailbox<M>);

impl<M> Drop for Sender<'_, M> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn messages_come_in_the_order_of_each_sender_until_all_are_gone() {
        let mailbox = Mailbox::new(0, [(9, 0)]);
        let mut next = [0; 3];
        thread::scope(|scope| {
            for sender in 0..3 {
                let stay = mailbox.enter();
                scope.spawn({
                    let mailbox = &mailbox;
                    move || {
                        (0..100).for_each(|n| mailbox.send((sender, n)));
                        drop(stay);
                    }
                });
            }
            assert_eq!(mailbox.wait(), Some((9, 0)));
            while let Some((sender, n)) = mailbox.wait() {
                assert_eq!(n, next[sender]);
                next[sender] += 1;
            }
        });
        assert_eq!(next, [100; 3]);
        assert_eq!(mailbox.poll(), None);
    }

    #[test]
    fn who_waits_for_so_long_waits_no_longer() {
        let mailbox: Mailbox<u32> = Mailbox::new(1, []);
        let begun = Instant::now();
        let until = begun.checked_add(std::time::Duration::from_millis(20));
        assert_eq!(mailbox.wait_until(until), Arrival::Late);
        assert!(begun.elapsed() >= std::time::Duration::from_millis(20));
        mailbox.send(7);
        assert_eq!(mailbox.wait_until(until), Arrival::Message(7));
        mailbox.leave();
        assert_eq!(mailbox.wait_until(until), Arrival::Gone);
    }

    #[test]
    fn a_sender_that_leaves_wakes_the_receiver() {
        let mailbox: Mailbox<()> = Mailbox::new(1, []);
        thread::scope(|scope| {
            let receiver = scope.spawn(|| mailbox.wait());
            thread::sleep(std::time::Duration::from_millis(20));
            mailbox.leave();
            assert_eq!(receiver.join().unwrap(), None);
        });
    }
}
