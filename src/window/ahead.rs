//! A window that is read ahead: a thread reads the device's own one into a queue, and the calls of the stream's owner take from
//! it. What they get is what they would have got, in the same order, with the same segments; an error comes where it happened.
//!
//! Whoever has to ask something else of the device ends the reading first ([`AheadWindow::stop`]). What was read stays in the
//! queue; behind it the calls go to the device's own window again, until the reading begins anew.

mod budget;
mod queue;

use super::patience::PATIENCE;
#[cfg(feature = "capi")]
use super::raw::{RawChunk, RawRoom};
use super::{Access, Cause, Chunk, Figures, Moved, Room, StreamFlags, Trouble, Window, WindowResult};
use crate::cancel::Cancel;
use crate::dialect::PrecopyFigures;
use crate::error::{Errno, Error};
use crate::gate::{Denied, Gate, GateLevel};
use crate::log;
use crate::transport::{DataFd, write_to};
use crate::workers::Resident;
pub(crate) use budget::{MIN_SHARE, QueueBudget, Share};
pub(crate) use queue::Fetched;
use queue::{AheadQueue, Filled, Next};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The device's own window. The thread that reads has entered its gate, so that a wait for it that cannot end is refused as any
/// other is.
type Own = Arc<Gate<Box<dyn Window>>>;

/// A device that is not ready is asked again after so long, if its window has not waited for it.
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) struct AheadWindow {
    own: Own,
    queue: Arc<AheadQueue>,
    /// What is taken from, or lent.
    front: Option<Filled>,
    thread: Option<Resident>,
    mapped: bool,
}

/// One read of the device's own window.
type Fetch<'f> = dyn FnMut(&mut dyn Window, &mut [u8]) -> WindowResult<Option<Fetched>> + 'f;

/// What the thread that reads has of a window.
pub(crate) struct Reading {
    own: Own,
    queue: Arc<AheadQueue>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.queue.ended();
    }
}

impl Reading {
    /// Ends the waits of `fetch`.
    pub fn halt(&self) -> &Arc<Cancel> {
        &self.queue.halt
    }

    /// Reads until the stream ends or fails, or until it is to stop. `fetch`: one read of the device.
    pub fn run(self, fetch: &mut Fetch<'_>, goes_on: &dyn Fn() -> bool) {
        while let Some(mut block) = self.queue.block(goes_on) {
            loop {
                let (got, lines) = log::capture(|| self.read(fetch, block.rest(), goes_on));
                self.queue.log(lines);
                match got {
                    Ok(Some(run)) => {
                        block.add(run);
                        if block.is_full() || self.queue.is_hungry() {
                            break self.queue.publish(block);
                        }
                    }
                    Ok(None) => return self.queue.publish_end(block),
                    Err(trouble) if trouble.is_device_not_ready() => {
                        std::thread::sleep(PAUSE);
                        break self.queue.publish(block);
                    }
                    Err(Trouble { cause: Cause::Canceled, moved: Moved::Nothing }) => {
                        return self.queue.publish(block);
                    }
                    Err(trouble) => {
                        let for_good = trouble.moved != Moved::Nothing;
                        return self.queue.publish_trouble(block, trouble, for_good);
                    }
                }
            }
        }
    }

    fn read(
        &self,
        fetch: &mut Fetch<'_>,
        into: &mut [u8],
        goes_on: &dyn Fn() -> bool,
    ) -> WindowResult<Option<Fetched>> {
        let mut own = self.own.enter().map_err(denied)?;
        // Who stops it has the window next, and looks at it no more once this has left.
        if self.queue.is_stopped() || !goes_on() {
            return Err(Trouble::before(Cause::Canceled));
        }
        fetch(&mut **own, into)
    }
}

fn denied(denied: Denied) -> Trouble {
    Trouble::after(denied.of("device"), 0)
}

fn not_ready() -> Trouble {
    let text = "the device has data to come but is not ready: call again";
    Trouble::before(Error::device(Errno::new(libc::EAGAIN), text))
}

impl AheadWindow {
    /// Nothing is read before [`begin_reading`](Self::begin_reading). `buffer`: most bytes of one read.
    pub fn new(own: Box<dyn Window>, share: Share, buffer: usize) -> Self {
        let mapped = own.is_mapped();
        let own = Arc::new(Gate::new(GateLevel::Reader, own));
        AheadWindow { own, queue: Arc::new(AheadQueue::new(share, buffer)), front: None, thread: None, mapped }
    }

    /// What a thread needs to read; `None`: one does, or there is nothing to read.
    pub fn begin_reading(&mut self) -> Option<Reading> {
        if !self.queue.begin() {
            return None;
        }
        // The thread before it has nothing left to do.
        self.join();
        Some(Reading { own: Arc::clone(&self.own), queue: Arc::clone(&self.queue) })
    }

