//! Which log is taken and why, starts and stops, devices that go away, and the ends of the address space.

use crate::rig::{Log, P, Rig};
use simdev::{Access, Config, DmaLog, Effect, Fault, Iommufd, IommufdConfig, Kernel, Ram, Type1, Type1Config};
use std::sync::Arc;
use vfiomig::dialect::{Direction, State};
use vfiomig::error::ErrorKind;
use vfiomig::group::Group;
use vfiomig::migration::{AbortTo, Migration, Phase};
use vfiomig::tracker::{IovaRange, LogKind, Mapping, Request, Tracker, TrackerOptions};

const MAPS: [(u64, u64); 2] = [(0, 64), (100, 10)];
const LAST: u64 = u64::MAX / P;

fn pages(rig: &Rig) -> Vec<u64> {
    rig.space.mappings().iter().flat_map(|m| (m.iova / P)..=(m.iova / P + m.size / P - 1)).collect()
}

#[test]
fn only_the_first_start_begins_a_log_and_the_last_stop_ends_it() {
    for log in Log::all() {
        let rig = Rig::new(log, 1);
        rig.map_all(&MAPS);
        assert_eq!(rig.tracker.stop().unwrap_err().kind(), ErrorKind::Order);
        rig.start();
        rig.write(&[5]);
        rig.tracker.start().unwrap();
        rig.tracker.start().unwrap();
        assert_eq!(rig.tracker.info().starts, 3);
        let reported = rig.harvest().list();
        assert_eq!(
            reported,
            if log.is_exact() { vec![5] } else { pages(&rig) },
            "{log:?}: a second start loses nothing"
        );
        rig.write(&[6]);
        rig.tracker.stop().unwrap();
        rig.tracker.stop().unwrap();
        assert!(rig.harvest().pages.contains(&6));
        rig.write(&[7]);
        rig.tracker.stop().unwrap();
        assert_eq!(rig.tracker.stop().unwrap_err().kind(), ErrorKind::Order);
        assert_eq!(rig.tracker.harvest(&mut Request::default()).unwrap_err().kind(), ErrorKind::Order);
        assert!(!rig.devices[0].dma_logging() && !rig.type1.iter().any(Type1::logging));
        // What was written before a start is of no interest (N25), but for a draft, whose log runs with its session.
        rig.tracker.start().unwrap();
        rig.ram.copy_all();
        if log.is_exact() && !matches!(log, Log::Draft(_)) {
            assert_eq!(rig.take(false).list(), [0u64; 0], "{log:?}");
        }
        rig.write(&[8]);
        assert!(rig.take(false).pages.contains(&8));
        rig.tracker.close().unwrap();
        assert!(!rig.devices[0].dma_logging() && !rig.type1.iter().any(Type1::logging));
        assert_eq!(rig.tracker.start().unwrap_err().errno(), libc::ENODEV);
        rig.assert_clean();
    }
}

/// A log that does not work is found out at start, and the next one is taken, with the reason in words.
#[test]
fn logs_that_do_not_work_make_room_for_the_next() {
    let broken = [
        (Log::Dma(DmaLog { report: false, ..DmaLog::default() }), "reading", libc::EOPNOTSUPP),
        (Log::Dma(DmaLog { min_total: 1 << 31, ..DmaLog::default() }), "start", libc::EOPNOTSUPP),
        (Log::Dma(DmaLog { max_total: 1 << 16, ..DmaLog::default() }), "start", libc::EOPNOTSUPP),
        (Log::Dma(DmaLog { max_ranges: 0, ..DmaLog::default() }), "start", libc::E2BIG),
    ];
    for (log, what, errno) in broken {
        for next in [true, false] {
            let (ram, mut container) = (Ram::new(), None);
            let rig = Rig::with(log, 2, &ram, |options| {
                assert!(options.container.is_none());
                if next {
                    let space = simdev::Space::new(&Ram::new());
                    let type1 = Type1::new(&space, Type1Config::default());
                    options.container = Some(Arc::new(type1.clone()));
                    container = Some(type1);
                }
            });
            rig.map_all(&MAPS);
            assert_eq!(rig.tracker.info().kind, LogKind::DmaLog);
            rig.tracker.start().unwrap();
            let info = rig.tracker.info();
            assert_eq!(info.kind, if next { LogKind::Type1 } else { LogKind::Everything });
            let errno = std::io::Error::from_raw_os_error(errno).to_string();
            assert!(
                info.reason.contains(what) && info.reason.contains(errno.split(" (").next().unwrap()),
                "{}",
                info.reason
            );
            assert!(rig.devices.iter().all(|d| !d.dma_logging()), "a log that is not used does not run");
            if next {
                assert!(container.unwrap().logging());
            } else {
                assert!(info.perpetual);
                assert_eq!(rig.harvest().list(), pages(&rig));
            }
            rig.tracker.stop().unwrap();
            rig.assert_clean();
        }
    }
}

