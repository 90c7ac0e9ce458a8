//! The kinds of fault, and the calls at which each of them means something.

use crate::fleet::Model;
use simdev::{Access, Device, Effect, Fault, FaultId};
use std::collections::HashMap;
use vfiomig::dialect::{DialectKind, State};

/// What befalls a device at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// EIO once, nothing was done.
    Eio,
    /// ENOMEM once, at a state change or a call for data.
    Enomem,
    /// EINTR once, at the same.
    Eintr,
    /// EAGAIN once, at a call for data: not ready.
    Eagain,
    /// EIO, and the device is in ERROR.
    ToError,
    /// ENODEV from here on.
    Gone,
    /// EIO from this reading of the state and the two behind it; the device is well.
    Unread,
    /// A state change of v2 that is done and says EMFILE: the descriptor is lost (V2-5).
    Moved,
    /// A state change that opens a stream, and no descriptor comes.
    NoFd,
    /// EIO from a call for data whose bytes the device took, or dropped.
    Taken,
    /// A call for data, or a register, that moves one byte.
    OneByte,
    /// The same that moves nothing.
    NoByte,
}

pub const KINDS: [Kind; 12] = [
    Kind::Eio,
    Kind::Enomem,
    Kind::Eintr,
    Kind::Eagain,
    Kind::ToError,
    Kind::Gone,
    Kind::Unread,
    Kind::Moved,
    Kind::NoFd,
    Kind::Taken,
    Kind::OneByte,
    Kind::NoByte,
];

/// One call of a device, of an operation without a fault.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub access: Access,
    /// How many of the same access came before it since the device was made.
    pub of_its_kind: u64,
    /// v2: a state change that opens a stream.
    pub opens: bool,
}

/// The calls from the `base`th on.
pub fn calls_of(fake: &Device, base: u64) -> Vec<Call> {
    let opening: Vec<u64> = (fake.transitions().iter())
        .filter(|t| !window(t.from.state()) && window(t.to.state()))
        .map(|t| t.request)
        .collect();
    let mut counts: HashMap<Access, u64> = HashMap::new();
    let calls = fake.calls().into_iter().map(|access| {
        let count = counts.entry(access).or_default();
        let of_its_kind = *count;
        *count += 1;
        Call { access, of_its_kind, opens: access == Access::StateWrite && opening.contains(count) }
    });
    calls.skip(base as usize).collect()
}

/// Whether a data session is open in it.
fn window(state: State) -> bool {
    state.is_precopy() || matches!(state, State::StopCopy | State::Resuming)
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Eio => "EIO",
            Kind::Enomem => "ENOMEM",
            Kind::Eintr => "EINTR",
            Kind::Eagain => "EAGAIN",
            Kind::ToError => "to ERROR",
            Kind::Gone => "gone",
            Kind::Unread => "unread",
            Kind::Moved => "moved, EMFILE",
            Kind::NoFd => "no descriptor",
            Kind::Taken => "EIO, bytes taken",
            Kind::OneByte => "one byte",
            Kind::NoByte => "no byte",
        }
    }

    fn effect(self) -> Effect {
        match self {
            Kind::Eio | Kind::Unread => Effect::Errno(libc::EIO),
            Kind::Enomem => Effect::Errno(libc::ENOMEM),
            Kind::Eintr => Effect::Errno(libc::EINTR),
            Kind::Eagain => Effect::Errno(libc::EAGAIN),
            Kind::ToError => Effect::ToError(libc::EIO),
            Kind::Gone => Effect::Errno(libc::ENODEV),
            Kind::Moved => Effect::ErrnoMoved(libc::EMFILE),
            Kind::NoFd => Effect::NoFd,
            Kind::Taken => Effect::ErrnoMoved(libc::EIO),
            Kind::OneByte => Effect::Short(1),
            Kind::NoByte => Effect::Short(0),
        }
    }

    /// What the device says.
    pub fn errno(self) -> Option<i32> {
        match self.effect() {
            Effect::Errno(errno) | Effect::ErrnoMoved(errno) | Effect::ToError(errno) => Some(errno),
            _ => None,
        }
    }

    /// Whether it means something at this call of this device.
    pub fn applies(self, call: Call, model: &Model) -> bool {
        let v2 = crate::rig::kind(&model.config) == DialectKind::V2;
        let data = matches!(call.access, Access::DataRead | Access::DataWrite);
        let moves = data || call.access == Access::DataSizeWrite;
        let register = !v2 && !matches!(call.access, Access::Reset | Access::RegionMap);
        match self {
            Kind::Eio | Kind::ToError | Kind::Gone => true,
            Kind::Enomem | Kind::Eintr => moves || call.access == Access::StateWrite,
            Kind::Eagain => moves || call.access == Access::Reset,
            Kind::Unread => call.access == Access::StateRead,
            Kind::Moved => v2 && call.access == Access::StateWrite,
            Kind::NoFd => call.opens && v2 && !model.served,
            Kind::Taken => moves,
            Kind::OneByte | Kind::NoByte => data || register,
        }
    }

    /// At the `nth` of all calls of the device.
    pub fn inject(self, fake: &Device, call: Call, nth: u64) -> FaultId {
        let effect = self.effect();
        fake.inject(match self {
            Kind::Gone => Fault::from(Access::Any, nth, effect),
            Kind::Unread => Fault { access: Access::StateRead, nth: call.of_its_kind, times: 3, effect },
            _ => Fault::at(Access::Any, nth, effect),
        })
    }
}
