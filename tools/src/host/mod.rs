//! What the kernel says of devices before one is opened: sysfs, /dev, /proc and the list of modules. Nothing is changed.
//!
//! Start reading at [`Host`]; `device` is one device, `holders` finds the process that has it open, `modules` the driver that can
//! migrate it.

mod device;
mod holders;
mod modules;
mod trouble;

pub use device::{KernelDevice, Kind};
pub use trouble::Trouble;

use crate::name::DeviceName;
use std::fs;
use std::path::{Path, PathBuf};

/// A host. Tests have a root of their own, with a made-up sysfs.
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The host of the root directory, or of a tree that stands for it.
    pub fn new(root: Option<PathBuf>) -> Self {
        Host { root: root.unwrap_or_else(|| "/".into()) }
    }

    /// A path of the host.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a small file, without spaces around it.
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(path).ok().map(|text| text.trim().to_string())
    }

    /// Every device that a VFIO driver has, or would have if `driver_override` says so.
    pub fn devices(&self) -> Vec<DeviceName> {
        let pci = names(&self.path("/sys/bus/pci/devices")).filter_map(|name| name.parse().ok());
        let pci = pci.filter(|name| device::find(self, name).is_ok_and(|device| device.is_for_vfio()));
        let mdev = names(&self.path("/sys/bus/mdev/devices")).filter_map(|name| name.parse().ok());
        let mut all: Vec<DeviceName> = pci.chain(mdev).collect();
        // What is neither has a cdev, if anything (platform devices, for instance).
        let cdevs = names(&self.path("/sys/class/vfio-dev")).map(|name| {
            let path = Path::new("/dev/vfio/devices").join(name);
            device::name_of_cdev(self, &path).unwrap_or(DeviceName::Cdev(path))
        });
        all.extend(cdevs);
        all.sort();
        all.dedup();
        all
    }

    /// The device with that name; the socket of a server is refused.
    pub fn find(&self, name: &DeviceName) -> Result<KernelDevice, Trouble> {
        device::find(self, name)
    }
}

/// The names of what is in a directory; none where there is no directory.
fn names(dir: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// The last part of what a link leads to.
fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_string())
}
