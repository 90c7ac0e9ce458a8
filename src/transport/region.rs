//! Device and region descriptions over any transport: the argsz grow pattern (P6, P7) and typed results.

use super::feature::{Aligned, AlignedVec, field, put};
use super::{Transport, caps};
use crate::error::{Errno, Error, Result};
use crate::uapi::{device as ud, region as ur};

/// No real chain comes near it; it bounds what a broken device can make the library allocate.
const MAX_ARGSZ: usize = 64 << 10;
/// A device may say a larger argsz once; one that grows at each call is broken.
const MAX_TRIES: usize = 4;

/// What the library uses of `struct vfio_device_info`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VfioDeviceInfo {
    pub num_regions: u32,
    /// A channel I/O device, whose region type 2 is not the draft's.
    pub is_ccw: bool,
    /// FLAGS_RESET; mtty leaves it unset although its reset works.
    pub can_reset: bool,
}

/// A part of a region that can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// From the start of the region.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
}

/// What the library uses of `struct vfio_region_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionInfo {
    /// The region's number.
    pub index: u32,
    /// Length in bytes.
    pub size: u64,
    /// Where the region starts on the device fd.
    pub offset: u64,
    /// Type and subtype of a device-specific region.
    pub region_type: Option<(u32, u32)>,
    /// What can be mapped: the sparse areas as the device lists them, or the whole region, or nothing.
    pub areas: Vec<Area>,
    /// Why nothing can be mapped although the device lists areas.
    pub bad_areas: Option<String>,
    /// The NDMA capability is there.
    pub ndma: bool,
}

pub(crate) fn device_info(transport: &dyn Transport) -> std::result::Result<VfioDeviceInfo, Errno> {
    let mut info = Aligned([0u8; ud::INFO_SIZE]);
    put(&mut info.0, 0, &(ud::INFO_SIZE as u32).to_ne_bytes());
    transport.device_info(&mut info.0)?;
    let u32_at = |offset| field(&info.0, offset).map_or(0, u32::from_ne_bytes);
    let flags = u32_at(ud::INFO_FLAGS);
    Ok(VfioDeviceInfo {
        num_regions: u32_at(ud::INFO_NUM_REGIONS),
        is_ccw: flags & ud::FLAG_CCW != 0,
        can_reset: flags & ud::FLAG_RESET != 0,
    })
}

/// The description of region `index`. Device errors come with the kernel's errno, a broken answer as PROTOCOL.
pub(crate) fn region_info(transport: &dyn Transport, index: u32) -> Result<RegionInfo> {
    let info = grow(transport, index)?;
    let u32_at = |offset| field(&info, offset).map_or(0, u32::from_ne_bytes);
    let u64_at = |offset| field(&info, offset).map_or(0, u64::from_ne_bytes);
    let flags = u32_at(ur::INFO_FLAGS);
    let first = if flags & ur::FLAG_CAPS != 0 { u32_at(ur::INFO_CAP_OFFSET) } else { 0 };
    let chain = caps::walk(&info, first).map_err(|bad| {
        Error::protocol(format!("region {index}: bad capability chain at offset {} of {}", bad.offset, info.len()))
    })?;
    let region_type = chain
        .iter()
        .filter(|cap| cap.id == ur::CAP_TYPE)
        .find_map(|cap| Some((cap.u32_at(ur::CAP_TYPE_TYPE)?, cap.u32_at(ur::CAP_TYPE_SUBTYPE)?)));
    let size = u64_at(ur::INFO_REGION_SIZE);
    let sparse = chain.iter().find(|cap| cap.id == ur::CAP_SPARSE_MMAP);
    let listed = match sparse {
        _ if flags & ur::FLAG_MMAP == 0 => Ok(Vec::new()),
        None => Ok(vec![Area { offset: 0, size }]),
        Some(cap) => sparse_areas(cap.bytes).ok_or_else(|| "the list of mappable areas is cut".to_string()),
    };
    // Access without a mapping is slower, never wrong.
    let (areas, bad_areas) = match listed.and_then(|areas| check_areas(&areas, size).map(|()| areas)) {
        Ok(areas) => (areas, None),
        Err(text) => (Vec::new(), Some(text)),
    };
    Ok(RegionInfo {
        index,
        size,
        offset: u64_at(ur::INFO_REGION_OFFSET),
        region_type,
        areas,
        bad_areas,
        ndma: chain.iter().any(|cap| cap.id == ur::CAP_NDMA),
    })
}

/// The areas of a sparse-mmap capability; `None` if not all that it announces are there.
fn sparse_areas(cap: &[u8]) -> Option<Vec<Area>> {
    let count = field(cap, ur::CAP_SPARSE_NR_AREAS).map(u32::from_ne_bytes)? as usize;
    let list = cap.get(ur::CAP_SPARSE_AREAS..)?;
    let list = list.get(..count.checked_mul(ur::AREA_SIZE)?)?;
    let area = |bytes: &[u8]| {
        let offset = field(bytes, 0).map(u64::from_ne_bytes)?;
        let size = field(bytes, 8).map(u64::from_ne_bytes)?;
        Some(Area { offset, size })
    };
    list.chunks_exact(ur::AREA_SIZE).map(area).collect()
}

/// Areas may come in any order, but not overlap or reach beyond the region.
fn check_areas(areas: &[Area], size: u64) -> std::result::Result<(), String> {
    let mut sorted = areas.to_vec();
    sorted.sort_by_key(|area| area.offset);
    let mut end = 0;
    for area in sorted {
        if area.offset < end {
            return Err(format!("mappable areas overlap at {:#x}", area.offset));
        }
        end = area.offset.checked_add(area.size).filter(|&end| end <= size).ok_or_else(|| {
            format!("mappable area {:#x}+{:#x} is beyond its {size:#x} bytes", area.offset, area.size)
        })?;
    }
    Ok(())
}

/// Asks until the device's own argsz fits into the buffer; returns the bytes that the device says are valid.
fn grow(transport: &dyn Transport, index: u32) -> Result<AlignedVec> {
    let mut argsz = ur::INFO_SIZE;
    for _ in 0..MAX_TRIES {
        let mut info = AlignedVec::new(argsz);
        put(&mut info, 0, &u32::try_from(argsz).unwrap_or(u32::MAX).to_ne_bytes());
        put(&mut info, ur::INFO_INDEX, &index.to_ne_bytes());
        transport
            .region_info(&mut info)
            .map_err(|errno| Error::device(errno, format!("region {index}: GET_REGION_INFO failed: {errno}")))?;
        let needed = field(&info, 0).map_or(0, u32::from_ne_bytes) as usize;
        if needed <= argsz {
            return Ok(info);
        }
        if needed > MAX_ARGSZ {
            return Err(Error::protocol(format!("region {index}: argsz {needed} is beyond {MAX_ARGSZ}")));
        }
        argsz = needed;
    }
    Err(Error::protocol(format!("region {index}: argsz grows at each call")))
}
