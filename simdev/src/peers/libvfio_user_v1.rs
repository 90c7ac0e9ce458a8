//! libvfio-user as it served the migration region of Linux 5.8.

use crate::config::{Arcs, Habits, ResetLeaves};
use crate::config::{BadLoad, Config, Dialect, Window};

/// STOP 0, RUNNING 1, STOP_COPY 2, PRE_COPY 3, RESUMING 4. From 3 also to 1, by an operator's precedence; not to itself.
pub(super) const ARCS: Arcs = &[
    (0, 1),
    (1, 0),
    (1, 2),
    (1, 3),
    (1, 4),
    (2, 0),
    (2, 1),
    (3, 0),
    (3, 1),
    (3, 2),
    (4, 1),
    (0, 0),
    (1, 1),
    (2, 2),
    (4, 4),
];

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V1 { ndma: false },
        bad_load: BadLoad::Error,
        window: Window::Trapped,
        vary_segments: true,
        habits: Habits {
            strict_iteration: true,
            latches_empty: true,
            reset_leaves: ResetLeaves::RunningIfAwake,
            arcs: Some(ARCS),
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
