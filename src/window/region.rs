//! The window of the migration region (draft, v1): segments that appear somewhere in the region, in parts that are mapped or
//! trapped, for as long as they are not acknowledged.
//!
//! Rules: V1-6 (order of accesses; reading pending_bytes acknowledges), V1-8, V1-9, V1-10 (segments keep length and order),
//! V1-13 (offsets are checked), P21, P26, D4 (re-read data_offset every time), D6.

use super::mmap::Mapping;
use super::staging::Staging;
use super::{
    Access, Cause, Chunk, DEVICE_MEM, Figures, NO_SEGMENT, Outcome, Quirks, Room, SEGMENT_END, Trouble, Window,
};
use crate::dialect::PrecopyFigures;
use crate::dialect::registers::Registers;
use crate::error::{Error, Kind};
use crate::log::log;
use crate::transport::{DataFd, Transport, read_from, write_to};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// A device that says "pending" but stages nothing is asked this often, 1 ms apart (V1-8).
const EMPTY_SEGMENT_TRIES: u32 = 5;
const EMPTY_SEGMENT_PAUSE: Duration = Duration::from_millis(1);

/// A segment under way. Saving: `size` is known. Loading by [`write`](Window::write): not before its end.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// In the region.
    offset: u64,
    size: Option<u64>,
    done: u64,
}

impl Segment {
    fn at(&self) -> u64 {
        self.offset.saturating_add(self.done)
    }

    fn left(&self) -> Option<u64> {
        self.size.map(|size| size.saturating_sub(self.done))
    }
}

/// Which memory the bytes from some offset on are in, and how many of them.
enum Place {
    /// In this mapping.
    Mapped(usize, usize),
    Trapped(usize),
}

pub(crate) struct RegionWindow {
    quirks: Quirks,
    staging: Staging,
    /// Sorted by offset; made when a session first opens.
    mappings: Option<Vec<Mapping>>,
    segment: Option<Segment>,
    /// A read of pending_bytes that no segment has followed yet.
    pending: Option<u64>,
    last_pending: Option<u64>,
}

impl RegionWindow {
    pub fn new(buffer_size: usize, quirks: Quirks) -> Self {
        RegionWindow {
            quirks,
            staging: Staging::new(buffer_size),
            mappings: None,
            segment: None,
            pending: None,
            last_pending: None,
        }
    }

    /// What cannot be mapped is trapped; that is slower, never wrong.
    fn map(&mut self, transport: &dyn Transport, registers: &Registers) {
        if self.mappings.is_some() {
            return;
        }
        let mut mappings = Vec::new();
        let wanted = registers.region.areas.iter().filter(|area| area.size > 0 && !self.quirks.no_mmap);
        for &area in wanted {
            match Mapping::new(transport, registers.region.index, area) {
                Ok(mapping) => mappings.push(mapping),
                Err(errno) => log!(
                    Warning,
                    "area {:#x}+{:#x} of the migration region cannot be mapped ({errno}): trapped access",
                    area.offset,
                    area.size
                ),
            }
        }
        mappings.sort_by_key(Mapping::offset);
        self.mappings = Some(mappings);
    }

    fn mapping(&self, number: usize) -> Option<&Mapping> {
        self.mappings.as_ref()?.get(number)
    }

    /// Where up to `len` bytes from `at` on are; cut at the next edge between mapped and trapped.
    fn place(&self, at: u64, len: u64) -> Place {
        let clamp = |len: u64| usize::try_from(len).unwrap_or(usize::MAX);
        for (number, mapping) in self.mappings.iter().flatten().enumerate() {
            if at < mapping.offset() {
                return Place::Trapped(clamp(len.min(mapping.offset().saturating_sub(at))));
            }
            if at < mapping.end() {
                return Place::Mapped(number, clamp(len.min(mapping.end().saturating_sub(at))));
            }
        }
        Place::Trapped(clamp(len))
    }

