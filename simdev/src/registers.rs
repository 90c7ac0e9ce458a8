//! The registers and the data section of a migration region, as v1 and the draft share them. What is their own stands in
//! v1.rs and draft.rs: what starts a segment, what ends it.

use crate::config::{BadLoad, Trapped};
use crate::device::Shared;
use crate::draft::Pfn;
use crate::faults::{Access, Effect};
use crate::level::{Level, register_path};
use crate::machine::{Busy, Machine};
use crate::ranges::Ranges;

/// Bits of device_state that are not reserved without NDMA.
const BITS: u32 = 7;
/// How often the place of data_offset differs before it comes round.
const PLACES: u64 = 4;

/// Where an iteration over the window stands.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    /// v1: pending_bytes was read and said that there is more.
    pub started: bool,
    /// v1: device_state was written since `staged` was made.
    pub restarted: bool,
    /// v1: pending_bytes said 0.
    pub empty: bool,
    pub staged: Option<Staged>,
    /// RESUMING: what data_offset said, and since then the bytes written.
    resume: Option<u64>,
    written: Ranges,
    /// Segments so far: the place moves.
    index: u64,
    /// One segment was taken, where there is to be one only.
    taken: bool,
    /// A fault moved the place of the segment that is to be loaded.
    moved: Option<u64>,
    pub pfn: Pfn,
}

/// A segment, or a draft's bitmap, in the window.
#[derive(Debug)]
pub(crate) struct Staged {
    pub offset: u64,
    pub len: u64,
    /// What the client was told: the same, but for a fault.
    pub told: u64,
    pub told_len: Option<u64>,
    pub read: Ranges,
    pub bitmap: bool,
}

impl Staged {
    /// A client can be judged only by what it was told.
    fn honest(&self) -> bool {
        self.told == self.offset && self.told_len.is_none_or(|len| len == self.len)
    }
}

impl Registers {
    /// A window that closes; the place goes on moving (D4: no assumption).
    pub fn close(&mut self) {
        *self = Registers { index: self.index, ..Registers::default() };
    }
}

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

fn lie(effect: Option<Effect>, truth: u64) -> u64 {
    match effect {
        Some(Effect::Lie(value)) => value,
        _ => truth,
    }
}

fn moved(effect: Option<Effect>, len: usize) -> usize {
    match effect {
        Some(Effect::Short(most)) => len.min(most),
        _ => len,
    }
}

/// A read from the region.
pub(crate) fn read(device: &Shared, offset: u64, buf: &mut [u8]) -> Result<usize, i32> {
    let draft = device.draft;
    let access = classify(draft, offset, buf.len(), false);
    let (mut m, effect) = device.begin(access)?;
    let value = match access {
        Access::StateRead => lie(effect, u64::from(m.level.0 | m.config.reserved_bits)),
        _ if m.level.is_error() => return m.refuse("N14", format!("{access:?} in ERROR"), libc::EIO),
        Access::PendingRead => {
            let truth = if draft { m.draft_pending() } else { m.v1_pending() };
            let told = lie(effect, truth);
            m.registers.started = told > 0;
            told
        }
        Access::DataOffsetRead => m.data_offset(effect)?,
        Access::DataSizeRead => m.data_size(effect)?,
        Access::CopiedPfnsRead => lie(effect, m.copied_pfns()?),
        // The reserved word reads 0.
        Access::OddAccess if (offset, buf.len()) == (4, 4) => 0,
        Access::OddAccess => return m.odd(draft, offset, buf.len(), "read"),
        _ => return m.data_read(offset, buf, effect),
    };
    let n = moved(effect, buf.len());
    let bytes = native(value, buf.len());
    buf[..n].copy_from_slice(&bytes[..n]);
    Ok(n)
}

/// A write to the region.
pub(crate) fn write(device: &Shared, offset: u64, buf: &[u8]) -> Result<usize, i32> {
    let draft = device.draft;
    let access = classify(draft, offset, buf.len(), true);
    let (mut m, effect) = device.begin(access)?;
    match access {
        Access::StateWrite => m.state_write(value(buf) as u32, effect)?,
        _ if m.level.is_error() => return m.refuse("N14", format!("{access:?} in ERROR"), libc::EIO),
        Access::DataSizeWrite => {
            m.commit(value(buf))?;
            if let Some(Effect::ErrnoMoved(errno)) = effect {
                return Err(errno);
            }
        }
        Access::PfnWrite => m.pfn_write(offset, value(buf)),
        Access::OddAccess if (offset, buf.len()) == (4, 4) => {}
        Access::OddAccess => return m.odd(draft, offset, buf.len(), "write"),
        _ => return m.data_write(offset, buf, effect),
    }
    Ok(moved(effect, buf.len()))
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
            return self.refuse("V1-2", format!("device_state {value:#x} in ERROR"), libc::EINVAL).map(drop);
        }
        if !to.is_valid(ndma) {
            return self.refuse("W6", format!("device_state {value:#x} is no state"), libc::EINVAL).map(drop);
        }
        if self.config.habits.arcs.is_some_and(|arcs| !arcs.contains(&(from.0, to.0))) {
            return Err(libc::EINVAL);
        }
        self.go(&register_path(from, to))?;
        self.v1_restart();
        match effect {
            Some(Effect::ErrnoMoved(errno)) => Err(errno),
            _ => Ok(()),
        }
    }
}

