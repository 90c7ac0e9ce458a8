//! Accesses that are counted, and faults that they meet.

use super::handle::{Simdev, handle};
use crate::machine::{Access, Effect, Fault, FaultId};
use std::ffi::c_int;
use std::time::Duration;

/// `enum simdev_access`.
fn access(kind: u32) -> Option<Access> {
    const KINDS: [Access; 22] = [
        Access::Any,
        Access::DeviceInfo,
        Access::RegionInfo,
        Access::RegionMap,
        Access::Reset,
        Access::StateRead,
        Access::StateWrite,
        Access::PendingRead,
        Access::DataOffsetRead,
        Access::DataSizeRead,
        Access::DataSizeWrite,
        Access::DataRead,
        Access::DataWrite,
        Access::PfnWrite,
        Access::CopiedPfnsRead,
        Access::GetMigration,
        Access::StopCopySize,
        Access::OptIn,
        Access::PrecopyInfo,
        Access::DmaLogStart,
        Access::DmaLogStop,
        Access::DmaLogReport,
    ];
    let enter = kind.checked_sub(0x100).and_then(vfiomig::dialect::State::from_number).map(Access::Enter);
    enter.or(KINDS.get(kind as usize).copied())
}

/// How many accesses of a kind.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_count(d: *const Simdev, kind: u32) -> u64 {
    // SAFETY: the function's contract.
    let d = unsafe { handle(d) };
    d.zip(access(kind)).map_or(0, |(d, access)| d.device.count(access))
}

/// Something goes wrong at the `nth` access of a kind and the `times - 1` that follow; a number for
/// `simdev_fault_reached`, or -EINVAL.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_inject(
    d: *const Simdev,
    kind: u32,
    nth: u64,
    times: u64,
    effect: u32,
    value: u64,
) -> c_int {
    // SAFETY: the function's contract.
    let (Some(d), Some(access)) = (unsafe { handle(d) }, access(kind)) else { return -libc::EINVAL };
    let errno = i32::try_from(value).ok().filter(|&e| e > 0 && e < 4096);
    let effect = match (effect, errno) {
        (0, Some(errno)) => Effect::Errno(errno),
        (1, Some(errno)) => Effect::ErrnoMoved(errno),
        (2, Some(errno)) => Effect::ToError(errno),
        (3, _) => Effect::Lie(value),
        (4, _) => Effect::NoFd,
        (5, _) => Effect::UnexpectedFd,
        (6, _) => Effect::Short(usize::try_from(value).unwrap_or(usize::MAX)),
        (7, _) => Effect::MoveWindow,
        (8, _) => Effect::Delay(Duration::from_micros(value)),
        (9, _) => Effect::ResetBehind,
        _ => return -libc::EINVAL,
    };
    let id = d.device.inject(Fault { access, nth, times, effect });
    c_int::try_from(id.0).unwrap_or(c_int::MAX)
}

/// How often the fault was met.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_fault_reached(d: *const Simdev, id: c_int) -> u64 {
    // SAFETY: the function's contract.
    let d = unsafe { handle(d) };
    d.zip(usize::try_from(id).ok()).map_or(0, |(d, id)| d.device.fault_reached(FaultId(id)))
}

/// No fault goes on.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_clear_faults(d: *const Simdev) {
    // SAFETY: the function's contract.
    if let Some(d) = unsafe { handle(d) } {
        d.device.clear_faults();
    }
}
