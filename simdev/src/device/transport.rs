//! The device as the library's `Transport`.

use super::handle::Device;
use super::requests::Shared;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vfiomig::error::{Errno, Error, ErrorKind};
use vfiomig::transport::{DataFd, Feature, Mapped, PrecopyInfo, Returned, Transport};

impl Device {
    /// A transport to the device. It keeps the device alive.
    pub fn transport(&self) -> Box<dyn Transport> {
        self.0.opened();
        Box::new(Direct(Arc::clone(&self.0)))
    }
}

struct Direct(Arc<Shared>);

impl Drop for Direct {
    fn drop(&mut self) {
        self.0.closed();
    }
}

fn errno<T>(result: Result<T, i32>) -> Result<T, Errno> {
    result.map_err(Errno::new)
}

impl Transport for Direct {
    fn report_adds_bits(&self) -> bool {
        self.0.report_adds_bits
    }
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        errno(self.0.device_info(info))
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        errno(self.0.feature(feature.request_mut()))?;
        if self.0.real_fd {
            // SAFETY: the device made the descriptor for the client that now takes it, and its number has no other owner.
            unsafe { feature.returns_fd() };
        }
        Ok(())
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
        let memory = errno(self.0.region_map(index, offset, len))?;
        let device = Arc::clone(&self.0);
        // SAFETY: the device has mapped so much for this client, and keeps it until it is unmapped.
        Ok(unsafe { Mapped::new(memory, len, move |memory, len| device.region_unmap(index, memory, len)) })
    }
    fn reset(&self) -> Result<(), Errno> {
        errno(self.0.reset())
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        match data_fd {
            Some(Returned::Owned(fd)) => return Ok(Box::new(RealData(fd.into()))),
            Some(Returned::Number(_)) if !self.0.real_fd => {}
            _ => return Err(Error::new(ErrorKind::Protocol, libc::EPROTO, "the state change brought no data fd")),
        }
        let poll = self.0.machine.lock().poll_fd();
        Ok(Box::new(Data { device: Arc::clone(&self.0), session: self.0.session_number(), poll }))
    }
}

struct Data {
    device: Arc<Shared>,
    session: u64,
    poll: Option<Arc<OwnedFd>>,
}

impl DataFd for Data {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        errno(self.device.data_read(Some(self.session), buf))
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        errno(self.device.data_write(Some(self.session), buf))
    }
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        errno(self.device.precopy_info(Some(self.session), info.request_mut()))
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.poll.is_some() {
            self.device.machine.lock().update_poll();
        }
        self.poll.as_ref().map(|fd| fd.as_fd())
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.device.data_close();
    }
}

struct RealData(File);

fn os(error: std::io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
}

impl DataFd for RealData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.0.read(buf).map_err(os)
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        self.0.write(buf).map_err(os)
    }
    fn precopy_info(&mut self, _info: &mut PrecopyInfo) -> Result<(), Errno> {
        Err(Errno::new(libc::ENOTTY))
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
