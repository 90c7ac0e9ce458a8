//! How much memory the queues of all devices of a migration may have together, and each of them.
//!
//! Those that are still read share evenly what is left beside those that are not. A share never shrinks, since what one leaves
//! is no more than its share; so no device waits for ever for memory that another one has, and the sum is never exceeded.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The least share of a device: a few blocks of the smallest size.
pub(crate) const MIN_SHARE: usize = 16 << 10;
const MIN_BLOCK: usize = 4 << 10;
/// Blocks of a share: what is read and what is taken are at the two ends, and one is on its way.
const BLOCKS: usize = 8;

pub(crate) struct QueueBudget {
    total: usize,
    stopped: AtomicBool,
    uses: Mutex<Uses>,
}

struct Uses {
    /// Devices that are read, or will be.
    readers: usize,
    /// Bytes in the queues of those that are not any more.
    ended: usize,
}

/// One device's part of a budget; what it holds is given back when it is dropped.
pub(crate) struct Share {
    budget: Arc<QueueBudget>,
    held: usize,
    ended: bool,
}

impl QueueBudget {
    pub fn new(total: usize, readers: usize) -> Arc<QueueBudget> {
        let uses = Mutex::new(Uses { readers, ended: 0 });
        Arc::new(QueueBudget { total, stopped: AtomicBool::new(false), uses })
    }

    /// One of the `readers` that were announced.
    pub fn share(self: &Arc<QueueBudget>) -> Share {
        Share { budget: Arc::clone(self), held: 0, ended: false }
    }

    /// Nothing is read ahead from here on; what was stays in the queues.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    fn each(&self, uses: &Uses) -> usize {
        self.total.saturating_sub(uses.ended).checked_div(uses.readers).unwrap_or(0)
    }
}

impl Share {
    /// The device is read no more.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    pub fn is_stopped(&self) -> bool {
        self.budget.stopped.load(Ordering::Acquire)
    }

    /// Bytes of one block, for a device that is read `buffer` bytes a time at most.
    pub fn block(&self, buffer: usize) -> usize {
        let each = self.budget.each(&self.budget.uses.lock());
        let pages = (each / BLOCKS) / MIN_BLOCK;
        pages.saturating_mul(MIN_BLOCK).min(buffer).max(MIN_BLOCK)
    }

    /// Whether so many more bytes are within the share; then they are held.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let held = self.held.saturating_add(bytes);
        let fits = !self.ended && held <= self.budget.each(&self.budget.uses.lock());
        if fits {
            self.held = held;
        }
        fits
    }

    pub fn shrink(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
        if self.ended {
            let mut uses = self.budget.uses.lock();
            uses.ended = uses.ended.saturating_sub(bytes);
        }
    }

    /// The device is read no more: what it holds only goes down.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let mut uses = self.budget.uses.lock();
            uses.readers = uses.readers.saturating_sub(1);
            uses.ended = uses.ended.saturating_add(self.held);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.end();
        self.shrink(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is done in whatever order: the sum is within the total, no share shrinks, and each reader gets its share.
        #[test]
        fn the_sum_is_bounded_and_no_share_shrinks(
            total in 0usize..100_000,
            count in 1usize..6,
            doings in prop::collection::vec((0usize..6, 0u8..4, 1usize..9000), 0..200),
        ) {
            let budget = QueueBudget::new(total, count);
            let mut shares: Vec<Option<Share>> = (0..count).map(|_| Some(budget.share())).collect();
            let mut least = 0;
            for (who, what, bytes) in doings {
                let place = &mut shares[who % count];
                match (place.as_mut(), what) {
                    (Some(share), 0) => { share.grow(bytes); }
                    (Some(share), 1) => share.shrink(bytes.min(share.held)),
                    (Some(share), 2) => share.end(),
                    (Some(_), 3) => *place = None,
                    _ => {}
                }
                let held: usize = shares.iter().flatten().map(|share| share.held).sum();
                prop_assert!(held <= total);
                let readers = shares.iter().flatten().filter(|share| !share.ended).count();
                if readers > 0 {
                    let each = budget.each(&budget.uses.lock());
                    prop_assert!(each >= least);
                    least = each;
                }
            }
            for share in shares.iter_mut().flatten().filter(|share| !share.ended) {
                prop_assert!(share.grow(least - share.held));
            }
        }
    }

    #[test]
    fn what_has_ended_makes_room_for_those_that_are_read() {
        let budget = QueueBudget::new(100_000, 2);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(other.grow(10_000) && !one.grow(60_000));
        other.end();
        assert!(!one.grow(90_001) && one.grow(60_000));
        other.shrink(10_000);
        assert!(one.grow(40_000) && !one.grow(1));
    }

    #[test]
    fn blocks_are_pages_and_a_share_has_some() {
        for (total, readers, buffer, block) in
            [(MIN_SHARE, 1, 1 << 20, 4096), (1 << 20, 1, 1 << 20, 128 << 10), (1 << 30, 2, 1 << 20, 1 << 20)]
        {
            let budget = QueueBudget::new(total, readers);
            assert_eq!(budget.share().block(buffer), block);
        }
    }
}
