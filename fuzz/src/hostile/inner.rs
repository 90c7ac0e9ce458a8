//! What a hostile device knows of itself.

use crate::feed::Feed;
use crate::guarded::Guarded;
use vfiomig::dialect::{DialectKind, Direction, State};

pub struct Inner {
    /// None: it has no dialect.
    pub kind: Option<DialectKind>,
    /// Of feature 1: what v2 can do.
    pub flags: u64,
    pub ndma: bool,
    pub state: State,
    /// The state that the library has read last; None once it has asked for another one.
    pub shown: Option<State>,
    /// What was told before that: a request on the region reads the register once more.
    pub shown_before: Option<State>,
    /// Sessions so far: each has its own bytes.
    pub session: u64,
    /// Which way the session's data flow.
    pub open: Option<Direction>,
    /// Data fds that are open.
    pub data_objects: i64,
    /// How long the stream is, and how much of it comes in pre-copy.
    pub out_len: u64,
    pub precopy_len: u64,
    /// Bytes that went out, and in, in this session.
    pub out_pos: u64,
    pub in_pos: u64,
    /// It has refused a byte of this load (F6).
    pub refused: bool,
    /// The caller has said that the load is whole (F7).
    pub finished: bool,
    /// A reset has ended the session, and RESUMING stayed: nothing more belongs to it.
    pub emptied: bool,
    /// What it said of this session was not true: bytes and counts cannot be judged.
    pub lied: bool,
    /// It has described itself in different ways: what its registers mean to the library is not known here.
    pub confused: bool,
    pub resets: u64,
    /// Requests for a state.
    pub sets: u64,

    /// The migration region: its number, the answer of region_info, and every size that was told.
    pub index: u32,
    pub info: Vec<u8>,
    pub sizes: Vec<u64>,
    /// Where the window begins, after the registers.
    pub begin: u64,
    pub mem: Vec<u8>,
    pub maps: Vec<(u64, Guarded)>,
    /// The caller has been lent memory.
    pub lent: bool,
    /// Offset and length of the segment that waits to be read.
    pub staged: Option<(u64, u64)>,
    /// data_offset of a load.
    pub load_at: u64,
    /// Bits of device_state that the library must write back as it found them.
    pub reserved: u32,
    /// device_state as it was read last.
    pub raw: u32,
    /// The draft's count of pages that were asked for.
    pub pfn_total: u64,
}

/// The bytes of a session. A load's are those of `session ^ 0x55`.
pub fn pattern(session: u64, pos: u64) -> u8 {
    (session.wrapping_mul(0x9e37_79b9).wrapping_add(pos.wrapping_mul(0x85eb_ca6b)) >> 7) as u8
}

impl Inner {
    pub(super) fn enter(&mut self, feed: &mut Feed, to: State) {
        let (before, after) = (self.state.session(), to.session());
        self.state = to;
        if before == after {
            return;
        }
        self.open = after;
        self.staged = None;
        if after.is_some() {
            self.begin_session(feed);
        }
    }

    pub(super) fn begin_session(&mut self, feed: &mut Feed) {
        self.session += 1;
        (self.out_pos, self.in_pos, self.refused, self.finished) = (0, 0, false, false);
        self.emptied = false;
        self.lied = self.kind == Some(DialectKind::Draft) || self.confused;
        self.out_len = match feed.u8() % 8 {
            0..=2 => u64::from(feed.u8()),
            3 => 0,
            4..=6 => u64::from(feed.u16() % 20000),
            _ => 4096 * u64::from(feed.u8() % 8),
        };
        self.precopy_len = if feed.bool() { self.out_len / 2 } else { self.out_len };
    }

    /// After a reset that was answered what was loaded is gone: RESUMING may be left without a finish.
    pub(crate) fn forget_load(&mut self) {
        if self.state == State::Resuming {
            (self.finished, self.refused, self.emptied) = (true, false, true);
        }
    }

    pub(super) fn check_set(&self, to: State) {
        let region = self.kind != Some(DialectKind::V2);
        let shown = if region { self.shown_before } else { self.shown };
        let shown = shown.expect("a state was asked for without reading it before");
        assert!(shown != State::Error, "V2-1: {to} was asked for in ERROR");
        let pre = matches!(to, State::PreCopy | State::PreCopyP2p);
        assert!(!(shown == State::StopCopy && pre), "V2-1: STOP_COPY to {to} was asked for");
        assert!(to != State::Error, "ERROR was asked for");
        if shown == State::Resuming && self.state == State::Resuming && !self.lied {
            assert!(self.finished && !self.refused, "F7: RESUMING left without finish (refused {})", self.refused);
        }
    }

    pub(super) fn poke(&mut self, at: u64, byte: u8) {
        for (begin, map) in self.maps.iter_mut().rev() {
            if at >= *begin && at - *begin < map.len() as u64 {
                map.set((at - *begin) as usize, byte);
                return;
            }
        }
        if let Some(place) = usize::try_from(at).ok().and_then(|at| self.mem.get_mut(at)) {
            *place = byte;
        }
    }

    pub(super) fn peek(&self, at: u64) -> Option<u8> {
        for (begin, map) in self.maps.iter().rev() {
            if at >= *begin && at - *begin < map.len() as u64 {
                return Some(map.get((at - *begin) as usize));
            }
        }
        usize::try_from(at).ok().and_then(|at| self.mem.get(at)).copied()
    }

    pub(super) fn size(&self) -> u64 {
        self.sizes.last().copied().unwrap_or(0)
    }

    pub(super) fn most(&self) -> u64 {
        self.sizes.iter().copied().max().unwrap_or(0)
    }

    pub(super) fn stage(&mut self, feed: &mut Feed) -> (u64, u64) {
        if let Some(staged) = self.staged {
            return staged;
        }
        let avail = if self.state == State::StopCopy { self.out_len } else { self.precopy_len };
        let room = self.size().saturating_sub(self.begin).min(self.mem.len() as u64);
        let left = avail.saturating_sub(self.out_pos).min(room);
        let size = match feed.u8() % 4 {
            0 => left,
            1 => left.min(1 + u64::from(feed.u8())),
            2 => left.min(4096),
            _ => left / 2,
        };
        let size = if size == 0 { left } else { size };
        let slack = room - size;
        let at = self.begin + if slack == 0 { 0 } else { u64::from(feed.u16()) % (slack + 1) };
        for i in 0..size {
            let byte = pattern(self.session, self.out_pos + i);
            self.poke(at + i, byte);
        }
        if size > 0 {
            self.staged = Some((at, size));
        }
        (at, size)
    }
}
