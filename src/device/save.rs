//! State bytes out of the device: peek and consume, and read and send on top of them (DESIGN.md section 6).
//!
//! Rules: F2 and P3 (0 is the end only in STOP_COPY, and the state is read to be sure), F3 (EMPTY), F4 (pre-copy info before
//! reading on after EMPTY).

use super::cache::Cache;
use super::{Device, Inner};
use crate::dialect::{Direction, State};
use crate::error::{Errno, Error, Result};
use crate::window::data_fd::{Got, read};
use crate::window::{Chunk, EMPTY, END, NO_SEGMENT};
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

/// Where the next bytes of the stream are.
enum Next {
    /// In the window, unread.
    Window,
    /// A read of its own is needed.
    Read,
    /// There are none: EMPTY or END.
    Nothing(u32),
}

impl Device {
    /// The caller begins a stream from nothing and has thrown away what it has of an earlier one. *device.*
    ///
    /// Needed after a save session ended before END; refused while bytes of the open session were consumed already.
    pub fn start_stream(&self) -> Result<()> {
        let mut inner = self.enter()?;
        if inner.session.as_ref().is_some_and(|s| s.direction == Direction::Save && s.moved > 0 && !s.complete) {
            return Err(self.named(Error::order("bytes of the open session were consumed: its stream has begun")));
        }
        inner.stream_void = false;
        Ok(())
    }

    /// Lends the next bytes of the stream, up to `max` (0: no bound but the buffer). *device; may block in the kernel.*
    ///
    /// The chunk is out until [`consume`](Self::consume); it stays valid from PRE_COPY into STOP_COPY.
    pub fn peek(&self, max: usize) -> Result<Chunk> {
        let mut inner = self.enter()?;
        inner.peek(&self.cache, &self.name, max).map_err(|error| self.at_name(error))
    }

    /// Gives the chunk back; its first `len` bytes are the caller's, the rest is lent again. *device; never blocks.*
    pub fn consume(&self, len: usize) -> Result<()> {
        let mut inner = self.enter()?;
        inner.consume(&self.cache, len).map_err(|error| self.named(error))
    }

    /// Copies the next bytes of the stream into `buf`, at most one read of the device; 0 bytes come with [`EMPTY`] or
    /// [`END`]. *device; may block in the kernel.*
    pub fn read(&self, buf: &mut [u8]) -> Result<(usize, u32)> {
        if buf.is_empty() {
            return Err(self.named(Error::argument("len: 0 bytes to read")));
        }
        let mut inner = self.enter()?;
        inner.read(&self.cache, &self.name, buf).map_err(|error| self.at_name(error))
    }

    /// Writes the next bytes of the stream to `fd`, at most `max` (0: one buffer) and at most one buffer. What `fd` did not
    /// take stays in the stream. 0 bytes come with [`EMPTY`] or [`END`]. *device; may block in the kernel and on `fd`.*
    pub fn send(&self, fd: BorrowedFd<'_>, max: usize) -> Result<(usize, u32)> {
        let mut inner = self.enter()?;
        let chunk = inner.peek(&self.cache, &self.name, max).map_err(|error| self.at_name(error))?;
        if chunk.len == 0 {
            return Ok((0, chunk.flags));
        }
        let written = crate::transport::write_to(fd, inner.window.unread_bytes(chunk.len));
        let taken = *written.as_ref().unwrap_or(&0);
        inner.consume(&self.cache, taken).map_err(|error| self.named(error))?;
        match written {
            Ok(n) => Ok((n, 0)),
            Err(errno) => {
                Err(self.named(Error::transport(errno, format!("writing the stream to the fd failed: {errno}"))))
            }
        }
    }

    /// `data_failed` names the device already.
    pub(super) fn at_name(&self, error: Error) -> Error {
        if error.results().is_empty() { self.named(error) } else { error }
    }
}

impl Inner {
    fn peek(&mut self, cache: &Cache, name: &str, max: usize) -> Result<Chunk> {
        let next = self.next(cache, name)?;
        self.lent_is_stale = false;
        let chunk = match next {
            Next::Nothing(flags) => return Ok(nothing(flags)),
            next => {
                if let Next::Read = next {
                    let buffer = self.window.buffer()?;
                    let Some(session) = &mut self.session else { return Err(no_session()) };
                    let wait = !cache.state().is_precopy();
                    match self_read(session, buffer, wait) {
                        Ok(Got::Bytes(n)) => self.window.filled(n),
                        other => return self.no_bytes(cache, name, other).map(nothing),
                    }
                }
                self.window.lend(if max == 0 { usize::MAX } else { max })
            }
        };
        if let Some(session) = &mut self.session {
            session.lent = (chunk.len > 0).then_some(chunk.len);
        }
        Ok(chunk)
    }

