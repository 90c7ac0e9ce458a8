//! Which dialect a device speaks, or why it cannot be migrated. Probe order: P22; regions: V1-14, D18.

use super::draft::{Cursor, Draft};
use super::v1::V1;
use super::v2::{V2, V2Support};
use super::{Dialect, DialectKind};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::log::log;
use crate::transport::{Peer, RegionInfo, Transport, VfioDeviceInfo, device_info, region_info};
use crate::uapi::migration_region::{DRAFT_REGISTERS_END, REGISTERS_END};
use crate::uapi::region::{TYPE_DRAFT_V4, TYPE_MIGRATION};
use std::fmt;
use std::sync::Arc;

/// Bounds the walk over regions of a device that says nonsense; PCI devices have 9 and a few of their own.
const MAX_REGIONS: u32 = 256;

/// Why a device cannot be migrated. In words it fits VFIOMIG_REASON_SIZE.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::dialect::{DialectKind, Reason};
///
/// let hardware = simdev::Device::new(simdev::Config::default());
/// let options = DeviceOptions { dialect: Some(DialectKind::V1), ..DeviceOptions::default() };
/// let reason = Device::new(hardware.transport(), options)?.info().reason;
/// assert_eq!(reason, Some(Reason::Other { wanted: DialectKind::V1, found: DialectKind::V2 }));
/// assert_eq!(reason.unwrap().to_string(), "the options ask for v1 only, and the device speaks v2");
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Neither feature nor region.
    NoSupport,
    /// The same of a vfio-user server (U-3).
    NoServerSupport {
        /// It knows device features, and has not that of migration.
        knows_features: bool,
    },
    /// Migration flags without STOP_COPY.
    NoStopCopy(u64),
    /// The options name one protocol, and the device speaks another.
    Other {
        /// What was looked for.
        wanted: DialectKind,
        /// What there is.
        found: DialectKind,
    },
    /// The migration region has no room for its registers.
    TooSmall {
        /// Which protocol the region's id speaks of.
        kind: DialectKind,
        /// The number of the region.
        index: u32,
        /// Bytes of the region.
        size: u64,
        /// Bytes of the registers.
        needed: u64,
    },
    /// A region is described in a way that cannot be read, and no other one is the migration region.
    Broken(String),
    /// The VMM's functions describe regions, but not how many there are.
    NoDeviceInfo,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoSupport => f.write_str(
                "no kernel support: the driver offers neither VFIO_DEVICE_FEATURE_MIGRATION nor a migration region",
            ),
            Reason::NoServerSupport { knows_features } => write!(
                f,
                "no support: the vfio-user server {}; start it with migration, if it has that, or unplug the device first",
                if *knows_features {
                    "offers neither the feature MIGRATION (v2) nor a migration region (v1)"
                } else {
                    "does not know device features (v2), and has no migration region (v1)"
                }
            ),
            Reason::NoStopCopy(0) => f.write_str("no stop-copy: the device offers migration with no flag set"),
            Reason::NoStopCopy(flags) => {
                write!(f, "no stop-copy: migration flags {flags:#x} are a combination that no uAPI defines")
            }
            Reason::Other { wanted, found } => {
                write!(f, "the options ask for {} only, and the device speaks {}", wanted.name(), found.name())
            }
            Reason::TooSmall { kind, index, size, needed } => write!(
                f,
                "the migration region ({index}) has {size} bytes, and the registers of {} need {needed}",
                kind.name()
            ),
            Reason::Broken(text) => write!(f, "a broken description, and no other migration region: {text}"),
            Reason::NoDeviceInfo => f.write_str(
                "the ops have region_info, but no device_info, without which no migration region (v1, draft) is found",
            ),
        }
    }
}

/// What was found.
pub(crate) struct Probed {
    pub dialect: std::result::Result<Arc<dyn Dialect>, Reason>,
    pub can_reset: bool,
}

