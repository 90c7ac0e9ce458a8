//! A hostile device as a Rust transport.

use super::{Answer, Shared};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use vfiomig::error::{Errno, Error};
use vfiomig::transport::{DataFd, Feature, PrecopyInfo, Transport};

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
        errno(self.0.feature(feature.bytes_mut()))
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
    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<NonNull<u8>, Errno> {
        errno(self.0.region_map(index, offset, len)).map(|ptr| NonNull::new(ptr).unwrap())
    }
    fn region_unmap(&self, index: u32, memory: NonNull<u8>, len: usize) {
        self.0.region_unmap(index, memory.as_ptr(), len);
    }
    fn reset(&self) -> Result<(), Errno> {
        errno(self.0.reset())
    }
    fn open_data(&self, _data_fd: Option<i32>) -> Result<Box<dyn DataFd>, Error> {
        self.0.st.lock().data_objects += 1;
        Ok(Box::new(HostileData(Arc::clone(&self.0))))
    }
    fn data_fd_is_real(&self) -> bool {
        false
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
        errno(self.0.precopy_info(info.bytes_mut()))
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
