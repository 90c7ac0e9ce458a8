//! Dirty tracking of iommufd page tables (Linux 6.7), `include/uapi/linux/iommufd.h`. Written out here: the crate that has
//! these structs is under Apache-2.0 alone, which a program under GPL-2.0-only may not link.

/// {u32 size, u32 flags, u32 hwpt_id, u32 reserved}
pub(crate) const SET_DIRTY_SIZE: usize = 16;
pub(crate) const SET_DIRTY_FLAGS: usize = 4;
pub(crate) const SET_DIRTY_HWPT: usize = 8;
pub(crate) const SET_DIRTY_ENABLE: u32 = 1;

/// {u32 size, u32 hwpt_id, u32 flags, u32 reserved, u64 iova, u64 length, u64 page_size, u64 data*}
pub(crate) const GET_DIRTY_SIZE: usize = 48;
pub(crate) const GET_DIRTY_HWPT: usize = 4;
pub(crate) const GET_DIRTY_FLAGS: usize = 8;
pub(crate) const GET_DIRTY_IOVA: usize = 16;
pub(crate) const GET_DIRTY_LENGTH: usize = 24;
pub(crate) const GET_DIRTY_PAGE_SIZE: usize = 32;
pub(crate) const GET_DIRTY_DATA: usize = 40;
pub(crate) const GET_DIRTY_NO_CLEAR: u32 = 1;

/// {u32 size, u32 ioas_id, u64 iova, u64 length}
pub(crate) const IOAS_UNMAP_SIZE: usize = 24;
pub(crate) const IOAS_UNMAP_IOAS: usize = 4;
pub(crate) const IOAS_UNMAP_IOVA: usize = 8;
pub(crate) const IOAS_UNMAP_LENGTH: usize = 16;
