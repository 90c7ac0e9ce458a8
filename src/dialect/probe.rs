//! Which dialect a device speaks, or why it cannot be migrated. Probe order: P22.

use super::v2::{Probed, V2};
use super::{Dialect, Kind};
use crate::error::{Errno, Error, Result};
use crate::log::log;
use crate::transport::{Transport, device_info, region_info};
use crate::uapi::region::TYPE_MIGRATION;
use std::fmt;

/// Bounds the walk over regions of a device that says nonsense; PCI devices have 9 and a few of their own.
const MAX_REGIONS: u32 = 256;

/// Why a device cannot be migrated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Neither feature nor region.
    NoSupport,
    /// Migration flags without STOP_COPY.
    NoStopCopy(u64),
    /// Only a migration region was found.
    RegionOnly,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoSupport => f.write_str(
                "no kernel support: the driver offers neither VFIO_DEVICE_FEATURE_MIGRATION nor a migration region",
            ),
            Reason::NoStopCopy(0) => f.write_str("no stop-copy: the driver offers migration with no flag set"),
            Reason::NoStopCopy(flags) => {
                write!(f, "no stop-copy: migration flags {flags:#x} are a combination that no uAPI defines")
            }
            Reason::RegionOnly => {
                f.write_str("speaks v1 or a draft of it (migration region); this version of the library speaks v2 only")
            }
        }
    }
}

/// What was found.
pub(crate) struct Found {
    pub dialect: std::result::Result<Box<dyn Dialect>, Reason>,
    pub can_reset: bool,
}

/// Asks the device. `wanted` limits the search to one dialect.
pub(crate) fn probe(transport: &dyn Transport, wanted: Option<Kind>) -> Result<Found> {
    let info = match device_info(transport) {
        Ok(info) => Some(info),
        Err(_) if !transport.has_device_info() => None,
        Err(errno) => return Err(not_a_device(errno)),
    };
    let can_reset = info.is_some_and(|info| info.can_reset);
    debug_assert!(matches!(wanted, None | Some(Kind::V2)));
    let dialect = match V2::probe(transport) {
        Ok(Probed::Device(v2)) => Ok(Box::new(v2) as Box<dyn Dialect>),
        Ok(Probed::BadFlags(flags)) => Err(Reason::NoStopCopy(flags)),
        Ok(Probed::Absent) if has_migration_region(transport, info.map_or(0, |info| info.num_regions)) => {
            Err(Reason::RegionOnly)
        }
        Ok(Probed::Absent) => Err(Reason::NoSupport),
        Err(errno) => return Err(Error::device(errno, format!("reading the migration flags failed: {errno}"))),
    };
    Ok(Found { dialect, can_reset })
}

fn not_a_device(errno: Errno) -> Error {
    let hint = match errno.get() {
        libc::EINVAL => " (a cdev must be bound to an iommufd first)",
        libc::EBADF => " (not an open descriptor)",
        _ => "",
    };
    Error::device(errno, format!("VFIO_DEVICE_GET_INFO failed: {errno}{hint}"))
}

fn has_migration_region(transport: &dyn Transport, num_regions: u32) -> bool {
    if num_regions > MAX_REGIONS {
        log!(Warning, "the device says it has {num_regions} regions; only {MAX_REGIONS} are looked at");
    }
    (0..num_regions.min(MAX_REGIONS)).any(|index| match region_info(transport, index) {
        Ok(region) => region.region_type == Some(TYPE_MIGRATION),
        Err(error) => {
            log!(Debug, "{error}");
            false
        }
    })
}
