//! Accesses to the registers of a migration region: what each is, and what it does.

use crate::base::ranges::Ranges;
use crate::machine::{Access, Busy, Effect, Level, Machine, lie, moved, register_path, short};
use parking_lot::MutexGuard;

/// Bits of device_state that are not reserved without NDMA.
const BITS: u32 = 7;

/// What an access of this place and width is.
fn classify(draft: bool, offset: u64, len: usize, write: bool) -> Access {
    match (offset, len, write) {
        (0, 4, false) => Access::StateRead,
        (0, 4, true) => Access::StateWrite,
        (0x08, 8, false) => Access::PendingRead,
        (0x10, 8, false) => Access::DataOffsetRead,
        (0x18, 8, false) => Access::DataSizeRead,
        (0x18, 8, true) => Access::DataSizeWrite,
        (0x20 | 0x28 | 0x30, 8, true) if draft => Access::PfnWrite,
        (0x38, 8, false) if draft => Access::CopiedPfnsRead,
        (0..0x20, ..) => Access::OddAccess,
        (0x20..0x40, ..) if draft => Access::OddAccess,
        (_, _, false) => Access::DataRead,
        (_, _, true) => Access::DataWrite,
    }
}

/// A read from the region.
pub(crate) fn read(m: MutexGuard<'_, Machine>, offset: u64, buf: &mut [u8]) -> Result<usize, i32> {
    let draft = m.config.is_draft();
    let access = classify(draft, offset, buf.len(), false);
    let (mut m, effect) = Busy::begin(m, access)?;
    let value = match access {
        Access::StateRead => lie(effect, u64::from(m.level.0 | m.config.reserved_bits)),
        _ if m.level.is_error() => return m.refuse("N14", format!("{access:?} in ERROR"), libc::EIO),
        Access::PendingRead => {
            let truth = if draft { m.draft_pending() } else { m.v1_pending() };
            let shown = lie(effect, truth);
            m.registers.started = shown > 0;
            shown
        }
        Access::DataOffsetRead => m.data_offset(effect)?,
        Access::DataSizeRead => m.data_size(effect)?,
        Access::CopiedPfnsRead => lie(effect, m.copied_pfns()?),
        // The reserved word reads 0.
        Access::OddAccess if (offset, buf.len()) == (4, 4) => 0,
        Access::OddAccess => return m.odd(draft, offset, buf.len(), "read"),
        _ => return m.data_read(offset, buf, effect),
    };
    let n = short(effect, buf.len());
    let bytes = native(value, buf.len());
    buf[..n].copy_from_slice(&bytes[..n]);
    Ok(n)
}

/// A write to the region.
pub(crate) fn write(m: MutexGuard<'_, Machine>, offset: u64, buf: &[u8]) -> Result<usize, i32> {
    let draft = m.config.is_draft();
    let access = classify(draft, offset, buf.len(), true);
    let (mut m, effect) = Busy::begin(m, access)?;
    match access {
        Access::StateWrite => m.state_write(value(buf) as u32, effect)?,
        _ if m.level.is_error() => return m.refuse("N14", format!("{access:?} in ERROR"), libc::EIO),
        Access::DataSizeWrite => {
            m.commit(value(buf))?;
            moved(effect).map_or(Ok(()), Err)?;
        }
        Access::PfnWrite => m.pfn_write(offset, value(buf)),
        Access::OddAccess if (offset, buf.len()) == (4, 4) => {}
        Access::OddAccess => return m.odd(draft, offset, buf.len(), "write"),
        _ => return m.data_write(offset, buf, effect),
    }
    Ok(short(effect, buf.len()))
}

/// The bytes of a field of 4 or 8 bytes, as the host holds it (P8).
fn native(value: u64, len: usize) -> [u8; 8] {
    let mut out = [0; 8];
    match len {
        4 => out[..4].copy_from_slice(&(value as u32).to_ne_bytes()),
        _ => out.copy_from_slice(&value.to_ne_bytes()),
    }
    out
}

