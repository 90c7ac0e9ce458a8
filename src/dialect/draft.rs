//! The 2019 draft: a migration region without NDMA whose pending_bytes only asks, and whose own registers tell which pages the
//! device has written. Follows: protocol.md section 1, seed 001.

use super::registers::{Fault, Registers};
use super::{Caps, Dialect, Kind, PfnRange, Pfns, Requested, State, bits};
use crate::error::Error;
use crate::transport::{RegionInfo, Transport};
use crate::uapi::migration_region as u;
use crate::uapi::region::TYPE_DRAFT_V4;

/// Who remembers how far the bitmap of a range was read (D16); the drafts disagree.
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

    /// Reads one part of the bitmap, `count` bits, from where the device puts it for this part (D13).
    fn read_bits(&self, transport: &dyn Transport, count: u64) -> Result<Vec<u8>, Fault> {
        let offset = self.registers.data_offset(transport)?;
        // Whole words, and no byte more: D13.
        let size = count.div_ceil(64).saturating_mul(8);
        self.registers.check_segment(offset, size)?;
        let mut bitmap = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut done = 0;
        while let Some(rest) = bitmap.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let from = offset.saturating_add(done as u64);
            match transport.region_read(self.registers.region.index, from, rest)? {
                0 => return Err(Fault::Nonsense(format!("reading the bitmap at {from:#x} brought nothing"))),
                n => done = done.saturating_add(n),
            }
        }
        Ok(bitmap)
    }
}

impl Dialect for Draft {
    fn kind(&self) -> Kind {
        Kind::Draft
    }

    fn caps(&self) -> Caps {
        Caps { p2p: false, pre_copy: true }
    }

    fn read_state(&self, transport: &dyn Transport) -> Result<State, Error> {
        bits::read(&self.registers, transport, false).map_err(|fault| fault.into_error("reading device_state"))
    }

    fn request_state(&self, transport: &dyn Transport, to: State) -> Result<Requested, Fault> {
        bits::request(&self.registers, transport, false, to).map(|()| Requested { data_fd: None })
    }

    fn registers(&self) -> Option<&Registers> {
        Some(&self.registers)
    }

    /// D8 to D16. Whatever goes wrong, what was not told is told as dirty before the error is returned (D14, D15): reading
    /// copied_pfns has made the device forget it.
    fn dirty_pfns(
        &self,
        transport: &dyn Transport,
        range: PfnRange,
        sink: &mut dyn FnMut(Pfns<'_>),
    ) -> Result<(), Fault> {
        let registers = &self.registers;
        let mut done = 0;
        // Each part has at least one page, so there are no more parts than pages.
        while done < range.total {
            let (first, left) = (range.start.saturating_add(done), range.total.saturating_sub(done));
            let part = (|| {
                if done == 0 || self.cursor == Cursor::Rewrite {
                    registers.write_u64(transport, u::START_PFN, "start_pfn", first)?;
                    registers.write_u64(transport, u::PAGE_SIZE, "page_size", range.page_size)?;
                    registers.write_u64(transport, u::TOTAL_PFNS, "total_pfns", left)?;
                }
                match registers.read_u64(transport, u::COPIED_PFNS, "copied_pfns")? {
                    0 => Ok(None),
                    u::ALL_PFNS => Ok(Some((u::ALL_PFNS, Vec::new()))),
                    copied if copied > left => {
                        Err(Fault::Nonsense(format!("copied_pfns is {copied}, but only {left} pages were asked for")))
                    }
                    copied => Ok(Some((copied, self.read_bits(transport, copied)?))),
                }
            })();
            match part {
                // No dirty page in the rest (D11).
                Ok(None) => return Ok(()),
                // The v4 text speaks of the whole range, later ones of the rest (D12).
                Ok(Some((u::ALL_PFNS, _))) => {
                    let whole = self.cursor == Cursor::Sticky;
                    let (first, count) = if whole { (range.start, range.total) } else { (first, left) };
                    sink(Pfns::All { first, count });
                    return Ok(());
                }
                Ok(Some((copied, bitmap))) => {
                    sink(Pfns::Bits { first, count: copied, bitmap: &bitmap });
                    done = done.saturating_add(copied);
                }
                Err(fault) => {
                    sink(Pfns::All { first: range.start, count: range.total });
                    return Err(fault);
                }
            }
        }
        Ok(())
    }
}
