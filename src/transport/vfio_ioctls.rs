//! Devices and containers of the crate vfio-ioctls, as Cloud Hypervisor and others have them.
//!
//! Example: [`VfioHandle`].

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use vfio_ioctls::{VfioContainer, VfioDevice};

/// A handle of vfio-ioctls as the transports of this crate take it: it lends the descriptor and keeps the handle alive.
///
/// The library asks the kernel by itself. While a device is in use here, nothing else asks for its migration states, its data fd
/// or its DMA log: not the calls of vfio-ioctls either.
///
/// ```no_run
/// use std::sync::Arc;
/// use vfio_ioctls::{VfioContainer, VfioDevice};
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::tracker::{self, Tracker};
/// use vfiomig::transport::{kernel::Kernel, type1::KernelContainer, vfio_ioctls::VfioHandle};
///
/// fn open(device: Arc<VfioDevice>, container: Arc<VfioContainer>) -> vfiomig::Result<(Arc<Device>, Tracker)> {
///     let options = DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() };
///     let device = Arc::new(Device::new(Box::new(Kernel::new(VfioHandle(device))), options)?);
///     let tracker = Tracker::new(tracker::TrackerOptions {
///         name: "ram".into(),
///         container: Some(Arc::new(KernelContainer(VfioHandle(container)))),
///         devices: vec![Arc::clone(&device)],
///         ..tracker::TrackerOptions::default()
///     })?;
///     Ok((device, tracker))
/// }
/// ```
pub struct VfioHandle<T>(pub Arc<T>);

macro_rules! lends_its_descriptor {
    ($($handle:ty),*) => {$(
        impl AsFd for VfioHandle<$handle> {
            fn as_fd(&self) -> BorrowedFd<'_> {
                // SAFETY: the handle owns the descriptor and closes it when it is dropped, which this keeps from happening.
                unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
            }
        }
    )*};
}

lends_its_descriptor!(VfioDevice, VfioContainer);
