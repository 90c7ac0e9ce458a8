//! Things on their way from threads that put to one that takes. The sum of their sizes is bounded: a thread that puts waits until
//! there is a place. Sizes are in whatever unit the owner of the queue counts.
//!
//! Every wait has an end that the caller names, so that it can look at what else there is, a cancel for instance.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Instant;

/// A queue in one direction.
pub struct BoundedQueue<T> {
    state: Mutex<QueueState<T>>,
    changed: Condvar,
    most: usize,
}

struct QueueState<T> {
    items: VecDeque<(usize, T)>,
    /// Of what is claimed, in the queue, and in the hand of the one who takes.
    size: usize,
    /// Of what was taken last and is not done; `None`: nothing is.
    in_hand: Option<usize>,
    /// Places that are not used yet.
    claims: usize,
    closed: bool,
}

/// What came of a claim.
pub enum Claimed<'a, T> {
    /// A place; dropped, it is free again.
    Place(QueuePlace<'a, T>),
    /// There was none in time.
    Full,
    /// Nothing is put any more.
    Closed,
}

/// What came of waiting for the next item.
#[derive(Debug, PartialEq, Eq)]
pub enum TakenItem<T> {
    /// The next one. [`BoundedQueue::done`] follows.
    Item(T),
    /// None came in time.
    Nothing,
    /// None will come.
    Closed,
}

impl<T> BoundedQueue<T> {
    /// A queue with at most `most` on its way; a single thing may be larger.
    pub fn new(most: usize) -> Self {
        let state = QueueState { items: VecDeque::new(), size: 0, in_hand: None, claims: 0, closed: false };
        BoundedQueue { state: Mutex::new(state), changed: Condvar::new(), most }
    }

    /// A place for something of that size, which is waited for until then. One that needs none gets it at once.
    pub fn claim_until(&self, size: usize, until: Instant) -> Claimed<'_, T> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Claimed::Closed;
            }
            if size == 0 || state.size == 0 || state.size.saturating_add(size) <= self.most {
                state.size = state.size.saturating_add(size);
                state.claims = state.claims.saturating_add(1);
                return Claimed::Place(QueuePlace { queue: self, size });
            }
            if self.changed.wait_until(&mut state, until).timed_out() {
                return Claimed::Full;
            }
        }
    }

    /// The next item, which is waited for until then.
    pub fn take_until(&self, until: Instant) -> TakenItem<T> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return TakenItem::Closed;
            }
            if let Some((size, item)) = state.items.pop_front() {
                state.in_hand = Some(size);
                return TakenItem::Item(item);
            }
            if self.changed.wait_until(&mut state, until).timed_out() {
                return TakenItem::Nothing;
            }
        }
    }

    /// What was taken last is not on its way any more.
    pub fn done(&self) {
        let mut state = self.state.lock();
        let size = state.in_hand.take().unwrap_or(0);
        state.size = state.size.saturating_sub(size);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until then for everything to be done, or given up; whether it is.
    pub fn wait_done_until(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.closed || (state.items.is_empty() && state.in_hand.is_none()) {
                return true;
            }
            if self.changed.wait_until(&mut state, until).timed_out() {
                return false;
            }
        }
    }

    /// Ends it; what was in it and not taken, in order.
    pub fn close(&self) -> Vec<T> {
        let mut state = self.state.lock();
        state.closed = true;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.changed.notify_all();
        left.into_iter().map(|(_, item)| item).collect()
    }

    /// Ends it if nothing is on its way, and no place is claimed; whether it has ended.
    pub fn close_if_done(&self) -> bool {
        let mut state = self.state.lock();
        state.closed |= state.items.is_empty() && state.in_hand.is_none() && state.claims == 0;
        let closed = state.closed;
        drop(state);
        self.changed.notify_all();
        closed
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

/// A place in the queue that is not used yet.
pub struct QueuePlace<'a, T> {
    queue: &'a BoundedQueue<T>,
    size: usize,
}

impl<T> QueuePlace<'_, T> {
    /// Puts `item` there; gives it back if the queue was closed meanwhile.
    pub fn put(mut self, item: T) -> Result<(), T> {
        let mut state = self.queue.state.lock();
        if state.closed {
            return Err(item);
        }
        // From here on the place is the item's.
        state.items.push_back((std::mem::take(&mut self.size), item));
        Ok(())
    }

    /// Gives back what of the place is beyond `size`.
    pub fn shrink(&mut self, size: usize) {
        let less = self.size.saturating_sub(size);
        self.size = self.size.saturating_sub(less);
        let mut state = self.queue.state.lock();
        state.size = state.size.saturating_sub(less);
        drop(state);
        self.queue.changed.notify_all();
    }
}

