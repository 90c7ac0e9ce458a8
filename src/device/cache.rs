//! Last known values, readable from any thread without waiting for a call.

use super::ahead_record::AheadRecord;
use super::asked::{DeviceRequest, Open, RequestSlot};
use super::behind::Behind;
use super::fact::Fact;
use super::times::Times;
use crate::cancel::Follower;
use crate::dialect::probe::Probed;
use crate::dialect::{DialectKind, Reason, State};
use crate::error::Errno;
use crate::gate::Driver;
use parking_lot::Mutex;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// `VFIOMIG_UNKNOWN`.
pub const UNKNOWN: u64 = u64::MAX;

/// A size that may be unknown.
#[derive(Debug)]
pub(super) struct Figure(AtomicU64);

impl Figure {
    const fn unknown() -> Self {
        Figure(AtomicU64::new(UNKNOWN))
    }

    pub fn set(&self, value: Option<u64>) {
        self.0.store(value.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Takes `less` off. A figure that is smaller than that was wrong, and is unknown from here on.
    pub fn take(&self, less: u64) {
        self.set(self.get().and_then(|value| value.checked_sub(less)));
    }

    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&value| value != UNKNOWN)
    }
}

pub(super) struct Cache {
    state: Fact,
    /// The state is called ERROR because it could not be read, with this errno; 0: it was read.
    unread: AtomicI32,
    /// Requests that can change the state: odd while one is in the kernel.
    moves: AtomicU64,
    pub dialect: AtomicU32,
    pub caps: AtomicU32,
    /// Held for a copy only.
    reason: Mutex<Option<Reason>>,
    pub session_open: AtomicBool,
    pub closed: AtomicBool,
    /// Sessions opened so far; the number of the current or last one.
    pub session: AtomicU64,
    pub saved_bytes: AtomicU64,
    pub loaded_bytes: AtomicU64,
    pub initial_bytes: Figure,
    pub dirty_bytes: Figure,
    pub stop_copy_bytes: Figure,
    pub reinit_count: AtomicU32,
    /// The open session has said once that it has nothing more for now.
    pub seen_empty: AtomicBool,
    /// Nothing of the initial data is left, whatever the estimate says (C4).
    pub initial_gone: AtomicBool,
    /// The open session's stream is whole.
    pub complete: AtomicBool,
    /// What was sent of its stream is void.
    pub stream_void: AtomicBool,
    /// The open session is broken: it gives or takes nothing more, and is only left.
    pub broken: AtomicBool,
    /// The last exact figures were not asked for, since a segment was under way (P21).
    pub pending_cached: AtomicBool,
    /// A save of it was HALTED: the guest whose state it holds may run elsewhere.
    pub handed_over: AtomicBool,
    /// A reset has left it in RESUMING, and no session was opened since: what it was loaded with is gone.
    pub emptied: AtomicBool,
    /// It was in RESUMING since the last reset, so that something may be in it that was loaded.
    pub may_hold_load: AtomicBool,
    /// The group that the device is in.
    pub driver: Mutex<Option<Weak<dyn Driver>>>,
    /// Its state says that it runs, but a step that failed has left it standing still.
    pub only_says_running: AtomicBool,
    /// Whether the device's migration was canceled; looked at only while something is waited for.
    pub cancel: Follower,
    /// The request in progress.
    pub asked: RequestSlot,
    /// The same of its DMA log, which is asked beside it.
    pub log_asked: RequestSlot,
    /// The same of the thread that reads its stream ahead.
    pub ahead_asked: RequestSlot,
    pub ahead: AheadRecord,
    pub times: Times,
    /// Bytes of all sessions.
    pub saved_in_all: AtomicU64,
    pub loaded_in_all: AtomicU64,
    /// Requests that were made once more.
    pub retries: AtomicU64,
    /// What is on its way to the device.
    pub behind: Behind,
}

/// While it lives the device may be on its way from one state to another.
pub(super) struct Moving<'c>(&'c AtomicU64);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

bitflags::bitflags! {
    /// What a device can do.
    ///
    /// ```
    /// use vfiomig::device::{CapFlags, Device, DeviceOptions};
    /// use vfiomig::dialect::Caps;
    ///
    /// let hardware = simdev::Device::new(simdev::Config::v2(Caps { p2p: true, pre_copy: false }));
    /// let caps = Device::new(hardware.transport(), DeviceOptions::default())?.info().caps;
    /// assert!(caps.contains(CapFlags::P2P | CapFlags::RESET) && !caps.contains(CapFlags::PRE_COPY));
    /// # Ok::<(), vfiomig::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct CapFlags: u32 {
        /// It has PRE_COPY.
        const PRE_COPY = 0x1;
        /// It has RUNNING_P2P.
        const P2P = 0x2;
        /// The device info says that a reset is possible, or is refused in this state.
        const RESET = 0x4;
        /// Pre-copy info reports REINIT.
        const REINIT = 0x8;
        /// Its state bytes are in mapped device memory; known from the first session on.
        const MAPPED = 0x10;
    }
}

