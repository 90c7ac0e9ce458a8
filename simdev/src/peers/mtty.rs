//! mtty: the kernel's sample device, with a log that is a stub.

use crate::config::{BadEnd, Beyond, DeadFd, Habits, Poll, Refusal, Size};
use crate::config::{BadLoad, Config, Dialect, DmaLog, Precopy, PrecopyEnd, Restart};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: true, pre_copy: true },
        bad_load: BadLoad::Keep,
        precopy: Precopy::Bytes(64),
        precopy_end: PrecopyEnd::Zero,
        dma_log: Some(DmaLog { echoes_page_size: true, restart: Restart::Taken, stub: true, ..DmaLog::default() }),
        habits: Habits {
            first_read: 24,
            poll: Poll::Always,
            fixed_precopy: true,
            refusal: Refusal::Once(libc::EFAULT),
            beyond: Beyond::NoMemory,
            cut: BadEnd::Stays(libc::EINVAL),
            after_refusal: BadEnd::Accepted,
            dead_fd: DeadFd::NoMemoryIfLong,
            size: Size::Constant,
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
