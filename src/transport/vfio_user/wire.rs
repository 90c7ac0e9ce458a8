//! The numbers and layouts of the vfio-user protocol, as far as the library speaks it (U-1). Payloads only: headers belong to
//! the side that has the connection.

/// Commands.
pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const DMA_UNMAP: u16 = 3;
pub(crate) const GET_INFO: u16 = 4;
pub(crate) const GET_REGION_INFO: u16 = 5;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const DMA_READ: u16 = 11;
pub(crate) const DMA_WRITE: u16 = 12;
pub(crate) const RESET: u16 = 13;
/// A command of the first generation only.
pub(crate) const DIRTY_PAGES: u16 = 14;
pub(crate) const DEVICE_FEATURE: u16 = 16;
pub(crate) const MIG_DATA_READ: u16 = 17;
pub(crate) const MIG_DATA_WRITE: u16 = 18;

/// {u32 argsz, u32 flags, u32 num_regions, u32 num_irqs}: the beginning of the kernel's struct.
pub(crate) const INFO_SIZE: usize = 16;

/// {u64 offset, u32 region, u32 count}, before the data.
pub(crate) const REGION_IO_SIZE: usize = 16;
pub(crate) const REGION_IO_REGION: usize = 8;
pub(crate) const REGION_IO_COUNT: usize = 12;

/// {u32 argsz, u32 size}, before the data.
pub(crate) const MIG_DATA_SIZE: usize = 8;
pub(crate) const MIG_DATA_COUNT: usize = 4;

/// A report: {u32 argsz, u32 flags, u64 iova, u64 length, u64 page_size}, before the bitmap.
pub(crate) const REPORT_SIZE: usize = 32;

/// A request to start: {u32 argsz, u32 flags, u64 page_size, u32 num_ranges, u32 reserved}, before the ranges.
pub(crate) const START_SIZE: usize = 24;

/// DIRTY_PAGES: {u32 argsz, u32 flags}.
pub(crate) const DIRTY_SIZE: usize = 8;
/// The same and {u64 iova, u64 size, u64 page_size, u64 bitmap_size}, before the bitmap.
pub(crate) const DIRTY_GET_SIZE: usize = 40;
pub(crate) const DIRTY_START: u32 = 1;
pub(crate) const DIRTY_STOP: u32 = 2;
pub(crate) const DIRTY_GET: u32 = 4;
/// Longest request of the first generation for a bitmap, with the bitmap (U-14).
pub(crate) const DIRTY_MOST: usize = 1 << 20;

/// {u32 argsz, u32 flags, u64 offset, u64 address, u64 size}.
pub(crate) const DMA_MAP_SIZE: usize = 32;
pub(crate) const DMA_MAP_READ: u32 = 1;
pub(crate) const DMA_MAP_WRITE: u32 = 2;
/// {u32 argsz, u32 flags, u64 address, u64 size}.
pub(crate) const DMA_UNMAP_SIZE: usize = 24;

/// {u64 address, u64 count}, before the data of a server's DMA message.
pub(crate) const DMA_IO_SIZE: usize = 16;
