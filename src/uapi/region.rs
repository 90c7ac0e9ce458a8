//! `struct vfio_region_info` {u32 argsz, flags, index, cap_offset; u64 size, offset} and its capability chain.

use std::mem::{offset_of, size_of};
use vfio_bindings::bindings::vfio as b;

pub(crate) const INFO_SIZE: usize = 32;
pub(crate) const INFO_FLAGS: usize = 4;
pub(crate) const INFO_INDEX: usize = 8;
pub(crate) const INFO_CAP_OFFSET: usize = 12;
pub(crate) const INFO_REGION_SIZE: usize = 16;
pub(crate) const INFO_REGION_OFFSET: usize = 24;
pub(crate) const FLAG_CAPS: u32 = b::VFIO_REGION_INFO_FLAG_CAPS;

/// {u16 id, u16 version, u32 next}; `next` counts from the start of the info struct, 0 ends the chain.
pub(crate) const CAP_HEADER_SIZE: usize = 8;
pub(crate) const CAP_VERSION: usize = 2;
pub(crate) const CAP_NEXT: usize = 4;

/// Payload {u32 type, u32 subtype} after the header.
pub(crate) const CAP_TYPE: u16 = b::VFIO_REGION_INFO_CAP_TYPE as u16;
pub(crate) const CAP_TYPE_TYPE: usize = 8;
pub(crate) const CAP_TYPE_SUBTYPE: usize = 12;

/// Payload {u32 nr_areas, u32 reserved} and nr_areas times {u64 offset, u64 size}.
pub(crate) const CAP_SPARSE_MMAP: u16 = b::VFIO_REGION_INFO_CAP_SPARSE_MMAP as u16;
pub(crate) const CAP_SPARSE_NR_AREAS: usize = 8;
pub(crate) const CAP_SPARSE_AREAS: usize = 16;
pub(crate) const AREA_SIZE: usize = 16;

/// The NDMA capability of the migration region: header only. A proposal (W2), never in a kernel header.
pub(crate) const CAP_NDMA: u16 = 6;

pub(crate) const FLAG_MMAP: u32 = b::VFIO_REGION_INFO_FLAG_MMAP;

/// Region id of the v4 draft; the same numbers are CCW's asynchronous command region.
pub(crate) const TYPE_DRAFT_V4: (u32, u32) = (2, 1);

/// Region id of the v1 migration region (and of the later drafts).
pub(crate) const TYPE_MIGRATION: (u32, u32) =
    (b::VFIO_REGION_TYPE_MIGRATION_DEPRECATED, b::VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED);

const _: () = assert!(size_of::<b::vfio_region_info>() == INFO_SIZE);
const _: () = assert!(offset_of!(b::vfio_region_info, flags) == INFO_FLAGS);
const _: () = assert!(offset_of!(b::vfio_region_info, index) == INFO_INDEX);
const _: () = assert!(offset_of!(b::vfio_region_info, cap_offset) == INFO_CAP_OFFSET);
const _: () = assert!(offset_of!(b::vfio_region_info, size) == INFO_REGION_SIZE);
const _: () = assert!(offset_of!(b::vfio_region_info, offset) == INFO_REGION_OFFSET);
const _: () = assert!(size_of::<b::vfio_region_info_cap_sparse_mmap>() == CAP_SPARSE_AREAS);
const _: () = assert!(offset_of!(b::vfio_region_info_cap_sparse_mmap, nr_areas) == CAP_SPARSE_NR_AREAS);
const _: () = assert!(size_of::<b::vfio_region_sparse_mmap_area>() == AREA_SIZE);
const _: () = assert!(size_of::<b::vfio_info_cap_header>() == CAP_HEADER_SIZE);
const _: () = assert!(offset_of!(b::vfio_info_cap_header, version) == CAP_VERSION);
const _: () = assert!(offset_of!(b::vfio_info_cap_header, next) == CAP_NEXT);
const _: () = assert!(offset_of!(b::vfio_region_info_cap_type, type_) == CAP_TYPE_TYPE);
const _: () = assert!(offset_of!(b::vfio_region_info_cap_type, subtype) == CAP_TYPE_SUBTYPE);
