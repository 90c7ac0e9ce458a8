//! One address space: its tracker, its logs, and what must be told.

use super::P;
use super::log::{Hook, Log};
use super::request::Reported;
use crate::feed::Feed;
use crate::hostile::{HostileTransport, Shared};
use crate::intervals::Intervals;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use vfiomig::device::{self, Device};
use vfiomig::dialect::DialectKind;
use vfiomig::tracker::{IovaRange, Tracker, TrackerOptions};

pub(super) struct Space {
    pub(super) tracker: Tracker,
    pub(super) logs: Vec<Arc<Mutex<Log>>>,
    pub(super) devices: Vec<Arc<Device>>,
    pub(super) maps: Vec<(u64, u64, u64)>,
    pub(super) mapped: Intervals,
    /// Unmapped since the tracker was started.
    pub(super) past: Vec<(u64, u64, u64)>,
    /// Written and not told, of what is mapped.
    pub(super) must: Intervals,
    /// The same of what was unmapped, by cookie: dirt belongs to the mapping through which it was written.
    pub(super) owed: BTreeMap<u64, Intervals>,
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
        let (kind, count, how) = (f.u8() % 4, f.u8(), f.u8());
        drop(f);
        let has_aperture = count >= 0xe0;
        let count = 1 + count as usize % 3;
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
        let mut options = TrackerOptions {
            name: format!("t{number}"),
            max_workers: usize::from(how & 0x40 == 0),
            ..TrackerOptions::default()
        };
        options.page_size = [None, Some(8192), Some(1 << 16), Some(1 << 30)][how as usize >> 2 & 3];
        if has_aperture {
            options.apertures = vec![IovaRange { iova: 0, size: if near { 1 << 32 } else { 1 << 52 } }];
        }
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
                    let shared = Shared::new(&quiet, Some(DialectKind::V2));
                    *quiet.lock() = Feed::new(&[]);
                    let log = log(shared.adds);
                    *shared.dma.lock() = Some(Box::new(Hook(Arc::clone(&log), false)));
                    let options = device::DeviceOptions { name: format!("d{number}.{i}"), ..Default::default() };
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
            past: Vec::new(),
            must: Intervals::default(),
            owed: BTreeMap::new(),
            users: 0,
        })
    }

    pub(super) fn know_maps(&self) {
        self.logs.iter().for_each(|log| log.lock().mapped = self.mapped.clone());
    }

    /// Nothing is known any more of what was written.
    pub(super) fn forget(&mut self) {
        self.must.clear();
        self.owed.clear();
        self.past.clear();
    }

    /// `first..=last` was unmapped: what is left of it keeps its name.
    pub(super) fn unmapped(&mut self, first: u64, last: u64) {
        self.mapped.remove(first, last);
        let (gone, stay) = self.maps.drain(..).partition(|(m, ..)| (first..=last).contains(m));
        self.maps = stay;
        for (a, b, cookie) in gone {
            let left = self.must.cut(a, b);
            self.must.remove(a, b);
            if self.users > 0 {
                self.owed.entry(cookie).or_default().add(&left);
                self.past.push((a, b, cookie));
            }
        }
        self.know_maps();
    }

    /// What a request has told is owed no more. A bitmap has no names.
    pub(super) fn reported(&mut self, reported: &Reported) {
        self.must = self.must.minus(&reported.reported);
        for (cookie, left) in &mut self.owed {
            *left = left.minus(&reported.plain);
            for (_, first, last) in reported.named.iter().filter(|(name, ..)| name == cookie) {
                left.remove(*first, *last);
            }
        }
        self.owed.retain(|_, left| !left.is_empty());
    }
}