impl Cache {
    pub fn new() -> Self {
        Cache {
            state: Fact::new(State::Error.number()),
            unread: AtomicI32::new(0),
            moves: AtomicU64::new(0),
            dialect: AtomicU32::new(0),
            caps: AtomicU32::new(0),
            reason: Mutex::new(None),
            session_open: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            session: AtomicU64::new(0),
            saved_bytes: AtomicU64::new(0),
            loaded_bytes: AtomicU64::new(0),
            initial_bytes: Figure::unknown(),
            dirty_bytes: Figure::unknown(),
            stop_copy_bytes: Figure::unknown(),
            reinit_count: AtomicU32::new(0),
            seen_empty: AtomicBool::new(false),
            initial_gone: AtomicBool::new(false),
            complete: AtomicBool::new(false),
            stream_void: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            pending_cached: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            emptied: AtomicBool::new(false),
            may_hold_load: AtomicBool::new(false),
            driver: Mutex::new(None),
            only_says_running: AtomicBool::new(false),
            cancel: Follower::default(),
            asked: RequestSlot::default(),
            log_asked: RequestSlot::default(),
            ahead_asked: RequestSlot::default(),
            ahead: AheadRecord::default(),
            times: Times::new(),
            saved_in_all: AtomicU64::new(0),
            loaded_in_all: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            behind: Behind::default(),
        }
    }

    #[cfg(feature = "capi")]
    pub fn state_fact(&self) -> &'static AtomicU32 {
        self.state.place()
    }

    pub fn state(&self) -> State {
        State::from_number(self.state.load(Ordering::Acquire)).unwrap_or(State::Error)
    }

    /// A request begins, by the call that has its turn on the device.
    pub fn ask(&self, request: DeviceRequest) -> Open<'_> {
        self.asked.begin(request)
    }

    /// A request begins that can change the state; it ends when the result is dropped, after the state was taken over.
    pub fn moving(&self) -> Moving<'_> {
        self.moves.fetch_add(1, Ordering::SeqCst);
        Moving(&self.moves)
    }

    /// A number if the device is known to stand still; it stood still all the time if the number is the same later.
    pub fn stands_still(&self) -> Option<u64> {
        let moves = self.moves.load(Ordering::SeqCst);
        (moves % 2 == 0 && matches!(self.state(), State::Stop | State::StopCopy)).then_some(moves)
    }

    /// What was left of a stream that was not read to its END is no figure of the next one. That nothing is left stays true.
    pub fn forget_what_is_left(&self) {
        if self.stop_copy_bytes.get() != Some(0) {
            self.stop_copy_bytes.set(None);
        }
    }

    /// Takes over a state; what is known only in pre-copy, or on v1 and the draft only in STOP_COPY, is forgotten outside.
    pub fn set_state(&self, state: State) {
        if self.state() == State::StopCopy && state != State::StopCopy {
            self.pending_cached.store(false, Ordering::Relaxed);
            if self.dialect.load(Ordering::Relaxed) != DialectKind::V2 as u32 {
                self.forget_what_is_left();
            }
        }
        if !state.is_precopy() {
            self.initial_bytes.set(None);
            self.dirty_bytes.set(None);
        }
        // Reset, loaded or started by the caller itself, it holds that guest no more, or the caller has decided.
        if !matches!(state, State::Stop | State::StopCopy) {
            self.handed_over.store(false, Ordering::Relaxed);
        }
        if state == State::Resuming {
            self.may_hold_load.store(true, Ordering::Relaxed);
        } else {
            self.emptied.store(false, Ordering::Relaxed);
        }
        self.unread.store(0, Ordering::Relaxed);
        self.state.store(state.number(), Ordering::Release);
    }

    /// The state cannot be read: to everybody it is ERROR.
    pub fn set_unread(&self, errno: i32) {
        self.set_state(State::Error);
        self.unread.store(errno, Ordering::Relaxed);
    }

    /// Why the state could not be read, if it could not: then ERROR is not known, only assumed.
    pub fn unread(&self) -> Option<Errno> {
        Some(self.unread.load(Ordering::Relaxed)).filter(|&errno| errno != 0).map(Errno::new)
    }

    /// Takes over what a probe found; `mapped`: the window stays, and is mapped.
    pub fn set_found(&self, found: &Probed, mapped: bool) {
        let (dialect, mut caps) = match &found.dialect {
            Ok(dialect) => {
                let caps = dialect.caps();
                let bits = [
                    (caps.pre_copy, CapFlags::PRE_COPY),
                    (caps.p2p, CapFlags::P2P),
                    (dialect.reports_reinit(), CapFlags::REINIT),
                ];
                let bits = bits.into_iter().filter(|(has, _)| *has).map(|(_, cap)| cap).collect();
                (dialect.kind() as u32, bits)
            }
            Err(_) => (0, CapFlags::empty()),
        };
        caps.set(CapFlags::RESET, found.can_reset);
        caps.set(CapFlags::MAPPED, mapped);
        *self.reason.lock() = found.dialect.as_ref().err().cloned();
        self.dialect.store(dialect, Ordering::Relaxed);
        self.caps.store(caps.bits(), Ordering::Relaxed);
    }

    /// Whether the window is mapped, as the first session found.
    pub fn set_mapped(&self, mapped: bool) {
        if mapped {
            self.caps.fetch_or(CapFlags::MAPPED.bits(), Ordering::Relaxed);
        } else {
            self.caps.fetch_and(!CapFlags::MAPPED.bits(), Ordering::Relaxed);
        }
    }

    /// Why the device cannot be migrated, if it cannot.
    pub fn reason(&self) -> Option<Reason> {
        self.reason.lock().clone()
    }
}
