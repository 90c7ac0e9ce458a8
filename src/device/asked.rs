//! What is asked of a device now, and since when, for any thread to see: a device that hangs hangs in a request. A look
//! never waits.

use super::{Device, DeviceInner, State};
use crate::error::{Error, Result};
use crate::gate::Denied;
use crate::transport::clock;
use crate::window::waits_of_this_thread;
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often who waits for a request looks whether it was answered.
const LOOK: Duration = Duration::from_millis(2);

/// What can be asked of a device.
///
/// ```
/// use vfiomig::device::DeviceRequest;
/// use vfiomig::dialect::State;
///
/// assert_eq!(DeviceRequest::SetState(State::StopCopy).to_string(), "the change to STOP_COPY");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// To go to this state.
    SetState(State),
    /// The next bytes of its stream.
    Read,
    /// To take bytes of its stream.
    Write,
    /// Where it is, what it can do, or how much is left.
    Query,
    /// `VFIO_DEVICE_RESET`.
    Reset,
    /// Something of its log of written pages.
    Log,
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceRequest::SetState(to) => return write!(f, "the change to {to}"),
            DeviceRequest::Read => "a read of its stream",
            DeviceRequest::Write => "a write of its stream",
            DeviceRequest::Query => "a query",
            DeviceRequest::Reset => "the reset",
            DeviceRequest::Log => "a request to its log of written pages",
        })
    }
}

/// A request that the device has not answered.
///
/// Example: [`DeviceProgress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it is.
    pub request: DeviceRequest,
    /// Since when, by CLOCK_MONOTONIC, down to 256 ns.
    pub since: Duration,
}

impl Asked {
    /// How long it has taken until now.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(clock::now()).saturating_sub(self.since)
    }
}

/// What a device is doing, as any thread can see it at any time.
///
/// ```
/// use std::time::Duration;
/// use vfiomig::device::{Device, DeviceOptions, DeviceRequest, OnFailure};
/// use vfiomig::dialect::State;
///
/// let hardware = simdev::Device::new(simdev::Config::default());
/// let device = Device::new(hardware.transport(), DeviceOptions::default())?;
/// assert_eq!(device.progress().asked, None);
/// let slow = simdev::Effect::Delay(Duration::from_millis(200));
/// hardware.inject(simdev::Fault::at(simdev::Access::StateWrite, 0, slow));
/// std::thread::scope(|threads| {
///     let change = threads.spawn(|| device.set_state(State::Stop, OnFailure::Keep, false));
///     // Another thread sees what the device is busy with, and for how long.
///     while !change.is_finished() {
///         let Some(asked) = device.progress().asked else { continue };
///         if asked.request == DeviceRequest::SetState(State::Stop) {
///             println!("{} since {:?}", asked.request, asked.age());
///         }
///         std::thread::sleep(Duration::from_millis(20));
///     }
///     change.join().unwrap()
/// })?;
/// assert_eq!(device.progress().state, State::Stop);
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProgress {
    /// Its name.
    pub device: String,
    /// Where it was found last. It has not arrived where it was asked to go before this says so.
    pub state: State,
    /// The request that is with the device, its driver or the VMM's functions for it, or that waits for it to be ready.
    pub asked: Option<Asked>,
    /// The same of its DMA log, which is asked beside everything else.
    pub log: Option<Asked>,
    /// Bytes consumed in the current or last save session.
    pub saved_bytes: u64,
    /// Bytes that it took in the current or last load session.
    pub loaded_bytes: u64,
}

/// How often something was done, and for how long in all.
#[derive(Debug, Default)]
struct Spent {
    calls: AtomicU64,
    nanos: AtomicU64,
}

impl Spent {
    fn get(&self) -> (u64, Duration) {
        (self.calls.load(Ordering::Relaxed), Duration::from_nanos(self.nanos.load(Ordering::Relaxed)))
    }
}

/// Which request is in progress: its beginning in units of 256 ns, with its number and its target in the lower bits; 0: none. One
/// thread at a time writes.
#[derive(Debug, Default)]
pub(super) struct RequestSlot {
    now: AtomicU64,
    reads: Spent,
    writes: Spent,
    /// How often a call waited because the device was not ready.
    waits: AtomicU64,
}

