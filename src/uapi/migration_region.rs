//! The migration region: registers at its start (draft and v1), the bits of device_state, and the draft's bitmap registers
//! (V1-14, D18).

use std::mem::{offset_of, size_of};
use vfio_bindings::bindings::vfio as b;

pub(crate) const DEVICE_STATE: u64 = 0x00;
pub(crate) const PENDING_BYTES: u64 = 0x08;
pub(crate) const DATA_OFFSET: u64 = 0x10;
pub(crate) const DATA_SIZE: u64 = 0x18;
/// Data lies beyond the registers; what a smaller data_offset says is nonsense (V1-13).
pub(crate) const REGISTERS_END: u64 = 0x20;

/// The draft's dirty-page registers (D8 to D16), which lie where v1 may have data.
pub(crate) const START_PFN: u64 = 0x20;
pub(crate) const PAGE_SIZE: u64 = 0x28;
pub(crate) const TOTAL_PFNS: u64 = 0x30;
pub(crate) const COPIED_PFNS: u64 = 0x38;
pub(crate) const DRAFT_REGISTERS_END: u64 = 0x40;
/// copied_pfns: every page is dirty (-1 in the v4 draft, DIRTY_PFNS_ALL later).
pub(crate) const ALL_PFNS: u64 = u64::MAX;

pub(crate) const RUNNING: u32 = b::VFIO_DEVICE_STATE_V1_RUNNING;
pub(crate) const SAVING: u32 = b::VFIO_DEVICE_STATE_V1_SAVING;
pub(crate) const RESUMING: u32 = b::VFIO_DEVICE_STATE_V1_RESUMING;
/// Proposed together with the NDMA capability (W2); without that capability the bit is reserved.
pub(crate) const NDMA: u32 = 1 << 3;

const _: () = assert!(size_of::<b::vfio_device_migration_info>() == REGISTERS_END as usize);
const _: () = assert!(offset_of!(b::vfio_device_migration_info, device_state) == DEVICE_STATE as usize);
const _: () = assert!(offset_of!(b::vfio_device_migration_info, pending_bytes) == PENDING_BYTES as usize);
const _: () = assert!(offset_of!(b::vfio_device_migration_info, data_offset) == DATA_OFFSET as usize);
const _: () = assert!(offset_of!(b::vfio_device_migration_info, data_size) == DATA_SIZE as usize);
