//! Devices and page tables that come and go, logs that get another chance, and logs that two trackers want.

use crate::rig::{Log, P, Rig, range};
use simdev::{
    Access, Config, DmaLog, DraftForm, Effect, Fault, Iommufd, IommufdConfig, Kernel, Ram, Space, Type1, Type1Config,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vfiomig::Device;
use vfiomig::error::{Errno, ErrorKind};
use vfiomig::tracker::{IovaRange, LogKind, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::tracker_ops::LogFunctions;

const GIB: u64 = (1 << 30) / P;

fn mapped(rig: &Rig) -> Vec<u64> {
    rig.space.mappings().iter().flat_map(|m| m.iova / P..(m.iova + m.size) / P).collect()
}

/// A device that comes later, behind the same address space.
fn plug(rig: &Rig, config: Config, name: &str) -> (simdev::Device, Arc<Device>) {
    let sim = simdev::Device::new(config);
    sim.attach(&rig.space);
    let options = vfiomig::device::DeviceOptions { name: name.into(), ..Default::default() };
    let handle = Arc::new(Device::new(sim.transport(), options).unwrap());
    (sim, handle)
}

fn with_log() -> Config {
    Config { dma_log: Some(DmaLog::default()), abort_allowed: true, ..Config::default() }
}

/// A device that is plugged in while tracking is logged, and everything is dirty once.
#[test]
fn a_device_joins_and_leaves() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&[(0, 20), (8 * GIB, 4)]);
    rig.start();
    let (sim, handle) = plug(&rig, with_log(), "late");
    sim.dma_write(3).unwrap();
    assert!(!rig.tracker.covers(&handle));
    rig.tracker.add_device(Arc::clone(&handle)).unwrap();
    assert!(rig.tracker.covers(&handle) && sim.dma_logging());
    assert_eq!(rig.tracker.add_device(Arc::clone(&handle)).unwrap_err().errno(), libc::EEXIST);
    assert_eq!(rig.harvest().list(), mapped(&rig), "nobody knows what it wrote before");
    sim.dma_write(5).unwrap();
    rig.write(&[7]);
    assert_eq!(rig.harvest().list(), [5, 7]);
    // It goes, and what it wrote last is reported.
    sim.dma_write(9).unwrap();
    let starts = rig.devices[0].count(Access::DmaLogStart);
    rig.tracker.remove_device(&handle).unwrap();
    assert!(!rig.tracker.covers(&handle) && !sim.dma_logging());
    assert_eq!(rig.tracker.remove_device(&handle).unwrap_err().kind(), ErrorKind::Argument);
    handle.close().unwrap();
    rig.write(&[11]);
    assert_eq!(rig.harvest().list(), [9, 11]);
    assert_eq!(rig.devices[0].count(Access::DmaLogStart), starts, "removal never restarts");
    // The last one, too: no device writes.
    rig.write(&[13]);
    rig.tracker.remove_device(&rig.handles[0]).unwrap();
    assert_eq!(rig.harvest().list(), [13]);
    assert_eq!(rig.harvest().list(), [0u64; 0]);
    rig.ram.assert_same();
    rig.tracker.stop().unwrap();
    rig.tracker.add_device(Arc::clone(&rig.handles[0])).unwrap();
    rig.start();
    rig.write(&[15]);
    assert_eq!(rig.harvest().list(), [15]);
    rig.assert_clean();
}

