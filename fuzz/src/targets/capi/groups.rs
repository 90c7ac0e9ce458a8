//! Calls on the group and the migration.

use super::call::{StructBytes, c};
use super::callbacks::{get, put};
use super::request::request;
use super::world::World;
use crate::file::{self, file};
use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};
use vfiomig::ffi::drain::*;
use vfiomig::ffi::ends::*;
use vfiomig::ffi::group::*;

use vfiomig::ffi::estimate::*;
use vfiomig::ffi::migration::*;
use vfiomig::ffi::progress::*;
use vfiomig::ffi::report::*;
use vfiomig::ffi::run_state::*;
use vfiomig::ffi::timings::*;

impl World {
    pub(super) unsafe fn migrate(&mut self, op: u8, a: u8, b: u16) {
        let (g, m) = (self.group, self.migration);
        unsafe {
            let next = vfiomig_migration_get_phase(m) + 1;
            match op {
                29 => request(&self.feed, &self.calls, |rq, out| {
                    c("group_harvest", |e| vfiomig_group_harvest(g, rq, out, e))
                }),
                30 if m.is_null() => {
                    c("migration", |e| vfiomig_migration_new(g, 1 + u32::from(a & 1), null(), &mut self.migration, e));
                }
                30 if a & 0x70 == 0x70 => {
                    vfiomig_migration_free(m);
                    self.migration = null_mut();
                }
                30 => {}
                31 | 32 => {
                    let phase = match a & 3 {
                        3 => u32::from(b % 40),
                        _ if next == 1 => [1, 17][a as usize >> 2 & 1],
                        _ => next,
                    };
                    let flags = u32::from(a >> 5 & 1) * u32::from(phase == 6);
                    c("advance", |e| vfiomig_migration_advance(m, phase, flags, e));
                }
                33 => {
                    let d = self.pick(a);
                    c("advance_device", |e| vfiomig_migration_advance_device(m, d, next, 0, e));
                }
                34 if b & 0x40 != 0 => {
                    let d = self.pick(a);
                    c("load_done", |e| vfiomig_migration_load_done(m, d, u64::MAX, 0, e).min(0));
                }
                34 if b & 0x20 != 0 => {
                    c("end", |e| vfiomig_migration_end(m, u32::from(a % 2), u32::from(a >> 1 & 3), e));
                }
                34 => drop(c("abort", |e| vfiomig_migration_abort(m, u32::from(a % 4), u32::from(b % 3), e))),
                35 => self.drain(a, b),
                36 if b & 0x80 != 0 => self.look_beside(a, b),
                36 => self.look(a),
                37 => {
                    let hand_over = u32::from(b & 1 != 0);
                    match a % 8 {
                        4 => c("stop", |e| vfiomig_group_stop(g, hand_over, null_mut(), e)),
                        5 => c("start", |e| vfiomig_group_start(g, 0, null_mut(), e)),
                        6 => c("stop", |e| vfiomig_group_stop_begin(g, hand_over, null_mut(), e)),
                        7 => c("start", |e| vfiomig_group_start_begin(g, 0, null_mut(), e)),
                        0 => c("pause", |e| vfiomig_group_pause(g, e)),
                        1 => c("resume", |e| vfiomig_group_resume(g, e)),
                        2 => c("pause", |e| vfiomig_group_pause_begin(g, e)),
                        _ => c("resume", |e| vfiomig_group_resume_begin(g, e)),
                    };
                }
                _ if a >= 0x20 => self.wire(a, b),
                _ => vfiomig_migration_cancel(m),
            }
        }
    }

    unsafe fn drain(&mut self, a: u8, b: u16) {
        let (m, opaque) = (self.migration, self.opaque());
        unsafe {
            let mut results = vec![std::mem::zeroed::<vfiomig_drain_result>(); a as usize % 4].into_boxed_slice();
            let (to, room) = (results.as_mut_ptr(), results.len());
            let channel = vfiomig_channel { fd: file().as_raw_fd(), flags: u32::from(a >> 4 & 3), total: u64::from(b) };
            let channels = vec![channel; self.devices.len()];
            let (list, n) = (channels.as_ptr(), if a & 0x80 != 0 { channels.len() } else { 0 });
            let drain = b % 3;
            let rq = vfiomig_drain_request {
                argsz: size_of::<vfiomig_drain_request>() as u32,
                flags: 0,
                budget_bytes: if drain == 0 { u64::from(b) } else { 0 },
                budget_ns: if drain == 0 { u64::from(b) << 10 } else { 0 },
                channels: list,
                channel_count: n,
                put: (drain != 2).then_some(put),
                get: (drain == 2).then_some(get),
                opaque,
            };
            file::fill(&vec![5; b as usize % 3000]);
            match drain {
                0 => c("iterate", |e| vfiomig_migration_save_iterate(m, &rq, to, room, e)),
                1 => c("complete", |e| vfiomig_migration_save_complete(m, &rq, to, room, e)),
                _ => c("load", |e| vfiomig_migration_load_complete(m, &rq, to, room, e)),
            };
        }
    }

