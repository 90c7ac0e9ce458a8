//! Calls on the tracker.

use super::call::{StructBytes, c};
use super::callbacks::unmap_fn;
use super::request::request;
use super::world::World;
use std::ptr::null_mut;
use vfiomig::ffi::harvest::*;
use vfiomig::ffi::tracker::*;
use vfiomig::ffi::tracker_data::*;
use vfiomig::transport::tracker_ops::LogRange;

impl World {
    pub(super) unsafe fn tracker(&mut self, op: u8, a: u8, b: u16) {
        let t = self.trackers.first().copied().unwrap_or(null_mut());
        let (iova, size) = ((u64::from(a >> 4) % 4) * (1 << 22), 4096 * (1 + u64::from(b) % 64));
        unsafe {
            match op {
                21 | 22 => {
                    let maps: Vec<vfiomig_mapping> = (0..1 + u64::from(a & 1))
                        .map(|i| vfiomig_mapping {
                            iova: iova + i * (1 << 22),
                            size,
                            cookie: i,
                            flags: u32::from(a == 255),
                            reserved: 0,
                        })
                        .collect();
                    c("map", |e| vfiomig_tracker_map(t, maps.as_ptr(), maps.len(), e));
                }
                23 => drop(c("start", |e| vfiomig_tracker_start(t, e))),
                24 => drop(c("stop", |e| vfiomig_tracker_stop(t, e))),
                25 | 26 => {
                    request(&self.feed, &self.calls, |rq, out| c("harvest", |e| vfiomig_tracker_harvest(t, rq, out, e)))
                }
                27 => {
                    let range = LogRange { iova, size };
                    let unmap: vfiomig_unmap_fn = if a & 1 == 0 { Some(unmap_fn) } else { None };
                    let (opaque, flags) = (self.opaque(), u32::from(a >> 1 & 3));
                    request(&self.feed, &self.calls, |rq, out| {
                        c("unmap", |e| vfiomig_tracker_unmap(t, &range, unmap, opaque, flags, rq, out, e))
                    });
                }
                _ => {
                    let mut out = StructBytes::new(&mut self.feed.lock(), size_of::<vfiomig_tracker_info>());
                    c("info", |e| vfiomig_tracker_get_info(t, out.ptr(), e));
                }
            }
        }
    }
}
