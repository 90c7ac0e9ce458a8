//! One address space: its tracker, its logs, and what must be told.

use super::P;
use super::log::{Hook, Log};
use crate::feed::Feed;
use crate::hostile::{HostileTransport, Shared};
use crate::intervals::Intervals;
use parking_lot::Mutex;
use std::sync::Arc;
use vfiomig::device::{self, Device};
use vfiomig::dialect::Kind as Dialect;
use vfiomig::dirty::{Options, Tracker};

pub(super) struct Space {
    pub(super) tracker: Tracker,
    pub(super) logs: Vec<Arc<Mutex<Log>>>,
    pub(super) devices: Vec<Arc<Device>>,
    pub(super) maps: Vec<(u64, u64, u64)>,
    pub(super) mapped: Intervals,
    /// Written and not told.
    pub(super) must: Intervals,
    pub(super) users: u32,
}

/// Places where mappings are.
pub(super) fn slot(layout: u8, number: usize) -> u64 {
    let near = [0, 64, 200, 320, 1024, 40000, 1 << 19, (1 << 19) + 70];
    let far = [0, 64, 1 << 20, (1 << 25) - 32, (1 << 35) - 8, (1 << 35) + 60, (1 << 52) - 64, (1 << 52) - 200];
    (if layout & 1 == 0 { near } else { far })[number % 8] * P
}

impl Space {
    pub(super) fn new(feed: &Arc<Mutex<Feed>>, number: usize, near: bool) -> Option<Space> {
        let mut f = feed.lock();
        let (kind, count, how) = (f.u8() % 4, 1 + f.u8() as usize % 3, f.u8());
        drop(f);
        let log = |adds: bool| {
            Arc::new(Mutex::new(Log {
                feed: Arc::clone(feed),
                running: false,
                ranges: Vec::new(),
                page: P,
                own: P << [0, 0, 1, 4, 9, 18][how as usize % 6],
                pending: Intervals::default(),
                mapped: Intervals::default(),
                near,
                adds,
            }))
        };
        let mut options =
            Options { name: format!("t{number}"), max_workers: usize::from(how & 0x40 == 0), ..Options::default() };
        options.page_size = [None, Some(8192), Some(1 << 16), Some(1 << 30)][how as usize >> 2 & 3];
        let (mut logs, mut devices) = (Vec::new(), Vec::new());
        match kind {
            0 => {
                let log = log(false);
                options.functions = Some(Box::new(Hook(Arc::clone(&log), how & 0x80 != 0)));
                logs.push(log);
            }
            1 => options.everything = true,
            _ => {
                for i in 0..count {
                    let quiet = Arc::new(Mutex::new(Feed::new(&[how])));
                    let shared = Shared::new(&quiet, Some(Dialect::V2));
                    *quiet.lock() = Feed::new(&[]);
                    let log = log(shared.adds);
                    *shared.dma.lock() = Some(Box::new(Hook(Arc::clone(&log), false)));
                    let options = device::Options { name: format!("d{number}.{i}"), ..Default::default() };
                    devices.push(Arc::new(Device::new(Box::new(HostileTransport(shared)), options).ok()?));
                    logs.push(log);
                }
                options.devices = devices.clone();
            }
        }
        let tracker = Tracker::new(options).unwrap();
        Some(Space {
            tracker,
            logs,
            devices,
            maps: Vec::new(),
            mapped: Intervals::default(),
            must: Intervals::default(),
            users: 0,
        })
    }

    pub(super) fn know_maps(&self) {
        self.logs.iter().for_each(|log| log.lock().mapped = self.mapped.clone());
    }
}
