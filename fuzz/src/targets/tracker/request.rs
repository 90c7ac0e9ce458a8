//! A request from the input, and what it told.

use super::P;
use super::space::{Space, slot};
use crate::clock::call;
use crate::feed::Feed;
use crate::intervals::Intervals;
use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vfiomig::bitmap::Words;
use vfiomig::tracker::{Dest, Harvest, IovaRange, Request};

/// What a request told, and what it asked for.
pub(super) struct Reported {
    pub(super) reported: Intervals,
    /// Of that, what came without a name, and what came as runs: cookie, first, last.
    pub(super) plain: Intervals,
    pub(super) named: Vec<(u64, u64, u64)>,
    /// Runs of everything were asked for.
    pub(super) everything: bool,
    pub(super) asked: Intervals,
    pub(super) harvest: Option<Harvest>,
}

pub(super) struct DestSpec {
    range: IovaRange,
    page_size: u64,
    first_bit: u64,
    /// 0: plain, 1: atomic, 2: none.
    how: u8,
    bits: Vec<u64>,
    before: Vec<u64>,
}

pub(super) fn with_request(
    feed: &Arc<Mutex<Feed>>,
    layout: u8,
    spaces: &[&Space],
    prefill: bool,
    no_read: bool,
    stops: bool,
    work: impl FnOnce(&mut Request<'_>) -> Option<Harvest>,
) -> Reported {
    let mut f = feed.lock();
    let count = f.u8() as usize % 4;
    let (use_words, use_run) = (f.bool(), f.bool());
    let mut specs: Vec<DestSpec> = Vec::new();
    let mut asked = Intervals::default();
    for _ in 0..count {
        let first = slot(layout, f.u8() as usize) + P * u64::from(f.u8() % 8);
        let most = (u64::MAX - first) / P + 1;
        let pages = (1 + u64::from(f.u8() % 80)).min(most);
        let size = pages * P;
        let last = first + (size - 1);
        let page_size = [P, P, 2 * P, 4 * P, 16 * P, 1 << 21, 1 << 30, 1 << 63][f.u8() as usize % 8];
        let first_bit = u64::from(f.u8());
        let how = f.u8() % 3;
        if asked.touches(first, last) || (how == 2 && !use_words && !use_run) {
            continue;
        }
        asked.insert(first, last);
        let words = (first_bit + size.div_ceil(page_size)).div_ceil(64) as usize;
        let fill = if prefill { f.u64() & f.u64() } else { 0 };
        let before: Vec<u64> = (0..words as u32).map(|n| fill.rotate_left(n * 7)).collect();
        specs.push(DestSpec {
            range: IovaRange { iova: first, size },
            page_size,
            first_bit,
            how,
            bits: before.clone(),
            before,
        });
    }
    drop(f);
    let everything = specs.is_empty() && use_run;
    if everything {
        spaces.iter().for_each(|space| asked.add(&space.mapped));
    }
    let reported = std::cell::RefCell::new(Intervals::default());
    let stopped = Cell::new(false);
    let mut words_fn = |dest: &Dest<'_>, first_bit: u64, words: &[u64]| {
        assert!(!stopped.get(), "called after it said stop");
        assert_eq!(first_bit % 64, 0);
        assert!(!words.is_empty() && words[0] != 0 && words[words.len() - 1] != 0);
        if stops && feed.lock().lies() {
            stopped.set(true);
            return false;
        }
        let IovaRange { iova, size } = dest.range;
        for (n, word) in words.iter().enumerate() {
            for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                let bit = first_bit + n as u64 * 64 + bit;
                assert!(bit >= dest.first_bit && bit - dest.first_bit < size.div_ceil(dest.page_size), "a bit outside");
                let at = (bit - dest.first_bit) * dest.page_size;
                let last = at.saturating_add(dest.page_size - 1).min(size - 1);
                reported.borrow_mut().insert(iova + at, iova + last);
            }
        }
        true
    };
    let mut named: Vec<(u64, u64, u64)> = Vec::new();
    let mut run_fn = |cookie: u64, run: IovaRange| {
        assert!(!stopped.get(), "called after it said stop");
        if stops && feed.lock().lies() {
            stopped.set(true);
            return false;
        }
        assert!(run.size > 0 && (run.iova | run.size) % P == 0);
        let last = run.iova + (run.size - 1);
        let all = spaces.iter().flat_map(|space| space.maps.iter().chain(&space.past));
        let whose = all.filter(|(a, b, _)| *a <= run.iova && last <= *b);
        let cookies: Vec<u64> = whose.map(|(.., cookie)| *cookie).collect();
        assert!(cookies.contains(&cookie), "{run:x?} with cookie {cookie}, not one of {cookies:?}");
        named.push((cookie, run.iova, last));
        true
    };
    let mut harvest = None;
    {
        let dests: Vec<Dest<'_>> = specs
            .iter_mut()
            .enumerate()
            .map(|(token, spec)| {
                let bitmap = match spec.how {
                    0 => Some(Words::Plain(Cell::from_mut(&mut spec.bits[..]).as_slice_of_cells())),
                    1 => {
                        let at = spec.bits.as_mut_ptr().cast::<AtomicU64>();
                        Some(Words::Atomic(unsafe { std::slice::from_raw_parts(at, spec.bits.len()) }))
                    }
                    _ => None,
                };
                Dest { range: spec.range, page_size: spec.page_size, first_bit: spec.first_bit, bitmap, token }
            })
            .collect();
        let mut request = Request { dests: &dests, no_read, ..Request::default() };
        if use_words {
            request.words = Some(&mut words_fn);
        }
        if use_run {
            request.run = Some(&mut run_fn);
        }
        if let Some(done) = call("harvest", 3, 1_000_000, || work(&mut request)) {
            harvest = Some(done);
        }
    }
    let mut reported = reported.into_inner();
    let mut newly = 0u64;
    for spec in specs.iter().filter(|spec| spec.how < 2) {
        let pages = spec.range.size.div_ceil(spec.page_size);
        for (n, (now, before)) in spec.bits.iter().zip(&spec.before).enumerate() {
            assert_eq!(now & before, *before, "a bit was cleared");
            for bit in (0..64u64).filter(|bit| (now ^ before) >> bit & 1 == 1) {
                let bit = n as u64 * 64 + bit;
                assert!(bit >= spec.first_bit && bit - spec.first_bit < pages, "bit {bit} is not of the destination");
                newly += 1;
            }
        }
        for page in 0..pages {
            let bit = spec.first_bit + page;
            if spec.bits[bit as usize / 64] >> (bit % 64) & 1 == 1 {
                let at = page.saturating_mul(spec.page_size);
                let last = at.saturating_add(spec.page_size - 1).min(spec.range.size - 1);
                reported.insert(spec.range.iova + at, spec.range.iova + last);
            }
        }
    }
    if let Some(done) = &harvest {
        assert_eq!(done.stopped, stopped.get());
        assert!(done.total >= done.newly);
        assert_eq!(done.failed_reads > 0, done.first_errno.is_some());
        if specs.iter().all(|spec| spec.how < 2) && !everything {
            assert_eq!(done.newly, newly, "newly");
        }
    }
    let plain = reported.clone();
    for &(_, first, last) in &named {
        reported.insert(first, last);
    }
    Reported { reported, plain, named, everything, asked, harvest }
}
