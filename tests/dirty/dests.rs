//! Where dirty pages go: bitmaps of any page size from any bit on, words and runs for callbacks, against a naive model.

use crate::rig::{Log, P, Rig, range};
use proptest::prelude::*;
use simdev::{DmaLog, Kernel, Type1Config};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use vfiomig::bitmap::Words;
use vfiomig::tracker::{Dest, IovaRange, Request};

const MAPS: [(u64, u64); 4] = [(0, 100), (100, 700), (1000, 24), (2048, 1024)];
const WORDS: usize = 128;

/// Where one piece goes.
#[derive(Clone, Debug)]
struct Piece {
    first: u64,
    pages: u64,
    page_shift: u32,
    first_bit: u64,
    atomic: bool,
    filled: u64,
}

/// Disjoint pieces from page 0 to beyond the last mapping.
fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let size = prop_oneof![Just(12u32), Just(13), Just(16), Just(21)];
    let one = (0u64..300, 1u64..900, size, 0u64..200, any::<bool>(), any::<u64>());
    prop::collection::vec(one, 1..6).prop_map(|list| {
        let mut next = 0;
        let piece = |(gap, pages, page_shift, first_bit, atomic, filled): (u64, u64, u32, u64, bool, u64)| {
            let first = next + if gap < 100 { 0 } else { gap };
            next = first + pages;
            Piece { first, pages, page_shift, first_bit, atomic, filled }
        };
        list.into_iter().map(piece).collect()
    })
}

fn written() -> impl Strategy<Value = BTreeSet<u64>> {
    let page = prop_oneof![0u64..800, 1000u64..1024, 2048u64..3072];
    prop_oneof![
        prop::collection::btree_set(page, 0..60),
        Just(MAPS.iter().flat_map(|&(first, pages)| first..first + pages).collect()),
    ]
}

impl Piece {
    fn range(&self) -> IovaRange {
        range(self.first, self.pages)
    }

    fn dest<'a>(&self, bitmap: Option<Words<'a>>, token: usize) -> Dest<'a> {
        let page_size = 1 << self.page_shift;
        Dest { range: self.range(), page_size, first_bit: self.first_bit, bitmap, token }
    }

    fn bit(&self, page: u64) -> u64 {
        self.first_bit + (((page - self.first) * P) >> self.page_shift)
    }

    fn bits(&self, pages: &BTreeSet<u64>) -> BTreeSet<u64> {
        pages.range(self.first..self.first + self.pages).map(|&page| self.bit(page)).collect()
    }
}

fn set_bits(words: &[u64]) -> BTreeSet<u64> {
    (0..words.len() as u64 * 64).filter(|bit| words[*bit as usize / 64] >> (bit % 64) & 1 != 0).collect()
}

fn logs() -> impl Strategy<Value = Log> {
    prop_oneof![
        Just(Log::Dma(DmaLog::default())),
        Just(Log::Type1(Type1Config::default())),
        Just(Log::Hwpt(1, Kernel::V6_12)),
    ]
}

fn rig(log: Log) -> Rig {
    let rig = Rig::new(log, 1);
    rig.map_all(&MAPS);
    rig.start();
    rig
}

