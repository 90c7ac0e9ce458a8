//! How logs that a VMM or a device keeps are started, stopped and taken over.

use crate::rig::{Log as LogKind, P, Rig};
use simdev::{Access, DmaLog, Effect, Fault};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use vfiomig::error::Errno;
use vfiomig::tracker::{IovaRange, LogKind as Chosen, Mapping, Request, Tracker, TrackerOptions, Unmap};
use vfiomig::transport::tracker_ops::LogFunctions;

/// A log of pages of 4 KiB with the moods of devices.
#[derive(Default)]
struct State {
    started: Vec<[u64; 2]>,
    dirty: BTreeSet<u64>,
    starts: u32,
    /// Bytes that were asked for by REPORT.
    asked: u64,
    /// So many STOPs fail.
    stop_fails: u32,
    /// START of more bytes is EOPNOTSUPP (L3); 0: no limit.
    most_bytes: u64,
    /// START of more ranges is E2BIG; 0: no limit.
    most_ranges: usize,
    /// REPORT of anything but a started range is EINVAL.
    whole_only: bool,
    /// Each REPORT fails.
    report_fails: Option<i32>,
    /// Each START fails.
    start_fails: Option<i32>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<State>>);

impl Log {
    fn new(edit: impl FnOnce(&mut State)) -> Log {
        let log = Log::default();
        edit(&mut log.state());
        log
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
    fn write(&self, page: u64) {
        let mut state = self.state();
        if state.started.iter().any(|&[iova, size]| (iova..iova + size).contains(&(page * P))) {
            state.dirty.insert(page);
        }
    }
    fn tracker(&self) -> Tracker {
        let name = "ram".to_string();
        Tracker::new(TrackerOptions { name, functions: Some(Box::new(self.clone())), ..TrackerOptions::default() })
            .unwrap()
    }
}

impl LogFunctions for Log {
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        let mut state = self.state();
        state.starts += 1;
        let fails = [
            (!state.started.is_empty(), libc::EINVAL),
            (state.start_fails.is_some(), state.start_fails.unwrap_or(0)),
            (state.most_ranges != 0 && ranges.len() > state.most_ranges, libc::E2BIG),
            (state.most_bytes != 0 && ranges.iter().map(|r| r[1]).sum::<u64>() > state.most_bytes, libc::EOPNOTSUPP),
        ];
        if let Some(&(_, errno)) = fails.iter().find(|(fails, _)| *fails) {
            return Err(Errno::new(errno));
        }
        (state.started, state.dirty) = (ranges.to_vec(), BTreeSet::new());
        Ok(page_size)
    }
    fn report(&self, iova: u64, size: u64, page: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        let mut state = self.state();
        state.asked += size;
        if let Some(errno) = state.report_fails {
            return Err(Errno::new(errno));
        }
        let inside = |&&[at, bytes]: &&[u64; 2]| at <= iova && iova - at <= bytes && size <= bytes - (iova - at);
        let Some(&range) = state.started.iter().find(inside) else { return Err(Errno::new(libc::EINVAL)) };
        if state.whole_only && range != [iova, size] {
            return Err(Errno::new(libc::EINVAL));
        }
        let first = iova / page;
        let found: Vec<u64> = state.dirty.range(first..first + size / page).copied().collect();
        for at in found {
            bitmap[((at - first) / 64) as usize] |= 1 << ((at - first) % 64);
            state.dirty.remove(&at);
        }
        Ok(())
    }
    fn stop(&self) -> Result<(), Errno> {
        let mut state = self.state();
        if state.stop_fails > 0 {
            state.stop_fails -= 1;
            return Err(Errno::new(libc::EBUSY));
        }
        state.started.clear();
        Ok(())
    }
}

fn map(tracker: &Tracker, first: u64, pages: u64) {
    tracker.map(&[Mapping { range: IovaRange { iova: first * P, size: pages * P }, cookie: 0 }]).unwrap();
}

/// Pages that a harvest of everything tells, and how many reads failed.
fn reported(tracker: &Tracker) -> (BTreeSet<u64>, u32) {
    let mut pages = BTreeSet::new();
    let mut run = |_: u64, run: IovaRange| {
        pages.extend(run.iova / P..(run.iova + run.size) / P);
        true
    };
    let harvest = tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    (pages, harvest.failed_reads)
}

const GIB: u64 = (1 << 30) / P;

/// A STOP that fails is sent again, before START, at the next stop, and at the end.
#[test]
fn a_stop_that_fails_is_not_forgotten() {
    let log = Log::default();
    let tracker = log.tracker();
    map(&tracker, 0, 4);
    tracker.start().unwrap();
    log.state().stop_fails = 1;
    map(&tracker, 8 * GIB, 1);
    let all: BTreeSet<u64> = (0..4).chain([8 * GIB]).collect();
    assert_eq!(reported(&tracker), (all, 1), "the restart failed, and the harvest's worked");
    log.write(2);
    assert_eq!(reported(&tracker), (BTreeSet::from([2]), 0));
    // At the last stop, and before the next start.
    log.state().stop_fails = 1;
    tracker.stop().unwrap();
    assert!(!log.state().started.is_empty());
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, Chosen::Ops, "{}", tracker.info().reason);
    log.write(3);
    assert_eq!(reported(&tracker), (BTreeSet::from([3]), 0));
    // At the end.
    log.state().stop_fails = 1;
    tracker.stop().unwrap();
    tracker.close().unwrap();
    assert!(log.state().started.is_empty(), "nobody is left to stop it");
}