/// One without a log of its own makes all take the next one. Its going lets the better one take the place of none at all, and the next
/// start that of another log.
#[test]
fn a_device_without_a_log_joins_and_leaves() {
    for fallback in [LogKind::Type1, LogKind::Everything] {
        let ram = Ram::new();
        let mut container = None;
        let rig = Rig::with(Log::Dma(DmaLog::default()), 1, &ram, |options| {
            if fallback == LogKind::Type1 {
                let type1 = Type1::new(&Space::new(&Ram::new()), Type1Config::default());
                options.container = Some(Arc::new(type1.clone()));
                container = Some(type1);
            }
        });
        rig.map_all(&[(0, 20)]);
        rig.start();
        rig.write(&[3]);
        let (_sim, handle) = plug(&rig, Config::default(), "plain");
        rig.tracker.add_device(Arc::clone(&handle)).unwrap();
        let info = rig.tracker.info();
        assert_eq!(info.kind, fallback, "{}", info.reason);
        assert!(info.reason.contains("plain keeps no log of its own"), "{}", info.reason);
        assert!(!rig.devices[0].dma_logging(), "nobody would read it");
        assert_eq!(rig.harvest().list(), mapped(&rig));
        rig.tracker.remove_device(&handle).unwrap();
        let then = if fallback == LogKind::Everything { LogKind::DmaLog } else { fallback };
        assert_eq!(rig.tracker.info().kind, then, "removal restarts nothing that knows anything");
        // The next counted start gives the better one a chance, and nothing is lost between the two.
        rig.write(&[4]);
        rig.tracker.start().unwrap();
        assert_eq!(rig.tracker.info().kind, LogKind::DmaLog, "{}", rig.tracker.info().reason);
        assert!(!container.is_some_and(|container| container.logging()));
        assert_eq!(rig.harvest().list(), mapped(&rig));
        rig.write(&[5]);
        assert_eq!(rig.harvest().list(), [5]);
        rig.assert_clean();
    }
}

#[test]
fn a_page_table_joins_and_leaves() {
    let rig = Rig::new(Log::Hwpt(1, Kernel::V6_12), 1);
    rig.map_all(&[(0, 20)]);
    rig.start();
    let fd = rig.iommufd.as_ref().unwrap();
    let sim = simdev::Device::new(Config { abort_allowed: true, ..Config::default() });
    let ioas = fd.ioas(&rig.space);
    let id = fd.hwpt(ioas, P, true);
    fd.attach(&sim, id);
    rig.tracker.add_hwpt(id).unwrap();
    assert_eq!(rig.harvest().list(), mapped(&rig));
    sim.dma_write(5).unwrap();
    rig.write(&[6]);
    assert_eq!(rig.harvest().list(), [5, 6]);
    sim.dma_write(7).unwrap();
    rig.tracker.remove_hwpt(id).unwrap();
    assert_eq!(rig.harvest().list(), [7]);
    assert_eq!(rig.tracker.remove_hwpt(id).unwrap_err().kind(), ErrorKind::Argument);
    let none = Rig::new(Log::Everything, 1);
    assert_eq!(none.tracker.add_hwpt(1).unwrap_err().kind(), ErrorKind::Argument);
    rig.assert_clean();
}

/// Reading clears, so a log has one tracker; the other is refused with the names of both.
#[test]
fn two_trackers_of_one_log_are_refused() {
    let space = Space::new(&Ram::new());
    let fd = Iommufd::new(IommufdConfig::default());
    let ids = [fd.hwpt(fd.ioas(&space), P, true), fd.hwpt(fd.ioas(&space), P, true)];
    let container = Type1::new(&space, Type1Config::default());
    let sims = [with_log(), Config::draft(DraftForm::Sticky)].map(simdev::Device::new);
    let open = |sim: &simdev::Device, name: &str, dialect| {
        let options = vfiomig::device::DeviceOptions { name: name.into(), dialect, ..Default::default() };
        Arc::new(Device::new(sim.transport(), options).unwrap())
    };
    let device = open(&sims[0], "nic", None);
    let draft = open(&sims[1], "draft", Some(vfiomig::dialect::DialectKind::Draft));
    let options = |name: &str, which: usize| {
        let mut options = TrackerOptions { name: name.into(), ..TrackerOptions::default() };
        match which {
            0 => options.hwpts = Some((Arc::new(fd.clone()), vec![ids[0]])),
            1 => options.container = Some(Arc::new(container.clone())),
            2 => options.devices = vec![Arc::clone(&device)],
            _ => options.devices = vec![Arc::clone(&draft)],
        }
        options
    };
    let hwpt = format!("dirty tracking of hwpt {}", ids[0]);
    for (which, what) in
        [(0, &*hwpt), (1, "log of the type1 container"), (2, "DMA log of nic"), (3, "dirty-page registers of draft")]
    {
        let first = Tracker::new(options("migration", which)).unwrap();
        let error = Tracker::new(options("rate", which)).err().unwrap();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Busy, libc::EBUSY));
        let text = error.to_string();
        assert!(text.starts_with(&format!("rate: {what} is read by tracker migration already, ")), "{text}");
        assert!(
            text.ends_with("use that one, a harvest that keeps takes nothing from others; or free it first"),
            "{text}"
        );
        // One that does not read it may have it.
        let unread = TrackerOptions { no_device_log: true, everything: which < 2, ..options("other", which) };
        drop(Tracker::new(unread).unwrap());
        // A claim ends with its tracker, however that goes.
        if which == 0 {
            first.close().unwrap()
        } else {
            drop(first)
        }
        drop(Tracker::new(options("rate", which)).unwrap());
    }
    // Another page table of the same iommufd is another log, until somebody adds the first.
    let first = Tracker::new(options("a", 0)).unwrap();
    let second = TrackerOptions {
        hwpts: Some((Arc::new(fd.clone()), vec![ids[1]])),
        name: "b".into(),
        ..TrackerOptions::default()
    };
    let second = Tracker::new(second).unwrap();
    assert_eq!(second.add_hwpt(ids[0]).unwrap_err().errno(), libc::EBUSY);
    drop(first);
    second.add_hwpt(ids[0]).unwrap();
    // So is a device's.
    let first = Tracker::new(options("a", 2)).unwrap();
    assert_eq!(second.add_device(Arc::clone(&device)).unwrap_err().errno(), libc::EBUSY);
    assert!(!second.covers(&device));
    drop(first);
}

