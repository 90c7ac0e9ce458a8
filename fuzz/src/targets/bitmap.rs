//! The bitmap tools, through C, against a bit at a time.

use crate::feed::Feed;
use vfiomig::ffi::bitmap::*;
use vfiomig::transport::tracker_ops::LogRange;

fn get(words: &[u64], bit: u64) -> bool {
    words[bit as usize / 64] >> (bit % 64) & 1 == 1
}
fn set(words: &mut [u64], bit: u64) -> u64 {
    let off = !get(words, bit);
    words[bit as usize / 64] |= 1 << (bit % 64);
    u64::from(off)
}
fn clear(words: &mut [u64], bit: u64) {
    words[bit as usize / 64] &= !(1 << (bit % 64));
}

fn words(f: &mut Feed, n: usize) -> Vec<u64> {
    let kind = f.u8();
    (0..n)
        .map(|_| match kind % 5 {
            0 => 0,
            1 => u64::MAX,
            2 => f.u64(),
            3 => f.u64() & f.u64() & f.u64(),
            _ => [0, u64::MAX, 1, 1 << 63, f.u64()][f.u8() as usize % 5],
        })
        .collect()
}

const EINVAL: i64 = -(libc::EINVAL as i64);

pub fn run(data: &[u8]) {
    let f = &mut Feed::new(data);
    for _ in 0..6 {
        if f.done() {
            return;
        }
        let op = f.u8() % 7;
        let flags = (u32::from(f.u8() % 8 == 7) * 2) | u32::from(f.bool());
        let n = 1 + f.below(40);
        let bits = f.below(n * 64 + 1) as u64;
        let (src_bit, dst_bit) = (f.below(200) as u64, f.below(200) as u64);
        // As long as they must be, and no longer.
        let len = |bit: u64, bits: u64| (bit + bits).div_ceil(64).max(1) as usize;
        let src = words(f, len(src_bit, bits));
        let mut dst = words(f, len(dst_bit, bits));
        let before = dst.clone();
        let bad = flags & !1 != 0;
        match op {
            0 => {
                let got =
                    unsafe { vfiomig_bitmap_merge(dst.as_mut_ptr(), dst_bit, src.as_ptr(), src_bit, bits, flags) };
                let mut model = before;
                let mut newly = 0;
                if !bad {
                    for i in (0..bits).filter(|i| get(&src, src_bit + i)) {
                        newly += set(&mut model, dst_bit + i) as i64;
                    }
                }
                assert_eq!(got, if bad { EINVAL } else { newly });
                assert_eq!(dst, model);
            }
            1 | 2 => {
                let mut from = src.clone();
                let null = op == 2;
                let to = if null { std::ptr::null_mut() } else { dst.as_mut_ptr() };
                let got = unsafe { vfiomig_bitmap_take(to, dst_bit, from.as_mut_ptr(), src_bit, bits, flags) };
                let (mut model, mut left, mut count) = (before, src.clone(), 0);
                if !bad {
                    for i in (0..bits).filter(|i| get(&src, src_bit + i)) {
                        clear(&mut left, src_bit + i);
                        if !null {
                            set(&mut model, dst_bit + i);
                        }
                        count += 1;
                    }
                }
                assert_eq!(got, if bad { EINVAL } else { count });
                assert_eq!((dst, from), (model, left));
            }
            3 => {
                let got = unsafe { vfiomig_bitmap_count(src.as_ptr(), src_bit, bits) };
                assert_eq!(got, (0..bits).filter(|i| get(&src, src_bit + i)).count() as i64);
            }
            4 => {
                let from = f.below(n * 64 + 70) as u64;
                let all = src.len() as u64 * 64;
                let end = bits.min(all);
                let (mut start, mut run) = (77, 88);
                let got = unsafe { vfiomig_bitmap_next_run(src.as_ptr(), end, from, &mut start, &mut run) };
                let first = (from..end).find(|&bit| get(&src, bit));
                match first {
                    None => assert_eq!((got, start, run), (0, 77, 88)),
                    Some(first) => {
                        let len = (first..end).take_while(|&bit| get(&src, bit)).count() as u64;
                        assert_eq!((got, start, run), (1, first, len));
                    }
                }
            }
            5 => {
                let from = f.below(n * 64 + 70) as u64;
                let end = bits.min(src.len() as u64 * 64);
                let (base, page) = (f.size(), f.size());
                let max = f.below(12);
                let mut out = vec![LogRange { iova: 1, size: 2 }; max.max(1)];
                let mut next = 99;
                let got = unsafe {
                    vfiomig_bitmap_get_ranges(src.as_ptr(), end, from, base, page, out.as_mut_ptr(), max, &mut next)
                };
                let fits = end.checked_mul(page).is_some_and(|b| base.checked_add(b.saturating_sub(1)).is_some());
                if max == 0 || page == 0 || !fits {
                    assert_eq!((got, next), (EINVAL, 99));
                    continue;
                }
                let (mut model, mut at, mut after) = (Vec::new(), from, end);
                while let Some(first) = (at..end).find(|&bit| get(&src, bit)) {
                    if model.len() == max {
                        after = first;
                        break;
                    }
                    let len = (first..end).take_while(|&bit| get(&src, bit)).count() as u64;
                    model.push(LogRange { iova: base + first * page, size: len * page });
                    at = first + len;
                }
                assert_eq!(got, model.len() as i64);
                assert_eq!(&out[..model.len()], &model[..]);
                assert_eq!(next, after);
            }
            _ => {
                let (a, b) = (f.u8() % 64, f.u8() % 64);
                let odd = f.u8() % 32 == 31;
                let (src_page, dst_page) = (1u64 << a | u64::from(odd), 1u64 << b);
                let src_bits = bits.min(src.len() as u64 * 64);
                let Some(bytes) = src_bits.checked_mul(src_page) else {
                    let got = unsafe {
                        vfiomig_bitmap_rescale(dst.as_mut_ptr(), dst_page, src.as_ptr(), src_page, src_bits, flags)
                    };
                    assert_eq!(got, EINVAL);
                    continue;
                };
                let dst_bits = bytes.div_ceil(dst_page);
                if dst_bits > 1 << 15 {
                    continue;
                }
                let mut dst = words(f, (dst_bits.div_ceil(64)).max(1) as usize);
                let mut model = dst.clone();
                let got = unsafe {
                    vfiomig_bitmap_rescale(dst.as_mut_ptr(), dst_page, src.as_ptr(), src_page, src_bits, flags)
                };
                if bad || !src_page.is_power_of_two() {
                    assert_eq!((got, dst), (EINVAL, model));
                    continue;
                }
                let mut newly = 0;
                for bit in (0..src_bits).filter(|&bit| get(&src, bit)) {
                    let (first, last) = (bit * src_page / dst_page, (bit * src_page + (src_page - 1)) / dst_page);
                    for bit in first..=last {
                        newly += set(&mut model, bit) as i64;
                    }
                }
                assert_eq!(got, newly);
                assert_eq!(dst, model);
            }
        }
    }
}
