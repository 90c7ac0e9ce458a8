//! Bytes that go into a device.

use super::{Driver, LONGEST, MOST, at};
use crate::clock::call;
use crate::errors::check_error;
use crate::file;
use crate::hostile::pattern;
use std::os::fd::AsFd;
use vfiomig::dialect::DialectKind;
use vfiomig::error::{Error, ErrorKind};

impl Driver {
    /// What the device's session gets next.
    fn next_bytes(&mut self, len: usize) -> Vec<u8> {
        let st = self.shared.st.lock();
        let at = at(&mut self.given, st.session);
        (0..len as u64).map(|i| pattern(st.session ^ 0x55, at + i)).collect()
    }

    /// Bytes that the device's session has taken.
    fn arrived(&self) -> u64 {
        self.shared.st.lock().in_pos
    }

    /// `before`: what had arrived before the call.
    fn gave(&mut self, len: usize, before: u64, outcome: &Result<(), Error>) {
        if !self.is_loading() {
            return;
        }
        let mut st = self.shared.st.lock();
        at(&mut self.given, st.session);
        match outcome {
            Ok(()) => self.given.1 += len as u64,
            Err(error) if error.to_string().contains("only a reset remains") => st.refused = true,
            Err(error) => assert!(st.lied || st.in_pos == before, "bytes have gone: {error}"),
        }
    }

    pub(super) fn reserve(&mut self, a: u8, b: u16, c: u8) -> bool {
        let left = match a % 4 {
            0 => u64::MAX,
            1 => u64::from(b),
            2 => u64::from(c),
            _ => self.feed.lock().size(),
        };
        match call("reserve", LONGEST, MOST, || self.device.reserve_raw(left)) {
            Ok(room) => {
                assert!(room.len > 0 && !room.data.is_null());
                self.shared.lend();
                if self.device.info().dialect != Some(DialectKind::V2) && !self.split {
                    assert!(room.len as u64 <= left.max(1));
                }
                let bytes = self.next_bytes(room.len.min(70000));
                // SAFETY: the room is the caller's until commit; its last byte is room, too.
                unsafe {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), room.data, bytes.len());
                    let last = room.data.add(room.len - 1);
                    last.write_volatile(last.read_volatile());
                }
                self.room = Some(room);
            }
            Err(error) => check_error(&error),
        }
        true
    }

    pub(super) fn commit(&mut self, a: u8, b: u16, end: bool) -> bool {
        let lent = self.room.map_or(0, |room| room.len);
        let len = if a & 3 == 3 { b as usize } else { lent.min(b as usize) };
        let before = self.arrived();
        let outcome = call("commit", LONGEST, MOST, || self.device.commit_raw(len, end));
        match &outcome {
            Ok(()) => {
                assert!(len <= lent, "more was committed than lent");
                self.room = None;
            }
            Err(error) => {
                check_error(error);
                if error.kind() == ErrorKind::Stale {
                    self.room = None;
                }
            }
        }
        self.gave(len, before, &outcome);
        false
    }

    pub(super) fn write(&mut self, len: usize, end: bool) -> bool {
        let bytes = self.next_bytes(len);
        let before = self.arrived();
        let outcome = call("write", LONGEST, MOST, || self.device.write(&bytes, end));
        if let Err(error) = &outcome {
            check_error(error);
        }
        self.gave(bytes.len(), before, &outcome);
        false
    }

    pub(super) fn receive(&mut self, a: u8, b: u16, end: bool) -> bool {
        let bytes = self.next_bytes(b as usize % 4500);
        file::fill(&bytes);
        let asked = if a & 3 == 3 { b as usize } else { bytes.len() };
        let before = self.arrived();
        let outcome = call("receive", LONGEST, MOST, || self.device.receive(file::file().as_fd(), asked, end));
        match &outcome {
            Ok(len) => assert!(*len <= bytes.len() && *len <= asked),
            Err(error) => check_error(error),
        }
        let len = *outcome.as_ref().unwrap_or(&0);
        self.gave(len, before, &outcome.map(|_| ()));
        true
    }

    pub(super) fn finish(&mut self, a: u8, b: u16) -> bool {
        let st = self.shared.st.lock();
        let (in_pos, lied) = (st.in_pos, st.lied);
        drop(st);
        let total = match a % 4 {
            0 => None,
            1 => Some(u64::from(b)),
            _ => Some(if lied { self.device.info().loaded_bytes } else { in_pos }),
        };
        match call("finish", 0, MOST, || self.device.finish(total)) {
            Ok(()) => {
                let mut st = self.shared.st.lock();
                assert!(total.is_none_or(|total| total == self.device.info().loaded_bytes));
                assert!(!st.refused, "finish of a dead session");
                if !st.lied && st.kind == Some(DialectKind::V2) {
                    assert!(total.is_none_or(|total| total == st.in_pos), "{total:?} {}", st.in_pos);
                }
                st.finished = true;
            }
            Err(error) => {
                check_error(&error);
                if matches!(error.kind(), ErrorKind::Incomplete) {
                    self.shared.st.lock().finished = false;
                }
            }
        }
        false
    }
}
