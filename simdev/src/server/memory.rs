//! DMA_MAP and DMA_UNMAP: which memory of the client the device may reach, and how.

use crate::base::memory::PAGE;
use crate::base::user;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// What a client shared by a descriptor, in this process.
struct Shared {
    address: u64,
    len: usize,
    /// Where its region begins in it: a file's offset need not be whole pages.
    skip: u64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: `Shared::new` has made this mapping, and nothing refers to it: it is read and written by the kernel's copy.
        unsafe { libc::munmap(self.address as *mut libc::c_void, self.len) };
    }
}

impl Shared {
    fn new(fd: &OwnedFd, offset: u64, size: u64, write: bool) -> Result<Self, i32> {
        let skip = offset % PAGE;
        let len = size.checked_add(skip).and_then(|len| usize::try_from(len).ok()).ok_or(libc::EINVAL)?;
        let from = i64::try_from(offset - skip).map_err(|_| libc::EINVAL)?;
        let access = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory of the program.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd.as_raw_fd(), from) };
        if memory == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOMEM));
        }
        Ok(Shared { address: memory as u64, len, skip })
    }
}

/// One DMA region.
pub(super) struct Region {
    pub size: u64,
    pub read: bool,
    pub write: bool,
    shared: Option<Shared>,
}

impl Region {
    /// Whether it can be reached without a message.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }
}

/// A DMA_MAP.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub iova: u64,
    pub size: u64,
    pub offset: u64,
    pub read: bool,
    pub write: bool,
}

/// By first address. No two overlap.
#[derive(Default)]
pub(super) struct Memory(BTreeMap<u64, Region>);

impl Memory {
    pub fn regions(&self) -> impl Iterator<Item = (u64, &Region)> {
        self.0.iter().map(|(iova, region)| (*iova, region))
    }

    /// Whether something of it is mapped.
    pub fn overlaps(&self, iova: u64, size: u64) -> bool {
        let last = iova.saturating_add(size.saturating_sub(1));
        let before = self.0.range(..=last).next_back();
        before.is_some_and(|(start, region)| start + (region.size - 1) >= iova)
    }

    /// The region that begins there.
    pub fn at(&self, iova: u64) -> Option<&Region> {
        self.0.get(&iova)
    }

    /// The region that has all of it.
    pub fn around(&self, iova: u64, len: u64) -> Option<(u64, &Region)> {
        let (start, region) = self.0.range(..=iova).next_back()?;
        let end = (iova - start).checked_add(len)?;
        (end <= region.size).then_some((*start, region))
    }

    /// Something that overlaps nothing and is not empty.
    pub fn map(&mut self, asked: Asked, fd: Option<&OwnedFd>) -> Result<(), i32> {
        let shared = fd.map(|fd| Shared::new(fd, asked.offset, asked.size, asked.write)).transpose()?;
        let Asked { iova, size, read, write, .. } = asked;
        self.0.insert(iova, Region { size, read, write, shared });
        Ok(())
    }

    /// Exactly what was mapped.
    pub fn unmap(&mut self, iova: u64, size: u64) -> Result<(), i32> {
        if self.at(iova).is_none_or(|region| region.size != size) {
            return Err(libc::ENOENT);
        }
        self.0.remove(&iova);
        Ok(())
    }

    pub fn unmap_all(&mut self) {
        self.0.clear();
    }

    /// Where shared memory is in this process. The kernel copies, so that a file that was cut is EFAULT and no signal.
    fn address(&self, iova: u64, len: u64) -> Option<u64> {
        let (start, region) = self.around(iova, len)?;
        let shared = region.shared.as_ref()?;
        Some(shared.address + shared.skip + (iova - start))
    }

    /// Of shared memory.
    pub fn write(&self, iova: u64, bytes: &[u8]) -> Result<(), i32> {
        user::write(self.address(iova, bytes.len() as u64).ok_or(libc::EFAULT)?, bytes)
    }

    /// Of shared memory.
    pub fn read(&self, iova: u64, bytes: &mut [u8]) -> Result<(), i32> {
        user::read(self.address(iova, bytes.len() as u64).ok_or(libc::EFAULT)?, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory;
    use std::os::unix::fs::FileExt;

    #[test]
    fn shared_memory_is_the_clients_also_behind_an_odd_offset_and_a_cut_file_is_an_error() {
        let file = memory::file();
        file.set_len(3 * PAGE).unwrap();
        let fd: OwnedFd = file.try_clone().unwrap().into();
        let mut all = Memory::default();
        let asked = Asked { iova: 0x10_0000, size: PAGE, offset: 512, read: true, write: true };
        all.map(asked, Some(&fd)).unwrap();
        all.write(0x10_0008, b"here").unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 520).unwrap();
        assert_eq!(&bytes, b"here");
        assert_eq!(all.write(0x10_0fff, b"ab"), Err(libc::EFAULT));
        file.set_len(0).unwrap();
        assert_eq!(all.read(0x10_0000, &mut bytes), Err(libc::EFAULT));
    }

    #[test]
    fn regions_are_taken_away_as_they_came() {
        let mut all = Memory::default();
        let asked = Asked { iova: PAGE, size: 2 * PAGE, offset: 0, read: true, write: true };
        all.map(asked, None).unwrap();
        assert!(all.overlaps(2 * PAGE, PAGE) && !all.overlaps(0, PAGE) && !all.overlaps(3 * PAGE, u64::MAX));
        assert_eq!(all.unmap(PAGE, PAGE), Err(libc::ENOENT));
        assert_eq!(all.unmap(2 * PAGE, PAGE), Err(libc::ENOENT));
        assert!(all.around(2 * PAGE, PAGE).is_some() && all.around(2 * PAGE, 2 * PAGE).is_none());
        all.unmap(PAGE, 2 * PAGE).unwrap();
        assert_eq!(all.regions().count(), 0);
    }
}
