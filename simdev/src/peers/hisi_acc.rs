//! hisi_acc: no P2P, 40 bytes of match data in pre-copy, a check that is made at each write and forgotten at the end.

use crate::config::{BadEnd, Beyond, DeadFd, Habits, Poll, Refusal, Size};
use crate::config::{BadLoad, Config, Dialect, Precopy, PrecopyEnd};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: false, pre_copy: true },
        bad_load: BadLoad::Keep,
        precopy: Precopy::Bytes(64),
        precopy_end: PrecopyEnd::Zero,
        echo_info: false,
        habits: Habits {
            first_read: 40,
            poll: Poll::Always,
            fixed_precopy: true,
            refusal: Refusal::EachWrite(libc::EFAULT),
            beyond: Beyond::NoMemory,
            cut: BadEnd::Stays(libc::EINVAL),
            identity_is_enough: true,
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
