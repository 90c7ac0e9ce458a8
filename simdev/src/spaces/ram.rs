//! Guest RAM at both ends of a migration. A page holds how often it was written, so that a copy taken too early shows.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// RAM of the source and its copy at the destination; clones are the same RAM. Pages that were never written read 0.
#[derive(Clone, Default)]
pub struct Ram(Arc<Mutex<Both>>);

#[derive(Default)]
struct Both {
    source: BTreeMap<u64, u64>,
    copy: BTreeMap<u64, u64>,
    /// Written since they were copied last.
    owed: BTreeSet<u64>,
}

impl Ram {
    /// Clean at both ends.
    pub fn new() -> Self {
        Ram::default()
    }

    pub(crate) fn write(&self, page: u64) {
        let mut both = self.0.lock();
        *both.source.entry(page).or_insert(0) += 1;
        both.owed.insert(page);
        MutexGuard::unlock_fair(both);
    }

    /// Page → how often it was written.
    pub fn pages(&self) -> BTreeMap<u64, u64> {
        self.0.lock().source.clone()
    }

    /// The first pass of a migration: all of it.
    pub fn copy_all(&self) {
        let mut both = self.0.lock();
        both.copy = both.source.clone();
        both.owed.clear();
    }

    /// Copies one page as it is now.
    pub fn copy(&self, page: u64) {
        let mut both = self.0.lock();
        both.owed.remove(&page);
        if let Some(&writes) = both.source.get(&page) {
            both.copy.insert(page, writes);
        }
    }

    /// The pages that were written since they were copied. A log that still has to tell of them must do so in the harvest
    /// that begins now, or it never will.
    pub fn owed(&self) -> BTreeSet<u64> {
        self.0.lock().owed.clone()
    }

    /// The pages that differ: (page, source, copy).
    pub fn differences(&self) -> Vec<(u64, u64, u64)> {
        let both = self.0.lock();
        let reported = |page: &u64| both.copy.get(page).copied().unwrap_or(0);
        both.source.iter().map(|(page, writes)| (*page, *writes, reported(page))).filter(|(_, a, b)| a != b).collect()
    }

    /// The RAM with which the guest goes on at the destination: what was copied, and clean.
    pub fn arrived(&self) -> Ram {
        let source = self.0.lock().copy.clone();
        Ram(Arc::new(Mutex::new(Both { source, ..Both::default() })))
    }

    /// # Panics
    /// If a page differs: a write was lost.
    pub fn assert_same(&self) {
        let lost = self.differences();
        assert!(
            lost.is_empty(),
            "{} pages lost a write, as (page, source, copy): {:?}",
            lost.len(),
            &lost[..lost.len().min(8)]
        );
    }
}