#[test]
fn what_is_known_at_creation() {
    let why = |log, edit: &dyn Fn(&mut TrackerOptions)| {
        let info = Rig::with(log, 1, &Ram::new(), edit).tracker.info();
        (info.kind, info.reason)
    };
    let dma = Log::Dma(DmaLog::default());
    let (kind, text) = why(dma, &|options| options.no_device_log = true);
    assert!(kind == LogKind::Everything && text.contains("switched off"), "{text}");
    let (kind, text) = why(dma, &|options| options.devices.clear());
    assert!(kind == LogKind::Everything && text.contains("no device"), "{text}");
    let (kind, text) = why(Log::Type1(Type1Config { migration: false, ..Type1Config::default() }), &|_| {});
    assert!(kind == LogKind::Everything && text.contains("container"), "T1: {text}");
    // One device without a log is enough: what it writes no other knows.
    let mixed = simdev::Device::new(Config::default());
    let without = vfiomig::Device::new(mixed.transport(), Default::default()).unwrap();
    let without = Arc::new(without);
    assert_eq!(why(dma, &|options| options.devices.push(Arc::clone(&without))).0, LogKind::Everything);
}

/// Faults while the tracker is made.
#[test]
fn logs_that_cannot_be_asked() {
    let space = simdev::Space::new(&Ram::new());
    let d = simdev::Device::new(Config { dma_log: Some(DmaLog::default()), ..Config::default() });
    let device = Arc::new(vfiomig::Device::new(d.transport(), Default::default()).unwrap());
    let type1 = Type1::new(&space, Type1Config::default());
    let errno = Effect::Errno(libc::EIO);
    let ids = [
        d.inject(Fault::from(Access::OtherFeature, d.count(Access::OtherFeature), errno)),
        type1.watch().inject(Fault::at(Access::Type1Info, 0, errno)),
        type1.watch().inject(Fault::at(Access::Type1Info, 2, errno)),
    ];
    for _ in 0..2 {
        let (devices, container) = (vec![Arc::clone(&device)], Some(Arc::new(type1.clone()) as _));
        let info = Tracker::new(TrackerOptions { devices, container, ..TrackerOptions::default() }).unwrap().info();
        assert_eq!(info.kind, LogKind::Everything);
        assert!(
            info.reason.contains("no log") && info.reason.contains("asking the container failed"),
            "{}",
            info.reason
        );
    }
    assert_eq!((d.fault_reached(ids[0]), type1.watch().fault_reached(ids[1])), (2, 1));
    assert_eq!(type1.watch().fault_reached(ids[2]), 1);
}

/// A container that names a page smaller than any processor's would make bitmaps so much larger.
#[test]
fn a_container_with_pages_of_a_byte_is_not_used() {
    let space = simdev::Space::new(&Ram::new());
    for page_size in [1, 2048] {
        let type1 = Type1::new(&space, Type1Config { page_size, ..Type1Config::default() });
        let info = Tracker::new(TrackerOptions { container: Some(Arc::new(type1)), ..TrackerOptions::default() })
            .unwrap()
            .info();
        assert_eq!(info.kind, LogKind::Everything);
        assert!(info.reason.contains("asking the container failed"), "{}", info.reason);
    }
}

