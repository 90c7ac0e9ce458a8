//! The data fd with one pooled buffer: read large, lend parts, take any number of bytes back (F1, P20).

use super::patience::{Patience, Waited};
#[cfg(feature = "capi")]
use super::raw::{RawChunk, RawRoom};
use super::staging::Staging;
use super::{Access, Cause, Chunk, Fetched, Figures, NO_SEGMENT, Room, StreamFlags, Trouble, Window, WindowResult};
use crate::cancel::Follower;
use crate::dialect::PrecopyFigures;
use crate::error::{Errno, Error, Result};
use crate::transport::{DataFd, read_from, write_to};
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Bytes(usize),
    /// `read()` returned 0.
    Zero,
    /// ENOMSG: a temporary end, in words (F3).
    NoMessage,
    /// EAGAIN, which the library's own descriptors say instead of sleeping in the kernel (F8).
    NotReady,
    /// The same, and the wait was canceled.
    Canceled,
}

/// One read; EAGAIN is waited for, but not in pre-copy. It is asked first and waited for afterwards, never the other way round:
/// in pre-copy mlx5's poll says nothing for ever, while a read says ENOMSG (K14).
fn read_data(data: &mut dyn DataFd, buf: &mut [u8], access: &Access<'_>) -> std::result::Result<Got, Errno> {
    let mut patience = Patience::new(access.cancel);
    loop {
        let errno = match data.read(buf) {
            Ok(0) => return Ok(Got::Zero),
            Ok(n) => return Ok(Got::Bytes(n.min(buf.len()))),
            Err(errno) => errno,
        };
        let waited = match errno.get() {
            libc::ENOMSG => return Ok(Got::NoMessage),
            libc::EAGAIN if access.in_precopy => return Ok(Got::NotReady),
            libc::EAGAIN => patience.wait(data.wait_fd(), false),
            // Nothing was moved (P1); a driver that has lost bytes says so for ever (xe), which is no such thing.
            libc::EINTR => patience.wait(None, false),
            _ => return Err(errno),
        };
        match waited {
            Waited::TryAgain => {}
            Waited::Canceled => return Ok(Got::Canceled),
            Waited::Enough if errno.get() == libc::EAGAIN => return Ok(Got::NotReady),
            Waited::Enough => return Err(errno),
        }
    }
}

/// Writes all of `buf`. On failure the count of bytes that the device took comes with the trouble (F6, P4).
fn write_all(data: &mut dyn DataFd, buf: &[u8], cancel: &Follower) -> WindowResult<()> {
    let mut patience = Patience::new(cancel);
    let mut rest = buf;
    while !rest.is_empty() {
        let moved = buf.len().saturating_sub(rest.len());
        let errno = match data.write(rest) {
            // A device that takes nothing and says no error would be asked for ever.
            Ok(0) => return Err(Trouble::after(Cause::Nonsense("writing the data fd took nothing".into()), moved)),
            Ok(n) => {
                rest = rest.get(n..).unwrap_or(&[]);
                patience.moved();
                continue;
            }
            Err(errno) => errno,
        };
        // EINTR too: a driver may have taken bytes of the call, or dropped some (xe), so it is not made again (P4).
        let waited = if errno.get() == libc::EAGAIN { patience.wait(data.wait_fd(), true) } else { Waited::Enough };
        match waited {
            Waited::TryAgain => {}
            Waited::Canceled => return Err(Trouble::before(Cause::Canceled).behind(moved)),
            Waited::Enough => return Err(Trouble::of_write(errno, moved)),
        }
    }
    Ok(())
}

/// A read into the caller's memory saves the copy through the buffer, unless it is so small that the device would be asked for
/// crumbs.
const DIRECT_READ: usize = 64 << 10;

/// The data fd of the open session, and the pooled buffer.
pub(crate) struct FdWindow {
    data: Option<Box<dyn DataFd>>,
    staging: Staging,
    /// The last read said EAGAIN.
    not_ready: bool,
}

impl FdWindow {
    pub fn new(buffer_size: usize) -> Self {
        FdWindow { data: None, staging: Staging::new(buffer_size), not_ready: false }
    }