const LOWER: u64 = 0xff;
const _: () = assert!(State::ALL.len() <= 16);

impl RequestSlot {
    /// A request begins; it ends with the guard. One within another takes its place for so long.
    pub fn begin(&self, request: DeviceRequest) -> Open<'_> {
        let (number, target) = match request {
            DeviceRequest::SetState(to) => (1, to.number()),
            DeviceRequest::Read => (2, 0),
            DeviceRequest::Write => (3, 0),
            DeviceRequest::Query => (4, 0),
            DeviceRequest::Reset => (5, 0),
            DeviceRequest::Log => (6, 0),
        };
        let (before, begun) = (self.now.load(Ordering::Relaxed), clock::now());
        self.now.store((begun & !LOWER) | (number << 4) | u64::from(target), Ordering::Relaxed);
        Open { slot: self, before, request, begun, waits: waits_of_this_thread() }
    }

    pub fn get(&self) -> Option<Asked> {
        let value = self.now.load(Ordering::Relaxed);
        let request = match (value & LOWER) >> 4 {
            1 => DeviceRequest::SetState(State::from_number((value & 0xf) as u32)?),
            2 => DeviceRequest::Read,
            3 => DeviceRequest::Write,
            4 => DeviceRequest::Query,
            5 => DeviceRequest::Reset,
            6 => DeviceRequest::Log,
            _ => return None,
        };
        Some(Asked { request, since: Duration::from_nanos(value & !LOWER) })
    }
}

/// A request is in progress while it lives.
pub(super) struct Open<'s> {
    slot: &'s RequestSlot,
    before: u64,
    request: DeviceRequest,
    begun: u64,
    waits: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.slot.now.store(self.before, Ordering::Relaxed);
        let spent = match self.request {
            DeviceRequest::Read => &self.slot.reads,
            DeviceRequest::Write => &self.slot.writes,
            _ => return,
        };
        spent.calls.fetch_add(1, Ordering::Relaxed);
        spent.nanos.fetch_add(clock::now().saturating_sub(self.begun), Ordering::Relaxed);
        let waits = waits_of_this_thread().saturating_sub(self.waits);
        if waits > 0 {
            self.slot.waits.fetch_add(waits, Ordering::Relaxed);
        }
    }
}

/// What a device has moved since its handle was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub saved: u64,
    pub loaded: u64,
    /// Calls that read or wrote, and how long they took in all.
    pub reads: u64,
    pub read_time: Duration,
    pub writes: u64,
    pub write_time: Duration,
    pub waits: u64,
    /// Requests that were made once more.
    pub retries: u64,
}

impl Traffic {
    /// What has come since then.
    pub fn since(self, before: &Traffic) -> Traffic {
        Traffic {
            saved: self.saved.saturating_sub(before.saved),
            loaded: self.loaded.saturating_sub(before.loaded),
            reads: self.reads.saturating_sub(before.reads),
            read_time: self.read_time.saturating_sub(before.read_time),
            writes: self.writes.saturating_sub(before.writes),
            write_time: self.write_time.saturating_sub(before.write_time),
            waits: self.waits.saturating_sub(before.waits),
            retries: self.retries.saturating_sub(before.retries),
        }
    }
}

impl Device {
    /// What the device is doing now. *any: asks no device, waits for no call.*
    pub fn progress(&self) -> DeviceProgress {
        // The request first: a state that is read behind it is not older.
        let (asked, log) = (self.asked(), self.cache.log_asked.get());
        let info = (self.cache.saved_bytes.load(Ordering::Relaxed), self.cache.loaded_bytes.load(Ordering::Relaxed));
        DeviceProgress {
            device: self.name.clone(),
            state: self.cache.state(),
            asked,
            log,
            saved_bytes: info.0,
            loaded_bytes: info.1,
        }
    }

    /// What it has moved so far, in all sessions. *any.*
    pub(crate) fn traffic(&self) -> Traffic {
        let ((reads, read_time), (writes, write_time)) = (self.cache.asked.reads.get(), self.cache.asked.writes.get());
        let ahead = self.ahead_traffic();
        Traffic {
            saved: self.cache.saved_in_all.load(Ordering::Relaxed),
            loaded: self.cache.loaded_in_all.load(Ordering::Relaxed),
            reads: reads.saturating_add(ahead.reads),
            read_time: read_time.saturating_add(ahead.read_time),
            writes,
            write_time,
            waits: self.cache.asked.waits.load(Ordering::Relaxed).saturating_add(ahead.waits),
            retries: self.cache.retries.load(Ordering::Relaxed),
        }
    }

