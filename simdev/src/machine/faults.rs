//! What goes wrong, and when. Accesses are counted, all together and by kind; a fault names one of the counts.

use std::collections::HashMap;
use std::time::Duration;
use vfiomig::dialect::State;

/// One kind of request that a client makes; two that it does not are for faults only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the requests' own names")]
pub enum Access {
    /// Faults only: every access counts.
    Any,
    /// Faults only: a step of a state change into this state.
    Enter(State),
    DeviceInfo,
    RegionInfo,
    RegionMap,
    Reset,
    /// device_state; v2: MIG_DEVICE_STATE.
    StateRead,
    StateWrite,
    PendingRead,
    DataOffsetRead,
    DataSizeRead,
    DataSizeWrite,
    /// Trapped access to the data section; v2: the data fd.
    DataRead,
    DataWrite,
    /// Draft: start_pfn, page_size, total_pfns.
    PfnWrite,
    CopiedPfnsRead,
    /// An access to the region that is none of the above; DIRTY_PAGES with flags that are none of those below.
    OddAccess,
    /// BAR 0.
    BarAccess,
    GetMigration,
    /// MIG_DATA_SIZE.
    StopCopySize,
    OptIn,
    PrecopyInfo,
    DmaLogStart,
    DmaLogStop,
    DmaLogReport,
    /// PROBE, or a feature that the device does not have.
    OtherFeature,
    Type1Info,
    Type1Start,
    Type1Stop,
    /// DIRTY_PAGES, GET_BITMAP.
    Type1Get,
    Type1Unmap,
    HwptSetDirty,
    HwptGetDirty,
    IoasUnmap,
    /// vfio-user: DMA_MAP.
    DmaMap,
    /// vfio-user: DMA_UNMAP.
    DmaUnmap,
    /// vfio-user: GET_IRQ_INFO.
    IrqInfo,
    /// vfio-user: SET_IRQS.
    IrqSet,
}

/// What goes wrong. An effect that means nothing to an access counts as met and does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Fails and does nothing.
    Errno(i32),
    /// A state change fails after the device has moved (V2-5: EMFILE). Reading a log fails after the log was cleared, with
    /// half of it reported (L6, T6); an unmap, with half of the mappings gone (T7). A data call fails after the bytes were
    /// taken: a read has dropped them. A write of data_size, after the segment was taken. Elsewhere as `Errno`.
    ErrnoMoved(i32),
    /// Fails, and the device is in ERROR.
    ToError(i32),
    /// The register, or the first word of the answer, reads as this; the device goes on with the true value.
    Lie(u64),
    /// A state change opens a session but brings no descriptor.
    NoFd,
    /// A state change that opens no session brings a descriptor.
    UnexpectedFd,
    /// At most so many bytes are moved; 0 is possible.
    Short(usize),
    /// The staged segment moves to another place before data_offset is read, also in the middle of an iteration.
    MoveWindow,
    /// It takes so long.
    Delay(Duration),
    /// v2: a reset that came while the state change was in progress takes effect behind it: the change succeeds, and nothing
    /// of it is left.
    ResetBehind,
}

/// What a fault makes of a number.
pub(crate) fn lie(effect: Option<Effect>, truth: u64) -> u64 {
    match effect {
        Some(Effect::Lie(value)) => value,
        _ => truth,
    }
}

/// What it makes of a length.
pub(crate) fn short(effect: Option<Effect>, len: usize) -> usize {
    match effect {
        Some(Effect::Short(most)) => len.min(most),
        _ => len,
    }
}

/// The errno of a request that fails after its work is done, or after a part of it.
pub(crate) fn moved(effect: Option<Effect>) -> Option<i32> {
    match effect {
        Some(Effect::ErrnoMoved(errno)) => Some(errno),
        _ => None,
    }
}

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is counted.
    pub access: Access,
    /// The first that it meets, from 0, counted from when the device was made.
    pub nth: u64,
    /// How many from there on; `u64::MAX`: all.
    pub times: u64,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// Once, at the `nth`.
    pub fn at(access: Access, nth: u64, effect: Effect) -> Self {
        Fault { access, nth, times: 1, effect }
    }

    /// At the `nth` and at all that follow.
    pub fn from(access: Access, nth: u64, effect: Effect) -> Self {
        Fault { access, nth, times: u64::MAX, effect }
    }
}

/// Names a fault that was injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultId(pub usize);

impl Access {
    /// Requests of which `Effect::ErrnoMoved` does a part.
    pub(crate) fn moves(self) -> bool {
        use Access::{DataRead, DataSizeWrite, DataWrite};
        use Access::{DmaLogReport, HwptGetDirty, IoasUnmap, StateWrite, Type1Get, Type1Unmap};
        matches!(self, StateWrite | DmaLogReport | Type1Get | Type1Unmap | HwptGetDirty | IoasUnmap)
            || matches!(self, DataRead | DataWrite | DataSizeWrite)
    }

    /// P2 is about one session: a vCPU may touch the BAR while the VMM waits for a state change, and a harvest may read
    /// the device's log while the device's thread reads its state.
    pub(crate) fn beside_others(self) -> bool {
        matches!(self, Access::BarAccess | Access::DmaLogStart | Access::DmaLogStop | Access::DmaLogReport)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<(Fault, u64)>,
    counts: HashMap<Access, u64>,
    pub calls: Vec<Access>,
}

impl Faults {
    pub fn inject(&mut self, fault: Fault) -> FaultId {
        self.list.push((fault, 0));
        FaultId(self.list.len() - 1)
    }

    /// Faults that were reached stay known as reached.
    pub fn clear(&mut self) {
        for (fault, _) in &mut self.list {
            fault.times = 0;
        }
    }

    pub fn reached(&self, id: FaultId) -> u64 {
        self.list.get(id.0).map_or(0, |f| f.1)
    }

    /// Delays are no reason for a client to do anything else than usual.
    pub fn any_reached(&self) -> bool {
        self.list.iter().any(|(fault, reached)| *reached > 0 && !matches!(fault.effect, Effect::Delay(_)))
    }

    pub fn count(&self, access: Access) -> u64 {
        if access == Access::Any { self.calls.len() as u64 } else { self.counts.get(&access).copied().unwrap_or(0) }
    }

    /// Counts the access. Delays add up; of other effects the first that was injected counts.
    pub fn meet(&mut self, access: Access) -> (Option<Effect>, Duration) {
        let all = self.calls.len() as u64;
        let counter = self.counts.entry(access).or_insert(0);
        let nth = *counter;
        *counter += 1;
        let step = matches!(access, Access::Enter(_));
        if !step {
            self.calls.push(access);
        }
        let (mut effect, mut delay) = (None, Duration::ZERO);
        for (fault, reached) in &mut self.list {
            let number = match fault.access {
                Access::Any if !step => all,
                kind if kind == access => nth,
                _ => continue,
            };
            if number < fault.nth || number - fault.nth >= fault.times {
                continue;
            }
            match fault.effect {
                Effect::Delay(more) => delay += more,
                _ if effect.is_some() => continue,
                other => effect = Some(other),
            }
            *reached += 1;
        }
        (effect, delay)
    }
}
