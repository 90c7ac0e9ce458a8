//! Mapped areas of a migration region. The memory is the device's: it may change at any time, and access may raise SIGBUS when
//! the device goes away (P26). So no reference into it is ever made; bytes are copied by pointer, or handed to the kernel.

use crate::error::Errno;
use crate::transport::{Area, Transport, read_into, write_from};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

/// One mapped area.
pub(super) struct Mapping {
    index: u32,
    memory: NonNull<u8>,
    /// Where it lies in the region.
    offset: u64,
    len: usize,
}

// SAFETY: the memory is reached only through methods of the one owner; which thread that is on does not matter to a mapping.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps an area; whoever owns the result calls [`unmap`](Self::unmap) in the end.
    pub fn new(transport: &dyn Transport, index: u32, area: Area) -> Result<Self, Errno> {
        let len = usize::try_from(area.size).map_err(|_| Errno::new(libc::EOVERFLOW))?;
        let memory = transport.region_map(index, area.offset, len)?;
        Ok(Mapping { index, memory, offset: area.offset, len })
    }

    pub fn unmap(self, transport: &dyn Transport) {
        transport.region_unmap(self.index, self.memory, self.len);
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }

    /// Pointer and room from `at`, an offset in the region, to the end of the area; `None` outside.
    pub fn from(&self, at: u64) -> Option<(NonNull<u8>, usize)> {
        let skip = usize::try_from(at.checked_sub(self.offset)?).ok()?;
        let left = self.len.checked_sub(skip).filter(|&left| left > 0)?;
        // SAFETY: `skip` is less than the length of the mapping, so the result points into it.
        Some((unsafe { self.memory.add(skip) }, left))
    }

    /// Copies from the device; as many bytes as fit.
    pub fn copy_out(&self, at: u64, buf: &mut [u8]) -> usize {
        let Some((memory, left)) = self.from(at) else { return 0 };
        let len = left.min(buf.len());
        // SAFETY: `len` bytes from `memory` are mapped, `buf` has room for them, and the two do not overlap: the mapping was
        // made by the transport, `buf` is the caller's own.
        unsafe { std::ptr::copy_nonoverlapping(memory.as_ptr(), buf.as_mut_ptr(), len) };
        len
    }

    /// Copies to the device; as many bytes as fit.
    pub fn copy_in(&self, at: u64, bytes: &[u8]) -> usize {
        let Some((memory, left)) = self.from(at) else { return 0 };
        let len = left.min(bytes.len());
        // SAFETY: `len` bytes from `memory` are mapped, `bytes` has as many, and the two do not overlap, as above.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.as_ptr(), len) };
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
