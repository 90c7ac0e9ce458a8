//! The loops of `loops` and `scale`, compiled for the machine as it is: x86-64 in general has no instruction that counts bits
//! and vectors of two words only, while nearly every server has more. No algorithm: only the choice.
//!
//! Measured (docs/performance.md): 2 to 3 times as fast in the cache, 1.2 to 1.6 times in memory.

use super::access::{DstWord, SrcWord};
use super::types::Count;
use super::{edges, loops, scale};
use std::cell::Cell;

macro_rules! variants {
    ($($name:ident$([$($generic:tt)*])? ($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:expr;)*) => {$(
        pub(super) fn $name$(<$($generic)*>)?($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn wide$(<$($generic)*>)?($($arg: $type),*) $(-> $result)? {
                    $body
                }
                if wide_is_there() {
                    // SAFETY: the processor has the instructions that the function is compiled to; there is no other condition.
                    return unsafe { wide($($arg),*) };
                }
            }
            // One copy of it, not one for each caller: hardly a machine takes this way.
            #[cfg_attr(target_arch = "x86_64", inline(never))]
            fn narrow$(<$($generic)*>)?($($arg: $type),*) $(-> $result)? {
                $body
            }
            narrow($($arg),*)
        }
    )*};
}

variants! {
    or_aligned[D: DstWord, S: SrcWord](dst: &[D], src: &[S]) -> Count = loops::or_words::<D, S, false>(dst, src, 0);
    or_shifted[D: DstWord, S: SrcWord](dst: &[D], src: &[S], shift: u32) -> Count = loops::or_words::<D, S, true>(dst, src, shift);
    fill[D: DstWord](dst: &[D]) -> u64 = loops::fill(dst);
    count(words: &[u64]) -> u64 = loops::count(words);
    alike[S: SrcWord](words: &[S], like: u64) -> usize = loops::alike(words, like);
    clear[S: SrcWord](words: &[S]) = loops::clear(words);
    marks[S: SrcWord](words: &[S]) -> (usize, u64) = edges::marks(words);
    expand(out: &mut [u64], src: &[Cell<u64>], k: u32) = expand_body(out, src, k);
    fold(out: &mut [u64], src: &[Cell<u64>], shift: u32, k: u32) = fold_body(out, src, shift, k);
}

#[inline(always)]
fn expand_body(out: &mut [u64], src: &[Cell<u64>], k: u32) {
    match k {
        1 => scale::expand::<1>(out, src),
        2 => scale::expand::<2>(out, src),
        3 => scale::expand::<3>(out, src),
        4 => scale::expand::<4>(out, src),
        _ => scale::expand::<5>(out, src),
    }
}

#[inline(always)]
fn fold_body(out: &mut [u64], src: &[Cell<u64>], shift: u32, k: u32) {
    match k {
        1 => scale::fold::<1>(out, src, shift),
        2 => scale::fold::<2>(out, src, shift),
        3 => scale::fold::<3>(out, src, shift),
        scale::LANES if shift == 0 => scale::fold_lanes(out, src, lanes_of),
        4 => scale::fold::<4>(out, src, shift),
        5 => scale::fold::<5>(out, src, shift),
        _ => scale::fold::<6>(out, src, shift),
    }
}

/// Which of the lanes of 16 bits of a line have any bit.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn lanes_of(line: &[u64; loops::LINE]) -> u32 {
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_setzero_si128};

    // SAFETY: SSE2 is part of x86-64.
    let zero = unsafe { _mm_setzero_si128() };
    // SAFETY: the same.
    let is_empty = |words: __m128i| unsafe { _mm_cmpeq_epi16(words, zero) };
    // SAFETY: the same.
    let as_bytes = |a: __m128i, b: __m128i| unsafe { _mm_packs_epi16(is_empty(a), is_empty(b)) };
    // SAFETY: the same. The mask has 16 bits.
    let mask = |a: __m128i, b: __m128i| unsafe { _mm_movemask_epi8(as_bytes(a, b)) } as u32;
    // SAFETY: both are 64 bytes of plain numbers.
    let [a, b, c, d] = unsafe { std::mem::transmute::<[u64; loops::LINE], [__m128i; 4]>(*line) };
    !(mask(a, b) | mask(c, d).wrapping_shl(16))
}

#[cfg(not(target_arch = "x86_64"))]
use scale::lanes_of;

