//! What a course is made of.

use proptest::collection::vec;
use proptest::prelude::*;
use simdev::{Access, Effect, Peer};

/// Which device: one of the plain kinds, or a peer.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Plain(usize),
    Peer(Peer),
}

/// Calls of the main thread.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// To the next phase, or to any.
    Advance(Option<usize>),
    AdvanceDevice(usize),
    Abort(usize),
    /// A round of so many bytes, or all of it.
    Save(u64),
    SaveComplete,
    LoadComplete,
    Harvest,
    Pause,
    Resume,
}

/// What happens beside it, on another thread.
#[derive(Clone, Copy, Debug)]
pub enum Beside {
    Nothing,
    Look,
    Cancel,
    Pause,
    Resume,
    PauseBegin,
    ResumeBegin,
    Harvest,
    /// The handle of a device is freed: it is unplugged.
    Unplug(usize),
    /// Somebody takes bytes out of a stream.
    Read(usize),
}

/// A fault of a device: at the access so far from now.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub device: usize,
    pub access: Access,
    pub nth: u64,
    pub effect: Effect,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub call: Call,
    pub beside: Beside,
    pub trouble: Option<Trouble>,
}

#[derive(Clone, Debug)]
pub struct Course {
    pub devices: Vec<Kind>,
    pub loads: bool,
    pub workers: usize,
    pub steps: Vec<Step>,
}

/// Peers whose way back the library finds by itself.
const PEERS: [Peer; 10] = [
    Peer::Mlx5,
    Peer::HisiAcc,
    Peer::Pds,
    Peer::Qat,
    Peer::Virtio,
    Peer::Xe,
    Peer::Mtty,
    Peer::SpdkV1,
    Peer::LibvfioUserV1,
    Peer::LibvfioUserV2,
];

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => (0..7usize).prop_map(Kind::Plain),
        1 => proptest::sample::select(&PEERS[..]).prop_map(Kind::Peer),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        10 => Just(Call::Advance(None)),
        1 => (0..11usize).prop_map(|phase| Call::Advance(Some(phase))),
        2 => (0..4usize).prop_map(Call::AdvanceDevice),
        2 => (0..3usize).prop_map(Call::Abort),
        3 => prop_oneof![Just(u64::MAX), 0..5000u64].prop_map(Call::Save),
        3 => Just(Call::SaveComplete),
        3 => Just(Call::LoadComplete),
        3 => Just(Call::Harvest),
        1 => Just(Call::Pause),
        1 => Just(Call::Resume),
    ]
}

fn beside() -> impl Strategy<Value = Beside> {
    prop_oneof![
        12 => Just(Beside::Nothing),
        3 => Just(Beside::Look),
        1 => Just(Beside::Cancel),
        1 => Just(Beside::Pause),
        1 => Just(Beside::Resume),
        1 => Just(Beside::PauseBegin),
        1 => Just(Beside::ResumeBegin),
        1 => Just(Beside::Harvest),
        1 => (0..4usize).prop_map(Beside::Unplug),
        1 => (0..4usize).prop_map(Beside::Read),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let access = prop_oneof![
        3 => Just(Access::Any),
        2 => Just(Access::StateWrite),
        1 => Just(Access::StateRead),
        1 => Just(Access::DataRead),
        1 => Just(Access::DataWrite),
        1 => Just(Access::Reset),
    ];
    let effect = prop_oneof![
        3 => Just(Effect::Errno(libc::EIO)),
        1 => Just(Effect::Errno(libc::EAGAIN)),
        1 => Just(Effect::Errno(libc::ENODEV)),
        2 => Just(Effect::ToError(libc::EIO)),
        1 => Just(Effect::ErrnoMoved(libc::EMFILE)),
        1 => Just(Effect::NoFd),
    ];
    (0..4usize, access, 0..8u64, effect).prop_map(|(device, access, nth, effect)| Trouble {
        device,
        access,
        nth,
        effect,
    })
}

fn step() -> impl Strategy<Value = Step> {
    (call(), beside(), proptest::option::weighted(0.1, trouble())).prop_map(|(call, beside, trouble)| Step {
        call,
        beside,
        trouble,
    })
}

pub fn courses() -> impl Strategy<Value = Course> {
    (vec(kind(), 1..=4), prop::bool::weighted(0.4), prop_oneof![Just(0usize), Just(1)], vec(step(), 1..14))
        .prop_map(|(devices, loads, workers, steps)| Course { devices, loads, workers, steps })
}