/// I1, T2: what page tables and containers say only when they are asked to track.
#[test]
fn page_tables_and_containers_that_refuse() {
    let space = simdev::Space::new(&Ram::new());
    let fd = Iommufd::new(IommufdConfig::default());
    let hwpt = fd.hwpt(fd.ioas(&space), P, false);
    let type1 = Type1::new(&space, Type1Config { v2: false, ..Type1Config::default() });
    let tracker = Tracker::new(TrackerOptions {
        hwpts: Some((Arc::new(fd.clone()), vec![hwpt])),
        container: Some(Arc::new(type1.clone())),
        ..TrackerOptions::default()
    })
    .unwrap();
    assert_eq!(tracker.info().kind, LogKind::Hwpt);
    tracker.start().unwrap();
    let info = tracker.info();
    assert_eq!(info.kind, LogKind::Everything);
    assert!(info.reason.contains("hwpt") && info.reason.contains("container"), "{}", info.reason);
    fd.watch().assert_clean();
    type1.watch().assert_clean();
}

/// P15: what a device that was closed wrote until then cannot be known. It was unplugged, so that is all.
#[test]
fn a_device_that_goes_away_leaves_everything_dirty() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 2);
    rig.map_all(&MAPS);
    rig.start();
    rig.write(&[3]);
    rig.devices[1].dma_write(60).unwrap();
    rig.handles[0].close().unwrap();
    let reported = rig.harvest();
    assert_eq!(reported.list(), pages(&rig));
    assert_eq!(reported.harvest.first_errno.map(|e| e.get()), Some(libc::ENODEV));
    assert!(reported.harvest.failed_reads > 0 && reported.harvest.degraded_bytes >= 74 * P);
    rig.ram.assert_same();
    rig.devices[1].dma_write(61).unwrap();
    let reported = rig.harvest();
    assert_eq!((reported.list(), reported.harvest.failed_reads), (vec![61], 0));
    let info = rig.tracker.info();
    assert_eq!((info.kind, info.failed_logs, info.perpetual), (LogKind::DmaLog, 0, false), "{}", info.reason);
    assert!(!rig.tracker.covers(&rig.handles[0]) && rig.tracker.covers(&rig.handles[1]));
    assert!(rig.devices[0].dma_logging(), "to free a handle changes no device");
    rig.tracker.stop().unwrap();
    // The last one: no log is left, and none is needed.
    rig.start();
    rig.handles[1].close().unwrap();
    assert_eq!(rig.harvest().list(), pages(&rig));
    rig.tracker.stop().unwrap();
}

/// In a migration it stays what it is, a log that cannot be read, until that is over.
#[test]
fn a_device_that_goes_away_in_a_migration_stays_until_it_is_over() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 2);
    rig.tracker.close().unwrap();
    let tracker =
        Arc::new(Tracker::new(TrackerOptions { devices: rig.handles.clone(), ..TrackerOptions::default() }).unwrap());
    tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 80 * P }, cookie: 0 }]).unwrap();
    let group = Arc::new(Group::new(Default::default()));
    rig.handles.iter().for_each(|handle| group.add_device(Arc::clone(handle)).unwrap());
    group.add_tracker(Arc::clone(&tracker)).unwrap();
    let save = Migration::new(group, Direction::Save).unwrap();
    save.advance(Phase::SaveTracking).unwrap();
    tracker.start().unwrap();
    rig.handles[0].close().unwrap();
    let harvest = || {
        let mut pages = 0;
        let mut run = |_: u64, run: IovaRange| {
            pages += run.size / P;
            true
        };
        let harvest = tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
        (harvest.first_errno.map(|errno| errno.get()), pages)
    };
    let everything = (Some(libc::ENODEV), 80);
    assert_eq!([harvest(), harvest()], [everything; 2]);
    save.abort(AbortTo::Running).unwrap_err();
    save.close().unwrap();
    assert!(tracker.covers(&rig.handles[0]));
    assert_eq!([harvest(), harvest()], [everything, (None, 0)]);
    assert!(!tracker.covers(&rig.handles[0]));
    tracker.stop().unwrap();
}

