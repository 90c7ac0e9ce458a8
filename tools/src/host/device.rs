//! One device of the kernel: its place in sysfs, its driver, how it can be opened, and what keeps it from that.

use super::{Host, Trouble, holders, link_name, modules, names};
use crate::name::DeviceName;
use std::path::{Path, PathBuf};

/// The bus that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A PCI function.
    Pci,
    /// A mediated device.
    Mdev,
    /// Any other bus: it is known by its cdev only.
    Other,
}

impl Kind {
    /// The word that JSON has for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pci => "pci",
            Kind::Mdev => "mdev",
            Kind::Other => "cdev",
        }
    }
}

/// A device as sysfs has it.
#[derive(Clone, Debug)]
pub struct KernelDevice {
    /// As the kernel's group knows it: a PCI address or a UUID.
    pub id: String,
    /// Its bus.
    pub kind: Kind,
    /// Its driver.
    pub driver: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Its cdev.
    pub cdev: Option<PathBuf>,
    /// Vendor and device of PCI.
    pub pci_id: Option<(u16, u16)>,
    driver_override: Option<String>,
}

pub(super) fn find(host: &Host, name: &DeviceName) -> Result<KernelDevice, Trouble> {
    let (kind, id, dir) = match name {
        DeviceName::Pci(id) => (Kind::Pci, id.clone(), host.path("/sys/bus/pci/devices").join(id)),
        DeviceName::Mdev(id) => (Kind::Mdev, id.clone(), host.path("/sys/bus/mdev/devices").join(id)),
        DeviceName::Cdev(path) => match name_of_cdev(host, path) {
            Some(name) => return find(host, &name),
            None => (Kind::Other, name.to_string(), class_dir(host, path).join("device")),
        },
        DeviceName::Socket(_) => return Err(Trouble::new("this is a vfio-user server", "name it as unix:PATH")),
    };
    if !dir.exists() {
        let next = match kind {
            Kind::Pci => "look for the address with lspci -D",
            Kind::Mdev => "create it: echo the UUID to mdev_supported_types/TYPE/create of its parent device",
            Kind::Other => "`vfiomig probe` without arguments lists what there is",
        };
        return Err(Trouble::new(format!("there is no such device: {} does not exist", dir.display()), next));
    }
    let hex = |file: &str| {
        let text = host.text(dir.join(file))?;
        u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    let set = |text: &String| !text.is_empty() && text != "(null)";
    let cdev = names(&dir.join("vfio-dev")).next().map(|name| Path::new("/dev/vfio/devices").join(name));
    Ok(KernelDevice {
        id,
        kind,
        driver: link_name(&dir.join("driver")),
        group: link_name(&dir.join("iommu_group")),
        cdev: cdev.or_else(|| if let DeviceName::Cdev(path) = name { Some(path.clone()) } else { None }),
        pci_id: hex("vendor").zip(hex("device")),
        driver_override: host.text(dir.join("driver_override")).filter(set),
    })
}

fn class_dir(host: &Host, cdev: &Path) -> PathBuf {
    host.path("/sys/class/vfio-dev").join(cdev.file_name().unwrap_or_default())
}

/// The PCI device or mediated device that a cdev is of.
pub(super) fn name_of_cdev(host: &Host, cdev: &Path) -> Option<DeviceName> {
    link_name(&class_dir(host, cdev).join("device"))?.parse().ok()
}

impl KernelDevice {
    /// Whether a VFIO driver has it: then there is a directory of its cdev, or the driver's name says so.
    pub fn has_vfio_driver(&self) -> bool {
        self.cdev.is_some() || self.driver.as_ref().is_some_and(|driver| driver.contains("vfio"))
    }

    /// Whether a VFIO driver has it, or is meant to by `driver_override`.
    pub(super) fn is_for_vfio(&self) -> bool {
        self.has_vfio_driver() || self.driver_override.as_ref().is_some_and(|driver| driver.contains("vfio"))
    }

    /// The node of its group.
    pub fn group_node(&self) -> Option<PathBuf> {
        self.group.as_ref().map(|group| Path::new("/dev/vfio").join(group))
    }

    /// What keeps it from being opened, as far as that is known before.
    pub fn obstacle(&self, host: &Host) -> Option<Trouble> {
        let of_device = self.driver_trouble(host).or_else(|| self.group_trouble(host)).map(Trouble::of_device);
        of_device.or_else(|| self.in_use(host))
    }

    fn driver_trouble(&self, host: &Host) -> Option<Trouble> {
        if self.has_vfio_driver() {
            return None;
        }
        let bind = match modules::advice(host, self) {
            Some(advice) => advice,
            None => return Some(Trouble::new("no VFIO driver has it", "bind it to its VFIO driver")),
        };
        match &self.driver {
            None => Some(Trouble::new("no driver is bound", bind)),
            Some(driver) => {
                let what = format!("the driver {driver} is no VFIO driver: the device belongs to the host");
                Some(Trouble::new(
                    what,
                    format!("echo {} > /sys/bus/pci/drivers/{driver}/unbind; then {bind}", self.id),
                ))
            }
        }
    }

    fn group_trouble(&self, host: &Host) -> Option<Trouble> {
        if self.cdev.as_ref().is_some_and(|cdev| host.path(cdev).exists()) {
            return None;
        }
        let Some(group) = &self.group else {
            let next = "switch the IOMMU on: in the firmware, and with intel_iommu=on or amd_iommu=on for the kernel";
            return Some(Trouble::new("it has no IOMMU group", next));
        };
        let members = host.path("/sys/kernel/iommu_groups").join(group).join("devices");
        let mut others = names(&members).filter(|id| *id != self.id).filter_map(|id| {
            let driver = link_name(&members.join(&id).join("driver"))?;
            let harmless = driver.contains("vfio") || ["pci-stub", "pcieport"].contains(&driver.as_str());
            (!harmless).then_some((id, driver))
        });
        if let Some((id, driver)) = others.next() {
            let what = format!("its group {group} has {id} in it, which is bound to the driver {driver}");
            return Some(Trouble::new(what, format!("bind {id} to vfio-pci, or leave it without a driver")));
        }
        let node = self.group_node()?;
        (!host.path(&node).exists()).then(|| {
            Trouble::new(format!("there is no {}", node.display()), "load the module vfio (modprobe vfio-pci)")
        })
    }

    fn in_use(&self, host: &Host) -> Option<Trouble> {
        let nodes: Vec<PathBuf> = self.cdev.iter().cloned().chain(self.group_node()).collect();
        let holder = holders::find(host, &nodes)?;
        let (node, pid, name) = (holder.node.display(), holder.pid, &holder.name);
        Some(Trouble::new(
            format!("it is in use: process {pid} ({name}) has {node} open"),
            format!("ask that program for its device's state, or end it (kill {pid}), and try again"),
        ))
    }

    /// Why its driver does not migrate it, and which one would.
    pub fn not_migratable(&self, host: &Host, reason: &str) -> Trouble {
        let driver = self.driver.as_deref().unwrap_or("its driver");
        if driver == "vfio-pci" {
            let what = "the driver vfio-pci cannot migrate: a variant driver of the device's vendor is needed";
            let next = match modules::variant(host, self) {
                modules::Variant::None => "none: no variant driver of Linux is known for this device".into(),
                _ => modules::advice(host, self).unwrap_or_default(),
            };
            return Trouble::new(what, next);
        }
        Trouble::new(format!("{driver}: {reason}"), modules::firmware_advice(driver))
    }
}
