//! The window of the migration region (draft, v1): segments that appear somewhere in the region, in parts that are mapped or
//! trapped, for as long as they are not acknowledged. Parts: `saving` and `loading` (segments and their registers),
//! `areas` (what is mapped), `bus` (what is not), `unseen` (servers that do not see what is read).
//!
//! Rules: V1-6 (order of accesses; reading pending_bytes acknowledges), V1-8, V1-9, V1-10 (segments keep length and order),
//! V1-13 (offsets are checked), P21, P26, D4 (re-read data_offset every time), D6, D7 (what is lent may be read more than
//! once), V1-5 (no state needs a window that is read to its end), V1-11 (any access may fail).

mod areas;
mod bus;
mod loading;
mod saving;
mod unseen;

#[cfg(feature = "capi")]
use super::raw::{DEVICE_MEM, RawChunk, RawRoom};
use super::staging::Staging;
use super::{
    Access, Cause, Chunk, Fetched, Figures, NO_SEGMENT, Quirks, Room, StreamFlags, Trouble, Window, WindowResult,
};
use crate::dialect::PrecopyFigures;
use crate::error::{Errno, Error};
use crate::transport::{DataFd, read_from, write_to};
use areas::{AreaAccess, Areas};
use loading::{Loading, WriteTarget};
use saving::Saving;
use std::os::fd::BorrowedFd;
pub use unseen::set_unseen_limit;

/// The next bytes of a segment that lie together.
struct SegmentPart {
    /// In the region.
    at: u64,
    /// To the end of the segment.
    left: u64,
    len: usize,
    /// Whether they are device memory; else they are unread in the buffer.
    mapped: bool,
}

impl SegmentPart {
    /// What is said of the first `len` bytes.
    fn flags(&self, len: usize) -> StreamFlags {
        if len as u64 == self.left { StreamFlags::SEGMENT_END } else { StreamFlags::empty() }
    }
}

pub(crate) struct RegionWindow {
    quirks: Quirks,
    staging: Staging,
    areas: Areas,
    saving: Saving,
    loading: Loading,
}

impl RegionWindow {
    pub fn new(buffer_size: usize, quirks: Quirks) -> Self {
        RegionWindow {
            quirks,
            staging: Staging::new(buffer_size),
            areas: Areas::new(),
            saving: Saving::new(),
            loading: Loading::new(quirks.split_segments),
        }
    }

    /// `len` bytes of the segment are the caller's.
    fn advance(&mut self, access: &Access<'_>, len: usize) {
        if self.saving.advance(access, len) {
            self.staging.discard();
        }
    }

    /// The next bytes of the segment in the window, or of the next one.
    fn next_part(&mut self, access: &Access<'_>) -> WindowResult<Option<SegmentPart>> {
        let next = self.saving.next(access, &self.areas, self.quirks)?;
        let Some(segment) = next else { return Ok(None) };
        let (at, left) = (segment.at(), segment.left());
        let (len, mapped) = match self.areas.place(at, left) {
            AreaAccess::Mapped(_, len) => (len, true),
            AreaAccess::Trapped(len) => {
                if self.staging.unread().is_empty() {
                    let buffer = self.staging.buffer()?;
                    let len = len.min(buffer.len());
                    bus::read(access, self.quirks.aligned_access, at, buffer.get_mut(..len).unwrap_or_default())?;
                    self.staging.filled(len);
                }
                (self.staging.unread().len(), false)
            }
        };
        Ok(Some(SegmentPart { at, left, len, mapped }))
    }

    /// Where the next bytes of a segment go.
    fn announce(&mut self, access: &Access<'_>, segment_left: u64) -> WindowResult<WriteTarget> {
        if segment_left == 0 || segment_left == NO_SEGMENT {
            return Err(Trouble::before(length_is_needed()));
        }
        self.loading.announce(access, segment_left)
    }

    /// A segment for which no buffer could be lent is none.
    fn announced<T>(&mut self, room: WindowResult<T>) -> WindowResult<T> {
        if room.is_err() {
            self.loading.drop_empty();
        }
        room
    }

    /// Puts a part of `bytes` in place; returns how many.
    fn put(&mut self, access: &Access<'_>, target: WriteTarget, bytes: &[u8]) -> WindowResult<usize> {
        match self.areas.place(target.at, target.most.min(bytes.len() as u64)) {
            AreaAccess::Mapped(mapping, len) => Ok(mapping.copy_in(target.at, bytes.get(..len).unwrap_or(bytes))),
            AreaAccess::Trapped(len) => {
                let part = bytes.get(..len).unwrap_or(bytes);
                bus::write(access, self.quirks.aligned_access, target.at, part).map(|()| part.len())
            }
        }
    }