    /// The segment under way, or the next one; `None`: the device has none now (V1-6 a to c).
    fn saving_segment(&mut self, access: &Access<'_>) -> Outcome<Option<Segment>> {
        if let Some(segment) = self.segment {
            return Ok(Some(segment));
        }
        let pending = match self.pending.take() {
            Some(pending) => pending,
            None => self.ask_pending(access)?,
        };
        if pending == 0 {
            return Ok(None);
        }
        let Some((offset, size)) = self.staged(access, pending)? else { return Ok(None) };
        access.registers()?.check_segment(offset, size).map_err(Trouble::before)?;
        let segment = Segment { offset, size: Some(size), done: 0 };
        self.segment = Some(segment);
        Ok(Some(segment))
    }

    /// Where the device has staged a segment, and its length. `None`: it has staged nothing, which is legal while it runs.
    ///
    /// A length of 0 is asked again before it is believed: asking for pending_bytes instead would acknowledge, and so lose, a
    /// segment that is there after all. Asking twice within an iteration gives the same answer (V1-6 c).
    fn staged(&mut self, access: &Access<'_>, pending: u64) -> Outcome<Option<(u64, u64)>> {
        let registers = access.registers()?;
        for _ in 0..EMPTY_SEGMENT_TRIES {
            let offset = registers.data_offset(access.transport).map_err(Trouble::before)?;
            let mut size = registers.data_size(access.transport).map_err(Trouble::before)?;
            if size == 0 && self.quirks.zero_data_size {
                size = pending.min(self.area_left(registers, offset));
            }
            if size > 0 {
                return Ok(Some((offset, size)));
            }
            std::thread::sleep(EMPTY_SEGMENT_PAUSE);
        }
        if access.in_precopy {
            return Ok(None);
        }
        let text = format!("data_size is 0 although pending_bytes is {pending}");
        Err(Trouble::before(Cause::Nonsense(text)))
    }

    /// From `offset` to the end of what lies together there.
    fn area_left(&self, registers: &Registers, offset: u64) -> u64 {
        let in_region = registers.region.size.saturating_sub(offset);
        match self.place(offset, in_region) {
            Place::Mapped(_, len) | Place::Trapped(len) => len as u64,
        }
    }

    fn ask_pending(&mut self, access: &Access<'_>) -> Outcome<u64> {
        let pending = access.registers()?.pending_bytes(access.transport).map_err(Trouble::before)?;
        self.last_pending = Some(pending);
        Ok(pending)
    }

    /// Bytes of the segment are the caller's; its last one acknowledges it (V1-6 f).
    fn advance(&mut self, access: &Access<'_>, len: usize) {
        let Some(segment) = &mut self.segment else { return };
        segment.done = segment.done.saturating_add(len as u64);
        if segment.left() != Some(0) {
            return;
        }
        self.segment = None;
        self.staging.discard();
        // The bytes are the caller's whatever comes of it. An acknowledgement that fails is asked again, and told, when the
        // next bytes are asked for.
        self.pending = match self.ask_pending(access) {
            Ok(pending) => (pending > 0).then_some(pending),
            Err(trouble) => {
                log!(Warning, "acknowledging a segment failed: {trouble:?}");
                None
            }
        };
    }

