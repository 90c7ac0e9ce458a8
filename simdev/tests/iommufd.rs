//! The software iommufd (I1 to I10): what clients of the rules get, and what the others lose.

mod common;

use common::Words;
use simdev::{Access, Config, Device, Effect, Fault, Iommufd, IommufdConfig, Kernel, Mapping, Ram, Space};
use vfiomig::error::Errno;
use vfiomig::transport::iommufd::Iommufd as _;

const P: u64 = 4096;
const END: u64 = u64::MAX - 4 * P + 1;

struct Fixture {
    fd: Iommufd,
    space: Space,
    device: Device,
    ioas: u32,
    hwpt: u32,
}

/// Pages 64..128, 128..136, 512..1029 and the last four of the address space; entries of up to `entry` pages.
fn fixture(entry: u64, kernel: Kernel) -> Fixture {
    let (space, fd) = (Space::new(&Ram::new()), Iommufd::new(IommufdConfig { kernel, ..IommufdConfig::default() }));
    for (first, pages) in [(64, 64), (128, 8), (512, 517), (END / P, 4)] {
        space.map(Mapping { iova: first * P, size: pages * P, ram: 0 }).unwrap();
    }
    let ioas = fd.ioas(&space);
    let hwpt = fd.hwpt(ioas, entry * P, true);
    let device = Device::new(Config::default());
    fd.attach(&device, hwpt);
    Fixture { fd, space, device, ioas, hwpt }
}

impl Fixture {
    fn write(&self, pages: &[u64]) {
        pages.iter().for_each(|&page| self.device.dma_write(page).unwrap());
    }

    fn set(&self, hwpt: u32, flags: u32) -> Result<(), i32> {
        errno(self.fd.set_dirty_tracking(&mut words32(&[16, flags, hwpt, 0])))
    }

    fn get_into(&self, hwpt: u32, flags: u32, range: [u64; 2], page: u64, address: u64) -> Result<(), i32> {
        let mut argument = words32(&[48, hwpt, flags, 0]);
        argument.extend([range[0], range[1], page, address].iter().flat_map(|v| v.to_ne_bytes()));
        // SAFETY: callers give memory of whole pages, or an address that is none.
        errno(unsafe { self.fd.get_dirty_bitmap(&mut argument) })
    }

    fn get(&self, flags: u32, first: u64, pages: u64) -> Result<Vec<u64>, i32> {
        let mut words = Words::new();
        self.get_into(self.hwpt, flags, [first * P, pages * P], P, words.address())?;
        Ok(words.bits().iter().map(|bit| bit + first).collect())
    }

    fn unmap(&self, ioas: u32, iova: u64, length: u64) -> Result<u64, i32> {
        let mut argument = words32(&[24, ioas]);
        argument.extend([iova, length].iter().flat_map(|v| v.to_ne_bytes()));
        errno(self.fd.ioas_unmap(&mut argument))?;
        Ok(u64::from_ne_bytes(argument[16..].try_into().unwrap()))
    }

    fn rules(&self) -> Vec<&'static str> {
        self.fd.watch().take_violations().iter().map(|v| v.rule).collect()
    }

    fn clean(&self) {
        self.fd.watch().assert_clean();
    }
}

fn words32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

fn errno(result: Result<(), Errno>) -> Result<(), i32> {
    result.map_err(Errno::get)
}

#[test]
fn bits_of_the_smallest_entries_are_exact() {
    let f = fixture(1, Kernel::V6_12);
    f.write(&[64]);
    f.set(f.hwpt, 1).unwrap();
    assert_eq!((f.fd.tracking(f.hwpt), f.get(0, 64, 64)), (true, Ok(vec![])), "what was before is not known");
    f.write(&[64, 127, 128, 600, 1028, u64::MAX / P]);
    assert_eq!(f.get(0, 64, 64), Ok(vec![64, 127]));
    assert_eq!(f.get(0, 64, 72), Ok(vec![128]), "two mappings side by side");
    assert_eq!(
        (f.get(1, 512, 517), f.get(0, 512, 517), f.get(0, 512, 517)),
        (Ok(vec![600, 1028]), Ok(vec![600, 1028]), Ok(vec![])),
        "I9: NO_CLEAR"
    );
    assert_eq!(f.get(0, END / P, 4), Ok(vec![u64::MAX / P]), "to 2^64");
    f.write(&[65]);
    f.set(f.hwpt, 0).unwrap();
    f.set(f.hwpt, 1).unwrap();
    assert_eq!(f.get(0, 64, 64), Ok(vec![]), "I2: enabling clears");
    f.clean();
}