/// A start with nothing mapped checks nothing, so the first mapping does; what fails makes room for the next.
#[test]
fn a_log_that_fails_after_a_start_with_nothing_mapped() {
    for (log, next) in [
        (DmaLog { report: false, ..DmaLog::default() }, true),
        (DmaLog { report: false, ..DmaLog::default() }, false),
        (DmaLog { max_total: 1 << 12, ..DmaLog::default() }, true),
    ] {
        let ram = Ram::new();
        let rig = Rig::with(Log::Dma(log), 1, &ram, |options| {
            let space = Space::new(&Ram::new());
            let type1 = Type1::new(&space, Type1Config::default());
            options.container = next.then(|| Arc::new(type1) as _);
        });
        rig.start();
        assert_eq!(rig.tracker.info().kind, LogKind::DmaLog);
        rig.map_all(&[(0, 10)]);
        let info = rig.tracker.info();
        assert_eq!(info.kind, if next { LogKind::Type1 } else { LogKind::Everything }, "{}", info.reason);
        assert!(info.reason.contains("DMA log of device0"), "{}", info.reason);
        assert_eq!((info.failed_logs, info.perpetual), (0, !next));
        let reported = rig.take(false);
        assert_eq!((reported.list(), reported.harvest.failed_reads), ((0..10).collect(), 0));
    }
}

/// A log that worked and cannot be started anew is not given up for none, and says what it is.
#[test]
fn a_log_that_worked_is_tried_again_and_says_so() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&[(0, 10)]);
    rig.start();
    assert!(!rig.tracker.info().perpetual);
    let nth = rig.devices[0].count(Access::DmaLogStart);
    rig.devices[0].inject(Fault { access: Access::DmaLogStart, nth, times: 2, effect: Effect::Errno(libc::ENOMEM) });
    rig.map(8 * GIB, 1, 100);
    let info = rig.tracker.info();
    assert_eq!((info.kind, info.failed_logs, info.perpetual), (LogKind::DmaLog, 1, true));
    assert!(info.reason.contains("Cannot allocate memory; everything is sent again"), "{}", info.reason);
    rig.harvest();
    rig.harvest();
    assert_eq!(rig.tracker.info().failed_logs, 0);
    rig.write(&[5]);
    assert_eq!(rig.harvest().list(), [5]);
    assert!(!rig.tracker.info().perpetual);
    assert!(!rig.tracker.info().reason.contains("sent again"), "{}", rig.tracker.info().reason);
}

/// A later start gives what failed before another chance.
#[test]
fn a_later_start_tries_the_better_log_again() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&[(0, 10)]);
    rig.devices[0].inject(Fault::at(Access::DmaLogStart, 0, Effect::Errno(libc::EBUSY)));
    rig.start();
    let info = rig.tracker.info();
    assert!(info.kind == LogKind::Everything && info.perpetual && info.reason.contains("busy"), "{}", info.reason);
    rig.harvest();
    rig.tracker.start().unwrap();
    let info = rig.tracker.info();
    assert!(info.kind == LogKind::DmaLog && !info.perpetual && !info.reason.contains("busy"), "{}", info.reason);
    assert_eq!(rig.harvest().list(), mapped(&rig), "it knows nothing of the time before");
    rig.write(&[5]);
    assert_eq!(rig.harvest().list(), [5]);
    let starts = rig.devices[0].count(Access::DmaLogStart);
    rig.tracker.start().unwrap();
    assert_eq!(rig.devices[0].count(Access::DmaLogStart), starts, "what works is left alone");
    rig.finish();
    rig.assert_clean();
}