/// The same for the other logs.
#[test]
fn a_stop_of_a_device_a_container_or_a_page_table_that_fails() {
    for (log, access) in [
        (LogKind::Dma(DmaLog::default()), Access::DmaLogStop),
        (LogKind::Type1(simdev::Type1Config::default()), Access::Type1Stop),
        (LogKind::Hwpt(1, simdev::Kernel::V6_12), Access::HwptSetDirty),
    ] {
        let rig = Rig::new(log, 1);
        rig.map_all(&[(0, 10)]);
        rig.start();
        let watch = match log {
            LogKind::Type1(_) => rig.type1.as_ref().map(simdev::Type1::watch),
            LogKind::Hwpt(..) => rig.iommufd.as_ref().map(simdev::Iommufd::watch),
            _ => None,
        };
        let count = || watch.as_ref().map_or_else(|| rig.devices[0].count(access), |watch| watch.count(access));
        let fault = Fault::at(access, count(), Effect::Errno(libc::EINTR));
        let _ = watch.as_ref().map_or_else(|| rig.devices[0].inject(fault), |watch| watch.inject(fault));
        let before = count();
        rig.tracker.stop().unwrap();
        rig.tracker.close().unwrap();
        assert_eq!(count() - before, 2, "{log:?}: the second one at the end");
        assert!(!rig.devices[0].dma_logging() && !rig.type1.iter().any(simdev::Type1::logging));
    }
}

/// A log that somebody left running is taken over by one STOP and one START.
#[test]
fn a_log_that_is_found_running_is_taken_over() {
    let rig = Rig::new(LogKind::Dma(DmaLog::default()), 1);
    rig.map_all(&[(0, 10)]);
    rig.start();
    rig.handles[0].close().unwrap();
    rig.tracker.close().unwrap();
    assert!(rig.devices[0].dma_logging());
    let again = Arc::new(vfiomig::Device::new(rig.devices[0].transport(), Default::default()).unwrap());
    let tracker = Tracker::new(TrackerOptions { devices: vec![again], ..TrackerOptions::default() }).unwrap();
    map(&tracker, 0, 10);
    let d = &rig.devices[0];
    let before = (d.count(Access::DmaLogStart), d.count(Access::DmaLogStop));
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, Chosen::DmaLog, "{}", tracker.info().reason);
    assert_eq!((d.count(Access::DmaLogStart) - before.0, d.count(Access::DmaLogStop) - before.1), (2, 1));
    d.dma_write(3).unwrap();
    assert_eq!(reported(&tracker), (BTreeSet::from([3]), 0));
    // One that says EINVAL for another reason is not asked for ever.
    let log = Log::new(|state| state.start_fails = Some(libc::EINVAL));
    let tracker = log.tracker();
    map(&tracker, 0, 4);
    tracker.start().unwrap();
    assert_eq!((tracker.info().kind, log.state().starts), (Chosen::Everything, 3));
}

/// L3: a device with a largest sum of ranges gets what is mapped and no more.
#[test]
fn ranges_are_rounded_out_only_where_the_device_takes_it() {
    let log = Log::new(|state| state.most_bytes = 16 * P);
    let tracker = log.tracker();
    map(&tracker, 0, 4);
    map(&tracker, 8 * GIB, 4);
    tracker.start().unwrap();
    assert_eq!(log.state().started, [[0, 4 * P], [8 * GIB * P, 4 * P]]);
    log.write(8 * GIB + 1);
    assert_eq!(reported(&tracker), (BTreeSet::from([8 * GIB + 1]), 0));
}

/// Servers that tell a started range as it is, or nothing (libvfio-user), are found out at the start.
#[test]
fn a_log_that_tells_whole_ranges_only() {
    let log = Log::new(|state| state.whole_only = true);
    let tracker = log.tracker();
    map(&tracker, 0, 4);
    map(&tracker, 8 * GIB, 4);
    tracker.start().unwrap();
    assert_eq!((tracker.info().kind, log.state().starts), (Chosen::Ops, 2));
    log.write(8 * GIB + 1);
    assert_eq!(reported(&tracker), (BTreeSet::from([8 * GIB + 1]), 0));
    // What lies between is read with it, up to what any log's read may be.
    let log = Log::new(|state| (state.whole_only, state.most_ranges) = (true, 1));
    let tracker = log.tracker();
    map(&tracker, 0, 4);
    map(&tracker, 128 * GIB - 4 * P, 4);
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, Chosen::Ops, "{}", tracker.info().reason);
    log.write(1);
    assert_eq!(reported(&tracker), (BTreeSet::from([1]), 0));
    // What it would have to be read as must follow from what is mapped.
    let log = Log::new(|state| (state.whole_only, state.most_ranges) = (true, 1));
    let tracker = log.tracker();
    map(&tracker, 0, 4);
    map(&tracker, 8192 * GIB, 4);
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, Chosen::Everything);
    assert!(tracker.info().reason.contains("Cannot allocate memory"), "{}", tracker.info().reason);
}

