//! A DMA log that its keeper has mapping by mapping, as vfio-user servers do (U-12, U-13): only whole mappings are reported,
//! and each is asked for by itself.

use super::log::{Log, Maps, Read};
use super::ranged::{Keeper, Ranged};
use super::ranges::Span;
use crate::error::Errno;
use crate::log::log;
use std::cell::RefCell;
use std::collections::BTreeSet;

pub(super) struct ByMapping<K> {
    log: Ranged<K>,
    /// What was reported since the start, and is mapped since; only what was mapped at the last harvest, for mappings come and go.
    answered: RefCell<BTreeSet<Span>>,
    /// A mapping was refused since the start, and the log of messages has it.
    complained: bool,
}

impl<K: Keeper> ByMapping<K> {
    pub fn new(log: Ranged<K>) -> Self {
        ByMapping { log, answered: RefCell::default(), complained: false }
    }
}

/// What a server says of a mapping of which it keeps no log: it got no descriptor, or cut it otherwise.
fn keeps_none(errno: Errno) -> bool {
    matches!(errno.get(), libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT)
}

impl<K: Keeper> Log for ByMapping<K> {
    fn describe(&self) -> String {
        self.log.describe()
    }

    fn any_thread(&self) -> bool {
        self.log.any_thread()
    }

    fn start(&mut self, maps: &Maps, page_size: u64) -> Result<(), Errno> {
        self.answered.get_mut().clear();
        self.complained = false;
        self.log.start(maps, page_size)
    }

    fn stop(&mut self) -> Result<(), Errno> {
        self.log.stop()
    }

    fn reads(&self, maps: &Maps, within: Option<Span>) -> Vec<Read> {
        // Before a start there is nothing to read.
        let Some((_, page_size)) = self.log.holds() else { return Vec::new() };
        if within.is_none() {
            self.answered.borrow_mut().retain(|&span| maps.has(span));
        }
        let whole = maps.overlapping(within.unwrap_or(Span::ALL));
        whole.map(|(span, _)| Read { span, shift: page_size.trailing_zeros() }).collect()
    }

    /// A mapping that was never reported since the start is dirty, as one that no log knows; the others are exact all the same.
    /// One that was reported before is in doubt, and the whole log with it (L6).
    fn read(&mut self, read: &Read, _keep: bool, bitmap: &mut [u64]) -> Result<(), Errno> {
        match self.log.report(read, bitmap) {
            Err(errno) if keeps_none(errno) && !self.answered.get_mut().contains(&read.span) => {
                let Span { first, .. } = read.span;
                if !std::mem::replace(&mut self.complained, true) {
                    let what = self.describe();
                    log!(
                        Warning,
                        "{what}: nothing is known of the mapping at {first:#x}: {errno}; it is sent each time"
                    );
                }
                fill(bitmap, read.bits());
                Ok(())
            }
            Ok(()) => {
                self.answered.get_mut().insert(read.span);
                Ok(())
            }
            failed => failed,
        }
    }

    fn blind(&self, maps: &Maps) -> Vec<Span> {
        self.log.blind(maps)
    }

    fn needs_restart_for(&self, span: Span) -> bool {
        // It is new, whatever was mapped there before.
        self.answered.borrow_mut().remove(&span);
        self.log.needs_restart_for(span)
    }

    fn restarts_after_error(&self) -> bool {
        self.log.restarts_after_error()
    }

    fn stands_still(&self) -> Option<u64> {
        self.log.stands_still()
    }

    fn adds_bits(&self) -> bool {
        self.log.adds_bits()
    }

    fn holds(&self) -> Option<(usize, u64)> {
        self.log.holds()
    }
}

