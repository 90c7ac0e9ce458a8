//! How a tracker is made, and what is known of it.

use crate::device::Device;
use crate::logs::log::LogKind;
use crate::logs::ranges::IovaRange;
use crate::transport::iommufd::Iommufd;
use crate::transport::tracker_ops::LogFunctions;
use crate::transport::type1::Container;
use std::sync::Arc;

/// How a tracker is made.
///
/// ```
/// use vfiomig::tracker::{IovaRange, LogKind, Tracker, TrackerOptions};
///
/// // What a VMM does whose devices and IOMMU keep no log: each harvest gives all that is mapped.
/// let apertures = vec![IovaRange { iova: 0, size: 1 << 30 }];
/// let tracker = Tracker::new(TrackerOptions { name: "ram".into(), everything: true, apertures, ..TrackerOptions::default() })?;
/// assert_eq!(tracker.info().kind, LogKind::Everything);
/// # Ok::<(), vfiomig::Error>(())
/// ```
/// With a log: [`Tracker`](super::Tracker), [`Iommufd`], [`Container`], [`LogFunctions`].
#[derive(Default)]
pub struct TrackerOptions {
    /// For messages; at most 255 bytes.
    pub name: String,
    /// Every device that does DMA in the address space; more may come later.
    pub devices: Vec<Arc<Device>>,
    /// The container that the devices belong to.
    pub container: Option<Arc<dyn Container>>,
    /// The iommufd, and the page table that each device is attached to; there may be none yet.
    /// [`Tracker::add_hwpt`](super::Tracker::add_hwpt) says what the ids mean.
    pub hwpts: Option<(Arc<dyn Iommufd>, Vec<u32>)>,
    /// The IOAS of `hwpts`, for the library to unmap from.
    pub ioas_id: Option<u32>,
    /// A log that the VMM keeps itself; nothing else is looked at then.
    pub functions: Option<Box<dyn LogFunctions>>,
    /// Do not use the devices' own logs.
    pub no_device_log: bool,
    /// Use no log at all.
    pub everything: bool,
    /// Where mappings will be: logs of devices and of the VMM are started for these ranges, so that no mapping in them restarts
    /// one. They may overlap; multiples of 4096. Empty: what is mapped, rounded out.
    pub apertures: Vec<IovaRange>,
    /// Smallest page that the VMM cares about, in bytes, a power of two from 4 KiB to 1 GiB: a hint to logs that have a choice.
    /// `None`: the finest.
    pub page_size: Option<u64>,
    /// Threads that work side by side; 0: one per source within reason. 1: none.
    pub max_workers: usize,
}

/// One DMA mapping.
///
/// Example: [`Tracker`](super::Tracker).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where it lies.
    pub range: IovaRange,
    /// Handed to run callbacks.
    pub cookie: u64,
}

/// What is known of a tracker.
///
/// ```
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
/// // A tracker that was started, over one mapping.
/// let info = tracker.info();
/// assert_eq!((info.starts, info.mapped_ranges, info.failed_logs), (1, 1, 0));
/// assert!(!info.perpetual && info.page_size == 4096 && !info.reason.is_empty());
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerInfo {
    /// The log that is read, or that will be tried first.
    pub kind: LogKind,
    /// Why this one.
    pub reason: String,
    /// Starts that were not stopped.
    pub starts: u32,
    /// Everything is dirty at each harvest, so waiting for less does not help.
    pub perpetual: bool,
    /// Sources that keep no log although they should: what is mapped is dirty at each harvest until a restart helps.
    pub failed_logs: u32,
    /// The largest page of any source while it runs, in bytes; else what was asked for.
    pub page_size: u64,
    /// Mappings, neighbours joined.
    pub mapped_ranges: u64,
    /// Ranges that the source with the fewest holds; 0 while it does not run.
    pub logged_ranges: u64,
    /// Sources of whose trouble `reason` speaks.
    pub(crate) complaints: usize,
}