/// A lane of 16 bits, all on or off, for each bit.
///
/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
#[allow(unused_unsafe, reason = "safe here from Rust 1.87 on, where this crate begins with 1.85")]
unsafe fn wide_lanes(word: u64) -> [u64; 16] {
    use std::arch::x86_64::{__m256i, _mm256_and_si256, _mm256_cmpeq_epi16, _mm256_set1_epi16, _mm256_setr_epi16};

    // SAFETY: AVX2 is there.
    let place =
        unsafe { _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, i16::MIN) };
    let mut fine = [0; 16];
    for (fine, piece) in fine.chunks_exact_mut(4).zip([0, 16, 32, 48]) {
        // SAFETY: the same.
        let bits = unsafe { _mm256_set1_epi16(word.wrapping_shr(piece) as i16) };
        // SAFETY: the same.
        let bit = unsafe { _mm256_and_si256(bits, place) };
        // SAFETY: the same.
        let lanes = unsafe { _mm256_cmpeq_epi16(bit, place) };
        // SAFETY: both are 32 bytes of plain numbers.
        fine.copy_from_slice(&unsafe { std::mem::transmute::<__m256i, [u64; 4]>(lanes) });
    }
    fine
}

/// [`scale::or_spread`]. Not one of `variants`, for the narrow one makes its lanes in another way.
pub(super) fn or_spread<D: DstWord, S: SrcWord>(dst: &[D], src: &[S]) -> Count {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        unsafe fn wide<D: DstWord, S: SrcWord>(dst: &[D], src: &[S]) -> Count {
            // SAFETY: whoever may call this function may call that one.
            scale::or_spread(dst, src, |word| unsafe { wide_lanes(word) })
        }
        if wide_is_there() {
            // SAFETY: the processor has the instructions that the function is compiled to; there is no other condition.
            return unsafe { wide(dst, src) };
        }
    }
    scale::or_spread(dst, src, scale::spread_lanes)
}

/// The processor is asked once.
#[cfg(target_arch = "x86_64")]
#[inline]
fn wide_is_there() -> bool {
    use std::sync::atomic::{AtomicU8, Ordering};
    const UNKNOWN: u8 = 2;
    static WIDE: AtomicU8 = AtomicU8::new(UNKNOWN);

    match WIDE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let wide = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            WIDE.store(u8::from(wide), Ordering::Relaxed);
            wide
        }
        known => known != 0,
    }
}

