//! RAM with its copy, the address space that devices write through, and devices that never rest.

use simdev::{Config, Device, Mapping, Ram, Space, Writers};
use std::time::{Duration, Instant};

const P: u64 = 4096;

fn map(space: &Space, iova: u64, pages: u64, ram: u64) -> Result<(), i32> {
    space.map(Mapping { iova, size: pages * P, ram })
}

fn device(space: &Space) -> Device {
    let d = Device::new(Config::default());
    d.attach(space);
    d
}

#[test]
fn a_copy_taken_before_the_last_write_shows() {
    let ram = Ram::new();
    let space = Space::new(&ram);
    map(&space, 0, 4, 0).unwrap();
    let d = device(&space);
    d.dma_write(1).unwrap();
    ram.copy_all();
    ram.assert_same();
    d.dma_write(1).unwrap();
    d.dma_write(2).unwrap();
    assert_eq!(ram.differences(), [(1, 2, 1), (2, 1, 0)]);
    assert_eq!(ram.owed().into_iter().collect::<Vec<_>>(), [1, 2]);
    ram.copy(1);
    ram.copy(3);
    assert_eq!((ram.differences(), ram.owed().into_iter().collect()), (vec![(2, 1, 0)], vec![2]));
    d.dma_write(1).unwrap();
    ram.copy(2);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ram.assert_same()));
    assert!(failed.unwrap_err().downcast::<String>().unwrap().contains("[(1, 3, 2)]"));
}

#[test]
fn mappings_come_and_go_whole() {
    let space = Space::new(&Ram::new());
    for (iova, pages, ram) in [(1, 1, 0), (0, 1, 1), (P, 0, 0), (u64::MAX - P + 1, 2, 0), (0, 2, u64::MAX - P + 1)] {
        assert_eq!(map(&space, iova, pages, ram), Err(libc::EINVAL), "{iova:#x} + {pages}");
    }
    map(&space, 4 * P, 4, 0).unwrap();
    map(&space, 8 * P, 1, 64 * P).unwrap();
    map(&space, u64::MAX - P + 1, 1, 7 * P).unwrap();
    for (iova, pages) in [(0, 5), (5 * P, 1), (7 * P, 9), (8 * P, 1), (0, 99)] {
        assert_eq!(map(&space, iova, pages, 0), Err(libc::EEXIST), "{iova:#x} + {pages}");
    }
    for (iova, pages) in [(0, 5), (5 * P, 1), (7 * P, 2), (3 * P, 4)] {
        assert_eq!(space.unmap(iova, pages * P), Err(libc::ENOENT), "{iova:#x} + {pages}");
    }
    assert_eq!(space.unmap(0, 4 * P), Ok(0));
    assert_eq!(space.unmap(0, 9 * P), Ok(5 * P));
    assert_eq!(space.mappings(), [Mapping { iova: u64::MAX - P + 1, size: P, ram: 7 * P }]);
    let d = device(&space);
    d.dma_write(u64::MAX / P).unwrap();
    assert_eq!(space.ram().pages().into_iter().collect::<Vec<_>>(), [(7, 1)]);
}

#[test]
fn a_write_goes_where_the_address_is_mapped_or_nowhere() {
    let ram = Ram::new();
    let (a, b) = (Space::new(&ram), Space::new(&ram));
    map(&a, 0, 2, 10 * P).unwrap();
    map(&b, 1 << 40, 2, 11 * P).unwrap();
    let (da, db) = (device(&a), device(&b));
    assert_eq!((da.dma_write(1), da.dma_write(2)), (Ok(()), Err(libc::EFAULT)));
    assert_eq!((db.dma_write(1 << 28), db.dma_write(1)), (Ok(()), Err(libc::EFAULT)));
    assert_eq!(ram.pages().into_iter().collect::<Vec<_>>(), [(11, 2)], "two addresses, one page");
    assert_eq!((a.refused(), b.refused(), a.ram_page(1), b.ram_page(1)), (1, 1, Some(11), None));
    assert_eq!(a.take_written().into_iter().collect::<Vec<_>>(), [1]);
    assert!(a.take_written().is_empty());
    assert_eq!(da.take_dma_log().len(), 1, "a refused write is in no log");
    da.reset().unwrap();
    assert_eq!(da.dma_write(0), Ok(()), "a reset leaves the address space");
}

#[test]
fn writers_write_until_they_are_stopped() {
    let ram = Ram::new();
    let space = Space::new(&ram);
    map(&space, 0, 8, 0).unwrap();
    map(&space, 100 * P, 8, 8 * P).unwrap();
    let devices = [device(&space), device(&space)];
    let writers = Writers::start(&devices, &[0..8, 100..108], 1);
    writers.wait(1000);
    space.unmap(100 * P, 8 * P).unwrap();
    let refused = space.refused();
    writers.wait(1000);
    assert!(space.refused() > refused);
    // A busy machine may give one thread all of its time for a while.
    let begin = Instant::now();
    while devices.iter().any(|d| d.ram().len() < 8) {
        assert!(begin.elapsed() < Duration::from_secs(60), "a device does not write");
        writers.wait(10);
    }
    let done = writers.stop();
    assert_eq!(ram.pages().values().sum::<u64>(), done);
    assert_eq!(ram.pages().len(), 16, "every page in 1000 writes");
}