fn rest_of(rig: &Rig, pieces: &[Piece], pages: &BTreeSet<u64>) -> Result<(), TestCaseError> {
    let asked = |page: &u64| pieces.iter().any(|p| (p.first..p.first + p.pages).contains(page));
    let rest: Vec<u64> = pages.iter().copied().filter(|page| !asked(page)).collect();
    prop_assert_eq!(rig.take(true).list(), rest, "what nobody asked for stays, once");
    prop_assert_eq!(rig.take(false).list(), [0u64; 0]);
    rig.assert_clean();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn bitmaps(log in logs(), pieces in pieces(), pages in written()) {
        let rig = rig(log);
        rig.write(&pages.iter().copied().collect::<Vec<_>>());
        let mut plain: Vec<Vec<u64>> = pieces.iter().map(|p| vec![p.filled; WORDS]).collect();
        let atomic: Vec<Vec<AtomicU64>> =
            pieces.iter().map(|p| (0..WORDS).map(|_| AtomicU64::new(p.filled)).collect()).collect();
        let dests: Vec<Dest<'_>> = pieces.iter().zip(plain.iter_mut()).zip(&atomic).enumerate().map(|(i, ((p, plain), atomic))| {
            let cells = Cell::from_mut(&mut plain[..]).as_slice_of_cells();
            p.dest(Some(if p.atomic { Words::Atomic(atomic) } else { Words::Plain(cells) }), i)
        }).collect();
        let reported = rig.tracker.harvest(&mut Request { dests: &dests, ..Request::default() }).unwrap();
        let (mut newly, mut total) = (0, 0);
        for (i, piece) in pieces.iter().enumerate() {
            let before = set_bits(&vec![piece.filled; WORDS]);
            let words = if piece.atomic { atomic[i].iter().map(|w| w.load(std::sync::atomic::Ordering::Relaxed)).collect() } else { plain[i].clone() };
            let expected = piece.bits(&pages);
            newly += expected.difference(&before).count() as u64;
            total += expected.len() as u64;
            prop_assert_eq!(set_bits(&words), &expected | &before, "{:?}", piece);
        }
        prop_assert_eq!(reported.newly, newly);
        // A coarse bit that several reads touch is reported by each of them.
        prop_assert!(reported.total >= total);
        prop_assert!(pieces.iter().any(|p| p.page_shift > 12) || reported.total == total);
        rest_of(&rig, &pieces, &pages)?;
    }

    #[test]
    fn words_for_a_callback(log in logs(), pieces in pieces(), pages in written(), stop_at in 0usize..6) {
        let rig = rig(log);
        rig.write(&pages.iter().copied().collect::<Vec<_>>());
        let dests: Vec<Dest<'_>> = pieces.iter().enumerate().map(|(i, p)| p.dest(None, i)).collect();
        let mut got: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); pieces.len()];
        let mut stops = 0;
        // The callback says stop at its `stop_at`th call, once; what it refused comes again.
        for no_read in [false, true, true] {
            let mut calls = 0;
            let mut words = |dest: &Dest<'_>, first: u64, words: &[u64]| {
                calls += 1;
                assert!(first % 64 == 0 && !words.is_empty(), "{first}");
                if calls == stop_at + 1 && stops == 0 {
                    stops += 1;
                    return false;
                }
                got[dest.token].extend(set_bits(words).iter().map(|bit| bit + first));
                true
            };
            let mut request = Request { dests: &dests, words: Some(&mut words), no_read, ..Request::default() };
            let reported = rig.tracker.harvest(&mut request).unwrap();
            prop_assert_eq!(reported.stopped, stops == 1 && calls == stop_at + 1 && !no_read);
            if no_read && !reported.stopped && stops == 0 {
                prop_assert_eq!(reported.total, 0);
            }
        }
        for (piece, got) in pieces.iter().zip(&got) {
            prop_assert_eq!(got, &piece.bits(&pages), "{:?}", piece);
        }
        rest_of(&rig, &pieces, &pages)?;
    }

    #[test]
    fn runs_for_a_callback(log in logs(), pieces in pieces(), pages in written(), stop_at in 0usize..20) {
        let rig = rig(log);
        rig.write(&pages.iter().copied().collect::<Vec<_>>());
        let dests: Vec<Dest<'_>> = pieces.iter().enumerate().map(|(i, p)| p.dest(None, i)).collect();
        let mut got = BTreeSet::new();
        let mut stops = 0;
        for no_read in [false, true] {
            let mut calls = 0;
            let mut run = |_cookie: u64, run: IovaRange| {
                calls += 1;
                assert!(run.size > 0 && (run.iova | run.size) % P == 0);
                if calls == stop_at + 1 && stops == 0 {
                    stops += 1;
                    return false;
                }
                got.extend(run.iova / P..(run.iova + run.size) / P);
                true
            };
            let mut request = Request { dests: &dests, run: Some(&mut run), no_read, ..Request::default() };
            rig.tracker.harvest(&mut request).unwrap();
        }
        // Runs are whole pages of the destination, but for what is not asked or not mapped.
        for piece in &pieces {
            let asked: BTreeSet<u64> = got.range(piece.first..piece.first + piece.pages).copied().collect();
            let reported: BTreeSet<u64> = asked.iter().map(|&page| piece.bit(page)).collect();
            prop_assert_eq!(reported, piece.bits(&pages));
        }
        prop_assert!(got.is_superset(&pages.iter().copied().filter(|page| pieces.iter().any(|p| (p.first..p.first + p.pages).contains(page))).collect()));
        rest_of(&rig, &pieces, &pages)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A page of a coarse log that several pieces cut is dirty in each of them, whether they are asked for at once or in turn.
    #[test]
    fn coarse_pages_that_pieces_cut(
        size in prop::sample::select(vec![2u64, 16, 512]),
        page_tables in any::<bool>(),
        in_turn in any::<bool>(),
        pieces in pieces(),
        pages in written(),
    ) {
        let rig = rig(if page_tables { Log::Hwpt(size, Kernel::V7_3) } else { Log::Dma(DmaLog { page_size: size * P, ..DmaLog::default() }) });
        rig.write(&pages.iter().copied().collect::<Vec<_>>());
        let may: BTreeSet<u64> = pages.iter().flat_map(|page| page / size * size..(page / size + 1) * size).collect();
        let mut plain: Vec<Vec<u64>> = vec![vec![0; WORDS]; pieces.len()];
        let dests: Vec<Dest<'_>> = pieces.iter().zip(plain.iter_mut()).enumerate().map(|(i, (p, plain))| {
            p.dest(Some(Words::Plain(Cell::from_mut(&mut plain[..]).as_slice_of_cells())), i)
        }).collect();
        for (turn, dests) in dests.chunks(if in_turn { 1 } else { dests.len() }).enumerate() {
            rig.tracker.harvest(&mut Request { dests, no_read: turn > 0, ..Request::default() }).unwrap();
        }
        for (piece, words) in pieces.iter().zip(&plain) {
            let got = set_bits(words);
            prop_assert!(got.is_superset(&piece.bits(&pages)), "{:?} lost {:?}", piece, &piece.bits(&pages) - &got);
            prop_assert!(got.is_subset(&piece.bits(&may)), "{:?} invented {:?}", piece, &got - &piece.bits(&may));
        }
        let asked = |page: &u64| pieces.iter().any(|p| (p.first..p.first + p.pages).contains(page));
        let rest: BTreeSet<u64> = pages.iter().copied().filter(|page| !asked(page)).collect();
        let left = rig.take(true).pages;
        prop_assert!(left.is_superset(&rest) && left.is_subset(&may));
        rig.assert_clean();
    }
}