#[test]
fn page_tables_know_their_own_devices() {
    let f = fixture(1, Kernel::V6_12);
    let other = f.fd.hwpt(f.ioas, P, true);
    let device = Device::new(Config::default());
    f.fd.attach(&device, other);
    f.set(f.hwpt, 1).unwrap();
    f.set(other, 1).unwrap();
    f.write(&[64]);
    device.dma_write(65).unwrap();
    let mut words = Words::new();
    f.get_into(other, 0, [64 * P, 64 * P], P, words.address()).unwrap();
    assert_eq!((words.bits(), f.get(0, 64, 64)), (vec![1], Ok(vec![64])));
    let mut words = Words::new();
    f.write(&[70, 71]);
    f.get_into(f.hwpt, 0, [64 * P, 64 * P], 4 * P, words.address()).unwrap();
    assert_eq!(words.bits(), [1], "a coarse bit for several pages");
    f.clean();
}

/// One dirty bit for each entry, and entries never span mappings (I5).
#[test]
fn large_entries_are_a_superset() {
    for kernel in [Kernel::V6_12, Kernel::V7_3] {
        let f = fixture(512, kernel);
        f.set(f.hwpt, 1).unwrap();
        f.write(&[70, 130, 513, 1024, 1028]);
        assert_eq!(f.get(0, 64, 64), Ok((64..128).collect()));
        assert_eq!(f.get(0, 128, 8), Ok((128..136).collect()));
        assert_eq!(f.get(0, 512, 517), Ok((512..1029).collect()), "512, 4 and 1");
        assert_eq!(f.get(0, 512, 517), Ok(vec![]));
        f.clean();
    }
}

#[test]
fn a_query_that_cuts_an_entry_loses_its_dirt() {
    // 7.3 records the entry, which begins below the query: dropped. 6.12 records as many pages from where the walk is.
    for (kernel, reported) in [(Kernel::V6_12, (80..144).collect()), (Kernel::V7_3, vec![])] {
        let f = fixture(64, kernel);
        f.set(f.hwpt, 1).unwrap();
        f.write(&[70]);
        assert_eq!((f.get(0, 80, 48), f.rules()), (Ok(reported), vec!["I5"]));
        assert_eq!(f.get(0, 64, 64), Ok(vec![]), "70 is lost");
        f.write(&[127]);
        assert_eq!((f.get(0, 64, 32), f.rules()), (Ok((64..128).collect()), vec!["I5"]), "I6: past the end");
        assert_eq!(f.get(0, 64, 64), Ok(vec![]));
        f.write(&[127]);
        assert_eq!((f.get(1, 64, 32).map(drop), f.rules()), (Ok(()), vec!["I5"]));
        assert_eq!(f.get(0, 64, 64), Ok((64..128).collect()), "I9: nothing is lost that was not cleared");
    }
}

#[test]
fn the_walk_ends_at_a_hole_without_a_word() {
    let f = fixture(1, Kernel::V6_12);
    f.set(f.hwpt, 1).unwrap();
    f.write(&[130, 600]);
    assert_eq!((f.get(0, 128, 901), f.rules()), (Ok(vec![130]), vec!["I4"]));
    assert_eq!((f.get(0, 511, 518), f.rules()), (Ok(vec![]), vec!["I4"]));
    assert_eq!((f.get(0, 512, 517), f.get(0, 0, 64), f.rules()), (Ok(vec![600]), Ok(vec![]), vec![]));
    f.set(f.hwpt, 0).unwrap();
    assert_eq!((f.get(0, 512, 517), f.rules()), (Ok(vec![]), vec!["I4"]), "success while it does not track");
}

