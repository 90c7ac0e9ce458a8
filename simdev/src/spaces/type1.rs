//! A type1 container: its log of written pages, and the unmap that reads it (T1 to T9).

use super::piece::{Piece, pages_of};
use super::space::Space;
use super::tables::Tables;
use super::watch::Watch;
use crate::base::bytes::{put, u32_at, u64_at};
use crate::base::memory::PAGE;
use crate::base::user;
use crate::config::Kernel;
use crate::machine::{Access, Effect, lie, moved};
use std::collections::BTreeSet;
use std::sync::Arc;
use vfiomig::error::Errno;
use vfiomig::transport::Identity;
use vfiomig::transport::type1::Container;

const INFO_SIZE: usize = 24;
const FLAG_PGSIZES: u32 = 1;
const FLAG_CAPS: u32 = 1 << 1;
const CAP_MIGRATION: u16 = 2;
const CAP_DMA_AVAIL: u16 = 3;
const START: u32 = 1;
const STOP: u32 = 1 << 1;
const GET: u32 = 1 << 2;
const UNMAP_GET: u32 = 1;
const UNMAP_ALL: u32 = 1 << 1;
const UNMAP_VADDR: u32 = 1 << 2;
/// T2.
const MOST_PAGES: u64 = i32::MAX as u64;

/// What a container is like.
#[derive(Clone, Copy, Debug)]
pub struct Type1Config {
    /// Smallest page of the IOMMU, and the one that bitmaps have.
    pub page_size: u64,
    /// Longest bitmap, in bytes.
    pub max_bitmap: u64,
    /// Whether it keeps a log at all (T1).
    pub migration: bool,
    /// TYPE1v2; else there is no log to ask for, though the capability tells of one (T2).
    pub v2: bool,
    /// A device without pinned-page scope is in it: every mapped page is dirty at every read (T5).
    pub perpetual: bool,
    /// Whose errno and ends of ranges.
    pub kernel: Kernel,
}

impl Default for Type1Config {
    fn default() -> Self {
        let kernel = Kernel::V6_12;
        Type1Config { page_size: PAGE, max_bitmap: 256 << 20, migration: true, v2: true, perpetual: false, kernel }
    }
}

/// A container over an address space; clones are the same.
#[derive(Clone)]
pub struct Type1(Arc<Inner>);

struct Inner {
    space: Space,
    config: Type1Config,
    watch: Watch,
}

/// {u64 pgsize, u64 size, u64 data*}
struct Bitmap {
    page: u64,
    bytes: u64,
    address: u64,
}

impl Bitmap {
    fn at(argument: &[u8], at: usize) -> Self {
        Bitmap { page: u64_at(argument, at), bytes: u64_at(argument, at + 8), address: u64_at(argument, at + 16) }
    }
}

impl Type1 {
    /// A container of the devices in `space`.
    pub fn new(space: &Space, config: Type1Config) -> Self {
        Type1(Arc::new(Inner { space: space.clone(), config, watch: Watch::default() }))
    }

    /// Its judge and its faults.
    pub fn watch(&self) -> &Watch {
        &self.0.watch
    }

    /// Whether the log is on.
    pub fn logging(&self) -> bool {
        self.0.space.tables().type1.on
    }

    /// A device pins a page: it may write there at any time, so the page is dirty at every read (T5). EFAULT where nothing is
    /// mapped.
    pub fn pin(&self, page: u64) -> Result<(), i32> {
        let mut tables = self.0.space.tables();
        tables.piece(page).ok_or(libc::EFAULT)?;
        tables.type1.pinned.insert(page);
        tables.type1.write(page);
        Ok(())
    }

    /// Undoes a `pin`; the next read still tells of the page.
    pub fn unpin(&self, page: u64) {
        self.0.space.tables().type1.pinned.remove(&page);
    }

