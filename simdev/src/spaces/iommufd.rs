//! An iommufd with its page tables (HWPTs) and their dirty bits, which are one per page table entry (I1 to I11).

use super::attach;
use super::hwpt::Hwpt;
use super::piece::Piece;
use super::space::Space;
use super::walk::walk;
use super::watch::Watch;
use crate::base::bitmap::{IovaBitmap, Report};
use crate::base::bytes::{put, u32_at, u64_at};
use crate::base::judge::Judge;
use crate::base::memory::PAGE;
use crate::config::Kernel;
use crate::device::Device;
use crate::machine::{Access, lie, moved};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vfiomig::error::Errno;
use vfiomig::transport::{Identity, iommufd as api};

const ENABLE: u32 = 1;
const NO_CLEAR: u32 = 1;

/// What an iommufd is like.
#[derive(Clone, Copy, Debug)]
pub struct IommufdConfig {
    /// The alignment of addresses.
    pub alignment: u64,
    /// Whose records: 6.12's begin where the walk is, 7.3's at their entry (I5).
    pub kernel: Kernel,
}

impl Default for IommufdConfig {
    fn default() -> Self {
        IommufdConfig { alignment: PAGE, kernel: Kernel::V6_12 }
    }
}

/// An iommufd; clones are the same. An address space belongs to one of them only.
#[derive(Clone)]
pub struct Iommufd(Arc<Inner>);

struct Inner {
    config: IommufdConfig,
    watch: Watch,
    objects: Mutex<Objects>,
}

#[derive(Default)]
struct Objects {
    last: u32,
    ioases: BTreeMap<u32, Space>,
    /// Of those with dirty tracking, and of those without (I2).
    hwpts: BTreeMap<u32, (Space, bool)>,
}

impl Iommufd {
    /// Nothing is in it.
    pub fn new(config: IommufdConfig) -> Self {
        Iommufd(Arc::new(Inner { config, watch: Watch::default(), objects: Mutex::default() }))
    }

    /// The address space as an IOAS.
    pub fn ioas(&self, space: &Space) -> u32 {
        let mut objects = self.0.objects.lock();
        objects.last += 1;
        let id = objects.last;
        objects.ioases.insert(id, space.clone());
        id
    }

    /// A page table of an IOAS, with entries of up to `entry` bytes; the smallest is exact. Without `dirty` it was not made
    /// for dirty tracking.
    ///
    /// # Panics
    /// If there is no such IOAS.
    pub fn hwpt(&self, ioas: u32, entry: u64, dirty: bool) -> u32 {
        let mut objects = self.0.objects.lock();
        objects.last += 1;
        let (id, space) = (objects.last, objects.ioases[&ioas].clone());
        let most = (entry / PAGE).next_power_of_two();
        space.tables().hwpts.insert(id, Hwpt { on: false, most, dirty: BTreeSet::new() });
        objects.hwpts.insert(id, (space, dirty));
        id
    }

    /// The device's DMA goes through this page table from here on.
    ///
    /// # Panics
    /// If there is no such page table.
    pub fn attach(&self, device: &Device, hwpt: u32) {
        let space = self.0.objects.lock().hwpts[&hwpt].0.clone();
        attach::through(device, space, Some(hwpt));
    }

    /// Its judge and its faults.
    pub fn watch(&self) -> &Watch {
        &self.0.watch
    }

    /// Whether a page table tracks.
    pub fn tracking(&self, hwpt: u32) -> bool {
        let space = self.0.objects.lock().hwpts.get(&hwpt).map(|(space, _)| space.clone());
        space.is_some_and(|space| space.tables().hwpts.get(&hwpt).is_some_and(|table| table.on))
    }

    /// I10: the size, and that the memory is as long as it says (P6).
    fn size(&self, argument: &[u8], least: usize) -> Result<(), i32> {
        let size = u32_at(argument, 0) as usize;
        if size < least || size > argument.len() {
            return self.0.watch.refuse("I10", format!("size {size} in {} bytes", argument.len()), libc::EINVAL);
        }
        Ok(())
    }

    /// The page table, which was made for dirty tracking.
    fn table(&self, id: u32) -> Result<Space, i32> {
        match self.0.objects.lock().hwpts.get(&id) {
            None => self.0.watch.refuse("I2", format!("page table {id} is none"), libc::ENOENT),
            Some((_, false)) => Err(libc::EOPNOTSUPP),
            Some((space, true)) => Ok(space.clone()),
        }
    }

    /// {u32 size, u32 flags, u32 hwpt_id, u32 reserved} (I2).
    fn set_dirty(&self, argument: &[u8]) -> Result<(), i32> {
        let watch = &self.0.watch;
        watch.begin(Access::HwptSetDirty)?;
        self.size(argument, 16)?;
        let (flags, id) = (u32_at(argument, 4), u32_at(argument, 8));
        if flags & !ENABLE != 0 || u32_at(argument, 12) != 0 {
            return watch.refuse("I2", format!("SET_DIRTY_TRACKING with flags {flags:#x}"), libc::EOPNOTSUPP);
        }
        let space = self.table(id)?;
        let mut tables = space.tables();
        let table = tables.hwpts.get_mut(&id).ok_or(libc::ENOENT)?;
        if flags == ENABLE {
            if table.on {
                watch.record("I2", format!("page table {id} was enabled again: what it knew is lost"));
            }
            table.dirty.clear();
        }
        table.on = flags == ENABLE;
        Ok(())
    }

