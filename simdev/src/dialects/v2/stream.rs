//! The data fd: reads and writes of a session, and what they cost where they fail (F1 to F7).

use crate::base::judge::hurt;
use crate::config::{AfterFailure, Beyond, DeadFd, PrecopyEnd, Refusal};
use crate::machine::{Effect, Machine, moved, parse, short};
use std::io::Write;

impl Machine {
    /// Puts everything that can be had now into a real descriptor.
    pub(crate) fn feed_real(&mut self) {
        let running = self.level.running();
        let Some(session) = self.sessions.live.as_mut().filter(|s| !s.load) else { return };
        let Some(file) = session.file.as_mut() else { return };
        while let Some(record) = self.content.next_segment(running) {
            file.write_all(&record).expect("a memory file takes bytes");
        }
    }

    /// C9: new initial data is on the stream.
    pub(crate) fn reinit(&mut self) {
        self.sessions.reinit = true;
        let end = self.content.bytes.len();
        self.content.mark(0, end, true);
        self.feed_real();
    }

    pub(super) fn session(&mut self, number: Option<u64>, load: bool) -> Result<(), i32> {
        let current = number.is_none_or(|n| n == self.sessions.opened);
        match &self.sessions.live {
            Some(session) if session.load == load && current => Ok(()),
            // A data fd is for one direction (V2-5).
            Some(_) if current => Err(libc::EBADF),
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
        if let Some(errno) = moved(effect) {
            self.drop_bytes(buf.len());
            return Err(errno);
        }
        let n = self.take(buf, short(effect, usize::MAX))?;
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
                _ if errno == libc::EBADF => errno,
                DeadFd::WriteHurts => hurt("a write on a data fd whose state was left"),
                DeadFd::NoMemoryIfLong if buf.len() as u64 > image => libc::ENOMEM,
                _ => errno,
            });
        }
        let mut n = short(effect, buf.len().min(self.config.max_io));
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
        if let Some(errno) = moved(effect) {
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
}