fn value(buf: &[u8]) -> u64 {
    match *buf {
        [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

impl Busy<'_> {
    /// A write of device_state: V1-1, V1-3, N15.
    fn state_write(&mut self, value: u32, effect: Option<Effect>) -> Result<(), i32> {
        let ndma = self.config.ndma();
        let mask = BITS | if ndma { Level::NDMA } else { 0 };
        let (from, to) = (self.level, Level(value & mask));
        let rule = if self.config.is_draft() { "D2" } else { "V1-1" };
        if value & !mask != self.config.reserved_bits {
            let want = self.config.reserved_bits;
            self.judge.record(rule, format!("device_state {value:#x}: reserved bits were {want:#x}"));
        }
        if from.is_error() {
            return self.refuse("V1-2", format!("device_state {value:#x} in ERROR"), libc::EINVAL);
        }
        if !to.is_valid(ndma) {
            return self.refuse("W6", format!("device_state {value:#x} is no state"), libc::EINVAL);
        }
        if self.config.habits.arcs.is_some_and(|arcs| !arcs.contains(&(from.0, to.0))) {
            return Err(libc::EINVAL);
        }
        self.go(&register_path(from, to))?;
        self.v1_restart();
        moved(effect).map_or(Ok(()), Err)
    }
}

impl Machine {
    fn odd(&mut self, draft: bool, offset: u64, len: usize, what: &str) -> Result<usize, i32> {
        let rule = if draft { "D1" } else { "V1-1" };
        self.refuse(rule, format!("{what} of {len} bytes at {offset:#x} is no access to a register"), libc::EINVAL)
    }

    fn data_offset(&mut self, effect: Option<Effect>) -> Result<u64, i32> {
        if self.level.resuming() {
            if self.config.habits.one_segment && (self.registers.resume.is_some() || self.registers.taken) {
                return self.refuse("K25", "data_offset read twice while RESUMING".into(), libc::EIO);
            }
            if let (Some(Effect::MoveWindow), Some(region)) = (effect, &self.region) {
                let now = self.registers.moved.unwrap_or(self.place());
                self.registers.moved = Some(self.elsewhere(now, self.config.segment_size as u64));
                self.registers.written = Ranges::default();
                region.fill(self.config.data_start, self.config.window_size);
            }
            let shown = lie(effect, self.registers.moved.unwrap_or(self.place()));
            self.registers.resume = Some(shown);
            return Ok(shown);
        }
        if !self.level.saving() {
            self.judge.record("V1-13", "data_offset read although neither SAVING nor RESUMING");
            return Ok(lie(effect, 0));
        }
        if self.config.is_draft() {
            self.draft_data_offset()
        } else {
            self.v1_data_offset()?
        }
        if let (Some(Effect::MoveWindow), Some(staged)) = (effect, self.registers.staged.as_ref()) {
            let (from, len) = (staged.offset, staged.len);
            let to = self.elsewhere(from, len);
            if let Some(region) = &self.region {
                let mut bytes = vec![0; len as usize];
                region.get(from, &mut bytes);
                region.fill(from, len);
                region.put(to, &bytes);
            }
            if let Some(staged) = &mut self.registers.staged {
                (staged.offset, staged.shown, staged.read) = (to, to, Ranges::default());
            }
        }
        let place = self.place();
        let Some(staged) = &mut self.registers.staged else { return Ok(lie(effect, place)) };
        staged.shown = lie(effect, staged.offset);
        Ok(staged.shown)
    }

    fn data_size(&mut self, effect: Option<Effect>) -> Result<u64, i32> {
        if !self.level.saving() {
            self.judge.record("V1-13", "data_size read although not SAVING");
            return Ok(lie(effect, 0));
        }
        let Some(staged) = &mut self.registers.staged else {
            let rule = if self.config.is_draft() { "D3" } else { "V1-6" };
            self.judge.record(rule, "data_size read before data_offset");
            return Ok(lie(effect, 0));
        };
        let shown = lie(effect, staged.len);
        staged.shown_len = Some(shown);
        Ok(shown)
    }
}