    /// The thread was made.
    pub fn reads_on(&mut self, thread: Resident) {
        self.thread = Some(thread);
    }

    fn join(&mut self) {
        // It is waited for; if it has panicked the gate says so.
        self.thread = None;
        self.queue.take_lines().into_iter().for_each(log::replay);
    }

    /// The thread that reads has ended when it returns; waits for its request. Refused to a function that the request has called.
    pub fn stop(&mut self) -> std::result::Result<(), Denied> {
        if self.thread.is_none() {
            return Ok(());
        }
        if self.own.is_mine() {
            return Err(Denied::Reentry);
        }
        self.queue.ask_stop();
        if let Err(Denied::Reentry) = self.own.enter_whole() {
            return Err(Denied::Reentry);
        }
        self.join();
        Ok(())
    }

    /// The device's own window, which is the caller's from now on; `None`: a thread has it still.
    pub fn take_own(&mut self) -> Option<Box<dyn Window>> {
        self.own.enter_to_close().ok()?.close().map(|own| *own)
    }

    fn own<T>(&self, call: impl FnOnce(&mut dyn Window) -> WindowResult<T>) -> WindowResult<T> {
        let mut own = self.own.enter().map_err(denied)?;
        call(&mut **own)
    }

    fn of_own<T>(&self, otherwise: T, call: impl FnOnce(&mut dyn Window) -> T) -> T {
        match self.own.enter() {
            Ok(mut own) => call(&mut **own),
            Err(_) => otherwise,
        }
    }

    /// Takes the next bytes out of the queue, and waits for them if they will come. Where the next bytes are, or that none
    /// follow.
    fn look(&mut self, access: &Access<'_>) -> WindowResult<Where> {
        self.queue.take_lines().into_iter().for_each(log::replay);
        let begun = Instant::now();
        loop {
            if let Some(run) = self.front.as_ref().and_then(Filled::run) {
                return Ok(Where::Front(run));
            }
            if let Some(front) = self.front.take() {
                self.queue.give_back(front);
            }
            match self.queue.next() {
                Next::Filled(filled) => self.front = Some(filled),
                Next::End => {
                    self.join();
                    return Ok(Where::End);
                }
                Next::Failed(trouble) => return Err(trouble),
                Next::Direct => return Ok(Where::Own),
                Next::Wait if access.cancel.asked() => return Err(Trouble::before(Cause::Canceled)),
                Next::Wait if begun.elapsed() >= PATIENCE => return Err(not_ready()),
                Next::Wait => self.queue.wait(),
            }
        }
    }

    /// `len` bytes in front are the caller's.
    fn advance(&mut self, len: usize) {
        let Some(front) = &mut self.front else { return };
        front.advance(len);
        if front.run().is_none() {
            if let Some(front) = self.front.take() {
                self.queue.give_back(front);
            }
        }
    }

    fn has_front(&self) -> bool {
        self.front.as_ref().is_some_and(|front| front.run().is_some())
    }
}

/// Where the next bytes are.
enum Where {
    Front(Fetched),
    Own,
    End,
}

/// What is said of the first `len` bytes of a run.
fn flags(run: Fetched, len: usize) -> StreamFlags {
    if len as u64 == run.segment_left { StreamFlags::SEGMENT_END } else { StreamFlags::empty() }
}

impl Drop for AheadWindow {
    fn drop(&mut self) {
        // Refused only to the reader's own thread, which then has it still.
        let _ = self.stop();
    }
}

impl Window for AheadWindow {
    fn ahead(&mut self) -> Option<&mut AheadWindow> {
        Some(self)
    }

    fn reads_ahead(&self) -> bool {
        self.has_front() || self.queue.serves()
    }

    fn begin(&mut self, access: &Access<'_>, data: Option<Box<dyn DataFd>>) {
        self.of_own((), |own| own.begin(access, data));
    }

    fn end(&mut self, lent: bool) {
        if self.stop().is_err() {
            return;
        }
        if !lent {
            self.front = None;
        }
        self.queue.clear();
        self.of_own((), |own| own.end(lent));
    }

    fn release(&mut self) {
        // While a thread reads it stays for a little longer.
        if !self.reads_ahead() {
            self.of_own((), |own| own.release());
        }
    }

    fn data_fd(&self) -> Option<i32> {
        self.of_own(None, |own| own.data_fd())
    }

    fn is_mapped(&self) -> bool {
        self.mapped
    }

    fn unread(&self) -> usize {
        match self.front.as_ref().and_then(Filled::run) {
            Some(run) => run.len,
            None if self.queue.serves() => 0,
            None => self.of_own(0, |own| own.unread()),
        }
    }

