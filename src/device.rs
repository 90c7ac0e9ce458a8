//! One migratable VFIO device: transport, dialect, data window and session with one handle.
//!
//! May import: window, dialect, workers, transport, cancel, error, gate, log. Start reading at [`Device`] here, and at
//! `transition` (states) or `save` (bytes). `observe` reads where a device is, `past` knows when that may be a lie, `reset` and
//! `reprobe` begin anew; `session` is one save or load, `load` (`behind`: by way of a queue) and `pending` (sizes) are its other
//! calls, `ahead` reads a stream ahead of them (`ahead_record` is what others see of it), `callers_fd` is for a descriptor of
//! the caller that moves nothing, `dirty` for the logs that devices keep themselves; `cache` is what any thread may read, also
//! `asked` (the request in progress) and `times` (how long state changes take); `entered` is a call in progress.
//!
//! Follows: docs/design.md, "The state machine" and "The data window".
//!
//! Example: [`Device`].

mod ahead;
mod ahead_record;
mod asked;
mod behind;
mod cache;
mod callers_fd;
pub(crate) mod dirty;
mod entered;
pub(crate) mod fact;
mod load;
mod observe;
mod past;
mod pending;
mod reprobe;
mod reset;
mod save;
mod session;
mod times;
mod transition;

use crate::cancel::Cancel;
use crate::dialect::probe::probe;
use crate::dialect::{Caps, Cursor, Dialect, DialectKind, Reason, State};
use crate::error::{Error, Result};
use crate::gate::{Denied, Driver, Gate, GateLevel, Pass, this_thread, within};
use crate::log::log;
use crate::transport::one_call::WithinCall;
use crate::transport::signals::Blocked;
use crate::transport::{Peer, Transport};
use crate::window::{DEFAULT_BUFFER, MAX_BUFFER, MIN_BUFFER, Quirks, Window};
pub(crate) use asked::Traffic;
pub use asked::{Asked, DeviceProgress, DeviceRequest};
pub(crate) use behind::AfterLoad;
use cache::Cache;
pub use cache::CapFlags;
use entered::Entered;
pub use pending::DevicePending;
use reprobe::new_window;
pub(crate) use save::VoidRemains;
use session::Session;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
pub use transition::OnFailure;

/// Longest name of a device, in bytes of UTF-8.
pub const MAX_NAME: usize = 255;

/// How a device is made.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::dialect::DialectKind;
///
/// let hardware = simdev::Device::new(simdev::Config::v1(simdev::Window::Area));
/// let found = |dialect| {
///     let options = DeviceOptions { name: "gpu0".into(), dialect, buffer_size: Some(64 << 10), ..DeviceOptions::default() };
///     Device::new(hardware.transport(), options).map(|device| device.info().dialect)
/// };
/// assert_eq!(found(None)?, Some(DialectKind::V1));
/// assert_eq!(found(Some(DialectKind::V2))?, None);
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// For messages, and unique within a group; at most [`MAX_NAME`] bytes. Empty: what the transport is called
    /// ([`Transport::name`]), or "device". A wire finds devices by name, and wants the same one at both ends.
    pub name: String,
    /// The only dialect to look for; `None` looks for all. A draft with v1's region id must be named.
    pub dialect: Option<DialectKind>,
    /// Draft only: who remembers how far a bitmap was read; `None`: by the region's id.
    pub draft_cursor: Option<Cursor>,
    /// For devices that break the protocol.
    pub quirks: Quirks,
    /// Staging buffer in bytes, 4 KiB to 1 GiB; `None` is 1 MiB.
    pub buffer_size: Option<usize>,
    /// *device* calls that would wait for another call answer BUSY instead.
    pub no_wait: bool,
    /// No tracker uses the log of written pages that the device keeps itself.
    pub no_log: bool,
}

/// What is known of a device without asking it.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions, OnFailure};
/// use vfiomig::dialect::{DialectKind, State};
///
/// let hardware = simdev::Device::new(simdev::Config::default());
/// let device = Device::new(hardware.transport(), DeviceOptions::default())?;
/// device.set_state(State::StopCopy, OnFailure::Keep, false)?;
/// let (len, _) = device.read(&mut [0; 4096])?;
/// let info = device.info();
/// assert_eq!((info.dialect, info.state), (Some(DialectKind::V2), State::StopCopy));
/// assert!(info.session_open && info.session == 1 && !info.complete);
/// assert_eq!(info.saved_bytes, len as u64);
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// `None`: not migratable, `reason` says why.
    pub dialect: Option<DialectKind>,
    /// What it can do.
    pub caps: CapFlags,
    /// Last known state.
    pub state: State,
    /// A session is open: a data fd (v2), or a stay in SAVING or RESUMING (v1, draft).
    pub session_open: bool,
    /// Sessions opened so far by this handle; the number of the current or last one.
    pub session: u64,
    /// Bytes consumed in the current or last save session.
    pub saved_bytes: u64,
    /// Bytes that the device took in the current or last load session.
    pub loaded_bytes: u64,
    /// Of the open session: END was reached (save), or `finish` was called with the right count (load).
    pub complete: bool,
    /// The open save session has said once that there is nothing more for now (EMPTY), and not only that it is not ready.
    pub seen_empty: bool,
    /// A data call of the open session failed after bytes may have moved: a save gives nothing more, a load takes nothing more.
    pub broken: bool,
    /// Why it cannot be migrated.
    pub reason: Option<Reason>,
}