    fn write_parts(&mut self, access: &Access<'_>, bytes: &[u8], after: usize, segment_end: bool) -> WindowResult<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let done = bytes.len().saturating_sub(rest.len());
            let to_come = rest.len().saturating_add(after);
            let target = self.loading.extend(access, to_come as u64, segment_end);
            let part = target.and_then(|target| self.put(access, target, rest)).map_err(|t| t.behind(done))?;
            rest = rest.get(part..).unwrap_or(&[]);
            self.loading
                .placed(access, part, segment_end && rest.is_empty() && after == 0)
                .map_err(|t| t.behind(done))?;
        }
        Ok(())
    }

    /// One read from the caller's descriptor into the window, of at most one buffer.
    fn receive_part(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        target: WriteTarget,
        len: usize,
    ) -> WindowResult<usize> {
        let len = len.min(self.staging.size());
        match self.areas.place(target.at, target.most.min(len as u64)) {
            AreaAccess::Mapped(mapping, part) => mapping.receive(target.at, part, fd).map_err(memory_or_fd),
            AreaAccess::Trapped(part) => {
                let room = self.staging.buffer()?;
                let part = part.min(room.len());
                let got = read_from(fd, room.get_mut(..part).unwrap_or_default())
                    .map_err(|errno| Trouble::before(Cause::Descriptor(errno)))?;
                // What came out of the caller's descriptor cannot be read from it again.
                bus::write(access, self.quirks.aligned_access, target.at, self.staging.first(got))
                    .map_err(Trouble::with_bytes_lost)?;
                Ok(got)
            }
        }
    }
}

/// Of a buffer that is asked for without the length of its segment.
pub(crate) fn length_is_needed() -> Error {
    Error::argument("segment_left: the length of the segment is needed, for it must fit the device's window")
}

/// The kernel moved bytes between a descriptor and device memory: EFAULT speaks of the memory.
fn memory_or_fd(errno: Errno) -> Trouble {
    Trouble::before(if errno.get() == libc::EFAULT { Cause::Device(errno) } else { Cause::Descriptor(errno) })
}

impl Window for RegionWindow {
    fn begin(&mut self, access: &Access<'_>, _data: Option<Box<dyn DataFd>>) {
        if let Some(registers) = access.dialect.registers() {
            self.areas.map(access.name, access.transport, registers, self.quirks.no_mmap);
        }
    }

    fn end(&mut self, lent: bool) {
        self.saving = Saving::new();
        self.loading.end();
        self.staging.end(lent);
    }

    fn release(&mut self) {
        self.staging.release();
    }

    fn close(&mut self) {
        self.end(false);
        self.release();
        self.areas.unmap();
    }

    fn is_mapped(&self) -> bool {
        self.areas.is_mapped()
    }

    fn unread(&self) -> usize {
        self.saving.segment().map_or(0, |segment| usize::try_from(segment.left()).unwrap_or(usize::MAX))
    }

    fn in_use(&self) -> bool {
        self.saving.in_window()
    }

    fn begin_anew(&mut self) {
        self.saving.begin_anew();
    }

    fn is_guarded(&self) -> bool {
        self.staging.is_guarded()
    }