impl Machine {
    pub fn refuse(&mut self, rule: &'static str, text: String, errno: i32) -> Result<usize, i32> {
        self.judge.record(rule, text);
        Err(errno)
    }

    fn odd(&mut self, draft: bool, offset: u64, len: usize, what: &str) -> Result<usize, i32> {
        let rule = if draft { "D1" } else { "V1-1" };
        self.refuse(rule, format!("{what} of {len} bytes at {offset:#x} is no access to a register"), libc::EINVAL)
    }

    /// End of the data section.
    fn data_end(&self) -> u64 {
        self.config.data_start + self.config.window_size
    }

    fn place(&self) -> u64 {
        self.config.data_start + (self.registers.index % PLACES) * self.config.skew
    }

    fn elsewhere(&self, offset: u64, len: u64) -> u64 {
        let last = self.data_end() - len;
        if offset == last { self.config.data_start } else { last }
    }

    /// Puts bytes into the window.
    pub fn stage(&mut self, bytes: &[u8], bitmap: bool) {
        let offset = self.place();
        if let Some(region) = &self.region {
            region.put(offset, bytes);
        }
        self.registers.staged = Some(Staged {
            offset,
            len: bytes.len() as u64,
            told: offset,
            told_len: None,
            read: Ranges::default(),
            bitmap,
        });
    }

    /// A segment of no bytes, at no place.
    pub fn stage_nothing(&mut self) {
        self.registers.staged =
            Some(Staged { offset: 0, len: 0, told: 0, told_len: None, read: Ranges::default(), bitmap: false });
    }

    /// What of the staged bytes can be seen not to have been read: trapped ones only. Mapped ones are judged by content.
    pub fn staged_unread(&self) -> Option<String> {
        let (staged, region) = (self.registers.staged.as_ref()?, self.region.as_ref()?);
        if !self.config.is_draft() {
            return Some(format!("a segment of {} bytes is not acknowledged", staged.len));
        }
        unread(staged, region)
    }

    /// The client is done with what is staged: judges, and makes it useless.
    pub fn acknowledge(&mut self, rule: &'static str) {
        let (Some(staged), Some(region)) = (self.registers.staged.take(), &self.region) else { return };
        if staged.told_len.is_none() && !staged.bitmap {
            self.judge.record(rule, "acknowledged between data_offset and data_size");
        } else if let Some(text) = unread(&staged, region) {
            self.judge.record(rule, format!("acknowledged too early: {text}"));
        }
        if self.config.judge_content {
            region.fill(staged.offset, staged.len);
        }
        self.registers.index += 1;
    }