/// L8: a log that a device stopped itself is no error, and what it no longer knows is dirty.
#[test]
fn a_log_that_stopped_itself() {
    let rig = Rig::new(Log::Dma(DmaLog { stops_itself: true, ..DmaLog::default() }), 1);
    rig.map_all(&MAPS);
    rig.start();
    rig.write(&[3]);
    rig.set_state(State::StopCopy);
    assert_eq!(rig.harvest().list(), [3]);
    rig.set_state(State::Stop);
    assert!(!rig.devices[0].dma_logging());
    rig.tracker.stop().unwrap();
    rig.assert_clean();
    // Harvested too late.
    rig.set_state(State::Running);
    rig.start();
    rig.write(&[4]);
    rig.set_state(State::StopCopy);
    rig.set_state(State::Stop);
    let reported = rig.harvest();
    assert_eq!((reported.list(), reported.harvest.failed_reads), (pages(&rig), 1));
    rig.ram.assert_same();
    rig.tracker.stop().unwrap();
    rig.assert_clean();
}

/// The last page below 2^64: no DMA log can hold it (L2), old containers neither read nor unmap it (T3, T8).
#[test]
fn the_end_of_the_address_space() {
    let type1 = |kernel| Log::Type1(Type1Config { kernel, ..Type1Config::default() });
    for log in [
        Log::Dma(DmaLog::default()),
        Log::Dma(DmaLog { page_size: 16 * P, ..DmaLog::default() }),
        type1(Kernel::V6_12),
        type1(Kernel::V7_3),
        Log::Hwpt(1, Kernel::V6_12),
        Log::Hwpt(512, Kernel::V7_3),
        Log::Draft(simdev::DraftForm::Sticky),
        Log::Draft(simdev::DraftForm::Rewrite),
        Log::Functions(DmaLog::default()),
        Log::Everything,
    ] {
        let rig = Rig::new(log, 1);
        rig.map_all(&MAPS);
        rig.map(LAST - 40, 30, 1000);
        rig.map(LAST - 3, 4, 2000);
        rig.start();
        rig.harvest();
        rig.write(&[5, LAST - 40, LAST]);
        let reported = rig.harvest();
        assert_eq!(reported.harvest.failed_reads, 0, "{log:?}: what cannot be read was found out before");
        let exact = [5, LAST - 40, LAST];
        let expected: Option<Vec<u64>> = match log {
            Log::Dma(DmaLog { page_size: P, .. })
            | Log::Functions(_)
            | Log::Hwpt(1, _)
            | Log::Type1(Type1Config { kernel: Kernel::V7_3, .. }) => Some(exact.into()),
            Log::Type1(_) => Some([5, LAST - 40].into_iter().chain(LAST - 3..=LAST).collect()),
            _ => None,
        };
        if let Some(expected) = expected {
            assert_eq!(reported.list(), expected, "{log:?}");
        }
        rig.write(&[LAST - 1]);
        assert!(rig.harvest().pages.contains(&(LAST - 1)));
        rig.write(&[LAST]);
        if matches!(log, Log::Type1(Type1Config { kernel: Kernel::V6_12, .. })) {
            let error = rig.unmap_into(LAST - 3, 4, &mut Request::default()).unwrap_err();
            assert_eq!(error.errno(), libc::EINVAL, "T8");
            assert_eq!(rig.space.mappings().len(), 4);
        } else {
            rig.unmap(LAST - 3, 4);
        }
        rig.finish();
        rig.tracker.stop().unwrap();
        rig.assert_clean();
    }
}

/// T8: kernels before 7 take no range that ends at 2^64. Without its last page, where nothing is mapped, it goes.
#[test]
fn an_unmapping_up_to_the_end_of_all_addresses() {
    for (kernel, running) in
        [Kernel::V6_12, Kernel::V7_3].into_iter().flat_map(|kernel| [(kernel, false), (kernel, true)])
    {
        let rig = Rig::new(Log::Type1(Type1Config { kernel, ..Type1Config::default() }), 1);
        rig.map_all(&MAPS);
        rig.map(LAST - 40, 30, 1000);
        if running {
            rig.start();
            rig.write(&[LAST - 40]);
        }
        rig.unmap_into(LAST - 40, 41, &mut Request::default()).unwrap();
        assert_eq!(rig.space.mappings().len(), 2, "{kernel:?}");
        // What is refused for another reason, or anywhere else, is not asked for again.
        if !running {
            rig.map(LAST - 40, 30, 1000);
            for (first, pages, errno) in [(LAST - 40, 41, libc::EBUSY), (MAPS[1].0, MAPS[1].1, libc::EINVAL)] {
                let container = rig.type1.as_ref().unwrap().watch();
                let nth = container.count(Access::Type1Unmap);
                container.inject(Fault { access: Access::Type1Unmap, nth, times: 1, effect: Effect::Errno(errno) });
                let error = rig.unmap_into(first, pages, &mut Request::default()).unwrap_err();
                assert_eq!((error.errno(), container.count(Access::Type1Unmap)), (errno, nth + 1));
                assert_eq!(rig.space.mappings().len(), 3, "{kernel:?}");
            }
        }
        rig.assert_clean();
    }
}

