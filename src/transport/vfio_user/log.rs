//! The server's log of written pages: device features of the second generation, DIRTY_PAGES of the first (U-11 to U-15).

use super::exchange::{ServerLogs, VfioUserChannel, VfioUserLimits, ask};
use super::payload::{Payload, length};
use super::wire;
use crate::error::Errno;
use crate::transport::Feature;
use crate::uapi::{dma_log as ul, feature as uf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest bitmap that is asked for at once: pages of 4 KiB in 8 TiB, as much as a server maps in all.
const MOST_BITMAP: u64 = 256 << 20;

pub(super) struct UserLog {
    limits: VfioUserLimits,
    /// The page size that the last start answered; 0 before the first one.
    page_size: AtomicU64,
}

fn invalid() -> Errno {
    Errno::new(libc::EINVAL)
}

/// The range of a report, and how many bytes of bitmap it has.
struct AskedReport {
    iova: u64,
    size: u64,
    page_size: u64,
    bitmap: u64,
}

impl UserLog {
    pub fn new(limits: VfioUserLimits) -> Self {
        UserLog { limits, page_size: AtomicU64::new(0) }
    }

    /// Starts the log. The answer is its page size, the only one in which it may be asked (U-11).
    pub fn start(&self, channel: &dyn VfioUserChannel, feature: &mut Feature, by_feature: bool) -> Result<(), Errno> {
        feature.request_mut();
        let asked = feature.u64_at(ul::START_PAGE_SIZE);
        let own = if by_feature { start(channel, feature, asked)? } else { self.start_pages(channel)? };
        self.page_size.store(own, Ordering::Relaxed);
        feature.put_u64(ul::START_PAGE_SIZE, own);
        channel.logging(true);
        Ok(())
    }

    /// The first generation logs in the pages that were negotiated, wherever memory is mapped.
    fn start_pages(&self, channel: &dyn VfioUserChannel) -> Result<u64, Errno> {
        let request = Payload::default().u32(wire::DIRTY_SIZE as u32).u32(wire::DIRTY_START);
        ask(channel, wire::DIRTY_PAGES, &request, &mut [0; wire::DIRTY_SIZE])?;
        Ok(self.limits.page_size)
    }

    pub fn stop(&self, channel: &dyn VfioUserChannel, by_feature: bool) -> Result<(), Errno> {
        if by_feature {
            let request = Payload::default().u32(uf::HEADER_SIZE as u32).u32(ul::STOP | uf::SET);
            ask(channel, wire::DEVICE_FEATURE, &request, &mut [0; uf::HEADER_SIZE])?;
        } else {
            let request = Payload::default().u32(wire::DIRTY_SIZE as u32).u32(wire::DIRTY_STOP);
            ask(channel, wire::DIRTY_PAGES, &request, &mut [0; wire::DIRTY_SIZE])?;
        }
        channel.logging(false);
        Ok(())
    }

    /// Reads and clears the log of a whole mapping (U-12). EINVAL for another page size than that of the start, for which the
    /// server is not asked: it would answer wrong bits, or never (U-11).
    pub fn report(&self, channel: &dyn VfioUserChannel, feature: &mut Feature, by_feature: bool) -> Result<(), Errno> {
        feature.request_mut();
        let (iova, size) = (feature.u64_at(ul::REPORT_IOVA), feature.u64_at(ul::REPORT_LENGTH));
        let page_size = feature.u64_at(ul::REPORT_PAGE_SIZE);
        if page_size != self.page_size.load(Ordering::Relaxed) {
            return Err(invalid());
        }
        let pages = size.checked_div(page_size).filter(|pages| size > 0 && pages.checked_mul(page_size) == Some(size));
        let bitmap = pages.ok_or_else(invalid)?.div_ceil(64).saturating_mul(8);
        let words = feature.bitmap_mut();
        if bitmap > MOST_BITMAP || bitmap > (words.len() as u64).saturating_mul(8) {
            return Err(invalid());
        }
        if channel.take_written(iova, size, page_size, words) == ServerLogs::No {
            return Ok(());
        }
        let asked = AskedReport { iova, size, page_size, bitmap };
        if by_feature { report(channel, &asked, words) } else { report_pages(channel, &asked, words) }
    }
}

fn start(channel: &dyn VfioUserChannel, feature: &Feature, asked: u64) -> Result<u64, Errno> {
    let ranges = feature.ranges();
    let len = ranges.len().saturating_mul(ul::RANGE_SIZE).saturating_add(wire::START_SIZE);
    let head = Payload::with_capacity(len).u32(length(len)?).u32(ul::START | uf::SET);
    let head = head.u64(asked).u32(length(ranges.len())?).u32(0);
    let request = ranges.iter().fold(head, |request, [iova, size]| request.u64(*iova).u64(*size));
    let mut reply = vec![0; len];
    let reply = ask(channel, wire::DEVICE_FEATURE, &request, &mut reply)?;
    // A reply without fields says that the page size is the one that was asked for.
    if reply.0.len() < wire::START_SIZE { Ok(asked) } else { reply.u64_at(ul::START_PAGE_SIZE) }
}

/// The reply is as long as its bitmap, which may be more than was negotiated for data (U-12).
fn report(channel: &dyn VfioUserChannel, asked: &AskedReport, words: &mut [u64]) -> Result<(), Errno> {
    let bitmap = usize::try_from(asked.bitmap).map_err(|_| invalid())?;
    let len = wire::REPORT_SIZE.saturating_add(bitmap);
    let request = Payload::default().u32(length(len)?).u32(ul::REPORT | uf::GET);
    let request = request.u64(asked.iova).u64(asked.size).u64(asked.page_size);
    let mut reply = vec![0; len];
    let reply = ask(channel, wire::DEVICE_FEATURE, &request, &mut reply)?;
    reply.must_echo(uf::FLAGS, u64::from(ul::REPORT | uf::GET), false)?;
    for (offset, said) in [(8, asked.iova), (16, asked.size), (24, asked.page_size)] {
        reply.must_echo(offset, said, true)?;
    }
    add(words, reply.part(wire::REPORT_SIZE, bitmap)?);
    Ok(())
}

/// The bitmap has to fit into one message, or there is no report (U-14).
fn report_pages(channel: &dyn VfioUserChannel, asked: &AskedReport, words: &mut [u64]) -> Result<(), Errno> {
    let bitmap = usize::try_from(asked.bitmap).map_err(|_| invalid())?;
    let len = wire::DIRTY_GET_SIZE.saturating_add(bitmap);
    if len > wire::DIRTY_MOST {
        return Err(invalid());
    }
    let request = Payload::default().u32(length(len)?).u32(wire::DIRTY_GET);
    let request = request.u64(asked.iova).u64(asked.size).u64(asked.page_size).u64(asked.bitmap);
    let mut reply = vec![0; len];
    let reply = ask(channel, wire::DIRTY_PAGES, &request, &mut reply)?;
    for (offset, said) in [(8, asked.iova), (16, asked.size), (24, asked.page_size)] {
        reply.must_echo(offset, said, true)?;
    }
    add(words, reply.part(wire::DIRTY_GET_SIZE, bitmap)?);
    Ok(())
}

/// Adds the bits of a report: bit i is page i, in words of 64 bits, little endian (U-12).
fn add(words: &mut [u64], bitmap: &[u8]) {
    for (word, bytes) in words.iter_mut().zip(bitmap.chunks_exact(8)) {
        *word |= <[u8; 8]>::try_from(bytes).map_or(0, u64::from_le_bytes);
    }
}
