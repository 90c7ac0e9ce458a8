//! Unmapping while the log runs, in the order that loses nothing (docs/design.md, "The harvest"; P23).

use super::UNIT_SHIFT;
use super::deliver::Deliverer;
use super::distribute::distribute;
use super::reading::{SpaceLogs, read_all};
use super::request::Request;
use super::space::Tracker;
use super::state::TrackerInner;
use super::tally::{Harvest, Tally};
use crate::error::{Errno, Error, Result};
use crate::log::{Level, log, write};
use crate::logs::log::{LogKind, Maps, Read, UnmapOrder};
use crate::logs::ranges::{IovaRange, Span};
use crate::logs::type1::groups;
use crate::transport::iommufd;
use crate::transport::type1;

/// The VMM's own function that unmaps.
///
/// Example: [`Unmap`].
pub type UnmapFn<'f> = dyn FnMut(IovaRange) -> std::result::Result<(), Errno> + 'f;

/// Who unmaps.
///
/// ```
/// use vfiomig::error::Errno;
/// use vfiomig::tracker::{IovaRange, Request, Unmap};
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
/// let mut lost = Vec::new();
/// let run = &mut |cookie: u64, run: IovaRange| {
///     lost.push((cookie, run.iova));
///     true
/// };
/// let by_vmm = &mut |range: IovaRange| space.unmap(range.iova, range.size).map(|_| ()).map_err(Errno::new);
/// let all = IovaRange { iova: 0, size: 1 << 20 };
/// tracker.unmap(all, Unmap::By(by_vmm), true, &mut Request { run: Some(run), ..Request::default() })?;
/// assert_eq!(lost, [(7, 5 << 12)]);
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub enum Unmap<'f> {
    /// The VMM, by this function, at the right moment.
    By(&'f mut UnmapFn<'f>),
    /// The library, by the container or the IOAS that the tracker was made with.
    Library,
    /// The VMM has done it already. Logs that must be read before, or together with it, make all of the range dirty.
    /// A page table is read mapping by mapping from then on, because a harvest at the same time may find a hole that
    /// the tracker does not know yet.
    Done,
}

impl Tracker {
    /// Unmaps a range and reports what was written to it to the request's destinations; what they do not ask for is
    /// left over, with the cookie of its mapping. The range may hold any number of whole mappings, and holes.
    /// *tracker; blocks in the kernel and in callbacks.*
    ///
    /// `quiet` states that no device writes to the range while this call lasts; only page tables need to know (I9). If the
    /// unmapping fails the mappings stay known, and nothing is lost: `request.given` says what was reported all the same. The
    /// request's `no_read` and `only_dests` mean nothing here.
    pub fn unmap(&self, range: IovaRange, unmap: Unmap<'_>, quiet: bool, request: &mut Request<'_>) -> Result<Harvest> {
        let IovaRange { iova, size } = range;
        let span = Span::of(range).filter(|span| span.is_aligned(UNIT_SHIFT)).ok_or_else(|| {
            self.named(Error::argument(format!("range: {iova:#x} + {size:#x} is no range in units of 4096")))
        })?;
        request.given = None;
        if request.pass != 0 {
            return Err(self.named(Error::argument("pass: an unmapping is no part of a pass")));
        }
        let (max_workers, keep) = (request.max_workers, request.keep);
        let mut deliverer = Deliverer::new(request).map_err(|error| self.named(error))?;
        let mut inner = self.enter()?;
        if let Some(cut) = inner.record.maps.cut_by(span) {
            let text = format!("range: {iova:#x} + {size:#x} cuts the mapping {:#x} + {:#x}", cut.first, cut.bytes());
            return Err(self.named(Error::argument(text)));
        }
        if matches!(unmap, Unmap::Library) && inner.members.container.is_none() && inner.ioas.is_none() {
            let text = "unmap: the tracker has neither a container nor an IOAS to unmap from";
            return Err(self.named(Error::argument(text)));
        }
        let afterwards = matches!(unmap, Unmap::Done);
        inner.record.reports_afterwards = Some(afterwards || inner.record.reports_afterwards == Some(true));
        let mut tally = Tally::default();
        let mut no_owner = Deliverer::no_owner();
        let taker = if keep { &mut no_owner } else { &mut deliverer };
        let mut step = UnmapStep { span, unmap, quiet, max_workers, deliverer: taker, tally: &mut tally };
        let outcome = step.run(&mut inner);
        if inner.is_running() {
            inner.record.give(&mut deliverer, keep);
        }
        match outcome {
            Ok(()) => {
                inner.record.unmap(span);
                inner.sections.forget(span);
            }
            Err(_) => inner.record.maps.doubtful.insert(span),
        }
        self.mapped(&inner);
        drop(inner);
        let harvest = deliverer.finish(tally);
        request.given = Some(harvest);
        outcome.map(|()| harvest).map_err(|errno| {
            let text =
                format!("unmapping {iova:#x} + {size:#x} failed: {errno}; what was written to it is given or kept");
            self.named(Error::system(errno, text))
        })
    }
}

struct UnmapStep<'s, 'f, 'd, 'r> {
    span: Span,
    unmap: Unmap<'f>,
    quiet: bool,
    max_workers: usize,
    deliverer: &'s mut Deliverer<'d, 'r>,
    tally: &'s mut Tally,
}