    fn data_offset(&mut self, effect: Option<Effect>) -> Result<u64, i32> {
        if self.level.resuming() {
            if self.config.habits.one_segment && (self.registers.resume.is_some() || self.registers.taken) {
                return self.refuse("K25", "data_offset read twice while RESUMING".into(), libc::EIO).map(|_| 0);
            }
            if let (Some(Effect::MoveWindow), Some(region)) = (effect, &self.region) {
                let now = self.registers.moved.unwrap_or(self.place());
                self.registers.moved = Some(self.elsewhere(now, self.config.segment_size as u64));
                self.registers.written = Ranges::default();
                region.fill(self.config.data_start, self.config.window_size);
            }
            let told = lie(effect, self.registers.moved.unwrap_or(self.place()));
            self.registers.resume = Some(told);
            return Ok(told);
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
                (staged.offset, staged.told, staged.read) = (to, to, Ranges::default());
            }
        }
        let place = self.place();
        let Some(staged) = &mut self.registers.staged else { return Ok(lie(effect, place)) };
        staged.told = lie(effect, staged.offset);
        Ok(staged.told)
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
        let told = lie(effect, staged.len);
        staged.told_len = Some(told);
        Ok(told)
    }

    /// How many bytes an access may move (V1-12).
    fn trapped(&mut self, offset: u64, len: usize) -> Result<usize, i32> {
        match self.config.trapped {
            Trapped::Any => Ok(len),
            Trapped::Short(most) => Ok(len.min(most)),
            Trapped::AtMost(most) if len <= most => Ok(len),
            Trapped::Refused(errno) => Err(errno),
            Trapped::Word if matches!(len, 1 | 2 | 4 | 8) && offset % len as u64 == 0 => Ok(len),
            _ => Err(libc::EINVAL),
        }
    }

    fn outside(&mut self, offset: u64, len: usize) -> Option<i32> {
        let region = self.region.as_ref()?;
        if region.contains(offset, len as u64) {
            return None;
        }
        self.judge.record("V1-13", format!("{len} bytes at {offset:#x} are outside the region"));
        Some(libc::EINVAL)
    }

    fn data_read(&mut self, offset: u64, buf: &mut [u8], effect: Option<Effect>) -> Result<usize, i32> {
        if let Some(errno) = self.outside(offset, buf.len()) {
            return Err(errno);
        }
        if let Some(Effect::ErrnoMoved(errno)) = effect {
            return Err(errno);
        }
        let len = moved(effect, self.trapped(offset, buf.len())?);
        let end = offset + len as u64;
        let rule = if self.config.is_draft() { "D3" } else { "V1-6" };
        let mut wrong = None;
        if !self.config.is_draft() && offset < 0x40 && self.config.data_start >= 0x40 {
            wrong = Some(("1.1", "the draft's dirty-pfn registers".to_owned()));
        } else if !self.level.saving() {
            wrong = Some(("V1-13", "data read although not SAVING".to_owned()));
        } else if let Some(staged) = &mut self.registers.staged {
            let told_len = if staged.bitmap { Some(staged.len) } else { staged.told_len };
            match told_len {
                None => wrong = Some((rule, "data read before data_size".to_owned())),
                // The client asks for more than it gets where the device moves less.
                Some(told)
                    if offset >= staged.told && offset + buf.len() as u64 <= staged.told.saturating_add(told) =>
                {
                    staged.read.add(offset, end);
                }
                Some(told) => {
                    let text =
                        format!("{} bytes at {offset:#x}: the segment is {told} at {:#x}", buf.len(), staged.told);
                    wrong = Some((rule, text));
                }
            }
        } else {
            wrong = Some((rule, format!("{len} bytes at {offset:#x} with no segment staged")));
        }
        if let Some((rule, text)) = wrong {
            self.judge.record(rule, text);
        }
        if let Some(region) = &self.region {
            region.get(offset, &mut buf[..len]);
        }
        Ok(len)
    }

    fn data_write(&mut self, offset: u64, buf: &[u8], effect: Option<Effect>) -> Result<usize, i32> {
        if let Some(errno) = self.outside(offset, buf.len()) {
            return Err(errno);
        }
        let len = moved(effect, self.trapped(offset, buf.len())?);
        if !self.level.resuming() {
            return self.refuse(
                "V1-9",
                format!("{len} bytes written at {offset:#x} although not RESUMING"),
                libc::EINVAL,
            );
        }
        let told = self.registers.resume;
        let end = offset + buf.len() as u64;
        match told {
            None => self.judge.record("V1-9", "data written before data_offset was read"),
            Some(told) if offset < told || end > self.data_end() => {
                self.judge.record("V1-9", format!("{} bytes at {offset:#x}: data_offset is {told:#x}", buf.len()));
            }
            Some(_) => {}
        }
        self.registers.written.add(offset, offset + len as u64);
        if let Some(region) = &self.region {
            region.put(offset, &buf[..len]);
        }
        match effect {
            Some(Effect::ErrnoMoved(errno)) => Err(errno),
            _ => Ok(len),
        }
    }

    /// A write of data_size while RESUMING (V1-9, D6): takes the segment.
    fn commit(&mut self, len: u64) -> Result<(), i32> {
        if !self.level.resuming() {
            return self
                .refuse("V1-9", format!("data_size {len} written although not RESUMING"), libc::EINVAL)
                .map(drop);
        }
        let Some(told) = self.registers.resume.take() else {
            return self
                .refuse("V1-9", format!("data_size {len} written without reading data_offset"), libc::EINVAL)
                .map(drop);
        };
        let place = self.registers.moved.take().unwrap_or(self.place());
        let written = std::mem::take(&mut self.registers.written);
        if told != place {
            return Err(libc::EINVAL);
        }
        if len == 0 {
            return self.refuse("V1-9", "a segment of 0 bytes".into(), libc::EINVAL).map(drop);
        }
        if self.config.habits.one_segment && len != self.image {
            return Err(libc::EINVAL);
        }
        let end = place.checked_add(len).filter(|&end| end <= self.data_end());
        let (Some(end), Some(region)) = (end, &self.region) else {
            return self.refuse("V1-10", format!("a segment of {len} bytes does not fit"), libc::EINVAL).map(drop);
        };
        if let Some(at) = region.first_unmapped(place, end, &written) {
            self.judge.record("V1-9", format!("data_size {len} written before byte {} of it", at - place));
        }
        let mut bytes = vec![0; len as usize];
        region.get(place, &mut bytes);
        if self.config.judge_content {
            region.fill(place, len);
        }
        self.registers.index += 1;
        let rule = if self.config.is_draft() { "D6" } else { "V1-10" };
        self.registers.taken = true;
        let one = self.config.habits.one_segment;
        let loaded = if one { self.content.load_piece(&bytes) } else { self.content.load_segment(&bytes) };
        if let Err(text) = loaded {
            if self.config.bad_load == BadLoad::Keep {
                // What follows cannot make it good.
                self.content.begin_load();
            }
            return Err(self.bad_load(rule, text));
        }
        Ok(())
    }
}

fn unread(staged: &Staged, region: &crate::region::Region) -> Option<String> {
    if !staged.honest() {
        return None;
    }
    let at = region.first_unmapped(staged.offset, staged.offset + staged.len, &staged.read)?;
    Some(format!("byte {} of {} was not read", at - staged.offset, staged.len))
}
