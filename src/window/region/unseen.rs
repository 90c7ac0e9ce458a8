//! Servers that do not see that their mapped memory was read, and go on showing the same segment (libvfio-user's samples map a
//! window that they do not look at). The stream would have no end, and be nothing but this segment.
//!
//! pending_bytes that does not fall proves nothing, for only zero or not has a meaning (V1-7); nor do equal segments, for a state
//! may be all zeros. Both, for longer than the device itself says that its state is, do.

use super::areas::{Areas, Place};
use crate::dialect::known;

/// As many segments in a row are the same before it is said.
const SEGMENTS: u32 = 256;
/// And as many times the bytes that pending_bytes says are left.
const TIMES: u64 = 2;
/// Of each segment so many bytes are compared.
const SAMPLE: usize = 4096;

/// What is known of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub pending: u64,
    pub offset: u64,
    pub size: u64,
}

/// The segments since one was another.
#[derive(Default)]
pub(super) struct Unseen {
    last: Option<Seen>,
    in_a_row: u32,
    /// The first bytes of them.
    sample: Vec<u8>,
}

impl Unseen {
    /// A segment of a device that stands still is in the window. Why it has no end, if that is certain.
    pub fn look(&mut self, seen: Seen, areas: &Areas) -> Option<String> {
        let Seen { pending, offset, size } = seen;
        let Place::Mapped(mapping, len) = areas.place(offset, size) else {
            *self = Unseen::default();
            return None;
        };
        if self.last != Some(seen) {
            *self = Unseen { last: Some(seen), ..Unseen::default() };
            return None;
        }
        // Device memory is slow to read, so it is not read twice before there is something to suspect.
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row < SEGMENTS / 2 {
            return None;
        }
        let mut now = vec![0; len.min(SAMPLE)];
        mapping.copy_out(offset, &mut now);
        if self.sample.is_empty() {
            self.sample = now;
        } else if self.sample != now {
            *self = Unseen { last: Some(seen), ..Unseen::default() };
        }
        let bytes = u64::from(self.in_a_row).saturating_mul(size);
        let certain = self.in_a_row >= SEGMENTS && bytes >= known(pending).unwrap_or(0).saturating_mul(TIMES);
        certain.then(|| {
            format!(
                "{} times in a row the same segment of {size} bytes came at {offset:#x}, and pending_bytes stays {pending}: the device \
                 does not see that its mapped memory is read. VFIOMIG_DEVICE_F_NO_MMAP reads it by trapped access",
                self.in_a_row
            )
        })
    }
}
