//! v2: VFIO_DEVICE_FEATURE and the data fd.

use crate::bytes::{put, u32_at, u64_at};
use crate::config::{DataPath, Dialect, PrecopyEnd};
use crate::content::Content;
use crate::device::Shared;
use crate::dma;
use crate::faults::{Access, Effect};
use crate::habits::{AfterFailure, Beyond, DeadFd, Poll, Ready, Refusal, Size, hurt};
use crate::judge::Judge;
use crate::level::{Level, request_path};
use crate::machine::{Busy, Machine};
use crate::poll;
use crate::region::memory_file;
use crate::segment::{HEADER, Header};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfiomig::dialect::State;

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;
/// Where there are data functions, the number in the feature means nothing.
const NO_NUMBER: i32 = 1000;

/// Data sessions: at most one lives.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub opened: u64,
    pub closed: u64,
    live: Option<Session>,
    /// C8.
    opted_in: bool,
    /// C9: not yet told.
    reinit: bool,
    /// The unfinished record of a load that was given up, where the next one goes on with it.
    partial: Vec<u8>,
}

#[derive(Debug)]
struct Session {
    load: bool,
    /// The record being read, and how far; a load's bytes that are not yet a whole record.
    record: Vec<u8>,
    position: usize,
    /// F4.
    informed: bool,
    /// The device's side of a real descriptor.
    file: Option<File>,
    /// Bytes that were read or written.
    count: u64,
    /// When its data began to be made.
    since: Instant,
    /// What each further read says.
    failed: Option<i32>,
    /// A part of the stream was refused: what is written is counted, and no more.
    refused: bool,
    /// Pre-copy info made all data anew.
    renewed: Option<Instant>,
    /// What its client polls.
    timer: Option<Arc<OwnedFd>>,
}

impl Sessions {
    pub fn end(&mut self) {
        let session = self.live.take();
        if let Some(session) = session.as_ref().filter(|session| session.load) {
            self.partial.clone_from(&session.record);
        }
        // A dead fd is ready: who sleeps wakes up.
        if let Some(timer) = session.as_ref().and_then(|session| session.timer.as_ref()) {
            poll::ready_in(timer, Some(Duration::ZERO));
        }
        if let Some(file) = session.and_then(|s| s.file) {
            // The nearest that a memory file comes to a dead descriptor (F5). It cannot fail in a way that matters.
            let _ = file.set_len(0);
        }
        self.reinit = false;
    }

    /// Whether a part of a load was refused.
    pub fn was_refused(&self) -> bool {
        self.live.as_ref().is_some_and(|session| session.refused)
    }

    /// Whether the stream of a save has failed for good.
    pub fn failed(&self) -> bool {
        self.live.as_ref().is_some_and(|session| session.failed.is_some())
    }

    /// The stream of a save is dead.
    pub fn kill(&mut self, errno: i32) {
        if let Some(session) = self.live.as_mut().filter(|session| !session.load) {
            session.failed = Some(errno);
        }
    }

    /// Bytes of the open session.
    pub fn count(&self) -> u64 {
        self.live.as_ref().map_or(0, |session| session.count)
    }

    /// A reset.
    pub fn forget(&mut self) {
        self.partial.clear();
        // Where the state stays, the session does, with nothing in it.
        if let Some(session) = &mut self.live {
            session.record.clear();
            (session.position, session.refused) = (0, false);
        }
    }

    /// The device makes its data anew in each state.
    pub fn moved_on(&mut self) {
        if let Some(session) = &mut self.live {
            session.since = Instant::now();
        }
    }

    pub fn unread(&self) -> Option<String> {
        let session = self.live.as_ref().filter(|s| !s.load && s.position < s.record.len())?;
        Some(format!("{} bytes of a record left", session.record.len() - session.position))
    }

    /// A load that ends in the middle of a record.
    pub fn unfinished_record(&self) -> Option<String> {
        let session = self.live.as_ref().filter(|s| s.load && !s.record.is_empty())?;
        Some(format!("{} bytes of an unfinished record", session.record.len()))
    }

