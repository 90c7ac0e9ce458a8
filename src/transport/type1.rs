//! A type1 container: its dirty log and the unmap that goes with it (T1 to T9). The VMM opened it and maps memory itself.
//!
//! Example: [`Container`].

use super::dma_log::check_bitmap;
use super::feature::{Aligned, AlignedVec, address, check_argsz, field, put};
use super::{Identity, caps, kernel};
use crate::error::Errno;
use crate::uapi::{ioctl as io, type1 as u};
use std::os::fd::{AsFd, AsRawFd};
use vmm_sys_util::ioctl::ioctl_with_mut_ptr;

/// No real chain comes near it; it bounds what a broken container can make the library allocate.
const MAX_ARGSZ: usize = 64 << 10;
const MIN_PAGE: u64 = 4096;

/// Requests to a container, in the kernel's own layouts; a container in software implements it too. An argument starts with
/// argsz, which is no more than the length of the slice (else EINVAL).
///
/// ```
/// use std::sync::Arc;
/// use vfiomig::error::Errno;
/// use vfiomig::tracker::{IovaRange, Mapping, Tracker, TrackerOptions};
/// use vfiomig::transport::type1::Container;
///
/// /// Keeps other threads from the container while a request is in progress.
/// struct Locked<C>(C, std::sync::Mutex<()>);
///
/// impl<C: Container> Container for Locked<C> {
///     fn info(&self, info: &mut [u8]) -> Result<(), Errno> {
///         let _guard = self.1.lock().unwrap();
///         self.0.info(info)
///     }
///     unsafe fn dirty_pages(&self, argument: &mut [u8]) -> Result<(), Errno> {
///         let _guard = self.1.lock().unwrap();
///         // SAFETY: the same contract.
///         unsafe { self.0.dirty_pages(argument) }
///     }
///     unsafe fn unmap_dma(&self, argument: &mut [u8]) -> Result<(), Errno> {
///         let _guard = self.1.lock().unwrap();
///         // SAFETY: the same contract.
///         unsafe { self.0.unmap_dma(argument) }
///     }
/// }
///
/// // A container in software; one of the kernel is a `KernelContainer`.
/// let space = simdev::Space::new(&simdev::Ram::new());
/// space.map(simdev::Mapping { iova: 0, size: 1 << 20, ram: 0 }).unwrap();
/// let type1 = simdev::Type1::new(&space, simdev::Type1Config::default());
///
/// let container = Some(Arc::new(Locked(type1.clone(), Default::default())) as Arc<dyn Container>);
/// let tracker = Tracker::new(TrackerOptions { container, ..TrackerOptions::default() })?;
/// tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 0 }])?;
/// tracker.start()?;
/// assert!(type1.logging());
/// # tracker.stop()?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub trait Container: Send + Sync {
    /// By what two values are known as one thing; `None`: by the address of the value that is shared.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// `VFIO_IOMMU_GET_INFO`: fills `struct vfio_iommu_type1_info` and its capabilities; `info` starts with argsz.
    fn info(&self, info: &mut [u8]) -> Result<(), Errno>;

    /// `VFIO_IOMMU_DIRTY_PAGES`: `struct vfio_iommu_type1_dirty_bitmap`, with the part that reads where its flags say so.
    ///
    /// # Safety
    /// A bitmap that the argument names is writable for its size, and nothing else uses it while the request lasts.
    unsafe fn dirty_pages(&self, argument: &mut [u8]) -> Result<(), Errno>;

    /// `VFIO_IOMMU_UNMAP_DMA`: `struct vfio_iommu_type1_dma_unmap`, with a bitmap where its flags say so.
    ///
    /// # Safety
    /// As for [`dirty_pages`](Self::dirty_pages).
    unsafe fn unmap_dma(&self, argument: &mut [u8]) -> Result<(), Errno>;
}

/// A container fd of the kernel, borrowed for as long as this lives.
///
/// ```
/// use std::fs::File;
/// use vfiomig::transport::type1::{Container, KernelContainer};
///
/// // A VMM has a container of /dev/vfio/vfio. This descriptor is of another kind, and knows none of the requests.
/// let container = KernelContainer(File::open("/dev/null")?);
/// let mut info = [0u8; 64];
/// info[0] = 64;
/// assert_eq!(container.info(&mut info).unwrap_err().get(), libc::ENOTTY);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct KernelContainer<F>(pub F);

