//! The bitmap code against a model that handles one bit at a time, and beside threads that change the same words.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use proptest::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use vfiomig::bitmap::{self, Count, Move, Words};

fn get(words: &[u64], bit: u64) -> bool {
    words[(bit / 64) as usize] >> (bit % 64) & 1 != 0
}

fn put(words: &mut [u64], bit: u64, on: bool) {
    let mask = 1 << (bit % 64);
    let word = &mut words[(bit / 64) as usize];
    *word = if on { *word | mask } else { *word & !mask };
}

fn bits_of(words: &[u64]) -> u64 {
    words.len() as u64 * 64
}

/// Sets bits in the model and counts as the library does.
fn set(words: &mut [u64], bits: impl Iterator<Item = u64>) -> Count {
    let mut count = Count::default();
    for bit in bits {
        count.newly += u64::from(!get(words, bit));
        count.total += 1;
        put(words, bit, true);
    }
    count
}

/// Runs a function on a copy of the destination, plain or atomic, and returns the copy.
fn on<T>(atomic: bool, dst: &[u64], run: impl FnOnce(Words<'_>) -> T) -> (Vec<u64>, T) {
    if atomic {
        let words: Vec<_> = dst.iter().map(|word| AtomicU64::new(*word)).collect();
        let result = run(Words::Atomic(&words));
        (words.into_iter().map(AtomicU64::into_inner).collect(), result)
    } else {
        let words: Vec<_> = dst.iter().map(|word| Cell::new(*word)).collect();
        let result = run(Words::Plain(&words));
        (words.into_iter().map(Cell::into_inner).collect(), result)
    }
}

/// Words as logs have them: empty, full, few bits, many bits; alike for some words, so that blocks are too.
fn words(max: usize) -> impl Strategy<Value = Vec<u64>> {
    let word = prop_oneof![
        3 => Just(0),
        2 => Just(u64::MAX),
        2 => (0..64).prop_map(|bit| 1_u64 << bit),
        2 => any::<u64>(),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(a, b): (u64, u64)| a & b),
    ];
    prop::collection::vec((word, prop_oneof![Just(1_usize), 1..20_usize]), 1..=max.div_ceil(2)).prop_map(move |runs| {
        let mut words: Vec<_> = runs.into_iter().flat_map(|(word, n)| std::iter::repeat_n(word, n)).collect();
        words.truncate(max);
        words
    })
}

/// A number up to `max`, often at an end or at the edge of a word.
fn near(max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(max),
        0..=max,
        (0..=max, 0..3_u64).prop_map(move |(at, off)| (at / 64 * 64 + off).saturating_sub(1).min(max)),
    ]
}

/// First bit and number of bits within words.
fn range(words: usize) -> impl Strategy<Value = (u64, u64)> {
    let bits = words as u64 * 64;
    near(bits).prop_flat_map(move |bit| (Just(bit), near(bits - bit)))
}

#[derive(Clone, Debug)]
struct Case {
    src: Vec<u64>,
    dst: Vec<u64>,
    m: Move,
    atomic: bool,
    unit: u32,
}

/// Moves that fit. All sizes are multiples of `1 << unit`, the smallest page of either side or a part of it.
fn case(max_words: usize, max_ratio: u32) -> impl Strategy<Value = Case> {
    let shifts =
        (0..=max_ratio, any::<bool>(), prop_oneof![3 => Just(0), 1 => 1..=2_u32], prop_oneof![Just(0), Just(12_u32)]);
    (words(max_words), shifts, any::<bool>())
        .prop_flat_map(move |(mut src, (ratio, finer, sub, unit), atomic)| {
            let (mut src_shift, mut dst_shift) = (unit + sub, unit + sub);
            *if finer { &mut dst_shift } else { &mut src_shift } += ratio;
            // Large pages are many units for the model: fewer of them.
            src.truncate((max_words >> (src_shift - unit)).max(2));
            let units = bits_of(&src) << (src_shift - unit);
            let phase = near((1 << (dst_shift - unit)) - 1);
            let span = near(units).prop_flat_map(move |skip| (Just(skip), near(units - skip)));
            (Just((src, src_shift, dst_shift, unit, atomic)), span, phase, near(150), any::<bool>())
        })
        .prop_flat_map(|((src, src_shift, dst_shift, unit, atomic), (skip, len), phase, dst_bit, even)| {
            // Even: both sides cut the finer pages at the same bytes, as most maps do.
            let finer = 1 << (src_shift.min(dst_shift) - unit);
            let phase = if even { phase / finer * finer + skip % finer } else { phase };
            let m =
                Move { src_shift, skip: skip << unit, len: len << unit, dst_shift, dst_bit, dst_phase: phase << unit };
            let needed = dst_bit + ((phase + len) >> (dst_shift - unit)) + 1;
            let dst_words = needed.div_ceil(64) as usize;
            (words(dst_words), 0..3_usize).prop_map(move |(mut dst, more)| {
                dst.resize(dst_words + more, 0);
                Case { src: src.clone(), dst, m, atomic, unit }
            })
        })
}