    unsafe fn look(&mut self, a: u8) {
        let (g, m) = (self.group, self.migration);
        let mut r = null_mut();
        let mut out = StructBytes::new(&mut self.feed.lock(), 48);
        unsafe {
            let done = match a % 5 {
                0 => c("report", |e| vfiomig_migration_get_report(m, &mut r, e)),
                1 => c("report", |e| vfiomig_group_get_report(g, &mut r, e)),
                2 => c("check", |e| vfiomig_group_get_abilities(g, out.ptr(), &mut r, e)),
                3 => c("estimate", |e| vfiomig_migration_get_estimate(m, null(), out.ptr(), &mut r, e)),
                _ => {
                    c("pending", |e| vfiomig_migration_get_pending(m, u32::from(a >> 4 & 1), out.ptr(), e));
                    -1
                }
            };
            if done == 0 {
                look_at(r);
            }
        }
    }
}

impl World {
    /// Where devices are, and how long they take: what the library says of it, it accepts again.
    unsafe fn look_beside(&mut self, a: u8, b: u16) {
        let (g, mut total, mut r, mut unknown) = (self.group, 0, null_mut(), null_mut());
        unsafe {
            if a & 1 == 0 {
                let mut out = StructBytes::new(&mut self.feed.lock(), size_of::<vfiomig_progress>());
                let count = usize::from(b & 1);
                c("progress", |e| vfiomig_group_get_progress(g, out.ptr(), count, &mut total, e));
                return;
            }
            if c("timings", |e| vfiomig_group_get_timings(g, &mut r, e)) != 0 {
                return;
            }
            let text = CStr::from_ptr(vfiomig_report_text(r)).to_owned();
            vfiomig_report_free(r);
            let cut = usize::from(b >> 8) % (text.as_bytes().len() + 1);
            let text = if a & 2 == 0 { text } else { CString::new(&text.as_bytes()[cut..]).unwrap() };
            let taken = c("timings", |e| vfiomig_group_set_timings(g, text.as_ptr(), &mut unknown, e));
            assert!(taken == 0 || a & 2 != 0);
            if taken == 0 {
                assert!(CStr::from_ptr(vfiomig_report_text(unknown)).to_str().is_ok());
                vfiomig_report_free(unknown);
            }
        }
    }
}

unsafe fn look_at_parts(parts: *const vfiomig_part_report, count: usize) {
    for i in 0..count {
        // SAFETY: a live report has so many.
        let part = unsafe { &*parts.add(i) };
        // SAFETY: as above.
        assert!(unsafe { CStr::from_ptr(part.device) }.to_str().is_ok());
    }
}

unsafe fn look_at(r: *mut vfiomig_report) {
    unsafe {
        assert!(CStr::from_ptr(vfiomig_report_text(r)).to_str().is_ok());
        assert!(CStr::from_ptr(vfiomig_report_json(r)).to_str().is_ok());
        for i in 0..vfiomig_report_entry_count(r) {
            let entry = &*vfiomig_report_entry(r, i);
            assert!(CStr::from_ptr(entry.text).to_str().is_ok());
            look_at_parts(entry.parts, entry.part_count);
        }
        if let Some(counters) = vfiomig_report_counters(r).as_ref() {
            look_at_parts(counters.parts, counters.part_count);
        }
        let n = vfiomig_report_phase_count(r);
        for i in 0..n {
            let phase = &*vfiomig_report_phase(r, i);
            for k in 0..phase.result_count {
                let result = &*phase.results.add(k);
                assert!(CStr::from_ptr(result.device).to_str().is_ok());
                assert!(CStr::from_ptr(result.message).to_str().is_ok());
            }
        }
        assert!(vfiomig_report_phase(r, n).is_null());
        vfiomig_report_free(r);
    }
}
