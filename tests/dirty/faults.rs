//! A fault at every request of a whole migration with mappings that come and go: whatever fails, RAM is the same in the end, and
//! the results say that more is dirty than was written, and why.

use crate::rig::{Log, Rig};
use simdev::{Access, DmaLog, DraftForm, Effect, Fault, FaultId, Kernel, Type1Config};
use vfiomig::dialect::State;
use vfiomig::tracker::{Harvest, LogKind};

const DMA: [Access; 3] = [Access::DmaLogStart, Access::DmaLogStop, Access::DmaLogReport];
const TYPE1: [Access; 5] =
    [Access::Type1Info, Access::Type1Start, Access::Type1Stop, Access::Type1Get, Access::Type1Unmap];
const HWPT: [Access; 3] = [Access::HwptSetDirty, Access::HwptGetDirty, Access::IoasUnmap];
const DRAFT: [Access; 4] = [Access::PfnWrite, Access::CopiedPfnsRead, Access::DataOffsetRead, Access::DataRead];

fn requests(log: Log) -> &'static [Access] {
    match log {
        Log::Dma(_) | Log::Mixed(_) | Log::Functions(_) => &DMA,
        Log::Type1(_) => &TYPE1,
        Log::Hwpt(..) => &HWPT,
        Log::Draft(_) => &DRAFT,
        Log::Everything => &[],
    }
}

/// The migration; what its harvests said, and the log that was read.
struct Course {
    harvests: Vec<Harvest>,
    kind: LogKind,
    why: String,
    unmap_errors: u32,
}

fn course(rig: &Rig, writers: bool) -> Course {
    let mut harvests = Vec::new();
    let mut unmap_errors = 0;
    rig.map_all(&[(0, 40), (100, 40)]);
    rig.write(&[1]);
    let writers = writers.then(|| rig.writers(&[0..40, 100..140, 200..240], 7));
    let write = |pages: &[u64]| {
        rig.write(pages);
        if let Some(writers) = &writers {
            writers.wait(20);
        }
    };
    rig.start();
    let (kind, why) = (rig.tracker.info().kind, rig.tracker.info().reason);
    write(&[2, 39, 100]);
    harvests.push(rig.harvest().harvest);
    rig.map(200, 40, 200);
    write(&[3, 101, 200]);
    harvests.push(rig.harvest().harvest);
    write(&[4, 102, 201, 239]);
    // A VMM tries again, and then lives with the mapping.
    let mut gone = false;
    for _ in 0..2 {
        let reported = rig.try_unmap(100, 40);
        gone = reported.is_some();
        harvests.extend(reported.map(|reported| reported.harvest));
        if gone {
            break;
        }
        unmap_errors += 1;
    }
    write(&[5, 202]);
    harvests.push(rig.harvest().harvest);
    if gone && rig.space.ram_page(100).is_none() {
        rig.map(100, 40, 300);
        write(&[6, 100, 203]);
        harvests.push(rig.harvest().harvest);
    }
    write(&[7, 204]);
    rig.set_state(State::StopCopy);
    harvests.push(rig.harvest().harvest);
    rig.ram.assert_same();
    // A failure to stop is no error: the log is not read any more.
    rig.tracker.stop().unwrap();
    Course { harvests, kind, why, unmap_errors }
}

/// The object that serves the requests of a rig's log.
struct Served<'r>(&'r Rig);

impl Served<'_> {
    fn count(&self, access: Access) -> u64 {
        let Rig { type1, iommufd, devices, .. } = self.0;
        let watch = type1.as_ref().map(|c| c.watch()).or(iommufd.as_ref().map(|fd| fd.watch()));
        watch.map_or_else(|| devices[0].count(access), |watch| watch.count(access))
    }

    fn inject(&self, fault: Fault) -> FaultId {
        let Rig { type1, iommufd, devices, .. } = self.0;
        let watch = type1.as_ref().map(|c| c.watch()).or(iommufd.as_ref().map(|fd| fd.watch()));
        watch.map_or_else(|| devices[0].inject(fault), |watch| watch.inject(fault))
    }

    fn reached(&self, id: FaultId) -> u64 {
        let Rig { type1, iommufd, devices, .. } = self.0;
        let watch = type1.as_ref().map(|c| c.watch()).or(iommufd.as_ref().map(|fd| fd.watch()));
        watch.map_or_else(|| devices[0].fault_reached(id), |watch| watch.fault_reached(id))
    }
}

