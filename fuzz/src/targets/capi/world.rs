//! All handles of a run.

use super::call::{StructBytes, c};
use super::callbacks::{Calls, Log, log_report, log_start, log_stop};
use super::wires::Wires;
use crate::feed::Feed;
use crate::hostile::{Shared, ops};
use parking_lot::Mutex;
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use vfiomig::dialect::DialectKind;
use vfiomig::ffi::device::*;
use vfiomig::ffi::device_data::*;
use vfiomig::ffi::device_new::*;
use vfiomig::ffi::group::*;
use vfiomig::ffi::migration::*;
use vfiomig::ffi::tracker::*;
use vfiomig::ffi::tracker_data::*;
use vfiomig::transport::tracker_ops::{LogOps, LogRange};

pub(super) struct World {
    pub(super) feed: Arc<Mutex<Feed>>,
    pub(super) calls: Box<Calls>,
    log: *mut Log,
    shared: Vec<Arc<Shared>>,
    pub(super) devices: Vec<*mut vfiomig_device>,
    pub(super) trackers: Vec<*mut vfiomig_tracker>,
    pub(super) group: *mut vfiomig_group,
    pub(super) migration: *mut vfiomig_migration,
    pub(super) wires: Wires,
}

impl World {
    pub(super) fn new(feed: &Arc<Mutex<Feed>>) -> World {
        let mut world = World {
            feed: Arc::clone(feed),
            calls: Box::new(Calls { feed: Arc::clone(feed) }),
            log: null_mut(),
            shared: Vec::new(),
            devices: Vec::new(),
            trackers: Vec::new(),
            group: null_mut(),
            migration: null_mut(),
            wires: Wires::new(feed),
        };
        let count = 1 + feed.lock().u8() as usize % 3;
        for i in 0..count {
            world.add_device(i);
        }
        world.log = Box::into_raw(Box::new(Log { feed: Arc::clone(feed), running: false }));
        world.add_tracker();
        world.add_group();
        world
    }

    /// What callbacks get.
    pub(super) fn opaque(&self) -> *mut c_void {
        (&raw const *self.calls).cast_mut().cast()
    }

    fn add_device(&mut self, number: usize) {
        let mut f = self.feed.lock();
        let (kind, without, how) = (f.u8(), f.u8(), f.u8());
        drop(f);
        let kind = [DialectKind::V2, DialectKind::V2, DialectKind::V1, DialectKind::Draft][kind as usize % 4];
        let one = Shared::new(&self.feed, Some(kind));
        let without = if without >= 0xe0 { without & 0x1c } else { 0 };
        let (mut table, o) = ops(&one, without);
        table.flags &= !1; // On this thread.
        self.shared.push(one);
        let name = CString::new(format!("d{number}\u{e9}")).unwrap();
        let options = vfiomig_device_options {
            argsz: 0,
            flags: u32::from(how & 31),
            name: name.as_ptr(),
            buffer_size: 4096 << (how >> 6),
            dialect: kind as u32,
            draft_cursor: 0,
        };
        let mut options = StructBytes::of(&mut self.feed.lock(), &options);
        let mut d = null_mut();
        if c("new", |e| unsafe { vfiomig_device_new_ops(&table, o, options.ptr(), &mut d, e) }) == 0 {
            self.devices.push(d);
        }
    }

