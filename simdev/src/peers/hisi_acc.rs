//! hisi_acc: no P2P, 40 bytes of match data in pre-copy, a check that is made at each write and forgotten at the end.

use super::image;
use crate::config::{Config, Dialect, Habits, Precopy, Refusal};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: false, pre_copy: true },
        precopy: Precopy::Bytes(64),
        echo_info: false,
        habits: Habits {
            first_read: 40,
            refusal: Refusal::EachWrite(libc::EFAULT),
            identity_is_enough: true,
            lies: true,
            open_resets: true,
            remembers_load: true,
            ..image::HABITS
        },
        ..image::config()
    }
}