/// How many requests of each kind a course makes before its tracker exists, and in all.
fn counts(log: Log, devices: usize) -> Vec<(Access, u64, u64)> {
    let rig = Rig::new(log, devices);
    let served = Served(&rig);
    let before: Vec<u64> = requests(log).iter().map(|&access| served.count(access)).collect();
    let course = course(&rig, false);
    assert!(course.harvests.iter().all(|h| h.failed_reads == 0 && h.first_errno.is_none() && h.degraded_bytes == 0));
    rig.assert_clean();
    requests(log).iter().zip(before).map(|(&access, before)| (access, before, served.count(access))).collect()
}

fn devices(log: Log) -> usize {
    if matches!(log, Log::Functions(_)) { 1 } else { 2 }
}

fn logs() -> [Log; 8] {
    [
        Log::Dma(DmaLog::default()),
        Log::Dma(DmaLog { page_size: 16 * 4096, max_ranges: 2, ..DmaLog::default() }),
        Log::Type1(Type1Config::default()),
        Log::Type1(Type1Config { max_bitmap: 8, ..Type1Config::default() }),
        Log::Hwpt(1, Kernel::V6_12),
        Log::Draft(DraftForm::Sticky),
        Log::Draft(DraftForm::Rewrite),
        Log::Functions(DmaLog::default()),
    ]
}

/// The fault is known: by a result, by the choice of another log, or by the failed unmap. One that only ends a log need not be.
fn assert_reported(course: &Course, log: Log, access: Access, errno: i32, what: &str) {
    let degraded = course.harvests.iter().find(|h| h.failed_reads > 0);
    let kind = Rig::new(log, 1).tracker.info().kind;
    match degraded {
        Some(harvest) => {
            assert!(harvest.degraded_bytes > 0, "{what}: {harvest:?}");
            let reported = harvest.first_errno.map(|e| e.get());
            assert!(reported == Some(errno) || matches!(log, Log::Draft(_)), "{what}: {reported:?}");
        }
        None if course.kind != kind => assert!(!course.why.is_empty(), "{what}"),
        None => {
            let silent = matches!(access, Access::DmaLogStop | Access::Type1Stop | Access::HwptSetDirty);
            assert!(course.unmap_errors > 0 || silent, "{what}: nobody was told");
        }
    }
}

/// Says which fault it was that a panic came from.
struct Note<'w>(&'w str);

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {}", self.0);
        }
    }
}

fn run(log: Log, devices: usize, fault: Fault, writers: bool) -> Option<String> {
    let rig = Rig::new(log, devices);
    let served = Served(&rig);
    let id = served.inject(fault);
    let what = format!("{log:?}: {fault:?}");
    let _note = Note(&what);
    let course = course(&rig, writers);
    if served.reached(id) == 0 {
        assert!(served.count(fault.access) <= fault.nth, "the request was made, and did not fail");
        return Some(what.clone());
    }
    let (Effect::Errno(errno) | Effect::ErrnoMoved(errno)) = fault.effect else { unreachable!("{what}") };
    assert_reported(&course, log, fault.access, errno, &what);
    None
}

/// Once, before and after the request has done its work; and from then on for good.
#[test]
fn at_every_request() {
    for log in logs() {
        let (mut runs, devices) = (0, devices(log));
        for (access, before, all) in counts(log, devices) {
            assert!(all > 0, "{log:?}: no {access:?} to fail");
            for nth in before..all {
                for effect in [Effect::Errno(libc::EIO), Effect::ErrnoMoved(libc::EBADMSG)] {
                    let faults = [Fault::at(access, nth, effect), Fault::from(access, nth, effect)];
                    let missed: Vec<String> =
                        faults.into_iter().filter_map(|fault| run(log, devices, fault, false)).collect();
                    assert!(missed.is_empty(), "not reached: {missed:?}");
                    runs += faults.len();
                }
            }
        }
        assert!(runs > 20, "{log:?}: {runs}");
    }
}

/// The same with devices that never rest, for the logs that fail in ways of their own.
#[test]
fn at_every_request_while_devices_write() {
    for log in [Log::Dma(DmaLog::default()), Log::Type1(Type1Config::default()), Log::Hwpt(1, Kernel::V6_12)] {
        for (access, before, all) in counts(log, 1) {
            for nth in before..all {
                let fault = Fault::at(access, nth, Effect::ErrnoMoved(libc::EIO));
                // How many requests a course makes depends a little on when the writers write: the last one may be missing in a run.
                let missed: Vec<String> = (0..5).map_while(|_| run(log, 1, fault, true)).collect();
                assert!(missed.len() < 5, "not reached: {missed:?}");
            }
        }
    }
}
