//! The device: state bytes, sessions, faults at the k-th call, and a strict judge of what it is asked.

use std::sync::{Arc, Mutex, MutexGuard};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::{Errno, Error};
use vfiomig::transport::{DataFd, Feature, PrecopyInfo, Returned, Transport};

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and does nothing.
    Errno(i32),
    /// A state change fails after the device has moved (V2-5: EMFILE).
    Moved(i32),
    /// The call fails and the device is in ERROR.
    ToError(i32),
    /// A state change succeeds, but no descriptor comes.
    NoFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    DeviceInfo,
    GetMigration,
    GetState,
    SetState(State),
    DataSize,
    OptIn,
    RegionInfo,
    Reset,
    Read,
    Write,
    PrecopyInfo,
}

/// How an end of data is reported in pre-copy (F3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrecopyEnd {
    NoMessage,
    Zero,
}

pub struct Model {
    pub migration_flags: Result<u64, i32>,
    pub state: State,
    /// The device's own state; pre-copy offers the first `precopy_len` bytes of it.
    pub content: Vec<u8>,
    pub precopy_len: usize,
    pub precopy_end: PrecopyEnd,
    /// Most bytes that one read or write moves.
    pub max_io: usize,
    /// New data is there only after pre-copy info (F4, mlx5).
    pub needs_info: bool,
    pub has_precopy_info: bool,
    pub opt_in: Result<(), i32>,
    /// Flags of the next pre-copy info.
    pub info_flags: u32,
    pub data_size: Result<u64, i32>,
    pub region_type: Option<(u32, u32)>,
    pub reset_errnos: Vec<i32>,
    pub can_reset: bool,
    pub fault: Option<(usize, Fault)>,
    pub fault_reached: bool,
    pub calls: Vec<Call>,
    pub violations: Vec<String>,
    pub sessions_opened: usize,
    pub sessions_closed: usize,
    pub session: Option<Session>,
    pub dropped: bool,
}

pub struct Session {
    pub load: bool,
    position: usize,
    loaded: Vec<u8>,
    informed: bool,
    alive: bool,
}

pub const FLAGS_FULL: u64 = 7;

impl Model {
    pub fn new(caps: Caps, content: Vec<u8>) -> Self {
        let precopy_len = if caps.pre_copy { content.len() / 3 } else { 0 };
        Model {
            migration_flags: Ok(1 | if caps.p2p { 2 } else { 0 } | if caps.pre_copy { 4 } else { 0 }),
            state: State::Running,
            data_size: Ok((content.len() - precopy_len) as u64),
            content,
            precopy_len,
            precopy_end: PrecopyEnd::NoMessage,
            max_io: usize::MAX,
            needs_info: false,
            has_precopy_info: true,
            opt_in: Err(libc::ENOTTY),
            info_flags: 0,
            region_type: None,
            reset_errnos: Vec::new(),
            can_reset: true,
            fault: None,
            fault_reached: false,
            calls: Vec::new(),
            violations: Vec::new(),
            sessions_opened: 0,
            sessions_closed: 0,
            session: None,
            dropped: false,
        }
    }

    fn caps(&self) -> Caps {
        let flags = self.migration_flags.unwrap_or(0);
        Caps { p2p: flags & 2 != 0, pre_copy: flags & 4 != 0 }
    }

    fn violation(&mut self, text: impl Into<String>) {
        self.violations.push(text.into());
    }

    /// Notes the call; its fault, if this is the one.
    fn enter(&mut self, call: Call) -> Option<Fault> {
        let number = self.calls.len();
        self.calls.push(call);
        match self.fault {
            Some((k, fault)) if k == number => {
                self.fault_reached = true;
                // A state change is judged by the state it came in.
                if matches!((fault, call), (Fault::ToError(_), c) if !matches!(c, Call::SetState(_))) {
                    self.go_to_error();
                }
                Some(fault)
            }
            _ => None,
        }
    }

    fn go_to_error(&mut self) {
        self.state = State::Error;
        self.end_session();
    }

    fn end_session(&mut self) {
        if let Some(session) = &mut self.session {
            session.alive = false;
        }
    }

