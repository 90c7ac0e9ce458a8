//! Servers that do not see that their mapped memory was read, and still show the same segment (libvfio-user's samples map a
//! window that they do not look at). The stream would have no end, and be nothing but this segment.
//!
//! Neither pending_bytes that does not fall nor equal segments prove anything: only zero or not has a meaning (V1-7),
//! and a state may be all zeros. So a device to which both happen for long is asked once what it shows to a trapped
//! access. One that shows something else there, and then moves on, after it has stood still for so long, sees trapped
//! accesses only. One that refuses (K25), or shows the same, is read on, until more came that was equal than any
//! device's memory holds.

use super::areas::{AreaAccess, Areas};
use super::bus;
use crate::dialect::known;
use crate::log::log;
use crate::window::Access;
use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};

/// As many segments in a row are the same before the device is asked. A prime: streams end, and estimates change, at powers of
/// two.
const SEGMENTS: u32 = 307;
/// And as many times the bytes that pending_bytes says are left.
const TIMES: u64 = 2;
/// So many bytes are read by trapped access.
const PROBE: usize = 64;
/// Or so many, where a part of a segment is refused.
const WHOLE: usize = 1 << 20;
/// So much is copied at a time to be compared.
const CHUNK: usize = 64 << 10;
/// A segment counts as so much at least towards the limit, so that tiny ones have an end too.
const PAGE: u64 = 4096;

thread_local! {
    static LIMIT: Cell<u64> = const { Cell::new(64 << 30) };
}

/// For tests: in calls from this thread so many bytes, the latter half of which is the same over and over, break a stream.
pub fn set_unseen_limit(bytes: u64) {
    LIMIT.set(bytes);
}

/// What is known of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub pending: u64,
    pub offset: u64,
    pub size: u64,
}

/// The segments since one was another.
#[derive(Default)]
struct Repeats {
    last: Option<Seen>,
    in_a_row: u32,
    /// Of the whole segment, when it was last looked at.
    content: Option<u64>,
}

#[derive(Default)]
pub(super) struct Unseen {
    run: Repeats,
    /// It is asked once in a session, because a server that sees trapped accesses only loses what was read by them.
    asked: bool,
    /// The last segment was another one by trapped access.
    differs: bool,
}

impl Unseen {
    /// A segment of a device that stands still is in the window. Why the stream is void, if that is certain.
    pub fn look(&mut self, seen: Seen, access: &Access<'_>, words: bool, areas: &Areas) -> Option<String> {
        if self.run.last != Some(seen) {
            let moved = self.moved();
            self.run = Repeats { last: Some(seen), ..Repeats::default() };
            return moved;
        }
        self.differs = false;
        // Device memory is slow to read, so it is not read twice before there is something to suspect; nor, once the device was
        // asked, before half of the limit.
        self.run.in_a_row = self.run.in_a_row.saturating_add(1);
        let half = LIMIT.get() / 2;
        if self.run.in_a_row < SEGMENTS / 2 || (self.asked && self.run.bytes(PAGE) < half) {
            return None;
        }
        let content = content(seen, areas);
        if content.is_none() || self.run.content.is_some_and(|last| Some(last) != content) {
            self.run = Repeats { last: Some(seen), ..Repeats::default() };
            return None;
        }
        self.run.content = content;
        self.judge(seen, access, words, areas)
    }

    /// The device says that nothing is left. Why the stream is void, if that is certain.
    pub fn end(&mut self) -> Option<String> {
        let moved = self.moved();
        self.run = Repeats::default();
        moved
    }

    /// The device shows something else than before. Whether it was the trapped access that moved it.
    fn moved(&mut self) -> Option<String> {
        std::mem::take(&mut self.differs).then(|| {
            format!(
                "{}, until a trapped access, which showed other bytes, moved the device on: {BLIND}",
                self.run.story()
            )
        })
    }

    fn judge(&mut self, seen: Seen, access: &Access<'_>, words: bool, areas: &Areas) -> Option<String> {
        let least = known(seen.pending).unwrap_or(0).saturating_mul(TIMES);
        if self.run.in_a_row < SEGMENTS || self.run.bytes(0) < least {
            return None;
        }
        if !self.asked {
            self.asked = true;
            self.differs = differs(seen, access, words, areas);
            let name = access.name;
            log!(Warning, "{name}: {}. Nothing is wrong if the stream has an end, unless {BLIND}", self.run.story());
        }
        (self.run.bytes(PAGE) >= LIMIT.get()).then(|| format!("{}: {BLIND}", self.run.story()))
    }
}

/// What is wrong, and what the VMM can do.
const BLIND: &str =
    "the device does not see that its mapped memory is read. VFIOMIG_DEVICE_F_NO_MMAP reads it by trapped access";

impl Repeats {
    /// How many bytes came in it, if each segment counts as `least` at least.
    fn bytes(&self, least: u64) -> u64 {
        u64::from(self.in_a_row).saturating_mul(self.last.map_or(0, |last| last.size.max(least)))
    }

    fn story(&self) -> String {
        let Seen { pending, offset, size } = self.last.unwrap_or(Seen { pending: 0, offset: 0, size: 0 });
        let count = self.in_a_row;
        format!(
            "{count} times in a row the same segment of {size} bytes came at {offset:#x}, and pending_bytes stayed {pending}"
        )
    }
}

/// A hash of all bytes of the segment; `None` if not all of it is mapped: what is read by trapped access is seen.
fn content(seen: Seen, areas: &Areas) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let (mut at, mut left) = (seen.offset, seen.size);
    let mut buf = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
    while left > 0 {
        let AreaAccess::Mapped(mapping, len) = areas.place(at, left) else { return None };
        let len = mapping.copy_out(at, buf.get_mut(..len.min(CHUNK))?);
        hasher.write(buf.get(..len).filter(|part| !part.is_empty())?);
        (at, left) = (at.saturating_add(len as u64), left.saturating_sub(len as u64));
    }
    Some(hasher.finish())
}

/// Whether a trapped access shows something else than the mapping. A device may refuse it (SPDK, K25), or take it for nothing
/// less than the segment (U-16).
fn differs(seen: Seen, access: &Access<'_>, words: bool, areas: &Areas) -> bool {
    let AreaAccess::Mapped(mapping, len) = areas.place(seen.offset, seen.size) else { return false };
    for most in [PROBE, WHOLE] {
        let (mut mapped, mut trapped) = (vec![0; len.min(most)], vec![0; len.min(most)]);
        mapping.copy_out(seen.offset, &mut mapped);
        if bus::read(access, words, seen.offset, &mut trapped).is_ok() {
            return mapped != trapped;
        }
    }
    false
}