    fn in_use(&self) -> bool {
        self.queue.serves() || self.of_own(true, |own| own.in_use())
    }

    fn begin_anew(&mut self) {
        self.of_own((), |own| own.begin_anew());
    }

    fn is_guarded(&self) -> bool {
        match &self.front {
            Some(front) => Arc::strong_count(&front.memory) > 1,
            None => !self.queue.serves() && self.of_own(false, |own| own.is_guarded()),
        }
    }

    fn lend(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<Chunk>> {
        let run = match self.look(access)? {
            Where::Front(run) => run,
            Where::Own => return self.own(|own| own.lend(access, max)),
            Where::End => return Ok(None),
        };
        let Some(front) = &self.front else { return Ok(None) };
        let len = run.len.min(max);
        let range = front.at..front.at.saturating_add(len);
        Ok(Some(Chunk::new(&front.memory, range, run.segment_left, flags(run, len))))
    }

    #[cfg(feature = "capi")]
    fn lend_raw(&mut self, access: &Access<'_>, max: usize) -> WindowResult<Option<RawChunk>> {
        let run = match self.look(access)? {
            Where::Front(run) => run,
            Where::Own => return self.own(|own| own.lend_raw(access, max)),
            Where::End => return Ok(None),
        };
        let Some(front) = &self.front else { return Ok(None) };
        let len = run.len.min(max);
        let flags = flags(run, len).bits();
        Ok(Some(RawChunk { data: front.bytes(len).as_ptr(), len, segment_left: run.segment_left, flags }))
    }

    fn take(&mut self, access: &Access<'_>, len: usize) {
        if self.has_front() {
            self.advance(len);
        } else {
            self.of_own((), |own| own.take(access, len));
        }
    }

    fn read(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<(usize, StreamFlags)>> {
        let run = match self.look(access)? {
            Where::Front(run) => run,
            Where::Own => return self.own(|own| own.read(access, buf)),
            Where::End => return Ok(None),
        };
        let len = run.len.min(buf.len());
        if let (Some(to), Some(front)) = (buf.get_mut(..len), &self.front) {
            to.copy_from_slice(front.bytes(len));
        }
        self.advance(len);
        Ok(Some((len, flags(run, len))))
    }

    fn fetch(&mut self, access: &Access<'_>, buf: &mut [u8]) -> WindowResult<Option<Fetched>> {
        self.own(|own| own.fetch(access, buf))
    }

    fn send(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        max: usize,
    ) -> WindowResult<Option<(usize, StreamFlags)>> {
        let run = match self.look(access)? {
            Where::Front(run) => run,
            Where::Own => return self.own(|own| own.send(access, fd, max)),
            Where::End => return Ok(None),
        };
        let Some(front) = &self.front else { return Ok(None) };
        let bytes = front.bytes(run.len.min(max));
        let sent = write_to(fd, bytes).map_err(|errno| Trouble::before(Cause::Descriptor(errno)))?;
        self.advance(sent);
        Ok(Some((sent, flags(run, sent))))
    }

    fn figures(&mut self, access: &Access<'_>) -> WindowResult<Figures> {
        if self.reads_ahead() {
            // To ask would acknowledge what is being read (P21).
            return Ok(Figures { precopy: PrecopyFigures::UNKNOWN, left: None, cached: true });
        }
        self.own(|own| own.figures(access))
    }

    fn room(&mut self, access: &Access<'_>, segment_left: u64) -> WindowResult<Room> {
        self.own(|own| own.room(access, segment_left))
    }

    fn commit(&mut self, access: &Access<'_>, bytes: &[u8], segment_end: bool) -> WindowResult<()> {
        self.own(|own| own.commit(access, bytes, segment_end))
    }

    #[cfg(feature = "capi")]
    fn raw_room(&mut self, access: &Access<'_>, segment_left: u64) -> WindowResult<RawRoom> {
        self.own(|own| own.raw_room(access, segment_left))
    }

    #[cfg(feature = "capi")]
    fn commit_raw(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> WindowResult<()> {
        self.own(|own| own.commit_raw(access, len, segment_end))
    }

    fn write(&mut self, access: &Access<'_>, bytes: &[u8], after: usize, segment_end: bool) -> WindowResult<()> {
        self.own(|own| own.write(access, bytes, after, segment_end))
    }

    fn receive(
        &mut self,
        access: &Access<'_>,
        fd: BorrowedFd<'_>,
        len: usize,
        segment_end: bool,
    ) -> WindowResult<usize> {
        self.own(|own| own.receive(access, fd, len, segment_end))
    }
}
