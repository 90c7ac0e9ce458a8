//! `struct vfio_device_info`: {u32 argsz, u32 flags, u32 num_regions, u32 num_irqs, u32 cap_offset, u32 pad}.

use std::mem::{offset_of, size_of};
use vfio_bindings::bindings::vfio as b;

pub(crate) const INFO_SIZE: usize = 24;
pub(crate) const INFO_FLAGS: usize = 4;
pub(crate) const INFO_NUM_REGIONS: usize = 8;

pub(crate) const FLAG_RESET: u32 = b::VFIO_DEVICE_FLAGS_RESET;
pub(crate) const FLAG_CCW: u32 = b::VFIO_DEVICE_FLAGS_CCW;

const _: () = assert!(size_of::<b::vfio_device_info>() == INFO_SIZE);
const _: () = assert!(offset_of!(b::vfio_device_info, flags) == INFO_FLAGS);
const _: () = assert!(offset_of!(b::vfio_device_info, num_regions) == INFO_NUM_REGIONS);