impl<T> Drop for QueuePlace<'_, T> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.size = state.size.saturating_sub(self.size);
        state.claims = state.claims.saturating_sub(1);
        drop(state);
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::scope;
    use std::time::Duration;

    fn now() -> Instant {
        Instant::now()
    }

    fn soon() -> Instant {
        now() + Duration::from_millis(20)
    }

    fn later() -> Instant {
        now() + Duration::from_secs(60)
    }

    fn put(queue: &BoundedQueue<usize>, size: usize, until: Instant) -> Option<bool> {
        match queue.claim_until(size, until) {
            Claimed::Place(place) => Some(place.put(size).is_ok()),
            Claimed::Full => Some(false),
            Claimed::Closed => None,
        }
    }

    #[test]
    fn things_come_in_order_and_no_more_than_fit_are_on_their_way() {
        let queue = BoundedQueue::new(10);
        assert_eq!(
            (put(&queue, 4, now()), put(&queue, 6, now()), put(&queue, 1, soon())),
            (Some(true), Some(true), Some(false))
        );
        // What needs no place is never kept waiting, and does not overtake.
        assert_eq!(put(&queue, 0, now()), Some(true));
        assert_eq!(queue.take_until(now()), TakenItem::Item(4));
        // It is in hand: its place is not free yet.
        assert_eq!(put(&queue, 1, soon()), Some(false));
        queue.done();
        assert_eq!((put(&queue, 4, now()), put(&queue, 1, soon())), (Some(true), Some(false)));
        for size in [6, 0, 4] {
            assert!(!queue.wait_done_until(now()));
            assert_eq!(queue.take_until(now()), TakenItem::Item(size));
            queue.done();
        }
        assert!(queue.wait_done_until(now()));
        assert_eq!(queue.take_until(soon()), TakenItem::Nothing);
        // What is larger than all of it goes alone.
        assert_eq!((put(&queue, 100, now()), put(&queue, 1, soon())), (Some(true), Some(false)));
    }

    #[test]
    fn a_place_that_is_not_used_is_free_again() {
        let queue = BoundedQueue::new(10);
        let Claimed::Place(mut place) = queue.claim_until(10, now()) else { panic!() };
        assert!(!queue.close_if_done());
        assert_eq!(put(&queue, 3, now()), Some(false));
        place.shrink(7);
        assert_eq!(put(&queue, 3, now()), Some(true));
        drop(place);
        assert_eq!(put(&queue, 7, now()), Some(true));
        for _ in 0..2 {
            assert!(!queue.close_if_done());
            queue.take_until(now());
            assert!(!queue.close_if_done(), "it is in hand");
            queue.done();
        }
        assert!(queue.close_if_done() && queue.is_closed() && queue.close_if_done());
    }

    #[test]
    fn who_waits_is_woken() {
        let queue = BoundedQueue::new(10);
        scope(|scope| {
            let takes = scope.spawn(|| queue.take_until(later()));
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(put(&queue, 10, now()), Some(true));
            assert_eq!(takes.join().unwrap(), TakenItem::Item(10));
            let puts = scope.spawn(|| put(&queue, 5, later()));
            let waits = scope.spawn(|| queue.wait_done_until(later()));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!puts.is_finished() && !waits.is_finished());
            queue.done();
            assert_eq!(puts.join().unwrap(), Some(true));
            // The next item came before it could look, or not: closed, it has nothing to wait for.
            assert_eq!(queue.close(), [5]);
            assert!(waits.join().unwrap());
        });
    }

    #[test]
    fn once_closed_it_stays_so_and_keeps_nobody() {
        let queue = BoundedQueue::new(10);
        assert_eq!((put(&queue, 5, now()), put(&queue, 5, now())), (Some(true), Some(true)));
        let Claimed::Place(place) = queue.claim_until(0, now()) else { panic!() };
        scope(|scope| {
            let puts = scope.spawn(|| put(&queue, 1, later()));
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(queue.close(), [5, 5]);
            assert_eq!(puts.join().unwrap(), None);
        });
        assert_eq!(place.put(1), Err(1));
        assert!(queue.is_closed() && queue.wait_done_until(later()));
        assert_eq!(queue.take_until(later()), TakenItem::Closed);
        assert!(queue.close().is_empty());
    }

    /// Several that put, one that takes: nothing is lost, and each one's come in its order.
    #[test]
    fn many_threads() {
        let queue = BoundedQueue::new(100);
        let mut came = vec![Vec::new(); 4];
        scope(|scope| {
            for thread in 0..4usize {
                let queue = &queue;
                scope.spawn(move || {
                    for n in 0..500usize {
                        let Claimed::Place(place) = queue.claim_until(n % 60, later()) else { panic!() };
                        assert!(place.put((thread, n)).is_ok());
                    }
                });
            }
            for _ in 0..2000 {
                let TakenItem::Item((thread, n)) = queue.take_until(later()) else { panic!() };
                came.get_mut(thread).unwrap().push(n);
                queue.done();
            }
        });
        assert!(came.iter().all(|one| *one == (0..500).collect::<Vec<_>>()));
    }
}