/// Mappings in equal distances, as virtio-mem's blocks. No range has nearly everything, and an unmapping
/// reads what is unmapped and the pages beside it.
#[test]
fn mappings_in_equal_distances() {
    const MIB: u64 = (1 << 20) / P;
    let layouts = [
        (1000, 1, MIB),
        (1000, 1, 64 * MIB),
        (4096, 8 * MIB, 16 * MIB),
        (32768, 8 * MIB, 16 * MIB),
        (4096, 8 * MIB, 4 * GIB),
    ];
    for (count, pages, stride) in layouts {
        let log = Log::new(|state| state.most_ranges = 256);
        let tracker = log.tracker();
        let range = |n: u64| IovaRange { iova: n * stride * P, size: pages * P };
        let mappings: Vec<Mapping> = (0..count).map(|n| Mapping { range: range(n), cookie: 0 }).collect();
        tracker.map(&mappings).unwrap();
        tracker.start().unwrap();
        let sizes: Vec<u64> = log.state().started.iter().map(|range| range[1]).collect();
        let (largest, sum) = (sizes.iter().max().unwrap(), sizes.iter().sum::<u64>());
        assert!(*largest <= sum / sizes.len() as u64 * 8, "{count} x {pages}: {largest} of {sum} in {}", sizes.len());
        log.state().asked = 0;
        for n in 1..100 {
            log.write(n * stride);
            let mut pages = BTreeSet::new();
            let mut run = |_: u64, run: IovaRange| pages.insert(run.iova / P);
            let mut request = Request { run: Some(&mut run), ..Request::default() };
            tracker.unmap(range(n), Unmap::Done, false, &mut request).unwrap();
            assert_eq!(pages, BTreeSet::from([n * stride]));
        }
        let asked = log.state().asked / 99;
        assert!(asked <= (pages + 2 * 64) * P, "{asked} bytes are read to unmap {}", pages * P);
    }
}

/// A log that cannot be read is a line once when it begins, with what it means, and once when it is over.
#[test]
fn a_log_that_stays_broken_is_named_once() {
    let lines: Arc<Mutex<Vec<(vfiomig::log::Level, String)>>> = Arc::default();
    let sink = Arc::clone(&lines);
    let keep = move |level, text: &str| {
        if text.contains("f13") {
            sink.lock().unwrap().push((level, text.to_string()));
        }
    };
    let log = Log::default();
    let options =
        TrackerOptions { name: "f13".into(), functions: Some(Box::new(log.clone())), ..TrackerOptions::default() };
    let tracker = Tracker::new(options).unwrap();
    map(&tracker, 0, 4);
    tracker.start().unwrap();
    vfiomig::log::set_sink(Some(Arc::new(keep)), vfiomig::log::Level::Info);
    for (report, start) in [(Some(libc::EIO), Some(libc::ENOMEM)), (Some(libc::EIO), None)] {
        (log.state().report_fails, log.state().start_fails) = (report, start);
        for _ in 0..50 {
            assert_eq!(reported(&tracker).0.len(), 4, "everything is dirty");
        }
        (log.state().report_fails, log.state().start_fails) = (None, None);
        for _ in 0..3 {
            reported(&tracker);
        }
        log.write(1);
        assert_eq!(reported(&tracker), (BTreeSet::from([1]), 0));
        let reported = std::mem::take(&mut *lines.lock().unwrap());
        let levels: Vec<_> = reported.iter().map(|line| line.0).collect();
        assert_eq!(levels, [vfiomig::log::Level::Error, vfiomig::log::Level::Info], "{reported:?}");
        assert!(reported[0].1.contains("everything is sent again until it comes back"), "{reported:?}");
        assert!(
            reported[0].1.contains("f13: log of the VMM") && reported[1].1.contains("it can be read again"),
            "{reported:?}"
        );
    }
    vfiomig::log::set_sink(None, vfiomig::log::Level::Error);
}

/// What is wrong with a log is known until it can be read again, and no longer.
#[test]
fn what_is_wrong_with_a_log_is_forgotten_when_it_is_over() {
    let log = Log::default();
    let options =
        TrackerOptions { name: "t".into(), functions: Some(Box::new(log.clone())), ..TrackerOptions::default() };
    let tracker = Tracker::new(options).unwrap();
    map(&tracker, 0, 4);
    tracker.start().unwrap();
    let well = tracker.info().reason;
    for harvests in [1, 2] {
        log.state().report_fails = Some(libc::EIO);
        for _ in 0..harvests {
            reported(&tracker);
            let why = tracker.info().reason;
            assert!(why.ends_with("; everything is sent again until it comes back"), "{why}");
        }
        log.state().report_fails = None;
        reported(&tracker);
        assert_eq!(tracker.info().reason, well, "after {harvests}");
    }
}
