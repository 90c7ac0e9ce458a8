//! iommufd: the dirty log of hardware page tables, and the unmap that goes with it (I1 to I11). The VMM opened it, made the page
//! tables with dirty tracking, and maps memory itself.
//!
//! Example: [`Iommufd`].

use super::dma_log::check_bitmap;
use super::feature::{Aligned, address, check_argsz, field, put};
use super::{Identity, kernel};
use crate::error::Errno;
use crate::uapi::{ioctl as io, iommufd as u};
use std::os::fd::{AsFd, AsRawFd};
use vmm_sys_util::ioctl::ioctl_with_mut_ptr;

/// Requests to an iommufd, in the kernel's own layouts; one in software implements it too. An argument starts with
/// its size, which is that of the request's struct and no more than the length of the slice (else EINVAL).
///
/// ```
/// use std::sync::Arc;
/// use vfiomig::error::Errno;
/// use vfiomig::tracker::{IovaRange, LogKind, Mapping, Tracker, TrackerOptions};
/// use vfiomig::transport::iommufd::Iommufd;
///
/// /// Counts the requests on their way to an iommufd.
/// struct Counting<I>(I, std::sync::atomic::AtomicU32);
///
/// impl<I: Iommufd> Iommufd for Counting<I> {
///     fn set_dirty_tracking(&self, argument: &mut [u8]) -> Result<(), Errno> {
///         self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///         self.0.set_dirty_tracking(argument)
///     }
///     unsafe fn get_dirty_bitmap(&self, argument: &mut [u8]) -> Result<(), Errno> {
///         // SAFETY: the same contract.
///         unsafe { self.0.get_dirty_bitmap(argument) }
///     }
///     fn ioas_unmap(&self, argument: &mut [u8]) -> Result<(), Errno> {
///         self.0.ioas_unmap(argument)
///     }
/// }
///
/// // An iommufd in software; one of the kernel is a `KernelIommufd`.
/// let space = simdev::Space::new(&simdev::Ram::new());
/// space.map(simdev::Mapping { iova: 0, size: 1 << 20, ram: 0 }).unwrap();
/// let iommufd = simdev::Iommufd::new(simdev::IommufdConfig::default());
/// let ioas = iommufd.ioas(&space);
/// let hwpt = iommufd.hwpt(ioas, 4096, true);
/// let iommufd = Arc::new(Counting(iommufd, Default::default()));
///
/// let hwpts = Some((Arc::clone(&iommufd) as Arc<dyn Iommufd>, vec![hwpt]));
/// let tracker = Tracker::new(TrackerOptions { hwpts, ioas_id: Some(ioas), ..TrackerOptions::default() })?;
/// tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 0 }])?;
/// tracker.start()?;
/// assert_eq!(tracker.info().kind, LogKind::Hwpt);
/// assert_eq!(iommufd.1.load(std::sync::atomic::Ordering::Relaxed), 1);
/// # tracker.stop()?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub trait Iommufd: Send + Sync {
    /// By what two values are known as one thing; `None`: by the address of the value that is shared.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// `IOMMU_HWPT_SET_DIRTY_TRACKING`.
    fn set_dirty_tracking(&self, argument: &mut [u8]) -> Result<(), Errno>;

    /// `IOMMU_HWPT_GET_DIRTY_BITMAP`.
    ///
    /// # Safety
    /// The bitmap that the argument names is writable to the end of its last page, and nothing else uses it while the request
    /// lasts.
    unsafe fn get_dirty_bitmap(&self, argument: &mut [u8]) -> Result<(), Errno>;

    /// `IOMMU_IOAS_UNMAP`.
    fn ioas_unmap(&self, argument: &mut [u8]) -> Result<(), Errno>;
}

/// An iommufd of the kernel, borrowed for as long as this lives.
///
/// ```
/// use std::fs::File;
/// use vfiomig::transport::Identity;
/// use vfiomig::transport::iommufd::{Iommufd, KernelIommufd};
///
/// // A VMM has an open /dev/iommu. This descriptor is of another kind, and knows none of the requests.
/// let iommufd = KernelIommufd(File::open("/dev/null")?);
/// assert!(matches!(iommufd.identity(), Some(Identity::Fd(_))));
/// let mut argument = [0u8; 16];
/// argument[0] = 16;
/// assert_eq!(iommufd.set_dirty_tracking(&mut argument).unwrap_err().get(), libc::ENOTTY);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct KernelIommufd<F>(pub F);

impl<F: AsFd + Send + Sync> KernelIommufd<F> {
    /// EINVAL, and the kernel is not asked, if the argument's own size is beyond its end or less than `least`.
    ///
    /// # Safety
    /// `number` takes a struct of `least` bytes, and pointers in `argument` are valid for the request.
    unsafe fn request(&self, number: libc::c_ulong, argument: &mut [u8], least: usize) -> Result<(), Errno> {
        check_argsz(argument, least)?;
        let fd = self.0.as_fd().as_raw_fd();
        // SAFETY: the kernel writes no further than the size says, which is within `argument`; the rest is the contract of this
        // function.
        kernel::check(unsafe { ioctl_with_mut_ptr(&fd, number, argument.as_mut_ptr()) })
    }
}

