//! Which VFIO driver can migrate a PCI device: what the modules of the running kernel say, and what is known of those it lacks.

use super::Host;
use super::device::{KernelDevice, Kind};
use std::fs;

/// Drivers of Linux 7.3 that migrate, by vendor: name, option of the kernel, and what must be so besides.
const KNOWN: [(u16, &str, &str, &str); 6] = [
    (
        0x15b3,
        "mlx5_vfio_pci",
        "CONFIG_MLX5_VFIO_PCI",
        "let the function be migrated: devlink port function set PORT migratable enable, while it has no driver",
    ),
    (
        0x19e5,
        "hisi_acc_vfio_pci",
        "CONFIG_HISI_ACC_VFIO_PCI",
        "its physical function needs its own driver and firmware",
    ),
    (0x1dd8, "pds_vfio_pci", "CONFIG_PDS_VFIO_PCI", "the firmware of the card has to offer live migration"),
    (0x8086, "qat_vfio_pci", "CONFIG_QAT_VFIO_PCI", "the physical function's qat driver has to be loaded"),
    (0x8086, "xe_vfio_pci", "CONFIG_XE_VFIO_PCI", "the physical function's xe driver has to be loaded, with SR-IOV"),
    (0x1af4, "virtio_vfio_pci", "CONFIG_VIRTIO_VFIO_PCI", "the device has to offer the admin commands of device parts"),
];

/// Which driver there is for a device.
pub enum Variant {
    /// A module of this kernel says that it is for this device.
    Module(String),
    /// This kernel has none; Linux has one for devices of this vendor: its name, and its option.
    Missing(&'static str, &'static str),
    /// No driver is known for it.
    None,
}

pub fn variant(host: &Host, device: &KernelDevice) -> Variant {
    let Some((vendor, number)) = device.pci_id else { return Variant::None };
    if let Some(module) = by_alias(host, vendor, number) {
        return Variant::Module(module);
    }
    // Intel has two that are for few devices, so its number alone says nothing.
    let known = KNOWN.iter().find(|row| row.0 == vendor && vendor != 0x8086);
    known.map_or(Variant::None, |row| Variant::Missing(row.1, row.2))
}

/// The module whose alias of the kind `vfio_pci:` is for that device.
fn by_alias(host: &Host, vendor: u16, number: u16) -> Option<String> {
    let release = host.text(host.path("/proc/sys/kernel/osrelease"))?;
    let aliases = fs::read_to_string(host.path("/lib/modules").join(release).join("modules.alias")).ok()?;
    let (vendor, number) = (format!("{vendor:08X}"), format!("{number:08X}"));
    aliases.lines().find_map(|line| {
        let mut words = line.strip_prefix("alias vfio_pci:v")?.split_whitespace();
        let (pattern, module) = (words.next()?, words.next()?);
        let (of_vendor, rest) = pattern.split_once('d')?;
        let (of_number, _) = rest.split_once("sv")?;
        let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        (fits(of_vendor, &vendor) && fits(of_number, &number) && module != "vfio_pci").then(|| module.to_string())
    })
}

/// How to bind the driver that can migrate a PCI device, or else vfio-pci. `None` where it is no PCI device.
pub fn advice(host: &Host, device: &KernelDevice) -> Option<String> {
    if device.kind != Kind::Pci {
        return None;
    }
    let id = &device.id;
    let bind = |driver: &str| {
        let name = driver.replace('_', "-");
        // The name of a driver is what it registers: mlx5_vfio_pci's is mlx5_vfio_pci, vfio_pci's is vfio-pci.
        let name = if driver == "vfio_pci" { name } else { driver.to_string() };
        format!(
            "modprobe {driver}; echo {name} > /sys/bus/pci/devices/{id}/driver_override; \
             echo {id} > /sys/bus/pci/drivers_probe"
        )
    };
    Some(match variant(host, device) {
        Variant::Module(module) => bind(&module),
        Variant::Missing(module, option) => {
            format!(
                "this kernel has no {module}, which can migrate such devices: take one that was built with {option}"
            )
        }
        Variant::None => format!("{} (no driver is known that can migrate it)", bind("vfio_pci")),
    })
}

/// What to do where the right driver says that the device cannot be migrated.
pub fn firmware_advice(driver: &str) -> String {
    let normal = driver.replace('-', "_");
    KNOWN.iter().find(|row| row.1 == normal).map_or_else(
        || "ask the driver's vendor for live migration; Linux has it since 5.18".to_string(),
        |row| row.3.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_alias() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(Some(root.path().into()));
        let dir = host.path("/lib/modules/6.12.1");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(host.path("/proc/sys/kernel")).unwrap();
        fs::write(host.path("/proc/sys/kernel/osrelease"), "6.12.1\n").unwrap();
        let aliases = "alias pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_core\n\
                       alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n\
                       alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci\n\
                       alias vfio_pci:vd nonsense\n";
        fs::write(dir.join("modules.alias"), aliases).unwrap();
        assert_eq!(by_alias(&host, 0x15b3, 0x101e).as_deref(), Some("mlx5_vfio_pci"));
        assert_eq!(by_alias(&host, 0x15b3, 0x101d), None);
    }
}
