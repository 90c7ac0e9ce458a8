//! The requests that open a device: of groups and containers, of cdevs and of /dev/iommu. Numbers and layouts are those of
//! linux/vfio.h and linux/iommufd.h.

use libc::Ioctl;
use std::ffi::{CStr, c_ulong, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Not a constant of all processors: no direction is a bit of its own on powerpc.
const fn code(number: u32) -> Ioctl {
    libc::_IO(b';' as u32, number)
}

const SET_IOMMU: Ioctl = code(0x66);
const GROUP_GET_STATUS: Ioctl = code(0x67);
const GROUP_SET_CONTAINER: Ioctl = code(0x68);
const GROUP_GET_DEVICE_FD: Ioctl = code(0x6a);
const DEVICE_BIND_IOMMUFD: Ioctl = code(0x76);
const IOMMU_GET_HW_INFO: Ioctl = code(0x8a);
const TYPE1V2_IOMMU: c_ulong = 3;
const GROUP_VIABLE: u32 = 1;
const HW_CAP_DIRTY_TRACKING: u64 = 1;

/// Makes one request.
///
/// # Safety
/// `argument` is what the request takes: a number, or the address of its struct.
unsafe fn request(fd: &OwnedFd, number: Ioctl, argument: *mut c_void) -> io::Result<i32> {
    // SAFETY: the contract of this function.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether no host driver has a device of the group.
pub fn group_is_viable(group: &OwnedFd) -> io::Result<bool> {
    let mut status = [8u32, 0];
    // SAFETY: `status` is a struct vfio_group_status, {u32 argsz, u32 flags}, of the size that argsz says.
    unsafe { request(group, GROUP_GET_STATUS, status.as_mut_ptr().cast()) }?;
    Ok(status[1] & GROUP_VIABLE != 0)
}

/// Puts the group into the container.
pub fn set_container(group: &OwnedFd, container: &OwnedFd) -> io::Result<()> {
    let mut fd = container.as_raw_fd();
    // SAFETY: the request reads a descriptor's number at the address.
    unsafe { request(group, GROUP_SET_CONTAINER, (&raw mut fd).cast()) }.map(drop)
}

/// Makes the container one of type 1.
pub fn set_type1(container: &OwnedFd) -> io::Result<()> {
    // SAFETY: the request takes a number.
    unsafe { request(container, SET_IOMMU, std::ptr::without_provenance_mut(TYPE1V2_IOMMU as usize)) }.map(drop)
}

/// The device of the group with that name.
pub fn device_of(group: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the request reads a string that ends with a zero.
    let fd = unsafe { request(group, GROUP_GET_DEVICE_FD, name.as_ptr().cast_mut().cast()) }?;
    // SAFETY: the kernel made the descriptor for this call, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a cdev to an iommufd. Returns the number that the device has there.
pub fn bind_iommufd(device: &OwnedFd, iommufd: &OwnedFd) -> io::Result<u32> {
    let mut bind = [16u32, 0, u32::from_ne_bytes(iommufd.as_raw_fd().to_ne_bytes()), 0];
    // SAFETY: `bind` is a struct vfio_device_bind_iommufd, {u32 argsz, u32 flags, s32 iommufd, u32 out_devid}, of the size that
    // argsz says.
    unsafe { request(device, DEVICE_BIND_IOMMUFD, bind.as_mut_ptr().cast()) }?;
    Ok(bind[3])
}

/// Whether the IOMMU before the device notes which pages are written (I1).
pub fn hw_can_log(iommufd: &OwnedFd, device: u32) -> io::Result<bool> {
    // struct iommu_hw_info {u32 size, flags, dev_id, data_len; u64 data_uptr; u32 out_data_type, out_max_pasid_log2 and reserved;
    // u64 out_capabilities}: no data is asked for.
    let low_first = |low: u32, high: u32| {
        if cfg!(target_endian = "little") {
            u64::from(high) << 32 | u64::from(low)
        } else {
            u64::from(low) << 32 | u64::from(high)
        }
    };
    let mut info = [low_first(40, 0), low_first(device, 0), 0, 0, 0];
    // SAFETY: `info` is that struct, of the 40 bytes that its size says; with a data_len of 0 data_uptr is not used.
    unsafe { request(iommufd, IOMMU_GET_HW_INFO, info.as_mut_ptr().cast()) }?;
    Ok(info[4] & HW_CAP_DIRTY_TRACKING != 0)
}
