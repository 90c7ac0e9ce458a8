//! Kernel layouts and numbers: constants from `vfio-bindings`, what it lacks, and asserts that both agree. No code.
//!
//! May import: nothing. Start reading at the file of the request in question: one per part of the kernel's header.
//!
//! Follows: P27; `include/uapi/linux/vfio.h` of Linux 7.2, from which `vfio-bindings` is generated, and `iommufd.h`.

pub(crate) mod device;
pub(crate) mod dma_log;
pub(crate) mod feature;
pub(crate) mod ioctl;
pub(crate) mod iommufd;
pub(crate) mod migration_region;
pub(crate) mod region;
pub(crate) mod type1;
