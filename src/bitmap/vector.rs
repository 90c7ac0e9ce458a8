//! The loops of `loops` and `scale`, compiled for the machine as it is: x86-64 in general has no instruction that counts bits
//! and vectors of two words only, while nearly every server has more. No algorithm: only the choice.
//!
//! Measured (docs/performance.md): 2 to 3 times as fast in the cache, 1.2 to 1.6 times in memory.

use super::access::{DstWord, SrcWord};
use super::types::Count;
use super::{loops, scale};
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
        4 => scale::fold::<4>(out, src, shift),
        5 => scale::fold::<5>(out, src, shift),
        _ => scale::fold::<6>(out, src, shift),
    }
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

    fn words(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(prop_oneof![2 => Just(0), 1 => Just(u64::MAX), 3 => any::<u64>()], len)
    }

    fn cells(words: &[u64]) -> Vec<Cell<u64>> {
        words.iter().map(|word| Cell::new(*word)).collect()
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
            let (a, b) = (cells(&src), cells(&src));
            clear(&a);
            loops::clear(&b);
            prop_assert_eq!(a, b);
            let (mut a, mut b) = (vec![0; n >> k], vec![0; n >> k]);
            let (src_a, src_b) = (cells(&src), cells(&src));
            fold(&mut a, &src_a, shift, k);
            fold_body(&mut b, &src_b, shift, k);
            prop_assert_eq!((a, src_a), (b, src_b));
            let (mut a, mut b) = (vec![0; n << k], vec![0; n << k]);
            let src = cells(&src);
            expand(&mut a, &src[..n], k.min(scale::MAX_EXPAND));
            expand_body(&mut b, &src[..n], k.min(scale::MAX_EXPAND));
            prop_assert_eq!(a, b);
        }
    }
}
