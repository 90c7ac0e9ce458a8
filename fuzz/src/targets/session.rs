//! v2: any calls on a device that may say anything.

use crate::driver::Driver;
use crate::errors::check_error;
use crate::feed::Feed;
use crate::hostile::{HostileTransport, Shared};
use parking_lot::Mutex;
use std::sync::Arc;
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::DialectKind;

pub fn run(data: &[u8]) {
    let feed = Arc::new(Mutex::new(Feed::new(data)));
    let shared = Shared::new(&feed, Some(DialectKind::V2));
    let how = feed.lock().u8();
    let options = DeviceOptions {
        name: "d".into(),
        buffer_size: Some(4096 << (how % 5)),
        dialect: if how & 0x80 != 0 { Some(DialectKind::V2) } else { None },
        ..DeviceOptions::default()
    };
    let device = match Device::new(Box::new(HostileTransport(Arc::clone(&shared))), options) {
        Ok(device) => Arc::new(device),
        Err(error) => return check_error(&error),
    };
    Driver::new(shared, device, false).run();
}
