//! What a VMM knows of its own memory, and requests in every form: whatever a harvest gives is one way to name pages.

use super::Dice;
use crate::rig::{P, range};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use vfiomig::bitmap::Words;
use vfiomig::tracker::{Dest, IovaRange, Request};

/// Named by a cookie, or by what is or was mapped at the page last; with the number of pages.
pub enum Named {
    ByCookie(u64, u64, u64),
    ByIova(u64, u64),
}

/// How a request may look.
#[derive(Clone, Copy)]
pub struct Form {
    /// Callbacks may stop, pieces may be missing, no log may be read: not the last harvest.
    pub partial: bool,
    pub keep: bool,
}

/// Bits of a bitmap that a piece of the space has at most.
const MOST_BITS: u64 = 1 << 14;

struct Piece {
    first: u64,
    pages: u64,
    shift: u32,
    bit: u64,
    kind: u64,
    words: Vec<u64>,
}

/// A request that asks for everything by runs, for pieces of the space in all forms, or for nothing. `low` and `end` are pages;
/// cuts are some of `edges`, or anywhere.
pub fn with_request(
    d: &mut Dice,
    (low, end): (u64, u64),
    edges: &[u64],
    form: Form,
    reported: &dyn Fn(Named),
    call: &mut dyn FnMut(&mut Request<'_>),
) {
    let calls = Cell::new(0);
    let stop_at = if form.partial && d.one_in(3) { d.roll(6) } else { u64::MAX };
    let goes_on = || {
        calls.set(calls.get() + 1);
        calls.get() <= stop_at
    };
    let mut run = |cookie: u64, run: IovaRange| {
        if goes_on() {
            assert!(run.size > 0 && (run.iova | run.size) % P == 0, "{run:?}");
            reported(Named::ByCookie(cookie, run.iova / P, run.size / P));
        }
        calls.get() <= stop_at
    };
    let mut request = Request { keep: form.keep, ..Request::default() };
    request.no_read = form.partial && d.one_in(4);
    request.max_workers = d.roll(3) as usize;
    let pieces = if form.partial && d.one_in(2) { Vec::new() } else { pieces(d, low, end, edges, form.partial) };
    if pieces.is_empty() {
        if !form.partial || d.one_in(2) {
            request.run = Some(&mut run);
        }
        return call(&mut request);
    }
    let pieces = RefCell::new(pieces);
    let tell = |index: usize, bit: u64| {
        let Piece { first, pages, shift, bit: first_bit, .. } = pieces.borrow()[index];
        assert!(bit >= first_bit, "a bit before the destination's first");
        let per_page = 1u64 << (shift - 12);
        let from = first + (bit - first_bit) * per_page;
        assert!(from < first + pages, "a bit behind the destination's last");
        reported(Named::ByIova(from, per_page.min(first + pages - from)));
    };
    let mut words = |dest: &Dest<'_>, first: u64, words: &[u64]| {
        if goes_on() {
            assert_eq!(first % 64, 0);
            set_bits(words).for_each(|bit| tell(dest.token, first + bit));
        }
        calls.get() <= stop_at
    };
    let bitmaps: Vec<Vec<AtomicU64>> =
        pieces.borrow().iter().map(|piece| piece.words.iter().map(|_| AtomicU64::new(0)).collect()).collect();
    let plain: Vec<Vec<Cell<u64>>> =
        pieces.borrow().iter().map(|piece| piece.words.iter().map(|_| Cell::new(0)).collect()).collect();
    let dest = |(token, piece): (usize, &Piece)| Dest {
        range: range(piece.first, piece.pages),
        page_size: 1 << piece.shift,
        first_bit: piece.bit,
        bitmap: match piece.kind {
            0 => Some(Words::Plain(&plain[token])),
            1 => Some(Words::Atomic(&bitmaps[token])),
            _ => None,
        },
        token,
    };
    let dests: Vec<Dest<'_>> = pieces.borrow().iter().enumerate().map(dest).collect();
    request.dests = &dests;
    request.only_dests = form.partial && d.one_in(3);
    if d.one_in(2) {
        request.words = Some(&mut words);
    } else {
        request.run = Some(&mut run);
    }
    call(&mut request);
    for (token, dest) in dests.iter().enumerate().filter(|(_, dest)| dest.bitmap.is_some()) {
        let both = plain[token].iter().zip(&bitmaps[token]);
        let words: Vec<u64> = both.map(|(a, b)| a.get() | b.load(std::sync::atomic::Ordering::Relaxed)).collect();
        set_bits(&words).for_each(|bit| tell(dest.token, bit));
    }
}

fn set_bits(words: &[u64]) -> impl Iterator<Item = u64> {
    (0u64..)
        .zip(words)
        .flat_map(|(n, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| n * 64 + bit))
}

fn pieces(d: &mut Dice, low: u64, end: u64, edges: &[u64], partial: bool) -> Vec<Piece> {
    let mut cuts = vec![low, end];
    (0..d.roll(5)).for_each(|_| cuts.push(low + d.roll(end - low)));
    let some = edges.iter().filter(|edge| (low..end).contains(edge));
    cuts.extend(some.filter(|_| d.one_in(2)).take(20));
    cuts.sort_unstable();
    cuts.dedup();
    let mut pieces = Vec::new();
    for pair in cuts.windows(2) {
        if partial && d.one_in(3) {
            continue;
        }
        let (first, pages) = (pair[0], pair[1] - pair[0]);
        let most = if d.one_in(4) { 12 } else { 7 };
        let mut shift = 12 + d.roll(most) as u32;
        while (pages >> (shift - 12)) > MOST_BITS {
            shift += 1;
        }
        let bit = d.roll(150);
        let bits = bit + (pages * P).div_ceil(1 << shift);
        pieces.push(Piece { first, pages, shift, bit, kind: d.roll(3), words: vec![0; bits.div_ceil(64) as usize] });
    }
    pieces
}

/// Which mapping is, or was last, at each page: begin → pages and cookie.
#[derive(Default)]
pub struct Names(BTreeMap<u64, (u64, u64)>);

impl Names {
    pub fn map(&mut self, first: u64, pages: u64, cookie: u64) {
        let end = first + pages;
        let touched: Vec<(u64, (u64, u64))> = self.within(first, pages).collect();
        for (begin, (len, old)) in touched {
            self.0.remove(&begin);
            if begin < first {
                self.0.insert(begin, (first - begin, old));
            }
            if begin + len > end {
                self.0.insert(end, (begin + len - end, old));
            }
        }
        self.0.insert(first, (pages, cookie));
    }

    fn within(&self, first: u64, pages: u64) -> impl Iterator<Item = (u64, (u64, u64))> + '_ {
        let begin = self.0.range(..=first).next_back().map_or(first, |(&begin, _)| begin);
        let all = self.0.range(begin..first + pages).map(|(&begin, &name)| (begin, name));
        all.filter(move |(begin, (len, _))| begin + len > first)
    }

    /// The cookies of a range, with their parts of it.
    pub fn of(&self, first: u64, pages: u64) -> Vec<(u64, u64, u64)> {
        let part = |(begin, (len, cookie)): (u64, (u64, u64))| {
            let (from, to) = (begin.max(first), (begin + len).min(first + pages));
            (cookie, from, to - from)
        };
        self.within(first, pages).map(part).collect()
    }
}
