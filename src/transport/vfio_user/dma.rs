//! The VMM's memory as a server has it (U-20): what is mapped, how it is read and written for the server, and which pages were
//! written so.

use super::exchange::ServerLogs;
use super::marks::Marks;
use crate::error::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a page that is marked.
const PAGE: u64 = 4096;

/// Reads and writes memory for a server that sends messages instead of using it by itself. Called within calls of the connection
/// and of devices on it, one at a time; it must not call those back (EDEADLK).
///
/// Example: [`VfioUserConnection`](super::VfioUserConnection).
pub trait ServerDma: Send + Sync {
    /// Fills `buf` from the address on.
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno>;
    /// Writes to the address. The pages are marked in the dirty log of the connection's device whether it succeeds or not.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;
    /// As of a transport: whether it may be called on threads of the library, which has some where several devices or logs are
    /// served at once.
    fn any_thread(&self) -> bool {
        true
    }
}

/// What a server may do with a mapping.
///
/// Example: [`VfioUserConnection`](super::VfioUserConnection).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaAccess {
    /// Read it.
    pub read: bool,
    /// Write to it.
    pub write: bool,
}

impl DmaAccess {
    /// Both.
    pub const ALL: DmaAccess = DmaAccess { read: true, write: true };
}

pub(super) struct DmaRegion {
    pub size: u64,
    /// The file that was sent along, and where in it the region begins.
    pub file: Option<(File, u64)>,
    pub access: DmaAccess,
    /// Pages that were written by messages while the log runs, numbered from its beginning.
    marks: Marks,
}

impl DmaRegion {
    pub fn new(size: u64, file: Option<(File, u64)>, access: DmaAccess) -> Self {
        DmaRegion { size, file, access, marks: Marks::default() }
    }
}

#[derive(Default)]
pub(super) struct DmaTable {
    regions: BTreeMap<u64, DmaRegion>,
    logging: bool,
}

fn fault() -> Errno {
    Errno::new(libc::EFAULT)
}

/// A part of a region: its beginning, where the part begins in it, and how long it is.
struct Part {
    iova: u64,
    offset: u64,
    len: usize,
}

impl DmaTable {
    /// EINVAL for a region that is empty or goes beyond 2^64, EEXIST for one that overlaps another.
    pub fn check(&self, iova: u64, size: u64) -> Result<(), Errno> {
        let last = size.checked_sub(1).and_then(|more| iova.checked_add(more)).ok_or(Errno::new(libc::EINVAL))?;
        let before = self.regions.range(..=last).next_back();
        let overlaps = before.is_some_and(|(&at, region)| at.saturating_add(region.size.saturating_sub(1)) >= iova);
        if overlaps { Err(Errno::new(libc::EEXIST)) } else { Ok(()) }
    }

    pub fn insert(&mut self, iova: u64, region: DmaRegion) {
        self.regions.insert(iova, region);
    }

    /// Whether exactly this region is mapped.
    pub fn has(&self, iova: u64, size: u64) -> bool {
        self.regions.get(&iova).is_some_and(|region| region.size == size)
    }

    pub fn remove(&mut self, iova: u64) {
        self.regions.remove(&iova);
    }

    /// The log of written pages begins, with nothing in it, or ends.
    pub fn logging(&mut self, runs: bool) {
        self.logging = runs;
        self.regions.values_mut().for_each(|region| region.marks.clear());
    }

    /// The parts of mapped regions that `len` bytes lie in; EFAULT where some are not mapped, or not for this access.
    fn parts(&self, address: u64, len: usize, write: bool) -> Result<Vec<Part>, Errno> {
        let (mut parts, mut at, mut left) = (Vec::new(), address, len);
        while left > 0 {
            let (&iova, region) = self.regions.range(..=at).next_back().ok_or_else(fault)?;
            let offset = at.checked_sub(iova).ok_or_else(fault)?;
            let room = region.size.checked_sub(offset).filter(|&room| room > 0).ok_or_else(fault)?;
            if !(if write { region.access.write } else { region.access.read }) {
                return Err(fault());
            }
            let len = usize::try_from(room).unwrap_or(usize::MAX).min(left);
            parts.push(Part { iova, offset, len });
            left = left.saturating_sub(len);
            at = if left > 0 { at.checked_add(len as u64).ok_or_else(fault)? } else { at };
        }
        Ok(parts)
    }

    /// Reads for the server.
    pub fn read(&self, by: Option<&dyn ServerDma>, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let parts = self.parts(address, buf.len(), false)?;
        if let Some(by) = by {
            return by.read(address, buf);
        }
        let mut rest = buf;
        for part in parts {
            let (now, behind) = rest.split_at_mut_checked(part.len).ok_or_else(fault)?;
            let (file, begin) = self.file_of(&part)?;
            file.read_exact_at(now, begin.checked_add(part.offset).ok_or_else(fault)?)?;
            rest = behind;
        }
        Ok(())
    }