fn model_of_drain(case: &mut Case) -> Count {
    let Move { src_shift, skip, len, dst_shift, dst_bit, dst_phase } = case.m;
    let mut set_bits = Vec::new();
    for byte in (0..len).step_by(1 << case.unit) {
        if get(&case.src, (skip + byte) >> src_shift) {
            set_bits.push(dst_bit + ((byte + dst_phase) >> dst_shift));
        }
    }
    set_bits.dedup();
    for byte in (0..len).step_by(1 << case.unit) {
        put(&mut case.src, (skip + byte) >> src_shift, false);
    }
    set(&mut case.dst, set_bits.into_iter())
}

fn check_drain(mut case: Case) -> Result<(), TestCaseError> {
    let mut src = case.src.clone();
    let (dst, count) = on(case.atomic, &case.dst, |dst| bitmap::drain(&mut src, dst, &case.m));
    let expected = model_of_drain(&mut case);
    prop_assert_eq!(dst, case.dst);
    prop_assert_eq!(src, case.src);
    prop_assert_eq!(count, expected);
    Ok(())
}

/// Many bits of 64 KiB pages to 4 KiB pages, the way that random moves hardly take: whole words, a line without bits between,
/// and a destination that begins with a word or does not.
#[test]
fn dense_pages_of_64_kib_become_pages_of_4_kib() {
    for (words, dst_bit, skip, atomic) in (0..36).map(|n| (n % 2, n / 2 % 3, n / 6 % 3, n / 18 == 1)) {
        let words = [3, 70][words];
        let dense = |n: u64| if (24..32).contains(&n) { 0 } else { (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        let src: Vec<u64> = (0..words).map(dense).collect();
        let skip = [0, 64 << 16, 1 << 16][skip];
        let len = (bits_of(&src) << 16) - skip;
        let dst_bit = [0, 64, 65][dst_bit];
        let m = Move { src_shift: 16, skip, len, dst_shift: 12, dst_bit, dst_phase: 0 };
        let dst = (0..words * 16 + 3).map(|n| if n % 5 == 0 { 0x8001 << (n % 47) } else { 0 }).collect();
        check_drain(Case { src, dst, m, atomic, unit: 12 }).unwrap();
    }
}

/// Source, destination, first bit and number of the source's, first bit of the destination's, which of them are atomic.
type TwoSides = (Vec<u64>, Vec<u64>, (u64, u64), u64, (bool, bool));

fn two_sides(len: usize) -> impl Strategy<Value = TwoSides> {
    let sides = (words(len), words(len), range(len), near(len as u64 * 64), any::<(bool, bool)>());
    sides.prop_map(move |(mut src, mut dst, from, to, atomic)| {
        src.resize(len, 0);
        dst.resize(len, 0);
        (src, dst, (from.0, from.1.min(len as u64 * 64 - to)), to, atomic)
    })
}

fn check_merge_and_take((src, dst, (bit, bits), to, (from_atomic, to_atomic)): TwoSides) -> Result<(), TestCaseError> {
    let mut merged = dst.clone();
    let on_bits: Vec<_> = (0..bits).filter(|i| get(&src, bit + i)).collect();
    let count = set(&mut merged, on_bits.iter().map(|i| to + i));

    let (result, newly) = on(to_atomic, &dst, |dst| bitmap::merge(dst, to, &src, bit, bits));
    prop_assert_eq!(&result, &merged);
    prop_assert_eq!(newly, count.newly);

    let mut left = src.clone();
    on_bits.iter().for_each(|i| put(&mut left, bit + i, false));
    let (rest, (result, taken)) =
        on(from_atomic, &src, |src| on(to_atomic, &dst, |dst| bitmap::take(dst, to, src, bit, bits)));
    prop_assert_eq!(&result, &merged);
    prop_assert_eq!(&rest, &left);
    prop_assert_eq!(taken, count);

    let (rest, taken) = on(from_atomic, &src, |src| bitmap::take_away(src, bit, bits));
    prop_assert_eq!(rest, left);
    prop_assert_eq!(taken, count.total);
    Ok(())
}

/// A lent bitmap of at most `most` words, to pages that are `1 << ratio` as large, or as small.
fn check_rescale(
    mut src: Vec<u64>,
    most: usize,
    (ratio, finer): (u32, bool),
    atomic: bool,
    cut: u64,
    mut dst: Vec<u64>,
) -> Result<(), TestCaseError> {
    src.truncate(if finer { most } else { 2.max(most >> ratio) });
    let src_bits = cut.min(bits_of(&src));
    let (src_shift, dst_shift) = if finer { (12, 12 + ratio) } else { (12 + ratio, 12) };
    let dst_bits = (src_bits << src_shift).div_ceil(1 << dst_shift);
    dst.resize(dst_bits.div_ceil(64) as usize + 1, 0);
    let of_units = |shift: u32| shift - 12;
    let mut touched: Vec<_> = (0..src_bits << of_units(src_shift))
        .filter(|unit| get(&src, unit >> of_units(src_shift)))
        .map(|unit| unit >> of_units(dst_shift))
        .collect();
    touched.dedup();
    let before = src.clone();
    let (result, newly) = on(atomic, &dst, |dst| bitmap::rescale(dst, dst_shift, &src, src_shift, src_bits));
    prop_assert_eq!(newly, set(&mut dst, touched.into_iter()).newly);
    prop_assert_eq!(result, dst);
    prop_assert_eq!(src, before);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drain_is_the_model_at_every_ratio(case in case(24, 9)) {
        check_drain(case)?;
    }

    #[test]
    fn drain_is_the_model_where_pages_are_equal(case in case(40, 0)) {
        check_drain(case)?;
    }

    #[test]
    fn set_range_is_the_model(words in words(40), atomic in any::<bool>(), at in range(40)) {
        let mut expected = words.clone();
        expected.resize(40, 0);
        let (dst, count) = on(atomic, &expected, |dst| bitmap::set_range(dst, at.0, at.1));
        prop_assert_eq!(count, set(&mut expected, at.0..at.0 + at.1));
        prop_assert_eq!(dst, expected);
    }

    #[test]
    fn merge_and_take_are_the_model(sides in two_sides(40)) {
        check_merge_and_take(sides)?;
    }

    #[test]
    fn what_reads_is_the_model(words in words(40), (bit, bits) in range(40), beyond in 0..200_u64) {
        let end = (bit + bits).min(bits_of(&words));
        let on: Vec<_> = (bit..end).filter(|bit| get(&words, *bit)).collect();
        // What the words do not have is off.
        let bits = bits + beyond * u64::from(bit + bits >= bits_of(&words));
        prop_assert_eq!(bitmap::count(&words, bit, bits), on.len() as u64);
        prop_assert_eq!(bitmap::any(&words, bit, bits), !on.is_empty());
        prop_assert_eq!(bitmap::get(&words, bit), bit < bits_of(&words) && get(&words, bit));

        let (mut found, mut runs) = (Vec::new(), Vec::new());
        let mut at = bit;
        while let Some((start, len)) = bitmap::next_run(&words, at, bit + bits) {
            prop_assert!(len > 0 && start >= at);
            // Runs are as long as they can be.
            prop_assert!(start + len == end || !get(&words, start + len));
            found.extend(start..start + len);
            runs.push((start, len));
            at = start + len;
        }
        prop_assert_eq!(found, on);
        prop_assert_eq!(bitmap::runs(&words, bit, bit + bits).collect::<Vec<_>>(), runs);

        let mut cleared = words.clone();
        bitmap::clear_range(&mut cleared, bit, bits);
        let mut expected = words.clone();
        (bit..end).for_each(|bit| put(&mut expected, bit, false));
        prop_assert_eq!(cleared, expected);

        let mut cleared = words.clone();
        bitmap::clear(&mut cleared, bit);
        let mut expected = words;
        if bit < bits_of(&expected) { put(&mut expected, bit, false); }
        prop_assert_eq!(cleared, expected);
    }

    #[test]
    fn rescale_is_the_model(src in words(20), (ratio, finer) in (0..=9_u32, any::<bool>()), atomic in any::<bool>(), cut in near(20 * 64), seed in words(8)) {
        check_rescale(src, 20, (ratio, finer), atomic, cut, seed)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// More words than any of the code's buffers and chunks has.
    #[test]
    fn large_moves_are_the_model(case in case(6000, 5)) {
        check_drain(case)?;
    }

    #[test]
    fn large_merges_and_takes_are_the_model(sides in two_sides(4000)) {
        check_merge_and_take(sides)?;
    }

    #[test]
    fn large_rescales_are_the_model(src in words(4000), (ratio, finer) in (0..=7_u32, any::<bool>()), atomic in any::<bool>(), cut in near(4000 * 64), seed in words(8)) {
        check_rescale(src, 4000, (ratio, finer), atomic, cut, seed)?;
    }
}

/// A caller that asks for more than the slices have gets a panic in debug builds, and loses nothing else in others.
#[test]
fn what_does_not_fit_is_a_mistake() {
    let run = || {
        let mut src = [u64::MAX; 2];
        let dst = [const { Cell::new(0) }; 1];
        let m = Move { src_shift: 12, skip: 0, len: 128 << 12, dst_shift: 12, dst_bit: 3, dst_phase: 0 };
        let count = bitmap::drain(&mut src, Words::Plain(&dst), &m);
        (src, dst[0].get(), count)
    };
    if cfg!(debug_assertions) {
        assert!(std::panic::catch_unwind(run).is_err());
    } else {
        assert_eq!(run(), ([u64::MAX << 61, u64::MAX], u64::MAX << 3, Count { newly: 61, total: 61 }));
    }
}

#[test]
fn moves_of_nothing_and_of_garbage_do_nothing() {
    let dst = [const { Cell::new(0) }; 4];
    let mut src = [u64::MAX; 4];
    let nothing = Move { src_shift: 12, skip: 4096, len: 0, dst_shift: 16, dst_bit: 1, dst_phase: 0 };
    assert_eq!(bitmap::drain(&mut src, Words::Plain(&dst), &nothing), Count::default());
    assert_eq!(bitmap::drain(&mut [], Words::Plain(&dst), &nothing), Count::default());
    assert_eq!(bitmap::drain(&mut src, Words::Plain(&[]), &nothing), Count::default());
    assert_eq!(bitmap::set_range(Words::Plain(&dst), u64::MAX, 0), Count::default());
    assert_eq!(bitmap::merge(Words::Plain(&dst), u64::MAX, &src, u64::MAX, 0), 0);
    assert_eq!(bitmap::count(&src, u64::MAX, u64::MAX), 0);
    assert_eq!(bitmap::count(&src, 0, u64::MAX), 256);
    assert_eq!(bitmap::count(&src, 255, u64::MAX), 1);
    assert_eq!(bitmap::next_run(&src, 0, u64::MAX), Some((0, 256)));
    assert_eq!(bitmap::next_run(&src, 256, u64::MAX), None);
    assert_eq!(bitmap::next_run(&[], 0, u64::MAX), None);
    assert!(!bitmap::get(&src, u64::MAX) && !bitmap::any(&src, u64::MAX, 1));
    bitmap::clear(&mut src, u64::MAX);
    bitmap::clear_range(&mut src, u64::MAX, u64::MAX);
    assert_eq!((src, dst), ([u64::MAX; 4], [const { Cell::new(0) }; 4]));
}

/// A page of 2^63 bytes, and the last byte of the address space.
#[test]
fn the_ends_of_the_address_space_have_bits() {
    let dst = [const { Cell::new(0) }; 1];
    let m = Move { src_shift: 63, skip: 0, len: u64::MAX, dst_shift: 62, dst_bit: 0, dst_phase: 0 };
    assert_eq!(bitmap::drain(&mut [3], Words::Plain(&dst), &m), Count { newly: 4, total: 4 });
    assert_eq!(dst[0].get(), 15);
}

/// xorshift: the rounds must be many, not unpredictable.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Two threads set bits, a third takes them: each bit that was turned on is taken once, no other ever.
#[test]
fn take_loses_and_invents_nothing_beside_writers() {
    const BITS: u64 = 5 * 64;
    const ROUNDS: u64 = 350_000;
    let shared: Vec<_> = (0..BITS / 64).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicU64::new(0);
    let writer = |seed: u64| {
        let mut random = Random(seed);
        let mut turned_on = vec![0_u64; BITS as usize];
        while stop.load(Ordering::Relaxed) == 0 {
            let bit = random.below(BITS);
            let mask = 1 << (bit % 64);
            let old = shared[(bit / 64) as usize].fetch_or(mask, Ordering::Relaxed);
            turned_on[bit as usize] += u64::from(old & mask == 0);
        }
        turned_on
    };
    let mut taken = vec![0_u64; BITS as usize];
    let turned_on = std::thread::scope(|scope| {
        let writers = [scope.spawn(|| writer(0x1234_5678_9abc_def1)), scope.spawn(|| writer(0xfedc_ba98_7654_3211))];
        let mut random = Random(77);
        for round in 0..=ROUNDS {
            if round == ROUNDS {
                stop.store(1, Ordering::Relaxed);
            }
            let (bit, to) = if round == ROUNDS { (0, 0) } else { (random.below(BITS), random.below(100)) };
            let bits = if round == ROUNDS { BITS } else { random.below(BITS - bit + 1) };
            let dst: [_; BITS as usize / 64 + 2] = std::array::from_fn(|_| Cell::new(0));
            let atomic: [_; BITS as usize / 64 + 2] = std::array::from_fn(|_| AtomicU64::new(0));
            if round == ROUNDS {
                // The last round has them all.
                while writers.iter().any(|writer| !writer.is_finished()) {
                    std::thread::yield_now();
                }
            }
            let into = if round % 2 == 0 { Words::Plain(&dst) } else { Words::Atomic(&atomic) };
            let count = bitmap::take(into, to, Words::Atomic(&shared), bit, bits);
            let got: Vec<_> = dst.iter().zip(&atomic).map(|(a, b)| a.get() | b.load(Ordering::Relaxed)).collect();
            let mut at = 0;
            let mut n = 0;
            while let Some((start, len)) = bitmap::next_run(&got, at, bits_of(&got)) {
                (start..start + len).for_each(|i| taken[(i - to + bit) as usize] += 1);
                at = start + len;
                n += len;
            }
            assert_eq!(count, Count { newly: n, total: n });
        }
        writers.map(|writer| writer.join().unwrap())
    });
    let [a, b] = turned_on;
    let sum: Vec<_> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    assert_eq!(sum, taken);
}

/// Whole words of ones beside one who takes words: each bit is there after the call, or was taken since it began.
#[test]
fn whole_words_are_never_lost_beside_a_taker() {
    const WORDS: usize = 3;
    let shared: [_; WORDS] = std::array::from_fn(|_| AtomicU64::new(0));
    let taken = std::sync::Mutex::new([0_u64; WORDS]);
    let stop = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            while stop.load(Ordering::Relaxed) == 0 {
                let at = random.below(WORDS as u64) as usize;
                let mut taken = taken.lock().unwrap();
                taken[at] |= shared[at].swap(0, Ordering::AcqRel);
            }
        });
        for round in 0..200_000 {
            *taken.lock().unwrap() = [0; WORDS];
            let shared_words = Words::Atomic(&shared);
            let newly = match round % 3 {
                0 => bitmap::set_range(shared_words, 0, 64 * WORDS as u64).newly,
                1 => bitmap::merge(shared_words, 0, &[u64::MAX; WORDS], 0, 64 * WORDS as u64),
                _ => {
                    let len = (64 * WORDS as u64) << 12;
                    let m = Move { src_shift: 18, skip: 0, len, dst_shift: 12, dst_bit: 0, dst_phase: 0 };
                    bitmap::drain(&mut [u64::MAX], shared_words, &m).newly
                }
            };
            assert!(newly <= 64 * WORDS as u64);
            let taken = taken.lock().unwrap();
            for (word, taken) in shared.iter().zip(taken.iter()) {
                assert_eq!(word.load(Ordering::Acquire) | taken, u64::MAX, "{round}");
            }
        }
        stop.store(1, Ordering::Relaxed);
    });
}