/// Asks the device. `wanted` limits the search to one dialect; `name` is for the log.
pub(crate) fn probe(
    name: &str,
    transport: &dyn Transport,
    wanted: Option<DialectKind>,
    cursor: Option<Cursor>,
) -> Result<Probed> {
    let may_be_v2 = wanted.is_none_or(|kind| kind == DialectKind::V2);
    let (info, refused) = match device_info(transport) {
        Ok(info) => (Some(info), None),
        Err(_) if !transport.has_device_info() => (None, None),
        // libvfio-user's v2 refuses it in STOP and STOP_COPY, where the next client may find the device.
        Err(errno) if may_be_v2 && errno.means_absent() => (None, Some(errno)),
        Err(errno) => return Err(not_a_device(errno, transport.peer())),
    };
    // Where it is not known, a reset is tried.
    let can_reset = info.map_or(refused.is_some(), |info| info.can_reset);
    let mut no_stop_copy = None;
    if may_be_v2 {
        match V2::ask(transport) {
            Ok(V2Support::Caps(caps)) => {
                return Ok(Probed { dialect: Ok(Arc::new(V2::new(transport, caps))), can_reset });
            }
            Ok(V2Support::BadFlags(flags)) => no_stop_copy = Some(Reason::NoStopCopy(flags)),
            Ok(V2Support::Absent) => {}
            Err(errno) => return Err(Error::device(errno, format!("reading the migration flags failed: {errno}"))),
        }
    }
    if let Some(errno) = refused {
        return Err(not_a_device(errno, transport.peer()));
    }
    let regions = Regions::look(name, transport, info);
    let dialect = match regions.best(wanted) {
        Some((kind, region)) => Ok(region_dialect(name, kind, region, wanted, cursor)),
        None => Err(no_stop_copy.unwrap_or_else(|| regions.reason(transport, wanted))),
    };
    Ok(Probed { dialect, can_reset })
}

fn not_a_device(errno: Errno, peer: Peer) -> Error {
    let (request, hint) = match (peer, errno.get()) {
        (Peer::VfioUser { .. }, _) => ("VFIO_USER_DEVICE_GET_INFO", ""),
        (Peer::Driver, libc::EINVAL) => ("VFIO_DEVICE_GET_INFO", " (a cdev must be bound to an iommufd first)"),
        (Peer::Driver, libc::EBADF) => ("VFIO_DEVICE_GET_INFO", " (not an open descriptor)"),
        (Peer::Driver, _) => ("VFIO_DEVICE_GET_INFO", ""),
    };
    Error::device(errno, format!("{request} failed: {errno}{hint}"))
}

/// Which dialect a region's id speaks of. Type 3 is v1's and the later drafts': only the caller can know that it is a draft,
/// and what is not declared one is never touched beyond the registers. Type 2 is a draft's, except on channel I/O devices.
fn region_kind(region_type: (u32, u32), is_ccw: bool, wanted: Option<DialectKind>) -> Option<DialectKind> {
    let kind = match region_type {
        TYPE_MIGRATION if wanted == Some(DialectKind::Draft) => DialectKind::Draft,
        TYPE_MIGRATION => DialectKind::V1,
        TYPE_DRAFT_V4 if !is_ccw => DialectKind::Draft,
        _ => return None,
    };
    wanted.is_none_or(|wanted| wanted == kind).then_some(kind)
}

/// How many bytes the registers of a dialect take.
fn registers_end(kind: DialectKind) -> u64 {
    match kind {
        DialectKind::Draft => DRAFT_REGISTERS_END,
        _ => REGISTERS_END,
    }
}

/// The regions of a device, as far as they matter here.
#[derive(Default)]
struct Regions {
    is_ccw: bool,
    /// Those with an id of their own.
    typed: Vec<((u32, u32), RegionInfo)>,
    /// What is wrong with the first one that cannot be understood.
    broken: Option<String>,
}

