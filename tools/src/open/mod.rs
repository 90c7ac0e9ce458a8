//! Opens a device: by its cdev, by its group, or by the socket of its server.
//!
//! Start reading at [`open`]; `kernel` opens groups and cdevs, `ioctl` has the requests for that.

mod ioctl;
mod kernel;
mod memory;

use crate::host::{Host, KernelDevice, Kind, Trouble};
use crate::name::DeviceName;
use crate::signals;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::State;
use vfiomig::transport::Transport;
use vfiomig::transport::kernel::Kernel;
use vfiomig::transport::vfio_user::{
    ConnectOptions, DmaAccess, VfioUser, VfioUserChannel, VfioUserConnection, VfioUserOptions,
};
use vfiomig::window::Quirks;

/// The address at which logs are tried, and where a server gets memory for that.
pub const LOG_BASE: u64 = 1 << 32;
/// How many bytes are logged there.
pub const LOG_SPAN: u64 = 4 << 20;

/// A device that is open.
pub struct Opened {
    /// As the user named it.
    pub name: DeviceName,
    /// What sysfs says of it; `None` for a server.
    pub found: Option<KernelDevice>,
    access: Access,
}

/// What the device is reached by, and what has to stay open with it.
enum Access {
    Kernel { fd: Arc<OwnedFd>, _keep: Vec<OwnedFd>, iommu_dirty: Option<bool>, by_cdev: bool },
    Server(Arc<VfioUserConnection>),
}

fn made(transport: Box<dyn Transport>, options: DeviceOptions) -> Result<Device, Trouble> {
    Device::new(transport, options)
        .map_err(|error| Trouble::new(error.to_string(), "look at the kernel's log (dmesg), or at the server's"))
}

/// Opens the device with that name.
pub fn open(host: &Host, name: &DeviceName, timeout: Duration) -> Result<Opened, Trouble> {
    if let DeviceName::Socket(path) = name {
        let options = ConnectOptions { timeout, ..ConnectOptions::default() };
        let to = path.clone();
        let connected = signals::unless_interrupted(move || VfioUserConnection::connect(to, options));
        let connected =
            connected.map_err(|error| Trouble::new(format!("no answer of the server: {error}"), "begin again"))?;
        let connection = connected.map_err(|error| {
            let next = match error.errno() {
                libc::ENOENT => "start the server, or look at the path",
                libc::ECONNREFUSED => "the server has gone: start it again",
                libc::EACCES => "the socket is another user's: run as that user, or as root",
                _ => "look at what the server says; it has to speak vfio-user, and serves one client at a time",
            };
            Trouble::new(error.to_string(), next)
        })?;
        return Ok(Opened { name: name.clone(), found: None, access: Access::Server(Arc::new(connection)) });
    }
    let found = host.find(name)?;
    if let Some(trouble) = found.obstacle(host) {
        return Err(trouble);
    }
    let kernel::Open { fd, keep, iommu_dirty, by_cdev } = kernel::open(host, &found)?;
    let access = Access::Kernel { fd: Arc::new(fd), _keep: keep, iommu_dirty, by_cdev };
    Ok(Opened { name: name.clone(), found: Some(found), access })
}

impl Opened {
    /// The transport by which the device is asked.
    pub fn transport(&self) -> Result<Box<dyn Transport>, Trouble> {
        match &self.access {
            Access::Kernel { fd, .. } => Ok(Box::new(Kernel::new(Arc::clone(fd)))),
            Access::Server(connection) => match connection.transport() {
                Ok(transport) => Ok(Box::new(transport)),
                Err(error) => Err(Trouble::new(error.to_string(), "look at what the server says")),
            },
        }
    }

    /// Makes the library's device.
    pub fn device(&self) -> Result<Device, Trouble> {
        let options = DeviceOptions { name: self.name.to_string(), ..DeviceOptions::default() };
        made(self.transport()?, options)
    }

    /// Makes the library's device with its window mapped, also that of a server, which is not mapped by default (U-16).
    pub fn mapping_device(&self, quirks: Quirks) -> Result<Device, Trouble> {
        let options = DeviceOptions { name: self.name.to_string(), quirks, ..DeviceOptions::default() };
        let Some(connection) = self.connection() else { return made(self.transport()?, options) };
        let trouble = |error: vfiomig::Error| Trouble::new(error.to_string(), "look at what the server says");
        let server = VfioUserOptions { map_region: true, ..VfioUserOptions::default() };
        let transport = VfioUser::new(Arc::clone(connection) as Arc<dyn VfioUserChannel>, server).map_err(trouble)?;
        made(Box::new(transport), options)
    }

    /// Why a device that is not in RUNNING is not moved, and how it comes to where it can be. No subcommand lets it run: what it
    /// holds may run elsewhere.
    pub fn not_running(&self, state: State) -> Trouble {
        let why = match state {
            State::Stop => "it stands still, as behind a save with --halt or a send",
            State::Resuming => "a load of it was begun, and not ended",
            State::Error => "it has failed",
            _ => "a migration of it was begun, and not ended",
        };
        let begins_anew = match &self.found {
            None => "end its server and start it again".to_string(),
            Some(found) if found.kind == Kind::Pci => format!("echo 1 > /sys/bus/pci/devices/{}/reset", found.id),
            Some(_) => "remove it, and create it anew".to_string(),
        };
        let next = format!(
            "where its state is not needed any more: {begins_anew}; else let the program go on that has left it so"
        );
        Trouble::new(format!("it is in {state}, not in RUNNING: {why}"), next)
    }

    /// The server's connection.
    pub fn connection(&self) -> Option<&Arc<VfioUserConnection>> {
        match &self.access {
            Access::Server(connection) => Some(connection),
            Access::Kernel { .. } => None,
        }
    }

    /// Gives a server memory, for it logs what is mapped for it (U-11). Whether that succeeded.
    pub fn lend_memory(&self) -> bool {
        let Some(connection) = self.connection() else { return false };
        memory::memory(LOG_SPAN)
            .is_ok_and(|memory| connection.map(LOG_BASE, LOG_SPAN, Some((memory.as_fd(), 0)), DmaAccess::ALL).is_ok())
    }

    /// Whether it is a device of the kernel.
    pub fn is_kernel(&self) -> bool {
        matches!(self.access, Access::Kernel { .. })
    }

    /// Whether the IOMMU in front of it notes what is written; `None`: that is not known, as it is behind a group.
    pub fn iommu_dirty(&self) -> Option<bool> {
        match &self.access {
            Access::Kernel { iommu_dirty, .. } => *iommu_dirty,
            Access::Server(_) => None,
        }
    }

    /// What it was opened by: `cdev`, `group` or `vfio-user`.
    pub fn opened_by(&self) -> &'static str {
        match &self.access {
            Access::Kernel { by_cdev: true, .. } => "cdev",
            Access::Kernel { by_cdev: false, .. } => "group",
            Access::Server(_) => "vfio-user",
        }
    }
}
