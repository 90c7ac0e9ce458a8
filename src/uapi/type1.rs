//! Dirty tracking of a type1 container. `struct vfio_bitmap` holds a raw pointer, and `cap_migration` a u64 that i386 does not
//! align, so their layouts are written out here: the kernel takes the 64-bit ones from every caller that it can serve
//! (P27).

use std::mem::size_of;
use vfio_bindings::bindings::vfio as b;

/// {u32 argsz, u32 flags, u64 iova_pgsizes, u32 cap_offset, u32 pad}
pub(crate) const INFO_SIZE: usize = 24;
pub(crate) const INFO_FLAGS: usize = 4;
pub(crate) const INFO_CAP_OFFSET: usize = 16;
pub(crate) const INFO_FLAG_CAPS: u32 = b::VFIO_IOMMU_INFO_CAPS;

/// {header, u32 flags, u32 pad, u64 pgsize_bitmap, u64 max_dirty_bitmap_size}
pub(crate) const CAP_MIGRATION: u16 = b::VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION as u16;
pub(crate) const CAP_PGSIZE_BITMAP: usize = 16;
pub(crate) const CAP_MAX_BITMAP: usize = 24;

/// {u32 argsz, u32 flags} and, to read, {u64 iova, u64 size, u64 pgsize, u64 bitmap size, u64 data*}
pub(crate) const DIRTY_HEADER_SIZE: usize = 8;
pub(crate) const DIRTY_GET_SIZE: usize = 48;
pub(crate) const DIRTY_FLAGS: usize = 4;
pub(crate) const DIRTY_IOVA: usize = 8;
pub(crate) const DIRTY_LENGTH: usize = 16;
pub(crate) const DIRTY_BITMAP: usize = 24;
pub(crate) const FLAG_START: u32 = b::VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
pub(crate) const FLAG_STOP: u32 = b::VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
pub(crate) const FLAG_GET: u32 = b::VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;

/// {u32 argsz, u32 flags, u64 iova, u64 size} and, with GET_DIRTY_BITMAP, a bitmap as above
pub(crate) const UNMAP_SIZE: usize = 24;
pub(crate) const UNMAP_GET_SIZE: usize = 48;
pub(crate) const UNMAP_FLAGS: usize = 4;
pub(crate) const UNMAP_IOVA: usize = 8;
pub(crate) const UNMAP_LENGTH: usize = 16;
pub(crate) const UNMAP_BITMAP: usize = 24;
pub(crate) const UNMAP_FLAG_GET: u32 = b::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;

/// `struct vfio_bitmap` within both: {u64 pgsize, u64 size, u64 data*}
pub(crate) const BITMAP_PGSIZE: usize = 0;
pub(crate) const BITMAP_SIZE: usize = 8;
pub(crate) const BITMAP_DATA: usize = 16;

/// Longest bitmap of one request, in bytes (T1).
pub(crate) const MAX_BITMAP: u64 = 256 << 20;

const _: () = assert!(size_of::<b::vfio_iommu_type1_info>() == INFO_SIZE);
const _: () = assert!(size_of::<b::vfio_iommu_type1_dirty_bitmap>() == DIRTY_HEADER_SIZE);
const _: () = assert!(size_of::<b::vfio_iommu_type1_dma_unmap>() == UNMAP_SIZE);
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<b::vfio_bitmap>() == 24 && offset_of!(b::vfio_bitmap, data) == BITMAP_DATA);
    assert!(offset_of!(b::vfio_bitmap, size) == BITMAP_SIZE);
    assert!(size_of::<b::vfio_iommu_type1_dirty_bitmap_get>() == DIRTY_GET_SIZE - DIRTY_HEADER_SIZE);
    assert!(offset_of!(b::vfio_iommu_type1_dirty_bitmap_get, bitmap) == DIRTY_BITMAP - DIRTY_HEADER_SIZE);
    assert!(offset_of!(b::vfio_iommu_type1_info_cap_migration, pgsize_bitmap) == CAP_PGSIZE_BITMAP);
    assert!(offset_of!(b::vfio_iommu_type1_info_cap_migration, max_dirty_bitmap_size) == CAP_MAX_BITMAP);
};