/// The cookie of a run is that of the mapping in which it lies, though neighbours are read as one.
#[test]
fn runs_stay_within_their_mapping() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    for (first, pages, ram) in [(0, 10, 500), (10, 10, 300), (20, 5, 900)] {
        rig.map(first, pages, ram);
    }
    rig.start();
    rig.write(&[8, 9, 10, 11, 19, 20]);
    let mut runs = Vec::new();
    let mut run = |cookie: u64, run: IovaRange| {
        runs.push((run.iova.wrapping_add(cookie) / P, run.size / P));
        true
    };
    rig.tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    assert_eq!(runs, [(508, 2), (300, 2), (309, 1), (900, 1)]);
}

#[test]
fn requests_that_make_no_sense_are_refused_and_read_nothing() {
    let rig = rig(Log::Dma(DmaLog::default()));
    rig.write(&[7]);
    let mut bitmap = [0u64; 2];
    let cells = Cell::from_mut(&mut bitmap[..]).as_slice_of_cells();
    let words = Some(Words::Plain(cells));
    let dest = |iova, size, page_size, first_bit, bitmap| Dest {
        range: IovaRange { iova, size },
        page_size,
        first_bit,
        bitmap,
        token: 0,
    };
    let good = dest(0, 100 * P, P, 28, words);
    let reads = rig.devices[0].count(simdev::Access::DmaLogReport);
    for dests in [
        vec![dest(0, 0, P, 0, words)],
        vec![dest(1, P, P, 0, words)],
        vec![dest(0, P + 1, P, 0, words)],
        vec![dest(u64::MAX - P + 1, 2 * P, P, 0, words)],
        vec![dest(0, 100 * P, P, 29, words)],
        vec![dest(0, 129 * P, P, 0, words)],
        vec![dest(0, P, P, u64::MAX, words)],
        vec![dest(0, P, 2048, 0, words)],
        vec![dest(0, P, 3 * P, 0, words)],
        vec![dest(0, P, P, 0, None)],
        vec![good, dest(99 * P, P, P, 0, words)],
    ] {
        let error = rig.tracker.harvest(&mut Request { dests: &dests, ..Request::default() }).unwrap_err();
        assert_eq!(error.errno(), libc::EINVAL, "{dests:?}");
    }
    assert_eq!(rig.devices[0].count(simdev::Access::DmaLogReport), reads);
    rig.tracker.harvest(&mut Request { dests: &[good], ..Request::default() }).unwrap();
    assert_eq!(set_bits(&bitmap).into_iter().collect::<Vec<_>>(), [35]);
}
