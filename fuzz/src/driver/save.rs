//! Bytes that come out of a device.

use super::{Driver, LONGEST, Lent, MOST, at};
use crate::clock::call;
use crate::errors::check_error;
use crate::file;
use crate::hostile::pattern;
use std::os::fd::AsFd;
use vfiomig::dialect::{DialectKind, State};
use vfiomig::error::ErrorKind;
use vfiomig::window::StreamFlags;
use vfiomig::window::raw::RawChunk;

impl Driver {
    /// The caller has got bytes: they are the next ones of the device's session.
    fn took(&mut self, bytes: &[u8]) {
        assert!(!self.end_seen, "bytes after the end");
        let st = self.shared.st.lock();
        let at = at(&mut self.taken, st.session);
        if !st.lied {
            for (i, byte) in bytes.iter().enumerate() {
                let at = at + i as u64;
                assert_eq!(*byte, pattern(st.session, at), "byte {at} of session {}", st.session);
            }
        }
        drop(st);
        self.taken.1 += bytes.len() as u64;
        assert!(self.device.info().saved_bytes >= bytes.len() as u64);
    }

    /// A call gave no bytes but flags.
    fn said(&mut self, flags: StreamFlags) {
        let state = self.device.state();
        match flags {
            StreamFlags::END => {
                let lied = self.shared.st.lock().lied;
                assert!(state == State::StopCopy || lied, "END in {state}");
                self.end_seen = true;
            }
            StreamFlags::EMPTY => assert!(state.is_precopy(), "EMPTY in {state}"),
            other => panic!("flags {other:?} with no bytes"),
        }
    }

    /// Whether a chunk of the session that is open is out.
    fn is_lent(&self) -> bool {
        self.chunk.as_ref().is_some_and(|lent| lent.session == self.device.info().session)
    }

    pub(super) fn peek(&mut self, max: usize) -> bool {
        let outcome = call("peek", LONGEST, MOST, || self.device.peek_raw(max));
        let was_lent = self.is_lent();
        let info = self.device.info();
        if self.chunk.as_ref().is_some_and(|lent| lent.session != info.session || !info.session_open) {
            self.chunk = None;
        }
        match outcome {
            Ok(chunk) => {
                assert!(!was_lent, "two chunks are out");
                self.readable = None;
                if chunk.len == 0 {
                    let flags = StreamFlags::from_bits_retain(chunk.flags);
                    assert!(chunk.data.is_null());
                    self.said(flags);
                } else {
                    self.lend(chunk, max);
                }
                false
            }
            Err(error) => {
                check_error(&error);
                let known = info.state.session().is_some();
                if was_lent && known && info.session_open && error.kind() != ErrorKind::Stale {
                    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
                }
                // A peek that is refused because a chunk is out leaves it.
                error.kind() != ErrorKind::Busy
            }
        }
    }

    fn lend(&mut self, chunk: RawChunk, max: usize) {
        assert!(!self.end_seen, "bytes after the end");
        assert!(chunk.flags & (StreamFlags::EMPTY | StreamFlags::END).bits() == 0 && !chunk.data.is_null());
        assert!(max == 0 || chunk.len <= max);
        self.shared.lend();
        // SAFETY: what was lent just now.
        let content = unsafe { std::slice::from_raw_parts(chunk.data, chunk.len) }.to_vec();
        if self.device.info().dialect == Some(DialectKind::V2) {
            assert_eq!((chunk.segment_left, chunk.flags), (u64::MAX, 0));
        } else {
            assert!(chunk.segment_left >= chunk.len as u64);
            let whole = chunk.segment_left == chunk.len as u64;
            assert_eq!(whole, chunk.flags & StreamFlags::SEGMENT_END.bits() != 0);
        }
        self.readable = Some((chunk, content.clone()));
        self.chunk = Some(Lent { chunk, content, session: self.device.info().session });
    }

    pub(super) fn consume(&mut self, a: u8, b: u16) -> bool {
        let lent = self.chunk.as_ref().map_or(0, |lent| lent.chunk.len);
        let len = if a & 3 == 3 { b as usize } else { lent - lent * (a as usize & 1) / 2 };
        match call("consume", LONGEST, MOST, || self.device.consume_raw(len)) {
            Ok(()) => {
                let lent = self.chunk.take().expect("consumed what was not lent");
                assert!(len <= lent.chunk.len && lent.session == self.device.info().session);
                self.took(&lent.content[..len]);
                true
            }
            Err(error) => {
                check_error(&error);
                if error.kind() == ErrorKind::Stale {
                    self.chunk = None;
                } else if len <= lent && self.is_lent() {
                    assert!(!self.device.info().session_open || error.kind() == ErrorKind::Order, "{error}");
                }
                false
            }
        }
    }

    pub(super) fn read(&mut self, len: usize) -> bool {
        let mut buf = vec![0xa5u8; len];
        match call("read", LONGEST, MOST, || self.device.read(&mut buf)) {
            Ok((0, flags)) => {
                self.said(flags);
                true
            }
            Ok((len, flags)) => {
                assert!(len <= buf.len() && StreamFlags::SEGMENT_END.contains(flags));
                self.took(&buf[..len]);
                true
            }
            Err(error) => {
                check_error(&error);
                !matches!(error.kind(), ErrorKind::Busy | ErrorKind::Argument)
            }
        }
    }

    pub(super) fn send(&mut self, max: usize) -> bool {
        file::fill(&[]);
        match call("send", LONGEST, MOST, || self.device.send(file::file().as_fd(), max)) {
            Ok((0, flags)) => {
                self.said(flags);
                true
            }
            Ok((len, flags)) => {
                assert!((max == 0 || len <= max) && StreamFlags::SEGMENT_END.contains(flags));
                self.took(&file::content(len));
                true
            }
            Err(error) => {
                check_error(&error);
                error.kind() != ErrorKind::Busy
            }
        }
    }
}
