//! mlx5: asynchronous saves in firmware; a stream that fails in pre-copy never comes back.

use crate::config::{AfterFailure, BadEnd, Habits, Poll, Ready, Refusal, Size};
use crate::config::{BadLoad, Config, Dialect, DmaLog, PrecopyEnd};
use std::time::Duration;

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: true, pre_copy: true },
        bad_load: BadLoad::Keep,
        precopy_end: PrecopyEnd::NoMessage,
        needs_info: true,
        opt_in: true,
        dma_log: Some(DmaLog { max_page_size: 1 << 30, max_ranges: 16, ..DmaLog::default() }),
        habits: Habits {
            first_without_info: true,
            first_read: 24,
            ready: Ready::Again(Duration::from_millis(50)),
            poll: Poll::Real,
            read_loses_bytes: true,
            after_failed_read: AfterFailure::Always(libc::ENODEV),
            info_kills: true,
            refusal: Refusal::Dead(libc::EIO),
            cut: BadEnd::Accepted,
            after_refusal: BadEnd::Accepted,
            dead_stream_stays: true,
            eio_hurts: true,
            failed_stop_kills: true,
            lies: true,
            size: Size::WithoutHeaders,
            open_resets: true,
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