    /// Reads trapped bytes at `at` in one large call (V1-12).
    fn read_trapped(&self, access: &Access<'_>, at: u64, buf: &mut [u8]) -> Outcome<usize> {
        let registers = access.registers()?;
        let limit = if self.quirks.access_8 { 8 } else { usize::MAX };
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let rest_len = rest.len().min(limit);
            let rest = rest.get_mut(..rest_len).unwrap_or_default();
            let from = at.saturating_add(done as u64);
            // What is read of a segment can be read again until it is acknowledged.
            match access.transport.region_read(registers.region.index, from, rest) {
                Err(errno) => return Err(Trouble::before(Cause::Device(errno))),
                Ok(0) => {
                    let text = format!("reading the region at {from:#x} brought nothing");
                    return Err(Trouble::before(Cause::Nonsense(text)));
                }
                Ok(n) => done = done.saturating_add(n.min(rest_len)),
            }
        }
        Ok(done)
    }

    fn write_trapped(&self, access: &Access<'_>, at: u64, bytes: &[u8]) -> Outcome<()> {
        let registers = access.registers()?;
        let limit = if self.quirks.access_8 { 8 } else { usize::MAX };
        let mut done: usize = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let rest = rest.get(..rest.len().min(limit)).unwrap_or(rest);
            let to = at.saturating_add(done as u64);
            match access.transport.region_write(registers.region.index, to, rest) {
                Err(errno) => return Err(Trouble::of_write(errno, done)),
                Ok(0) => {
                    let text = format!("writing the region at {to:#x} took nothing");
                    return Err(Trouble::after(Cause::Nonsense(text), done));
                }
                Ok(n) => done = done.saturating_add(n.min(rest.len())),
            }
        }
        Ok(())
    }

    /// The segment that is loaded, begun now if none is: `need` bytes of it are still to come, `size` is all of it if known.
    fn loading_segment(&mut self, access: &Access<'_>, need: u64, size_known: bool) -> Outcome<Segment> {
        let segment = match self.segment {
            Some(segment) => segment,
            None => {
                let registers = access.registers()?;
                let offset = registers.data_offset(access.transport).map_err(Trouble::before)?;
                registers.check_segment(offset, 0).map_err(Trouble::before)?;
                let room = registers.region.size.saturating_sub(offset);
                let size = match need {
                    need if need <= room => need,
                    _ if self.quirks.split_segments && room > 0 => room,
                    _ => return Err(too_long(need, room)),
                };
                // A part of a split segment ends where the room ends.
                let size = (size_known || size < need).then_some(size);
                let segment = Segment { offset, size, done: 0 };
                self.segment = Some(segment);
                segment
            }
        };
        let registers = access.registers()?;
        let room = registers.region.size.saturating_sub(segment.at());
        match segment.left() {
            Some(left) if size_known && need != left && !self.quirks.split_segments => {
                let text = format!("segment_left: {need}, but {left} bytes of the segment are missing");
                Err(Trouble::before(Error::argument(text)))
            }
            Some(left) if !size_known && need > left && !self.quirks.split_segments => Err(too_long(need, left)),
            None if need > room => Err(too_long(need, room)),
            // Begun by a write that did not know its length; now it is known.
            None if size_known => {
                let segment = Segment { size: Some(segment.done.saturating_add(need)), ..segment };
                self.segment = Some(segment);
                Ok(segment)
            }
            _ => Ok(segment),
        }
    }

    /// Bytes were put in place; the end of a segment hands it to the device (V1-9).
    fn placed(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> Outcome<()> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        segment.done = segment.done.saturating_add(len as u64);
        let (done, whole) = (segment.done, segment.left() == Some(0));
        if whole || (segment_end && segment.size.is_none()) {
            self.segment = None;
            if done > 0 {
                let set = access.registers()?.set_data_size(access.transport, done);
                set.map_err(|fault| Trouble::after(fault, len))?;
            }
        }
        Ok(())
    }

    /// The end of a segment may only be said where its announced length is reached.
    fn check_end(&self, segment: &Segment, len: usize, segment_end: bool) -> Outcome<()> {
        match segment.left() {
            Some(left) if segment_end && !self.quirks.split_segments && left != len as u64 => {
                Err(Trouble::before(Error::argument(format!(
                    "flags: the end of a segment, but {} bytes of it are missing",
                    left.saturating_sub(len as u64)
                ))))
            }
            _ => Ok(()),
        }
    }
}

fn too_long(need: u64, room: u64) -> Trouble {
    let text = format!("a segment of {need} bytes does not fit into {room} bytes of the device's window");
    Trouble::before(Error::new(Kind::Unsupported, libc::EMSGSIZE, text))
}

impl Window for RegionWindow {
    fn begin(&mut self, access: &Access<'_>, _data: Option<Box<dyn DataFd>>) {
        self.end();
        if let Some(registers) = access.dialect.registers() {
            self.map(access.transport, registers);
        }
    }

    fn end(&mut self) {
        self.segment = None;
        self.pending = None;
        self.last_pending = None;
        self.staging.discard();
    }

    fn close(&mut self, transport: &dyn Transport) {
        self.end();
        for mapping in self.mappings.take().unwrap_or_default() {
            mapping.unmap(transport);
        }
    }

    fn is_mapped(&self) -> bool {
        self.mappings.as_ref().is_some_and(|mappings| !mappings.is_empty())
    }