    /// Reads what came into a real descriptor.
    pub fn take_real_load(&mut self, content: &mut Content, judge: &mut Judge) {
        let Some(session) = self.live.as_mut().filter(|s| s.load) else { return };
        let Some(file) = &session.file else { return };
        let len = file.metadata().map_or(0, |m| m.len());
        let mut bytes = vec![0; len as usize];
        if file.read_exact_at(&mut bytes, 0).is_ok() {
            session.record = bytes;
            if let Err(text) = parse(&mut session.record, content) {
                judge.record("F1", text);
            }
        }
    }
}

/// Takes whole records out of `bytes`.
fn parse(bytes: &mut Vec<u8>, content: &mut Content) -> Result<(), String> {
    let mut at = 0;
    let mut result = Ok(());
    while bytes.len() - at >= HEADER {
        let total = match Header::decode(&bytes[at..]) {
            Ok(header) => header.total(),
            Err(text) => {
                result = Err(text);
                break;
            }
        };
        if bytes.len() - at < total {
            break;
        }
        result = content.load_segment(&bytes[at..at + total]);
        at += total;
        if result.is_err() {
            break;
        }
    }
    bytes.drain(..at);
    result
}

fn caps(m: &Machine) -> (bool, bool) {
    match m.config.dialect {
        Dialect::V2 { p2p, pre_copy } => (p2p, pre_copy),
        _ => (false, false),
    }
}

/// VFIO_DEVICE_FEATURE: `bytes` are {u32 argsz, u32 flags} and the payload.
pub(crate) fn feature(device: &Shared, bytes: &mut [u8]) -> Result<(), i32> {
    let flags = u32_at(bytes, 4);
    let (index, how) = (flags & 0xffff, flags & !0xffff);
    let access = match (index, how) {
        (1, GET) => Access::GetMigration,
        (2, GET) => Access::StateRead,
        (2, SET) => Access::StateWrite,
        (6, SET) => Access::DmaLogStart,
        (7, SET) => Access::DmaLogStop,
        (8, GET) => Access::DmaLogReport,
        (9, GET) => Access::StopCopySize,
        (12, SET) => Access::OptIn,
        _ => Access::OtherFeature,
    };
    let (mut m, effect) = device.begin(access)?;
    let (v2, (p2p, pre_copy)) = (m.config.is_v2(), caps(&m));
    if bytes.len() < 8 || u32_at(bytes, 0) as usize > bytes.len() {
        return m.refuse("P6", format!("feature with argsz {}", u32_at(bytes, 0)), libc::EINVAL).map(drop);
    }
    let payload = match index {
        1 | 2 | 9 => 8,
        _ => 0,
    };
    let known = match index {
        1 | 2 => v2,
        6..=8 => m.config.dma_log.is_some(),
        9 => v2 && m.config.has_data_size,
        12 => m.config.opt_in,
        _ => false,
    };
    if !known {
        return Err(libc::ENOTTY);
    }
    let operations = match index {
        2 => GET | SET,
        1 | 8 | 9 => GET,
        _ => SET,
    };
    if how & PROBE != 0 {
        let ok = how & (GET | SET) & !operations == 0 && (index != 12 || pre_copy);
        return if ok { Ok(()) } else { Err(libc::EINVAL) };
    }
    if how.count_ones() != 1 || how & operations == 0 || (bytes.len() < 8 + payload) {
        return m.refuse("P5", format!("feature {flags:#x} of {} bytes", bytes.len()), libc::EINVAL).map(drop);
    }
    match access {
        Access::GetMigration => {
            let flags = 1 | if p2p { 2 } else { 0 } | if pre_copy { 4 } else { 0 };
            put(bytes, 8, &lie(effect, flags).to_ne_bytes());
        }
        Access::StateRead => {
            let state = u64::from(m.level.state().number());
            put(bytes, 8, &(lie(effect, state) as u32).to_ne_bytes());
            put(bytes, 12, &(-1i32).to_ne_bytes());
        }
        Access::StateWrite => {
            if u32_at(bytes, 12) != u32::MAX {
                m.judge.record("V2-5", "data_fd is not preset to -1");
            }
            let fd = m.set_state(u32_at(bytes, 8), effect)?;
            put(bytes, 12, &fd.to_ne_bytes());
        }
        Access::StopCopySize => {
            let size = m.stop_copy_size();
            put(bytes, 8, &lie(effect, size).to_ne_bytes());
        }
        Access::OptIn if !pre_copy => return Err(libc::EINVAL),
        Access::OptIn => m.sessions.opted_in = true,
        Access::DmaLogStop => (m.dma.tracker, m.dma.stopped_itself) = (None, false),
        _ => {
            let Some(log) = m.config.dma_log else { return Err(libc::ENOTTY) };
            let Machine { dma, judge, .. }: &mut Machine = &mut m;
            if access == Access::DmaLogStart {
                dma::start(dma, judge, &log, &mut bytes[8..])?;
                let page_size = u64_at(bytes, 8);
                put(bytes, 8, &lie(effect, page_size).to_ne_bytes());
            } else {
                dma::report(dma, judge, &log, &bytes[8..], effect)?;
            }
        }
    }
    Ok(())
}