    /// {u32 size, u32 hwpt_id, u32 flags, u32 reserved, u64 iova, u64 length, u64 page_size, u64 data*} (I3 to I9).
    fn get_dirty(&self, argument: &[u8]) -> Result<(), i32> {
        let watch = &self.0.watch;
        let effect = watch.begin(Access::HwptGetDirty)?;
        self.size(argument, 48)?;
        let (id, flags) = (u32_at(argument, 4), u32_at(argument, 8));
        let (iova, length, page) = (u64_at(argument, 16), u64_at(argument, 24), u64_at(argument, 32));
        let address = u64_at(argument, 40);
        if flags & !NO_CLEAR != 0 || u32_at(argument, 12) != 0 {
            return watch.refuse("I3", format!("GET_DIRTY_BITMAP with flags {flags:#x}"), libc::EOPNOTSUPP);
        }
        let space = self.table(id)?;
        let odd = |value: u64| value % self.0.config.alignment != 0 || value % page != 0;
        if !page.is_power_of_two() || length == 0 || odd(iova) || odd(length) {
            let text = format!("GET_DIRTY_BITMAP of {iova:#x} + {length:#x} with pages of {page:#x}");
            return watch.refuse("I3", text, libc::EINVAL);
        }
        let Some(last) = iova.checked_add(length - 1) else {
            return watch.refuse("I3", format!("{iova:#x} + {length:#x} is beyond 2^64"), libc::EOVERFLOW);
        };
        let mut tables = space.tables();
        let (first, last_page) = (iova / PAGE, last / PAGE);
        let mut judge = Judge::default();
        if tables.cuts(first, last_page) {
            judge.record("I5", format!("GET_DIRTY_BITMAP of {iova:#x} + {length:#x} cuts a mapping"));
        }
        // Where nothing at all is mapped nothing is missed.
        if let Some(hole) = tables.hole(first, last_page).filter(|_| tables.pieces(first, last_page).next().is_some()) {
            judge.record("I4", format!("GET_DIRTY_BITMAP of {iova:#x} + {length:#x}: page {hole:#x} is not mapped"));
        }
        let found = match tables.hwpts.get(&id) {
            Some(table) if table.on => walk(&tables, table, self.0.config.kernel, (first, last_page)),
            _ => {
                judge.record("I4", format!("page table {id} is read while it does not track"));
                Vec::new()
            }
        };
        let moved = moved(effect);
        let reported = if moved.is_some() { found.len() / 2 } else { found.len() };
        let mut bitmap = IovaBitmap::new(iova, last, page, address);
        for record in &found[..reported] {
            bitmap.record(record.first * PAGE, (record.first + (record.pages - 1)) * PAGE + (PAGE - 1));
        }
        if bitmap.write(Report::Adds, &mut judge).is_err() {
            // I7: no error.
            judge.record("I7", "the bitmap cannot be written: its bits are lost");
        }
        watch.add(judge);
        if let Some(table) = tables.hwpts.get_mut(&id).filter(|_| flags & NO_CLEAR == 0) {
            for record in found {
                table.dirty.remove(&record.entry);
            }
        }
        moved.map_or(Ok(()), Err)
    }

    /// {u32 size, u32 ioas_id, u64 iova, u64 length}, whole mappings; the length comes back (I9).
    fn unmap(&self, argument: &mut [u8]) -> Result<(), i32> {
        let watch = &self.0.watch;
        let effect = watch.begin(Access::IoasUnmap)?;
        self.size(argument, 24)?;
        let (id, iova, length) = (u32_at(argument, 4), u64_at(argument, 8), u64_at(argument, 16));
        let Some(space) = self.0.objects.lock().ioases.get(&id).cloned() else {
            return watch.refuse("I9", format!("IOAS {id} is none"), libc::ENOENT);
        };
        if length == 0 || (length != u64::MAX && (iova | length) % self.0.config.alignment != 0) {
            return watch.refuse("I9", format!("IOAS_UNMAP of {iova:#x} + {length:#x}"), libc::EINVAL);
        }
        let all = iova == 0 && length == u64::MAX;
        let Some(last) = (if all { Some(u64::MAX) } else { iova.checked_add(length - 1) }) else {
            return watch.refuse("I9", format!("{iova:#x} + {length:#x} is beyond 2^64"), libc::EOVERFLOW);
        };
        let (first, last) = (iova / PAGE, last / PAGE);
        let mut tables = space.tables();
        if tables.cuts(first, last) {
            return watch.refuse("I9", format!("IOAS_UNMAP of {iova:#x} + {length:#x} cuts a mapping"), libc::ENOENT);
        }
        let pieces: Vec<(u64, Piece)> = tables.pieces(first, last).collect();
        if pieces.is_empty() && !all {
            return Err(libc::ENOENT);
        }
        if let Some(errno) = moved(effect) {
            for (at, piece) in &pieces[..pieces.len().div_ceil(2)] {
                tables.remove(*at, at + (piece.pages - 1));
            }
            return Err(errno);
        }
        let removed = tables.remove(first, last);
        put(argument, 16, &lie(effect, removed).to_ne_bytes());
        Ok(())
    }
}

impl api::Iommufd for Iommufd {
    fn identity(&self) -> Option<Identity> {
        Some(Identity::of(&self.0))
    }

    fn set_dirty_tracking(&self, argument: &mut [u8]) -> Result<(), Errno> {
        self.set_dirty(argument).map_err(Errno::new)
    }

    unsafe fn get_dirty_bitmap(&self, argument: &mut [u8]) -> Result<(), Errno> {
        self.get_dirty(argument).map_err(Errno::new)
    }

    fn ioas_unmap(&self, argument: &mut [u8]) -> Result<(), Errno> {
        self.unmap(argument).map_err(Errno::new)
    }
}
