//! What the device says of itself, and its regions: BAR 0 with the registers, BAR 2 onto its state, the configuration space, and
//! the migration region of v1.

use super::answer::Answer;
use super::connection::Connection;
use super::pci::{CONFIG, STATE_BAR};
use super::quirks::Quirk;
use super::registers::Bell;
use super::wire::rule;
use crate::base::bytes::{put, u32_at, u64_at};
use crate::dialects::{BAR, MIGRATION_REGION};
use vfiomig::dialect::State;

/// Of struct vfio_region_info.
const INFO: usize = 32;
/// Longest description of a region.
const MOST_INFO: usize = 4096;
const FLAG_RW: u32 = 3;
const FLAG_MMAP: u32 = 4;

impl Connection<'_> {
    /// {u32 argsz, flags, num_regions, num_irqs}
    pub(super) fn device_info(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        if payload.len() < 16 || u32_at(payload, 0) < 16 {
            return self.refuse(rule::MESSAGE, format!("GET_INFO of {} bytes", payload.len()), libc::EINVAL);
        }
        let mut info = [0; 16];
        self.device().device_info(&mut info)?;
        put(&mut info, 0, &16u32.to_ne_bytes());
        Ok(info.to_vec().into())
    }

    /// struct vfio_region_info and its capabilities, with a descriptor where all of them fit.
    pub(super) fn region_info(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let (argsz, index) = (u32_at(payload, 0) as usize, u32_at(payload, 8));
        if payload.len() < INFO || argsz < INFO {
            return self.refuse(rule::REGION_INFO, format!("GET_REGION_INFO with argsz {argsz}"), libc::EINVAL);
        }
        let mut info = vec![0; argsz.min(MOST_INFO)];
        put(&mut info, 8, &index.to_ne_bytes());
        self.device().region_info(&mut info)?;
        // No region but the migration region is in a file, and that is one of its own.
        put(&mut info, 24, &0u64.to_ne_bytes());
        if matches!(index, CONFIG | STATE_BAR) {
            put(&mut info, 4, &FLAG_RW.to_ne_bytes());
            put(&mut info, 16, &self.function.size(index).to_ne_bytes());
        }
        let needed = u32_at(&info, 0) as usize;
        let fits = needed <= info.len();
        info.truncate(needed.max(INFO));
        let mut fds = Vec::new();
        if fits && u32_at(&info, 4) & FLAG_MMAP != 0 {
            let empty = self.options().quirks.has(Quirk::EmptyWindow);
            fds.extend(self.device().share_region(empty));
        }
        Ok(Answer { payload: info, fds })
    }

    /// {u64 offset, u32 region, u32 count}; what is wrong with the head of an access is refused.
    fn access(&mut self, payload: &[u8], what: &str, data: bool) -> Result<(u64, u32, usize), i32> {
        let (offset, region, count) = (u64_at(payload, 0), u32_at(payload, 8), u32_at(payload, 12) as usize);
        let most = self.options().max_data_xfer_size as usize;
        let given = payload.len().checked_sub(16);
        if count > most {
            return self.refuse(
                rule::AGREED,
                format!("{what} of {count} bytes: max_data_xfer_size is {most}"),
                libc::EINVAL,
            );
        }
        if given.is_none_or(|given| given < if data { count } else { 0 }) {
            let text = format!("{what} of {count} bytes in a payload of {}", payload.len());
            return self.refuse(rule::MESSAGE, text, libc::EINVAL);
        }
        let narrow = self.options().quirks.has(Quirk::NarrowWhileStopped) && region != MIGRATION_REGION;
        if narrow && self.device().state() == State::StopCopy {
            return Err(libc::EINVAL);
        }
        Ok((offset, region, count))
    }

    pub(super) fn region_read(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let (offset, region, count) = self.access(payload, "REGION_READ", false)?;
        let mut answer = payload.get(..16).unwrap_or_default().to_vec();
        answer.resize(16 + count, 0);
        let (_, data) = answer.split_at_mut(16);
        let mut moved = count;
        match region {
            _ if count == 0 => {}
            CONFIG => self.function.read(offset, data)?,
            STATE_BAR => self.server.device.bar_read(self.function.size(region), offset, data)?,
            BAR => {
                self.server.device.region_read(region, offset, data)?;
                self.registers.read(offset, data);
            }
            _ => moved = self.server.device.region_read(region, offset, data)?,
        }
        put(&mut answer, 12, &(moved as u32).to_ne_bytes());
        answer.truncate(16 + moved);
        Ok(answer.into())
    }

    pub(super) fn region_write(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let (offset, region, count) = self.access(payload, "REGION_WRITE", true)?;
        let data = payload.get(16..16 + count).unwrap_or_default();
        let mut moved = count;
        match region {
            _ if count == 0 => {}
            CONFIG => self.function.write(offset, data)?,
            STATE_BAR => self.device().bar_write(self.function.size(region), offset, data)?,
            BAR => {
                self.device().region_write(region, offset, data)?;
                if let Some(bell) = self.registers.write(offset, data) {
                    self.ring(bell);
                }
            }
            _ => moved = self.device().region_write(region, offset, data)?,
        }
        let mut answer = payload.get(..16).unwrap_or_default().to_vec();
        put(&mut answer, 12, &(moved as u32).to_ne_bytes());
        Ok(answer.into())
    }

    /// A register was written that makes the device do something. A device tells by a register what came of it.
    fn ring(&mut self, bell: Bell) {
        let result = match bell {
            Bell::WritePages { page, count } => self.write_pages(page, count),
            Bell::ReadPages { page, count } => self.read_pages(page, count).map(|sum| self.registers.sum = sum),
            Bell::Interrupt(number) => {
                self.interrupts.raise_any(number);
                Ok(())
            }
        };
        self.registers.result = result.err().unwrap_or(0);
    }

    /// {u64 count} and entries {u64 offset, u32 region, u32 count, u64 data}.
    pub(super) fn write_multi(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let entries = payload.get(8..).unwrap_or_default().chunks_exact(24);
        let count = u64_at(payload, 0);
        if count != entries.len() as u64 {
            let text = format!("WRITE_MULTI of {count} writes in a payload of {}", payload.len());
            return self.refuse(rule::MESSAGE, text, libc::EINVAL);
        }
        for entry in entries {
            if u32_at(entry, 12) > 8 {
                return self.refuse(
                    rule::MESSAGE,
                    "WRITE_MULTI with a write of more than 8 bytes".into(),
                    libc::EINVAL,
                );
            }
            self.region_write(entry)?;
        }
        Ok(count.to_ne_bytes().to_vec().into())
    }
}
