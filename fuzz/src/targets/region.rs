//! v1 and the draft: any calls on a device whose registers may say anything, with mapped and trapped windows.

use crate::driver::Driver;
use crate::errors::check_error;
use crate::feed::Feed;
use crate::hostile::{HostileTransport, Shared};
use parking_lot::Mutex;
use std::sync::Arc;
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::{Cursor, DialectKind};
use vfiomig::window::Quirks;

pub fn run(data: &[u8]) {
    let feed = Arc::new(Mutex::new(Feed::new(data)));
    let (how, more) = {
        let mut f = feed.lock();
        (f.u8(), f.u8())
    };
    let kind = if how & 1 == 0 { DialectKind::V1 } else { DialectKind::Draft };
    let shared = Shared::new(&feed, Some(kind));
    let options = DeviceOptions {
        name: "d".into(),
        buffer_size: Some(4096 << (how >> 1 & 3)),
        dialect: if kind == DialectKind::Draft || how & 8 != 0 { Some(kind) } else { None },
        draft_cursor: [None, Some(Cursor::Sticky), Some(Cursor::Rewrite), None][more as usize & 3],
        quirks: Quirks {
            no_mmap: more & 0x04 != 0,
            zero_data_size: more & 0x08 != 0,
            split_segments: more & 0x10 != 0,
            aligned_access: more & 0x60 == 0x60,
        },
        ..DeviceOptions::default()
    };
    let device = match Device::new(Box::new(HostileTransport(Arc::clone(&shared))), options) {
        Ok(device) => Arc::new(device),
        Err(error) => return check_error(&error),
    };
    Driver::new(shared, device, more & 0x10 != 0).run();
}
