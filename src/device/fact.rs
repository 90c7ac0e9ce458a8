//! A number that getters of C read without a lock and without a count, while the device or migration that it belongs to may end.
//! Its memory is never given back, only used for another number, so that there are as many as ever lived at once.

use parking_lot::Mutex;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

static SPARE: Mutex<Vec<&AtomicU32>> = Mutex::new(Vec::new());

pub(crate) struct Fact(&'static AtomicU32);

impl Fact {
    pub fn new(value: u32) -> Self {
        let place = SPARE.lock().pop().unwrap_or_else(|| Box::leak(Box::default()));
        place.store(value, Ordering::Release);
        Fact(place)
    }

    #[cfg(any(test, feature = "capi"))]
    pub fn place(&self) -> &'static AtomicU32 {
        self.0
    }
}

impl Drop for Fact {
    fn drop(&mut self) {
        SPARE.lock().push(self.0);
    }
}

impl Deref for Fact {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let places: Vec<_> = (0..100)
            .map(|value| {
                let fact = Fact::new(value);
                assert_eq!(fact.load(Ordering::Relaxed), value);
                std::ptr::from_ref(fact.place())
            })
            .collect();
        // Other tests take numbers meanwhile.
        let distinct: std::collections::BTreeSet<_> = places.iter().collect();
        assert!(distinct.len() < 50, "{} places for 100 numbers, one after another", distinct.len());
    }
}