/// T8: what is mapped in the last page of all addresses stays on kernels before 7, and that is said.
#[test]
fn a_mapping_of_the_last_page_is_not_reported_as_gone() {
    for (kernel, running) in
        [Kernel::V6_12, Kernel::V7_3].into_iter().flat_map(|kernel| [(kernel, false), (kernel, true)])
    {
        for first in [LAST, LAST - 3] {
            let what = format!("{kernel:?} {running} {first:#x}");
            let rig = Rig::new(Log::Type1(Type1Config { kernel, ..Type1Config::default() }), 1);
            rig.map(LAST - 3, 3, 1000);
            rig.map(LAST, 1, 2000);
            if running {
                rig.start();
            }
            let unmapped = rig.unmap_into(first, LAST - first + 1, &mut Request::default());
            if kernel == Kernel::V7_3 {
                unmapped.unwrap();
            } else {
                assert_eq!(unmapped.unwrap_err().errno(), libc::EINVAL, "{what}");
            }
            let last_is_mapped = rig.space.mappings().iter().any(|mapping| mapping.iova / P == LAST);
            assert_eq!(last_is_mapped, kernel == Kernel::V6_12, "{what}");
            rig.assert_clean();
        }
    }
}

/// A failed restart is tried again at each harvest; until it works everything is dirty.
#[test]
fn a_log_that_comes_back() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&MAPS);
    rig.start();
    let nth = rig.devices[0].count(Access::DmaLogStart);
    rig.devices[0].inject(Fault { access: Access::DmaLogStart, nth, times: 2, effect: Effect::Errno(libc::ENOMEM) });
    rig.map((4 << 30) / P, 1, 500);
    assert_eq!(rig.tracker.info().failed_logs, 1);
    rig.write(&[5]);
    for failed in [1, 0] {
        let reported = rig.harvest();
        assert_eq!(reported.list(), pages(&rig));
        assert_eq!(reported.harvest.first_errno.map(|e| e.get()), Some(libc::ENOMEM));
        assert_eq!(rig.tracker.info().failed_logs, failed);
        rig.write(&[6]);
    }
    let reported = rig.harvest();
    assert_eq!((reported.list(), reported.harvest.failed_reads), (vec![6], 0));
    rig.finish();
    rig.assert_clean();
}

/// A range is unmapped as a whole, also by a request that tells the dirt of the mappings that are known: memory that devices cannot
/// write, for example, needs no log.
#[test]
fn the_library_unmaps_what_it_does_not_know_as_well() {
    for log in [Log::Type1(Type1Config::default()), Log::Hwpt(1, Kernel::V6_12)] {
        let rig = Rig::new(log, 1);
        rig.map_all(&[(10, 10)]);
        rig.start();
        for (first, pages) in [(30, 10), (40, 10)] {
            rig.space.map(simdev::Mapping { iova: first * P, size: pages * P, ram: first * P }).unwrap();
        }
        rig.write(&[12]);
        for (first, pages, left) in [(30, 10, 2), (0, 50, 0)] {
            rig.unmap_into(first, pages, &mut Request::default()).unwrap();
            assert_eq!(rig.space.mappings().len(), left, "{log:?}: behind {first} + {pages}");
        }
        assert!(rig.harvest().pages.contains(&12), "{log:?}");
        rig.assert_clean();
    }
}