    /// What of it was read ahead, into the queue: whether its caller has taken it or not. *any.*
    pub(crate) fn ahead_traffic(&self) -> Traffic {
        let (reads, read_time) = self.cache.ahead_asked.reads.get();
        Traffic {
            saved: self.cache.ahead.bytes.load(Ordering::Relaxed),
            reads,
            read_time,
            waits: self.cache.ahead_asked.waits.load(Ordering::Relaxed),
            ..Traffic::default()
        }
    }

    /// A request is made once more.
    pub(crate) fn count_retry(&self) {
        self.cache.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The request that is in progress, but for those of its DMA log.
    pub(crate) fn asked(&self) -> Option<Asked> {
        self.cache.asked.get().or_else(|| self.cache.ahead_asked.get())
    }

    /// Waits for a read of its stream that is in progress, which nothing can overtake, until that has taken `most` in all. Who
    /// reads in a loop does not read again before.
    pub(crate) fn wait_for_read(&self, most: Duration) -> Result<()> {
        self.behind_read(most, |_| ())
    }

    /// The same; and no other read follows, because what was sent of the stream is void.
    pub(crate) fn void_behind_read(&self, most: Duration) -> Result<()> {
        self.behind_read(most, |inner| inner.void_session(&self.cache))
    }

    fn behind_read(&self, most: Duration, then: impl FnOnce(&mut DeviceInner)) -> Result<()> {
        let slots = [&self.cache.asked, &self.cache.ahead_asked];
        let read = |slot: &RequestSlot| slot.get().filter(|asked| asked.request == DeviceRequest::Read);
        let hangs = || slots.into_iter().filter_map(read).find(|asked| asked.age() >= most);
        let late = Cell::new(None);
        let patient = || {
            late.set(hangs());
            late.get().is_none()
        };
        // Who reads ahead does not have the device, and was told to stop, so that no other read follows.
        while patient() && read(&self.cache.ahead_asked).is_some() {
            std::thread::sleep(LOOK);
        }
        if late.get().is_none() {
            match self.gate.enter_whole_while(&patient) {
                Ok(mut inner) => {
                    then(&mut inner);
                    return Ok(());
                }
                Err(Denied::Busy) => {}
                // The next call says why.
                Err(_) => return Ok(()),
            }
        }
        let Some(asked) = late.get() else { return Ok(()) };
        let text =
            format!("{} was not answered for {:.1?}, and nothing else can be asked before", asked.request, asked.age());
        Err(self.named(Error::waited_enough(text)))
    }

    /// Whether the call that failed so can be made again: the library waits for the device no longer, or its server has not
    /// answered.
    pub(crate) fn is_for_again(&self, error: &Error) -> bool {
        error.is_for_again() || self.of_server && error.errno() == libc::ETIMEDOUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_within_another_takes_its_place_for_so_long() {
        let slot = RequestSlot::default();
        assert_eq!(slot.get(), None);
        for state in State::ALL {
            let outer = slot.begin(DeviceRequest::SetState(state));
            let seen = slot.get().unwrap();
            assert_eq!(seen.request, DeviceRequest::SetState(state));
            for request in [
                DeviceRequest::Read,
                DeviceRequest::Write,
                DeviceRequest::Query,
                DeviceRequest::Reset,
                DeviceRequest::Log,
            ] {
                let _inner = slot.begin(request);
                assert_eq!(slot.get().unwrap().request, request);
            }
            assert_eq!(slot.get(), Some(seen));
            drop(outer);
            assert_eq!(slot.get(), None);
        }
    }

    #[test]
    fn its_age_counts_from_its_beginning() {
        let slot = RequestSlot::default();
        let _open = slot.begin(DeviceRequest::Reset);
        std::thread::sleep(Duration::from_millis(10));
        let age = slot.get().unwrap().age();
        assert!(age >= Duration::from_millis(10) && age < Duration::from_secs(10), "{age:?}");
    }
}
