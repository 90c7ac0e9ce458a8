//! Calls on one device.

use super::call::{StructBytes, c};
use super::world::World;
use crate::file::{self, file};
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use vfiomig::ffi::device::*;
use vfiomig::ffi::device_data::*;
use vfiomig::ffi::load::*;
use vfiomig::ffi::save::*;

impl World {
    pub(super) unsafe fn device(&mut self, op: u8, a: u8, b: u16) {
        let d = self.pick(a);
        let (len, segment_end) = (b as usize, u32::from(a & 4));
        unsafe {
            match op {
                0..=3 => {
                    let on_failure = [0, 1, 0x100 + u32::from(b as u8 & 7), u32::from(b)][a as usize >> 6];
                    let flags = u32::from(a >> 5 & 1);
                    c("set_state", |e| vfiomig_device_set_state(d, u32::from(b % 9), on_failure, flags, e));
                }
                4 => drop(c("reset", |e| vfiomig_device_reset(d, e))),
                5 => drop(c("reprobe", |e| vfiomig_device_reprobe(d, e))),
                6 => {
                    let mut out = StructBytes::new(&mut self.feed.lock(), size_of::<vfiomig_device_pending>());
                    c("pending", |e| vfiomig_device_get_pending(d, u32::from(a & 1), out.ptr(), e));
                }
                7 | 8 => peek(d, a, len),
                9 => drop(c("consume", |e| vfiomig_device_consume(d, len, e))),
                10 | 11 => {
                    let mut buf = vec![0u8; len % 5000].into_boxed_slice();
                    let mut flags = 0;
                    let r = c("read", |e| vfiomig_device_read(d, buf.as_mut_ptr().cast(), buf.len(), &mut flags, e));
                    assert!(r <= buf.len() as i64);
                }
                12 => {
                    file::fill(&[]);
                    let mut flags = 0;
                    c("send", |e| vfiomig_device_send(d, file().as_raw_fd(), len, &mut flags, e));
                }
                13 | 14 => reserve(d, a, b),
                15 => drop(c("commit", |e| vfiomig_device_commit(d, len, segment_end, e))),
                16 | 17 => {
                    let buf = vec![9u8; len % 5000].into_boxed_slice();
                    c("write", |e| vfiomig_device_write(d, buf.as_ptr().cast(), buf.len(), segment_end, e));
                }
                18 => {
                    file::fill(&vec![3; len % 5000]);
                    c("receive", |e| vfiomig_device_receive(d, file().as_raw_fd(), len, segment_end, e));
                }
                19 => {
                    let total = if a & 1 == 0 { u64::MAX } else { u64::from(b) };
                    c("finish", |e| vfiomig_device_finish(d, total, e));
                }
                _ => drop(c("restart_stream", |e| vfiomig_device_restart_stream(d, e))),
            }
        }
    }
}

unsafe fn peek(d: *mut vfiomig_device, a: u8, max: usize) {
    unsafe {
        let mut chunk = std::mem::zeroed::<vfiomig_chunk>();
        if c("peek", |e| vfiomig_device_peek(d, max, &mut chunk, e)) != 0 || chunk.len == 0 {
            return;
        }
        let bytes = std::slice::from_raw_parts(chunk.data.cast::<u8>(), chunk.len);
        std::hint::black_box(bytes.iter().fold(0u8, |a, b| a ^ b));
        let len = if a & 3 == 3 { max } else { chunk.len };
        if a & 0x18 != 0x18 {
            c("consume", |e| vfiomig_device_consume(d, len, e));
        }
    }
}

unsafe fn reserve(d: *mut vfiomig_device, a: u8, b: u16) {
    unsafe {
        let (mut ptr, mut len) = (null_mut(), 0);
        let left = if a & 1 == 0 { u64::MAX } else { u64::from(b) };
        if c("reserve", |e| vfiomig_device_reserve(d, left, &mut ptr, &mut len, e)) != 0 {
            return;
        }
        std::slice::from_raw_parts_mut(ptr.cast::<u8>(), len).fill(7);
        if a & 2 == 0 {
            c("commit", |e| vfiomig_device_commit(d, len.min(b as usize), u32::from(a & 4), e));
        }
    }
}
