//! Mapped areas of a migration region. The memory is the device's: it may change at any time, and access may raise SIGBUS when
//! the device goes away (P26). So no reference into it is ever made; bytes are copied by pointer, or handed to the kernel.

use crate::error::Errno;
use crate::transport::{Area, Mapped, Transport, read_into, write_from};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

/// One mapped area.
pub(super) struct MappedArea {
    memory: Mapped,
    /// Where it lies in the region.
    offset: u64,
    /// No more than is mapped.
    len: usize,
}

impl MappedArea {
    /// Maps an area until the result is dropped.
    pub fn new(transport: &dyn Transport, index: u32, area: Area) -> Result<Self, Errno> {
        let len = usize::try_from(area.size).map_err(|_| Errno::new(libc::EOVERFLOW))?;
        let memory = transport.region_map(index, area.offset, len)?;
        if memory.len() < len {
            return Err(Errno::new(libc::EPROTO));
        }
        Ok(MappedArea { memory, offset: area.offset, len })
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }

    /// Pointer and length from `at`, an offset in the region, to the end of the area; `None` outside.
    pub fn from(&self, at: u64) -> Option<(NonNull<u8>, usize)> {
        let skip = usize::try_from(at.checked_sub(self.offset)?).ok()?;
        let left = self.len.checked_sub(skip).filter(|&left| left > 0)?;
        // SAFETY: `skip` is less than the length of the mapping, so the result points into it.
        Some((unsafe { self.memory.as_ptr().add(skip) }, left))
    }

    /// Copies from the device; as many bytes as fit.
    pub fn copy_out(&self, at: u64, buf: &mut [u8]) -> usize {
        let Some((memory, left)) = self.from(at) else { return 0 };
        let len = left.min(buf.len());
        // SAFETY: `len` bytes from `memory` on are mapped.
        unsafe { read_words(memory.as_ptr(), buf.get_mut(..len).unwrap_or_default()) };
        len
    }

    /// Copies to the device; as many bytes as fit.
    pub fn copy_in(&self, at: u64, bytes: &[u8]) -> usize {
        let Some((memory, left)) = self.from(at) else { return 0 };
        let len = left.min(bytes.len());
        // SAFETY: `len` bytes from `memory` on are mapped.
        unsafe { write_words(memory.as_ptr(), bytes.get(..len).unwrap_or_default()) };
        len
    }

    /// Writes up to `len` bytes from the device to a descriptor, without a copy in user space.
    pub fn send(&self, at: u64, len: usize, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        let Some((memory, left)) = self.from(at) else { return Ok(0) };
        // SAFETY: the bytes are mapped for reading.
        unsafe { write_from(fd, memory.as_ptr(), len.min(left)) }
    }

    /// Reads up to `len` bytes from a descriptor to the device, without a copy in user space.
    pub fn receive(&self, at: u64, len: usize, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        let Some((memory, left)) = self.from(at) else { return Ok(0) };
        // SAFETY: the bytes are mapped for writing.
        unsafe { read_into(fd, memory.as_ptr(), len.min(left)) }
    }
}

const WORD: usize = size_of::<u64>();

/// Copies out of device memory by aligned words, each read once: the memory may be mapped so that any other access is a fault
/// (arm64), and may change under the copy (P26).
///
/// # Safety
/// As many bytes as `to` has are mapped from `device` on.
unsafe fn read_words(device: *const u8, to: &mut [u8]) {
    let (head, rest) = to.split_at_mut(device.align_offset(WORD).min(to.len()));
    let words = device.wrapping_add(head.len()).cast::<u64>();
    for (at, byte) in head.iter_mut().enumerate() {
        // SAFETY: within the first `to.len()` bytes from `device` on.
        *byte = unsafe { device.wrapping_add(at).read_volatile() };
    }
    let mut chunks = rest.chunks_exact_mut(WORD);
    let mut done: usize = 0;
    for chunk in chunks.by_ref() {
        // SAFETY: as above; aligned, for `head` ends at a word or is all there is.
        let word = unsafe { words.wrapping_add(done).read_volatile() };
        chunk.copy_from_slice(&word.to_ne_bytes());
        done = done.saturating_add(1);
    }
    let tail = words.wrapping_add(done).cast::<u8>();
    for (at, byte) in chunks.into_remainder().iter_mut().enumerate() {
        // SAFETY: as above.
        *byte = unsafe { tail.wrapping_add(at).read_volatile() };
    }
}

/// Copies into device memory, as [`read_words`].
///
/// # Safety
/// As many bytes as `from` has are mapped from `device` on.
unsafe fn write_words(device: *mut u8, from: &[u8]) {
    let (head, rest) = from.split_at(device.align_offset(WORD).min(from.len()));
    let words = device.wrapping_add(head.len()).cast::<u64>();
    for (at, byte) in head.iter().enumerate() {
        // SAFETY: within the first `from.len()` bytes from `device` on.
        unsafe { device.wrapping_add(at).write_volatile(*byte) };
    }
    let mut chunks = rest.chunks_exact(WORD);
    let mut done: usize = 0;
    for chunk in chunks.by_ref() {
        let word = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
        // SAFETY: as above; aligned, for `head` ends at a word or is all there is.
        unsafe { words.wrapping_add(done).write_volatile(word) };
        done = done.saturating_add(1);
    }
    let tail = words.wrapping_add(done).cast::<u8>();
    for (at, byte) in chunks.remainder().iter().enumerate() {
        // SAFETY: as above.
        unsafe { tail.wrapping_add(at).write_volatile(*byte) };
    }
}

#[cfg(test)]
mod tests {
    use super::{read_words, write_words};

    #[test]
    fn copies_are_right_at_every_alignment() {
        let from: Vec<u8> = (0..80).collect();
        for start in 0..16 {
            for len in 0..48 {
                for other in 0..9 {
                    let mut to = [0xee; 80];
                    // SAFETY: `from` has more bytes after `start`.
                    unsafe { read_words(from[start..].as_ptr(), &mut to[other..other + len]) };
                    assert_eq!(to[other..other + len], from[start..start + len]);
                    assert!(to[..other].iter().chain(&to[other + len..]).all(|byte| *byte == 0xee));
                    let mut back = [0xee; 80];
                    // SAFETY: `back` has more bytes after `start`.
                    unsafe { write_words(back[start..].as_mut_ptr(), &from[other..other + len]) };
                    assert_eq!(back[start..start + len], from[other..other + len]);
                    assert!(back[..start].iter().chain(&back[start + len..]).all(|byte| *byte == 0xee));
                }
            }
        }
    }
}
