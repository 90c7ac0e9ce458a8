//! ioctl numbers. VFIO encodes neither size nor direction: `_IO(';', 100 + n)`.

use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE};
use vmm_sys_util::ioctl_io_nr;

ioctl_io_nr!(VFIO_DEVICE_GET_INFO, VFIO_TYPE as u32, VFIO_BASE + 7);
ioctl_io_nr!(VFIO_DEVICE_GET_REGION_INFO, VFIO_TYPE as u32, VFIO_BASE + 8);
ioctl_io_nr!(VFIO_DEVICE_RESET, VFIO_TYPE as u32, VFIO_BASE + 11);
ioctl_io_nr!(VFIO_DEVICE_FEATURE, VFIO_TYPE as u32, VFIO_BASE + 17);
// Issued on a container. DIRTY_PAGES has DEVICE_FEATURE's number: the fd distinguishes them.
ioctl_io_nr!(VFIO_IOMMU_GET_INFO, VFIO_TYPE as u32, VFIO_BASE + 12);
ioctl_io_nr!(VFIO_IOMMU_UNMAP_DMA, VFIO_TYPE as u32, VFIO_BASE + 14);
ioctl_io_nr!(VFIO_IOMMU_DIRTY_PAGES, VFIO_TYPE as u32, VFIO_BASE + 17);
// Issued on /dev/iommu.
ioctl_io_nr!(IOMMU_IOAS_UNMAP, VFIO_TYPE as u32, 0x86);
ioctl_io_nr!(IOMMU_HWPT_SET_DIRTY_TRACKING, VFIO_TYPE as u32, 0x8b);
ioctl_io_nr!(IOMMU_HWPT_GET_DIRTY_BITMAP, VFIO_TYPE as u32, 0x8c);
// Issued on the data fd, not on the device fd.
ioctl_io_nr!(VFIO_MIG_GET_PRECOPY_INFO, VFIO_TYPE as u32, VFIO_BASE + 21);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_header() {
        assert_eq!(VFIO_DEVICE_GET_INFO(), 0x3b6b);
        assert_eq!(VFIO_DEVICE_GET_REGION_INFO(), 0x3b6c);
        assert_eq!(VFIO_DEVICE_RESET(), 0x3b6f);
        assert_eq!(VFIO_DEVICE_FEATURE(), 0x3b75);
        assert_eq!(VFIO_MIG_GET_PRECOPY_INFO(), 0x3b79);
        assert_eq!(VFIO_IOMMU_GET_INFO(), 0x3b70);
        assert_eq!(VFIO_IOMMU_UNMAP_DMA(), 0x3b72);
        assert_eq!(VFIO_IOMMU_DIRTY_PAGES(), 0x3b75);
        assert_eq!(IOMMU_IOAS_UNMAP(), 0x3b86);
        assert_eq!(IOMMU_HWPT_SET_DIRTY_TRACKING(), 0x3b8b);
        assert_eq!(IOMMU_HWPT_GET_DIRTY_BITMAP(), 0x3b8c);
    }
}