    /// Reads into `direct` if that is given, and returns how many bytes; else into the buffer, and returns `Some(0)`. `None`:
    /// there is nothing now, or nothing more.
    fn fill(&mut self, access: &Access<'_>, direct: Option<&mut [u8]>) -> WindowResult<Option<usize>> {
        let FdWindow { data: Some(data), staging, not_ready } = self else { return Err(no_session()) };
        let into_buffer = direct.is_none();
        let got = match direct {
            Some(buf) => read_data(&mut **data, buf, access),
            None => read_data(&mut **data, staging.buffer()?, access),
        };
        *not_ready = got == Ok(Got::NotReady);
        // Whatever the errno, a driver may have thrown away what it had copied in the call.
        match got.map_err(|errno| Trouble::after(Cause::Device(errno), 0))? {
            Got::Bytes(n) if into_buffer => {
                staging.filled(n);
                Ok(Some(0))
            }
            Got::Bytes(n) => Ok(Some(n)),
            Got::Zero => Ok(None),
            // Legal only while the device runs (F2, F3).
            Got::NoMessage | Got::NotReady if access.in_precopy => Ok(None),
            Got::NoMessage => Err(Trouble::before(Cause::Nonsense(
                "the device says ENOMSG in STOP_COPY, where only bytes or the end are legal".into(),
            ))),
            Got::Canceled => Err(Trouble::before(Cause::Canceled)),
            Got::NotReady => {
                let errno = Errno::new(libc::EAGAIN);
                Err(Trouble::before(Error::device(errno, "the device has data to come but is not ready: call again")))
            }
        }
    }

    fn push(&mut self, access: &Access<'_>, bytes: &[u8]) -> WindowResult<()> {
        let FdWindow { data: Some(data), .. } = self else { return Err(no_session()) };
        write_all(&mut **data, bytes, access.cancel)
    }

    /// Writes the first `len` bytes of the buffer.
    fn push_first(&mut self, access: &Access<'_>, len: usize) -> WindowResult<()> {
        let FdWindow { data: Some(data), staging, .. } = self else { return Err(no_session()) };
        write_all(&mut **data, staging.first(len), access.cancel)
    }

    /// Sees to it that the buffer has unread bytes; how many of them there are, or `None`.
    fn read_ahead(&mut self, access: &Access<'_>) -> WindowResult<Option<usize>> {
        if self.staging.unread().is_empty() && self.fill(access, None)?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.staging.unread().len()))
    }
}

fn no_session() -> Trouble {
    Trouble::before(Error::stale("there is no data fd"))
}

pub(crate) fn no_segments(segment_left: u64) -> Result<()> {
    match segment_left {
        NO_SEGMENT => Ok(()),
        _ => Err(Error::argument(format!(
            "segment_left: {segment_left}, but v2 has no segments: VFIOMIG_UNKNOWN, as a chunk of the source side has it"
        ))),
    }
}

pub(crate) fn no_segment_end(segment_end: bool) -> Result<()> {
    if segment_end {
        return Err(Error::argument("flags: the end of a segment, but v2 has no segments"));
    }
    Ok(())
}

impl Window for FdWindow {
    fn begin(&mut self, _access: &Access<'_>, data: Option<Box<dyn DataFd>>) {
        self.staging.discard();
        self.data = data;
    }

    fn end(&mut self, lent: bool) {
        self.data = None;
        self.staging.end(lent);
    }

    fn release(&mut self) {
        self.staging.release();
    }

    fn data_fd(&self) -> Option<i32> {
        self.data.as_ref().and_then(|data| data.wait_fd()).map(|fd| fd.as_raw_fd())
    }

    fn unread(&self) -> usize {
        self.staging.unread().len()
    }

    fn is_not_ready(&self) -> bool {
        self.not_ready
    }

    fn is_guarded(&self) -> bool {
        self.staging.is_guarded()
    }

