//! virtio: pre-copy info makes the whole context again once per second; a write on a dead fd crashes the host.

use crate::config::{AfterFailure, BadEnd, DeadFd, Habits, Poll, Refusal, Size};
use crate::config::{BadLoad, Config, Dialect, PrecopyEnd};
use std::time::Duration;

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: true, pre_copy: true },
        bad_load: BadLoad::Keep,
        precopy_end: PrecopyEnd::NoMessage,
        needs_info: true,
        habits: Habits {
            first_without_info: true,
            poll: Poll::Always,
            read_loses_bytes: true,
            after_failed_read: AfterFailure::Always(libc::ENODEV),
            refusal: Refusal::Dead(libc::EOPNOTSUPP),
            cut: BadEnd::Accepted,
            after_refusal: BadEnd::Accepted,
            dead_fd: DeadFd::WriteHurts,
            failed_stop_kills: true,
            lies: true,
            renews: Some(Duration::from_millis(20)),
            size: Size::WithoutHeaders,
            open_resets: true,
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
