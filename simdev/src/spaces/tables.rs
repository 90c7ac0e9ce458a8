//! What is mapped in an address space, and what its logs know.

use super::hwpt::Hwpt;
use super::piece::Piece;
use super::type1_log::Log;
use crate::base::memory::PAGE;
use std::collections::{BTreeMap, BTreeSet};

/// All under one lock: a write is in RAM and in every log, or in none.
#[derive(Default)]
pub(crate) struct Tables {
    pub maps: BTreeMap<u64, Piece>,
    pub written: BTreeSet<u64>,
    pub refused: u64,
    pub type1: Log,
    pub hwpts: BTreeMap<u32, Hwpt>,
}

impl Tables {
    /// The mappings that `first..=last` touches, as (first page, mapping).
    pub fn pieces(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, Piece)> + '_ {
        let before = self.maps.range(..first).next_back().filter(move |(at, piece)| *at + piece.pages > first);
        before.into_iter().chain(self.maps.range(first..=last)).map(|(at, piece)| (*at, *piece))
    }

    /// The mapping of a page.
    pub fn piece(&self, page: u64) -> Option<(u64, Piece)> {
        self.pieces(page, page).next()
    }

    /// Whether an end of the range lies inside a mapping.
    pub fn cuts(&self, first: u64, last: u64) -> bool {
        self.pieces(first, last).any(|(at, piece)| at < first || at + piece.pages - 1 > last)
    }

    /// The first page of the range that is not mapped.
    pub fn hole(&self, first: u64, last: u64) -> Option<u64> {
        let mut next = first;
        for (at, piece) in self.pieces(first, last) {
            if at > next {
                break;
            }
            next = at + piece.pages;
        }
        (next <= last).then_some(next)
    }

    /// Whole mappings, with what logs know of them. Returns the bytes.
    pub fn remove(&mut self, first: u64, last: u64) -> u64 {
        let gone: Vec<(u64, Piece)> = self.pieces(first, last).collect();
        for (at, piece) in &gone {
            self.maps.remove(at);
            let last = at + (piece.pages - 1);
            self.type1.remove(*at, last);
            self.hwpts.values_mut().for_each(|table| table.remove(*at, last));
        }
        gone.iter().map(|(_, piece)| piece.pages * PAGE).sum()
    }

    pub fn ram_page(&self, page: u64) -> Option<u64> {
        self.piece(page).map(|(at, piece)| piece.ram_page(at, page))
    }
}
