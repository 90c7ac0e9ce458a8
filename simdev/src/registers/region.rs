//! The migration region's memory: a memory file, so that a client's mapping is a real one. The device itself reads and
//! writes the file and needs no mapping.

use crate::base::memory::{self, PAGE};
use crate::base::ranges::Ranges;
use crate::config::{Config, Window};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

/// What an acknowledged window, and every byte that is no register, reads as.
const STALE: u8 = 0xdb;

/// One mapping that a client holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    address: usize,
    pub offset: u64,
    pub len: u64,
}

#[derive(Debug)]
pub(crate) struct Region {
    file: File,
    pub size: u64,
    /// What is advertised; `None`: no mmap.
    pub areas: Option<Vec<(u64, u64)>>,
    /// The areas are in a sparse capability.
    pub sparse: bool,
    fails: bool,
    pub maps: Vec<Mapping>,
}

impl Region {
    pub fn new(config: &Config) -> Self {
        let size = config.region_size();
        let (start, len) = (config.data_start, config.window_size);
        let (areas, sparse) = match &config.window {
            Window::Trapped => (None, false),
            Window::Whole => (Some(vec![(0, size)]), false),
            Window::Area => (Some(vec![(start, len)]), true),
            Window::Gap => {
                let low = (len * 3 / 8 / PAGE * PAGE).max(PAGE);
                let high = (low + len / 4).next_multiple_of(PAGE).min(len - PAGE);
                (Some(vec![(start + high, len - high), (start, low)]), true)
            }
            Window::Areas(areas) => (Some(areas.clone()), true),
        };
        let file = memory::file();
        file.set_len(size).expect("a memory file has any size");
        let region = Region { file, size, areas, sparse, fails: config.map_fails, maps: Vec::new() };
        region.fill(0, size);
        region
    }

    /// A client that reads registers or stale data through a mapping gets nonsense.
    pub fn fill(&self, offset: u64, len: u64) {
        const STEP: u64 = 64 << 10;
        let stale = [STALE; STEP as usize];
        for at in (offset..offset + len).step_by(STEP as usize) {
            self.put(at, &stale[..STEP.min(offset + len - at) as usize]);
        }
    }

    pub fn put(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset).expect("a memory file takes bytes");
    }

    pub fn get(&self, offset: u64, bytes: &mut [u8]) {
        self.file.read_exact_at(bytes, offset).expect("a memory file gives bytes");
    }

    pub fn contains(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.size)
    }

    /// The first byte of the range that no mapping of the client covers and that `skip` does not know.
    pub fn first_unmapped(&self, start: u64, end: u64, moved: &Ranges) -> Option<u64> {
        let mut known = moved.clone();
        self.maps.iter().for_each(|m| known.add(m.offset, m.offset + m.len));
        known.first_gap(start, end)
    }

    /// `Err((errno, true))` if no client that has read the region's description asks so.
    pub fn map(&mut self, offset: u64, len: usize) -> Result<NonNull<u8>, (i32, bool)> {
        let end = offset.checked_add(len as u64).filter(|_| len > 0 && offset % PAGE == 0 && len as u64 % PAGE == 0);
        let areas = self.areas.as_deref().unwrap_or(&[]);
        let inside = |&(at, size): &(u64, u64)| offset >= at && end.is_some_and(|end| end <= at + size);
        if !areas.iter().any(inside) || !self.contains(offset, len as u64) {
            return Err((libc::EINVAL, true));
        }
        if self.fails {
            return Err((libc::ENODEV, false));
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory of the program.
        let memory = unsafe {
            libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, self.file.as_raw_fd(), offset as i64)
        };
        let memory = NonNull::new(memory.cast::<u8>()).filter(|_| memory != libc::MAP_FAILED);
        let memory = memory.ok_or((libc::ENOMEM, false))?;
        self.maps.push(Mapping { address: memory.as_ptr() as usize, offset, len: len as u64 });
        Ok(memory)
    }

    /// A descriptor for a client that maps by itself, which cannot be seen: all areas count as mapped from here on. `empty`: it
    /// is one of other memory, which nothing is ever put into. `None`: there is nothing to map.
    pub fn share(&mut self, empty: bool) -> Option<OwnedFd> {
        let areas = self.areas.as_deref().filter(|_| !self.fails)?;
        if empty {
            let file = memory::file();
            file.set_len(self.size).ok()?;
            return Some(file.into());
        }
        if self.maps.is_empty() {
            self.maps = areas.iter().map(|&(offset, len)| Mapping { address: 0, offset, len }).collect();
        }
        self.file.try_clone().ok().map(OwnedFd::from)
    }

    /// Whether there was such a mapping.
    pub fn unmap(&mut self, memory: NonNull<u8>, len: usize) -> bool {
        let place = self.maps.iter().position(|m| m.address == memory.as_ptr() as usize && m.len == len as u64);
        let Some(place) = place else { return false };
        self.maps.swap_remove(place);
        // SAFETY: `map` made this mapping and it was in the list until now; the client gives it back.
        unsafe { libc::munmap(memory.as_ptr().cast(), len) };
        true
    }
}