    /// argsz, and that the memory is as long as it says (P6).
    fn argsz(&self, argument: &[u8], least: usize) -> Result<(), i32> {
        let argsz = u32_at(argument, 0) as usize;
        if argsz < least || argsz > argument.len() {
            return self.0.watch.refuse("P6", format!("argsz {argsz} in {} bytes", argument.len()), libc::EINVAL);
        }
        Ok(())
    }

    fn get_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.0.watch.begin(Access::Type1Info)?;
        self.argsz(info, 16)?;
        let config = &self.0.config;
        let mut caps = Vec::new();
        let mut cap = |id: u16, version: u16, payload: &[u64]| {
            let (at, size) = (INFO_SIZE + caps.len(), 8 + payload.len() * 8);
            caps.extend(id.to_ne_bytes());
            caps.extend(version.to_ne_bytes());
            caps.extend(((at + size) as u32).to_ne_bytes());
            payload.iter().for_each(|word| caps.extend(word.to_ne_bytes()));
        };
        if config.migration {
            cap(CAP_MIGRATION, 1, &[0, config.page_size, config.max_bitmap]);
        }
        cap(CAP_DMA_AVAIL, 1, &[0xffff]);
        // The last one has no next.
        let last = caps.len() - 12;
        put(&mut caps, last, &0u32.to_ne_bytes());
        let (needed, argsz) = (INFO_SIZE + caps.len(), u32_at(info, 0) as usize);
        put(info, 4, &(FLAG_PGSIZES | FLAG_CAPS).to_ne_bytes());
        put(info, 8, &config.page_size.wrapping_neg().to_ne_bytes());
        // P7: the flag tells of capabilities, though there is no room for them yet.
        let fits = argsz >= needed;
        put(info, 0, &(argsz.max(needed) as u32).to_ne_bytes());
        put(info, 16, &(if fits { INFO_SIZE as u32 } else { 0 }).to_ne_bytes());
        if fits {
            put(info, INFO_SIZE, &caps);
        }
        Ok(())
    }

    fn dirty_pages(&self, argument: &[u8]) -> Result<(), i32> {
        let flags = u32_at(argument, 4);
        let access = match flags {
            START => Access::Type1Start,
            STOP => Access::Type1Stop,
            GET => Access::Type1Get,
            _ => Access::OddAccess,
        };
        let watch = &self.0.watch;
        let effect = watch.begin(access)?;
        if !self.0.config.v2 {
            return Err(libc::EACCES);
        }
        self.argsz(argument, if flags == GET { 48 } else { 8 })?;
        match access {
            Access::Type1Start => self.start(),
            Access::Type1Stop => {
                let log = &mut self.0.space.tables().type1;
                log.on = false;
                log.dirty.clear();
                log.strays.clear();
                Ok(())
            }
            Access::Type1Get => self.get_bitmap(argument, effect),
            _ => watch.refuse("T2", format!("DIRTY_PAGES with flags {flags:#x}"), libc::EINVAL),
        }
    }

    /// A second one changes nothing (T2).
    fn start(&self) -> Result<(), i32> {
        let mut tables = self.0.space.tables();
        let limit = MOST_PAGES * (self.0.config.page_size / PAGE);
        if tables.pieces(0, u64::MAX).any(|(_, piece)| piece.pages > limit) {
            return Err(libc::EINVAL);
        }
        let log = &mut tables.type1;
        if !log.on {
            log.on = true;
            log.dirty = log.pinned.clone();
        }
        Ok(())
    }

    /// The bitmap of a request over so many bytes: its page size, its length, its memory (T3, T4).
    fn check_bitmap(&self, rule: &'static str, bitmap: &Bitmap, size: u64) -> Result<(), i32> {
        let Type1Config { page_size, max_bitmap, .. } = self.0.config;
        let watch = &self.0.watch;
        if bitmap.page != page_size {
            return watch.refuse(rule, format!("a bitmap with pages of {:#x}", bitmap.page), libc::EINVAL);
        }
        let needed = (size / page_size).div_ceil(64) * 8;
        if bitmap.bytes < needed || bitmap.bytes > max_bitmap {
            return watch.refuse(rule, format!("a bitmap of {} bytes for {needed}", bitmap.bytes), libc::EINVAL);
        }
        let mut words = vec![0; (needed / 8) as usize];
        if user::read_words(bitmap.address, &mut words).is_ok() && words.iter().any(|&word| word != 0) {
            watch.record("T4", "the bitmap is not zero before the request");
        }
        Ok(())
    }

    /// First and last page of a range. Older kernels take none that ends at 2^64, and have EINVAL for all of it (T3, T8).
    fn range(&self, rule: &'static str, iova: u64, size: u64) -> Result<(u64, u64), i32> {
        let kernel = self.0.config.kernel;
        let overflow = if kernel == Kernel::V6_12 { libc::EINVAL } else { libc::EOVERFLOW };
        if size != 0 && iova.checked_add(size - 1).is_none() {
            return self.0.watch.refuse(rule, format!("{iova:#x} + {size:#x} is beyond 2^64"), overflow);
        }
        if (iova | size) % self.0.config.page_size != 0 {
            return self.0.watch.refuse(rule, format!("{iova:#x} + {size:#x} is not aligned"), libc::EINVAL);
        }
        let Some((first, last)) = pages_of(iova, size) else {
            return self.0.watch.refuse(rule, format!("{iova:#x} + {size:#x} is no range"), libc::EINVAL);
        };
        if kernel == Kernel::V6_12 && iova.checked_add(size).is_none() {
            return Err(libc::EINVAL);
        }
        Ok((first, last))
    }

    fn get_bitmap(&self, argument: &[u8], effect: Option<Effect>) -> Result<(), i32> {
        let (iova, size, bitmap) = (u64_at(argument, 8), u64_at(argument, 16), Bitmap::at(argument, 24));
        let watch = &self.0.watch;
        let mut tables = self.0.space.tables();
        if !tables.type1.on {
            return watch.refuse("T3", "GET_BITMAP although nothing was started", libc::EINVAL);
        }
        let (first, last) = self.range("T3", iova, size)?;
        self.check_bitmap("T3", &bitmap, size)?;
        if tables.cuts(first, last) {
            return watch.refuse("T3", format!("GET_BITMAP of {iova:#x} + {size:#x} cuts a mapping"), libc::EINVAL);
        }
        let pieces: Vec<(u64, Piece)> = tables.pieces(first, last).collect();
        let moved = moved(effect);
        let reported = if moved.is_some() { pieces.len() / 2 } else { pieces.len() };
        for (i, piece) in pieces.iter().enumerate() {
            if i < reported {
                self.copy(&mut tables, *piece, iova, bitmap.address)?;
            }
            // T6: mapping by mapping, so an error comes after some were cleared.
            tables.type1.clear(piece.0, piece.0 + (piece.1.pages - 1));
        }
        moved.map_or(Ok(()), Err)
    }

    /// T4: whole words are overwritten. Where a mapping begins within a word, Linux shifts the bits in its own bitmap, ORs what the
    /// client has in that word, and later clears the bits where they were before: those that were shifted past the end stay.
    fn copy(&self, tables: &mut Tables, (start, piece): (u64, Piece), iova: u64, address: u64) -> Result<(), i32> {
        let page = self.0.config.page_size;
        let bits = (piece.pages * PAGE).div_ceil(page);
        let at = (start * PAGE - iova) / page;
        let (address, shift) = (address + at / 64 * 8, at % 64);
        let mut words = vec![0u64; (bits + shift).div_ceil(64) as usize];
        if shift > 0 {
            user::read_words(address, &mut words[..1])?;
        }
        let log = &mut tables.type1;
        let mut set: BTreeSet<u64> = log.strays.remove(&start).unwrap_or_default();
        set.extend(log.dirty.range(start..=start + (piece.pages - 1)).map(|number| (number - start) * PAGE / page));
        if self.0.config.perpetual {
            set.extend(0..bits);
        }
        let set: BTreeSet<u64> = set.into_iter().map(|bit| bit + shift).collect();
        for &bit in &set {
            if let Some(word) = words.get_mut(bit as usize / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        let strays: BTreeSet<u64> = set.range(bits..(bits + shift).next_multiple_of(64)).copied().collect();
        if !strays.is_empty() {
            log.strays.insert(start, strays);
        }
        user::write_words(address, &words)
    }

    fn unmap_dma(&self, argument: &mut [u8]) -> Result<(), i32> {
        let effect = self.0.watch.begin(Access::Type1Unmap)?;
        let (flags, iova, size) = (u32_at(argument, 4), u64_at(argument, 8), u64_at(argument, 16));
        let watch = &self.0.watch;
        let get = flags & UNMAP_GET != 0;
        self.argsz(argument, if get { 48 } else { 24 })?;
        if flags & !(UNMAP_GET | UNMAP_ALL | UNMAP_VADDR) != 0 || (get && flags != UNMAP_GET) {
            return watch.refuse("T7", format!("UNMAP with flags {flags:#x}"), libc::EINVAL);
        }
        if flags & UNMAP_VADDR != 0 {
            return Err(libc::EOPNOTSUPP);
        }
        let mut tables = self.0.space.tables();
        let (first, last) = match (flags & UNMAP_ALL != 0, iova | size) {
            (true, 0) => (0, u64::MAX / PAGE),
            (true, _) => return watch.refuse("T8", "UNMAP of all, of a range", libc::EINVAL),
            (false, _) => self.range("T7", iova, size)?,
        };
        let bitmap = Bitmap::at(argument, 24);
        if get {
            if !tables.type1.on {
                return watch.refuse("T7", "UNMAP with a bitmap although nothing was started", libc::EINVAL);
            }
            self.check_bitmap("T7", &bitmap, size)?;
        }
        if tables.cuts(first, last) {
            // T8: one page less is what an old kernel is asked next for a range that ends at 2^64.
            if last == u64::MAX / PAGE - 1 {
                return Err(libc::EINVAL);
            }
            return watch.refuse("T7", format!("UNMAP of {iova:#x} + {size:#x} cuts a mapping"), libc::EINVAL);
        }
        let pieces: Vec<(u64, Piece)> = tables.pieces(first, last).collect();
        if let Some(errno) = moved(effect) {
            for (at, piece) in &pieces[..pieces.len().div_ceil(2)] {
                tables.remove(*at, at + (piece.pages - 1));
            }
            return Err(errno);
        }
        let mut unmapped = 0;
        for piece in pieces {
            if get {
                // The mapping is gone when its bits cannot be reported (T7).
                let reported = self.copy(&mut tables, piece, iova, bitmap.address);
                unmapped += tables.remove(piece.0, piece.0 + (piece.1.pages - 1));
                reported?;
            } else {
                unmapped += tables.remove(piece.0, piece.0 + (piece.1.pages - 1));
            }
        }
        put(argument, 16, &lie(effect, unmapped).to_ne_bytes());
        Ok(())
    }
}

impl Container for Type1 {
    fn identity(&self) -> Option<Identity> {
        Some(Identity::of(&self.0))
    }

    fn info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.get_info(info).map_err(Errno::new)
    }

    unsafe fn dirty_pages(&self, argument: &mut [u8]) -> Result<(), Errno> {
        Type1::dirty_pages(self, argument).map_err(Errno::new)
    }

    unsafe fn unmap_dma(&self, argument: &mut [u8]) -> Result<(), Errno> {
        Type1::unmap_dma(self, argument).map_err(Errno::new)
    }
}
