//! Writers, readers, and saves and loads over them: channels that take or bring whatever they like, and bytes that changed.

use super::call::{StructBytes, c};
use super::world::World;
use crate::clock::asked;
use crate::feed::Feed;
use parking_lot::Mutex;
use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use vfiomig::ffi::over_wire::*;
use vfiomig::ffi::reader::*;
use vfiomig::ffi::wire_table::*;
use vfiomig::ffi::writer::*;

/// More is a full disk.
const MOST: usize = 1 << 20;

/// A channel: what one side wrote, and how far the other one has read it.
pub(super) struct Channel {
    feed: Arc<Mutex<Feed>>,
    bytes: Vec<u8>,
    at: usize,
}

/// The handles, whose channel outlives them.
pub(super) struct Wires {
    channel: Box<Mutex<Channel>>,
    writer: *mut vfiomig_writer,
    reader: *mut vfiomig_reader,
}

impl Wires {
    pub(super) fn new(feed: &Arc<Mutex<Feed>>) -> Wires {
        let channel = Channel { feed: Arc::clone(feed), bytes: Vec::new(), at: 0 };
        Wires { channel: Box::new(Mutex::new(channel)), writer: null_mut(), reader: null_mut() }
    }

    fn opaque(&self) -> *mut c_void {
        (&raw const *self.channel).cast_mut().cast()
    }

    pub(super) unsafe fn free(&mut self) {
        // SAFETY: NULL or live, and not used afterwards.
        unsafe {
            vfiomig_writer_free(self.writer);
            vfiomig_reader_free(self.reader);
        }
        (self.writer, self.reader) = (null_mut(), null_mut());
    }
}

unsafe extern "C" fn take(o: *mut c_void, data: *const c_void, len: usize) -> i64 {
    asked();
    // A struct that ends before its opaque pointer.
    let Some(channel) = (unsafe { o.cast::<Mutex<Channel>>().as_ref() }) else { return -i64::from(libc::EBADF) };
    let mut channel = channel.lock();
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
    let mut f = channel.feed.lock();
    let (mut some, lies) = (len, f.lies());
    if lies {
        match f.u8() % 6 {
            0 => return -i64::from(libc::EAGAIN),
            1 => return -i64::from(f.errno()),
            2 => return [0, i64::MIN, i64::MAX, len as i64 + 1][f.u8() as usize % 4],
            _ => some = f.u16() as usize % (len + 1),
        }
    }
    drop(f);
    if channel.bytes.len() + some > MOST {
        return -i64::from(libc::ENOSPC);
    }
    channel.bytes.extend_from_slice(&bytes[..some]);
    some as i64
}

unsafe extern "C" fn bring(o: *mut c_void, buf: *mut c_void, len: usize) -> i64 {
    asked();
    let Some(channel) = (unsafe { o.cast::<Mutex<Channel>>().as_ref() }) else { return -i64::from(libc::EBADF) };
    let mut channel = channel.lock();
    assert!(len > 0 && len <= MOST, "a reader asks for what comes next, and for no more");
    let mut f = channel.feed.lock();
    let mut most = len;
    if f.lies() {
        match f.u8() % 6 {
            0 => return -i64::from(libc::EAGAIN),
            1 => return -i64::from(f.errno()),
            2 => return [i64::MIN, i64::MAX, len as i64 + 1][f.u8() as usize % 3],
            _ => most = f.u16() as usize % (len + 1),
        }
    }
    drop(f);
    let at = channel.at;
    let some = &channel.bytes[at..(at + most).min(channel.bytes.len())];
    // SAFETY: there is room for `len`.
    unsafe { std::ptr::copy_nonoverlapping(some.as_ptr(), buf.cast::<u8>(), some.len()) };
    let count = some.len();
    channel.at += count;
    count as i64
}

unsafe extern "C" fn step(o: *mut c_void, step: u32, progress: *const vfiomig_wire_progress) -> c_int {
    asked();
    assert!(step > 0 && unsafe { progress.as_ref() }.is_some());
    let Some(channel) = (unsafe { o.cast::<Mutex<Channel>>().as_ref() }) else { return 0 };
    let feed = Arc::clone(&channel.lock().feed);
    let mut f = feed.lock();
    if f.lies() { [f.refusal(), 1, 7, i32::MIN][f.u8() as usize % 4] } else { 0 }
}

unsafe extern "C" fn record(o: *mut c_void, _device: usize, _kind: u64, data: *const c_void, len: usize) -> c_int {
    asked();
    let bytes = if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) } };
    std::hint::black_box(bytes.iter().fold(0u8, |a, b| a ^ b));
    let Some(channel) = (unsafe { o.cast::<Mutex<Channel>>().as_ref() }) else { return 0 };
    let feed = Arc::clone(&channel.lock().feed);
    let mut f = feed.lock();
    if f.lies() { f.refusal() } else { 0 }
}

