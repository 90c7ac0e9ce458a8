//! xe: no pre-copy, reads that sleep, errors that stick, a STOP_COPY that cannot be left before the end.

use crate::config::{AfterFailure, BadEnd, Habits, Poll, Ready, Refusal, Size};
use crate::config::{BadLoad, Config, Dialect, Precopy};
use std::time::Duration;

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: true, pre_copy: false },
        bad_load: BadLoad::Keep,
        precopy: Precopy::Nothing,
        has_precopy_info: false,
        habits: Habits {
            ready: Ready::Sleeps(Duration::from_millis(20)),
            poll: Poll::Always,
            read_loses_bytes: true,
            after_failed_read: AfterFailure::TheSame,
            refusal: Refusal::ThenHurts(libc::EINVAL),
            cut: BadEnd::StaysDead(libc::ETIMEDOUT, Duration::from_millis(100)),
            after_refusal: BadEnd::StaysDead(libc::EIO, Duration::ZERO),
            must_drain: true,
            lies: true,
            size: Size::WithoutHeaders,
            open_resets: true,
            remembers_load: true,
            keeps_partial: true,
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
