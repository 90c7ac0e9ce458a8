//! The device as a test holds it, with the requests of a client.

use super::requests::Shared;
use crate::config::Config;
use std::ptr::NonNull;
use std::sync::Arc;

/// A software device; clones are the same device.
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Shared>);

impl Device {
    /// A device in RUNNING.
    ///
    /// # Panics
    /// If the parts of `config` do not fit together.
    pub fn new(config: Config) -> Self {
        Device(Arc::new(Shared::new(config)))
    }
}

/// The requests of a client, as a kernel driver gets them; errors are positive errno values.
impl Device {
    /// VFIO_DEVICE_GET_INFO.
    pub fn device_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.0.device_info(info)
    }

    /// VFIO_DEVICE_GET_REGION_INFO.
    pub fn region_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.0.region_info(info)
    }

    /// VFIO_DEVICE_FEATURE, header and payload.
    pub fn feature(&self, bytes: &mut [u8]) -> Result<(), i32> {
        self.0.feature(bytes)
    }

    /// pread().
    pub fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, i32> {
        self.0.region_read(index, offset, buf)
    }

    /// pwrite().
    pub fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, i32> {
        self.0.region_write(index, offset, buf)
    }

    /// mmap(). The memory stays valid until it is unmapped, also after the device is gone.
    pub fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<NonNull<u8>, i32> {
        self.0.region_map(index, offset, len)
    }

    /// munmap().
    pub fn region_unmap(&self, index: u32, memory: NonNull<u8>, len: usize) {
        self.0.region_unmap(index, memory, len);
    }

    /// VFIO_DEVICE_RESET.
    pub fn reset(&self) -> Result<(), i32> {
        self.0.reset()
    }

    /// read() of the data fd, where it is served by functions.
    pub fn data_read(&self, buf: &mut [u8]) -> Result<usize, i32> {
        self.0.data_read(None, buf)
    }

    /// write() of the data fd.
    pub fn data_write(&self, buf: &[u8]) -> Result<usize, i32> {
        self.0.data_write(None, buf)
    }

    /// VFIO_MIG_GET_PRECOPY_INFO.
    pub fn precopy_info(&self, info: &mut [u8]) -> Result<(), i32> {
        self.0.precopy_info(None, info)
    }

    /// close() of the data fd.
    pub fn data_close(&self) {
        self.0.data_close();
    }
}