impl World {
    pub(super) unsafe fn wire(&mut self, a: u8, b: u16) {
        let (m, w, r) = (self.migration, self.wires.writer, self.wires.reader);
        unsafe {
            match a % 8 {
                0 => self.new_writer(b),
                1 => self.new_reader(b),
                2 => {
                    let rq = vfiomig_save_to_request {
                        argsz: 0,
                        flags: u32::from(b & 1) * VFIOMIG_SAVE_TO_F_ROUNDS,
                        round_bytes: u64::from(b >> 4),
                        round_ns: u64::from(b) << 8,
                        step: (b & 2 != 0).then_some(step),
                        opaque: self.wires.opaque(),
                    };
                    let mut rq = StructBytes::of(&mut self.feed.lock(), &rq);
                    let list = [w, w];
                    let count = usize::from(b & 4 == 0) + usize::from(b & 0xf000 == 0xf000);
                    c("save_to", |e| vfiomig_migration_save_to(m, list.as_ptr(), count, rq.ptr(), e));
                }
                3 => {
                    let rq = vfiomig_load_from_request {
                        argsz: 0,
                        flags: 0,
                        devices: null(),
                        device_count: 0,
                        record: (b & 1 == 0).then_some(record),
                        step: (b & 2 != 0).then_some(step),
                        opaque: self.wires.opaque(),
                    };
                    let mut rq = StructBytes::of(&mut self.feed.lock(), &rq);
                    let list = [r, r];
                    let count = usize::from(b & 4 == 0) + usize::from(b & 0xf000 == 0xf000);
                    c("load_from", |e| vfiomig_migration_load_from(m, list.as_ptr(), count, rq.ptr(), e));
                }
                4 => self.put_record(b),
                5 => self.look_at_records(),
                6 => self.change_bytes(b),
                _ => {
                    let mut out: vfiomig_wire_device = zeroed();
                    let count = vfiomig_reader_get_device_count(r);
                    let index = u32::from(b) % (count as u32 + 2);
                    let got = c("get_device", |e| vfiomig_reader_get_device(r, index, &mut out, e));
                    assert!(got != 0 || (index as usize) < count && !out.name.is_null());
                }
            }
        }
    }

    unsafe fn new_writer(&mut self, b: u16) {
        let device = vfiomig_wire_device {
            name: c"d".as_ptr(),
            dialect: u32::from(b >> 8 & 7),
            channel: u32::from(b >> 12 & 1),
            words: null(),
            word_count: 0,
        };
        let own = b & 1 != 0;
        let options = vfiomig_writer_options {
            argsz: 0,
            flags: 0,
            write: (b & 0xf0 != 0xf0).then_some(take),
            opaque: self.wires.opaque(),
            fd: 0,
            timeout_ms: 0,
            channel: u32::from(b & 0xe == 0xe),
            channels: u32::from(b >> 4 & 2),
            wire: 7,
            devices: if own { &device } else { null() },
            device_count: usize::from(own),
            deadline_ms: 0,
        };
        let mut options = StructBytes::of(&mut self.feed.lock(), &options);
        let group = if own { null_mut() } else { self.group };
        unsafe { vfiomig_writer_free(self.wires.writer) };
        self.wires.writer = null_mut();
        let out = &mut self.wires.writer;
        if c("writer", |e| unsafe { vfiomig_writer_new(group, options.ptr(), out, e) }) == 0 {
            self.wires.channel.lock().bytes.clear();
        }
    }

    unsafe fn new_reader(&mut self, b: u16) {
        let options = vfiomig_reader_options {
            argsz: 0,
            flags: 0,
            read: (b & 0xf0 != 0xf0).then_some(bring),
            opaque: self.wires.opaque(),
            fd: 0,
            timeout_ms: 0,
            deadline_ms: 0,
        };
        let mut options = StructBytes::of(&mut self.feed.lock(), &options);
        unsafe { vfiomig_reader_free(self.wires.reader) };
        self.wires.reader = null_mut();
        self.wires.channel.lock().at = 0;
        let out = &mut self.wires.reader;
        c("reader", |e| unsafe { vfiomig_reader_new(options.ptr(), out, e) });
    }

    unsafe fn put_record(&mut self, b: u16) {
        let (w, bytes) = (self.wires.writer, vec![3u8; usize::from(b >> 6)]);
        let (data, len, device) = (bytes.as_ptr().cast(), bytes.len(), u32::from(b >> 3 & 3));
        unsafe {
            match b % 8 {
                0 | 1 => c("data", |e| vfiomig_writer_data(w, device, data, len, u32::from(b % 2) * 4, e)),
                2 => c("end", |e| vfiomig_writer_end(w, device, u64::from(b >> 6), e)),
                3 => c("void", |e| vfiomig_writer_void(w, device, e)),
                4 => c("vmm", |e| vfiomig_writer_vmm(w, VFIOMIG_RECORD_NO_DEVICE, 9, data, len, e)),
                5 => c("finish", |e| vfiomig_writer_finish(w, e)),
                6 if b >> 15 != 0 => c("fail", |e| vfiomig_writer_fail(w, c"why".as_ptr(), e)),
                _ => c("flush", |e| vfiomig_writer_flush(w, e)),
            };
        }
    }

    unsafe fn look_at_records(&mut self) {
        let r = self.wires.reader;
        for _ in 0..40 {
            let mut out: vfiomig_record = unsafe { zeroed() };
            if c("next", |e| unsafe { vfiomig_reader_next(r, &mut out, e) }) < 0 {
                return;
            }
            let count = unsafe { vfiomig_reader_get_device_count(r) };
            assert!(out.device_index == VFIOMIG_RECORD_NO_DEVICE || (out.device_index as usize) < count);
            assert!((out.len == 0 || !out.data.is_null()) && out.reserved == 0 && out.flags & !4 == 0);
            if out.len > 0 {
                let bytes = unsafe { std::slice::from_raw_parts(out.data.cast::<u8>(), out.len) };
                std::hint::black_box(bytes.iter().fold(0u8, |a, b| a ^ b));
            }
        }
    }

    /// What a bad line does to a channel.
    fn change_bytes(&mut self, b: u16) {
        let mut channel = self.wires.channel.lock();
        let len = channel.bytes.len();
        if len == 0 {
            return;
        }
        let at = usize::from(b >> 3) % len;
        match b % 4 {
            0 => channel.bytes[at] ^= 1 << (b & 7),
            1 => channel.bytes.truncate(at),
            2 => channel.bytes.extend_from_within(at..),
            _ => channel.at = at,
        }
        channel.at = channel.at.min(channel.bytes.len());
    }
}
