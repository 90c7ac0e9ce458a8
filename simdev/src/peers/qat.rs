//! qat: a drain that can fail with half of the device stopped, a check that is made once, setup sizes that outlive a session.

use super::image;
use crate::config::{Config, Dialect, Habits, Precopy, Refusal};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: true, pre_copy: true },
        precopy: Precopy::Bytes(512),
        echo_info: false,
        habits: Habits {
            refusal: Refusal::Once(libc::EINVAL),
            lies: true,
            open_resets: true,
            remembers_load: true,
            ..image::HABITS
        },
        ..image::config()
    }
}