/// One device.
///
/// Methods named *whole* in their documentation wait for the call in progress and go before later ones; those named
/// *device* wait for the calls before them, unless [`DeviceOptions::no_wait`] was asked for; the rest read cached values and wait
/// for no call. Dropping a device closes it.
///
/// ```
/// use vfiomig::device::{CapFlags, Device, OnFailure, DeviceOptions};
/// use vfiomig::dialect::State;
///
/// let hardware = simdev::Device::new(simdev::Config::v2(vfiomig::dialect::Caps { p2p: true, pre_copy: true }));
/// let device = Device::new(hardware.transport(), DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?;
/// let info = device.info();
/// assert!(info.reason.is_none() && info.caps.contains(CapFlags::PRE_COPY));
/// device.set_state(State::PreCopy, OnFailure::Keep, false)?;
/// assert!(device.pending_exact()?.initial_bytes.is_some());
/// device.set_state(State::Running, OnFailure::Keep, false)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub struct Device {
    name: String,
    no_wait: bool,
    no_log: bool,
    any_thread: bool,
    report_adds_bits: bool,
    logs_by_mapping: bool,
    /// Of a server, whose silence is a request without an answer.
    of_server: bool,
    buffer_size: usize,
    cache: Arc<Cache>,
    gate: Gate<DeviceInner>,
    /// Requests to the DMA log go beside data calls and state changes, which may be in progress on another thread.
    log: Gate<Arc<dyn Transport>>,
}

/// What a call has for itself while it is in progress.
struct DeviceInner {
    /// For the log.
    name: String,
    transport: Arc<dyn Transport>,
    dialect: std::result::Result<Arc<dyn Dialect>, Reason>,
    window: Box<dyn Window>,
    /// The window that another one took the place of while a chunk or buffer of it was lent.
    kept: Option<Box<dyn Window>>,
    wanted: Option<DialectKind>,
    draft_cursor: Option<Cursor>,
    buffer_size: usize,
    quirks: Quirks,
    session: Option<Session>,
    /// A save session ended before its END was reached: what the caller sent of it is void (docs/design.md, "Failure and
    /// sessions").
    stream_void: bool,
    past: past::Past,
    /// What is lent belongs to a session that has ended.
    lent_is_stale: bool,
    /// The thread of the last *device* call.
    user: usize,
    /// The state could not be read the last time; this is the one before. The session, if there is one, is of that.
    unread_since: Option<State>,
}

impl Device {
    /// Probes the device that `transport` reaches, in whatever state it is, and changes nothing but the REINIT opt-in (C8).
    ///
    /// A device that cannot be migrated is no error: [`DeviceInfo::reason`] says why.
    pub fn new(transport: Box<dyn Transport>, mut options: DeviceOptions) -> Result<Device> {
        if options.name.is_empty() {
            options.name = transport.name().unwrap_or_else(|| "device".to_string());
        }
        if options.name.len() > MAX_NAME {
            let len = options.name.len();
            return Err(Error::argument(format!("name: {len} bytes, longer than {MAX_NAME}")));
        }
        let size = options.buffer_size.unwrap_or(DEFAULT_BUFFER);
        if !(MIN_BUFFER..=MAX_BUFFER).contains(&size) {
            return Err(Error::argument(format!("buffer_size: {size} is not within {MIN_BUFFER} to {MAX_BUFFER}")));
        }
        let (any_thread, report_adds_bits) = (transport.any_thread(), transport.report_adds_bits());
        let logs_by_mapping = transport.logs_by_mapping();
        let of_server = transport.peer() != Peer::Driver;
        let cache = Arc::new(Cache::new());
        let transport: Arc<dyn Transport> = Arc::from(transport);
        let (_blocked, _call) = (Blocked::new(), WithinCall::with_one_deadline());
        let found = probe(&options.name, &*transport, options.dialect, options.draft_cursor)
            .map_err(|error| error.context(&options.name))?;
        cache.set_found(&found, false);
        if let Ok(dialect) = &found.dialect {
            cache.set_state(dialect.read_state(&*transport).map_err(|error| error.context(&options.name))?);
        }
        let inner = DeviceInner {
            name: options.name.clone(),
            kept: None,
            window: new_window(&found, size, options.quirks),
            wanted: options.dialect,
            draft_cursor: options.draft_cursor,
            buffer_size: size,
            quirks: options.quirks,
            transport,
            dialect: found.dialect,
            session: None,
            stream_void: false,
            past: past::Past::default(),
            lent_is_stale: false,
            user: this_thread(),
            unread_since: None,
        };
        let log = Gate::new(GateLevel::Log, Arc::clone(&inner.transport));
        let DeviceOptions { name, no_wait, no_log, .. } = options;
        let device = Device {
            name,
            no_wait,
            no_log,
            any_thread,
            report_adds_bits,
            logs_by_mapping,
            of_server,
            buffer_size: size,
            cache,
            gate: Gate::new(GateLevel::Device, inner),
            log,
        };
        log!(Info, "{}: {}", device.name, device.summary());
        Ok(device)
    }