/// In an aperture nothing restarts the log, and harvests are exact.
#[test]
fn an_aperture() {
    let aperture = |aperture: &[(u64, u64)]| -> Vec<IovaRange> { aperture.iter().map(|&(a, n)| range(a, n)).collect() };
    for list in [vec![(0, 512 * GIB)], vec![(0, 4 * GIB), (3 * GIB, 100 * GIB), (1000 * GIB, GIB)]] {
        let rig = Rig::with(Log::Dma(DmaLog::default()), 2, &Ram::new(), |o| o.apertures = aperture(&list));
        rig.map_all(&[(0, 16384)]);
        rig.start();
        assert_eq!(rig.harvest().list(), [0u64; 0]);
        let d = &rig.devices[0];
        let before = (d.count(Access::DmaLogStart), d.count(Access::DmaLogStop));
        for k in 0..20 {
            let page = 5 * GIB + k * 512 * 97;
            rig.map(page, 1, 100_000 + k);
            assert_eq!(rig.harvest().list(), [page], "a new page is dirty once");
            rig.write(&[page, 17 + k]);
            assert_eq!(rig.unmap(page, 1).list(), [page]);
            assert_eq!(rig.harvest().list(), [17 + k]);
        }
        assert_eq!((d.count(Access::DmaLogStart), d.count(Access::DmaLogStop)), before);
        // Outside it is as without one.
        rig.map(2000 * GIB, 1, 50_000);
        assert_eq!(d.count(Access::DmaLogStart), before.0 + 1);
        assert_eq!(rig.harvest().list(), mapped(&rig));
        rig.write(&[2000 * GIB]);
        assert_eq!(rig.harvest().list(), [2000 * GIB]);
        rig.finish();
        rig.assert_clean();
    }
    // One that is there before anything is mapped.
    let rig = Rig::with(Log::Dma(DmaLog::default()), 1, &Ram::new(), |o| o.apertures = aperture(&[(0, GIB)]));
    rig.start();
    assert!(rig.devices[0].dma_logging());
    assert_eq!(rig.harvest().list(), [0u64; 0]);
    rig.map_all(&[(0, 10)]);
    assert_eq!(rig.devices[0].count(Access::DmaLogStart), 1);
    rig.harvest();
    rig.write(&[3]);
    assert_eq!(rig.harvest().list(), [3]);
    rig.assert_clean();
    // A device that takes no such sum logs what is mapped (L3).
    let small = DmaLog { max_total: 1 << 30, ..DmaLog::default() };
    let rig = Rig::with(Log::Dma(small), 1, &Ram::new(), |o| o.apertures = aperture(&[(0, 512 * GIB)]));
    rig.map_all(&[(0, 10), (100 * GIB, 10)]);
    rig.start();
    assert_eq!(rig.tracker.info().kind, LogKind::DmaLog);
    rig.write(&[100 * GIB]);
    assert_eq!(rig.harvest().list(), [100 * GIB]);
    for bad in [
        IovaRange { iova: 1, size: P },
        IovaRange { iova: 0, size: 0 },
        IovaRange { iova: u64::MAX - P + 1, size: 2 * P },
    ] {
        let error = Tracker::new(TrackerOptions { apertures: vec![bad], ..TrackerOptions::default() }).err().unwrap();
        assert!(error.to_string().contains("apertures[0]"), "{error}");
    }
}