#[test]
fn requests_that_a_client_knows_to_be_wrong() {
    let f = fixture(1, Kernel::V6_12);
    for (flags, errno) in [(2, libc::EOPNOTSUPP), (3, libc::EOPNOTSUPP)] {
        assert_eq!((f.set(f.hwpt, flags), f.rules()), (Err(errno), vec!["I2"]));
    }
    assert_eq!((f.set(f.ioas, 1), f.rules()), (Err(libc::ENOENT), vec!["I2"]));
    f.set(f.hwpt, 1).unwrap();
    f.write(&[64]);
    assert_eq!((f.set(f.hwpt, 1), f.rules()), (Ok(()), vec!["I2"]));
    assert_eq!(f.get(0, 64, 64), Ok(vec![]), "I2: lost");
    let plain = f.fd.hwpt(f.ioas, P, false);
    assert_eq!((f.set(plain, 1), f.rules()), (Err(libc::EOPNOTSUPP), vec![]), "I1: the client cannot know");
    let mut words = Words::new();
    let at = words.address();
    for (hwpt, flags, range, page, errno, rule) in [
        (f.hwpt, 2, [64 * P, 64 * P], P, libc::EOPNOTSUPP, "I3"),
        (99, 0, [64 * P, 64 * P], P, libc::ENOENT, "I2"),
        (f.hwpt, 0, [64 * P, 0], P, libc::EINVAL, "I3"),
        (f.hwpt, 0, [64 * P + 1, P], P, libc::EINVAL, "I3"),
        (f.hwpt, 0, [64 * P, P - 1], P, libc::EINVAL, "I3"),
        (f.hwpt, 0, [64 * P, 64 * P], 0, libc::EINVAL, "I3"),
        (f.hwpt, 0, [64 * P, 64 * P], 3 * P, libc::EINVAL, "I3"),
        (f.hwpt, 0, [64 * P, 63 * P], 2 * P, libc::EINVAL, "I3"),
        (f.hwpt, 0, [END, 5 * P], P, libc::EOVERFLOW, "I3"),
    ] {
        let reported = (f.get_into(hwpt, flags, range, page, at), f.rules());
        assert_eq!(reported, (Err(errno), vec![rule]), "{hwpt} {flags} {range:x?} {page:#x}");
    }
    f.write(&[64]);
    assert_eq!((f.get_into(f.hwpt, 0, [64 * P, 64 * P], P, 8), f.rules()), (Ok(()), vec!["I7"]));
    assert_eq!(f.get(0, 64, 64), Ok(vec![]), "I7: lost without a word");
    words.0[1] = 1;
    f.get_into(f.hwpt, 0, [512 * P, 65 * P], P, at).unwrap();
    assert_eq!((f.rules(), words.bits()), (vec!["I5"], vec![64]), "I8: sets, never clears");
    for (ioas, iova, length, errno) in [
        (f.hwpt, 64 * P, 64 * P, libc::ENOENT),
        (f.ioas, 64 * P, 0, libc::EINVAL),
        (f.ioas, 64 * P, 1, libc::EINVAL),
        (f.ioas, END, 5 * P, libc::EOVERFLOW),
        (f.ioas, 64 * P, 32 * P, libc::ENOENT),
    ] {
        assert_eq!((f.unmap(ioas, iova, length), f.rules()), (Err(errno), vec!["I9"]), "{ioas} {iova:#x} {length:#x}");
    }
    assert_eq!((errno(f.fd.ioas_unmap(&mut [23; 24])), f.rules()), (Err(libc::EINVAL), vec!["I10"]));
}

#[test]
fn unmapping_forgets_what_was_written() {
    let f = fixture(1, Kernel::V6_12);
    f.set(f.hwpt, 1).unwrap();
    f.write(&[64, 600]);
    assert_eq!(f.unmap(f.ioas, 64 * P, 64 * P), Ok(64 * P));
    assert_eq!(f.unmap(f.ioas, 64 * P, 64 * P), Err(libc::ENOENT), "nothing is mapped");
    f.space.map(Mapping { iova: 64 * P, size: 64 * P, ram: 0 }).unwrap();
    assert_eq!(f.get(0, 64, 64), Ok(vec![]));
    assert_eq!(f.unmap(f.ioas, 0, u64::MAX), Ok((64 + 8 + 517 + 4) * P), "all");
    assert_eq!(f.unmap(f.ioas, 0, u64::MAX), Ok(0));
    f.clean();
}

#[test]
fn faults_before_and_midway() {
    let f = fixture(1, Kernel::V6_12);
    let ids = [
        Fault::at(Access::HwptSetDirty, 0, Effect::Errno(libc::ENOMEM)),
        Fault::at(Access::HwptGetDirty, 0, Effect::Errno(libc::ENOMEM)),
        Fault::at(Access::HwptGetDirty, 2, Effect::ErrnoMoved(libc::EIO)),
        Fault::at(Access::IoasUnmap, 0, Effect::Errno(libc::EBUSY)),
        Fault::at(Access::IoasUnmap, 1, Effect::ErrnoMoved(libc::EDEADLK)),
        Fault::at(Access::IoasUnmap, 2, Effect::Lie(5)),
    ]
    .map(|fault| f.fd.watch().inject(fault));
    assert_eq!((f.set(f.hwpt, 1), f.set(f.hwpt, 1)), (Err(libc::ENOMEM), Ok(())));
    f.write(&[64, 70]);
    assert_eq!((f.get(0, 64, 64), f.get(0, 64, 64)), (Err(libc::ENOMEM), Ok(vec![64, 70])));
    f.write(&[64, 70]);
    let mut words = Words::new();
    assert_eq!(f.get_into(f.hwpt, 0, [64 * P, 64 * P], P, words.address()), Err(libc::EIO));
    assert_eq!((words.bits(), f.get(0, 64, 64)), (vec![0], Ok(vec![])));
    assert_eq!((f.unmap(f.ioas, 64 * P, 72 * P), f.space.mappings().len()), (Err(libc::EBUSY), 4));
    assert_eq!((f.unmap(f.ioas, 64 * P, 72 * P), f.space.mappings().len()), (Err(libc::EDEADLK), 3));
    assert_eq!(f.unmap(f.ioas, 64 * P, 72 * P), Ok(5));
    assert_eq!(ids.map(|id| f.fd.watch().fault_reached(id)), [1; 6]);
    f.clean();
}
