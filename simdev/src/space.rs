//! One address space: what is mapped where, the devices' writes that go through it, and the logs that see them.

use crate::dma::PAGE;
use crate::iommufd::Hwpt;
use crate::ram::Ram;
use crate::type1;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A mapping, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address that devices use.
    pub iova: u64,
    /// Length.
    pub size: u64,
    /// Where it is in guest RAM.
    pub ram: u64,
}

/// An address space; clones are the same. Several may map the same RAM.
#[derive(Clone)]
pub struct Space(Arc<Inner>);

struct Inner {
    ram: Ram,
    tables: Mutex<Tables>,
}

/// All under one lock: a write is in RAM and in every log, or in none.
#[derive(Default)]
pub(crate) struct Tables {
    maps: BTreeMap<u64, Piece>,
    written: BTreeSet<u64>,
    refused: u64,
    pub type1: type1::Log,
    pub hwpts: BTreeMap<u32, Hwpt>,
}

/// A mapping, in pages; its first is the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub pages: u64,
    ram: u64,
}

impl Space {
    /// Nothing is mapped.
    pub fn new(ram: &Ram) -> Self {
        Space(Arc::new(Inner { ram: ram.clone(), tables: Mutex::default() }))
    }

    /// The RAM behind it.
    pub fn ram(&self) -> &Ram {
        &self.0.ram
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.tables.lock()
    }

    /// As the kernel maps: EINVAL for what is no range of whole pages, EEXIST where something is mapped.
    pub fn map(&self, mapping: Mapping) -> Result<(), i32> {
        let Mapping { iova, size, ram } = mapping;
        let last = |start: u64| start.checked_add(size.checked_sub(1)?);
        if (iova | size | ram) % PAGE != 0 || last(iova).is_none() || last(ram).is_none() {
            return Err(libc::EINVAL);
        }
        let (first, pages) = (iova / PAGE, size / PAGE);
        let mut tables = self.tables();
        if tables.pieces(first, first + pages - 1).next().is_some() {
            return Err(libc::EEXIST);
        }
        tables.maps.insert(first, Piece { pages, ram: ram / PAGE });
        Ok(())
    }

    /// Takes away what is mapped there, whole mappings only: ENOENT for a range that cuts one. Returns the bytes.
    pub fn unmap(&self, iova: u64, size: u64) -> Result<u64, i32> {
        let (first, last) = pages_of(iova, size).ok_or(libc::EINVAL)?;
        let mut tables = self.tables();
        if tables.cuts(first, last) {
            return Err(libc::ENOENT);
        }
        Ok(tables.remove(first, last))
    }

    /// In order of address.
    pub fn mappings(&self) -> Vec<Mapping> {
        let whole = |(first, piece): (&u64, &Piece)| Mapping {
            iova: first * PAGE,
            size: piece.pages * PAGE,
            ram: piece.ram * PAGE,
        };
        self.tables().maps.iter().map(whole).collect()
    }

    /// The page of RAM behind a page.
    pub fn ram_page(&self, page: u64) -> Option<u64> {
        self.tables().ram_page(page)
    }

    /// The pages written since this was called last, by address.
    pub fn take_written(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.tables().written)
    }

    /// Writes refused because nothing was mapped.
    pub fn refused(&self) -> u64 {
        self.tables().refused
    }

    /// A device's write, through a page table of the iommufd or without.
    pub(crate) fn write(&self, page: u64, hwpt: Option<u32>) -> Result<(), i32> {
        let mut tables = self.tables();
        let Some(piece) = tables.piece(page) else {
            tables.refused += 1;
            return Err(libc::EFAULT);
        };
        self.0.ram.write(piece.1.ram_page(piece.0, page));
        tables.written.insert(page);
        tables.type1.write(page);
        if let Some(table) = hwpt.and_then(|id| tables.hwpts.get_mut(&id)) {
            table.write(page, piece);
        }
        MutexGuard::unlock_fair(tables);
        Ok(())
    }
}

impl Piece {
    fn ram_page(&self, first: u64, page: u64) -> u64 {
        self.ram + (page - first)
    }
}

/// First and last page.
pub(crate) fn pages_of(iova: u64, size: u64) -> Option<(u64, u64)> {
    let last = iova.checked_add(size.checked_sub(1)?)?;
    ((iova | size) % PAGE == 0).then_some((iova / PAGE, last / PAGE))
}

impl Tables {
    /// The mappings that `first..=last` touches, as (first page, mapping).
    pub fn pieces(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, Piece)> + '_ {
        let before = self.maps.range(..first).next_back().filter(move |(at, piece)| *at + piece.pages > first);
        before.into_iter().chain(self.maps.range(first..=last)).map(|(at, piece)| (*at, *piece))
    }

    /// The mapping of a page.
    pub fn piece(&self, page: u64) -> Option<(u64, Piece)> {
        self.pieces(page, page).next()
    }

    /// Whether an end of the range lies inside a mapping.
    pub fn cuts(&self, first: u64, last: u64) -> bool {
        self.pieces(first, last).any(|(at, piece)| at < first || at + piece.pages - 1 > last)
    }

    /// The first page of the range that is not mapped.
    pub fn hole(&self, first: u64, last: u64) -> Option<u64> {
        let mut next = first;
        for (at, piece) in self.pieces(first, last) {
            if at > next {
                break;
            }
            next = at + piece.pages;
        }
        (next <= last).then_some(next)
    }

    /// Whole mappings, with what logs know of them. Returns the bytes.
    pub fn remove(&mut self, first: u64, last: u64) -> u64 {
        let gone: Vec<(u64, Piece)> = self.pieces(first, last).collect();
        for (at, piece) in &gone {
            self.maps.remove(at);
            let last = at + (piece.pages - 1);
            self.type1.remove(*at, last);
            self.hwpts.values_mut().for_each(|table| table.remove(*at, last));
        }
        gone.iter().map(|(_, piece)| piece.pages * PAGE).sum()
    }

    fn ram_page(&self, page: u64) -> Option<u64> {
        self.piece(page).map(|(at, piece)| piece.ram_page(at, page))
    }
}