    fn summary(&self) -> String {
        let info = self.info();
        match (info.dialect, info.reason) {
            (Some(kind), _) => format!("dialect {}, state {}, caps {:#x}", kind.name(), info.state, info.caps.bits()),
            (None, Some(reason)) => format!("not migratable: {reason}"),
            (None, None) => "not migratable".to_string(),
        }
    }

    /// Which protocol it speaks and what it can do, or why it cannot be migrated.
    pub(crate) fn ability(&self) -> Result<(DialectKind, Caps)> {
        let info = self.info();
        let caps = Caps { p2p: info.caps.contains(CapFlags::P2P), pre_copy: info.caps.contains(CapFlags::PRE_COPY) };
        match (info.dialect, info.reason) {
            (Some(kind), _) => Ok((kind, caps)),
            (None, Some(reason)) => Err(self.named(Error::unsupported(format!("not migratable: {reason}")))),
            (None, None) => Err(self.named(Error::unsupported("not migratable"))),
        }
    }

    /// It is in a group: whether a call on that is in progress.
    pub(crate) fn join(&self, group: Weak<dyn Driver>) {
        *self.cache.driver.lock() = Some(group);
    }

    /// It has left that group.
    pub(crate) fn leave(&self, group: &Weak<dyn Driver>) {
        let place = |group: &Weak<dyn Driver>| group.as_ptr().cast::<()>();
        let mut driver = self.cache.driver.lock();
        if driver.as_ref().is_some_and(|driver| place(driver) == place(group)) {
            *driver = None;
        }
    }

    fn check_not_driven(&self) -> Result<()> {
        let driver = self.cache.driver.lock().as_ref().and_then(Weak::upgrade);
        match driver {
            Some(driver) if driver.calls_me() => {
                Err(self.named(Error::reentry("called from a callback of a call on its group or migration")))
            }
            _ => Ok(()),
        }
    }

    /// From now on a cancel of this migration ends what the device waits for by itself.
    pub(crate) fn follow(&self, cancel: &Arc<Cancel>) {
        self.cache.cancel.follow(cancel);
    }

    /// The guest whose state it holds may run elsewhere from now on; or the caller says that it does not.
    pub(crate) fn hand_over(&self, elsewhere: bool) {
        self.cache.handed_over.store(elsewhere, Ordering::Relaxed);
    }

