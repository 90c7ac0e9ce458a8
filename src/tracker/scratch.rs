//! Memory for bitmaps that a kernel fills (P10): whole pages of its own, because it sets bits past the last one (I6),
//! and touched, because it says nothing if it cannot reach a page (I7). Buffers are pooled; the merge leaves them zero,
//! so no second pass clears them.

use crate::error::Errno;
use crate::transport::host_page::host_page;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::ptr::NonNull;

/// Buffers that wait to be used again, in bytes; what is beyond is given back to the system.
const KEPT: usize = 32 << 20;
/// From here on huge pages pay: one fault instead of 512, and fewer address translations in the merge.
const HUGE: usize = 2 << 20;

/// Zeroed, touched, page-aligned memory.
pub(crate) struct Pages {
    memory: NonNull<u64>,
    words: usize,
}

// SAFETY: the memory is this value's alone, and plain numbers.
unsafe impl Send for Pages {}

/// New memory at a place that the kernel chooses.
fn map(bytes: usize) -> Result<NonNull<u8>, Errno> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place that the kernel chooses touches no memory of the program.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    NonNull::new(memory.cast::<u8>()).ok_or(Errno::new(libc::ENOMEM))
}

/// The kernel of this machine knows nothing of the pages that are played: what is too much before and behind goes back.
#[cfg(feature = "large-pages")]
fn map_pages(bytes: usize) -> Result<NonNull<u8>, Errno> {
    let all = bytes.checked_add(host_page()).ok_or(Errno::new(libc::ENOMEM))?;
    let memory = map(all)?;
    // Counted: align_offset may say that there is no such place.
    let before = memory.addr().get().wrapping_neg() & host_page().saturating_sub(1);
    // SAFETY: it is at most a page, of which there is one more than `bytes`.
    let first = unsafe { memory.add(before) };
    // SAFETY: the same: the end of what is returned.
    let end = unsafe { first.add(bytes) };
    for (part, len) in [(memory, before), (end, host_page().saturating_sub(before))] {
        if len > 0 {
            // SAFETY: within the mapping that was made above, beside the bytes that are returned.
            unsafe { libc::munmap(part.as_ptr().cast(), len) };
        }
    }
    Ok(first)
}
#[cfg(not(feature = "large-pages"))]
use map as map_pages;