fn lie(effect: Option<Effect>, truth: u64) -> u64 {
    match effect {
        Some(Effect::Lie(value)) => value,
        _ => truth,
    }
}

impl Busy<'_> {
    /// The data fd of the answer.
    fn set_state(&mut self, number: u32, effect: Option<Effect>) -> Result<i32, i32> {
        self.check_host("SET");
        let from = self.level.state();
        let (p2p, pre_copy) = caps(self);
        let to = State::from_number(number);
        let Some(path) = to.and_then(|to| request_path(from, to, p2p, pre_copy)) else {
            let to = to.map_or(number.to_string(), |to| to.to_string());
            return self.refuse("V2-1", format!("{from} to {to}"), libc::EINVAL).map(|_| -1);
        };
        let was_open = self.level.saving() || self.level.resuming();
        let saved = self.level.saving();
        let levels: Vec<Level> = path.into_iter().map(Level::of).collect();
        let left = levels.iter().any(|l| if saved { !l.saving() } else { !l.resuming() });
        self.go(&levels)?;
        let is_open = self.level.saving() || self.level.resuming();
        let opens = is_open && !levels.is_empty() && (!was_open || left);
        if let Some(Effect::ErrnoMoved(errno)) = effect {
            // V2-5: the device has moved, the descriptor is lost, and with it the session's only reader.
            return Err(errno);
        }
        if opens {
            let load = self.level.resuming();
            let real = self.config.data == DataPath::RealFd;
            let file = real.then(memory_file);
            let number = match (&file, effect) {
                (_, Some(Effect::NoFd)) => -1,
                (None, _) => NO_NUMBER,
                (Some(file), _) => hand_out(file, load),
            };
            let informed = !self.config.needs_info || self.config.habits.first_without_info;
            let partial = std::mem::take(&mut self.sessions.partial);
            let record = if load && self.config.habits.keeps_partial { partial } else { Vec::new() };
            self.sessions.live = Some(Session {
                load,
                record,
                position: 0,
                informed,
                file,
                count: 0,
                since: Instant::now(),
                failed: None,
                refused: false,
                renewed: None,
                timer: None,
            });
            if effect != Some(Effect::NoFd) {
                self.sessions.opened += 1;
            }
            self.feed_real();
            self.reset_behind(effect);
            return Ok(number);
        }
        self.feed_real();
        self.reset_behind(effect);
        Ok(match (effect, self.config.data) {
            (Some(Effect::UnexpectedFd), DataPath::RealFd) => hand_out(&memory_file(), false),
            (Some(Effect::UnexpectedFd), DataPath::Functions) => NO_NUMBER,
            _ => -1,
        })
    }
}

