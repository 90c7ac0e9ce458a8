//! v2: `VFIO_DEVICE_FEATURE` + data fd (Linux 5.18, PRE_COPY 6.2). Follows: docs/rules.md, families V2, F
//! and C.

use super::registers::Fault;
use super::{Caps, Dialect, DialectKind, PrecopyFigures, Requested, State, known};
use crate::error::{Errno, Error};
use crate::transport::{DataFd, Feature, PrecopyInfo, Transport};
use crate::uapi::feature as u;

/// The kernel's number of each state.
const NUMBERS: [(State, u32); 8] = [
    (State::Error, u::STATE_ERROR),
    (State::Stop, u::STATE_STOP),
    (State::Running, u::STATE_RUNNING),
    (State::StopCopy, u::STATE_STOP_COPY),
    (State::Resuming, u::STATE_RESUMING),
    (State::RunningP2p, u::STATE_RUNNING_P2P),
    (State::PreCopy, u::STATE_PRE_COPY),
    (State::PreCopyP2p, u::STATE_PRE_COPY_P2P),
];

fn to_kernel(state: State) -> u32 {
    NUMBERS.iter().find(|(ours, _)| *ours == state).map_or(u::STATE_ERROR, |(_, number)| *number)
}

fn from_kernel(number: u32) -> Option<State> {
    NUMBERS.iter().find(|(_, theirs)| *theirs == number).map(|(state, _)| *state)
}

pub(super) struct V2 {
    caps: Caps,
    reinit: bool,
}

/// What asking for the v2 protocol brought.
pub(super) enum V2Support {
    Caps(Caps),
    /// The feature is absent.
    Absent,
    /// A flag combination that no uAPI defines.
    BadFlags(u64),
}

impl V2 {
    /// Asks for the migration flags (P22: first of all dialects), and changes nothing.
    pub fn ask(transport: &dyn Transport) -> Result<V2Support, Errno> {
        let mut feature = Feature::new(u::MIGRATION | u::GET, u::MIGRATION_SIZE);
        match transport.device_feature(&mut feature) {
            Err(errno) if errno.means_absent() => return Ok(V2Support::Absent),
            other => other?,
        }
        // V2-11: all sets of P2P and PRE_COPY exist; C1: PRE_COPY is never a must.
        let flags = feature.u64_at(u::HEADER_SIZE);
        if flags & u::MIGRATION_STOP_COPY == 0 {
            return Ok(V2Support::BadFlags(flags));
        }
        // Higher bits are extensions whose absence from our requests keeps them unused.
        Ok(V2Support::Caps(Caps { p2p: flags & u::MIGRATION_P2P != 0, pre_copy: flags & u::MIGRATION_PRE_COPY != 0 }))
    }

    /// Opts in to REINIT; the state stays as it is.
    pub fn new(transport: &dyn Transport, caps: Caps) -> Self {
        V2 { caps, reinit: caps.pre_copy && Self::opt_in(transport) }
    }

    /// Without it the flags of pre-copy info are an echo of the input (C7). Kernels before 7.1 answer ENOTTY (C8).
    fn opt_in(transport: &dyn Transport) -> bool {
        transport.device_feature(&mut Feature::new(u::MIG_PRECOPY_INFO_V2 | u::SET, 0)).is_ok()
    }
}

impl Dialect for V2 {
    fn kind(&self) -> DialectKind {
        DialectKind::V2
    }

    fn caps(&self) -> Caps {
        self.caps
    }

    fn reports_reinit(&self) -> bool {
        self.reinit
    }

    fn read_state(&self, transport: &dyn Transport) -> Result<State, Error> {
        let mut feature = Feature::new(u::MIG_DEVICE_STATE | u::GET, u::MIG_DEVICE_STATE_SIZE);
        transport
            .device_feature(&mut feature)
            .map_err(|errno| Error::device(errno, format!("reading the device state failed: {errno}")))?;
        let number = feature.u32_at(u::MIG_STATE);
        let state = from_kernel(number)
            .ok_or_else(|| Error::protocol(format!("the device reports state {number}, which no uAPI defines")))?;
        if !self.caps.has(state) {
            return Err(Error::protocol(format!("the device reports {state}, which its migration flags exclude")));
        }
        Ok(state)
    }

    fn request_state(&self, transport: &dyn Transport, _: State, to: State) -> Result<Requested, Fault> {
        let mut feature = Feature::new(u::MIG_DEVICE_STATE | u::SET, u::MIG_DEVICE_STATE_SIZE);
        feature.ask_u32(u::MIG_STATE, to_kernel(to));
        // V2-5: a failed copy back leaves what was there, which must not look like a descriptor.
        feature.ask_u32(u::MIG_DATA_FD, u32::MAX);
        transport.device_feature(&mut feature)?;
        Ok(Requested { data_fd: feature.into_data_fd() })
    }

    fn stop_copy_bytes(&self, transport: &dyn Transport) -> Result<Option<u64>, Errno> {
        let mut feature = Feature::new(u::MIG_DATA_SIZE | u::GET, u::MIG_DATA_SIZE_SIZE);
        match transport.device_feature(&mut feature) {
            Ok(()) => Ok(known(feature.u64_at(u::HEADER_SIZE))),
            Err(errno) if errno.means_absent() => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn precopy_figures(&self, data: &mut dyn DataFd) -> Result<PrecopyFigures, Errno> {
        let mut info = PrecopyInfo::new();
        match data.precopy_info(&mut info) {
            Ok(()) => Ok(PrecopyFigures {
                initial_bytes: known(info.initial_bytes()),
                dirty_bytes: known(info.dirty_bytes()),
                reinit: self.reinit && info.flags() & u::PRECOPY_REINIT != 0,
            }),
            // C2: no such ioctl (xe, pds), or not in this state (hisi_acc: PRE_COPY only).
            Err(errno) if errno.means_absent() => Ok(PrecopyFigures::UNKNOWN),
            Err(errno) => Err(errno),
        }
    }
}
