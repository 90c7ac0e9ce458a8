//! What a driver or server does within the protocol, or beside it, that the plain device does not. All of it is data, so
//! that a peer is a table and a test can take one habit alone.

use std::time::Duration;

/// When the data of a session are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// At once.
    AtOnce,
    /// After the first read a read sleeps until so long after the session's begin.
    Sleeps(Duration),
    /// As `Sleeps`, but reads answer EAGAIN until then.
    Again(Duration),
}

/// What calls on a data fd say after one of them has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// The stream goes on.
    GoesOn,
    /// This errno, for ever.
    Always(i32),
    /// The first errno again, for ever.
    TheSame,
}

/// What a write says whose bytes the device does not like, and what comes after it (F6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// EINVAL, and the session is dead.
    EndsSession,
    /// The errno; the session lives, but each further write says ENODEV.
    Dead(i32),
    /// The errno at this write and at each that follows; the bytes are counted all the same.
    EachWrite(i32),
    /// The errno at this write; another one crashes the host: the test is aborted.
    ThenHurts(i32),
    /// The errno once; further writes succeed, and the mismatch is forgotten.
    Once(i32),
}

/// What a write says that goes beyond what the device can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// There is no bound.
    NoBound,
    /// ENOMEM, and nothing of it is taken.
    NoMemory,
    /// It is short, and the next is EINVAL.
    Short,
}

/// What leaving RESUMING says to a stream that cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadEnd {
    /// As `Config::bad_load` says, EINVAL.
    AsConfigured,
    /// 0: not looked at.
    Accepted,
    /// The errno; the device stays in RESUMING, and the fd lives.
    Stays(i32),
    /// The errno after so long; the device stays in RESUMING, and the fd is dead.
    StaysDead(i32, Duration),
}

/// What a call on the data fd of a state that was left does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadFd {
    /// ENODEV.
    NoDevice,
    /// ENODEV; a write longer than the device's image says ENOMEM.
    NoMemoryIfLong,
    /// A write crashes the host: the test is aborted.
    WriteHurts,
}

/// What a reset leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetLeaves {
    /// RUNNING (N16).
    Running,
    /// RUNNING; EINVAL in STOP, STOP_COPY and ERROR, where the state stays.
    RunningIfAwake,
    /// The state that it was in; EINVAL in STOP and STOP_COPY.
    SameIfAwake,
}

/// What MIG_DATA_SIZE says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What is left; before a session, everything.
    Left,
    /// The whole image at any time, what pre-copy brings included.
    Constant,
    /// The image without the headers of the stream, and pre-copy does not lower it: the stream is longer.
    WithoutHeaders,
}

/// What a poll of the data fd says. Without a descriptor there is no poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// There is no descriptor.
    None,
    /// Always ready in both directions, also when dead.
    Always,
    /// Ready when there are bytes, or when the stream has ended or is dead; never while PRE_COPY is empty.
    Real,
}

/// What a server allows of device_state: pairs of from and to; to the same state too.
pub type Arcs = &'static [(u32, u32)];

