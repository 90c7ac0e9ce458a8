//! Segments on their way out (V1-6), also from pre-copy into STOP_COPY (N8): which register was asked last, and what may be asked
//! next without losing anything.

use super::areas::{AreaAccess, Areas};
use super::unseen::{Seen, Unseen};
use crate::dialect::known;
use crate::dialect::registers::{Fault, Registers};
use crate::log::{Lasting, log};
use crate::window::{Access, Cause, Quirks, Trouble, WindowResult};
use std::time::Duration;

/// A device that says "pending" but stages nothing is asked this often, 1 ms apart (V1-8).
const EMPTY_SEGMENT_TRIES: u32 = 5;
const EMPTY_SEGMENT_PAUSE: Duration = Duration::from_millis(1);

/// Where the iteration over the window stands.
#[derive(Clone, Copy, Debug)]
enum Iteration {
    /// pending_bytes is to be read.
    Begin,
    /// It was read, and nothing since. It may be read again: it acknowledges nothing.
    Pending(u64),
    /// data_offset was asked for, and the device refused. Within the iteration it is asked again, because a read of
    /// pending_bytes might acknowledge what was not read.
    Refused(u64),
    /// data_offset was answered, so that a segment may be in the window, of a length that is not known. A read of pending_bytes
    /// would acknowledge, and so lose, what was not read; so would, for a draft, another one of data_offset (D3).
    Staged { pending: u64, offset: Option<u64> },
    /// This segment is in the window.
    StagedSegment(StagedSegment),
}

/// A segment in the window, and how much of it is the caller's.
#[derive(Clone, Copy, Debug)]
pub(super) struct StagedSegment {
    /// In the region.
    offset: u64,
    size: u64,
    done: u64,
}

impl StagedSegment {
    pub fn at(&self) -> u64 {
        self.offset.saturating_add(self.done)
    }

    pub fn left(&self) -> u64 {
        self.size.saturating_sub(self.done)
    }
}

pub(super) struct Saving {
    step: Iteration,
    last_pending: Option<u64>,
    /// Acknowledgements fail: that is logged when it begins and when it ends.
    failing: Lasting,
    unseen: Unseen,
}

impl Saving {
    pub fn new() -> Self {
        Saving { step: Iteration::Begin, last_pending: None, failing: Lasting::default(), unseen: Unseen::default() }
    }

    /// The window may show something else than what was asked for last: the state has changed, or a bitmap was asked
    /// for. Servers begin their iteration anew then, so it is begun anew here. A segment of which the device has
    /// given the place stays to be read (N8); one that it has refused to stage is none (V1-6 b, V1-11).
    pub fn begin_anew(&mut self) {
        match self.step {
            Iteration::Pending(_) | Iteration::Refused(_) => self.step = Iteration::Begin,
            Iteration::Begin | Iteration::Staged { .. } | Iteration::StagedSegment(_) => {}
        }
    }

    /// Whether a segment is in the window, or may be.
    pub fn in_window(&self) -> bool {
        matches!(self.step, Iteration::Refused(_) | Iteration::Staged { .. } | Iteration::StagedSegment(_))
    }

    pub fn segment(&self) -> Option<StagedSegment> {
        match self.step {
            Iteration::StagedSegment(segment) => Some(segment),
            _ => None,
        }
    }

    /// The segment in the window, or the next one; `None`: the device has none now (V1-6 a to c).
    pub fn next(&mut self, access: &Access<'_>, areas: &Areas, quirks: Quirks) -> WindowResult<Option<StagedSegment>> {
        let (pending, offset) = match self.step {
            Iteration::StagedSegment(segment) => return Ok(Some(segment)),
            Iteration::Pending(pending) | Iteration::Refused(pending) => (pending, None),
            Iteration::Staged { pending, offset } => (pending, offset),
            Iteration::Begin => (self.ask_pending(access)?, None),
        };
        if pending == 0 {
            self.step = Iteration::Begin;
            // What came before is one segment many times over.
            return self.unseen.end().map_or(Ok(None), |text| Err(Trouble::after(Cause::Nonsense(text), 0)));
        }
        self.step = Iteration::Staged { pending, offset };
        let Some((offset, size)) = self.staged(access, areas, pending, quirks.zero_data_size)? else {
            self.step = Iteration::Begin;
            return Ok(None);
        };
        access.registers()?.check_segment(offset, size).map_err(Trouble::before)?;
        // While it runs a device may have the same again and again; a stream that is read to its end has not.
        if !access.in_precopy {
            if let Some(text) = self.unseen.look(Seen { pending, offset, size }, access, quirks.aligned_access, areas) {
                // What came before is this segment many times over.
                return Err(Trouble::after(Cause::Nonsense(text), 0));
            }
        }
        let segment = StagedSegment { offset, size, done: 0 };
        self.step = Iteration::StagedSegment(segment);
        Ok(Some(segment))
    }