    fn lend(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<Chunk>> {
        let Some(part) = self.next_part(access)? else { return Ok(None) };
        if !part.mapped {
            let len = part.len.min(max);
            return Ok(Some(self.staging.chunk(len, part.left, part.flags(len))));
        }
        // A reference to memory that a device may change would be unsound (P26).
        let buffer = self.staging.buffer()?;
        let len = part.len.min(max).min(buffer.len());
        let into = buffer.get_mut(..len).unwrap_or_default();
        let copied = match self.areas.place(part.at, len as u64) {
            AreaAccess::Mapped(mapping, _) => mapping.copy_out(part.at, into),
            AreaAccess::Trapped(_) => 0,
        };
        Ok(Some(self.staging.copy(copied, part.left, part.flags(copied))))
    }

    #[cfg(feature = "capi")]
    fn lend_raw(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<RawChunk>> {
        let Some(part) = self.next_part(access)? else { return Ok(None) };
        let len = part.len.min(max);
        let (data, memory) = match self.areas.place(part.at, part.left) {
            AreaAccess::Mapped(mapping, _) => {
                (mapping.from(part.at).map_or(std::ptr::null(), |(memory, _)| memory.as_ptr().cast_const()), DEVICE_MEM)
            }
            AreaAccess::Trapped(_) => (self.staging.unread().as_ptr(), 0),
        };
        Ok(Some(RawChunk { data, len, segment_left: part.left, flags: part.flags(len).bits() | memory }))
    }

    fn take(&mut self, access: &Access<'_>, len: usize) {
        self.staging.take(len);
        if len > 0 {
            self.advance(access, len);
        }
    }

    fn read(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<(usize, StreamFlags)>> {
        let most = buf.len().min(self.staging.size());
        let run = self.fetch(access, buf.get_mut(..most).unwrap_or_default())?;
        let end = |run: &Fetched| {
            if run.len as u64 == run.segment_left { StreamFlags::SEGMENT_END } else { StreamFlags::empty() }
        };
        Ok(run.map(|run| (run.len, end(&run))))
    }

    fn fetch(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<Fetched>> {
        let next = self.saving.next(access, &self.areas, self.quirks)?;
        let Some(segment) = next else { return Ok(None) };
        let len = match self.areas.place(segment.at(), segment.left()) {
            AreaAccess::Mapped(mapping, len) => {
                let len = len.min(buf.len());
                mapping.copy_out(segment.at(), buf.get_mut(..len).unwrap_or_default())
            }
            AreaAccess::Trapped(_) if !self.staging.unread().is_empty() => self.staging.copy_out(buf),
            AreaAccess::Trapped(len) => {
                let len = len.min(buf.len());
                let into = buf.get_mut(..len).unwrap_or_default();
                bus::read(access, self.quirks.aligned_access, segment.at(), into)?;
                len
            }
        };
        self.advance(access, len);
        Ok(Some(Fetched { len, segment_left: segment.left() }))
    }

    fn send(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        max: usize,
    ) -> WindowResult<Option<(usize, StreamFlags)>> {
        let Some(part) = self.next_part(access)? else { return Ok(None) };
        let len = part.len.min(max).min(self.staging.size());
        let sent = match self.areas.place(part.at, len as u64) {
            AreaAccess::Mapped(mapping, len) => mapping.send(part.at, len, fd).map_err(memory_or_fd)?,
            AreaAccess::Trapped(_) => {
                let unread = self.staging.unread();
                write_to(fd, unread.get(..len).unwrap_or(unread))
                    .map_err(|errno| Trouble::before(Cause::Descriptor(errno)))?
            }
        };
        self.take(access, sent);
        Ok(Some((sent, part.flags(sent))))
    }

    fn figures(&mut self, access: &Access<'_>) -> WindowResult<Figures> {
        let (left, cached) = self.saving.figures(access)?;
        let dirty_bytes = left.filter(|_| access.in_precopy);
        Ok(Figures { precopy: PrecopyFigures { dirty_bytes, ..PrecopyFigures::UNKNOWN }, left, cached })
    }

    fn room(&mut self, access: &Access<'_>, segment_left: u64) -> WindowResult<Room> {
        let target = self.announce(access, segment_left)?;
        let (AreaAccess::Mapped(_, len) | AreaAccess::Trapped(len)) = self.areas.place(target.at, target.most);
        let room = self.staging.room(len);
        self.announced(room)
    }

    fn commit(&mut self, access: &Access<'_>, bytes: &[u8], segment_end: bool) -> WindowResult<()> {
        self.loading.check_end(bytes.len() as u64, segment_end)?;
        if let (Some(target), false) = (self.loading.target(access)?, bytes.is_empty()) {
            // All of it, because a lent buffer ends where the kind of memory does.
            self.put(access, target, bytes)?;
        }
        self.loading.placed(access, bytes.len(), segment_end)
    }

    fn drop_room(&mut self) {
        self.loading.drop_empty();
    }

    #[cfg(feature = "capi")]
    fn raw_room(&mut self, access: &Access<'_>, segment_left: u64) -> WindowResult<RawRoom> {
        let target = self.announce(access, segment_left)?;
        let room = match self.areas.place(target.at, target.most) {
            AreaAccess::Mapped(mapping, len) => match mapping.from(target.at) {
                Some((memory, _)) => Ok(RawRoom { data: memory.as_ptr(), len }),
                None => Err(Trouble::before(Error::stale("the window is not mapped any more"))),
            },
            AreaAccess::Trapped(len) => self.staging.raw_room(len),
        };
        self.announced(room)
    }

    #[cfg(feature = "capi")]
    fn commit_raw(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> WindowResult<()> {
        self.loading.check_end(len as u64, segment_end)?;
        if let (Some(target), true) = (self.loading.target(access)?, len > 0) {
            if let AreaAccess::Trapped(_) = self.areas.place(target.at, target.most) {
                bus::write(access, self.quirks.aligned_access, target.at, self.staging.first(len))?;
            }
        }
        self.loading.placed(access, len, segment_end)
    }

    fn write(&mut self, access: &Access<'_>, bytes: &[u8], after: usize, segment_end: bool) -> WindowResult<()> {
        if bytes.is_empty() {
            self.loading.check_end(0, segment_end)?;
            return self.loading.placed(access, 0, segment_end);
        }
        let outcome = self.write_parts(access, bytes, after, segment_end);
        self.loading.drop_empty();
        outcome
    }

    fn receive(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        len: usize,
        segment_end: bool,
    ) -> WindowResult<usize> {
        let target = self.loading.extend(access, len as u64, segment_end)?;
        let outcome = self.receive_part(access, fd, target, len).and_then(|got| {
            self.loading.placed(access, got, segment_end && got == len)?;
            Ok(got)
        });
        self.loading.drop_empty();
        outcome
    }

    fn unfinished(&self) -> Option<String> {
        self.loading.unfinished()
    }
}
