//! The DMA log of a device that others migrate (L1 to L9). The library asks it for its log and for nothing else.

use super::ranged::Keeper;
use super::ranges::IovaRange;
use crate::error::Errno;
use crate::transport::signals::Blocked;
use crate::transport::{Transport, dma_log};
use std::sync::Arc;

/// A device of the address space for which there is no [`Device`](crate::device::Device).
#[derive(Clone)]
pub(crate) struct ForeignDevice {
    pub name: String,
    /// How its log is reached; `None`: it is not the library's to read.
    pub log: Option<Arc<dyn Transport>>,
}

impl ForeignDevice {
    /// The log, or why there is none to be used. *Asks the kernel.*
    pub fn own_log(&self) -> Result<ForeignLog, String> {
        let name = &self.name;
        let Some(transport) = &self.log else {
            return Err(format!("{name} is not the library's, so its log is not"));
        };
        let _blocked = Blocked::new();
        if !dma_log::probe(&**transport) {
            return Err(format!("{name} keeps no log of its own"));
        }
        Ok(ForeignLog { name: name.clone(), transport: Arc::clone(transport) })
    }
}

/// Its log.
#[derive(Clone)]
pub(crate) struct ForeignLog {
    name: String,
    pub transport: Arc<dyn Transport>,
}

impl Keeper for ForeignLog {
    fn describe(&self) -> String {
        format!("DMA log of {} (foreign)", self.name)
    }
    fn any_thread(&self) -> bool {
        self.transport.any_thread()
    }
    fn start(&self, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, Errno> {
        let _blocked = Blocked::new();
        dma_log::start(&*self.transport, page_size, ranges)
    }
    fn report(&self, range: IovaRange, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
        let _blocked = Blocked::new();
        dma_log::report(&*self.transport, range.iova, range.size, page_size, bitmap)
    }
    fn stop(&self) -> Result<(), Errno> {
        let _blocked = Blocked::new();
        dma_log::stop(&*self.transport)
    }
    fn adds_bits(&self) -> bool {
        self.transport.report_adds_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::signals::is_blocked;
    use crate::transport::{DataFd, Feature, Returned};
    use parking_lot::Mutex;

    /// A page of any host.
    #[repr(C, align(65536))]
    struct Page([u64; 8192]);

    /// Whether signals were blocked in each request.
    struct Listens(Mutex<Vec<bool>>);

    impl Transport for Listens {
        fn device_info(&self, _: &mut [u8]) -> Result<(), Errno> {
            Ok(())
        }
        fn device_feature(&self, _: &mut Feature) -> Result<(), Errno> {
            self.0.lock().push(is_blocked(libc::SIGTERM));
            Ok(())
        }
        fn open_data(&self, _: Option<Returned>) -> crate::error::Result<Box<dyn DataFd>> {
            Err(Errno::new(libc::ENOTTY).into())
        }
    }

    /// P1: it is a request on a device fd, whichever thread makes it.
    #[test]
    fn no_signal_comes_in_a_request() {
        let transport = Arc::new(Listens(Mutex::default()));
        let device = ForeignDevice { name: "peer".into(), log: Some(Arc::clone(&transport) as Arc<dyn Transport>) };
        let log = device.own_log().unwrap();
        log.start(4096, &[[0, 1 << 30]]).unwrap();
        let mut page = Box::new(Page([0; 8192]));
        log.report(IovaRange { iova: 0, size: 1 << 20 }, 4096, &mut page.0).unwrap();
        log.stop().unwrap();
        assert_eq!(*transport.0.lock(), [true; 4]);
        assert!(!is_blocked(libc::SIGTERM));
    }
}
