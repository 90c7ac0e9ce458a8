//! DEVICE_FEATURE: capabilities, states, and the DMA log. The device answers as a driver of the kernel would; what differs on a
//! socket is here: ranges and bitmaps are in the message.

use super::answer::Answer;
use super::connection::Connection;
use super::quirks::Quirk;
use crate::base::bytes::{put, u32_at, u64_at};
use crate::base::memory::PAGE;
use crate::machine::Access;

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;

const STATE: u32 = 2;
const LOG_START: u32 = 6;
const LOG_STOP: u32 = 7;
const LOG_REPORT: u32 = 8;

/// {u32 argsz, flags}
const HEAD: usize = 8;
/// {u64 iova, length, page_size} of a REPORT, with the head.
const REPORT: usize = HEAD + 24;
/// {u64 page_size, u32 num_ranges, u32 reserved} of a START, with the head.
const START: usize = HEAD + 16;
/// A range that is all memory, for a START that names none.
const EVERYTHING: [u64; 2] = [0, 1 << 63];
/// Longest bitmap of one REPORT.
const MOST_BITMAP: u64 = 64 << 20;

/// A feature that a driver would not have is one that servers do not know.
fn unknown(errno: i32) -> i32 {
    if errno == libc::ENOTTY { libc::EINVAL } else { errno }
}

/// {u32 argsz, flags} and a payload of zeros.
fn request(flags: u32, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEAD + payload];
    put(&mut bytes, 0, &((HEAD + payload) as u32).to_ne_bytes());
    put(&mut bytes, 4, &flags.to_ne_bytes());
    bytes
}