impl Busy<'_> {
    /// A call on the data fd waits, or says EAGAIN, until the data are there.
    pub(crate) fn wait_for_data(&mut self) -> Result<(), i32> {
        let habits = self.config.habits;
        let begins = self.sessions.live.as_ref().is_some_and(|session| session.count == 0);
        if self.sessions.failed() || (habits.first_read > 0 && begins) {
            return Ok(());
        }
        let Some(left) = self.not_ready(habits.ready) else { return Ok(()) };
        if matches!(habits.ready, Ready::Again(_)) {
            return Err(libc::EAGAIN);
        }
        self.sleep(left);
        Ok(())
    }
}

/// A new descriptor of the file for the client: CLOEXEC, and for one direction only (V2-5).
fn hand_out(file: &File, load: bool) -> i32 {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let opened = OpenOptions::new().read(!load).write(load).open(path);
    opened.map_or(-1, IntoRawFd::into_raw_fd)
}

impl Machine {
    fn reset_behind(&mut self, effect: Option<Effect>) {
        if effect == Some(Effect::ResetBehind) {
            // It has answered already.
            let _ = self.reset();
        }
    }

    /// Puts everything that can be had now into a real descriptor.
    pub(crate) fn feed_real(&mut self) {
        let running = self.level.running();
        let Some(session) = self.sessions.live.as_mut().filter(|s| !s.load) else { return };
        let Some(file) = session.file.as_mut() else { return };
        while let Some(record) = self.content.next_segment(running) {
            file.write_all(&record).expect("a memory file takes bytes");
        }
    }

    fn stop_copy_size(&self) -> u64 {
        match self.config.habits.size {
            Size::Constant => return self.image,
            Size::WithoutHeaders => return self.content.bytes.len() as u64,
            Size::Left => {}
        }
        if self.level.saving() {
            return self.content.pending(false);
        }
        // Nobody knows what pre-copy will leave: everything.
        self.content.bytes.len() as u64 + HEADER as u64
    }

    /// C9: new initial data is on the stream.
    pub(crate) fn reinit(&mut self) {
        self.sessions.reinit = true;
        let end = self.content.bytes.len();
        self.content.mark(0, end, true);
        self.feed_real();
    }

    fn session(&mut self, number: Option<u64>, load: bool) -> Result<(), i32> {
        let current = number.is_none_or(|n| n == self.sessions.opened);
        match &self.sessions.live {
            Some(session) if session.load == load && current => Ok(()),
            // F5.
            _ => Err(libc::ENODEV),
        }
    }

    /// A read, or pre-copy info, that failed: what it has dropped, and what the others will say.
    pub(crate) fn read_failed(&mut self, number: Option<u64>, len: usize, errno: i32) {
        let habits = self.config.habits;
        if matches!(errno, libc::EAGAIN | libc::ENOMSG) || self.session(number, false).is_err() {
            return;
        }
        if habits.read_loses_bytes {
            self.drop_bytes(len);
        }
        if let Some(session) = &mut self.sessions.live {
            session.failed = match habits.after_failed_read {
                AfterFailure::GoesOn => None,
                AfterFailure::Always(errno) => Some(errno),
                AfterFailure::TheSame => Some(errno),
            };
        }
    }

    /// Bytes that were copied to nowhere.
    fn drop_bytes(&mut self, len: usize) {
        let mut nowhere = vec![0; len.min(64 << 10)];
        // There may be none.
        let _ = self.take(&mut nowhere, len);
    }

    /// What a client of this session polls; `None` where the driver has no descriptor.
    pub(crate) fn poll_fd(&mut self) -> Option<Arc<OwnedFd>> {
        match (self.config.habits.poll, &mut self.sessions.live) {
            (Poll::None, _) => None,
            (Poll::Real, Some(session)) if !session.load => {
                Some(Arc::clone(session.timer.get_or_insert_with(|| Arc::new(poll::timer()))))
            }
            _ => Some(Arc::new(poll::always())),
        }
    }