/// Without an aperture n mappings that grow restart a log O(log n) times, wherever they come.
#[test]
fn restarts_are_amortised() {
    type Way = (&'static str, fn(u64) -> u64, u64);
    let scattered = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (1 << 36);
    let ways: [Way; 3] = [("up", |n| 4 * n, 1), ("up by GiBs", |n| n * 2 * GIB, 13), ("scattered", scattered, 20)];
    for (name, place, most) in ways {
        let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
        rig.tracker.map(&[Mapping { range: range(1 << 40, 10), cookie: 0 }]).unwrap();
        rig.tracker.start().unwrap();
        let mut seen = BTreeSet::new();
        for n in 0..2000 {
            if seen.insert(place(n)) {
                rig.tracker.map(&[Mapping { range: range(place(n), 1), cookie: 0 }]).unwrap();
            }
        }
        let restarts = rig.devices[0].count(Access::DmaLogStop);
        assert!(restarts <= most, "{name}: {restarts} restarts");
        rig.tracker.harvest(&mut Request::default()).unwrap();
    }
}

/// As long as a container tells everything dirty its mappings are read together.
#[test]
fn a_container_that_tells_everything_is_asked_little() {
    let maps: Vec<(u64, u64)> = (0..2000).map(|n| (n * 3, 1)).collect();
    let rig = Rig::new(Log::Type1(Type1Config { perpetual: true, ..Type1Config::default() }), 1);
    rig.map_all(&maps);
    rig.start();
    let watch = rig.type1.as_ref().unwrap().watch();
    let infos = watch.count(Access::Type1Info);
    assert!(rig.tracker.info().perpetual);
    for _ in 0..2 {
        let reported = rig.harvest();
        assert_eq!((reported.pages.len(), reported.harvest.reads), (2000, 1));
    }
    rig.unmap(0, 1);
    assert_eq!(watch.count(Access::Type1Info), infos, "what it can was asked when the tracker was made");
    rig.finish();
    rig.assert_clean();
}

/// A device that was refused was not named: without any that is named it is not known who writes.
#[test]
fn a_device_that_is_refused_leaves_nothing_behind() {
    let (ram, fd) = (Ram::new(), Iommufd::new(IommufdConfig::default()));
    let space = Space::new(&ram);
    let tables: Vec<u32> = (0..2).map(|_| fd.hwpt(fd.ioas(&space), P, true)).collect();
    let sim = simdev::Device::new(with_log());
    let handle = Arc::new(Device::new(sim.transport(), Default::default()).unwrap());
    let other =
        Tracker::new(TrackerOptions { devices: vec![Arc::clone(&handle)], ..TrackerOptions::default() }).unwrap();
    let hwpts = Some((Arc::new(fd) as _, vec![tables[0]]));
    let tracker = Tracker::new(TrackerOptions { hwpts, ..TrackerOptions::default() }).unwrap();
    assert_eq!(tracker.add_device(handle).unwrap_err().errno(), libc::EBUSY);
    tracker.add_hwpt(tables[1]).unwrap();
    assert_eq!(tracker.info().kind, LogKind::Hwpt, "{}", tracker.info().reason);
    drop(other);
}

/// What would be the better log for those that are left belongs to another tracker: a device goes all the same, for it is gone.
#[test]
fn a_device_goes_although_the_log_of_another_is_taken() {
    for (running, freed) in [(false, false), (true, false), (true, true)] {
        let (sims, handles): (Vec<_>, Vec<_>) = [with_log(), Config { dma_log: None, ..with_log() }]
            .into_iter()
            .zip(["one", "two"])
            .map(|(config, name)| {
                let sim = simdev::Device::new(config);
                let options = vfiomig::device::DeviceOptions { name: name.into(), ..Default::default() };
                let handle = Arc::new(Device::new(sim.transport(), options).unwrap());
                (sim, handle)
            })
            .unzip();
        let tracker = |name: &str, devices: &[Arc<Device>]| {
            let options = TrackerOptions { name: name.into(), devices: devices.to_vec(), ..TrackerOptions::default() };
            Tracker::new(options).unwrap()
        };
        let (both, other) = (tracker("both", &handles), tracker("other", &handles[..1]));
        both.map(&[Mapping { range: range(0, 16), cookie: 0 }]).unwrap();
        if running {
            both.start().unwrap();
        }
        if freed {
            handles[1].close().unwrap();
            both.harvest(&mut Request::default()).unwrap();
        } else {
            both.remove_device(&handles[1]).unwrap();
            assert_eq!(both.remove_device(&handles[1]).unwrap_err().kind(), ErrorKind::Argument);
        }
        assert!(both.covers(&handles[0]) && !both.covers(&handles[1]));
        let info = both.info();
        assert_eq!(info.kind, LogKind::Everything);
        assert!(info.reason.contains("one") && info.reason.contains("tracker other"), "{}", info.reason);
        if running {
            both.stop().unwrap();
        }
        // It is tried again once the other tracker is gone.
        drop(other);
        let late = simdev::Device::new(with_log());
        let options = vfiomig::device::DeviceOptions { name: "late".into(), ..Default::default() };
        let late = Arc::new(Device::new(late.transport(), options).unwrap());
        both.add_device(Arc::clone(&late)).unwrap();
        assert_eq!(both.info().kind, LogKind::DmaLog);
        assert!(!sims[0].dma_logging());
    }
}

/// A device that is there is attached to something, also when the last page table has gone.
#[test]
fn a_device_without_a_page_table_may_write_everywhere() {
    let (ram, fd) = (Ram::new(), Iommufd::new(IommufdConfig::default()));
    let space = Space::new(&ram);
    let tables: Vec<u32> = (0..2).map(|_| fd.hwpt(fd.ioas(&space), P, true)).collect();
    let rig = Rig::with(Log::Everything, 1, &ram, |options| {
        options.everything = false;
        options.hwpts = Some((Arc::new(fd.clone()), vec![tables[0]]));
    });
    fd.attach(&rig.devices[0], tables[0]);
    space.map(simdev::Mapping { iova: 0, size: 20 * P, ram: 0 }).unwrap();
    rig.tracker.map(&[Mapping { range: range(0, 20), cookie: 0 }]).unwrap();
    rig.tracker.start().unwrap();
    assert_eq!(rig.take(false).list(), [0u64; 0]);
    rig.tracker.remove_hwpt(tables[0]).unwrap();
    for _ in 0..2 {
        assert_eq!(rig.take(false).list(), (0..20).collect::<Vec<_>>());
    }
    assert!(rig.tracker.info().perpetual);
    // It has another one.
    fd.attach(&rig.devices[0], tables[1]);
    rig.tracker.add_hwpt(tables[1]).unwrap();
    assert_eq!(rig.take(false).list(), (0..20).collect::<Vec<_>>());
    rig.write(&[3]);
    assert_eq!(rig.take(false).list(), [3]);
    let info = rig.tracker.info();
    assert_eq!((info.kind, info.perpetual), (LogKind::Hwpt, false), "{}", info.reason);
    // It goes: no device writes.
    rig.tracker.remove_hwpt(tables[1]).unwrap();
    rig.tracker.remove_device(&rig.handles[0]).unwrap();
    rig.take(false);
    assert_eq!(rig.take(false).list(), [0u64; 0]);
}

/// A tracker that goes without a word stops what it started.
#[test]
fn a_tracker_that_is_dropped_stops_its_log() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&[(0, 20)]);
    rig.start();
    let Rig { tracker, devices, handles, .. } = rig;
    assert!(devices[0].dma_logging());
    drop(tracker);
    assert!(!devices[0].dma_logging());
    drop(handles);
}

