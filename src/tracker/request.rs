//! What a harvest is asked for: destinations and callbacks.

use super::tally::Harvest;
use super::{UNIT, UNIT_SHIFT};
use crate::bitmap::Words;
use crate::logs::ranges::{IovaRange, Span};

/// A destination: a range of IOVA, and what gets its dirty pages.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use vfiomig::bitmap::Words;
/// use vfiomig::tracker::{Dest, IovaRange, Request};
/// # use std::sync::Arc;
/// # let space = simdev::Space::new(&simdev::Ram::new());
/// # space.map(simdev::Mapping { iova: 0, size: 1 << 20, ram: 0 }).unwrap();
/// # let hardware = simdev::Device::new(simdev::Config { dma_log: Some(simdev::DmaLog::default()), ..Default::default() });
/// # hardware.attach(&space);
/// # let devices = vec![Arc::new(vfiomig::Device::new(hardware.transport(), Default::default())?)];
/// # let tracker = vfiomig::tracker::Tracker::new(vfiomig::tracker::TrackerOptions { devices, ..Default::default() })?;
/// # let mapped = vfiomig::tracker::IovaRange { iova: 0, size: 1 << 20 };
/// # tracker.map(&[vfiomig::tracker::Mapping { range: mapped, cookie: 7 }])?;
/// # tracker.start()?;
///
/// hardware.dma_write(5).unwrap();
/// let bitmap: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
/// let ram = Dest {
///     range: IovaRange { iova: 0, size: 1 << 20 },
///     page_size: 4096,
///     first_bit: 0,
///     bitmap: Some(Words::Atomic(&bitmap)),
///     token: 0,
/// };
/// let harvest = tracker.harvest(&mut Request { dests: &[ram], ..Request::default() })?;
/// assert_eq!((harvest.newly, harvest.failed_reads), (1, 0));
/// assert_eq!(bitmap[0].load(Ordering::Relaxed), 1 << 5);
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Dest<'a> {
    /// What is asked; whole units of 4096 bytes.
    pub range: IovaRange,
    /// Bytes of a page of the destination: a power of two from 4096 on.
    pub page_size: u64,
    /// The destination's bit for the page that begins at `range.iova`.
    pub first_bit: u64,
    /// The bitmap; `None`: this piece goes to the request's callback.
    pub bitmap: Option<Words<'a>>,
    /// The VMM's own, passed to the callback.
    pub token: usize,
}

/// Gets the destination, the number of the first bit (a multiple of 64) and words; `false` stops, and refuses these words.
///
/// Example: [`Request`].
pub type WordsFn<'f> = dyn FnMut(&Dest<'_>, u64, &[u64]) -> bool + 'f;
/// Gets the cookie of the mapping through which was written, also if it is gone, and a run within it; `false` stops,
/// and refuses this run.
///
/// Example: [`Tracker`](super::Tracker).
pub type RunFn<'f> = dyn FnMut(u64, IovaRange) -> bool + 'f;

/// What a harvest shall do.
///
/// ```
/// use vfiomig::tracker::{Dest, IovaRange, Request};
/// # use std::sync::Arc;
/// # let space = simdev::Space::new(&simdev::Ram::new());
/// # space.map(simdev::Mapping { iova: 0, size: 1 << 20, ram: 0 }).unwrap();
/// # let hardware = simdev::Device::new(simdev::Config { dma_log: Some(simdev::DmaLog::default()), ..Default::default() });
/// # hardware.attach(&space);
/// # let devices = vec![Arc::new(vfiomig::Device::new(hardware.transport(), Default::default())?)];
/// # let tracker = vfiomig::tracker::Tracker::new(vfiomig::tracker::TrackerOptions { devices, ..Default::default() })?;
/// # let mapped = vfiomig::tracker::IovaRange { iova: 0, size: 1 << 20 };
/// # tracker.map(&[vfiomig::tracker::Mapping { range: mapped, cookie: 7 }])?;
/// # tracker.start()?;
///
/// hardware.dma_write(5).unwrap();
/// let range = IovaRange { iova: 0, size: 1 << 20 };
/// let dests = [Dest { range, page_size: 4096, first_bit: 64, bitmap: None, token: 0 }];
/// let mut dirty = Vec::new();
/// let mut words = |dest: &Dest<'_>, bit: u64, words: &[u64]| {
///     assert_eq!((dest.first_bit, bit), (64, 64));
///     dirty.extend_from_slice(words);
///     true
/// };
/// tracker.harvest(&mut Request { dests: &dests, words: Some(&mut words), ..Request::default() })?;
/// assert_eq!(dirty[0], 1 << 5);
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Default)]
pub struct Request<'r> {
    /// The destinations, which must not overlap. Empty, with `run`: everything that is mapped, mapping by mapping, and what is
    /// left over of unmapped ranges.
    pub dests: &'r [Dest<'r>],
    /// For destinations without a bitmap.
    pub words: Option<&'r mut WordsFn<'r>>,
    /// `words` gets its words in little-endian order: bit n is bit n % 8 of byte n / 8, on every host.
    pub little_endian: bool,
    /// For destinations without a bitmap if there is no `words`.
    pub run: Option<&'r mut RunFn<'r>>,
    /// Report what earlier reads left over, and read no log.
    pub no_read: bool,
    /// Only watch: what is reported stays, and is reported again to the harvest that takes it. Never the final harvest.
    pub keep: bool,
    /// Only what holds a part of the destinations is read. A final harvest is done by it only if that is all that is mapped.
    pub only_dests: bool,
    /// Of a VMM that asks section by section: a number of its own for each pass over them; 0: none. The first harvest of a pass
    /// reads all, later ones report what it found. What was reported in the pass already, or mapped since, is read by itself,
    /// as by `only_dests`.
    pub pass: u64,
    /// Threads that read side by side; 0: as the tracker was made. 1: none.
    pub max_workers: usize,
    /// What the call reported, also if it failed afterwards: it is not reported again. `None`: it failed before
    /// anything was read.
    pub given: Option<Harvest>,
}

impl Dest<'_> {
    /// Where it is, or what is wrong with it; `index` is its place in the request.
    pub(crate) fn check(&self, index: usize) -> std::result::Result<Span, String> {
        let IovaRange { iova, size } = self.range;
        let span = Span::of(self.range).ok_or_else(|| format!("dests[{index}]: {iova:#x} + {size:#x} is no range"))?;
        if !span.is_aligned(UNIT_SHIFT) {
            return Err(format!("dests[{index}]: {iova:#x} + {size:#x} is not in units of 4096"));
        }
        if !self.page_size.is_power_of_two() || self.page_size < UNIT {
            return Err(format!("dests[{index}]: page_size {:#x} is no power of two from 4096 on", self.page_size));
        }
        let pages = size.div_ceil(self.page_size);
        let bits = match self.bitmap {
            None => u64::MAX,
            Some(Words::Plain(words)) => (words.len() as u64).saturating_mul(64),
            Some(Words::Atomic(words)) => (words.len() as u64).saturating_mul(64),
        };
        if self.first_bit.checked_add(pages).is_none_or(|end| end > bits) {
            return Err(format!("dests[{index}]: {pages} bits from {} on do not fit into {bits}", self.first_bit));
        }
        Ok(span)
    }
}