/// See the module. [`Habits::PLAIN`] has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// v2: the first read of a session brings at most so many bytes; 0: any number.
    pub first_read: usize,
    /// v2: entering PRE_COPY has made the first data, where else new ones come only after pre-copy info.
    pub first_without_info: bool,
    /// v2: when the data of a session are there.
    pub ready: Ready,
    /// v2: what a poll says.
    pub poll: Poll,
    /// v2: a read that fails has taken bytes out of the stream.
    pub read_loses_bytes: bool,
    /// v2: what reads and pre-copy info say after one has failed.
    pub after_failed_read: AfterFailure,
    /// v2: a failed pre-copy info kills the stream too.
    pub info_kills: bool,
    /// v2: the stop-copy part has no bytes where nothing was left.
    pub ends_in_precopy: bool,
    /// v2: the part that pre-copy sends is the device's identity; a guest cannot change it.
    pub fixed_precopy: bool,
    /// v2: a refused part of a stream.
    pub refusal: Refusal,
    /// v2: a stream that is longer than the image.
    pub beyond: Beyond,
    /// v2: leaving RESUMING with a stream that was cut.
    pub cut: BadEnd,
    /// v2: a stream that ends behind the device's identity is accepted, and nothing is loaded.
    pub identity_is_enough: bool,
    /// v2: leaving RESUMING after a write was refused.
    pub after_refusal: BadEnd,
    /// v2: a data fd of a state that was left.
    pub dead_fd: DeadFd,
    /// v2: with a stream that has failed, every way out of the PRE_COPY states is ENODEV; the device runs on.
    pub dead_stream_stays: bool,
    /// v2: a step from PRE_COPY_P2P to STOP_COPY that fails leaves the stream dead.
    pub failed_stop_kills: bool,
    /// v2: after EIO from PRE_COPY to RUNNING anything but a reset crashes the host: the test is aborted.
    pub eio_hurts: bool,
    /// v2: STOP_COPY left before the end is EIO, stays, and the fd is dead.
    pub must_drain: bool,
    /// A step towards rest that fails leaves the device standing still, while its state says that it runs (K3).
    pub lies: bool,
    /// v2: so long after pre-copy info made data, it makes all of them again, for ever.
    pub renews: Option<Duration>,
    /// v2: initial_bytes does not fall.
    pub initial_stays: bool,
    /// v2: what MIG_DATA_SIZE says.
    pub size: Size,
    /// What a reset leaves.
    pub reset_leaves: ResetLeaves,
    /// In STOP and STOP_COPY the device's description is EINVAL, and in STOP_COPY its regions too.
    pub hides_while_stopped: bool,
    /// v2: a new transport finds RUNNING, as after open().
    pub open_resets: bool,
    /// v2: a second load without reset or open() in between is judged by what the first left: recorded as K21.
    pub remembers_load: bool,
    /// v2: an unfinished record of a load is the begin of the next one, until a reset.
    pub keeps_partial: bool,

    /// v1: a write of device_state begins the iteration anew, and data_offset without pending_bytes before it is EINVAL.
    pub strict_iteration: bool,
    /// v1: pending_bytes that was 0 stays 0 until device_state is written.
    pub latches_empty: bool,
    /// v1: what else than this is EINVAL.
    pub arcs: Option<Arcs>,
    /// v1: one segment only, in STOP_COPY. PRE_COPY says pending_bytes of all of it and a data_size of 0; RESUMING takes
    /// exactly this length, and data_offset may be read once.
    pub one_segment: bool,
    /// Draft: data_offset shows what was asked for last: pending_bytes selects the data, copied_pfns the bitmap.
    pub offset_follows: bool,
    /// v1, draft: what GET_REGION_INFO says of the migration region's size.
    pub region_size: Option<u64>,
}

impl Habits {
    /// The plain device.
    pub const PLAIN: Habits = Habits {
        first_read: 0,
        first_without_info: false,
        ready: Ready::AtOnce,
        poll: Poll::None,
        read_loses_bytes: false,
        after_failed_read: AfterFailure::GoesOn,
        info_kills: false,
        ends_in_precopy: false,
        fixed_precopy: false,
        refusal: Refusal::EndsSession,
        beyond: Beyond::NoBound,
        cut: BadEnd::AsConfigured,
        identity_is_enough: false,
        after_refusal: BadEnd::AsConfigured,
        dead_fd: DeadFd::NoDevice,
        dead_stream_stays: false,
        failed_stop_kills: false,
        eio_hurts: false,
        must_drain: false,
        lies: false,
        renews: None,
        initial_stays: false,
        size: Size::Left,
        reset_leaves: ResetLeaves::Running,
        hides_while_stopped: false,
        open_resets: false,
        remembers_load: false,
        keeps_partial: false,
        strict_iteration: true,
        latches_empty: false,
        arcs: None,
        one_segment: false,
        offset_follows: true,
        region_size: None,
    };
}
