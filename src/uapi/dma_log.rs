//! Device DMA logging: features 6 to 8 of `VFIO_DEVICE_FEATURE` (Linux 6.1). Offsets count from the feature header.

use super::feature::HEADER_SIZE;
use std::mem::{offset_of, size_of};
use vfio_bindings::bindings::vfio as b;

pub(crate) const START: u32 = b::VFIO_DEVICE_FEATURE_DMA_LOGGING_START;
pub(crate) const STOP: u32 = b::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;
pub(crate) const REPORT: u32 = b::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT;
pub(crate) const PROBE: u32 = b::VFIO_DEVICE_FEATURE_PROBE;

/// {u64 page_size, u32 num_ranges, u32 reserved, u64 ranges*}
pub(crate) const START_SIZE: usize = 24;
pub(crate) const START_PAGE_SIZE: usize = HEADER_SIZE;
pub(crate) const START_NUM_RANGES: usize = HEADER_SIZE + 8;
pub(crate) const START_RANGES: usize = HEADER_SIZE + 16;

/// {u64 iova, u64 length}
pub(crate) const RANGE_SIZE: usize = 16;

/// {u64 iova, u64 length, u64 page_size, u64 bitmap*}
pub(crate) const REPORT_SIZE: usize = 32;
pub(crate) const REPORT_IOVA: usize = HEADER_SIZE;
pub(crate) const REPORT_LENGTH: usize = HEADER_SIZE + 8;
pub(crate) const REPORT_PAGE_SIZE: usize = HEADER_SIZE + 16;
pub(crate) const REPORT_BITMAP: usize = HEADER_SIZE + 24;

/// The kernel takes one page of ranges (L1); this is the page that every kernel has at least.
pub(crate) const MAX_RANGES: usize = 4096 / RANGE_SIZE;

const _: () = assert!(size_of::<b::vfio_device_feature_dma_logging_control>() == START_SIZE);
const _: () = assert!(offset_of!(b::vfio_device_feature_dma_logging_control, num_ranges) + 8 == START_NUM_RANGES);
const _: () = assert!(offset_of!(b::vfio_device_feature_dma_logging_control, ranges) + 8 == START_RANGES);
const _: () = assert!(size_of::<b::vfio_device_feature_dma_logging_range>() == RANGE_SIZE);
const _: () = assert!(size_of::<b::vfio_device_feature_dma_logging_report>() == REPORT_SIZE);
const _: () = assert!(offset_of!(b::vfio_device_feature_dma_logging_report, page_size) + 8 == REPORT_PAGE_SIZE);
const _: () = assert!(offset_of!(b::vfio_device_feature_dma_logging_report, bitmap) + 8 == REPORT_BITMAP);