impl<F: AsFd + Send + Sync> KernelContainer<F> {
    /// EINVAL, and the kernel is not asked, if the argument's own argsz is beyond its end or less than `least`.
    ///
    /// # Safety
    /// `number` takes a struct of at least `least` bytes, and pointers in `argument` are valid for the request.
    unsafe fn request(&self, number: libc::c_ulong, argument: &mut [u8], least: usize) -> Result<(), Errno> {
        check_argsz(argument, least)?;
        let fd = self.0.as_fd().as_raw_fd();
        // SAFETY: the kernel writes no further than argsz, which is within `argument`, but where pointers say; the rest is the
        // contract of this function.
        kernel::check(unsafe { ioctl_with_mut_ptr(&fd, number, argument.as_mut_ptr()) })
    }
}

impl<F: AsFd + Send + Sync> Container for KernelContainer<F> {
    fn identity(&self) -> Option<Identity> {
        Some(Identity::Fd(self.0.as_fd().as_raw_fd()))
    }

    fn info(&self, info: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the struct holds no pointer.
        unsafe { self.request(io::VFIO_IOMMU_GET_INFO, info, u::INFO_SIZE) }
    }

    unsafe fn dirty_pages(&self, argument: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the contract of this function.
        unsafe { self.request(io::VFIO_IOMMU_DIRTY_PAGES, argument, u::DIRTY_HEADER_SIZE) }
    }

    unsafe fn unmap_dma(&self, argument: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the contract of this function.
        unsafe { self.request(io::VFIO_IOMMU_UNMAP_DMA, argument, u::UNMAP_SIZE) }
    }
}

/// What a container says of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ability {
    /// The one page size that it reports in.
    pub page_size: u64,
    /// Longest bitmap of one request, in bytes.
    pub max_bitmap: u64,
}

/// The migration capability; `None`: the container keeps no log (T1: spapr, iommufd's compatibility mode, before 5.8).
pub(crate) fn ability(container: &dyn Container) -> Result<Option<Ability>, Errno> {
    let mut argsz = u::INFO_SIZE;
    // Twice: with the size that is always there, and with the one that the container names (P6).
    for _ in 0..2 {
        let mut info = AlignedVec::new(argsz);
        put(&mut info, 0, &(argsz as u32).to_ne_bytes());
        container.info(&mut info)?;
        let u32_at = |at| field(&info, at).map_or(0, u32::from_ne_bytes);
        let needed = u32_at(0) as usize;
        if needed > argsz && needed <= MAX_ARGSZ {
            argsz = needed;
            continue;
        }
        let first = if u32_at(u::INFO_FLAGS) & u::INFO_FLAG_CAPS != 0 { u32_at(u::INFO_CAP_OFFSET) } else { 0 };
        let chain = caps::walk(&info, first).map_err(|_| Errno::new(libc::EPROTO))?;
        let u64_at = |bytes: &[u8], at| field(bytes, at).map(u64::from_ne_bytes);
        let found = chain.iter().filter(|cap| cap.id == u::CAP_MIGRATION).find_map(|cap| {
            let sizes = u64_at(cap.bytes, u::CAP_PGSIZE_BITMAP)?;
            let max_bitmap = u64_at(cap.bytes, u::CAP_MAX_BITMAP)?.min(u::MAX_BITMAP);
            // One bit, the smallest page; a container that sets several means its lowest.
            Some(Ability { page_size: sizes & sizes.wrapping_neg(), max_bitmap })
        });
        // No processor has smaller pages, and bitmaps would be so much larger.
        if found.is_some_and(|ability| (1..MIN_PAGE).contains(&ability.page_size)) {
            return Err(Errno::new(libc::EPROTO));
        }
        return Ok(found.filter(|ability| ability.page_size != 0 && ability.max_bitmap > 0));
    }
    Err(Errno::new(libc::EPROTO))
}

