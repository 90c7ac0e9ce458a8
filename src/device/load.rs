//! State bytes into the device: reserve and commit, and write and receive on top of them; finish (DESIGN.md section 6).
//!
//! Rules: F6 (after a refused write the session is dead), F7 (the byte count decides whether a stream is whole).

use super::cache::{Cache, UNKNOWN};
use super::{Device, Inner};
use crate::dialect::Direction;
use crate::error::{Error, Result};
use crate::window::Room;
use crate::window::data_fd::write_all;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

impl Device {
    /// Lends room for the next bytes of the stream. *device; never blocks.*
    ///
    /// `segment_left` must be 0 on v2, which has no segments.
    pub fn reserve(&self, segment_left: u64) -> Result<Room> {
        let mut inner = self.enter()?;
        inner.reserve(&self.cache, segment_left).map_err(|error| self.named(error))
    }

    /// Hands the first `len` bytes of the room to the device. 0 gives the room back. *device; may block in the kernel.*
    ///
    /// A failure ends the session: only a reset remains.
    pub fn commit(&self, len: usize) -> Result<()> {
        let mut inner = self.enter()?;
        inner.commit(&self.cache, &self.name, len).map_err(|error| self.at_name(error))
    }

    /// Hands `buf` to the device, without a copy in the library. *device; may block in the kernel.*
    ///
    /// A failure ends the session: only a reset remains.
    pub fn write(&self, buf: &[u8]) -> Result<()> {
        let mut inner = self.enter()?;
        inner.check_open(&self.cache, "write").map_err(|error| self.named(error))?;
        inner.push(&self.cache, &self.name, Some(buf), buf.len())
    }

    /// Reads up to `len` bytes from `fd` (at most one buffer) and hands them to the device; 0 is the end of `fd`. *device;
    /// may block in the kernel and on `fd`.*
    pub fn receive(&self, fd: BorrowedFd<'_>, len: usize) -> Result<usize> {
        if len == 0 {
            return Err(self.named(Error::argument("len: 0 bytes to receive")));
        }
        let mut inner = self.enter()?;
        inner.check_open(&self.cache, "receive").map_err(|error| self.named(error))?;
        let room = inner.window.buffer().map_err(|error| self.named(error))?;
        let len = len.min(room.len());
        let room = room.get_mut(..len).unwrap_or_default();
        let got = crate::transport::read_from(fd, room).map_err(|errno| {
            self.named(Error::transport(errno, format!("reading the stream from the fd failed: {errno}")))
        })?;
        if got > 0 {
            inner.push(&self.cache, &self.name, None, got)?;
        }
        Ok(got)
    }

    /// Says how many bytes the stream has; only then may the device leave RESUMING (F7). *device; never blocks.*
    ///
    /// `None` is the caller's word that its format cannot know. If bytes are missing they may still be written.
    pub fn finish(&self, total: Option<u64>) -> Result<()> {
        let mut inner = self.enter()?;
        inner.finish(&self.cache, total).map_err(|error| self.named(error))
    }
}

impl Inner {
    /// The stream can take bytes.
    fn check_open(&mut self, cache: &Cache, what: &str) -> Result<()> {
        let session = self.session(Direction::Load, cache.state())?;
        if session.broken {
            return Err(Error::stale(
                "the device refused a part of the stream: the session is dead, only a reset remains",
            ));
        }
        if session.complete {
            return Err(Error::order(format!("{what} after finish")));
        }
        if session.lent.is_some() && what != "commit" {
            return Err(Error::busy("room is out: commit comes first"));
        }
        Ok(())
    }

    fn reserve(&mut self, cache: &Cache, segment_left: u64) -> Result<Room> {
        self.check_open(cache, "reserve")?;
        if segment_left != 0 && segment_left != UNKNOWN {
            return Err(Error::argument(format!("segment_left: {segment_left}, but v2 has no segments")));
        }
        let room = self.window.room()?;
        self.lent_is_stale = false;
        if let Some(session) = &mut self.session {
            session.lent = Some(room.len);
        }
        Ok(room)
    }

    fn commit(&mut self, cache: &Cache, name: &str, len: usize) -> Result<()> {
        self.check_not_stale()?;
        self.check_open(cache, "commit")?;
        let session = self.session(Direction::Load, cache.state())?;
        let Some(lent) = session.lent else {
            return Err(Error::order("no room is out: reserve comes first"));
        };
        if len > lent {
            return Err(Error::argument(format!("len: {len} bytes of a room of {lent}")));
        }
        session.lent = None;
        self.push(cache, name, None, len)
    }

    /// Writes `bytes`, or the first `len` bytes of the buffer.
    fn push(&mut self, cache: &Cache, name: &str, bytes: Option<&[u8]>, len: usize) -> Result<()> {
        let Inner { session: Some(session), window, .. } = self else {
            return Err(Error::stale("the session is gone"));
        };
        let bytes = bytes.unwrap_or_else(|| window.room_bytes(len));
        let outcome = write_all(&mut *session.data, bytes);
        let taken = outcome.as_ref().map_or_else(|(taken, _)| *taken, |()| bytes.len());
        session.moved = session.moved.saturating_add(taken as u64);
        cache.loaded_bytes.store(session.moved, Ordering::Relaxed);
        session.broken = outcome.is_err();
        outcome.map_err(|(taken, errno)| {
            let what = format!("writing the stream ({taken} of {len} bytes taken; only a reset remains)");
            self.data_failed(cache, name, &what, errno)
        })
    }

    fn finish(&mut self, cache: &Cache, total: Option<u64>) -> Result<()> {
        let session = self.session(Direction::Load, cache.state())?;
        if session.broken {
            return Err(Error::stale(
                "the device refused a part of the stream: the session is dead, only a reset remains",
            ));
        }
        if session.lent.is_some() {
            return Err(Error::busy("room is out: commit comes first"));
        }
        // A count that comes later than "cannot know" takes its place.
        session.complete = false;
        let moved = session.moved;
        match total {
            Some(total) if total > moved => Err(Error::incomplete(format!(
                "the stream is short: {moved} of {total} bytes were loaded, {} are missing",
                total.saturating_sub(moved)
            ))),
            Some(total) if total < moved => Err(Error::incomplete(format!(
                "the stream is too long: {moved} bytes were loaded, its saver sent {total}"
            ))),
            _ => {
                session.complete = true;
                Ok(())
            }
        }
    }
}