    fn add_tracker(&mut self) {
        let table = LogOps {
            argsz: size_of::<LogOps>() as u32,
            flags: 0,
            start: Some(log_start),
            report: Some(log_report),
            stop: Some(log_stop),
        };
        let mut f = self.feed.lock();
        let own = f.bool();
        let kind = f.u8() & 7;
        let apertures = [LogRange { iova: 0, size: 1 << 23 }, LogRange { iova: 1 << 30, size: 4096 }];
        let options = vfiomig_tracker_options {
            argsz: 0,
            flags: if kind == 7 { VFIOMIG_TRACKER_F_EVERYTHING } else { 0 },
            name: null(),
            devices: self.devices.as_ptr(),
            device_count: self.devices.len(),
            hwpt_ids: null(),
            hwpt_count: 0,
            page_size: if f.lies() { f.size() } else { 0 },
            container_fd: 0,
            iommufd: 0,
            ioas_id: 0,
            max_workers: 1,
            apertures: apertures.as_ptr(),
            aperture_count: if kind == 6 { apertures.len() } else { 0 },
        };
        let mut options = StructBytes::of(&mut f, &options);
        drop(f);
        let mut t = null_mut();
        let r = c("tracker", |e| unsafe {
            if own {
                vfiomig_tracker_new_ops(&table, self.log.cast(), options.ptr(), &mut t, e)
            } else {
                vfiomig_tracker_new(options.ptr(), &mut t, e)
            }
        });
        if r == 0 {
            self.trackers.push(t);
        }
    }

    fn add_group(&mut self) {
        let options = vfiomig_group_options {
            argsz: size_of::<vfiomig_group_options>() as u32,
            flags: 0,
            max_workers: 1,
            foreign_initiators: 1,
            progress: None,
            opaque: null_mut(),
            progress_interval_ns: 0,
        };
        let mut g = null_mut();
        assert_eq!(c("group", |e| unsafe { vfiomig_group_new(&options, &mut g, e) }), 0);
        self.group = g;
        for &d in &self.devices {
            c("add", |e| unsafe { vfiomig_group_add_device(g, d, e) });
        }
        for &t in &self.trackers {
            c("add", |e| unsafe { vfiomig_group_add_tracker(g, t, e) });
        }
    }

    /// NULL where there is none.
    pub(super) fn pick(&self, a: u8) -> *mut vfiomig_device {
        self.devices.get(a as usize % self.devices.len().max(1)).copied().unwrap_or(null_mut())
    }

    /// Devices and the tracker join, and leave.
    pub(super) unsafe fn join(&mut self, a: u8, b: u16) {
        let (g, d) = (self.group, self.pick(b as u8));
        let t = self.trackers.first().copied().unwrap_or(null_mut());
        unsafe {
            match a % 6 {
                0 if b >> 15 != 0 => c("join", |e| vfiomig_tracker_add_foreign(t, c"other".as_ptr(), -1, e)),
                1 if b >> 15 != 0 => c("leave", |e| vfiomig_tracker_remove_foreign(t, c"other".as_ptr(), e)),
                0 => c("join", |e| vfiomig_tracker_add_device(t, d, e)),
                1 => c("leave", |e| vfiomig_tracker_remove_device(t, d, e)),
                2 => c("join", |e| vfiomig_group_add_device(g, d, e)),
                3 => c("leave", |e| vfiomig_group_remove_device(g, d, e)),
                4 => c("join", |e| vfiomig_group_add_tracker(g, t, e)),
                _ => c("leave", |e| vfiomig_group_remove_tracker(g, t, e)),
            };
        }
    }

    pub(super) fn free_device(&mut self, a: u8) {
        if !self.devices.is_empty() {
            let d = self.devices.remove(a as usize % self.devices.len());
            unsafe { vfiomig_device_free(d) };
        }
    }

    /// A hostile device knows of finish by what the library says.
    pub(super) fn after(&mut self, finished: bool) {
        for one in &self.shared {
            let mut st = one.st.lock();
            st.lied = true;
            st.finished |= finished;
        }
    }

    pub(super) fn free(mut self) {
        // SAFETY: each handle is live, and none is used afterwards.
        unsafe {
            self.wires.free();
            vfiomig_migration_free(self.migration);
            vfiomig_group_free(self.group);
            self.trackers.iter().for_each(|t| vfiomig_tracker_free(*t));
            self.devices.iter().for_each(|d| vfiomig_device_free(*d));
            drop(Box::from_raw(self.log));
        }
        for one in &self.shared {
            assert!(one.st.lock().maps.is_empty(), "mappings that were not given back");
        }
    }
}
