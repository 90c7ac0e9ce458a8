//! The library as a whole: version, features, names.

use super::guard::guard_value;
use crate::dialect::State;
use std::ffi::c_char;
use std::ffi::c_int;

/// A size, time or rate that is not known. What is not known is never reported as 0.
pub const VFIOMIG_UNKNOWN: u64 = 0xffff_ffff_ffff_ffff;

/// Device fds of the kernel: vfiomig_device_new_kernel().
pub const VFIOMIG_FEATURE_TRANSPORT_KERNEL: u64 = 1;
/// Functions of the VMM: vfiomig_device_new_ops().
pub const VFIOMIG_FEATURE_TRANSPORT_OPS: u64 = 2;
/// The v2 protocol.
pub const VFIOMIG_FEATURE_DIALECT_V2: u64 = 3;
/// The v1 protocol.
pub const VFIOMIG_FEATURE_DIALECT_V1: u64 = 4;
/// The draft protocol.
pub const VFIOMIG_FEATURE_DIALECT_DRAFT: u64 = 5;
/// Dirty logs: vfiomig_tracker_new(), over DMA logs of devices, type1 containers, iommufd page
/// tables and the draft's registers.
pub const VFIOMIG_FEATURE_TRACKER: u64 = 6;
/// Groups and migrations: vfiomig_group_new(), vfiomig_migration_new().
pub const VFIOMIG_FEATURE_GROUP: u64 = 7;
/// Devices of other processes: vfiomig_device_new_vfio_user(), vfiomig_vfio_user_connect().
pub const VFIOMIG_FEATURE_TRANSPORT_VFIO_USER: u64 = 8;
/// Queues between devices and the caller: `queue_bytes` of vfiomig_migration_options.
pub const VFIOMIG_FEATURE_QUEUES: u64 = 9;
/// A wire for streams and records: vfiomig_writer_new(), vfiomig_reader_new().
pub const VFIOMIG_FEATURE_WIRE: u64 = 10;

/// The device has failed. Only a reset leads out; until then it may do DMA.
pub const VFIOMIG_STATE_ERROR: u32 = 0;
/// The device is stopped and has no session.
pub const VFIOMIG_STATE_STOP: u32 = 1;
/// The device runs.
pub const VFIOMIG_STATE_RUNNING: u32 = 2;
/// The device is stopped, and a save session is open.
pub const VFIOMIG_STATE_STOP_COPY: u32 = 3;
/// The device is stopped and its state is undefined; a load session is open.
pub const VFIOMIG_STATE_RESUMING: u32 = 4;
/// The device runs, but starts no peer-to-peer DMA. It may still write RAM. The VMM must not access
/// it.
pub const VFIOMIG_STATE_RUNNING_P2P: u32 = 5;
/// The device runs and logs the changes of its own state; a save session is open.
pub const VFIOMIG_STATE_PRE_COPY: u32 = 6;
/// As RUNNING_P2P, and the device logs the changes of its own state; a save session is open.
pub const VFIOMIG_STATE_PRE_COPY_P2P: u32 = 7;

const _: () = assert!(State::Error as u32 == VFIOMIG_STATE_ERROR && State::Stop as u32 == VFIOMIG_STATE_STOP);
const _: () = assert!(State::Running as u32 == VFIOMIG_STATE_RUNNING);
const _: () = assert!(State::StopCopy as u32 == VFIOMIG_STATE_STOP_COPY);
const _: () = assert!(State::Resuming as u32 == VFIOMIG_STATE_RESUMING);
const _: () = assert!(State::RunningP2p as u32 == VFIOMIG_STATE_RUNNING_P2P);
const _: () = assert!(State::PreCopy as u32 == VFIOMIG_STATE_PRE_COPY);
const _: () = assert!(State::PreCopyP2p as u32 == VFIOMIG_STATE_PRE_COPY_P2P);

/// A part of the version that cargo gives as text.
const fn number(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut value: u32 = 0;
    let mut i = 0;
    while i < bytes.len() {
        #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "evaluated by the compiler")]
        {
            value = value * 10 + (bytes[i] - b'0') as u32;
            i += 1;
        }
    }
    value
}

#[allow(clippy::arithmetic_side_effects, reason = "evaluated by the compiler")]
const VERSION: u32 = (number(env!("CARGO_PKG_VERSION_MAJOR")) << 16)
    | (number(env!("CARGO_PKG_VERSION_MINOR")) << 8)
    | number(env!("CARGO_PKG_VERSION_PATCH"));

/// The version of the loaded library. The version of the header is in VFIOMIG_VERSION_MAJOR, _MINOR
/// and _PATCH.
///
/// Returns: major << 16 | minor << 8 | patch.
/// Threads: any. Blocks: never. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn vfiomig_version() -> u32 {
    guard_value("vfiomig_version", 0, || VERSION)
}

/// Whether the loaded library has a feature. `feature` is one of VFIOMIG_FEATURE_*.
///
/// Returns: 1 or 0; 0 for a number that the library does not know. It is not 0 or -errno.
/// Errors: none.
/// Threads: any. Blocks: never. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn vfiomig_has_feature(feature: u64) -> c_int {
    guard_value("vfiomig_has_feature", 0, || {
        c_int::from(matches!(
            feature,
            VFIOMIG_FEATURE_TRANSPORT_KERNEL
                | VFIOMIG_FEATURE_TRANSPORT_OPS
                | VFIOMIG_FEATURE_DIALECT_V2
                | VFIOMIG_FEATURE_DIALECT_V1
                | VFIOMIG_FEATURE_DIALECT_DRAFT
                | VFIOMIG_FEATURE_TRACKER
                | VFIOMIG_FEATURE_GROUP
                | VFIOMIG_FEATURE_TRANSPORT_VFIO_USER
                | VFIOMIG_FEATURE_QUEUES
                | VFIOMIG_FEATURE_WIRE
        ))
    })
}

/// The name of a VFIOMIG_STATE_*, without the prefix.
///
/// Returns: a constant text; "?" for a number that is no state.
/// Threads: any. Blocks: never. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn vfiomig_state_name(state: u32) -> *const c_char {
    guard_value("vfiomig_state_name", c"?".as_ptr(), || {
        let name = match State::from_number(state) {
            Some(State::Error) => c"ERROR",
            Some(State::Stop) => c"STOP",
            Some(State::Running) => c"RUNNING",
            Some(State::StopCopy) => c"STOP_COPY",
            Some(State::Resuming) => c"RESUMING",
            Some(State::RunningP2p) => c"RUNNING_P2P",
            Some(State::PreCopy) => c"PRE_COPY",
            Some(State::PreCopyP2p) => c"PRE_COPY_P2P",
            None => c"?",
        };
        name.as_ptr()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn both_state_name_tables_agree() {
        for state in State::ALL {
            // SAFETY: a constant C string.
            let name = unsafe { CStr::from_ptr(vfiomig_state_name(state.number())) };
            assert_eq!(name.to_str().unwrap(), state.name());
        }
    }
}
