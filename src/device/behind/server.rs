//! The thread that gives a device what was put into its queue.
//!
//! Rules: F6 (what the device does not take is lost, and breaks the session), V1-9 and V1-10 (segments are handed over as they
//! came).

use super::load_queue::{LoadItem, LoadQueue};
use crate::device::load::WritePart;
use crate::device::{Device, DeviceRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::GateToken;
use crate::log;
use crate::transport::caller_patience;
use crate::window::{Access, Window};
use crate::workers::{TakenItem, attempt};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often it looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(100);

/// Whatever becomes of the thread, no call waits for it in vain.
struct Leave(Arc<LoadQueue>);

impl Drop for Leave {
    fn drop(&mut self) {
        if !self.0.queue.is_closed() {
            self.0.fail(&Error::new(ErrorKind::Panic, libc::ENOTRECOVERABLE, "the thread of the load has ended"));
            self.0.queue.close();
        }
    }
}

/// `calls`: gates of calls that wait for what is done here, so that none from a callback of it is let in.
pub(super) fn serve(device: &Weak<Device>, queue: &Arc<LoadQueue>, calls: &[GateToken]) {
    let _promises: Vec<_> = calls.iter().map(|gate| gate.promise()).collect();
    let _leave = Leave(Arc::clone(queue));
    queue.serve();
    loop {
        let now = Instant::now();
        let taken = queue.queue.take_until(now.checked_add(GLANCE).unwrap_or(now));
        // Without a device there is no handle that could be waited on.
        let Some(device) = device.upgrade() else { return };
        let item = match taken {
            TakenItem::Closed => return,
            TakenItem::Nothing => None,
            TakenItem::Item(item) => Some(item),
        };
        if device.cache.cancel.asked() {
            let text = "writing the stream was canceled: what was on its way is lost";
            return device.give_up(queue, item, &device.named(Error::canceled(text)));
        }
        let more = match item {
            // The device has all of it. What comes later needs no thread.
            None if queue.has_ended() && queue.queue.close_if_done() => {
                return device.cache.behind.write_at_once(queue);
            }
            None => continue,
            Some(item) => device.serve(queue, item),
        };
        if !more {
            return;
        }
    }
}

impl Device {
    /// Whether there may be more.
    fn serve(&self, queue: &LoadQueue, item: LoadItem) -> bool {
        let has_bytes = item.has_bytes();
        let (done, lines) = log::capture(|| attempt(|| self.load(queue, item)));
        self.cache.behind.keep(lines);
        let error = match done {
            Ok(Ok(())) => {
                queue.queue.done();
                return true;
            }
            Ok(Err(error)) => error,
            Err(panic) => {
                // Its own drop may panic.
                std::mem::forget(panic);
                let text = "a bug in the library was caught on the thread of the load";
                self.named(Error::new(ErrorKind::Panic, libc::ENOTRECOVERABLE, text))
            }
        };
        // Whatever the device has of them, it has not got all, or that is not known.
        if has_bytes {
            self.lose(queue);
        }
        self.give_up(queue, None, &error);
        false
    }

    /// Nothing more is given to the device, and who waits hears why. `item` was not given.
    fn give_up(&self, queue: &LoadQueue, item: Option<LoadItem>, error: &Error) {
        queue.fail(error);
        let left: Vec<LoadItem> = item.into_iter().chain(queue.queue.close()).collect();
        if left.iter().any(LoadItem::has_bytes) {
            self.lose(queue);
        }
        for item in left {
            if let LoadItem::Then(what) = item {
                what(self, Err(error.clone()));
            }
        }
    }

    /// Bytes that were put are lost.
    fn lose(&self, queue: &LoadQueue) {
        self.cache.behind.lose(queue.session);
        // Before any call hears of it.
        if let Ok(mut inner) = self.enter() {
            inner.settle_lost(&self.cache);
        }
    }

    fn load(&self, queue: &LoadQueue, item: LoadItem) -> Result<()> {
        match item {
            LoadItem::Bytes { bytes, len, before, after, segment_end } => {
                let part = WritePart::kept(bytes.get(..len).unwrap_or(&bytes), before, after, segment_end);
                let done = self.load_bytes(queue, part);
                queue.give_back(bytes);
                done
            }
            LoadItem::Segment { bytes, len, left, segment_end } => {
                let done = self.load_segment(queue, bytes.get(..len).unwrap_or(&bytes), left, segment_end);
                queue.give_back(bytes);
                done
            }
            LoadItem::End { total } => self.finish_now(total),
            LoadItem::Then(what) => {
                what(self, Ok(()));
                Ok(())
            }
        }
    }

    /// A device that is only not ready is asked again, for as long as a drain would: the bytes wait here.
    fn load_bytes(&self, queue: &LoadQueue, mut part: WritePart<'_>) -> Result<()> {
        let mut idle = Instant::now();
        loop {
            let mut inner = self.enter()?;
            check_session(queue)?;
            part.keep(idle.elapsed() < caller_patience() && !self.cache.cancel.asked());
            let had = self.cache.loaded_bytes.load(Ordering::Relaxed);
            let Err(error) = inner.write(&self.cache, &self.name, part) else { return Ok(()) };
            let again = part.is_kept() && error.is_not_ready() && !self.cache.broken.load(Ordering::Relaxed);
            if !again {
                inner.break_load(&self.cache);
                return Err(self.at_name(error));
            }
            let has = self.cache.loaded_bytes.load(Ordering::Relaxed);
            if has > had {
                part.advance(usize::try_from(has.saturating_sub(had)).unwrap_or(usize::MAX));
                idle = Instant::now();
            }
        }
    }

    /// As reserve and commit, as often as the device's window needs it.
    fn load_segment(&self, queue: &LoadQueue, bytes: &[u8], left: u64, segment_end: bool) -> Result<()> {
        let (mut rest, mut left) = (bytes, left);
        loop {
            let mut inner = self.enter()?;
            check_session(queue)?;
            let _asked = self.cache.ask(DeviceRequest::Write);
            let lend = |window: &mut dyn Window, access: &Access<'_>| {
                let room = window.room(access, left)?;
                let loan = room.loan();
                Ok((room, loan))
            };
            let mut done = || {
                let mut room = inner.reserve(&self.cache, &self.name, lend)?;
                let len = room.len().min(rest.len());
                let (now, later) = rest.split_at(len);
                room.get_mut(..len).unwrap_or_default().copy_from_slice(now);
                let end = segment_end && later.is_empty();
                inner.commit(&self.cache, &self.name, len, Some(room.guard()), |window, access| {
                    window.commit(access, room.get(..len).unwrap_or_default(), end)
                })?;
                room.give_back();
                Ok(len)
            };
            match done() {
                Ok(len) => {
                    rest = rest.get(len..).unwrap_or_default();
                    left = left.saturating_sub(len as u64);
                }
                Err(error) => {
                    inner.break_load(&self.cache);
                    return Err(self.at_name(error));
                }
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

/// What it was put for has ended while the device was busy with another call.
fn check_session(queue: &LoadQueue) -> Result<()> {
    if queue.queue.is_closed() { Err(Error::stale("the session has ended")) } else { Ok(()) }
}
