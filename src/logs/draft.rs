//! The draft's own log: the registers of its migration region (D8 to D16). It answers only while the device saves, so a harvest
//! before that finds everything dirty; and it knows only what was written in its session, so the first harvest in one that was
//! not open at the start does.

use super::log::{Log, Maps, READ_SHIFT, Read};
use super::ranges::Span;
use crate::bitmap::{self, Words};
use crate::device::Device;
use crate::device::dirty::HarvestPatience;
use crate::dialect::{Direction, PfnRange, Pfns};
use crate::error::Errno;
use std::cell::Cell;
use std::sync::Arc;

/// A draft device.
pub(crate) struct DraftLog {
    device: Arc<Device>,
    shift: u32,
    /// Of the harvest in progress.
    patience: Arc<HarvestPatience>,
    /// The session whose registers know everything that is not reported yet; `None`: none.
    logs: Option<u64>,
    /// In the harvest in progress: another session, or none, is open, and what its registers do not know is lost.
    lost: bool,
}

impl DraftLog {
    pub fn new(device: Arc<Device>) -> Self {
        DraftLog { device, shift: 12, patience: Arc::new(HarvestPatience::new()), logs: None, lost: false }
    }

    /// The save session that is open.
    fn session(&self) -> Option<u64> {
        let info = self.device.info();
        (info.session_open && info.state.session() == Some(Direction::Save)).then_some(info.session)
    }
}

impl Log for DraftLog {
    fn describe(&self) -> String {
        format!("dirty-page registers of {}", self.device.name())
    }

    fn any_thread(&self) -> bool {
        Device::any_thread(&self.device)
    }

    /// The log begins when the device enters SAVING (D8); there is nothing to ask for.
    fn start(&mut self, _maps: &Maps, page_size: u64) -> Result<(), Errno> {
        self.shift = page_size.trailing_zeros();
        // What is written before the next session opens is in no log, and RAM may be sent before (P14).
        self.logs = self.session();
        self.lost = false;
        Ok(())
    }

    fn nothing_was_sent(&mut self) {
        self.logs = self.logs.or_else(|| self.session());
    }

    fn stop(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    /// In parts, because no draft says how large a range may be (D17).
    fn reads(&self, maps: &Maps, within: Option<Span>) -> Vec<Read> {
        let all = Span { first: 0, last: u64::MAX };
        let whole = |span: Span| Read { span: span.aligned_out(self.shift), shift: self.shift };
        maps.reads(within.unwrap_or(all), READ_SHIFT, false, 1).into_iter().map(whole).collect()
    }

    fn begin(&mut self, patience: &Arc<HarvestPatience>, _all_dirty: bool) {
        self.patience = Arc::clone(patience);
        self.lost = self.logs.is_none() || self.logs != self.session();
    }

    fn read(&mut self, read: &Read, _keep: bool, bitmap: &mut [u64]) -> Result<(), Errno> {
        let start = read.span.first >> self.shift;
        let range = PfnRange { start, page_size: 1u64.checked_shl(self.shift).unwrap_or(0), total: read.bits() };
        let cells = Words::Plain(Cell::from_mut(bitmap).as_slice_of_cells());
        let mut take = |pfns: Pfns<'_>| match pfns {
            Pfns::All { first, count } => {
                bitmap::set_range(cells, first.saturating_sub(start), count);
            }
            Pfns::Bits { first, count, bitmap: bytes } => {
                let word = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map_or(0, u64::from_ne_bytes);
                let words: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
                bitmap::merge(cells, first.saturating_sub(start), &words, 0, count);
            }
        };
        self.device.harvest_pfns(range, &self.patience, &mut take)?;
        if self.lost { Err(Errno::new(libc::ESTALE)) } else { Ok(()) }
    }

    fn restarts_after_error(&self) -> bool {
        self.lost
    }

    fn readable_at_start(&self) -> bool {
        false
    }
}
