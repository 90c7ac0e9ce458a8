//! What mtty, hisi_acc and qat have in common: the state is one image of a fixed length that begins with the identity of the
//! device. Pre-copy sends the identity alone, and the end of a load asks for the length and for nothing else.

use crate::config::{BadEnd, BadLoad, Beyond, Config, DeadFd, Habits, Poll, PrecopyEnd, Size};

pub(super) const HABITS: Habits = Habits {
    poll: Poll::Always,
    fixed_precopy: true,
    beyond: Beyond::NoMemory,
    cut: BadEnd::Stays(libc::EINVAL),
    after_refusal: BadEnd::Accepted,
    dead_fd: DeadFd::NoMemoryIfLong,
    size: Size::Constant,
    ..Habits::PLAIN
};

pub(super) fn config() -> Config {
    Config { bad_load: BadLoad::Keep, precopy_end: PrecopyEnd::Zero, ..Config::default() }
}