    /// Brings the poll in line with what there is to read.
    pub(crate) fn update_poll(&self) {
        let Some(session) = &self.sessions.live else { return };
        let Some(timer) = &session.timer else { return };
        let running = self.level.running();
        let begins = self.config.habits.first_read > 0 && session.count == 0;
        let bytes = session.position < session.record.len()
            || ((session.informed || !running) && self.content.pending(running) > 0);
        let wait = if begins { None } else { self.not_ready(self.config.habits.ready) };
        let now = Some(Duration::ZERO);
        // PRE_COPY that is empty polls as nothing, although a read would say so at once.
        let due = if session.failed.is_some() {
            now
        } else if bytes || !running {
            wait.or(now)
        } else {
            None
        };
        poll::ready_in(timer, due);
    }

    /// How long the data are not there.
    fn not_ready(&self, ready: Ready) -> Option<Duration> {
        let session = self.sessions.live.as_ref()?;
        let (Ready::Sleeps(after) | Ready::Again(after)) = ready else { return None };
        after.checked_sub(session.since.elapsed()).filter(|left| !left.is_zero())
    }

    /// read() of the data fd.
    pub(crate) fn session_read(
        &mut self,
        number: Option<u64>,
        buf: &mut [u8],
        effect: Option<Effect>,
    ) -> Result<usize, i32> {
        self.session(number, false)?;
        if let Some(errno) = self.sessions.live.as_ref().and_then(|session| session.failed) {
            return Err(errno);
        }
        let most = if let Some(Effect::Short(n)) = effect { n } else { usize::MAX };
        if let Some(Effect::ErrnoMoved(errno)) = effect {
            self.drop_bytes(buf.len());
            return Err(errno);
        }
        let n = self.take(buf, most)?;
        if let Some(session) = &mut self.sessions.live {
            session.count += n as u64;
        }
        Ok(n)
    }

    /// The next bytes of a save.
    fn take(&mut self, buf: &mut [u8], most: usize) -> Result<usize, i32> {
        let first = self.config.habits.first_read;
        let begins = self.sessions.live.as_ref().is_some_and(|session| session.count == 0) && first > 0;
        let running = self.level.running();
        let most = most.min(self.config.max_io).min(if begins { first } else { usize::MAX });
        let want = buf.len().min(most);
        let Machine { sessions, content, config, .. } = self;
        let Some(session) = &mut sessions.live else { return Err(libc::ENODEV) };
        let mut done = 0;
        while done < want {
            if session.position == session.record.len() {
                let next = if running && !session.informed { None } else { content.next_segment(running) };
                let Some(next) = next else { break };
                (session.record, session.position) = (next, 0);
            }
            let n = (want - done).min(session.record.len() - session.position);
            buf[done..done + n].copy_from_slice(&session.record[session.position..session.position + n]);
            session.position += n;
            done += n;
        }
        if done == 0 && want > 0 && running {
            // F4: what comes next is made by pre-copy info.
            session.informed = !config.needs_info;
            if config.precopy_end == PrecopyEnd::NoMessage {
                return Err(libc::ENOMSG);
            }
        }
        Ok(done)
    }

