//! ioctl numbers. VFIO encodes neither size nor direction: `_IO(';', 100 + n)`. No direction is a bit of its own on some processors
//! (powerpc), which libc knows and the macros of vmm-sys-util do not.

use std::ffi::c_ulong;
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE};

/// libc has the number as an int where the C library is musl.
const fn io(number: u32) -> c_ulong {
    libc::_IO(VFIO_TYPE as u32, number) as c_ulong
}

pub(crate) const VFIO_DEVICE_GET_INFO: c_ulong = io(VFIO_BASE + 7);
pub(crate) const VFIO_DEVICE_GET_REGION_INFO: c_ulong = io(VFIO_BASE + 8);
pub(crate) const VFIO_DEVICE_RESET: c_ulong = io(VFIO_BASE + 11);
pub(crate) const VFIO_DEVICE_FEATURE: c_ulong = io(VFIO_BASE + 17);
// Issued on a container. DIRTY_PAGES has DEVICE_FEATURE's number: the fd distinguishes them.
pub(crate) const VFIO_IOMMU_GET_INFO: c_ulong = io(VFIO_BASE + 12);
pub(crate) const VFIO_IOMMU_UNMAP_DMA: c_ulong = io(VFIO_BASE + 14);
pub(crate) const VFIO_IOMMU_DIRTY_PAGES: c_ulong = io(VFIO_BASE + 17);
// Issued on /dev/iommu.
pub(crate) const IOMMU_IOAS_UNMAP: c_ulong = io(0x86);
pub(crate) const IOMMU_HWPT_SET_DIRTY_TRACKING: c_ulong = io(0x8b);
pub(crate) const IOMMU_HWPT_GET_DIRTY_BITMAP: c_ulong = io(0x8c);
// Issued on the data fd, not on the device fd.
pub(crate) const VFIO_MIG_GET_PRECOPY_INFO: c_ulong = io(VFIO_BASE + 21);

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: c_ulong = if cfg!(target_arch = "powerpc64") { 0x2000_0000 } else { 0 };

    #[test]
    fn numbers_are_those_of_the_kernel_header() {
        assert_eq!(VFIO_DEVICE_GET_INFO, NONE | 0x3b6b);
        assert_eq!(VFIO_DEVICE_GET_REGION_INFO, NONE | 0x3b6c);
        assert_eq!(VFIO_DEVICE_RESET, NONE | 0x3b6f);
        assert_eq!(VFIO_DEVICE_FEATURE, NONE | 0x3b75);
        assert_eq!(VFIO_MIG_GET_PRECOPY_INFO, NONE | 0x3b79);
        assert_eq!(VFIO_IOMMU_GET_INFO, NONE | 0x3b70);
        assert_eq!(VFIO_IOMMU_UNMAP_DMA, NONE | 0x3b72);
        assert_eq!(VFIO_IOMMU_DIRTY_PAGES, NONE | 0x3b75);
        assert_eq!(IOMMU_IOAS_UNMAP, NONE | 0x3b86);
        assert_eq!(IOMMU_HWPT_SET_DIRTY_TRACKING, NONE | 0x3b8b);
        assert_eq!(IOMMU_HWPT_GET_DIRTY_BITMAP, NONE | 0x3b8c);
    }
}
