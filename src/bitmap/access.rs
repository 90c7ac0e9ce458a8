//! How a word is read, gets bits and loses them: lent, a thread's own, or shared with other threads.

use super::place::BUFFER;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// A word that bits come from. Words that are only lent cannot be written and do not clear.
pub(super) trait SrcWord: Sized {
    fn read(&self) -> u64;
    fn write(&self, value: u64);
    /// The words as they are, or, of those that are only lent, a copy of the first [`BUFFER`] at most: one form of a loop does
    /// for both, where a copy in the cache costs little beside it.
    fn with_cells<T>(words: &[Self], work: impl FnOnce(&[Cell<u64>]) -> T) -> T;
}

impl SrcWord for u64 {
    #[inline(always)]
    fn read(&self) -> u64 {
        *self
    }

    #[inline(always)]
    fn write(&self, _value: u64) {}

    fn with_cells<T>(words: &[u64], work: impl FnOnce(&[Cell<u64>]) -> T) -> T {
        let mut room = [0; BUFFER];
        let len = words.len().min(BUFFER);
        let room = room.get_mut(..len).unwrap_or_default();
        room.copy_from_slice(words.get(..len).unwrap_or_default());
        work(Cell::from_mut(room).as_slice_of_cells())
    }
}

impl SrcWord for Cell<u64> {
    #[inline(always)]
    fn read(&self) -> u64 {
        self.get()
    }

    #[inline(always)]
    fn write(&self, value: u64) {
        self.set(value);
    }

    #[inline(always)]
    fn with_cells<T>(words: &[Cell<u64>], work: impl FnOnce(&[Cell<u64>]) -> T) -> T {
        work(words)
    }
}

/// A word with all bits on can be stored over whatever is there, without a lock: no bit is lost, though a count of what was
/// off before may be wrong if others change the word at that moment. What they wrote before they set their bit must still be
/// seen by whoever takes it, and reads our store instead of theirs. These processors keep stores to one word in one order for
/// all who look; the language itself does not promise it.
const STORES_SUFFICE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// A word that bits go to.
pub(super) trait DstWord: Sized {
    /// Whether many words at once cost less each than one.
    const BY_VECTOR: bool;
    /// Returns how many were off before.
    fn or(&self, bits: u64) -> u64;
    /// What is on.
    fn look(&self) -> u64;
    /// As `or`, where `old` was on a moment ago.
    fn or_to(&self, old: u64, bits: u64) -> u64;
}

impl DstWord for Cell<u64> {
    const BY_VECTOR: bool = true;

    #[inline(always)]
    fn or(&self, bits: u64) -> u64 {
        let old = self.get();
        self.set(old | bits);
        ones(bits & !old)
    }

    #[inline(always)]
    fn look(&self) -> u64 {
        self.get()
    }

    #[inline(always)]
    fn or_to(&self, _old: u64, bits: u64) -> u64 {
        self.or(bits)
    }
}

impl DstWord for AtomicU64 {
    const BY_VECTOR: bool = false;

    #[inline(always)]
    fn or(&self, bits: u64) -> u64 {
        self.or_to(self.look(), bits)
    }

    #[inline(always)]
    fn look(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn or_to(&self, mut old: u64, bits: u64) -> u64 {
        // Most bits of a busy guest are on already, and a locked operation costs as much as twenty plain ones.
        if STORES_SUFFICE && bits == u64::MAX && old != u64::MAX {
            self.store(bits, Ordering::Release);
            return ones(!old);
        }
        while bits & !old != 0 {
            // Not fetch_or: it would read the word again where the processor has no such instruction that returns a value.
            match self.compare_exchange_weak(old, old | bits, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return ones(bits & !old),
                Err(now) => old = now,
            }
        }
        0
    }
}

/// A word that bits can be moved out of.
pub(super) trait Taken {
    fn take(&self, mask: u64) -> u64;
}

impl Taken for Cell<u64> {
    fn take(&self, mask: u64) -> u64 {
        let old = self.get();
        self.set(old & !mask);
        old & mask
    }
}

impl Taken for AtomicU64 {
    fn take(&self, mask: u64) -> u64 {
        if self.load(Ordering::Relaxed) & mask == 0 {
            return 0;
        }
        match mask {
            u64::MAX => self.swap(0, Ordering::AcqRel),
            _ => self.fetch_and(!mask, Ordering::AcqRel) & mask,
        }
    }
}

#[inline(always)]
pub(super) fn ones(word: u64) -> u64 {
    u64::from(word.count_ones())
}
