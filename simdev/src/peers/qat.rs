//! qat: a drain that can fail with half of the device stopped, a check that is made once, setup sizes that outlive a session.

use crate::config::{BadEnd, Beyond, DeadFd, Habits, Poll, Refusal, Size};
use crate::config::{BadLoad, Config, Dialect, Precopy, PrecopyEnd};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: true, pre_copy: true },
        bad_load: BadLoad::Keep,
        precopy: Precopy::Bytes(512),
        precopy_end: PrecopyEnd::Zero,
        echo_info: false,
        habits: Habits {
            poll: Poll::Always,
            fixed_precopy: true,
            refusal: Refusal::Once(libc::EINVAL),
            beyond: Beyond::NoMemory,
            cut: BadEnd::Stays(libc::EINVAL),
            after_refusal: BadEnd::Accepted,
            dead_fd: DeadFd::NoMemoryIfLong,
            lies: true,
            size: Size::Constant,
            open_resets: true,
            remembers_load: true,
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
