//! The dirty log of v1: DIRTY_PAGES, and the bitmap that DMA_UNMAP brings.

use super::answer::Answer;
use super::connection::Connection;
use super::quirks::Quirk;
use super::wire::rule;
use crate::base::bytes::{put, u32_at, u64_at};
use crate::base::memory::PAGE;
use crate::machine::Access;

const START: u32 = 1;
const STOP: u32 = 2;
const GET: u32 = 4;

/// {u32 argsz, flags}
const HEAD: usize = 8;
/// {u64 iova, size, pgsize, bitmap_size} behind the head.
const ASKED: usize = HEAD + 32;

impl Connection<'_> {
    /// Whether DMA regions have bitmaps here.
    pub(super) fn bitmaps_of_regions(&self) -> bool {
        let v1 = self.options().migratable && !self.migrates_v2();
        v1 || self.options().quirks.has(Quirk::BitmapOfUnmap)
    }

    pub(super) fn dirty_pages(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let (argsz, flags) = (u32_at(payload, 0) as usize, u32_at(payload, 4));
        if !self.options().migratable || self.migrates_v2() {
            return Err(libc::EINVAL);
        }
        if payload.len() < HEAD || argsz < HEAD {
            return self.refuse(
                rule::DIRTY_PAGES,
                format!("DIRTY_PAGES of {} bytes, argsz {argsz}", payload.len()),
                libc::EINVAL,
            );
        }
        match flags {
            START => {
                self.device().note(Access::DmaLogStart)?;
                self.log.start(PAGE)?;
                Ok(Answer::empty())
            }
            STOP => {
                self.device().note(Access::DmaLogStop)?;
                self.log.stop();
                Ok(Answer::empty())
            }
            GET => self.dirty_bitmap(payload, argsz),
            _ => self.refuse(rule::DIRTY_PAGES, format!("DIRTY_PAGES with flags {flags:#x}"), libc::EINVAL),
        }
    }

    /// The bitmap comes behind what was asked. Where argsz has no room for it, only the argsz that it needs.
    fn dirty_bitmap(&mut self, payload: &[u8], argsz: usize) -> Result<Answer, i32> {
        self.device().note(Access::DmaLogReport)?;
        if payload.len() < ASKED {
            return self.refuse(
                rule::DIRTY_PAGES,
                format!("DIRTY_PAGES, GET of {} bytes", payload.len()),
                libc::EINVAL,
            );
        }
        let (iova, size, page, room) =
            (u64_at(payload, 8), u64_at(payload, 16), u64_at(payload, 24), u64_at(payload, 32));
        if page != PAGE || size == 0 || size % PAGE != 0 || iova.checked_add(size).is_none() {
            let text = format!("DIRTY_PAGES, GET of {iova:#x} + {size:#x} in pages of {page}");
            return self.refuse(rule::DIRTY_PAGES, text, libc::EINVAL);
        }
        let bytes = (size / PAGE).div_ceil(64) * 8;
        let whole = ASKED as u64 + bytes;
        if room < bytes || whole > u64::from(self.options().max_data_xfer_size) {
            return self.refuse(
                rule::DIRTY_PAGES,
                format!("DIRTY_PAGES, GET with a bitmap of {room} bytes for {bytes}"),
                libc::EINVAL,
            );
        }
        let mut answer = payload.get(..ASKED).unwrap_or_default().to_vec();
        put(&mut answer, 0, &(whole as u32).to_ne_bytes());
        if (argsz as u64) < whole {
            answer.truncate(HEAD);
            return Ok(answer.into());
        }
        // Of a region only, and all of it.
        if self.memory.at(iova).is_some_and(|region| region.size != size) {
            return Err(libc::ENOTSUP);
        }
        answer.extend(self.report_region(iova, size, page)?);
        Ok(answer.into())
    }

    /// {u64 pgsize, size} and the bitmap.
    pub(super) fn bitmap_of_unmap(&mut self, payload: &[u8]) -> Result<Vec<u8>, i32> {
        let (iova, size) = (u64_at(payload, 8), u64_at(payload, 16));
        let (page, room, argsz) = (u64_at(payload, 24), u64_at(payload, 32), u64::from(u32_at(payload, 0)));
        let bytes = size.div_ceil(PAGE).div_ceil(64) * 8;
        if payload.len() < 40 || page != PAGE || room < bytes || argsz < 40 + bytes {
            let text = format!("DMA_UNMAP with a bitmap of {room} bytes, pages of {page}, argsz {argsz}");
            return self.refuse(rule::DIRTY_PAGES, text, libc::EINVAL);
        }
        if self.memory.at(iova).is_none_or(|region| region.size != size) {
            return self.refuse(rule::MEMORY, format!("DMA_UNMAP of {iova:#x} + {size:#x} is no region"), libc::ENOENT);
        }
        let bitmap = self.report_region(iova, size, page)?;
        Ok([payload.get(24..40).unwrap_or_default(), &bitmap].concat())
    }
}