    /// Where the device has staged a segment, and its length. `None`: it has staged nothing, which is legal while it runs.
    ///
    /// A length of 0 is asked again before it is believed: asking for pending_bytes instead would acknowledge, and so lose, a
    /// segment that is there after all. Asking twice within an iteration gives the same answer (V1-6 c).
    fn staged(
        &mut self,
        access: &Access<'_>,
        areas: &Areas,
        pending: u64,
        zero_data_size: bool,
    ) -> WindowResult<Option<(u64, u64)>> {
        let registers = access.registers()?;
        for _ in 0..EMPTY_SEGMENT_TRIES {
            let offset = match self.step {
                Iteration::Staged { offset: Some(offset), .. } => offset,
                _ => registers.data_offset(access.transport).map_err(|fault| self.refused(pending, fault))?,
            };
            self.step = Iteration::Staged { pending, offset: Some(offset) };
            let mut size = registers.data_size(access.transport).map_err(Trouble::before)?;
            if size == 0 && zero_data_size {
                size = pending.min(area_left(areas, registers, offset));
            }
            if size > 0 {
                return Ok(Some((offset, size)));
            }
            self.step = Iteration::Staged { pending, offset: None };
            std::thread::sleep(EMPTY_SEGMENT_PAUSE);
        }
        if access.in_precopy {
            return Ok(None);
        }
        Err(Trouble::before(Cause::Nonsense(format!("data_size is 0 although pending_bytes is {pending}"))))
    }

    /// data_offset could not be had. An answer that makes no sense is an answer: something may be staged after it.
    fn refused(&mut self, pending: u64, fault: Fault) -> Trouble {
        if let Fault::Errno(_) = fault {
            self.step = Iteration::Refused(pending);
        }
        Trouble::before(fault)
    }

    /// `len` bytes of the segment are the caller's; the last one acknowledges it (V1-6 f). Returns whether it did.
    pub fn advance(&mut self, access: &Access<'_>, len: usize) -> bool {
        let Iteration::StagedSegment(segment) = &mut self.step else { return false };
        segment.done = segment.done.saturating_add(len as u64);
        if segment.left() > 0 {
            return false;
        }
        self.step = Iteration::Begin;
        // The bytes are the caller's in any case. An acknowledgement that fails is made again, and its failure returned, when the
        // next bytes are asked for.
        let name = access.name;
        match self.ask_pending(access) {
            Ok(pending) => {
                if self.failing.ends() {
                    log!(Info, "{name}: segments are acknowledged again");
                }
                if pending > 0 {
                    self.step = Iteration::Pending(pending);
                }
            }
            Err(Trouble { cause, .. }) if self.failing.begins() => {
                log!(Warning, "{name}: acknowledging a segment failed, and is tried again: {cause}");
            }
            Err(Trouble { cause, .. }) => log!(Debug, "{name}: acknowledging a segment failed: {cause}"),
        }
        true
    }

    /// pending_bytes, and whether it is what was read last: with a segment in the window asking would acknowledge it (P21).
    pub fn figures(&mut self, access: &Access<'_>) -> WindowResult<(Option<u64>, bool)> {
        let cached = self.in_window();
        if !cached {
            // What an earlier read left may be old: the device has run since, or has stopped. Asked again before a segment
            // begins, pending_bytes acknowledges nothing (V1-6 a).
            let pending = self.ask_pending(access)?;
            self.step = if pending > 0 { Iteration::Pending(pending) } else { Iteration::Begin };
        }
        Ok((self.last_pending, cached))
    }

    /// For the iteration only zero and non-zero have a meaning (V1-7); as a size it may be nonsense (P19).
    fn ask_pending(&mut self, access: &Access<'_>) -> WindowResult<u64> {
        let pending = access.registers()?.pending_bytes(access.transport).map_err(Trouble::before)?;
        self.last_pending = known(pending);
        Ok(pending)
    }
}

/// From `offset` to the end of what lies together there.
fn area_left(areas: &Areas, registers: &Registers, offset: u64) -> u64 {
    let in_region = registers.region.size.saturating_sub(offset);
    match areas.place(offset, in_region) {
        AreaAccess::Mapped(_, len) | AreaAccess::Trapped(len) => len as u64,
    }
}