    fn lend(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<Chunk>> {
        let Some(len) = self.read_ahead(access)? else { return Ok(None) };
        Ok(Some(self.staging.chunk(len.min(max), NO_SEGMENT, StreamFlags::empty())))
    }

    #[cfg(feature = "capi")]
    fn lend_raw(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<RawChunk>> {
        let Some(len) = self.read_ahead(access)? else { return Ok(None) };
        let data = self.staging.unread().as_ptr();
        Ok(Some(RawChunk { data, len: len.min(max), segment_left: NO_SEGMENT, flags: 0 }))
    }

    fn take(&mut self, _access: &Access<'_>, len: usize) {
        self.staging.take(len);
    }

    fn read(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<(usize, StreamFlags)>> {
        let most = buf.len().min(self.staging.size());
        let buf = buf.get_mut(..most).unwrap_or_default();
        if self.staging.unread().is_empty() {
            let direct = buf.len() >= self.staging.size().min(DIRECT_READ);
            match self.fill(access, direct.then_some(&mut *buf))? {
                None => return Ok(None),
                Some(n) if direct => return Ok(Some((n, StreamFlags::empty()))),
                Some(_) => {}
            }
        }
        Ok(Some((self.staging.copy_out(buf), StreamFlags::empty())))
    }

    fn fetch(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<Fetched>> {
        let segment_left = NO_SEGMENT;
        if !self.staging.unread().is_empty() {
            return Ok(Some(Fetched { len: self.staging.copy_out(buf), segment_left }));
        }
        Ok(self.fill(access, Some(buf))?.map(|len| Fetched { len, segment_left }))
    }

    fn send(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        max: usize,
    ) -> WindowResult<Option<(usize, StreamFlags)>> {
        if self.read_ahead(access)?.is_none() {
            return Ok(None);
        }
        let unread = self.staging.unread();
        let bytes = unread.get(..max).unwrap_or(unread);
        let sent = write_to(fd, bytes).map_err(|errno| Trouble::before(Cause::Descriptor(errno)))?;
        self.staging.take(sent);
        Ok(Some((sent, StreamFlags::empty())))
    }

    fn figures(&mut self, access: &Access<'_>) -> WindowResult<Figures> {
        let precopy = match &mut self.data {
            Some(data) if access.in_precopy => {
                let figures = access.dialect.precopy_figures(&mut **data);
                figures.map_err(|errno| Trouble::before(Cause::Device(errno)))?
            }
            _ => PrecopyFigures::UNKNOWN,
        };
        Ok(Figures { precopy, left: None, cached: false })
    }

    fn room(&mut self, _access: &Access<'_>, segment_left: u64) -> WindowResult<Room> {
        no_segments(segment_left).map_err(Trouble::before)?;
        self.staging.room(usize::MAX)
    }

    fn commit(&mut self, access: &Access<'_>, bytes: &[u8], segment_end: bool) -> WindowResult<()> {
        no_segment_end(segment_end).map_err(Trouble::before)?;
        self.push(access, bytes)
    }

    #[cfg(feature = "capi")]
    fn raw_room(&mut self, _access: &Access<'_>, segment_left: u64) -> WindowResult<RawRoom> {
        no_segments(segment_left).map_err(Trouble::before)?;
        self.staging.raw_room(usize::MAX)
    }

    #[cfg(feature = "capi")]
    fn commit_raw(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> WindowResult<()> {
        no_segment_end(segment_end).map_err(Trouble::before)?;
        self.push_first(access, len)
    }

    fn write(&mut self, access: &Access<'_>, bytes: &[u8], _after: usize, segment_end: bool) -> WindowResult<()> {
        no_segment_end(segment_end).map_err(Trouble::before)?;
        self.push(access, bytes)
    }

    fn receive(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        len: usize,
        segment_end: bool,
    ) -> WindowResult<usize> {
        no_segment_end(segment_end).map_err(Trouble::before)?;
        let room = self.staging.buffer()?;
        let len = len.min(room.len());
        let got = read_from(fd, room.get_mut(..len).unwrap_or_default())
            .map_err(|errno| Trouble::before(Cause::Descriptor(errno)))?;
        // What came out of the caller's descriptor cannot be read from it again.
        self.push_first(access, got).map_err(|trouble| trouble.with_bytes_lost())?;
        Ok(got)
    }
}
