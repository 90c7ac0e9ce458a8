//! A hostile device as a Rust transport.

use super::{Answer, Shared};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use vfiomig::error::{Errno, Error};
use vfiomig::transport::{DataFd, Feature, Mapped, PrecopyInfo, Returned, Transport};

pub struct HostileTransport(pub Arc<Shared>);

fn errno<T>(result: Answer<T>) -> Result<T, Errno> {
    result.map_err(Errno::new)
}

impl Transport for HostileTransport {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        errno(self.0.device_info(info))
    }
    fn any_thread(&self) -> bool {
        self.0.any_thread
    }
    fn report_adds_bits(&self) -> bool {
        self.0.adds
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        errno(self.0.feature(feature.request_mut()))
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        errno(self.0.region_info(info))
    }
    fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        errno(self.0.region_read(index, offset, buf))
    }
    fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        errno(self.0.region_write(index, offset, buf))
    }
    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        let memory = NonNull::new(errno(self.0.region_map(index, offset, len))?).unwrap();
        let device = Arc::clone(&self.0);
        // SAFETY: the device has mapped so much, and keeps it until it is unmapped.
        Ok(unsafe { Mapped::new(memory, len, move |memory, len| device.region_unmap(index, memory.as_ptr(), len)) })
    }
    fn reset(&self) -> Result<(), Errno> {
        errno(self.0.reset())
    }
    fn open_data(&self, _data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        self.0.st.lock().data_objects += 1;
        Ok(Box::new(HostileData(Arc::clone(&self.0))))
    }
}

struct HostileData(Arc<Shared>);

impl DataFd for HostileData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        errno(self.0.data_read(buf))
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        errno(self.0.data_write(buf))
    }
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        errno(self.0.precopy_info(info.request_mut()))
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for HostileData {
    fn drop(&mut self) {
        self.0.data_close();
    }
}
