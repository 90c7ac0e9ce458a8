//! libvfio-user as it serves the device feature: no sizes, no pre-copy info, a reset that keeps the state.

use crate::config::{BadEnd, Habits, ResetLeaves};
use crate::config::{BadLoad, Config, Dialect, DmaLog, PrecopyEnd, Restart};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: false, pre_copy: true },
        bad_load: BadLoad::Keep,
        precopy_end: PrecopyEnd::Zero,
        has_precopy_info: false,
        has_data_size: false,
        dma_log: Some(DmaLog { restart: Restart::Taken, whole_ranges: true, ..DmaLog::default() }),
        habits: Habits {
            cut: BadEnd::Stays(libc::EINVAL),
            after_refusal: BadEnd::Stays(libc::EINVAL),
            reset_leaves: ResetLeaves::SameIfAwake,
            hides_while_stopped: true,
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
