//! `struct vfio_device_feature` {u32 argsz, u32 flags} + payload, and the migration payloads of the v2 protocol.

use std::mem::{offset_of, size_of};
use vfio_bindings::bindings::vfio as b;

pub(crate) const HEADER_SIZE: usize = 8;
pub(crate) const ARGSZ: usize = 0;
pub(crate) const FLAGS: usize = 4;
pub(crate) const GET: u32 = b::VFIO_DEVICE_FEATURE_GET;
pub(crate) const SET: u32 = b::VFIO_DEVICE_FEATURE_SET;

/// {u64 flags}
pub(crate) const MIGRATION: u32 = b::VFIO_DEVICE_FEATURE_MIGRATION;
pub(crate) const MIGRATION_SIZE: usize = 8;
pub(crate) const MIGRATION_STOP_COPY: u64 = b::VFIO_MIGRATION_STOP_COPY as u64;
pub(crate) const MIGRATION_P2P: u64 = b::VFIO_MIGRATION_P2P as u64;
pub(crate) const MIGRATION_PRE_COPY: u64 = b::VFIO_MIGRATION_PRE_COPY as u64;

/// {u32 device_state, s32 data_fd}
pub(crate) const MIG_DEVICE_STATE: u32 = b::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
pub(crate) const MIG_DEVICE_STATE_SIZE: usize = 8;
pub(crate) const MIG_STATE: usize = HEADER_SIZE;
pub(crate) const MIG_DATA_FD: usize = HEADER_SIZE + 4;

/// {u64 stop_copy_length}
pub(crate) const MIG_DATA_SIZE: u32 = b::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE;
pub(crate) const MIG_DATA_SIZE_SIZE: usize = 8;

/// No payload; SET only (C8).
pub(crate) const MIG_PRECOPY_INFO_V2: u32 = b::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2;

/// `struct vfio_precopy_info`, the argument of VFIO_MIG_GET_PRECOPY_INFO.
pub(crate) const PRECOPY_INFO_SIZE: usize = 24;
pub(crate) const PRECOPY_FLAGS: usize = 4;
pub(crate) const PRECOPY_INITIAL_BYTES: usize = 8;
pub(crate) const PRECOPY_DIRTY_BYTES: usize = 16;
pub(crate) const PRECOPY_REINIT: u32 = b::VFIO_PRECOPY_INFO_REINIT;

/// `enum vfio_device_mig_state`.
pub(crate) const STATE_ERROR: u32 = b::vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR;
pub(crate) const STATE_STOP: u32 = b::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP;
pub(crate) const STATE_RUNNING: u32 = b::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING;
pub(crate) const STATE_STOP_COPY: u32 = b::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY;
pub(crate) const STATE_RESUMING: u32 = b::vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING;
pub(crate) const STATE_RUNNING_P2P: u32 = b::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P;
pub(crate) const STATE_PRE_COPY: u32 = b::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY;
pub(crate) const STATE_PRE_COPY_P2P: u32 = b::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P;

const _: () = assert!(size_of::<b::vfio_device_feature>() == HEADER_SIZE);
const _: () = assert!(size_of::<b::vfio_device_feature_migration>() == MIGRATION_SIZE);
const _: () = assert!(size_of::<b::vfio_device_feature_mig_state>() == MIG_DEVICE_STATE_SIZE);
const _: () = assert!(offset_of!(b::vfio_device_feature_mig_state, data_fd) == 4);
const _: () = assert!(size_of::<b::vfio_device_feature_mig_data_size>() == MIG_DATA_SIZE_SIZE);
const _: () = assert!(size_of::<b::vfio_precopy_info>() == PRECOPY_INFO_SIZE);
const _: () = assert!(offset_of!(b::vfio_precopy_info, initial_bytes) == PRECOPY_INITIAL_BYTES);
const _: () = assert!(offset_of!(b::vfio_precopy_info, dirty_bytes) == PRECOPY_DIRTY_BYTES);
