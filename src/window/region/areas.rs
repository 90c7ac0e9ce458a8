//! Which parts of the region are mapped, and which are reached by trapped access.

use crate::dialect::registers::Registers;
use crate::log::log;
use crate::transport::{Area, Transport};
use crate::window::mmap::MappedArea;

/// Most areas that are mapped: each costs the process one of its mappings, of which Linux gives it 65530, and each access a
/// step of a search. The largest ones are taken.
const MAX_MAPPED: usize = 64;

/// Which memory the bytes from some offset on are in, and how many of them.
pub(super) enum AreaAccess<'a> {
    Mapped(&'a MappedArea, usize),
    Trapped(usize),
}

/// The mapped areas, sorted by offset; `None` before a session first opened.
pub(super) struct Areas(Option<Vec<MappedArea>>);

impl Areas {
    pub fn new() -> Self {
        Areas(None)
    }

    /// What cannot be mapped is trapped; that is slower, never wrong.
    pub fn map(&mut self, name: &str, transport: &dyn Transport, registers: &Registers, no_mmap: bool) {
        if self.0.is_some() {
            return;
        }
        if let Some(text) = &registers.region.bad_areas {
            log!(Warning, "{name}: the migration region cannot be mapped ({text}): trapped access");
        }
        let mut wanted: Vec<Area> = registers.region.areas.iter().copied().filter(|area| area.size > 0).collect();
        if no_mmap {
            wanted.clear();
        }
        if wanted.len() > MAX_MAPPED {
            let count = wanted.len();
            log!(Warning, "{name}: {count} areas of the migration region can be mapped, the {MAX_MAPPED} largest are");
            wanted.sort_by_key(|area| std::cmp::Reverse(area.size));
            wanted.truncate(MAX_MAPPED);
        }
        let mut mappings = Vec::new();
        for area in wanted {
            match MappedArea::new(transport, registers.region.index, area) {
                Ok(mapping) => mappings.push(mapping),
                Err(errno) => log!(
                    Warning,
                    "{name}: area {:#x}+{:#x} of the migration region cannot be mapped ({errno}): trapped access",
                    area.offset,
                    area.size
                ),
            }
        }
        mappings.sort_by_key(MappedArea::offset);
        self.0 = Some(mappings);
    }

    /// Gives all mappings back.
    pub fn unmap(&mut self) {
        self.0 = None;
    }

    pub fn is_mapped(&self) -> bool {
        self.0.as_ref().is_some_and(|mappings| !mappings.is_empty())
    }

    /// Where up to `len` bytes from `at` on are; cut at the next edge between mapped and trapped.
    pub fn place(&self, at: u64, len: u64) -> AreaAccess<'_> {
        let clamp = |len: u64| usize::try_from(len).unwrap_or(usize::MAX);
        for mapping in self.0.iter().flatten() {
            if at < mapping.offset() {
                return AreaAccess::Trapped(clamp(len.min(mapping.offset().saturating_sub(at))));
            }
            if at < mapping.end() {
                return AreaAccess::Mapped(mapping, clamp(len.min(mapping.end().saturating_sub(at))));
            }
        }
        AreaAccess::Trapped(clamp(len))
    }
}