/// Callers reach one of the variants on each machine; tests/bitmap.rs holds that one to a model, and this holds the other to it.
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn words(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(prop_oneof![2 => Just(0), 1 => Just(u64::MAX), 3 => any::<u64>()], len)
    }

    fn cells(words: &[u64]) -> Vec<Cell<u64>> {
        words.iter().map(|word| Cell::new(*word)).collect()
    }

    fn atomics(words: &[u64]) -> Vec<AtomicU64> {
        words.iter().map(|word| AtomicU64::new(*word)).collect()
    }

    fn numbers(words: &[AtomicU64]) -> Vec<u64> {
        words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    proptest! {
        #[test]
        fn variants_are_equal(src in words(1..80), dst in words(80), shift in 1..64_u32, k in 1..=6_u32) {
            let n = src.len() - 1;
            let (src_a, src_b, dst_a, dst_b) = (cells(&src), cells(&src), cells(&dst), cells(&dst));
            prop_assert_eq!(or_aligned(&dst_a[..n], &src_a[..n]), loops::or_words::<_, _, false>(&dst_b[..n], &src_b[..n], 0));
            prop_assert_eq!((&src_a, &dst_a), (&src_b, &dst_b));
            let (src_a, src_b) = (cells(&src), cells(&src));
            prop_assert_eq!(or_shifted(&dst_a[..n], &src_a, shift), loops::or_words::<_, _, true>(&dst_b[..n], &src_b, shift));
            prop_assert_eq!((&src_a, &dst_a), (&src_b, &dst_b));
            prop_assert_eq!(fill(&dst_a[..n]), loops::fill(&dst_b[..n]));
            prop_assert_eq!(dst_a, dst_b);
            prop_assert_eq!(count(&src), loops::count(&src));
            prop_assert_eq!(alike(&src, 0), loops::alike(&src, 0));
            prop_assert_eq!(alike(&src, u64::MAX), loops::alike(&src, u64::MAX));
            prop_assert_eq!(marks(&src), edges::marks(&src));
            let (a, b) = (cells(&src), cells(&src));
            clear(&a);
            loops::clear(&b);
            prop_assert_eq!(a, b);
            let (mut a, mut b) = (vec![0; n >> k], vec![0; n >> k]);
            let (src_a, src_b) = (cells(&src), cells(&src));
            fold(&mut a, &src_a, shift, k);
            fold_body(&mut b, &src_b, shift, k);
            prop_assert_eq!((a, src_a), (b, src_b));
            let (mut a, mut b) = (vec![0; n >> scale::LANES], vec![0; n >> scale::LANES]);
            let (src_a, src_b) = (cells(&src), cells(&src));
            fold(&mut a, &src_a, 0, scale::LANES);
            scale::fold::<{ scale::LANES }>(&mut b, &src_b, 0);
            prop_assert_eq!((a, src_a), (b, src_b));
            for line in src.chunks_exact(8).filter_map(|line| line.first_chunk()) {
                prop_assert_eq!(lanes_of(line), scale::lanes_of(line));
            }
            let (few, long) = (&src[..src.len().min(5)], || dst.iter().copied().cycle().take(80).collect::<Vec<_>>());
            let (src_a, src_b, dst_a, dst_b) = (cells(few), cells(few), cells(&long()), cells(&long()));
            prop_assert_eq!(or_spread(&dst_a, &src_a), scale::or_spread(&dst_b, &src_b, scale::spread_lanes));
            prop_assert_eq!((src_a, dst_a), (src_b, dst_b));
            let (mut a, mut b) = (vec![0; n << k], vec![0; n << k]);
            let src = cells(&src);
            expand(&mut a, &src[..n], k.min(scale::MAX_EXPAND));
            expand_body(&mut b, &src[..n], k.min(scale::MAX_EXPAND));
            prop_assert_eq!(a, b);
        }

        /// Long enough for tiles, stretches of nothing and groups, from any word of a line.
        #[test]
        fn long_merges_are_equal(src in words(1..40), empty in 0..1200_usize, dst in words(40), shift in 0..64_u32, at in 0..8_usize) {
            let long = |words: &[u64], gap: usize| -> Vec<u64> {
                let some = words.iter().copied().cycle().take(600);
                some.clone().chain(std::iter::repeat_n(0, gap)).chain(some).collect()
            };
            let (src, dst) = (long(&src, empty), long(&dst, empty));
            let n = src.len() - 9;
            let (plain_a, plain_b, atomic_a, atomic_b) = (cells(&dst), cells(&dst), atomics(&dst), atomics(&dst));
            let srcs: Vec<_> = (0..4).map(|_| cells(&src)).collect();
            let results = if shift == 0 {
                [
                    or_aligned(&plain_a[at..][..n], &srcs[0][8 - at..][..n]),
                    loops::or_words::<_, _, false>(&plain_b[at..][..n], &srcs[1][8 - at..][..n], 0),
                    or_aligned(&atomic_a[at..][..n], &srcs[2][8 - at..][..n]),
                    loops::or_words::<_, _, false>(&atomic_b[at..][..n], &srcs[3][8 - at..][..n], 0),
                ]
            } else {
                [
                    or_shifted(&plain_a[at..][..n], &srcs[0][8 - at..][..=n], shift),
                    loops::or_words::<_, _, true>(&plain_b[at..][..n], &srcs[1][8 - at..][..=n], shift),
                    or_shifted(&atomic_a[at..][..n], &srcs[2][8 - at..][..=n], shift),
                    loops::or_words::<_, _, true>(&atomic_b[at..][..n], &srcs[3][8 - at..][..=n], shift),
                ]
            };
            // One bit at a time.
            let mut expected = dst.clone();
            let mut count = Count::default();
            for word in 0..n {
                let (low, high) = (src[8 - at + word], if shift == 0 { 0 } else { src[8 - at + word + 1] });
                let bits = (u128::from(low) | u128::from(high) << 64) >> shift;
                let bits = u64::try_from(bits & u128::from(u64::MAX)).unwrap();
                count.add(Count { newly: u64::from((bits & !dst[at + word]).count_ones()), total: u64::from(bits.count_ones()) });
                expected[at + word] |= bits;
            }
            prop_assert_eq!(results, [count; 4]);
            for words in [cells(&numbers(&atomic_a)), cells(&numbers(&atomic_b)), plain_a, plain_b] {
                prop_assert_eq!(words, cells(&expected));
            }
            prop_assert!(srcs.iter().all(|words| *words == srcs[0]));
            prop_assert!(srcs[0][8 - at..][..n].iter().all(|word| word.get() == 0));
        }
    }
}