impl Pages {
    /// Memory for `words` words, rounded up to whole pages.
    pub fn new(words: usize) -> Result<Pages, Errno> {
        let bytes = words.max(1).checked_mul(8).and_then(|bytes| bytes.checked_next_multiple_of(host_page()));
        let bytes = bytes.ok_or(Errno::new(libc::ENOMEM))?;
        let memory = map_pages(bytes)?.cast::<u64>();
        let mut pages = Pages { memory, words: bytes / 8 };
        if bytes >= HUGE {
            // SAFETY: the mapping was made above. Advice that is not taken changes nothing.
            unsafe { libc::madvise(memory.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        }
        pages.touch();
        Ok(pages)
    }

    /// Writes to each page.
    fn touch(&mut self) {
        for word in self.words_mut().iter_mut().step_by(host_page() / 8) {
            // SAFETY: a reference is valid for a write. Volatile, so that it is not left out for writing what is there.
            unsafe { std::ptr::from_mut(word).write_volatile(0) };
        }
    }

    /// The first `words` words, to the end of their last page: what a kernel may touch if it is asked for so much.
    pub fn room(&mut self, words: usize) -> &mut [u64] {
        let reach = words.max(1).checked_next_multiple_of(host_page() / 8).unwrap_or(usize::MAX);
        let all = self.words_mut();
        let reach = reach.min(all.len());
        all.get_mut(..reach).unwrap_or(&mut [])
    }

    pub fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: `words` words are mapped, readable and writable, and zero or written since; `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.words) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, of this length, to which nothing points any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.words.saturating_mul(8)) };
    }
}

/// Bytes of memory that a buffer of so many words takes.
pub(crate) fn bytes_of(words: usize) -> usize {
    words.max(1).saturating_mul(8).checked_next_multiple_of(host_page()).unwrap_or(usize::MAX)
}

/// Zeroed buffers that wait to be used again.
#[derive(Default)]
pub(crate) struct PagePool(Mutex<Free>);

#[derive(Default)]
struct Free {
    /// The one that came back last: most often the next read is as long as the one before.
    last: Option<Pages>,
    /// The others, by size in words.
    sizes: BTreeMap<usize, Vec<Pages>>,
    bytes: usize,
}

impl Free {
    /// The one that came back last is one of many.
    fn file_last(&mut self) {
        if let Some(pages) = self.last.take() {
            self.sizes.entry(pages.words).or_default().push(pages);
        }
    }

    /// Takes a buffer of the first size in the range.
    fn pop(&mut self, sizes: impl RangeBounds<usize>) -> Option<Pages> {
        let (&size, buffers) = self.sizes.range_mut(sizes).next()?;
        let pages = buffers.pop()?;
        if buffers.is_empty() {
            self.sizes.remove(&size);
        }
        self.bytes = self.bytes.saturating_sub(size.saturating_mul(8));
        Some(pages)
    }
}

impl PagePool {
    /// A zeroed buffer of at least `words` words.
    pub fn take(&self, words: usize) -> Result<Pages, Errno> {
        let mut free = self.0.lock();
        if let Some(pages) = free.last.take_if(|pages| pages.words.saturating_mul(8) == bytes_of(words)) {
            free.bytes = free.bytes.saturating_sub(bytes_of(words));
            return Ok(pages);
        }
        free.file_last();
        let found = free.pop(words..);
        drop(free);
        found.map_or_else(|| Pages::new(words), Ok)
    }

    /// Takes a buffer back; all of it must be zero.
    pub fn give(&self, mut pages: Pages) {
        debug_assert!(pages.words_mut().iter().all(|&word| word == 0), "a buffer came back with bits in it");
        let mut free = self.0.lock();
        free.bytes = free.bytes.saturating_add(pages.words.saturating_mul(8));
        free.file_last();
        free.last = Some(pages);
        if free.bytes <= KEPT {
            return;
        }
        free.file_last();
        // Large ones are dear: small ones go first, and the last one never.
        while free.bytes > KEPT && free.sizes.values().map(Vec::len).take(2).sum::<usize>() > 1 {
            drop(free.pop(..));
        }
    }

    /// Gives everything back to the system.
    pub fn release(&self) {
        *self.0.lock() = Free::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_whole_pages_and_zero() {
        for words in [0, 1, 511, 512, 513, 8191, 8192, 8193, HUGE / 8 + 1] {
            let mut pages = Pages::new(words).unwrap();
            let memory = pages.words_mut();
            assert!(memory.len() >= words && !memory.is_empty());
            assert_eq!((memory.as_ptr().addr() % host_page(), memory.len() * 8 % host_page()), (0, 0));
            assert!(memory.iter().all(|&word| word == 0));
        }
        assert!(Pages::new(usize::MAX).is_err());
    }

    #[test]
    fn what_is_lent_of_a_buffer_ends_with_a_page() {
        let page = host_page() / 8;
        let mut pages = Pages::new(3 * page).unwrap();
        for (words, lent) in [(0, 1), (1, 1), (page, 1), (page + 1, 2), (3 * page, 3), (4 * page, 3), (usize::MAX, 3)] {
            assert_eq!(pages.room(words).len(), lent * page, "{words}");
        }
    }

    #[test]
    fn the_pool_gives_the_smallest_that_fits_and_keeps_a_bounded_sum() {
        let pool = PagePool::default();
        let page = host_page() / 8;
        for pages in [1, 8, 2] {
            pool.give(Pages::new(pages * page).unwrap());
        }
        assert_eq!(pool.take(page + 1).unwrap().words, 2 * page);
        assert_eq!(pool.take(page + 1).unwrap().words, 8 * page);
        assert_eq!(pool.take(1).unwrap().words, page);
        let kept = |pool: &PagePool| {
            let mut free = pool.0.lock();
            free.file_last();
            let bytes = free.sizes.iter().map(|(words, buffers)| words * 8 * buffers.len()).sum::<usize>();
            assert_eq!(bytes, free.bytes);
            free.sizes.values().map(Vec::len).sum::<usize>()
        };
        assert_eq!(kept(&pool), 0);
        for _ in 0..5 {
            pool.give(Pages::new(KEPT / 8 / 2).unwrap());
        }
        assert_eq!(kept(&pool), 2);
        pool.release();
        pool.give(Pages::new(512).unwrap());
        pool.give(Pages::new(KEPT / 8 * 2).unwrap());
        assert_eq!((kept(&pool), pool.0.lock().bytes), (1, KEPT * 2), "one that is larger than all may be");
        pool.release();
        assert_eq!(kept(&pool), 0);
    }
}
