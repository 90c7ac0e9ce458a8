//! Harvest requests from the input.

use super::call::StructBytes;
use super::callbacks::{Calls, run_fn, words_fn};
use crate::feed::Feed;
use parking_lot::Mutex;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use vfiomig::ffi::harvest::*;

/// Calls `harvest` with a request from the input.
pub(super) fn request(
    feed: &Arc<Mutex<Feed>>,
    calls: &Calls,
    harvest: impl FnOnce(*const vfiomig_harvest_request, *mut vfiomig_harvest_result) -> i64,
) {
    let mut f = feed.lock();
    let mut bitmaps: Vec<Box<[u64]>> = Vec::new();
    let mut dests = Vec::new();
    for i in 0..f.u8() as usize % 4 {
        let pages = 1 + u64::from(f.u8() % 80);
        let page_size = if f.lies() { f.size() } else { 4096 << (f.u8() % 6) };
        let first_bit = u64::from(f.u8());
        let (mut iova, mut size) = (i as u64 * (1 << 22) + 4096 * u64::from(f.u8() % 4), pages * 4096);
        let mut null = f.u8() & 3 == 3;
        if f.lies() {
            (iova, size, null) = (f.size(), f.size(), true);
        }
        let words = first_bit.saturating_add(size.div_ceil(page_size.max(1))).div_ceil(64).min(1 << 12) as usize;
        let mut bitmap = vec![0u64; words].into_boxed_slice();
        let at = if null { null_mut() } else { bitmap.as_mut_ptr() };
        let flags = u32::from(f.bool()) | if f.lies() { f.u32() } else { 0 };
        if null || words < (1 << 12) {
            dests.push(vfiomig_dest {
                iova,
                size,
                first_bit,
                page_size,
                bitmap: at,
                opaque: null_mut(),
                flags,
                reserved: 0,
            });
            bitmaps.push(bitmap);
        }
    }
    let how = f.u8();
    let rq = vfiomig_harvest_request {
        argsz: 0,
        flags: u32::from(how & 3),
        dests: if dests.is_empty() { null() } else { dests.as_ptr() },
        dest_count: dests.len(),
        words: (how & 4 != 0).then_some(words_fn),
        run: (how & 8 != 0).then_some(run_fn),
        opaque: (calls as *const Calls).cast_mut().cast(),
        max_workers: 1,
        reserved: 0,
        pass: u64::from(how >> 6),
    };
    let mut rq = StructBytes::of(&mut f, &rq);
    let mut out = StructBytes::new(&mut f, size_of::<vfiomig_harvest_result>());
    let (rq_ptr, out_ptr) = (
        if how & 0x30 == 0x30 { null() } else { rq.ptr::<vfiomig_harvest_request>().cast_const() },
        if how & 0x40 != 0 { null_mut() } else { out.ptr() },
    );
    drop(f);
    harvest(rq_ptr, out_ptr);
}