impl UnmapStep<'_, '_, '_, '_> {
    fn run(&mut self, inner: &mut TrackerInner) -> std::result::Result<(), Errno> {
        let order = inner.current().filter(|_| inner.is_running()).map(|choice| (choice.unmap_order, choice.kind));
        match order {
            None => self.unmap(inner),
            Some((UnmapOrder::Together, _)) if matches!(self.unmap, Unmap::Library) => self.together(inner),
            Some((UnmapOrder::Together, _)) => {
                // What is written between a read and the VMM's own unmapping is in no log.
                inner.record.mark(Some(self.span));
                self.unmap(inner)
            }
            Some((UnmapOrder::ReadThenUnmap, _)) => {
                let lost = !self.quiet || matches!(self.unmap, Unmap::Done);
                if !lost {
                    self.read(inner, true);
                }
                let outcome = self.unmap(inner);
                if lost {
                    // Also after an error: some of the mappings may be gone, and their bits with them.
                    inner.record.mark(Some(self.span));
                }
                outcome
            }
            Some((UnmapOrder::UnmapThenRead, kind)) => {
                self.unmap(inner)?;
                if kind == LogKind::Everything {
                    inner.record.mark(Some(self.span));
                } else {
                    self.read(inner, false);
                }
                Ok(())
            }
        }
    }

    fn read(&mut self, inner: &mut TrackerInner, keep: bool) {
        let mut parts = [inner.part()];
        let within = [self.span].into_iter().collect();
        read_all(&mut parts, Some(&within), keep, (self.max_workers, None), self.deliverer, self.tally);
    }

    fn unmap(&mut self, inner: &TrackerInner) -> std::result::Result<(), Errno> {
        match (&mut self.unmap, &inner.members.container, &inner.ioas) {
            (Unmap::By(function), _, _) => function(self.span.range()),
            (Unmap::Library, Some(container), _) => plain_unmap(&**container, &inner.record.maps, self.span),
            (Unmap::Library, None, Some((iommufd, ioas))) => {
                iommufd::unmap(&**iommufd, *ioas, self.span.first, self.span.bytes()).map(|_| ())
            }
            (Unmap::Library, None, None) | (Unmap::Done, _, _) => Ok(()),
        }
    }

    /// One request of the container reads and unmaps (T7), in groups that its bitmap can hold.
    fn together(&mut self, inner: &mut TrackerInner) -> std::result::Result<(), Errno> {
        let Some(container) = inner.members.container.clone() else { return Err(Errno::new(libc::ENODEV)) };
        let ability = match inner.members.ability {
            Ok(Some(ability)) => ability,
            // It had a log when the tracker was made.
            other => {
                self.tally.fail(other.err().unwrap_or(Errno::new(libc::EPROTO)), inner.record.mark(Some(self.span)));
                return plain_unmap(&*container, &inner.record.maps, self.span);
            }
        };
        let SpaceLogs { pool, record, .. } = inner.part();
        for group in groups(&record.maps, self.span, ability, false) {
            let read = Read { span: group, shift: ability.page_size.trailing_zeros() };
            self.tally.reads = self.tally.reads.saturating_add(1);
            let outcome = pool.take(read.words()).and_then(|mut pages| {
                let bitmap = Some((ability.page_size, pages.room(read.words())));
                match type1::unmap(&*container, group.first, group.bytes(), bitmap) {
                    Ok(_) => Ok(pages),
                    Err(errno) => {
                        pages.words_mut().fill(0);
                        pool.give(pages);
                        Err(errno)
                    }
                }
            });
            match outcome {
                Ok(mut pages) => {
                    if record.unmaps_blind.ends() {
                        log!(Info, "{}: ranges are unmapped with their dirty bitmaps again", record.name);
                    }
                    distribute(record, self.deliverer, pages.room(read.words()), &read);
                    pool.give(pages);
                }
                Err(errno) => {
                    // Mappings may be gone already, and their dirt with them (T7).
                    self.tally.fail(errno, record.mark(Some(group)));
                    let level = if record.unmaps_blind.begins() { Level::Warning } else { Level::Debug };
                    let (name, first) = (&record.name, group.first);
                    let text = "its dirty bitmap failed";
                    write(level, format_args!("{name}: unmapping {first:#x} with {text}: {errno}: all of it is dirty"));
                    plain_unmap(&*container, &record.maps, group)?;
                }
            }
        }
        // What the tracker does not know, as memory that devices cannot write, has no dirt here, but it is to be unmapped as
        // well.
        let reported =
            record.maps.overlapping(self.span).fold(0_u64, |sum, (whole, _)| sum.saturating_add(whole.bytes()));
        if reported < self.span.bytes() { plain_unmap(&*container, &record.maps, self.span) } else { Ok(()) }
    }
}

/// Kernels before 7 refuse a range that ends at 2^64 (T8), so it is tried again without its last page where nothing is mapped. A
/// mapping that has that page cannot go by this request, and the refusal says so.
fn plain_unmap(container: &dyn type1::Container, maps: &Maps, span: Span) -> std::result::Result<(), Errno> {
    let last_page = Span { first: span.last, last: span.last }.aligned_out(UNIT_SHIFT);
    let may_go_without = span.last == u64::MAX && !maps.mapped.overlaps(last_page);
    match type1::unmap(container, span.first, span.bytes(), None) {
        Err(errno) if may_go_without && matches!(errno.get(), libc::EINVAL | libc::EOVERFLOW) => {
            if span.first < last_page.first {
                let rest = last_page.first.saturating_sub(span.first);
                type1::unmap(container, span.first, rest, None)?;
            }
            Ok(())
        }
        other => other.map(|_| ()),
    }
}