impl Regions {
    fn look(name: &str, transport: &dyn Transport, info: Option<VfioDeviceInfo>) -> Self {
        let num_regions = info.map_or(0, |info| info.num_regions);
        if num_regions > MAX_REGIONS {
            log!(Warning, "{name}: the device says it has {num_regions} regions; only {MAX_REGIONS} are looked at");
        }
        let mut regions = Regions { is_ccw: info.is_some_and(|info| info.is_ccw), ..Regions::default() };
        for index in 0..num_regions.min(MAX_REGIONS) {
            match region_info(transport, index) {
                Ok(region) => regions.typed.extend(region.region_type.map(|id| (id, region))),
                // Some regions of a PCI device are numbers only, such as VGA's.
                Err(error) if error.kind() == ErrorKind::Device && Errno::new(error.errno()).means_absent() => {
                    log!(Debug, "{name}: {error}");
                }
                Err(error) => {
                    log!(Warning, "{name}: {error}");
                    regions.broken.get_or_insert_with(|| error.to_string());
                }
            }
        }
        regions
    }

    /// Those that may be the migration region, whatever their size.
    fn candidates(&self, wanted: Option<DialectKind>) -> impl Iterator<Item = (DialectKind, &RegionInfo)> {
        let kind = move |id: (u32, u32)| region_kind(id, self.is_ccw, wanted);
        self.typed.iter().filter_map(move |(id, region)| Some((kind(*id)?, region)))
    }

    /// P22: a v1 region before a draft's, whatever their order.
    fn best(&self, wanted: Option<DialectKind>) -> Option<(DialectKind, &RegionInfo)> {
        self.candidates(wanted)
            .filter(|(kind, region)| region.size >= registers_end(*kind))
            .min_by_key(|(kind, _)| *kind != DialectKind::V1)
    }

    /// Why there is no such region, as near as is known.
    fn reason(&self, transport: &dyn Transport, wanted: Option<DialectKind>) -> Reason {
        if let Some((kind, region)) = self.candidates(wanted).next() {
            let needed = registers_end(kind);
            return Reason::TooSmall { kind, index: region.index, size: region.size, needed };
        }
        if let Some(wanted) = wanted {
            let has_v2 = || wanted != DialectKind::V2 && matches!(V2::ask(transport), Ok(V2Support::Caps(_)));
            let found =
                self.candidates(None).map(|(kind, _)| kind).next().or_else(|| has_v2().then_some(DialectKind::V2));
            if let Some(found) = found {
                return Reason::Other { wanted, found };
            }
        }
        match &self.broken {
            Some(text) => Reason::Broken(text.clone()),
            None if !transport.has_device_info() && transport.has_region_info() => Reason::NoDeviceInfo,
            None => match transport.peer() {
                Peer::Driver => Reason::NoSupport,
                Peer::VfioUser { knows_features } => Reason::NoServerSupport { knows_features },
            },
        }
    }
}

fn region_dialect(
    name: &str,
    kind: DialectKind,
    region: &RegionInfo,
    wanted: Option<DialectKind>,
    cursor: Option<Cursor>,
) -> Arc<dyn Dialect> {
    if kind != DialectKind::V1 {
        return Arc::new(Draft::new(region.clone(), cursor));
    }
    // Only v1 has the capability.
    if wanted.is_none() && !region.ndma {
        log!(
            Info,
            "{name}: taken for v1; the later drafts of 2019 look the same, and are found only if the options name them"
        );
    }
    Arc::new(V1::new(region.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_ids_and_what_they_mean() {
        let cases = [
            ((3, 1), false, None, Some(DialectKind::V1)),
            ((3, 1), false, Some(DialectKind::V1), Some(DialectKind::V1)),
            ((3, 1), false, Some(DialectKind::Draft), Some(DialectKind::Draft)),
            ((2, 1), false, None, Some(DialectKind::Draft)),
            ((2, 1), false, Some(DialectKind::Draft), Some(DialectKind::Draft)),
            ((2, 1), false, Some(DialectKind::V1), None),
            ((2, 1), true, None, None),
            ((2, 1), true, Some(DialectKind::Draft), None),
            ((3, 1), false, Some(DialectKind::V2), None),
            ((3, 2), false, None, None),
            ((4, 1), false, None, None),
        ];
        for (id, is_ccw, wanted, expected) in cases {
            assert_eq!(region_kind(id, is_ccw, wanted), expected, "{id:?} ccw={is_ccw} wanted={wanted:?}");
        }
    }
}