    /// write() of the data fd.
    pub(crate) fn session_write(
        &mut self,
        number: Option<u64>,
        buf: &[u8],
        effect: Option<Effect>,
    ) -> Result<usize, i32> {
        let (habits, image) = (self.config.habits, self.image);
        if let Err(errno) = self.session(number, true) {
            return Err(match habits.dead_fd {
                DeadFd::WriteHurts => hurt("a write on a data fd whose state was left"),
                DeadFd::NoMemoryIfLong if buf.len() as u64 > image => libc::ENOMEM,
                _ => errno,
            });
        }
        let most = if let Some(Effect::Short(n)) = effect { n } else { usize::MAX };
        let mut n = buf.len().min(self.config.max_io).min(most);
        self.load_used |= n > 0;
        let Machine { sessions, content, .. } = self;
        let Some(session) = &mut sessions.live else { return Err(libc::ENODEV) };
        let left = image.saturating_sub(session.count);
        match habits.beyond {
            Beyond::NoMemory if n as u64 > left => return Err(libc::ENOMEM),
            Beyond::Short if left == 0 && n > 0 => return Err(libc::EINVAL),
            Beyond::Short => n = n.min(usize::try_from(left).unwrap_or(usize::MAX)),
            _ => {}
        }
        session.count += n as u64;
        if session.refused {
            return match habits.refusal {
                Refusal::Dead(_) => Err(libc::ENODEV),
                Refusal::EachWrite(errno) => Err(errno),
                Refusal::ThenHurts(_) => hurt("a write behind one that was refused"),
                _ => Ok(n),
            };
        }
        session.record.extend_from_slice(&buf[..n]);
        if let Some(Effect::ErrnoMoved(errno)) = effect {
            return parse(&mut session.record, content).map_or(Err(errno), |()| Err(errno));
        }
        if let Err(text) = parse(&mut session.record, content) {
            if let Refusal::Dead(errno) | Refusal::EachWrite(errno) | Refusal::Once(errno) | Refusal::ThenHurts(errno) =
                habits.refusal
            {
                session.refused = true;
                session.record.clear();
                self.judge.record("F1", text);
                return Err(errno);
            }
            // F6: the session is dead, whether or not the device stays in RESUMING.
            self.sessions.end();
            self.content.begin_load();
            return Err(self.bad_load("F1", text));
        }
        Ok(n)
    }

    /// VFIO_MIG_GET_PRECOPY_INFO: {u32 argsz, u32 flags, u64 initial_bytes, u64 dirty_bytes}.
    pub(crate) fn precopy_info(
        &mut self,
        number: Option<u64>,
        info: &mut [u8],
        effect: Option<Effect>,
    ) -> Result<(), i32> {
        self.check_host("pre-copy info");
        if !self.config.has_precopy_info || self.config.data == DataPath::RealFd {
            return Err(libc::ENOTTY);
        }
        if info.len() < 24 || u32_at(info, 0) < 24 {
            return self.refuse("C2", format!("pre-copy info with argsz {}", u32_at(info, 0)), libc::EINVAL).map(drop);
        }
        if info[4..24].iter().any(|&b| b != 0) {
            self.judge.record("C7", "pre-copy info not zeroed");
        }
        self.session(number, false)?;
        if self.sessions.failed() {
            return Err(libc::ENODEV);
        }
        if !(self.level.saving() && self.level.running()) {
            return self.refuse("C2", format!("pre-copy info in {}", self.level.state()), libc::EINVAL).map(drop);
        }
        let (habits, offered) = (self.config.habits, self.config.precopy_len());
        if let (Some(after), Some(session)) = (habits.renews, &mut self.sessions.live) {
            match session.renewed {
                Some(last) if last.elapsed() < after => {}
                Some(_) => {
                    session.renewed = Some(Instant::now());
                    self.content.mark(0, offered, false);
                }
                None => session.renewed = Some(Instant::now()),
            }
        }
        let (initial, dirty) = self.content.left(true);
        let Some(session) = &mut self.sessions.live else { return Err(libc::ENODEV) };
        session.informed = true;
        // Bytes of a record in memory count with what they come from.
        let initial = if habits.initial_stays { offered as u64 } else { initial };
        let initial = lie(effect, initial + (session.record.len() - session.position) as u64);
        let reinit = std::mem::take(&mut self.sessions.reinit);
        if self.sessions.opted_in {
            put(info, 4, &u32::from(reinit).to_ne_bytes());
        }
        if !self.config.echo_info || initial > 0 {
            put(info, 8, &initial.to_ne_bytes());
        }
        if !self.config.echo_info || initial == 0 {
            put(info, 16, &dirty.to_ne_bytes());
        }
        Ok(())
    }
}
