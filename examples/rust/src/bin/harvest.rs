//! harvest: pages that a device writes go into the bitmap that a VMM of rust-vmm has of its memory region.

#![forbid(unsafe_code)]

use simdev::{Config, DmaLog, Ram, Space};
use std::num::NonZeroUsize;
use std::sync::Arc;
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::tracker::{self, IovaRange, Mapping, Request, Tracker};
use vm_memory::bitmap::AtomicBitmap;

const PAGE: u64 = 4096;
const PAGES: u64 = 1 << 16;

fn main() -> vfiomig::Result<()> {
    // A guest of 256 MiB, and a device in software that may write to all of it.
    let space = Space::new(&Ram::new());
    space.map(simdev::Mapping { iova: 0, size: PAGES * PAGE, ram: 0 }).map_err(std::io::Error::from_raw_os_error)?;
    let hardware = simdev::Device::new(Config { dma_log: Some(DmaLog::default()), ..Config::default() });
    hardware.attach(&space);
    let device =
        Arc::new(Device::new(hardware.transport(), DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?);

    // The VMM's part: the tracker knows what is mapped, and the cookie says which of the VMM's regions it is.
    let tracker = Tracker::new(tracker::TrackerOptions {
        name: "ram".into(),
        devices: vec![Arc::clone(&device)],
        ..tracker::TrackerOptions::default()
    })?;
    tracker.map(&[Mapping { range: IovaRange { iova: 0, size: PAGES * PAGE }, cookie: 0 }])?;
    tracker.start()?;

    let bitmap = AtomicBitmap::new((PAGES * PAGE) as usize, NonZeroUsize::MIN.saturating_add(PAGE as usize - 1));
    for page in [3, 4, 5, 60_000] {
        hardware.dma_write(page).map_err(std::io::Error::from_raw_os_error)?;
    }
    let mut mark = |_region: u64, run: IovaRange| {
        bitmap.set_addr_range(run.iova as usize, run.size as usize);
        true
    };
    let harvest = tracker.harvest(&mut Request { run: Some(&mut mark), ..Request::default() })?;
    tracker.stop()?;

    let dirty: Vec<usize> = (0..bitmap.len()).filter(|&page| bitmap.is_bit_set(page)).collect();
    println!("{dirty:?}, {} logs failed", harvest.failed_reads);
    assert_eq!(dirty, [3, 4, 5, 60_000]);
    Ok(())
}