    fn unread(&self) -> usize {
        self.segment.and_then(|segment| segment.left()).map_or(0, |left| usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn lend(&mut self, access: &Access<'_>, max: usize) -> Outcome<Option<Chunk>> {
        let Some(segment) = self.saving_segment(access)? else { return Ok(None) };
        let left = segment.left().unwrap_or(0);
        let (data, len, flags) = match self.place(segment.at(), left) {
            Place::Mapped(number, len) => {
                let memory = self.mapping(number).and_then(|mapping| mapping.from(segment.at()));
                (memory.map_or(std::ptr::null(), |(memory, _)| memory.as_ptr().cast_const()), len, DEVICE_MEM)
            }
            Place::Trapped(len) => {
                if self.staging.unread().is_empty() {
                    // The buffer is taken out while the device fills it: reading needs the rest of the window too.
                    let mut buffer = std::mem::replace(&mut self.staging, Staging::new(0));
                    let len = len.min(buffer.size());
                    let read = buffer.buffer().and_then(|bytes| {
                        self.read_trapped(access, segment.at(), bytes.get_mut(..len).unwrap_or_default())
                    });
                    self.staging = buffer;
                    self.staging.filled(read?);
                }
                (self.staging.unread().as_ptr(), self.staging.unread().len(), 0)
            }
        };
        let len = len.min(max);
        let end = if len as u64 == left { SEGMENT_END } else { 0 };
        Ok(Some(Chunk { data, len, segment_left: left, flags: flags | end }))
    }

    fn take(&mut self, access: &Access<'_>, len: usize) {
        self.staging.take(len);
        if len > 0 {
            self.advance(access, len);
        }
    }

    fn read(&mut self, access: &Access<'_>, buf: &mut [u8]) -> Outcome<Option<(usize, u32)>> {
        let Some(segment) = self.saving_segment(access)? else { return Ok(None) };
        let left = segment.left().unwrap_or(0);
        let len = match self.place(segment.at(), left) {
            Place::Mapped(number, len) => {
                let len = len.min(buf.len());
                let into = buf.get_mut(..len).unwrap_or_default();
                self.mapping(number).map_or(0, |mapping| mapping.copy_out(segment.at(), into))
            }
            Place::Trapped(_) if !self.staging.unread().is_empty() => self.staging.copy_out(buf),
            Place::Trapped(len) => {
                let len = len.min(buf.len());
                self.read_trapped(access, segment.at(), buf.get_mut(..len).unwrap_or_default())?
            }
        };
        let end = if len as u64 == left { SEGMENT_END } else { 0 };
        self.advance(access, len);
        Ok(Some((len, end)))
    }

    fn send(&mut self, access: &Access<'_>, fd: BorrowedFd<'_>, max: usize) -> Outcome<Option<(usize, u32)>> {
        let Some(chunk) = self.lend(access, max)? else { return Ok(None) };
        let Some(segment) = self.segment else { return Ok(None) };
        let sent = match self.place(segment.at(), chunk.len as u64) {
            Place::Mapped(number, len) => {
                self.mapping(number).map_or(Ok(0), |mapping| mapping.send(segment.at(), len, fd))
            }
            Place::Trapped(_) => {
                let unread = self.staging.unread();
                write_to(fd, unread.get(..chunk.len).unwrap_or(unread))
            }
        };
        let sent = sent.map_err(|errno| Trouble::before(Cause::Descriptor(errno)))?;
        self.take(access, sent);
        let end = if sent == chunk.len { chunk.flags & SEGMENT_END } else { 0 };
        Ok(Some((sent, end)))
    }

    fn figures(&mut self, access: &Access<'_>) -> Outcome<Figures> {
        let cached = self.segment.is_some();
        let left = if cached {
            self.last_pending
        } else {
            // What an earlier read left may be old: the device has run since, or has stopped. Asked again before a segment
            // begins, pending_bytes acknowledges nothing (V1-6 a).
            let pending = self.ask_pending(access)?;
            self.pending = (pending > 0).then_some(pending);
            Some(pending)
        };
        let dirty_bytes = left.filter(|_| access.in_precopy);
        Ok(Figures { precopy: PrecopyFigures { dirty_bytes, ..PrecopyFigures::UNKNOWN }, left, cached })
    }

    fn room(&mut self, access: &Access<'_>, segment_left: u64) -> Outcome<Room> {
        if segment_left == 0 || segment_left == NO_SEGMENT {
            let text = "segment_left: the length of the segment is needed, for it must fit the device's window";
            return Err(Trouble::before(Error::argument(text)));
        }
        let segment = self.loading_segment(access, segment_left, true)?;
        match self.place(segment.at(), segment.left().unwrap_or(0)) {
            Place::Mapped(number, len) => match self.mapping(number).and_then(|mapping| mapping.from(segment.at())) {
                Some((memory, _)) => Ok(Room { data: memory.as_ptr(), len }),
                None => Err(Trouble::before(Error::stale("the window is not mapped any more"))),
            },
            Place::Trapped(len) => self.staging.room(len),
        }
    }

    fn commit(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> Outcome<()> {
        let Some(segment) = self.segment else { return Ok(()) };
        self.check_end(&segment, len, segment_end)?;
        if let Place::Trapped(_) = self.place(segment.at(), segment.left().unwrap_or(0)) {
            self.write_trapped(access, segment.at(), self.staging.room_bytes(len))?;
        }
        self.placed(access, len, segment_end)
    }

    fn write(&mut self, access: &Access<'_>, bytes: &[u8], segment_end: bool) -> Outcome<()> {
        let first = self.loading_segment(access, bytes.len() as u64, false)?;
        self.check_end(&first, bytes.len(), segment_end)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let done = bytes.len().saturating_sub(rest.len());
            let segment =
                self.loading_segment(access, rest.len() as u64, false).map_err(|trouble| trouble.behind(done))?;
            let len = segment.left().unwrap_or(u64::MAX).min(rest.len() as u64);
            let part = match self.place(segment.at(), len) {
                Place::Mapped(number, len) => {
                    let part = rest.get(..len).unwrap_or(rest);
                    self.mapping(number).map_or(0, |mapping| mapping.copy_in(segment.at(), part))
                }
                Place::Trapped(len) => {
                    let part = rest.get(..len).unwrap_or(rest);
                    self.write_trapped(access, segment.at(), part).map_err(|trouble| trouble.behind(done))?;
                    part.len()
                }
            };
            rest = rest.get(part..).unwrap_or(&[]);
            self.placed(access, part, false).map_err(|trouble| trouble.behind(done))?;
        }
        if segment_end && self.segment.is_some_and(|segment| segment.size.is_none()) {
            self.placed(access, 0, true).map_err(|trouble| trouble.behind(bytes.len()))?;
        }
        Ok(())
    }

    fn receive(&mut self, access: &Access<'_>, fd: BorrowedFd<'_>, len: usize, segment_end: bool) -> Outcome<usize> {
        let segment = self.loading_segment(access, len as u64, false)?;
        self.check_end(&segment, len, segment_end)?;
        let got = match self.place(segment.at(), len as u64) {
            Place::Mapped(number, part) => {
                let received = self.mapping(number).map_or(Ok(0), |mapping| mapping.receive(segment.at(), part, fd));
                received.map_err(|errno| Trouble::before(Cause::Descriptor(errno)))?
            }
            Place::Trapped(part) => {
                let room = self.staging.buffer()?;
                let part = part.min(room.len());
                let got = read_from(fd, room.get_mut(..part).unwrap_or_default())
                    .map_err(|errno| Trouble::before(Cause::Descriptor(errno)))?;
                let written = self.write_trapped(access, segment.at(), self.staging.room_bytes(got));
                // What came out of the caller's descriptor cannot be read from it again.
                written.map_err(Trouble::with_bytes_lost)?;
                got
            }
        };
        self.placed(access, got, segment_end && got == len)?;
        Ok(got)
    }

    fn unfinished(&self) -> Option<String> {
        self.segment.map(|segment| match segment.left() {
            Some(left) => format!("a segment is open, {left} of its bytes are missing"),
            None => format!("a segment is open, {} of its bytes were written, its end was not said", segment.done),
        })
    }
}
