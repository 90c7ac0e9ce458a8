//! Which dialect a device speaks, or why it cannot be migrated. Probe order: P22.

use super::draft::{Cursor, Draft};
use super::v1::V1;
use super::v2::{Probed, V2};
use super::{Dialect, Kind};
use crate::error::{Errno, Error, Result};
use crate::log::log;
use crate::transport::{DeviceInfo, Transport, device_info, region_info};
use crate::uapi::region::{TYPE_DRAFT_V4, TYPE_MIGRATION};
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
        }
    }
}

/// What was found.
pub(crate) struct Found {
    pub dialect: std::result::Result<Box<dyn Dialect>, Reason>,
    pub can_reset: bool,
}

/// Asks the device. `wanted` limits the search to one dialect.
pub(crate) fn probe(transport: &dyn Transport, wanted: Option<Kind>, cursor: Option<Cursor>) -> Result<Found> {
    let info = match device_info(transport) {
        Ok(info) => Some(info),
        Err(_) if !transport.has_device_info() => None,
        Err(errno) => return Err(not_a_device(errno)),
    };
    let can_reset = info.is_some_and(|info| info.can_reset);
    let mut reason = Reason::NoSupport;
    if wanted.is_none_or(|kind| kind == Kind::V2) {
        match V2::probe(transport) {
            Ok(Probed::Device(v2)) => return Ok(Found { dialect: Ok(Box::new(v2)), can_reset }),
            Ok(Probed::BadFlags(flags)) => reason = Reason::NoStopCopy(flags),
            Ok(Probed::Absent) => {}
            Err(errno) => return Err(Error::device(errno, format!("reading the migration flags failed: {errno}"))),
        }
    }
    let dialect = match region_dialect(transport, info, wanted, cursor) {
        Some(dialect) => Ok(dialect),
        None => Err(reason),
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

/// Which dialect a region's id speaks of. Type 3 is v1's and the later drafts': only the caller can know that it is a draft,
/// and what is not declared one is never touched behind the registers. Type 2 is a draft's, except on channel I/O devices.
fn region_kind(region_type: (u32, u32), is_ccw: bool, wanted: Option<Kind>) -> Option<Kind> {
    let kind = match region_type {
        TYPE_MIGRATION if wanted == Some(Kind::Draft) => Kind::Draft,
        TYPE_MIGRATION => Kind::V1,
        TYPE_DRAFT_V4 if !is_ccw => Kind::Draft,
        _ => return None,
    };
    wanted.is_none_or(|wanted| wanted == kind).then_some(kind)
}

fn region_dialect(
    transport: &dyn Transport,
    info: Option<DeviceInfo>,
    wanted: Option<Kind>,
    cursor: Option<Cursor>,
) -> Option<Box<dyn Dialect>> {
    let num_regions = info.map_or(0, |info| info.num_regions);
    let is_ccw = info.is_some_and(|info| info.is_ccw);
    if num_regions > MAX_REGIONS {
        log!(Warning, "the device says it has {num_regions} regions; only {MAX_REGIONS} are looked at");
    }
    let described = (0..num_regions.min(MAX_REGIONS)).filter_map(|index| match region_info(transport, index) {
        Ok(region) => Some((region_kind(region.region_type?, is_ccw, wanted)?, region)),
        Err(error) => {
            log!(Warning, "{error}");
            None
        }
    });
    // P22: a v1 region before a draft's, whatever their order.
    let (kind, region) = described.min_by_key(|(kind, _)| *kind != Kind::V1)?;
    Some(match kind {
        Kind::V1 => Box::new(V1::new(region)),
        _ => Box::new(Draft::new(region, cursor)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_ids_and_what_they_mean() {
        let cases = [
            ((3, 1), false, None, Some(Kind::V1)),
            ((3, 1), false, Some(Kind::V1), Some(Kind::V1)),
            ((3, 1), false, Some(Kind::Draft), Some(Kind::Draft)),
            ((2, 1), false, None, Some(Kind::Draft)),
            ((2, 1), false, Some(Kind::Draft), Some(Kind::Draft)),
            ((2, 1), false, Some(Kind::V1), None),
            ((2, 1), true, None, None),
            ((2, 1), true, Some(Kind::Draft), None),
            ((3, 1), false, Some(Kind::V2), None),
            ((3, 2), false, None, None),
            ((4, 1), false, None, None),
        ];
        for (id, is_ccw, wanted, expected) in cases {
            assert_eq!(region_kind(id, is_ccw, wanted), expected, "{id:?} ccw={is_ccw} wanted={wanted:?}");
        }
    }
}
