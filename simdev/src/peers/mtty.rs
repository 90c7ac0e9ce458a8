//! mtty: the kernel's sample device, with a log that is a stub.

use super::image;
use crate::config::{Config, Dialect, DmaLog, Habits, Precopy, Refusal, Restart};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: true, pre_copy: true },
        precopy: Precopy::Bytes(64),
        dma_log: Some(DmaLog { echoes_page_size: true, restart: Restart::Taken, stub: true, ..DmaLog::default() }),
        habits: Habits { first_read: 24, refusal: Refusal::Once(libc::EFAULT), ..image::HABITS },
        ..image::config()
    }
}