    fn consume(&mut self, cache: &Cache, len: usize) -> Result<()> {
        self.check_not_stale()?;
        let session = self.session(Direction::Save, cache.state())?;
        let Some(lent) = session.lent else {
            return Err(Error::order("no chunk is out: peek comes first"));
        };
        if len > lent {
            return Err(Error::argument(format!("len: {len} bytes of a chunk of {lent}")));
        }
        session.lent = None;
        session.moved = session.moved.saturating_add(len as u64);
        cache.saved_bytes.store(session.moved, Ordering::Relaxed);
        self.window.take(len);
        Ok(())
    }

    fn read(&mut self, cache: &Cache, name: &str, buf: &mut [u8]) -> Result<(usize, u32)> {
        let len = match self.next(cache, name)? {
            Next::Nothing(flags) => return Ok((0, flags)),
            Next::Window => self.window.copy_out(buf),
            Next::Read => {
                // A read into the caller's memory saves the copy through the buffer, unless it is so small that the device
                // would be asked for crumbs.
                let direct = buf.len() >= self.window.size().min(64 << 10);
                let into = if direct { &mut *buf } else { self.window.buffer()? };
                let Some(session) = &mut self.session else { return Err(no_session()) };
                let wait = !cache.state().is_precopy();
                match self_read(session, into, wait) {
                    Ok(Got::Bytes(n)) if direct => n,
                    Ok(Got::Bytes(n)) => {
                        self.window.filled(n);
                        self.window.copy_out(buf)
                    }
                    other => return Ok((0, self.no_bytes(cache, name, other)?)),
                }
            }
        };
        let session = self.session(Direction::Save, cache.state())?;
        session.moved = session.moved.saturating_add(len as u64);
        cache.saved_bytes.store(session.moved, Ordering::Relaxed);
        Ok((len, 0))
    }

    /// Decides where the next bytes come from, without reading any.
    fn next(&mut self, cache: &Cache, name: &str) -> Result<Next> {
        let state = cache.state();
        let unread = self.window.unread();
        let session = self.session(Direction::Save, state)?;
        if session.lent.is_some() {
            return Err(Error::busy("a chunk is out: consume comes first"));
        }
        if session.complete {
            return Ok(Next::Nothing(END));
        }
        if unread > 0 {
            return Ok(Next::Window);
        }
        // F4: mlx5 and virtio offer new data only after pre-copy info was asked for.
        if session.ran_empty && state.is_precopy() && self.update_precopy(cache, name)?.says_empty() {
            return Ok(Next::Nothing(EMPTY));
        }
        Ok(Next::Read)
    }

    /// What a read without bytes means in this state.
    fn no_bytes(&mut self, cache: &Cache, name: &str, got: std::result::Result<Got, Errno>) -> Result<u32> {
        let in_precopy = cache.state().is_precopy();
        match got {
            Ok(Got::Zero | Got::NoMessage | Got::NotReady) if in_precopy => {
                if let Some(session) = &mut self.session {
                    session.ran_empty = true;
                }
                Ok(EMPTY)
            }
            Ok(Got::Zero) => self.at_end(cache),
            Ok(Got::NoMessage) => {
                Err(Error::protocol("the device says ENOMSG in STOP_COPY, where only bytes or the end are legal"))
            }
            Ok(Got::NotReady) => {
                Err(Error::device(Errno::new(libc::EAGAIN), "the device has data to come but is not ready"))
            }
            Ok(Got::Bytes(_)) => Ok(0),
            Err(errno) => Err(self.data_failed(cache, name, "reading the stream", errno)),
        }
    }

    /// P3: 0 is the end only if the device really is in STOP_COPY.
    fn at_end(&mut self, cache: &Cache) -> Result<u32> {
        let found = self.dialect()?.read_state(&*self.transport)?;
        if found != State::StopCopy {
            cache.set_state(found);
            self.end_session(cache);
            // Whatever was consumed of it, the stream has no end.
            self.stream_void = true;
            return Err(Error::stale(format!("the stream ended, but the device is in {found}, not in STOP_COPY")));
        }
        if let Some(session) = &mut self.session {
            session.complete = true;
        }
        Ok(END)
    }
}

fn self_read(session: &mut super::Session, into: &mut [u8], wait: bool) -> std::result::Result<Got, Errno> {
    read(&mut *session.data, into, wait)
}

fn nothing(flags: u32) -> Chunk {
    Chunk { data: std::ptr::null(), len: 0, segment_left: NO_SEGMENT, flags }
}

fn no_session() -> Error {
    Error::stale("the session is gone")
}
