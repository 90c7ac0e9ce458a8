//! What a step will do, drawn before it begins.

use crate::machine::{DEVICES, NAMES};
use crate::random::Random;
use simdev::{Access, DataPath, Effect, Fault, FaultId};
use vfiomig::dialect::State;

/// Who moves the bytes of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// The VMM, by data calls on each device.
    Vmm,
    /// The library's loops.
    Drains,
    /// The same, with devices read ahead and written behind.
    Queues,
    /// The library's wire.
    Wire,
}

/// Moments of a save at which something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    Tracking,
    Round(u64),
    Grace,
    StopCopy,
    /// Every stream has its END, and the last harvest was made.
    Drained,
    Halted,
}

pub const POINTS: [Point; 7] =
    [Point::Tracking, Point::Round(0), Point::Round(1), Point::Grace, Point::StopCopy, Point::Drained, Point::Halted];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The VMM changes its mind.
    Abort,
    Cancel,
    PauseResume,
    /// The guest stays paused until the migration has ended.
    Pause,
    Reset(usize),
    Unplug(usize),
    ServerDies,
}

/// A fault of one device, so many accesses from when it is set.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub device: usize,
    access: Access,
    nth: u64,
    effect: Effect,
    for_good: bool,
}

/// How a load goes.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    pub mover: Mover,
    pub max_workers: usize,
    pub troubles: Vec<Trouble>,
    /// The destination gives up in the middle.
    pub gives_up: bool,
    /// Whether it is before the source is HALTED.
    pub early: bool,
    /// The guest is loaded paused first.
    pub rests: bool,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub mover: Mover,
    pub pre_copy: bool,
    pub rounds: u64,
    pub troubles: Vec<Trouble>,
    pub events: Vec<(Point, Event)>,
    /// Between migrations.
    pub idle: Option<Event>,
    pub load: LoadPlan,
}

fn trouble(random: &mut Random) -> Trouble {
    use Access::{Any, DataRead, DataWrite, DmaLogReport, DmaLogStart, PendingRead, Reset, StateRead, StateWrite};
    let place = random.below(10);
    let (access, most) = match place {
        0 => (random.pick(&[StateRead, Reset]), 12),
        1 => (StateWrite, 8),
        2 => (random.pick(&[DataRead, DataWrite]), 25),
        3 => (random.pick(&[DmaLogStart, DmaLogReport, PendingRead]), 5),
        4 => (Access::Enter(random.pick(&[State::PreCopy, State::StopCopy, State::Stop, State::Resuming])), 1),
        _ => (Any, 60),
    };
    let effect = match random.below(12) {
        0..3 => Effect::Errno(libc::EIO),
        3 => Effect::Errno(libc::ENOMEM),
        4 => Effect::Errno(libc::EINTR),
        5 => Effect::Errno(libc::EAGAIN),
        6 | 7 => Effect::ToError(libc::EIO),
        8 => Effect::ErrnoMoved(libc::EMFILE),
        9 => Effect::NoFd,
        _ => Effect::Short(random.below(2) as usize),
    };
    let for_good = random.one_in(9);
    let effect = if for_good { Effect::Errno(libc::ENODEV) } else { effect };
    Trouble { device: random.below(DEVICES as u64) as usize, access, nth: random.below(most), effect, for_good }
}

fn troubles(random: &mut Random) -> Vec<Trouble> {
    let count = random.pick(&[0, 0, 1, 1, 2]);
    (0..count).map(|_| trouble(random)).collect()
}

fn device(random: &mut Random) -> usize {
    random.below(DEVICES as u64) as usize
}

fn event(random: &mut Random, mover: Mover) -> (Point, Event) {
    let point = random.pick(&POINTS);
    let event = match random.below(10) {
        0 | 1 => Event::Abort,
        2 => Event::Cancel,
        3..6 => Event::PauseResume,
        6 => Event::Pause,
        7 => Event::Reset(device(random)),
        8 => Event::Unplug(device(random)),
        _ => Event::ServerDies,
    };
    let refused = match event {
        // A guest that stands still for its migration is neither paused nor resumed, and no call is made within a call.
        Event::PauseResume | Event::Pause => point > Point::Round(1) || mover == Mover::Wire,
        // Nobody is here who could.
        Event::Reset(_) => point == Point::Halted,
        _ => false,
    };
    (point, if refused { Event::Abort } else { event })
}

impl Plan {
    pub fn draw(random: &mut Random) -> Plan {
        let movers = [Mover::Vmm, Mover::Drains, Mover::Queues, Mover::Wire];
        let mover = random.pick(&movers);
        // Half of them meet nothing.
        let calm = random.one_in(2);
        let events = if calm { 0 } else { random.pick(&[0, 0, 1, 1, 2]) };
        let idle = random.pick(&[None, None, None, None, Some(0), Some(1), Some(2)]);
        let mut plan = Plan {
            mover,
            pre_copy: !random.one_in(4),
            rounds: random.below(3),
            troubles: if calm { Vec::new() } else { troubles(random) },
            events: (0..events).map(|_| event(random, mover)).collect(),
            idle: idle.map(|which| match which {
                0 => Event::PauseResume,
                1 => Event::Reset(device(random)),
                _ => Event::Unplug(device(random)),
            }),
            load: LoadPlan {
                mover: if mover == Mover::Wire { mover } else { random.pick(&movers[..3]) },
                max_workers: 0,
                troubles: if calm { Vec::new() } else { troubles(random) },
                gives_up: !calm && random.one_in(10),
                early: random.one_in(2),
                rests: random.one_in(4),
            },
        };
        // Devices that are served one after another are not read ahead.
        plan.load.max_workers = if plan.load.mover == Mover::Queues { 0 } else { random.below(2) as usize };
        plan.events.sort_by_key(|(point, _)| *point);
        plan
    }
}

/// A fault that was set.
pub struct Set {
    pub trouble: Trouble,
    pub id: FaultId,
}

impl Trouble {
    pub fn set(self, fake: &simdev::Device) -> Set {
        let nth = fake.count(self.access) + self.nth;
        let times = if self.for_good { u64::MAX } else { 1 };
        // What is no fault of a call is one of all that follow.
        let access = if self.for_good { Access::Any } else { self.access };
        let nth = if self.for_good { fake.count(Access::Any) + self.nth } else { nth };
        Set { trouble: self, id: fake.inject(Fault { access, nth, times, effect: self.effect }) }
    }

    pub fn loses_fd(&self, fake: &simdev::Device) -> bool {
        fake.config().data == DataPath::Functions && matches!(self.effect, Effect::ErrnoMoved(_) | Effect::NoFd)
    }

    pub fn is_for_good(&self) -> bool {
        self.for_good
    }

    /// A device in ERROR may be asked for its sizes until somebody reads its state.
    pub fn is_to_error(&self) -> bool {
        matches!(self.effect, Effect::ToError(_))
    }

    /// A stream may have ended before its end.
    pub fn may_cut(&self) -> bool {
        matches!(self.effect, Effect::Short(0))
    }

    pub fn name(&self) -> &'static str {
        NAMES[self.device]
    }
}
