//! Sets of byte ranges: what of a segment was moved.

/// Disjoint half-open ranges in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|r| r.1 < start);
        let last = self.0.partition_point(|r| r.0 <= end);
        let touched = &self.0[first..last];
        let start = touched.first().map_or(start, |r| r.0.min(start));
        let end = touched.last().map_or(end, |r| r.1.max(end));
        self.0.splice(first..last, [(start, end)]);
    }

    /// The first byte of `start..end` that is not in the set.
    pub fn first_gap(&self, start: u64, end: u64) -> Option<u64> {
        let at = match self.0.get(self.0.partition_point(|r| r.1 <= start)) {
            Some(&(from, to)) if from <= start => to,
            _ => start,
        };
        (at < end).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_bit_per_byte(adds in prop::collection::vec((0u64..60, 0u64..20), 0..20), start in 0u64..70, len in 0u64..20) {
            let (mut set, mut bits) = (Ranges::default(), [false; 100]);
            for (at, n) in adds {
                set.add(at, at + n);
                bits[at as usize..(at + n) as usize].fill(true);
            }
            prop_assert!(set.0.windows(2).all(|w| w[0].1 < w[1].0));
            let gap = (start..start + len).find(|&i| !bits[i as usize]);
            prop_assert_eq!(set.first_gap(start, start + len), gap);
        }
    }
}
