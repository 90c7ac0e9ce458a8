//! One address space: what is mapped where, the devices' writes that go through it, and the logs that see them.

use super::piece::{Piece, pages_of};
use super::ram::Ram;
use super::tables::Tables;
use crate::base::memory::PAGE;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeSet;
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