impl Connection<'_> {
    pub(super) fn feature(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        if payload.len() < HEAD {
            return self.refuse("P6", format!("DEVICE_FEATURE of {} bytes", payload.len()), libc::EINVAL);
        }
        if !self.migrates_v2() {
            return Err(libc::EINVAL);
        }
        let flags = u32_at(payload, 4);
        let (index, how) = (flags & 0xffff, flags & !0xffff);
        if how & PROBE != 0 {
            self.device().feature(&mut request(flags, 0)).map_err(unknown)?;
            return Ok(payload.to_vec().into());
        }
        match (index, how) {
            (STATE, SET) => self.set_state(payload),
            (LOG_START, SET) => self.start_log(payload),
            (LOG_STOP, SET) => self.stop_log(payload),
            (LOG_REPORT, GET) => self.report(payload),
            _ => self.get(payload, flags),
        }
    }

    /// Whether argsz has room for so much.
    fn check_argsz(&mut self, payload: &[u8], needed: usize, what: &str) -> Result<(), i32> {
        let argsz = u32_at(payload, 0);
        if (argsz as usize) < needed {
            return self.refuse("P6", format!("{what} with argsz {argsz}, of {needed}"), libc::EINVAL);
        }
        Ok(())
    }

    /// A feature of 8 bytes.
    fn get(&mut self, payload: &[u8], flags: u32) -> Result<Answer, i32> {
        let mut bytes = request(flags, 8);
        if u32_at(payload, 0) < 16 {
            // An unknown feature is refused for what it is.
            self.device().feature(&mut request(PROBE | flags, 0)).map_err(unknown)?;
            self.check_argsz(payload, bytes.len(), "DEVICE_FEATURE")?;
        }
        self.device().feature(&mut bytes).map_err(unknown)?;
        Ok(bytes.into())
    }

    /// {u32 device_state, i32 data_fd}, of which the second means nothing here.
    fn set_state(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        self.check_argsz(payload, 16, "SET of the state")?;
        if payload.len() < 16 {
            return self.refuse("P5", format!("SET of the state in {} bytes", payload.len()), libc::EINVAL);
        }
        let mut bytes = payload.get(..16).unwrap_or_default().to_vec();
        put(&mut bytes, 0, &16u32.to_ne_bytes());
        // The device is asked as a driver would be.
        put(&mut bytes, 12, &(-1i32).to_ne_bytes());
        self.device().feature(&mut bytes).map_err(unknown)?;
        Ok(payload.get(..16).unwrap_or_default().to_vec().into())
    }

    fn start_log(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let ranges = payload.get(START..).unwrap_or_default().chunks_exact(16);
        let count = u32_at(payload, 16);
        self.check_argsz(payload, payload.len(), "DMA_LOGGING_START")?;
        if payload.len() < START || count as usize != ranges.len() || !ranges.remainder().is_empty() {
            let text = format!("DMA_LOGGING_START of {count} ranges in {} bytes", payload.len());
            return self.refuse("L1", text, libc::EINVAL);
        }
        let mut answer = payload.to_vec();
        let hint = u64_at(payload, HEAD);
        if self.options().quirks.has(Quirk::RegionLog) {
            self.device().note(Access::DmaLogStart)?;
            self.log.start(hint)?;
            return Ok(answer.into());
        }
        let mut all: Vec<u64> = ranges.flat_map(|range| [u64_at(range, 0), u64_at(range, 8)]).collect();
        if all.is_empty() {
            all.extend(EVERYTHING);
        }
        let mut bytes = request(LOG_START | SET, 24);
        put(&mut bytes, 8, &hint.to_ne_bytes());
        put(&mut bytes, 16, &((all.len() / 2) as u32).to_ne_bytes());
        put(&mut bytes, 24, &(all.as_ptr() as u64).to_ne_bytes());
        self.device().feature(&mut bytes).map_err(unknown)?;
        put(&mut answer, HEAD, &u64_at(&bytes, HEAD).to_ne_bytes());
        Ok(answer.into())
    }

    fn stop_log(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        self.log.stop();
        self.device().feature(&mut request(LOG_STOP | SET, 0)).map_err(unknown)?;
        Ok(payload.get(..HEAD).unwrap_or_default().to_vec().into())
    }

    /// {u64 iova, length, page_size}; the bitmap comes behind them.
    fn report(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let (iova, len, page) = (u64_at(payload, 8), u64_at(payload, 16), u64_at(payload, 24));
        if payload.len() < REPORT || !page.is_power_of_two() || len == 0 || iova.checked_add(len).is_none() {
            let text = format!("DMA_LOGGING_REPORT of {iova:#x} + {len:#x} in pages of {page}");
            return self.refuse("L4", text, libc::EINVAL);
        }
        let bytes = len.div_ceil(page).div_ceil(64) * 8;
        if bytes > MOST_BITMAP {
            return Err(libc::ENOMEM);
        }
        self.check_argsz(payload, REPORT + bytes as usize, "DMA_LOGGING_REPORT")?;
        let mut answer = payload.get(..REPORT).unwrap_or_default().to_vec();
        let bitmap = if self.options().quirks.has(Quirk::RegionLog) {
            self.device().note(Access::DmaLogReport)?;
            self.report_region(iova, len, page)?
        } else {
            self.report_range(iova, len, page, bytes as usize)?
        };
        answer.extend(bitmap);
        let len = answer.len() as u32;
        put(&mut answer, 0, &len.to_ne_bytes());
        Ok(answer.into())
    }

    /// By the device's own log, into memory that is whole pages, as the kernel's clients have it.
    fn report_range(&mut self, iova: u64, len: u64, page: u64, bytes: usize) -> Result<Vec<u8>, i32> {
        let mut memory = vec![0u8; bytes.next_multiple_of(PAGE as usize) + PAGE as usize];
        let skip = (memory.as_mut_ptr() as usize).wrapping_neg() % PAGE as usize;
        let address = memory.as_mut_ptr() as u64 + skip as u64;
        let mut asked = request(LOG_REPORT | GET, 32);
        for (at, value) in [(8, iova), (16, len), (24, page), (32, address)] {
            put(&mut asked, at, &value.to_ne_bytes());
        }
        self.device().feature(&mut asked).map_err(unknown)?;
        let mut bitmap = memory.get(skip..skip + bytes).unwrap_or_default().to_vec();
        let bits = len.div_ceil(page) as usize;
        for (at, byte) in bitmap.iter_mut().enumerate() {
            // Bits outside of the range are zero.
            let left = bits.saturating_sub(at * 8).min(8);
            *byte &= (0xffu16 >> (8 - left)) as u8;
        }
        Ok(bitmap)
    }

    /// As a server whose log is one of DMA regions.
    pub(super) fn report_region(&mut self, iova: u64, len: u64, page: u64) -> Result<Vec<u8>, i32> {
        if !self.log.is_on() {
            return self.refuse("L5", "REPORT although nothing was started".into(), libc::EINVAL);
        }
        let Some(region) = self.memory.at(iova).filter(|region| len <= region.size) else {
            let inside = self.memory.around(iova, len).is_some();
            return Err(if inside { libc::ENOTSUP } else { libc::ENOENT });
        };
        if !region.is_shared() {
            return Err(libc::EINVAL);
        }
        if page < self.log.page_size && self.options().quirks.has(Quirk::ReportSpins) {
            self.spins = true;
        }
        Ok(self.log.take(iova, len, page, &self.server.options.quirks))
    }
}