    /// Writes for the server, and marks the pages: its own log does not know of them (U-15).
    pub fn write(&mut self, by: Option<&dyn ServerDma>, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let parts = self.parts(address, bytes.len(), true)?;
        let outcome = match by {
            Some(by) => by.write(address, bytes),
            None => self.write_files(&parts, bytes),
        };
        // A write that failed may have written a part, so its pages are marked, too.
        parts.iter().filter(|_| self.logging).collect::<Vec<_>>().into_iter().for_each(|part| {
            if let Some(region) = self.regions.get_mut(&part.iova) {
                mark(region, part);
            }
        });
        outcome
    }

    fn write_files(&self, parts: &[Part], bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        for part in parts {
            let (now, behind) = rest.split_at_checked(part.len).ok_or_else(fault)?;
            let (file, begin) = self.file_of(part)?;
            file.write_all_at(now, begin.checked_add(part.offset).ok_or_else(fault)?)?;
            rest = behind;
        }
        Ok(())
    }

    fn file_of(&self, part: &Part) -> Result<&(File, u64), Errno> {
        self.regions.get(&part.iova).and_then(|region| region.file.as_ref()).ok_or_else(fault)
    }

    /// Moves the marks within a range into a bitmap of pages of `page_size`, whatever mappings lie in it: a server may answer for
    /// a part of one.
    pub fn take_written(&mut self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> ServerLogs {
        let last = iova.saturating_add(size.saturating_sub(1));
        let begin = self.regions.range(..=iova).next_back().map_or(iova, |(&at, _)| at);
        for (&at, region) in self.regions.range_mut(begin..=last) {
            let of_region = |address: u64| address.saturating_sub(at) / PAGE;
            region.marks.take(of_region(iova)..=of_region(last), |page| {
                let from = at.saturating_add(page.saturating_mul(PAGE));
                let to = from.saturating_add(PAGE.saturating_sub(1));
                let of_bitmap = |address: u64| address.saturating_sub(iova).checked_div(page_size).unwrap_or(0);
                (of_bitmap(from)..=of_bitmap(to.min(last))).for_each(|bit| set(bitmap, bit));
                // A page that reaches out of the range is a page of its neighbour too.
                from < iova || to > last
            });
        }
        match self.regions.get(&iova) {
            Some(region) if region.size == size && region.file.is_none() => ServerLogs::No,
            _ => ServerLogs::Yes,
        }
    }
}

fn set(bitmap: &mut [u64], bit: u64) {
    let word = usize::try_from(bit / 64).ok().and_then(|word| bitmap.get_mut(word));
    if let Some(word) = word {
        *word |= 1u64.checked_shl((bit % 64) as u32).unwrap_or(0);
    }
}

fn mark(region: &mut DmaRegion, part: &Part) {
    let last = part.offset.saturating_add((part.len as u64).saturating_sub(1)) / PAGE;
    (part.offset / PAGE..=last).for_each(|page| region.marks.set(page));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(regions: &[(u64, u64, bool)]) -> (DmaTable, File) {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(1 << 20).unwrap();
        let mut table = DmaTable::default();
        for &(iova, size, has_file) in regions {
            table.check(iova, size).unwrap();
            let file = has_file.then(|| (memory.try_clone().unwrap(), iova));
            table.insert(iova, DmaRegion::new(size, file, DmaAccess::ALL));
        }
        (table, memory)
    }

    #[test]
    fn a_region_that_overlaps_or_is_none_is_refused() {
        let (table, _) = table(&[(0x2000, 0x2000, true), (u64::MAX - 0xfff, 0x1000, false)]);
        let errno = |iova, size| table.check(iova, size).err().map(Errno::get);
        for (iova, size) in [(0x1000, 0x1000), (0x4000, 0x1000), (u64::MAX - 0x1fff, 0x1000)] {
            assert_eq!(errno(iova, size), None, "{iova:#x}");
        }
        for (iova, size) in [(0x1000, 0x1001), (0x3fff, 1), (0, 1 << 40), (0x2000, 0x2000), (u64::MAX, 1)] {
            assert_eq!(errno(iova, size), Some(libc::EEXIST), "{iova:#x}");
        }
        assert_eq!((errno(0, 0), errno(u64::MAX, 2)), (Some(libc::EINVAL), Some(libc::EINVAL)));
    }

    /// U-15: writes go across neighbours, too; each bit is reported once, in the pages that are asked for.
    #[test]
    fn what_is_written_for_a_server_is_marked() {
        let (mut table, memory) = table(&[(0, 0x4000, true), (0x4000, 0x4000, true)]);
        table.write(None, 0x3ffe, &[1, 2, 3, 4]).unwrap();
        let mut got = [0; 4];
        memory.read_exact_at(&mut got, 0x3ffe).unwrap();
        assert_eq!(got, [1, 2, 3, 4]);
        let mut read = [0; 4];
        table.read(None, 0x3ffe, &mut read).unwrap();
        assert_eq!(read, got);
        let taken = |table: &mut DmaTable, iova, page| {
            let mut bits = [0];
            assert_eq!(table.take_written(iova, 0x4000, page, &mut bits), ServerLogs::Yes);
            bits[0]
        };
        assert_eq!((taken(&mut table, 0, 4096), taken(&mut table, 0x4000, 4096)), (0, 0), "no log ran");
        table.logging(true);
        table.write(None, 0x3ffe, &[1, 2, 3, 4]).unwrap();
        assert_eq!((taken(&mut table, 0, 4096), taken(&mut table, 0x4000, 8192)), (8, 1));
        assert_eq!(taken(&mut table, 0, 4096), 0);
    }

    /// U-15: what was written for another log, or for none, is in no log that begins later.
    #[test]
    fn a_log_begins_with_nothing_in_it() {
        let (mut table, _memory) = table(&[(0, 0x4000, true)]);
        let taken = |table: &mut DmaTable| {
            let mut bits = [0];
            assert_eq!(table.take_written(0, 0x4000, 4096, &mut bits), ServerLogs::Yes);
            bits[0]
        };
        for ends in [false, true] {
            table.logging(true);
            table.write(None, 0x1000, &[1]).unwrap();
            if ends {
                table.logging(false);
                assert_eq!(taken(&mut table), 0);
                table.write(None, 0x2000, &[1]).unwrap();
            }
            table.logging(true);
            table.write(None, 0x3000, &[1]).unwrap();
            assert_eq!(taken(&mut table), 8, "ended first: {ends}");
        }
    }

    #[test]
    fn beyond_what_is_mapped_nothing_is_done() {
        let (mut table, _) = table(&[(0x1000, 0x1000, true), (0x8000, 0x1000, false)]);
        table.insert(0x3000, DmaRegion::new(0x1000, None, DmaAccess { read: true, write: false }));
        for (address, len) in [(0, 1), (0x1fff, 2), (0x8000, 1), (0x3000, 1), (u64::MAX, 2), (0x1000, 1 << 20)] {
            assert_eq!(table.write(None, address, &vec![0; len]), Err(fault()), "{address:#x}");
            assert_eq!(table.read(None, address, &mut vec![0; len]), Err(fault()), "{address:#x}");
        }
        assert_eq!(table.write(None, 0x1000, &[]), Ok(()));
    }

    /// U-12, U-15: libvfio-user reports a mapping up to any of its pages, so marks of a part are reported as well, and those
    /// of the rest stay.
    #[test]
    fn marks_are_reported_of_any_part_of_what_is_mapped() {
        let (mut table, _memory) = table(&[(0, 0x4000, true), (0x4000, 0x4000, true)]);
        table.logging(true);
        for page in [1, 3, 4, 7] {
            table.write(None, page << 12, &[1]).unwrap();
        }
        let mut bits = [0; 1];
        for (iova, size, expected) in [(0, 0x2000, 2), (0x3000, 0x2000, 3), (0, 0x8000, 0x80), (0, 0x8000, 0)] {
            bits.fill(0);
            assert_eq!(table.take_written(iova, size, 4096, &mut bits), ServerLogs::Yes);
            assert_eq!(bits[0], expected, "{iova:#x} + {size:#x}");
        }
    }

    /// What is mapped says nothing about how much memory its marks take.
    #[test]
    fn marks_take_as_much_memory_as_is_written() {
        let (mut table, memory) = table(&[]);
        table.insert(0, DmaRegion::new(1 << 63, Some((memory, 0)), DmaAccess::ALL));
        table.logging(true);
        table.write(None, 0x5000, &[1]).unwrap();
        let mut bits = [0];
        assert_eq!(table.take_written(0, 1 << 63, 4096, &mut bits), ServerLogs::Yes);
        assert_eq!(bits, [1 << 5]);
    }

    /// U-12: a mapping without a descriptor is in no log but this one.
    #[test]
    fn a_mapping_without_a_descriptor_has_marks_only() {
        struct Vmm;
        impl ServerDma for Vmm {
            fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
                Ok(())
            }
            fn write(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
                Err(Errno::new(libc::EIO))
            }
        }
        let (mut table, _) = table(&[(0, 0x4000, false)]);
        table.logging(true);
        assert_eq!(table.write(Some(&Vmm), 0x1000, &[1]), Err(Errno::new(libc::EIO)));
        let mut bits = [0];
        assert_eq!(table.take_written(0, 0x4000, 4096, &mut bits), ServerLogs::No);
        assert_eq!(bits, [2], "it may have written before it failed");
        assert_eq!(table.take_written(0, 0x3000, 4096, &mut bits), ServerLogs::Yes, "another mapping");
    }
}
