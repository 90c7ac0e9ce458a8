//! v2: what the device keeps of a data session. What is read and written in it is the front's.

use crate::base::judge::Judge;
use crate::base::poll;
use crate::content::{Content, HEADER, Header};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Data sessions: at most one lives.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub opened: u64,
    pub closed: u64,
    pub live: Option<Session>,
    /// C8.
    pub opted_in: bool,
    /// C9: not yet reported.
    pub reinit: bool,
    /// The unfinished record of a load that was given up, where the next one goes on with it.
    pub partial: Vec<u8>,
}

/// One stay in a saving state or in RESUMING.
#[derive(Debug)]
pub(crate) struct Session {
    pub load: bool,
    /// The record being read, and how far; a load's bytes that are not yet a whole record.
    pub record: Vec<u8>,
    pub position: usize,
    /// F4.
    pub informed: bool,
    /// The device's side of a real descriptor.
    pub file: Option<File>,
    /// Bytes that were read or written.
    pub count: u64,
    /// When its data began to be made.
    pub since: Instant,
    /// What each further read says.
    pub failed: Option<i32>,
    /// A part of the stream was refused: what is written is counted, and no more.
    pub refused: bool,
    /// Pre-copy info made all data anew.
    pub renewed: Option<Instant>,
    /// What its client polls.
    pub timer: Option<Arc<OwnedFd>>,
}

impl Session {
    /// Nothing was read or written.
    pub fn new(load: bool, record: Vec<u8>, informed: bool, file: Option<File>) -> Self {
        Session {
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
        }
    }
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
pub(crate) fn parse(bytes: &mut Vec<u8>, content: &mut Content) -> Result<(), String> {
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