/// One thread merges even bits, one takes them, one sets and clears odd bits and looks whether they stay as it left them.
/// What merging says it turned on is what was taken.
#[test]
fn merge_loses_and_invents_nothing_beside_writers() {
    const WORDS: usize = 4;
    const ROUNDS: u64 = 700_000;
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let shared: [_; WORDS] = std::array::from_fn(|_| AtomicU64::new(0));
    let stop = AtomicU64::new(0);
    let stopped = || stop.load(Ordering::Relaxed) != 0;
    let (newly, taken) = std::thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut random = Random(99);
            let mut taken: u64 = 0;
            while !stopped() {
                let bits = shared[random.below(WORDS as u64) as usize].fetch_and(!EVEN, Ordering::Relaxed);
                taken += u64::from((bits & EVEN).count_ones());
            }
            taken
        });
        let neighbour = scope.spawn(|| {
            let mut random = Random(55);
            let mut mine = [0; WORDS];
            while !stopped() {
                let at = random.below(WORDS as u64) as usize;
                let bit = 2 << (2 * random.below(32));
                mine[at] ^= bit;
                let old = if mine[at] & bit != 0 {
                    shared[at].fetch_or(bit, Ordering::Relaxed)
                } else {
                    shared[at].fetch_and(!bit, Ordering::Relaxed)
                };
                assert_eq!(old & !EVEN, mine[at] ^ bit, "a bit of nobody else's has changed");
            }
        });
        let mut random = Random(33);
        let mut newly: u64 = 0;
        for round in 0..ROUNDS {
            let mut src = [0_u64; WORDS + 1];
            // Often several bits, often few, at an even distance from where they go.
            src.iter_mut().for_each(|word| *word = random.next() & random.next() & EVEN);
            let (src_bit, dst_bit) = (2 * random.below(32), 2 * random.below(32 * WORDS as u64));
            let bits = random.below(64 * WORDS as u64 - dst_bit + 1);
            newly += match round % 4 {
                0 => bitmap::merge(Words::Atomic(&shared), dst_bit, &src, src_bit, bits),
                1 => {
                    src.fill(EVEN);
                    bitmap::take(Words::Atomic(&shared), dst_bit, Words::Plain(&src.map(Cell::new)), src_bit, bits)
                        .newly
                }
                2 => bitmap::set_range(Words::Atomic(&shared), dst_bit, bits.min(1)).newly,
                _ => {
                    let (skip, len) = (src_bit << 12, bits << 12);
                    let m = Move { src_shift: 12, skip, len, dst_shift: 12, dst_bit, dst_phase: 0 };
                    bitmap::drain(&mut src, Words::Atomic(&shared), &m).newly
                }
            };
        }
        stop.store(1, Ordering::Relaxed);
        neighbour.join().unwrap();
        (newly, taker.join().unwrap())
    });
    let left: u64 = shared.iter().map(|word| u64::from((word.load(Ordering::Relaxed) & EVEN).count_ones())).sum();
    assert_eq!(newly, taken + left);
}

/// Dirty pages would be lost in silence, so it is a panic in every build: in C it ends in the guard of the call.
#[test]
fn bits_that_do_not_fit_are_a_panic() {
    let words = [0u64; 2].map(Cell::new);
    let src = [u64::MAX; 3];
    let calls: [&dyn Fn(); 4] = [
        &|| {
            bitmap::set_range(Words::Plain(&words), 100, 29);
        },
        &|| {
            bitmap::merge(Words::Plain(&words), 0, &src, 0, 129);
        },
        &|| {
            bitmap::merge(Words::Plain(&words), 0, &src[..1], 0, 65);
        },
        &|| {
            let m = Move { src_shift: 13, skip: 0, len: 129 << 12, dst_shift: 12, dst_bit: 0, dst_phase: 0 };
            bitmap::drain(&mut src.clone(), Words::Plain(&words), &m);
        },
    ];
    for (number, call) in calls.iter().enumerate() {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err(), "{number}");
    }
}