    fn set_state(&mut self, to: State, fault: Option<Fault>) -> Result<bool, i32> {
        let from = self.state;
        if from == State::Error || to == State::Error {
            self.violation(format!("V2-1: {from} -> {to}"));
            return Err(libc::EINVAL);
        }
        if from == State::StopCopy && to.is_precopy() {
            self.violation(format!("V2-1: {from} -> {to} hangs a 6.12 kernel"));
            return Err(libc::EINVAL);
        }
        if !self.caps().has(to) {
            self.violation(format!("{to} is not supported"));
            return Err(libc::EINVAL);
        }
        if from == to {
            return Ok(false);
        }
        match fault {
            Some(Fault::Errno(errno)) => return Err(errno),
            Some(Fault::ToError(errno)) => {
                self.go_to_error();
                return Err(errno);
            }
            _ => {}
        }
        if from == State::Resuming {
            let session = self.session.as_ref().expect("RESUMING has a session");
            if session.loaded.len() != self.content.len() {
                return Err(libc::EINVAL);
            }
            self.content = session.loaded.clone();
        }
        let saving = |s: State| s.is_precopy() || s == State::StopCopy;
        let continues = saving(from) && saving(to);
        if !continues {
            self.end_session();
        }
        self.state = to;
        let opens = !continues && to.session().is_some();
        match fault {
            Some(Fault::Moved(errno)) => return Err(errno),
            Some(Fault::NoFd) => return Ok(false),
            _ => {}
        }
        if opens {
            let load = to == State::Resuming;
            self.sessions_opened += 1;
            self.session =
                Some(Session { load, position: 0, loaded: Vec::new(), informed: !self.needs_info, alive: true });
        }
        Ok(opens)
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, i32> {
        if let Some(fault) = self.enter(Call::Read) {
            return Err(errno_of(fault));
        }
        let (state, precopy_len, max_io) = (self.state, self.precopy_len, self.max_io);
        let Some(session) = self.session.as_mut().filter(|s| s.alive && !s.load) else { return Err(libc::ENODEV) };
        let end = if state == State::StopCopy { self.content.len() } else { precopy_len };
        let hidden = state.is_precopy() && !session.informed;
        let left = if hidden { 0 } else { end.saturating_sub(session.position) };
        if left == 0 {
            if self.needs_info {
                session.informed = false;
            }
            return match (state.is_precopy(), self.precopy_end) {
                (true, PrecopyEnd::NoMessage) => Err(libc::ENOMSG),
                _ => Ok(0),
            };
        }
        let len = left.min(buf.len()).min(max_io);
        buf[..len].copy_from_slice(&self.content[session.position..session.position + len]);
        session.position += len;
        Ok(len)
    }

    fn write(&mut self, buf: &[u8]) -> Result<usize, i32> {
        if let Some(fault) = self.enter(Call::Write) {
            return Err(errno_of(fault));
        }
        let (room, max_io) = (self.content.len(), self.max_io);
        let Some(session) = self.session.as_mut().filter(|s| s.alive && s.load) else { return Err(libc::ENODEV) };
        let len = buf.len().min(max_io).min(room - session.loaded.len());
        if len == 0 {
            return Err(libc::ENOMEM);
        }
        session.loaded.extend(&buf[..len]);
        Ok(len)
    }

    fn precopy_info(&mut self) -> Result<(u32, u64, u64), i32> {
        if let Some(fault) = self.enter(Call::PrecopyInfo) {
            return Err(errno_of(fault));
        }
        if !self.has_precopy_info {
            return Err(libc::ENOTTY);
        }
        if !self.state.is_precopy() {
            self.violation("C2: pre-copy info outside PRE_COPY");
            return Err(libc::EINVAL);
        }
        let (flags, precopy_len) = (self.info_flags, self.precopy_len);
        let Some(session) = self.session.as_mut().filter(|s| s.alive) else { return Err(libc::ENODEV) };
        session.informed = true;
        Ok((flags, precopy_len.saturating_sub(session.position) as u64, 0))
    }

    /// For a driver whose first field is echoed: only `initial_bytes` is set (C7), so dirt in the struct shows.
    fn feature(&mut self, feature: &mut Feature) -> Result<(), i32> {
        const GET: u32 = 1 << 16;
        const SET: u32 = 1 << 17;
        let flags = feature.flags();
        let call = match (flags & 0xffff, flags & (GET | SET)) {
            (1, GET) => Call::GetMigration,
            (2, GET) => Call::GetState,
            (2, SET) => Call::SetState(State::from_number(feature.u32_at(8)).expect("a state of the uAPI")),
            (9, GET) => Call::DataSize,
            (12, SET) => Call::OptIn,
            _ => panic!("feature {flags:#x}"),
        };
        let fault = self.enter(call);
        if let (Some(fault), false) = (fault, matches!(call, Call::SetState(_))) {
            return Err(errno_of(fault));
        }
        match call {
            Call::GetMigration => feature.put_u64(8, self.migration_flags?),
            Call::GetState => {
                feature.put_u32(8, self.state.number());
                feature.put_u32(12, u32::MAX);
            }
            Call::SetState(to) => {
                if feature.u32_at(12) != u32::MAX {
                    self.violation("V2-5: data_fd is not preset to -1");
                }
                let opened = self.set_state(to, fault)?;
                feature.put_u32(12, if opened { 1000 } else { u32::MAX });
            }
            Call::DataSize => feature.put_u64(8, self.data_size?),
            Call::OptIn => self.opt_in?,
            _ => unreachable!(),
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), i32> {
        if let Some(fault) = self.enter(Call::Reset) {
            return Err(errno_of(fault));
        }
        if !self.reset_errnos.is_empty() {
            return Err(self.reset_errnos.remove(0));
        }
        self.end_session();
        self.state = State::Running;
        Ok(())
    }
}

fn errno_of(fault: Fault) -> i32 {
    match fault {
        Fault::Errno(errno) | Fault::Moved(errno) | Fault::ToError(errno) => errno,
        Fault::NoFd => libc::EIO,
    }
}

/// The device behind a handle; clones are the same device.
#[derive(Clone)]
pub struct Fake(Arc<Mutex<Model>>);

impl Fake {
    pub fn new(caps: Caps, content: Vec<u8>) -> Self {
        Fake(Arc::new(Mutex::new(Model::new(caps, content))))
    }

    pub fn full(len: usize) -> Self {
        Fake::new(Caps { p2p: true, pre_copy: true }, pattern(len, 1))
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn feature(&self, feature: &mut Feature) -> Result<(), i32> {
        self.model().feature(feature)
    }

    pub fn reset(&self) -> Result<(), i32> {
        self.model().reset()
    }

    pub fn read(&self, buf: &mut [u8]) -> Result<usize, i32> {
        self.model().read(buf)
    }

    pub fn write(&self, buf: &[u8]) -> Result<usize, i32> {
        self.model().write(buf)
    }

    pub fn precopy_info(&self) -> Result<(u32, u64, u64), i32> {
        self.model().precopy_info()
    }

    pub fn close(&self) {
        self.model().sessions_closed += 1;
    }

    /// Each session that the device opened was closed once. Where no descriptor came although one was due, a table with
    /// data functions is told of a session that the device does not have.
    pub fn assert_sessions_closed(&self, what: &str) {
        let model = self.model();
        let extra = model.sessions_closed - model.sessions_opened.min(model.sessions_closed);
        let phantom = model.fault_reached && model.fault.is_some_and(|(_, fault)| fault == Fault::NoFd);
        assert!(model.sessions_closed >= model.sessions_opened, "{what}: a data session is left open");
        assert!(extra == 0 || (phantom && extra == 1), "{what}: a data session was closed twice");
    }

    /// {argsz, flags, num_regions, num_irqs}
    pub fn device_info(&self, info: &mut [u8]) -> Result<(), i32> {
        let mut model = self.model();
        if let Some(fault) = model.enter(Call::DeviceInfo) {
            return Err(errno_of(fault));
        }
        info[4..8].copy_from_slice(&(2 | u32::from(model.can_reset)).to_ne_bytes());
        info[8..12].copy_from_slice(&10u32.to_ne_bytes());
        Ok(())
    }

    /// Region 9 has a type if the model says so; its capability fits only into a second, larger call.
    pub fn region_info(&self, info: &mut [u8]) -> Result<(), i32> {
        let mut model = self.model();
        if let Some(fault) = model.enter(Call::RegionInfo) {
            return Err(errno_of(fault));
        }
        let index = u32::from_ne_bytes(info[8..12].try_into().unwrap());
        let kind = model.region_type.filter(|_| index == 9);
        let needed = if kind.is_some() { 48u32 } else { 32 };
        let argsz = info.len();
        info[0..4].copy_from_slice(&needed.to_ne_bytes());
        info[4..8].copy_from_slice(&if kind.is_some() { 8u32 } else { 0 }.to_ne_bytes());
        info[12..16].fill(0);
        if let (Some((kind, subtype)), true) = (kind, argsz >= 48) {
            info[12..16].copy_from_slice(&32u32.to_ne_bytes());
            for (at, word) in [(32, 2 | 1 << 16), (36, 0), (40, kind), (44, subtype)] {
                info[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
        }
        Ok(())
    }
}

/// Bytes that differ from place to place and from seed to seed.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 131 + (i >> 9) * 7 + seed * 59) as u8).collect()
}

/// The fake as the Rust API sees it.
pub struct FakeTransport(pub Fake);

struct FakeData(Fake);

fn errno<T>(result: Result<T, i32>) -> Result<T, Errno> {
    result.map_err(Errno::new)
}

impl Transport for FakeTransport {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        errno(self.0.device_info(info))
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        errno(self.0.feature(feature))
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        errno(self.0.region_info(info))
    }
    fn reset(&self) -> Result<(), Errno> {
        errno(self.0.reset())
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        if data_fd.is_none() {
            return Err(Error::new(vfiomig::error::ErrorKind::Protocol, libc::EPROTO, "no data fd"));
        }
        Ok(Box::new(FakeData(self.0.clone())))
    }
}

impl Drop for FakeTransport {
    fn drop(&mut self) {
        self.0.model().dropped = true;
    }
}

impl DataFd for FakeData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        errno(self.0.read(buf))
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        errno(self.0.write(buf))
    }
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        let (flags, initial, dirty) = errno(self.0.precopy_info())?;
        info.answer(flags, initial, dirty);
        Ok(())
    }
    fn wait_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

impl Drop for FakeData {
    fn drop(&mut self) {
        self.0.close();
    }
}
