//! SPDK's NVMe-oF target as a v1 server: one segment, reached by mmap only, and pre-copy that has nothing.

use crate::config::{BadLoad, Config, Dialect, Precopy, Trapped, Window};
use crate::config::{Habits, ResetLeaves};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V1 { ndma: false },
        bad_load: BadLoad::Error,
        precopy: Precopy::Nothing,
        window: Window::Area,
        window_size: 128 << 10,
        trapped: Trapped::Refused(libc::EOPNOTSUPP),
        habits: Habits {
            strict_iteration: true,
            latches_empty: true,
            one_segment: true,
            reset_leaves: ResetLeaves::RunningIfAwake,
            arcs: Some(super::libvfio_user_v1::ARCS),
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
