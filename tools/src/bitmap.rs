//! A bitmap for the report of a log.

/// Memory as the kernel wants it: whole pages (I6, I7).
pub struct Bitmap {
    words: Vec<u64>,
    first: usize,
    len: usize,
}

impl Bitmap {
    /// A bitmap for so many pages.
    pub fn new(pages: u64) -> Self {
        let len = usize::try_from(pages.div_ceil(64)).unwrap_or(512).next_multiple_of(512);
        let words = vec![0u64; len.saturating_add(512)];
        let first = words.as_ptr().align_offset(4096).min(512);
        Bitmap { words, first, len }
    }

    /// Its words, from a whole page on.
    pub fn words(&mut self) -> &mut [u64] {
        self.words.get_mut(self.first..).and_then(|words| words.get_mut(..self.len)).unwrap_or_default()
    }

    /// The numbers of the pages whose bit is set.
    pub fn set(&mut self) -> Vec<u64> {
        let pages = self.words().iter().zip(0u64..).flat_map(|(word, at)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| at.saturating_mul(64).saturating_add(bit))
        });
        pages.collect()
    }
}
