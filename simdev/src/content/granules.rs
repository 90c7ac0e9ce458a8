//! What of a state has to be sent, or is still missing.

/// A set of granules that knows its sizes, so that a large state costs no more per segment than a small one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granules {
    words: Vec<u64>,
    count: usize,
    /// Members below `split`.
    early: usize,
    split: usize,
    /// No word below this one has a member.
    low: usize,
}

impl Granules {
    pub fn none(len: usize, split: usize) -> Self {
        Granules { words: vec![0; len.div_ceil(64)], count: 0, early: 0, split: split.min(len), low: 0 }
    }

    pub fn all(len: usize, split: usize) -> Self {
        let mut set = Granules::none(len, split);
        set.words.fill(u64::MAX);
        if let (Some(last), 1..) = (set.words.last_mut(), len % 64) {
            *last = (1 << (len % 64)) - 1;
        }
        (set.count, set.early) = (len, set.split);
        set
    }

    pub fn has(&self, i: usize) -> bool {
        self.words.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 != 0)
    }

    pub fn put(&mut self, i: usize, on: bool) {
        if self.has(i) == on {
            return;
        }
        self.words[i / 64] ^= 1 << (i % 64);
        let early = usize::from(i < self.split);
        if on {
            (self.count, self.early) = (self.count + 1, self.early + early);
            self.low = self.low.min(i / 64);
        } else {
            (self.count, self.early) = (self.count - 1, self.early - early);
        }
    }

    /// The first member; below the split only, if `early`.
    pub fn first(&mut self, early: bool) -> Option<usize> {
        self.low += self.words[self.low.min(self.words.len())..].iter().position(|&w| w != 0)?;
        let first = self.low * 64 + self.words[self.low].trailing_zeros() as usize;
        (!early || first < self.split).then_some(first)
    }

    pub fn count(&self, early: bool) -> usize {
        if early { self.early } else { self.count }
    }
}