/// Functions of a VMM that refuse a stop of what does not run, and ranges that are too long, by the same errno.
#[test]
fn a_stop_that_finds_nothing_ends_no_start() {
    struct Small(AtomicBool);
    impl LogFunctions for Small {
        fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
            if ranges.iter().any(|range| range[1] > 1 << 20) {
                return Err(Errno::new(libc::EINVAL));
            }
            self.0.store(true, Ordering::SeqCst);
            Ok(page_size)
        }
        fn report(&self, _: u64, _: u64, _: u64, _: &mut [u64]) -> Result<(), Errno> {
            Ok(())
        }
        fn stop(&self) -> Result<(), Errno> {
            if self.0.swap(false, Ordering::SeqCst) { Ok(()) } else { Err(Errno::new(libc::EINVAL)) }
        }
    }
    let functions = Some(Box::new(Small(AtomicBool::new(false))) as Box<dyn LogFunctions>);
    let tracker = Tracker::new(TrackerOptions { functions, ..TrackerOptions::default() }).unwrap();
    tracker.map(&[Mapping { range: range(0, 16), cookie: 0 }]).unwrap();
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, LogKind::Ops, "{}", tracker.info().reason);
    tracker.stop().unwrap();
}

/// `only_dests` means nothing to an unmapping, also without destinations.
#[test]
fn an_unmapping_takes_any_flag() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 1);
    rig.map_all(&[(0, 20)]);
    rig.start();
    let mut request = Request { only_dests: true, ..Request::default() };
    rig.unmap_into(0, 20, &mut request).unwrap();
}
