//! Opens a device of the kernel. A cdev is taken where there is one and an iommufd; else the group with a container of type 1.

use super::ioctl;
use crate::host::{Host, KernelDevice, Trouble};
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A device fd, and what has to stay open with it.
pub struct Open {
    pub fd: OwnedFd,
    pub keep: Vec<OwnedFd>,
    pub iommu_dirty: Option<bool>,
    pub by_cdev: bool,
}

pub fn open(host: &Host, device: &KernelDevice) -> Result<Open, Trouble> {
    let iommufd = Path::new("/dev/iommu");
    match device.cdev.as_deref().filter(|cdev| host.path(cdev).exists() && host.path(iommufd).exists()) {
        Some(cdev) => by_cdev(host, cdev, iommufd),
        None => by_group(host, device),
    }
}

fn node(host: &Host, path: &Path) -> Result<OwnedFd, Trouble> {
    let file = OpenOptions::new().read(true).write(true).open(host.path(path));
    file.map(OwnedFd::from).map_err(|error| failed(&format!("opening {}", path.display()), &error))
}

fn failed(what: &str, error: &io::Error) -> Trouble {
    let next = match error.raw_os_error().unwrap_or(0) {
        libc::EACCES | libc::EPERM => "run as root, or as a user that may open the devices of /dev/vfio",
        libc::EBUSY => "another program has the device: end it, and try again",
        libc::ENOENT | libc::ENODEV => "load the modules vfio and vfio_iommu_type1, or iommufd",
        _ => "look at the kernel's log (dmesg)",
    };
    Trouble::new(format!("{what} failed: {error}"), next)
}

fn by_cdev(host: &Host, cdev: &Path, iommufd: &Path) -> Result<Open, Trouble> {
    let fd = node(host, cdev)?;
    let iommu = node(host, iommufd)?;
    let bound = ioctl::bind_iommufd(&fd, &iommu);
    let id = bound.map_err(|error| failed(&format!("binding {} to an iommufd", cdev.display()), &error))?;
    // A mediated device has no IOMMU before it, so the request fails.
    let iommu_dirty = ioctl::hw_can_log(&iommu, id).ok();
    Ok(Open { fd, keep: vec![iommu], iommu_dirty, by_cdev: true })
}

fn by_group(host: &Host, device: &KernelDevice) -> Result<Open, Trouble> {
    let path = device.group_node().ok_or_else(|| Trouble::new("it has no group", "switch the IOMMU on").of_device())?;
    let container = node(host, Path::new("/dev/vfio/vfio"))?;
    let group = node(host, &path)?;
    let viable = ioctl::group_is_viable(&group).map_err(|error| failed("asking the group", &error))?;
    if !viable {
        let what = format!("the group {} is not viable: a host driver has one of its devices", path.display());
        return Err(Trouble::new(what, "bind all devices of the group to VFIO drivers").of_device());
    }
    ioctl::set_container(&group, &container).map_err(|error| failed("VFIO_GROUP_SET_CONTAINER", &error))?;
    ioctl::set_type1(&container).map_err(|error| failed("VFIO_SET_IOMMU", &error))?;
    let id = CString::new(device.id.as_str()).map_err(|_| Trouble::new("its name has a NUL", "name another device"))?;
    let fd = ioctl::device_of(&group, &id).map_err(|error| failed("VFIO_GROUP_GET_DEVICE_FD", &error))?;
    Ok(Open { fd, keep: vec![group, container], iommu_dirty: None, by_cdev: false })
}