fn toggle(container: &dyn Container, flag: u32) -> Result<(), Errno> {
    let mut argument = Aligned([0u8; u::DIRTY_HEADER_SIZE]);
    put(&mut argument.0, 0, &(u::DIRTY_HEADER_SIZE as u32).to_ne_bytes());
    put(&mut argument.0, u::DIRTY_FLAGS, &flag.to_ne_bytes());
    // SAFETY: the argument names no bitmap.
    unsafe { container.dirty_pages(&mut argument.0) }
}

pub(crate) fn start(container: &dyn Container) -> Result<(), Errno> {
    toggle(container, u::FLAG_START)
}

/// The log is freed (T2).
pub(crate) fn stop(container: &dyn Container) -> Result<(), Errno> {
    toggle(container, u::FLAG_STOP)
}

/// `struct vfio_bitmap` at `at`. The size is what the pages need and no more: the kernel refuses less, and looks at no more.
fn put_bitmap(argument: &mut [u8], at: usize, length: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), Errno> {
    let pages = length.checked_div(page_size).ok_or(Errno::new(libc::EINVAL))?;
    check_bitmap(bitmap, pages)?;
    let size = pages.div_ceil(64).saturating_mul(8);
    let mut put_u64 = |offset: usize, value: u64| put(argument, at.saturating_add(offset), &value.to_ne_bytes());
    put_u64(u::BITMAP_PGSIZE, page_size);
    put_u64(u::BITMAP_SIZE, size);
    put_u64(u::BITMAP_DATA, address(bitmap.as_mut_ptr().cast_const()));
    Ok(())
}

/// Reads and clears the log of a range that cuts no mapping (T3). The kernel overwrites words: `bitmap` is zero before (T4).
pub(crate) fn read(
    container: &dyn Container,
    iova: u64,
    length: u64,
    page_size: u64,
    bitmap: &mut [u64],
) -> Result<(), Errno> {
    let mut argument = Aligned([0u8; u::DIRTY_GET_SIZE]);
    put(&mut argument.0, 0, &(u::DIRTY_GET_SIZE as u32).to_ne_bytes());
    put(&mut argument.0, u::DIRTY_FLAGS, &u::FLAG_GET.to_ne_bytes());
    put(&mut argument.0, u::DIRTY_IOVA, &iova.to_ne_bytes());
    put(&mut argument.0, u::DIRTY_LENGTH, &length.to_ne_bytes());
    put_bitmap(&mut argument.0, u::DIRTY_BITMAP, length, page_size, bitmap)?;
    // SAFETY: `bitmap` is this call's own, and put_bitmap gave its address with a size that lies within it.
    unsafe { container.dirty_pages(&mut argument.0) }
}

/// Unmaps, and with `bitmap` (page size, zeroed memory) reads the last state of what was mapped (T7). Returns the bytes that
/// were unmapped.
pub(crate) fn unmap(
    container: &dyn Container,
    iova: u64,
    length: u64,
    bitmap: Option<(u64, &mut [u64])>,
) -> Result<u64, Errno> {
    let size = if bitmap.is_some() { u::UNMAP_GET_SIZE } else { u::UNMAP_SIZE };
    let mut argument = Aligned([0u8; u::UNMAP_GET_SIZE]);
    put(&mut argument.0, 0, &(size as u32).to_ne_bytes());
    put(&mut argument.0, u::UNMAP_IOVA, &iova.to_ne_bytes());
    put(&mut argument.0, u::UNMAP_LENGTH, &length.to_ne_bytes());
    if let Some((page_size, bitmap)) = bitmap {
        put(&mut argument.0, u::UNMAP_FLAGS, &u::UNMAP_FLAG_GET.to_ne_bytes());
        put_bitmap(&mut argument.0, u::UNMAP_BITMAP, length, page_size, bitmap)?;
    }
    let whole = argument.0.get_mut(..size).ok_or(Errno::new(libc::EINVAL))?;
    // SAFETY: as in `read`.
    unsafe { container.unmap_dma(whole) }?;
    Ok(field(&argument.0, u::UNMAP_LENGTH).map_or(0, u64::from_ne_bytes))
}