    /// Whether to let it run may be to run a second guest. Lasts until it is reset, loaded, or let run.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.cache.handed_over.load(Ordering::Relaxed)
    }

    /// A reset has left it in RESUMING, with nothing in it: a load may begin there.
    pub(crate) fn is_emptied(&self) -> bool {
        self.cache.emptied.load(Ordering::Relaxed)
    }

    /// It was in RESUMING since the last reset that this handle did: something may be in it that was loaded.
    pub(crate) fn may_hold_load(&self) -> bool {
        self.cache.may_hold_load.load(Ordering::Relaxed)
    }

    /// The open save session has no initial data left, whatever the device's estimate says (C4).
    pub(crate) fn is_initial_gone(&self) -> bool {
        self.cache.initial_gone.load(Ordering::Relaxed)
    }

    /// The name given in the options.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether calls may come from threads that the library makes inside a call.
    pub fn any_thread(&self) -> bool {
        self.any_thread
    }

    /// Whether its DMA log is kept mapping by mapping.
    pub(crate) fn logs_by_mapping(&self) -> bool {
        self.logs_by_mapping
    }

    /// Whether reports of its DMA log leave the bits that are on already.
    pub(crate) fn report_adds_bits(&self) -> bool {
        self.report_adds_bits
    }

    /// Whether the handle was freed while something still refers to it.
    #[doc(hidden)]
    pub fn is_closed(&self) -> bool {
        self.cache.closed.load(Ordering::Relaxed)
    }

    /// Last known state.
    pub fn state(&self) -> State {
        self.cache.state()
    }

    /// Where the number of that state stands, for ever.
    #[cfg(feature = "capi")]
    pub(crate) fn state_fact(&self) -> &'static std::sync::atomic::AtomicU32 {
        self.cache.state_fact()
    }

    /// Everything that is known without asking the device.
    pub fn info(&self) -> DeviceInfo {
        // First: what is said besides is of this session, or of a later one.
        let session = self.cache.session.load(Ordering::Acquire);
        // Before what it counts: who sees an end sees all bytes of its stream.
        let complete = self.cache.complete.load(Ordering::Acquire);
        let dialect = DialectKind::from_number(self.cache.dialect.load(Ordering::Relaxed));
        DeviceInfo {
            dialect,
            caps: CapFlags::from_bits_retain(self.cache.caps.load(Ordering::Relaxed)),
            state: self.cache.state(),
            session_open: self.cache.session_open.load(Ordering::Relaxed),
            session,
            saved_bytes: self.cache.saved_bytes.load(Ordering::Relaxed),
            loaded_bytes: self.cache.loaded_bytes.load(Ordering::Relaxed),
            seen_empty: self.cache.seen_empty.load(Ordering::Relaxed),
            broken: self.cache.broken.load(Ordering::Relaxed),
            complete,
            // A device that speaks a dialect has none, and a lock that is not taken costs nothing.
            reason: dialect.map_or_else(|| self.cache.reason(), |_| None),
        }
    }

    /// Ends the use of the device: waits for the call in progress, closes the data fd, drops the transport. The device's
    /// state stays as it is. Later calls answer ENODEV. *whole.*
    pub fn close(&self) -> Result<()> {
        if self.gate.is_mine() {
            return Err(self.denied(Denied::Reentry));
        }
        // Both before either is closed, and before a load is given up: a call from a callback of the log frees nothing either.
        let log = self.log.enter_to_close().map_err(|denied| self.denied(denied))?;
        let mut pass = self.gate.enter_to_close().map_err(|denied| self.denied(denied))?;
        self.abandon_load();
        let _blocked = Blocked::new();
        pass.stop_reading().map_err(|error| self.named(error))?;
        let inner = pass.close();
        drop(log.close());
        self.cache.closed.store(true, Ordering::Relaxed);
        self.cache.session_open.store(false, Ordering::Relaxed);
        if let Some(inner) = inner {
            let DeviceInner { mut window, kept, .. } = *inner;
            window.close();
            if let Some(mut kept) = kept {
                kept.close();
            }
        }
        self.end_write_behind();
        Ok(())
    }

    fn enter(&self) -> Result<Entered<'_, DeviceInner>> {
        // What a group's function asks of its devices waits: the flag speaks of the VMM's own calls.
        let pass = if self.no_wait && !within(GateLevel::Group) { self.gate.try_enter() } else { self.gate.enter() };
        let mut inner = self.entered(pass)?;
        inner.user = this_thread();
        Ok(inner)
    }

    /// Entry for the rest of a call that has begun: it waits, whatever the options say.
    fn enter_again(&self) -> Result<Entered<'_, DeviceInner>> {
        self.entered(self.gate.enter())
    }

    fn enter_whole(&self) -> Result<Entered<'_, DeviceInner>> {
        self.entered(self.gate.enter_whole())
    }

    /// Reports of the log go beside it, so the device may be free for a call from one of the functions through which it is
    /// reached. Such a call could ask for nothing, and what it began would look like a failure of the device.
    fn entered<'a>(
        &self,
        pass: std::result::Result<Pass<'a, DeviceInner>, Denied>,
    ) -> Result<Entered<'a, DeviceInner>> {
        let inner = Entered::new(pass.map_err(|denied| self.denied(denied))?);
        if inner.transport.calls_me() { Err(self.denied(Denied::Reentry)) } else { Ok(inner) }
    }

    fn denied(&self, denied: Denied) -> Error {
        self.named(denied.of("device"))
    }

    /// Every message begins with the device's name.
    fn named(&self, error: Error) -> Error {
        error.context(&self.name)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // One that was closed before has nothing left to give back.
        let _ = self.close();
    }
}

impl DeviceInner {
    /// A chunk or buffer is about to be lent: what was lent in a session that has ended goes.
    fn release_lent(&mut self) {
        self.lent_is_stale = false;
        self.window.release();
        if let Some(mut kept) = self.kept.take() {
            kept.close();
        }
    }

    fn dialect(&self) -> Result<&dyn Dialect> {
        match &self.dialect {
            Ok(dialect) => Ok(&**dialect),
            Err(reason) => Err(Error::unsupported(format!("the device is not migratable: {reason}"))),
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("name", &self.name).field("info", &self.info()).finish()
    }
}
