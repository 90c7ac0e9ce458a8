//! A tracker that lives as long as its container: it begins with no device and no page table, hears of each that comes and goes, and
//! chooses its log from what is there when it is started.

use crate::rig::{P, range};
use simdev::{Config, DmaLog, Iommufd, IommufdConfig, Ram, Space, Type1, Type1Config};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vfiomig::Device;
use vfiomig::device::DeviceOptions;
use vfiomig::error::{Errno, ErrorKind};
use vfiomig::tracker::{IovaRange, LogKind, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::Identity;
use vfiomig::transport::type1::Container;

const PAGES: u64 = 20;

/// RAM that is mapped one to one, and the tracker of it.
struct House {
    space: Space,
    fd: Iommufd,
    ioas: u32,
    tracker: Tracker,
}

impl House {
    /// `hwpts`: of an iommufd that has no page table yet.
    fn new(hwpts: bool, edit: impl FnOnce(&Space, &mut TrackerOptions)) -> House {
        let (space, fd) = (Space::new(&Ram::new()), Iommufd::new(IommufdConfig::default()));
        let ioas = fd.ioas(&space);
        space.map(simdev::Mapping { iova: 0, size: PAGES * P, ram: 0 }).unwrap();
        let hwpts = hwpts.then(|| (Arc::new(fd.clone()) as _, Vec::new()));
        let mut options = TrackerOptions { name: "space".into(), hwpts, ..TrackerOptions::default() };
        edit(&space, &mut options);
        let tracker = Tracker::new(options).unwrap();
        tracker.map(&[Mapping { range: range(0, PAGES), cookie: 0 }]).unwrap();
        House { space, fd, ioas, tracker }
    }

    fn plug(&self, name: &str, dma_log: bool, edit: impl FnOnce(&mut DeviceOptions)) -> (simdev::Device, Arc<Device>) {
        let config = Config { dma_log: dma_log.then(DmaLog::default), abort_allowed: true, ..Config::default() };
        let sim = simdev::Device::new(config);
        sim.attach(&self.space);
        let mut options = DeviceOptions { name: name.into(), ..DeviceOptions::default() };
        edit(&mut options);
        let handle = Arc::new(Device::new(sim.transport(), options).unwrap());
        (sim, handle)
    }

    /// A page table with or without dirty tracking, to which `device` is attached.
    fn table(&self, device: &simdev::Device, dirty: bool) -> u32 {
        let id = self.fd.hwpt(self.ioas, P, dirty);
        self.fd.attach(device, id);
        id
    }

    fn harvest(&self) -> Vec<u64> {
        let mut pages = Vec::new();
        let mut run = |_: u64, run: IovaRange| {
            pages.extend(run.iova / P..(run.iova + run.size) / P);
            true
        };
        self.tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    fn kind(&self) -> LogKind {
        self.tracker.info().kind
    }

    fn reason(&self) -> String {
        self.tracker.info().reason
    }

    /// From here on the log knows exactly what is written.
    fn assert_exact(&self, device: &simdev::Device) {
        self.harvest();
        device.dma_write(7).unwrap();
        assert_eq!(self.harvest(), [7], "{}", self.reason());
        assert_eq!(self.harvest(), [0u64; 0], "{}", self.reason());
        assert!(!self.tracker.info().perpetual);
    }

    /// Nothing is called clean, and the tracker says so.
    fn assert_all_dirty(&self) {
        for _ in 0..2 {
            assert_eq!(self.harvest(), all(), "{}", self.reason());
        }
        assert!(self.tracker.info().perpetual);
    }
}

fn all() -> Vec<u64> {
    (0..PAGES).collect()
}

/// An iommufd's container begins without page tables; each device brings one.
#[test]
fn page_tables_come_with_their_devices() {
    let house = House::new(true, |_, _| {});
    house.tracker.start().unwrap();
    house.assert_all_dirty();
    let (sim, handle) = house.plug("nic", false, |_| {});
    let table = house.table(&sim, true);
    house.tracker.add_hwpt(table).unwrap();
    house.tracker.add_device(Arc::clone(&handle)).unwrap();
    assert_eq!((house.kind(), house.harvest()), (LogKind::Hwpt, all()));
    house.assert_exact(&sim);
    house.tracker.stop().unwrap();
    // In the next migration the same.
    assert!(!house.fd.tracking(table));
    house.tracker.start().unwrap();
    assert!(house.fd.tracking(table));
    house.assert_exact(&sim);
    // With the last device nothing writes any more.
    sim.dma_write(3).unwrap();
    house.tracker.remove_device(&handle).unwrap();
    house.tracker.remove_hwpt(table).unwrap();
    assert_eq!((house.harvest(), house.harvest()), (vec![3], vec![]));
    house.fd.watch().assert_clean();
}

/// Each device that is attached counts, so a VMM need not know which others share its page table.
#[test]
fn a_page_table_stays_until_its_last_device_has_left() {
    let house = House::new(true, |_, _| {});
    let (one, _) = house.plug("one", false, |_| {});
    let (two, _) = house.plug("two", false, |_| {});
    let table = house.table(&one, true);
    house.fd.attach(&two, table);
    house.tracker.add_hwpt(table).unwrap();
    house.tracker.add_hwpt(table).unwrap();
    house.tracker.start().unwrap();
    house.assert_exact(&one);
    house.tracker.remove_hwpt(table).unwrap();
    assert!(house.fd.tracking(table));
    house.assert_exact(&two);
    two.dma_write(5).unwrap();
    house.tracker.remove_hwpt(table).unwrap();
    assert!(!house.fd.tracking(table));
    assert_eq!(house.harvest(), [5]);
    assert_eq!(house.tracker.remove_hwpt(table).unwrap_err().kind(), ErrorKind::Argument);
    house.fd.watch().assert_clean();
}

/// A page table that cannot track, and whatever else has no page table, make all page tables useless; when it has gone they are
/// used again.
#[test]
fn a_page_table_that_cannot_track() {
    // The device is attached to a table without tracking, which the kernel says, or to something else.
    for known in [true, false] {
        for started in [true, false] {
            let house = House::new(true, |_, _| {});
            let (sim, handle) = house.plug("nic", false, |_| {});
            let table = house.table(&sim, true);
            house.tracker.add_hwpt(table).unwrap();
            house.tracker.add_device(handle).unwrap();
            if started {
                house.tracker.start().unwrap();
                house.assert_exact(&sim);
            }
            let (blind, _) = house.plug("blind", false, |_| {});
            let id = house.table(&blind, false);
            let id = if known { id } else { 0 };
            house.tracker.add_foreign("blind", None).unwrap();
            house.tracker.add_hwpt(id).unwrap();
            if !started {
                house.tracker.start().unwrap();
                assert_eq!(house.kind(), LogKind::Everything, "{}", house.reason());
            }
            let words = if known { format!("hwpt {id}") } else { "no page table that keeps a log".to_string() };
            assert!(house.reason().contains(&words), "{}", house.reason());
            blind.dma_write(9).unwrap();
            house.assert_all_dirty();
            house.tracker.remove_hwpt(id).unwrap();
            house.tracker.remove_foreign("blind").unwrap();
            assert_eq!(house.kind(), LogKind::Hwpt, "{}", house.reason());
            assert_eq!(house.harvest(), all(), "nobody knows what was written meanwhile");
            house.assert_exact(&sim);
            house.fd.watch().assert_clean();
        }
    }
}

/// Nobody reads the log of a device that the VMM serves by other means, so what the others' logs say is not all.
#[test]
fn a_foreign_device_makes_logs_of_devices_useless() {
    let house = House::new(false, |_, _| {});
    let (sim, handle) = house.plug("nic", true, |_| {});
    house.tracker.add_device(handle).unwrap();
    house.tracker.start().unwrap();
    assert_eq!(house.kind(), LogKind::DmaLog);
    house.assert_exact(&sim);
    house.tracker.add_foreign("other", None).unwrap();
    assert_eq!(house.tracker.add_foreign("other", None).unwrap_err().errno(), libc::EEXIST);
    assert!(house.reason().contains("other is not the library's"), "{}", house.reason());
    assert!(!sim.dma_logging());
    house.assert_all_dirty();
    house.tracker.remove_foreign("other").unwrap();
    assert_eq!(house.tracker.remove_foreign("other").unwrap_err().kind(), ErrorKind::Argument);
    assert_eq!((house.kind(), house.harvest()), (LogKind::DmaLog, all()));
    house.assert_exact(&sim);
    assert_eq!(house.tracker.add_foreign(&"x".repeat(256), None).unwrap_err().kind(), ErrorKind::Argument);
}

/// A device of another one's is no hindrance if its log can be read, and nothing of it is lost when it goes.
#[test]
fn a_foreign_device_can_lend_its_log() {
    let house = House::new(false, |_, _| {});
    let (sim, handle) = house.plug("nic", true, |_| {});
    let (other, _) = house.plug("other", true, |_| {});
    house.tracker.add_device(handle).unwrap();
    house.tracker.start().unwrap();
    house.assert_exact(&sim);
    house.tracker.add_foreign("other", Some(Arc::from(other.transport()))).unwrap();
    assert_eq!((house.kind(), house.harvest()), (LogKind::DmaLog, all()), "{}", house.reason());
    house.assert_exact(&other);
    house.assert_exact(&sim);
    other.dma_write(3).unwrap();
    house.tracker.remove_foreign("other").unwrap();
    assert!(!other.dma_logging() && sim.dma_logging());
    assert_eq!(house.harvest(), [3]);

    // It takes part in the next start as well, alone if it must.
    house.tracker.add_foreign("other", Some(Arc::from(other.transport()))).unwrap();
    house.tracker.stop().unwrap();
    assert!(!other.dma_logging());
    house.tracker.start().unwrap();
    assert_eq!(house.kind(), LogKind::DmaLog);
    house.assert_exact(&other);
    other.assert_clean();
}

/// Whoever says where a log is may be wrong.
#[test]
fn a_foreign_device_may_have_no_log() {
    let house = House::new(false, |_, _| {});
    let (sim, handle) = house.plug("nic", true, |_| {});
    let (other, _) = house.plug("other", false, |_| {});
    house.tracker.add_device(handle).unwrap();
    house.tracker.add_foreign("other", Some(Arc::from(other.transport()))).unwrap();
    house.tracker.start().unwrap();
    assert!(house.reason().contains("other keeps no log of its own"), "{}", house.reason());
    assert!(!sim.dma_logging());
    house.assert_all_dirty();
}

/// What speaks for all devices speaks for foreign ones.
#[test]
fn page_tables_and_containers_speak_for_foreign_devices() {
    let house = House::new(true, |_, _| {});
    let (sim, handle) = house.plug("nic", false, |_| {});
    let (other, _) = house.plug("other", false, |_| {});
    for device in [&sim, &other] {
        house.tracker.add_hwpt(house.table(device, true)).unwrap();
    }
    house.tracker.add_device(handle).unwrap();
    house.tracker.add_foreign("other", None).unwrap();
    house.tracker.start().unwrap();
    assert_eq!(house.kind(), LogKind::Hwpt);
    house.assert_exact(&sim);
    house.assert_exact(&other);

    let house = House::new(false, |space, options| {
        options.container = Some(Arc::new(Type1::new(space, Type1Config::default())));
    });
    let (sim, handle) = house.plug("nic", true, |_| {});
    let (other, _) = house.plug("other", false, |_| {});
    house.tracker.add_device(handle).unwrap();
    house.tracker.start().unwrap();
    assert_eq!(house.kind(), LogKind::DmaLog);
    house.tracker.add_foreign("other", None).unwrap();
    assert_eq!(house.kind(), LogKind::Type1);
    assert_eq!(house.harvest(), all());
    house.assert_exact(&sim);
    house.assert_exact(&other);
    // This log is good enough: no other is begun in the middle.
    house.tracker.remove_foreign("other").unwrap();
    assert_eq!(house.kind(), LogKind::Type1);
    house.tracker.stop().unwrap();
    house.tracker.start().unwrap();
    assert_eq!(house.kind(), LogKind::DmaLog, "{}", house.reason());
}

/// A tracker that is started before any device is there takes the log of the first.
#[test]
fn the_first_device_comes_while_tracking() {
    let house = House::new(false, |_, _| {});
    house.tracker.start().unwrap();
    assert_eq!(house.kind(), LogKind::Everything);
    house.assert_all_dirty();
    let (sim, handle) = house.plug("nic", true, |_| {});
    house.tracker.add_device(Arc::clone(&handle)).unwrap();
    assert_eq!((house.kind(), house.harvest()), (LogKind::DmaLog, all()));
    house.assert_exact(&sim);
    house.tracker.remove_device(&handle).unwrap();
    assert_eq!(house.harvest(), [0u64; 0], "nobody is left who writes");
    // Behind the final harvest no log is exchanged: each page of it would be downtime.
    let (plain, second) = house.plug("plain", false, |_| {});
    house.tracker.add_device(Arc::clone(&second)).unwrap();
    house.assert_all_dirty();
    house.tracker.begin_final().unwrap();
    house.tracker.remove_device(&second).unwrap();
    assert_eq!(house.kind(), LogKind::Everything);
    drop(plain);
}

/// The wish not to use a device's own log is one of the device, wherever it goes.
#[test]
fn a_device_whose_log_is_not_to_be_used() {
    let house = House::new(false, |_, _| {});
    let (sim, handle) = house.plug("nic", true, |_| {});
    let (_quiet, second) = house.plug("quiet", true, |options| options.no_log = true);
    house.tracker.add_device(handle).unwrap();
    house.tracker.add_device(Arc::clone(&second)).unwrap();
    house.tracker.start().unwrap();
    assert_eq!(house.kind(), LogKind::Everything);
    assert!(house.reason().contains("quiet is made without the use of its own log"), "{}", house.reason());
    assert!(!sim.dma_logging());
    house.tracker.remove_device(&second).unwrap();
    assert_eq!(house.kind(), LogKind::DmaLog);
    house.assert_exact(&sim);
}

/// A container whose log can be asked for only later, as when its IOMMU is set after the tracker was made.
#[test]
fn sources_are_those_of_the_start() {
    struct Late(Type1, Arc<AtomicBool>);
    impl Container for Late {
        fn identity(&self) -> Option<Identity> {
            self.0.identity()
        }
        fn info(&self, info: &mut [u8]) -> Result<(), Errno> {
            if self.1.load(Ordering::SeqCst) { self.0.info(info) } else { Err(Errno::new(libc::ENODEV)) }
        }
        unsafe fn dirty_pages(&self, argument: &mut [u8]) -> Result<(), Errno> {
            // SAFETY: the contract of this function.
            unsafe { self.0.dirty_pages(argument) }
        }
        unsafe fn unmap_dma(&self, argument: &mut [u8]) -> Result<(), Errno> {
            // SAFETY: the contract of this function.
            unsafe { self.0.unmap_dma(argument) }
        }
    }
    let set = Arc::new(AtomicBool::new(false));
    let house = House::new(false, |space, options| {
        options.container = Some(Arc::new(Late(Type1::new(space, Type1Config::default()), Arc::clone(&set))));
    });
    assert!(house.reason().contains("asking the container failed"), "{}", house.reason());
    let (sim, _) = house.plug("nic", false, |_| {});
    set.store(true, Ordering::SeqCst);
    house.tracker.start().unwrap();
    assert_eq!(house.kind(), LogKind::Type1, "{}", house.reason());
    house.assert_exact(&sim);
}
