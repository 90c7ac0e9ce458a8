//! The data section: trapped accesses (V1-12), and what a segment's end makes of the bytes.

use crate::config::{BadLoad, Trapped};
use crate::machine::{Effect, Machine, moved, short};

impl Machine {
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

    pub(super) fn data_read(&mut self, offset: u64, buf: &mut [u8], effect: Option<Effect>) -> Result<usize, i32> {
        if let Some(errno) = self.outside(offset, buf.len()) {
            return Err(errno);
        }
        moved(effect).map_or(Ok(()), Err)?;
        let len = short(effect, self.trapped(offset, buf.len())?);
        if let Some((rule, text)) = self.wrong_read(offset, buf.len(), len) {
            self.judge.record(rule, text);
        }
        if let Some(region) = &self.region {
            region.get(offset, &mut buf[..len]);
        }
        Ok(len)
    }

    /// What is wrong with a read of `asked` bytes that gets `len`; what it reads of the segment is noted.
    fn wrong_read(&mut self, offset: u64, asked: usize, len: usize) -> Option<(&'static str, String)> {
        let draft = self.config.is_draft();
        if !draft && offset < 0x40 && self.config.data_start >= 0x40 {
            return Some(("1.1", "the draft's dirty-pfn registers".into()));
        }
        if !self.level.saving() {
            return Some(("V1-13", "data read although not SAVING".into()));
        }
        let rule = if draft { "D3" } else { "V1-6" };
        let Some(staged) = &mut self.registers.staged else {
            return Some((rule, format!("{len} bytes at {offset:#x} with no segment staged")));
        };
        let Some(shown) = (if staged.bitmap { Some(staged.len) } else { staged.shown_len }) else {
            return Some((rule, "data read before data_size".into()));
        };
        // The client asks for more than it gets where the device moves less.
        if offset >= staged.shown && offset + asked as u64 <= staged.shown.saturating_add(shown) {
            staged.read.add(offset, offset + len as u64);
            return None;
        }
        Some((rule, format!("{asked} bytes at {offset:#x}: the segment is {shown} at {:#x}", staged.shown)))
    }

    pub(super) fn data_write(&mut self, offset: u64, buf: &[u8], effect: Option<Effect>) -> Result<usize, i32> {
        if let Some(errno) = self.outside(offset, buf.len()) {
            return Err(errno);
        }
        let len = short(effect, self.trapped(offset, buf.len())?);
        if !self.level.resuming() {
            return self.refuse(
                "V1-9",
                format!("{len} bytes written at {offset:#x} although not RESUMING"),
                libc::EINVAL,
            );
        }
        let shown = self.registers.resume;
        let end = offset + buf.len() as u64;
        match shown {
            None => self.judge.record("V1-9", "data written before data_offset was read"),
            Some(shown) if offset < shown || end > self.data_end() => {
                self.judge.record("V1-9", format!("{} bytes at {offset:#x}: data_offset is {shown:#x}", buf.len()));
            }
            Some(_) => {}
        }
        self.registers.written.add(offset, offset + len as u64);
        if let Some(region) = &self.region {
            region.put(offset, &buf[..len]);
        }
        moved(effect).map_or(Ok(len), Err)
    }

    /// A write of data_size while RESUMING (V1-9, D6): takes the segment.
    pub(super) fn commit(&mut self, len: u64) -> Result<(), i32> {
        if !self.level.resuming() {
            return self.refuse("V1-9", format!("data_size {len} written although not RESUMING"), libc::EINVAL);
        }
        let Some(shown) = self.registers.resume.take() else {
            return self.refuse("V1-9", format!("data_size {len} written without reading data_offset"), libc::EINVAL);
        };
        let place = self.registers.moved.take().unwrap_or(self.place());
        let written = std::mem::take(&mut self.registers.written);
        if shown != place {
            return Err(libc::EINVAL);
        }
        if len == 0 {
            return self.refuse("V1-9", "a segment of 0 bytes".into(), libc::EINVAL);
        }
        if self.config.habits.one_segment && len != self.image {
            return Err(libc::EINVAL);
        }
        let end = place.checked_add(len).filter(|&end| end <= self.data_end());
        let (Some(end), Some(region)) = (end, &self.region) else {
            return self.refuse("V1-10", format!("a segment of {len} bytes does not fit"), libc::EINVAL);
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