impl<F: AsFd + Send + Sync> Iommufd for KernelIommufd<F> {
    fn identity(&self) -> Option<Identity> {
        Some(Identity::Fd(self.0.as_fd().as_raw_fd()))
    }

    fn set_dirty_tracking(&self, argument: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the struct holds no pointer.
        unsafe { self.request(io::IOMMU_HWPT_SET_DIRTY_TRACKING, argument, u::SET_DIRTY_SIZE) }
    }

    unsafe fn get_dirty_bitmap(&self, argument: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the contract of this function.
        unsafe { self.request(io::IOMMU_HWPT_GET_DIRTY_BITMAP, argument, u::GET_DIRTY_SIZE) }
    }

    fn ioas_unmap(&self, argument: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the struct holds no pointer.
        unsafe { self.request(io::IOMMU_IOAS_UNMAP, argument, u::IOAS_UNMAP_SIZE) }
    }
}

/// Switches tracking on or off. On clears every bit, even if it was on: a second time loses data (I2).
pub(crate) fn set_tracking(iommufd: &dyn Iommufd, hwpt: u32, on: bool) -> Result<(), Errno> {
    let mut argument = Aligned([0u8; u::SET_DIRTY_SIZE]);
    put(&mut argument.0, 0, &(u::SET_DIRTY_SIZE as u32).to_ne_bytes());
    put(&mut argument.0, u::SET_DIRTY_FLAGS, &(if on { u::SET_DIRTY_ENABLE } else { 0 }).to_ne_bytes());
    put(&mut argument.0, u::SET_DIRTY_HWPT, &hwpt.to_ne_bytes());
    iommufd.set_dirty_tracking(&mut argument.0)
}

/// One contiguous mapped area (I4, I5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub hwpt: u32,
    pub iova: u64,
    pub length: u64,
    pub page_size: u64,
    /// Leave the bits as they are, for an unmap that follows (I9).
    pub keep: bool,
}

/// Sets the bits of what was written. `bitmap` is whole pages (I6), touched (I7).
pub(crate) fn read(iommufd: &dyn Iommufd, query: Query, bitmap: &mut [u64]) -> Result<(), Errno> {
    if !query.page_size.is_power_of_two() {
        return Err(Errno::new(libc::EINVAL));
    }
    check_bitmap(bitmap, query.length.div_ceil(query.page_size))?;
    let mut argument = Aligned([0u8; u::GET_DIRTY_SIZE]);
    put(&mut argument.0, 0, &(u::GET_DIRTY_SIZE as u32).to_ne_bytes());
    put(&mut argument.0, u::GET_DIRTY_HWPT, &query.hwpt.to_ne_bytes());
    let flags = if query.keep { u::GET_DIRTY_NO_CLEAR } else { 0 };
    put(&mut argument.0, u::GET_DIRTY_FLAGS, &flags.to_ne_bytes());
    put(&mut argument.0, u::GET_DIRTY_IOVA, &query.iova.to_ne_bytes());
    put(&mut argument.0, u::GET_DIRTY_LENGTH, &query.length.to_ne_bytes());
    put(&mut argument.0, u::GET_DIRTY_PAGE_SIZE, &query.page_size.to_ne_bytes());
    put(&mut argument.0, u::GET_DIRTY_DATA, &address(bitmap.as_mut_ptr().cast_const()).to_ne_bytes());
    // SAFETY: `bitmap` is this call's own, whole pages, and long enough (check_bitmap).
    unsafe { iommufd.get_dirty_bitmap(&mut argument.0) }
}

/// Unmaps; returns the bytes that were unmapped.
pub(crate) fn unmap(iommufd: &dyn Iommufd, ioas: u32, iova: u64, length: u64) -> Result<u64, Errno> {
    let mut argument = Aligned([0u8; u::IOAS_UNMAP_SIZE]);
    put(&mut argument.0, 0, &(u::IOAS_UNMAP_SIZE as u32).to_ne_bytes());
    put(&mut argument.0, u::IOAS_UNMAP_IOAS, &ioas.to_ne_bytes());
    put(&mut argument.0, u::IOAS_UNMAP_IOVA, &iova.to_ne_bytes());
    put(&mut argument.0, u::IOAS_UNMAP_LENGTH, &length.to_ne_bytes());
    iommufd.ioas_unmap(&mut argument.0)?;
    Ok(field(&argument.0, u::IOAS_UNMAP_LENGTH).map_or(0, u64::from_ne_bytes))
}
