//! The 2019 draft: a migration region without NDMA whose pending_bytes only asks, and whose own registers report which pages the
//! device has written. Follows: docs/rules.md, family D.

use super::registers::{Fault, Registers};
use super::{Caps, Dialect, DialectKind, PfnRange, Pfns, Requested, State, bits};
use crate::error::Error;
use crate::transport::{RegionInfo, Transport};
use crate::uapi::migration_region as u;
use crate::uapi::region::TYPE_DRAFT_V4;

/// Most bytes of a bitmap that are read, and reported, at once: the memory of a harvest does not grow with its range.
const PIECE: usize = 64 << 10;

/// Who remembers how far the bitmap of a range was read (D16); the drafts disagree.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::dialect::{Cursor, DialectKind};
///
/// // Its region has v1's id, so only the options can say that it is a draft.
/// let hardware = simdev::Device::new(simdev::Config::draft(simdev::DraftForm::Rewrite));
/// let (dialect, draft_cursor) = (Some(DialectKind::Draft), Some(Cursor::Rewrite));
/// let device = Device::new(hardware.transport(), DeviceOptions { dialect, draft_cursor, ..DeviceOptions::default() })?;
/// assert_eq!(device.info().dialect, Some(DialectKind::Draft));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// The device: the range is written once, copied_pfns is read again and again. The v4 draft, region type 2.
    Sticky,
    /// The caller: the rest of the range is written for each part. The v8 draft, region type 3.
    Rewrite,
}

pub(super) struct Draft {
    registers: Registers,
    cursor: Cursor,
}

impl Draft {
    pub fn new(region: RegionInfo, cursor: Option<Cursor>) -> Self {
        let is_v4 = region.region_type == Some(TYPE_DRAFT_V4);
        let cursor = cursor.unwrap_or(if is_v4 { Cursor::Sticky } else { Cursor::Rewrite });
        Draft { registers: Registers { region, data_begins: u::DRAFT_REGISTERS_END }, cursor }
    }

    /// Writes the range where the device has to hear of it, and asks for the next part of `left` pages from `first` on.
    fn copied_pfns(&self, transport: &dyn Transport, range: PfnRange, done: u64) -> Result<u64, Fault> {
        let registers = &self.registers;
        let (first, left) = (range.start.saturating_add(done), range.total.saturating_sub(done));
        if done == 0 || self.cursor == Cursor::Rewrite {
            registers.write_u64(transport, u::START_PFN, "start_pfn", first)?;
            registers.write_u64(transport, u::PAGE_SIZE, "page_size", range.page_size)?;
            registers.write_u64(transport, u::TOTAL_PFNS, "total_pfns", left)?;
        }
        match registers.read_u64(transport, u::COPIED_PFNS, "copied_pfns")? {
            u::ALL_PFNS => Ok(u::ALL_PFNS),
            copied if copied > left => {
                Err(Fault::Nonsense(format!("copied_pfns is {copied}, but only {left} pages were asked for")))
            }
            copied => Ok(copied),
        }
    }

    /// Reports one part of the bitmap, `count` bits from page `first` on, from where the device puts it for this part (D13).
    fn tell_bits(
        &self,
        transport: &dyn Transport,
        first: u64,
        count: u64,
        sink: &mut dyn FnMut(Pfns<'_>),
    ) -> Result<(), Fault> {
        let offset = self.registers.data_offset(transport)?;
        // Whole words, and no byte more: D13.
        let size = count.div_ceil(64).saturating_mul(8);
        self.registers.check_segment(offset, size)?;
        let mut buffer = vec![0; usize::try_from(size).map_or(PIECE, |size| size.min(PIECE))];
        let mut at = 0u64;
        while at < size {
            let len = usize::try_from(size.saturating_sub(at)).map_or(PIECE, |left| left.min(PIECE));
            let piece = buffer.get_mut(..len).unwrap_or_default();
            self.read_piece(transport, offset.saturating_add(at), piece)?;
            let before = at.saturating_mul(8);
            let pages = count.saturating_sub(before).min((len as u64).saturating_mul(8));
            sink(Pfns::Bits { first: first.saturating_add(before), count: pages, bitmap: piece });
            at = at.saturating_add(len as u64);
        }
        Ok(())
    }

    fn read_piece(&self, transport: &dyn Transport, at: u64, piece: &mut [u8]) -> Result<(), Fault> {
        let mut done = 0usize;
        while let Some(rest) = piece.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let from = at.saturating_add(done as u64);
            match transport.region_read(self.registers.region.index, from, rest)? {
                0 => return Err(Fault::Nonsense(format!("reading the bitmap at {from:#x} brought nothing"))),
                n => done = done.saturating_add(n),
            }
        }
        Ok(())
    }
}

impl Dialect for Draft {
    fn kind(&self) -> DialectKind {
        DialectKind::Draft
    }

    fn caps(&self) -> Caps {
        Caps { p2p: false, pre_copy: true }
    }

    fn read_state(&self, transport: &dyn Transport) -> Result<State, Error> {
        bits::read(&self.registers, transport, false).map_err(|fault| fault.into_error("reading device_state"))
    }

    fn request_state(&self, transport: &dyn Transport, from: State, to: State) -> Result<Requested, Fault> {
        bits::request(&self.registers, transport, false, (from, to)).map(|()| Requested { data_fd: None })
    }

    fn registers(&self) -> Option<&Registers> {
        Some(&self.registers)
    }

    /// D8 to D16. Whatever goes wrong, what was not reported is reported as dirty before the error is returned (D14, D15):
    /// reading copied_pfns has made the device forget it.
    fn dirty_pfns(
        &self,
        transport: &dyn Transport,
        range: PfnRange,
        go_on: &mut dyn FnMut(u64) -> Result<(), Fault>,
        sink: &mut dyn FnMut(Pfns<'_>),
    ) -> Result<(), Fault> {
        let whole = Pfns::All { first: range.start, count: range.total };
        let mut done = 0;
        // Each part has at least one page, so there are no more parts than pages.
        while done < range.total {
            let first = range.start.saturating_add(done);
            let rest = Pfns::All { first, count: range.total.saturating_sub(done) };
            let part = match self.copied_pfns(transport, range, done) {
                // No dirty page in the rest (D11).
                Ok(0) => return Ok(()),
                // The v4 text speaks of the whole range, later ones of the rest (D12).
                Ok(u::ALL_PFNS) => {
                    sink(if self.cursor == Cursor::Sticky { whole } else { rest });
                    return Ok(());
                }
                Ok(copied) => self.tell_bits(transport, first, copied, sink).map(|()| copied),
                Err(fault) => Err(fault),
            };
            let copied = part.inspect_err(|_| sink(whole))?;
            done = done.saturating_add(copied);
            if done < range.total {
                let first = range.start.saturating_add(done);
                let rest = Pfns::All { first, count: range.total.saturating_sub(done) };
                go_on(copied).inspect_err(|_| sink(rest))?;
            }
        }
        Ok(())
    }
}