/// Sets the first `bits` bits.
fn fill(bitmap: &mut [u64], bits: u64) {
    for (n, word) in bitmap.iter_mut().enumerate() {
        match bits.saturating_sub((n as u64).saturating_mul(64)) {
            0 => return,
            left @ 1..64 => *word |= 1u64.checked_shl(left as u32).unwrap_or(0).wrapping_sub(1),
            _ => *word = u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::ranges::IovaRange;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// What a server maps, and whether it has a descriptor of it; written is always the first page.
    #[derive(Default)]
    struct Server {
        regions: Mutex<BTreeMap<u64, (u64, bool)>>,
        asked: Mutex<Vec<(u64, u64, u64)>>,
        starts: Mutex<usize>,
    }

    impl Keeper for &'static Server {
        fn describe(&self) -> String {
            "server".into()
        }
        fn any_thread(&self) -> bool {
            true
        }
        fn start(&self, page_size: u64, _: &[[u64; 2]]) -> Result<u64, Errno> {
            *self.starts.lock().unwrap() += 1;
            Ok(page_size)
        }
        fn report(&self, range: IovaRange, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
            self.asked.lock().unwrap().push((range.iova, range.size, page_size));
            match self.regions.lock().unwrap().get(&range.iova) {
                Some((size, true)) if *size == range.size => bitmap[0] |= 1,
                Some((size, _)) if *size != range.size => return Err(Errno::new(libc::EOPNOTSUPP)),
                Some(_) => return Err(Errno::new(libc::EINVAL)),
                None => return Err(Errno::new(libc::ENOENT)),
            }
            Ok(())
        }
        fn stop(&self) -> Result<(), Errno> {
            Ok(())
        }
    }

    fn span(first: u64, pages: u64) -> Span {
        Span { first, last: first + pages * 4096 - 1 }
    }

    fn started(mapped: &[Span]) -> (ByMapping<&'static Server>, &'static Server, Maps) {
        let server: &'static Server = Box::leak(Box::default());
        let mut maps = Maps::default();
        for &span in mapped {
            maps.insert(span, 0);
            server.regions.lock().unwrap().insert(span.first, (span.bytes(), true));
        }
        let mut log = ByMapping::new(Ranged::new(server, &[]));
        log.start(&maps, 4096).unwrap();
        (log, server, maps)
    }

    /// U-12: neighbours are two reads, never one or a part, and all have the page size of the start (U-11).
    #[test]
    fn each_mapping_is_asked_for_as_a_whole() {
        let mapped = [span(0, 3), span(3 << 12, 100), span(1 << 30, 1 << 20)];
        let (mut log, server, maps) = started(&mapped);
        let spans = |within| log.reads(&maps, within).iter().map(|read| (read.span, read.shift)).collect::<Vec<_>>();
        assert_eq!(spans(None), mapped.map(|span| (span, 12)));
        assert_eq!(spans(Some(span(4 << 12, 1))), [(mapped[1], 12)]);
        for read in log.reads(&maps, None) {
            let mut bits = vec![0; read.words()];
            log.read(&read, false, &mut bits).unwrap();
            assert_eq!(bits[0], 1);
        }
        let asked = mapped.map(|span| (span.first, span.bytes(), 4096));
        assert_eq!(*server.asked.lock().unwrap(), asked);
    }

    /// U-12: a mapping without a descriptor, or of another shape at the server, is dirty each time, and nothing else is.
    #[test]
    fn what_the_server_does_not_log_is_dirty_and_the_rest_exact() {
        let mapped = [span(0, 70), span(1 << 20, 70), span(1 << 21, 70), span(1 << 22, 1)];
        let (mut log, server, maps) = started(&mapped);
        server.regions.lock().unwrap().insert(0, (70 << 12, false));
        server.regions.lock().unwrap().insert(1 << 21, (71 << 12, true));
        server.regions.lock().unwrap().remove(&(1 << 22));
        for _ in 0..2 {
            let reads = log.reads(&maps, None);
            let bits = reads.iter().map(|read| {
                let mut bits = vec![0; read.words()];
                log.read(read, false, &mut bits).unwrap();
                bits
            });
            let full = vec![u64::MAX, 0x3f];
            assert_eq!(bits.collect::<Vec<_>>(), [full.clone(), vec![1, 0], full, vec![1]]);
        }
        assert_eq!(*server.starts.lock().unwrap(), 1);
    }

    /// A guest that maps and unmaps for hours costs no memory, and a mapping that comes where one was before is a new one.
    #[test]
    fn mappings_that_went_are_forgotten() {
        let (mut log, server, mut maps) = started(&[span(0, 1)]);
        for n in 1..100 {
            let mapped = span(n << 20, 1);
            maps.insert(mapped, 0);
            server.regions.lock().unwrap().insert(mapped.first, (mapped.bytes(), true));
            let reads = log.reads(&maps, None);
            assert!(reads.iter().all(|read| log.read(read, false, &mut [0]).is_ok()), "{n}");
            maps.remove(mapped);
        }
        assert!(log.answered.borrow().len() <= 2);
        // It went and came between two reads, and the server has no descriptor of it this time.
        let again = span(99 << 20, 1);
        maps.insert(again, 0);
        server.regions.lock().unwrap().insert(again.first, (again.bytes(), false));
        assert!(!log.needs_restart_for(again));
        let mut bits = [0];
        assert_eq!(log.read(&log.reads(&maps, None)[1], false, &mut bits), Ok(()));
        assert_eq!((bits, *server.starts.lock().unwrap()), ([1], 1));
    }

    /// L6: what was reported before and is not any more puts the log in doubt; so does an errno that says nothing of the mapping.
    #[test]
    fn a_mapping_that_was_reported_before_is_in_doubt() {
        let (mut log, server, maps) = started(&[span(0, 1)]);
        // It stays known from one harvest to the next.
        for _ in 0..2 {
            let read = log.reads(&maps, None)[0];
            log.read(&read, false, &mut [0]).unwrap();
        }
        server.regions.lock().unwrap().clear();
        let read = log.reads(&maps, None)[0];
        assert_eq!(log.read(&read, false, &mut [0]), Err(Errno::new(libc::ENOENT)));
        assert!(log.restarts_after_error());
        log.start(&maps, 4096).unwrap();
        assert_eq!(log.read(&read, false, &mut [0]), Ok(()));
    }
}
