//! What a DEVICE is: a PCI address, the UUID of a mediated device, a cdev, or the socket of a vfio-user server.

use crate::text;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One device, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceName {
    /// `0000:3b:00.1`; the domain may be left out.
    Pci(String),
    /// A UUID.
    Mdev(String),
    /// `/dev/vfio/devices/vfio0`.
    Cdev(PathBuf),
    /// `unix:PATH`.
    Socket(PathBuf),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("unix: without a path".into())
            } else {
                Ok(DeviceName::Socket(path.into()))
            };
        }
        if text.starts_with('/') {
            return cdev(Path::new(text));
        }
        pci(text).or_else(|| uuid(text)).ok_or_else(|| {
            "this is no PCI address (0000:3b:00.1), no UUID of a mediated device, no path of a cdev \
             (/dev/vfio/devices/vfio0) and no unix:PATH of a vfio-user server"
                .into()
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Pci(name) | DeviceName::Mdev(name) => f.write_str(name),
            DeviceName::Cdev(path) => f.write_str(&text::path(path)),
            DeviceName::Socket(path) => write!(f, "unix:{}", text::path(path)),
        }
    }
}

impl DeviceName {
    /// Whether both are one device; a socket has many spellings.
    pub fn is_same(&self, other: &DeviceName) -> bool {
        let inode = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        match (self, other) {
            (DeviceName::Socket(one) | DeviceName::Cdev(one), DeviceName::Socket(other) | DeviceName::Cdev(other)) => {
                one == other || inode(one).is_some_and(|one| inode(other) == Some(one))
            }
            _ => self == other,
        }
    }
}

/// A device with the name that it has on a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedDevice {
    /// Its name; `None`: it is named by its place.
    pub name: Option<String>,
    /// The device.
    pub device: DeviceName,
}

impl FromStr for NamedDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A path may have a = in it.
        let (name, device) = match text.split_once('=') {
            Some((name, device)) if !text.starts_with("unix:") && !text.starts_with('/') => (Some(name), device),
            _ => (None, text),
        };
        if name.is_some_and(str::is_empty) {
            return Err("NAME=DEVICE without a name".into());
        }
        if name.is_some_and(|name| name.len() > 255 || name.chars().any(char::is_control)) {
            return Err("a name has at most 255 bytes, and no control characters".into());
        }
        Ok(NamedDevice { name: name.map(str::to_string), device: device.parse()? })
    }
}

fn cdev(path: &Path) -> Result<DeviceName, String> {
    let is_cdev = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name.strip_prefix("vfio").is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    });
    if is_cdev {
        return Ok(DeviceName::Cdev(path.into()));
    }
    Err(format!(
        "{} is no cdev of VFIO (/dev/vfio/devices/vfio0); the socket of a vfio-user server is unix:{}",
        path.display(),
        path.display()
    ))
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn pci(text: &str) -> Option<DeviceName> {
    let (front, function) = text.rsplit_once('.')?;
    let parts: Vec<&str> = front.split(':').collect();
    let (domain, bus, slot) = match parts.as_slice() {
        [bus, slot] => ("0000", *bus, *slot),
        [domain, bus, slot] => (*domain, *bus, *slot),
        _ => return None,
    };
    let is_domain = (4..=8).contains(&domain.len()) && is_hex(domain, domain.len());
    let is_function = matches!(function.as_bytes(), [b'0'..=b'7']);
    (is_domain && is_hex(bus, 2) && is_hex(slot, 2) && is_function)
        .then(|| DeviceName::Pci(format!("{domain}:{bus}:{slot}.{function}").to_ascii_lowercase()))
}

fn uuid(text: &str) -> Option<DeviceName> {
    let parts: Vec<&str> = text.split('-').collect();
    let whole = parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, len)| is_hex(part, len));
    whole.then(|| DeviceName::Mdev(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_help_says() {
        let cases = [
            ("0000:3B:00.1", "0000:3b:00.1"),
            ("3b:00.1", "0000:3b:00.1"),
            ("10000:3b:00.1", "10000:3b:00.1"),
            ("83B8F4F2-509F-382F-3C1E-E6BFE0FA1001", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"),
            ("/dev/vfio/devices/vfio12", "/dev/vfio/devices/vfio12"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
            ("unix:relative", "unix:relative"),
        ];
        for (text, name) in cases {
            assert_eq!(text.parse::<DeviceName>().map(|name| name.to_string()), Ok(name.to_string()));
        }
    }

    #[test]
    fn a_name_goes_before_the_device() {
        let named = |text: &str| text.parse::<NamedDevice>().map(|named| (named.name, named.device.to_string()));
        assert_eq!(named("nic0=3b:00.1"), Ok((Some("nic0".into()), "0000:3b:00.1".into())));
        assert_eq!(named("unix:/a=b"), Ok((None, "unix:/a=b".into())));
        assert_eq!(named("x=unix:/a=b"), Ok((Some("x".into()), "unix:/a=b".into())));
        assert!(named("=3b:00.1").is_err() && named("nic0=").is_err());
        assert!(named("a\nb=3b:00.1").is_err() && named(&format!("{}=3b:00.1", "x".repeat(256))).is_err());
    }

    #[test]
    fn what_names_no_device_is_refused() {
        for text in [
            "",
            "unix:",
            "3b:00",
            "3b:00.8",
            "3b:00.11",
            "zz:00.0",
            "/dev/vfio/12",
            "/tmp/a.sock",
            "../../x",
            "a-b-c-d-e",
        ] {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
    }
}
